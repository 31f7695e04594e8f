package ai.glass.demo.ui

import ai.glass.chat.EngineState
import ai.glass.chat.Problem
import ai.glass.chat.Remedy
import ai.glass.demo.DemoViewModel
import androidx.compose.foundation.isSystemInDarkTheme
import androidx.compose.foundation.layout.Box
import androidx.compose.foundation.layout.imePadding
import androidx.compose.foundation.layout.padding
import androidx.compose.material3.AlertDialog
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.NavigationBar
import androidx.compose.material3.NavigationBarItem
import androidx.compose.material3.Scaffold
import androidx.compose.material3.Text
import androidx.compose.material3.TextButton
import androidx.compose.material3.darkColorScheme
import androidx.compose.material3.lightColorScheme
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.lifecycle.compose.collectAsStateWithLifecycle

/** The screens, in the order of the bar at the bottom. */
enum class Screen(val title: String, val sign: String) {
    MODELS("Models", "▤"),
    CHAT("Chat", "✎"),
    COMPARE("A/B", "⇆"),
    SETTINGS("Settings", "⚙"),
    LOG("Log", "≡"),
}

@Composable
fun DemoScreens(model: DemoViewModel) {
    var screen by rememberSaveable { mutableStateOf(Screen.MODELS) }
    val problem = model.state.collectAsStateWithLifecycle().value.problem
    MaterialTheme(if (isSystemInDarkTheme()) darkColorScheme() else lightColorScheme()) {
        Scaffold(bottomBar = { Bar(screen) { screen = it } }) { insets ->
            Box(Modifier.padding(insets).imePadding()) {
                when (screen) {
                    Screen.MODELS -> ModelsScreen(model) { screen = Screen.CHAT }
                    Screen.CHAT -> ChatScreen(model)
                    Screen.COMPARE -> CompareScreen(model)
                    Screen.SETTINGS -> SettingsScreen(model)
                    Screen.LOG -> LogScreen(model)
                }
            }
        }
        problem?.let { ProblemDialog(it, model::dismissProblem) }
    }
}

@Composable
private fun Bar(current: Screen, choose: (Screen) -> Unit) = NavigationBar {
    Screen.entries.forEach { screen ->
        NavigationBarItem(
            selected = screen == current,
            onClick = { choose(screen) },
            icon = { Text(screen.sign) },
            label = { Text(screen.title) },
        )
    }
}

@Composable
fun ProblemDialog(problem: Problem, dismiss: () -> Unit) = AlertDialog(
    onDismissRequest = dismiss,
    confirmButton = { TextButton(onClick = dismiss) { Text("OK") } },
    title = { Text(titleOf(problem.remedy)) },
    text = { Text(problem.message) },
)

/** What is loaded, in a line. */
fun describe(state: EngineState): String = when (state) {
    EngineState.Closed -> "No model is open"
    is EngineState.Opening -> "Opening ${state.directory.name} …"
    is EngineState.Ready -> "${state.info.model} · ${state.info.dtype}"
    is EngineState.Failed -> state.problem.message
}

private fun titleOf(remedy: Remedy): String = when (remedy) {
    Remedy.REPLACE_ARTIFACT -> "Copy the model again"
    Remedy.FREE_MEMORY -> "Not enough memory"
    Remedy.NEW_CHAT -> "Start a new chat"
    Remedy.WAIT -> "Still answering"
    Remedy.NONE -> "That did not work"
}

package ai.glass.demo.ui

import ai.glass.FinishReason
import ai.glass.Message
import ai.glass.Stats
import ai.glass.chat.ChatState
import ai.glass.chat.EngineState
import ai.glass.demo.DemoViewModel
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.lazy.LazyColumn
import androidx.compose.foundation.lazy.items
import androidx.compose.foundation.lazy.rememberLazyListState
import androidx.compose.foundation.text.selection.SelectionContainer
import androidx.compose.material3.Button
import androidx.compose.material3.Card
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Text
import androidx.compose.material3.TextButton
import androidx.compose.runtime.Composable
import androidx.compose.runtime.LaunchedEffect
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Alignment
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.dp
import androidx.lifecycle.compose.collectAsStateWithLifecycle
import java.util.Locale

@Composable
fun ChatScreen(model: DemoViewModel) {
    val state by model.chat.state.collectAsStateWithLifecycle()
    val engine by model.engine.state.collectAsStateWithLifecycle()
    Column(Modifier.padding(horizontal = 16.dp)) {
        Row(Modifier.fillMaxWidth(), Arrangement.SpaceBetween, Alignment.CenterVertically) {
            Text(describe(engine), Modifier.weight(1f), maxLines = 3)
            TextButton(onClick = model.chat::clear) { Text("New chat") }
        }
        Turns(state, Modifier.weight(1f))
        state.stats?.let { Text(statsLine(it), style = MaterialTheme.typography.labelMedium) }
        Question(state.isAnswering, engine is EngineState.Ready, model::send, model.chat::stop)
    }
    state.problem?.let { ProblemDialog(it, model.chat::dismissProblem) }
}

@Composable
private fun Turns(state: ChatState, modifier: Modifier) {
    val list = rememberLazyListState()
    val partial = state.partial?.let { listOf(Message("assistant", it.ifEmpty { "…" })) }
    val turns = state.turns + partial.orEmpty()
    LaunchedEffect(turns.size, state.partial?.length) {
        if (turns.isNotEmpty()) list.scrollToItem(turns.lastIndex)
    }
    LazyColumn(modifier.fillMaxWidth(), list, verticalArrangement = Arrangement.spacedBy(8.dp)) {
        items(turns) { Turn(it) }
        state.cutShort?.let { item { Text(reasonOf(it), color = MaterialTheme.colorScheme.secondary) } }
    }
}

@Composable
private fun Turn(turn: Message) = Card(Modifier.fillMaxWidth()) {
    Column(Modifier.padding(12.dp)) {
        Text(if (turn.role == "user") "You" else "Model", style = MaterialTheme.typography.labelSmall)
        SelectionContainer { Text(turn.content) }
    }
}

@Composable
private fun Question(answering: Boolean, ready: Boolean, send: (String) -> Unit, stop: () -> Unit) {
    var text by rememberSaveable { mutableStateOf("") }
    Row(
        Modifier.padding(vertical = 8.dp),
        Arrangement.spacedBy(8.dp),
        Alignment.CenterVertically,
    ) {
        OutlinedTextField(text, { text = it }, Modifier.weight(1f), label = { Text("Message") })
        if (answering) {
            Button(onClick = stop) { Text("Stop") }
        } else {
            Button(
                onClick = {
                    send(text)
                    text = ""
                },
                enabled = ready && text.isNotBlank(),
            ) { Text("Send") }
        }
    }
}

/** Speed, time to the first token, memory, and the share of neurons. */
fun statsLine(stats: Stats): String = String.format(
    Locale.ROOT,
    "%.1f tok/s · first token %.0f ms · %.0f MB · density %.2f",
    stats.decodeTps, stats.ttftMs, stats.rssMb, stats.density,
)

private fun reasonOf(reason: FinishReason): String = when (reason) {
    FinishReason.LENGTH -> "Cut off at the length that the settings allow"
    FinishReason.CONTEXT -> "The context is full: start a new chat"
    FinishReason.CANCELLED -> "Stopped"
    FinishReason.STOP -> ""
}

package ai.glass.demo.ui

import ai.glass.chat.ChatSettings
import ai.glass.demo.DemoViewModel
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.rememberScrollState
import androidx.compose.foundation.verticalScroll
import androidx.compose.material3.FilterChip
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Slider
import androidx.compose.material3.Text
import androidx.compose.material3.TextButton
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableFloatStateOf
import androidx.compose.runtime.remember
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.dp
import androidx.lifecycle.compose.collectAsStateWithLifecycle
import kotlin.math.roundToInt

@Composable
fun SettingsScreen(model: DemoViewModel) {
    val settings by model.settings.collectAsStateWithLifecycle()
    val set = model::change
    Column(
        Modifier.padding(16.dp).verticalScroll(rememberScrollState()),
        Arrangement.spacedBy(12.dp),
    ) {
        Text("Neurons", style = MaterialTheme.typography.titleMedium)
        Density(settings) { set(settings.copy(density = it)) }
        Choice("Choose again", listOf(null, "off", "auto", "32"), settings.refresh) {
            set(settings.copy(refresh = it))
        }
        OutlinedTextField(
            settings.profile.orEmpty(),
            { set(settings.copy(profile = it.ifBlank { null })) },
            label = { Text("Profile of the model; empty: none") },
        )
        Text("Sampling", style = MaterialTheme.typography.titleMedium)
        Amount("Temperature", settings.temperature, 0.0..2.0) { set(settings.copy(temperature = it)) }
        Amount("Top p", settings.topP, 0.05..1.0) { set(settings.copy(topP = it)) }
        Amount("Min p", settings.minP, 0.0..0.5) { set(settings.copy(minP = it)) }
        Amount("Repetition penalty", settings.repetitionPenalty, 1.0..2.0) {
            set(settings.copy(repetitionPenalty = it))
        }
        Count("Top k; 0: all", settings.topK, 0..200) { set(settings.copy(topK = it)) }
        Count("Longest answer", settings.maxNewTokens, 16..1024) { set(settings.copy(maxNewTokens = it)) }
        Text("Processor", style = MaterialTheme.typography.titleMedium)
        Count("Threads; 0: automatic", settings.threads, 0..8) { set(settings.copy(threads = it)) }
        TextButton(onClick = { set(ChatSettings()) }) { Text("Defaults") }
    }
}

@Composable
private fun Density(settings: ChatSettings, change: (Double?) -> Unit) = Column {
    val density = settings.density
    val name = if (density == null) "Density (now the model's own)" else "Density"
    Amount(name, density ?: 0.5, 0.1..1.0, change)
    TextButton(onClick = { change(null) }, enabled = density != null) { Text("The model's own") }
}

@Composable
private fun Choice(name: String, values: List<String?>, value: String?, choose: (String?) -> Unit) =
    Column {
        Text(name)
        Row(horizontalArrangement = Arrangement.spacedBy(8.dp)) {
            values.forEach {
                FilterChip(it == value, { choose(it) }, { Text(it ?: "model's own") })
            }
        }
    }

/** A number in hundredths. */
@Composable
private fun Amount(
    name: String,
    value: Double,
    range: ClosedFloatingPointRange<Double>,
    change: (Double) -> Unit,
) = Setting(
    value.toFloat(),
    range.start.toFloat()..range.endInclusive.toFloat(),
    { "$name: ${(it * 100).roundToInt() / 100.0}" },
    { change((it * 100).roundToInt() / 100.0) },
)

@Composable
private fun Count(name: String, value: Long, range: IntRange, change: (Long) -> Unit) = Setting(
    value.toFloat(),
    range.first.toFloat()..range.last.toFloat(),
    { "$name: ${it.roundToInt()}" },
    { change(it.roundToInt().toLong()) },
)

/** A slider whose value counts when it is let go: another number of threads loads the model anew. */
@Composable
private fun Setting(
    value: Float,
    range: ClosedFloatingPointRange<Float>,
    show: (Float) -> String,
    change: (Float) -> Unit,
) = Column {
    var shown by remember(value) { mutableFloatStateOf(value) }
    Text(show(shown))
    Slider(shown, { shown = it }, valueRange = range, onValueChangeFinished = { change(shown) })
}

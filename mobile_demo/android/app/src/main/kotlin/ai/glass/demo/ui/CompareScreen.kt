package ai.glass.demo.ui

import ai.glass.chat.Column as AnswerColumn
import ai.glass.demo.DemoViewModel
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.fillMaxSize
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.rememberScrollState
import androidx.compose.foundation.verticalScroll
import androidx.compose.material3.Button
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.dp
import androidx.lifecycle.compose.collectAsStateWithLifecycle

/** The same prompt dense and sparse, side by side. */
@Composable
fun CompareScreen(model: DemoViewModel) {
    val state by model.state.collectAsStateWithLifecycle()
    var prompt by rememberSaveable { mutableStateOf("Why is the sky blue?") }
    Column(Modifier.fillMaxSize().padding(16.dp), Arrangement.spacedBy(12.dp)) {
        OutlinedTextField(prompt, { prompt = it }, Modifier.fillMaxWidth(), label = { Text("Prompt") })
        if (state.comparing) {
            Button(onClick = model::stopComparison) { Text("Stop") }
        } else {
            Button(onClick = { model.compareAnswers(prompt) }) { Text("Compare") }
        }
        state.comparison?.let {
            Row(Modifier.fillMaxWidth(), Arrangement.spacedBy(12.dp)) {
                Answer(it.dense, Modifier.weight(1f))
                Answer(it.sparse, Modifier.weight(1f))
            }
        }
    }
}

@Composable
private fun Answer(column: AnswerColumn, modifier: Modifier) =
    Column(modifier.verticalScroll(rememberScrollState()), Arrangement.spacedBy(8.dp)) {
        val name = if (column.density < 1) "Sparse, density ${column.density}" else "Dense"
        Text(name, style = MaterialTheme.typography.titleMedium)
        column.answer?.let { Text(statsLine(it.stats), style = MaterialTheme.typography.labelMedium) }
        Text(column.text)
    }

package ai.glass.demo.ui

import ai.glass.demo.DemoViewModel
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.lazy.LazyColumn
import androidx.compose.foundation.lazy.items
import androidx.compose.foundation.text.selection.SelectionContainer
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.text.font.FontFamily
import androidx.compose.ui.unit.dp
import androidx.lifecycle.compose.collectAsStateWithLifecycle
import java.text.DateFormat
import java.util.Date

@Composable
fun LogScreen(model: DemoViewModel) {
    val lines by model.log.lines.collectAsStateWithLifecycle()
    val clock = DateFormat.getTimeInstance(DateFormat.MEDIUM)
    SelectionContainer {
        LazyColumn(Modifier.padding(16.dp), reverseLayout = true) {
            items(lines.asReversed()) {
                Text(
                    "${clock.format(Date(it.timeMs))} ${it.text}",
                    fontFamily = FontFamily.Monospace,
                    style = MaterialTheme.typography.bodySmall,
                )
            }
        }
    }
}

package ai.glass.chat

import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update

/** The latest lines of the log screen; may be written to from any thread. */
class LogBuffer(private val capacity: Int = 500, private val clock: () -> Long) {
    data class Line(val timeMs: Long, val text: String)

    private val kept = MutableStateFlow<List<Line>>(emptyList())
    val lines: StateFlow<List<Line>> = kept.asStateFlow()

    fun add(text: String) {
        val line = Line(clock(), text)
        kept.update { (it + line).takeLast(capacity) }
    }
}

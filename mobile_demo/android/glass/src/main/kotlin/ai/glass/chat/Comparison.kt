package ai.glass.chat

import ai.glass.Answer
import ai.glass.AnswerEvent
import ai.glass.Cancellation
import ai.glass.Message
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow

/** One column of the A/B screen. */
data class Column(val density: Double, val text: String = "", val answer: Answer? = null)

/** The A/B screen: the same prompt dense and sparse. */
data class ComparisonState(val dense: Column, val sparse: Column)

/**
 * Answers a prompt dense, then sparse, each from an empty context: one after the other, since the
 * two would share the processor and neither figure would be true.
 *
 * @throws ai.glass.GlassException what the engine throws
 */
fun compare(
    engine: Engine,
    prompt: String,
    sparseDensity: Double,
    settings: ChatSettings,
    stop: Cancellation,
): Flow<ComparisonState> = flow {
    var state = ComparisonState(Column(1.0), Column(sparseDensity))
    suspend fun fill(density: Double, put: (ComparisonState, (Column) -> Column) -> ComparisonState) {
        val request = settings.copy(density = density).request(listOf(Message("user", prompt)))
        request.reset = true
        engine.answers(request, stop).collect { event ->
            state = put(state) { column ->
                when (event) {
                    is AnswerEvent.Text -> column.copy(text = column.text + event.piece)
                    is AnswerEvent.Done -> column.copy(text = event.answer.text, answer = event.answer)
                }
            }
            emit(state)
        }
    }
    fill(1.0) { all, change -> all.copy(dense = change(all.dense)) }
    fill(sparseDensity) { all, change -> all.copy(sparse = change(all.sparse)) }
}

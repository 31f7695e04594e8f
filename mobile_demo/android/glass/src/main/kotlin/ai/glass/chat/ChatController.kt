package ai.glass.chat

import ai.glass.AnswerEvent
import ai.glass.Cancellation
import ai.glass.FinishReason
import ai.glass.Message
import ai.glass.Stats
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch

/**
 * The chat screen.
 *
 * @property turns complete turns
 * @property partial the answer that is being made; null when none is
 * @property stats of the latest answer
 * @property cutShort why the latest answer is not whole; null when it is
 */
data class ChatState(
    val turns: List<Message> = emptyList(),
    val partial: String? = null,
    val stats: Stats? = null,
    val cutShort: FinishReason? = null,
    val problem: Problem? = null,
) {
    val isAnswering get() = partial != null
}

/** One conversation. Its functions are called from one thread, such as a screen's. */
class ChatController(private val engine: Engine, private val scope: CoroutineScope) {
    private val current = MutableStateFlow(ChatState())
    val state: StateFlow<ChatState> = current.asStateFlow()
    private var answering: Job? = null
    private var stop: Cancellation? = null

    /** Puts a conversation back that was kept while the app was not running. */
    fun restore(turns: List<Message>) = current.update { ChatState(turns = turns) }

    /** Asks and streams the answer. Does nothing for blank text or while an answer is made. */
    fun send(text: String, settings: ChatSettings) {
        if (text.isBlank() || current.value.isAnswering) return
        val turns = current.value.turns + Message("user", text.trim())
        current.value = ChatState(turns = turns, partial = "")
        answering = scope.launch { answer(turns, settings) }
    }

    /** Ends the answer; what there is of it stays. */
    fun stop() {
        stop?.cancel()
    }

    /** Ends the answer, if any, and forgets the conversation. */
    fun clear() {
        answering?.cancel()
        current.value = ChatState()
    }

    fun dismissProblem() = current.update { it.copy(problem = null) }

    private suspend fun answer(turns: List<Message>, settings: ChatSettings) {
        try {
            Cancellation().use { cancellation ->
                stop = cancellation
                engine.answers(settings.request(turns), cancellation).collect(::take)
            }
        } catch (cancelled: CancellationException) {
            throw cancelled
        } catch (error: RuntimeException) {
            fail(turns, engine.report("Answering", error))
        }
    }

    private fun take(event: AnswerEvent) = current.update {
        when (event) {
            is AnswerEvent.Text -> it.copy(partial = it.partial.orEmpty() + event.piece)
            is AnswerEvent.Done -> ChatState(
                turns = it.turns + Message("assistant", event.answer.text),
                stats = event.answer.stats,
                cutShort = event.answer.finishReason.takeIf { reason -> reason != FinishReason.STOP },
            )
        }
    }

    // The question goes back, so that it can be sent again; the text stays in the message.
    private fun fail(turns: List<Message>, problem: Problem) {
        current.value = ChatState(turns = turns.dropLast(1), problem = problem)
    }
}

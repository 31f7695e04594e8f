package ai.glass

import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/** What an answer consists of: pieces of text, then the whole with its figures. */
sealed interface AnswerEvent {
    data class Text(val piece: String) : AnswerEvent

    data class Done(val answer: Answer) : AnswerEvent
}

/**
 * The answer while it is made, on a thread for blocking work. Collecting it starts it; cancelling
 * the collector ends it before the next token, and returns when the session is free again.
 * [Cancellation] can be given to keep what there is until then: it comes as [AnswerEvent.Done].
 *
 * @throws GlassException what [GlassSession.generate] throws
 */
fun GlassSession.answers(request: Request, stop: Cancellation): Flow<AnswerEvent> = channelFlow {
    val watcher = launch(start = CoroutineStart.UNDISPATCHED) {
        try {
            awaitCancellation()
        } finally {
            stop.cancel()
        }
    }
    val answer = withContext(Dispatchers.IO + NonCancellable) {
        generate(request, stop) { piece -> trySend(AnswerEvent.Text(piece)) }
    }
    send(AnswerEvent.Done(answer))
    watcher.cancelAndJoin()
}.buffer(Channel.UNLIMITED)

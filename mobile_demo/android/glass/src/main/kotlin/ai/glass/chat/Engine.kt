package ai.glass.chat

import ai.glass.AnswerEvent
import ai.glass.Cancellation
import ai.glass.GlassSession
import ai.glass.OpenOptions
import ai.glass.Request
import ai.glass.SessionInfo
import ai.glass.answers
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.emitAll
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import java.io.File

/** Whether an artifact is loaded. */
sealed interface EngineState {
    data object Closed : EngineState

    data class Opening(val directory: File) : EngineState

    data class Ready(val directory: File, val info: SessionInfo) : EngineState

    data class Failed(val directory: File, val problem: Problem) : EngineState
}

/** The one session of the app, which all screens share: two would not fit into a phone's memory. */
class Engine(private val log: LogBuffer) {
    private val current = MutableStateFlow<EngineState>(EngineState.Closed)
    val state: StateFlow<EngineState> = current.asStateFlow()

    private val turn = Mutex() // held by whoever opens, closes or answers
    private var session: GlassSession? = null
    private var threads = 0L

    /** Loads an artifact in place of the one before, unless it is loaded already. */
    suspend fun open(directory: File, threads: Long) = turn.withLock {
        val ready = current.value as? EngineState.Ready
        if (ready?.directory == directory && this.threads == threads) return@withLock
        release()
        current.value = EngineState.Opening(directory)
        log.add("Opening $directory")
        try {
            val options = OpenOptions().also { it.threads = threads }
            // Not to be cancelled: a session that nobody takes would keep its memory.
            val opened = withContext(NonCancellable) {
                withContext(Dispatchers.IO) { GlassSession.open(directory, options) }
            }
            session = opened
            this.threads = threads
            current.value = EngineState.Ready(directory, opened.info())
            log.add("Opened ${opened.info().model} in ${opened.info().loadMs.toLong()} ms")
        } catch (error: RuntimeException) {
            current.value = EngineState.Failed(directory, report("Opening $directory", error))
        } catch (error: UnsatisfiedLinkError) {
            current.value = EngineState.Failed(directory, report("Loading the library", error))
        }
    }

    suspend fun close() = turn.withLock { release() }

    /** The answer to a request; waits until no other is being made. */
    fun answers(request: Request, stop: Cancellation): Flow<AnswerEvent> = flow {
        turn.withLock {
            val opened = checkNotNull(session) { "No model is open: pick one first" }
            emitAll(opened.answers(request, stop))
        }
    }

    /** Logs an error and tells what to show of it. */
    fun report(what: String, error: Throwable): Problem {
        log.add("$what failed: ${error.message ?: error}")
        return problemOf(error)
    }

    private fun release() {
        session?.close()
        session = null
        current.value = EngineState.Closed
    }
}

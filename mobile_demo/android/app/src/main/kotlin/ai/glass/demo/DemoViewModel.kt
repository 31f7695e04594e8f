package ai.glass.demo

import ai.glass.Cancellation
import ai.glass.Message
import ai.glass.chat.ChatController
import ai.glass.chat.ChatSettings
import ai.glass.chat.ComparisonState
import ai.glass.chat.ImportProgress
import ai.glass.chat.Problem
import ai.glass.chat.SourceFile
import ai.glass.chat.artifactsIn
import ai.glass.chat.compare
import ai.glass.chat.importArtifact
import android.app.Application
import android.net.Uri
import android.os.Bundle
import androidx.lifecycle.AndroidViewModel
import androidx.lifecycle.SavedStateHandle
import androidx.lifecycle.viewModelScope
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import java.io.File

/**
 * @property artifacts in the app's folder
 * @property importing how far a copy is; null when none is made
 * @property comparison of the A/B screen; null before the first
 */
data class DemoState(
    val artifacts: List<File> = emptyList(),
    val importing: ImportProgress? = null,
    val comparison: ComparisonState? = null,
    val comparing: Boolean = false,
    val problem: Problem? = null,
)

/**
 * All screens. It outlives rotation; when the system ended the process, conversation, settings and
 * the open artifact come back from the saved state.
 */
class DemoViewModel(application: Application, saved: SavedStateHandle) :
    AndroidViewModel(application) {
    private val app = application as DemoApplication
    val engine = app.engine
    val log = app.log
    val chat = ChatController(engine, viewModelScope)

    private val current = MutableStateFlow(DemoState())
    val state = current.asStateFlow()
    private val chosen = MutableStateFlow(ChatSettings())
    val settings = chosen.asStateFlow()

    private var opened: String? = null
    private var copying: Job? = null
    private var stopComparing: Cancellation? = null

    init {
        saved.get<Bundle>(SAVED)?.let(::restore)
        saved.setSavedStateProvider(SAVED) { save() }
        refresh()
    }

    fun refresh() = current.update { it.copy(artifacts = artifactsIn(app.artifacts)) }

    fun openArtifact(artifact: File) {
        opened = artifact.path
        chat.clear()
        viewModelScope.launch { engine.open(artifact, chosen.value.threads) }
    }

    fun change(settings: ChatSettings) {
        val reopen = settings.threads != chosen.value.threads
        chosen.value = settings
        val artifact = opened
        if (reopen && artifact != null) {
            viewModelScope.launch { engine.open(File(artifact), settings.threads) }
        }
    }

    fun send(text: String) = chat.send(text, chosen.value)

    fun importPicked(tree: Uri) =
        importFrom({ pickedName(app, tree) }, { pickedFiles(app, tree) })

    fun importBundled() = importFrom({ "bundled" }, { bundledFiles(app) })

    fun cancelImport() {
        copying?.cancel()
    }

    fun dismissProblem() = current.update { it.copy(problem = null) }

    /** Answers a prompt with all neurons, then with the settings' share of them. */
    fun compareAnswers(prompt: String) {
        if (prompt.isBlank() || current.value.comparing) return
        val density = chosen.value.density?.takeIf { it < 1 } ?: DEFAULT_SPARSE
        current.update { it.copy(comparing = true, comparison = null) }
        viewModelScope.launch {
            attempt("Comparing") {
                Cancellation().use { stop ->
                    stopComparing = stop
                    compare(engine, prompt.trim(), density, chosen.value, stop).collect { both ->
                        current.update { it.copy(comparison = both) }
                    }
                }
            }
            current.update { it.copy(comparing = false) }
        }
    }

    fun stopComparison() {
        stopComparing?.cancel()
    }

    private fun importFrom(name: () -> String, files: () -> List<SourceFile>) {
        if (copying?.isActive == true) return
        copying = viewModelScope.launch {
            attempt("Copying the artifact") {
                val (target, found) = withContext(Dispatchers.IO) {
                    File(app.artifacts, name()) to files()
                }
                importArtifact(found, target) { progress ->
                    current.update { it.copy(importing = progress) }
                }
                openArtifact(target)
            }
            current.update { it.copy(importing = null) }
            refresh()
        }.also { job -> job.invokeOnCompletion { current.update { it.copy(importing = null) } } }
    }

    private suspend fun attempt(what: String, body: suspend () -> Unit) {
        try {
            body()
        } catch (cancelled: CancellationException) {
            throw cancelled
        } catch (error: Exception) {
            current.update { it.copy(problem = engine.report(what, error)) }
        }
    }

    private fun save() = Bundle().apply {
        val state = chat.state.value
        // An answer that the system cuts off is kept as far as it was.
        val partial = state.partial?.takeIf { it.isNotEmpty() }?.let { Message("assistant", it) }
        val turns = state.turns + listOfNotNull(partial)
        putString(ARTIFACT, opened)
        putStringArrayList(SETTINGS, ArrayList(chosen.value.encode()))
        putStringArrayList(ROLES, ArrayList(turns.map { it.role }))
        putStringArrayList(TEXTS, ArrayList(turns.map { it.content }))
    }

    private fun restore(kept: Bundle) {
        kept.getStringArrayList(SETTINGS)?.let { chosen.value = ChatSettings.decode(it) }
        val roles = kept.getStringArrayList(ROLES).orEmpty()
        val texts = kept.getStringArrayList(TEXTS).orEmpty()
        chat.restore(roles.zip(texts, ::Message))
        opened = kept.getString(ARTIFACT)
        opened?.let { path ->
            viewModelScope.launch { engine.open(File(path), chosen.value.threads) }
        }
    }

    private companion object {
        const val SAVED = "demo"
        const val ARTIFACT = "artifact"
        const val SETTINGS = "settings"
        const val ROLES = "roles"
        const val TEXTS = "texts"
        const val DEFAULT_SPARSE = 0.5
    }
}

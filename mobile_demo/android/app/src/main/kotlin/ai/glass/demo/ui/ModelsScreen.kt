package ai.glass.demo.ui

import ai.glass.chat.EngineState
import ai.glass.chat.ImportProgress
import ai.glass.demo.DemoViewModel
import ai.glass.demo.bundledFiles
import androidx.activity.compose.rememberLauncherForActivityResult
import androidx.activity.result.contract.ActivityResultContracts.OpenDocumentTree
import androidx.compose.foundation.clickable
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.lazy.LazyColumn
import androidx.compose.foundation.lazy.items
import androidx.compose.material3.Button
import androidx.compose.material3.LinearProgressIndicator
import androidx.compose.material3.ListItem
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.OutlinedButton
import androidx.compose.material3.Text
import androidx.compose.material3.TextButton
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.remember
import androidx.compose.ui.Modifier
import androidx.compose.ui.platform.LocalContext
import androidx.compose.ui.unit.dp
import androidx.lifecycle.compose.collectAsStateWithLifecycle
import java.io.File

/** Pick an artifact: one that is here, one from a folder of the phone, or the bundled one. */
@Composable
fun ModelsScreen(model: DemoViewModel, chat: () -> Unit) {
    val state by model.state.collectAsStateWithLifecycle()
    val engine by model.engine.state.collectAsStateWithLifecycle()
    val context = LocalContext.current
    val bundled = remember { bundledFiles(context).isNotEmpty() }
    val pick = rememberLauncherForActivityResult(OpenDocumentTree()) { tree ->
        tree?.let(model::importPicked)
    }
    Column(Modifier.padding(16.dp), Arrangement.spacedBy(12.dp)) {
        Text("Models", style = MaterialTheme.typography.headlineSmall)
        Text(describe(engine))
        Row(horizontalArrangement = Arrangement.spacedBy(8.dp)) {
            Button(onClick = { pick.launch(null) }) { Text("Pick a folder") }
            if (bundled) OutlinedButton(onClick = model::importBundled) { Text("Bundled") }
        }
        state.importing?.let { Importing(it, model::cancelImport) }
        if (state.artifacts.isEmpty()) Text("None yet: pick the folder that glass-export wrote.")
        LazyColumn {
            items(state.artifacts, key = File::getPath) { artifact ->
                Artifact(artifact, engine) {
                    model.openArtifact(artifact)
                    chat()
                }
            }
        }
    }
}

@Composable
private fun Artifact(artifact: File, engine: EngineState, open: () -> Unit) {
    val ready = engine as? EngineState.Ready
    ListItem(
        headlineContent = { Text(artifact.name) },
        supportingContent = {
            if (ready?.directory == artifact) {
                Text("open · ${ready.info.layers} layers · context ${ready.info.maxLength}")
            }
        },
        modifier = Modifier.clickable(onClick = open),
    )
}

@Composable
private fun Importing(progress: ImportProgress, cancel: () -> Unit) = Column {
    val share = if (progress.total > 0) progress.done.toFloat() / progress.total else 0f
    LinearProgressIndicator(progress = { share.coerceIn(0f, 1f) }, modifier = Modifier.fillMaxWidth())
    Row(Modifier.fillMaxWidth(), Arrangement.SpaceBetween) {
        Text("${progress.name} · ${progress.done / 1_000_000} MB")
        TextButton(onClick = cancel) { Text("Cancel") }
    }
}

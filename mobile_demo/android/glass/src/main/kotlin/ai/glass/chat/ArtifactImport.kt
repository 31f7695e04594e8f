package ai.glass.chat

import ai.glass.Cancellation
import ai.glass.GlassSession
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import java.io.File
import java.io.IOException
import java.io.InputStream
import kotlin.coroutines.coroutineContext

/** A file of an artifact where it comes from: a document of another app, or an asset. */
class SourceFile(val name: String, val bytes: Long, val open: () -> InputStream)

/** How far an import is; [total] is 0 when the source does not tell sizes. */
data class ImportProgress(val name: String, val done: Long, val total: Long)

/**
 * Copies an artifact into the app's own files and compares its checksums: the engine maps the model
 * into memory, for which it needs a real file. The artifact appears complete or not at all.
 *
 * @param target its directory from now on; one of that name is replaced
 * @throws IOException it cannot be copied, or is no artifact
 * @throws ai.glass.GlassException.BadArtifact the copy is damaged
 */
suspend fun importArtifact(
    files: List<SourceFile>,
    target: File,
    progress: (ImportProgress) -> Unit,
) = withContext(Dispatchers.IO) {
    if (files.none { it.name == MANIFEST }) {
        throw IOException("This folder has no $MANIFEST: pick the folder that glass-export wrote")
    }
    val total = files.sumOf { it.bytes }
    val partial = File(target.parentFile, "${target.name}.partial")
    try {
        partial.deleteRecursively()
        makeDirectory(partial)
        requireSpace(partial, total)
        var done = 0L
        for (file in files) {
            done = copy(file, partial, done) { progress(ImportProgress(file.name, it, total)) }
        }
        progress(ImportProgress("checksums", total, total))
        verify(partial)
        target.deleteRecursively()
        if (!partial.renameTo(target)) throw IOException("$target: cannot be written")
    } finally {
        partial.deleteRecursively()
    }
}

/** Directories below [folder] that hold an artifact, in order of their names. */
fun artifactsIn(folder: File): List<File> =
    folder.listFiles().orEmpty().filter { File(it, MANIFEST).isFile && !it.name.endsWith(".partial") }
        .sortedBy { it.name }

private const val MANIFEST = "glass.json"
private const val BLOCK = 1 shl 20

private fun makeDirectory(folder: File) {
    if (!folder.mkdirs() && !folder.isDirectory) throw IOException("$folder: cannot be made")
}

private fun requireSpace(folder: File, bytes: Long) {
    val free = folder.usableSpace
    if (bytes > free) {
        throw IOException("${bytes / 1_000_000} MB are needed, ${free / 1_000_000} MB are free")
    }
}

private suspend fun copy(file: SourceFile, folder: File, before: Long, moved: (Long) -> Unit): Long {
    val output = File(folder, file.name)
    // A provider's names are not to be trusted: none may lead out of the folder.
    if (output.name != file.name || output.canonicalFile.parentFile != folder.canonicalFile) {
        throw IOException("${file.name}: not a file name")
    }
    var done = before
    file.open().use { input ->
        output.outputStream().use { sink ->
            val block = ByteArray(BLOCK)
            while (true) {
                coroutineContext.ensureActive()
                val count = input.read(block)
                if (count < 0) break
                sink.write(block, 0, count)
                done += count
                moved(done)
            }
        }
    }
    return done
}

private suspend fun verify(folder: File) = coroutineScope {
    Cancellation().use { stop ->
        val watcher = launch(start = CoroutineStart.UNDISPATCHED) {
            try {
                awaitCancellation()
            } finally {
                stop.cancel()
            }
        }
        withContext(NonCancellable) { GlassSession.verify(folder, stop) }
        watcher.cancelAndJoin()
    }
}

package ai.glass.demo

import ai.glass.chat.SourceFile
import android.content.Context
import android.net.Uri
import androidx.documentfile.provider.DocumentFile
import java.io.IOException

private const val BUNDLED = "artifact"

/** The files of a folder that the user picked. */
fun pickedFiles(context: Context, tree: Uri): List<SourceFile> {
    val folder = DocumentFile.fromTreeUri(context, tree)
        ?: throw IOException("This folder cannot be read: pick another one")
    return folder.listFiles().filter { it.isFile }.map { file ->
        SourceFile(file.name.orEmpty(), file.length()) {
            context.contentResolver.openInputStream(file.uri)
                ?: throw IOException("${file.name}: cannot be read")
        }
    }
}

/** The folder's own name, for the artifact that becomes of it. */
fun pickedName(context: Context, tree: Uri): String {
    val name = DocumentFile.fromTreeUri(context, tree)?.name.orEmpty()
    return name.replace(Regex("[^A-Za-z0-9._-]"), "_").trim('.').ifEmpty { "artifact" }
}

/** The artifact in the app's assets; empty when there is none. */
fun bundledFiles(context: Context): List<SourceFile> =
    context.assets.list(BUNDLED).orEmpty().map { name ->
        val path = "$BUNDLED/$name"
        SourceFile(name, context.assets.open(path).use { it.available().toLong() }) {
            context.assets.open(path)
        }
    }

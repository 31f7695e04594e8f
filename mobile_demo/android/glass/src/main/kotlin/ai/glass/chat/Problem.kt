package ai.glass.chat

import ai.glass.GlassException

/** What a user can do about an error. */
enum class Remedy {
    /** Copy or download the artifact again. */
    REPLACE_ARTIFACT,

    /** Use a smaller artifact, or close other programs. */
    FREE_MEMORY,

    /** Start a new conversation. */
    NEW_CHAT,

    /** Wait for the running answer, or stop it. */
    WAIT,

    /** Only the message helps. */
    NONE,
}

/** An error as the screens show it. */
data class Problem(val message: String, val remedy: Remedy)

/** Every error becomes a message: nothing that a model or an artifact does may end the app. */
fun problemOf(error: Throwable): Problem {
    val remedy = when (error) {
        is GlassException.BadArtifact -> Remedy.REPLACE_ARTIFACT
        is GlassException.OutOfMemory, is OutOfMemoryError -> Remedy.FREE_MEMORY
        is GlassException.ContextFull -> Remedy.NEW_CHAT
        is GlassException.Busy -> Remedy.WAIT
        else -> Remedy.NONE
    }
    return Problem(error.message ?: error.javaClass.simpleName, remedy)
}

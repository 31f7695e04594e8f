package ai.glass.demo

import ai.glass.chat.Engine
import ai.glass.chat.LogBuffer
import android.app.Application
import java.io.File

/** Holds what outlives activities: the session, and the log. */
class DemoApplication : Application() {
    val log = LogBuffer(clock = System::currentTimeMillis)
    val engine = Engine(log)

    /** Where artifacts are: a folder that `adb push` reaches, without a permission of the app. */
    val artifacts: File
        get() = (getExternalFilesDir("artifacts") ?: File(filesDir, "artifacts")).also { it.mkdirs() }
}

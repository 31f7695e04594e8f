package ai.glass.demo

import ai.glass.chat.BenchmarkPlan
import ai.glass.chat.EngineState
import ai.glass.chat.runBenchmark
import android.os.Build
import android.os.Bundle
import android.util.Log
import android.view.WindowManager
import androidx.activity.ComponentActivity
import androidx.lifecycle.lifecycleScope
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.launch
import org.json.JSONArray
import org.json.JSONObject
import java.io.File
import java.io.IOException

/**
 * Measures an artifact and writes JSON, for push.sh:
 *
 *     adb shell am start -n ai.glass.demo/.BenchmarkActivity --es artifact NAME \
 *         --es densities 1.0,0.5 --ei tokens 64 --ei repeats 3 --ei threads 4 --es output FILE
 *
 * The file, in the app's folder of artifacts, appears when it is complete; a failure is in it, too.
 */
class BenchmarkActivity : ComponentActivity() {
    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        val app = application as DemoApplication
        lifecycleScope.launch {
            try {
                val output = fileOf("output", app.artifacts)
                write(output, JSONObject(wrap(reportOf(app))))
            } catch (problem: IllegalArgumentException) {
                Log.e(TAG, "no report", problem)
            } catch (problem: IOException) {
                Log.e(TAG, "no report", problem)
            }
            finish()
        }
    }

    private suspend fun reportOf(app: DemoApplication): Map<String, Any> = try {
        measure(app)
    } catch (cancelled: CancellationException) {
        throw cancelled
    } catch (error: RuntimeException) {
        mapOf("error" to error.toString())
    }

    private suspend fun measure(app: DemoApplication): Map<String, Any> {
        val defaults = BenchmarkPlan()
        val plan = BenchmarkPlan(
            prompt = intent.getStringExtra("prompt") ?: defaults.prompt,
            densities = intent.getStringExtra("densities")?.split(',')?.map { it.trim().toDouble() }
                ?: defaults.densities,
            maxNewTokens = intent.getIntExtra("tokens", defaults.maxNewTokens.toInt()).toLong(),
            repeats = intent.getIntExtra("repeats", defaults.repeats),
            threads = intent.getIntExtra("threads", defaults.threads.toInt()).toLong(),
        )
        app.engine.open(fileOf("artifact", app.artifacts), plan.threads)
        return when (val state = app.engine.state.value) {
            is EngineState.Ready -> device() + runBenchmark(app.engine, state.info, plan)
            is EngineState.Failed -> mapOf("error" to state.problem.message)
            else -> error("the engine is $state after it was opened")
        }
    }

    private fun device() = mapOf(
        "device" to "${Build.MANUFACTURER} ${Build.MODEL}",
        "android" to Build.VERSION.RELEASE,
        "processors" to Runtime.getRuntime().availableProcessors(),
    )

    private fun write(target: File, report: JSONObject) {
        val partial = File(target.parentFile, "${target.name}.partial")
        partial.writeText(report.toString(2) + "\n")
        if (!partial.renameTo(target)) throw IOException("$target: cannot be written")
    }

    // Extras are names in the app's folder; none may lead out of it.
    private fun fileOf(extra: String, folder: File): File {
        val name = requireNotNull(intent.getStringExtra(extra)) { "--es $extra is missing" }
        require(File(name).name == name && name != "..") { "--es $extra: '$name' is not a file name" }
        return File(folder, name)
    }

    private fun wrap(report: Map<String, Any>): Map<String, Any> = report.mapValues { (_, value) ->
        if (value is List<*>) JSONArray(value.map { JSONObject(it as Map<*, *>) }) else value
    }

    private companion object {
        const val TAG = "GlassBenchmark"
    }
}

package ai.glass.chat

import ai.glass.AnswerEvent
import ai.glass.Cancellation
import ai.glass.Message
import ai.glass.SessionInfo
import ai.glass.Stats
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.first

/**
 * What to measure.
 *
 * @property repeats answers for each density; one more is made first and not counted
 */
data class BenchmarkPlan(
    val prompt: String = "Explain in two sentences why the sky is blue.",
    val densities: List<Double> = listOf(1.0, 0.5),
    val maxNewTokens: Long = 64,
    val repeats: Int = 3,
    val threads: Long = 0,
)

/** Runs a plan; the report is of what JSON has: maps, lists, texts and numbers. */
suspend fun runBenchmark(engine: Engine, info: SessionInfo, plan: BenchmarkPlan): Map<String, Any> {
    val runs = plan.densities.flatMap { density ->
        val settings = ChatSettings(density = density, maxNewTokens = plan.maxNewTokens)
        (0..plan.repeats).map { measure(engine, plan.prompt, settings) }.drop(1)
    }
    return mapOf(
        "model" to info.model,
        "dtype" to info.dtype,
        "load_ms" to info.loadMs,
        "threads" to plan.threads,
        "runs" to runs.map(::figures),
    )
}

private suspend fun measure(engine: Engine, prompt: String, settings: ChatSettings): Stats {
    val request = settings.request(listOf(Message("user", prompt))).also { it.reset = true }
    return Cancellation().use { stop ->
        engine.answers(request, stop).filterIsInstance<AnswerEvent.Done>().first().answer.stats
    }
}

private fun figures(stats: Stats): Map<String, Any> = mapOf(
    "density" to stats.density,
    "prompt_tokens" to stats.promptTokens,
    "new_tokens" to stats.newTokens,
    "prefill_tps" to stats.prefillTps,
    "ttft_ms" to stats.ttftMs,
    "fusion_ms" to stats.fusionMs,
    "decode_tps" to stats.decodeTps,
    "peak_rss_mb" to stats.peakRssMb,
)

package ai.glass

import ai.glass.chat.BenchmarkPlan
import ai.glass.chat.ChatController
import ai.glass.chat.ChatSettings
import ai.glass.chat.ChatState
import ai.glass.chat.ComparisonState
import ai.glass.chat.Engine
import ai.glass.chat.EngineState
import ai.glass.chat.ImportProgress
import ai.glass.chat.LogBuffer
import ai.glass.chat.Remedy
import ai.glass.chat.SourceFile
import ai.glass.chat.artifactsIn
import ai.glass.chat.compare
import ai.glass.chat.importArtifact
import ai.glass.chat.problemOf
import ai.glass.chat.runBenchmark
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.last
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import kotlinx.coroutines.yield
import java.io.File
import java.io.IOException

/**
 * What is behind the screens, on a desktop's virtual machine over the real engine. Run by
 * tests/unit/test_kotlin.py: `DIRECTORY DAMAGED SCRATCH`.
 */
fun main(arguments: Array<String>) = runBlocking {
    val (directory, damaged, scratch) = arguments.map(::File)
    withTimeout(60_000) {
        val log = LogBuffer(capacity = 4) { 7 }
        val engine = Engine(log)
        opening(engine, directory, damaged)
        streaming(directory)
        cancelledCollector(directory)
        conversation(engine, this)
        errorsOfAConversation(engine, this)
        comparison(engine)
        benchmark(engine)
        imports(directory, damaged, scratch)
        engine.close()
        check(engine.state.value == EngineState.Closed)
        check(log.lines.value.size == 4 && log.lines.value.all { it.timeMs == 7L })
    }
    settings()
}

private suspend fun opening(engine: Engine, directory: File, damaged: File) {
    engine.open(File(damaged, "missing"), 0)
    val failed = engine.state.value as EngineState.Failed
    check(failed.problem.remedy == Remedy.REPLACE_ARTIFACT && "missing" in failed.problem.message)
    engine.open(directory, 1)
    val ready = engine.state.value as EngineState.Ready
    check(ready.info.layers > 0)
    engine.open(directory, 1)
    check(engine.state.value === ready) { "it was opened again" }
}

private suspend fun streaming(directory: File) = GlassSession.open(directory, OpenOptions()).use {
    val events = Cancellation().use { stop -> it.answers(chat("é😀"), stop).toList() }
    val done = events.last() as AnswerEvent.Done
    val text = events.dropLast(1).joinToString("") { event -> (event as AnswerEvent.Text).piece }
    check(text == done.answer.text && events.size > 2)
}

// When the collector is gone the session is free again, long before the answer's end.
private suspend fun cancelledCollector(directory: File) = runBlocking {
    GlassSession.open(directory, OpenOptions()).use { session ->
        Cancellation().use { stop ->
            var pieces = 0
            val collector = launch { session.answers(chat("hello", 100_000), stop).collect { pieces++ } }
            while (pieces == 0) delay(1)
            collector.cancelAndJoin()
            session.reset()
            check(!collector.children.any())
        }
    }
}

private suspend fun conversation(engine: Engine, scope: CoroutineScope) {
    val chat = ChatController(engine, scope)
    val settings = ChatSettings(density = 0.5, maxNewTokens = 8)
    chat.send("  ", settings)
    check(chat.state.value == ChatState()) { "blank text was sent" }
    chat.send(" hello ", settings)
    chat.send("while it answers", settings)
    val first = chat.whenDone()
    check(first.turns.map { it.role } == listOf("user", "assistant"))
    check(first.turns[0].content == "hello" && first.stats!!.density == 0.5)
    chat.send("and now?", settings)
    val second = chat.whenDone()
    check(second.turns.size == 4 && second.stats!!.reusedTokens > 0)
    check(second.cutShort == FinishReason.LENGTH)

    val endless = settings.copy(maxNewTokens = 100_000)
    chat.send("stop me", endless)
    yield() // the answer begins
    chat.stop()
    val stopped = chat.whenDone()
    check(stopped.turns.size == 6 && stopped.cutShort == FinishReason.CANCELLED)

    chat.send("never mind", endless)
    yield()
    chat.clear()
    check(chat.state.value == ChatState())
    chat.restore(stopped.turns)
    chat.send("go on", settings)
    check(chat.whenDone().turns.size == 8)
}

private suspend fun errorsOfAConversation(engine: Engine, scope: CoroutineScope) {
    val chat = ChatController(engine, scope)
    chat.send("hello ".repeat(5000), ChatSettings())
    val full = chat.whenDone()
    check(full.problem!!.remedy == Remedy.NEW_CHAT && full.turns.isEmpty())
    chat.dismissProblem()
    check(chat.state.value.problem == null)
    chat.send("hello", ChatSettings(profile = "no such"))
    check("no such" in chat.whenDone().problem!!.message)
    val closed = ChatController(Engine(LogBuffer { 0 }), scope)
    closed.send("hello", ChatSettings())
    check("pick one" in closed.whenDone().problem!!.message)
    check(problemOf(OutOfMemoryError()).remedy == Remedy.FREE_MEMORY)
}

private suspend fun comparison(engine: Engine) {
    val settings = ChatSettings(maxNewTokens = 8, density = 0.75)
    val both: ComparisonState = Cancellation().use { stop ->
        compare(engine, "the quick brown fox", 0.25, settings, stop).last()
    }
    val (dense, sparse) = listOf(both.dense, both.sparse).map { it.answer!!.stats }
    check(dense.density == 1.0 && sparse.density == 0.25 && both.dense.text != both.sparse.text)
    check(dense.reusedTokens == 0L && sparse.reusedTokens == 0L)
}

private suspend fun benchmark(engine: Engine) {
    val info = (engine.state.value as EngineState.Ready).info
    val plan = BenchmarkPlan(maxNewTokens = 4, repeats = 2, densities = listOf(1.0, 0.5))
    val report = runBenchmark(engine, info, plan)
    val runs = (report["runs"] as List<*>).map { it as Map<*, *> }
    check(runs.map { it["density"] } == listOf(1.0, 1.0, 0.5, 0.5))
    check(runs.all { (it["decode_tps"] as Double) > 0 && it["new_tokens"] == 4L })
}

private suspend fun imports(directory: File, damaged: File, scratch: File) {
    val seen = mutableListOf<ImportProgress>()
    val target = File(scratch, "copy")
    importArtifact(filesOf(directory), target, seen::add)
    GlassSession.verify(target, null)
    check(seen.zipWithNext().all { (one, next) -> one.done <= next.done })
    check(seen.last().done == seen.last().total && artifactsIn(scratch) == listOf(target))

    val before = File(target, "glass.json").readText()
    refused<GlassException.BadArtifact>("SHA-256") { importArtifact(filesOf(damaged), target) {} }
    val outside = filesOf(directory) + SourceFile("../outside", 1) { "x".byteInputStream() }
    refused<IOException>("not a file name") { importArtifact(outside, target) {} }
    refused<IOException>("no glass.json") { importArtifact(emptyList(), target) {} }
    refused<IOException>("MB are free") {
        importArtifact(filesOf(directory) + SourceFile("big", 1L shl 60) { error("read") }, target) {}
    }
    check(artifactsIn(scratch) == listOf(target) && File(target, "glass.json").readText() == before)
    check(scratch.list()!!.toList() == listOf("copy")) { "something was left behind" }
}

private fun settings() {
    val all = ChatSettings(0.375, "auto", "fast", 0.7, 40, 0.9, 0.05, 1.1, 64, 3)
    check(ChatSettings.decode(all.encode()) == all)
    check(ChatSettings.decode(ChatSettings().encode()) == ChatSettings())
    check(ChatSettings.decode(listOf("nonsense")) == ChatSettings())
    val request = all.request(listOf(Message("user", "hi")))
    check(request.settings == mapOf("density" to "0.375", "refresh" to "auto"))
    check(request.profile == "fast" && request.topK == 40L && request.minP == 0.05)
    check(ChatSettings().request(emptyList()).settings.isEmpty())
}

private suspend fun ChatController.whenDone(): ChatState = state.first { !it.isAnswering }

private fun chat(text: String, tokens: Long = 12) =
    Request.chat(listOf(Message("user", text))).also { it.maxNewTokens = tokens }

private fun filesOf(folder: File) =
    folder.listFiles()!!.map { SourceFile(it.name, it.length(), it::inputStream) }

private suspend inline fun <reified E : Exception> refused(text: String, body: suspend () -> Unit) {
    val problem = try {
        body()
        null
    } catch (error: Exception) {
        error
    }
    check(problem is E && text in problem.message.orEmpty()) { "got $problem" }
}

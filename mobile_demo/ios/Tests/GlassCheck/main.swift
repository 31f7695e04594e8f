// The Swift package over the real engine, where there is no Xcode: `GlassCheck contract DIRECTORY
// DAMAGED SCRATCH` or `GlassCheck converse DIRECTORY TOKENS DENSITY MESSAGE...`. Run by
// tests/unit/test_swift.py.
import Foundation
import Glass

func require(_ holds: Bool, _ what: String, line: Int = #line) {
  if !holds {
    FileHandle.standardError.write(Data("line \(line): \(what)\n".utf8))
    exit(1)
  }
}

func requireError(_ kind: GlassError.Kind, _ text: String, line: Int = #line, _ body: () throws -> Void) {
  do {
    try body()
    require(false, "no error", line: line)
  } catch let error as GlassError {
    require(error.kind == kind && error.message.contains(text), "\(error)", line: line)
  } catch {
    require(false, "\(error)", line: line)
  }
}

func chat(_ text: String, tokens: Int64 = 12) -> Request {
  var settings = ChatSettings()
  settings.maxNewTokens = tokens
  return settings.request([Message(role: "user", content: text)])
}

func opening(_ directory: URL, _ damaged: URL) throws {
  try GlassSession.verify(directory)
  requireError(.badArtifact, "SHA-256") { try GlassSession.verify(damaged) }
  requireError(.badArtifact, "not there 😀") {
    _ = try GlassSession(directory: directory.appendingPathComponent("not there 😀"))
  }
  var small = OpenOptions()
  small.memoryLimit = 1000
  requireError(.outOfMemory, "memory") { _ = try GlassSession(directory: directory, options: small) }
  var signed = OpenOptions()
  signed.trustedKeys = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
  requireError(.badArtifact, "not signed") {
    _ = try GlassSession(directory: directory, options: signed)
  }
  requireError(.badArtifact, "not signed") {
    try GlassSession.verify(directory, trustedKeys: signed.trustedKeys)
  }
  let cancelled = try Cancellation()
  cancelled.cancel()
  requireError(.cancelled, "cancelled") { try GlassSession.verify(directory, cancellation: cancelled) }
}

func requests(_ session: GlassSession) throws {
  let info = try session.info()
  require(info.layers > 0 && info.hasChatTemplate && !info.model.isEmpty, "\(info)")
  let wide = "é 😀 你好 👩‍💻"
  let rendered = try session.renderChat([Message(role: "user", content: wide)])
  require(rendered.contains(wide), rendered)
  var streamed = ""
  let answer = try session.generate(chat(wide, tokens: 24)) { streamed += $0 }
  require(streamed == answer.text && !streamed.isEmpty, streamed)
  require(answer.tokens.count == Int(answer.stats.newTokens) && answer.stats.rssMb > 0, "stats")
  var unknown = chat("hello")
  unknown.settings["no such"] = "1"
  requireError(.invalidArgument, "no such") { _ = try session.generate(unknown) }
  requireError(.invalidArgument, "null character") { _ = try session.generate(chat("a\0b")) }
  requireError(.contextFull, "context") {
    _ = try session.generate(Request(.text(String(repeating: "hello ", count: 5000))))
  }
}

func streams(_ session: GlassSession) async throws {
  var pieces = ""
  var done: Answer?
  for try await event in session.answers(chat("hello"), cancellation: try Cancellation()) {
    switch event {
    case .text(let piece): pieces += piece
    case .done(let answer): done = answer
    }
  }
  require(done?.text == pieces && !pieces.isEmpty, pieces)

  let stop = try Cancellation()
  stop.cancel()
  for try await event in session.answers(chat("hello"), cancellation: stop) {
    if case .done(let answer) = event { require(answer.finishReason == .cancelled, "\(answer)") }
  }

  // Leaving the loop ends the answer, and the session is free again.
  let left = try Cancellation()
  for try await _ in session.answers(chat("the quick brown fox", tokens: 100_000), cancellation: left) {
    break
  }
  while true {
    do {
      try session.reset()
      break
    } catch let error as GlassError where error.kind == .busy {
      try await Task.sleep(nanoseconds: 1_000_000)
    }
  }
}

func store(_ directory: URL, _ damaged: URL, _ scratch: URL) throws {
  let store = try ArtifactStore(folder: scratch)
  var last: ImportProgress?
  let copied = try store.add(directory) {
    last = $0
    return true
  }
  try GlassSession.verify(copied)
  require(last?.done == last?.total && store.artifacts().map(\.path) == [copied.path], "\(last!)")
  requireError(.badArtifact, "SHA-256") { _ = try store.add(damaged) { _ in true } }
  requireError(.badArtifact, "glass.json") { _ = try store.add(scratch) { _ in true } }
  do {
    _ = try store.add(directory) { _ in false }
    require(false, "it was not cancelled")
  } catch is CancellationError {
  }
  let left = try FileManager.default.contentsOfDirectory(atPath: scratch.path)
  require(left == [copied.lastPathComponent], "\(left)")
}

@MainActor
func screens(_ directory: URL) async throws {
  let engine = Engine()
  let closed = ChatModel(engine: engine)
  await closed.send("hello", ChatSettings())?.value
  require(closed.problem?.contains("pick one") == true && closed.turns.isEmpty, "\(closed.turns)")
  await engine.open(directory.appendingPathComponent("missing"))
  if case .failed(_, let message) = engine.state { require(message.contains("missing"), message) }
  await engine.open(directory, threads: 1)
  guard case .ready = engine.state else { return require(false, "\(engine.state)") }

  var settings = ChatSettings()
  settings.maxNewTokens = 8
  let chat = ChatModel(engine: engine)
  require(chat.send(" \n", settings) == nil, "blank text was sent")
  let first = chat.send("hello", settings)
  require(chat.isAnswering && chat.send("again", settings) == nil, "two answers at once")
  await first?.value
  await chat.send("and now?", settings)?.value
  require(chat.turns.map(\.role) == ["user", "assistant", "user", "assistant"], "\(chat.turns)")
  require(chat.answer!.stats.reusedTokens > 0 && !chat.isAnswering, "\(chat.answer!)")
  settings.profile = "no such"
  await chat.send("hello", settings)?.value
  require(chat.problem!.contains("no such") && chat.turns.count == 4, chat.problem!)
  settings.profile = nil
  settings.maxNewTokens = 100_000
  let endless = chat.send("stop me", settings)
  while chat.partial == "" { await Task.yield() }
  chat.stop()
  await endless?.value
  require(chat.turns.count == 6, "\(chat.turns)")
  chat.clear()
  require(chat.turns.isEmpty && chat.answer == nil, "\(chat.turns)")

  settings.maxNewTokens = 8
  let comparison = Comparison(engine: engine)
  await comparison.run("the quick brown fox", sparse: 0.25, settings)
  let densities = comparison.columns.map { $0.answer?.stats.density }
  require(densities == [1, 0.25] && comparison.problem == nil, "\(comparison.columns)")
  require(comparison.columns.allSatisfy { $0.answer?.stats.reusedTokens == 0 }, "not from empty")
  require(engine.log.contains { $0.hasPrefix("Opened") }, "\(engine.log)")
  engine.close()
  require(engine.state == .closed, "\(engine.state)")
}

func settings() throws {
  var all = ChatSettings()
  all.density = 0.25
  all.refresh = "auto"
  all.temperature = 0.7
  let kept = try JSONDecoder().decode(ChatSettings.self, from: JSONEncoder().encode(all))
  require(kept == all, "\(kept)")
  require(all.request([]).settings == ["density": "0.25", "refresh": "auto"], "\(all)")
}

func converse(_ directory: URL, _ tokens: Int64, _ density: String, _ texts: [String]) throws {
  let session = try GlassSession(directory: directory)
  var turns: [Message] = []
  for text in texts {
    turns.append(Message(role: "user", content: text))
    var request = Request(.messages(turns))
    request.maxNewTokens = tokens
    request.settings["density"] = density
    let answer = try session.generate(request)
    turns.append(Message(role: "assistant", content: answer.text))
    let words = ["\(answer.stats.reusedTokens):"] + answer.tokens.map(String.init)
    print(words.joined(separator: " "))
  }
}

let arguments = CommandLine.arguments
let directory = URL(fileURLWithPath: arguments[2])
if arguments[1] == "converse" {
  try converse(directory, Int64(arguments[3])!, arguments[4], Array(arguments[5...]))
} else {
  let damaged = URL(fileURLWithPath: arguments[3])
  try opening(directory, damaged)
  let session = try GlassSession(directory: directory)
  try requests(session)
  try await streams(session)
  try store(directory, damaged, URL(fileURLWithPath: arguments[4]))
  try settings()
  try await screens(directory)
}

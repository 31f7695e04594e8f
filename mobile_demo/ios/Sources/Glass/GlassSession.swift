import CGlass
import Foundation

/// How to open an artifact.
public struct OpenOptions: Sendable {
  /// Threads of the engine; 0 lets it decide.
  public var threads: Int64 = 0
  /// Load even what does not seem to fit into memory.
  public var skipMemoryCheck = false
  /// Bytes to fit into; 0: what the system says is available.
  public var memoryLimit: Int64 = 0
  /// Ed25519 public keys in base64, separated by white space: one of them must have signed the
  /// artifact, and every file is compared with what was signed. Nil asks for no signature.
  public var trustedKeys: String?

  public init() {}
}

/// What an open session runs.
public struct SessionInfo: Equatable, Sendable {
  public let model: String
  public let family: String
  /// Of the linear layers: fp32, int8 or int4.
  public let dtype: String
  public let layers: Int64
  public let vocabSize: Int64
  /// The context in tokens, prompt and answer together.
  public let maxLength: Int64
  /// The artifact's own density.
  public let density: Double
  public let hasChatTemplate: Bool
  public let loadMs: Double
}

/// An open artifact and one conversation. A session serves one call at a time, from any thread: a
/// call that finds another one running throws `GlassError.Kind.busy`. Calls block; `answers` does
/// not. It is closed when nobody holds it any more, a running call included.
public final class GlassSession: @unchecked Sendable {
  private let pointer: OpaquePointer
  // Blocking work keeps off the threads of Swift's concurrency, of which there are few.
  private let queue = DispatchQueue(label: "ai.glass.session")

  public init(directory: URL, options: OpenOptions = OpenOptions()) throws {
    var given = glass_open_options()
    glass_open_options_init(&given)
    given.threads = options.threads
    given.skip_memory_check = options.skipMemoryCheck ? 1 : 0
    given.memory_limit = options.memoryLimit
    let strings = CStrings()
    given.trusted_keys = try options.trustedKeys.map { try strings.add($0, "trustedKeys") }
    var opened: OpaquePointer?
    try withExtendedLifetime(strings) {
      try GlassError.check(glass_open(directory.path, &given, &opened))
    }
    pointer = opened!
  }

  deinit {
    glass_close(pointer)
  }

  /// Compares every file of an artifact directory with its checksum; seconds a gigabyte.
  /// With trusted keys, as in `OpenOptions`, one of them must have signed it.
  public static func verify(
    _ directory: URL, trustedKeys: String? = nil, cancellation: Cancellation? = nil
  ) throws {
    guard let trustedKeys else {
      return try GlassError.check(glass_verify(directory.path, cancellation?.pointer))
    }
    let strings = CStrings()
    let keys = try strings.add(trustedKeys, "trustedKeys")
    try withExtendedLifetime(strings) {
      try GlassError.check(glass_verify_signed(directory.path, keys, cancellation?.pointer))
    }
  }

  public func info() throws -> SessionInfo {
    var info = glass_info()
    glass_info_init(&info)
    try GlassError.check(glass_session_info(pointer, &info))
    return SessionInfo(
      model: String(cString: info.model), family: String(cString: info.family),
      dtype: String(cString: info.dtype), layers: info.layers, vocabSize: info.vocab_size,
      maxLength: info.max_length, density: info.density,
      hasChatTemplate: info.has_chat_template != 0, loadMs: info.load_ms)
  }

  /// Answers a request; returns when the answer is complete.
  ///
  /// - Parameter onText: takes the text while it is made, whole characters at a time, on the
  ///   calling thread. It must not call into the session.
  public func generate(
    _ request: Request, cancellation: Cancellation? = nil, onText: ((String) -> Void)? = nil
  ) throws -> Answer {
    let strings = CStrings()
    var given = try base(of: request, strings)
    var messages = try messageList(of: request, strings)
    var settings = try request.settings.sorted { $0.key < $1.key }.map {
      glass_setting(
        name: try strings.add($0.key, "settings"), value: try strings.add($0.value, "settings"))
    }
    var stops: [UnsafePointer<CChar>?] = try request.stop.map { try strings.add($0, "stop") }
    let listener = Listener(onText)
    return try withExtendedLifetime((strings, listener, cancellation)) {
      try messages.withUnsafeMutableBufferPointer { messages in
        try settings.withUnsafeMutableBufferPointer { settings in
          try stops.withUnsafeMutableBufferPointer { stops in
            given.messages = UnsafePointer(messages.baseAddress)
            given.message_count = messages.count
            given.settings = UnsafePointer(settings.baseAddress)
            given.setting_count = settings.count
            given.stop = UnsafePointer(stops.baseAddress)
            given.stop_count = stops.count
            given.cancellation = cancellation?.pointer
            listener.listen(&given)
            return try run(&given)
          }
        }
      }
    }
  }

  /// The answer while it is made. Ending the iteration, or cancelling its task, ends the answer
  /// before its next token; a cancellation keeps what there is, as `AnswerEvent.done`.
  public func answers(
    _ request: Request, cancellation: Cancellation
  ) -> AsyncThrowingStream<AnswerEvent, Error> {
    AsyncThrowingStream { continuation in
      continuation.onTermination = { _ in cancellation.cancel() }
      queue.async {
        do {
          let answer = try self.generate(request, cancellation: cancellation) {
            continuation.yield(.text($0))
          }
          continuation.yield(.done(answer))
          continuation.finish()
        } catch {
          continuation.finish(throwing: error)
        }
      }
    }
  }

  /// The text that messages become by the artifact's chat template.
  public func renderChat(_ messages: [Message]) throws -> String {
    let strings = CStrings()
    let list = try messageList(of: Request(.messages(messages)), strings)
    var text: UnsafeMutablePointer<CChar>?
    try withExtendedLifetime(strings) {
      try GlassError.check(glass_render_chat(pointer, list, list.count, &text))
    }
    defer { glass_text_free(text) }
    return String(cString: text!)
  }

  /// Forgets the conversation.
  public func reset() throws {
    try GlassError.check(glass_reset(pointer))
  }

  private func base(of request: Request, _ strings: CStrings) throws -> glass_request {
    var given = glass_request()
    glass_request_init(&given)
    if case .text(let text) = request.prompt { given.prompt = try strings.add(text, "prompt") }
    if let profile = request.profile { given.profile = try strings.add(profile, "profile") }
    given.max_new_tokens = request.maxNewTokens
    given.temperature = request.temperature
    given.top_k = request.topK
    given.top_p = request.topP
    given.min_p = request.minP
    given.repetition_penalty = request.repetitionPenalty
    given.has_seed = request.seed == nil ? 0 : 1
    given.seed = request.seed ?? 0
    given.reset = request.reset ? 1 : 0
    return given
  }

  private func messageList(of request: Request, _ strings: CStrings) throws -> [glass_message] {
    guard case .messages(let messages) = request.prompt else { return [] }
    return try messages.map {
      glass_message(
        role: try strings.add($0.role, "messages"), content: try strings.add($0.content, "messages"))
    }
  }

  private func run(_ request: inout glass_request) throws -> Answer {
    var answer: OpaquePointer?
    try GlassError.check(glass_generate(pointer, &request, &answer))
    defer { glass_answer_free(answer) }
    var stats = glass_stats()
    glass_stats_init(&stats)
    try GlassError.check(glass_answer_stats(answer, &stats))
    var count = 0
    let tokens = glass_answer_tokens(answer, &count)
    let reason = Int(glass_answer_finish_reason(answer).rawValue)
    return Answer(
      text: String(cString: glass_answer_text(answer)),
      tokens: Array(UnsafeBufferPointer(start: tokens, count: count)),
      finishReason: Answer.FinishReason(rawValue: reason) ?? .stop, stats: Stats(stats))
  }
}

/// What takes the text of an answer, as C calls it.
private final class Listener {
  private let onText: ((String) -> Void)?

  init(_ onText: ((String) -> Void)?) {
    self.onText = onText
  }

  /// Sets the callback; it is called for as long as this object lives.
  func listen(_ request: inout glass_request) {
    guard onText != nil else { return }
    request.context = Unmanaged.passUnretained(self).toOpaque()
    request.on_text = { context, piece, length in
      let listener = Unmanaged<Listener>.fromOpaque(context!).takeUnretainedValue()
      let bytes = UnsafeRawBufferPointer(start: piece, count: length)
      listener.onText?(String(decoding: bytes, as: UTF8.self))
      return 0
    }
  }
}

extension Stats {
  init(_ stats: glass_stats) {
    self.init(
      promptTokens: stats.prompt_tokens, reusedTokens: stats.reused_tokens,
      newTokens: stats.new_tokens, prefillTps: stats.prefill_tps, ttftMs: stats.ttft_ms,
      fusionMs: stats.fusion_ms, decodeTps: stats.decode_tps, refreshes: stats.refreshes,
      refreshMs: stats.refresh_ms, density: stats.density, keptNeurons: stats.kept_neurons,
      rssMb: stats.rss_mb, peakRssMb: stats.peak_rss_mb)
  }
}

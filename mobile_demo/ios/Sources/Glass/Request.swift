/// One turn of a conversation.
public struct Message: Equatable, Hashable, Codable, Sendable {
  /// `system`, `user` or `assistant`.
  public var role: String
  public var content: String

  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }
}

/// What to answer, and how.
public struct Request: Equatable, Sendable {
  public enum Prompt: Equatable, Sendable {
    /// Text to continue.
    case text(String)
    /// The conversation so far, its answers among them.
    case messages([Message])
  }

  public var prompt: Prompt
  /// One of the artifact's profiles.
  public var profile: String?
  /// What replaces the artifact's own settings and the profile's: `density`, `refresh` and the
  /// others that `glass_setting` names.
  public var settings: [String: String] = [:]
  public var maxNewTokens: Int64 = 128
  /// Divides the logits; 0 takes the most likely token.
  public var temperature = 0.0
  /// Keep the k most likely tokens; 0 keeps all.
  public var topK: Int64 = 0
  /// Keep the fewest tokens whose probabilities reach p; 1 keeps all.
  public var topP = 1.0
  /// Keep tokens at least this share as likely as the first; 0 keeps all.
  public var minP = 0.0
  /// Above 1 makes tokens of the conversation less likely.
  public var repetitionPenalty = 1.0
  /// Nil takes a fresh one each time.
  public var seed: UInt64?
  /// Strings that end the answer.
  public var stop: [String] = []
  /// Forget the conversation first; otherwise what fits is reused.
  public var reset = false

  public init(_ prompt: Prompt) {
    self.prompt = prompt
  }
}

/// Figures of one answer.
public struct Stats: Equatable, Sendable {
  public let promptTokens: Int64
  /// Tokens of the prompt that were not computed again.
  public let reusedTokens: Int64
  public let newTokens: Int64
  /// Tokens a second, of the prompt's that were computed.
  public let prefillTps: Double
  /// Milliseconds from the call to the first token.
  public let ttftMs: Double
  /// Milliseconds of the choice of neurons before the first token.
  public let fusionMs: Double
  /// Tokens a second from the second on; 0 when there was none.
  public let decodeTps: Double
  /// Later choices of neurons, and their milliseconds.
  public let refreshes: Int64
  public let refreshMs: Double
  public let density: Double
  /// Neurons of a layer that were chosen.
  public let keptNeurons: Int64
  /// Resident memory of the process now and at most, 10^6 bytes; 0 when unknown.
  public let rssMb: Double
  public let peakRssMb: Double
}

/// A complete answer.
public struct Answer: Equatable, Sendable {
  public enum FinishReason: Int, Sendable {
    /// End of text, or a stop string.
    case stop
    /// As many tokens as the request allows.
    case length
    /// The context is full.
    case context
    /// It was cancelled: what there was until then is the answer.
    case cancelled
  }

  public let text: String
  public let tokens: [Int64]
  public let finishReason: FinishReason
  public let stats: Stats
}

/// What an answer consists of: pieces of text, then the whole with its figures.
public enum AnswerEvent: Equatable, Sendable {
  case text(String)
  case done(Answer)
}

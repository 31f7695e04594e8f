/// What the settings screen sets.
public struct ChatSettings: Equatable, Codable, Sendable {
  /// Share of neurons that decode; nil is the artifact's own, 1 is dense.
  public var density: Double?
  /// Tokens between choices of neurons: a number, `auto` or `off`; nil is the artifact's own.
  public var refresh: String?
  public var profile: String?
  /// 0 takes the most likely token.
  public var temperature = 0.0
  public var topK: Int64 = 0
  public var topP = 1.0
  public var minP = 0.0
  public var repetitionPenalty = 1.0
  public var maxNewTokens: Int64 = 256
  /// Of the engine; 0 lets it decide.
  public var threads: Int64 = 0

  public init() {}

  /// A request that continues the conversation with these settings.
  public func request(_ turns: [Message]) -> Request {
    var request = Request(.messages(turns))
    request.profile = profile
    if let density { request.settings["density"] = "\(density)" }
    if let refresh { request.settings["refresh"] = refresh }
    request.maxNewTokens = maxNewTokens
    request.temperature = temperature
    request.topK = topK
    request.topP = topP
    request.minP = minP
    request.repetitionPenalty = repetitionPenalty
    return request
  }
}

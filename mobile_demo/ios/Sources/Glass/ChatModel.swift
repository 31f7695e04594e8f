import Observation

/// One conversation: the chat screen.
@MainActor
@Observable
public final class ChatModel {
  /// Complete turns.
  public private(set) var turns: [Message]
  /// The answer that is being made; nil when none is.
  public private(set) var partial: String?
  /// Of the latest answer.
  public private(set) var answer: Answer?
  public var problem: String?

  private let engine: Engine
  private var answering: Task<Void, Never>?
  private var cancellation: Cancellation?

  /// `turns`: a conversation that was kept while the app was not running.
  public init(engine: Engine, turns: [Message] = []) {
    self.engine = engine
    self.turns = turns
  }

  public var isAnswering: Bool { partial != nil }

  /// Asks and streams the answer. Does nothing for blank text or while an answer is made.
  @discardableResult
  public func send(_ text: String, _ settings: ChatSettings) -> Task<Void, Never>? {
    if isAnswering || text.allSatisfy(\.isWhitespace) { return nil }
    turns.append(Message(role: "user", content: text))
    partial = ""
    let task = Task { await answer(settings.request(turns)) }
    answering = task
    return task
  }

  /// Ends the answer; what there is of it stays.
  public func stop() {
    cancellation?.cancel()
  }

  /// Ends the answer, if any, and forgets the conversation.
  public func clear() {
    answering?.cancel()
    (turns, partial, answer, problem) = ([], nil, nil, nil)
  }

  private func answer(_ request: Request) async {
    do {
      let cancellation = try Cancellation()
      self.cancellation = cancellation
      for try await event in try engine.answers(request, cancellation: cancellation) {
        if Task.isCancelled { return }
        take(event)
      }
    } catch {
      if Task.isCancelled { return }
      // The question goes back, so that it can be sent again.
      turns.removeLast()
      partial = nil
      problem = engine.note("Answering failed", error)
    }
  }

  private func take(_ event: AnswerEvent) {
    switch event {
    case .text(let piece):
      partial = (partial ?? "") + piece
    case .done(let answer):
      turns.append(Message(role: "assistant", content: answer.text))
      self.answer = answer
      partial = nil
    }
  }
}

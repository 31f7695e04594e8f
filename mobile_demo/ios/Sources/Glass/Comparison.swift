import Observation

/// The A/B screen: the same prompt dense and sparse.
@MainActor
@Observable
public final class Comparison {
  /// One column.
  public struct Column: Equatable, Sendable {
    public let density: Double
    public var text = ""
    public var answer: Answer?
  }

  public private(set) var columns: [Column] = []
  public private(set) var isRunning = false
  public var problem: String?

  private let engine: Engine
  private var cancellation: Cancellation?

  public init(engine: Engine) {
    self.engine = engine
  }

  /// Answers dense, then sparse, each from an empty context: one after the other, since the two
  /// would share the processor and neither figure would be true.
  public func run(_ prompt: String, sparse: Double, _ settings: ChatSettings) async {
    if isRunning { return }
    isRunning = true
    defer { isRunning = false }
    columns = [Column(density: 1), Column(density: sparse)]
    do {
      for place in columns.indices {
        try await fill(place, prompt, settings)
        if columns[place].answer?.finishReason == .cancelled { break }
      }
    } catch {
      problem = engine.note("Comparing failed", error)
    }
  }

  public func stop() {
    cancellation?.cancel()
  }

  private func fill(_ place: Int, _ prompt: String, _ settings: ChatSettings) async throws {
    var chosen = settings
    chosen.density = columns[place].density
    var request = chosen.request([Message(role: "user", content: prompt)])
    request.reset = true
    // A stream that ends sets its cancellation: each answer needs one of its own.
    let cancellation = try Cancellation()
    self.cancellation = cancellation
    for try await event in try engine.answers(request, cancellation: cancellation) {
      switch event {
      case .text(let piece):
        columns[place].text += piece
      case .done(let answer):
        columns[place].text = answer.text
        columns[place].answer = answer
      }
    }
  }
}

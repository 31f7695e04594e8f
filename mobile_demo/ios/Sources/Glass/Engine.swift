import Foundation
import Observation

/// The one session of the app, which all screens share: two would not fit into a phone's memory.
@MainActor
@Observable
public final class Engine {
  public enum State: Equatable {
    case closed
    case opening(URL)
    case ready(URL, SessionInfo)
    case failed(URL, String)
  }

  public private(set) var state = State.closed
  /// The latest lines of the log screen.
  public private(set) var log: [String] = []
  private var session: GlassSession?
  private var threads: Int64 = 0

  public init() {}

  /// Loads an artifact in place of the one before, unless it is loaded already.
  public func open(_ directory: URL, threads: Int64 = 0) async {
    if case .ready(directory, _) = state, threads == self.threads { return }
    session = nil
    state = .opening(directory)
    note("Opening \(directory.lastPathComponent)")
    var options = OpenOptions()
    options.threads = threads
    do {
      let opened = try await offMain { [options] in
        try GlassSession(directory: directory, options: options)
      }
      let info = try opened.info()
      session = opened
      self.threads = threads
      state = .ready(directory, info)
      note("Opened \(info.model) in \(Int(info.loadMs)) ms")
    } catch {
      state = .failed(directory, note("Opening failed", error))
    }
  }

  public func close() {
    session = nil
    state = .closed
  }

  /// The answer to a request.
  public func answers(
    _ request: Request, cancellation: Cancellation
  ) throws -> AsyncThrowingStream<AnswerEvent, Error> {
    guard let session else {
      throw GlassError(kind: .invalidArgument, message: "No model is open: pick one first")
    }
    return session.answers(request, cancellation: cancellation)
  }

  /// Adds a line to the log.
  public func note(_ line: String) {
    log = (log + [line]).suffix(500)
  }

  /// Logs an error and tells what to show of it.
  @discardableResult
  public func note(_ what: String, _ error: Error) -> String {
    note("\(what): \(error.localizedDescription)")
    return error.localizedDescription
  }
}

/// Runs blocking work on a thread of its own, off those of Swift's concurrency.
public func offMain<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue.global(qos: .userInitiated).async {
      continuation.resume(with: Result(catching: work))
    }
  }
}

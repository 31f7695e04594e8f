import CGlass
import Foundation

/// A call of the C library that failed. The message says what, and what to do about it.
public struct GlassError: LocalizedError, Equatable, Sendable {
  /// What a user can do about it.
  public enum Kind: Sendable {
    /// The request cannot be carried out as it is.
    case invalidArgument
    /// The artifact is missing, damaged or not for this build: copy or download it again.
    case badArtifact
    /// The memory is not enough: a smaller artifact may fit.
    case outOfMemory
    /// The context is full: start a new conversation.
    case contextFull
    case cancelled
    case engineFailed
    /// Another thread's call uses the session.
    case busy
    /// A fault of the library.
    case `internal`
  }

  public let kind: Kind
  public let message: String

  public init(kind: Kind, message: String) {
    self.kind = kind
    self.message = message
  }

  public var errorDescription: String? { message }

  /// Throws the calling thread's latest error unless a call succeeded.
  static func check(_ status: glass_status) throws {
    if status == GLASS_OK { return }
    let message = String(cString: glass_last_error())
    throw GlassError(
      kind: kind(of: status),
      message: message.isEmpty ? "no memory is left; close other apps" : message)
  }

  private static func kind(of status: glass_status) -> Kind {
    switch status {
    case GLASS_INVALID_ARGUMENT: return .invalidArgument
    case GLASS_BAD_ARTIFACT: return .badArtifact
    case GLASS_OUT_OF_MEMORY: return .outOfMemory
    case GLASS_CONTEXT_FULL: return .contextFull
    case GLASS_CANCELLED: return .cancelled
    case GLASS_ENGINE_FAILED: return .engineFailed
    case GLASS_BUSY: return .busy
    default: return .internal
    }
  }
}

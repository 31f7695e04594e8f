import CGlass

/// A flag that one thread sets to end what another does. Once set it stays set: use a new one for
/// each call.
public final class Cancellation: @unchecked Sendable {
  let pointer: OpaquePointer

  public init() throws {
    var made: OpaquePointer?
    try GlassError.check(glass_cancellation_new(&made))
    pointer = made!
  }

  /// From any thread.
  public func cancel() {
    glass_cancel(pointer)
  }

  deinit {
    glass_cancellation_free(pointer)
  }
}

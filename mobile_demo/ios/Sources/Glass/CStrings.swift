import Foundation

/// C strings that stay where they are until this is gone.
final class CStrings {
  private var owned: [UnsafeMutablePointer<CChar>] = []

  /// A C string cannot hold a null character, so a text with one is refused.
  func add(_ text: String, _ name: String) throws -> UnsafePointer<CChar> {
    if text.utf8.contains(0) {
      throw GlassError(
        kind: .invalidArgument,
        message: "\(name): has a null character; take it out, no text has one")
    }
    guard let copy = strdup(text) else {
      throw GlassError(kind: .outOfMemory, message: "no memory is left; close other apps")
    }
    owned.append(copy)
    return UnsafePointer(copy)
  }

  deinit {
    owned.forEach { free($0) }
  }
}

import Foundation

/// How far an import is, in bytes.
public struct ImportProgress: Equatable, Sendable {
  public let name: String
  public let done: Int64
  public let total: Int64

  public init(name: String, done: Int64, total: Int64) {
    self.name = name
    self.done = done
    self.total = total
  }
}

/// The app's own folder of artifacts. The engine maps a model into memory, for which it needs a
/// file that stays.
public struct ArtifactStore: Sendable {
  private static let manifest = "glass.json"
  private static let block = 1 << 20
  public let folder: URL

  public init(folder: URL) throws {
    self.folder = folder
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  /// In order of their names.
  public func artifacts() -> [URL] {
    let found = try? FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: nil)
    return (found ?? [])
      .filter { isArtifact($0) && $0.pathExtension != "partial" }
      .sorted { $0.lastPathComponent < $1.lastPathComponent }
  }

  /// Copies a folder and compares its checksums: the artifact appears complete or not at all, and
  /// replaces one of its name. Blocks for as long as that takes.
  ///
  /// - Throws: `GlassError` when it is no artifact or damaged, errors of the file system, and
  ///   `CancellationError` when `progress` returns false.
  public func add(_ source: URL, progress: (ImportProgress) -> Bool) throws -> URL {
    guard isArtifact(source) else {
      throw GlassError(
        kind: .badArtifact,
        message: "This folder has no \(Self.manifest): pick the folder that glass-export wrote")
    }
    let files = FileManager.default
    let target = folder.appendingPathComponent(source.lastPathComponent)
    let partial = target.appendingPathExtension("partial")
    try? files.removeItem(at: partial)
    try files.createDirectory(at: partial, withIntermediateDirectories: true)
    defer { try? files.removeItem(at: partial) }
    try copy(source, to: partial, progress: progress)
    try GlassSession.verify(partial)
    try? files.removeItem(at: target)
    try files.moveItem(at: partial, to: target)
    return target
  }

  private func isArtifact(_ directory: URL) -> Bool {
    FileManager.default.fileExists(atPath: directory.appendingPathComponent(Self.manifest).path)
  }

  private func copy(_ source: URL, to target: URL, progress: (ImportProgress) -> Bool) throws {
    let files = try FileManager.default.contentsOfDirectory(
      at: source, includingPropertiesForKeys: [.fileSizeKey])
    let total = try files.reduce(Int64(0)) { try $0 + size(of: $1) }
    var done: Int64 = 0
    for file in files {
      let input = try FileHandle(forReadingFrom: file)
      defer { try? input.close() }
      let path = target.appendingPathComponent(file.lastPathComponent)
      guard FileManager.default.createFile(atPath: path.path, contents: nil) else {
        throw CocoaError(.fileWriteUnknown)
      }
      let output = try FileHandle(forWritingTo: path)
      defer { try? output.close() }
      while let part = try input.read(upToCount: Self.block), !part.isEmpty {
        try output.write(contentsOf: part)
        done += Int64(part.count)
        let report = ImportProgress(name: file.lastPathComponent, done: done, total: total)
        if !progress(report) { throw CancellationError() }
      }
    }
  }

  private func size(of file: URL) throws -> Int64 {
    Int64(try file.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0)
  }
}

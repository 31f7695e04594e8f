import Foundation
import Glass
import Observation

/// What all screens share, and what is kept while the app is not running.
@MainActor
@Observable
final class DemoModel {
  enum Screen: Hashable {
    case models, chat, compare, settings, log
  }

  var screen = Screen.models
  var settings = ChatSettings()
  var problem: String?
  private(set) var artifacts: [URL] = []
  private(set) var importing: ImportProgress?
  let engine = Engine()
  var chat: ChatModel
  var comparison: Comparison

  private let store: ArtifactStore?
  private let importCancelled = Flag()

  private struct Kept: Codable {
    var turns: [Message]
    var settings: ChatSettings
    var artifact: String?
  }

  init() {
    let kept = Self.load()
    chat = ChatModel(engine: engine, turns: kept?.turns ?? [])
    comparison = Comparison(engine: engine)
    settings = kept?.settings ?? ChatSettings()
    reopening = kept?.artifact
    store = try? ArtifactStore(folder: URL.documentsDirectory.appending(path: "artifacts"))
    if store == nil { problem = "The app's folder for models cannot be made: free some space" }
    refresh()
  }

  private var reopening: String?

  /// Opens what was open when the app ran last.
  func resume() async {
    guard let name = reopening else { return }
    reopening = nil
    if let artifact = artifacts.first(where: { $0.lastPathComponent == name }) {
      await engine.open(artifact, threads: settings.threads)
    }
  }

  func refresh() {
    artifacts = store?.artifacts() ?? []
  }

  func open(_ artifact: URL) async {
    chat.clear()
    screen = .chat
    await engine.open(artifact, threads: settings.threads)
  }

  /// Copies a folder that the user picked, or that came with the app.
  func add(_ folder: URL) async {
    guard let store, importing == nil else { return }
    importing = ImportProgress(name: folder.lastPathComponent, done: 0, total: 0)
    defer { importing = nil }
    importCancelled.set(false)
    let scoped = folder.startAccessingSecurityScopedResource()
    defer { if scoped { folder.stopAccessingSecurityScopedResource() } }
    do {
      let flag = importCancelled
      let added = try await offMain {
        try store.add(folder) { progress in
          Task { @MainActor in self.report(progress) }
          return !flag.isSet
        }
      }
      refresh()
      await open(added)
    } catch is CancellationError {
      engine.note("The copy was cancelled")
    } catch {
      problem = engine.note("Copying failed", error)
    }
  }

  func cancelImport() {
    importCancelled.set(true)
  }

  private func report(_ progress: ImportProgress) {
    if importing != nil { importing = progress }
  }

  func save() {
    var name: String?
    if case .ready(let artifact, _) = engine.state { name = artifact.lastPathComponent }
    let kept = Kept(turns: chat.turns, settings: settings, artifact: name)
    do {
      try JSONEncoder().encode(kept).write(to: Self.file, options: .atomic)
    } catch {
      engine.note("Keeping the conversation failed", error)
    }
  }

  private static var file: URL { URL.documentsDirectory.appending(path: "conversation.json") }

  private static func load() -> Kept? {
    guard let data = try? Data(contentsOf: file) else { return nil }
    return try? JSONDecoder().decode(Kept.self, from: data)
  }
}

/// A flag that two threads share.
private final class Flag: @unchecked Sendable {
  private let lock = NSLock()
  private var value = false

  var isSet: Bool { lock.withLock { value } }

  func set(_ new: Bool) {
    lock.withLock { value = new }
  }
}

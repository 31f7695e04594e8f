import Glass
import SwiftUI

/// Pick an artifact: one that is here, one from a folder of the phone, or the bundled one.
struct ModelsView: View {
  let model: DemoModel
  @State private var picking = false

  private var bundled: URL? { Bundle.main.url(forResource: "artifact", withExtension: nil) }

  var body: some View {
    NavigationStack {
      List {
        Section(describe(model.engine.state)) {
          Button("Pick a folder") { picking = true }
          if let bundled {
            Button("Use the bundled model") { Task { await model.add(bundled) } }
          }
        }
        if let progress = model.importing {
          Section {
            ProgressView(
              value: Double(progress.done), total: Double(max(progress.total, progress.done, 1))
            ) {
              Text("\(progress.name) · \(progress.done / 1_000_000) MB")
            }
            Button("Cancel", role: .cancel) { model.cancelImport() }
          }
        }
        Section("On this phone") {
          if model.artifacts.isEmpty { Text("None yet: pick the folder that glass-export wrote.") }
          ForEach(model.artifacts, id: \.self) { artifact in
            Button(artifact.lastPathComponent) { Task { await model.open(artifact) } }
          }
        }
      }
      .navigationTitle("Models")
      .fileImporter(isPresented: $picking, allowedContentTypes: [.folder]) { picked in
        switch picked {
        case .success(let folder): Task { await model.add(folder) }
        case .failure(let error): model.problem = error.localizedDescription
        }
      }
      .onAppear { model.refresh() }
    }
  }
}

/// What is loaded, in a line.
func describe(_ state: Engine.State) -> String {
  switch state {
  case .closed: return "No model is open"
  case .opening(let artifact): return "Opening \(artifact.lastPathComponent) …"
  case .ready(_, let info): return "\(info.model) · \(info.dtype)"
  case .failed(_, let message): return message
  }
}

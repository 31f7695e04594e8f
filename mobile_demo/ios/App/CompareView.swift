import Glass
import SwiftUI

/// The same prompt dense and sparse, side by side.
struct CompareView: View {
  let model: DemoModel
  @State private var prompt = "Why is the sky blue?"

  private var comparison: Comparison { model.comparison }

  var body: some View {
    NavigationStack {
      VStack {
        TextField("Prompt", text: $prompt, axis: .vertical).textFieldStyle(.roundedBorder)
        if comparison.isRunning {
          Button("Stop") { comparison.stop() }
        } else {
          Button("Compare") { Task { await run() } }
            .disabled(prompt.allSatisfy(\.isWhitespace))
        }
        HStack(alignment: .top) {
          ForEach(comparison.columns, id: \.density) { column in
            ScrollView {
              Text(column.density < 1 ? "Sparse, density \(column.density)" : "Dense").font(.headline)
              if let answer = column.answer {
                Text(statsLine(answer.stats)).font(.caption.monospacedDigit())
              }
              Text(column.text).textSelection(.enabled)
            }
          }
        }
        Spacer()
      }
      .padding()
      .navigationTitle("Dense and sparse")
    }
  }

  private func run() async {
    let chosen = model.settings.density ?? 1
    await comparison.run(prompt, sparse: chosen < 1 ? chosen : 0.5, model.settings)
  }
}

import Glass
import SwiftUI

struct ChatView: View {
  let model: DemoModel
  @State private var text = ""

  private var chat: ChatModel { model.chat }

  var body: some View {
    NavigationStack {
      VStack {
        Text(describe(model.engine.state)).font(.caption)
        turns
        if let answer = chat.answer {
          Text(statsLine(answer.stats)).font(.caption.monospacedDigit())
          if let note = note(of: answer.finishReason) { Text(note).font(.caption) }
        }
        question
      }
      .padding(.horizontal)
      .navigationTitle("Chat")
      .toolbar { Button("New chat") { chat.clear() } }
    }
  }

  private var turns: some View {
    ScrollView {
      LazyVStack(alignment: .leading, spacing: 12) {
        ForEach(Array(chat.turns.enumerated()), id: \.offset) { _, turn in
          TurnView(name: turn.role == "user" ? "You" : "Model", text: turn.content)
        }
        if let partial = chat.partial {
          TurnView(name: "Model", text: partial.isEmpty ? "…" : partial)
        }
      }
    }
    .defaultScrollAnchor(.bottom)
  }

  private var question: some View {
    HStack {
      TextField("Message", text: $text, axis: .vertical).textFieldStyle(.roundedBorder)
      if chat.isAnswering {
        Button("Stop") { chat.stop() }
      } else {
        Button("Send") {
          chat.send(text, model.settings)
          text = ""
        }
        .disabled(!isReady || text.allSatisfy(\.isWhitespace))
      }
    }
    .padding(.bottom)
  }

  private var isReady: Bool {
    if case .ready = model.engine.state { return true }
    return false
  }

  private func note(of reason: Answer.FinishReason) -> String? {
    switch reason {
    case .stop: return nil
    case .length: return "Cut off at the length that the settings allow"
    case .context: return "The context is full: start a new chat"
    case .cancelled: return "Stopped"
    }
  }
}

private struct TurnView: View {
  let name: String
  let text: String

  var body: some View {
    VStack(alignment: .leading) {
      Text(name).font(.caption.bold())
      Text(text).textSelection(.enabled)
    }
  }
}

/// Speed, time to the first token, memory, and the share of neurons.
func statsLine(_ stats: Stats) -> String {
  String(
    format: "%.1f tok/s · first token %.0f ms · %.0f MB · density %.2f",
    stats.decodeTps, stats.ttftMs, stats.rssMb, stats.density)
}

import Glass
import SwiftUI

struct LogView: View {
  let engine: Engine

  var body: some View {
    NavigationStack {
      ScrollView {
        Text(engine.log.joined(separator: "\n"))
          .font(.footnote.monospaced())
          .textSelection(.enabled)
          .frame(maxWidth: .infinity, alignment: .leading)
          .padding()
      }
      .defaultScrollAnchor(.bottom)
      .navigationTitle("Log")
    }
  }
}

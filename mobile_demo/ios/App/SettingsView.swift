import Glass
import SwiftUI

struct SettingsView: View {
  @Bindable var model: DemoModel

  var body: some View {
    NavigationStack {
      Form {
        Section("Neurons") {
          Toggle("The model's own density", isOn: ownDensity)
          if let density = model.settings.density {
            amount("Density", Binding(get: { density }, set: { model.settings.density = $0 }), 0.1...1)
          }
          Picker("Choose again", selection: $model.settings.refresh) {
            Text("The model's own").tag(String?.none)
            ForEach(["off", "auto", "32"], id: \.self) { Text($0).tag(String?.some($0)) }
          }
          TextField("Profile of the model; empty: none", text: profile)
        }
        Section("Sampling") {
          amount("Temperature", $model.settings.temperature, 0...2)
          amount("Top p", $model.settings.topP, 0.05...1)
          amount("Min p", $model.settings.minP, 0...0.5)
          amount("Repetition penalty", $model.settings.repetitionPenalty, 1...2)
          Stepper("Top k: \(model.settings.topK)", value: $model.settings.topK, in: 0...200, step: 10)
          Stepper(
            "Longest answer: \(model.settings.maxNewTokens)", value: $model.settings.maxNewTokens,
            in: 16...1024, step: 16)
        }
        Section("Processor") {
          Stepper(threadsTitle, value: $model.settings.threads, in: 0...8)
          Button("Open the model again with them") { Task { await reopen() } }
        }
        Button("Defaults") { model.settings = ChatSettings() }
      }
      .navigationTitle("Settings")
    }
  }

  private var threadsTitle: String {
    model.settings.threads == 0 ? "Threads: automatic" : "Threads: \(model.settings.threads)"
  }

  private var ownDensity: Binding<Bool> {
    Binding(
      get: { model.settings.density == nil }, set: { model.settings.density = $0 ? nil : 0.5 })
  }

  private var profile: Binding<String> {
    Binding(
      get: { model.settings.profile ?? "" },
      set: { model.settings.profile = $0.isEmpty ? nil : $0 })
  }

  private func amount(
    _ name: String, _ value: Binding<Double>, _ range: ClosedRange<Double>
  ) -> some View {
    VStack(alignment: .leading) {
      Text("\(name): \(value.wrappedValue, format: .number.precision(.fractionLength(2)))")
      Slider(value: value, in: range, step: 0.05)
    }
  }

  private func reopen() async {
    guard case .ready(let artifact, _) = model.engine.state else { return }
    await model.engine.open(artifact, threads: model.settings.threads)
  }
}

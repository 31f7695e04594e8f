import Glass
import SwiftUI

@main
struct GlassApp: App {
  @State private var model = DemoModel()
  @Environment(\.scenePhase) private var phase

  var body: some Scene {
    WindowGroup {
      ScreensView(model: model)
        .task { await model.resume() }
    }
    .onChange(of: phase) { _, phase in
      // The system may end an app in the background without asking.
      if phase == .background { model.save() }
    }
  }
}

struct ScreensView: View {
  @Bindable var model: DemoModel

  var body: some View {
    TabView(selection: $model.screen) {
      ModelsView(model: model)
        .tabItem { Label("Models", systemImage: "shippingbox") }
        .tag(DemoModel.Screen.models)
      ChatView(model: model)
        .tabItem { Label("Chat", systemImage: "bubble.left") }
        .tag(DemoModel.Screen.chat)
      CompareView(model: model)
        .tabItem { Label("A/B", systemImage: "rectangle.split.2x1") }
        .tag(DemoModel.Screen.compare)
      SettingsView(model: model)
        .tabItem { Label("Settings", systemImage: "slider.horizontal.3") }
        .tag(DemoModel.Screen.settings)
      LogView(engine: model.engine)
        .tabItem { Label("Log", systemImage: "list.bullet") }
        .tag(DemoModel.Screen.log)
    }
    .problemAlert($model.problem)
    .problemAlert($model.chat.problem)
    .problemAlert($model.comparison.problem)
  }
}

extension View {
  /// Shows a message until it is dismissed.
  func problemAlert(_ problem: Binding<String?>) -> some View {
    let shown = Binding(
      get: { problem.wrappedValue != nil },
      set: { if !$0 { problem.wrappedValue = nil } })
    return alert("That did not work", isPresented: shown) {
      Button("OK") {}
    } message: {
      Text(problem.wrappedValue ?? "")
    }
  }
}

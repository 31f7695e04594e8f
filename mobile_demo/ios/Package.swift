// swift-tools-version: 5.9
import PackageDescription

// For phones the C library is a framework that build_native.sh makes. On Linux it is the libglass
// of a CMake build, named with -Xlinker -L, so that the Swift code can be tested without a Mac.
#if os(Linux)
  let library: Target = .systemLibrary(name: "CGlass", path: "Sources/CGlass")
#else
  let library: Target = .binaryTarget(name: "CGlass", path: "CGlass.xcframework")
#endif

let package = Package(
  name: "Glass",
  platforms: [.iOS(.v17), .macOS(.v14)],
  products: [.library(name: "Glass", targets: ["Glass"])],
  targets: [
    library,
    .target(name: "Glass", dependencies: ["CGlass"]),
    .executableTarget(name: "GlassCheck", dependencies: ["Glass"], path: "Tests/GlassCheck"),
  ]
)

#!/usr/bin/env bash
# Builds CGlass.xcframework, for phones and for the simulator, on a Mac with Xcode.
#
#   EXECUTORCH_SOURCE=... mobile_demo/ios/build_native.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../native_build.sh
source "$(dirname "${BASH_SOURCE[0]}")/../native_build.sh"

command -v xcodebuild >/dev/null || fail "xcodebuild is not on the path: this needs a Mac with Xcode"
require_sources

# build_framework PRESET SDK: prints the folder of the framework.
build_framework() {
  local preset=$1 sdk=$2 executorch=$repository/build/executorch-$1 framework
  build_executorch "$executorch" -DCMAKE_SYSTEM_NAME=iOS -DCMAKE_OSX_SYSROOT="$sdk" \
    -DCMAKE_OSX_ARCHITECTURES=arm64 -DCMAKE_OSX_DEPLOYMENT_TARGET=17.0 >&2
  build_glass "$preset" "$executorch/installed" glass >&2
  framework=$repository/build/$preset/CGlass.framework
  mkdir -p "$framework/Modules"
  cp "$repository/mobile_demo/ios/CGlass.modulemap" "$framework/Modules/module.modulemap"
  echo "$framework"
}

phone=$(build_framework ios-arm64 iphoneos)
simulator=$(build_framework ios-simulator iphonesimulator)
target=$repository/mobile_demo/ios/CGlass.xcframework
rm -rf "$target"
xcodebuild -create-xcframework -framework "$phone" -framework "$simulator" -output "$target"

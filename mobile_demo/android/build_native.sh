#!/usr/bin/env bash
# Builds libglass_jni.so for 64-bit Arm and puts it where Gradle looks for it.
#
#   ANDROID_NDK_HOME=... EXECUTORCH_SOURCE=... mobile_demo/android/build_native.sh
#
# ExecuTorch and its operators are linked into it: the ready-made library of ExecuTorch for Android
# shows nothing but JNI, so that no operator could be added to it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../native_build.sh
source "$(dirname "${BASH_SOURCE[0]}")/../native_build.sh"

[ -e "${ANDROID_NDK_HOME:-}/build/cmake/android.toolchain.cmake" ] ||
  fail "ANDROID_NDK_HOME: got '${ANDROID_NDK_HOME:-}', expected the folder of an Android NDK," \
    "version 28 or newer"
require_sources

executorch=$repository/build/executorch-android
build_executorch "$executorch" \
  -DCMAKE_TOOLCHAIN_FILE="$ANDROID_NDK_HOME/build/cmake/android.toolchain.cmake" \
  -DANDROID_ABI=arm64-v8a -DANDROID_PLATFORM=android-28 -DANDROID_STL=c++_static \
  -DANDROID_SUPPORT_FLEXIBLE_PAGE_SIZES=ON -DEXECUTORCH_PAL_DEFAULT=android
build_glass android-arm64 "$executorch/installed" glass_jni

libraries=$repository/mobile_demo/android/glass/src/main/jniLibs/arm64-v8a
mkdir -p "$libraries"
strip=("$ANDROID_NDK_HOME"/toolchains/llvm/prebuilt/*/bin/llvm-strip)
"${strip[0]}" -o "$libraries/libglass_jni.so" "$repository/build/android-arm64/jni/libglass_jni.so"
ls -l "$libraries/libglass_jni.so"

# Functions that build the native library for a phone: sourced by android/build_native.sh and
# ios/build_native.sh. ExecuTorch's own build is the only one that there is for phones.
# shellcheck shell=bash

EXECUTORCH_RELEASE=v1.5.1 # of the package that exported the models

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$repository/.venv/bin/python}

fail() {
  echo "error: $*" >&2
  exit 1
}

# Checks what a build takes from its surroundings.
require_sources() {
  [ -x "$python" ] || fail "$python: run 'make setup' first, or set PYTHON"
  [ -n "${EXECUTORCH_SOURCE:-}" ] || fail "set EXECUTORCH_SOURCE to a checkout of ExecuTorch" \
    "$EXECUTORCH_RELEASE with its submodules: git clone --recurse-submodules --branch" \
    "$EXECUTORCH_RELEASE https://github.com/pytorch/executorch"
  [ -e "$EXECUTORCH_SOURCE/third-party/flatbuffers/CMakeLists.txt" ] ||
    fail "$EXECUTORCH_SOURCE: not a checkout with submodules: git submodule update --init --recursive"
}

# build_executorch FOLDER [CMake option]...: archives of the runtime, its kernels and XNNPACK,
# installed in FOLDER/installed. What is built already is kept.
build_executorch() {
  local folder=$1
  shift
  cmake -S "$EXECUTORCH_SOURCE" -B "$folder" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$folder/installed" \
    -DPYTHON_EXECUTABLE="$python" -DBUILD_TESTING=OFF \
    -DEXECUTORCH_ENABLE_LOGGING=ON \
    -DEXECUTORCH_BUILD_EXTENSION_DATA_LOADER=ON \
    -DEXECUTORCH_BUILD_EXTENSION_FLAT_TENSOR=ON \
    -DEXECUTORCH_BUILD_EXTENSION_MODULE=ON \
    -DEXECUTORCH_BUILD_EXTENSION_NAMED_DATA_MAP=ON \
    -DEXECUTORCH_BUILD_EXTENSION_TENSOR=ON \
    -DEXECUTORCH_BUILD_KERNELS_OPTIMIZED=ON \
    -DEXECUTORCH_BUILD_KERNELS_QUANTIZED=ON \
    -DEXECUTORCH_BUILD_XNNPACK=ON \
    -DEXECUTORCH_XNNPACK_ENABLE_WEIGHT_CACHE=ON \
    -DEXECUTORCH_XNNPACK_SHARED_WORKSPACE=ON \
    "$@"
  cmake --build "$folder" --target install --config Release --parallel
}

# build_glass PRESET EXECUTORCH TARGET: one target of mobile_demo/core with an installed ExecuTorch.
build_glass() {
  local preset=$1 installed=$2 target=$3 tokenizers llama sodium
  tokenizers=$("$python" -m glass_export.tokenizers_cpp)
  llama=$("$python" -m glass_export.llama_cpp)
  sodium=$("$python" -m glass_export.libsodium)
  cmake -S "$repository/mobile_demo/core" --preset "$preset" \
    -Dexecutorch_DIR="$installed/lib/cmake/ExecuTorch" \
    -DGLASS_TOKENIZERS_DIR="$tokenizers" -DGLASS_LLAMA_CPP_DIR="$llama" \
    -DGLASS_LIBSODIUM_DIR="$sodium"
  cmake --build "$repository/build/$preset" --target "$target" --parallel
}

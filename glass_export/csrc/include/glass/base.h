// Vocabulary of the native core: spans, status codes, threads, instruction sets.
//
// Nothing in the core throws, allocates or depends on a framework. Memory is the caller's; threads
// come from the caller's Parallel.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glass {

// Outcome of a call. kOk is 0; every other value leaves the outputs unspecified.
enum class Status : int32_t {
  kOk = 0,
  kInvalidArgument = 1,    // a size, shape or parameter that cannot be
  kScratchTooSmall = 2,    // the scratch span is shorter than the matching *_scratch() says
  kIndexOutOfRange = 3,    // a neuron index is negative, and no padding, or not below F
  kIndexNotAscending = 4,  // neuron indices are unsorted or repeat
  kNotFinite = 5,          // NaN or infinity where a finite number is needed
  kNoScoredToken = 6,      // local scores are asked for, but no prompt token was scored
  kContextFull = 7,        // position + tokens exceeds the length of the key/value cache
  kPaddingMisplaced = 8,   // padding of a row of neurons precedes an index, or is the whole row
};

// Fills a row of neuron indices up to the longest row: layers may keep different numbers of
// neurons.
constexpr int32_t kNeuronPadding = -1;

// A short English sentence for a status, never null.
const char* status_message(Status status);

// A view of `size` elements; owns nothing.
template <class T>
struct Span {
  T* data = nullptr;
  size_t size = 0;

  constexpr Span() = default;
  constexpr Span(T* first, size_t count) : data(first), size(count) {}
  constexpr T& operator[](size_t index) const { return data[index]; }
  constexpr T* begin() const { return data; }
  constexpr T* end() const { return data + size; }
};

// How a kernel runs work on several threads. `run` calls task(arg, i) once for each i in
// [0, count), on any threads, and returns when all are done.
struct Parallel {
  using Task = void (*)(void* arg, int64_t index);

  void* context = nullptr;
  int64_t threads = 1;  // tasks that can run at once; at least 1
  void (*run)(void* context, int64_t count, Task task, void* arg) = nullptr;
};

// One thread: the caller's.
Parallel serial();

// Instruction sets that the kernels are written for. The last four are the ones above with products
// of 8-bit integers (VNNI, dotprod, i8mm); they differ where weights are integers.
enum class Isa : int32_t {
  kPortable = 0,
  kAvx2 = 1,
  kAvx512 = 2,
  kNeon = 3,
  kAvx2Vnni = 4,
  kAvx512Vnni = 5,
  kNeonDot = 6,
  kNeonI8mm = 7,
};

// Lower-case name, as GLASS_ISA takes it: portable, avx2, avx512, neon, avx2_vnni, avx512_vnni,
// neon_dot, neon_i8mm.
const char* isa_name(Isa isa);

// Whether this build and this processor can run `isa`.
bool isa_available(Isa isa);

// The instruction set in use: the best available, or the one that the environment variable
// GLASS_ISA names when that is available. Decided once, at the first call.
Isa active_isa();

// Use another instruction set from now on, for tests. kInvalidArgument when it is not available.
// Not to be called while kernels run.
Status set_isa(Isa isa);

}  // namespace glass

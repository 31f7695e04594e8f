#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "glass/base.h"
#include "internal.h"

namespace glass {
namespace {

using internal::Kernels;

constexpr Isa kBestFirst[] = {Isa::kAvx512, Isa::kAvx2, Isa::kNeon, Isa::kPortable};

#if defined(__x86_64__) || defined(__i386__)
// Not every compiler's __builtin_cpu_supports knows F16C.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

// Whether processor and operating system allow it.
bool processor_has(Isa isa) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (isa == Isa::kAvx2) return avx2;
  if (isa == Isa::kAvx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
  return isa == Isa::kPortable;
}
#else
// Every 64-bit Arm processor has NEON; what a build does not hold is asked for elsewhere.
bool processor_has(Isa isa) { return isa == Isa::kPortable || isa == Isa::kNeon; }
#endif

// Null where this build does not hold them.
const Kernels* compiled(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return internal::portable_kernels();
#if defined(GLASS_HAS_X86_KERNELS)
    case Isa::kAvx2:
      return internal::avx2_kernels();
    case Isa::kAvx512:
      return internal::avx512_kernels();
#endif
#if defined(GLASS_HAS_NEON_KERNELS)
    case Isa::kNeon:
      return internal::neon_kernels();
#endif
    default:
      return nullptr;
  }
}

Isa choose() {
  const char* wanted = std::getenv("GLASS_ISA");
  for (const Isa isa : kBestFirst) {
    if (wanted != nullptr && std::strcmp(wanted, isa_name(isa)) == 0 && isa_available(isa)) {
      return isa;
    }
  }
  for (const Isa isa : kBestFirst) {
    if (isa_available(isa)) return isa;
  }
  return Isa::kPortable;
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{choose()};
  return isa;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kNeon:
      return "neon";
  }
  return "unknown";
}

bool isa_available(Isa isa) { return compiled(isa) != nullptr && processor_has(isa); }

Isa active_isa() { return current().load(std::memory_order_relaxed); }

Status set_isa(Isa isa) {
  if (!isa_available(isa)) return Status::kInvalidArgument;
  current().store(isa, std::memory_order_relaxed);
  return Status::kOk;
}

const internal::Kernels& internal::kernels() { return *compiled(active_isa()); }

}  // namespace glass

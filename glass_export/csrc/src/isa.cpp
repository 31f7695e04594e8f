#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "glass/base.h"
#include "internal.h"

namespace glass {
namespace {

using internal::IntegerKernels;
using internal::Kernels;

constexpr Isa kBestFirst[] = {Isa::kAvx512Vnni, Isa::kAvx512,  Isa::kAvx2Vnni, Isa::kAvx2,
                              Isa::kNeonI8mm,   Isa::kNeonDot, Isa::kNeon,     Isa::kPortable};

#if defined(__x86_64__) || defined(__i386__)
// Not every compiler's __builtin_cpu_supports knows F16C.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

// Not every compiler's __builtin_cpu_supports knows AVX-VNNI.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 4)) != 0;
}

// Whether processor and operating system allow it.
bool processor_has(Isa isa) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (isa == Isa::kAvx2) return avx2;
  if (isa == Isa::kAvx2Vnni) return avx2 && has_avx_vnni();
  if (isa == Isa::kAvx512Vnni) {
    return processor_has(Isa::kAvx512) && __builtin_cpu_supports("avx512vnni");
  }
  if (isa == Isa::kAvx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
  return isa == Isa::kPortable;
}
#else
#if defined(__aarch64__) && defined(__APPLE__)
bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dot() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__aarch64__) && defined(__linux__)
// HWCAP_ASIMDDP and HWCAP2_I8MM; older headers lack the names.
bool has_dot() { return (getauxval(AT_HWCAP) & (1ul << 20)) != 0; }
bool has_i8mm() { return has_dot() && (getauxval(AT_HWCAP2) & (1ul << 13)) != 0; }
#else
bool has_dot() { return false; }
bool has_i8mm() { return false; }
#endif

// Every 64-bit Arm processor has NEON; what a build does not hold is asked for elsewhere.
bool processor_has(Isa isa) {
  if (isa == Isa::kNeonDot) return has_dot();
  if (isa == Isa::kNeonI8mm) return has_i8mm();
  return isa == Isa::kPortable || isa == Isa::kNeon;
}
#endif

// Both tables of an instruction set, null where this build does not hold them.
struct Tables {
  const Kernels* floats = nullptr;
  const IntegerKernels* integers = nullptr;
};

Tables compiled(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return {internal::portable_kernels(), internal::portable_integer_kernels()};
#if defined(GLASS_HAS_X86_KERNELS)
    case Isa::kAvx2:
      return {internal::avx2_kernels(), internal::avx2_integer_kernels()};
    case Isa::kAvx2Vnni:
      return {internal::avx2_kernels(), internal::avx2_vnni_integer_kernels()};
    case Isa::kAvx512:  // without VNNI, wider vectors gain nothing here
      return {internal::avx512_kernels(), internal::avx2_integer_kernels()};
    case Isa::kAvx512Vnni:
      return {internal::avx512_kernels(), internal::avx512_vnni_integer_kernels()};
#endif
#if defined(GLASS_HAS_NEON_KERNELS)
    case Isa::kNeon:
      return {internal::neon_kernels(), internal::neon_integer_kernels()};
    case Isa::kNeonDot:
      return {internal::neon_kernels(), internal::neon_dot_integer_kernels()};
    case Isa::kNeonI8mm:
      return {internal::neon_kernels(), internal::neon_i8mm_integer_kernels()};
#endif
    default:
      return {};
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
    case Isa::kAvx2Vnni:
      return "avx2_vnni";
    case Isa::kAvx512Vnni:
      return "avx512_vnni";
    case Isa::kNeonDot:
      return "neon_dot";
    case Isa::kNeonI8mm:
      return "neon_i8mm";
  }
  return "unknown";
}

bool isa_available(Isa isa) { return compiled(isa).floats != nullptr && processor_has(isa); }

Isa active_isa() { return current().load(std::memory_order_relaxed); }

Status set_isa(Isa isa) {
  if (!isa_available(isa)) return Status::kInvalidArgument;
  current().store(isa, std::memory_order_relaxed);
  return Status::kOk;
}

const internal::Kernels& internal::kernels() { return *compiled(active_isa()).floats; }

const internal::IntegerKernels& internal::integer_kernels() {
  return *compiled(active_isa()).integers;
}

}  // namespace glass

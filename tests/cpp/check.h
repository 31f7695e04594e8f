// Checks that report and go on; a test's main returns check_result().
#pragma once

#include <cmath>
#include <cstdio>

#include "glass/base.h"

namespace glass::test {

inline int& failures() {
  static int count = 0;
  return count;
}

inline void report(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
  ++failures();
}

inline int check_result() {
  if (failures() > 0) std::fprintf(stderr, "%d checks failed\n", failures());
  return failures() > 0 ? 1 : 0;
}

// Calls function() once with each instruction set that can run here.
template <class Function>
void for_each_isa(const Function& function) {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kNeon, Isa::kAvx2Vnni,
                        Isa::kAvx512Vnni, Isa::kNeonDot, Isa::kNeonI8mm}) {
    if (!isa_available(isa)) continue;
    std::fprintf(stderr, "%s\n", isa_name(isa));
    if (set_isa(isa) != Status::kOk) report(__FILE__, __LINE__, isa_name(isa));
    function();
  }
}

}  // namespace glass::test

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) ::glass::test::report(__FILE__, __LINE__, #condition); \
  } while (false)

// |actual - expected| <= tolerance; false for NaN.
#define CHECK_NEAR(actual, expected, tolerance)                              \
  do {                                                                       \
    const double check_a = (actual), check_e = (expected);                   \
    if (!(std::fabs(check_a - check_e) <= (tolerance))) {                    \
      std::fprintf(stderr, "got %.9g, expected %.9g\n", check_a, check_e);   \
      ::glass::test::report(__FILE__, __LINE__, #actual " near " #expected); \
    }                                                                        \
  } while (false)

// Status texts, the serial Parallel, and the choice of the instruction set.
#include <cstdlib>
#include <cstring>
#include <string>

#include "check.h"
#include "glass/base.h"

namespace glass::test {
namespace {

// The environment is what the build's test sets: a name, or none.
void test_choice() {
  const char* wanted = std::getenv("GLASS_ISA");
  const Isa active = active_isa();
  CHECK(isa_available(active));
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
    const bool named = wanted != nullptr && std::strcmp(wanted, isa_name(isa)) == 0;
    if (named && isa_available(isa)) CHECK(active == isa);
  }
  CHECK(isa_available(Isa::kPortable));
}

void test_set_isa() {
  const Isa best = active_isa();
  CHECK(set_isa(Isa::kPortable) == Status::kOk);
  CHECK(active_isa() == Isa::kPortable);
  CHECK(set_isa(static_cast<Isa>(99)) == Status::kInvalidArgument);
  CHECK(!(isa_available(Isa::kNeon) && isa_available(Isa::kAvx2)));
  CHECK(active_isa() == Isa::kPortable);
  CHECK(set_isa(best) == Status::kOk);
}

void test_messages() {
  for (int32_t i = 0; i <= static_cast<int32_t>(Status::kPaddingMisplaced); ++i) {
    const std::string message = status_message(static_cast<Status>(i));
    CHECK(!message.empty() && message != "unknown status");
  }
  CHECK(std::string(status_message(static_cast<Status>(99))) == "unknown status");
}

void test_serial() {
  const Parallel parallel = serial();
  CHECK(parallel.threads == 1);
  int64_t sum = 0;
  parallel.run(
      parallel.context, 5, [](void* arg, int64_t i) { *static_cast<int64_t*>(arg) += i; }, &sum);
  CHECK(sum == 10);
}

}  // namespace
}  // namespace glass::test

int main() {
  using namespace glass::test;
  test_choice();
  test_set_isa();
  test_messages();
  test_serial();
  return check_result();
}

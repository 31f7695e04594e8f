#include "executorch/runtime_log.h"

#include <executorch/runtime/platform/platform.h>

#include <cstdio>
#include <mutex>
#include <utility>

namespace glass {
namespace {

constexpr size_t kMostKept = 1 << 12;  // bytes; what fails in a loop must not fill the memory

struct Log {
  std::mutex mutex;
  std::string errors;
};

Log& log() {
  static Log shared;
  return shared;
}

void keep(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t,
          const char* message, size_t length) {
  const std::string text(message, length);
  if (level == et_pal_log_level_t::kFatal) std::fprintf(stderr, "ExecuTorch: %s\n", text.c_str());
  if (level != et_pal_log_level_t::kError) return;
  const std::lock_guard<std::mutex> guard(log().mutex);
  if (log().errors.size() > kMostKept) return;
  if (!log().errors.empty()) log().errors += "; ";
  log().errors += text;
}

}  // namespace

void capture_runtime_log() {
  static const bool registered =
      executorch::runtime::register_pal(executorch::runtime::PalImpl::create(keep, __FILE__));
  static_cast<void>(registered);
}

std::string take_runtime_errors() {
  const std::lock_guard<std::mutex> guard(log().mutex);
  return std::exchange(log().errors, "");
}

}  // namespace glass

#include "driver/memory.h"

#if defined(__APPLE__)
#include <TargetConditionals.h>
#include <mach/mach.h>
#if TARGET_OS_IPHONE
#include <os/proc.h>
#endif
#else
#include <fstream>
#include <limits>
#include <string>
#endif

namespace glass {

#if defined(__APPLE__)

int64_t available_memory() {
#if TARGET_OS_IPHONE
  return static_cast<int64_t>(os_proc_available_memory());
#else
  return 0;
#endif
}

ResidentMemory resident_memory() {
  mach_task_basic_info info;
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  const kern_return_t status = task_info(mach_task_self(), MACH_TASK_BASIC_INFO,
                                         reinterpret_cast<task_info_t>(&info), &count);
  if (status != KERN_SUCCESS) return {};
  return {static_cast<int64_t>(info.resident_size), static_cast<int64_t>(info.resident_size_max)};
}

#else

namespace {

// The number of kB behind a name of a file such as /proc/meminfo, in bytes; 0 when it has none.
int64_t proc_bytes(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    int64_t kilobytes = 0;
    if (word == name && file >> kilobytes) return kilobytes * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

}  // namespace

int64_t available_memory() { return proc_bytes("/proc/meminfo", "MemAvailable:"); }

ResidentMemory resident_memory() {
  return {proc_bytes("/proc/self/status", "VmRSS:"), proc_bytes("/proc/self/status", "VmHWM:")};
}

#endif

}  // namespace glass

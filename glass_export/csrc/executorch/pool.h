// ExecuTorch's thread pool for the native core.
#pragma once

#include <executorch/runtime/kernel/thread_parallel_interface.h>

#include "glass/base.h"

namespace glass {

inline void run_on_pool(void*, int64_t count, Parallel::Task task, void* arg) {
  executorch::extension::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) task(arg, i);
  });
}

// The pool of the process.
inline Parallel thread_pool() {
  const int64_t threads = executorch::extension::get_thread_count();
  return {nullptr, threads > 0 ? threads : 1, run_on_pool};
}

}  // namespace glass

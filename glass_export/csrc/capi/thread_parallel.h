// A Parallel of fresh threads per call: simple, for tests; too slow for a decode loop.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "glass/base.h"

namespace glass {

class ThreadParallel {
 public:
  explicit ThreadParallel(int64_t threads) : threads_(threads) {}

  Parallel get() { return {this, threads_, &run}; }

 private:
  static void run(void* context, int64_t count, Parallel::Task task, void* arg) {
    const int64_t threads = std::min(static_cast<ThreadParallel*>(context)->threads_, count);
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      for (int64_t i = next++; i < count; i = next++) task(arg, i);
    };
    std::vector<std::thread> others;
    try {
      for (int64_t i = 1; i < threads; ++i) others.emplace_back(work);
    } catch (const std::exception&) {  // no memory or no thread: those that there are do the work
    }
    work();
    for (std::thread& other : others) other.join();
  }

  int64_t threads_;
};

}  // namespace glass

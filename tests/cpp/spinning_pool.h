// A Parallel of threads that wait for work by spinning, for benchmarks: no wake-up in the figures,
// but the processor is left to others in between.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "glass/base.h"

namespace glass::test {

class SpinningPool {
 public:
  explicit SpinningPool(int64_t threads) : threads_(threads) {
    for (int64_t i = 1; i < threads; ++i) others_.emplace_back([this] { serve(); });
  }
  SpinningPool(const SpinningPool&) = delete;
  SpinningPool& operator=(const SpinningPool&) = delete;

  ~SpinningPool() {
    stop_ = true;
    ++round_;
    for (std::thread& other : others_) other.join();
  }

  Parallel get() { return {this, threads_, &run}; }

 private:
  static void run(void* context, int64_t count, Parallel::Task task, void* arg) {
    auto& pool = *static_cast<SpinningPool*>(context);
    pool.task_ = task;
    pool.arg_ = arg;
    pool.count_ = count;
    pool.next_ = 0;
    pool.busy_ = static_cast<int64_t>(pool.others_.size());
    ++pool.round_;
    pool.work();
    while (pool.busy_ != 0) std::this_thread::yield();
  }

  void serve() {
    for (int64_t seen = 0;;) {
      while (round_ == seen) std::this_thread::yield();
      seen = round_;
      if (stop_) return;
      work();
      --busy_;
    }
  }

  void work() {
    for (int64_t i = next_++; i < count_; i = next_++) task_(arg_, i);
  }

  int64_t threads_;
  std::vector<std::thread> others_;
  std::atomic<int64_t> round_{0}, next_{0}, busy_{0};
  std::atomic<bool> stop_{false};
  Parallel::Task task_ = nullptr;
  void* arg_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace glass::test

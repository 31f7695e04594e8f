// The chosen neurons' bundles, copied side by side once a choice.
//
// sparse_ffn can read scattered bundles in place, but then almost every one is on a page of its
// own. Decoding reads the same bundles for every token, so that the copy pays off after a few.
// Measured in docs/adr/0016-packed-neurons.md.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "glass/base.h"
#include "glass/ffn.h"
#include "packing/huge_pages.h"

namespace glass {

class PackedBundles;

// What sparse_ffn should be given. While it lives nobody changes the copy.
struct PackedChoice {
  FfnBundle ffn;
  Span<const int32_t> neurons;
  std::shared_ptr<PackedBundles> owner;  // null where that is kept by other means
  std::unique_lock<std::mutex> lock;
};

// The copy of one layer.
class PackedBundles {
 public:
  // The copy of the bundles that `row` chooses, made when they are others than the last time; a
  // row may end in padding, of which there are no copies. `ffn` and `row` as they are where a copy
  // would gain nothing (all neurons, or floats), where the neurons are invalid, where there is no
  // memory, or while another thread uses the copy.
  PackedChoice choose(const FfnBundle& ffn, Span<const int32_t> row, const Parallel& parallel);

 private:
  bool holds(const FfnBundle& ffn, Span<const int32_t> neurons) const;
  bool pack(const FfnBundle& ffn, Span<const int32_t> neurons, const Parallel& parallel);

  std::mutex mutex_;
  FfnBundle source_;
  HugePages::Block copy_;
  std::vector<float> bias_;       // of the neurons; empty where there is none
  std::vector<int32_t> neurons_;  // that the copy holds
  std::vector<int32_t> places_;   // 0, 1, ...: where they are in it
};

// The copies of the layers of a process, by where their weights lie, for operators that cannot keep
// anything between calls.
class PackedLayers {
 public:
  static PackedLayers& of_process();

  PackedChoice choose(const FfnBundle& ffn, Span<const int32_t> row, const Parallel& parallel);

  // Frees all copies; those in use go with the last choice.
  void clear();

 private:
  std::mutex mutex_;
  std::unordered_map<const void*, std::shared_ptr<PackedBundles>> layers_;
};

}  // namespace glass

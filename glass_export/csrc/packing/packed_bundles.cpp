#include "packing/packed_bundles.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "packing/file_pages.h"

namespace glass {
namespace {

// Neurons that are compared with their source at each call: a program may have been closed, and
// another one be mapped where it was.
constexpr size_t kSamples = 4;

// GLASS_PACK=0 keeps everything in place: less memory, slower.
bool is_wanted() {
  static const bool wanted = [] {
    const char* value = std::getenv("GLASS_PACK");
    return value == nullptr || std::strcmp(value, "0") != 0;
  }();
  return wanted;
}

// Whether to copy these neurons, without padding.
bool gains(const FfnBundle& ffn, Span<const int32_t> neurons) {
  return is_wanted() && ffn.format != BundleFormat::kFloat32 && neurons.size > 0 &&
         neurons.size < static_cast<size_t>(ffn.d_ff);
}

const uint8_t* bundle_at(const FfnBundle& ffn, int64_t neuron, int64_t bytes) {
  return static_cast<const uint8_t*>(ffn.data) + neuron * bytes;
}

}  // namespace

bool PackedBundles::holds(const FfnBundle& ffn, Span<const int32_t> neurons) const {
  if (neurons.size != neurons_.size() || ffn.data != source_.data || ffn.d_ff != source_.d_ff ||
      ffn.d_model != source_.d_model || ffn.format != source_.format ||
      ffn.gated != source_.gated || ffn.bias != source_.bias ||
      !std::equal(neurons.begin(), neurons.end(), neurons_.begin())) {
    return false;
  }
  const int64_t bytes = bundle_bytes(ffn.format, ffn.d_model, ffn.gated);
  for (size_t i = 0; i < kSamples; ++i) {
    const size_t place = i * (neurons_.size() - 1) / (kSamples - 1);
    const uint8_t* const copied = copy_.data() + static_cast<int64_t>(place) * bytes;
    if (std::memcmp(copied, bundle_at(ffn, neurons_[place], bytes), bytes) != 0) return false;
    if (ffn.bias != nullptr && bias_[place] != ffn.bias[neurons_[place]]) return false;
  }
  return true;
}

bool PackedBundles::pack(const FfnBundle& ffn, Span<const int32_t> neurons,
                         const Parallel& parallel) {
  if (check_neurons(neurons, ffn.d_ff) != Status::kOk) return false;
  const int64_t bytes = bundle_bytes(ffn.format, ffn.d_model, ffn.gated);
  const size_t size = neurons.size * static_cast<size_t>(bytes);
  neurons_.clear();
  if (copy_.size() != size) {
    copy_ = HugePages::Block();  // before there is a new one
    copy_ = HugePages::of_process().allocate(size);
  }
  if (copy_.data() == nullptr) return false;
  source_ = ffn;
  neurons_.assign(neurons.begin(), neurons.end());
  bias_.resize(ffn.bias == nullptr ? 0 : neurons.size);
  for (size_t k = 0; k < bias_.size(); ++k) bias_[k] = ffn.bias[neurons[k]];
  places_.resize(neurons.size);
  std::iota(places_.begin(), places_.end(), 0);
  struct Work {
    const PackedBundles& self;
    int64_t bytes, parts;
  } work{*this, bytes, parallel.threads};
  const auto copy_part = [](void* arg, int64_t part) {
    const Work& all = *static_cast<const Work*>(arg);
    const auto count = static_cast<int64_t>(all.self.neurons_.size());
    for (int64_t k = count * part / all.parts; k < count * (part + 1) / all.parts; ++k) {
      std::memcpy(all.self.copy_.data() + k * all.bytes,
                  bundle_at(all.self.source_, all.self.neurons_[static_cast<size_t>(k)], all.bytes),
                  static_cast<size_t>(all.bytes));
    }
  };
  parallel.run(parallel.context, work.parts, copy_part, &work);
  // Decoding touches the copy alone, and memory that holds both would be more than a phone has.
  (void)release_file_pages(ffn.data, static_cast<size_t>(ffn.d_ff * bytes));
  return true;
}

PackedChoice PackedBundles::choose(const FfnBundle& ffn, Span<const int32_t> row,
                                   const Parallel& parallel) {
  PackedChoice choice{ffn, row, nullptr, {}};
  const Span<const int32_t> neurons = without_padding(row);
  if (!gains(ffn, neurons)) return choice;
  std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || (!holds(ffn, neurons) && !pack(ffn, neurons, parallel))) return choice;
  choice.ffn.data = copy_.data();
  choice.ffn.d_ff = static_cast<int64_t>(neurons_.size());
  choice.ffn.bias = bias_.empty() ? nullptr : bias_.data();
  choice.neurons = {places_.data(), places_.size()};
  choice.lock = std::move(lock);
  return choice;
}

PackedLayers& PackedLayers::of_process() {
  static PackedLayers& shared = *new PackedLayers;  // never destroyed
  return shared;
}

PackedChoice PackedLayers::choose(const FfnBundle& ffn, Span<const int32_t> row,
                                  const Parallel& parallel) {
  if (!gains(ffn, without_padding(row))) return {ffn, row, nullptr, {}};
  std::shared_ptr<PackedBundles> layer;
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    std::shared_ptr<PackedBundles>& known = layers_[ffn.data];
    if (known == nullptr) known = std::make_shared<PackedBundles>();
    layer = known;
  }
  PackedChoice choice = layer->choose(ffn, row, parallel);
  choice.owner = std::move(layer);
  return choice;
}

void PackedLayers::clear() {
  const std::lock_guard<std::mutex> guard(mutex_);
  layers_.clear();
}

}  // namespace glass

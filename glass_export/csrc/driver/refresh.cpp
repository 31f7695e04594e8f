#include "driver/refresh.h"

#include <algorithm>
#include <utility>

#include "glass/ffn.h"

namespace glass {

bool settled(Span<const int32_t> before, Span<const int32_t> now, int64_t layers) {
  const size_t width = now.size / static_cast<size_t>(layers);
  int64_t chosen = 0, added = 0;
  for (size_t start = 0; start < now.size; start += width) {
    const Span<const int32_t> old = without_padding({before.data + start, width});
    for (const int32_t neuron : without_padding({now.data + start, width})) {
      added += !std::binary_search(old.begin(), old.end(), neuron);
      ++chosen;
    }
  }
  return added * 10000 < kAutoTurnover * chosen;
}

Refresh::Refresh(const SelectionSettings& settings, const LocalSums& prompt,
                 std::vector<int32_t> neurons, int64_t layers)
    : settings_(settings),
      sums_(prompt),
      neurons_(std::move(neurons)),
      layers_(layers),
      interval_(settings.dense_start > 0 ? settings.dense_start : settings.refresh) {
  if (settings.dense_start > 0) neurons_.clear();
}

void Refresh::chosen(std::vector<int32_t> neurons) {
  const Span<const int32_t> before{neurons_.data(), neurons_.size()};
  const Span<const int32_t> now{neurons.data(), neurons.size()};
  const bool ends = settings_.refresh_settles && !neurons_.empty() && settled(before, now, layers_);
  interval_ = ends ? 0 : settings_.refresh;
  neurons_ = std::move(neurons);
  tokens_.clear();
}

}  // namespace glass

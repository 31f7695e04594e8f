#include "run/refresh.h"

namespace glass::run {

void LocalSums::add(const PrefillViews& views, double scored) {
  for (size_t i = 0; i < abs_sum.size(); ++i) {
    abs_sum[i] += views.abs_sum[i];
    sq_sum[i] += views.sq_sum[i];
  }
  tokens += scored;
}

TokenSums LocalSums::view() const {
  return {{abs_sum.data(), abs_sum.size()}, {sq_sum.data(), sq_sum.size()}, tokens};
}

Refresh::Refresh(const SelectionSettings& settings, const LocalSums& prompt)
    : settings_(settings),
      sums_(prompt),
      interval_(settings.dense_start > 0 ? settings.dense_start : settings.refresh) {}

void Refresh::chosen() {
  tokens_.clear();
  interval_ = settings_.refresh;
}

}  // namespace glass::run

#include "driver/local_sums.h"

#include "driver/span.h"

namespace glass {

void LocalSums::add(const PrefillViews& views, double scored) {
  for (size_t i = 0; i < abs_sum.size(); ++i) {
    abs_sum[i] += views.abs_sum[i];
    sq_sum[i] += views.sq_sum[i];
  }
  tokens += scored;
}

void LocalSums::add(const LocalSums& other) {
  if (other.tokens == 0) return;  // it may be without numbers
  add({{}, all(other.abs_sum), all(other.sq_sum)}, other.tokens);
}

TokenSums LocalSums::view() const { return {all(abs_sum), all(sq_sum), tokens}; }

}  // namespace glass

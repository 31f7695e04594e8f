// Where tensors lie in a weights file, as a manifest says.
#pragma once

#include <cstdint>

#include "driver/json.h"
#include "driver/status.h"

namespace glass {

// `tensors`: target.tensors of a manifest of which every value is of its kind; `size`: bytes of the
// weights file. Fails when a name is given twice, a dtype is unknown, `nbytes` is not what shape
// and dtype need, a tensor is outside of the file, or two overlap that are not the same bytes.
Outcome check_tensor_entries(const Json& tensors, int64_t size);

}  // namespace glass

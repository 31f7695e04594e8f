// Which keys glass.json has, and of which kind their values are: the dataclasses of
// glass_export/manifest.py.
#pragma once

#include "driver/json.h"
#include "driver/status.h"

namespace glass {

// Fails at a key that is missing or unknown, and at a value of another kind.
Outcome check_manifest_schema(const Json& root);

}  // namespace glass

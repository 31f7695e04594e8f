// The text of glass.json as an Artifact.
#pragma once

#include "driver/artifact.h"
#include "driver/json.h"
#include "driver/status.h"

namespace glass {

// Fills in all but the directory. Fails when a field is missing or cannot be; see Artifact::open.
Outcome parse_manifest(const Json& root, Artifact& artifact);

}  // namespace glass

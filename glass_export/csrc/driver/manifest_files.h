// The files of an artifact, as its manifest lists them.
#pragma once

#include "driver/artifact.h"
#include "driver/json.h"
#include "driver/status.h"

namespace glass {

// Appends the entries of a list that has passed the schema. Fails when a path leaves the artifact
// or is there twice, at a size or hash that cannot be, and beyond the limits.
Outcome read_files(const Json& list, Artifact& artifact);

}  // namespace glass

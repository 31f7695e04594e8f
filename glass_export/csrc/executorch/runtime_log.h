// The ExecuTorch runtime's log: silent, its last error kept as the detail of a message.
#pragma once

#include <string>

namespace glass {

// Takes the log over from now on, for the whole process. Only what the runtime aborts with is still
// printed, to standard error.
void capture_runtime_log();

// The runtime's errors since the last call, joined; empty when there was none.
std::string take_runtime_errors();

}  // namespace glass

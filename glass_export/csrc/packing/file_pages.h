// Memory that maps a file, and what of it is resident.
#pragma once

#include <cstddef>

namespace glass {

// Takes the pages that lie wholly in [data, data + bytes) out of this process's memory, if they map
// a file for reading alone: they stay in the system's cache, and come back when they are touched.
// Does nothing to other memory, whose content would be lost, nor on systems other than Linux.
// Returns whether it did.
bool release_file_pages(const void* data, size_t bytes);

}  // namespace glass

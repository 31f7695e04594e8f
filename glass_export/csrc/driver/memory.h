// What a process uses of the machine's memory, and what it can still have.
#pragma once

#include <cstdint>

namespace glass {

// Bytes that this process can still take without others or itself being ended; 0 when the system
// does not tell. Linux and Android: MemAvailable; iOS: what is left of the process's limit.
int64_t available_memory();

// Resident bytes now, and at their peak; 0 when the system does not tell.
struct ResidentMemory {
  int64_t now = 0;
  int64_t peak = 0;
};
ResidentMemory resident_memory();

}  // namespace glass

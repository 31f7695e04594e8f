#pragma once

#include <cstddef>
#include <cstdint>

// What one input is given to; each target defines it. Runs under a limit of processor time.
int fuzz_one(const uint8_t* data, size_t size);

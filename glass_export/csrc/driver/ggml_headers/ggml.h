// All that llama.cpp's common/json.cpp needs of ggml.
#pragma once

#include <cassert>

#define GGML_ASSERT(condition) assert(condition)

// Most that a reader takes of an artifact, so that a hostile one costs no more than an honest one.
// The table of artifacts/README.md; the same as glass_export/artifact/limits.py.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glass {

inline constexpr size_t kMostManifestBytes = size_t{4} << 20;
inline constexpr size_t kMostChecksumBytes = 256;
inline constexpr size_t kMostJsonDepth = 64;
inline constexpr size_t kMostJsonItems = 262144;  // values of glass.json
inline constexpr size_t kMostFiles = 1024;
inline constexpr size_t kMostPathBytes = 255;
inline constexpr int64_t kMostSize = INT32_MAX;  // of a dimension or of the context
inline constexpr size_t kMostGraphBytes = size_t{64} << 20;
inline constexpr size_t kMostGraphDepth = 16;  // graphs inside of graphs
inline constexpr size_t kMostPriorBytes = size_t{1} << 30;
inline constexpr size_t kMostHeaderBytes = size_t{1} << 20;  // of a safetensors file
inline constexpr size_t kMostTokenizerBytes = size_t{128} << 20;
inline constexpr int64_t kMostTokenIds = int64_t{1} << 22;
inline constexpr size_t kMostAddedTokens = 16384;
inline constexpr size_t kMostTextGrowth = 64;  // bytes that the steps of a tokenizer make of one
inline constexpr size_t kMostConfigBytes = size_t{16} << 20;  // tokenizer_config.json
inline constexpr size_t kMostPatternBytes = 4096;             // a regular expression
inline constexpr size_t kMostTemplateBytes = size_t{256} << 10;
inline constexpr size_t kMostTemplateDepth = 64;      // brackets and blocks inside each other
inline constexpr size_t kMostTemplateChain = 256;     // words and signs of one block
inline constexpr size_t kMostTemplateWork = 2000000;  // characters and steps of one rendering

}  // namespace glass

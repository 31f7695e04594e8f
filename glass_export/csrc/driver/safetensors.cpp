#include "driver/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "driver/json.h"
#include "driver/limits.h"

namespace glass {
namespace {

constexpr size_t kPrefix = 8;  // the header's length, little-endian

// Bytes begin..end-1 of the data.
struct Place {
  size_t begin, end;
};

std::optional<Place> place_of(const Json& entry, size_t size) {
  const Json& offsets = field(entry, "data_offsets");
  if (!offsets.is_array() || offsets.size() != 2) return std::nullopt;
  const int64_t begin = id_of(offsets[0]), end = id_of(offsets[1]);
  if (begin < 0 || begin > end || static_cast<uint64_t>(end) > size) return std::nullopt;
  return Place{static_cast<size_t>(begin), static_cast<size_t>(end)};
}

// Whether the places are all of the data, and none is taken twice.
bool covers(std::vector<Place> places, size_t size) {
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  size_t at = 0;
  for (const Place& place : places) {
    if (place.begin != at) return false;
    at = place.end;
  }
  return at == size;
}

// The tensor that an entry of the header describes; none when its bytes do not fit its shape.
std::optional<FloatTensor> tensor_of(const Json& entry, std::string_view data, Place place) {
  FloatTensor tensor;
  int64_t count = 1;
  const Json& shape = field(entry, "shape");
  if (!shape.is_array()) return std::nullopt;
  for (const Json& size : shape) {
    tensor.shape.push_back(id_of(size));
    if (tensor.shape.back() < 0 || tensor.shape.back() > kMostSize) return std::nullopt;
    if (__builtin_mul_overflow(count, tensor.shape.back(), &count)) return std::nullopt;
  }
  const size_t bytes = place.end - place.begin;
  if (bytes % sizeof(float) != 0 || bytes / sizeof(float) != static_cast<uint64_t>(count)) {
    return std::nullopt;
  }
  tensor.values.resize(static_cast<size_t>(count));
  if (count > 0) std::memcpy(tensor.values.data(), data.data() + place.begin, bytes);
  return tensor;
}

}  // namespace

Result<std::map<std::string, FloatTensor>> parse_safetensors(std::string_view content) {
  const Failure damaged = failure("not a sound safetensors file");
  uint64_t length = 0;
  if (content.size() < kPrefix) return damaged;
  for (size_t i = kPrefix; i-- > 0;) length = length << 8 | static_cast<unsigned char>(content[i]);
  if (length > content.size() - kPrefix || length > kMostHeaderBytes) return damaged;
  const Result<JsonDocument> header = parse_json(content.substr(kPrefix, length));
  if (!header || !header->root.is_object()) return damaged;
  const std::string_view data = content.substr(kPrefix + length);
  std::map<std::string, FloatTensor> tensors;
  std::vector<Place> places;
  for (const auto& [name, entry] : header->root.items()) {
    if (name == "__metadata__") continue;
    const std::optional<Place> place = place_of(entry, data.size());
    if (!place) return damaged;
    places.push_back(*place);
    if (text_of(field(entry, "dtype")) != "F32") continue;
    std::optional<FloatTensor> tensor = tensor_of(entry, data, *place);
    if (!tensor) return damaged;
    tensors.emplace(name, std::move(*tensor));
  }
  if (!covers(std::move(places), data.size())) return damaged;
  return tensors;
}

Result<std::map<std::string, FloatTensor>> read_safetensors(const std::string& path) {
  const Result<std::string> bytes = read_file(path, kMostPriorBytes);
  if (!bytes) return bytes.failure();
  auto tensors = parse_safetensors(*bytes);
  if (tensors) return tensors;
  return failure(path, ": ", tensors.failure().message, kCopyAgain).as(ArtifactCode::kPrior);
}

}  // namespace glass

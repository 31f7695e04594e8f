#include "driver/safetensors.h"

#include <cstring>
#include <string_view>
#include <utility>

#include "driver/json.h"

namespace glass {
namespace {

constexpr size_t kPrefix = 8;  // the header's length, little-endian

// The tensor that an entry of the header describes, out of the bytes behind it. Fails when they do
// not fit its shape.
Result<FloatTensor> tensor_of(const Json& entry, std::string_view data) {
  const Json& offsets = field(entry, "data_offsets");
  const bool paired = offsets.is_array() && offsets.size() == 2;
  const int64_t begin = paired ? id_of(offsets[0]) : -1, end = paired ? id_of(offsets[1]) : -1;
  FloatTensor tensor;
  int64_t count = 1;
  for (const Json& size : field(entry, "shape")) {
    tensor.shape.push_back(id_of(size));
    if (tensor.shape.back() < 0 || tensor.shape.back() > INT32_MAX) return failure("bad shape");
    if (__builtin_mul_overflow(count, tensor.shape.back(), &count)) return failure("bad shape");
  }
  const bool inside = 0 <= begin && begin <= end && end <= static_cast<int64_t>(data.size());
  if (!inside || (end - begin) / 4 != count || (end - begin) % 4 != 0)
    return failure("bad offsets");
  tensor.values.resize(static_cast<size_t>(count));
  if (count > 0) {
    std::memcpy(tensor.values.data(), data.data() + begin, static_cast<size_t>(end - begin));
  }
  return tensor;
}

}  // namespace

Result<std::map<std::string, FloatTensor>> read_safetensors(const std::string& path) {
  const Failure damaged =
      failure(path, ": not a sound safetensors file; copy or export the artifact again")
          .as(ErrorCode::kArtifact);
  const Result<std::string> bytes = read_file(path);
  if (!bytes) return bytes.failure();
  const std::string_view content = *bytes;
  uint64_t length = 0;
  if (content.size() < kPrefix) return damaged;
  for (size_t i = kPrefix; i-- > 0;) length = length << 8 | static_cast<unsigned char>(content[i]);
  if (length > content.size() - kPrefix) return damaged;
  const std::string_view text = content.substr(kPrefix, length);
  const Json header = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return damaged;
  std::map<std::string, FloatTensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (text_of(field(entry, "dtype")) != "F32") continue;
    Result<FloatTensor> tensor = tensor_of(entry, content.substr(kPrefix + length));
    if (!tensor) return damaged;
    tensors.emplace(name, std::move(*tensor));
  }
  return tensors;
}

}  // namespace glass

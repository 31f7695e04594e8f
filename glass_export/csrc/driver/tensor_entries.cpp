#include "driver/tensor_entries.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace glass {
namespace {

struct ItemBits {
  const char* dtype;
  int64_t bits;
};

// ITEM_BITS in glass_export/artifact/checks.py.
constexpr ItemBits kItemBits[] = {{"float32", 32}, {"float16", 16}, {"bfloat16", 16}, {"int64", 64},
                                  {"int32", 32},   {"int16", 16},   {"int8", 8},      {"uint8", 8},
                                  {"int4", 4},     {"uint4", 4},    {"bool", 8}};

int64_t bits_of(const std::string& dtype) {
  for (const ItemBits& item : kItemBits) {
    if (dtype == item.dtype) return item.bits;
  }
  return 0;
}

// Bytes that a shape and a dtype need; -1 when int64 does not hold them.
int64_t bytes_of(const Json& shape, int64_t bits) {
  int64_t count = 1;
  for (const Json& size : shape) {
    if (id_of(size) < 0) return -1;
    if (id_of(size) == 0) return 0;
  }
  for (const Json& size : shape) {
    if (__builtin_mul_overflow(count, id_of(size), &count)) return -1;
  }
  int64_t total = 0;
  if (__builtin_mul_overflow(count, bits, &total) || total > INT64_MAX - 7) return -1;
  return (total + 7) / 8;
}

}  // namespace

Outcome check_tensor_entries(const Json& tensors, int64_t size) {
  std::set<std::string> names;
  std::vector<std::pair<int64_t, int64_t>> places;  // first byte, and that behind the last
  for (const Json& tensor : tensors) {
    const std::string name = text_of(field(tensor, "name")),
                      dtype = text_of(field(tensor, "dtype"));
    const std::string label = "tensor '" + shown(name) + "'";
    if (!names.insert(name).second) return failure(label, " is listed twice");
    const int64_t bits = bits_of(dtype);
    if (bits == 0) return failure(label, ": unknown dtype '", shown(dtype), "'");
    const int64_t needed = bytes_of(field(tensor, "shape"), bits);
    const int64_t offset = id_of(field(tensor, "offset")), bytes = id_of(field(tensor, "nbytes"));
    if (needed < 0 || needed != bytes) {
      return failure(label, ": nbytes is ", shown_json(field(tensor, "nbytes")),
                     ", which is not what its shape and dtype need");
    }
    if (offset < 0 || offset > size || bytes > size - offset) {
      return failure(label, ": bytes ", shown_json(field(tensor, "offset")), "+", bytes,
                     " are outside the file of ", size, " bytes");
    }
    if (bytes > 0) places.emplace_back(offset, offset + bytes);
  }
  std::sort(places.begin(), places.end());
  // The same bytes may be known by two names, such as a head that is the embedding, too.
  places.erase(std::unique(places.begin(), places.end()), places.end());
  for (size_t i = 1; i < places.size(); ++i) {
    if (places[i].first < places[i - 1].second) {
      return failure("tensors: two of them overlap at byte ", places[i].first);
    }
  }
  return Done{};
}

}  // namespace glass

// Source: onnx.proto of ONNX 1.19; https://protobuf.dev/programming-guides/encoding.
#include "driver/onnx_file.h"

#include <optional>

#include "driver/json.h"
#include "driver/limits.h"
#include "driver/number.h"

namespace glass {
namespace {

// The messages of a model in which tensors can be.
enum class Message { kModel, kTraining, kFunction, kGraph, kNode, kAttribute, kSparse, kTensor };

struct Child {
  Message parent;
  uint64_t number;  // of the field
  Message child;
};

constexpr Child kChildren[] = {
    {Message::kModel, 7, Message::kGraph},         {Message::kModel, 20, Message::kTraining},
    {Message::kModel, 25, Message::kFunction},     {Message::kTraining, 1, Message::kGraph},
    {Message::kTraining, 2, Message::kGraph},      {Message::kFunction, 7, Message::kNode},
    {Message::kFunction, 11, Message::kAttribute}, {Message::kGraph, 1, Message::kNode},
    {Message::kGraph, 5, Message::kTensor},        {Message::kGraph, 15, Message::kSparse},
    {Message::kNode, 5, Message::kAttribute},      {Message::kAttribute, 5, Message::kTensor},
    {Message::kAttribute, 6, Message::kGraph},     {Message::kAttribute, 10, Message::kTensor},
    {Message::kAttribute, 11, Message::kGraph},    {Message::kAttribute, 22, Message::kSparse},
    {Message::kAttribute, 23, Message::kSparse},   {Message::kSparse, 1, Message::kTensor},
    {Message::kSparse, 2, Message::kTensor},
};

constexpr uint64_t kExternalData = 13, kDataLocation = 14;  // of a TensorProto
constexpr uint64_t kKey = 1, kValue = 2;                    // of a StringStringEntryProto

struct Field {
  uint64_t number = 0, value = 0;  // value: of a varint
  bool is_bytes = false;
  std::string_view bytes;
};

// The fields of a message, one after the other.
class Fields {
 public:
  explicit Fields(std::string_view message) : rest_(message) {}

  bool at_end() const { return rest_.empty(); }

  // The next field; none where the bytes are no field.
  std::optional<Field> next() {
    const std::optional<uint64_t> key = varint();
    if (!key || *key >> 3 == 0) return std::nullopt;
    Field field;
    field.number = *key >> 3;
    const uint64_t wire = *key & 7;
    if (wire == 0) {
      const std::optional<uint64_t> value = varint();
      if (!value) return std::nullopt;
      field.value = *value;
      return field;
    }
    const std::optional<uint64_t> size = wire == 2   ? varint()
                                         : wire == 1 ? std::optional<uint64_t>(8)
                                         : wire == 5 ? std::optional<uint64_t>(4)
                                                     : std::nullopt;
    if (!size || *size > rest_.size()) return std::nullopt;
    field.is_bytes = wire == 2;
    field.bytes = rest_.substr(0, static_cast<size_t>(*size));
    rest_.remove_prefix(static_cast<size_t>(*size));
    return field;
  }

 private:
  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (size_t i = 0; i < 10 && i < rest_.size(); ++i) {
      const auto byte = static_cast<unsigned char>(rest_[i]);
      value |= static_cast<uint64_t>(byte & 127) << (7 * i);
      if (byte < 128) {
        rest_.remove_prefix(i + 1);
        return value;
      }
    }
    return std::nullopt;
  }

  std::string_view rest_;
};

Failure no_model() { return failure("not an ONNX model"); }

class Checker {
 public:
  Checker(const std::string& weights, int64_t size) : weights_(weights), size_(size) {}

  Outcome check(Message message, std::string_view bytes, size_t depth) const {
    if (message == Message::kTensor) return check_tensor(bytes);
    if (depth > kMostGraphDepth) {
      return failure("more than ", kMostGraphDepth, " graphs inside each other");
    }
    for (Fields fields(bytes); !fields.at_end();) {
      const std::optional<Field> field = fields.next();
      if (!field) return no_model();
      for (const Child& known : kChildren) {
        if (known.parent != message || known.number != field->number) continue;
        if (!field->is_bytes) return no_model();
        const size_t inner = depth + (known.child == Message::kGraph ? 1 : 0);
        if (Outcome sound = check(known.child, field->bytes, inner); !sound) return sound;
      }
    }
    return Done{};
  }

 private:
  Outcome check_tensor(std::string_view bytes) const {
    bool external = false, located = false;
    int64_t offset = 0, length = 0;
    for (Fields fields(bytes); !fields.at_end();) {
      const std::optional<Field> field = fields.next();
      if (!field) return no_model();
      external |= field->number == kDataLocation && field->value != 0;
      if (field->number != kExternalData) continue;
      if (!field->is_bytes) return no_model();
      external = true;
      if (Outcome read = read_entry(field->bytes, located, offset, length); !read) return read;
    }
    if (!external) return Done{};
    if (!located) return failure("a tensor is outside of the graph, but not in a file");
    if (offset <= size_ && length <= size_ - offset) return Done{};
    return failure("a tensor's bytes ", offset, "+", length, " are outside the file of ", size_,
                   " bytes");
  }

  Outcome read_entry(std::string_view entry, bool& located, int64_t& offset,
                     int64_t& length) const {
    std::string_view key, value;
    for (Fields fields(entry); !fields.at_end();) {
      const std::optional<Field> field = fields.next();
      if (!field) return no_model();
      if (field->number == kKey) key = field->bytes;
      if (field->number == kValue) value = field->bytes;
    }
    if (key == "location") {
      located = true;
      if (value == weights_ && !weights_.empty()) return Done{};
      return failure("a tensor is in the file '", shown(value), "', expected '", weights_, "'");
    }
    if (key != "offset" && key != "length") return Done{};
    const std::optional<int64_t> number = parse_integer(value);
    if (!number || *number < 0) {
      return failure("a tensor's ", key, " is '", shown(value), "', expected a whole number");
    }
    (key == "offset" ? offset : length) = *number;
    return Done{};
  }

  const std::string& weights_;
  int64_t size_;
};

}  // namespace

Outcome check_onnx(std::string_view model, const std::string& weights, int64_t size) {
  return Checker(weights, size).check(Message::kModel, model, 0);
}

}  // namespace glass

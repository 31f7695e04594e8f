#include "driver/manifest_schema.h"

#include <string>

#include "glass/base.h"

namespace glass {
namespace {

enum class Kind { kText, kInteger, kNumber, kFlag, kIntegerOrText, kAny, kList, kMap, kTable };

struct Key;

// What a value has to be. `item`: of lists and of maps from names; `keys`: of tables.
struct Shape {
  Kind kind;
  const Shape* item = nullptr;
  Span<const Key> keys = {};
};

struct Key {
  const char* name;
  Shape shape;
  bool required = true;
  bool nullable = false;
};

constexpr Shape kText{Kind::kText}, kInteger{Kind::kInteger}, kNumber{Kind::kNumber};
constexpr Shape kFlag{Kind::kFlag}, kIntegerOrText{Kind::kIntegerOrText}, kAny{Kind::kAny};
constexpr Shape kTexts{Kind::kList, &kText}, kIntegers{Kind::kList, &kInteger};
constexpr Shape kNumbers{Kind::kList, &kNumber}, kTextMap{Kind::kMap, &kText};
constexpr Shape kSizes{Kind::kList, &kIntegerOrText}, kAnyMap{Kind::kMap, &kAny};

template <size_t kCount>
constexpr Shape table(const Key (&keys)[kCount]) {
  return {Kind::kTable, nullptr, {keys, kCount}};
}

constexpr Key kDimsKeys[] = {
    {"layers", kInteger},     {"d_model", kInteger},
    {"d_ff", kInteger},       {"heads", kInteger},
    {"kv_heads", kInteger},   {"head_dim", kInteger},
    {"vocab_size", kInteger}, {"expert_rows", kInteger, false},
};
constexpr Key kSourceKeys[] = {{"kind", kText}, {"reference", kText}, {"sha256", kText}};
constexpr Key kModelKeys[] = {
    {"name", kText},
    {"family", kText},
    {"dims", table(kDimsKeys)},
    {"source", table(kSourceKeys)},
    {"activation", kText},
    {"max_length", kInteger},
    {"bos_token_id", kInteger, true, true},
    {"eos_token_ids", kIntegers},
};
constexpr Key kSignatureTensorKeys[] = {{"name", kText}, {"dtype", kText}, {"shape", kSizes}};
constexpr Shape kSignatureTensor = table(kSignatureTensorKeys);
constexpr Key kSignatureKeys[] = {{"inputs", {Kind::kList, &kSignatureTensor}},
                                  {"outputs", {Kind::kList, &kSignatureTensor}}};
constexpr Shape kSignature = table(kSignatureKeys);
constexpr Key kTensorKeys[] = {{"name", kText},
                               {"dtype", kText},
                               {"shape", kIntegers},
                               {"offset", kInteger},
                               {"nbytes", kInteger}};
constexpr Shape kTensor = table(kTensorKeys);
constexpr Key kTargetKeys[] = {
    {"name", kText},
    {"dtype", kText},
    {"prefill_chunk", kInteger},
    {"graphs", kTextMap},
    {"signatures", {Kind::kMap, &kSignature}},
    {"weights", kText, true, true},
    {"tensors", {Kind::kList, &kTensor}},
    {"ffn_dtype", kText, false},
    {"custom_ops", kFlag, false},
};
constexpr Key kSelectionKeys[] = {
    {"density", kNumber},
    {"mode", kText, false},
    {"fusion", kText},
    {"local", kText},
    {"local_tokens", kText, false},
    {"prior", kText},
    {"lam", kNumber},
    {"tau", kNumber},
    {"sensitivity", kNumber, false},
    {"dense_layers", kIntegers, false},
    {"refresh", kIntegerOrText, false},
    {"dense_start", kInteger, false},
};
constexpr Key kPriorKeys[] = {{"statistics", kTexts},
                              {"tokens", kInteger},
                              {"seed", kInteger},
                              {"temperature", kNumber},
                              {"text", kText, false}};
constexpr Key kRuleKeys[] = {{"rule", kText}, {"text", kText}, {"kl", kNumber}, {"error", kNumber}};
constexpr Shape kRule = table(kRuleKeys);
constexpr Key kSearchKeys[] = {{"density", kNumber},   {"texts", kInteger},
                               {"steps", kInteger},    {"seconds", kNumber},
                               {"layer_kl", kNumbers}, {"rules", {Kind::kList, &kRule}}};
constexpr Key kProfileKeys[] = {{"density", kNumber},
                                {"refresh", kIntegerOrText, false},
                                {"dense_start", kInteger, false},
                                {"kl", kNumber, false, true},
                                {"speedup", kNumber, false, true},
                                {"device", kText, false, true}};
constexpr Shape kProfile = table(kProfileKeys);
constexpr Key kFileKeys[] = {{"path", kText}, {"size", kInteger}, {"sha256", kText}};
constexpr Shape kFile = table(kFileKeys);
constexpr Key kManifestKeys[] = {
    {"schema_version", kInteger},
    {"model", table(kModelKeys)},
    {"target", table(kTargetKeys)},
    {"selection", table(kSelectionKeys)},
    {"prior", table(kPriorKeys)},
    {"recipe", kAnyMap},
    {"recipe_digest", kText},
    {"tools", kTextMap},
    {"verification", kAnyMap, true, true},
    {"files", {Kind::kList, &kFile}},
    {"search", table(kSearchKeys), false, true},
    {"profiles", {Kind::kMap, &kProfile}, false},
};
constexpr Shape kManifest = table(kManifestKeys);

const char* name_of(Kind kind) {
  constexpr const char* kNames[] = {
      "text",      "a whole number", "a number",  "true or false", "a whole number or text",
      "any value", "a list",         "an object", "an object"};
  return kNames[static_cast<size_t>(kind)];
}

bool is_of(const Json& value, Kind kind) {
  switch (kind) {
    case Kind::kText:
      return value.is_string();
    case Kind::kInteger:
      return value.is_number_integer();
    case Kind::kNumber:
      return value.is_number();
    case Kind::kFlag:
      return value.is_boolean();
    case Kind::kIntegerOrText:
      return value.is_number_integer() || value.is_string();
    case Kind::kAny:
      return true;
    case Kind::kList:
      return value.is_array();
    case Kind::kMap:
    case Kind::kTable:
      return value.is_object();
  }
  return false;
}

const Key* find_key(const Shape& shape, const std::string& name) {
  for (const Key& key : shape.keys) {
    if (name == key.name) return &key;
  }
  return nullptr;
}

Outcome check(const Json& value, const Shape& shape, const std::string& where);

Outcome check_table(const Json& value, const Shape& shape, const std::string& where) {
  const std::string prefix = where.empty() ? "" : where + ".";
  for (const auto& [name, inner] : value.items()) {
    const Key* const key = find_key(shape, name);
    if (key == nullptr) return failure(prefix, shown(name), ": unknown key");
    if (key->nullable && inner.is_null()) continue;
    if (Outcome sound = check(inner, key->shape, prefix + name); !sound) return sound;
  }
  for (const Key& key : shape.keys) {
    if (key.required && !value.contains(key.name)) {
      return failure(prefix, key.name, ": missing, expected ", name_of(key.shape.kind));
    }
  }
  return Done{};
}

// Depth: that of the tables above, which is fixed; values of kAny are not walked.
Outcome check(const Json& value, const Shape& shape, const std::string& where) {
  if (!is_of(value, shape.kind)) {
    return failure(where, ": got ", shown_json(value), ", expected ", name_of(shape.kind));
  }
  if (shape.kind == Kind::kTable) return check_table(value, shape, where);
  if (shape.kind == Kind::kList || shape.kind == Kind::kMap) {
    for (const auto& [name, inner] : value.items()) {
      if (Outcome sound = check(inner, *shape.item, where + "." + shown(name)); !sound) {
        return sound;
      }
    }
  }
  return Done{};
}

}  // namespace

Outcome check_manifest_schema(const Json& root) { return check(root, kManifest, ""); }

}  // namespace glass

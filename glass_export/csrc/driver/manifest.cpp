#include "driver/manifest.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "driver/limits.h"
#include "driver/manifest_files.h"
#include "driver/manifest_schema.h"
#include "driver/tensor_entries.h"

namespace glass {
namespace {

constexpr const char* kActivations[] = {"silu", "gelu", "gelu_tanh", "relu"};
constexpr const char* kModes[] = {"auto", "fixed", "paper-a", "paper-i", "griffin"};
constexpr const char* kTexts[] = {"null", "template", "mixed"};

// A number, word or list as assign() reads it.
std::string setting_text(const Json& value) {
  if (value.is_string()) return text_of(value);
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const Json& item : value) text += (text.empty() ? "" : ",") + item.dump();
  return text;
}

Outcome read(const Json& object, const char* name, std::string& target) {
  target = text_of(field(object, name));
  if (!target.empty()) return Done{};
  return failure(name, " is missing, expected text", kCopyAgain);
}

// A whole number of at least 1 that is not absurd.
Outcome read(const Json& object, const char* name, int64_t& target) {
  target = id_of(field(object, name));
  if (target >= 1 && target <= kMostSize) return Done{};
  return failure(name, " is ", shown_json(field(object, name)),
                 ", expected a whole number of at least 1 and at most ", kMostSize, kCopyAgain);
}

// One of the words that this version knows.
template <size_t kCount>
Outcome require_word(const Json& value, const char* name, const char* const (&words)[kCount]) {
  const std::string word = text_of(value);
  const bool known = std::any_of(std::begin(words), std::end(words),
                                 [&](const char* other) { return word == other; });
  if (known || value.is_null()) return Done{};
  return failure(name, " is ", shown_json(value), ", which this version does not know", kCopyAgain);
}

Outcome first_failure(std::initializer_list<Outcome> outcomes) {
  for (const Outcome& outcome : outcomes) {
    if (!outcome) return outcome.failure();
  }
  return Done{};
}

Outcome check_token(const Json& id, const ModelInfo& model) {
  if (id_of(id) >= 0 && id_of(id) < model.vocab_size) return Done{};
  return failure("token id ", shown_json(id), " is outside the vocabulary of ", model.vocab_size,
                 kCopyAgain);
}

Outcome read_model(const Json& root, ModelInfo& model) {
  const Json& object = field(root, "model");
  const Json& dims = field(object, "dims");
  const Outcome sizes = first_failure({
      read(object, "name", model.name),
      read(object, "family", model.family),
      read(dims, "layers", model.layers),
      read(dims, "d_model", model.d_model),
      read(dims, "d_ff", model.d_ff),
      read(dims, "heads", model.heads),
      read(dims, "kv_heads", model.kv_heads),
      read(dims, "head_dim", model.head_dim),
      read(dims, "vocab_size", model.vocab_size),
      read(object, "max_length", model.max_length),
      read(field(root, "target"), "prefill_chunk", model.prefill_chunk),
  });
  if (!sizes) return failure("model.", sizes.failure().message);
  // Artifacts of versions that knew no experts say nothing of them.
  const Json& rows = field(dims, "expert_rows");
  model.expert_rows = rows.is_null() ? 0 : id_of(rows);
  if (model.expert_rows < 0 || model.expert_rows > kMostSize) {
    return failure("expert_rows is ", shown_json(rows), ", expected 0 to ", kMostSize, kCopyAgain);
  }
  if (Outcome known = require_word(field(object, "activation"), "activation", kActivations); !known)
    return known;
  if (model.heads % model.kv_heads != 0) {
    return failure("heads (", model.heads, ") is not a multiple of kv_heads (", model.kv_heads, ")",
                   kCopyAgain);
  }
  for (const Json& id : field(object, "eos_token_ids")) {
    if (Outcome inside = check_token(id, model); !inside) return inside;
    model.eos_token_ids.push_back(id_of(id));
  }
  const Json& bos = field(object, "bos_token_id");
  return bos.is_null() ? Outcome(Done{}) : check_token(bos, model);
}

Outcome require_file(const Artifact& artifact, const std::string& name) {
  if (!artifact.file(name).empty()) return Done{};
  return failure("'", shown(name), "' is used but not in files", kCopyAgain);
}

int64_t size_of(const Artifact& artifact, const std::string& name) {
  for (const FileEntry& entry : artifact.files) {
    if (entry.path == name) return entry.size;
  }
  return 0;
}

std::vector<TensorSignature> tensors_of(const Json& list) {
  std::vector<TensorSignature> tensors;
  for (const Json& item : list) {
    TensorSignature tensor{text_of(field(item, "name")), text_of(field(item, "dtype")), {}, ""};
    for (const Json& size : field(item, "shape")) {
      tensor.shape.push_back(id_of(size));
      if (size.is_string()) tensor.symbol = text_of(size);
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// Entries of the weights file that check_tensor_entries() has passed.
std::vector<WeightEntry> weights_of(const Json& tensors) {
  std::vector<WeightEntry> weights;
  for (const Json& item : tensors) {
    WeightEntry entry{text_of(field(item, "name")),
                      text_of(field(item, "dtype")),
                      {},
                      id_of(field(item, "offset")),
                      id_of(field(item, "nbytes"))};
    for (const Json& size : field(item, "shape")) entry.shape.push_back(id_of(size));
    weights.push_back(std::move(entry));
  }
  return weights;
}

Outcome read_target(const Json& root, Artifact& artifact) {
  const Json& target = field(root, "target");
  const Outcome names =
      first_failure({read(target, "name", artifact.target), read(target, "dtype", artifact.dtype)});
  if (!names) return failure("target.", names.failure().message);
  for (const char* role : {"prefill", "decode"}) {
    std::string graph;
    if (Outcome found = read(field(target, "graphs"), role, graph); !found) {
      return failure("target.graphs.", found.failure().message);
    }
  }
  for (const auto& [role, graph] : field(target, "graphs").items()) {
    artifact.graphs[role] = text_of(graph);
    if (Outcome found = require_file(artifact, text_of(graph)); !found) return found;
  }
  int64_t weights_size = 0;
  if (const Json& weights = field(target, "weights"); !weights.is_null()) {
    artifact.graphs["weights"] = text_of(weights);
    if (Outcome found = require_file(artifact, text_of(weights)); !found) return found;
    weights_size = size_of(artifact, text_of(weights));
  }
  if (Outcome sound = check_tensor_entries(field(target, "tensors"), weights_size); !sound) {
    return sound.failure().as(ArtifactCode::kTensor);
  }
  artifact.custom_ops = flag_of(target, "custom_ops");
  artifact.ffn_dtype = text_of(field(target, "ffn_dtype"));
  if (artifact.ffn_dtype.empty()) artifact.ffn_dtype = "fp32";
  artifact.weights = weights_of(field(target, "tensors"));
  for (const auto& [role, signature] : field(target, "signatures").items()) {
    artifact.signatures[role] = {tensors_of(field(signature, "inputs")),
                                 tensors_of(field(signature, "outputs"))};
  }
  return Done{};
}

Outcome read_selection(const Json& root, Artifact& artifact) {
  const Json& selection = field(root, "selection");
  for (const auto& [name, value] : selection.items()) {
    if (name == "mode") continue;  // where the rule comes from, which no runtime needs
    if (Outcome set = assign(artifact.defaults, name, setting_text(value)); !set) {
      return failure("selection.", set.failure().message, kCopyAgain);
    }
  }
  return require_word(field(selection, "mode"), "mode", kModes);
}

Outcome read_prior(const Json& root, Artifact& artifact) {
  const Json& object = field(root, "prior");
  if (Outcome known = require_word(field(object, "text"), "text", kTexts); !known) return known;
  for (const Json& name : field(object, "statistics")) {
    if (Outcome known = require_word(name, "statistics", kStatisticNames); !known) return known;
    artifact.statistics.push_back(text_of(name));
  }
  const std::string prior = kStatisticNames[static_cast<size_t>(artifact.defaults.prior)];
  const auto& known = artifact.statistics;
  if (std::find(known.begin(), known.end(), prior) == known.end()) {
    return failure("selection.prior is '", prior, "', not among prior.statistics", kCopyAgain);
  }
  return Done{};
}

Outcome read_profiles(const Json& root, Artifact& artifact) {
  for (const auto& [name, value] : field(root, "profiles").items()) {
    Profile& profile = artifact.profiles[name];
    SelectionSettings scratch;
    for (const char* setting : {"density", "refresh", "dense_start"}) {
      const Json& given = field(value, setting);
      if (given.is_null()) continue;
      profile.emplace_back(setting, setting_text(given));
      if (Outcome set = assign(scratch, setting, profile.back().second); !set) {
        return failure("profiles.", name, ".", set.failure().message, kCopyAgain);
      }
    }
  }
  return Done{};
}

Outcome check_schema(const Json& root) {
  const Json& given = field(root, "schema_version");
  const int64_t version = given.is_number_integer() ? given.get<int64_t>() : -1;
  if (version == kSchemaVersion) return Done{};
  const Failure why =
      given.is_number_integer()
          ? failure("schema_version is ", version, ", this program reads ", kSchemaVersion, "; ",
                    version > kSchemaVersion ? "update it" : "export the model again")
          : failure("no schema_version; this is not a glass-export artifact");
  return why.as(ArtifactCode::kSchema);
}

}  // namespace

Outcome parse_manifest(const Json& root, Artifact& artifact) {
  if (Outcome known = check_schema(root); !known) return known;
  if (Outcome sound = check_manifest_schema(root); !sound) {
    return failure(sound.failure().message, kCopyAgain);
  }
  if (Outcome read = read_selection(root, artifact); !read) return read;
  if (Outcome read = read_profiles(root, artifact); !read) return read;
  if (Outcome read = read_files(field(root, "files"), artifact); !read) return read;
  if (Outcome read = read_model(root, artifact.model); !read) return read;
  for (const char* name : {"prior.safetensors", "tokenizer.json"}) {
    if (Outcome found = require_file(artifact, name); !found) return found;
  }
  if (Outcome read = read_target(root, artifact); !read) return read;
  return read_prior(root, artifact);
}

}  // namespace glass

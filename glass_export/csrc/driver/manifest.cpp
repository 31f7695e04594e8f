#include "driver/manifest.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

namespace glass {
namespace {

constexpr const char* kAgain = "; copy or export the artifact again";

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
  return failure(name, " is missing, expected text", kAgain);
}

// A whole number of at least 1.
Outcome read(const Json& object, const char* name, int64_t& target) {
  target = id_of(field(object, name));
  if (target >= 1) return Done{};
  return failure(name, " is ", field(object, name).dump(),
                 ", expected a whole number of at least 1", kAgain);
}

Outcome first_failure(std::initializer_list<Outcome> outcomes) {
  for (const Outcome& outcome : outcomes) {
    if (!outcome) return outcome.failure();
  }
  return Done{};
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
  model.expert_rows = std::max<int64_t>(0, id_of(field(dims, "expert_rows")));
  if (model.heads % model.kv_heads != 0) {
    return failure("heads (", model.heads, ") is not a multiple of kv_heads (", model.kv_heads, ")",
                   kAgain);
  }
  for (const Json& id : field(object, "eos_token_ids")) {
    if (id_of(id) < 0 || id_of(id) >= model.vocab_size) {
      return failure("token id ", id.dump(), " is outside the vocabulary of ", model.vocab_size,
                     kAgain);
    }
    model.eos_token_ids.push_back(id_of(id));
  }
  return Done{};
}

// Names of letters, digits, '.', '_', '+' and '-', none of them beginning with a dot.
bool is_plain_path(const std::string& path) {
  bool start = true;
  for (const char c : path) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '+' ||
                       c == '-' || (c == '.' && !start);
    if (!plain && (c != '/' || start)) return false;
    start = c == '/';
  }
  return !start;
}

Outcome read_files(const Json& root, Artifact& artifact) {
  std::set<std::string> seen;
  for (const Json& item : field(root, "files")) {
    FileEntry entry{text_of(field(item, "path")), id_of(field(item, "size")),
                    text_of(field(item, "sha256"))};
    if (!is_plain_path(entry.path)) {
      return failure("file path '", entry.path,
                     "' is not a plain relative path inside the artifact", kAgain);
    }
    std::string folded = entry.path;
    std::transform(folded.begin(), folded.end(), folded.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (!seen.insert(folded).second) {
      return failure("file '", entry.path, "' is listed twice", kAgain);
    }
    if (entry.size < 0 || entry.sha256.size() != 64) {
      return failure("file '", entry.path, "' has no size or no SHA-256", kAgain);
    }
    artifact.files.push_back(std::move(entry));
  }
  return Done{};
}

Outcome require_file(const Artifact& artifact, const std::string& name) {
  if (!artifact.file(name).empty()) return Done{};
  return failure("'", name, "' is used but not in files", kAgain);
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

// Entries of the weights file; whether they lie inside it is checked where it is mapped.
Outcome read_weights(const Json& target, Artifact& artifact) {
  for (const Json& item : field(target, "tensors")) {
    WeightEntry entry{text_of(field(item, "name")),
                      text_of(field(item, "dtype")),
                      {},
                      id_of(field(item, "offset")),
                      id_of(field(item, "nbytes"))};
    bool sound = !entry.name.empty() && entry.offset >= 0 && entry.nbytes >= 0;
    for (const Json& size : field(item, "shape")) {
      entry.shape.push_back(id_of(size));
      sound = sound && entry.shape.back() >= 0;
    }
    if (!sound) {
      return failure("target.tensors: '", entry.name, "' has no name, or a shape, offset or nbytes",
                     " that is no whole number", kAgain);
    }
    artifact.weights.push_back(std::move(entry));
  }
  return Done{};
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
  const Json& weights = field(target, "weights");
  if (!weights.is_null()) {
    artifact.graphs["weights"] = text_of(weights);
    if (Outcome found = require_file(artifact, text_of(weights)); !found) return found;
  }
  artifact.custom_ops = flag_of(target, "custom_ops");
  artifact.ffn_dtype = text_of(field(target, "ffn_dtype"));
  if (artifact.ffn_dtype.empty()) artifact.ffn_dtype = "fp32";
  if (Outcome read = read_weights(target, artifact); !read) return read;
  for (const auto& [role, signature] : field(target, "signatures").items()) {
    artifact.signatures[role] = {tensors_of(field(signature, "inputs")),
                                 tensors_of(field(signature, "outputs"))};
  }
  return Done{};
}

Outcome read_selection(const Json& root, Artifact& artifact) {
  const Json& selection = field(root, "selection");
  for (const char* name : {"density", "fusion", "local", "prior", "lam", "tau"}) {
    if (field(selection, name).is_null()) return failure("selection.", name, " is missing", kAgain);
  }
  for (const auto& [name, value] : selection.items()) {
    if (name == "mode") continue;  // where the rule comes from, which no runtime needs
    if (Outcome set = assign(artifact.defaults, name, setting_text(value)); !set) {
      return failure("selection.", set.failure().message, kAgain);
    }
  }
  for (const Json& name : field(field(root, "prior"), "statistics")) {
    artifact.statistics.push_back(text_of(name));
  }
  const std::string prior = kStatisticNames[static_cast<size_t>(artifact.defaults.prior)];
  const auto& known = artifact.statistics;
  if (std::find(known.begin(), known.end(), prior) == known.end()) {
    return failure("selection.prior is '", prior, "', not among prior.statistics", kAgain);
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
        return failure("profiles.", name, ".", set.failure().message, kAgain);
      }
    }
  }
  return Done{};
}

Outcome check_schema(const Json& root) {
  const int64_t version = id_of(field(root, "schema_version"));
  if (version < 0) return failure("no schema_version; this is not a glass-export artifact");
  if (version == kSchemaVersion) return Done{};
  return failure("schema_version is ", version, ", this program reads ", kSchemaVersion, "; ",
                 version > kSchemaVersion ? "update it" : "export the model again");
}

}  // namespace

Outcome parse_manifest(const Json& root, Artifact& artifact) {
  if (Outcome known = check_schema(root); !known) return known;
  if (Outcome read = read_model(root, artifact.model); !read) return read;
  if (Outcome read = read_files(root, artifact); !read) return read;
  if (Outcome read = read_target(root, artifact); !read) return read;
  for (const char* name : {"prior.safetensors", "tokenizer.json"}) {
    if (Outcome found = require_file(artifact, name); !found) return found;
  }
  if (Outcome read = read_selection(root, artifact); !read) return read;
  return read_profiles(root, artifact);
}

}  // namespace glass

#include "run/metadata.h"

#include <algorithm>
#include <map>
#include <optional>

#include "glass/abi.h"
#include "run/number.h"

namespace glass::run {
namespace {

constexpr const char* kRemedy = "; export the model again with this version of glass-export";

using Entries = std::map<std::string, std::string, std::less<>>;

Entries split_lines(std::string_view text) {
  Entries entries;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    entries.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return entries;
}

Outcome read(const Entries& entries, const char* key, std::string& value) {
  const auto found = entries.find(key);
  if (found == entries.end()) return failure("metadata: '", key, "' is missing", kRemedy);
  value = found->second;
  return Done{};
}

Outcome read(const Entries& entries, const char* key, int64_t& value) {
  std::string text;
  if (Outcome found = read(entries, key, text); !found) return found;
  const std::optional<int64_t> number = parse_integer(text);
  if (!number || *number < 1) {
    return failure("metadata: ", key, " is '", text, "', expected a whole number of at least 1",
                   kRemedy);
  }
  value = *number;
  return Done{};
}

Outcome read(const Entries& entries, const char* key, std::vector<int64_t>& values) {
  std::string text;
  if (Outcome found = read(entries, key, text); !found) return found;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const std::optional<int64_t> id = parse_integer(item);
    if (!id || *id < 0) {
      return failure("metadata: ", key, " is '", text, "', expected token ids with commas",
                     kRemedy);
    }
    values.push_back(*id);
  }
  return Done{};
}

// What the program does not say stays as it is.
Outcome read_default(const Entries& entries, const char* name, SelectionSettings& defaults) {
  const auto found = entries.find(name);
  if (found == entries.end()) return Done{};
  Outcome set = assign(defaults, name, found->second);
  if (!set) return failure("metadata: ", set.failure().message, kRemedy);
  return set;
}

Outcome check_version(const Entries& entries, const char* key, int64_t expected) {
  int64_t actual = 0;
  if (Outcome found = read(entries, key, actual); !found) return found;
  if (actual == expected) return Done{};
  return failure("metadata: ", key, " is ", actual, ", this program reads ", expected,
                 "; export the model again with the glass-export that built this program");
}

// Programs without our operators run with any version of them.
Outcome check_operators(const Entries& entries) {
  std::string used;
  if (Outcome found = read(entries, "custom_ops", used); !found) return found;
  if (used == "false") return Done{};
  return check_version(entries, "abi_version", kAbiVersion);
}

}  // namespace

Result<ModelInfo> parse_metadata(std::string_view text) {
  const Entries entries = split_lines(text);
  ModelInfo info;
  const Outcome steps[] = {
      check_version(entries, "format_version", kFormatVersion),
      check_operators(entries),
      read(entries, "model", info.name),
      read(entries, "family", info.family),
      read(entries, "dtype", info.dtype),
      read(entries, "layers", info.layers),
      read(entries, "d_ff", info.d_ff),
      read(entries, "vocab_size", info.vocab_size),
      read(entries, "max_length", info.max_length),
      read(entries, "prefill_chunk", info.prefill_chunk),
      read(entries, "eos_token_ids", info.eos_token_ids),
      read(entries, "special_token_ids", info.special_token_ids),
  };
  for (const Outcome& step : steps) {
    if (!step) return step.failure();
  }
  for (const char* name : {"density", "fusion", "local", "prior", "lam", "tau"}) {
    std::string value;
    if (Outcome found = read(entries, name, value); !found) return found.failure();
    if (Outcome set = read_default(entries, name, info.defaults); !set) return set.failure();
  }
  // Later additions to the format.
  for (const char* name :
       {"local_tokens", "sensitivity", "dense_layers", "refresh", "dense_start"}) {
    if (Outcome set = read_default(entries, name, info.defaults); !set) return set.failure();
  }
  return info;
}

}  // namespace glass::run

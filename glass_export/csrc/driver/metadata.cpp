#include "driver/metadata.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "driver/number.h"
#include "glass/abi.h"

namespace glass {
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

Result<std::string> text_of(const Entries& entries, const char* key) {
  const auto found = entries.find(key);
  if (found == entries.end()) return failure("metadata: '", key, "' is missing", kRemedy);
  return found->second;
}

// A whole number of at least 1.
Result<int64_t> count_of(const Entries& entries, const char* key) {
  const Result<std::string> text = text_of(entries, key);
  if (!text) return text.failure();
  const std::optional<int64_t> number = parse_integer(*text);
  if (number && *number >= 1) return *number;
  return failure("metadata: ", key, " is '", *text, "', expected a whole number of at least 1",
                 kRemedy);
}

Outcome check_version(const Entries& entries, const char* key, int64_t expected) {
  const Result<int64_t> actual = count_of(entries, key);
  if (!actual) return actual.failure();
  if (*actual == expected) return Done{};
  return failure("metadata: ", key, " is ", *actual, ", this program reads ", expected,
                 "; export the model again with the glass-export that built this program");
}

// Programs without our operators run with any version of them.
Outcome check_operators(const Entries& entries) {
  const Result<std::string> used = text_of(entries, "custom_ops");
  if (!used) return used.failure();
  if (*used == "false") return Done{};
  return check_version(entries, "abi_version", kAbiVersion);
}

}  // namespace

Outcome check_metadata(std::string_view text, const ModelInfo& model) {
  const Entries entries = split_lines(text);
  if (Outcome known = check_version(entries, "format_version", kFormatVersion); !known) {
    return known;
  }
  if (Outcome known = check_operators(entries); !known) return known;
  const std::pair<const char*, int64_t> sizes[] = {
      {"layers", model.layers},
      {"d_ff", model.d_ff},
      {"vocab_size", model.vocab_size},
      {"max_length", model.max_length},
      {"prefill_chunk", model.prefill_chunk},
  };
  for (const auto& [key, expected] : sizes) {
    const Result<int64_t> actual = count_of(entries, key);
    if (!actual) return actual.failure();
    if (*actual == expected) continue;
    return failure("metadata: ", key, " is ", *actual, ", glass.json says ", expected,
                   "; the artifact is of two exports: copy or export it again");
  }
  return Done{};
}

}  // namespace glass

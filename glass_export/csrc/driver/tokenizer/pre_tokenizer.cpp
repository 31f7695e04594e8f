#include "driver/tokenizer/pre_tokenizer.h"

#include <iterator>
#include <utility>

#include "driver/tokenizer/byte_level.h"
#include "driver/tokenizer/growth.h"
#include "driver/tokenizer/regex.h"

namespace glass {
namespace {

// GPT-2's words (openai/gpt-2, src/encoder.py).
constexpr const char* kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr size_t kMostSteps = 64;

// What becomes of the parts that match, the delimiters.
enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious };

struct Part {
  Range range;
  bool delimiter;
};

std::vector<Part> parts_of(const std::string& text, const Regex& regex, bool invert) {
  std::vector<Part> parts;
  size_t last = 0;
  for (const Range& match : regex.find_all(text)) {
    if (match.start > last) parts.push_back({{last, match.start}, invert});
    parts.push_back({match, !invert});
    last = match.stop;
  }
  if (last < text.size()) parts.push_back({{last, text.size()}, invert});
  return parts;
}

std::vector<std::string> split_by(const std::string& text, const Regex& regex, Behavior behavior,
                                  bool invert) {
  std::vector<std::string> words;
  bool after_delimiter = false;
  for (const auto& [range, delimiter] : parts_of(text, regex, invert)) {
    const std::string word = text.substr(range.start, range.stop - range.start);
    const bool merges = behavior == Behavior::kMergedWithPrevious && delimiter &&
                        !after_delimiter && !words.empty();
    if (merges) {
      words.back() += word;
    } else if (behavior != Behavior::kRemoved || !delimiter) {
      words.push_back(word);
    }
    after_delimiter = delimiter;
  }
  return words;
}

Result<Behavior> behavior_of(const Json& config) {
  const std::string name = text_of(field(config, "behavior"));
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  return failure("pre-tokenizer Split with behavior '", shown(name), "' is not supported");
}

}  // namespace

Result<PreTokenizer> PreTokenizer::from_json(const Json& config) {
  PreTokenizer pre_tokenizer;
  if (Outcome added = pre_tokenizer.add(config); !added) return added.failure();
  return pre_tokenizer;
}

Outcome PreTokenizer::add(const Json& config) {
  if (config.is_null()) return Done{};
  if (steps_.size() > kMostSteps)
    return failure("pre-tokenizer of more than ", kMostSteps, " steps");
  const std::string type = text_of(field(config, "type"));
  if (type == "Sequence") {
    for (const Json& part : field(config, "pretokenizers")) {
      if (Outcome added = add(part); !added) return added.failure();
    }
    return Done{};
  }
  if (type == "Split") return add_split(config);
  if (type == "Digits") {
    return add_pattern(flag_of(config, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)");
  }
  if (type == "ByteLevel") return add_byte_level(config);
  return failure("pre-tokenizer '", shown(type), "' is not supported");
}

Outcome PreTokenizer::add_split(const Json& config) {
  Result<Behavior> behavior = behavior_of(config);
  if (!behavior) return behavior.failure();
  const Json& pattern = field(config, "pattern");
  Result<Regex> regex = pattern.contains("String")
                            ? Regex::literal(text_of(field(pattern, "String")))
                            : Regex::compile(text_of(field(pattern, "Regex")));
  if (!regex) return regex.failure();
  const bool invert = flag_of(config, "invert");
  steps_.push_back([regex = *regex, behavior = *behavior, invert](const std::string& text) {
    return split_by(text, regex, behavior, invert);
  });
  return Done{};
}

Outcome PreTokenizer::add_pattern(const std::string& pattern) {
  Result<Regex> regex = Regex::compile(pattern);
  if (!regex) return regex.failure();
  steps_.push_back([regex = *regex](const std::string& text) {
    return split_by(text, regex, Behavior::kIsolated, false);
  });
  return Done{};
}

Outcome PreTokenizer::add_byte_level(const Json& config) {
  // A byte becomes a character of two, and a space before each word.
  if (Outcome fits = grow(growth_, flag_of(config, "add_prefix_space") ? 4 : 2); !fits) return fits;
  if (flag_of(config, "add_prefix_space")) {
    steps_.push_back([](const std::string& text) -> std::vector<std::string> {
      return {text.empty() || text[0] == ' ' ? text : ' ' + text};
    });
  }
  if (flag_of(config, "use_regex", true)) {
    if (Outcome added = add_pattern(kGpt2Words); !added) return added.failure();
  }
  steps_.push_back([](const std::string& text) -> std::vector<std::string> {
    return {bytes_to_characters(text)};
  });
  return Done{};
}

std::vector<std::string> PreTokenizer::split(const std::string& text) const {
  std::vector<std::string> words{text};
  for (const Step& step : steps_) {
    std::vector<std::string> next;
    for (const std::string& word : words) {
      std::vector<std::string> pieces = step(word);
      next.insert(next.end(), std::make_move_iterator(pieces.begin()),
                  std::make_move_iterator(pieces.end()));
    }
    words = std::move(next);
  }
  return words;
}

}  // namespace glass

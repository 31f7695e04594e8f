#include "driver/tokenizer/normalizer.h"

#include <utility>

#include "driver/tokenizer/growth.h"
#include "driver/tokenizer/regex.h"
#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

// Bytes of a character that NFC makes of one (Unicode Standard Annex 15, section 9).
constexpr size_t kNfcGrowth = 3;

std::string replace_all(const std::string& text, const Regex& pattern, const std::string& content) {
  std::string out;
  size_t last = 0;
  for (const Range& match : pattern.find_all(text)) {
    out.append(text, last, match.start - last).append(content);
    last = match.stop;
  }
  return out.append(text, last, std::string::npos);
}

}  // namespace

Result<Normalizer> Normalizer::from_json(const Json& config) {
  Normalizer normalizer;
  if (Outcome added = normalizer.add(config); !added) return added.failure();
  return normalizer;
}

Outcome Normalizer::add(const Json& config) {
  if (config.is_null()) return Done{};
  const std::string type = text_of(field(config, "type"));
  if (type == "Sequence") {
    for (const Json& part : field(config, "normalizers")) {
      if (Outcome added = add(part); !added) return added.failure();
    }
  } else if (type == "NFC") {
    if (Outcome fits = grow(growth_, kNfcGrowth); !fits) return fits;
    steps_.push_back([](const std::string& text) { return nfc(text); });
  } else if (type == "Prepend") {
    const std::string prefix = text_of(field(config, "prepend"));
    if (Outcome fits = grow(growth_, prefix.size() + 1); !fits) return fits;
    steps_.push_back(
        [prefix](const std::string& text) { return text.empty() ? text : prefix + text; });
  } else if (type == "Replace") {
    const Json& pattern = field(config, "pattern");
    Result<Regex> regex = pattern.contains("String")
                              ? Regex::literal(text_of(field(pattern, "String")))
                              : Regex::compile(text_of(field(pattern, "Regex")));
    if (!regex) return regex.failure();
    const size_t length = text_of(field(config, "content")).size();
    if (Outcome fits = grow(growth_, length + 1); !fits) return fits;
    steps_.push_back([regex = *regex, content = text_of(field(config, "content"))](
                         const std::string& text) { return replace_all(text, regex, content); });
  } else {
    return failure("normalizer '", shown(type), "' is not supported");
  }
  return Done{};
}

std::string Normalizer::apply(std::string text) const {
  for (const auto& step : steps_) text = step(text);
  return text;
}

}  // namespace glass

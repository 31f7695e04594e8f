// The tokenizer: tokenizer.json as Hugging Face tokenizers reads it.
#include "driver/text.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "driver/json.h"
#include "driver/tokenizer/parts.h"
#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

class Stream : public TokenStream {
 public:
  explicit Stream(const TokenizerParts& parts) : decoder_(parts.decoder), parts_(parts) {}

  std::string step(int64_t token) override {
    if (parts_.added.is_special(token)) return "";
    const std::optional<std::string_view> word = parts_.word_of(token);
    return word ? decoder_.step(std::string(*word)) : "";
  }
  std::string flush() override { return decoder_.flush(); }

 private:
  Decoder decoder_;
  const TokenizerParts& parts_;
};

bool overlaps(const Range& place, const std::vector<Range>& spans) {
  return std::any_of(spans.begin(), spans.end(), [&](const Range& span) {
    return place.start < span.stop && place.stop > span.start;
  });
}

// The place of a byte-level token without the spaces at its ends.
Range trimmed(Range place, std::string_view token) {
  constexpr std::string_view kSpace = "\xC4\xA0";  // GPT-2's character for a space
  size_t leading = 0, trailing = 0;
  for (; token.substr(leading * 2, 2) == kSpace; ++leading) {
  }
  while (token.size() >= (trailing + 1) * 2 &&
         token.substr(token.size() - (trailing + 1) * 2, 2) == kSpace) {
    ++trailing;
  }
  place.start = std::min(place.start + leading, place.stop);
  place.stop -= std::min(trailing, place.stop - place.start);
  return place;
}

class Codec : public TextCodec {
 public:
  Codec(TokenizerParts parts, std::optional<ChatTemplate> chat, const std::string& bos_token)
      : parts_(std::move(parts)), template_(std::move(chat)) {
    bos_ = parts_.added.id(bos_token);
    if (bos_ < 0) bos_ = parts_.bpe.id(bos_token);
  }

  Result<Encoded> encode(std::string_view text) const override {
    if (text.empty()) {
      return failure("prompt: it is empty; pass some text").as(ErrorCode::kInvalidArgument);
    }
    if (!is_utf8(text)) {
      return failure("prompt: it is not valid UTF-8; pass it in that encoding")
          .as(ErrorCode::kInvalidArgument);
    }
    std::vector<int64_t> tokens = parts_.surround.before;
    const std::vector<int64_t> inner = encode_part(text, {}).tokens;
    tokens.insert(tokens.end(), inner.begin(), inner.end());
    tokens.insert(tokens.end(), parts_.surround.after.begin(), parts_.surround.after.end());
    const bool doubled = tokens.size() > 1 && tokens[0] == bos_ && tokens[1] == bos_;
    if (doubled) tokens.erase(tokens.begin());
    return Encoded{tokens, weights_of(tokens)};
  }

  Result<Encoded> encode(const std::vector<Message>& messages) const override {
    const Result<std::string> text = render(messages);
    if (!text) return text.failure();
    Encoded encoded = encode_part(*text, template_->user_spans(messages, *text));
    const std::vector<float> ordinary = weights_of(encoded.tokens);
    bool found = false;
    for (size_t i = 0; i < ordinary.size(); ++i) {
      encoded.weights[i] *= ordinary[i];
      found |= encoded.weights[i] != 0;
    }
    if (!found) encoded.weights = ordinary;
    return encoded;
  }

  std::vector<float> weights_of(const std::vector<int64_t>& tokens) const override {
    std::vector<float> weights;
    for (const int64_t token : tokens) weights.push_back(parts_.added.is_special(token) ? 0 : 1);
    if (std::find(weights.begin(), weights.end(), 1.0f) == weights.end()) {
      weights.assign(tokens.size(), 1.0f);
    }
    return weights;
  }

  Result<std::string> render(const std::vector<Message>& messages) const override {
    if (template_) return template_->render(messages);
    return failure("messages: the artifact has no chat template; pass the prompt as plain text")
        .as(ErrorCode::kInvalidArgument);
  }

  bool has_chat_template() const override { return template_.has_value(); }

  std::unique_ptr<TokenStream> stream() const override { return std::make_unique<Stream>(parts_); }

 private:
  // Tokens of a text without those around it, and a weight of 1 for each that lies, at least in
  // part, in one of the spans.
  Encoded encode_part(std::string_view text, const std::vector<Range>& spans) const {
    Encoded out;
    for (const Segment& outer : parts_.added.split(text)) {
      if (outer.id >= 0) {
        out.tokens.push_back(outer.id);
        out.weights.push_back(overlaps(outer.range, spans) ? 1 : 0);
        continue;
      }
      const std::vector<Range> mapped = in_normalized(outer, spans);
      for (const Segment& inner :
           parts_.added.split_normalized(parts_.normalizer.apply(outer.text))) {
        encode_normalized(inner, mapped, out);
      }
    }
    return out;
  }

  void encode_normalized(const Segment& segment, const std::vector<Range>& spans,
                         Encoded& out) const {
    std::vector<int64_t> tokens{segment.id};
    if (segment.id < 0) {
      tokens.clear();
      for (const std::string& word : parts_.pre_tokenizer.split(segment.text)) {
        parts_.bpe.encode(word, tokens);
      }
    }
    const std::vector<Range> places = places_of(segment, tokens);
    for (size_t i = 0; i < tokens.size(); ++i) {
      out.tokens.push_back(tokens[i]);
      out.weights.push_back(i < places.size() && overlaps(places[i], spans) ? 1 : 0);
    }
  }

  // The part of the spans that lies in a segment, as bytes of its normalised text.
  std::vector<Range> in_normalized(const Segment& segment, const std::vector<Range>& spans) const {
    const auto place = [&](size_t at) {
      at = std::clamp(at, segment.range.start, segment.range.stop) - segment.range.start;
      return parts_.normalizer.apply(segment.text.substr(0, at)).size();
    };
    std::vector<Range> mapped;
    for (const Range& span : spans) {
      const bool apart = span.stop <= segment.range.start || span.start >= segment.range.stop;
      if (!apart) mapped.push_back({place(span.start), place(span.stop)});
    }
    return mapped;
  }

  // Where the tokens of a segment are in the normalised text. None when their lengths do not add up
  // to the segment's, as with unknown tokens.
  std::vector<Range> places_of(const Segment& segment, const std::vector<int64_t>& tokens) const {
    if (segment.id >= 0) return {segment.range};
    std::vector<Range> places;
    size_t total = 0;
    for (const int64_t token : tokens) {
      const size_t length = parts_.decoder.length_of(word_of(token));
      places.push_back({total, total + length});
      total += length;
    }
    const size_t size = segment.range.stop - segment.range.start;
    const size_t added = total - size;  // a space before the text, which the tokenizer adds
    if (total < size || added > 1) return {};
    for (size_t i = 0; i < places.size(); ++i) {
      Range& place = places[i];
      place.start += segment.range.start - std::min(added, place.start);
      place.stop += segment.range.start - added;
      if (parts_.surround.trims) place = trimmed(place, word_of(tokens[i]));
    }
    return places;
  }

  // A token that encoding gave.
  std::string word_of(int64_t token) const {
    return std::string(parts_.word_of(token).value_or(std::string_view()));
  }

  TokenizerParts parts_;
  std::optional<ChatTemplate> template_;
  int64_t bos_ = -1;  // -1 when the tokenizer has none
};

// The special tokens that tokenizer_config.json names, such as bos_token: each is a string, or an
// object with its content.
std::map<std::string, std::string> special_names(const Json& config) {
  constexpr std::string_view kSuffix = "_token";
  std::map<std::string, std::string> names;
  for (const auto& [key, value] : config.items()) {
    const bool named = key.size() > kSuffix.size() &&
                       std::string_view(key).substr(key.size() - kSuffix.size()) == kSuffix;
    const Json& content = value.is_object() ? field(value, "content") : value;
    if (named && content.is_string()) names[key] = text_of(content);
  }
  return names;
}

// The chat template of a tokenizer_config.json: a string, or a list with one named default.
std::string named_template(const Json& config) {
  const Json& value = field(config, "chat_template");
  if (!value.is_array()) return text_of(value);
  for (const Json& item : value) {
    if (text_of(field(item, "name")) == "default") return text_of(field(item, "template"));
  }
  return "";
}

}  // namespace

Result<std::unique_ptr<TextCodec>> make_text_codec(std::string_view tokenizer,
                                                   std::string_view config,
                                                   const std::string& chat_template) {
  Result<TokenizerParts> parts = TokenizerParts::parse(tokenizer);
  if (!parts) return parts.failure();
  const Result<JsonDocument> document = parse_json(config.empty() ? "{}" : config, Whole::kWide);
  if (!document) return document.failure();
  const Json& settings = document->root;
  if (!settings.is_object()) return failure("not a JSON object").as(ArtifactCode::kJson);
  const std::map<std::string, std::string> names = special_names(settings);
  const std::string source = chat_template.empty() ? named_template(settings) : chat_template;
  std::optional<ChatTemplate> chat;
  if (!source.empty()) {
    Result<ChatTemplate> compiled = ChatTemplate::compile(source, names);
    if (!compiled) return compiled.failure();
    chat.emplace(std::move(*compiled));
  }
  const auto bos = names.find("bos_token");
  return std::unique_ptr<TextCodec>(std::make_unique<Codec>(std::move(*parts), std::move(chat),
                                                            bos == names.end() ? "" : bos->second));
}

Result<std::unique_ptr<TextCodec>> open_text_codec(const Artifact& artifact) {
  const std::string path = artifact.file("tokenizer.json");
  const Result<std::string> source = read_file(path, kMostTokenizerBytes);
  if (!source) return source.failure();
  std::string config;
  if (const std::string settings = artifact.file("tokenizer_config.json"); !settings.empty()) {
    Result<std::string> read = read_file(settings, kMostConfigBytes);
    if (!read) return read.failure();
    config = std::move(*read);
  }
  std::string chat;
  if (const std::string jinja = artifact.file("chat_template.jinja"); !jinja.empty()) {
    Result<std::string> read = read_file(jinja, kMostTemplateBytes);
    if (!read) return read.failure();
    chat = std::move(*read);
  }
  Result<std::unique_ptr<TextCodec>> codec = make_text_codec(*source, config, chat);
  if (codec) return codec;
  const Failure& why = codec.failure();
  return failure(path, ": ", why.message).as(why.artifact);
}

}  // namespace glass

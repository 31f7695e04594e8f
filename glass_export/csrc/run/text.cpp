// The tokenizer of a build with one: tokenizer.json as Hugging Face tokenizers reads it.
#include "run/text.h"

#include <fstream>
#include <iterator>
#include <unordered_map>
#include <utility>

#include "run/tokenizer/added_tokens.h"
#include "run/tokenizer/bpe.h"
#include "run/tokenizer/decoder.h"
#include "run/tokenizer/json.h"
#include "run/tokenizer/normalizer.h"
#include "run/tokenizer/pre_tokenizer.h"
#include "run/tokenizer/unicode.h"

namespace glass::run {
namespace {

constexpr const char* kUnsupported =
    "; glass_run reads byte-pair tokenizers of the Llama, Qwen and Gemma kinds: use another "
    "tokenizer.json, or pass token ids with --ids to a build without a tokenizer";

// Special tokens that the tokenizer puts around a text.
struct Template {
  std::vector<int64_t> before, after;
};

struct Parts {
  Normalizer normalizer;
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  DecoderRules decoder;
  Template surround;
};

Outcome read_template(const Json& processor, Template& out) {
  const std::string type = text_of(field(processor, "type"));
  if (processor.is_null() || type == "ByteLevel") return Done{};  // which changes offsets only
  if (type == "Sequence") {
    for (const Json& part : field(processor, "processors")) {
      if (Outcome read = read_template(part, out); !read) return read.failure();
    }
    return Done{};
  }
  if (type != "TemplateProcessing") return failure("post-processor '", type, "' is not supported");
  bool text_seen = false;
  for (const Json& item : field(processor, "single")) {
    const std::string name = text_of(field(field(item, "SpecialToken"), "id"));
    if (name.empty()) text_seen = true;
    const Json& token = field(field(processor, "special_tokens"), name.c_str());
    for (const Json& id : field(token, "ids")) {
      (text_seen ? out.after : out.before).push_back(id_of(id));
    }
  }
  return Done{};
}

Result<Parts> read_parts(const Json& root) {
  Result<Normalizer> normalizer = Normalizer::from_json(field(root, "normalizer"));
  if (!normalizer) return normalizer.failure();
  Result<AddedTokens> added = AddedTokens::from_json(field(root, "added_tokens"), *normalizer);
  if (!added) return added.failure();
  Result<PreTokenizer> pre_tokenizer = PreTokenizer::from_json(field(root, "pre_tokenizer"));
  if (!pre_tokenizer) return pre_tokenizer.failure();
  Result<Bpe> bpe = Bpe::from_json(field(root, "model"));
  if (!bpe) return bpe.failure();
  Result<DecoderRules> decoder = DecoderRules::from_json(field(root, "decoder"));
  if (!decoder) return decoder.failure();
  Template surround;
  if (Outcome read = read_template(field(root, "post_processor"), surround); !read) {
    return read.failure();
  }
  return Parts{std::move(*normalizer), std::move(*added),   std::move(*pre_tokenizer),
               std::move(*bpe),        std::move(*decoder), std::move(surround)};
}

Result<Json> read_json(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return failure(path, ": cannot be read; give a whole artifact directory");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return failure(path, ": not valid JSON; export the model again");
  return root;
}

class Stream : public TextStream {
 public:
  Stream(const DecoderRules& rules, const std::unordered_map<int64_t, std::string>& tokens)
      : decoder_(rules), tokens_(tokens) {}

  std::string step(int64_t token) override {
    const auto found = tokens_.find(token);
    return found == tokens_.end() ? "" : decoder_.step(found->second);
  }
  std::string flush() override { return decoder_.flush(); }

 private:
  Decoder decoder_;
  const std::unordered_map<int64_t, std::string>& tokens_;
};

class Codec : public TextCodec {
 public:
  Codec(Parts parts, const std::string& bos_token) : parts_(std::move(parts)) {
    for (const auto& [token, id] : parts_.bpe.vocabulary()) visible_[id] = token;
    for (const auto& [id, token] : parts_.added.contents()) {
      visible_[id] = token;
      if (parts_.added.is_special(id)) visible_.erase(id);
    }
    bos_ = parts_.added.id(bos_token);
    if (bos_ < 0) bos_ = parts_.bpe.id(bos_token);
  }

  Result<std::vector<int64_t>> encode(std::string_view text) const override {
    if (text.empty()) return failure("prompt: it is empty; pass some text");
    if (!is_utf8(text)) return failure("prompt: it is not valid UTF-8; pass it in that encoding");
    std::vector<int64_t> tokens = parts_.surround.before;
    for (const Segment& segment : parts_.added.split(text, parts_.normalizer)) {
      if (segment.id >= 0) {
        tokens.push_back(segment.id);
        continue;
      }
      for (const std::string& word : parts_.pre_tokenizer.split(segment.text)) {
        parts_.bpe.encode(word, tokens);
      }
    }
    tokens.insert(tokens.end(), parts_.surround.after.begin(), parts_.surround.after.end());
    const bool doubled = tokens.size() > 1 && tokens[0] == bos_ && tokens[1] == bos_;
    if (doubled) tokens.erase(tokens.begin());
    return tokens;
  }

  std::unique_ptr<TextStream> stream() const override {
    return std::make_unique<Stream>(parts_.decoder, visible_);
  }

 private:
  Parts parts_;
  std::unordered_map<int64_t, std::string> visible_;  // all tokens that are not special
  int64_t bos_ = -1;                                  // -1 when the tokenizer has none
};

// `bos_token` of tokenizer_config.json: a string, or an object with its content.
std::string bos_token_of(const std::string& path) {
  Result<Json> config = read_json(path);
  if (!config) return "";
  const Json& token = field(*config, "bos_token");
  return text_of(token.is_object() ? field(token, "content") : token);
}

}  // namespace

bool has_tokenizer() { return true; }

Result<std::unique_ptr<TextCodec>> open_text_codec(const std::string& directory) {
  const std::string path = directory + "/tokenizer.json";
  Result<Json> root = read_json(path);
  if (!root) return root.failure();
  Result<Parts> parts = read_parts(*root);
  if (!parts) return failure(path, ": ", parts.failure().message, kUnsupported);
  const std::string bos_token = bos_token_of(directory + "/tokenizer_config.json");
  return std::unique_ptr<TextCodec>(std::make_unique<Codec>(std::move(*parts), bos_token));
}

}  // namespace glass::run

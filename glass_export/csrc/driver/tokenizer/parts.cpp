#include "driver/tokenizer/parts.h"

#include <string>
#include <utility>

#include "driver/json.h"
#include "driver/limits.h"
#include "driver/tokenizer/tokenizer_file.h"

namespace glass {
namespace {

constexpr const char* kUnsupported =
    "; byte-pair tokenizers of the Llama, Qwen and Gemma kinds are supported: use an artifact with "
    "one of those";

Outcome read_post_processor(const Json& processor, PostProcessor& out) {
  const std::string type = text_of(field(processor, "type"));
  if (processor.is_null()) return Done{};
  if (type == "ByteLevel") {
    out.trims = flag_of(processor, "trim_offsets", true);
    return Done{};
  }
  if (type == "Sequence") {
    for (const Json& part : field(processor, "processors")) {
      if (Outcome read = read_post_processor(part, out); !read) return read.failure();
    }
    return Done{};
  }
  if (type != "TemplateProcessing")
    return failure("post-processor '", shown(type), "' is not supported");
  bool text_seen = false;
  for (const Json& item : field(processor, "single")) {
    const std::string name = text_of(field(field(item, "SpecialToken"), "id"));
    if (name.empty()) text_seen = true;
    const Json& token = field(field(processor, "special_tokens"), name.c_str());
    for (const Json& id : field(token, "ids")) {
      if (id_of(id) < 0 || id_of(id) >= kMostTokenIds) {
        return failure("post-processor: '", shown(name), "' has no id");
      }
      (text_seen ? out.after : out.before).push_back(id_of(id));
    }
  }
  return Done{};
}

Result<TokenizerParts> read_parts(TokenizerFile& file) {
  if (!file.problem.empty()) return failure(file.problem);
  const Json& root = file.document.root;
  Result<Normalizer> normalizer = Normalizer::from_json(field(root, "normalizer"));
  if (!normalizer) return normalizer.failure();
  Result<AddedTokens> added = AddedTokens::from_json(field(root, "added_tokens"), *normalizer);
  if (!added) return added.failure();
  Result<PreTokenizer> pre_tokenizer = PreTokenizer::from_json(field(root, "pre_tokenizer"));
  if (!pre_tokenizer) return pre_tokenizer.failure();
  Result<Bpe> bpe = Bpe::from_file(file);
  if (!bpe) return bpe.failure();
  Result<DecoderRules> decoder = DecoderRules::from_json(field(root, "decoder"));
  if (!decoder) return decoder.failure();
  PostProcessor surround;
  if (Outcome read = read_post_processor(field(root, "post_processor"), surround); !read) {
    return read.failure();
  }
  return TokenizerParts{std::move(*normalizer), std::move(*added),   std::move(*pre_tokenizer),
                        std::move(*bpe),        std::move(*decoder), std::move(surround)};
}

}  // namespace

Result<TokenizerParts> TokenizerParts::parse(std::string_view source) {
  Result<TokenizerFile> file = TokenizerFile::parse(source);
  if (!file) {
    return failure(file.failure().message, kCopyAgain).as(ArtifactCode::kTokenizer);
  }
  Result<TokenizerParts> parts = read_parts(*file);
  if (parts) return parts;
  return failure(parts.failure().message, kUnsupported).as(ArtifactCode::kTokenizer);
}

std::optional<std::string_view> TokenizerParts::word_of(int64_t token) const {
  const auto found = added.contents().find(token);
  if (found != added.contents().end()) return found->second;
  return bpe.vocabulary().token(token);
}

}  // namespace glass

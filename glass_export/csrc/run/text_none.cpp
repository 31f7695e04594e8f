// The tokenizer of a build without one.
#include "run/text.h"

namespace glass::run {

bool has_tokenizer() { return false; }

Result<std::unique_ptr<TextCodec>> open_text_codec(const std::string&) {
  return failure("--prompt: this program was built without a tokenizer; pass token ids with ",
                 "--ids, or build it with -DGLASS_TOKENIZERS_DIR=DIR, the folder that ",
                 "`python -m glass_export.tokenizers_cpp` prints");
}

}  // namespace glass::run

#include "driver/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <new>

#include "driver/json.h"
#include "driver/tokenizer/pattern_rules.h"

namespace glass {
namespace {

// No memory is not "no match": text would be split in another way.
void require_memory(bool enough) {
  if (!enough) throw std::bad_alloc();
}

}  // namespace

struct Regex::Code {
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
  pcre2_code* code = nullptr;
};

Result<Regex> Regex::compile(const std::string& pattern) {
  if (Outcome quick = check_pattern(pattern); !quick) return quick.failure();
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto compiled = std::make_shared<Code>();
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  require_memory(compiled->code != nullptr || error != PCRE2_ERROR_HEAP_FAILED);
  if (compiled->code == nullptr) {
    PCRE2_UCHAR message[120] = {};
    pcre2_get_error_message(error, message, sizeof message);
    return failure("regex '", pattern, "' at ", offset, ": ",
                   reinterpret_cast<const char*>(message));
  }
  return Regex(std::move(compiled));
}

Result<Regex> Regex::literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 || c == '_' || c == ' ' ||
                       (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!plain) pattern += '\\';
    pattern += c;
  }
  return compile(pattern);
}

std::vector<Range> Regex::find_all(std::string_view text) const {
  std::vector<Range> found;
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create_from_pattern(code_->code, nullptr), pcre2_match_data_free);
  require_memory(data != nullptr);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t start = 0; start < text.size();) {
    const int matched = pcre2_match(code_->code, subject, text.size(), start,
                                    PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data.get(), nullptr);
    require_memory(matched != PCRE2_ERROR_NOMEMORY);
    if (matched < 0) break;
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    found.push_back({range[0], range[1]});
    start = range[1];
  }
  return found;
}

}  // namespace glass

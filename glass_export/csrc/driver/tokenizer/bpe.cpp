#include "driver/tokenizer/bpe.h"

#include <cstdio>
#include <functional>
#include <queue>
#include <utility>

#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

uint64_t pair_key(int32_t first, int32_t second) {
  return uint64_t{static_cast<uint32_t>(first)} << 32 | static_cast<uint32_t>(second);
}

std::string byte_token(char byte) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned char>(byte));
  return name;
}

// The two parts of a merge, written as a pair or, in older files, with a space between them.
std::pair<std::string, std::string> merge_parts(const Json& merge) {
  if (merge.is_array() && merge.size() == 2) return {text_of(merge[0]), text_of(merge[1])};
  const std::string line = text_of(merge);
  const size_t space = line.find(' ');
  if (space == std::string::npos) return {};
  return {line.substr(0, space), line.substr(space + 1)};
}

}  // namespace

// The symbols of one word: merges the pair of the lowest rank, of equals the leftmost, until no
// pair can be merged. O(n log n) for n symbols.
class Bpe::WordMerger {
 public:
  WordMerger(const Merges& merges, const std::vector<int32_t>& tokens) : merges_(merges) {
    for (const int32_t token : tokens) {
      const int at = static_cast<int>(symbols_.size());
      symbols_.push_back({token, at - 1, at + 1});
    }
    if (!symbols_.empty()) symbols_.back().next = -1;
    for (int at = 0; at < static_cast<int>(symbols_.size()); ++at) consider(at);
  }

  void run() {
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      if (is_current(best)) merge(best);
    }
  }

  void append_to(std::vector<int64_t>& tokens) const {
    for (int at = symbols_.empty() ? -1 : 0; at >= 0; at = symbols_[at].next) {
      tokens.push_back(symbols_[at].token);
    }
  }

 private:
  // next is -1 at the end, previous at the start. A symbol merged into its left one has token -1.
  struct Symbol {
    int32_t token;
    int previous, next;
  };

  // A pair that could be merged when it was found.
  struct Candidate {
    uint32_t rank;
    int left;  // the position of its left symbol
    int32_t first, second, whole;
    bool operator>(const Candidate& other) const {
      return std::pair(rank, left) > std::pair(other.rank, other.left);
    }
  };

  void consider(int left) {
    const int right = left < 0 ? -1 : symbols_[left].next;
    if (right < 0) return;
    const int32_t first = symbols_[left].token, second = symbols_[right].token;
    const auto found = merges_.find(pair_key(first, second));
    if (found == merges_.end()) return;
    candidates_.push({found->second.rank, left, first, second, found->second.whole});
  }

  bool is_current(const Candidate& pair) const {
    const Symbol& left = symbols_[pair.left];
    return left.token == pair.first && left.next >= 0 && symbols_[left.next].token == pair.second;
  }

  void merge(const Candidate& pair) {
    Symbol& left = symbols_[pair.left];
    Symbol& right = symbols_[left.next];
    left.token = pair.whole;
    left.next = right.next;
    if (right.next >= 0) symbols_[right.next].previous = pair.left;
    right.token = -1;
    consider(left.previous);
    consider(pair.left);
  }

  const Merges& merges_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates_;
};

Result<Bpe> Bpe::from_json(const Json& model) {
  const std::string type = text_of(field(model, "type"));
  if (!type.empty() && type != "BPE") return failure("model '", type, "' is not supported");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!text_of(field(model, affix)).empty()) {
      return failure("BPE with ", affix, " is not supported");
    }
  }
  Bpe bpe;
  if (Outcome read = bpe.read_vocabulary(model); !read) return read.failure();
  if (Outcome read = bpe.read_merges(model); !read) return read.failure();
  bpe.unknown_ = bpe.id(text_of(field(model, "unk_token")));
  bpe.byte_fallback_ = flag_of(model, "byte_fallback");
  bpe.fuse_unknown_ = flag_of(model, "fuse_unk");
  bpe.ignore_merges_ = flag_of(model, "ignore_merges");
  return bpe;
}

Outcome Bpe::read_vocabulary(const Json& model) {
  const Json& entries = field(model, "vocab");
  if (!entries.is_object() || entries.empty()) return failure("model.vocab is missing");
  vocabulary_.reserve(entries.size());
  for (const auto& [token, value] : entries.items()) {
    const int64_t index = id_of(value);
    if (index < 0 || index > INT32_MAX) return failure("model.vocab: '", token, "' has no id");
    vocabulary_.emplace(token, static_cast<int32_t>(index));
  }
  return Done{};
}

Outcome Bpe::read_merges(const Json& model) {
  const Json& entries = field(model, "merges");
  if (!entries.is_array()) return failure("model.merges is missing");
  merges_.reserve(entries.size());
  uint32_t rank = 0;
  for (const Json& entry : entries) {
    const auto [left, right] = merge_parts(entry);
    const int64_t first = id(left), second = id(right), whole = id(left + right);
    if (first < 0 || second < 0 || whole < 0) {
      return failure("model.merges: entry ", rank, " is not of two tokens that make a third");
    }
    merges_[pair_key(static_cast<int32_t>(first), static_cast<int32_t>(second))] = {
        rank++, static_cast<int32_t>(whole)};
  }
  return Done{};
}

int64_t Bpe::id(const std::string& token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? -1 : found->second;
}

void Bpe::append_unknown(std::string_view character, bool after_unknown,
                         std::vector<int32_t>& symbols) const {
  std::vector<int32_t> bytes;
  for (const char byte : character) {
    const int64_t index = byte_fallback_ ? id(byte_token(byte)) : -1;
    if (index >= 0) bytes.push_back(static_cast<int32_t>(index));
  }
  if (bytes.size() == character.size()) {
    symbols.insert(symbols.end(), bytes.begin(), bytes.end());
  } else if (unknown_ >= 0 && !(fuse_unknown_ && after_unknown)) {
    symbols.push_back(static_cast<int32_t>(unknown_));
  }
}

std::vector<int32_t> Bpe::characters(const std::string& word) const {
  std::vector<int32_t> symbols;
  bool after_unknown = false;
  for (std::string_view rest = word; !rest.empty();) {
    const std::string_view character = rest.substr(0, static_cast<size_t>(utf8_length(rest)));
    rest.remove_prefix(character.size());
    const int64_t index = id(std::string(character));
    if (index >= 0) {
      symbols.push_back(static_cast<int32_t>(index));
    } else {
      append_unknown(character, after_unknown, symbols);
    }
    after_unknown = !symbols.empty() && symbols.back() == unknown_;
  }
  return symbols;
}

void Bpe::encode(const std::string& word, std::vector<int64_t>& tokens) const {
  if (const int64_t whole = ignore_merges_ ? id(word) : -1; whole >= 0) {
    tokens.push_back(whole);
    return;
  }
  WordMerger merger(merges_, characters(word));
  merger.run();
  merger.append_to(tokens);
}

}  // namespace glass

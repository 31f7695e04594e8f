#include "driver/tokenizer/bpe.h"

#include <cstdio>
#include <functional>
#include <queue>
#include <utility>

#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

std::string byte_token(char byte) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned char>(byte));
  return name;
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
    const Merge* merge = merges_.find(first, second);
    if (merge == nullptr) return;
    candidates_.push({merge->rank, left, first, second, merge->whole});
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

Result<Bpe> Bpe::from_file(TokenizerFile& file) {
  const Json& model = field(file.document.root, "model");
  const std::string type = text_of(field(model, "type"));
  if (!type.empty() && type != "BPE") return failure("model '", type, "' is not supported");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!text_of(field(model, affix)).empty()) {
      return failure("BPE with ", affix, " is not supported");
    }
  }
  Bpe bpe;
  if (file.vocabulary.size() == 0) return failure("model.vocab is missing");
  if (!file.has_merges) return failure("model.merges is missing");
  bpe.vocabulary_ = std::move(file.vocabulary);
  if (Outcome read = bpe.read_merges(file.merges); !read) return read.failure();
  if (bpe.vocabulary_.crowded() || bpe.merges_.crowded()) {
    return failure("model: its tokens are made to be slow to find");
  }
  bpe.unknown_ = bpe.id(text_of(field(model, "unk_token")));
  bpe.byte_fallback_ = flag_of(model, "byte_fallback");
  bpe.fuse_unknown_ = flag_of(model, "fuse_unk");
  bpe.ignore_merges_ = flag_of(model, "ignore_merges");
  return bpe;
}

Outcome Bpe::read_merges(const MergeTexts& texts) {
  merges_.reserve(texts.size());
  std::string both;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    const auto [left, right] = texts[rank];
    both.assign(left).append(right);
    const int64_t first = id(left), second = id(right), whole = id(both);
    if (first < 0 || second < 0 || whole < 0) {
      return failure("model.merges: entry ", rank, " is not of two tokens that make a third");
    }
    merges_.add(static_cast<int32_t>(first), static_cast<int32_t>(second),
                {static_cast<uint32_t>(rank), static_cast<int32_t>(whole)});
  }
  return Done{};
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
    const int64_t index = id(character);
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

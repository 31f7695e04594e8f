#include "driver/tokenizer/tokenizer_file.h"

#include <utility>

#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

// Takes what the parser finds, in order: the vocabulary and the merges apart, the rest as a tree.
class Reader final : public JsonBuilder {
 public:
  explicit Reader(TokenizerFile& file) : JsonBuilder(Whole::kWide), file_(file) {}

  bool null() override { return plain(nullptr); }
  bool boolean(bool flag) override { return plain(flag); }
  bool number_integer(int64_t number) override { return plain(number); }
  bool number_unsigned(uint64_t number) override {
    if (part_ == Part::kVocabulary) return token(number);
    return part_ == Part::kTree ? JsonBuilder::number_unsigned(number) : misplaced();
  }
  bool number_float(double number, const std::string& text) override {
    return part_ == Part::kTree ? JsonBuilder::number_float(number, text) : misplaced();
  }
  bool string(std::string& text) override {
    return part_ == Part::kMerges ? merge_text(text) : plain(std::move(text));
  }

  bool key(std::string& name) override {
    if (part_ == Part::kTree) return JsonBuilder::key(name);
    token_ = std::move(name);
    return true;
  }

  bool start_object(size_t size) override {
    if (part_ != Part::kTree) return misplaced();
    if (is_in_model("vocab")) {
      part_ = Part::kVocabulary;
      return true;
    }
    note_model();
    return JsonBuilder::start_object(size);
  }

  bool end_object() override {
    return std::exchange(part_, Part::kTree) == Part::kTree ? close() : true;
  }

  bool start_array(size_t size) override {
    if (part_ == Part::kMerges) {
      pair_.clear();
      return !std::exchange(in_pair_, true) || misplaced();
    }
    if (part_ != Part::kTree) return misplaced();
    if (is_in_model("merges")) {
      part_ = Part::kMerges;
      file_.has_merges = true;
      return true;
    }
    note_model();
    return JsonBuilder::start_array(size);
  }

  bool end_array() override {
    if (part_ == Part::kTree) return close();
    if (!std::exchange(in_pair_, false)) {
      part_ = Part::kTree;
    } else if (pair_.size() != 2) {
      return misplaced();
    } else {
      file_.merges.add(pair_[0], pair_[1]);
    }
    return true;
  }

 private:
  enum class Part { kTree, kVocabulary, kMerges };

  // Reading ends, but what was read so far tells more than that.
  bool stop(std::string problem) {
    file_.problem = std::move(problem);
    return false;
  }

  bool misplaced() {
    if (part_ == Part::kVocabulary) {
      return stop("model.vocab: '" + shown(token_) + "' has no id from 0 to " +
                  std::to_string(kMostTokenIds - 1));
    }
    return stop("model.merges: entry " + std::to_string(file_.merges.size()) +
                " is not of two tokens");
  }

  bool is_in_model(const char* name) const {
    return depth() == 2 && model_open_ && JsonBuilder::key() == name;
  }

  bool token(uint64_t id) {
    if (id >= uint64_t{kMostTokenIds}) return misplaced();
    file_.vocabulary.add(token_, static_cast<int32_t>(id));
    return true;
  }

  // A pair, or, in older files, one text with a space between the two.
  bool merge_text(std::string& text) {
    if (in_pair_) {
      pair_.push_back(std::move(text));
      return true;
    }
    const size_t space = text.find(' ');
    if (space == std::string::npos) return misplaced();
    const std::string_view line = text;
    file_.merges.add(line.substr(0, space), line.substr(space + 1));
    return true;
  }

  bool plain(Json given) { return part_ == Part::kTree ? value(std::move(given)) : misplaced(); }

  // Whether the list or object that begins now is the model.
  void note_model() {
    if (depth() == 1) model_open_ = JsonBuilder::key() == "model";
  }

  TokenizerFile& file_;
  std::string token_;        // the key in the vocabulary
  bool model_open_ = false;  // whether the second of the open containers is the model
  Part part_ = Part::kTree;
  bool in_pair_ = false;
  std::vector<std::string> pair_;
};

}  // namespace

void MergeTexts::add(std::string_view left, std::string_view right) {
  entries_.push_back({static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(left.size()),
                      static_cast<uint32_t>(right.size())});
  text_.append(left).append(right);
}

MergeTexts::Pair MergeTexts::operator[](size_t rank) const {
  const Entry& entry = entries_[rank];
  const std::string_view both = std::string_view(text_).substr(entry.start);
  return {both.substr(0, entry.left), both.substr(entry.left, entry.right)};
}

Result<TokenizerFile> TokenizerFile::parse(std::string_view text) {
  if (!is_utf8(text)) return failure("not UTF-8 text");
  TokenizerFile file;
  Reader reader(file);
  const bool whole = Json::sax_parse(text, &reader);
  if (!whole && file.problem.empty()) return reader.failure;
  if (!reader.document.root.is_object()) return failure("not a JSON object");
  file.document = std::move(reader.document);
  return file;
}

}  // namespace glass

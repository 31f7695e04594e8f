#include "driver/tokenizer/tokenizer_file.h"

#include <utility>

namespace glass {
namespace {

// Takes what the parser finds, in order.
class Reader final : public Json::json_sax_t {
 public:
  explicit Reader(TokenizerFile& file) : file_(file) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool flag) override { return value(flag); }
  bool number_integer(int64_t number) override { return value(number); }
  bool number_unsigned(uint64_t number) override {
    return part_ == Part::kVocabulary ? token(number) : value(number);
  }
  bool number_float(double number, const std::string&) override { return value(number); }
  bool string(std::string& text) override {
    return part_ == Part::kMerges ? merge_text(text) : value(std::move(text));
  }
  bool binary(Json::binary_t&) override { return false; }

  bool key(std::string& name) override {
    key_ = std::move(name);
    return true;
  }

  bool start_object(size_t) override {
    if (part_ != Part::kTree) return misplaced();
    if (is_in_model("vocab")) {
      part_ = Part::kVocabulary;
      return true;
    }
    return open(Json::object());
  }

  bool end_object() override {
    if (std::exchange(part_, Part::kTree) == Part::kTree) close();
    return true;
  }

  bool start_array(size_t) override {
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
    return open(Json::array());
  }

  bool end_array() override {
    if (part_ == Part::kTree) {
      close();
    } else if (!std::exchange(in_pair_, false)) {
      part_ = Part::kTree;
    } else if (pair_.size() != 2) {
      return misplaced();
    } else {
      file_.merges.add(pair_[0], pair_[1]);
    }
    return true;
  }

  bool parse_error(size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  enum class Part { kTree, kVocabulary, kMerges };

  bool fail(std::string problem) {
    file_.problem = std::move(problem);
    return false;
  }

  bool misplaced() {
    if (part_ == Part::kVocabulary) {
      return fail("model.vocab: '" + key_ + "' has no id from 0 to " +
                  std::to_string(Vocabulary::kMostIds - 1));
    }
    return fail("model.merges: entry " + std::to_string(file_.merges.size()) +
                " is not of two tokens");
  }

  bool is_in_model(const char* name) const {
    return open_.size() == 2 && model_open_ && key_ == name;
  }

  bool token(uint64_t id) {
    if (id >= uint64_t{Vocabulary::kMostIds}) return misplaced();
    file_.vocabulary.add(key_, static_cast<int32_t>(id));
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

  bool value(Json value) {
    return part_ == Part::kTree ? put(std::move(value)) != nullptr : misplaced();
  }

  // Puts a value where it belongs in the tree.
  Json* put(Json value) {
    if (open_.empty()) return &(file_.root = std::move(value));
    Json& parent = *open_.back();
    if (parent.is_object()) return &(parent[key_] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }

  bool open(Json container) {
    if (open_.size() == 1) model_open_ = key_ == "model";
    open_.push_back(put(std::move(container)));
    return true;
  }

  void close() { open_.pop_back(); }

  TokenizerFile& file_;
  std::vector<Json*> open_;  // containers of the tree around the current place
  std::string key_;
  bool model_open_ = false;  // whether the second of them is the model
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

Result<TokenizerFile> TokenizerFile::parse(const std::string& text) {
  TokenizerFile file;
  Reader reader(file);
  const bool whole = Json::sax_parse(text, &reader) && file.root.is_object();
  if (!whole && file.problem.empty()) return failure("not valid JSON");
  return file;
}

}  // namespace glass

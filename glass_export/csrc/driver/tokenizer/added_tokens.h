// The added tokens of a tokenizer.json: cut out of a text before anything else sees it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "driver/json.h"
#include "driver/range.h"
#include "driver/status.h"
#include "driver/tokenizer/normalizer.h"

namespace glass {

// A part of a text: an added token, or, with id -1, what is left between them.
struct Segment {
  std::string text;
  int64_t id;
  Range range;  // in the text that was split
};

class AddedTokens {
 public:
  // Fails when a token wants to be matched as a single word, or to take white space around it.
  static Result<AddedTokens> from_json(const Json& tokens, const Normalizer& normalizer);

  // The segments of a text as given, by the tokens that are matched in it; those between them are
  // to be normalised and split again. Of tokens that begin at the same place the longest counts.
  std::vector<Segment> split(std::string_view text) const { return split_by(raw_, text); }

  // The segments of a normalised text, by the tokens that are matched in that.
  std::vector<Segment> split_normalized(std::string_view text) const {
    return split_by(normalized_, text);
  }

  // What every token reads in the text that the decoder sees; normalised when it is matched so.
  const std::unordered_map<int64_t, std::string>& contents() const { return contents_; }

  // The id of a token as the file writes it, or -1.
  int64_t id(const std::string& content) const;

  bool is_special(int64_t id) const { return special_.count(id) > 0; }

 private:
  // Tokens by first byte, longest first.
  using Index = std::array<std::vector<std::pair<std::string, int64_t>>, 256>;

  static std::vector<Segment> split_by(const Index& index, std::string_view text);

  Index raw_;         // matched in the text as given
  Index normalized_;  // matched in the normalised text
  std::unordered_map<int64_t, std::string> contents_;
  std::unordered_map<std::string, int64_t> ids_;
  std::unordered_set<int64_t> special_;
};

}  // namespace glass

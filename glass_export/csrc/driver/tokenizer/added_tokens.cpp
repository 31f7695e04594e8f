#include "driver/tokenizer/added_tokens.h"

#include <algorithm>

namespace glass {

Result<AddedTokens> AddedTokens::from_json(const Json& tokens, const Normalizer& normalizer) {
  AddedTokens added;
  if (tokens.size() > kMostAddedTokens) {
    return failure("added_tokens: got ", tokens.size(), ", at most ", kMostAddedTokens,
                   " are read");
  }
  for (const Json& token : tokens) {
    const std::string content = text_of(field(token, "content"));
    const int64_t id = id_of(field(token, "id"));
    if (content.empty() || id < 0 || id >= kMostTokenIds) {
      return failure("added_tokens: one has no content or no id");
    }
    for (const char* option : {"single_word", "lstrip", "rstrip"}) {
      if (flag_of(token, option)) {
        return failure("added token '", shown(content), "' with ", option, " is not supported");
      }
    }
    const bool normalized = flag_of(token, "normalized");
    const std::string key = normalized ? normalizer.apply(content) : content;
    const auto first = static_cast<unsigned char>(key.empty() ? '\0' : key[0]);
    if (!key.empty()) (normalized ? added.normalized_ : added.raw_)[first].emplace_back(key, id);
    added.contents_[id] = key;
    added.ids_[content] = id;
    if (flag_of(token, "special")) added.special_.insert(id);
  }
  for (Index* index : {&added.raw_, &added.normalized_}) {
    for (auto& bucket : *index) {
      std::stable_sort(bucket.begin(), bucket.end(), [](const auto& a, const auto& b) {
        return a.first.size() > b.first.size();
      });
    }
  }
  return added;
}

int64_t AddedTokens::id(const std::string& content) const {
  const auto found = ids_.find(content);
  return found == ids_.end() ? -1 : found->second;
}

std::vector<Segment> AddedTokens::split_by(const Index& index, std::string_view text) {
  std::vector<Segment> segments;
  size_t plain = 0;  // where the text since the last token begins
  const auto close = [&](size_t stop) {
    if (stop > plain) {
      segments.push_back({std::string(text.substr(plain, stop - plain)), -1, {plain, stop}});
    }
  };
  for (size_t at = 0; at < text.size();) {
    const auto& bucket = index[static_cast<unsigned char>(text[at])];
    const auto found = std::find_if(bucket.begin(), bucket.end(), [&](const auto& token) {
      return text.compare(at, token.first.size(), token.first) == 0;
    });
    if (found == bucket.end()) {
      ++at;
      continue;
    }
    close(at);
    const size_t stop = at + found->first.size();
    segments.push_back({found->first, found->second, {at, stop}});
    at = stop;
    plain = at;
  }
  close(text.size());
  return segments;
}

}  // namespace glass

#include "driver/tokenizer/pattern_rules.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "driver/limits.h"

namespace glass {
namespace {

constexpr int kMostPatternChoices = 6;
constexpr int kMostPatternDepth = 16;  // groups inside each other
constexpr int kMostPatternCount = 16;  // above, a number of repetitions counts as unbounded
constexpr std::string_view kPlainEscapes = "pPsSdDwWhHnrtfvbBAzZx0";

// What a branch, or a group, makes a matcher try.
struct Cost {
  int choices = 0, unbounded = 0;
  bool fails_late = false;  // whether something that can fail follows a second unbounded quantifier
};

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

class Scanner {
 public:
  explicit Scanner(std::string_view pattern) : rest_(pattern) {}

  // None when a rule is broken.
  std::optional<Cost> run() {
    const std::optional<Cost> cost = alternatives(0);
    return cost && rest_.empty() ? cost : std::nullopt;
  }

 private:
  struct Quantifier {
    bool repeats = false, optional = false, unbounded = false, choice = false;
  };

  bool take(std::string_view text) {
    if (rest_.substr(0, text.size()) != text) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  // Branches up to the end, or to the parenthesis that closes the group.
  std::optional<Cost> alternatives(int depth) {
    Cost worst;
    bool several = false;
    for (;; several = true) {
      const std::optional<Cost> cost = branch(depth);
      if (!cost) return std::nullopt;
      worst.choices = std::max(worst.choices, cost->choices);
      worst.unbounded = std::max(worst.unbounded, cost->unbounded);
      worst.fails_late |= cost->fails_late;
      if (!take("|")) break;
    }
    if (several && depth > 0) ++worst.choices;
    return worst;
  }

  std::optional<Cost> branch(int depth) {
    Cost cost;
    while (!rest_.empty() && rest_[0] != '|' && rest_[0] != ')') {
      const bool group = rest_[0] == '(';
      Cost inner;
      if (group) {
        const std::optional<Cost> read = read_group(depth + 1);
        if (!read) return std::nullopt;
        inner = *read;
      } else if (!read_atom()) {
        return std::nullopt;
      }
      const std::optional<Quantifier> quantifier = read_quantifier();
      if (!quantifier || (group && quantifier->repeats)) {
        return std::nullopt;
      }
      const bool second = cost.unbounded >= 2;
      cost.fails_late |= inner.fails_late || (second && !quantifier->optional);
      cost.choices += inner.choices + (quantifier->choice ? 1 : 0);
      cost.unbounded += inner.unbounded + (quantifier->unbounded ? 1 : 0);
      if (cost.choices > kMostPatternChoices || cost.unbounded > 2 || cost.fails_late) {
        return std::nullopt;
      }
    }
    return cost;
  }

  std::optional<Cost> read_group(int depth) {
    rest_.remove_prefix(1);
    if (depth > kMostPatternDepth) return std::nullopt;
    if (!rest_.empty() && rest_[0] == '?') {
      bool known = false;
      for (const char* start : {"?:", "?i:", "?=", "?!", "?<=", "?<!", "?>"}) {
        known = known || take(start);
      }
      if (!known) return std::nullopt;
    } else if (!rest_.empty() && rest_[0] == '*') {
      return std::nullopt;
    }
    const std::optional<Cost> cost = alternatives(depth);
    return cost && take(")") ? cost : std::nullopt;
  }

  bool read_atom() {
    const char c = rest_[0];
    rest_.remove_prefix(1);
    if (c == '\\') return read_escape();
    if (c == '[') return read_class();
    return c != '*' && c != '+' && c != '?';
  }

  bool read_escape() {
    if (rest_.empty()) return false;
    const char c = rest_[0];
    rest_.remove_prefix(1);
    if (is_alphanumeric(c) && kPlainEscapes.find(c) == kPlainEscapes.npos) return false;
    if ((c != 'p' && c != 'P' && c != 'x') || rest_.empty() || rest_[0] != '{') return true;
    const size_t end = rest_.find('}');
    if (end == rest_.npos) return false;
    rest_.remove_prefix(end + 1);
    return true;
  }

  bool read_class() {
    take("^");
    for (bool first = true; !rest_.empty(); first = false) {
      const char c = rest_[0];
      rest_.remove_prefix(1);
      if (c == ']' && !first) return true;
      if (c == '[') return false;  // classes inside of classes differ between engines
      if (c == '\\' && !read_escape()) return false;
    }
    return false;
  }

  // None when it cannot be.
  std::optional<Quantifier> read_quantifier() {
    Quantifier quantifier;
    if (take("?")) {
      quantifier = {false, true, false, true};
    } else if (take("*")) {
      quantifier = {true, true, true, true};
    } else if (take("+")) {
      quantifier = {true, false, true, true};
    } else if (!rest_.empty() && rest_[0] == '{') {
      if (!read_counts(quantifier)) return std::nullopt;
    } else {
      return quantifier;
    }
    if (!take("?")) take("+");  // lazy, possessive
    return quantifier;
  }

  // {n}, {n,} or {n,m}.
  bool read_counts(Quantifier& quantifier) {
    rest_.remove_prefix(1);
    const std::optional<int> least = read_number();
    if (!least) return false;
    std::optional<int> most = least;
    const bool range = take(",");
    if (range) most = read_number();
    if (!take("}")) return false;
    const bool unbounded = !most || *most > kMostPatternCount || *least > kMostPatternCount;
    quantifier = {true, *least == 0, unbounded, range || unbounded};
    return true;
  }

  std::optional<int> read_number() {
    if (rest_.empty() || rest_[0] < '0' || rest_[0] > '9') return std::nullopt;
    int number = 0;
    for (; !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; rest_.remove_prefix(1)) {
      number = std::min(number * 10 + (rest_[0] - '0'), 1000);
    }
    return number;
  }

  std::string_view rest_;
};

}  // namespace

Outcome check_pattern(std::string_view pattern) {
  if (pattern.size() > kMostPatternBytes) {
    return failure("a regular expression of ", pattern.size(), " bytes, at most ",
                   kMostPatternBytes, " are read");
  }
  if (Scanner(pattern).run()) return Done{};
  return failure(
      "a regular expression that can take too long, or has signs that are not supported");
}

}  // namespace glass

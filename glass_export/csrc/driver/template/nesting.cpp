#include "driver/template/nesting.h"

#include <cstddef>
#include <string>

#include "driver/limits.h"

namespace glass {
namespace {

using Token = jinja::token;

// Blocks around the current place. An `elif` is a block inside of the one before.
class Blocks {
 public:
  // The first word of a statement. `assigns`: of a `set`, that it has no body.
  bool note(const std::string& word, bool assigns) {
    const bool opens = word == "if" || word == "for" || word == "macro" || word == "call" ||
                       word == "filter" || (word == "set" && !assigns);
    if (opens) {
      ++depth_;
    } else if (word == "elif" || word == "else") {
      ++branches_;
    } else if (word.compare(0, 3, "end") == 0 && depth_ > 0 && --depth_ == 0) {
      branches_ = 0;
    }
    return depth_ <= kMostTemplateDepth && branches_ <= kMostTemplateChain;
  }

 private:
  size_t depth_ = 0, branches_ = 0;  // branches of the outermost block and of all inside of it
};

bool opens_bracket(const Token& token) {
  return token.t == Token::open_paren || token.t == Token::open_square_bracket ||
         token.t == Token::open_curly_bracket;
}

bool closes_bracket(const Token& token) {
  return token.t == Token::close_paren || token.t == Token::close_square_bracket ||
         token.t == Token::close_curly_bracket;
}

// The first place at or after `at` where a block ends.
size_t end_of(const std::vector<Token>& tokens, size_t at) {
  while (at < tokens.size() && tokens[at].t != Token::close_statement &&
         tokens[at].t != Token::close_expression) {
    ++at;
  }
  return at;
}

// The signs that a parser follows by calling itself, of tokens first..last-1. What stands between
// two commas is behind it at the second one, as is a bracket that has closed.
bool is_flat(const std::vector<Token>& tokens, size_t first, size_t last) {
  std::vector<size_t> opened = {0};  // signs before each open bracket
  size_t chain = 0;
  for (size_t at = first; at < last; ++at) {
    const bool separates = tokens[at].t == Token::comma || tokens[at].t == Token::colon;
    chain = separates ? opened.back() : chain + 1;
    if (opens_bracket(tokens[at])) opened.push_back(chain);
    if (closes_bracket(tokens[at]) && opened.size() > 1) {
      chain = opened.back();
      opened.pop_back();
    }
    if (opened.size() > kMostTemplateDepth + 1 || chain > kMostTemplateChain) return false;
  }
  return true;
}

}  // namespace

Outcome check_nesting(const jinja::lexer_result& template_tokens) {
  const std::vector<Token>& tokens = template_tokens.tokens;
  const Failure nested = failure("it is nested too deep");
  Blocks blocks;
  for (size_t at = 0; at < tokens.size(); ++at) {
    const bool statement = tokens[at].t == Token::open_statement;
    if (!statement && tokens[at].t != Token::open_expression) continue;
    const size_t first = at + 1, last = end_of(tokens, first);
    if (!is_flat(tokens, first, last)) return nested;
    if (statement && first < last) {
      bool assigns = false;
      for (size_t i = first; i < last; ++i) assigns = assigns || tokens[i].t == Token::equals;
      if (!blocks.note(tokens[first].value, assigns)) return nested;
    }
    at = last;
  }
  return Done{};
}

}  // namespace glass

#include "driver/template/calls.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>

#include "driver/template/budget.h"

namespace glass {
namespace {

constexpr size_t kMostMoves = 1 << 30;  // bytes that one call of the engine may move
constexpr double kMostNumber = 1e6;     // of an argument
constexpr int64_t kMostIndent = 64;
constexpr size_t kMostDateForm = 64;

using Arguments = std::vector<jinja::value>;

template <size_t kCount>
bool is_one_of(const std::string& name, const char* const (&names)[kCount]) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](const char* known) { return name == known; });
}

bool is_beyond(int64_t number) { return std::abs(static_cast<double>(number)) > kMostNumber; }

// How often the second text is in the first.
size_t occurrences(const std::string& text, const std::string& part) {
  if (part.empty()) return text.size() + 1;
  size_t count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

void check_argument(const std::string& name, const jinja::value& argument) {
  const bool keyword = jinja::is_val<jinja::value_kwarg>(argument);
  const jinja::value value =
      keyword ? static_cast<jinja::value_kwarg_t*>(argument.get())->val : argument;
  if (!is_shallow(name)) budget::measure(value);
  if (!jinja::is_val<jinja::value_int>(value)) return;
  const int64_t number = value->as_int();
  if (name != "range" && is_beyond(number)) budget::refuse("a number is too large");
  const bool indents = name == "indent" || name == "tojson";
  if (indents && (number < 0 || number > kMostIndent)) budget::refuse("it indents too far");
}

// Of split, rsplit and replace, by a text.
void check_parts(const std::string& name, const Arguments& arguments) {
  const size_t length = length_of(arguments[0]);
  if (length == 0 || arguments.size() < 2) return;
  if (!jinja::is_val<jinja::value_string>(arguments[1])) return;
  const size_t count =
      occurrences(arguments[0]->as_string().str(), arguments[1]->as_string().str());
  if (count > kMostMoves / length) budget::refuse("a text has too many parts");
  if (name == "replace") budget::charge(count * length_of(arguments.back()));
}

// A range without the list that it would be: its length is known before.
jinja::value checked_range(const jinja::func_args& arguments) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t count = arguments.count();
  for (size_t i = 0; i < count && i < 3; ++i) {
    const jinja::value value = arguments.get_pos(i);
    if (!jinja::is_val<jinja::value_int>(value)) budget::refuse("range() takes whole numbers");
    bounds[i] = value->as_int();
  }
  if (count == 1) std::swap(bounds[0], bounds[1]);
  for (const int64_t bound : bounds) {
    if (is_beyond(bound)) budget::refuse("a range is too long");
  }
  if (bounds[2] != 0) {
    const int64_t steps = (bounds[1] - bounds[0]) / bounds[2];
    if (steps > 0) budget::charge(static_cast<size_t>(steps) * budget::kStepCost);
  }
  return jinja::global_builtins().at("range")(arguments);
}
}  // namespace

bool is_shallow(const std::string& name) {
  constexpr const char* kNames[] = {
      "count", "d",   "default", "first",      "get",    "items",      "keys",  "last",  "length",
      "list",  "map", "reject",  "rejectattr", "select", "selectattr", "slice", "values"};
  return is_one_of(name, kNames);
}

size_t length_of(const jinja::value& value) {
  return jinja::is_val<jinja::value_string>(value) ? value->val_str.length() : 0;
}

void check_call(const std::string& name, const Arguments& arguments) {
  constexpr const char* kChanges[] = {"append", "pop", "insert", "update"};
  constexpr const char* kParts[] = {"split", "rsplit", "replace"};
  if (is_one_of(name, kChanges)) budget::refuse("it changes a list");
  for (const jinja::value& argument : arguments) check_argument(name, argument);
  if (arguments.empty()) return;
  const bool alone = arguments.size() == 1;
  const size_t first = length_of(arguments[0]), last = length_of(arguments.back());
  if (is_one_of(name, kParts)) check_parts(name, arguments);
  if (name == "join") budget::charge(arguments[0]->val_arr.size() * (alone ? 0 : last));
  if (name == "indent") budget::charge(first * (alone ? 4 : std::max<size_t>(last, 64)) / 4);
  if (name == "strftime_now" && last > kMostDateForm) {
    budget::refuse("its form of a date is too long");
  }
}

void limit_functions(jinja::context& context) {
  context.set_val("range", jinja::mk_val<jinja::value_func>("range", checked_range));
}

}  // namespace glass

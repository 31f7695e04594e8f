#include "driver/template_guard.h"

#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <new>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "driver/limits.h"
#include "driver/template_nesting.h"

namespace glass {
namespace {

constexpr size_t kStepCost = 16;        // of the budget, which else counts characters
constexpr size_t kInputFactor = 64;     // of the budget, for each character of the messages
constexpr size_t kMostCallDepth = 200;  // nodes of the program that wait for others
constexpr size_t kMostValueDepth = 64;  // lists and objects inside each other
constexpr size_t kMostMoves = 1 << 30;  // bytes that one call of the engine may move
constexpr double kMostWhole = 9.0e18;   // of a whole number

struct Work {
  size_t left = 0;
  size_t depth = 0;
  bool exceeded = false;
  std::vector<jinja::value> objects;  // that a template can put into themselves
};

thread_local Work* work = nullptr;  // of the rendering on this thread

[[noreturn]] void refuse(const std::string& why) {
  if (work != nullptr) work->exceeded = true;
  throw std::runtime_error(why);
}

void charge(size_t cost) {
  if (work == nullptr || work->left < cost) refuse("it does more than a chat template needs");
  work->left -= cost;
}

// Characters and items of a value and of all in it; looking at an item takes from the budget, too.
size_t measure(const jinja::value& value, size_t depth) {
  if (depth > kMostValueDepth) refuse("its values are nested too deep");
  if (depth > 0) charge(1);
  size_t size = 1;
  if (jinja::is_val<jinja::value_string>(value)) {
    size += value->val_str.length() + value->val_str.parts.size();
  }
  for (const jinja::value& item : value->val_arr) size += measure(item, depth + 1);
  for (const auto& [key, item] : value->val_obj) size += 1 + measure(item, depth + 1);
  if (size > work->left) refuse("its values are too large");
  return size;
}

// Counts the size of a value that was made, and returns it.
jinja::value made(jinja::value value) {
  charge(measure(value, 0));
  return value;
}

// The same of a list of items that are counted already.
jinja::value listed(jinja::value value) {
  if (!jinja::is_val<jinja::value_array>(value)) return made(std::move(value));
  charge(1 + value->val_arr.size());
  return value;
}

// Functions that look at no more than the items of a list, and make no more of them.
bool is_shallow(const std::string& name) {
  constexpr const char* kNames[] = {
      "count", "d",   "default", "first",      "get",    "items",      "keys",  "last",  "length",
      "list",  "map", "reject",  "rejectattr", "select", "selectattr", "slice", "values"};
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](const char* known) { return name == known; });
}

size_t length_of(const jinja::value& value) {
  return jinja::is_val<jinja::value_string>(value) ? value->val_str.length() : 0;
}

// How often the second text is in the first.
size_t occurrences(const std::string& text, const std::string& part) {
  if (part.empty()) return text.size() + 1;
  size_t count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

// Refuses a call of the engine that would make or move too much; `arguments` begin with the object
// that the function belongs to.
void check_call(const std::string& name, const std::vector<jinja::value>& arguments) {
  if (name == "append" || name == "pop" || name == "insert" || name == "update") {
    refuse("it changes a list");
  }
  for (const jinja::value& argument : arguments) {
    const bool keyword = jinja::is_val<jinja::value_kwarg>(argument);
    const jinja::value value =
        keyword ? static_cast<jinja::value_kwarg_t*>(argument.get())->val : argument;
    if (!is_shallow(name)) measure(value, 0);
    const bool whole = jinja::is_val<jinja::value_int>(value);
    if (whole && name != "range" && std::abs(static_cast<double>(value->as_int())) > 1e6) {
      refuse("a number is too large");
    }
    const bool wide = name == "indent" || name == "tojson";
    if (wide && whole && (value->as_int() < 0 || value->as_int() > 64))
      refuse("it indents too far");
  }
  if (arguments.empty()) return;
  const size_t first = length_of(arguments[0]);
  const size_t last = length_of(arguments.back());
  if ((name == "split" || name == "rsplit" || name == "replace") && arguments.size() > 1 &&
      first > 0 && length_of(arguments[1]) + 1 > 0 &&
      jinja::is_val<jinja::value_string>(arguments[1])) {
    const size_t count =
        occurrences(arguments[0]->as_string().str(), arguments[1]->as_string().str());
    if (count > kMostMoves / first) refuse("a text has too many parts");
    if (name == "replace") charge(count * last);
  }
  if (name == "join") charge(arguments[0]->val_arr.size() * (arguments.size() > 1 ? last : 0));
  if (name == "indent") charge(first * (arguments.size() > 1 ? std::max<size_t>(last, 64) : 4) / 4);
  if (name == "strftime_now" && last > 64) refuse("its form of a date is too long");
}

// A range without the list that it would be: its length is known before.
jinja::value checked_range(const jinja::func_args& arguments) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t count = arguments.count();
  for (size_t i = 0; i < count && i < 3; ++i) {
    const jinja::value value = arguments.get_pos(i);
    if (!jinja::is_val<jinja::value_int>(value)) refuse("range() takes whole numbers");
    bounds[i] = value->as_int();
  }
  if (count == 1) std::swap(bounds[0], bounds[1]);
  for (const int64_t bound : bounds) {
    if (std::abs(static_cast<double>(bound)) > 1e6) refuse("a range is too long");
  }
  if (bounds[2] != 0) {
    const int64_t steps = (bounds[1] - bounds[0]) / bounds[2];
    if (steps > 0) charge(static_cast<size_t>(steps) * kStepCost);
  }
  return jinja::global_builtins().at("range")(arguments);
}

// One more node of the program waits for others.
class Deeper {
 public:
  Deeper() {
    charge(kStepCost);
    if (++work->depth > kMostCallDepth) {
      --work->depth;
      refuse("it calls itself too often");
    }
  }
  ~Deeper() { --work->depth; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;
};

struct Constant final : jinja::expression {
  explicit Constant(jinja::value given) : value(std::move(given)) {}
  jinja::value execute_impl(jinja::context&) const override { return value; }
  jinja::value value;
};

jinja::statement_ptr constant(jinja::value value) {
  return std::make_unique<Constant>(std::move(value));
}

// At the start of what may run often.
struct Step final : jinja::statement {
  explicit Step(size_t given) : cost(given) {}
  jinja::value execute_impl(jinja::context&) const override {
    charge(cost);
    return jinja::mk_val<jinja::value_undefined>();
  }
  size_t cost;
};

// A node that counts, around the engine's own.
struct Guarded : jinja::expression {
  explicit Guarded(jinja::statement_ptr given) : inner(std::move(given)) { pos = inner->pos; }
  jinja::statement_ptr inner;
};

// What reads values that are there.
struct Read final : Guarded {
  using Guarded::Guarded;
  jinja::value execute_impl(jinja::context& context) const override {
    const Deeper deeper;
    jinja::value value = inner->execute(context);
    if (jinja::is_val<jinja::value_func>(value)) refuse("a function is used as a value");
    return value;
  }
};

// What makes lists and objects.
struct Literal final : Guarded {
  using Guarded::Guarded;
  jinja::value execute_impl(jinja::context& context) const override {
    const Deeper deeper;
    jinja::value value = made(inner->execute(context));
    if (jinja::is_val<jinja::value_object>(value)) work->objects.push_back(value);
    return value;
  }
};

// What is written into the text.
struct Output final : Guarded {
  using Guarded::Guarded;
  jinja::value execute_impl(jinja::context& context) const override {
    const Deeper deeper;
    return made(inner->execute(context));
  }
};

struct Binary final : Guarded {
  using Guarded::Guarded;
  jinja::value execute_impl(jinja::context& context) const override {
    const Deeper deeper;
    const auto& node = static_cast<const jinja::binary_expression&>(*inner);
    if (node.op.value == "and" || node.op.value == "or") return node.execute_impl(context);
    jinja::value left = node.left->execute(context), right = node.right->execute(context);
    check(node.op.value, left, right);
    const jinja::binary_expression known(node.op, constant(left), constant(right));
    return made(known.execute_impl(context));
  }

 private:
  static void check(const std::string& op, const jinja::value& left, const jinja::value& right) {
    measure(left, 0);
    measure(right, 0);
    const auto is_number = [](const jinja::value& value) {
      return jinja::is_val<jinja::value_int>(value) || jinja::is_val<jinja::value_float>(value);
    };
    if (is_number(left) && is_number(right)) return check_numbers(op, left, right);
    if (op != "*") return;
    const jinja::value& count = is_number(left) ? left : right;
    const double times = is_number(count) ? std::max(count->as_float(), 0.0) : 0;
    const double length = static_cast<double>(length_of(left) + length_of(right) + 1);
    if (!(times * length <= static_cast<double>(work->left))) refuse("a text is too long");
  }

  static void check_numbers(const std::string& op, const jinja::value& left,
                            const jinja::value& right) {
    const double a = left->as_float(), b = right->as_float();
    const double result = op == "+" ? a + b : op == "-" ? a - b : op == "*" ? a * b : 0;
    const bool divided = op == "/" || op == "%";
    if (!(std::abs(result) < kMostWhole) || (divided && (b == 0 || !std::isfinite(a)))) {
      refuse("a number is too large");
    }
  }
};

struct Unary final : Guarded {
  using Guarded::Guarded;
  jinja::value execute_impl(jinja::context& context) const override {
    const Deeper deeper;
    const auto& node = static_cast<const jinja::unary_expression&>(*inner);
    jinja::value value = node.argument->execute(context);
    const bool whole = jinja::is_val<jinja::value_int>(value);
    if (whole && value->as_int() == INT64_MIN) refuse("a number is too large");
    return jinja::unary_expression(node.op, constant(value)).execute_impl(context);
  }
};

struct Call final : Guarded {
  using Guarded::Guarded;
  jinja::value execute_impl(jinja::context& context) const override {
    const Deeper deeper;
    const auto& node = static_cast<const jinja::call_expression&>(*inner);
    jinja::func_args arguments(context);
    for (const auto& argument : node.args) arguments.push_back(argument->execute(context));
    const jinja::value callee = node.callee->execute(context);
    if (!jinja::is_val<jinja::value_func>(callee)) refuse("what it calls is not a function");
    const auto& function = static_cast<const jinja::value_func_t&>(*callee);
    std::vector<jinja::value> given = arguments.get_args();
    if (function.arg0) given.insert(given.begin(), function.arg0);
    check_call(function.name, given);
    jinja::value value = function.invoke(arguments);
    value = is_shallow(function.name) ? listed(std::move(value)) : made(std::move(value));
    if (jinja::is_val<jinja::value_object>(value)) work->objects.push_back(value);
    return value;
  }
};

struct Filter final : Guarded {
  using Guarded::Guarded;
  jinja::value execute_impl(jinja::context& context) const override {
    const Deeper deeper;
    const auto& node = static_cast<const jinja::filter_expression&>(*inner);
    jinja::value operand = node.operand->execute(context);
    const auto* call = jinja::cast_stmt<jinja::call_expression>(node.filter);
    const auto* id =
        jinja::cast_stmt<jinja::identifier>(call == nullptr ? node.filter : call->callee);
    if (id == nullptr) refuse("a filter has no name");
    std::vector<jinja::value> given{operand};
    jinja::statements arguments;
    if (call != nullptr) {
      for (const auto& argument : call->args) {
        given.push_back(argument->execute(context));
        arguments.push_back(constant(given.back()));
      }
    }
    check_call(id->val, given);
    auto name = std::make_unique<jinja::identifier>(id->val);
    jinja::statement_ptr filter = std::move(name);
    if (call != nullptr) {
      filter = std::make_unique<jinja::call_expression>(std::move(filter), std::move(arguments));
    }
    const jinja::filter_expression known(constant(operand), std::move(filter));
    jinja::value value = known.execute_impl(context);
    return is_shallow(id->val) ? listed(std::move(value)) : made(std::move(value));
  }
};

// Puts counting nodes into a program.
class Guard {
 public:
  void all(jinja::statements& body) {
    for (jinja::statement_ptr& node : body) statement(node);
  }

 private:
  template <class Node>
  void wrap(jinja::statement_ptr& node) {
    node = std::make_unique<Node>(std::move(node));
  }

  // The body of a loop or of a macro; a new scope copies all variables.
  void repeated(jinja::statements& body) {
    all(body);
    body.insert(body.begin(), std::make_unique<Step>(kStepCost * (1 + sets_)));
  }

  void statement(jinja::statement_ptr& node) {
    if (auto* branch = jinja::cast_stmt<jinja::if_statement>(node)) {
      value(branch->test);
      all(branch->body);
      all(branch->alternate);
    } else if (auto* loop = jinja::cast_stmt<jinja::for_statement>(node)) {
      this->loop(*loop);
    } else if (auto* set = jinja::cast_stmt<jinja::set_statement>(node)) {
      ++sets_;
      if (set->val) value(set->val);
      all(set->body);
    } else if (auto* macro = jinja::cast_stmt<jinja::macro_statement>(node)) {
      ++sets_;
      sets_ += macro->args.size();
      arguments(macro->args, false);
      repeated(macro->body);
    } else if (auto* call = jinja::cast_stmt<jinja::call_statement>(node)) {
      auto* inner = jinja::cast_stmt<jinja::call_expression>(call->call);
      if (inner == nullptr || !jinja::is_stmt<jinja::identifier>(inner->callee)) {
        refuse("a call block calls no macro");
      }
      arguments(inner->args, true);
      arguments(call->caller_args, false);
      repeated(call->body);
    } else if (jinja::is_stmt<jinja::expression>(node)) {
      value(node);
      wrap<Output>(node);
    } else if (jinja::is_stmt<jinja::filter_statement>(node)) {
      refuse("filter blocks are not supported");
    }
  }

  void loop(jinja::for_statement& node) {
    ++sets_;
    if (auto* select = jinja::cast_stmt<jinja::select_expression>(node.iterable)) {
      value(select->lhs);
      value(select->test);
    } else {
      value(node.iterable);
    }
    repeated(node.body);
    all(node.default_block);
  }

  // Of calls, or, with their defaults, of macros.
  void arguments(jinja::statements& list, bool called) {
    for (jinja::statement_ptr& node : list) {
      if (auto* keyword = jinja::cast_stmt<jinja::keyword_argument_expression>(node)) {
        value(keyword->val);
      } else if (jinja::is_stmt<jinja::spread_expression>(node)) {
        refuse("arguments out of a list are not supported");
      } else if (called) {
        value(node);
      }
    }
  }

  void optional(jinja::statement_ptr& node) {
    if (node) value(node);
  }

  void member(jinja::member_expression& node) {
    value(node.object);
    if (!node.computed) return;
    if (auto* slice = jinja::cast_stmt<jinja::slice_expression>(node.property)) {
      optional(slice->start_expr);
      optional(slice->stop_expr);
      optional(slice->step_expr);
    } else {
      value(node.property);
    }
  }

  void call(jinja::call_expression& node) {
    arguments(node.args, true);
    if (auto* callee = jinja::cast_stmt<jinja::member_expression>(node.callee)) {
      member(*callee);
    } else if (!jinja::is_stmt<jinja::identifier>(node.callee)) {
      refuse("what it calls has no name");
    }
  }

  // A filter, or a test: a name, or a call of one.
  void named(jinja::statement_ptr& node) {
    if (auto* call = jinja::cast_stmt<jinja::call_expression>(node)) arguments(call->args, true);
  }

  void value(jinja::statement_ptr& node) {
    if (jinja::is_stmt<jinja::identifier>(node)) {
      wrap<Read>(node);
    } else if (auto* member = jinja::cast_stmt<jinja::member_expression>(node)) {
      this->member(*member);
      wrap<Read>(node);
    } else if (auto* call = jinja::cast_stmt<jinja::call_expression>(node)) {
      this->call(*call);
      wrap<Call>(node);
    } else if (auto* filter = jinja::cast_stmt<jinja::filter_expression>(node)) {
      value(filter->operand);
      named(filter->filter);
      wrap<Filter>(node);
    } else if (auto* binary = jinja::cast_stmt<jinja::binary_expression>(node)) {
      value(binary->left);
      value(binary->right);
      wrap<Binary>(node);
    } else {
      other_value(node);
    }
  }

  void other_value(jinja::statement_ptr& node) {
    if (auto* unary = jinja::cast_stmt<jinja::unary_expression>(node)) {
      value(unary->argument);
      wrap<Unary>(node);
    } else if (auto* test = jinja::cast_stmt<jinja::test_expression>(node)) {
      // Whether a function is there may be asked.
      if (!jinja::is_stmt<jinja::identifier>(test->operand)) value(test->operand);
      named(test->test);
      wrap<Read>(node);
    } else if (auto* select = jinja::cast_stmt<jinja::select_expression>(node)) {
      value(select->lhs);
      value(select->test);
    } else if (auto* ternary = jinja::cast_stmt<jinja::ternary_expression>(node)) {
      value(ternary->condition);
      value(ternary->true_expr);
      value(ternary->false_expr);
      wrap<Read>(node);
    } else if (auto* list = jinja::cast_stmt<jinja::array_literal>(node)) {
      arguments(list->val, true);
      wrap<Literal>(node);
    } else if (auto* tuple = jinja::cast_stmt<jinja::tuple_literal>(node)) {
      arguments(tuple->val, true);
      wrap<Literal>(node);
    } else if (auto* object = jinja::cast_stmt<jinja::object_literal>(node)) {
      for (auto& [key, item] : object->val) {
        value(key);
        value(item);
      }
      wrap<Literal>(node);
    } else if (jinja::is_stmt<jinja::spread_expression>(node) ||
               jinja::is_stmt<jinja::slice_expression>(node)) {
      refuse("it is not of a form that is supported");
    }
  }

  size_t sets_ = 0;  // variables that there can be
};

// The first line of what the engine says; the others point into the template.
std::string first_line(const char* what) {
  const std::string text = what;
  return text.substr(0, std::min<size_t>(text.find('\n'), 200));
}

}  // namespace

void pass_on_no_memory(const std::exception& problem) {
  const std::string_view text = problem.what();
  if (text.empty() || text.find(std::bad_alloc().what()) != text.npos) throw std::bad_alloc();
}

Outcome parse_template(const std::string& source, jinja::program& program) {
  if (source.size() > kMostTemplateBytes) {
    return failure("it has ", source.size(), " bytes, at most ", kMostTemplateBytes, " are read");
  }
  try {
    jinja::lexer lexer;
    const jinja::lexer_result tokens = lexer.tokenize(source);
    if (Outcome flat = check_nesting(tokens); !flat) return flat;
    program = jinja::parse_from_tokens(tokens);
    Guard().all(program.body);
    return Done{};
  } catch (const std::exception& problem) {
    pass_on_no_memory(problem);
    return failure(first_line(problem.what()));
  }
}

TemplateBudget::TemplateBudget(size_t input) {
  delete std::exchange(work, new Work);
  work->left = kMostTemplateWork + kInputFactor * input;
}

bool TemplateBudget::exceeded() const { return work->exceeded; }

TemplateBudget::~TemplateBudget() {
  for (const jinja::value& object : work->objects) object->val_obj.clear();
  delete std::exchange(work, nullptr);
}

void limit_functions(jinja::context& context) {
  context.set_val("range", jinja::mk_val<jinja::value_func>("range", checked_range));
}

}  // namespace glass

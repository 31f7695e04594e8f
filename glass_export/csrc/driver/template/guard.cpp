#include "driver/template/guard.h"

#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>

#include <algorithm>
#include <new>
#include <utility>

#include "driver/json.h"
#include "driver/limits.h"
#include "driver/template/budget.h"
#include "driver/template/nesting.h"
#include "driver/template/nodes.h"

namespace glass {
namespace {

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
    body.insert(body.begin(), std::make_unique<Step>(budget::kStepCost * (1 + sets_)));
  }

  void statement(jinja::statement_ptr& node) {
    if (jinja::is_stmt<jinja::expression>(node)) {
      value(node);
      wrap<Output>(node);
    } else {
      block(node);
      wrap<Watched>(node);
    }
  }

  void block(jinja::statement_ptr& node) {
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
        budget::refuse("a call block calls no macro");
      }
      wrap<Watched>(inner->callee);
      arguments(inner->args, true);
      arguments(call->caller_args, false);
      repeated(call->body);
    } else if (jinja::is_stmt<jinja::filter_statement>(node)) {
      budget::refuse("filter blocks are not supported");
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
        if (called) wrap<Watched>(node);
      } else if (jinja::is_stmt<jinja::spread_expression>(node)) {
        budget::refuse("arguments out of a list are not supported");
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
      budget::refuse("what it calls has no name");
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
      if (jinja::is_stmt<jinja::identifier>(test->operand)) {
        wrap<Watched>(test->operand);
      } else {
        value(test->operand);
      }
      named(test->test);
      wrap<Read>(node);
    } else if (auto* select = jinja::cast_stmt<jinja::select_expression>(node)) {
      value(select->lhs);
      value(select->test);
      wrap<Watched>(node);
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
      budget::refuse("it is not of a form that is supported");
    } else {
      wrap<Watched>(node);
    }
  }

  size_t sets_ = 0;  // variables that there can be
};

}  // namespace

std::string engine_message(const std::exception& problem) {
  constexpr std::string_view kWrapped = "\nError executing ", kRaised = "Jinja Exception: ";
  constexpr size_t kLongest = 200;
  std::string_view text = problem.what();
  if (text.substr(0, kWrapped.size()) == kWrapped) {  // the kind of node at position N: text
    const size_t colon = text.find(": ");
    if (colon == text.npos) throw std::bad_alloc();
    text.remove_prefix(colon + 2);
  } else {
    text = text.substr(0, text.find('\n'));  // an excerpt of the template follows
  }
  if (text.substr(0, kRaised.size()) == kRaised) text.remove_prefix(kRaised.size());
  return text.empty() ? "its engine does not say why" : shown(text, kLongest);
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
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& problem) {
    return failure(engine_message(problem));
  }
}

}  // namespace glass

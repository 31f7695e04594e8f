#include "driver/template/nodes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "driver/template/budget.h"
#include "driver/template/calls.h"

namespace glass {
namespace {

constexpr double kMostWhole = 9.0e18;  // of a whole number

struct Constant final : jinja::expression {
  explicit Constant(jinja::value given) : value(std::move(given)) { pos = 0; }
  jinja::value execute_impl(jinja::context&) const override { return value; }
  jinja::value value;
};

jinja::statement_ptr constant(jinja::value value) {
  return std::make_unique<Constant>(std::move(value));
}

// Calls what belongs to a node; notes when there is no memory.
template <class Function>
jinja::value watched(const Function& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    budget::note_no_memory();
    throw;
  }
}

bool is_number(const jinja::value& value) {
  return jinja::is_val<jinja::value_int>(value) || jinja::is_val<jinja::value_float>(value);
}

void check_numbers(const std::string& op, const jinja::value& left, const jinja::value& right) {
  const double a = left->as_float(), b = right->as_float();
  const double result = op == "+" ? a + b : op == "-" ? a - b : op == "*" ? a * b : 0;
  const bool divided = op == "/" || op == "%";
  if (!(std::abs(result) < kMostWhole) || (divided && (b == 0 || !std::isfinite(a)))) {
    budget::refuse("a number is too large");
  }
}

void check_operands(const std::string& op, const jinja::value& left, const jinja::value& right) {
  budget::measure(left);
  budget::measure(right);
  if (is_number(left) && is_number(right)) return check_numbers(op, left, right);
  if (op != "*") return;
  const jinja::value& count = is_number(left) ? left : right;
  const double times = is_number(count) ? std::max(count->as_float(), 0.0) : 0;
  const double length = static_cast<double>(length_of(left) + length_of(right) + 1);
  if (!(times * length <= static_cast<double>(budget::left())))
    budget::refuse("a text is too long");
}

// What a function of that name gave.
jinja::value counted(const std::string& function, jinja::value value) {
  return is_shallow(function) ? budget::listed(std::move(value)) : budget::made(std::move(value));
}

}  // namespace

jinja::value Step::execute_impl(jinja::context&) const {
  return watched([&]() -> jinja::value {
    budget::charge(cost);
    return jinja::mk_val<jinja::value_undefined>();
  });
}

jinja::value Watched::execute_impl(jinja::context& context) const {
  return watched([&] { return inner->execute_impl(context); });
}

jinja::value Guarded::execute_impl(jinja::context& context) const {
  return watched([&] {
    const budget::Deeper deeper;
    return run(context);
  });
}

jinja::value Read::run(jinja::context& context) const {
  jinja::value value = inner->execute_impl(context);
  if (jinja::is_val<jinja::value_func>(value)) budget::refuse("a function is used as a value");
  return value;
}

jinja::value Literal::run(jinja::context& context) const {
  jinja::value value = budget::made(inner->execute_impl(context));
  budget::keep(value);
  return value;
}

jinja::value Output::run(jinja::context& context) const {
  return budget::made(inner->execute_impl(context));
}

jinja::value Binary::run(jinja::context& context) const {
  const auto& node = static_cast<const jinja::binary_expression&>(*inner);
  if (node.op.value == "and" || node.op.value == "or") return node.execute_impl(context);
  jinja::value left = node.left->execute(context), right = node.right->execute(context);
  check_operands(node.op.value, left, right);
  const jinja::binary_expression known(node.op, constant(left), constant(right));
  return budget::made(known.execute_impl(context));
}

jinja::value Unary::run(jinja::context& context) const {
  const auto& node = static_cast<const jinja::unary_expression&>(*inner);
  jinja::value value = node.argument->execute(context);
  const bool whole = jinja::is_val<jinja::value_int>(value);
  if (whole && value->as_int() == INT64_MIN) budget::refuse("a number is too large");
  return jinja::unary_expression(node.op, constant(value)).execute_impl(context);
}

jinja::value Call::run(jinja::context& context) const {
  const auto& node = static_cast<const jinja::call_expression&>(*inner);
  jinja::func_args arguments(context);
  for (const auto& argument : node.args) arguments.push_back(argument->execute(context));
  const jinja::value callee = node.callee->execute_impl(context);
  if (!jinja::is_val<jinja::value_func>(callee)) budget::refuse("what it calls is not a function");
  const auto& function = static_cast<const jinja::value_func_t&>(*callee);
  std::vector<jinja::value> given = arguments.get_args();
  if (function.arg0) given.insert(given.begin(), function.arg0);
  check_call(function.name, given);
  jinja::value value = counted(function.name, function.invoke(arguments));
  budget::keep(value);
  return value;
}

jinja::value Filter::run(jinja::context& context) const {
  const auto& node = static_cast<const jinja::filter_expression&>(*inner);
  jinja::value operand = node.operand->execute(context);
  const auto* call = jinja::cast_stmt<jinja::call_expression>(node.filter);
  const auto* id =
      jinja::cast_stmt<jinja::identifier>(call == nullptr ? node.filter : call->callee);
  if (id == nullptr) budget::refuse("a filter has no name");
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
  return counted(id->val, known.execute_impl(context));
}

}  // namespace glass

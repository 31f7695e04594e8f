// Outcomes that carry a message for people: a value, or what went wrong and what to do.
#pragma once

#include <sstream>
#include <string>
#include <utility>
#include <variant>

namespace glass::run {

// Why a call failed: what, got, expected, what to do. One line.
struct Failure {
  std::string message;
};

// A Failure whose message is the parts, one after the other.
template <class... Parts>
Failure failure(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return {text.str()};
}

// A value of type T, or a Failure. The value may be read only when the result is true.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() { return *std::get_if<0>(&state_); }
  const T& operator*() const { return *std::get_if<0>(&state_); }
  T* operator->() { return std::get_if<0>(&state_); }
  const Failure& failure() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Failure> state_;
};

struct Done {};

// Success without a value, or a Failure.
using Outcome = Result<Done>;

}  // namespace glass::run

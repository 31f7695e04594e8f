// Outcomes that carry a message for people: a value, or what went wrong and what to do.
#pragma once

#include <sstream>
#include <string>
#include <utility>
#include <variant>

#include "driver/artifact_code.h"

namespace glass {

// What kind of failure it is, for programs; the message is for people.
enum class ErrorCode {
  kFailed = 0,           // not classified yet
  kInvalidArgument = 1,  // the request cannot be carried out as it is
  kArtifact = 2,         // missing, damaged, of another version or not supported by this build
  kOutOfMemory = 3,      // the memory that is available is not enough
  kContextFull = 4,      // more tokens than the context holds
  kCancelled = 5,        // by the caller
  kEngine = 6,           // the runtime failed
};

// Why a call failed: what, got, expected, what to do. One line.
struct Failure {
  std::string message;
  ErrorCode code = ErrorCode::kFailed;
  ArtifactCode artifact = ArtifactCode::kNone;  // of kArtifact, what is wrong with it

  // The same, classified unless it is already.
  Failure as(ErrorCode wanted) const {
    return {message, code == ErrorCode::kFailed ? wanted : code, artifact};
  }

  // The same as a fault of an artifact, whose kind is `wanted` unless it is known already.
  Failure as(ArtifactCode wanted) const {
    return {message, code == ErrorCode::kFailed ? ErrorCode::kArtifact : code,
            artifact == ArtifactCode::kNone ? wanted : artifact};
  }
};

// A Failure whose message is the parts, one after the other.
template <class... Parts>
Failure failure(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return {text.str(), ErrorCode::kFailed, ArtifactCode::kNone};
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
  const T* operator->() const { return std::get_if<0>(&state_); }
  const Failure& failure() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Failure> state_;
};

struct Done {};

// Success without a value, or a Failure.
using Outcome = Result<Done>;

}  // namespace glass

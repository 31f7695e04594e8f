#include "glass/base.h"

namespace glass {

const char* status_message(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kInvalidArgument:
      return "a size, shape or parameter is out of its range";
    case Status::kScratchTooSmall:
      return "the scratch memory is smaller than the function needs";
    case Status::kIndexOutOfRange:
      return "a neuron index is negative or not below the FFN width";
    case Status::kIndexNotAscending:
      return "neuron indices are not strictly ascending";
    case Status::kNotFinite:
      return "a score is NaN or infinite";
    case Status::kNoScoredToken:
      return "no prompt token was scored";
    case Status::kContextFull:
      return "the tokens do not fit into the key/value cache";
    case Status::kPaddingMisplaced:
      return "padding (-1) of a row of neurons precedes an index, or is the whole row";
  }
  return "unknown status";
}

Parallel serial() {
  const auto run = [](void*, int64_t count, Parallel::Task task, void* arg) {
    for (int64_t i = 0; i < count; ++i) task(arg, i);
  };
  return {nullptr, 1, run};
}

}  // namespace glass

// The command line of glass_run.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "run/selection.h"
#include "run/status.h"

namespace glass::run {

struct Options {
  std::string directory;  // the artifact
  std::string prompt;
  std::string ids_file;  // "-" is standard input; either this or the prompt is given
  int64_t max_new_tokens = 128;
  int64_t threads = 0;  // 0: the runtime decides
  bool print_ids = false;
  bool json = false;
  bool help = false;
  std::vector<std::pair<std::string, std::string>> selection;  // what replaces the defaults
};

// Fails when a flag is unknown, repeated, incomplete or ill-typed; nothing is read from disk.
Result<Options> parse_options(int count, const char* const* arguments);

// The artifact's defaults with the user's settings instead. parse_options has checked them. The
// sensitivity belongs to shrinkage: with another fusion it is 0 unless the user gives it, too.
SelectionSettings selection_of(const Options& options, SelectionSettings defaults);

// What --help prints.
const char* usage();

}  // namespace glass::run

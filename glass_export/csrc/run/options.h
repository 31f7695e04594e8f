// The command line of glass_run.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "driver/sampler.h"
#include "driver/signature.h"
#include "driver/status.h"

namespace glass {

struct Options {
  std::string directory;  // the artifact
  std::string prompt;     // one of this,
  std::string chat;       // this
  std::string ids_file;   // and this is given; "-" is standard input
  int64_t max_new_tokens = 128;
  int64_t threads = 0;  // 0: the runtime decides
  TrustedKeys trusted_keys;
  bool print_ids = false;
  bool json = false;
  bool help = false;
  SamplingSettings sampling;
  std::vector<std::string> stop;
  std::vector<std::pair<std::string, std::string>> selection;  // what replaces the defaults
};

// Fails when a flag is unknown, repeated, incomplete or ill-typed; nothing is read from disk.
Result<Options> parse_options(int count, const char* const* arguments);

// What --help prints.
const char* usage();

}  // namespace glass

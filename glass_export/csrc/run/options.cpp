#include "run/options.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <string_view>

#include "driver/number.h"
#include "driver/selection.h"

namespace glass {
namespace {

constexpr const char* kSelection[] = {"density",      "fusion",  "local",      "local-tokens",
                                      "prior",        "lam",     "tau",        "sensitivity",
                                      "dense-layers", "refresh", "dense-start"};

constexpr const char* kUsage =
    R"(usage: glass_run DIR (--prompt TEXT | --chat TEXT | --ids FILE) [options]

Answers a prompt with an artifact of glass-export: a dense prefill, the choice of FFN neurons for
this prompt, then decoding with those alone. The text goes to standard output, figures to standard
error.

  DIR                   the artifact: a directory that an export wrote
  --prompt TEXT         the text to continue
  --chat TEXT           a user's message, which is put into the model's chat template
  --ids FILE            token ids instead, separated by white space; - reads standard input
  --max-new-tokens N    most tokens of the answer (128)
  --threads N           threads of the runtime; by default it decides
  --trusted-key KEY     public key (base64) that must have signed the artifact, or several,
                        separated by blanks; every file is then checked
  --print-ids           print the answer's token ids on one line instead of its text
  --json                print one line of JSON with ids, text and figures instead of the text
  --stop TEXT           end the answer before this text
  --help                print this and exit

How tokens are chosen; the most likely one by default:
  --temperature X       divides the logits; 0 takes the most likely token
  --top-k N             keep the N most likely tokens; 0 keeps all
  --top-p X             keep the fewest tokens whose probabilities reach X; 1 keeps all
  --min-p X             keep tokens at least this share as likely as the most likely; 0 keeps all
  --repetition-penalty X
                        above 1 makes tokens of prompt and answer less likely
  --seed N              of the random numbers; by default another one each time

How neurons are chosen; the defaults are the artifact's:
  --density X           share of neurons to keep, above 0 to 1; 1 is the dense model
  --fusion NAME         borda, shrinkage, local or global
  --local NAME          local scores: A, griffin or squared
  --local-tokens WHICH  prompt tokens that local scores cover: user (all but special ones) or all
  --prior NAME          global prior: A, I, G or F
  --lam X               weight of the prior in borda, 0 to 1
  --tau X               weight of the prior in shrinkage, in tokens
  --sensitivity X       power of F / G in shrinkage: 0, 0.25, 0.5 or 1
  --dense-layers LIST   layers that keep all neurons, such as 0,29, or none
  --refresh N           choose again after every N decoded tokens, which are then computed once
                        more with all neurons; auto is every 32 until that changes little, off is
                        never
  --dense-start N       decode the first N tokens with all neurons, then choose

Exit status: 0 done, 1 failed, 2 wrong usage.
)";

bool is_selection(std::string_view name) {
  return std::find(std::begin(kSelection), std::end(kSelection), name) != std::end(kSelection);
}

Outcome assign_count(int64_t& target, const std::string& name, const std::string& value) {
  const std::optional<int64_t> number = parse_integer(value);
  if (!number || *number < 1 || *number > std::numeric_limits<int32_t>::max()) {
    return failure("--", name, ": got '", value, "', expected a whole number of at least 1");
  }
  target = *number;
  return Done{};
}

// Sets an option without a value; false when there is none of this name.
bool set_switch(Options& options, const std::string& name) {
  if (name == "help") return options.help = true;
  if (name == "json") return options.json = true;
  if (name == "print-ids") return options.print_ids = true;
  return false;
}

bool is_text(std::string_view name) {
  return name == "prompt" || name == "chat" || name == "ids" || name == "stop";
}

bool is_sampling(std::string_view name) {
  return name == "temperature" || name == "top-k" || name == "top-p" || name == "min-p" ||
         name == "repetition-penalty" || name == "seed";
}

bool takes_value(std::string_view name) {
  return is_selection(name) || is_sampling(name) || is_text(name) || name == "max-new-tokens" ||
         name == "threads" || name == "trusted-key";
}

Outcome set_sampling(SamplingSettings& sampling, const std::string& name,
                     const std::string& value) {
  const std::optional<double> number = parse_number(value);
  if (!number) return failure("--", name, ": got '", value, "', expected a number");
  if (name == "seed" || name == "top-k") {
    const std::optional<int64_t> whole = parse_integer(value);
    if (!whole || *whole < 0) {
      return failure("--", name, ": got '", value, "', expected a whole number of 0 or more");
    }
    if (name == "seed") sampling.seed = static_cast<uint64_t>(*whole);
    if (name == "top-k") sampling.top_k = *whole;
  }
  if (name == "temperature") sampling.temperature = *number;
  if (name == "top-p") sampling.top_p = *number;
  if (name == "min-p") sampling.min_p = *number;
  if (name == "repetition-penalty") sampling.repetition_penalty = *number;
  return check_sampling(sampling);
}

Outcome set_text(Options& options, const std::string& name, const std::string& value) {
  if (value.empty()) return failure("--", name, ": it is empty; pass some text");
  if (name == "prompt") options.prompt = value;
  if (name == "chat") options.chat = value;
  if (name == "ids") options.ids_file = value;
  if (name == "stop") options.stop.push_back(value);
  return Done{};
}

Outcome set_trusted_keys(Options& options, const std::string& value) {
  Result<TrustedKeys> keys = parse_trusted_keys(value);
  if (!keys) return failure("--trusted-key: ", keys.failure().message);
  options.trusted_keys = std::move(*keys);
  return Done{};
}

Outcome set_value(Options& options, const std::string& name, const std::string& value) {
  if (name == "max-new-tokens") return assign_count(options.max_new_tokens, name, value);
  if (name == "threads") return assign_count(options.threads, name, value);
  if (name == "trusted-key") return set_trusted_keys(options, value);
  if (is_sampling(name)) return set_sampling(options.sampling, name, value);
  if (is_text(name)) return set_text(options, name, value);
  SelectionSettings scratch;
  Outcome valid = assign(scratch, name, value);
  if (!valid) return failure("--", valid.failure().message);
  options.selection.emplace_back(name, value);
  return Done{};
}

Outcome check_complete(const Options& options) {
  if (options.help) return Done{};
  if (options.directory.empty()) return failure("got no artifact directory; see --help");
  if (options.prompt.empty() + options.chat.empty() + options.ids_file.empty() != 2) {
    return failure("expected one of --prompt TEXT, --chat TEXT and --ids FILE; see --help");
  }
  if (options.json && options.print_ids) {
    return failure("--json and --print-ids exclude each other; the JSON holds the ids");
  }
  return Done{};
}

}  // namespace

Result<Options> parse_options(int count, const char* const* arguments) {
  Options options;
  std::set<std::string> seen;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument.rfind("--", 0) != 0) {
      if (!options.directory.empty()) {
        return failure("got a second directory, '", argument, "'; expected one; see --help");
      }
      options.directory = argument;
      continue;
    }
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals == argument.npos ? equals : equals - 2);
    if (!seen.insert(name).second) return failure("--", name, ": given twice, expected once");
    if (equals == argument.npos && set_switch(options, name)) continue;
    if (!takes_value(name)) return failure("'", argument, "' is not an option; see --help");
    if (equals == argument.npos && ++i == count) return failure("--", name, ": expected a value");
    const std::string value = equals == argument.npos ? arguments[i] : argument.substr(equals + 1);
    if (Outcome set = set_value(options, name, value); !set) return set.failure();
  }
  if (Outcome complete = check_complete(options); !complete) return complete.failure();
  return options;
}

const char* usage() { return kUsage; }

}  // namespace glass

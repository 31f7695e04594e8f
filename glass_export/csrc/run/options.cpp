#include "run/options.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <string_view>

#include "run/number.h"

namespace glass::run {
namespace {

constexpr const char* kSelection[] = {"density",      "fusion",  "local",      "local-tokens",
                                      "prior",        "lam",     "tau",        "sensitivity",
                                      "dense-layers", "refresh", "dense-start"};

constexpr const char* kUsage =
    R"(usage: glass_run DIR (--prompt TEXT | --ids FILE) [options]

Continues a prompt with an artifact that glass-export made for the target executorch: a dense
prefill, the choice of FFN neurons for this prompt, then greedy decoding with those alone. The text
goes to standard output, figures to standard error.

  DIR                   the artifact: a directory with model.pte and tokenizer.json
  --prompt TEXT         the text to continue
  --ids FILE            token ids instead, separated by white space; - reads standard input
  --max-new-tokens N    most tokens of the answer (128)
  --threads N           threads of the runtime; by default it decides
  --print-ids           print the answer's token ids on one line instead of its text
  --json                print one line of JSON with ids, text and figures instead of the text
  --help                print this and exit

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

bool takes_value(const std::string& name) {
  return is_selection(name) || name == "prompt" || name == "ids" || name == "max-new-tokens" ||
         name == "threads";
}

Outcome set_value(Options& options, const std::string& name, const std::string& value) {
  if (name == "max-new-tokens") return assign_count(options.max_new_tokens, name, value);
  if (name == "threads") return assign_count(options.threads, name, value);
  if (is_selection(name)) {
    SelectionSettings scratch;
    Outcome valid = assign(scratch, name, value);
    if (!valid) return failure("--", valid.failure().message);
    options.selection.emplace_back(name, value);
    return Done{};
  }
  if (value.empty()) return failure("--", name, ": it is empty; pass some text");
  (name == "prompt" ? options.prompt : options.ids_file) = value;
  return Done{};
}

Outcome check_complete(const Options& options) {
  if (options.help) return Done{};
  if (options.directory.empty()) return failure("got no artifact directory; see --help");
  if (options.prompt.empty() == options.ids_file.empty()) {
    return failure("expected either --prompt TEXT or --ids FILE; see --help");
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

SelectionSettings selection_of(const Options& options, SelectionSettings defaults) {
  bool fused = false, sensitive = false;
  for (const auto& [name, value] : options.selection) {
    static_cast<void>(static_cast<bool>(assign(defaults, name, value)));
    fused |= name == "fusion";
    sensitive |= name == "sensitivity";
  }
  if (fused && !sensitive && defaults.rule.fusion != Fusion::kShrinkage) defaults.sensitivity = 0;
  return defaults;
}

const char* usage() { return kUsage; }

}  // namespace glass::run

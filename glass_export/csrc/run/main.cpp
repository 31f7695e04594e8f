// glass_run: answers a prompt with an exported artifact.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <new>
#include <optional>

#include "driver/number.h"
#include "driver/session.h"
#include "run/options.h"
#include "run/report.h"

namespace glass {
namespace {

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

Result<std::vector<int64_t>> read_ids(const std::string& path) {
  std::ifstream file;
  if (path != "-") file.open(path);
  std::istream& input = path == "-" ? std::cin : file;
  if (!input) return failure("--ids: cannot read ", path, "; give a file of token ids");
  std::vector<int64_t> ids;
  for (std::string word; input >> word;) {
    const std::optional<int64_t> id = parse_integer(word);
    if (!id) return failure("--ids: got '", word, "', expected whole numbers");
    ids.push_back(*id);
  }
  return ids;
}

Result<Prompt> read_prompt(const Options& options) {
  Prompt prompt;
  prompt.text = options.prompt;
  if (!options.chat.empty()) prompt.messages = {{"user", options.chat}};
  if (options.ids_file.empty()) return prompt;
  Result<std::vector<int64_t>> tokens = read_ids(options.ids_file);
  if (!tokens) return tokens.failure();
  if (tokens->empty()) return failure("--ids: got no tokens, expected at least one");
  prompt.tokens = std::move(*tokens);
  return prompt;
}

Result<Answer> answer(const Options& options, Session& session) {
  Request request;
  Result<SelectionSettings> selection =
      selection_with(session.artifact().defaults, options.selection);
  if (!selection) return selection.failure();
  Result<Prompt> prompt = read_prompt(options);
  if (!prompt) return prompt.failure();
  request.prompt = std::move(*prompt);
  request.selection = std::move(*selection);
  request.sampling = options.sampling;
  request.max_new_tokens = options.max_new_tokens;
  request.stop = options.stop;
  if (!options.json && !options.print_ids) request.on_text = print;
  return session.generate(request);
}

Outcome run(const Options& options) {
  OpenOptions open;
  open.threads = options.threads;
  open.trusted_keys = options.trusted_keys;
  Result<std::unique_ptr<Session>> session = Session::open(options.directory, open);
  if (!session) return session.failure();
  Result<Answer> result = answer(options, **session);
  if (!result) return result.failure();

  const Report report{*result, (*session)->load_ms()};
  if (options.json) {
    print(json_line(report));
  } else if (options.print_ids) {
    print(ids_line(result->tokens));
  } else {
    print("\n");
  }
  std::cerr << figures_text(report);
  return Done{};
}

}  // namespace
}  // namespace glass

static int run(int count, char** arguments) {
  glass::Result<glass::Options> options = glass::parse_options(count, arguments);
  if (!options) {
    std::cerr << "glass_run: " << options.failure().message << '\n';
    return 2;
  }
  if (options->help) {
    std::cout << glass::usage();
    return 0;
  }
  const glass::Outcome outcome = glass::run(*options);
  if (!outcome) {
    std::cerr << "glass_run: " << outcome.failure().message << '\n';
    return 1;
  }
  return 0;
}

int main(int count, char** arguments) {
  try {
    return run(count, arguments);
  } catch (const std::bad_alloc&) {
    std::cerr << "glass_run: not enough memory; close other programs, or use a smaller artifact\n";
    return 1;
  }
}

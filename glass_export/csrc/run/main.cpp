// glass_run: continues a prompt with an exported ExecuTorch artifact.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>

#include "run/clock.h"
#include "run/generate.h"
#include "run/model.h"
#include "run/number.h"
#include "run/options.h"
#include "run/report.h"
#include "run/text.h"

namespace glass::run {
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

// The tokenizer; null when ids are given and this program has none.
Result<std::unique_ptr<TextCodec>> open_text(const Options& options) {
  if (options.prompt.empty() && !has_tokenizer()) return std::unique_ptr<TextCodec>();
  return open_text_codec(options.directory);
}

Result<Answer> answer(const Options& options, Model& model, const TextCodec* codec,
                      std::string& text) {
  Request request;
  request.selection = selection_of(options, model.info().defaults);
  request.max_new_tokens = options.max_new_tokens;
  Result<std::vector<int64_t>> tokens =
      options.prompt.empty() ? read_ids(options.ids_file) : codec->encode(options.prompt);
  if (!tokens) return tokens.failure();
  request.tokens = std::move(*tokens);

  const bool streams = !options.json && !options.print_ids;
  const std::unique_ptr<TextStream> stream = codec != nullptr ? codec->stream() : nullptr;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (streams) print(piece);
  };
  Result<Answer> result = generate(model, request, [&](int64_t token) {
    if (stream != nullptr) emit(stream->step(token));
  });
  if (stream != nullptr) emit(stream->flush());
  return result;
}

Outcome run(const Options& options) {
  Result<std::unique_ptr<TextCodec>> codec = open_text(options);
  if (!codec) return codec.failure();
  const Clock::time_point start = Clock::now();
  Result<std::unique_ptr<Model>> model =
      Model::open(options.directory + "/model.pte", options.threads);
  if (!model) return model.failure();
  const double load_ms = milliseconds(start, Clock::now());

  std::string text;
  Result<Answer> result = answer(options, **model, codec->get(), text);
  if (!result) return result.failure();

  const SelectionSettings selection = selection_of(options, (*model)->info().defaults);
  const Report report{*result, text, *codec != nullptr, load_ms, selection.density};
  if (options.json) {
    print(json_line(report));
  } else if (options.print_ids || !report.has_text) {
    print(ids_line(result->tokens));
  } else {
    print("\n");
  }
  std::cerr << figures_text(report);
  return Done{};
}

}  // namespace
}  // namespace glass::run

int main(int count, char** arguments) {
  glass::run::Result<glass::run::Options> options = glass::run::parse_options(count, arguments);
  if (!options) {
    std::cerr << "glass_run: " << options.failure().message << '\n';
    return 2;
  }
  if (options->help) {
    std::cout << glass::run::usage();
    return 0;
  }
  const glass::run::Outcome outcome = glass::run::run(*options);
  if (!outcome) {
    std::cerr << "glass_run: " << outcome.failure().message << '\n';
    return 1;
  }
  return 0;
}

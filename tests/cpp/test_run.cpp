// Unit tests of the driver and of glass_run: what needs neither a model nor a tokenizer.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "driver/answer_stream.h"
#include "driver/cache.h"
#include "driver/metadata.h"
#include "driver/number.h"
#include "driver/random.h"
#include "driver/refresh.h"
#include "driver/sampler.h"
#include "driver/session.h"
#include "driver/span.h"
#include "glass/abi.h"
#include "run/options.h"
#include "run/report.h"

namespace glass {
namespace {

int failures = 0;

void check(bool holds, const char* what, int line) {
  if (holds) return;
  std::fprintf(stderr, "test_run.cpp:%d: %s\n", line, what);
  ++failures;
}

#define CHECK(condition) check(static_cast<bool>(condition), #condition, __LINE__)

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string metadata_text() {
  return "format_version=" + std::to_string(kFormatVersion) +
         "\nabi_version=" + std::to_string(kAbiVersion) +
         "\nmodel=tiny = one\ncustom_ops=true\nlayers=2\nd_ff=8\nvocab_size=16\nmax_length=32\n"
         "prefill_chunk=5\ntau=1e2";
}

ModelInfo metadata_model() {
  ModelInfo model;
  model.layers = 2;
  model.d_ff = 8;
  model.vocab_size = 16;
  model.max_length = 32;
  model.prefill_chunk = 5;
  return model;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  CHECK(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void test_numbers() {
  CHECK(parse_number("0.5") == 0.5 && parse_number("1e-05") == 1e-5);
  for (const char* text : {"", "nan", "inf", "0x10", "1.5x", " 1", "1e999"}) {
    CHECK(!parse_number(text));
  }
  CHECK(parse_integer("-7") == -7 && parse_integer("9223372036854775807") == INT64_MAX);
  for (const char* text : {"", "1.0", "7 ", "9223372036854775808"}) CHECK(!parse_integer(text));
}

void test_kept_neurons_rounds_as_python() {
  CHECK(kept_neurons(0.5, 5) == 2);  // 2.5, half to even
  CHECK(kept_neurons(0.5, 7) == 4);  // 3.5
  CHECK(kept_neurons(0.3, 1536) == 461);
  CHECK(kept_neurons(1e-9, 1536) == 1);
  CHECK(kept_neurons(1, 1536) == 1536);
}

void test_selection() {
  SelectionSettings settings;
  CHECK(assign(settings, "fusion", "global") && settings.rule.fusion == Fusion::kGlobal);
  CHECK(assign(settings, "local", "griffin") && settings.rule.local == LocalForm::kGriffin);
  CHECK(assign(settings, "prior", "F") && settings.prior == Statistic::kF);
  CHECK(assign(settings, "lam", "0") && settings.rule.lam == 0);
  CHECK(assign(settings, "refresh", "32") && settings.refresh == 32);
  CHECK(assign(settings, "refresh", "auto") && settings.refresh == kAutoInterval);
  CHECK(settings.refresh_settles);
  CHECK(assign(settings, "refresh", "off") && settings.refresh == 0 && !settings.refresh_settles);
  CHECK(assign(settings, "local-tokens", "all") && settings.local_tokens == LocalTokens::kAll);
  CHECK(assign(settings, "local_tokens", "user") && settings.local_tokens == LocalTokens::kUser);
  CHECK(assign(settings, "dense_start", "4") && settings.dense_start == 4);
  CHECK(assign(settings, "sensitivity", "0.25") && settings.sensitivity == 0.25);
  CHECK(assign(settings, "dense-layers", "29,0"));
  CHECK(settings.dense_layers == std::vector<int64_t>({29, 0}));
  CHECK(assign(settings, "dense_layers", "none") && settings.dense_layers.empty());
  const char* const refused[][2] = {{"density", "0"},
                                    {"density", "1.01"},
                                    {"lam", "1.5"},
                                    {"tau", "-1"},
                                    {"tau", "inf"},
                                    {"fusion", "Borda"},
                                    {"local", ""},
                                    {"prior", "B"},
                                    {"temperature", "1"},
                                    {"refresh", "-1"},
                                    {"refresh", "1.5"},
                                    {"refresh", "3000000000"},
                                    {"refresh", "Auto"},
                                    {"local_tokens", "some"},
                                    {"dense_start", "off"},
                                    {"sensitivity", "0.3"},
                                    {"sensitivity", "nan"},
                                    {"dense_layers", "0,-1"},
                                    {"dense_layers", "0,,1"},
                                    {"dense_layers", "1,1"},
                                    {"dense-layers", "all"}};
  for (const auto& [name, value] : refused) {
    const Outcome outcome = assign(settings, name, value);
    CHECK(!outcome && contains(outcome.failure().message, name) &&
          contains(outcome.failure().message, "expected"));
  }
}

void test_refreshes_come_after_so_many_tokens() {
  const auto intervals = [](int64_t refresh, int64_t dense_start) {
    SelectionSettings settings;
    settings.refresh = refresh;
    settings.dense_start = dense_start;
    Refresh answer(settings, LocalSums(6), {0, 2}, 2);
    std::vector<size_t> sizes;
    for (int64_t token = 0; token < 20; ++token) {
      if (answer.due()) {
        sizes.push_back(answer.tokens().size());
        answer.chosen({0, 2});
      } else {
        answer.decoded(token);
      }
    }
    return sizes;
  };
  CHECK(intervals(8, 0) == std::vector<size_t>({8, 8}));
  CHECK(intervals(8, 3) == std::vector<size_t>({3, 8}));
  CHECK(intervals(0, 3) == std::vector<size_t>({3}));
  CHECK(intervals(20, 0).empty());
}

void test_a_choice_of_few_new_neurons_has_settled() {
  constexpr int64_t kLayers = 2, kWidth = 200;
  std::vector<int32_t> before, now;  // 200 neurons of one layer, 100 of the other
  for (int32_t i = 0; i < kWidth; ++i) before.push_back(i);
  for (int32_t i = 0; i < kWidth; ++i) before.push_back(i < 100 ? i : kNeuronPadding);
  const auto with_new = [&](int32_t count) {
    now = before;
    for (int32_t i = 0; i < count; ++i) now[static_cast<size_t>(300 - count + i)] = 500 + i;
    return settled({before.data(), before.size()}, {now.data(), now.size()}, kLayers);
  };
  static_assert(kAutoTurnover == 500);  // 15 of the 300
  CHECK(with_new(0) && with_new(14) && !with_new(15) && !with_new(100));
}

void test_auto_ends_once_the_choice_has_settled() {
  SelectionSettings settings;
  CHECK(assign(settings, "refresh", "auto") && assign(settings, "dense_start", "3"));
  Refresh answer(settings, LocalSums(6), {0, 1}, 2);
  const std::vector<int32_t> choices[] = {{0, 1}, {1, 2}, {1, 2}, {0, 1}};
  std::vector<size_t> sizes;
  for (int64_t token = 0; token < 8 * kAutoInterval; ++token) {
    if (answer.due()) {
      sizes.push_back(answer.tokens().size());
      answer.chosen(choices[sizes.size() - 1]);
    } else {
      answer.decoded(token);
    }
  }
  constexpr size_t kInterval = kAutoInterval;
  CHECK(sizes == std::vector<size_t>({3, kInterval, kInterval}));
}

void test_refreshed_tokens_add_to_the_prompts() {
  LocalSums prompt(2);
  const std::vector<float> first = {1, 2}, second = {3, 5};
  prompt.add({{}, {first.data(), 2}, {second.data(), 2}}, 4);
  Refresh answer(SelectionSettings(), prompt, {0}, 1);
  answer.sums().add({{}, {second.data(), 2}, {first.data(), 2}}, 2);
  const TokenSums sums = answer.sums().view();
  CHECK(sums.abs_sum[1] == 7 && sums.sq_sum[0] == 4 && sums.tokens == 6);
  CHECK(prompt.abs_sum[1] == 2 && prompt.tokens == 4);
}

void test_shrinkage_needs_the_same_mean() {
  const char* const forms[] = {"A", "griffin", "squared"};
  for (const char* local : forms) {
    for (const char* prior : kStatisticNames) {
      SelectionSettings settings;
      CHECK(assign(settings, "local", local) && assign(settings, "prior", prior));
      CHECK(check_rule(settings));
      CHECK(assign(settings, "fusion", "shrinkage"));
      const std::string pair = std::string(local) + prior;
      CHECK(bool(check_rule(settings)) == (pair == "AA" || pair == "squaredG"));
    }
  }
}

void test_sensitivity_needs_shrinkage() {
  SelectionSettings settings;
  CHECK(assign(settings, "sensitivity", "0.5") && settings.sensitivity == 0.5);
  const Outcome refused = check_rule(settings);
  CHECK(!refused &&
        contains(refused.failure().message, "sensitivity: got 0.5 with fusion 'borda'"));
  CHECK(assign(settings, "fusion", "shrinkage") && assign(settings, "prior", "A"));
  CHECK(check_rule(settings));
}

void test_layer_budgets() {
  using Counts = std::vector<int64_t>;
  const auto budgets = [](double density, int64_t layers, int64_t d_ff, const char* dense) {
    SelectionSettings settings;
    settings.density = density;
    CHECK(assign(settings, "dense_layers", dense));
    const Result<Counts> result = layer_budgets(settings, layers, d_ff);
    return result ? *result : Counts();
  };
  CHECK(budgets(0.5, 3, 1536, "none") == Counts({768, 768, 768}));
  CHECK(budgets(0.5, 6, 10, "5") == Counts({4, 4, 4, 4, 4, 10}));
  CHECK(budgets(0.5, 6, 10, "5,0") == Counts({4, 4, 4, 4, 4, 10}));  // else they would keep 2
  CHECK(budgets(0.5, 8, 10, "5,0") == Counts({10, 3, 3, 3, 3, 10, 3, 3}));
  CHECK(budgets(0.25, 4, 8, "2,1") == Counts({2, 2, 2, 2}));
  CHECK(budgets(0.01, 3, 100, "0,1,2") == Counts({1, 1, 1}));
  CHECK(budgets(1.0, 3, 8, "0,1,2") == Counts({8, 8, 8}));
  CHECK(budgets(0.5, 1, 8, "0") == Counts({4}));
  CHECK(budgets(0.5, 3, 8, "3").empty());
}

void test_metadata() {
  CHECK(check_metadata(metadata_text(), metadata_model()));
  const char* const edits[][3] = {
      {"format_version=", "format_version=9", "format_version is 9"},
      {"abi_version=", "abi_version=9", "abi_version is 9"},
      {"layers=2\n", "", "'layers' is missing"},
      {"d_ff=8", "d_ff=many", "d_ff is 'many'"},
      {"d_ff=8", "d_ff=0", "d_ff is '0'"},
      {"max_length=32", "max_length=64", "max_length is 64, glass.json says 32"},
      {"prefill_chunk=5", "prefill_chunk=6", "prefill_chunk is 6, glass.json says 5"},
  };
  for (const auto& [from, to, message] : edits) {
    const Outcome checked = check_metadata(replaced(metadata_text(), from, to), metadata_model());
    CHECK(!checked && contains(checked.failure().message, message));
  }
  CHECK(!check_metadata("", metadata_model()));
}

void test_programs_without_our_operators_need_no_abi() {
  const std::string text = replaced(metadata_text(), "abi_version=", "abi_version=9");
  CHECK(check_metadata(replaced(text, "custom_ops=true", "custom_ops=false"), metadata_model()));
}

Result<Options> parsed(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "glass_run");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

void test_options() {
  const Result<Options> options = parsed(
      {"--density=0.3", "DIR", "--prompt", "--not a flag", "--threads", "2", "--json", "--lam",
       "0.25", "--refresh=off", "--dense-start=4", "--dense-layers=1", "--local-tokens=all"});
  CHECK(options);
  if (!options) return;
  CHECK((*options).directory == "DIR" && (*options).prompt == "--not a flag");
  CHECK((*options).threads == 2 && (*options).json && (*options).max_new_tokens == 128);
  SelectionSettings defaults;
  defaults.rule.tau = 7;
  defaults.refresh = 32;
  defaults.refresh_settles = true;
  const SelectionSettings settings = *selection_with(defaults, (*options).selection);
  CHECK(settings.density == 0.3 && settings.rule.lam == 0.25 && settings.rule.tau == 7);
  CHECK(settings.refresh == 0 && !settings.refresh_settles && settings.dense_start == 4);
  CHECK(settings.local_tokens == LocalTokens::kAll);
  CHECK(settings.dense_layers == std::vector<int64_t>({1}));
  CHECK((*parsed({"--help"})).help);
  const Result<Options> sampled = parsed({"DIR", "--chat=hi", "--temperature=0.7", "--top-k=40",
                                          "--top-p=0.9", "--min-p=0.1", "--seed=3", "--stop=."});
  CHECK(sampled);
  if (!sampled) return;
  CHECK((*sampled).chat == "hi" && (*sampled).stop == std::vector<std::string>({"."}));
  CHECK((*sampled).sampling.temperature == 0.7 && (*sampled).sampling.top_k == 40);
  CHECK((*sampled).sampling.seed == uint64_t{3} && (*sampled).sampling.repetition_penalty == 1);
}

void test_the_sensitivity_goes_with_shrinkage() {
  SelectionSettings defaults;
  defaults.rule.fusion = Fusion::kShrinkage;
  defaults.sensitivity = 0.5;
  const auto sensitivity = [&](std::vector<const char*> arguments) {
    arguments.insert(arguments.end(), {"DIR", "--prompt=x"});
    return (*selection_with(defaults, (*parsed(arguments)).selection)).sensitivity;
  };
  CHECK(sensitivity({}) == 0.5 && sensitivity({"--fusion=shrinkage"}) == 0.5);
  CHECK(sensitivity({"--fusion=local"}) == 0);
  CHECK(sensitivity({"--sensitivity=1", "--fusion=local"}) == 1);  // refused by the choice
}

void test_wrong_usage_is_refused() {
  const std::vector<std::vector<const char*>> lines = {
      {},
      {"DIR"},
      {"--prompt", "x"},
      {"DIR", "--prompt"},
      {"DIR", "--prompt", ""},
      {"DIR", "--prompt", "x", "--ids", "f"},
      {"DIR", "OTHER", "--prompt", "x"},
      {"DIR", "--prompt", "x", "--prompt", "y"},
      {"DIR", "--promt", "x"},
      {"DIR", "--prompt", "x", "--json=1"},
      {"DIR", "--prompt", "x", "--json", "--print-ids"},
      {"DIR", "--prompt", "x", "--max-new-tokens", "0"},
      {"DIR", "--prompt", "x", "--threads", "two"},
      {"DIR", "--prompt", "x", "--density", "nan"},
      {"DIR", "--prompt", "x", "--dense_start", "4"},
      {"DIR", "--prompt", "x", "--sensitivity", "2"},
      {"DIR", "--prompt", "x", "--local-tokens", "none"},
      {"DIR", "--prompt", "x", "--chat", "y"},
      {"DIR", "--prompt", "x", "--temperature", "-1"},
      {"DIR", "--prompt", "x", "--top-k", "1.5"},
      {"DIR", "--prompt", "x", "--top-p", "0"},
      {"DIR", "--prompt", "x", "--seed", "-1"},
      {"DIR", "--prompt", "x", "--min-p", "much"},
  };
  for (const auto& line : lines) CHECK(!parsed(line));
}

void test_greedy_takes_the_first_of_equals() {
  const std::vector<float> logits = {-kInfinity, 1, 3, 3, 2};
  const Result<int64_t> token = greedy({logits.data(), logits.size()});
  CHECK(bool(token) && *token == 2);
}

void test_greedy_refuses_what_is_not_finite() {
  const std::vector<std::vector<float>> all = {
      {}, {1, NAN, 5}, {NAN}, {1, kInfinity}, {-kInfinity, -kInfinity}};
  for (const auto& logits : all) CHECK(!greedy({logits.data(), logits.size()}));
}

void test_random_numbers_are_numpys() {
  Random small(0), large(0x123456789abcdef0);  // numpy.random.default_rng(seed).random()
  CHECK(small.uniform() == 0.6369616873214543 && small.uniform() == 0.2697867137638703);
  CHECK(large.uniform() == 0.20418281520908887 && large.uniform() == 0.3734915291570289);
}

// Tokens that a hundred draws choose.
std::vector<int64_t> drawn(SamplingSettings settings, const std::vector<float>& logits) {
  settings.seed = 1;
  if (settings.temperature == 0) settings.temperature = 1;
  Sampler sampler(settings);
  std::vector<int64_t> found;
  for (int i = 0; i < 100; ++i) {
    const Result<int64_t> token = sampler.sample(all(logits), {});
    CHECK(token);
    if (token && std::count(found.begin(), found.end(), *token) == 0) found.push_back(*token);
  }
  std::sort(found.begin(), found.end());
  return found;
}

void test_sampling_keeps_the_likely_tokens() {
  using Tokens = std::vector<int64_t>;
  const std::vector<float> logits = {1, 3, 2, 3, -kInfinity, 0};
  SamplingSettings settings;
  CHECK(drawn(settings, logits) == Tokens({0, 1, 2, 3, 5}));
  settings.top_k = 1;  // both that are equal
  CHECK(drawn(settings, logits) == Tokens({1, 3}));
  settings.top_k = 3;
  CHECK(drawn(settings, logits) == Tokens({1, 2, 3}));
  settings = {};
  settings.top_p = 0.5;
  CHECK(drawn(settings, logits) == Tokens({1, 3}));
  settings = {};
  settings.min_p = 0.3;
  CHECK(drawn(settings, logits) == Tokens({1, 2, 3}));
  settings = {};
  settings.temperature = 0.01;
  CHECK(drawn(settings, logits) == Tokens({1, 3}));
}

void test_a_penalty_counts_a_token_once() {
  SamplingSettings settings;
  settings.repetition_penalty = 1.5;
  Sampler sampler(settings);
  const std::vector<float> logits = {2.9f, 4, -1};
  const Result<int64_t> once = sampler.sample(all(logits), {1});
  CHECK(bool(once) && *once == 0);
  const std::vector<float> close = {1, 2, -1};
  const Result<int64_t> often = sampler.sample(all(close), {1, 1, 1, 2});
  CHECK(bool(often) && *often == 1);
}

// A stream of tokens that are their own text.
class Letters : public TokenStream {
 public:
  std::string step(int64_t token) override { return std::string(1, static_cast<char>(token)); }
  std::string flush() override { return ""; }
};

void test_stop_strings_are_never_shown() {
  const auto shown = [](const std::string& text, const std::vector<std::string>& stops) {
    std::string sent;
    AnswerStream stream(std::make_unique<Letters>(), stops,
                        [&](const std::string& piece) { sent += piece; });
    for (const char letter : text) {
      if (stream.write(letter)) break;
    }
    const bool stopped = stream.close();
    CHECK(stream.text() == sent);
    return sent + (stopped ? "|" : "");
  };
  CHECK(shown("abcxyz", {"xy"}) == "abc|");
  CHECK(shown("abxabxyq", {"xy", "q"}) == "abxab|");
  CHECK(shown("aaab", {"aab"}) == "a|");
  CHECK(shown("xa", {"xyz"}) == "xa");
  CHECK(shown("bcx", {"xy"}) == "bcx");
}

LocalSums sums_of(float value, double tokens) {
  LocalSums sums(1);
  sums.abs_sum[0] = value;
  sums.tokens = tokens;
  return sums;
}

void test_the_cache_reuses_a_common_beginning() {
  TokenCache cache;
  const std::vector<int64_t> tokens = {1, 2, 3, 4, 5, 6};
  const std::vector<float> weights = {0, 0, 1, 1, 1, 0};
  const auto put = [&](size_t start, size_t count, float value) {
    cache.prefilled(part(all(tokens), start, count), part(all(weights), start, count),
                    sums_of(value, value > 0 ? 1 : 0));
  };
  const auto rewind = [&](std::vector<int64_t> wanted) {
    return cache.rewind(all(std::as_const(wanted)), part(all(weights), 0, wanted.size()));
  };
  put(0, 2, 0);  // of the chat template, not scored
  put(2, 2, 1);
  put(4, 2, 2);
  cache.answered({tokens.data(), 2});
  CHECK(cache.length() == 8 && cache.sums(1).abs_sum[0] == 3 && cache.sums(1).tokens == 2);
  CHECK(rewind({1, 2, 3, 4, 5, 9}) == 4);  // the last chunk is cut, so it is dropped
  CHECK(cache.length() == 4 && cache.sums(1).abs_sum[0] == 1);
  CHECK(rewind({1, 2, 3, 4}) == 2);  // the last token's logits are needed
  CHECK(cache.sums(1).abs_sum[0] == 0 && cache.tokens() == std::vector<int64_t>({1, 2}));
  CHECK(rewind({1, 3}) == 1);  // nothing of what is cut was scored
}

void test_report() {
  Answer answer;
  answer.tokens = {4, 5};
  answer.reason = FinishReason::kContext;
  answer.text = "a\"\\\n\x01\xC3\xA9";
  answer.figures.refreshes = 3;
  answer.figures.refresh_ms = 1.5;
  const std::string line = json_line({answer, 1});
  CHECK(contains(line, "\"text\": \"a\\\"\\\\\\u000a\\u0001\xC3\xA9\""));
  CHECK(contains(line, "\"token_ids\": [4, 5], \"finish_reason\": \"context\""));
  CHECK(line.find('\n') == line.size() - 1);
  CHECK(contains(line, "\"refreshes\": 3, \"refresh_ms\": 1.500"));
  CHECK(contains(figures_text({answer, 1}), "1.5 ms of it (3 times)"));
  CHECK(ids_line({4, 5}) == "4 5\n" && ids_line({}) == "\n");
}

}  // namespace
}  // namespace glass

int main() {
  using namespace glass;
  for (const auto test : {test_numbers,
                          test_kept_neurons_rounds_as_python,
                          test_selection,
                          test_refreshes_come_after_so_many_tokens,
                          test_a_choice_of_few_new_neurons_has_settled,
                          test_auto_ends_once_the_choice_has_settled,
                          test_refreshed_tokens_add_to_the_prompts,
                          test_shrinkage_needs_the_same_mean,
                          test_sensitivity_needs_shrinkage,
                          test_layer_budgets,
                          test_the_sensitivity_goes_with_shrinkage,
                          test_metadata,
                          test_programs_without_our_operators_need_no_abi,
                          test_options,
                          test_wrong_usage_is_refused,
                          test_greedy_takes_the_first_of_equals,
                          test_greedy_refuses_what_is_not_finite,
                          test_random_numbers_are_numpys,
                          test_sampling_keeps_the_likely_tokens,
                          test_a_penalty_counts_a_token_once,
                          test_stop_strings_are_never_shown,
                          test_the_cache_reuses_a_common_beginning,
                          test_report}) {
    test();
  }
  std::printf(failures == 0 ? "ok\n" : "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}

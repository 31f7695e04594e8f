// Unit tests of glass_run: what needs neither a model nor a tokenizer.
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "glass/abi.h"
#include "run/generate.h"
#include "run/metadata.h"
#include "run/number.h"
#include "run/options.h"
#include "run/refresh.h"
#include "run/report.h"
#include "run/selection.h"
#include "run/text.h"

namespace glass::run {
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
         "\nmodel=tiny = one\nfamily=llama\ndtype=fp32\ncustom_ops=true\nlayers=2\nd_model=4\n"
         "d_ff=8\nvocab_size=16\nmax_length=32\nprefill_chunk=5\nbos_token_id=\n"
         "eos_token_ids=2,3\nspecial_token_ids=\ndensity=0.25\nfusion=shrinkage\nlocal=squared\n"
         "prior=G\nlam=0.75\ntau=1e2";
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
  const Result<ModelInfo> info = parse_metadata(metadata_text());
  CHECK(info);
  if (!info) return;
  CHECK((*info).name == "tiny = one" && (*info).layers == 2 && (*info).prefill_chunk == 5);
  CHECK((*info).eos_token_ids == std::vector<int64_t>({2, 3}));
  CHECK((*info).special_token_ids.empty());
  CHECK((*info).defaults.density == 0.25 && (*info).defaults.rule.tau == 100);
  CHECK((*info).defaults.rule.fusion == Fusion::kShrinkage);
  CHECK((*info).defaults.prior == Statistic::kG);
  CHECK((*info).defaults.refresh == 0 && (*info).defaults.dense_start == 0);
  const Result<ModelInfo> later = parse_metadata(metadata_text() + "\nrefresh=32\ndense_start=8");
  CHECK(bool(later) && (*later).defaults.refresh == 32 && (*later).defaults.dense_start == 8);
  CHECK(!(*info).defaults.refresh_settles && (*info).defaults.local_tokens == LocalTokens::kUser);
  const Result<ModelInfo> words =
      parse_metadata(metadata_text() + "\nrefresh=auto\nlocal_tokens=all");
  CHECK(bool(words) && (*words).defaults.refresh_settles);
  CHECK(bool(words) && (*words).defaults.local_tokens == LocalTokens::kAll);
  CHECK((*info).defaults.sensitivity == 0 && (*info).defaults.dense_layers.empty());
  const Result<ModelInfo> searched =
      parse_metadata(metadata_text() + "\nmode=auto\nsensitivity=0.25\ndense_layers=1,0");
  CHECK(bool(searched) && (*searched).defaults.sensitivity == 0.25);
  CHECK(bool(searched) && (*searched).defaults.dense_layers == std::vector<int64_t>({1, 0}));
  CHECK(parse_metadata(metadata_text() + "\nsensitivity=0.0\ndense_layers="));
}

void test_damaged_metadata_is_refused() {
  const char* const edits[][3] = {
      {"format_version=", "format_version=9", "format_version"},
      {"abi_version=", "abi_version=9", "abi_version"},
      {"layers=2\n", "", "'layers' is missing"},
      {"d_ff=8", "d_ff=many", "d_ff is 'many'"},
      {"d_ff=8", "d_ff=0", "d_ff is '0'"},
      {"eos_token_ids=2,3", "eos_token_ids=2,,3", "eos_token_ids is '2,,3'"},
      {"density=0.25", "density=2", "density: got '2'"},
      {"tau=1e2", "tau=1e2\nrefresh=-1", "refresh: got '-1'"},
      {"tau=1e2", "tau=1e2\nlocal_tokens=few", "local_tokens: got 'few'"},
      {"tau=1e2", "tau=1e2\nsensitivity=0.3", "sensitivity: got '0.3'"},
      {"tau=1e2", "tau=1e2\ndense_layers=1,1", "dense_layers: got '1,1'"},
  };
  for (const auto& [from, to, message] : edits) {
    const Result<ModelInfo> info = parse_metadata(replaced(metadata_text(), from, to));
    CHECK(!info && contains(info.failure().message, message));
    CHECK(!info && contains(info.failure().message, "export the model again"));
  }
  CHECK(!parse_metadata(""));
}

void test_programs_without_our_operators_need_no_abi() {
  const std::string text = replaced(metadata_text(), "abi_version=", "abi_version=9");
  CHECK(parse_metadata(replaced(text, "custom_ops=true", "custom_ops=false")));
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
  const SelectionSettings settings = selection_of(*options, defaults);
  CHECK(settings.density == 0.3 && settings.rule.lam == 0.25 && settings.rule.tau == 7);
  CHECK(settings.refresh == 0 && !settings.refresh_settles && settings.dense_start == 4);
  CHECK(settings.local_tokens == LocalTokens::kAll);
  CHECK(settings.dense_layers == std::vector<int64_t>({1}));
  CHECK((*parsed({"--help"})).help);
}

void test_the_sensitivity_goes_with_shrinkage() {
  SelectionSettings defaults;
  defaults.rule.fusion = Fusion::kShrinkage;
  defaults.sensitivity = 0.5;
  const auto sensitivity = [&](std::vector<const char*> arguments) {
    arguments.insert(arguments.end(), {"DIR", "--prompt=x"});
    return selection_of(*parsed(arguments), defaults).sensitivity;
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

void test_special_tokens_are_not_scored_unless_all_are() {
  CHECK(score_weights({1, 5, 2, 6}, {1, 2}, LocalTokens::kUser) ==
        std::vector<float>({0, 1, 0, 1}));
  CHECK(score_weights({1, 2}, {1, 2}, LocalTokens::kUser) == std::vector<float>({1, 1}));
  CHECK(score_weights({1, 5}, {1, 2}, LocalTokens::kAll) == std::vector<float>({1, 1}));
}

void test_report() {
  Answer answer;
  answer.tokens = {4, 5};
  answer.reason = FinishReason::kContext;
  const std::string text = "a\"\\\n\x01\xC3\xA9";
  const std::string with_text = json_line({answer, text, true, 1, 0.5});
  CHECK(contains(with_text, "\"text\": \"a\\\"\\\\\\u000a\\u0001\xC3\xA9\""));
  CHECK(contains(with_text, "\"token_ids\": [4, 5], \"finish_reason\": \"context\""));
  CHECK(with_text.find('\n') == with_text.size() - 1);
  CHECK(contains(json_line({answer, text, false, 1, 0.5}), "\"text\": null"));
  answer.figures.refreshes = 3;
  answer.figures.refresh_ms = 1.5;
  CHECK(
      contains(json_line({answer, text, true, 1, 0.5}), "\"refreshes\": 3, \"refresh_ms\": 1.500"));
  CHECK(contains(figures_text({answer, text, true, 1, 0.5}), "1.5 ms of it (3 times)"));
  CHECK(ids_line({4, 5}) == "4 5\n" && ids_line({}) == "\n");
}

void test_missing_tokenizer_is_explained() {
  const auto codec = open_text_codec("/nonexistent");
  CHECK(!codec);
  if (codec) return;
  CHECK(contains(codec.failure().message, has_tokenizer() ? "tokenizer.json" : "--ids"));
}

}  // namespace
}  // namespace glass::run

int main() {
  using namespace glass::run;
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
                          test_damaged_metadata_is_refused,
                          test_programs_without_our_operators_need_no_abi,
                          test_options,
                          test_wrong_usage_is_refused,
                          test_greedy_takes_the_first_of_equals,
                          test_greedy_refuses_what_is_not_finite,
                          test_special_tokens_are_not_scored_unless_all_are,
                          test_report,
                          test_missing_tokenizer_is_explained}) {
    test();
  }
  std::printf(failures == 0 ? "ok\n" : "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}

#include "run/report.h"

#include <cstdio>

namespace glass {
namespace {

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, pattern, values...);
  return buffer;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += format("\\u%04x", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string joined(const std::vector<int64_t>& tokens, const char* separator) {
  std::string out;
  for (const int64_t token : tokens) out += (out.empty() ? "" : separator) + std::to_string(token);
  return out;
}

}  // namespace

std::string ids_line(const std::vector<int64_t>& tokens) { return joined(tokens, " ") + '\n'; }

std::string json_line(const Report& report) {
  const Figures& figures = report.answer.figures;
  const std::string stats = format(
      "{\"load_ms\": %.2f, \"prompt_tokens\": %lld, \"new_tokens\": %lld, \"prefill_tps\": %.3f, "
      "\"ttft_ms\": %.3f, \"fusion_ms\": %.4f, \"decode_tps\": %.3f, \"refreshes\": %lld, "
      "\"refresh_ms\": %.3f, \"density\": %.17g, \"kept_neurons\": %lld, \"peak_rss_mb\": %.1f}",
      report.load_ms, static_cast<long long>(figures.prompt_tokens),
      static_cast<long long>(figures.new_tokens), figures.prefill_tps, figures.ttft_ms,
      figures.fusion_ms, figures.decode_tps, static_cast<long long>(figures.refreshes),
      figures.refresh_ms, figures.density, static_cast<long long>(figures.kept_neurons),
      figures.peak_rss_mb);
  return "{\"text\": " + quoted(report.answer.text) + ", \"token_ids\": [" +
         joined(report.answer.tokens, ", ") + "], \"finish_reason\": \"" +
         finish_reason_name(report.answer.reason) + "\", \"stats\": " + stats + "}\n";
}

std::string figures_text(const Report& report) {
  const Figures& figures = report.answer.figures;
  return format(
      "load     %9.1f ms\n"
      "prefill  %9.1f tok/s (%lld tokens)\n"
      "TTFT     %9.1f ms\n"
      "fusion   %9.2f ms (density %g: %lld neurons a layer)\n"
      "decode   %9.1f tok/s (%lld tokens, ended by %s)\n"
      "refresh  %9.1f ms of it (%lld times)\n"
      "memory   %9.1f MB at most\n",
      report.load_ms, figures.prefill_tps, static_cast<long long>(figures.prompt_tokens),
      figures.ttft_ms, figures.fusion_ms, figures.density,
      static_cast<long long>(figures.kept_neurons), figures.decode_tps,
      static_cast<long long>(figures.new_tokens), finish_reason_name(report.answer.reason),
      figures.refresh_ms, static_cast<long long>(figures.refreshes), figures.peak_rss_mb);
}

}  // namespace glass

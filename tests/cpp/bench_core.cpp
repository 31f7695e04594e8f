// Speed of the core on layers of one shape, many of them so that caches do not help.
//
//   bench_core [D F layers [only]]
//
// A line per measurement: memory bandwidth where weights are read once (sparse_ffn, linear for one
// token), arithmetic where they are reused (dense_ffn, linear), time per call elsewhere. `only` is
// the name of a function: sparse_ffn, dense_ffn, linear, attention or select_neurons.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "glass/attention.h"
#include "glass/ffn.h"
#include "glass/linear.h"
#include "glass/scoring.h"
#include "spinning_pool.h"

namespace {

using glass::Span;
using glass::Status;

struct Sizes {
  int64_t d_model = 576;
  int64_t d_ff = 1536;
  int64_t layers = 30;
};

constexpr int64_t kHeadRows = 151936;  // of a head, as Qwen2 has it

template <class T>
Span<T> span(std::vector<T>& values) {
  return {values.data(), values.size()};
}

template <class T>
Span<const T> view(const std::vector<T>& values) {
  return {values.data(), values.size()};
}

void require(Status status) {
  if (status == Status::kOk) return;
  std::fprintf(stderr, "bench_core: %s\n", glass::status_message(status));
  std::exit(1);
}

// Fastest of a few runs of function(), in seconds.
template <class Function>
double fastest(int runs, const Function& function) {
  double best = 1e9;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    function();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = taken.count() < best ? taken.count() : best;
  }
  return best;
}

std::vector<float> random_floats(int64_t size) {
  std::vector<float> values(static_cast<size_t>(size));
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-35f;
  }
  return values;
}

// Every `count`-th of d_ff neurons in a random but even pattern, ascending.
std::vector<int32_t> choose(int64_t d_ff, int64_t count, std::mt19937& random) {
  std::vector<int32_t> neurons;
  int64_t left = count;
  for (int64_t j = 0; j < d_ff; ++j) {
    if (static_cast<int64_t>(random() % static_cast<uint32_t>(d_ff - j)) >= left) continue;
    neurons.push_back(static_cast<int32_t>(j));
    --left;
  }
  return neurons;
}

struct Format {
  glass::BundleFormat format;
  const char* name;
  double bytes;  // of a weight with its share of the scale
};

constexpr Format kFloats{glass::BundleFormat::kFloat32, "fp32", 4.0};
constexpr Format kInt8{glass::BundleFormat::kInt8, "int8", 1.0625};
constexpr Format kInt4{glass::BundleFormat::kInt4, "int4", 0.5625};

// Layers of one format, in `weights`.
glass::FfnBundle bundle_of(const Sizes& sizes, const std::vector<float>& weights,
                           const Format& format, int64_t layer) {
  const int64_t bytes = sizes.d_ff * glass::bundle_bytes(format.format, sizes.d_model);
  const auto* first = reinterpret_cast<const char*>(weights.data());
  const auto skipped = (64 - reinterpret_cast<uintptr_t>(first) % 64) % 64;
  return {first + (format.format == glass::BundleFormat::kFloat32 ? 0 : skipped) + layer * bytes,
          sizes.d_ff, sizes.d_model, format.format};
}

void bench_sparse(const Sizes& sizes, const std::vector<float>& weights, const Format& format,
                  int64_t kept, int64_t threads) {
  glass::test::SpinningPool pool(threads);
  std::mt19937 random(1);
  const auto x = random_floats(sizes.d_model);
  std::vector<float> y(x.size());
  std::vector<float> scratch(
      glass::sparse_ffn_scratch(bundle_of(sizes, weights, format, 0), 1, threads));
  std::vector<std::vector<int32_t>> neurons;
  for (int64_t l = 0; l < sizes.layers; ++l) neurons.push_back(choose(sizes.d_ff, kept, random));
  const double seconds = fastest(15, [&] {
    for (int64_t l = 0; l < sizes.layers; ++l) {
      require(glass::sparse_ffn(bundle_of(sizes, weights, format, l), glass::Activation::kSilu,
                                view(x), view(neurons[size_t(l)]), span(y), span(scratch),
                                pool.get()));
    }
  });
  const double bytes = 3.0 * format.bytes * double(sizes.layers * kept * sizes.d_model);
  std::printf("sparse_ffn %s K=%-5ld threads=%ld %8.3f ms/layer %7.1f GB/s\n", format.name,
              long(kept), long(threads), 1e3 * seconds / double(sizes.layers),
              bytes / seconds * 1e-9);
}

void bench_dense(const Sizes& sizes, const std::vector<float>& weights, const Format& format,
                 int64_t tokens, int64_t threads) {
  glass::test::SpinningPool pool(threads);
  const auto x = random_floats(tokens * sizes.d_model);
  const std::vector<float> score_weights(size_t(tokens), 1.0f);
  std::vector<float> y(x.size()), abs_sum(size_t(sizes.d_ff)), sq_sum(size_t(sizes.d_ff));
  std::vector<float> scratch(
      glass::dense_ffn_scratch(bundle_of(sizes, weights, format, 0), tokens, threads));
  const double seconds = fastest(5, [&] {
    for (int64_t l = 0; l < sizes.layers; ++l) {
      require(glass::dense_ffn(bundle_of(sizes, weights, format, l), glass::Activation::kSilu,
                               view(x), view(score_weights), span(y), span(abs_sum), span(sq_sum),
                               span(scratch), pool.get()));
    }
  });
  const double flops = 6.0 * double(sizes.layers * tokens) * double(sizes.d_ff * sizes.d_model);
  std::printf("dense_ffn  %s S=%-5ld threads=%ld %8.3f ms/layer %7.1f GFLOP/s\n", format.name,
              long(tokens), long(threads), 1e3 * seconds / double(sizes.layers),
              flops / seconds * 1e-9);
}

// `count` matrices [rows,D] of one format, so that caches help no more than in a model.
void bench_linear(const Sizes& sizes, const std::vector<float>& weights, const Format& format,
                  int64_t rows, int64_t count, int64_t tokens, int64_t threads) {
  glass::test::SpinningPool pool(threads);
  const int64_t bytes = rows * glass::row_bytes(format.format, sizes.d_model);
  const auto* first = reinterpret_cast<const char*>(weights.data());
  const auto x = random_floats(tokens * sizes.d_model);
  std::vector<float> y(size_t(tokens * rows));
  const auto matrix = [&](int64_t i) {
    return glass::LinearWeights{first + i * bytes, rows, sizes.d_model, format.format};
  };
  std::vector<float> scratch(glass::linear_scratch(matrix(0), tokens, threads));
  const double seconds = fastest(tokens == 1 ? 15 : 4, [&] {
    for (int64_t i = 0; i < count; ++i) {
      require(glass::linear(matrix(i), {}, view(x), span(y), span(scratch), pool.get()));
    }
  });
  const double products = double(count * rows) * double(tokens * sizes.d_model);
  std::printf("linear %s N=%-6ld S=%-4ld threads=%ld %8.1f us %6.1f GB/s %7.1f GMAC/s\n",
              format.name, long(rows), long(tokens), long(threads), 1e6 * seconds / double(count),
              double(count * bytes) / seconds * 1e-9, products / seconds * 1e-9);
}

void bench_attention(int64_t tokens, int64_t position, int64_t threads) {
  glass::test::SpinningPool pool(threads);
  const glass::AttentionShape shape{tokens, 9, 3, 64, 2048, 64};
  glass::AttentionParams params;
  params.position = position;
  params.scale = 0.125f;
  const auto query = random_floats(tokens * 9 * 64), key = random_floats(tokens * 3 * 64);
  const auto tables = random_floats(2048 * 32);
  auto keys = random_floats(3 * 2048 * 64), values = keys;
  std::vector<float> y(query.size());
  std::vector<float> scratch(glass::rotary_attention_scratch(shape, threads));
  const glass::QkvRows rows{query.data(), key.data(), key.data(), 576, 192, 192};
  const double seconds = fastest(20, [&] {
    require(glass::rotary_attention(shape, params, rows, view(tables), view(tables), span(keys),
                                    span(values), span(y), span(scratch), pool.get()));
  });
  std::printf("attention  S=%-4ld position=%-5ld threads=%ld %8.1f us\n", long(tokens),
              long(position), long(threads), 1e6 * seconds);
}

void bench_selection(int64_t threads) {
  const int64_t layers = 24, d_ff = 4864;
  const auto sums = random_floats(layers * d_ff);
  const std::vector<float> prior(sums.rbegin(), sums.rend());
  std::vector<int32_t> neurons(size_t(layers * d_ff / 2)), ranked(size_t(layers * d_ff));
  std::vector<uint32_t> scratch(glass::select_neurons_scratch(d_ff, threads));
  require(glass::prior_ranks(view(prior), layers, d_ff, span(ranked), span(scratch)));
  const glass::Prior known{view(prior), view(ranked)};
  glass::test::SpinningPool pool(threads);
  const double seconds = fastest(20, [&] {
    require(glass::select_neurons({view(sums), view(sums), 7.0}, known, {}, layers, d_ff,
                                  span(neurons), span(scratch), pool.get()));
  });
  std::printf("select_neurons 24 x 4864, Borda, threads=%ld %8.3f ms\n", long(threads),
              1e3 * seconds);
}

void bench_layers(const Sizes& sizes, const std::vector<float>& weights, const char* only,
                  int64_t threads) {
  const auto wanted = [&](const char* name) {
    return only == nullptr || std::strcmp(only, name) == 0;
  };
  for (const Format& format : {kFloats, kInt8, kInt4}) {
    if (wanted("sparse_ffn")) {
      bench_sparse(sizes, weights, format, sizes.d_ff, threads);
      bench_sparse(sizes, weights, format, sizes.d_ff / 2, threads);
    }
    for (const int64_t tokens : {1, 8, 64, 256}) {
      if (wanted("dense_ffn")) bench_dense(sizes, weights, format, tokens, threads);
      if (!wanted("linear") || format.format == glass::BundleFormat::kFloat32) continue;
      for (const int64_t rows : {896, 1152}) {
        bench_linear(sizes, weights, format, rows, sizes.layers, tokens, threads);
      }
      bench_linear(sizes, weights, format, kHeadRows, 1, tokens, threads);
    }
  }
  if (!wanted("attention")) return;
  for (const int64_t position : {100, 1900}) bench_attention(1, position, threads);
  bench_attention(256, 0, threads);
}

}  // namespace

int main(int argc, char** argv) {
  Sizes sizes;
  if (argc >= 4) sizes = {std::atoll(argv[1]), std::atoll(argv[2]), std::atoll(argv[3])};
  const char* only = argc == 5 ? argv[4] : nullptr;
  std::printf("%s, D=%ld F=%ld layers=%ld\n", glass::isa_name(glass::active_isa()),
              long(sizes.d_model), long(sizes.d_ff), long(sizes.layers));
  const auto weights =
      random_floats(std::max(sizes.layers * sizes.d_ff * 3, kHeadRows / 2) * sizes.d_model);
  for (const int64_t threads : {1, 2}) bench_layers(sizes, weights, only, threads);
  if (only == nullptr || std::strcmp(only, "select_neurons") == 0) {
    for (const int64_t threads : {1, 2}) bench_selection(threads);
  }
  return 0;
}

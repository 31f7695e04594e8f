// Copies of chosen neurons: when they are made, and that they give the same bits.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "arrays.h"
#include "check.h"
#include "packing/file_pages.h"
#include "packing/packed_bundles.h"

namespace glass::test {
namespace {

constexpr int64_t kWidth = 64, kNeurons = 200;

using Bytes = std::vector<uint8_t>;
using Indices = std::vector<int32_t>;

// Bundles of arbitrary integers and scales near 1.
Bytes random_bundles(BundleFormat format, uint64_t seed, bool gated = true) {
  Random random(seed);
  const int64_t bytes = bundle_bytes(format, kWidth, gated), rows = bundle_rows(gated);
  const int64_t row = format == BundleFormat::kInt4 ? 32 : 64;
  Bytes bundles(static_cast<size_t>(kNeurons * bytes));
  for (uint8_t& byte : bundles) byte = static_cast<uint8_t>(random.next());
  for (int64_t n = 0; n < kNeurons; ++n) {
    for (int64_t i = 0; i < rows * kWidth / kGroupSize; ++i) {
      const uint16_t one = 0x3C00;
      std::memcpy(bundles.data() + n * bytes + rows * row + 2 * i, &one, sizeof(one));
    }
  }
  return bundles;
}

FfnBundle layer_of(const Bytes& bundles, BundleFormat format) {
  return {bundles.data(), kNeurons, kWidth, format};
}

Indices every(int32_t step) {
  Indices neurons;
  for (int32_t n = 0; n < kNeurons; n += step) neurons.push_back(n);
  return neurons;
}

Floats output_of(const FfnBundle& ffn, Span<const int32_t> neurons) {
  Random random(7);
  const Floats x = random.values(kWidth);
  Floats y(kWidth), scratch(sparse_ffn_scratch(ffn, 1, 1));
  CHECK(sparse_ffn(ffn, Activation::kSilu, view(x), neurons, span(y), span(scratch), serial()) ==
        Status::kOk);
  return y;
}

void test_same_bits_as_in_place() {
  for (const BundleFormat format : {BundleFormat::kInt8, BundleFormat::kInt4}) {
    const Bytes bundles = random_bundles(format, 1);
    const FfnBundle ffn = layer_of(bundles, format);
    PackedBundles packed;
    for (const int32_t step : {2, 3, 199, 3}) {
      const Indices neurons = every(step);
      const PackedChoice choice = packed.choose(ffn, view(neurons), serial());
      CHECK(choice.ffn.data != ffn.data);
      CHECK(output_of(choice.ffn, choice.neurons) == output_of(ffn, view(neurons)));
    }
  }
}

// A copy has the biases of its neurons, and notices when they change.
void test_biases_are_copied() {
  const Bytes bundles = random_bundles(BundleFormat::kInt4, 1, false);
  Random random(3);
  Floats biases = random.values(kNeurons);
  const FfnBundle ffn{bundles.data(), kNeurons, kWidth, BundleFormat::kInt4, false, biases.data()};
  PackedBundles packed;
  const Indices neurons = every(3);
  for (int round = 0; round < 2; ++round) {
    const PackedChoice choice = packed.choose(ffn, view(neurons), serial());
    CHECK(choice.ffn.data != ffn.data && choice.ffn.bias != ffn.bias);
    CHECK(output_of(choice.ffn, choice.neurons) == output_of(ffn, view(neurons)));
    for (float& bias : biases) bias += 1.0f;
  }
}

// Rows of another length for the same neurons have the same copy.
void test_padding_is_not_copied() {
  const Bytes bundles = random_bundles(BundleFormat::kInt4, 1);
  const FfnBundle ffn = layer_of(bundles, BundleFormat::kInt4);
  const Indices neurons = every(3), all = every(1);
  Indices padded = neurons, misplaced = neurons;
  padded.resize(kNeurons, kNeuronPadding);
  misplaced.insert(misplaced.end() - 1, kNeuronPadding);
  PackedBundles packed;
  const void* copy = nullptr;
  for (const Indices& row : {padded, neurons, padded}) {
    const PackedChoice choice = packed.choose(ffn, view(row), serial());
    CHECK(choice.ffn.data != ffn.data && (copy == nullptr || choice.ffn.data == copy));
    CHECK(choice.neurons.size == neurons.size());
    CHECK(output_of(choice.ffn, choice.neurons) == output_of(ffn, view(neurons)));
    copy = choice.ffn.data;
  }
  for (const Indices& row : {misplaced, Indices(3, kNeuronPadding), all}) {
    const PackedChoice choice = packed.choose(ffn, view(row), serial());
    CHECK(choice.ffn.data == ffn.data && choice.neurons.data == row.data());
    CHECK(choice.neurons.size == row.size());  // for sparse_ffn to refuse
  }
}

void test_a_copy_is_made_once_a_choice() {
  const Bytes bundles = random_bundles(BundleFormat::kInt4, 1);
  const FfnBundle ffn = layer_of(bundles, BundleFormat::kInt4);
  const Indices neurons = every(2);
  PackedBundles packed;
  const int64_t bytes = bundle_bytes(ffn.format, kWidth);
  const auto* copy =
      static_cast<const uint8_t*>(packed.choose(ffn, view(neurons), serial()).ffn.data);
  auto& mark = const_cast<uint8_t&>(copy[bytes]);  // of a neuron that is not compared
  mark = static_cast<uint8_t>(~mark);
  const uint8_t marked = mark;
  CHECK(packed.choose(ffn, view(neurons), serial()).ffn.data == copy);
  CHECK(copy[bytes] == marked);
  Indices other = neurons;
  other.back() += 1;
  packed.choose(ffn, view(other), serial());
  CHECK(copy[bytes] != marked);
}

void test_other_weights_at_the_same_place_are_noticed() {
  Bytes bundles = random_bundles(BundleFormat::kInt4, 1);
  const FfnBundle ffn = layer_of(bundles, BundleFormat::kInt4);
  const Indices neurons = every(2);
  PackedBundles packed;
  packed.choose(ffn, view(neurons), serial());
  const Bytes other = random_bundles(BundleFormat::kInt4, 2);
  std::copy(other.begin(), other.end(), bundles.begin());
  const PackedChoice choice = packed.choose(ffn, view(neurons), serial());
  CHECK(output_of(choice.ffn, choice.neurons) == output_of(ffn, view(neurons)));
}

void test_in_place_where_a_copy_gains_nothing() {
  const Bytes bundles = random_bundles(BundleFormat::kInt4, 1);
  const FfnBundle ffn = layer_of(bundles, BundleFormat::kInt4);
  PackedBundles packed;
  const Indices all = every(1), unsorted = {3, 2};
  CHECK(packed.choose(ffn, view(all), serial()).ffn.data == ffn.data);
  CHECK(packed.choose(ffn, view(unsorted), serial()).ffn.data == ffn.data);
  const Floats floats(static_cast<size_t>(kNeurons * 3 * kWidth));
  const FfnBundle plain{floats.data(), kNeurons, kWidth, BundleFormat::kFloat32};
  const Indices some = every(2);
  CHECK(packed.choose(plain, view(some), serial()).ffn.data == plain.data);
}

void test_a_second_thread_reads_in_place() {
  const Bytes bundles = random_bundles(BundleFormat::kInt4, 1);
  const FfnBundle ffn = layer_of(bundles, BundleFormat::kInt4);
  const Indices neurons = every(2);
  PackedBundles packed;
  const PackedChoice mine = packed.choose(ffn, view(neurons), serial());
  CHECK(mine.ffn.data != ffn.data);
  std::thread other(
      [&] { CHECK(packed.choose(ffn, view(neurons), serial()).ffn.data == ffn.data); });
  other.join();
}

void test_layers_of_a_process() {
  const Bytes first = random_bundles(BundleFormat::kInt4, 1);
  const Bytes second = random_bundles(BundleFormat::kInt4, 2);
  const Indices neurons = every(2);
  PackedLayers& layers = PackedLayers::of_process();
  for (int round = 0; round < 3; ++round) {
    for (const Bytes* bundles : {&first, &second}) {
      const FfnBundle ffn = layer_of(*bundles, BundleFormat::kInt4);
      const PackedChoice choice = layers.choose(ffn, view(neurons), serial());
      CHECK(choice.ffn.data != ffn.data);
      if (round == 1) layers.clear();  // the choice is still good
      CHECK(output_of(choice.ffn, choice.neurons) == output_of(ffn, view(neurons)));
    }
  }
  layers.clear();
}

void test_pages_are_shared_and_given_back() {
  HugePages pages;
  HugePages::Block first = pages.allocate(100);
  HugePages::Block second = pages.allocate(100);
  CHECK(second.data() == first.data() + 128);
  CHECK(reinterpret_cast<uintptr_t>(first.data()) % 64 == 0);
  HugePages::Block large = pages.allocate(size_t{3} << 24);
  std::memset(large.data(), 1, large.size());
  first = HugePages::Block();
  second = std::move(large);
  CHECK(second.size() == size_t{3} << 24 && large.data() != second.data());
}

// A file of `bytes` ones, mapped with these rights.
class MappedOnes {
 public:
  MappedOnes(size_t bytes, int rights) : bytes_(bytes), file_(std::tmpfile()) {
    const Bytes ones(bytes, 1);
    CHECK(std::fwrite(ones.data(), 1, bytes, file_) == bytes && std::fflush(file_) == 0);
    data_ = mmap(nullptr, bytes, rights, MAP_PRIVATE, fileno(file_), 0);
    CHECK(data_ != MAP_FAILED);
  }
  ~MappedOnes() {
    munmap(data_, bytes_);
    std::fclose(file_);
  }

  uint8_t* data() const { return static_cast<uint8_t*>(data_); }

 private:
  size_t bytes_;
  std::FILE* file_;
  void* data_;
};

void test_pages_of_a_file_are_released_and_others_kept() {
  constexpr size_t kBytes = 1 << 18;
  const MappedOnes read(kBytes, PROT_READ), written(kBytes, PROT_READ | PROT_WRITE);
  written.data()[kBytes / 2] = 7;  // lost, if its page were released
  Bytes memory(kBytes, 5);
  CHECK(!release_file_pages(memory.data(), kBytes));
  CHECK(std::count(memory.begin(), memory.end(), 5) == kBytes);
  CHECK(!release_file_pages(written.data(), kBytes));
  CHECK(written.data()[kBytes / 2] == 7);
  CHECK(!release_file_pages(read.data() + 1, 100));  // no whole page
#if defined(__linux__)
  CHECK(release_file_pages(read.data() + 1, kBytes - 2));
#endif
  CHECK(std::count(read.data(), read.data() + kBytes, 1) == kBytes);
}

}  // namespace
}  // namespace glass::test

int main() {
  using namespace glass::test;
  test_same_bits_as_in_place();
  test_biases_are_copied();
  test_padding_is_not_copied();
  test_a_copy_is_made_once_a_choice();
  test_other_weights_at_the_same_place_are_noticed();
  test_in_place_where_a_copy_gains_nothing();
  test_a_second_thread_reads_in_place();
  test_layers_of_a_process();
  test_pages_are_shared_and_given_back();
  test_pages_of_a_file_are_released_and_others_kept();
  return check_result();
}

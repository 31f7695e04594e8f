#include "driver/onnxruntime/decoder.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "driver/span.h"

namespace glass {
namespace {

// All neurons of every row [L,F].
std::vector<int32_t> every_neuron(const ModelInfo& model) {
  std::vector<int32_t> neurons(static_cast<size_t>(model.rows() * model.d_ff));
  for (auto row = neurons.begin(); row != neurons.end(); row += model.d_ff) {
    std::iota(row, row + model.d_ff, 0);
  }
  return neurons;
}

Result<OrtOwned<OrtValue>> indices_over(const std::vector<int32_t>& neurons, int64_t rows) {
  const auto kept = static_cast<int64_t>(neurons.size()) / rows;
  return ort_tensor(all(neurons), {rows, kept}, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32);
}

// The project's operators read the chosen neurons in place: nothing is packed here.
class BundleDecoder final : public OnnxDecoder {
 public:
  BundleDecoder(OnnxGraph graph, const ModelInfo& model)
      : OnnxDecoder(std::move(graph)), rows_(model.rows()) {}

  Outcome select(std::vector<int32_t> neurons) override {
    const auto indices = indices_over(neurons, rows_);
    if (!indices) return indices.failure();
    Outcome bound = graph_.input("ffn_idx", **indices);
    if (bound) neurons_ = std::move(neurons);  // its memory stays where it is
    return bound;
  }

 private:
  int64_t rows_;
  std::vector<int32_t> neurons_;
};

// An input of decode that holds rows of the chosen neurons of one layer, such as down.3.
struct RowInput {
  TensorSignature tensor;
  std::string weight;  // whose rows they are: ffn.3.down
  size_t layer = 0;
};

// Fails where the name is not that of a row input.
Result<RowInput> row_input(const TensorSignature& tensor) {
  const size_t dot = tensor.name.find('.');
  const std::string layer = dot == std::string::npos ? "" : tensor.name.substr(dot + 1);
  if (layer.empty() || layer.size() > 6 ||
      layer.find_first_not_of("0123456789") != std::string::npos) {
    return failure("pack: output '", tensor.name, "' is not of the form part.layer", kCopyAgain);
  }
  return RowInput{tensor, "ffn." + layer + "." + tensor.name.substr(0, dot),
                  static_cast<size_t>(std::stoul(layer))};
}

// Whether layers have one symbol for the number of kept neurons.
bool share_a_symbol(const std::vector<RowInput>& inputs) {
  std::set<std::string> symbols;
  std::set<size_t> layers;
  for (const RowInput& input : inputs) {
    symbols.insert(input.tensor.symbol);
    layers.insert(input.layer);
  }
  return symbols.size() < layers.size();
}

// Memory for some rows, and its tensor.
struct Rows {
  std::vector<float> values;
  OrtOwned<OrtValue> tensor;
};

// float32 rows of the chosen neurons are inputs, which a graph of its own packs. Dense decoding
// reads the mapped weights in place.
class RowDecoder final : public OnnxDecoder {
 public:
  RowDecoder(OnnxGraph graph, OnnxGraph pack, const OnnxLoader& loader, const ModelInfo& model,
             std::vector<RowInput> inputs)
      : OnnxDecoder(std::move(graph)),
        pack_(std::move(pack)),
        loader_(loader),
        model_(model),
        inputs_(std::move(inputs)),
        one_size_(share_a_symbol(inputs_)) {}

  Outcome select(std::vector<int32_t> neurons) override {
    const std::vector<int64_t> kept = kept_neurons(neurons);
    const auto [least, most] = std::minmax_element(kept.begin(), kept.end());
    if (*least == model_.d_ff) return select_all();
    if (one_size_ && *least < *most) {
      return failure(graph_.path(), ": layers keep from ", *least, " to ", *most,
                     " neurons, but the ",
                     "graphs of this artifact take the same number in all; export the model again");
    }
    if (kept != kept_) {
      if (Outcome made = allocate(kept); !made) return made;
    }
    return pack(neurons);
  }

 private:
  // How many neurons each row [K] has before its padding.
  std::vector<int64_t> kept_neurons(const std::vector<int32_t>& neurons) const {
    std::vector<int64_t> kept;
    const auto width = static_cast<int64_t>(neurons.size()) / model_.rows();
    for (auto row = neurons.begin(); row != neurons.end(); row += width) {
      kept.push_back(width - std::count(row, row + width, kNeuronPadding));
    }
    return kept;
  }

  Outcome select_all() {
    for (const RowInput& input : inputs_) {
      const auto weight = loader_.weights().find(input.weight);
      if (weight == loader_.weights().end()) {
        return failure(graph_.path(), ": the weights file has no '", input.weight, "'", kCopyAgain);
      }
      if (Outcome bound = graph_.input(input.tensor.name, *weight->second); !bound) return bound;
    }
    return Done{};
  }

  // Memory for so many rows of each layer.
  Outcome allocate(const std::vector<int64_t>& kept) {
    if (Outcome bound = select_all(); !bound) return bound;
    pack_.unbind();
    rows_.clear();  // the old rows go before the new ones are there
    kept_.clear();
    for (const RowInput& input : inputs_) {
      if (input.layer >= kept.size()) {
        return failure(graph_.path(), ": '", input.tensor.name, "' is of no layer");
      }
      std::vector<int64_t> shape = input.tensor.shape;
      std::replace(shape.begin(), shape.end(), int64_t{-1}, kept[input.layer]);
      const int64_t count = std::accumulate(shape.begin(), shape.end(), int64_t{1},
                                            [](int64_t a, int64_t b) { return a * b; });
      Rows& rows = rows_[input.tensor.name];
      rows.values.resize(static_cast<size_t>(count));
      auto tensor = ort_tensor(all(rows.values), shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
      if (!tensor) return tensor.failure();
      rows.tensor = std::move(*tensor);
    }
    kept_ = kept;
    return Done{};
  }

  Outcome pack(const std::vector<int32_t>& neurons) {
    const auto indices = indices_over(neurons, model_.rows());
    if (!indices) return indices.failure();
    if (Outcome bound = pack_.input("ffn_idx", **indices); !bound) return bound;
    for (const auto& [name, rows] : rows_) {
      if (Outcome bound = pack_.output(name, *rows.tensor); !bound) return bound;
    }
    if (Outcome packed = pack_.run(); !packed) return packed;
    for (const auto& [name, rows] : rows_) {
      if (Outcome bound = graph_.input(name, *rows.tensor); !bound) return bound;
    }
    return Done{};
  }

  OnnxGraph pack_;
  const OnnxLoader& loader_;
  ModelInfo model_;
  std::vector<RowInput> inputs_;
  bool one_size_;  // as in graphs of version 0.1
  std::map<std::string, Rows> rows_;
  std::vector<int64_t> kept_;  // neurons of each layer that rows_ is made for
};

Result<std::unique_ptr<OnnxDecoder>> open_rows(const Artifact& artifact, const OnnxLoader& loader,
                                               OnnxGraph graph) {
  Result<OnnxGraph> pack = loader.load("pack", /*arena=*/false);
  if (!pack) return pack.failure();
  std::vector<RowInput> inputs;
  for (const TensorSignature& packed : artifact.signatures.at("pack").outputs) {
    Result<RowInput> input = row_input(packed);
    if (!input) return failure(artifact.directory, ": ", input.failure().message);
    inputs.push_back(std::move(*input));
  }
  return std::unique_ptr<OnnxDecoder>(new RowDecoder(std::move(graph), std::move(*pack), loader,
                                                     artifact.model, std::move(inputs)));
}

}  // namespace

Result<std::unique_ptr<OnnxDecoder>> OnnxDecoder::open(const Artifact& artifact,
                                                       const OnnxLoader& loader) {
  if (!artifact.custom_ops && artifact.ffn_dtype != "fp32") {
    return failure(artifact.directory, ": its ", artifact.ffn_dtype, " FFNs are stock operators, ",
                   "which only the Python runtime runs; export it again with ",
                   "--set target.custom_ops=true");
  }
  Result<OnnxGraph> graph = loader.load("decode", /*arena=*/true);
  if (!graph) return graph.failure();
  Result<std::unique_ptr<OnnxDecoder>> decoder =
      artifact.custom_ops ? Result<std::unique_ptr<OnnxDecoder>>(std::unique_ptr<OnnxDecoder>(
                                new BundleDecoder(std::move(*graph), artifact.model)))
                          : open_rows(artifact, loader, std::move(*graph));
  if (!decoder) return decoder;
  if (Outcome dense = (*decoder)->select(every_neuron(artifact.model)); !dense) {
    return dense.failure();
  }
  return decoder;
}

}  // namespace glass

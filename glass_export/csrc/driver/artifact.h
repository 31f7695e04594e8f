// Artifact directories: the manifest glass.json, checked as glass_export/artifact/reader.py does.
//
// Legend: L layers, F FFN width.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "driver/selection.h"
#include "driver/signature.h"
#include "driver/status.h"

namespace glass {

// The manifest's schema that this program reads.
inline constexpr int64_t kSchemaVersion = 1;

// The model, as far as a runtime has to know it.
struct ModelInfo {
  std::string name;
  std::string family;
  int64_t layers = 0;
  int64_t expert_rows = 0;  // of a mixture of experts: one for every expert of a layer; else 0
  int64_t d_model = 0;
  int64_t d_ff = 0;  // F
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_length = 0;     // context in tokens, prompt and answer together
  int64_t prefill_chunk = 0;  // most tokens of one prefill call
  std::vector<int64_t> eos_token_ids;

  // Rows L of scores, priors and choices of neurons.
  int64_t rows() const { return expert_rows > 0 ? expert_rows : layers; }
};

// A file of the artifact; the path is relative.
struct FileEntry {
  std::string path;
  int64_t size = 0;
  std::string sha256;  // in hex
};

// A tensor of a graph's signature. A size that calls decide, such as a number of tokens, is -1.
struct TensorSignature {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string symbol;  // name of the last such size
};

// A tensor of the weights file.
struct WeightEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // bytes
  int64_t nbytes = 0;
};

struct GraphSignature {
  std::vector<TensorSignature> inputs, outputs;
};

// A named trade of fidelity for speed; see Profile in glass_export/selection.py. Settings for
// assign().
using Profile = std::vector<std::pair<std::string, std::string>>;

// An artifact whose manifest and file sizes have been checked.
struct Artifact {
  std::string directory;
  std::string target;       // executorch or onnx
  std::string dtype;        // of the linears outside the FFNs
  std::string ffn_dtype;    // of the FFNs: fp32, int8 or int4
  bool custom_ops = false;  // whether it takes the project's operators
  ModelInfo model;
  SelectionSettings defaults;
  std::map<std::string, Profile> profiles;
  std::map<std::string, std::string> graphs;  // file by role
  std::map<std::string, GraphSignature> signatures;
  std::vector<WeightEntry> weights;     // of the weights file, where there is one
  std::vector<std::string> statistics;  // of the prior
  std::vector<FileEntry> files;

  // Reads the manifest. Fails when there is none, no trusted key signed it, it was altered, is of
  // another schema or contradicts itself, a file is missing or of another size, or a graph refers
  // to other files. A signature covers the other files only after check_hashes().
  static Result<Artifact> open(const std::string& directory, const TrustedKeys& trusted = {});

  // The same of the text of a manifest alone; no file is looked at.
  static Result<Artifact> parse(std::string_view manifest);

  // Compares the SHA-256 of every file, which takes seconds a gigabyte. Fails at the first that was
  // altered, or once *cancelled is true; it may be null.
  Outcome check_hashes(const std::atomic<bool>* cancelled) const;

  // The path of a listed file; empty when there is none of this name.
  std::string file(const std::string& name) const;

  // Bytes of all listed files that graphs and their weights are in.
  int64_t model_bytes() const;
};

}  // namespace glass

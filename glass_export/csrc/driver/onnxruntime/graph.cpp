#include "driver/onnxruntime/graph.h"

#include <algorithm>
#include <utility>

#include "glass/abi.h"
#include "onnxruntime/register.h"

namespace glass {
namespace {

// The runtime's allocator of strings; there is always one.
OrtAllocator* default_allocator() {
  OrtAllocator* allocator = nullptr;
  const OrtOwned<OrtStatus> status(ort_api()->GetAllocatorWithDefaultOptions(&allocator));
  return allocator;
}

// A string of the runtime's, which is freed; empty when there is none.
std::string taken(OrtAllocator* allocator, char* text) {
  const std::string copy = text == nullptr ? "" : text;
  const OrtOwned<OrtStatus> freed(ort_api()->AllocatorFree(allocator, text));
  return copy;
}

// The version of the operators that a graph was exported for; empty when it says none.
Result<std::string> exported_for(const OnnxGraph& graph) {
  auto metadata = ort_made<OrtModelMetadata>(graph.path(), [&](OrtModelMetadata** made) {
    return ort_api()->SessionGetModelMetadata(&graph.session(), made);
  });
  if (!metadata) return metadata.failure();
  OrtAllocator* const allocator = default_allocator();
  char* text = nullptr;
  const Outcome read = ort_outcome(ort_api()->ModelMetadataLookupCustomMetadataMap(
                                       metadata->get(), allocator, "glass.abi_version", &text),
                                   graph.path());
  if (!read) return read.failure();
  return taken(allocator, text);
}

// Type and sizes of a tensor; sizes that calls decide are -1.
struct TensorType {
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<int64_t> sizes;
};

Result<TensorType> type_of(const OrtTypeInfo& info, const std::string& what) {
  const OrtApi& api = *ort_api();
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;  // part of info
  Outcome read = ort_outcome(api.CastTypeInfoToTensorInfo(&info, &tensor), what);
  TensorType result;
  if (!read || tensor == nullptr) return result;
  size_t rank = 0;
  read = ort_outcome(api.GetTensorElementType(tensor, &result.type), what);
  if (read) read = ort_outcome(api.GetDimensionsCount(tensor, &rank), what);
  result.sizes.resize(rank);
  if (read) read = ort_outcome(api.GetDimensions(tensor, result.sizes.data(), rank), what);
  if (!read) return read.failure();
  return result;
}

bool matches(const TensorType& actual, const TensorSignature& expected) {
  return actual.type == ort_type(expected.dtype) &&
         std::equal(actual.sizes.begin(), actual.sizes.end(), expected.shape.begin(),
                    expected.shape.end(),
                    [](int64_t size, int64_t wanted) { return wanted < 0 || size == wanted; });
}

// How the runtime tells the inputs of a session, or its outputs.
struct Side {
  const char* name;
  decltype(OrtApi::SessionGetInputCount) count;
  decltype(OrtApi::SessionGetInputName) name_of;
  decltype(OrtApi::SessionGetInputTypeInfo) type_of;
};

Outcome check_side(const OnnxGraph& graph, const Side& side,
                   const std::vector<TensorSignature>& expected) {
  size_t count = 0;
  if (Outcome read = ort_outcome(side.count(&graph.session(), &count), graph.path()); !read) {
    return read;
  }
  if (count != expected.size()) {
    return failure(graph.path(), ": it has ", count, " ", side.name, ", glass.json says ",
                   expected.size(), kCopyAgain);
  }
  OrtAllocator* const allocator = default_allocator();
  for (size_t i = 0; i < count; ++i) {
    char* text = nullptr;
    const Outcome named =
        ort_outcome(side.name_of(&graph.session(), i, allocator, &text), graph.path());
    if (!named) return named;
    const std::string name = taken(allocator, text);
    const auto info = ort_made<OrtTypeInfo>(
        graph.path(), [&](OrtTypeInfo** made) { return side.type_of(&graph.session(), i, made); });
    if (!info) return info.failure();
    const Result<TensorType> actual = type_of(**info, graph.path());
    if (!actual) return actual.failure();
    const auto found =
        std::find_if(expected.begin(), expected.end(),
                     [&](const TensorSignature& tensor) { return tensor.name == name; });
    if (found != expected.end() && matches(*actual, *found)) continue;
    return failure(graph.path(), ": '", name, "' is not of the type and shape that glass.json ",
                   "says; the artifact is of two exports", kCopyAgain);
  }
  return Done{};
}

}  // namespace

Outcome OnnxGraph::input(const std::string& name, const OrtValue& tensor) {
  return ort_outcome(ort_api()->BindInput(binding_.get(), name.c_str(), &tensor), path_);
}

Outcome OnnxGraph::output(const std::string& name, const OrtValue& tensor) {
  return ort_outcome(ort_api()->BindOutput(binding_.get(), name.c_str(), &tensor), path_);
}

void OnnxGraph::unbind() {
  ort_api()->ClearBoundInputs(binding_.get());
  ort_api()->ClearBoundOutputs(binding_.get());
}

Outcome OnnxGraph::run() {
  return ort_outcome(ort_api()->RunWithBinding(session_.get(), nullptr, binding_.get()), path_);
}

Result<std::unique_ptr<OnnxLoader>> OnnxLoader::open(const Artifact& artifact, int64_t threads) {
  if (ort_api() == nullptr) {
    return failure("ONNX Runtime ", OrtGetApiBase()->GetVersionString(),
                   " is too old, expected 1.23 or newer");
  }
  std::unique_ptr<OnnxLoader> loader(new OnnxLoader(artifact, threads));
  auto environment = ort_made<OrtEnv>("starting ONNX Runtime", [](OrtEnv** made) {
    return ort_api()->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "glass", made);
  });
  if (!environment) return environment.failure();
  loader->environment_ = std::move(*environment);
  if (Outcome mapped = loader->map_weights(); !mapped) return mapped.failure();
  return loader;
}

Outcome OnnxLoader::map_weights() {
  const auto role = artifact_.graphs.find("weights");
  if (role == artifact_.graphs.end()) {
    return failure(artifact_.directory, ": the manifest names no weights file", kCopyAgain);
  }
  Result<MappedFile> file = MappedFile::open(artifact_.file(role->second));
  if (!file) return file.failure();
  file_ = std::move(*file);
  for (const WeightEntry& entry : artifact_.weights) {
    const auto begin = static_cast<size_t>(entry.offset), bytes = static_cast<size_t>(entry.nbytes);
    if (begin > file_.size() || bytes > file_.size() - begin) {
      return failure(artifact_.directory, ": tensor '", entry.name, "' ends behind ", role->second,
                     kCopyAgain);
    }
    const void* const data = file_.data() + begin;
    auto tensor = ort_tensor(data, bytes, entry.shape, ort_type(entry.dtype));
    if (!tensor) return failure("tensor '", entry.name, "': ", tensor.failure().message);
    weights_[entry.name] = std::move(*tensor);
  }
  return Done{};
}

Outcome OnnxLoader::set_options(OrtSessionOptions& options, bool arena) const {
  const OrtApi& api = *ort_api();
  const std::string threads = std::to_string(threads_);
  std::vector<OrtStatus*> statuses = {
      api.SetIntraOpNumThreads(&options, static_cast<int>(threads_)),
      api.SetSessionLogSeverityLevel(&options, ORT_LOGGING_LEVEL_ERROR),
      arena ? api.EnableCpuMemArena(&options) : api.DisableCpuMemArena(&options),
      // A packed copy of the weights in each session would more than double the memory.
      api.AddSessionConfigEntry(&options, "session.disable_prepacking", "1"),
      // Idle threads of one session must not take processors from the others.
      api.AddSessionConfigEntry(&options, "session.force_spinning_stop", "1"),
  };
  for (const auto& [name, tensor] : weights_) {
    statuses.push_back(api.AddInitializer(&options, name.c_str(), tensor.get()));
  }
  if (artifact_.custom_ops) {
    statuses.push_back(
        api.AddSessionConfigEntry(&options, onnxruntime_ops::kThreadsEntry, threads.c_str()));
    statuses.push_back(RegisterCustomOps(&options, OrtGetApiBase()));
  }
  Outcome first = Done{};
  for (OrtStatus* status : statuses) {
    Outcome outcome = ort_outcome(status, "setting up a session");
    if (first) first = std::move(outcome);
  }
  return first;
}

Result<OnnxGraph> OnnxLoader::load(const std::string& role, bool arena) const {
  const auto name = artifact_.graphs.find(role);
  if (name == artifact_.graphs.end()) {
    return failure(artifact_.directory, ": the manifest names no graph '", role, "'", kCopyAgain);
  }
  const std::string path = artifact_.file(name->second);
  const OrtApi& api = *ort_api();
  auto options = ort_made<OrtSessionOptions>(
      path, [&](OrtSessionOptions** made) { return api.CreateSessionOptions(made); });
  if (!options) return options.failure();
  if (Outcome set = set_options(**options, arena); !set) return set.failure();
  auto session = ort_made<OrtSession>(path + ": loading it", [&](OrtSession** made) {
    return api.CreateSession(environment_.get(), path.c_str(), options->get(), made);
  });
  if (!session) return session.failure();
  auto binding = ort_made<OrtIoBinding>(
      path, [&](OrtIoBinding** made) { return api.CreateIoBinding(session->get(), made); });
  if (!binding) return binding.failure();
  OnnxGraph graph(path, std::move(*session), std::move(*binding));
  if (Outcome sound = check(graph, role); !sound) return sound.failure();
  return graph;
}

Outcome OnnxLoader::check(const OnnxGraph& graph, const std::string& role) const {
  const OrtApi& api = *ort_api();
  const auto found = artifact_.signatures.find(role);
  const GraphSignature expected =
      found == artifact_.signatures.end() ? GraphSignature() : found->second;
  const Side inputs{"inputs", api.SessionGetInputCount, api.SessionGetInputName,
                    api.SessionGetInputTypeInfo};
  const Side outputs{"outputs", api.SessionGetOutputCount, api.SessionGetOutputName,
                     api.SessionGetOutputTypeInfo};
  if (Outcome sound = check_side(graph, inputs, expected.inputs); !sound) return sound;
  if (Outcome sound = check_side(graph, outputs, expected.outputs); !sound) return sound;
  if (!artifact_.custom_ops) return Done{};
  const Result<std::string> version = exported_for(graph);
  if (!version) return version.failure();
  if (*version == std::to_string(kAbiVersion)) return Done{};
  return failure(graph.path(), ": made for operators of version ",
                 version->empty() ? "unknown" : *version, ", this program has ", kAbiVersion,
                 "; export the model again");
}

}  // namespace glass

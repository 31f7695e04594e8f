#include "onnxruntime/register.h"

#include <charconv>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "glass/abi.h"
#include "onnxruntime/operators.h"

namespace glass::onnxruntime_ops {

namespace {

constexpr const char* kDomain = "ai.glass";

// The operators for sessions of one number of threads.
class OperatorSet {
 public:
  OperatorSet(const OrtApi& api, int64_t threads)
      : api_(api),
        sparse_ffn_(api, threads),
        dense_ffn_(api, threads),
        plain_sparse_ffn_(api, threads),
        plain_dense_ffn_(api, threads),
        sparse_experts_(api, threads),
        dense_experts_(api, threads),
        linear_(api, threads),
        embedding_(api, threads) {}
  ~OperatorSet() {
    if (domain_ != nullptr) api_.ReleaseCustomOpDomain(domain_);
  }

  OrtStatus* init() {
    const OrtCustomOp* const all[] = {&sparse_ffn_,      &dense_ffn_,      &plain_sparse_ffn_,
                                      &plain_dense_ffn_, &sparse_experts_, &dense_experts_,
                                      &linear_,          &embedding_};
    OrtStatus* status = api_.CreateCustomOpDomain(kDomain, &domain_);
    for (const OrtCustomOp* op : all) {
      if (status == nullptr) status = api_.CustomOpDomain_Add(domain_, op);
    }
    return status;
  }

  OrtCustomOpDomain* domain() const { return domain_; }

 private:
  const OrtApi& api_;
  OperatorOf<SparseFfn> sparse_ffn_;
  OperatorOf<DenseFfn> dense_ffn_;
  OperatorOf<PlainSparseFfn> plain_sparse_ffn_;
  OperatorOf<PlainDenseFfn> plain_dense_ffn_;
  OperatorOf<SparseExperts> sparse_experts_;
  OperatorOf<DenseExperts> dense_experts_;
  OperatorOf<Linear> linear_;
  OperatorOf<Embedding> embedding_;
  OrtCustomOpDomain* domain_ = nullptr;
};

// The operators of all sessions so far. They stay until the library is unloaded, since ONNX Runtime
// does not tell when the last session that uses them ends.
class Registry {
 public:
  OrtStatus* domain(const OrtApi& api, int64_t threads, OrtCustomOpDomain*& domain) {
    const std::lock_guard<std::mutex> guard(mutex_);
    std::unique_ptr<OperatorSet>& known = sets_[{&api, threads}];
    if (known == nullptr) {
      auto made = std::make_unique<OperatorSet>(api, threads);
      if (OrtStatus* status = made->init()) return status;
      known = std::move(made);
    }
    domain = known->domain();
    return nullptr;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<const OrtApi*, int64_t>, std::unique_ptr<OperatorSet>> sets_;
};

Registry& registry() {
  static Registry shared;
  return shared;
}

// The entry's number; all processors when there is no entry.
OrtStatus* read_threads(const OrtApi& api, const OrtSessionOptions* options, int64_t& threads) {
  int present = 0;
  if (OrtStatus* status = api.HasSessionConfigEntry(options, kThreadsEntry, &present)) {
    return status;
  }
  if (present == 0) {
    const unsigned processors = std::thread::hardware_concurrency();
    threads = processors > 0 ? static_cast<int64_t>(processors) : 1;
    return nullptr;
  }
  size_t size = 0;
  OrtStatus* status = api.GetSessionConfigEntry(options, kThreadsEntry, nullptr, &size);
  std::string text(size, '\0');
  if (status == nullptr && size > 0) {
    status = api.GetSessionConfigEntry(options, kThreadsEntry, text.data(), &size);
  }
  if (status != nullptr) return status;
  text.resize(size > 0 ? size - 1 : 0);  // without the terminating zero
  const char* const end = text.data() + text.size();
  const std::from_chars_result read = std::from_chars(text.data(), end, threads);
  if (read.ec == std::errc() && read.ptr == end && threads >= 1) return nullptr;
  const std::string message = std::string("session config entry ") + kThreadsEntry + ": got '" +
                              text + "', expected a whole number of at least 1";
  return api.CreateStatus(ORT_INVALID_ARGUMENT, message.c_str());
}

OrtStatus* register_operators(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) {
    const std::string message = std::string("the operators of ai.glass: got ONNX Runtime ") +
                                base->GetVersionString() + ", expected 1.18 or newer";
    return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, message.c_str());
  }
  int64_t threads = 1;
  if (OrtStatus* status = read_threads(*api, options, threads)) return status;
  OrtCustomOpDomain* domain = nullptr;
  if (OrtStatus* status = registry().domain(*api, threads, domain)) return status;
  return api->AddCustomOpDomain(options, domain);
}

}  // namespace

}  // namespace glass::onnxruntime_ops

extern "C" {

OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  return glass::onnxruntime_ops::register_operators(options, base);
}

int32_t glass_abi_version() { return glass::kAbiVersion; }

const char* glass_active_isa() { return glass::isa_name(glass::active_isa()); }
}

// The C interface: checks what C callers pass, and lets no exception out.
#include "glass.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "driver/session.h"

struct glass_cancellation {
  std::atomic<bool> set{false};
};

struct glass_session {
  std::unique_ptr<glass::Session> session;
  std::mutex busy;  // held by the call that uses the session
};

struct glass_answer {
  glass::Answer value;
};

namespace {

using glass::ErrorCode;
using glass::Failure;

std::string& last_error() {
  thread_local std::string message;
  return message;
}

// Of the same failure; a text without an end of its life.
const char*& last_error_code() {
  thread_local const char* code = "";
  return code;
}

glass_status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return GLASS_INVALID_ARGUMENT;
    case ErrorCode::kArtifact:
      return GLASS_BAD_ARTIFACT;
    case ErrorCode::kOutOfMemory:
      return GLASS_OUT_OF_MEMORY;
    case ErrorCode::kContextFull:
      return GLASS_CONTEXT_FULL;
    case ErrorCode::kCancelled:
      return GLASS_CANCELLED;
    case ErrorCode::kEngine:
      return GLASS_ENGINE_FAILED;
    case ErrorCode::kFailed:
      break;
  }
  return GLASS_INTERNAL;
}

glass_status fail(glass_status status, std::string message) {
  last_error() = std::move(message);
  last_error_code() = "";
  return status;
}

glass_status fail(const Failure& failure) {
  const glass_status status = fail(status_of(failure.code), failure.message);
  last_error_code() = glass::artifact_code_name(failure.artifact);
  return status;
}

// The same for a fault of this library, where no exception may leave any more.
glass_status report_internal(const char* message) noexcept {
  last_error().clear();
  try {
    last_error() = message;
  } catch (const std::bad_alloc&) {  // the status has to do
  }
  return GLASS_INTERNAL;
}

// What a call returns, with its exceptions as errors.
template <class Call>
glass_status guarded(const Call& call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    last_error().clear();  // the message may not fit either
    return GLASS_OUT_OF_MEMORY;
  } catch (const std::exception& problem) {
    return report_internal(problem.what());
  } catch (...) {
    return report_internal("unknown exception");
  }
}

glass_status missing(const char* name) noexcept {
  return guarded([&] { return fail(GLASS_INVALID_ARGUMENT, std::string(name) + ": got null"); });
}

// As guarded(), when no other call uses the session.
template <class Call>
glass_status exclusive(glass_session* session, const Call& call) noexcept {
  return guarded([&] {
    if (session == nullptr) return missing("session");
    const std::unique_lock<std::mutex> lock(session->busy, std::try_to_lock);
    if (lock.owns_lock()) return call(*session->session);
    return fail(GLASS_BUSY, "session: another call uses it; wait until that has returned");
  });
}

// Copies as much of a struct as its caller has room for; its first field is that room.
template <class Struct>
void copy_out(const Struct& from, Struct* to) {
  const size_t room = to->size < sizeof(Struct) ? to->size : sizeof(Struct);
  std::memcpy(to, &from, room);
  to->size = room;
}

// A struct of a caller, whose version may have fewer fields: those keep their defaults.
template <class Struct>
Struct copy_in(const Struct* from, void (*init)(Struct*)) {
  Struct to;
  init(&to);
  if (from == nullptr) return to;
  std::memcpy(&to, from, from->size < sizeof(Struct) ? from->size : sizeof(Struct));
  to.size = sizeof(Struct);
  return to;
}

glass_status read_messages(const glass_message* messages, size_t count,
                           std::vector<glass::Message>& out) {
  if (messages == nullptr && count > 0) return missing("messages");
  for (size_t i = 0; i < count; ++i) {
    if (messages[i].role == nullptr || messages[i].content == nullptr) {
      return missing("messages: a role or content");
    }
    out.push_back({messages[i].role, messages[i].content});
  }
  return GLASS_OK;
}

glass_status read_selection(const glass::Artifact& artifact, const glass_request& request,
                            glass::SelectionSettings& out) {
  glass::Profile settings;
  if (request.profile != nullptr) {
    const auto found = artifact.profiles.find(request.profile);
    if (found == artifact.profiles.end()) {
      return fail(GLASS_INVALID_ARGUMENT,
                  "profile: got '" + std::string(request.profile) + "', not in this artifact");
    }
    settings = found->second;
  }
  if (request.settings == nullptr && request.setting_count > 0) return missing("settings");
  for (size_t i = 0; i < request.setting_count; ++i) {
    const glass_setting& setting = request.settings[i];
    if (setting.name == nullptr || setting.value == nullptr) return missing("settings: a string");
    settings.emplace_back(setting.name, setting.value);
  }
  const auto selection = glass::selection_with(artifact.defaults, settings);
  if (!selection) return fail(selection.failure());
  out = *selection;
  return GLASS_OK;
}

glass_status read_stops(const glass_request& request, std::vector<std::string>& out) {
  if (request.stop == nullptr && request.stop_count > 0) return missing("stop");
  for (size_t i = 0; i < request.stop_count; ++i) {
    if (request.stop[i] == nullptr) return missing("stop: a string");
    out.emplace_back(request.stop[i]);
  }
  return GLASS_OK;
}

glass_status read_request(const glass::Artifact& artifact, const glass_request& from,
                          glass::Request& to) {
  if (from.prompt != nullptr) to.prompt.text = from.prompt;
  const glass_status checks[] = {
      read_messages(from.messages, from.message_count, to.prompt.messages),
      read_selection(artifact, from, to.selection),
      read_stops(from, to.stop),
  };
  for (const glass_status status : checks) {
    if (status != GLASS_OK) return status;
  }
  to.max_new_tokens = from.max_new_tokens;
  to.sampling = {from.temperature, from.top_k, from.top_p, from.min_p, from.repetition_penalty, {}};
  if (from.has_seed != 0) to.sampling.seed = from.seed;
  to.reset = from.reset != 0;
  return GLASS_OK;
}

glass_status verify(const char* directory, const glass::TrustedKeys& trusted,
                    const glass_cancellation* cancellation) {
  const auto artifact = glass::Artifact::open(directory, trusted);
  if (!artifact) return fail(artifact.failure());
  const auto sound = artifact->check_hashes(cancellation ? &cancellation->set : nullptr);
  return sound ? GLASS_OK : fail(sound.failure());
}

}  // namespace

const char* glass_status_name(glass_status status) {
  static const char* const kNames[] = {
      "GLASS_OK",           "GLASS_INVALID_ARGUMENT", "GLASS_BAD_ARTIFACT",  "GLASS_OUT_OF_MEMORY",
      "GLASS_CONTEXT_FULL", "GLASS_CANCELLED",        "GLASS_ENGINE_FAILED", "GLASS_BUSY",
      "GLASS_INTERNAL"};
  const auto index = static_cast<size_t>(status);
  return index < sizeof kNames / sizeof *kNames ? kNames[index] : "unknown status";
}

const char* glass_last_error(void) { return last_error().c_str(); }

const char* glass_last_error_code(void) { return last_error_code(); }

glass_status glass_cancellation_new(glass_cancellation** cancellation) {
  if (cancellation == nullptr) return missing("cancellation");
  *cancellation = new (std::nothrow) glass_cancellation;
  return *cancellation != nullptr ? GLASS_OK : GLASS_OUT_OF_MEMORY;
}

void glass_cancel(glass_cancellation* cancellation) {
  if (cancellation != nullptr) cancellation->set = true;
}

void glass_cancellation_free(glass_cancellation* cancellation) { delete cancellation; }

glass_status glass_verify(const char* directory, glass_cancellation* cancellation) {
  if (directory == nullptr) return missing("directory");
  return guarded([&] { return verify(directory, {}, cancellation); });
}

glass_status glass_verify_signed(const char* directory, const char* trusted_keys,
                                 glass_cancellation* cancellation) {
  if (directory == nullptr) return missing("directory");
  if (trusted_keys == nullptr) return missing("trusted_keys");
  return guarded([&] {
    const auto trusted = glass::parse_trusted_keys(trusted_keys);
    return trusted ? verify(directory, *trusted, cancellation) : fail(trusted.failure());
  });
}

void glass_open_options_init(glass_open_options* options) {
  if (options != nullptr) *options = {sizeof *options, 0, 0, 0, nullptr};
}

glass_status glass_open(const char* directory, const glass_open_options* options,
                        glass_session** session) {
  if (session == nullptr) return missing("session");
  *session = nullptr;
  if (directory == nullptr) return missing("directory");
  return guarded([&] {
    const glass_open_options given = copy_in(options, glass_open_options_init);
    glass::OpenOptions wanted;
    wanted.threads = given.threads;
    wanted.check_memory = given.skip_memory_check == 0;
    wanted.memory_limit = given.memory_limit;
    if (given.trusted_keys != nullptr) {
      auto trusted = glass::parse_trusted_keys(given.trusted_keys);
      if (!trusted) return fail(trusted.failure());
      wanted.trusted_keys = std::move(*trusted);
    }
    auto opened = glass::Session::open(directory, wanted);
    if (!opened) return fail(opened.failure());
    auto handle = std::make_unique<glass_session>();
    handle->session = std::move(*opened);
    *session = handle.release();
    return GLASS_OK;
  });
}

void glass_close(glass_session* session) { delete session; }

void glass_info_init(glass_info* info) {
  if (info == nullptr) return;
  *info = {};
  info->size = sizeof *info;
}

glass_status glass_session_info(const glass_session* session, glass_info* info) {
  if (session == nullptr || info == nullptr) return missing("session or info");
  const glass::Artifact& artifact = session->session->artifact();
  const glass::ModelInfo& model = artifact.model;
  copy_out({sizeof(glass_info), model.name.c_str(), model.family.c_str(), artifact.target.c_str(),
            artifact.dtype.c_str(), model.layers, model.d_ff, model.vocab_size, model.max_length,
            artifact.defaults.density, session->session->text().has_chat_template(),
            session->session->load_ms()},
           info);
  return GLASS_OK;
}

void glass_request_init(glass_request* request) {
  if (request == nullptr) return;
  *request = {};
  request->size = sizeof *request;
  request->max_new_tokens = 128;
  request->top_p = 1;
  request->repetition_penalty = 1;
}

glass_status glass_generate(glass_session* session, const glass_request* request,
                            glass_answer** answer) {
  if (answer == nullptr) return missing("answer");
  *answer = nullptr;
  if (request == nullptr) return missing("request");
  return exclusive(session, [&](glass::Session& opened) {
    const glass_request given = copy_in(request, glass_request_init);
    glass::Request wanted;
    if (const glass_status read = read_request(opened.artifact(), given, wanted);
        read != GLASS_OK) {
      return read;
    }
    glass_cancellation own;  // so that the callback can cancel, too
    glass_cancellation* cancellation = given.cancellation ? given.cancellation : &own;
    wanted.cancelled = &cancellation->set;
    if (given.on_text != nullptr) {
      wanted.on_text = [&](const std::string& piece) {
        if (given.on_text(given.context, piece.c_str(), piece.size()) != 0) {
          cancellation->set = true;
        }
      };
    }
    auto result = opened.generate(wanted);
    if (!result) return fail(result.failure());
    *answer = new glass_answer{std::move(*result)};
    return GLASS_OK;
  });
}

void glass_answer_free(glass_answer* answer) { delete answer; }

const char* glass_answer_text(const glass_answer* answer) {
  return answer != nullptr ? answer->value.text.c_str() : "";
}

const int64_t* glass_answer_tokens(const glass_answer* answer, size_t* count) {
  if (count != nullptr) *count = answer != nullptr ? answer->value.tokens.size() : 0;
  return answer != nullptr ? answer->value.tokens.data() : nullptr;
}

glass_finish_reason glass_answer_finish_reason(const glass_answer* answer) {
  if (answer == nullptr) return GLASS_FINISH_STOP;
  return static_cast<glass_finish_reason>(answer->value.reason);
}

void glass_stats_init(glass_stats* stats) {
  if (stats == nullptr) return;
  *stats = {};
  stats->size = sizeof *stats;
}

glass_status glass_answer_stats(const glass_answer* answer, glass_stats* stats) {
  if (answer == nullptr || stats == nullptr) return missing("answer or stats");
  const glass::Figures& figures = answer->value.figures;
  copy_out({sizeof(glass_stats), figures.prompt_tokens, figures.reused_tokens, figures.new_tokens,
            figures.prefill_tps, figures.ttft_ms, figures.fusion_ms, figures.decode_tps,
            figures.refreshes, figures.refresh_ms, figures.density, figures.kept_neurons,
            figures.rss_mb, figures.peak_rss_mb},
           stats);
  return GLASS_OK;
}

glass_status glass_render_chat(glass_session* session, const glass_message* messages, size_t count,
                               char** text) {
  if (text == nullptr) return missing("text");
  *text = nullptr;
  return exclusive(session, [&](glass::Session& opened) {
    std::vector<glass::Message> conversation;
    const glass_status read = read_messages(messages, count, conversation);
    if (read != GLASS_OK) return read;
    const auto rendered = opened.text().render(conversation);
    if (!rendered) return fail(rendered.failure());
    *text = static_cast<char*>(std::malloc(rendered->size() + 1));
    if (*text == nullptr) throw std::bad_alloc();
    std::memcpy(*text, rendered->c_str(), rendered->size() + 1);
    return GLASS_OK;
  });
}

void glass_text_free(char* text) { std::free(text); }

glass_status glass_reset(glass_session* session) {
  return exclusive(session, [](glass::Session& opened) {
    opened.reset();
    return GLASS_OK;
  });
}

// JNI over glass.h: the functions of ai.glass.GlassNative. Strings cross as UTF-8 bytes, handles as
// longs; GlassNative's callers keep handles valid during a call.
#include <jni.h>

#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "glass.h"

namespace {

constexpr int kStatuses = GLASS_INTERNAL + 1;

// Set once by JNI_OnLoad, read by all threads from then on.
struct Ids {
  jclass native;
  jmethodID deliver;
  jclass info, stats, answer;
  jmethodID new_info, new_stats, new_answer;
  jclass exceptions[kStatuses];  // by glass_status; none for GLASS_OK
  jmethodID new_exceptions[kStatuses];
} ids;

constexpr const char* kExceptions[kStatuses] = {
    nullptr,
    "ai/glass/GlassException$InvalidArgument",
    "ai/glass/GlassException$BadArtifact",
    "ai/glass/GlassException$OutOfMemory",
    "ai/glass/GlassException$ContextFull",
    "ai/glass/GlassException$Cancelled",
    "ai/glass/GlassException$EngineFailed",
    "ai/glass/GlassException$Busy",
    "ai/glass/GlassException$Internal",
};

// Null, with an exception pending, when there is no memory.
jbyteArray to_bytes(JNIEnv* env, const char* text, size_t length) {
  const auto size = static_cast<jsize>(length);
  jbyteArray bytes = env->NewByteArray(size);
  if (bytes != nullptr) {
    env->SetByteArrayRegion(bytes, 0, size, reinterpret_cast<const jbyte*>(text));
  }
  return bytes;
}

std::string from_bytes(JNIEnv* env, jbyteArray bytes) {
  if (bytes == nullptr) return "";
  std::string text(static_cast<size_t>(env->GetArrayLength(bytes)), '\0');
  env->GetByteArrayRegion(bytes, 0, static_cast<jsize>(text.size()),
                          reinterpret_cast<jbyte*>(&text[0]));
  return text;
}

std::vector<std::string> from_byte_arrays(JNIEnv* env, jobjectArray arrays) {
  std::vector<std::string> texts;
  const jsize count = env->GetArrayLength(arrays);
  for (jsize i = 0; i < count; ++i) {
    const auto bytes = static_cast<jbyteArray>(env->GetObjectArrayElement(arrays, i));
    texts.push_back(from_bytes(env, bytes));
    env->DeleteLocalRef(bytes);
  }
  return texts;
}

// Pairs of strings, such as glass_message, that point into `texts`.
template <class Pair>
std::vector<Pair> pairs_of(const std::vector<std::string>& texts) {
  std::vector<Pair> pairs;
  for (size_t i = 0; i + 1 < texts.size(); i += 2) {
    pairs.push_back({texts[i].c_str(), texts[i + 1].c_str()});
  }
  return pairs;
}

void raise(JNIEnv* env, glass_status status, const char* message) {
  const bool known = status > GLASS_OK && status < kStatuses;
  const int index = known ? status : GLASS_INTERNAL;
  jbyteArray text = to_bytes(env, message, std::char_traits<char>::length(message));
  if (text == nullptr) return;
  jobject thrown = env->NewObject(ids.exceptions[index], ids.new_exceptions[index], text);
  if (thrown != nullptr) env->Throw(static_cast<jthrowable>(thrown));
}

// Whether a call succeeded; throws its exception otherwise.
bool succeeded(JNIEnv* env, glass_status status) {
  if (status == GLASS_OK) return true;
  const char* message = glass_last_error();
  raise(env, status, *message != '\0' ? message : "no memory is left; close other programs");
  return false;
}

// Runs what may allocate: no C++ exception may reach the virtual machine.
template <class Call>
auto guarded(JNIEnv* env, const Call& call) noexcept -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    raise(env, GLASS_OUT_OF_MEMORY, "no memory is left; close other programs");
  }
  return decltype(call())();
}

template <class Handle>
Handle* handle_of(jlong pointer) {
  return reinterpret_cast<Handle*>(static_cast<intptr_t>(pointer));
}

template <class Handle>
jlong pointer_of(Handle* handle) {
  return static_cast<jlong>(reinterpret_cast<intptr_t>(handle));
}

jlong new_cancellation(JNIEnv* env, jclass) {
  glass_cancellation* cancellation = nullptr;
  succeeded(env, glass_cancellation_new(&cancellation));
  return pointer_of(cancellation);
}

void cancel(JNIEnv*, jclass, jlong cancellation) {
  glass_cancel(handle_of<glass_cancellation>(cancellation));
}

void free_cancellation(JNIEnv*, jclass, jlong cancellation) {
  glass_cancellation_free(handle_of<glass_cancellation>(cancellation));
}

void verify(JNIEnv* env, jclass, jbyteArray directory, jbyteArray trusted_keys,
            jlong cancellation) {
  guarded(env, [&] {
    const std::string path = from_bytes(env, directory), keys = from_bytes(env, trusted_keys);
    auto* const flag = handle_of<glass_cancellation>(cancellation);
    succeeded(env, trusted_keys == nullptr ? glass_verify(path.c_str(), flag)
                                           : glass_verify_signed(path.c_str(), keys.c_str(), flag));
  });
}

jlong open_session(JNIEnv* env, jclass, jbyteArray directory, jlong threads,
                   jboolean skip_memory_check, jlong memory_limit, jbyteArray trusted_keys) {
  return guarded(env, [&] {
    glass_open_options options;
    glass_open_options_init(&options);
    options.threads = threads;
    options.skip_memory_check = skip_memory_check;
    options.memory_limit = memory_limit;
    const std::string keys = from_bytes(env, trusted_keys);
    if (trusted_keys != nullptr) options.trusted_keys = keys.c_str();
    glass_session* session = nullptr;
    succeeded(env, glass_open(from_bytes(env, directory).c_str(), &options, &session));
    return pointer_of(session);
  });
}

void close_session(JNIEnv*, jclass, jlong session) {
  glass_close(handle_of<glass_session>(session));
}

jobject session_info(JNIEnv* env, jclass, jlong session) {
  glass_info info;
  glass_info_init(&info);
  if (!succeeded(env, glass_session_info(handle_of<glass_session>(session), &info))) return nullptr;
  jbyteArray texts[3] = {};
  const char* const sources[] = {info.model, info.family, info.dtype};
  for (int i = 0; i < 3; ++i) {
    texts[i] = to_bytes(env, sources[i], std::char_traits<char>::length(sources[i]));
    if (texts[i] == nullptr) return nullptr;
  }
  return env->NewObject(ids.info, ids.new_info, texts[0], texts[1], texts[2], jlong{info.layers},
                        jlong{info.d_ff}, jlong{info.vocab_size}, jlong{info.max_length},
                        info.density, static_cast<jboolean>(info.has_chat_template != 0),
                        info.load_ms);
}

struct Listener {
  JNIEnv* env;
  jobject object;  // a TextListener
};

// What the listener throws ends the answer, and stays pending until generate() returns.
int32_t on_text(void* context, const char* piece, size_t length) {
  const auto* listener = static_cast<const Listener*>(context);
  JNIEnv* env = listener->env;
  if (env->ExceptionCheck()) return 1;
  jbyteArray bytes = to_bytes(env, piece, length);
  if (bytes == nullptr) return 1;
  env->CallStaticVoidMethod(ids.native, ids.deliver, listener->object, bytes);
  env->DeleteLocalRef(bytes);
  return env->ExceptionCheck() ? 1 : 0;
}

jobject to_stats(JNIEnv* env, const glass_answer* answer) {
  glass_stats stats;
  glass_stats_init(&stats);
  if (!succeeded(env, glass_answer_stats(answer, &stats))) return nullptr;
  return env->NewObject(ids.stats, ids.new_stats, jlong{stats.prompt_tokens},
                        jlong{stats.reused_tokens}, jlong{stats.new_tokens}, stats.prefill_tps,
                        stats.ttft_ms, stats.fusion_ms, stats.decode_tps, jlong{stats.refreshes},
                        stats.refresh_ms, stats.density, jlong{stats.kept_neurons}, stats.rss_mb,
                        stats.peak_rss_mb);
}

jobject to_answer(JNIEnv* env, const glass_answer* answer) {
  size_t count = 0;
  const int64_t* tokens = glass_answer_tokens(answer, &count);
  jlongArray ids_of_tokens = env->NewLongArray(static_cast<jsize>(count));
  if (ids_of_tokens == nullptr) return nullptr;
  static_assert(sizeof(jlong) == sizeof(int64_t), "tokens are copied as they are");
  env->SetLongArrayRegion(ids_of_tokens, 0, static_cast<jsize>(count),
                          reinterpret_cast<const jlong*>(tokens));
  const char* text = glass_answer_text(answer);
  jbyteArray bytes = to_bytes(env, text, std::char_traits<char>::length(text));
  if (bytes == nullptr) return nullptr;
  jobject stats = to_stats(env, answer);
  if (stats == nullptr) return nullptr;
  return env->NewObject(ids.answer, ids.new_answer, bytes, ids_of_tokens,
                        static_cast<jint>(glass_answer_finish_reason(answer)), stats);
}

jobject generate_answer(JNIEnv* env, jlong session, const glass_request& request) {
  glass_answer* answer = nullptr;
  const glass_status status = glass_generate(handle_of<glass_session>(session), &request, &answer);
  const bool thrown = env->ExceptionCheck();  // by the listener
  jobject result = nullptr;
  if (!thrown && succeeded(env, status)) result = to_answer(env, answer);
  glass_answer_free(answer);
  return result;
}

jobject generate(JNIEnv* env, jclass, jlong session, jbyteArray prompt, jobjectArray messages,
                 jbyteArray profile, jobjectArray settings, jlong max_new_tokens,
                 jdouble temperature, jlong top_k, jdouble top_p, jdouble min_p,
                 jdouble repetition_penalty, jboolean has_seed, jlong seed, jobjectArray stop,
                 jboolean reset, jobject listener, jlong cancellation) {
  return guarded(env, [&] {
    const std::string prompt_text = from_bytes(env, prompt);
    const std::string profile_name = from_bytes(env, profile);
    const std::vector<std::string> turns = from_byte_arrays(env, messages);
    const std::vector<std::string> named = from_byte_arrays(env, settings);
    const std::vector<std::string> stops = from_byte_arrays(env, stop);
    const auto message_list = pairs_of<glass_message>(turns);
    const auto setting_list = pairs_of<glass_setting>(named);
    std::vector<const char*> stop_list;
    for (const std::string& text : stops) stop_list.push_back(text.c_str());

    Listener context{env, listener};
    glass_request request;
    glass_request_init(&request);
    request.prompt = prompt != nullptr ? prompt_text.c_str() : nullptr;
    request.messages = message_list.data();
    request.message_count = message_list.size();
    request.profile = profile != nullptr ? profile_name.c_str() : nullptr;
    request.settings = setting_list.data();
    request.setting_count = setting_list.size();
    request.max_new_tokens = max_new_tokens;
    request.temperature = temperature;
    request.top_k = top_k;
    request.top_p = top_p;
    request.min_p = min_p;
    request.repetition_penalty = repetition_penalty;
    request.has_seed = has_seed;
    request.seed = static_cast<uint64_t>(seed);
    request.stop = stop_list.data();
    request.stop_count = stop_list.size();
    request.reset = reset;
    request.on_text = listener != nullptr ? on_text : nullptr;
    request.context = &context;
    request.cancellation = handle_of<glass_cancellation>(cancellation);
    return generate_answer(env, session, request);
  });
}

jbyteArray render_chat(JNIEnv* env, jclass, jlong session, jobjectArray messages) {
  return guarded(env, [&]() -> jbyteArray {
    const std::vector<std::string> turns = from_byte_arrays(env, messages);
    const auto message_list = pairs_of<glass_message>(turns);
    char* text = nullptr;
    if (!succeeded(env, glass_render_chat(handle_of<glass_session>(session), message_list.data(),
                                          message_list.size(), &text))) {
      return nullptr;
    }
    jbyteArray bytes = to_bytes(env, text, std::char_traits<char>::length(text));
    glass_text_free(text);
    return bytes;
  });
}

void reset_session(JNIEnv* env, jclass, jlong session) {
  succeeded(env, glass_reset(handle_of<glass_session>(session)));
}

template <class Function>
JNINativeMethod method(const char* name, const char* signature, Function* function) {
  return {const_cast<char*>(name), const_cast<char*>(signature), reinterpret_cast<void*>(function)};
}

// A reference that stays; null, with an exception pending, when there is no such class.
jclass class_named(JNIEnv* env, const char* name) {
  jclass found = env->FindClass(name);
  if (found == nullptr) return nullptr;
  const auto kept = static_cast<jclass>(env->NewGlobalRef(found));
  env->DeleteLocalRef(found);
  return kept;
}

bool find_constructor(JNIEnv* env, const char* name, const char* signature, jclass& found,
                      jmethodID& constructor) {
  found = class_named(env, name);
  if (found == nullptr) return false;
  constructor = env->GetMethodID(found, "<init>", signature);
  return constructor != nullptr;
}

bool find_ids(JNIEnv* env) {
  ids.native = class_named(env, "ai/glass/GlassNative");
  if (ids.native == nullptr) return false;
  ids.deliver = env->GetStaticMethodID(ids.native, "deliver", "(Lai/glass/TextListener;[B)V");
  if (ids.deliver == nullptr) return false;
  for (int i = GLASS_OK + 1; i < kStatuses; ++i) {
    if (!find_constructor(env, kExceptions[i], "([B)V", ids.exceptions[i], ids.new_exceptions[i])) {
      return false;
    }
  }
  return find_constructor(env, "ai/glass/SessionInfo", "([B[B[BJJJJDZD)V", ids.info,
                          ids.new_info) &&
         find_constructor(env, "ai/glass/Stats", "(JJJDDDDJDDJDD)V", ids.stats, ids.new_stats) &&
         find_constructor(env, "ai/glass/Answer", "([B[JILai/glass/Stats;)V", ids.answer,
                          ids.new_answer);
}

bool register_methods(JNIEnv* env) {
  const JNINativeMethod methods[] = {
      method("newCancellation", "()J", new_cancellation),
      method("cancel", "(J)V", cancel),
      method("freeCancellation", "(J)V", free_cancellation),
      method("verify", "([B[BJ)V", verify),
      method("open", "([BJZJ[B)J", open_session),
      method("close", "(J)V", close_session),
      method("info", "(J)Lai/glass/SessionInfo;", session_info),
      method("generate", "(J[B[[B[B[[BJDJDDDZJ[[BZLai/glass/TextListener;J)Lai/glass/Answer;",
             generate),
      method("renderChat", "(J[[B)[B", render_chat),
      method("reset", "(J)V", reset_session),
  };
  return env->RegisterNatives(ids.native, methods, sizeof methods / sizeof *methods) == JNI_OK;
}

}  // namespace

// A class that does not fit leaves its exception pending, which System.loadLibrary() throws.
extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* vm, void*) {
  JNIEnv* env = nullptr;
  if (vm->GetEnv(reinterpret_cast<void**>(&env), JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
  return find_ids(env) && register_methods(env) ? JNI_VERSION_1_6 : JNI_ERR;
}

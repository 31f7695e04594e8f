/* glass: run a glass-export artifact on a device. A plain C interface over glass::Session.
 *
 * Errors. Every function that can fail returns a glass_status; GLASS_OK is 0. What went wrong and
 * what to do about it is one line of English in glass_last_error(), of the calling thread. No
 * exception leaves this library, and a failed call changes nothing that its description does not
 * name. Null where a pointer is expected is GLASS_INVALID_ARGUMENT, except where null is said to
 * mean something.
 *
 * Threads. A session serves one call at a time, from any thread: a call that finds another one
 * running returns GLASS_BUSY at once. Only glass_cancel() is meant for another thread while
 * glass_generate() runs. Different sessions are independent, except that they share the threads of
 * the engine, whose number the latest glass_open() that names one sets. A handle must not be freed
 * while a call uses it.
 *
 * Structs begin with their size, so that a later version can add fields: fill them in with the
 * matching *_init() function, then change what you need. Strings are UTF-8 and end in a null byte.
 * Pointers in a struct that you pass are read during the call only; what a getter returns stays
 * valid until the handle that it came from is freed.
 */
#ifndef GLASS_H
#define GLASS_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define GLASS_API
#else
#define GLASS_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum glass_status {
  GLASS_OK = 0,
  GLASS_INVALID_ARGUMENT = 1, /* the request cannot be carried out as it is */
  GLASS_BAD_ARTIFACT = 2,     /* missing, damaged, of another version, or not for this build */
  GLASS_OUT_OF_MEMORY = 3,    /* the memory that is available is not enough */
  GLASS_CONTEXT_FULL = 4,     /* the prompt has more tokens than the context holds */
  GLASS_CANCELLED = 5,        /* glass_cancel() ended a glass_verify() */
  GLASS_ENGINE_FAILED = 6,    /* the engine failed, or computed NaN */
  GLASS_BUSY = 7,             /* another thread's call uses the session */
  GLASS_INTERNAL = 8          /* a fault of this library */
} glass_status;

/* The name of a status, such as "GLASS_OK". Never null. */
GLASS_API const char* glass_status_name(glass_status status);

/* Of the calling thread's latest call that failed; empty when none has. Valid until its next call.
 */
GLASS_API const char* glass_last_error(void);

/* Of the same call: what is wrong with the artifact, one word of the closed list in
 * artifacts/README.md, such as "checksum". Empty when no artifact is to blame. */
GLASS_API const char* glass_last_error_code(void);

/* ---- Cancelling ---- */

/* A flag that one thread sets to end what another does. Once set it stays set: use a new one for
 * each call. It is looked at before each part of a prompt and before each token. */
typedef struct glass_cancellation glass_cancellation;

GLASS_API glass_status glass_cancellation_new(glass_cancellation** cancellation);
GLASS_API void glass_cancel(glass_cancellation* cancellation); /* null: nothing */
GLASS_API void glass_cancellation_free(glass_cancellation* cancellation);

/* ---- Artifacts ---- */

/* Compares every file of an artifact directory with its checksum; seconds a gigabyte. For after a
 * download or a copy. `cancellation` may be null. */
GLASS_API glass_status glass_verify(const char* directory, glass_cancellation* cancellation);

/* The same of an artifact that one of the trusted keys must have signed, as in
 * glass_open_options. Afterwards, in a directory that nobody else can write to, glass_open() need
 * not ask for a signature again. */
GLASS_API glass_status glass_verify_signed(const char* directory, const char* trusted_keys,
                                           glass_cancellation* cancellation);

typedef struct glass_open_options {
  size_t size;
  int64_t threads;           /* of the engine; 0 lets it decide */
  int32_t skip_memory_check; /* 1: load even what does not seem to fit into memory */
  int64_t memory_limit;      /* bytes to fit into; 0: what the system says is available */
  const char* trusted_keys;  /* null, the default: no signature is asked for. Else Ed25519 public
                              * keys in base64, separated by white space: unless one of them has
                              * signed the artifact, and every file is as it was then, it is
                              * GLASS_BAD_ARTIFACT. Takes seconds a gigabyte, as glass_verify() */
} glass_open_options;

GLASS_API void glass_open_options_init(glass_open_options* options);

typedef struct glass_session glass_session;

/* Opens an artifact directory. `options` may be null. On failure *session is null. */
GLASS_API glass_status glass_open(const char* directory, const glass_open_options* options,
                                  glass_session** session);

/* Frees a session and its memory; null does nothing. */
GLASS_API void glass_close(glass_session* session);

typedef struct glass_info {
  size_t size;
  const char* model;
  const char* family;
  const char* target; /* the engine: executorch or onnx */
  const char* dtype;  /* of the linears: fp32, int8 or int4 */
  int64_t layers;
  int64_t d_ff;
  int64_t vocab_size;
  int64_t max_length; /* context in tokens, prompt and answer together */
  double density;     /* the artifact's own */
  int32_t has_chat_template;
  double load_ms;
} glass_info;

/* `info->size` must be set, as glass_info_init() does. */
GLASS_API void glass_info_init(glass_info* info);
GLASS_API glass_status glass_session_info(const glass_session* session, glass_info* info);

/* ---- Answers ---- */

typedef struct glass_message {
  const char* role; /* system, user or assistant */
  const char* content;
} glass_message;

/* A setting of the choice of neurons by name: density, fusion, local, local_tokens, prior, lam,
 * tau, sensitivity, dense_layers, refresh or dense_start; see docs/method.md. */
typedef struct glass_setting {
  const char* name;
  const char* value;
} glass_setting;

/* Takes a piece of the answer: whole UTF-8 characters, `length` bytes and a null byte behind them.
 * Called on the thread that generates; it must not call into the session. Another value than 0
 * cancels the answer. */
typedef int32_t (*glass_on_text)(void* context, const char* piece, size_t length);

typedef struct glass_request {
  size_t size;
  const char* prompt;            /* text to continue, or null */
  const glass_message* messages; /* the conversation so far, or null */
  size_t message_count;
  const char* profile;           /* one of the artifact's, or null */
  const glass_setting* settings; /* what replaces the artifact's own and the profile's, or null */
  size_t setting_count;
  int64_t max_new_tokens;    /* 128 */
  double temperature;        /* divides the logits; 0, the default: the most likely token */
  int64_t top_k;             /* keep the k most likely tokens; 0 keeps all */
  double top_p;              /* keep the fewest tokens whose probabilities reach p; 1 keeps all */
  double min_p;              /* keep tokens at least this share as likely as the first; 0: all */
  double repetition_penalty; /* above 1 makes tokens of the conversation less likely; 1 is none */
  int32_t has_seed;          /* 1: `seed` is used, else a fresh one */
  uint64_t seed;
  const char* const* stop; /* strings that end the answer, or null */
  size_t stop_count;
  int32_t reset;                    /* 1: forget the conversation first; 0: what fits is reused */
  glass_on_text on_text;            /* or null */
  void* context;                    /* of on_text */
  glass_cancellation* cancellation; /* or null */
} glass_request;

/* Fills in defaults: no prompt, greedy, 128 tokens. */
GLASS_API void glass_request_init(glass_request* request);

typedef enum glass_finish_reason {
  GLASS_FINISH_STOP = 0,     /* end of text, or a stop string */
  GLASS_FINISH_LENGTH = 1,   /* max_new_tokens */
  GLASS_FINISH_CONTEXT = 2,  /* the context is full */
  GLASS_FINISH_CANCELLED = 3 /* what there was until then is the answer */
} glass_finish_reason;

typedef struct glass_stats {
  size_t size;
  int64_t prompt_tokens;
  int64_t reused_tokens; /* of the prompt, from the conversation before */
  int64_t new_tokens;
  double prefill_tps; /* tokens a second, of those that were computed */
  double ttft_ms;     /* from the call to the first token */
  double fusion_ms;   /* the choice of neurons before the first token */
  double decode_tps;  /* tokens a second from the second on; 0 when there was none */
  int64_t refreshes;  /* later choices */
  double refresh_ms;
  double density;
  int64_t kept_neurons; /* of a layer */
  double rss_mb;        /* resident memory of the process, 10^6 bytes; 0: unknown */
  double peak_rss_mb;
} glass_stats;

typedef struct glass_answer glass_answer;

/* Answers a request; blocks until the answer is complete. Exactly one of prompt and messages is
 * given. On failure *answer is null, and the conversation is at what it holds for certain.
 * Cancelling is no failure. */
GLASS_API glass_status glass_generate(glass_session* session, const glass_request* request,
                                      glass_answer** answer);

GLASS_API void glass_answer_free(glass_answer* answer); /* null: nothing */
GLASS_API const char* glass_answer_text(const glass_answer* answer);
GLASS_API const int64_t* glass_answer_tokens(const glass_answer* answer, size_t* count);
GLASS_API glass_finish_reason glass_answer_finish_reason(const glass_answer* answer);
GLASS_API void glass_stats_init(glass_stats* stats);
GLASS_API glass_status glass_answer_stats(const glass_answer* answer, glass_stats* stats);

/* The text that messages become by the artifact's chat template. *text is to be freed with
 * glass_text_free(); null on failure. */
GLASS_API glass_status glass_render_chat(glass_session* session, const glass_message* messages,
                                         size_t count, char** text);
GLASS_API void glass_text_free(char* text);

/* Forgets the conversation. */
GLASS_API glass_status glass_reset(glass_session* session);

#ifdef __cplusplus
}
#endif

#endif /* GLASS_H */

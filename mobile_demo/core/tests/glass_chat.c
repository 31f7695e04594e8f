/* A conversation over the C interface: `glass_chat DIRECTORY TOKENS DENSITY MESSAGE...` answers
 * each message greedily, with all turns before it, and prints for each answer a line: the tokens of
 * the prompt that were reused, a colon, and the ids of the answer. */
#include <stdio.h>
#include <stdlib.h>

#include "glass.h"

static int report(const char* what, glass_status status) {
  fprintf(stderr, "%s: %s: %s\n", what, glass_status_name(status), glass_last_error());
  return 1;
}

static void print_answer(const glass_answer* answer) {
  glass_stats stats;
  glass_stats_init(&stats);
  glass_answer_stats(answer, &stats);
  size_t count = 0;
  const int64_t* tokens = glass_answer_tokens(answer, &count);
  printf("%lld:", (long long)stats.reused_tokens);
  for (size_t i = 0; i < count; ++i) printf(" %lld", (long long)tokens[i]);
  printf("\n");
}

static int converse(glass_session* session, int64_t tokens, const char* density, char** texts,
                    size_t count) {
  glass_message* turns = calloc(2 * count, sizeof *turns);
  glass_answer** answers = calloc(count, sizeof *answers);
  const glass_setting setting = {"density", density};
  glass_request request;
  glass_request_init(&request);
  request.messages = turns;
  request.settings = &setting;
  request.setting_count = 1;
  request.max_new_tokens = tokens;
  glass_status status = GLASS_OK;
  for (size_t i = 0; i < count && status == GLASS_OK; ++i) {
    turns[2 * i] = (glass_message){"user", texts[i]};
    request.message_count = 2 * i + 1;
    status = glass_generate(session, &request, &answers[i]);
    if (status != GLASS_OK) break;
    print_answer(answers[i]);
    turns[2 * i + 1] = (glass_message){"assistant", glass_answer_text(answers[i])};
  }
  for (size_t i = 0; i < count; ++i) glass_answer_free(answers[i]);
  free(answers);
  free(turns);
  return status == GLASS_OK ? 0 : report("glass_generate", status);
}

int main(int count, char** arguments) {
  if (count < 5) {
    fprintf(stderr, "usage: glass_chat DIRECTORY TOKENS DENSITY MESSAGE...\n");
    return 2;
  }
  glass_session* session = NULL;
  const glass_status status = glass_open(arguments[1], NULL, &session);
  if (status != GLASS_OK) return report("glass_open", status);
  const int failed =
      converse(session, atoll(arguments[2]), arguments[3], arguments + 4, (size_t)count - 4);
  glass_close(session);
  return failed;
}

/* Checks that report and go on; main returns check_result(). */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static int check_failures = 0;

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, \
              glass_last_error());                                                   \
      ++check_failures;                                                              \
    }                                                                                \
  } while (0)

static int check_result(void) {
  printf(check_failures == 0 ? "ok\n" : "%d checks failed\n", check_failures);
  return check_failures == 0 ? 0 : 1;
}

#endif /* CHECK_H */

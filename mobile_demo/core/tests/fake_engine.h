/* An engine for tests: quick, deterministic, and instrumented. It computes nothing of a model, but
 * its logits and sums depend on every token and on the neurons that were chosen. */
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Milliseconds that every later call takes; 0 at first. */
void fake_engine_delay(int32_t milliseconds);

/* Engines that are open. */
int64_t fake_engine_count(void);

/* Calls of prefill so far, of all engines. */
int64_t fake_engine_prefills(void);

/* From now on, 1: every call fails; 2: all logits are NaN; 0: neither. */
void fake_engine_fault(int32_t fault);

#ifdef __cplusplus
}
#endif

#endif /* FAKE_ENGINE_H */

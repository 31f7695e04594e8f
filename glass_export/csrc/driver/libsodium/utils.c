/* What libsodium's Ed25519 calls of its utilities, whose own file would bring random numbers and
 * guarded memory with it. Only public keys, signatures and manifests go through these. */
#include "sodium/utils.h"

#include <stddef.h>
#include <stdlib.h>

#include "sodium/core.h"

void sodium_memzero(void* const memory, const size_t length) {
  volatile unsigned char* const bytes = (volatile unsigned char*)memory;
  for (size_t i = 0; i < length; ++i) bytes[i] = 0;
}

int sodium_memcmp(const void* const left, const void* const right, size_t length) {
  const volatile unsigned char* const a = (const volatile unsigned char*)left;
  const volatile unsigned char* const b = (const volatile unsigned char*)right;
  unsigned char different = 0;
  for (size_t i = 0; i < length; ++i) different |= a[i] ^ b[i];
  return different == 0 ? 0 : -1;
}

int sodium_is_zero(const unsigned char* bytes, const size_t length) {
  unsigned char set = 0;
  for (size_t i = 0; i < length; ++i) set |= bytes[i];
  return set == 0;
}

void sodium_misuse(void) { abort(); }

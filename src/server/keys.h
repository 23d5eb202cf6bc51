// Keys: who may call. One key a line in a file, "name:secret" or "secret"; empty lines and lines with # are skipped.
//
// The loop's thread. Secrets are kept as SHA-256 digests and compared in constant time, all of them every time.
#pragma once

#include "base/err.h"

#include <stdint.h>

typedef struct keys keys;

keys *keys_open(const char *path, err *e); // a file without any key is an error
void keys_close(keys *k);                  // may be NULL
// The owner (1..) whose secret this is; 0 if nobody's. secret may be NULL. The same line keeps its owner's number over
// a reload as long as its secret does.
uint32_t keys_find(const keys *k, const char *secret);
const char *keys_name(const keys *k, uint32_t owner); // for the log; never the secret

// Implements keys.h.
#include "server/keys.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGEST_BYTES = 32, MIN_SECRET_BYTES = 8, MAX_KEYS = 10000 };

typedef struct key {
    unsigned char digest[DIGEST_BYTES];
    char name[40];
    uint32_t owner; // of the digest: stable over reloads
} key;

struct keys {
    key *all;
    size_t n;
};

static void digest_of(const char *secret, unsigned char out[DIGEST_BYTES]) {
    check(EVP_Digest(secret, strlen(secret), out, NULL, EVP_sha256(), NULL) == 1);
}

static bool add_line(keys *k, char *line, unsigned number, const char *path, err *e) {
    line[strcspn(line, "\r\n")] = 0;
    line += strspn(line, " \t");
    if (*line == 0 || *line == '#') return true;
    char *colon = strchr(line, ':');
    const char *secret = colon ? colon + 1 : line;
    if (strlen(secret) < MIN_SECRET_BYTES)
        return fail(e, ERR_FORMAT, "%s, line %u: a key must have at least %d bytes", path, number, MIN_SECRET_BYTES);
    if (k->n == MAX_KEYS) return fail(e, ERR_FORMAT, "%s has more than %d keys", path, MAX_KEYS);
    k->all = xrealloc(k->all, (k->n + 1) * sizeof *k->all);
    key *new = &k->all[k->n++];
    *new = (key){0};
    if (colon)
        snprintf(new->name, sizeof new->name, "%.*s", (int)(colon - line), line);
    else
        snprintf(new->name, sizeof new->name, "line %u", number);
    digest_of(secret, new->digest);
    memcpy(&new->owner, new->digest, sizeof new->owner);
    if (new->owner == 0 || new->owner == UINT32_MAX) new->owner = 1; // have meanings of their own
    for (size_t i = 0; i + 1 < k->n; i++)
        if (k->all[i].owner == new->owner)
            return fail(e, ERR_FORMAT, "%s, line %u: the same key stands on another line", path, number);
    return true;
}

keys *keys_open(const char *path, err *e) {
    FILE *f = fopen(path, "re");
    if (!f) return fail_null(e, ERR_IO, "cannot open the key file %s: %s", path, strerror(errno));
    keys *k = xcalloc(1, sizeof *k);
    char *line = NULL;
    size_t capacity = 0;
    bool good = true;
    for (unsigned number = 1; good && getline(&line, &capacity, f) >= 0; number++)
        good = add_line(k, line, number, path, e);
    if (good && ferror(f)) good = fail(e, ERR_IO, "cannot read the key file %s", path);
    if (good && k->n == 0) good = fail(e, ERR_FORMAT, "the key file %s holds no key", path);
    if (line) OPENSSL_cleanse(line, capacity);
    free(line), fclose(f);
    if (good) return k;
    keys_close(k);
    return NULL;
}

void keys_close(keys *k) {
    if (!k) return;
    free(k->all), free(k);
}

uint32_t keys_find(const keys *k, const char *secret) {
    unsigned char digest[DIGEST_BYTES];
    digest_of(secret ? secret : "", digest);
    uint32_t owner = 0;
    for (size_t i = 0; i < k->n; i++)
        if (CRYPTO_memcmp(digest, k->all[i].digest, DIGEST_BYTES) == 0) owner = k->all[i].owner;
    return secret ? owner : 0;
}

const char *keys_name(const keys *k, uint32_t owner) {
    for (size_t i = 0; i < k->n; i++)
        if (k->all[i].owner == owner) return k->all[i].name;
    return "";
}

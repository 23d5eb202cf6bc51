// Files: the chat page and the description of the API, which are part of the program.
//
// The loop's thread. Nothing is kept: what a reply says of a file (its tag, the hashes its policy allows) is computed
// from the embedded bytes each time, in some 100 µs.
#include "server/call.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

// name and name_end: the bytes of src/server/web/<file>. CMakeLists.txt says where that is, and that this unit is
// compiled again when a file there changes.
#define EMBED(name, file)                                                                                              \
    __asm__(".pushsection .rodata\n" #name ":\n.incbin \"" RF_WEB "/" file "\"\n" #name "_end:\n.byte 0\n"             \
            ".popsection\n");                                                                                          \
    extern const char name[] __attribute__((visibility("hidden"))), name##_end[] __attribute__((visibility("hidden")))

EMBED(files_page_html, "index.html");
EMBED(files_openapi_json, "openapi.json");

enum { DIGEST_BYTES = 32, DIGEST_CHARS = 44 }; // SHA-256, and that in base64

static void digest_of(const char *data, size_t n_bytes, char out[DIGEST_CHARS + 1]) {
    unsigned char digest[DIGEST_BYTES];
    check(EVP_Digest(data, n_bytes, digest, NULL, EVP_sha256(), NULL) == 1);
    check(EVP_EncodeBlock((unsigned char *)out, digest, DIGEST_BYTES) == DIGEST_CHARS);
}

// The hash of what stands between <tag> and </tag>: the page has one of each, without attributes.
static void digest_of_element(const char *page, const char *tag, char out[DIGEST_CHARS + 1]) {
    char mark[16];
    snprintf(mark, sizeof mark, "<%s>", tag);
    const char *from = strstr(page, mark);
    snprintf(mark, sizeof mark, "</%s>", tag);
    const char *to = from ? strstr(from, mark) : NULL;
    check(to);
    from += strlen(tag) + 2;
    digest_of(from, (size_t)(to - from), out);
}

// The browser keeps the file and asks each time whether it is still the same. RFC 9110, sections 8.8.3 and 13.1.2.
static void reply(call *c, const char *type, const char *data, size_t n_bytes) {
    char digest[DIGEST_CHARS + 1], tag[DIGEST_CHARS + 3];
    digest_of(data, n_bytes, digest);
    snprintf(tag, sizeof tag, "\"%s\"", digest);
    exchange_add_header(c->x, "ETag", tag);
    exchange_add_header(c->x, "Cache-Control", "no-cache");
    exchange_add_header(c->x, "X-Content-Type-Options", "nosniff");
    exchange_add_header(c->x, "Referrer-Policy", "no-referrer");
    const char *known = exchange_header(c->x, "if-none-match");
    if (known && (strcmp(known, "*") == 0 || strstr(known, tag)))
        exchange_reply(c->x, 304, NULL, NULL, 0);
    else
        exchange_reply(c->x, 200, type, data, n_bytes);
}

// The policy lets the page's own script and style run, and it call its own server; everything else is refused, what a
// model's answer might smuggle in included. Content Security Policy Level 3; Trusted Types.
void files_page(call *c) {
    char script[DIGEST_CHARS + 1], style[DIGEST_CHARS + 1], policy[512];
    digest_of_element(files_page_html, "script", script);
    digest_of_element(files_page_html, "style", style);
    snprintf(policy, sizeof policy,
             "default-src 'none'; connect-src 'self'; img-src data:; script-src 'sha256-%s'; style-src 'sha256-%s'; "
             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
             "trusted-types 'none'",
             script, style);
    exchange_add_header(c->x, "Content-Security-Policy", policy);
    reply(c, "text/html; charset=utf-8", files_page_html, (size_t)(files_page_html_end - files_page_html));
}

void files_openapi(call *c) {
    reply(c, "application/json", files_openapi_json, (size_t)(files_openapi_json_end - files_openapi_json));
}

// Fuzz target: any bytes as requests. The first byte seeds the limits and the cuts; the rest is fed whole and in
// pieces, which must give the same. What is accepted, written again in its plainest form, must be accepted as the same:
// two readings of one request are what smuggling needs.
#include "base/err.h"
#include "server/http_parser.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static http_limits limits_of(uint8_t seed) { return (http_limits){seed & 1 ? 64 : 2048, seed & 2 ? 8 : 4096}; }

static bool is_text(const char *s) {
    for (; *s; s++)
        if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f) return false;
    return true;
}

static void check_whole(const http_parser *p) {
    const char *path = http_parser_path(p);
    check(*http_parser_method(p) && is_text(http_parser_method(p)) && !strpbrk(http_parser_method(p), " \t:"));
    check((path[0] == '/' || strcmp(path, "*") == 0) && is_text(path) && !strchr(path, '\t'));
    check(is_text(http_parser_query(p)) && !strpbrk(http_parser_query(p), " \t"));
    check(p->n_body_bytes <= p->limits.max_body_bytes && p->n_head_bytes <= p->limits.max_header_bytes);
    check(p->n_body_bytes == 0 || (p->n_body_bytes < p->body_capacity_bytes && p->body[p->n_body_bytes] == '\0'));
    for (uint32_t i = 0; i < p->n_headers; i++) {
        const char *name = p->text.data + p->headers[i].name_at, *value = p->text.data + p->headers[i].value_at;
        check(*name && is_text(name) && !strpbrk(name, " \t:ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
        check(is_text(value) && (!*value || (!strchr(" \t", *value) && !strchr(" \t", value[strlen(value) - 1]))));
        check(http_parser_header(p, name) != NULL);
    }
}

static void check_equal(const http_parser *a, const http_parser *b) {
    check(a->stage == b->stage && a->status == b->status && a->why == b->why);
    check(a->http_1_0 == b->http_1_0 && a->keep_alive == b->keep_alive);
    check(a->n_body_bytes == b->n_body_bytes);
    check(a->n_body_bytes == 0 || memcmp(a->body, b->body, a->n_body_bytes) == 0);
    check(strcmp(http_parser_method(a), http_parser_method(b)) == 0);
    check(strcmp(http_parser_path(a), http_parser_path(b)) == 0);
    check(strcmp(http_parser_query(a), http_parser_query(b)) == 0);
}

static bool is_framing(const char *name) {
    return strcmp(name, "content-length") == 0 || strcmp(name, "transfer-encoding") == 0;
}

// The request again, every byte of its path escaped that may be, its length as a number.
static void check_again(const http_parser *p) {
    static const char hex[] = "0123456789abcdef";
    buf b = {0};
    buf_printf(&b, "%s ", http_parser_method(p));
    for (const char *s = http_parser_path(p); *s; s++) {
        bool plain = *s == '/' || (*s == '*' && s[1] == '\0' && s == http_parser_path(p));
        if (!plain)
            buf_printf(&b, "%%%c%c", hex[(unsigned char)*s >> 4], hex[*s & 15]);
        else
            buf_append_char(&b, *s);
    }
    if (*http_parser_query(p)) buf_printf(&b, "?%s", http_parser_query(p));
    buf_printf(&b, " HTTP/1.%d\r\n", !p->http_1_0);
    for (uint32_t i = 0; i < p->n_headers; i++) {
        const char *name = p->text.data + p->headers[i].name_at;
        if (!is_framing(name)) buf_printf(&b, "%s:%s\r\n", name, p->text.data + p->headers[i].value_at);
    }
    if (p->n_body_bytes) buf_printf(&b, "content-length:%zu\r\n", p->n_body_bytes);
    buf_append_str(&b, "\r\n");
    buf_append(&b, p->body, p->n_body_bytes);
    http_parser again;
    http_parser_init(&again, (http_limits){1 << 20, p->limits.max_body_bytes});
    check(http_parser_feed(&again, b.data, b.n_bytes) == b.n_bytes);
    check_equal(p, &again);
    http_parser_free(&again);
    buf_free(&b);
}

static size_t feed_pieces(http_parser *p, const uint8_t *data, size_t n, uint32_t *random) {
    size_t at = 0;
    while (at < n && p->stage < HTTP_WHOLE) {
        *random = *random * 1664525 + 1013904223;
        size_t piece = 1 + (*random >> 16) % (*random >> 31 ? 3 : 40);
        if (piece > n - at) piece = n - at;
        size_t took = http_parser_feed(p, data + at, piece);
        check(took <= piece && (took == piece || p->stage >= HTTP_WHOLE));
        at += took;
    }
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    if (n_bytes < 1) return 0;
    uint32_t random = data[0];
    http_parser whole, pieces;
    http_parser_init(&whole, limits_of(data[0]));
    http_parser_init(&pieces, limits_of(data[0]));
    for (size_t at = 1; at < n_bytes;) { // requests behind each other, as on a connection
        size_t n = http_parser_feed(&whole, data + at, n_bytes - at);
        check(n > 0 && n <= n_bytes - at && (whole.stage >= HTTP_WHOLE || n == n_bytes - at));
        check(feed_pieces(&pieces, data + at, n_bytes - at, &random) == n);
        check_equal(&whole, &pieces);
        if (whole.stage != HTTP_WHOLE) break;
        check_whole(&whole);
        check_again(&whole);
        at += n;
        http_parser_reset(&whole);
        http_parser_reset(&pieces);
    }
    http_parser_free(&whole);
    http_parser_free(&pieces);
    return 0;
}

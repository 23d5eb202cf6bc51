// Tests http_parser.h: a table of requests, good and bad, each whole, in two pieces cut at every byte, and byte by
// byte. Every way of feeding must give what the table says.
#include "server/http_parser.h"

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const http_limits limits = {.max_header_bytes = 600, .max_body_bytes = 40};

typedef struct shape {
    const char *bytes; // "\2" stands for a NUL
    const char *want;  // what tell() says; of a refusal the status and some of the words
} shape;

#define GET     "GET / HTTP/1.1\r\nHost: h\r\n"
#define POST    "POST /p HTTP/1.1\r\nHost: h\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define X10     "xxxxxxxxxx"
#define X100    X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

// "METHOD path query keep|close [100] headers body, n bytes left over"
static const shape good[] = {
    {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / '' keep host=h '' +0"},
    {"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / '' keep host=h '' +0"},
    {GET "\r\n" GET "\r\n", "GET / '' keep host=h '' +27"},
    {GET "\r\n\r\n", "GET / '' keep host=h '' +2"},
    {GET "Connection: close\r\n\r\n", "GET / '' close host=h connection=close '' +0"},
    {GET "Connection: Foo , CLOSE\r\n\r\n", "GET / '' close host=h connection=Foo , CLOSE '' +0"},
    {GET "Connection: close\r\nConnection: keep-alive\r\n\r\n",
     "GET / '' close host=h connection=close connection=keep-alive '' +0"},
    {GET "Connection: closed,\r\n\r\n", "GET / '' keep host=h connection=closed, '' +0"},
    {"GET / HTTP/1.0\r\n\r\n", "GET / '' close '' +0"},
    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / '' keep connection=keep-alive '' +0"},
    {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET / '' close connection=keep-alive, close '' +0"},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / '' keep host= '' +0"},
    {"GET / HTTP/1.1\r\nHOST:\t [::1]:80 \t\r\nA:b\r\n\r\n", "GET / '' keep host=[::1]:80 a=b '' +0"},
    {GET "X: a  b:c\t\xff;\r\n\r\n", "GET / '' keep host=h x=a  b:c\t\xff; '' +0"},
    {GET "!#$%&'*+-.^_`|~09aZ: 1\r\n\r\n", "GET / '' keep host=h !#$%&'*+-.^_`|~09az=1 '' +0"},
    // targets
    {"GET /a%20b/%41%c3%a9%2F..?q=%zz&r=? HTTP/1.1\r\nHost: h\r\n\r\n",
     "GET /a b/A\xc3\xa9/.. 'q=%zz&r=?' keep host=h '' +0"},
    {"GET /? HTTP/1.1\r\nHost: h\r\n\r\n", "GET / '' keep host=h '' +0"},
    {"GET //x?%00 HTTP/1.1\r\nHost: h\r\n\r\n", "GET //x '%00' keep host=h '' +0"},
    {"GET http://other:8/p?q HTTP/1.1\r\nHost: h\r\n\r\n", "GET /p 'q' keep host=h '' +0"},
    {"GET HTTPS://other HTTP/1.1\r\nHost: h\r\n\r\n", "GET / '' keep host=h '' +0"},
    {"GET http://o?q=/ HTTP/1.1\r\nHost: h\r\n\r\n", "GET / 'q=/' keep host=h '' +0"},
    {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * '' keep host=h '' +0"},
    {"M-Y!x /p HTTP/1.1\r\nHost: h\r\n\r\n", "M-Y!x /p '' keep host=h '' +0"},
    // bodies
    {POST "Content-Length: 3\r\n\r\nab\2cd", "POST /p '' keep host=h content-length=3 'ab.' +2"},
    {POST "Content-Length: 0\r\n\r\nG", "POST /p '' keep host=h content-length=0 '' +1"},
    {POST "content-length: 0003\r\n\r\nabc", "POST /p '' keep host=h content-length=0003 'abc' +0"},
    {POST "Content-Length: 40\r\n\r\n" X10 X10 X10 X10,
     "POST /p '' keep host=h content-length=40 '" X10 X10 X10 X10 "' +0"},
    {POST "Content-Length: 3\r\nExpect: 100-Continue\r\n\r\nabc",
     "POST /p '' keep 100 host=h content-length=3 expect=100-Continue 'abc' +0"},
    {POST "Expect: 100-continue\r\n\r\n", "POST /p '' keep host=h expect=100-continue '' +0"},
    {"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
     "POST / '' close expect=100-continue content-length=1 'a' +0"},
    {CHUNKED "0\r\n\r\nG", "POST /p '' keep host=h transfer-encoding=chunked '' +1"},
    {CHUNKED "3\r\na\r\n\r\n00A\r\n0123456789\r\n0\r\n\r\nGE",
     "POST /p '' keep host=h transfer-encoding=chunked 'a..0123456789' +2"},
    {CHUNKED "3;a=b;c=\"d;\"\t\xff\r\nabc\r\n000;\r\n\r\n",
     "POST /p '' keep host=h transfer-encoding=chunked 'abc' +0"},
    {CHUNKED "1\r\na\r\n0\r\nContent-Length: 77\r\nHost: evil\r\n\r\n",
     "POST /p '' keep host=h transfer-encoding=chunked 'a' +0"},
    {CHUNKED "28\r\n" X10 X10 X10 X10 "\r\n0\r\n\r\n",
     "POST /p '' keep host=h transfer-encoding=chunked '" X10 X10 X10 X10 "' +0"},
    {POST "Transfer-Encoding: Chunked\r\n\r\n0000000000000000\r\n\r\n",
     "POST /p '' keep host=h transfer-encoding=Chunked '' +0"},
};

static const shape bad[] = {
    // lines
    {"GET / HTTP/1.1\nHost: h\r\n\r\n", "400 line feed"},
    {GET "A: b\n\r\n", "400 line feed"},
    {GET "\n", "400 line feed"},
    {GET "A: b\rC: d\r\n\r\n", "400 carriage return"},
    {GET "A: b\r\r\n\r\n", "400 carriage return"},
    {GET "A: \2\r\n\r\n", "400 control"},
    {GET "A: \x1b\r\n\r\n", "400 control"},
    {GET "A: \x7f\r\n\r\n", "400 control"},
    {"\x16\x03\x01", "400 control"},
    {"GET / HTTP/1.1\r\nA\2: b\r\n\r\n", "400 control"},
    {"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "400 request line"},
    // request lines
    {"GET /\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET\r\n\r\n", "400 request line"},
    {" GET / HTTP/1.1\r\nHost: h\r\n\r\n", "400 method"},
    {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET /  HTTP/1.1\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", "400 request line"},
    {"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET / a HTTP/1.1\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET / http/1.1\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET / HTTP/1.10\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET / HTTP/11\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET / HTTP/1,1\r\nHost: h\r\n\r\n", "400 request line"},
    {"GET / HTTP/x.1\r\nHost: h\r\n\r\n", "400 request line"},
    {"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", "400 method"},
    {"G\xc3\xa9T / HTTP/1.1\r\nHost: h\r\n\r\n", "400 method"},
    {"G@T / HTTP/1.1\r\nHost: h\r\n\r\n", "400 method"},
    {"G[T / HTTP/1.1\r\nHost: h\r\n\r\n", "400 method"},
    {"PRI * HTTP/2.0\r\n\r\n", "505 version"},
    {"GET / HTTP/0.9\r\n\r\n", "505 version"},
    {"GET / HTTP/1.2\r\nHost: h\r\n\r\n", "505 version"},
    {"GET /" X100 X100 X100 X100 X100 X100, "414 too long"},
    // targets
    {"GET x HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"GET ?q HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"OPTIONS *x HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"GET http:// HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"GET http://?x HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"GET ftp://h/x HTTP/1.1\r\nHost: h\r\n\r\n", "400 not a path"},
    {"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", "400 must be escaped"},
    {"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", "400 must be escaped"},
    {"GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n", "400 must be escaped"},
    {"GET /% HTTP/1.1\r\nHost: h\r\n\r\n", "400 hexadecimal"},
    {"GET /%a HTTP/1.1\r\nHost: h\r\n\r\n", "400 hexadecimal"},
    {"GET /%a?b HTTP/1.1\r\nHost: h\r\n\r\n", "400 hexadecimal"},
    {"GET /%4g HTTP/1.1\r\nHost: h\r\n\r\n", "400 hexadecimal"},
    {"GET /%u0041 HTTP/1.1\r\nHost: h\r\n\r\n", "400 hexadecimal"},
    {"GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", "400 escaped control"},
    {"GET /a%0d%0ab HTTP/1.1\r\nHost: h\r\n\r\n", "400 escaped control"},
    {"GET /%7F HTTP/1.1\r\nHost: h\r\n\r\n", "400 escaped control"},
    // headers
    {"GET / HTTP/1.1\r\n\r\n", "400 no Host"},
    {"GET / HTTP/1.1\r\nA: b\r\n\r\n", "400 no Host"},
    {GET "Host: h\r\n\r\n", "400 two Host"},
    {"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", "400 two Host"},
    {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "400 not a host"},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 not a host"},
    {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "400 not a host"},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 not a host"},
    {"GET / HTTP/1.1\r\nHost : h\r\n\r\n", "400 name"},
    {"GET / HTTP/1.1\r\nHost\t: h\r\n\r\n", "400 name"},
    {GET ": b\r\n\r\n", "400 name"},
    {GET "A b: c\r\n\r\n", "400 name"},
    {GET "A\xff: c\r\n\r\n", "400 name"},
    {GET "A(: c\r\n\r\n", "400 name"},
    {GET "A\r\n\r\n", "400 colon"},
    {GET "A: b\r\n c\r\n\r\n", "400 folded"},
    {GET "A: b\r\n\tc: d\r\n\r\n", "400 folded"},
    {"GET / HTTP/1.1\r\n Host: h\r\n\r\n", "400 folded"},
    {GET " \r\n\r\n", "400 folded"},
    {GET "A: " X100 X100 X100 X100 X100 X100, "431 too large"},
    {GET "A: " X100 X100 X100 "\r\nB: " X100 X100 X100, "431 too large"},
    {GET "Expect: 200-ok\r\n\r\n", "417 Expect"},
    {GET "Expect:\r\n\r\n", "417 Expect"},
    // where the body ends
    {POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400 two Content-Length"},
    {POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400 two Content-Length"},
    {POST "Content-Length: 3, 3\r\n\r\nabc", "400 decimal"},
    {POST "Content-Length: 3 3\r\n\r\nabc", "400 decimal"},
    {POST "Content-Length: +3\r\n\r\nabc", "400 decimal"},
    {POST "Content-Length: -3\r\n\r\nabc", "400 decimal"},
    {POST "Content-Length: 0x3\r\n\r\nabc", "400 decimal"},
    {POST "Content-Length: 3.0\r\n\r\nabc", "400 decimal"},
    {POST "Content-Length: 3;\r\n\r\nabc", "400 decimal"},
    {POST "Content-Length:\r\n\r\n", "400 decimal"},
    {POST "Content-Length: 41\r\n\r\n", "413 too large"},
    {POST "Content-Length: 4294967297\r\n\r\n", "413 too large"},
    {POST "Content-Length: 18446744073709551617\r\n\r\n", "413 too large"},
    {POST "Content-Length: 99999999999999999999999999999999\r\n\r\n", "413 too large"},
    {POST "Content-Length: 41\r\nExpect: 100-continue\r\n\r\n", "413 too large"},
    {POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 both"},
    {POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", "400 both"},
    {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 just chunked"},
    {POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400 just chunked"},
    {POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400 just chunked"},
    {POST "Transfer-Encoding: identity\r\n\r\n", "400 just chunked"},
    {POST "Transfer-Encoding: xchunked\r\n\r\n", "400 just chunked"},
    {POST "Transfer-Encoding: chunked;q=1\r\n\r\n", "400 just chunked"},
    {POST "Transfer-Encoding: \"chunked\"\r\n\r\n", "400 just chunked"},
    {POST "Transfer-Encoding:\r\n\r\n", "400 just chunked"},
    {POST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n",
     "400 control"},
    {POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400 name"},
    {POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400 just chunked"},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 HTTP/1.0"},
    // chunks
    {CHUNKED "\r\n", "400 size"},
    {CHUNKED ";a\r\n", "400 size"},
    {CHUNKED "+1\r\na\r\n", "400 size"},
    {CHUNKED "-1\r\na\r\n", "400 size"},
    {CHUNKED "0x1\r\na\r\n", "400 size"},
    {CHUNKED " 1\r\na\r\n", "400 size"},
    {CHUNKED "1 \r\na\r\n", "400 size"},
    {CHUNKED "1 ;a\r\na\r\n", "400 size"},
    {CHUNKED "1,1\r\na\r\n", "400 size"},
    {CHUNKED "g\r\na\r\n", "400 size"},
    {CHUNKED "1\na\r\n", "400 line feed"},
    {CHUNKED "1;a\nb\r\na\r\n", "400 line feed"},
    {CHUNKED "1;a\rb\r\na\r\n", "400 carriage return"},
    {CHUNKED "1;\2\r\na\r\n", "400 control"},
    {CHUNKED "8000000000000000\r\n", "400 size"},
    {CHUNKED "ffffffffffffffff\r\n", "400 size"},
    {CHUNKED "10000000000000001\r\n", "400 size"},
    {CHUNKED "00000000000000001\r\n", "400 size"},
    {CHUNKED "7fffffffffffffff\r\n", "413 too large"},
    {CHUNKED "29\r\n", "413 too large"},
    {CHUNKED "14\r\n" X10 X10 "\r\n15\r\n", "413 too large"},
    {CHUNKED "1;" X100 X10 X10 X10, "400 line is too long"},
    {CHUNKED "1\r\nab", "400 longer"},
    {CHUNKED "1\r\na0\r\n", "400 longer"},
    {CHUNKED "1\r\na\n", "400 line feed"},
    {CHUNKED "1\r\na\rb", "400 carriage return"},
    {CHUNKED "0\r\nA\r\n\r\n", "400 colon"},
    {CHUNKED "0\r\nA: b\r\n c\r\n\r\n", "400 folded"},
    {CHUNKED "0\r\nA : b\r\n\r\n", "400 name"},
    {CHUNKED "0\r\nA: b\n\r\n", "400 line feed"},
    {CHUNKED "0\r\nA: " X100 X100 X100 X100 X100 X100, "431 too large"},
};

#define N_OF(table) (sizeof(table) / sizeof *(table))

// What the parser makes of its pieces, as text.
static void tell(const http_parser *p, size_t n_left_over, buf *out) {
    buf_reset(out);
    if (p->stage == HTTP_REFUSED) return buf_printf(out, "%d %s", p->status, p->why);
    if (p->stage != HTTP_WHOLE) return buf_printf(out, "unfinished, stage %d", p->stage);
    buf_printf(out, "%s %s '%s' %s ", http_parser_method(p), http_parser_path(p), http_parser_query(p),
               p->keep_alive ? "keep" : "close");
    if (p->expects_100) buf_append_str(out, "100 ");
    for (uint32_t i = 0; i < p->n_headers; i++)
        buf_printf(out, "%s=%s ", p->text.data + p->headers[i].name_at, p->text.data + p->headers[i].value_at);
    buf_append_char(out, '\'');
    for (size_t i = 0; i < p->n_body_bytes; i++)
        buf_append_char(out, (unsigned char)p->body[i] < ' ' ? '.' : p->body[i]);
    buf_printf(out, "' +%zu", n_left_over);
    assert_true(!p->body || p->body[p->n_body_bytes] == '\0');
}

static size_t feed(http_parser *p, const char *bytes, size_t n, size_t step) {
    size_t at = 0;
    while (at < n) {
        size_t piece = step < n - at ? step : n - at;
        char *copy = malloc(piece); // so that a sanitizer sees a read past the piece
        memcpy(copy, bytes + at, piece);
        size_t took = http_parser_feed(p, copy, piece);
        free(copy);
        at += took;
        if (took < piece) break;
        if (p->stage >= HTTP_WHOLE) break;
    }
    return at;
}

static bool is_wanted(const char *got, const char *want, bool refused) {
    if (!refused) return strcmp(got, want) == 0;
    return strncmp(got, want, 4) == 0 && strstr(got, want + 4);
}

static void check_shape(http_parser *p, const char *bytes, size_t n, const char *want, bool refused) {
    buf got = {0};
    for (size_t cut = 0; cut <= n; cut++) { // 0: whole; n: byte by byte
        size_t at = cut == n ? feed(p, bytes, n, 1) : feed(p, bytes, cut ? cut : n, n);
        if (cut > 0 && cut < n && p->stage < HTTP_WHOLE) at += feed(p, bytes + cut, n - cut, n);
        tell(p, n - at, &got);
        if (!is_wanted(got.data, want, refused))
            fail_msg("%.*s\ncut at %zu: %s\nwanted: %s", (int)n, bytes, cut, got.data, want);
        size_t more = http_parser_feed(p, "GET", 3); // what is finished takes nothing
        assert_int_equal(more, 0);
        http_parser_reset(p);
    }
    // every true prefix is unfinished, unless it is the request already
    if (!refused) {
        size_t n_request = feed(p, bytes, n, n);
        http_parser_reset(p);
        for (size_t k = 0; k < n_request; k++) {
            feed(p, bytes, k, n);
            assert_true(p->stage < HTTP_WHOLE && (p->stage == HTTP_START) == (k == 0));
            http_parser_reset(p);
        }
    }
    buf_free(&got);
}

static void check_table(const shape *shapes, size_t n_shapes, bool refused) {
    http_parser p;
    http_parser_init(&p, limits); // one for all: what a request leaves behind would show
    for (size_t i = 0; i < n_shapes; i++) {
        size_t n = strlen(shapes[i].bytes);
        char *bytes = malloc(n);
        for (size_t k = 0; k < n; k++) bytes[k] = shapes[i].bytes[k] == 2 ? 0 : shapes[i].bytes[k];
        check_shape(&p, bytes, n, shapes[i].want, refused);
        free(bytes);
    }
    http_parser_free(&p);
}

static void test_good(void **state) {
    (void)state;
    check_table(good, N_OF(good), false);
}

static void test_bad(void **state) {
    (void)state;
    check_table(bad, N_OF(bad), true);
}

// Every byte in every place where a byte may stand, against the sets of the RFCs written out.
static void test_bytes(void **state) {
    static const char alnum[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const struct {
        const char *before, *after, *others; // others: besides letters and digits
    } places[] = {
        {"GE", "T / HTTP/1.1\r\nHost: h\r\n\r\n", "!#$%&'*+-.^_`|~"},
        {"GET /", " HTTP/1.1\r\nHost: h\r\n\r\n", "!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~"},
        {"GET /%4", " HTTP/1.1\r\nHost: h\r\n\r\n", ""},
        {GET "A", ": b\r\n\r\n", "!#$%&'*+-.^_`|~:"},
        {GET "A: a", "b\r\n\r\n", " \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"},
        {"GET / HTTP/1.1\r\nHost: h", "\r\n\r\n", " \t!$%&'()*+-.:;=[]^_`{|}~"},
        {CHUNKED "1;", "\r\na\r\n0\r\n\r\n", " \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"},
        {POST "Content-Length: 0", "\r\n\r\n", " \t"},
    };
    (void)state;
    for (size_t i = 0; i < N_OF(places); i++) {
        for (int c = 0; c < 256; c++) {
            bool wanted = c && (strchr(alnum, c) || strchr(places[i].others, c));
            if (c >= 0x80) wanted = i == 4 || i == 5 || i == 6; // obs-text in values and extensions
            if (i == 2) wanted = c && strchr("0123456789abcdefABCDEF", c);
            if (i == 7) wanted = c && strchr("0123456789 \t", c);
            char text[256];
            int n = snprintf(text, sizeof text, "%s%c%s", places[i].before, c, places[i].after);
            http_parser p;
            http_parser_init(&p, limits);
            http_parser_feed(&p, text, (size_t)n);
            bool accepted = p.stage == HTTP_WHOLE || (i == 7 && p.stage == HTTP_BODY);
            if (accepted != wanted) fail_msg("place %zu, byte 0x%02x: %s", i, c, accepted ? "accepted" : "refused");
            http_parser_free(&p);
        }
    }
}

// The limits, to the byte.
static void test_limits(void **state) {
    (void)state;
    static const char request[] =
        "\r\nPUT /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nA: b\r\n\r\n";
    static const uint32_t n_head = 2 + 17 + 9 + 28 + 2, n_trailer = 6 + 2;
    for (uint32_t n = 0; n <= n_head + n_trailer; n++) {
        http_parser p;
        http_parser_init(&p, (http_limits){n, 4});
        size_t took = http_parser_feed(&p, request, sizeof request - 1);
        int want = n < 2 + 17 ? 414 : n < n_head + n_trailer ? 431 : 0;
        assert_int_equal(p.status, want);
        if (n < n_head) assert_int_equal(took, n + 1);
        http_parser_free(&p);
    }
    http_parser p;
    http_parser_init(&p, (http_limits){n_head + n_trailer, 3});
    http_parser_feed(&p, request, sizeof request - 1);
    assert_int_equal(p.status, 413);
    http_parser_free(&p);
}

static int status_of(const buf *request) {
    http_parser p;
    http_parser_init(&p, (http_limits){1 << 20, 0});
    http_parser_feed(&p, request->data, request->n_bytes);
    int status = p.stage == HTTP_WHOLE ? 200 : p.status;
    http_parser_free(&p);
    return status;
}

static void test_counts(void **state) {
    (void)state;
    for (int n = HTTP_MAX_HEADERS - 1; n <= HTTP_MAX_HEADERS; n++) { // and Host
        buf b = {0};
        buf_append_str(&b, GET);
        for (int i = 0; i < n; i++) buf_append_str(&b, "A: b\r\n");
        buf_append_str(&b, "\r\n");
        assert_int_equal(status_of(&b), n == HTTP_MAX_HEADERS ? 431 : 200);
        buf_free(&b);
    }
    for (int n = HTTP_MAX_REQUEST_LINE; n <= HTTP_MAX_REQUEST_LINE + 1; n++) {
        buf b = {0};
        buf_printf(&b, "GET /%0*d HTTP/1.1\r\nHost: h\r\n\r\n", n - 14, 0);
        assert_int_equal(status_of(&b), n > HTTP_MAX_REQUEST_LINE ? 414 : 200);
        buf_free(&b);
    }
}

// A body for which there is no memory is refused; the process lives.
static void test_no_memory(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); // sanitizers reserve terabytes
#endif
    pid_t child = fork();
    if (child == 0) {
        static char block[1 << 20];
        const struct rlimit most = {64 << 20, 64 << 20};
        http_parser p;
        http_parser_init(&p, (http_limits){1000, UINT32_MAX});
        setrlimit(RLIMIT_AS, &most);
        static const char head[] = POST "Content-Length: 1000000000\r\n\r\n";
        http_parser_feed(&p, head, sizeof head - 1);
        while (p.stage == HTTP_BODY) http_parser_feed(&p, block, sizeof block);
        _exit(p.status == 503 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),   cmocka_unit_test(test_bad),    cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_counts), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

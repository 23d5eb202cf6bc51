// Http parser: bytes become one request, or a status and a sentence why not. Strict, because what two parsers read
// differently is how requests are smuggled; the grammar is RFC 9112 (messages), 9110 (fields) and 3986 (targets).
//
// Pure: no I/O, no clock. Fed in any pieces it gives the same result, and it never takes a byte of the next request.
// Owns the text and the body of the request; both grow by doubling, within the limits. Not thread-safe.
// Invariant: every line is whole and free of control bytes (but tab) before anything looks at it.
// Refused although the RFCs would allow a lenient reader: bare LF, folded lines, transfer codings but chunked, escaped
// control bytes in a path.
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum { HTTP_MAX_HEADERS = 100, HTTP_MAX_REQUEST_LINE = 8192, HTTP_MAX_CHUNK_LINE = 128 };

typedef struct http_limits {
    uint32_t max_header_bytes; // request line, headers and trailers, with their line ends
    uint32_t max_body_bytes;
} http_limits;

typedef enum http_stage {
    HTTP_START, // no byte of a request yet
    HTTP_HEAD,
    HTTP_BODY,    // the head is whole, the body is not
    HTTP_WHOLE,   // a request: read it, then http_parser_reset
    HTTP_REFUSED, // `status` and `why`; what follows on this connection means nothing
} http_stage;

typedef enum http_section {
    SECTION_REQUEST,
    SECTION_HEADER,
    SECTION_DATA,
    SECTION_CHUNK,
    SECTION_CHUNK_END,
    SECTION_TRAILER
} http_section;

typedef struct http_parser {
    // read by others
    http_stage stage;
    int status;       // when refused: 400, 413, 414, 417, 431, 503, 505
    const char *why;  // one sentence, static
    bool http_1_0;    // else HTTP/1.1
    bool keep_alive;  // the client lets the connection live on
    bool expects_100; // the client waits for "100 Continue" before it sends the body
    char *body;       // [n_body_bytes], then a NUL; NULL if empty
    size_t n_body_bytes, body_capacity_bytes;

    // the parser's own
    http_limits limits;
    http_section section; // what the next byte belongs to
    bool after_cr;
    bool chunked, has_length, has_host, wants_close, skipped_line;
    size_t line_at;      // in text, where the unfinished line begins
    size_t n_head_bytes; // with line ends; bounded by limits
    uint64_t n_left;     // of Content-Length, or of the chunk
    buf text;            // a NUL; method, path, query, names and values, each with its NUL; then the unfinished line
    uint32_t method_at, path_at, query_at; // in text; 0, which is "", while not known
    uint32_t n_headers;
    struct {
        uint32_t name_at, value_at;
    } headers[HTTP_MAX_HEADERS];
} http_parser;

void http_parser_init(http_parser *p, http_limits limits);
void http_parser_reset(http_parser *p); // for the next request of the same connection; the body's memory goes
void http_parser_free(http_parser *p);

// Takes bytes until the request is whole or refused, and says how many it took: all n, unless it became so.
size_t http_parser_feed(http_parser *p, const void *bytes, size_t n);

// Borrowed until reset. "" for what was not read.
const char *http_parser_method(const http_parser *p);
const char *http_parser_path(const http_parser *p);  // percent-decoded, begins with '/' (or is "*")
const char *http_parser_query(const http_parser *p); // raw, without the '?'
// The first header of that name (lower case); NULL if there is none.
const char *http_parser_header(const http_parser *p, const char *name);

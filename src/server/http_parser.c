// Implements http_parser.h.
//
// take_line gathers a line in `text`, one byte after the other, and refuses what no line may hold; at its end the
// section's function, one row of the table below, reads it as a C string. Bodies go past it, straight into `body`.
#include "server/http_parser.h"

#include "base/grow.h"

#include <string.h>
#include <strings.h>

static void refuse(http_parser *p, int status, const char *why) {
    p->stage = HTTP_REFUSED;
    p->status = status;
    p->why = why;
}

// ---- characters ----------------------------------------------------------------------------------------------------

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_control(unsigned char c) { return c < 0x20 || c == 0x7f; }
static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static int hex_value(char c) { // -1: not a digit
    if (is_digit(c)) return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_token_char(char c) { // RFC 9110, 5.6.2: tchar
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *s) {
    if (!*s) return false;
    while (is_token_char(*s)) s++;
    return *s == '\0';
}

// Decimal digits and nothing else. A number that is too large stays at UINT64_MAX.
static bool parse_length(const char *s, uint64_t *n) {
    *n = 0;
    if (!*s) return false;
    for (; *s; s++) {
        if (!is_digit(*s)) return false;
        uint64_t digit = (uint64_t)(*s - '0');
        *n = *n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *n * 10 + digit;
    }
    return true;
}

// ---- the request line ----------------------------------------------------------------------------------------------

static bool decode_path(http_parser *p, char *path) { // in place
    char *to = path;
    for (const char *from = path; *from;) {
        if (*from != '%') {
            *to++ = *from++;
            continue;
        }
        int high = hex_value(from[1]), low = high < 0 ? -1 : hex_value(from[2]);
        if (low < 0) return refuse(p, 400, "the path has a '%' without two hexadecimal digits"), false;
        if (is_control((unsigned char)(high << 4 | low)))
            return refuse(p, 400, "the path has an escaped control byte"), false;
        *to++ = (char)(high << 4 | low);
        from += 3;
    }
    *to = '\0';
    return true;
}

// http://authority/path?query: the authority is of no interest. NULL if it is not of that form.
static char *skip_authority(char *target) {
    char *at = strncasecmp(target, "http://", 7) == 0    ? target + 7
               : strncasecmp(target, "https://", 8) == 0 ? target + 8
                                                         : NULL;
    if (!at || !*at || *at == '/' || *at == '?') return NULL;
    at += strcspn(at, "/?");
    if (*at == '/') return at;
    *--at = '/'; // an empty path is "/"; the authority's last byte makes room for it
    return at;
}

static void read_target(http_parser *p, char *target) {
    for (const char *s = target; *s; s++)
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f || *s == '#')
            return refuse(p, 400, "the request target has a byte that must be escaped");
    const char *method = p->text.data + p->method_at;
    if (*target != '/' && !(strcmp(target, "*") == 0 && strcmp(method, "OPTIONS") == 0))
        target = skip_authority(target);
    if (!target) return refuse(p, 400, "the request target is not a path");
    char *query = strchr(target, '?');
    if (query) *query++ = '\0';
    if (!decode_path(p, target)) return;
    p->path_at = (uint32_t)(target - p->text.data);
    if (query) p->query_at = (uint32_t)(query - p->text.data);
}

static bool read_version(http_parser *p, const char *s) {
    if (strlen(s) != 8 || memcmp(s, "HTTP/", 5) != 0 || !is_digit(s[5]) || s[6] != '.' || !is_digit(s[7]))
        return refuse(p, 400, "the request line is not METHOD TARGET HTTP/1.1"), false;
    if (strcmp(s + 5, "1.1") != 0 && strcmp(s + 5, "1.0") != 0)
        return refuse(p, 505, "the HTTP version is neither 1.1 nor 1.0"), false;
    p->http_1_0 = s[7] == '0';
    p->keep_alive = !p->http_1_0;
    return true;
}

static void end_request_line(http_parser *p, char *line) {
    if (!*line && !p->skipped_line) { // RFC 9112, 2.2: one empty line before a request is overlooked
        p->skipped_line = true;
        return;
    }
    char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version) return refuse(p, 400, "the request line is not METHOD TARGET HTTP/1.1");
    *target++ = *version++ = '\0';
    if (!is_token(line)) return refuse(p, 400, "the method is not a token");
    p->method_at = (uint32_t)(line - p->text.data);
    if (!read_version(p, version)) return;
    read_target(p, target);
    p->section = SECTION_HEADER;
}

// ---- headers -------------------------------------------------------------------------------------------------------

static void on_host(http_parser *p, const char *value) {
    if (p->has_host) return refuse(p, 400, "there are two Host headers");
    if (value[strcspn(value, " \t,/?#@\\\"<>")]) return refuse(p, 400, "the Host header is not a host");
    p->has_host = true;
}

static void on_content_length(http_parser *p, const char *value) {
    if (p->has_length) return refuse(p, 400, "there are two Content-Length headers");
    if (!parse_length(value, &p->n_left)) return refuse(p, 400, "Content-Length is not a decimal number");
    p->has_length = true;
}

static void on_transfer_encoding(http_parser *p, const char *value) {
    if (p->chunked || strcasecmp(value, "chunked") != 0) return refuse(p, 400, "Transfer-Encoding is not just chunked");
    p->chunked = true;
}

static void on_expect(http_parser *p, const char *value) {
    if (strcasecmp(value, "100-continue") != 0) return refuse(p, 417, "Expect is not 100-continue");
    p->expects_100 = true;
}

// A list of tokens; close wins over keep-alive, in whatever order and in however many headers they come.
static void on_connection(http_parser *p, const char *value) {
    for (const char *s = value; *s;) {
        size_t n = strcspn(s, ", \t");
        if (n == 5 && strncasecmp(s, "close", 5) == 0) p->wants_close = true;
        if (n == 10 && strncasecmp(s, "keep-alive", 10) == 0) p->keep_alive = true;
        s += n + (s[n] != '\0');
    }
}

static const struct {
    const char *name;
    void (*read)(http_parser *p, const char *value);
} known[] = {
    {"host", on_host},     {"content-length", on_content_length}, {"transfer-encoding", on_transfer_encoding},
    {"expect", on_expect}, {"connection", on_connection},
};

// Cuts a line into name (made lower case) and value, each ended by a NUL. NULL and refused if it is no header.
static char *split_header(http_parser *p, char *line) {
    if (is_blank(*line)) return refuse(p, 400, "a header line is folded"), NULL;
    char *colon = strchr(line, ':');
    if (!colon) return refuse(p, 400, "a header line has no colon"), NULL;
    *colon = '\0';
    if (!is_token(line)) return refuse(p, 400, "a header's name is not a token"), NULL;
    for (char *s = line; *s; s++)
        if (*s >= 'A' && *s <= 'Z') *s |= 0x20;
    char *value = colon + 1, *end = value + strlen(value);
    while (is_blank(*value)) value++;
    while (end > value && is_blank(end[-1])) end--;
    *end = '\0';
    return value;
}

// What comes after the head? Here, and nowhere else, it is decided where the body ends.
static void end_head(http_parser *p) {
    if (!p->has_host && !p->http_1_0) return refuse(p, 400, "there is no Host header");
    if (p->chunked && p->has_length) return refuse(p, 400, "there are both Content-Length and Transfer-Encoding");
    if (p->chunked && p->http_1_0) return refuse(p, 400, "HTTP/1.0 knows no Transfer-Encoding");
    if (p->n_left > p->limits.max_body_bytes) return refuse(p, 413, "the body is too large");
    if (p->wants_close) p->keep_alive = false;
    bool has_body = p->chunked || p->n_left > 0;
    p->expects_100 = p->expects_100 && has_body && !p->http_1_0;
    p->section = p->chunked ? SECTION_CHUNK : SECTION_DATA;
    p->stage = has_body ? HTTP_BODY : HTTP_WHOLE;
}

static void end_header_line(http_parser *p, char *line) {
    if (!*line) return end_head(p);
    const char *value = split_header(p, line);
    if (!value) return;
    if (p->n_headers == HTTP_MAX_HEADERS) return refuse(p, 431, "there are too many headers");
    p->headers[p->n_headers].name_at = (uint32_t)(line - p->text.data);
    p->headers[p->n_headers++].value_at = (uint32_t)(value - p->text.data);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(line, known[i].name) == 0) known[i].read(p, value);
}

// ---- bodies --------------------------------------------------------------------------------------------------------

// 1*HEXDIG, then nothing or ';' and an extension, which is overlooked. No blanks, no sign.
static void end_chunk_line(http_parser *p, char *line) {
    uint64_t n = 0;
    const char *s = line;
    for (; hex_value(*s) >= 0; s++) n = n << 4 | (uint64_t)hex_value(*s);
    if (s == line || s > line + 16 || n > INT64_MAX || (*s && *s != ';'))
        return refuse(p, 400, "a chunk's size is not right");
    if (n > p->limits.max_body_bytes - p->n_body_bytes) return refuse(p, 413, "the body is too large");
    p->n_left = n;
    p->section = n ? SECTION_DATA : SECTION_TRAILER;
}

static void end_chunk_data(http_parser *p, char *line) {
    (void)line; // empty: its limit is 0
    p->section = SECTION_CHUNK;
}

static void end_trailer_line(http_parser *p, char *line) {
    if (!*line)
        p->stage = HTTP_WHOLE;
    else
        split_header(p, line);
}

static size_t take_data(http_parser *p, const char *bytes, size_t n) {
    if (n > p->n_left) n = (size_t)p->n_left;
    if (!grow(&p->body, &p->body_capacity_bytes, p->n_body_bytes + n + 1, "a request's body", NULL))
        return refuse(p, 503, "there is no memory for the body"), n;
    memcpy(p->body + p->n_body_bytes, bytes, n);
    p->n_body_bytes += n;
    p->body[p->n_body_bytes] = '\0';
    p->n_left -= n;
    if (p->n_left == 0 && p->chunked) p->section = SECTION_CHUNK_END;
    if (p->n_left == 0 && !p->chunked) p->stage = HTTP_WHOLE;
    return n;
}

// ---- lines ---------------------------------------------------------------------------------------------------------

static const struct section {
    void (*end_line)(http_parser *p, char *line);
    size_t max_line_bytes; // without its end
    int status;            // when it is longer, or (of those in the head) the head is
    const char *why;
    bool in_head, kept; // kept: the line stays in text
} sections[] = {
    [SECTION_REQUEST] = {end_request_line, HTTP_MAX_REQUEST_LINE, 414, "the request line is too long", true, true},
    [SECTION_HEADER] = {end_header_line, UINT32_MAX, 431, "the headers are too large", true, true},
    [SECTION_CHUNK] = {end_chunk_line, HTTP_MAX_CHUNK_LINE, 400, "a chunk's line is too long", false, false},
    [SECTION_CHUNK_END] = {end_chunk_data, 0, 400, "a chunk is longer than its size", false, false},
    [SECTION_TRAILER] = {end_trailer_line, UINT32_MAX, 431, "the trailers are too large", true, false},
};

static void end_line(http_parser *p, const struct section *section) {
    p->after_cr = false;
    buf_append_char(&p->text, '\0');
    section->end_line(p, p->text.data + p->line_at);
    if (section->kept)
        p->line_at = p->text.n_bytes;
    else
        p->text.n_bytes = p->line_at;
}

static void take_byte(http_parser *p, const struct section *section, char c) {
    if (section->in_head && ++p->n_head_bytes > p->limits.max_header_bytes)
        return refuse(p, section->status, section->why);
    if (p->after_cr && c == '\n') return end_line(p, section);
    if (p->after_cr) return refuse(p, 400, "a carriage return has no line feed");
    if (c == '\r') {
        p->after_cr = true;
        return;
    }
    if (c == '\n') return refuse(p, 400, "a line feed has no carriage return");
    if (is_control((unsigned char)c) && c != '\t') return refuse(p, 400, "there is a control byte");
    if (p->text.n_bytes - p->line_at >= section->max_line_bytes) return refuse(p, section->status, section->why);
    buf_append_char(&p->text, c);
}

size_t http_parser_feed(http_parser *p, const void *bytes, size_t n) {
    const char *s = bytes;
    size_t at = 0;
    if (n > 0 && p->stage == HTTP_START) p->stage = HTTP_HEAD;
    while (at < n && p->stage < HTTP_WHOLE) {
        if (p->section == SECTION_DATA)
            at += take_data(p, s + at, n - at);
        else
            take_byte(p, &sections[p->section], s[at++]);
    }
    return at;
}

// ---- life ----------------------------------------------------------------------------------------------------------

// text keeps its memory: a connection's requests are of a size.
static void start(http_parser *p, http_limits limits, buf text) {
    *p = (http_parser){.limits = limits, .text = text, .line_at = 1};
    buf_reset(&p->text);
    buf_append_char(&p->text, '\0');
}

void http_parser_init(http_parser *p, http_limits limits) { start(p, limits, (buf){0}); }

void http_parser_reset(http_parser *p) {
    free(p->body);
    start(p, p->limits, p->text);
}

void http_parser_free(http_parser *p) {
    buf_free(&p->text);
    free(p->body);
    *p = (http_parser){0};
}

const char *http_parser_method(const http_parser *p) { return p->text.data + p->method_at; }
const char *http_parser_path(const http_parser *p) { return p->text.data + p->path_at; }
const char *http_parser_query(const http_parser *p) { return p->text.data + p->query_at; }

const char *http_parser_header(const http_parser *p, const char *name) {
    for (uint32_t i = 0; i < p->n_headers; i++)
        if (strcmp(p->text.data + p->headers[i].name_at, name) == 0) return p->text.data + p->headers[i].value_at;
    return NULL;
}

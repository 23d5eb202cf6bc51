// Implements jinja_string.h. Cuts share the bytes and marks of what they were cut from; whatever is put together is
// copied, marks along with the bytes.
#include "text/jinja_string.h"

#include "text/unicode.h"
#include "text/utf8.h"

// ---- building ----------------------------------------------------------------------------------------------------

static bool text_grow(run *r, text *t, size_t n_more) {
    if (t->max_bytes && n_more > t->max_bytes - t->n_bytes)
        return run_fail(r, ERR_TOO_LONG, "more output than %zu bytes", t->max_bytes);
    if (n_more <= t->capacity_bytes - t->n_bytes) return true;
    size_t capacity = t->capacity_bytes ? t->capacity_bytes : 64;
    while (capacity - t->n_bytes < n_more) capacity *= 2; // n_more is the size of something in memory
    char *data = run_take(r, capacity, 1);
    uint8_t *marks = t->marks && data ? run_take(r, capacity, 1) : NULL;
    if (!data || (t->marks && !marks)) return false;
    if (t->n_bytes) memcpy(data, t->data, t->n_bytes);
    if (marks) memcpy(marks, t->marks, t->n_bytes);
    t->data = data, t->marks = marks, t->capacity_bytes = capacity;
    return true;
}

bool text_add(run *r, text *t, const char *data, size_t n_bytes, const uint8_t *marks) {
    if (!run_spend_bytes(r, n_bytes) || !text_grow(r, t, n_bytes)) return false;
    if (n_bytes == 0) return true;
    if (marks && !t->marks && !(t->marks = run_take(r, t->capacity_bytes, 1))) return false;
    memcpy(t->data + t->n_bytes, data, n_bytes);
    if (marks) memcpy(t->marks + t->n_bytes, marks, n_bytes); // without marks they are 0 already
    t->n_bytes += n_bytes;
    return true;
}

bool text_add_str(run *r, text *t, const char *s) { return text_add(r, t, s, strlen(s), NULL); }
bool text_add_string(run *r, text *t, const string *s) { return text_add(r, t, s->data, s->n_bytes, s->marks); }

bool text_add_char(run *r, text *t, uint32_t c, bool is_data) {
    static const uint8_t ones[4] = {1, 1, 1, 1};
    char bytes[4];
    return text_add(r, t, bytes, utf8_encode(c, bytes), is_data ? ones : NULL);
}

bool text_take(run *r, text *t, value *out) {
    bool ok = string_new(r, t->data, t->n_bytes, t->marks, out);
    *t = (text){0};
    return ok;
}

// ---- making and comparing ----------------------------------------------------------------------------------------

size_t string_count_chars(const char *data, size_t n_bytes) {
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) n += ((unsigned char)data[i] & 0xc0) != 0x80;
    return n;
}

static bool new_string(run *r, string like, value *out) {
    string *s = run_take(r, 1, sizeof *s);
    if (!s || !run_spend_bytes(r, like.n_bytes)) return false;
    *s = like;
    s->n_chars = string_count_chars(s->data, s->n_bytes);
    *out = value_string(s);
    return true;
}

bool string_new(run *r, const char *data, size_t n_bytes, const uint8_t *marks, value *out) {
    return new_string(r, (string){.data = data ? data : "", .n_bytes = n_bytes, .marks = marks}, out);
}

bool string_literal(run *r, const char *s, value *out) { return string_new(r, s, strlen(s), NULL, out); }

size_t string_offset(const string *s, size_t chars) {
    if (chars >= s->n_chars) return s->n_bytes;
    if (s->n_chars == s->n_bytes) return chars;
    size_t at = 0;
    for (; chars > 0; chars--)
        for (at++; ((unsigned char)s->data[at] & 0xc0) == 0x80;) at++;
    return at;
}

bool string_equal(const string *a, const string *b) {
    return a->n_bytes == b->n_bytes && (a->n_bytes == 0 || memcmp(a->data, b->data, a->n_bytes) == 0);
}

bool string_is(const string *s, const char *literal) {
    return s->n_bytes == strlen(literal) && memcmp(s->data, literal, s->n_bytes) == 0;
}

int string_compare(const string *a, const string *b) { // by bytes, which is by characters in UTF-8
    size_t n = a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes;
    int order = n ? memcmp(a->data, b->data, n) : 0;
    return order ? order : (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

bool string_cut(run *r, const string *s, size_t from, size_t to, value *out) {
    if (from == 0 && to == s->n_bytes) return *out = value_string(s), true;
    if (from >= to) return new_string(r, (string){.data = "", .safe = s->safe}, out);
    return new_string(
        r,
        (string){
            .data = s->data + from, .n_bytes = to - from, .marks = s->marks ? s->marks + from : NULL, .safe = s->safe},
        out);
}

bool text_take_like(run *r, text *t, const string *like, value *out) {
    if (!text_take(r, t, out)) return false;
    if (!like->safe) return true;
    string safe = *out->s;
    safe.safe = true;
    return new_string(r, safe, out);
}

bool string_suit(run *r, const string *like, const string **s) {
    value escaped = value_string(*s);
    if (like->safe && !string_escape(r, *s, &escaped)) return false;
    return *s = escaped.s, true;
}

bool string_join(run *r, const string *a, const string *b, value *out) {
    text t = {0};
    return string_suit(r, b, &a) && string_suit(r, a, &b) && text_grow(r, &t, a->n_bytes + b->n_bytes) &&
           text_add_string(r, &t, a) && text_add_string(r, &t, b) && text_take_like(r, &t, a, out);
}

// ---- searching ---------------------------------------------------------------------------------------------------

size_t string_find(const string *s, const string *what, size_t from, size_t to) {
    if (from > to) return SIZE_MAX;
    if (what->n_bytes == 0) return from;
    const char *found = to - from ? memmem(s->data + from, to - from, what->data, what->n_bytes) : NULL;
    return found ? (size_t)(found - s->data) : SIZE_MAX;
}

size_t string_find_last(const string *s, const string *what, size_t from, size_t to) {
    if (from > to || what->n_bytes > to - from) return SIZE_MAX;
    size_t last = SIZE_MAX;
    if (what->n_bytes == 0) return to;
    for (size_t at = from; (at = string_find(s, what, at, to)) != SIZE_MAX;) last = at++;
    return last;
}

// ---- cutting -----------------------------------------------------------------------------------------------------

static bool is_stripped(const string *chars, const char *c, size_t n_bytes) {
    size_t ignored;
    return chars ? memmem(chars->data, chars->n_bytes, c, n_bytes) != NULL : unicode_is_space(utf8_decode(c, &ignored));
}

bool string_strip(run *r, const string *s, const string *chars, strip_side side, value *out) {
    size_t from = 0, to = s->n_bytes;
    if (!run_spend_bytes(r, s->n_bytes)) return false;
    while (side & STRIP_LEFT && from < to) {
        size_t n_bytes;
        utf8_decode(s->data + from, &n_bytes);
        if (!is_stripped(chars, s->data + from, n_bytes)) break;
        from += n_bytes;
    }
    while (side & STRIP_RIGHT && from < to) {
        size_t at = to - 1;
        while (((unsigned char)s->data[at] & 0xc0) == 0x80) at--;
        if (!is_stripped(chars, s->data + at, to - at)) break;
        to = at;
    }
    return run_spend(r, chars ? (s->n_bytes - (to - from)) * chars->n_bytes / 32 : 0) &&
           string_cut(r, s, from, to, out);
}

bool string_replace(run *r, const string *s, const string *old, const string *by, int64_t most, value *out) {
    text t = {0};
    size_t at = 0;
    for (; most != 0; most--) {
        size_t found = string_find(s, old, at, s->n_bytes);
        if (found == SIZE_MAX || !run_spend(r, 1)) break;
        if (!text_add(r, &t, s->data + at, found - at, s->marks ? s->marks + at : NULL)) return false;
        if (!text_add_string(r, &t, by)) return false;
        at = found + old->n_bytes;
        if (old->n_bytes) continue;
        if (at == s->n_bytes) break; // an empty string is between all characters, and at both ends
        size_t n_bytes;
        utf8_decode(s->data + at, &n_bytes);
        if (!text_add(r, &t, s->data + at, n_bytes, s->marks ? s->marks + at : NULL)) return false;
        at += n_bytes;
    }
    return run_spend(r, 0) && text_add(r, &t, s->data + at, s->n_bytes - at, s->marks ? s->marks + at : NULL) &&
           text_take_like(r, &t, s, out);
}

bool string_repeat(run *r, const string *s, int64_t times, value *out) {
    text t = {0};
    if (s->n_bytes)
        for (int64_t i = 0; i < times; i++)
            if (!run_spend(r, 1) || !text_add_string(r, &t, s)) return false;
    return text_take_like(r, &t, s, out);
}

static bool add_cut(run *r, items *list, const string *s, size_t from, size_t to) {
    value part;
    return run_spend(r, 1) && string_cut(r, s, from, to, &part) && items_add(r, list, part);
}

static void reverse_items(items *list) {
    for (size_t i = 0, j = list->n; i + 1 < j; i++) {
        value v = list->v[--j];
        list->v[j] = list->v[i];
        list->v[i] = v;
    }
}

static bool split_by(run *r, const string *s, const string *by, int64_t most, bool from_right, items *parts) {
    size_t from = 0, to = s->n_bytes, at;
    for (; most != 0; most--) {
        at = (from_right ? string_find_last : string_find)(s, by, from, to);
        if (at == SIZE_MAX) break;
        if (from_right ? !add_cut(r, parts, s, at + by->n_bytes, to) : !add_cut(r, parts, s, from, at)) return false;
        if (from_right)
            to = at;
        else
            from = at + by->n_bytes;
        if (from_right && !run_spend_bytes(r, to)) return false; // what finding the last one costs
    }
    return add_cut(r, parts, s, from, to);
}

static bool space_at(const string *s, size_t at, size_t *n_bytes) {
    return unicode_is_space(utf8_decode(s->data + at, n_bytes));
}

static size_t char_before(const string *s, size_t at) {
    do at--;
    while (((unsigned char)s->data[at] & 0xc0) == 0x80);
    return at;
}

static bool split_blanks(run *r, const string *s, int64_t most, items *parts) {
    size_t at = 0, n_bytes = 0, n = s->n_bytes;
    for (;; most--) {
        while (at < n && space_at(s, at, &n_bytes)) at += n_bytes;
        if (at == n) return true;
        if (most == 0) break;
        size_t from = at;
        while (at < n && !space_at(s, at, &n_bytes)) at += n_bytes;
        if (!add_cut(r, parts, s, from, at)) return false;
    }
    return add_cut(r, parts, s, at, n); // the rest as it is
}

static bool split_blanks_right(run *r, const string *s, int64_t most, items *parts) {
    size_t at = s->n_bytes, n_bytes;
    for (;; most--) {
        while (at > 0 && space_at(s, char_before(s, at), &n_bytes)) at = char_before(s, at);
        if (at == 0) return true;
        size_t to = at;
        if (most == 0) break;
        while (at > 0 && !space_at(s, char_before(s, at), &n_bytes)) at = char_before(s, at);
        if (!add_cut(r, parts, s, at, to)) return false;
    }
    return add_cut(r, parts, s, 0, at);
}

bool string_split(run *r, const string *s, const string *by, int64_t most, bool from_right, value *out) {
    items parts = {0};
    if (!run_spend_bytes(r, s->n_bytes)) return false;
    if (by && by->n_bytes == 0) return run_fail(r, ERR_FORMAT, "split by an empty string");
    bool ok = by           ? split_by(r, s, by, most, from_right, &parts)
              : from_right ? split_blanks_right(r, s, most, &parts)
                           : split_blanks(r, s, most, &parts);
    if (from_right) reverse_items(&parts);
    return ok && value_list(r, V_LIST, parts.v, parts.n, out);
}

bool string_split_lines(run *r, const string *s, bool keep_ends, value *out) {
    items lines = {0};
    size_t n_bytes;
    for (size_t at = 0, from = 0; at < s->n_bytes; from = at) {
        while (at < s->n_bytes && !unicode_is_line_end(utf8_decode(s->data + at, &n_bytes))) at += n_bytes;
        size_t to = at;
        if (at < s->n_bytes) at += s->data[at] == '\r' && at + 1 < s->n_bytes && s->data[at + 1] == '\n' ? 2 : n_bytes;
        if (!add_cut(r, &lines, s, from, keep_ends ? at : to)) return false;
    }
    return value_list(r, V_LIST, lines.v, lines.n, out);
}

bool string_reverse(run *r, const string *s, value *out) {
    text t = {0};
    for (size_t at = s->n_bytes; at > 0;) {
        size_t from = char_before(s, at);
        if (!text_add(r, &t, s->data + from, at - from, s->marks ? s->marks + from : NULL)) return false;
        at = from;
    }
    return text_take_like(r, &t, s, out);
}

bool string_escape(run *r, const string *s, value *out) {
    static const char *const escapes[] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['\''] = "&#39;", ['"'] = "&#34;"};
    if (s->safe) return *out = value_string(s), true;
    text t = {0};
    for (size_t i = 0; i < s->n_bytes; i++) {
        unsigned char c = (unsigned char)s->data[i];
        const char *escape = c < sizeof escapes / sizeof *escapes ? escapes[c] : NULL;
        if (escape ? !text_add_str(r, &t, escape) : !text_add(r, &t, s->data + i, 1, s->marks ? s->marks + i : NULL))
            return false;
    }
    string safe = {.safe = true};
    return text_take_like(r, &t, &safe, out);
}

// ---- case --------------------------------------------------------------------------------------------------------

// The capital sigma becomes another letter at the end of a word.
static bool is_final_sigma(const string *s, size_t at, size_t end) {
    size_t n_bytes;
    return at > 0 && unicode_is_cased(utf8_decode(s->data + char_before(s, at), &n_bytes)) &&
           (end == s->n_bytes || !unicode_is_cased(utf8_decode(s->data + end, &n_bytes)));
}

static size_t lower_at(const string *s, size_t at, size_t n_bytes, uint32_t c, uint32_t *to) {
    if (c != 0x3a3 || !is_final_sigma(s, at, at + n_bytes)) return unicode_lower(c, to);
    return to[0] = 0x3c2, 1;
}

static bool is_title(uint32_t c) {
    uint32_t to[UNICODE_MAX_EXPANSION];
    return unicode_upper(c, to) != 1 || to[0] != c;
}

bool string_change_case(run *r, const string *s, letter_case to_case, value *out) {
    text t = {0};
    bool after_letter = false;
    if (!run_spend(r, s->n_bytes / 4)) return false;
    for (size_t at = 0, n_bytes; at < s->n_bytes; at += n_bytes) {
        uint32_t c = utf8_decode(s->data + at, &n_bytes), to[UNICODE_MAX_EXPANSION];
        bool cased = to_case == CASE_TITLE && unicode_is_cased(c);
        bool title = to_case == CASE_CAPITAL ? at == 0 : to_case == CASE_TITLE && !after_letter;
        bool upper = to_case == CASE_UPPER;
        if (to_case == CASE_SWAP) upper = unicode_lower(c, to) == 1 && to[0] == c;
        size_t n = title ? unicode_title(c, to) : upper ? unicode_upper(c, to) : lower_at(s, at, n_bytes, c, to);
        if (to_case == CASE_SWAP && !upper && is_title(c)) to[0] = c, n = 1; // of neither case
        for (size_t i = 0; i < n; i++)
            if (!text_add_char(r, &t, to[i], s->marks && s->marks[at])) return false;
        after_letter = cased;
    }
    return text_take_like(r, &t, s, out);
}

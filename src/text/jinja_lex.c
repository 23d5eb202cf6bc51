// Implements the tokens of jinja_ast.h: cuts a template into text and tags, and tags into words, as jinja2's lexer does
// with trim_blocks and lstrip_blocks. A '-' at a tag's edge strips all blanks on that side, a '+' keeps them; otherwise
// a block or comment takes the line end behind it and the blanks before it on its line.
#include "text/jinja_ast.h"

#include "text/jinja_string.h"
#include "text/unicode.h"
#include "text/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

enum { MAX_BRACKETS = 256 };

typedef struct lexer {
    run *r;     // r->line is that of `at`
    char *text; // line ends are \n
    size_t n, at;
    bool line_starting; // what came before ended with a line end
    lexeme *tokens;
    size_t n_tokens, capacity;
    char brackets[MAX_BRACKETS]; // the closing ones that are awaited
    size_t n_brackets;
} lexer;

static bool is_at(const lexer *l, size_t at, const char *what) {
    size_t n = strlen(what);
    return at <= l->n && n <= l->n - at && memcmp(l->text + at, what, n) == 0;
}

static size_t skip_blanks(const lexer *l, size_t at) {
    for (size_t n_bytes; at < l->n && unicode_is_space(utf8_decode(l->text + at, &n_bytes));) at += n_bytes;
    return at;
}

// Moves to `to`, counting lines.
static void go_to(lexer *l, size_t to) {
    for (; l->at < to; l->at++) l->r->line += l->text[l->at] == '\n';
    l->line_starting = to > 0 && l->text[to - 1] == '\n';
}

static bool add(lexer *l, lexeme t) {
    if (l->n_tokens == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 64;
        lexeme *more = run_take(l->r, capacity, sizeof *more);
        if (!more) return false;
        if (l->n_tokens) memcpy(more, l->tokens, l->n_tokens * sizeof *more);
        l->tokens = more, l->capacity = capacity;
    }
    t.line = l->r->line;
    l->tokens[l->n_tokens++] = t;
    return true;
}

static bool add_text(lexer *l, token_type type, const char *data, size_t n_bytes) {
    lexeme t = {.type = type};
    return string_new(l->r, data, n_bytes, NULL, &t.value) && add(l, t);
}

// ---- text and the tags around it ---------------------------------------------------------------------------------

// Text up to a tag; sign: the tag's, 0 for none; keeps: the tag shows a value, which leaves blanks alone.
static bool add_data(lexer *l, size_t end, char sign, bool keeps) {
    const char *from = l->text + l->at;
    size_t n = end - l->at;
    if (sign == '-') {
        string s = {.data = from, .n_bytes = n};
        value stripped;
        if (!string_strip(l->r, &s, NULL, STRIP_RIGHT, &stripped)) return false;
        n = stripped.s->n_bytes;
    } else if (sign != '+' && !keeps) {
        const char *line_end = n ? memrchr(from, '\n', n) : NULL;
        size_t line = line_end ? (size_t)(line_end - from) + 1 : 0;
        if ((line > 0 || l->line_starting) && skip_blanks(l, l->at + line) >= end) n = line;
    }
    return n == 0 || add_text(l, T_DATA, from, n);
}

static char sign_at(const lexer *l, size_t at) {
    return at < l->n && (l->text[at] == '-' || l->text[at] == '+') ? l->text[at] : 0;
}

// The end of a tag at `at`: close ("%}" or "#}") behind an optional sign. 0: there is none; otherwise what follows it.
static size_t tag_end(const lexer *l, size_t at, const char *close) {
    char sign = sign_at(l, at);
    if (!is_at(l, at + (sign != 0), close)) return 0;
    at += (sign != 0) + strlen(close);
    if (sign == '-') return skip_blanks(l, at);
    return at + (!sign && is_at(l, at, "\n"));
}

// A tag of one word at `at`, such as {% raw %}. 0: there is none; otherwise what follows it.
static size_t word_tag(const lexer *l, size_t at, const char *word, bool trims) {
    if (!is_at(l, at, "{%")) return 0;
    at = skip_blanks(l, at + 2 + (sign_at(l, at + 2) != 0));
    if (!is_at(l, at, word)) return 0;
    at = skip_blanks(l, at + strlen(word));
    if (trims || is_at(l, at, "-%}")) return tag_end(l, at, "%}");
    return is_at(l, at, "%}") ? at + 2 : 0;
}

static bool lex_comment(lexer *l, size_t from) {
    for (size_t at = from; at < l->n; at++) {
        size_t end = tag_end(l, at, "#}");
        if (!end) continue;
        go_to(l, end);
        return true;
    }
    return run_fail(l->r, ERR_FORMAT, "a comment has no end");
}

static bool lex_raw(lexer *l, size_t from) {
    go_to(l, from);
    for (size_t at = from; at < l->n; at++) {
        size_t end = word_tag(l, at, "endraw", true);
        if (!end) continue;
        if (!add_data(l, at, sign_at(l, at + 2), false)) return false;
        go_to(l, end);
        return true;
    }
    return run_fail(l->r, ERR_FORMAT, "a raw block has no end");
}

// ---- inside tags -------------------------------------------------------------------------------------------------

static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

// Past digits of a base, groups of which may be joined by single underscores.
static size_t skip_digits(const lexer *l, size_t at, int base) {
    for (;; at++) {
        char c = at < l->n ? l->text[at] : 0;
        if (c == '_' && at + 1 < l->n) c = l->text[at + 1]; // counts only with a digit behind it
        int digit = isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? (c | 32) - 'a' + 10 : 99;
        if (digit >= base) return at;
    }
}

static bool add_number(lexer *l, size_t from, size_t to, bool is_float, int base) {
    char digits[64];
    size_t n = 0;
    for (size_t i = from; i < to && n + 1 < sizeof digits; i++)
        if (l->text[i] != '_') digits[n++] = l->text[i];
    digits[n] = '\0';
    errno = 0;
    lexeme t = {.type = T_LITERAL};
    t.value =
        is_float ? value_float(strtod(digits, NULL)) : value_int(strtoll(digits + (base == 10 ? 0 : 2), NULL, base));
    if (n + 1 == sizeof digits || (errno == ERANGE && !is_float))
        return run_fail(l->r, ERR_UNSUPPORTED, "a number of more than 64 bits");
    return add(l, t);
}

static bool lex_number(lexer *l) {
    size_t from = l->at, end = skip_digits(l, from, 10), at = end;
    char before = from ? l->text[from - 1] : 0;
    bool is_float = false;
    if (before != '.') { // a.0.1 has two indexes, no float
        if (is_at(l, at, ".") && skip_digits(l, at + 1, 10) > at + 1 && l->text[at + 1] != '_')
            at = skip_digits(l, at + 1, 10), is_float = true;
        if (at < l->n && (l->text[at] | 32) == 'e') {
            size_t digits = at + 1 + (sign_at(l, at + 1) != 0), after = skip_digits(l, digits, 10);
            if (after > digits && l->text[digits] != '_') at = after, is_float = true;
        }
    }
    int base = 10;
    if (!is_float && l->text[from] == '0') { // 0x1f, 0o17, 0b11; otherwise only zeros may follow
        char letter = from + 1 < l->n ? (char)(l->text[from + 1] | 32) : 0;
        base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
        at = base == 10 ? skip_digits(l, from, 1) : skip_digits(l, from + 2, base);
        if (base != 10 && at == from + 2) base = 10, at = from + 1;
    }
    if (!add_number(l, from, at, is_float, base)) return false;
    go_to(l, at);
    return true;
}

static bool add_hex_escape(lexer *l, text *t, size_t *at, size_t n_digits) {
    uint32_t c = 0;
    for (size_t i = 0; i < n_digits; i++) {
        char digit = *at < l->n ? l->text[(*at)++] : 0;
        if (!isxdigit((unsigned char)digit)) return run_fail(l->r, ERR_FORMAT, "an escape needs %zu digits", n_digits);
        c = c << 4 | (uint32_t)(isdigit((unsigned char)digit) ? digit - '0' : (digit | 32) - 'a' + 10);
    }
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return run_fail(l->r, ERR_UNSUPPORTED, "U+%04X in a string is no character", c);
    return text_add_char(l->r, t, c, false);
}

// A character behind a backslash that means nothing keeps the backslash. One that is not ASCII is written as Python's
// decoder leaves it: as the escape that it was turned into before.
static bool add_unknown_escape(lexer *l, text *t, size_t *at) {
    size_t n_bytes;
    uint32_t c = utf8_decode(l->text + *at, &n_bytes);
    char out[16];
    *at += n_bytes;
    snprintf(out, sizeof out, c < 0x80 ? "\\%c" : c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    return (c < 0x80 || text_add_str(l->r, t, "\\")) && text_add_str(l->r, t, out + (c >= 0x80));
}

static bool add_escape(lexer *l, text *t, size_t *at) {            // *at: behind the backslash
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v"; // pairs: what is written, what is meant
    char c = l->text[*at];
    if (c == '\n') return ++*at, true;
    for (const char *p = plain; *p; p += 2)
        if (*p == c) return ++*at, text_add(l->r, t, p + 1, 1, NULL);
    if (c >= '0' && c <= '7') {
        uint32_t code = 0;
        for (int i = 0; i < 3 && *at < l->n && l->text[*at] >= '0' && l->text[*at] <= '7'; i++)
            code = code << 3 | (uint32_t)(l->text[(*at)++] - '0');
        return text_add_char(l->r, t, code, false);
    }
    if (c == 'x' || c == 'u' || c == 'U') return ++*at, add_hex_escape(l, t, at, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    if (c == 'N') return run_fail(l->r, ERR_UNSUPPORTED, "\\N{...} in a string");
    return add_unknown_escape(l, t, at);
}

static bool lex_string(lexer *l) {
    char quote = l->text[l->at];
    size_t at = l->at + 1;
    text t = {0};
    while (at < l->n && l->text[at] != quote) {
        size_t from = at;
        while (at < l->n && l->text[at] != quote && l->text[at] != '\\') at++;
        if (!text_add(l->r, &t, l->text + from, at - from, NULL)) return false;
        if (at >= l->n || l->text[at] == quote) break;
        if (++at == l->n) break;
        if (!add_escape(l, &t, &at)) return false;
    }
    if (at >= l->n || l->text[at] != quote) return run_fail(l->r, ERR_FORMAT, "a string has no end");
    lexeme literal = {.type = T_LITERAL};
    if (!text_take(l->r, &t, &literal.value) || !add(l, literal)) return false;
    go_to(l, at + 1);
    return true;
}

static bool match_brackets(lexer *l, char c) {
    static const char pairs[] = "(){}[]";
    const char *open = strchr("({[", c);
    if (open) {
        if (l->n_brackets == MAX_BRACKETS)
            return run_fail(l->r, ERR_TOO_LONG, "more than %d open brackets", MAX_BRACKETS);
        l->brackets[l->n_brackets++] = strchr(pairs, c)[1];
    } else if (strchr(")}]", c)) {
        if (l->n_brackets == 0 || l->brackets[--l->n_brackets] != c)
            return run_fail(l->r, ERR_FORMAT, "an unexpected '%c'", c);
    }
    return true;
}

static bool lex_operator(lexer *l) {
    static const char *const twos[] = {"//", "**", "==", "!=", ">=", "<="};
    char c = l->text[l->at];
    lexeme t = {.type = T_OPERATOR, .op = c};
    for (size_t i = 0; i < sizeof twos / sizeof *twos; i++)
        if (is_at(l, l->at, twos[i])) t.op = OP(twos[i][0], twos[i][1]);
    if (t.op == c && (!c || !strchr("+-/*%~[](){}><=.:|,;", c)))
        return run_fail(l->r, ERR_FORMAT, c > ' ' && c <= '~' ? "an unexpected '%c'" : "an unexpected character", c);
    if (!match_brackets(l, c) || !add(l, t)) return false;
    go_to(l, l->at + (t.op == c ? 1 : 2));
    return true;
}

static bool lex_word(lexer *l) {
    size_t end = l->at;
    while (end < l->n && is_word(l->text[end])) end++;
    if (!add_text(l, T_NAME, l->text + l->at, end - l->at)) return false;
    go_to(l, end);
    return true;
}

// The words of a tag, up to its end.
static bool lex_tag(lexer *l, bool is_block) {
    if (!add(l, (lexeme){.type = is_block ? T_BLOCK : T_OUTPUT})) return false;
    while (l->at < l->n) {
        size_t end = 0;
        if (l->n_brackets == 0 && is_block) end = tag_end(l, l->at, "%}");
        if (l->n_brackets == 0 && !is_block && is_at(l, l->at, "}}")) end = l->at + 2;
        if (l->n_brackets == 0 && !is_block && is_at(l, l->at, "-}}")) end = skip_blanks(l, l->at + 3);
        if (end) {
            if (!add(l, (lexeme){.type = is_block ? T_BLOCK_END : T_OUTPUT_END})) return false;
            go_to(l, end);
            return true;
        }
        size_t word = skip_blanks(l, l->at);
        char c = l->text[l->at];
        if (word > l->at)
            go_to(l, word);
        else if (!(isdigit((unsigned char)c) ? lex_number
                   : is_word(c)              ? lex_word
                   : c == '\'' || c == '"'   ? lex_string
                                             : lex_operator)(l))
            return false;
    }
    return run_fail(l->r, ERR_FORMAT, "a tag has no end");
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static bool lex_all(lexer *l) {
    while (l->at < l->n) {
        size_t at = l->at; // of the next tag
        while (at < l->n && !(l->text[at] == '{' && at + 1 < l->n && strchr("{%#", l->text[at + 1]))) at++;
        if (at == l->n) return add_text(l, T_DATA, l->text + l->at, at - l->at);
        char kind = l->text[at + 1], sign = sign_at(l, at + 2);
        size_t raw = word_tag(l, at, "raw", false);
        if (!add_data(l, at, sign, kind == '{')) return false;
        go_to(l, at + 2 + (sign != 0));
        l->n_brackets = 0;
        bool ok = raw ? lex_raw(l, raw) : kind == '#' ? lex_comment(l, l->at) : lex_tag(l, kind == '%');
        if (!ok) return false;
    }
    return true;
}

bool jinja_lex(run *r, const char *source, size_t n_bytes, lexeme **tokens, size_t *n) {
    lexer *l = run_take(r, 1, sizeof *l);
    if (!l || !(l->text = run_take(r, n_bytes, 1))) return false;
    *l = (lexer){.r = r, .text = l->text, .line_starting = true};
    for (size_t i = 0; i < n_bytes; i++) { // \r\n and \r are \n
        if (source[i] == '\r' && i + 1 < n_bytes && source[i + 1] == '\n') continue;
        l->text[l->n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (l->n && l->text[l->n - 1] == '\n') l->n--; // keep_trailing_newline is off
    r->line = 1;
    if (!lex_all(l) || !add(l, (lexeme){.type = T_END})) return false;
    *tokens = l->tokens, *n = l->n_tokens;
    return true;
}

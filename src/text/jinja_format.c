// Implements the formats of jinja_builtin.h: the % operator of strings, str.format without format specifications, and
// strftime.
#include "text/jinja_builtin.h"
#include "text/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// ---- % -----------------------------------------------------------------------------------------------------------

typedef struct spec { // %[(key)][flags][width][.precision]type
    bool left, plus, blank, alternate, zero;
    int width, precision; // precision -1: not given
    char type;
} spec;

typedef struct percent {
    run *r;
    const string *format;
    size_t at;
    const value *values; // a tuple gives one after the other, a mapping by name, anything else is the only one
    size_t n_taken;
    text out;
} percent;

static bool read_number(percent *p, int *n) {
    const string *f = p->format;
    for (*n = 0; p->at < f->n_bytes && f->data[p->at] >= '0' && f->data[p->at] <= '9'; p->at++) {
        *n = 10 * *n + (f->data[p->at] - '0');
        if (*n > 9999) return run_fail(p->r, ERR_TOO_LONG, "a format wider than 9999");
    }
    return true;
}

static bool read_spec(percent *p, spec *s) {
    const string *f = p->format;
    *s = (spec){.precision = -1};
    for (; p->at < f->n_bytes && strchr("-+ #0", f->data[p->at]) && f->data[p->at]; p->at++) {
        char c = f->data[p->at];
        s->left = s->left || c == '-', s->plus = s->plus || c == '+', s->blank = s->blank || c == ' ';
        s->alternate = s->alternate || c == '#', s->zero = s->zero || c == '0';
    }
    if (!read_number(p, &s->width)) return false;
    if (p->at < f->n_bytes && f->data[p->at] == '.' && (p->at++, !read_number(p, &s->precision))) return false;
    while (p->at < f->n_bytes && strchr("lhL", f->data[p->at]) && f->data[p->at]) p->at++;
    if (p->at == f->n_bytes) return run_fail(p->r, ERR_FORMAT, "a format ends within '%%'");
    s->type = f->data[p->at++];
    return true;
}

static bool take_value(percent *p, const value *key, value *v) {
    if (key->kind == V_STRING) {
        if (p->values->kind != V_DICT) return run_fail(p->r, ERR_FORMAT, "a format with names needs a mapping");
        const value *found;
        if (!dict_find(p->r, p->values->d, key, &found)) return false;
        if (!found) return run_fail(p->r, ERR_FORMAT, "a name in a format is not in the mapping");
        return *v = *found, true;
    }
    bool many = p->values->kind == V_TUPLE;
    if (p->n_taken >= (many ? p->values->l->n : 1)) return run_fail(p->r, ERR_FORMAT, "too few values for a format");
    *v = many ? p->values->l->items[p->n_taken] : *p->values;
    p->n_taken++;
    return true;
}

static bool pad(percent *p, const spec *s, const string *shown) {
    size_t n_blanks = (size_t)s->width > shown->n_chars ? (size_t)s->width - shown->n_chars : 0;
    if (s->left && !text_add_string(p->r, &p->out, shown)) return false;
    for (size_t i = 0; i < n_blanks; i++)
        if (!text_add_str(p->r, &p->out, " ")) return false;
    return s->left || text_add_string(p->r, &p->out, shown);
}

static bool put_string(percent *p, const spec *s, const value *v) {
    text t = {0};
    value shown;
    if (!(s->type == 'r' ? show_repr : show_str)(p->r, &t, v) || !text_take(p->r, &t, &shown)) return false;
    if (s->precision >= 0 && !string_cut(p->r, shown.s, 0, string_offset(shown.s, (size_t)s->precision), &shown))
        return false;
    return pad(p, s, shown.s);
}

// A format for printf with the same flags; length: its length modifier.
static void printf_format(const spec *s, const char *length, char type, char *out, size_t n_bytes) {
    char width[16] = "", precision[16] = "";
    if (s->width > 0) snprintf(width, sizeof width, "%d", s->width);
    if (s->precision >= 0) snprintf(precision, sizeof precision, ".%d", s->precision);
    snprintf(out, n_bytes, "%%%s%s%s%s%s%s%s%s%c", s->left ? "-" : "", s->plus ? "+" : "", s->blank ? " " : "",
             s->alternate ? "#" : "", s->zero ? "0" : "", width, precision, length, type);
}

static bool put_number(percent *p, const spec *s, const value *v) {
    size_t n_bytes = (size_t)s->width + (size_t)(s->precision > 0 ? s->precision : 0) + 400; // 1e308 has 309 digits
    char format[64], *shown = run_take(p->r, n_bytes, 1);
    if (!shown) return false;
    if (strchr("diu", s->type)) {
        if (v->kind == V_FLOAT && !(fabs(v->f) < 9e18))
            return run_fail(p->r, ERR_FORMAT, "%%d of a number out of range");
        printf_format(s, "ll", 'd', format, sizeof format);
        snprintf(shown, n_bytes, format, (long long)(v->kind == V_FLOAT ? (int64_t)v->f : value_to_int(v)));
    } else if (strchr("eEfFgG", s->type)) {
        spec decimal = *s;
        if (!isfinite(value_to_float(v))) decimal.zero = false;
        printf_format(&decimal, "", s->type, format, sizeof format);
        snprintf(shown, n_bytes, format, value_to_float(v));
    } else { // x, X, o
        if (!value_is_int(v) || value_to_int(v) < 0 || s->alternate)
            return run_fail(p->r, ERR_UNSUPPORTED, "'%%%c' of a %s", s->type, value_type(v));
        printf_format(s, "ll", s->type, format, sizeof format);
        snprintf(shown, n_bytes, format, (long long)value_to_int(v));
    }
    return text_add_str(p->r, &p->out, shown);
}

static bool put_char(percent *p, const spec *s, const value *v) {
    text t = {0};
    value c = *v;
    if (value_is_int(v)) {
        int64_t code = value_to_int(v);
        if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return run_fail(p->r, ERR_FORMAT, "%%c of a number that is no character");
        if (!text_add_char(p->r, &t, (uint32_t)code, false) || !text_take(p->r, &t, &c)) return false;
    }
    if (c.kind != V_STRING || c.s->n_chars != 1) return run_fail(p->r, ERR_FORMAT, "%%c needs one character");
    return pad(p, s, c.s);
}

static bool read_key(percent *p, value *key) {
    *key = VALUE_NONE;
    const string *f = p->format;
    if (p->at == f->n_bytes || f->data[p->at] != '(') return true;
    size_t from = ++p->at;
    for (int depth = 1; p->at < f->n_bytes; p->at++) {
        if (f->data[p->at] == '(') depth++;
        if (f->data[p->at] == ')' && --depth == 0) return string_cut(p->r, f, from, p->at++, key);
    }
    return run_fail(p->r, ERR_FORMAT, "a name in a format has no end");
}

static bool put_one(percent *p) { // behind the '%'
    value key, v;
    spec s;
    if (!read_key(p, &key) || !read_spec(p, &s)) return false;
    if (s.type == '%') return text_add_str(p->r, &p->out, "%");
    if (!strchr("srdiuxXoeEfFgGc", s.type)) return run_fail(p->r, ERR_UNSUPPORTED, "'%%%c' in a format", s.type);
    if (!take_value(p, &key, &v)) return false;
    if (s.type == 's' || s.type == 'r') return put_string(p, &s, &v);
    if (s.type == 'c') return put_char(p, &s, &v);
    if (v.kind == V_UNDEFINED) return value_fail_undefined(p->r, &v);
    if (!value_is_number(&v))
        return run_fail(p->r, ERR_FORMAT, "'%%%c' needs a number, not a %s", s.type, value_type(&v));
    return put_number(p, &s, &v);
}

bool format_percent(run *r, const string *format, const value *values, value *out) {
    percent p = {.r = r, .format = format, .values = values};
    if (format->safe) return run_fail(r, ERR_UNSUPPORTED, "%% on a string that is safe");
    while (p.at < format->n_bytes) {
        const char *from = format->data + p.at, *next = memchr(from, '%', format->n_bytes - p.at);
        size_t n = next ? (size_t)(next - from) : format->n_bytes - p.at;
        if (!text_add(r, &p.out, from, n, format->marks ? format->marks + p.at : NULL)) return false;
        p.at += n + (next != NULL);
        if (next && (!run_spend(r, 1) || !put_one(&p))) return false;
    }
    value_kind kind = values->kind;
    bool mapping = kind == V_DICT || kind == V_LIST || kind == V_UNDEFINED || kind == V_RANGE; // has __getitem__
    if (!mapping && p.n_taken < (kind == V_TUPLE ? values->l->n : 1))
        return run_fail(r, ERR_FORMAT, "too many values for a format");
    return text_take(r, &p.out, out);
}

// ---- {} ----------------------------------------------------------------------------------------------------------

static bool find_field(run *r, const string *name, const args *a, size_t *n_taken, value *v) {
    if (name->n_bytes == 0 || (name->data[0] >= '0' && name->data[0] <= '9')) {
        size_t i = name->n_bytes ? 0 : (*n_taken)++;
        for (size_t at = 0; at < name->n_bytes; at++) {
            if (name->data[at] < '0' || name->data[at] > '9' || i > a->n)
                return run_fail(r, ERR_FORMAT, "a field of a format that is no number");
            i = 10 * i + (size_t)(name->data[at] - '0');
        }
        if (i >= a->n) return run_fail(r, ERR_FORMAT, "too few values for a format");
        return *v = a->v[i], true;
    }
    for (size_t i = 0; i < a->n_named; i++)
        if (string_equal(a->named[i].name, name)) return *v = a->named[i].value, true;
    return run_fail(r, ERR_FORMAT, "a name in a format has no value");
}

// The field behind a '{' at `at`; *end: behind its '}'.
static bool put_field(run *r, text *t, const string *format, size_t at, const args *a, size_t *n_taken, size_t *end) {
    const char *from = format->data + at, *close = memchr(from, '}', format->n_bytes - at);
    value name, v;
    if (!close) return run_fail(r, ERR_FORMAT, "a '{' alone in a format");
    for (const char *c = from; c < close; c++)
        if (strchr(":!.[{", *c)) return run_fail(r, ERR_UNSUPPORTED, "a field of a format that is more than a name");
    *end = (size_t)(close - format->data) + 1;
    return string_cut(r, format, at, *end - 1, &name) && find_field(r, name.s, a, n_taken, &v) && show_str(r, t, &v);
}

bool format_braces(run *r, const string *format, const args *a, value *out) {
    text t = {0};
    size_t n_taken = 0;
    if (format->safe) return run_fail(r, ERR_UNSUPPORTED, "format on a string that is safe");
    for (size_t at = 0; at < format->n_bytes;) {
        const char *c = format->data + at;
        bool brace = *c == '{' || *c == '}', twice = brace && at + 1 < format->n_bytes && c[1] == *c;
        if (brace && !twice && *c == '}') return run_fail(r, ERR_FORMAT, "a '}' alone in a format");
        if (brace && !twice) {
            if (!put_field(r, &t, format, at + 1, a, &n_taken, &at)) return false;
            continue;
        }
        if (!text_add(r, &t, c, 1, format->marks ? format->marks + at : NULL)) return false;
        at += twice ? 2 : 1; // {{ is {
    }
    return text_take(r, &t, out);
}

// ---- time --------------------------------------------------------------------------------------------------------

bool format_time(run *r, const string *format, value *out) {
    text t = {0};
    enum { MOST = 4096 };
    char *shown = run_take(r, MOST, 1);
    if (!shown || !text_add_string(r, &t, format) || !text_add(r, &t, "|", 2, NULL)) return false; // never nothing; NUL
    if (strlen(t.data) != t.n_bytes - 1) return run_fail(r, ERR_FORMAT, "a NUL in the format of a time");
    size_t n = strftime(shown, MOST, t.data, r->now);
    if (n == 0) return run_fail(r, ERR_TOO_LONG, "a time of more than %d bytes", MOST);
    size_t n_valid = utf8_validate(shown, n - 1);
    if (n_valid < n - 1) return run_fail(r, ERR_FORMAT, "a time that is not UTF-8");
    const uint8_t *marks = format->marks ? run_ones(r, n) : NULL;
    return (marks || !format->marks) && string_new(r, shown, n - 1, marks, out);
}

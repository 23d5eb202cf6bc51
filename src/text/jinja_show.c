// Shows values as text, byte for byte as Python does: str, repr, json.dumps. What comes from data is marked, the
// brackets and commas between are not.
#include "text/jinja_string.h"

#include "text/unicode.h"
#include "text/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// ---- floats ------------------------------------------------------------------------------------------------------

// The shortest digits that read back as f (> 0, finite): "d.ddde+xx". The last try is what lies above a power of two,
// whose lower neighbour is nearer than its upper one.
static void shortest_digits(double f, char *out, size_t n_bytes) {
    for (int n = 0; n < 17; n++) {
        snprintf(out, n_bytes, "%.*e", n, f);
        if (strtod(out, NULL) == f) return;
        int exponent;
        if (frexp(f, &exponent) != 0.5) continue;
        char *last = strchr(out, 'e') - 1;
        if (*last == '9') continue; // of the powers of two that are doubles, none needs a carry
        ++*last;
        if (strtod(out, NULL) == f) return;
    }
}

// Python's repr: positional from 1e-4 up to 1e16, always with a point or an exponent.
static void format_float(double f, char *out, size_t n_bytes) {
    char digits[32], plain[32];
    if (isnan(f) || isinf(f) || f == 0) {
        snprintf(out, n_bytes, "%s",
                 isnan(f)     ? "nan"
                 : isinf(f)   ? (f < 0 ? "-inf" : "inf")
                 : signbit(f) ? "-0.0"
                              : "0.0");
        return;
    }
    shortest_digits(fabs(f), digits, sizeof digits);
    char *e = strchr(digits, 'e');
    int exponent = atoi(e + 1), n = 0;
    for (char *c = digits; c < e; c++)
        if (*c != '.') plain[n++] = *c;
    while (n > 1 && plain[n - 1] == '0') n--;
    const char *sign = f < 0 ? "-" : "";
    if (exponent < -4 || exponent >= 16)
        snprintf(out, n_bytes, "%s%c%s%.*se%c%02d", sign, plain[0], n > 1 ? "." : "", n - 1, plain + 1,
                 exponent < 0 ? '-' : '+', abs(exponent));
    else if (exponent < 0)
        snprintf(out, n_bytes, "%s0.%.*s%.*s", sign, -exponent - 1, "0000", n, plain);
    else if (n <= exponent + 1)
        snprintf(out, n_bytes, "%s%.*s%.*s.0", sign, n, plain, exponent + 1 - n, "0000000000000000");
    else
        snprintf(out, n_bytes, "%s%.*s.%.*s", sign, exponent + 1, plain, n - exponent - 1, plain + exponent + 1);
}

bool show_float(run *r, text *t, double f) {
    char out[64];
    format_float(f, out, sizeof out);
    return text_add_str(r, t, out);
}

static bool show_int(run *r, text *t, int64_t i) {
    char out[32];
    snprintf(out, sizeof out, "%" PRId64, i);
    return text_add_str(r, t, out);
}

// ---- str and repr ------------------------------------------------------------------------------------------------

static const uint8_t ONES[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

static bool add_escape(run *r, text *t, const char *format, uint32_t c, bool is_data) {
    char out[16];
    int n = snprintf(out, sizeof out, format, c);
    return text_add(r, t, out, (size_t)n, is_data ? ONES : NULL);
}

static const char *repr_escape(uint32_t c, char quote) { // NULL: the character stands for itself
    switch (c) {
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\\':
        return "\\\\";
    case '\'':
        return quote == '\'' ? "\\'" : NULL;
    default:
        if (unicode_is_printable(c)) return NULL;
        return c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
    }
}

static bool repr_string(run *r, text *t, const string *s) {
    bool single = s->n_bytes && memchr(s->data, '\'', s->n_bytes),
         twice = s->n_bytes && memchr(s->data, '"', s->n_bytes);
    char quote[] = {single && !twice ? '"' : '\'', '\0'};
    if (!run_spend(r, s->n_bytes / 4)) return false;
    if ((s->safe && !text_add_str(r, t, "Markup(")) || !text_add_str(r, t, quote)) return false;
    for (size_t at = 0, n_bytes; at < s->n_bytes; at += n_bytes) {
        uint32_t c = utf8_decode(s->data + at, &n_bytes);
        const char *escape = repr_escape(c, quote[0]);
        const uint8_t *marks = s->marks ? s->marks + at : NULL;
        if (escape ? !add_escape(r, t, escape, c, marks && *marks) : !text_add(r, t, s->data + at, n_bytes, marks))
            return false;
    }
    return text_add_str(r, t, quote) && (!s->safe || text_add_str(r, t, ")"));
}

static bool repr_list(run *r, text *t, const list *l, const char *open, const char *close) {
    if (!text_add_str(r, t, open)) return false;
    for (size_t i = 0; i < l->n; i++)
        if ((i && !text_add_str(r, t, ", ")) || !show_repr(r, t, &l->items[i])) return false;
    return text_add_str(r, t, close);
}

static bool repr_dict(run *r, text *t, const dict *d) {
    if (!text_add_str(r, t, "{")) return false;
    for (size_t i = 0; i < d->n; i++) {
        const pair *p = &d->pairs[i];
        if ((i && !text_add_str(r, t, ", ")) || !show_repr(r, t, &p->key) || !text_add_str(r, t, ": ") ||
            !show_repr(r, t, &p->value))
            return false;
    }
    return text_add_str(r, t, "}");
}

static bool repr_view(run *r, text *t, const value *v) {
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    list l = {0};
    return value_collect(r, v, &l.items, &l.n) && repr_list(r, t, &l, names[v->view->which], "])");
}

static bool repr_range(run *r, text *t, const range *x) {
    bool ok =
        text_add_str(r, t, "range(") && show_int(r, t, x->start) && text_add_str(r, t, ", ") && show_int(r, t, x->stop);
    if (x->step != 1) ok = ok && text_add_str(r, t, ", ") && show_int(r, t, x->step);
    return ok && text_add_str(r, t, ")");
}

static bool repr_inside(run *r, text *t, const value *v) {
    switch (v->kind) {
    case V_UNDEFINED:
        return text_add_str(r, t, "Undefined");
    case V_STRING:
        return repr_string(r, t, v->s);
    case V_LIST:
        return repr_list(r, t, v->l, "[", "]");
    case V_TUPLE:
        return repr_list(r, t, v->l, "(", v->l->n == 1 ? ",)" : ")");
    case V_DICT:
        return repr_dict(r, t, v->d);
    case V_VIEW:
        return repr_view(r, t, v);
    case V_RANGE:
        return repr_range(r, t, v->range);
    case V_NAMESPACE:
        return text_add_str(r, t, "<Namespace ") && repr_dict(r, t, v->d) && text_add_str(r, t, ">");
    default: // Python shows an address
        return text_add_str(r, t, "<") && text_add_str(r, t, value_type(v)) && text_add_str(r, t, ">");
    }
}

bool show_repr(run *r, text *t, const value *v) {
    switch (v->kind) {
    case V_NONE:
        return text_add_str(r, t, "None");
    case V_BOOL:
        return text_add_str(r, t, v->b ? "True" : "False");
    case V_INT:
        return show_int(r, t, v->i);
    case V_FLOAT:
        return show_float(r, t, v->f);
    default:
        if (!run_spend(r, 1) || !run_enter(r)) return false;
        bool ok = repr_inside(r, t, v);
        run_leave(r);
        return ok;
    }
}

bool show_str(run *r, text *t, const value *v) {
    if (v->kind == V_UNDEFINED) return true;
    return v->kind == V_STRING ? text_add_string(r, t, v->s) : show_repr(r, t, v);
}

bool show_to_string(run *r, const value *v, value *out) {
    text t = {0};
    if (v->kind == V_STRING) return *out = *v, true;
    return show_str(r, &t, v) && text_take(r, &t, out);
}

// ---- JSON --------------------------------------------------------------------------------------------------------

static const char *json_escape(uint32_t c, bool ascii) { // NULL: the character stands for itself
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\f':
        return "\\f";
    case '\b':
        return "\\b";
    default:
        return c < 0x20 || (ascii && c > 0x7e) ? "\\u%04x" : NULL;
    }
}

static bool json_string_out(run *r, text *t, const string *s, bool ascii) {
    if (!run_spend(r, s->n_bytes / 4) || !text_add_str(r, t, "\"")) return false;
    for (size_t at = 0, n_bytes; at < s->n_bytes; at += n_bytes) {
        uint32_t c = utf8_decode(s->data + at, &n_bytes);
        const char *escape = json_escape(c, ascii);
        const uint8_t *marks = s->marks ? s->marks + at : NULL;
        bool is_data = marks && *marks, ok;
        if (!escape)
            ok = text_add(r, t, s->data + at, n_bytes, marks);
        else if (c < 0x10000)
            ok = add_escape(r, t, escape, c, is_data);
        else // UTF-16
            ok = add_escape(r, t, escape, 0xd800 + ((c - 0x10000) >> 10), is_data) &&
                 add_escape(r, t, escape, 0xdc00 + ((c - 0x10000) & 0x3ff), is_data);
        if (!ok) return false;
    }
    return text_add_str(r, t, "\"");
}

static bool json_inside(run *r, text *t, const value *v, const json_style *style, size_t level);

static bool json_value_out(run *r, text *t, const value *v, const json_style *style, size_t level) {
    if (!run_spend(r, 1) || !run_enter(r)) return false;
    bool ok = json_inside(r, t, v, style, level);
    run_leave(r);
    return ok;
}

static bool json_line(run *r, text *t, const json_style *style, size_t level) {
    if (!style->indent) return true;
    bool ok = text_add_str(r, t, "\n");
    for (size_t i = 0; ok && i < level; i++) ok = text_add_string(r, t, style->indent);
    return ok;
}

static bool json_list(run *r, text *t, const list *l, const json_style *style, size_t level) {
    if (l->n == 0) return text_add_str(r, t, "[]");
    if (!text_add_str(r, t, "[")) return false;
    for (size_t i = 0; i < l->n; i++) {
        if (i && !text_add_string(r, t, style->between)) return false;
        if (!json_line(r, t, style, level + 1) || !json_value_out(r, t, &l->items[i], style, level + 1)) return false;
    }
    return json_line(r, t, style, level) && text_add_str(r, t, "]");
}

static bool json_scalar(run *r, text *t, const value *v) {
    switch (v->kind) {
    case V_NONE:
        return text_add_str(r, t, "null");
    case V_BOOL:
        return text_add_str(r, t, v->b ? "true" : "false");
    case V_FLOAT:
        if (isnan(v->f)) return text_add_str(r, t, "NaN");
        if (isinf(v->f)) return text_add_str(r, t, v->f < 0 ? "-Infinity" : "Infinity");
        return show_float(r, t, v->f);
    default:
        return show_int(r, t, v->i);
    }
}

static bool json_key(run *r, text *t, const value *key, const json_style *style) {
    if (key->kind == V_STRING) return json_string_out(r, t, key->s, style->ascii);
    if (key->kind != V_NONE && !value_is_number(key))
        return run_fail(r, ERR_FORMAT, "a %s cannot be a key in JSON", value_type(key));
    return text_add_str(r, t, "\"") && json_scalar(r, t, key) && text_add_str(r, t, "\"");
}

static bool sort_pairs(run *r, const dict *d, const pair **sorted) { // by insertion: the order is that of few keys
    pair *p = run_take(r, d->n, sizeof *p);
    if (!p) return false;
    for (size_t i = 0; i < d->n; i++) {
        size_t j = i;
        for (bool less; j > 0; j--) {
            if (!value_less(r, &d->pairs[i].key, &p[j - 1].key, &less)) return false;
            if (!less) break;
            p[j] = p[j - 1];
        }
        p[j] = d->pairs[i];
    }
    *sorted = p;
    return true;
}

static bool json_dict(run *r, text *t, const dict *d, const json_style *style, size_t level) {
    const pair *pairs = d->pairs;
    if (d->n == 0) return text_add_str(r, t, "{}");
    if (style->sort_keys && !sort_pairs(r, d, &pairs)) return false;
    if (!text_add_str(r, t, "{")) return false;
    for (size_t i = 0; i < d->n; i++) {
        if (i && !text_add_string(r, t, style->between)) return false;
        if (!json_line(r, t, style, level + 1) || !json_key(r, t, &pairs[i].key, style) ||
            !text_add_string(r, t, style->after_key) || !json_value_out(r, t, &pairs[i].value, style, level + 1))
            return false;
    }
    return json_line(r, t, style, level) && text_add_str(r, t, "}");
}

static bool json_inside(run *r, text *t, const value *v, const json_style *style, size_t level) {
    if (v->kind == V_STRING) return json_string_out(r, t, v->s, style->ascii);
    if (v->kind == V_LIST || v->kind == V_TUPLE) return json_list(r, t, v->l, style, level);
    if (v->kind == V_DICT) return json_dict(r, t, v->d, style, level);
    if (v->kind == V_NONE || value_is_number(v)) return json_scalar(r, t, v);
    return run_fail(r, ERR_FORMAT, "a value of type %s cannot be written as JSON", value_type(v));
}

bool show_json(run *r, text *t, const value *v, const json_style *style) { return json_value_out(r, t, v, style, 0); }

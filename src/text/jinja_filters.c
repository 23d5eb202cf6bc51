// Implements the filters of jinja_builtin.h, as jinja2 defines them with autoescape off, and tojson as transformers
// does. Those for HTML pages (urlize, xmlattr, wordwrap ...) are not supported. Filters that give an iterator in Python
// give one here; its items are computed at once, which nothing but an error can tell.
#include "text/jinja_builtin.h"

#include "text/unicode.h"
#include "text/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool result(value *out, value v) { return *out = v, true; }

// ---- text --------------------------------------------------------------------------------------------------------

// str(self), then the method of str with the filter's arguments.
static bool by_method(run *r, const char *name, const value *self, const args *a, value *out) {
    value s;
    string method = {.data = name, .n_bytes = strlen(name)};
    bool changes;
    return show_to_string(r, self, &s) && builtin_run(r, method_find(V_STRING, &method, &changes), &s, a, out);
}
static bool trim(run *r, const value *self, const args *a, value *out) { return by_method(r, "strip", self, a, out); }
static bool upper(run *r, const value *self, const args *a, value *out) { return by_method(r, "upper", self, a, out); }
static bool lower(run *r, const value *self, const args *a, value *out) { return by_method(r, "lower", self, a, out); }
static bool capitalize(run *r, const value *self, const args *a, value *out) {
    return by_method(r, "capitalize", self, a, out);
}

static bool center(run *r, const value *self, const args *a, value *out) {
    value width = is_given(&a->v[0]) ? a->v[0] : value_int(80);
    args one = {.v = &width, .n = 1};
    return by_method(r, "center", self, &one, out);
}

static bool begins_word(const string *s, size_t at) { // as jinja2's [-\s({\[<]+
    if (at == 0 || memchr("-({[<", s->data[at - 1], 5)) return true;
    size_t from = at - 1, n_bytes;
    while (((unsigned char)s->data[from] & 0xc0) == 0x80) from--;
    return unicode_is_space(utf8_decode(s->data + from, &n_bytes));
}

static bool title(run *r, const value *self, const args *a, value *out) { // not str.title: an apostrophe ends no word
    (void)a;
    value s, word;
    text t = {0};
    if (!show_to_string(r, self, &s)) return false;
    for (size_t from = 0, to, n_bytes; from < s.s->n_bytes; from = to) {
        utf8_decode(s.s->data + from, &n_bytes);
        for (to = from + n_bytes; to < s.s->n_bytes && !begins_word(s.s, to);)
            for (to++; to < s.s->n_bytes && ((unsigned char)s.s->data[to] & 0xc0) == 0x80;) to++;
        value rest;
        if (!string_cut(r, s.s, from, from + n_bytes, &word) || !string_change_case(r, word.s, CASE_UPPER, &word) ||
            !string_cut(r, s.s, from + n_bytes, to, &rest) || !string_change_case(r, rest.s, CASE_LOWER, &rest) ||
            !text_add_string(r, &t, word.s) || !text_add_string(r, &t, rest.s))
            return false;
    }
    return text_take(r, &t, out);
}

static bool replace(run *r, const value *self, const args *a, value *out) {
    value s, old, by;
    int64_t most = -1;
    if (!show_to_string(r, self, &s) || !show_to_string(r, &a->v[0], &old) || !show_to_string(r, &a->v[1], &by))
        return false;
    if (or_null(&a->v[2]) && !want_int(r, &a->v[2], "the number of replacements", &most)) return false;
    string plain = *s.s; // str(), not Markup
    plain.safe = false;
    return string_replace(r, &plain, old.s, by.s, most, out);
}

static bool indent(run *r, const value *self, const args *a, value *out) {
    const string *s, *by;
    value blanks, lines;
    text t = {0}, width = {0};
    int64_t n = 4;
    bool first = value_truth(&a->v[1]), blank = value_truth(&a->v[2]);
    if (!want_string(r, self, "what is indented", &s)) return false;
    if (is_given(&a->v[0]) && a->v[0].kind == V_STRING) {
        by = a->v[0].s;
    } else {
        if (is_given(&a->v[0]) && !want_int(r, &a->v[0], "the width", &n)) return false;
        for (int64_t i = 0; i < n; i++)
            if (!run_spend(r, 1) || !text_add_str(r, &width, " ")) return false;
        if (!text_take(r, &width, &blanks)) return false;
        by = blanks.s;
    }
    string line_end = {.data = "\n", .n_bytes = 1, .n_chars = 1};
    if (!string_join(r, s, &line_end, &lines) || !string_split_lines(r, lines.s, false, &lines)) return false;
    for (size_t i = 0; i < lines.l->n; i++) {
        const string *line = lines.l->items[i].s;
        bool indented = i == 0 ? first : blank || line->n_bytes;
        if ((i && !text_add_str(r, &t, "\n")) || (indented && !text_add_string(r, &t, by)) ||
            !text_add_string(r, &t, line))
            return false;
    }
    return text_take_like(r, &t, s, out);
}

static bool truncate(run *r, const value *self, const args *a, value *out) {
    const string *s, *end;
    value dots, cut;
    int64_t length = 255, leeway = 5;
    size_t n_self;
    if (!value_length(r, self, &n_self) || !string_literal(r, "...", &dots)) return false;
    if (is_given(&a->v[0]) && !want_int(r, &a->v[0], "the length", &length)) return false;
    if (!want_string(r, is_given(&a->v[2]) ? &a->v[2] : &dots, "the end", &end)) return false;
    if (or_null(&a->v[3]) && !want_int(r, &a->v[3], "the leeway", &leeway)) return false;
    if (length < (int64_t)end->n_chars || leeway < 0 || leeway > INT32_MAX)
        return run_fail(r, ERR_FORMAT, "a text cannot be cut to that length");
    if ((int64_t)n_self - leeway <= length) return result(out, *self);
    if (!want_string(r, self, "what is cut", &s)) return false;
    size_t n = string_offset(s, (size_t)length - end->n_chars);
    if (!string_cut(r, s, 0, n, &cut)) return false;
    string blank = {.data = " ", .n_bytes = 1, .n_chars = 1};
    size_t word = value_truth(&a->v[1]) ? SIZE_MAX : string_find_last(cut.s, &blank, 0, cut.s->n_bytes);
    if (word != SIZE_MAX && !string_cut(r, cut.s, 0, word, &cut)) return false;
    return string_join(r, cut.s, end, out);
}

static bool escape(run *r, const value *self, const args *a, value *out) {
    (void)a;
    value s;
    return show_to_string(r, self, &s) && string_escape(r, s.s, out);
}

static bool set_safe(run *r, const value *self, bool safe, value *out) {
    value s;
    string *copy = run_take(r, 1, sizeof *copy);
    if (!copy || !show_to_string(r, self, &s)) return false;
    *copy = *s.s;
    copy->safe = safe;
    return result(out, value_string(copy));
}

static bool forceescape(run *r, const value *self, const args *a, value *out) {
    (void)a;
    value s;
    return set_safe(r, self, false, &s) && string_escape(r, s.s, out);
}

static bool mark_safe(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return set_safe(r, self, true, out);
}

static bool to_string(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return show_to_string(r, self, out);
}

static bool format(run *r, const value *self, const args *a, value *out) {
    value s, values;
    if (a->n && a->n_named) return run_fail(r, ERR_FORMAT, "'format' takes values by place or by name, not both");
    if (!show_to_string(r, self, &s)) return false;
    if (!a->n_named) return value_list(r, V_TUPLE, a->v, a->n, &values) && format_percent(r, s.s, &values, out);
    if (!dict_new(r, V_DICT, &values)) return false;
    for (size_t i = 0; i < a->n_named; i++)
        if (!dict_put(r, values.d, value_string(a->named[i].name), a->named[i].value)) return false;
    return format_percent(r, s.s, &values, out);
}

// ---- JSON --------------------------------------------------------------------------------------------------------

static bool read_indent(run *r, const value *v, json_style *style) {
    value blanks;
    text t = {0};
    if (!or_null(v)) return true;
    if (v->kind == V_STRING) return style->indent = v->s, true;
    int64_t n;
    if (!want_int(r, v, "the indent", &n)) return false;
    for (int64_t i = 0; i < n; i++)
        if (!run_spend(r, 1) || !text_add_str(r, &t, " ")) return false;
    if (!text_take(r, &t, &blanks)) return false;
    return style->indent = blanks.s, true;
}

static bool tojson(run *r, const value *self, const args *a, value *out) {
    static const string comma = {.data = ", ", .n_bytes = 2}, bare = {.data = ",", .n_bytes = 1},
                        colon = {.data = ": ", .n_bytes = 2};
    json_style style = {.ascii = value_truth(&a->v[0]), .sort_keys = value_truth(&a->v[3]), .after_key = &colon};
    const value *separators = or_null(&a->v[2]), *two;
    text t = {0};
    size_t n;
    if (!read_indent(r, &a->v[1], &style)) return false;
    style.between = style.indent ? &bare : &comma;
    if (separators) {
        if (!value_collect(r, separators, &two, &n)) return false;
        if (n != 2) return run_fail(r, ERR_FORMAT, "'tojson' takes two separators");
        if (!want_string(r, &two[0], "a separator", &style.between) ||
            !want_string(r, &two[1], "a separator", &style.after_key))
            return false;
    }
    return show_json(r, &t, self, &style) && text_take(r, &t, out);
}

// ---- numbers -----------------------------------------------------------------------------------------------------

static bool absolute(run *r, const value *self, const args *a, value *out) {
    (void)a;
    if (self->kind == V_FLOAT) return result(out, value_float(fabs(self->f)));
    int64_t i;
    if (!want_int(r, self, "'abs'", &i)) return false;
    value minus = value_int(i);
    return i >= 0 ? result(out, minus) : value_sign(r, '-', &minus, out);
}

// The text of a number without blanks around it and underscores between digits. False: it is none, or is too long.
static bool number_text(run *r, const string *s, char *out, size_t n_bytes, bool *is) {
    value stripped;
    *is = false;
    if (!string_strip(r, s, NULL, STRIP_BOTH, &stripped)) return false;
    const char *data = stripped.s->data;
    size_t n = stripped.s->n_bytes, n_out = 0;
    for (size_t i = 0; i < n; i++) {
        bool inner =
            i > 0 && i + 1 < n && data[i - 1] >= '0' && data[i - 1] <= '9' && data[i + 1] >= '0' && data[i + 1] <= '9';
        if ((unsigned char)data[i] >= 0x80 || !data[i] || (data[i] == '_' && !inner) || n_out + 1 == n_bytes)
            return true;
        if (data[i] != '_') out[n_out++] = data[i];
    }
    out[n_out] = '\0';
    return *is = n_out > 0, true;
}

static bool parse_float(run *r, const string *s, double *f, bool *is) {
    char digits[512], *end;
    if (!number_text(r, s, digits, sizeof digits, is) || !*is) return !r->e->code;
    *f = strtod(digits, &end);
    bool hex = strpbrk(digits, "xX(") != NULL; // strtod reads more than Python does
    return *is = *end == '\0' && !hex, true;
}

static bool parse_int(run *r, const string *s, int64_t *i, bool *is) {
    char digits[512];
    if (!number_text(r, s, digits, sizeof digits, is) || !*is) return !r->e->code;
    const char *first = digits + (digits[0] == '-' || digits[0] == '+');
    *is = *first && strspn(first, "0123456789") == strlen(first);
    errno = 0;
    if (*is) *i = strtoll(digits, NULL, 10);
    return !*is || errno == 0 || run_fail(r, ERR_UNSUPPORTED, "an integer of more than 64 bits");
}

static bool truncate_float(run *r, double f, value otherwise, value *out) {
    if (isnan(f)) return result(out, otherwise);
    if (!(fabs(f) < 9.2e18)) return run_fail(r, ERR_UNSUPPORTED, "an integer of more than 64 bits");
    return result(out, value_int((int64_t)f));
}

static bool to_int(run *r, const value *self, const args *a, value *out) {
    int64_t i, base = 10;
    double f;
    bool is;
    value otherwise = is_given(&a->v[0]) ? a->v[0] : value_int(0);
    if (self->kind == V_UNDEFINED) return value_fail_undefined(r, self);
    if (is_given(&a->v[1]) && !want_int(r, &a->v[1], "the base", &base)) return false;
    if (base != 10) return run_fail(r, ERR_UNSUPPORTED, "'int' with a base other than 10");
    if (value_is_int(self)) return result(out, value_int(value_to_int(self)));
    if (self->kind == V_FLOAT) return truncate_float(r, self->f, otherwise, out);
    if (self->kind != V_STRING) return result(out, otherwise);
    if (!parse_int(r, self->s, &i, &is)) return false;
    if (is) return result(out, value_int(i));
    if (!parse_float(r, self->s, &f, &is)) return false;
    return is && !isinf(f) ? truncate_float(r, f, otherwise, out) : result(out, otherwise);
}

static bool to_float(run *r, const value *self, const args *a, value *out) {
    double f;
    bool is;
    value otherwise = is_given(&a->v[0]) ? a->v[0] : value_float(0);
    if (self->kind == V_UNDEFINED) return value_fail_undefined(r, self);
    if (value_is_number(self)) return result(out, value_float(value_to_float(self)));
    if (self->kind != V_STRING) return result(out, otherwise);
    return parse_float(r, self->s, &f, &is) && result(out, is ? value_float(f) : otherwise);
}

static bool round_common(run *r, const value *self, int64_t places, value *out) {
    char digits[400];
    if (places < 0 || places > 40) return run_fail(r, ERR_UNSUPPORTED, "'round' to %lld places", (long long)places);
    if (value_is_int(self)) return result(out, value_int(value_to_int(self)));
    snprintf(digits, sizeof digits, "%.*f", (int)places, self->f); // half to even, of the exact value, as Python
    return result(out, isfinite(self->f) ? value_float(strtod(digits, NULL)) : *self);
}

static bool round_filter(run *r, const value *self, const args *a, value *out) {
    const string *method = NULL;
    int64_t places = 0;
    if (!value_is_number(self)) return run_fail(r, ERR_FORMAT, "'round' needs a number, not a %s", value_type(self));
    if (is_given(&a->v[0]) && !want_int(r, &a->v[0], "the precision", &places)) return false;
    if (is_given(&a->v[1]) && !want_string(r, &a->v[1], "the method", &method)) return false;
    if (!method || string_is(method, "common")) return round_common(r, self, places, out);
    bool up = string_is(method, "ceil");
    if (!up && !string_is(method, "floor")) return run_fail(r, ERR_FORMAT, "'round' is common, ceil or floor");
    double scale = pow(10, (double)places), scaled = value_to_float(self) * scale;
    if (places < 0 || !isfinite(scaled)) return run_fail(r, ERR_UNSUPPORTED, "'round' of such a number");
    double whole = (up ? ceil(scaled) : floor(scaled)) + 0.0; // no -0: Python's are ints
    return result(out, value_float(whole / scale));
}

// ---- what filters over many values share -------------------------------------------------------------------------

static bool is_index(const string *s) {
    size_t i = 0;
    while (i < s->n_bytes && s->data[i] >= '0' && s->data[i] <= '9') i++;
    return i > 0 && i == s->n_bytes;
}

// The value at a path such as "a.b.0", by subscripts.
static bool at_path(run *r, const value *of, const value *path, const value *otherwise, value *out) {
    *out = *of;
    if (path->kind != V_STRING) return value_item(r, of, path, out);
    const string *s = path->s;
    for (size_t from = 0, to; from <= s->n_bytes; from = to + 1) {
        string dot = {.data = ".", .n_bytes = 1};
        to = string_find(s, &dot, from, s->n_bytes);
        if (to == SIZE_MAX) to = s->n_bytes;
        value part, v = *out;
        int64_t index = 0;
        bool is_int = false;
        if (!string_cut(r, s, from, to, &part)) return false;
        if (is_index(part.s) && !parse_int(r, part.s, &index, &is_int)) return false;
        if (is_int) part = value_int(index);
        if (!value_item(r, &v, &part, out)) return false;
        if (otherwise && out->kind == V_UNDEFINED) *out = *otherwise;
    }
    return true;
}

// What values are compared by: an attribute of them (path NULL: themselves), in lower case unless case counts.
static bool key_of(run *r, const value *v, const value *path, bool case_sensitive, value *key) {
    *key = *v;
    if (path && !at_path(r, v, path, NULL, key)) return false;
    return case_sensitive || key->kind != V_STRING || string_change_case(r, key->s, CASE_LOWER, key);
}

typedef struct keyed {
    value key, value;
} keyed;

// Stable; reverse keeps equal values in order, too.
static bool merge_sort(run *r, keyed *v, size_t n, keyed *room, bool reverse) {
    if (n < 2) return true;
    size_t half = n / 2, i = 0, j = half, k = 0;
    if (!merge_sort(r, v, half, room, reverse) || !merge_sort(r, v + half, n - half, room, reverse)) return false;
    while (i < half && j < n) {
        bool swap;
        if (!(reverse ? value_less(r, &v[i].key, &v[j].key, &swap) : value_less(r, &v[j].key, &v[i].key, &swap)))
            return false;
        room[k++] = swap ? v[j++] : v[i++];
    }
    while (i < half) room[k++] = v[i++];
    memcpy(v, room, k * sizeof *v);
    return true;
}

static bool sort_keyed(run *r, keyed *v, size_t n, bool reverse, value *out) {
    keyed *room = run_take(r, n, sizeof *room);
    value *sorted = run_take(r, n, sizeof *sorted);
    if (!room || !sorted || !merge_sort(r, v, n, room, reverse)) return false;
    for (size_t i = 0; i < n; i++) sorted[i] = v[i].value;
    return value_list(r, V_LIST, sorted, n, out);
}

static bool sort(run *r, const value *self, const args *a, value *out) {
    const value *all;
    size_t n;
    keyed *v;
    const value *path = or_null(&a->v[2]);
    if (path && path->kind == V_STRING && path->s->n_bytes && memchr(path->s->data, ',', path->s->n_bytes))
        return run_fail(r, ERR_UNSUPPORTED, "'sort' by several attributes");
    if (!value_collect(r, self, &all, &n) || !(v = run_take(r, n, sizeof *v))) return false;
    for (size_t i = 0; i < n; i++) {
        value *key = run_take(r, 1, sizeof *key);
        v[i].value = all[i];
        if (!key || !key_of(r, &all[i], path, value_truth(&a->v[1]), key)) return false;
        if (!value_list(r, V_LIST, key, 1, &v[i].key))
            return false; // a list, as in jinja2: what is equal needs no order
    }
    return sort_keyed(r, v, n, value_truth(&a->v[0]), out);
}

static bool dictsort(run *r, const value *self, const args *a, value *out) {
    const string *by = NULL;
    if (self->kind == V_UNDEFINED) return value_fail_undefined(r, self);
    if (self->kind != V_DICT) return run_fail(r, ERR_FORMAT, "'dictsort' needs a mapping, not a %s", value_type(self));
    if (is_given(&a->v[1]) && !want_string(r, &a->v[1], "'by'", &by)) return false;
    bool by_value = by && string_is(by, "value");
    if (by && !by_value && !string_is(by, "key")) return run_fail(r, ERR_FORMAT, "'dictsort' is by key or by value");
    size_t n = self->d->n;
    keyed *v = run_take(r, n, sizeof *v);
    if (!v) return false;
    for (size_t i = 0; i < n; i++) {
        const pair *p = &self->d->pairs[i];
        if (!value_tuple2(r, p->key, p->value, &v[i].value) ||
            !key_of(r, by_value ? &p->value : &p->key, NULL, value_truth(&a->v[0]), &v[i].key))
            return false;
    }
    return sort_keyed(r, v, n, value_truth(&a->v[2]), out);
}

static bool extreme(run *r, const value *self, const args *a, bool most, value *out) {
    const value *all;
    size_t n;
    value best_key, key;
    if (!value_collect(r, self, &all, &n)) return false;
    if (n == 0) return value_undefined(r, "the least or greatest of nothing is undefined", out);
    for (size_t i = 0; i < n; i++) {
        bool better = i == 0;
        if (!key_of(r, &all[i], or_null(&a->v[1]), value_truth(&a->v[0]), &key)) return false;
        if (i && !(most ? value_less(r, &best_key, &key, &better) : value_less(r, &key, &best_key, &better)))
            return false;
        if (better) *out = all[i], best_key = key;
    }
    return true;
}
static bool min(run *r, const value *self, const args *a, value *out) { return extreme(r, self, a, false, out); }
static bool max(run *r, const value *self, const args *a, value *out) { return extreme(r, self, a, true, out); }

static bool unique(run *r, const value *self, const args *a, value *out) {
    const value *all;
    size_t n;
    value seen, key;
    items kept = {0};
    if (!value_collect(r, self, &all, &n) || !dict_new(r, V_DICT, &seen)) return false;
    for (size_t i = 0; i < n; i++) {
        uint32_t n_seen = seen.d->n;
        if (!key_of(r, &all[i], or_null(&a->v[1]), value_truth(&a->v[0]), &key)) return false;
        if (!dict_put(r, seen.d, key, VALUE_NONE) || (seen.d->n > n_seen && !items_add(r, &kept, all[i]))) return false;
    }
    return value_iter(r, kept.v, kept.n, out);
}

static bool sum(run *r, const value *self, const args *a, value *out) {
    const value *all;
    size_t n;
    value total = is_given(&a->v[1]) ? a->v[1] : value_int(0);
    if (total.kind == V_STRING) return run_fail(r, ERR_FORMAT, "'sum' does not join strings");
    if (!value_collect(r, self, &all, &n)) return false;
    for (size_t i = 0; i < n; i++) {
        value v = all[i], before = total;
        if (or_null(&a->v[0]) && !at_path(r, &all[i], &a->v[0], NULL, &v)) return false;
        if (!run_spend(r, 1) || !value_binary(r, '+', &before, &v, &total)) return false;
    }
    return result(out, total);
}

static bool join(run *r, const value *self, const args *a, value *out) {
    const value *all;
    size_t n;
    text t = {0};
    if (!value_collect(r, self, &all, &n)) return false;
    for (size_t i = 0; i < n; i++) {
        value v = all[i];
        if (or_null(&a->v[1]) && !at_path(r, &all[i], &a->v[1], NULL, &v)) return false;
        if ((i && is_given(&a->v[0]) && !show_str(r, &t, &a->v[0])) || !show_str(r, &t, &v)) return false;
    }
    return text_take(r, &t, out);
}

// ---- lists -------------------------------------------------------------------------------------------------------

static bool length_of(run *r, const value *self, const args *a, value *out) {
    (void)a;
    size_t n;
    return value_length(r, self, &n) && result(out, value_int((int64_t)n));
}

static bool first(run *r, const value *self, const args *a, value *out) {
    (void)a;
    cursor c;
    bool ended;
    if (!cursor_open(r, self, &c) || !cursor_next(r, &c, out, &ended)) return false;
    return !ended || value_undefined(r, "the first of nothing is undefined", out);
}

static bool last(run *r, const value *self, const args *a, value *out) {
    (void)a;
    const value *all;
    size_t n;
    if (self->kind == V_ITER) return run_fail(r, ERR_FORMAT, "an iterator cannot be reversed");
    if (!value_collect(r, self, &all, &n)) return false;
    if (n && self->kind == V_STRING) // which stays safe if it was
        return string_cut(r, self->s, self->s->n_bytes - all[n - 1].s->n_bytes, self->s->n_bytes, out);
    return n ? result(out, all[n - 1]) : value_undefined(r, "the last of nothing is undefined", out);
}

static bool to_list(run *r, const value *self, const args *a, value *out) {
    (void)a;
    const value *all;
    size_t n;
    return value_collect(r, self, &all, &n) && value_list(r, V_LIST, all, n, out);
}

static bool reverse(run *r, const value *self, const args *a, value *out) {
    (void)a;
    const value *all;
    size_t n;
    if (self->kind == V_STRING) return string_reverse(r, self->s, out);
    if (!value_collect(r, self, &all, &n)) return false;
    value *turned = run_take(r, n, sizeof *turned);
    if (!turned) return false;
    for (size_t i = 0; i < n; i++) turned[i] = all[n - 1 - i];
    return self->kind == V_ITER ? value_list(r, V_LIST, turned, n, out) : value_iter(r, turned, n, out);
}

// Pieces of a list: batch fills rows one after the other, slice makes a given number of columns.
static bool add_piece(run *r, items *pieces, const value *all, size_t n, const value *fill, size_t n_fill) {
    items piece = {0};
    value v;
    for (size_t i = 0; i < n; i++)
        if (!items_add(r, &piece, all[i])) return false;
    for (size_t i = 0; i < n_fill; i++)
        if (!run_spend(r, 1) || !items_add(r, &piece, *fill)) return false;
    return run_spend(r, 1) && value_list(r, V_LIST, piece.v, piece.n, &v) && items_add(r, pieces, v);
}

static bool batch(run *r, const value *self, const args *a, value *out) {
    const value *all;
    size_t n;
    int64_t size;
    items pieces = {0};
    if (!value_collect(r, self, &all, &n) || !want_int(r, &a->v[0], "the size", &size)) return false;
    if (size < 1) return run_fail(r, ERR_UNSUPPORTED, "'batch' of less than 1");
    for (size_t at = 0; at < n; at += (size_t)size) {
        size_t n_here = n - at < (size_t)size ? n - at : (size_t)size;
        if (!add_piece(r, &pieces, all + at, n_here, or_null(&a->v[1]), or_null(&a->v[1]) ? (size_t)size - n_here : 0))
            return false;
        if (n_here < (size_t)size) break;
    }
    return value_iter(r, pieces.v, pieces.n, out);
}

static bool slice(run *r, const value *self, const args *a, value *out) {
    const value *all;
    size_t n, at = 0;
    int64_t n_columns;
    items pieces = {0};
    if (!value_collect(r, self, &all, &n) || !want_int(r, &a->v[0], "the number of columns", &n_columns)) return false;
    if (n_columns < 1) return run_fail(r, ERR_UNSUPPORTED, "'slice' into less than 1");
    for (size_t i = 0; i < (size_t)n_columns; i++) {
        bool extra = i < n % (size_t)n_columns;
        size_t n_here = n / (size_t)n_columns + extra;
        if (!add_piece(r, &pieces, all + at, n_here, or_null(&a->v[1]), or_null(&a->v[1]) && !extra)) return false;
        at += n_here;
    }
    return value_iter(r, pieces.v, pieces.n, out);
}

static bool items_filter(run *r, const value *self, const args *a, value *out) {
    (void)a;
    const value *all = NULL;
    size_t n = 0;
    value view;
    if (self->kind == V_UNDEFINED) return value_iter(r, NULL, 0, out);
    if (self->kind != V_DICT) return run_fail(r, ERR_FORMAT, "'items' needs a mapping, not a %s", value_type(self));
    return value_view(r, self->d, VIEW_ITEMS, &view) && value_collect(r, &view, &all, &n) && value_iter(r, all, n, out);
}

// ---- filters that apply another ----------------------------------------------------------------------------------

static const value *find_named(const args *a, const char *name) {
    for (size_t i = 0; i < a->n_named; i++)
        if (string_is(a->named[i].name, name)) return &a->named[i].value;
    return NULL;
}

static bool named_row(run *r, const value *name, const char *what, const builtin *(*find)(const string *),
                      const builtin **row) {
    const string *s;
    if (!want_string(r, name, what, &s)) return false;
    int n_shown = s->n_bytes < 60 ? (int)s->n_bytes : 60;
    *row = find(s);
    return *row || run_fail(r, ERR_FORMAT, "there is no %s '%.*s'", what, n_shown, s->data);
}

static bool map(run *r, const value *self, const args *a, value *out) {
    const value *all = NULL, *path = a->n ? NULL : find_named(a, "attribute"), *otherwise = find_named(a, "default");
    const builtin *row = NULL;
    size_t n = 0;
    items mapped = {0};
    if (value_truth(self)) {
        if (!path && a->n == 0) return run_fail(r, ERR_FORMAT, "'map' needs a filter or an attribute");
        if (!path && !named_row(r, &a->v[0], "filter", filter_find, &row)) return false;
        if (path && a->n_named > (otherwise ? 2u : 1u))
            return run_fail(r, ERR_FORMAT, "'map' with an unknown argument");
        if (!value_collect(r, self, &all, &n)) return false;
    }
    args rest = {.named = a->named, .n_named = a->n_named};
    if (row) rest.v = a->v + 1, rest.n = a->n - 1;
    if (otherwise && otherwise->kind == V_NONE) otherwise = NULL;
    for (size_t i = 0; i < n; i++) {
        value v;
        if (!(path ? at_path(r, &all[i], path, otherwise, &v) : builtin_run(r, row, &all[i], &rest, &v))) return false;
        if (!items_add(r, &mapped, v)) return false;
    }
    return value_iter(r, mapped.v, mapped.n, out);
}

// Keeps the values (by_attribute: those whose attribute) that pass a test, or are true; `wanted` false: the others.
static bool choose(run *r, const value *self, const args *a, bool by_attribute, bool wanted, value *out) {
    const value *all = NULL;
    const builtin *test = NULL;
    size_t n = 0, n_first = by_attribute; // arguments before the test's name
    items kept = {0};
    if (value_truth(self)) {
        if (a->n < n_first) return run_fail(r, ERR_FORMAT, "the name of an attribute is missing");
        if (a->n > n_first && !named_row(r, &a->v[n_first], "test", test_find, &test)) return false;
        if (!value_collect(r, self, &all, &n)) return false;
    }
    args rest = {.named = a->named, .n_named = a->n_named};
    if (test) rest.v = a->v + n_first + 1, rest.n = a->n - n_first - 1;
    for (size_t i = 0; i < n; i++) {
        value v = all[i], passed;
        if (by_attribute && !at_path(r, &all[i], &a->v[0], NULL, &v)) return false;
        passed = v;
        if (test && !builtin_run(r, test, &v, &rest, &passed)) return false;
        if (value_truth(&passed) == wanted && !items_add(r, &kept, all[i])) return false;
    }
    return value_iter(r, kept.v, kept.n, out);
}
static bool select_(run *r, const value *self, const args *a, value *out) {
    return choose(r, self, a, false, true, out);
}
static bool reject(run *r, const value *self, const args *a, value *out) {
    return choose(r, self, a, false, false, out);
}
static bool selectattr(run *r, const value *self, const args *a, value *out) {
    return choose(r, self, a, true, true, out);
}
static bool rejectattr(run *r, const value *self, const args *a, value *out) {
    return choose(r, self, a, true, false, out);
}

// ---- others ------------------------------------------------------------------------------------------------------

static bool default_(run *r, const value *self, const args *a, value *out) {
    bool use = self->kind == V_UNDEFINED || (value_truth(&a->v[1]) && !value_truth(self));
    if (!use) return result(out, *self);
    return is_given(&a->v[0]) ? result(out, a->v[0]) : string_literal(r, "", out);
}

static bool attr(run *r, const value *self, const args *a, value *out) { // never an item
    const string *name;
    bool changes;
    if (!want_string(r, &a->v[0], "the name of an attribute", &name)) return false;
    bool has_method = method_find(self->kind, name, &changes) || changes;
    if (self->kind == V_DICT && !has_method) return value_absent(r, self, a->v[0], out);
    return value_attribute(r, self, name, out);
}

// ---- table -------------------------------------------------------------------------------------------------------

static const builtin FILTERS[] = {
    {"abs", absolute, 0, {NULL}},
    {"attr", attr, 1, {"name"}},
    {"batch", batch, 1, {"linecount", "fill_with"}},
    {"capitalize", capitalize, 0, {NULL}},
    {"center", center, 0, {"width"}},
    {"count", length_of, 0, {NULL}},
    {"d", default_, 0, {"default_value", "boolean"}},
    {"default", default_, 0, {"default_value", "boolean"}},
    {"dictsort", dictsort, 0, {"case_sensitive", "by", "reverse"}},
    {"e", escape, 0, {NULL}},
    {"escape", escape, 0, {NULL}},
    {"first", first, 0, {NULL}},
    {"float", to_float, 0, {"default"}},
    {"forceescape", forceescape, 0, {NULL}},
    {"format", format, ANY, {NULL}},
    {"indent", indent, 0, {"width", "first", "blank"}},
    {"int", to_int, 0, {"default", "base"}},
    {"items", items_filter, 0, {NULL}},
    {"join", join, 0, {"d", "attribute"}},
    {"last", last, 0, {NULL}},
    {"length", length_of, 0, {NULL}},
    {"list", to_list, 0, {NULL}},
    {"lower", lower, 0, {NULL}},
    {"map", map, ANY, {NULL}},
    {"max", max, 0, {"case_sensitive", "attribute"}},
    {"min", min, 0, {"case_sensitive", "attribute"}},
    {"reject", reject, ANY, {NULL}},
    {"rejectattr", rejectattr, ANY, {NULL}},
    {"replace", replace, 2, {"old", "new", "count"}},
    {"reverse", reverse, 0, {NULL}},
    {"round", round_filter, 0, {"precision", "method"}},
    {"safe", mark_safe, 0, {NULL}},
    {"select", select_, ANY, {NULL}},
    {"selectattr", selectattr, ANY, {NULL}},
    {"slice", slice, 1, {"slices", "fill_with"}},
    {"sort", sort, 0, {"reverse", "case_sensitive", "attribute"}},
    {"string", to_string, 0, {NULL}},
    {"sum", sum, 0, {"attribute", "start"}},
    {"title", title, 0, {NULL}},
    {"tojson", tojson, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {"trim", trim, 0, {"chars"}},
    {"truncate", truncate, 0, {"length", "killwords", "end", "leeway"}},
    {"unique", unique, 0, {"case_sensitive", "attribute"}},
    {"upper", upper, 0, {NULL}},
    {"filesizeformat", NULL, 0, {NULL}},
    {"groupby", NULL, 0, {NULL}},
    {"pprint", NULL, 0, {NULL}},
    {"random", NULL, 0, {NULL}},
    {"striptags", NULL, 0, {NULL}},
    {"urlencode", NULL, 0, {NULL}},
    {"urlize", NULL, 0, {NULL}},
    {"wordcount", NULL, 0, {NULL}},
    {"wordwrap", NULL, 0, {NULL}},
    {"xmlattr", NULL, 0, {NULL}},
    {0},
};

const builtin *filter_find(const string *name) { return builtin_find(FILTERS, name); }

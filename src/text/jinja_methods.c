// Implements the methods and functions of jinja_builtin.h, with Python's meaning.
//
// The tables name all methods that Python has: an attribute of that name hides an item of a dict even where we do not
// support the method, and those that would change a value are refused, as the immutable sandbox does.
#include "text/jinja_builtin.h"

#include <ctype.h>

static bool result(value *out, value v) { return *out = v, true; }

// The character offsets that start and end name, as bytes of s.
static bool bounds(run *r, const string *s, const value *start, const value *end, size_t *from, size_t *to) {
    int64_t n = (int64_t)s->n_chars, i = 0, j = n;
    if (or_null(start) && !want_int(r, start, "the start", &i)) return false;
    if (or_null(end) && !want_int(r, end, "the end", &j)) return false;
    if (i < 0) i = i < -n ? 0 : i + n;
    if (j < 0) j = j < -n ? 0 : j + n;
    if (j > n) j = n;
    *from = i > n ? SIZE_MAX : string_offset(s, (size_t)i); // behind the end nothing is found, not even ""
    *to = string_offset(s, (size_t)j);
    return run_spend_bytes(r, s->n_bytes);
}

// ---- str ---------------------------------------------------------------------------------------------------------

static bool strip_by(run *r, const value *self, const args *a, strip_side side, value *out) {
    const string *chars = NULL;
    if (or_null(&a->v[0]) && !want_string(r, &a->v[0], "what is stripped", &chars)) return false;
    return string_strip(r, self->s, chars, side, out);
}
static bool strip(run *r, const value *self, const args *a, value *out) {
    return strip_by(r, self, a, STRIP_BOTH, out);
}
static bool lstrip(run *r, const value *self, const args *a, value *out) {
    return strip_by(r, self, a, STRIP_LEFT, out);
}
static bool rstrip(run *r, const value *self, const args *a, value *out) {
    return strip_by(r, self, a, STRIP_RIGHT, out);
}

static bool split_by(run *r, const value *self, const args *a, bool from_right, value *out) {
    const string *by = NULL;
    int64_t most = -1;
    if (or_null(&a->v[0]) && !want_string(r, &a->v[0], "what parts", &by)) return false;
    if (is_given(&a->v[1]) && !want_int(r, &a->v[1], "the number of cuts", &most)) return false;
    return string_split(r, self->s, by, most, from_right, out);
}
static bool split(run *r, const value *self, const args *a, value *out) { return split_by(r, self, a, false, out); }
static bool rsplit(run *r, const value *self, const args *a, value *out) { return split_by(r, self, a, true, out); }

static bool splitlines(run *r, const value *self, const args *a, value *out) {
    return string_split_lines(r, self->s, value_truth(&a->v[0]), out);
}

static bool upper(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return string_change_case(r, self->s, CASE_UPPER, out);
}
static bool lower(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return string_change_case(r, self->s, CASE_LOWER, out);
}
static bool title(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return string_change_case(r, self->s, CASE_TITLE, out);
}
static bool capitalize(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return string_change_case(r, self->s, CASE_CAPITAL, out);
}
static bool swapcase(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return string_change_case(r, self->s, CASE_SWAP, out);
}

static bool replace(run *r, const value *self, const args *a, value *out) {
    const string *old, *by;
    int64_t most = -1;
    if (!want_string(r, &a->v[0], "what is replaced", &old) || !want_string(r, &a->v[1], "what replaces", &by))
        return false;
    if (is_given(&a->v[2]) && !want_int(r, &a->v[2], "the number of replacements", &most)) return false;
    return string_suit(r, self->s, &by) && string_replace(r, self->s, old, by, most, out);
}

// Whether [from, to) of s begins or ends with the affix, or with one of a tuple of them.
static bool has_affix(run *r, const string *s, const value *affix, size_t from, size_t to, bool at_end, bool *has) {
    size_t n = affix->kind == V_TUPLE ? affix->l->n : 1;
    *has = false;
    for (size_t i = 0; i < n && !*has; i++) {
        const string *x;
        if (!want_string(r, affix->kind == V_TUPLE ? &affix->l->items[i] : affix, "a prefix or suffix", &x))
            return false;
        if (!run_spend_bytes(r, x->n_bytes + 32)) return false;
        if (from > to || x->n_bytes > to - from) continue;
        size_t at = at_end ? to - x->n_bytes : from;
        *has = x->n_bytes == 0 || memcmp(s->data + at, x->data, x->n_bytes) == 0;
    }
    return true;
}

static bool affix_of(run *r, const value *self, const args *a, bool at_end, value *out) {
    size_t from, to;
    bool has;
    if (!bounds(r, self->s, &a->v[1], &a->v[2], &from, &to)) return false;
    return has_affix(r, self->s, &a->v[0], from, to, at_end, &has) && result(out, value_bool(has));
}
static bool startswith(run *r, const value *self, const args *a, value *out) {
    return affix_of(r, self, a, false, out);
}
static bool endswith(run *r, const value *self, const args *a, value *out) { return affix_of(r, self, a, true, out); }

static bool remove_affix(run *r, const value *self, const args *a, bool at_end, value *out) {
    const string *affix, *s = self->s;
    bool has;
    if (!want_string(r, &a->v[0], "a prefix or suffix", &affix)) return false;
    if (!has_affix(r, s, &a->v[0], 0, s->n_bytes, at_end, &has)) return false;
    size_t n = has ? affix->n_bytes : 0;
    return string_cut(r, s, at_end ? 0 : n, s->n_bytes - (at_end ? n : 0), out);
}
static bool removeprefix(run *r, const value *self, const args *a, value *out) {
    return remove_affix(r, self, a, false, out);
}
static bool removesuffix(run *r, const value *self, const args *a, value *out) {
    return remove_affix(r, self, a, true, out);
}

// The index, in characters, of what is searched; -1 if it is not there.
static bool find_by(run *r, const value *self, const args *a, bool last, value *out) {
    const string *what;
    size_t from, to;
    if (!want_string(r, &a->v[0], "what is searched", &what)) return false;
    if (!bounds(r, self->s, &a->v[1], &a->v[2], &from, &to)) return false;
    size_t at = (last ? string_find_last : string_find)(self->s, what, from, to);
    return result(out, value_int(at == SIZE_MAX ? -1 : (int64_t)string_count_chars(self->s->data, at)));
}
static bool find(run *r, const value *self, const args *a, value *out) { return find_by(r, self, a, false, out); }
static bool rfind(run *r, const value *self, const args *a, value *out) { return find_by(r, self, a, true, out); }

static bool index_of(run *r, const value *self, const args *a, value *out) {
    return find_by(r, self, a, false, out) && (out->i >= 0 || run_fail(r, ERR_FORMAT, "a str is not in another"));
}
static bool last_index_of(run *r, const value *self, const args *a, value *out) {
    return find_by(r, self, a, true, out) && (out->i >= 0 || run_fail(r, ERR_FORMAT, "a str is not in another"));
}

static bool count(run *r, const value *self, const args *a, value *out) {
    const string *what;
    size_t from, to;
    int64_t n = 0;
    if (!want_string(r, &a->v[0], "what is counted", &what)) return false;
    if (!bounds(r, self->s, &a->v[1], &a->v[2], &from, &to)) return false;
    if (what->n_bytes == 0 && from <= to)
        return result(out, value_int((int64_t)string_count_chars(self->s->data + from, to - from) + 1));
    for (size_t at = from; (at = string_find(self->s, what, at, to)) != SIZE_MAX; at += what->n_bytes) n++;
    return run_spend(r, (size_t)n / 4) && result(out, value_int(n));
}

static bool join(run *r, const value *self, const args *a, value *out) {
    const value *all;
    size_t n;
    text t = {0};
    if (!value_collect(r, &a->v[0], &all, &n)) return false;
    for (size_t i = 0; i < n; i++) {
        const string *s;
        if (!want_string(r, &all[i], "what is joined", &s)) return false;
        if (!string_suit(r, self->s, &s)) return false;
        if ((i && !text_add_string(r, &t, self->s)) || !text_add_string(r, &t, s)) return false;
    }
    return text_take_like(r, &t, self->s, out);
}

static bool format(run *r, const value *self, const args *a, value *out) { return format_braces(r, self->s, a, out); }

static bool partition_by(run *r, const value *self, const args *a, bool last, value *out) {
    const string *by, *s = self->s;
    value *three = run_take(r, 3, sizeof *three);
    if (!three || !want_string(r, &a->v[0], "what parts", &by) || !run_spend_bytes(r, s->n_bytes)) return false;
    if (by->n_bytes == 0) return run_fail(r, ERR_FORMAT, "partition by an empty string");
    size_t at = (last ? string_find_last : string_find)(s, by, 0, s->n_bytes);
    size_t from = at != SIZE_MAX ? at : last ? 0 : s->n_bytes, to = at != SIZE_MAX ? at + by->n_bytes : from;
    return string_cut(r, s, 0, from, &three[0]) && string_cut(r, s, from, to, &three[1]) &&
           string_cut(r, s, to, s->n_bytes, &three[2]) && value_list(r, V_TUPLE, three, 3, out);
}
static bool partition(run *r, const value *self, const args *a, value *out) {
    return partition_by(r, self, a, false, out);
}
static bool rpartition(run *r, const value *self, const args *a, value *out) {
    return partition_by(r, self, a, true, out);
}

static bool add_padding(run *r, text *t, const string *fill, size_t n) {
    if (!run_spend(r, n / 4)) return false;
    for (size_t i = 0; i < n; i++)
        if (!text_add_string(r, t, fill)) return false;
    return true;
}

// Fills up to a width: where is '<' for text on the left, '>' on the right, '^' in the middle.
static bool justify(run *r, const value *self, const args *a, char where, value *out) {
    const string *s = self->s, blank = {.data = " ", .n_bytes = 1, .n_chars = 1}, *fill = &blank;
    int64_t width;
    if (!want_int(r, &a->v[0], "the width", &width)) return false;
    if (is_given(&a->v[1]) && !want_string(r, &a->v[1], "what fills", &fill)) return false;
    if (!string_suit(r, s, &fill)) return false;
    if (fill->n_chars != 1) return run_fail(r, ERR_FORMAT, "what fills must be one character");
    size_t n = width > (int64_t)s->n_chars ? (size_t)width - s->n_chars : 0;
    size_t left = where == '<' ? 0 : where == '>' ? n : n / 2 + (n & (size_t)width & 1); // as CPython rounds
    text t = {0};
    return add_padding(r, &t, fill, left) && text_add_string(r, &t, s) && add_padding(r, &t, fill, n - left) &&
           text_take_like(r, &t, s, out);
}
static bool ljust(run *r, const value *self, const args *a, value *out) { return justify(r, self, a, '<', out); }
static bool rjust(run *r, const value *self, const args *a, value *out) { return justify(r, self, a, '>', out); }
static bool center(run *r, const value *self, const args *a, value *out) { return justify(r, self, a, '^', out); }

static bool zfill(run *r, const value *self, const args *a, value *out) {
    const string *s = self->s, zero = {.data = "0", .n_bytes = 1, .n_chars = 1};
    int64_t width;
    if (!want_int(r, &a->v[0], "the width", &width)) return false;
    size_t n_sign = s->n_bytes && (s->data[0] == '-' || s->data[0] == '+') ? 1 : 0;
    size_t n = width > (int64_t)s->n_chars ? (size_t)width - s->n_chars : 0;
    text t = {0};
    return text_add(r, &t, s->data, n_sign, s->marks) && add_padding(r, &t, &zero, n) &&
           text_add(r, &t, s->data + n_sign, s->n_bytes - n_sign, s->marks ? s->marks + n_sign : NULL) &&
           text_take_like(r, &t, s, out);
}

// Whether a str is not empty and all its characters are of a kind. Known for ASCII alone.
static bool all_are(run *r, const string *s, int (*is)(int c), value *out) {
    bool all = s->n_bytes > 0;
    for (size_t i = 0; i < s->n_bytes; i++) {
        if ((unsigned char)s->data[i] >= 0x80)
            return run_fail(r, ERR_UNSUPPORTED, "the kind of a character beyond ASCII");
        all = all && is((unsigned char)s->data[i]);
    }
    return run_spend_bytes(r, s->n_bytes) && result(out, value_bool(all));
}
static int is_blank(int c) { return isspace(c) || (c >= 28 && c <= 31); }
static bool isalpha_(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return all_are(r, self->s, isalpha, out);
}
static bool isdigit_(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return all_are(r, self->s, isdigit, out);
}
static bool isalnum_(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return all_are(r, self->s, isalnum, out);
}
static bool isspace_(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return all_are(r, self->s, is_blank, out);
}

// Whether there are letters, and all are of this case.
static bool letters_are(run *r, const string *s, int (*is_other)(int c), value *out) {
    bool has = false, all = true;
    for (size_t i = 0; i < s->n_bytes; i++) {
        unsigned char c = (unsigned char)s->data[i];
        if (c >= 0x80) return run_fail(r, ERR_UNSUPPORTED, "the case of a character beyond ASCII");
        has = has || isalpha(c), all = all && !is_other(c);
    }
    return run_spend_bytes(r, s->n_bytes) && result(out, value_bool(has && all));
}
static bool isupper_(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return letters_are(r, self->s, islower, out);
}
static bool islower_(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return letters_are(r, self->s, isupper, out);
}

// ---- list, tuple, dict -------------------------------------------------------------------------------------------

static bool sequence_index(run *r, const value *self, const args *a, value *out) { // of a list, a tuple, a range
    const value *all;
    size_t n;
    if (is_given(&a->v[1])) return run_fail(r, ERR_UNSUPPORTED, "index with a start");
    if (!value_collect(r, self, &all, &n)) return false;
    for (size_t i = 0; i < n; i++) {
        bool equal;
        if (!value_equal(r, &all[i], &a->v[0], &equal)) return false;
        if (equal) return result(out, value_int((int64_t)i));
    }
    return run_fail(r, ERR_FORMAT, "a value is not in a %s", value_type(self));
}

static bool sequence_count(run *r, const value *self, const args *a, value *out) {
    const value *all;
    size_t n;
    int64_t n_equal = 0;
    if (!value_collect(r, self, &all, &n)) return false;
    for (size_t i = 0; i < n; i++) {
        bool equal;
        if (!value_equal(r, &all[i], &a->v[0], &equal)) return false;
        n_equal += equal;
    }
    return result(out, value_int(n_equal));
}

static bool copy(run *r, const value *self, const args *a, value *out) { // of what never changes
    (void)r, (void)a;
    return result(out, *self);
}

static bool dict_get(run *r, const value *self, const args *a, value *out) {
    const value *found;
    if (!dict_find(r, self->d, &a->v[0], &found)) return false;
    return result(out, found ? *found : is_given(&a->v[1]) ? a->v[1] : VALUE_NONE);
}

static bool dict_keys(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return value_view(r, self->d, VIEW_KEYS, out);
}
static bool dict_values(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return value_view(r, self->d, VIEW_VALUES, out);
}
static bool dict_items(run *r, const value *self, const args *a, value *out) {
    (void)a;
    return value_view(r, self->d, VIEW_ITEMS, out);
}

// ---- functions ---------------------------------------------------------------------------------------------------

static bool make_range(run *r, const value *self, const args *a, value *out) {
    enum { MAX_RANGE = 100000 }; // of jinja2's sandbox
    (void)self;
    range *x = run_take(r, 1, sizeof *x);
    int64_t start = 0, stop, step = 1;
    bool one = !is_given(&a->v[1]);
    if (!x || !want_int(r, &a->v[one ? 0 : 1], "the end of a range", &stop)) return false;
    if (!one && !want_int(r, &a->v[0], "the start of a range", &start)) return false;
    if (is_given(&a->v[2]) && !want_int(r, &a->v[2], "the step of a range", &step)) return false;
    if (step == 0) return run_fail(r, ERR_FORMAT, "a range of step 0");
    uint64_t stride = step < 0 ? -(uint64_t)step : (uint64_t)step, n = 0;
    if (step > 0 ? start < stop : start > stop)
        n = (step > 0 ? (uint64_t)stop - (uint64_t)start - 1 : (uint64_t)start - (uint64_t)stop - 1) / stride + 1;
    if (n > MAX_RANGE) return run_fail(r, ERR_TOO_LONG, "a range of more than %d numbers", MAX_RANGE);
    *x = (range){start, stop, step, (size_t)n};
    return result(out, (value){.kind = V_RANGE, .range = x});
}

static bool put_pairs(run *r, const value *from, dict *to) { // of a mapping, or of pairs
    if (from->kind == V_DICT) {
        for (size_t i = 0; i < from->d->n; i++)
            if (!dict_put(r, to, from->d->pairs[i].key, from->d->pairs[i].value)) return false;
        return true;
    }
    const value *all, *two;
    size_t n, n_two;
    if (!value_collect(r, from, &all, &n)) return false;
    for (size_t i = 0; i < n; i++) {
        if (!value_collect(r, &all[i], &two, &n_two)) return false;
        if (n_two != 2) return run_fail(r, ERR_FORMAT, "a dict is made of pairs, not of %zu values", n_two);
        if (!dict_put(r, to, two[0], two[1])) return false;
    }
    return true;
}

static bool make_pairs(run *r, const args *a, value_kind kind, value *out) {
    if (a->n > 1) return run_fail(r, ERR_FORMAT, "a dict is made of one value at most");
    if (!dict_new(r, kind, out) || (a->n == 1 && !put_pairs(r, &a->v[0], out->d))) return false;
    for (size_t i = 0; i < a->n_named; i++)
        if (!dict_put(r, out->d, value_string(a->named[i].name), a->named[i].value)) return false;
    return true;
}

static bool make_dict(run *r, const value *self, const args *a, value *out) {
    (void)self;
    return make_pairs(r, a, V_DICT, out);
}

static bool make_namespace(run *r, const value *self, const args *a, value *out) {
    (void)self;
    return make_pairs(r, a, V_NAMESPACE, out);
}

static bool raise_exception(run *r, const value *self, const args *a, value *out) {
    (void)self, (void)out;
    text t = {0};
    if (!show_str(r, &t, &a->v[0]) || !text_add(r, &t, "", 1, NULL)) return false;
    return run_fail(r, ERR_USAGE, "%s", t.data);
}

static bool strftime_now(run *r, const value *self, const args *a, value *out) {
    (void)self;
    const string *s;
    return want_string(r, &a->v[0], "the format of a time", &s) && format_time(r, s, out);
}

// ---- tables ------------------------------------------------------------------------------------------------------

static const builtin STRING_METHODS[] = {
    {"capitalize", capitalize, 0, {NULL}},
    {"center", center, 1, {"width", "fillchar"}},
    {"count", count, 1, {"sub", "start", "end"}},
    {"endswith", endswith, 1, {"suffix", "start", "end"}},
    {"find", find, 1, {"sub", "start", "end"}},
    {"format", format, ANY, {NULL}},
    {"index", index_of, 1, {"sub", "start", "end"}},
    {"isalnum", isalnum_, 0, {NULL}},
    {"isalpha", isalpha_, 0, {NULL}},
    {"isdigit", isdigit_, 0, {NULL}},
    {"islower", islower_, 0, {NULL}},
    {"isspace", isspace_, 0, {NULL}},
    {"isupper", isupper_, 0, {NULL}},
    {"join", join, 1, {"iterable"}},
    {"ljust", ljust, 1, {"width", "fillchar"}},
    {"lower", lower, 0, {NULL}},
    {"lstrip", lstrip, 0, {"chars"}},
    {"partition", partition, 1, {"sep"}},
    {"removeprefix", removeprefix, 1, {"prefix"}},
    {"removesuffix", removesuffix, 1, {"suffix"}},
    {"replace", replace, 2, {"old", "new", "count"}},
    {"rfind", rfind, 1, {"sub", "start", "end"}},
    {"rindex", last_index_of, 1, {"sub", "start", "end"}},
    {"rjust", rjust, 1, {"width", "fillchar"}},
    {"rpartition", rpartition, 1, {"sep"}},
    {"rsplit", rsplit, 0, {"sep", "maxsplit"}},
    {"rstrip", rstrip, 0, {"chars"}},
    {"split", split, 0, {"sep", "maxsplit"}},
    {"splitlines", splitlines, 0, {"keepends"}},
    {"startswith", startswith, 1, {"prefix", "start", "end"}},
    {"strip", strip, 0, {"chars"}},
    {"swapcase", swapcase, 0, {NULL}},
    {"title", title, 0, {NULL}},
    {"upper", upper, 0, {NULL}},
    {"zfill", zfill, 1, {"width"}},
    {"casefold", NULL, 0, {NULL}},
    {"encode", NULL, 0, {NULL}},
    {"expandtabs", NULL, 0, {NULL}},
    {"format_map", NULL, 0, {NULL}},
    {"isascii", NULL, 0, {NULL}},
    {"isdecimal", NULL, 0, {NULL}},
    {"isidentifier", NULL, 0, {NULL}},
    {"isnumeric", NULL, 0, {NULL}},
    {"isprintable", NULL, 0, {NULL}},
    {"istitle", NULL, 0, {NULL}},
    {"maketrans", NULL, 0, {NULL}},
    {"translate", NULL, 0, {NULL}},
    {0},
};

static const builtin LIST_METHODS[] = {
    {"copy", copy, 0, {NULL}},
    {"count", sequence_count, 1, {"value"}},
    {"index", sequence_index, 1, {"value", "start"}},
    {0},
};

static const builtin SEQUENCE_METHODS[] = {
    // of tuples and ranges
    {"count", sequence_count, 1, {"value"}},
    {"index", sequence_index, 1, {"value", "start"}},
    {0},
};

static const builtin DICT_METHODS[] = {
    {"copy", copy, 0, {NULL}},
    {"fromkeys", NULL, 0, {NULL}},
    {"get", dict_get, 1, {"key", "default"}},
    {"items", dict_items, 0, {NULL}},
    {"keys", dict_keys, 0, {NULL}},
    {"values", dict_values, 0, {NULL}},
    {0},
};

static const builtin FUNCTIONS[] = {
    {"dict", make_dict, ANY, {NULL}},
    {"namespace", make_namespace, ANY, {NULL}},
    {"raise_exception", raise_exception, 1, {"message"}},
    {"range", make_range, 1, {"start", "stop", "step"}},
    {"strftime_now", strftime_now, 1, {"format"}},
    {0},
};

const builtin *function_find(const string *name) { return builtin_find(FUNCTIONS, name); }

static bool is_one_of(const string *name, const char *const *names) {
    for (; *names; names++)
        if (string_is(name, *names)) return true;
    return false;
}

const builtin *method_find(value_kind of, const string *name, bool *changes) {
    static const char *const list_changes[] = {"append", "clear",   "extend", "insert", "pop",
                                               "remove", "reverse", "sort",   NULL};
    static const char *const dict_changes[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    *changes = (of == V_LIST && is_one_of(name, list_changes)) || (of == V_DICT && is_one_of(name, dict_changes));
    return of == V_STRING                   ? builtin_find(STRING_METHODS, name)
           : of == V_LIST                   ? builtin_find(LIST_METHODS, name)
           : of == V_DICT                   ? builtin_find(DICT_METHODS, name)
           : of == V_TUPLE || of == V_RANGE ? builtin_find(SEQUENCE_METHODS, name)
                                            : NULL;
}

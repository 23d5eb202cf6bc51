// Tests stream.h: for every way of cutting a set of texts, and for random ones, the stream shows what a naive oracle
// that sees the whole text computes; and it holds back no more than it must.
#include "text/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_BYTES = 256, MAX_STOPS = 4 };

typedef struct text {
    char bytes[3 * MAX_BYTES];
    size_t n;
} text;

// ---- the oracle ----------------------------------------------------------------------------------------------------

// May these n bytes begin (or be) a character of `length` bytes? By the code points they could still become.
static bool viable(const unsigned char *s, size_t n, size_t length) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}, most[] = {0, 0x7f, 0x7ff, 0xffff, 0x10ffff};
    uint32_t low = length == 1 ? s[0] : s[0] & (0x7f >> length), high = low;
    for (size_t i = 1; i < length; i++) {
        if (i < n && (s[i] & 0xc0) != 0x80) return false;
        low = low << 6 | (i < n ? s[i] & 0x3f : 0);
        high = high << 6 | (i < n ? s[i] & 0x3f : 0x3f);
    }
    return high >= least[length] && low <= most[length] && !(low >= 0xd800 && high <= 0xdfff);
}

static size_t length_of(unsigned char lead) {
    return lead < 0x80 ? 1 : lead < 0xc0 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf8 ? 4 : 0;
}

// Decodes the whole; an unfinished character at the end becomes U+FFFD only when `last`.
static void decode(const char *bytes, size_t n_bytes, bool last, text *out) {
    const unsigned char *s = (const unsigned char *)bytes;
    out->n = 0;
    for (size_t at = 0, n; at < n_bytes; at += n) {
        size_t length = length_of(s[at]), left = n_bytes - at;
        n = 0;
        while (length && n < length && n < left && viable(s + at, n + 1, length)) n++;
        bool whole = length && n == length;
        if (!whole && n == left && !last) return; // may still become one
        memcpy(out->bytes + out->n, whole ? bytes + at : "\xef\xbf\xbd", whole ? n : 3);
        out->n += whole ? n : 3;
        if (n == 0) n = 1;
    }
}

static bool ends_with(const text *t, size_t end, const char *s, size_t n) {
    return n > 0 && n <= end && memcmp(t->bytes + end - n, s, n) == 0;
}

// Cuts the text at the stop string that ends first (of several, the longest). True if there is one.
static bool cut(text *t, const char *const *stops, size_t n_stops) {
    for (size_t end = 1; end <= t->n; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_stops; i++)
            if (ends_with(t, end, stops[i], strlen(stops[i])) && strlen(stops[i]) > longest) longest = strlen(stops[i]);
        if (longest) return t->n = end - longest, true;
    }
    return false;
}

// Bytes at the end that may still become a stop string.
static size_t n_held(const text *t, const char *const *stops, size_t n_stops) {
    size_t longest = 0;
    for (size_t i = 0; i < n_stops; i++)
        for (size_t n = 1; n < strlen(stops[i]); n++)
            if (n > longest && ends_with(t, t->n, stops[i], n)) longest = n;
    return longest;
}

static bool is_valid(const char *s) {
    text decoded;
    decode(s, strlen(s), true, &decoded);
    return decoded.n == strlen(s) && memcmp(decoded.bytes, s, decoded.n) == 0;
}

// ---- the comparison ------------------------------------------------------------------------------------------------

typedef struct shown {
    char bytes[3 * MAX_BYTES];
    size_t n;
} shown;

static void add(shown *s, const char *bytes, size_t n) {
    assert_true(s->n + n <= sizeof s->bytes);
    if (n) memcpy(s->bytes + s->n, bytes, n);
    s->n += n;
}

static void compare(const shown *got, const text *want, size_t n_want) {
    assert_int_equal(got->n, n_want);
    assert_memory_equal(got->bytes, want->bytes, n_want);
}

// Feeds pieces; bit i of cuts: a cut before byte i + 1.
static void feed(const char *bytes, size_t n_bytes, const char *const *all_stops, size_t n_all, const bool *cuts) {
    text_stream *s = text_stream_new(all_stops, n_all);
    const char *stops[MAX_STOPS]; // those that can occur in text
    size_t n_stops = 0;
    for (size_t i = 0; i < n_all; i++)
        if (is_valid(all_stops[i])) stops[n_stops++] = all_stops[i];
    shown got = {.n = 0};
    text want;
    bool stopped = false;
    size_t n_out;
    for (size_t from = 0, to; from < n_bytes; from = to) {
        for (to = from + 1; to < n_bytes && !cuts[to]; to++) {
        }
        const char *out = text_stream_push(s, bytes + from, to - from, &n_out, &stopped);
        add(&got, out, n_out);
        decode(bytes, to, false, &want);
        bool want_stop = cut(&want, stops, n_stops);
        assert_int_equal(stopped, want_stop);
        compare(&got, &want, want.n - (want_stop ? 0 : n_held(&want, stops, n_stops)));
    }
    const char *out = text_stream_finish(s, &n_out);
    add(&got, out, n_out);
    decode(bytes, n_bytes, true, &want);
    cut(&want, stops, n_stops);
    compare(&got, &want, want.n);
    text_stream_push(s, "more", 4, &n_out, &stopped);
    assert_true(n_out == 0 && stopped);
    text_stream_free(s);
}

static void every_cut(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "abc",
        "ab\xe2\x82\xac"
        "cSTOP",
        "\xf0\x9f\x98\x80STxSTOPy",
        "\xe2\x82",
        "a\xff\xc3(\xf0\x80x",
        "\xed\xa0\x80\xf4\x90\x80",
        "\xe1\xa0\xf1\x80\x80"
        "a\xe2",
        "aabaabaaac",
        "STSTOSTOPP",
        "\xc2\xc2\xa9\xe0\x80\x80",
        "x\xf1\x80\x80\xe1\x80\xc2"
        "b\x80",
        "a\nUser:b",
        "\xef\xbf\xbd\xff\xff",
        "abcdabcy\xef\xbf\xbdz",
        "\xe2\x82\xacs\xe2\x82\xadS",
    };
    static const char *const sets[][MAX_STOPS] = {
        {NULL},
        {"STOP"},
        {"aabaaac", "aabaab"},
        {"", "\nUser:", "b"},
        {"\xef\xbf\xbd"},
        {"abcdabcx", "dabcy", "y"},
        {"\xe2\x82\xad", "\xe2\x82", "s\xe2\x82\xac"},
    };
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
        for (size_t k = 0; k < sizeof sets / sizeof *sets; k++) {
            size_t n_stops = 0, n = strlen(texts[t]);
            while (n_stops < MAX_STOPS && sets[k][n_stops]) n_stops++;
            for (uint32_t mask = 0; mask < 1u << (n ? n - 1 : 0); mask++) {
                bool cuts[MAX_BYTES];
                for (size_t i = 1; i < n; i++) cuts[i] = mask >> (i - 1) & 1;
                feed(texts[t], n, sets[k], n_stops, cuts);
            }
        }
}

static uint32_t next_random(uint64_t *seed) { // Knuth's MMIX generator
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

// Few different bytes, so that stop strings, their borders and half characters are frequent.
static size_t random_text(char *out, size_t n_max, uint64_t *seed) {
    static const char *const units[] = {"a", "b", "ab", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    static const char broken[] = {'\x80', '\xc3', '\xe2', '\x82', '\xf0', '\x9f', '\xff', '\xed', '\xa0'};
    size_t n = 0, n_wanted = next_random(seed) % (n_max + 1);
    bool valid = next_random(seed) % 2;
    while (n < n_wanted && n + 4 < n_max) {
        const char *unit = units[next_random(seed) % 6];
        if (!valid && next_random(seed) % 4 == 0) {
            out[n++] = broken[next_random(seed) % sizeof broken];
            continue;
        }
        memcpy(out + n, unit, strlen(unit));
        n += strlen(unit);
    }
    return n;
}

static void random_texts_and_stops(void **state) {
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        char bytes[64], stop_text[MAX_STOPS][24];
        const char *stops[MAX_STOPS];
        size_t n_stops = 0, n = random_text(bytes, sizeof bytes, &seed);
        for (size_t i = next_random(&seed) % (MAX_STOPS + 1); i > 0; i--) {
            stop_text[n_stops][random_text(stop_text[n_stops], 12, &seed)] = '\0';
            stops[n_stops] = stop_text[n_stops];
            n_stops++;
        }
        bool cuts[64];
        for (size_t i = 0, odds = 1 + next_random(&seed) % 8; i < 64; i++) cuts[i] = next_random(&seed) % odds == 0;
        feed(bytes, n, stops, n_stops, cuts);
    }
}

static void shows_all_at_once_when_it_can(void **state) {
    (void)state;
    static const char *const stops[] = {"STOP"};
    text_stream *s = text_stream_new(stops, 1);
    size_t n_out;
    bool stopped;
    const char *out = text_stream_push(s, "now ST", 6, &n_out, &stopped);
    assert_true(n_out == 4 && memcmp(out, "now ", 4) == 0 && !stopped);
    out = text_stream_push(s, "ay", 2, &n_out, &stopped);
    assert_true(n_out == 4 && memcmp(out, "STay", 4) == 0 && !stopped);
    out = text_stream_push(s, "", 0, &n_out, &stopped);
    assert_true(n_out == 0 && !stopped);
    text_stream_free(s);
    text_stream_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut),
        cmocka_unit_test(random_texts_and_stops),
        cmocka_unit_test(shows_all_at_once_when_it_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

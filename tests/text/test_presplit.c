// Tests presplit.h: the pieces of telling texts, one row of expectations per family of patterns.
#include "text/presplit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// Pieces joined by '|'.
static bool collect(void *arg, const char *piece, size_t n_bytes, err *e) {
    char *out = arg;
    (void)e;
    assert_true(n_bytes > 0);
    sprintf(out + strlen(out), "%.*s|", (int)n_bytes, piece);
    return true;
}

static void cuts_as_the_models_do(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *pieces;
    } rows[] = {
        {"gpt-2", "I'm here  now, 1234\n\n x", "I|'m| here| | now|,| 1234|\n\n| x|"},
        {"gpt-2", "I'M", "I|'|M|"},
        {"gpt-2", "a   ", "a|   |"},
        {"smollm", "a  12 b", "a|  |1|2| b|"},
        {"smollm", "x1y", "x|1|y|"},
        {"llama-bpe", "I'M 12345 a.b\r\n\r\nc  \n d", "I|'M| |123|45| a|.b|\r\n\r\n|c|  \n| d|"},
        {"llama-bpe", "we'\xc5\xbf", "we|'\xc5\xbf|"}, // caseless s is also U+017F
        {"qwen2", "x123 ?!\n\ny", "x|1|2|3| ?!\n\n|y|"},
        {"qwen2", "a\xcc\x81z", "a|\xcc\x81z|"}, // a mark is no letter here,
        {"qwen35", "a\xcc\x81z", "a\xcc\x81z|"}, // but it is here
        {"gpt-4o", "HelloWorld's a/b//\n", "Hello|World's| a|/b|//\n|"},
        {"tekken", "HelloWorld's 12", "Hello|World|'s| |1|2|"},
        {"deepseek-v3", "ab1234\xe4\xbd\xa0\xe5\xa5\xbd.x y", "ab|123|4|\xe4\xbd\xa0\xe5\xa5\xbd|.x| y|"},
        {"default", "a--12345=b", "a|--|123|45|=|b|"},
        {"gpt-2",
         "a\xe1\xa0\x8e\xe1\xa0\x8e"
         "b",
         "a|\xe1\xa0\x8e\xe1\xa0\x8e|b|"},                         // U+180E is no white space:
        {"gpt-2", "a \xe1\xa0\x8e", "a| \xe1\xa0\x8e|"},           // it joins a blank as a symbol
        {"gpt-2", "a\xc2\x85\xc2\x85z", "a|\xc2\x85|\xc2\x85|z|"}, // U+0085 is
        {"gpt-2", "a\x1c\x1cz", "a|\x1c\x1c|z|"},                  // U+001C is not
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char pieces[200] = "";
        err e = {0};
        presplit *p = presplit_open(rows[i].name, strlen(rows[i].name));
        presplit_work *w = presplit_work_new();
        assert_non_null(p);
        assert_true(presplit_run(p, w, rows[i].text, strlen(rows[i].text), collect, pieces, &e));
        assert_string_equal(pieces, rows[i].pieces);
        presplit_work_free(w);
        presplit_close(p);
    }
}

static bool refuse_third(void *arg, const char *piece, size_t n_bytes, err *e) {
    (void)piece, (void)n_bytes;
    return ++*(int *)arg < 3 || (fail)(e, ERR_MEMORY, "enough");
}

static void stops_when_told(void **state) {
    (void)state;
    presplit *p = presplit_open("smollm", 6);
    presplit_work *w = presplit_work_new();
    int n_calls = 0;
    err e = {0};
    assert_false(presplit_run(p, w, "a b c d e", 9, refuse_third, &n_calls, &e));
    assert_int_equal(n_calls, 3);
    assert_string_equal(e.text, "enough");
    presplit_work_free(w);
    presplit_close(p);
}

static void knows_its_names(void **state) {
    (void)state;
    static const char *const unknown[] = {"", "gpt", "gpt-22", "GPT-2"};
    for (size_t i = 0; i < 4; i++) assert_null(presplit_open(unknown[i], strlen(unknown[i])));
    presplit *p = presplit_open("llama-bpe", 9);
    assert_true(presplit_ignores_merges(p) && presplit_adds_bos(p));
    presplit_close(p);
    presplit_close(NULL);
    presplit_work_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_as_the_models_do),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(knows_its_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

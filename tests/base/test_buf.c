// Buffer: what goes in comes out, always NUL-terminated, however it grows.
#include "base/buf.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void grows_and_keeps(void **state) {
    (void)state;
    buf b = {0};
    for (int i = 0; i < 10000; i++) buf_append_char(&b, (char)i);
    assert_int_equal(b.n_bytes, 10000);
    assert_true(b.capacity_bytes > b.n_bytes);
    for (int i = 0; i < 10000; i++) assert_int_equal(b.data[i], (char)i);
    assert_int_equal(b.data[10000], 0);
    buf_free(&b);
    assert_null(b.data);
}

static void text(void **state) {
    (void)state;
    buf b = {0};
    buf_append_str(&b, "tokens: ");
    buf_printf(&b, "%d of %s", 3, "seven");
    assert_string_equal(b.data, "tokens: 3 of seven");
    buf_drop_front(&b, 8);
    assert_string_equal(b.data, "3 of seven");
    for (int i = 0; i < 50; i++) buf_printf(&b, "%0100d", i);
    assert_int_equal(b.n_bytes, 10 + 5000);
    assert_int_equal(strlen(b.data), b.n_bytes);
    buf_reset(&b);
    assert_string_equal(b.data, "");
    buf_append(&b, "a\0b", 3);
    char *taken = buf_take(&b);
    assert_memory_equal(taken, "a\0b", 4);
    free(taken);
    assert_int_equal(b.n_bytes + b.capacity_bytes, 0);
    taken = buf_take(&b); // an empty buffer still gives a string
    assert_string_equal(taken, "");
    free(taken);
}

static void nothing_is_fine(void **state) {
    (void)state;
    buf b = {0};
    buf_reset(&b);
    buf_drop_front(&b, 0);
    buf_append(&b, NULL, 0);
    assert_string_equal(b.data, "");
    buf_free(&b);
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_keeps),
        cmocka_unit_test(text),
        cmocka_unit_test(nothing_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Errors: the first one wins, long ones are cut, checks abort, and memory that cannot be had is an error with a name.
#include "base/err.h"
#include "unit.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void first_error_wins(void **state) {
    (void)state;
    err e = {0};
    assert_false(fail(&e, ERR_FORMAT, "tensor %d", 7));
    assert_false(fail(&e, ERR_IO, "later"));
    assert_int_equal(e.code, ERR_FORMAT);
    assert_string_equal(e.text, "tensor 7");
    assert_false(fail(NULL, ERR_IO, "nobody listens"));
    assert_null(fail_null(&e, ERR_IO, "later"));
}

static void long_text_is_cut(void **state) {
    (void)state;
    err e = {0};
    fail(&e, ERR_USAGE, "%0400d", 1);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
}

static void check_aborts(void **state) {
    (void)state;
    check(1 + 1 == 2);
    pid_t child = fork();
    if (child == 0) {
        close(STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        check(1 + 1 == 3);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void large_memory(void **state) {
    (void)state;
    err e = {0};
    char *p = large_alloc(1 << 20, "a test", &e);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_int_equal(p[0] | p[(1 << 20) - 1], 0);
    large_free(p, 1 << 20);
    large_free(NULL, 0);
    assert_null(large_alloc((size_t)1 << 60, "the KV pool", &e));
    assert_int_equal(e.code, ERR_MEMORY);
    assert_non_null(strstr(e.text, "the KV pool"));
}

static void small_memory(void **state) {
    (void)state;
    char *s = xstrdup("text");
    s = xrealloc(s, 100);
    assert_string_equal(s, "text");
    int *zeros = xcalloc(3, sizeof *zeros);
    assert_int_equal(zeros[0] | zeros[1] | zeros[2], 0);
    free(s), free(zeros), free(xmalloc(0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_error_wins), cmocka_unit_test(long_text_is_cut), cmocka_unit_test(check_aborts),
        cmocka_unit_test(large_memory),     cmocka_unit_test(small_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

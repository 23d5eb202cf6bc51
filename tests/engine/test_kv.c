// Pages are taken all or nothing, given back whole, found again by what they hold; kv_check sees every corruption.
#include "engine/kv.h"

#include "unit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct fixture {
    kv kv;
    kv_table a, b;
    int32_t tokens[4 * KV_PAGE_TOKENS];
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    err e = {0};
    assert_true(kv_init(&f->kv, 4, 64, &e));
    for (int32_t i = 0; i < 4 * KV_PAGE_TOKENS; i++) f->tokens[i] = i;
    kv_table_init(&f->a, 4 * KV_PAGE_TOKENS, f->tokens, "");
    kv_table_init(&f->b, 4 * KV_PAGE_TOKENS, f->tokens, "");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    kv_release(&f->kv, &f->a), kv_release(&f->kv, &f->b);
    kv_table_free(&f->a), kv_table_free(&f->b);
    kv_free(&f->kv);
    free(f);
    return 0;
}

static void check_all(const fixture *f) {
    kv_table *tables[] = {(kv_table *)&f->a, (kv_table *)&f->b};
    kv_check(&f->kv, tables, 2);
}

static void pages_for_tokens(void **state) {
    (void)state;
    assert_int_equal(kv_pages_for(0), 0);
    assert_int_equal(kv_pages_for(1), 1);
    assert_int_equal(kv_pages_for(KV_PAGE_TOKENS), 1);
    assert_int_equal(kv_pages_for(KV_PAGE_TOKENS + 1), 2);
    assert_int_equal(kv_pages_for(UINT32_MAX), UINT32_MAX / KV_PAGE_TOKENS + 1);
}

static void reserve_is_all_or_nothing(void **state) {
    fixture *f = *state;
    assert_true(kv_reserve(&f->kv, &f->a, 2 * KV_PAGE_TOKENS + 1));
    assert_int_equal(f->a.n_pages, 3);
    assert_false(kv_reserve(&f->kv, &f->b, KV_PAGE_TOKENS + 1));
    assert_int_equal(f->b.n_pages, 0);
    assert_int_equal(f->kv.n_free, 1);
    assert_int_equal(kv_reach(&f->kv, &f->b), KV_PAGE_TOKENS);
    assert_true(kv_reserve(&f->kv, &f->b, KV_PAGE_TOKENS));
    assert_int_equal(f->kv.n_free, 0);
    check_all(f);
}

static void reserve_again_takes_only_what_is_missing(void **state) {
    fixture *f = *state;
    assert_true(kv_reserve(&f->kv, &f->a, 5));
    uint32_t first = f->a.pages[0];
    assert_true(kv_reserve(&f->kv, &f->a, KV_PAGE_TOKENS));
    assert_true(kv_reserve(&f->kv, &f->a, 1));
    assert_int_equal(f->a.n_pages, 1);
    assert_true(kv_reserve(&f->kv, &f->a, KV_PAGE_TOKENS + 1));
    assert_int_equal(f->a.pages[0], first);
    assert_int_not_equal(f->a.pages[1], first);
    check_all(f);
}

static void release_empties_and_returns(void **state) {
    fixture *f = *state;
    assert_true(kv_reserve(&f->kv, &f->a, 4 * KV_PAGE_TOKENS));
    kv_commit(&f->kv, &f->a, 100);
    assert_int_equal(f->a.n_cached, 100);
    kv_release(&f->kv, &f->a);
    assert_int_equal(f->a.n_cached, 0);
    assert_int_equal(f->a.n_pages, 0);
    assert_int_equal(f->kv.n_free, 4);
    kv_release(&f->kv, &f->a); // nothing left: nothing happens
    assert_int_equal(f->kv.n_free, 4);
    check_all(f);
}

static void fill(fixture *f, kv_table *t, uint32_t n_pages) {
    assert_true(kv_reserve(&f->kv, t, n_pages * KV_PAGE_TOKENS));
    kv_commit(&f->kv, t, n_pages * KV_PAGE_TOKENS - t->n_cached);
    check_all(f);
}

static void full_pages_are_found_again(void **state) {
    fixture *f = *state;
    fill(f, &f->a, 2);
    uint32_t pages[2] = {f->a.pages[0], f->a.pages[1]};
    kv_adopt(&f->kv, &f->b, 2 * KV_PAGE_TOKENS - 1); // while a holds them
    assert_int_equal(f->b.n_pages, 1);
    assert_int_equal(f->b.n_cached, KV_PAGE_TOKENS);
    check_all(f);
    kv_release(&f->kv, &f->a), kv_release(&f->kv, &f->b);
    assert_int_equal(f->kv.n_cached, 2);
    kv_adopt(&f->kv, &f->b, 4 * KV_PAGE_TOKENS); // and after
    assert_int_equal(f->b.n_pages, 2);
    assert_memory_equal(f->b.pages, pages, sizeof pages);
    assert_int_equal(f->kv.n_cached, 0);
    check_all(f);
}

static void half_a_page_is_not(void **state) {
    fixture *f = *state;
    assert_true(kv_reserve(&f->kv, &f->a, KV_PAGE_TOKENS));
    kv_commit(&f->kv, &f->a, KV_PAGE_TOKENS - 1);
    kv_adopt(&f->kv, &f->b, 4 * KV_PAGE_TOKENS);
    assert_int_equal(f->b.n_pages, 0);
    kv_commit(&f->kv, &f->a, 1);
    kv_adopt(&f->kv, &f->b, 4 * KV_PAGE_TOKENS);
    assert_int_equal(f->b.n_pages, 1);
    check_all(f);
}

// A page is known by its tokens, by all that came before it and by the salt; never by a hash, however short.
static void what_is_found_is_compared(void **state) {
    fixture *f = *state;
    for (uint64_t mask = 0; mask != 31; mask = 2 * mask + 1) { // every hash is 0; then 1, 2, 3, 4 bits
        f->kv.hash_mask = mask;
        int32_t tokens[4 * KV_PAGE_TOKENS];
        fill(f, &f->a, 2);
        f->b.tokens = tokens;
        for (uint32_t i = 0; i < 2 * KV_PAGE_TOKENS; i++) {
            memcpy(tokens, f->tokens, sizeof tokens);
            tokens[i]++;
            kv_adopt(&f->kv, &f->b, 4 * KV_PAGE_TOKENS);
            assert_int_equal(f->b.n_pages, i / KV_PAGE_TOKENS);
            kv_release(&f->kv, &f->b);
        }
        memcpy(tokens, f->tokens + KV_PAGE_TOKENS, KV_PAGE_TOKENS * sizeof *tokens); // the second page's, at the start
        kv_adopt(&f->kv, &f->b, 4 * KV_PAGE_TOKENS);
        assert_int_equal(f->b.n_pages, 0);
        f->b.tokens = f->tokens, f->b.salt = "mine";
        kv_adopt(&f->kv, &f->b, 4 * KV_PAGE_TOKENS);
        assert_int_equal(f->b.n_pages, 0);
        fill(f, &f->b, 2);
        assert_int_not_equal(f->a.pages[0], f->b.pages[0]);
        f->b.salt = "";
        kv_discard(&f->kv, &f->a), kv_discard(&f->kv, &f->b);
        assert_int_equal(f->kv.n_cached, 0);
    }
}

static void of_equal_pages_one_is_kept(void **state) {
    fixture *f = *state;
    assert_true(kv_reserve(&f->kv, &f->a, 2 * KV_PAGE_TOKENS) && kv_reserve(&f->kv, &f->b, 2 * KV_PAGE_TOKENS));
    kv_commit(&f->kv, &f->a, KV_PAGE_TOKENS);
    kv_commit(&f->kv, &f->b, 2 * KV_PAGE_TOKENS);
    assert_int_equal(f->b.pages[0], f->a.pages[0]);
    assert_int_equal(f->kv.n_free, 1);
    kv_commit(&f->kv, &f->a, KV_PAGE_TOKENS);
    assert_int_equal(f->b.pages[1], f->a.pages[1]);
    assert_int_equal(f->kv.n_free, 2);
    check_all(f);
}

static void unknown_pages_go_first_then_the_longest_unused_from_its_end(void **state) {
    fixture *f = *state;
    fill(f, &f->a, 3);
    uint32_t a[3];
    memcpy(a, f->a.pages, sizeof a);
    kv_release(&f->kv, &f->a);
    assert_true(kv_reserve(&f->kv, &f->b, 1));
    uint32_t unknown = f->b.pages[0];
    assert_true(unknown != a[0] && unknown != a[1] && unknown != a[2]);
    kv_release(&f->kv, &f->b);
    assert_int_equal(f->kv.n_evicted, 0);
    assert_true(kv_reserve(&f->kv, &f->b, 4 * KV_PAGE_TOKENS));
    assert_int_equal(f->kv.n_evicted, 3);
    const uint32_t order[4] = {unknown, a[2], a[1], a[0]};
    assert_memory_equal(f->b.pages, order, sizeof order);
    check_all(f);
}

static void held_pages_are_never_evicted(void **state) {
    fixture *f = *state;
    fill(f, &f->a, 2);
    kv_adopt(&f->kv, &f->b, 2 * KV_PAGE_TOKENS);
    kv_release(&f->kv, &f->a);
    assert_false(kv_reserve(&f->kv, &f->a, 3 * KV_PAGE_TOKENS));
    assert_true(kv_reserve(&f->kv, &f->a, 2 * KV_PAGE_TOKENS));
    assert_int_equal(f->kv.n_evicted, 0);
    check_all(f);
}

static void discarded_pages_are_forgotten_unless_held(void **state) {
    fixture *f = *state;
    fill(f, &f->a, 2);
    kv_adopt(&f->kv, &f->b, KV_PAGE_TOKENS);
    kv_discard(&f->kv, &f->a);
    check_all(f);
    kv_adopt(&f->kv, &f->a, 4 * KV_PAGE_TOKENS);
    assert_int_equal(f->a.n_pages, 1);
    kv_release(&f->kv, &f->a);
    kv_discard(&f->kv, &f->b);
    kv_adopt(&f->kv, &f->a, 4 * KV_PAGE_TOKENS);
    assert_int_equal(f->a.n_pages, 0);
    check_all(f);
}

static void impossible_pool_is_an_error(void **state) {
    (void)state;
    kv k;
    err e = {0};
    assert_false(kv_init(&k, 1u << 31, SIZE_MAX / 2, &e));
    assert_int_equal(e.code, ERR_MEMORY);
    e = (err){0};
    assert_false(kv_init(&k, 1u << 31, 1u << 30, &e));
    assert_int_equal(e.code, ERR_MEMORY);
}

// ---- what must abort ---------------------------------------------------------------------------------------------

typedef void corruption(fixture *f);
static void fine(fixture *f) { (void)f; }
static void lost_reference(fixture *f) { f->kv.pages[f->a.pages[0]].n_refs = 2; }
static void two_owners(fixture *f) { f->b.pages[0] = f->a.pages[0]; }
static void out_of_range(fixture *f) { f->a.pages[0] = 4; }
static void cached_beyond_pages(fixture *f) { f->a.n_cached = 2 * KV_PAGE_TOKENS + 1; }
static void free_count(fixture *f) { f->kv.n_free--; }
static void broken_link(fixture *f) {
    kv_release(&f->kv, &f->b); // two are free
    f->kv.pages[f->kv.oldest].newer = KV_NO_PAGE;
}
static void indexed_while_written(fixture *f) { f->kv.pages[f->a.pages[1]].id = 1; }
static void not_indexed(fixture *f) { f->kv.pages[f->a.pages[0]].id = 0; }
static void other_tokens(fixture *f) { f->tokens[3]++; }
static void other_salt(fixture *f) { f->a.salt = "x"; }
static void lost_from_its_bucket(fixture *f) {
    for (uint32_t i = 0; i < f->kv.n_buckets; i++) f->kv.buckets[i] = KV_NO_PAGE;
}
static void wrong_hash(fixture *f) { f->kv.pages[f->a.pages[0]].hash++; }
static void cached_count(fixture *f) { f->kv.n_cached++; }
static void shared_while_written(fixture *f) {
    kv_release(&f->kv, &f->b);
    f->b.pages[f->b.n_pages++] = f->a.pages[1];
    f->kv.pages[f->a.pages[1]].n_refs++;
}
static void back_link(fixture *f) { f->kv.pages[f->kv.newest].older = f->kv.newest; }
static void cycle(fixture *f) { f->kv.pages[f->kv.newest].newer = f->kv.newest; }
static void leaked(fixture *f) { f->a.n_pages = 0, f->a.n_cached = 0; }
static void commit_unreserved(fixture *f) {
    kv_commit(&f->kv, &f->a, KV_PAGE_TOKENS + 1);
    _exit(0); // kv_check would see it too
}
static void double_free(fixture *f) {
    kv_table copy = f->b;
    kv_release(&f->kv, &f->b);
    kv_release(&f->kv, &copy);
}

static bool aborts(fixture *f, corruption *corrupt) {
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(2);
        signal(SIGABRT, SIG_DFL);
        corrupt(f);
        check_all(f);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void corruption_is_seen(void **state) {
    fixture *f = *state;
    fill(f, &f->a, 1);
    assert_true(kv_reserve(&f->kv, &f->a, KV_PAGE_TOKENS + 1) && kv_reserve(&f->kv, &f->b, 1));
    assert_false(aborts(f, fine));
    corruption *const all[] = {lost_reference, two_owners,        out_of_range,        cached_beyond_pages,
                               free_count,     broken_link,       back_link,           cycle,
                               leaked,         commit_unreserved, double_free,         indexed_while_written,
                               not_indexed,    other_tokens,      other_salt,          lost_from_its_bucket,
                               wrong_hash,     cached_count,      shared_while_written};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!aborts(f, all[i])) fail_msg("corruption %zu was not seen", i);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(pages_for_tokens),
        TEST(reserve_is_all_or_nothing),
        TEST(reserve_again_takes_only_what_is_missing),
        TEST(release_empties_and_returns),
        TEST(full_pages_are_found_again),
        TEST(half_a_page_is_not),
        TEST(what_is_found_is_compared),
        TEST(of_equal_pages_one_is_kept),
        TEST(unknown_pages_go_first_then_the_longest_unused_from_its_end),
        TEST(held_pages_are_never_evicted),
        TEST(discarded_pages_are_forgotten_unless_held),
        TEST(impossible_pool_is_an_error),
        TEST(corruption_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

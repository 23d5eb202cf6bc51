// GGUF: good files come back as they were written; each kind of damage has its own sentence; truncation at any byte is
// an error and nothing more. Files are built in memory, by the writer where it can and byte by byte where it refuses
// to.
#include "gguf/gguf.h"
#include "gguf/gguf_writer.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define STR(literal) ((gguf_str){(literal), sizeof(literal) - 1})

static bool same(gguf_str s, const char *data, size_t n) { return s.n_bytes == n && memcmp(s.data, data, n) == 0; }

// ---- good files --------------------------------------------------------------------------------------------------

static const uint64_t matrix_dims[] = {64, 3}, vector_dims[] = {5}, cube_dims[] = {2, 1, 2, 2};
static uint8_t matrix[108], vector[20], cube[16]; // Q4_0, F32, F16

// Every kind of value, scalar and array, and three tensors.
static gguf_writer *good_writer(uint32_t alignment) {
    gguf_writer *w = gguf_writer_new(alignment);
    for (size_t i = 0; i < sizeof matrix; i++) matrix[i] = (uint8_t)(i * 7);
    memset(vector, 0x41, sizeof vector);
    memset(cube, 0x42, sizeof cube);
    gguf_writer_add(w, "u8", GGUF_KIND_U8, &(uint8_t){255});
    gguf_writer_add(w, "i8", GGUF_KIND_I8, &(int8_t){-128});
    gguf_writer_add(w, "u16", GGUF_KIND_U16, &(uint16_t){65535});
    gguf_writer_add(w, "i16", GGUF_KIND_I16, &(int16_t){-32768});
    gguf_writer_add_u32(w, "u32", UINT32_MAX);
    gguf_writer_add(w, "i32", GGUF_KIND_I32, &(int32_t){INT32_MIN});
    gguf_writer_add_f32(w, "f32", 1.5f);
    gguf_writer_add_bool(w, "yes", true);
    gguf_writer_add_str(w, "str", "grüße");
    gguf_writer_add(w, "u64", GGUF_KIND_U64, &(uint64_t){UINT64_MAX});
    gguf_writer_add(w, "i64", GGUF_KIND_I64, &(int64_t){INT64_MIN});
    gguf_writer_add(w, "f64", GGUF_KIND_F64, &(double){0.1});
    gguf_writer_add_array(w, "i32s", GGUF_KIND_I32, (int32_t[]){3, -2, 1}, 3);
    gguf_writer_add_array(w, "bools", GGUF_KIND_BOOL, (uint8_t[]){1, 0}, 2);
    gguf_writer_add_array(w, "none", GGUF_KIND_U64, NULL, 0);
    gguf_writer_add_strs(w, "strs", (gguf_str[]){STR("a"), STR(""), STR("nul\0byte")}, 3);
    gguf_writer_add_tensor(w, "matrix", GGUF_Q4_0, 2, matrix_dims, matrix);
    gguf_writer_add_tensor(w, "vector", GGUF_F32, 1, vector_dims, vector);
    gguf_writer_add_tensor(w, "cube", GGUF_F16, 4, cube_dims, cube);
    return w;
}

static uint8_t *good_file(uint32_t alignment, size_t *n_bytes) {
    gguf_writer *w = good_writer(alignment);
    uint8_t *bytes = gguf_writer_take(w, n_bytes);
    gguf_writer_free(w);
    return bytes;
}

static void check_values(const gguf *g) {
    static const struct {
        const char *key;
        gguf_kind kind;
        int64_t as_int;
        double as_float;
    } numbers[] = {
        {"u8", GGUF_KIND_U8, 255, 255},
        {"i8", GGUF_KIND_I8, -128, -128},
        {"u16", GGUF_KIND_U16, 65535, 65535},
        {"i16", GGUF_KIND_I16, -32768, -32768},
        {"u32", GGUF_KIND_U32, UINT32_MAX, UINT32_MAX},
        {"i32", GGUF_KIND_I32, INT32_MIN, INT32_MIN},
        {"f32", GGUF_KIND_F32, 1, 1.5},
        {"yes", GGUF_KIND_BOOL, 1, 1},
        {"u64", GGUF_KIND_U64, INT64_MAX, 0x1p64},
        {"i64", GGUF_KIND_I64, INT64_MIN, -0x1p63},
        {"f64", GGUF_KIND_F64, 0, 0.1},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const gguf_value *v = gguf_find(g, numbers[i].key);
        assert_non_null(v);
        assert_int_equal(v->kind, numbers[i].kind);
        assert_int_equal(v->elem_kind, numbers[i].kind);
        assert_int_equal(v->n, 1);
        assert_true(gguf_array_int(v, 0) == numbers[i].as_int);
        assert_true(gguf_array_float(v, 0) == numbers[i].as_float);
    }
    const gguf_value *ints = gguf_find(g, "i32s"), *bools = gguf_find(g, "bools"), *strs = gguf_find(g, "strs");
    assert_int_equal(ints->kind, GGUF_KIND_ARRAY);
    assert_int_equal(ints->elem_kind, GGUF_KIND_I32);
    assert_int_equal(ints->n, 3);
    assert_int_equal(gguf_array_int(ints, 1), -2);
    assert_true(gguf_array_int(bools, 0) == 1 && gguf_array_int(bools, 1) == 0);
    assert_int_equal(gguf_find(g, "none")->n, 0);
    const uint8_t *at = strs->data;
    assert_int_equal(strs->n, 3);
    assert_true(same(gguf_next_str(&at), "a", 1));
    assert_true(same(gguf_next_str(&at), "", 0));
    assert_true(same(gguf_next_str(&at), "nul\0byte", 8));
}

static void check_tensor(const gguf *g, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dims,
                         const void *data, size_t n_bytes) {
    const gguf_tensor *t = gguf_find_tensor(g, name);
    assert_non_null(t);
    assert_int_equal(t->type, type);
    assert_int_equal(t->n_dims, n_dims);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(t->dims[i], i < n_dims ? dims[i] : 1);
    assert_int_equal(t->n_bytes, n_bytes);
    assert_memory_equal(t->data, data, n_bytes);
}

static void check_good(const gguf *g, uint32_t version, uint32_t alignment) {
    assert_int_equal(gguf_version(g), version);
    assert_int_equal(gguf_alignment(g), alignment);
    assert_int_equal(gguf_n_tensors(g), 3);
    check_values(g);
    check_tensor(g, "matrix", GGUF_Q4_0, 2, matrix_dims, matrix, sizeof matrix);
    check_tensor(g, "vector", GGUF_F32, 1, vector_dims, vector, sizeof vector);
    check_tensor(g, "cube", GGUF_F16, 4, cube_dims, cube, sizeof cube);
    assert_true(same(gguf_tensor_at(g, 2)->name, "cube", 4));
    assert_null(gguf_find(g, "absent"));
    assert_null(gguf_find(g, "u"));
    assert_null(gguf_find_tensor(g, "matrix2"));
}

static void test_good_versions(void **state) {
    (void)state;
    static const uint32_t alignments[] = {0, 1, 8, 64, 4096};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++)
        for (uint8_t version = 2; version <= 3; version++) {
            size_t n;
            uint8_t *bytes = good_file(alignments[i], &n);
            bytes[4] = version; // 2 and 3 differ in the number only
            err e = {0};
            gguf *g = gguf_open_memory(bytes, n, &e);
            assert_string_equal(e.text, "");
            check_good(g, version, alignments[i] ? alignments[i] : 32);
            assert_int_equal(gguf_n_values(g), 16 + (alignments[i] != 0));
            assert_int_equal(gguf_file_bytes(g), n);
            gguf_close(g);
            free(bytes);
        }
}

static void test_no_tensors(void **state) {
    (void)state;
    gguf_writer *w = gguf_writer_new(0);
    size_t n;
    uint8_t *bytes = gguf_writer_take(w, &n);
    err e = {0};
    gguf *g = gguf_open_memory(bytes, 24, &e); // without the padding that a data section would want
    assert_non_null(g);
    assert_null(gguf_find(g, ""));
    assert_null(gguf_find_tensor(g, "x"));
    gguf_close(g);
    free(bytes);
    gguf_writer_free(w);
}

static void test_typed_reads(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = good_file(0, &n);
    gguf *g = gguf_open_memory(bytes, n, NULL);
    uint32_t u = 7;
    float f = 7;
    bool b = false;
    gguf_str s = STR("default");
    assert_true(gguf_get_u32(g, "absent", &u, NULL) && u == 7);
    assert_true(gguf_get_f32(g, "absent", &f, NULL) && f == 7);
    assert_true(gguf_get_bool(g, "absent", &b, NULL) && !b);
    assert_true(gguf_get_str(g, "absent", &s, NULL) && same(s, "default", 7));
    assert_true(gguf_get_u32(g, "u8", &u, NULL) && u == 255);
    assert_true(gguf_get_u32(g, "u32", &u, NULL) && u == UINT32_MAX);
    assert_true(gguf_get_f32(g, "f32", &f, NULL) && f == 1.5f);
    assert_true(gguf_get_f32(g, "i16", &f, NULL) && f == -32768);
    assert_true(gguf_get_bool(g, "yes", &b, NULL) && b);
    assert_true(gguf_get_str(g, "str", &s, NULL) && same(s, "grüße", 7));

    u = 7, f = 7;
    static const char *not_u32[] = {"i8", "u64", "i64", "f32", "yes", "str", "i32s"};
    for (size_t i = 0; i < sizeof not_u32 / sizeof *not_u32; i++) {
        err e = {0};
        assert_false(gguf_get_u32(g, not_u32[i], &u, &e));
        assert_int_equal(e.code, ERR_FORMAT);
        assert_non_null(strstr(e.text, not_u32[i]));
    }
    static const char *not_f32[] = {"f64", "u32", "yes", "str", "bools"};
    for (size_t i = 0; i < sizeof not_f32 / sizeof *not_f32; i++) assert_false(gguf_get_f32(g, not_f32[i], &f, NULL));
    assert_true(u == 7 && f == 7);
    assert_false(gguf_get_bool(g, "u8", &b, NULL));
    assert_false(gguf_get_str(g, "strs", &s, NULL));
    gguf_close(g);
    free(bytes);
}

// Names come back through the sorted index, whatever their order in the file and however alike they are.
static void test_many_names(void **state) {
    (void)state;
    gguf_writer *w = gguf_writer_new(0);
    char key[40];
    for (uint32_t i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "blk.%u.x", i * 37 % 5000);
        gguf_writer_add_u32(w, key, i * 37 % 5000);
    }
    size_t n;
    uint8_t *bytes = gguf_writer_take(w, &n);
    gguf_writer_free(w);
    err e = {0};
    gguf *g = gguf_open_memory(bytes, n, &e);
    assert_string_equal(e.text, "");
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t x = 0;
        snprintf(key, sizeof key, "blk.%u.x", i);
        assert_true(gguf_get_u32(g, key, &x, NULL) && x == i);
    }
    gguf_close(g);
    free(bytes);
}

static void test_types(void **state) {
    (void)state;
    FILE *f = fopen(RF_TEST_DATA "/gguf_types.txt", "r");
    assert_non_null(f);
    char name[32];
    unsigned id, elems, bytes, n_rows = 0, n_ids = 0;
    for (; fscanf(f, "%31s %u %u %u", name, &id, &elems, &bytes) == 4; n_rows++) {
        assert_non_null(gguf_type_name(id));
        assert_string_equal(gguf_type_name(id), name);
        assert_int_equal(gguf_type_block_elems(id), elems);
        assert_int_equal(gguf_type_block_bytes(id), bytes);
    }
    fclose(f);
    for (id = 0; id < 1000; id++) n_ids += gguf_type_name(id) != NULL;
    assert_int_equal(n_ids, n_rows);
    assert_null(gguf_type_name(UINT32_MAX));
    assert_int_equal(gguf_type_block_bytes(31), 0);
}

// ---- files on disk -----------------------------------------------------------------------------------------------

static char *temp_path(const char *name) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/rf_test_gguf_%d_%s", getpid(), name);
    return path;
}

static void expect_open_error(const char *path, err_code code, const char *fragment) {
    err e = {0};
    assert_null(gguf_open(path, &e));
    assert_int_equal(e.code, code);
    if (!strstr(e.text, fragment)) fail_msg("'%s' does not contain '%s'", e.text, fragment);
}

// How many of the four pages from p on are present in this process (/proc/self/pagemap, bit 63 of each entry).
static int resident_pages(const uint8_t *p) {
    uint64_t entries[4] = {0};
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), n = 0;
    assert_int_equal(pread(fd, entries, sizeof entries, (off_t)((uintptr_t)p / 4096 * 8)), sizeof entries);
    close(fd);
    for (int i = 0; i < 4; i++) n += (int)(entries[i] >> 63);
    return n;
}

static void test_mapped_file(void **state) {
    (void)state;
    const char *path = temp_path("good");
    gguf_writer *w = good_writer(4096);
    static uint8_t big[3 * 4096 + 40];
    memset(big, 0x5a, sizeof big);
    gguf_writer_add_tensor(w, "big", GGUF_I8, 1, &(uint64_t){sizeof big}, big);
    size_t n;
    uint8_t *bytes = gguf_writer_take(w, &n);
    err e = {0};
    assert_true(gguf_writer_save(w, path, &e));
    gguf_writer_free(w);
    gguf *g = gguf_open(path, &e);
    assert_string_equal(e.text, "");
    assert_int_equal(gguf_file_bytes(g), n); // saved and taken are the same bytes
    const gguf_tensor *t = gguf_find_tensor(g, "big");
    const uint8_t *start = (const uint8_t *)gguf_value_at(g, 0)->key.data - 32; // header, then the key's length
    assert_memory_equal(start, bytes, n);
    assert_memory_equal(t->data, big, sizeof big);

    assert_int_equal(resident_pages(t->data), 4);
    gguf_release(g, t->data + 1, sizeof big - 1); // the first page and the last are not wholly inside
    assert_int_equal(resident_pages(t->data), 2);
    gguf_expect(g, t->data + 1, sizeof big - 1);
    assert_memory_equal(t->data, big, sizeof big); // read again
    gguf_release(g, t->data + 1, 100);             // no whole page: nothing to do
    void *page = (void *)((uintptr_t)t->data & ~(uintptr_t)4095);
    gguf_close(g);
    assert_int_equal(msync(page, 4096, MS_ASYNC), -1); // the mapping is gone

    g = gguf_open_memory(bytes, n, NULL);
    gguf_release(g, gguf_find_tensor(g, "big")->data, sizeof big); // borrowed memory is left alone
    gguf_expect(g, gguf_find_tensor(g, "big")->data, sizeof big);
    assert_memory_equal(gguf_find_tensor(g, "big")->data, big, sizeof big);
    gguf_close(g);
    free(bytes);
    unlink(path);
}

static void test_not_a_file(void **state) {
    (void)state;
    expect_open_error("/tmp", ERR_IO, "is a directory");
    expect_open_error("/dev/null", ERR_IO, "not a regular file");
    expect_open_error("/tmp/rf_test_gguf_no_such_file", ERR_IO, "No such file");
    const char *path = temp_path("fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_open_error(path, ERR_IO, "not a regular file");
    unlink(path);
    path = temp_path("empty");
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0000));
    if (geteuid() != 0) expect_open_error(path, ERR_IO, "Permission denied"); // root may read anything
    chmod(path, 0600);
    expect_open_error(path, ERR_FORMAT, "is empty");
    unlink(path);
    assert_null(gguf_open_memory("", 0, NULL));
}

static void test_save_fails(void **state) {
    (void)state;
    gguf_writer *w = good_writer(0);
    err e = {0};
    assert_false(gguf_writer_save(w, "/no/such/folder/x.gguf", &e));
    assert_non_null(strstr(e.text, "cannot create"));
    e = (err){0};
    assert_false(gguf_writer_save(w, "/dev/full", &e));
    assert_non_null(strstr(e.text, "cannot write"));
    gguf_writer_free(w);
}

// ---- hostile files -----------------------------------------------------------------------------------------------

static uint8_t file[1 << 17];
static size_t n_file;

static void raw(const void *data, size_t n) {
    assert_true(n_file + n <= sizeof file);
    memcpy(file + n_file, data, n);
    n_file += n;
}
static void u8(uint8_t x) { raw(&x, sizeof x); }
static void u32(uint32_t x) { raw(&x, sizeof x); }
static void u64(uint64_t x) { raw(&x, sizeof x); }
static void str(const char *s) { u64(strlen(s)), raw(s, strlen(s)); }

static void header(uint32_t version, uint64_t n_tensors, uint64_t n_values) {
    n_file = 0;
    raw("GGUF", 4), u32(version), u64(n_tensors), u64(n_values);
}
static void tensor(const char *name, uint64_t columns, uint64_t rows, uint32_t type, uint64_t offset) {
    str(name), u32(2), u64(columns), u64(rows), u32(type), u64(offset);
}
static void data(size_t n) {
    while (n_file % 32) u8(0);
    for (size_t i = 0; i < n; i++) u8(0x33);
}

static void wrong_magic(void) { n_file = 0, raw("ggjt\3\0\0\0aaaaaaaaaaaaaaaa", 24); }
static void version_1(void) { header(1, 0, 0); }
static void version_4(void) { header(4, 0, 0); }
static void version_0(void) { header(0, 0, 0); }
static void big_endian(void) { header(0x03000000, 0, 0); }
static void short_header(void) { header(3, 0, 0), n_file = 20; }
static void many_tensors(void) { header(3, 1ull << 60, 0), data(4096); }
static void many_values(void) { header(3, 0, 1ull << 60), data(4096); }
static void negative_values(void) { header(3, 0, UINT64_MAX), data(64); }
static void tensors_past_end(void) { header(3, 3, 0), data(90); }
static void key_length(void) { header(3, 0, 1), u64(UINT64_MAX), data(32); }
static void key_length_wraps(void) { header(3, 0, 1), u64(UINT64_MAX - 7), data(32); }
static void key_empty(void) { header(3, 0, 1), u64(0), u32(4), u32(1), data(32); }
static void key_too_long(void) {
    header(3, 0, 1), u64(65536);
    for (int i = 0; i < 65536; i++) u8('k');
    u32(4), u32(1);
}
static void key_control(void) { header(3, 0, 1), str("a\033[2J"), u32(4), u32(1); }
static void key_delete(void) { header(3, 0, 1), str("a\177"), u32(4), u32(1); }
static void key_utf8(void) { header(3, 0, 1), str("gr\303\274n"), u32(4), u32(1); }
static void key_twice(void) { header(3, 0, 2), str("a.b"), u32(4), u32(1), str("a.b"), u32(6), u32(1); }
static void kind_unknown(void) { header(3, 0, 1), str("k"), u32(13), u64(0); }
static void elem_kind_unknown(void) { header(3, 0, 1), str("k"), u32(9), u32(77), u64(0); }
static void nested_array(void) { header(3, 0, 1), str("k"), u32(9), u32(9), u64(1), u32(4), u64(1), u32(1); }
static void array_wraps(void) { header(3, 0, 1), str("k"), u32(9), u32(10), u64(1ull << 61), data(32); }
static void array_long(void) { header(3, 0, 1), str("k"), u32(9), u32(0), u64(100), data(32); }
static void strings_long(void) { header(3, 0, 1), str("k"), u32(9), u32(8), u64(UINT64_MAX), data(320); }
static void string_length(void) { header(3, 0, 1), str("k"), u32(8), u64(UINT64_MAX), data(32); }
static void bool_2(void) { header(3, 0, 1), str("k"), u32(7), u8(2); }
static void bool_in_array(void) { header(3, 0, 1), str("k"), u32(9), u32(7), u64(3), u8(1), u8(0), u8(255); }
static void alignment_0(void) { header(3, 0, 1), str("general.alignment"), u32(4), u32(0); }
static void alignment_24(void) { header(3, 0, 1), str("general.alignment"), u32(4), u32(24); }
static void alignment_u64(void) { header(3, 0, 1), str("general.alignment"), u32(10), u64(32); }
static void alignment_huge(void) {
    header(3, 1, 1), str("general.alignment"), u32(4), u32(1u << 31), tensor("t", 1, 1, 0, 0), data(64);
}
static void name_empty(void) { header(3, 1, 0), tensor("", 32, 1, 0, 0), data(128); }
static void name_long(void) {
    header(3, 1, 0), tensor("65.45678901234567890123456789012345678901234567890123456789012345", 32, 1, 0, 0),
        data(128);
}
static void name_twice(void) { header(3, 2, 0), tensor("t", 8, 1, 0, 0), tensor("t", 8, 1, 0, 32), data(64); }
static void dims_0(void) { header(3, 1, 0), str("t"), u32(0), u32(0), u64(0), data(64); }
static void dims_5(void) { header(3, 1, 0), str("t"), u32(5), data(64); }
static void dim_zero(void) { header(3, 1, 0), tensor("t", 32, 0, 0, 0), data(64); }
static void dims_wrap(void) { header(3, 1, 0), tensor("t", 1ull << 33, 1ull << 31, 24, 0), data(64); }
static void dims_wrap_to_32(void) { header(3, 1, 0), tensor("t", (1ull << 63) + 16, 2, 24, 0), data(64); }
static void dims_negative(void) { header(3, 1, 0), tensor("t", 1ull << 63, 1, 24, 0), data(64); }
static void bytes_wrap(void) { header(3, 1, 0), tensor("t", 1ull << 31, 1ull << 31, 28, 0), data(64); }
static void row_not_blocks(void) { header(3, 1, 0), tensor("t", 33, 32, 2, 0), data(640); }
static void type_unknown(void) { header(3, 1, 0), tensor("t", 32, 1, 1000, 0), data(64); }
static void type_removed(void) { header(3, 1, 0), tensor("t", 32, 1, 31, 0), data(64); }
static void offset_unaligned(void) { header(3, 1, 0), tensor("t", 8, 1, 0, 4), data(64); }
static void offset_wraps(void) { header(3, 1, 0), tensor("t", 8, 1, 0, UINT64_MAX - 31), data(64); }
static void offset_past_end(void) { header(3, 1, 0), tensor("t", 8, 1, 0, 1ull << 40), data(64); }
static void tensor_past_end(void) { header(3, 1, 0), tensor("blk.3.ffn_up.weight", 160, 1, 0, 0), data(128); }
static void overlap(void) { header(3, 2, 0), tensor("a", 8, 2, 0, 32), tensor("b", 8, 2, 0, 0), data(96); }
static void same_place(void) { header(3, 2, 0), tensor("a", 8, 1, 0, 0), tensor("b", 1, 1, 0, 0), data(96); }

#define ROW(build, code, sentence)                                                                                     \
    { #build, build, code, sentence }
static const struct {
    const char *name;
    void (*build)(void);
    err_code code;
    const char *sentence; // a part of it
} hostile[] = {
    ROW(wrong_magic, ERR_FORMAT, "not a GGUF file: it begins with bytes 67 67 6a 74"),
    ROW(version_1, ERR_UNSUPPORTED, "version 1 files are not supported"),
    ROW(version_4, ERR_UNSUPPORTED, "version 4 is not supported"),
    ROW(version_0, ERR_UNSUPPORTED, "version 0 is not supported"),
    ROW(big_endian, ERR_UNSUPPORTED, "big-endian files are not supported"),
    ROW(short_header, ERR_FORMAT, "ends inside header field 3 of 3: 8 bytes wanted at byte 16, 4 left"),
    ROW(many_tensors, ERR_FORMAT, "claims 1152921504606846976 tensors, which cannot fit into the 4104 bytes"),
    ROW(many_values, ERR_FORMAT, "claims 1152921504606846976 metadata keys"),
    ROW(negative_values, ERR_FORMAT, "claims 18446744073709551615 metadata keys"),
    ROW(tensors_past_end, ERR_FORMAT, "claims 3 tensors"),
    ROW(key_length, ERR_FORMAT, "inside metadata entry 1 of 1: 18446744073709551615 bytes wanted at byte 32"),
    ROW(key_length_wraps, ERR_FORMAT, "18446744073709551608 bytes wanted"),
    ROW(key_empty, ERR_FORMAT, "the name of metadata entry 1 (byte 24) has 0 bytes instead of 1 to 65535"),
    ROW(key_too_long, ERR_FORMAT, "has 65536 bytes instead of 1 to 65535"),
    ROW(key_control, ERR_FORMAT, "is not printable ASCII"),
    ROW(key_delete, ERR_FORMAT, "is not printable ASCII"),
    ROW(key_utf8, ERR_FORMAT, "is not printable ASCII"),
    ROW(key_twice, ERR_FORMAT, "key 'a.b' occurs twice"),
    ROW(kind_unknown, ERR_FORMAT, "key 'k' has unknown value type 13"),
    ROW(elem_kind_unknown, ERR_FORMAT, "key 'k' has unknown value type 77"),
    ROW(nested_array, ERR_UNSUPPORTED, "key 'k' holds an array of arrays"),
    ROW(array_wraps, ERR_FORMAT, "18446744073709551615 bytes wanted"),
    ROW(array_long, ERR_FORMAT, "100 bytes wanted"),
    ROW(strings_long, ERR_FORMAT, "ends inside metadata entry 1 of 1"),
    ROW(string_length, ERR_FORMAT, "18446744073709551615 bytes wanted"),
    ROW(bool_2, ERR_FORMAT, "key 'k' holds a bool of value 2"),
    ROW(bool_in_array, ERR_FORMAT, "key 'k' holds a bool of value 255"),
    ROW(alignment_0, ERR_FORMAT, "general.alignment is 0, not a power of two"),
    ROW(alignment_24, ERR_FORMAT, "general.alignment is 24, not a power of two"),
    ROW(alignment_u64, ERR_FORMAT, "general.alignment is of type u64 instead of u32"),
    ROW(alignment_huge, ERR_FORMAT, "tensor 't' ends"),
    ROW(name_empty, ERR_FORMAT, "the name of tensor entry 1 (byte 24) has 0 bytes instead of 1 to 64"),
    ROW(name_long, ERR_FORMAT, "has 65 bytes instead of 1 to 64"),
    ROW(name_twice, ERR_FORMAT, "tensor 't' occurs twice"),
    ROW(dims_0, ERR_FORMAT, "tensor 't' has 0 dimensions instead of 1 to 4"),
    ROW(dims_5, ERR_FORMAT, "tensor 't' has 5 dimensions"),
    ROW(dim_zero, ERR_FORMAT, "tensor 't' has a dimension of 0"),
    ROW(dims_wrap, ERR_FORMAT, "tensor 't' has too many elements to count"),
    ROW(dims_wrap_to_32, ERR_FORMAT, "tensor 't' has too many elements to count"),
    ROW(dims_negative, ERR_FORMAT, "tensor 't' has too many elements to count"),
    ROW(bytes_wrap, ERR_FORMAT, "tensor 't' has too many bytes to count"),
    ROW(row_not_blocks, ERR_FORMAT, "tensor 't' has rows of 33 elements, not a multiple of Q4_0's 32"),
    ROW(type_unknown, ERR_UNSUPPORTED, "tensor 't' has unknown type 1000"),
    ROW(type_removed, ERR_UNSUPPORTED, "tensor 't' has type 31, which was removed from the format"),
    ROW(offset_unaligned, ERR_FORMAT, "tensor 't' has offset 4, not a multiple of 32"),
    ROW(offset_wraps, ERR_FORMAT, "tensor 't' has offset 18446744073709551584, far outside the file"),
    ROW(offset_past_end, ERR_FORMAT, "tensor 't' ends 1099511627744 bytes past the end of the file"),
    ROW(tensor_past_end, ERR_FORMAT, "tensor 'blk.3.ffn_up.weight' ends 512 bytes past the end of the file"),
    ROW(overlap, ERR_FORMAT, "tensors 'b' and 'a' overlap"),
    ROW(same_place, ERR_FORMAT, "overlap"),
};

static void test_hostile(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        hostile[i].build();
        uint8_t *exact = malloc(n_file); // so that a sanitizer sees a read past the end
        memcpy(exact, file, n_file);
        err e = {0};
        gguf *g = gguf_open_memory(exact, n_file, &e);
        if (g || e.code != hostile[i].code || !strstr(e.text, hostile[i].sentence) || strncmp(e.text, "gguf: ", 6))
            fail_msg("%s: %d '%s' instead of %d '%s'", hostile[i].name, e.code, e.text, hostile[i].code,
                     hostile[i].sentence);
        assert_null(gguf_open_memory(exact, n_file, NULL)); // without anybody to tell
        free(exact);
    }
}

// Any prefix of a file is an error; any change of one byte is an error or a file that can be walked.
static void test_truncated(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = good_file(0, &n);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1);
        memcpy(exact, bytes, cut);
        err e = {0};
        assert_null(gguf_open_memory(exact, cut, &e));
        assert_int_equal(e.code, ERR_FORMAT);
        free(exact);
    }
    free(bytes);
}

static void test_bytes_changed(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = good_file(0, &n);
    for (size_t at = 0; at < n; at++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[at] ^= (uint8_t)(1 << bit);
            err e = {0};
            gguf *g = gguf_open_memory(bytes, n, &e);
            assert_true((g == NULL) == (e.code != ERR_NONE));
            for (size_t i = 0; g && i < gguf_n_tensors(g); i++) {
                const gguf_tensor *t = gguf_tensor_at(g, i);
                assert_true(t->data >= bytes && t->data + t->n_bytes <= bytes + n);
            }
            gguf_close(g);
            bytes[at] ^= (uint8_t)(1 << bit);
        }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_versions), cmocka_unit_test(test_no_tensors),    cmocka_unit_test(test_typed_reads),
        cmocka_unit_test(test_many_names),    cmocka_unit_test(test_types),         cmocka_unit_test(test_mapped_file),
        cmocka_unit_test(test_not_a_file),    cmocka_unit_test(test_save_fails),    cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_truncated),     cmocka_unit_test(test_bytes_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

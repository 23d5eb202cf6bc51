// Reads a GGUF file: maps it, walks it once with a bounds-checked cursor, and keeps a table of what it found.
//
// Owns the mapping (gguf_open) or borrows the bytes (gguf_open_memory); owns the tables and their sorted indexes.
// Invariant while parsing: memory is asked for only after the count was bounded by the bytes that are left, so a
// hostile file costs at most a small multiple of its own size; time is n log n in the file's size, on any input. Names
// are printable ASCII, so that sentences about them are safe to print. A file that is cut while it is mapped raises
// SIGBUS; that is not handled here.
#include "gguf/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied from the file as they are");

enum {
    MAX_KEY_BYTES = 65535, // gguf.md, "File Structure"
    MAX_NAME_BYTES = 64,
    MIN_VALUE_BYTES = 8 + 1 + 4 + 1,          // key, type, one byte
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, // name, one dimension, type, offset
    MAX_ENTRIES = 1 << 24,
};

typedef struct entry { // the name comes first in both structs: an index of names is an index of entries
    gguf_tensor tensor;
    uint64_t offset; // from the start of the data section
} entry;
_Static_assert(offsetof(entry, tensor.name) == 0 && offsetof(gguf_value, key) == 0, "names come first");

struct gguf {
    const uint8_t *base;
    size_t n_bytes;
    bool mapped;
    uint32_t version;
    uint64_t alignment;
    gguf_value *values; // [n_values], file order
    entry *tensors;     // [n_tensors], file order
    size_t n_values, n_tensors;
    const gguf_str **keys;  // [n_values], sorted
    const gguf_str **names; // [n_tensors], sorted
};

// Prints a name that may be as long as 64 KiB: "%.*s", SHOW(name)
#define SHOW(s) (int)((s).n_bytes < 100 ? (s).n_bytes : 100), (s).data

// ---- the cursor: after its first failure every read gives zero ---------------------------------------------------

typedef struct cursor {
    const uint8_t *base;
    size_t n_bytes, at;
    const char *section; // "tensor"; what is being read, for the sentence
    uint64_t index, count;
    bool ok;
    err *e;
} cursor;

static const uint8_t *take(cursor *c, uint64_t n) {
    if (!c->ok) return NULL;
    size_t left = c->n_bytes - c->at;
    if (n > left) {
        c->ok = fail(c->e, ERR_FORMAT,
                     "gguf: the file ends inside %s %" PRIu64 " of %" PRIu64 ": %" PRIu64
                     " bytes wanted at byte %zu, %zu left",
                     c->section, c->index + 1, c->count, n, c->at, left);
        return NULL;
    }
    const uint8_t *p = c->base + c->at;
    c->at += n;
    return p;
}

static uint32_t read_u32(cursor *c) {
    uint32_t x = 0;
    const uint8_t *p = take(c, sizeof x);
    if (p) memcpy(&x, p, sizeof x);
    return x;
}

static uint64_t read_u64(cursor *c) {
    uint64_t x = 0;
    const uint8_t *p = take(c, sizeof x);
    if (p) memcpy(&x, p, sizeof x);
    return x;
}

static gguf_str read_str(cursor *c) {
    uint64_t n = read_u64(c);
    const uint8_t *p = take(c, n);
    return p ? (gguf_str){(const char *)p, n} : (gguf_str){"", 0};
}

static bool read_name(cursor *c, size_t max_bytes, gguf_str *out) {
    size_t at = c->at;
    *out = read_str(c);
    if (!c->ok) return false;
    if (out->n_bytes == 0 || out->n_bytes > max_bytes)
        return fail(c->e, ERR_FORMAT, "gguf: the name of %s %" PRIu64 " (byte %zu) has %zu bytes instead of 1 to %zu",
                    c->section, c->index + 1, at, out->n_bytes, max_bytes);
    for (size_t i = 0; i < out->n_bytes; i++)
        if (out->data[i] < 0x20 || out->data[i] > 0x7e)
            return fail(c->e, ERR_FORMAT, "gguf: the name of %s %" PRIu64 " (byte %zu) is not printable ASCII",
                        c->section, c->index + 1, at);
    return true;
}

// A count from the file, believed only as far as that many of the smallest entries fit into what is left.
static bool check_count(const cursor *c, uint64_t count, size_t min_bytes, const char *what) {
    size_t left = c->n_bytes - c->at;
    if (count <= left / min_bytes && count <= MAX_ENTRIES) return true;
    return fail(c->e, ERR_FORMAT,
                "gguf: the header claims %" PRIu64 " %s, which cannot fit into the %zu bytes that follow", count, what,
                left);
}

// ---- sections ----------------------------------------------------------------------------------------------------

static bool read_header(gguf *g, cursor *c) {
    *c = (cursor){.base = g->base, .n_bytes = g->n_bytes, .section = "header field", .count = 3, .ok = true, .e = c->e};
    const uint8_t *magic = take(c, 4);
    if (!magic) return false;
    if (memcmp(magic, "GGUF", 4) != 0)
        return fail(c->e, ERR_FORMAT, "gguf: not a GGUF file: it begins with bytes %02x %02x %02x %02x", magic[0],
                    magic[1], magic[2], magic[3]);
    c->index = 1;
    uint32_t version = g->version = read_u32(c);
    if (!c->ok) return false;
    if (version == 1) return fail(c->e, ERR_UNSUPPORTED, "gguf: version 1 files are not supported, only 2 and 3");
    if ((version & 0xffff) == 0 && version != 0)
        return fail(c->e, ERR_UNSUPPORTED, "gguf: big-endian files are not supported (version bytes are swapped)");
    if (version != 2 && version != 3)
        return fail(c->e, ERR_UNSUPPORTED, "gguf: version %" PRIu32 " is not supported, only 2 and 3", version);
    c->index = 2;
    uint64_t n_tensors = read_u64(c), n_values = read_u64(c);
    if (!c->ok || !check_count(c, n_tensors, MIN_TENSOR_BYTES, "tensors") ||
        !check_count(c, n_values, MIN_VALUE_BYTES, "metadata keys"))
        return false;
    g->n_tensors = n_tensors, g->n_values = n_values;
    return true;
}

// Passes over the n elements of v, checking what has rules: strings end inside the file, bools are 0 or 1.
static bool skip_elements(cursor *c, const gguf_value *v) {
    if (v->elem_kind == GGUF_KIND_STRING) {
        for (uint64_t i = 0; i < v->n && c->ok; i++) read_str(c);
        return c->ok;
    }
    uint64_t n_bytes;
    if (__builtin_mul_overflow(v->n, gguf_kind_bytes(v->elem_kind), &n_bytes)) n_bytes = UINT64_MAX;
    const uint8_t *p = take(c, n_bytes);
    if (!p) return false;
    if (v->elem_kind != GGUF_KIND_BOOL) return true;
    for (uint64_t i = 0; i < v->n; i++)
        if (p[i] > 1) return fail(c->e, ERR_FORMAT, "gguf: key '%.*s' holds a bool of value %u", SHOW(v->key), p[i]);
    return true;
}

static bool read_value(cursor *c, gguf_value *v) {
    if (!read_name(c, MAX_KEY_BYTES, &v->key)) return false;
    uint32_t kind = read_u32(c), elem_kind = kind;
    v->n = 1;
    if (kind == GGUF_KIND_ARRAY) {
        elem_kind = read_u32(c);
        v->n = read_u64(c);
    }
    if (!c->ok) return false;
    if (kind == GGUF_KIND_ARRAY && elem_kind == GGUF_KIND_ARRAY)
        return fail(c->e, ERR_UNSUPPORTED, "gguf: key '%.*s' holds an array of arrays, which is not supported",
                    SHOW(v->key));
    if (!gguf_kind_name(elem_kind))
        return fail(c->e, ERR_FORMAT, "gguf: key '%.*s' has unknown value type %" PRIu32, SHOW(v->key), elem_kind);
    v->kind = kind, v->elem_kind = elem_kind;
    v->data = c->base + c->at;
    return skip_elements(c, v);
}

static int by_name(const void *a, const void *b) {
    const gguf_str *x = *(const gguf_str *const *)a, *y = *(const gguf_str *const *)b;
    size_t n = x->n_bytes < y->n_bytes ? x->n_bytes : y->n_bytes;
    int order = memcmp(x->data, y->data, n);
    return order ? order : (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

static int by_place(const void *a, const void *b) {
    const gguf_tensor *x = *(const gguf_tensor *const *)a, *y = *(const gguf_tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

// n zeroed rows. Not xcalloc: the size comes from the file.
static void *table_new(size_t n, size_t row_bytes, err *e) {
    void *p = calloc(n ? n : 1, row_bytes);
    if (!p) fail(e, ERR_MEMORY, "gguf: cannot allocate a table of %zu entries", n);
    return p;
}

// Pointers to each of n rows, sorted.
static void *index_new(const void *rows, size_t n, size_t row_bytes, int (*order)(const void *, const void *), err *e) {
    const void **index = table_new(n, sizeof *index, e);
    if (!index) return NULL;
    for (size_t i = 0; i < n; i++) index[i] = (const char *)rows + i * row_bytes;
    qsort(index, n, sizeof *index, order);
    return index;
}

static bool check_unique(const gguf_str **index, size_t n, const char *what, err *e) {
    for (size_t i = 1; i < n; i++)
        if (by_name(&index[i - 1], &index[i]) == 0)
            return fail(e, ERR_FORMAT, "gguf: %s '%.*s' occurs twice", what, SHOW(*index[i]));
    return true;
}

static bool read_values(gguf *g, cursor *c) {
    g->values = table_new(g->n_values, sizeof *g->values, c->e);
    if (!g->values) return false;
    c->section = "metadata entry", c->count = g->n_values;
    for (c->index = 0; c->index < g->n_values; c->index++)
        if (!read_value(c, &g->values[c->index])) return false;
    g->keys = index_new(g->values, g->n_values, sizeof *g->values, by_name, c->e);
    return g->keys && check_unique(g->keys, g->n_values, "key", c->e);
}

static bool read_alignment(gguf *g, err *e) {
    uint32_t alignment = 32;
    const gguf_value *v = gguf_find(g, "general.alignment");
    if (v && v->kind != GGUF_KIND_U32)
        return fail(e, ERR_FORMAT, "gguf: general.alignment is of type %s instead of u32", gguf_kind_name(v->kind));
    if (v) memcpy(&alignment, v->data, sizeof alignment);
    if (alignment == 0 || (alignment & (alignment - 1)))
        return fail(e, ERR_FORMAT, "gguf: general.alignment is %" PRIu32 ", not a power of two", alignment);
    g->alignment = alignment;
    return true;
}

// The bytes that type and shape demand.
static bool size_tensor(gguf_tensor *t, err *e) {
    static const uint64_t removed = 3ull << 4 | 7ull << 31 | 7ull << 36; // Q4_2 Q4_3, Q4_0_4_4 .., IQ4_NL_4_4 ..
    if (t->type < 64 && (removed >> t->type & 1))
        return fail(e, ERR_UNSUPPORTED, "gguf: tensor '%.*s' has type %" PRIu32 ", which was removed from the format",
                    SHOW(t->name), t->type);
    uint64_t elems = gguf_type_block_elems(t->type), n = 1;
    if (!elems)
        return fail(e, ERR_UNSUPPORTED, "gguf: tensor '%.*s' has unknown type %" PRIu32, SHOW(t->name), t->type);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] == 0) return fail(e, ERR_FORMAT, "gguf: tensor '%.*s' has a dimension of 0", SHOW(t->name));
        if (__builtin_mul_overflow(n, t->dims[i], &n) || n > INT64_MAX)
            return fail(e, ERR_FORMAT, "gguf: tensor '%.*s' has too many elements to count", SHOW(t->name));
    }
    if (t->dims[0] % elems)
        return fail(e, ERR_FORMAT,
                    "gguf: tensor '%.*s' has rows of %" PRIu64 " elements, not a multiple of %s's %" PRIu64,
                    SHOW(t->name), t->dims[0], gguf_type_name(t->type), elems);
    if (__builtin_mul_overflow(n / elems, gguf_type_block_bytes(t->type), &t->n_bytes))
        return fail(e, ERR_FORMAT, "gguf: tensor '%.*s' has too many bytes to count", SHOW(t->name));
    return true;
}

static bool read_tensor(const gguf *g, cursor *c, entry *out) {
    gguf_tensor *t = &out->tensor;
    if (!read_name(c, MAX_NAME_BYTES, &t->name)) return false;
    t->n_dims = read_u32(c);
    if (!c->ok) return false;
    if (t->n_dims < 1 || t->n_dims > 4)
        return fail(c->e, ERR_FORMAT, "gguf: tensor '%.*s' has %" PRIu32 " dimensions instead of 1 to 4", SHOW(t->name),
                    t->n_dims);
    for (uint32_t i = 0; i < 4; i++) t->dims[i] = i < t->n_dims ? read_u64(c) : 1;
    t->type = read_u32(c);
    out->offset = read_u64(c);
    if (!c->ok || !size_tensor(t, c->e)) return false;
    if (out->offset & (g->alignment - 1))
        return fail(c->e, ERR_FORMAT, "gguf: tensor '%.*s' has offset %" PRIu64 ", not a multiple of %" PRIu64,
                    SHOW(t->name), out->offset, g->alignment);
    return true;
}

// The data section begins at the first multiple of the alignment after the tensor table.
static bool place_tensors(gguf *g, size_t table_end, err *e) {
    uint64_t data_start = (table_end + g->alignment - 1) & ~(g->alignment - 1);
    for (size_t i = 0; i < g->n_tensors; i++) {
        gguf_tensor *t = &g->tensors[i].tensor;
        uint64_t begin, end;
        if (__builtin_add_overflow(data_start, g->tensors[i].offset, &begin) ||
            __builtin_add_overflow(begin, t->n_bytes, &end))
            return fail(e, ERR_FORMAT, "gguf: tensor '%.*s' has offset %" PRIu64 ", far outside the file",
                        SHOW(t->name), g->tensors[i].offset);
        if (end > g->n_bytes)
            return fail(e, ERR_FORMAT, "gguf: tensor '%.*s' ends %" PRIu64 " bytes past the end of the file",
                        SHOW(t->name), end - g->n_bytes);
        t->data = g->base + begin;
    }
    return true;
}

static bool check_overlaps(const gguf *g, err *e) {
    const gguf_tensor **index = index_new(g->tensors, g->n_tensors, sizeof *g->tensors, by_place, e);
    bool ok = index != NULL;
    for (size_t i = 1; ok && i < g->n_tensors; i++) {
        const gguf_tensor *a = index[i - 1], *b = index[i];
        if (a->n_bytes > (uint64_t)(b->data - a->data))
            ok = fail(e, ERR_FORMAT, "gguf: tensors '%.*s' and '%.*s' overlap", SHOW(a->name), SHOW(b->name));
    }
    free(index);
    return ok;
}

static bool read_tensors(gguf *g, cursor *c) {
    g->tensors = table_new(g->n_tensors, sizeof *g->tensors, c->e);
    if (!g->tensors) return false;
    c->section = "tensor entry", c->count = g->n_tensors;
    for (c->index = 0; c->index < g->n_tensors; c->index++)
        if (!read_tensor(g, c, &g->tensors[c->index])) return false;
    g->names = index_new(g->tensors, g->n_tensors, sizeof *g->tensors, by_name, c->e);
    return g->names && check_unique(g->names, g->n_tensors, "tensor", c->e) && place_tensors(g, c->at, c->e) &&
           check_overlaps(g, c->e);
}

// ---- open and close ----------------------------------------------------------------------------------------------

static gguf *open_bytes(const void *bytes, size_t n_bytes, bool mapped, err *e) {
    gguf *g = xcalloc(1, sizeof *g);
    g->base = bytes, g->n_bytes = n_bytes, g->mapped = mapped;
    cursor c = {.e = e};
    if (read_header(g, &c) && read_values(g, &c) && read_alignment(g, e) && read_tensors(g, &c)) return g;
    gguf_close(g);
    return NULL;
}

gguf *gguf_open_memory(const void *bytes, size_t n_bytes, err *e) {
    if (n_bytes == 0) return fail_null(e, ERR_FORMAT, "gguf: the file is empty");
    return open_bytes(bytes, n_bytes, false, e);
}

// The size of a regular, non-empty file; 0 and a sentence for anything else.
static size_t regular_file_bytes(int fd, const char *path, err *e) {
    struct stat st;
    if (fstat(fd, &st) != 0) return fail(e, ERR_IO, "gguf: cannot read '%s': %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return fail(e, ERR_IO, "gguf: '%s' is a directory, not a model file", path);
    if (!S_ISREG(st.st_mode)) return fail(e, ERR_IO, "gguf: '%s' is not a regular file and cannot be mapped", path);
    if (st.st_size == 0) return fail(e, ERR_FORMAT, "gguf: '%s' is empty", path);
    return (size_t)st.st_size;
}

gguf *gguf_open(const char *path, err *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // non-blocking: a FIFO must not hang us
    if (fd < 0) return fail_null(e, ERR_IO, "gguf: cannot open '%s': %s", path, strerror(errno));
    size_t n_bytes = regular_file_bytes(fd, path, e);
    void *bytes = n_bytes ? mmap(NULL, n_bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (bytes == MAP_FAILED) fail(e, ERR_IO, "gguf: cannot map '%s': %s", path, strerror(errno));
    close(fd);
    if (!bytes || bytes == MAP_FAILED) return NULL;
    return open_bytes(bytes, n_bytes, true, e);
}

void gguf_close(gguf *g) {
    if (!g) return;
    if (g->mapped) munmap((void *)g->base, g->n_bytes);
    free(g->values);
    free(g->tensors);
    free(g->keys);
    free(g->names);
    free(g);
}

void gguf_expect(const gguf *g, const void *data, size_t n_bytes) {
    if (!g->mapped) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data & ~(page - 1);
    madvise((void *)begin, (uintptr_t)data + n_bytes - begin, MADV_WILLNEED); // a hint: nothing is lost if it fails
}

void gguf_release(const gguf *g, const void *data, size_t n_bytes) {
    if (!g->mapped) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)data + page - 1) & ~(page - 1), end = ((uintptr_t)data + n_bytes) & ~(page - 1);
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

// ---- what was found ----------------------------------------------------------------------------------------------

uint32_t gguf_version(const gguf *g) { return g->version; }
uint64_t gguf_file_bytes(const gguf *g) { return g->n_bytes; }
uint64_t gguf_alignment(const gguf *g) { return g->alignment; }
size_t gguf_n_values(const gguf *g) { return g->n_values; }
size_t gguf_n_tensors(const gguf *g) { return g->n_tensors; }

const gguf_value *gguf_value_at(const gguf *g, size_t i) {
    check(i < g->n_values);
    return &g->values[i];
}

const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i) {
    check(i < g->n_tensors);
    return &g->tensors[i].tensor;
}

static const void *find(const gguf_str **index, size_t n, const char *name) {
    gguf_str wanted = {name, strlen(name)};
    const gguf_str *key = &wanted, **found = bsearch(&key, index, n, sizeof *index, by_name);
    return found ? *found : NULL;
}

const gguf_value *gguf_find(const gguf *g, const char *key) { return find(g->keys, g->n_values, key); }
const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name) { return find(g->names, g->n_tensors, name); }

static bool wrong_kind(const gguf_value *v, const char *wanted, err *e) {
    return fail(e, ERR_FORMAT, "gguf: key '%.*s' is of type %s and does not convert to %s", SHOW(v->key),
                gguf_kind_name(v->kind), wanted);
}

static bool is_number(gguf_kind kind) { return kind != GGUF_KIND_BOOL && gguf_kind_bytes(kind) != 0; }
static bool is_float(gguf_kind kind) { return kind == GGUF_KIND_F32 || kind == GGUF_KIND_F64; }

bool gguf_get_u32(const gguf *g, const char *key, uint32_t *out, err *e) {
    const gguf_value *v = gguf_find(g, key);
    if (!v) return true;
    if (!is_number(v->kind) || is_float(v->kind)) return wrong_kind(v, "u32", e);
    int64_t x = gguf_array_int(v, 0);
    if (x < 0 || x > UINT32_MAX)
        return fail(e, ERR_FORMAT, "gguf: key '%.*s' is outside the range of u32", SHOW(v->key));
    *out = (uint32_t)x;
    return true;
}

bool gguf_get_f32(const gguf *g, const char *key, float *out, err *e) {
    const gguf_value *v = gguf_find(g, key);
    if (!v) return true;
    if (!is_number(v->kind)) return wrong_kind(v, "f32", e);
    double x = gguf_array_float(v, 0);
    if (!isnan(x) && (double)(float)x != x)
        return fail(e, ERR_FORMAT, "gguf: key '%.*s' is not exactly representable as f32", SHOW(v->key));
    *out = (float)x;
    return true;
}

bool gguf_get_bool(const gguf *g, const char *key, bool *out, err *e) {
    const gguf_value *v = gguf_find(g, key);
    if (!v) return true;
    if (v->kind != GGUF_KIND_BOOL) return wrong_kind(v, "bool", e);
    *out = v->data[0];
    return true;
}

bool gguf_get_str(const gguf *g, const char *key, gguf_str *out, err *e) {
    const gguf_value *v = gguf_find(g, key);
    if (!v) return true;
    if (v->kind != GGUF_KIND_STRING) return wrong_kind(v, "string", e);
    const uint8_t *at = v->data;
    *out = gguf_next_str(&at);
    return true;
}

static uint64_t load_u64(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

gguf_str gguf_next_str(const uint8_t **at) {
    uint64_t n = load_u64(*at);
    gguf_str s = {(const char *)*at + sizeof n, n};
    *at += sizeof n + n;
    return s;
}

// One list for both conversions: kind and the C type that holds it in the file.
#define NUMBERS(X)                                                                                                     \
    X(U8, uint8_t)                                                                                                     \
    X(I8, int8_t)                                                                                                      \
    X(U16, uint16_t)                                                                                                   \
    X(I16, int16_t)                                                                                                    \
    X(U32, uint32_t)                                                                                                   \
    X(I32, int32_t)                                                                                                    \
    X(I64, int64_t)                                                                                                    \
    X(BOOL, uint8_t)

static const uint8_t *element(const gguf_value *v, uint64_t i) {
    check(i < v->n && gguf_kind_bytes(v->elem_kind) != 0);
    return v->data + i * gguf_kind_bytes(v->elem_kind);
}

int64_t gguf_array_int(const gguf_value *v, uint64_t i) {
    const uint8_t *p = element(v, i);
    switch (v->elem_kind) {
#define X(kind, type)                                                                                                  \
    case GGUF_KIND_##kind: {                                                                                           \
        type x;                                                                                                        \
        memcpy(&x, p, sizeof x);                                                                                       \
        return x;                                                                                                      \
    }
        NUMBERS(X)
#undef X
    case GGUF_KIND_U64:
        return load_u64(p) > INT64_MAX ? INT64_MAX : (int64_t)load_u64(p);
    default:
        break;
    }
    double x = gguf_array_float(v, i);
    if (isnan(x)) return 0;
    return x >= 0x1p63 ? INT64_MAX : x < -0x1p63 ? INT64_MIN : (int64_t)x;
}

double gguf_array_float(const gguf_value *v, uint64_t i) {
    const uint8_t *p = element(v, i);
    float f;
    double d;
    switch (v->elem_kind) {
    case GGUF_KIND_F32:
        memcpy(&f, p, sizeof f);
        return f;
    case GGUF_KIND_F64:
        memcpy(&d, p, sizeof d);
        return d;
    case GGUF_KIND_U64:
        return (double)load_u64(p);
    default:
        return (double)gguf_array_int(v, i);
    }
}

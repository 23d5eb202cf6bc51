// Implements the dicts of jinja_value.h: pairs in the order of insertion, and an index over them once there are many.
//
// Numbers that are equal are the same key (1, 1.0 and true), as in Python. At most half of the slots are taken.
#include "text/jinja_string.h"

#include <math.h>

enum { FEW = 8 }; // pairs that are searched one after the other

static bool look_inside(run *r, const list *l, bool *hashable) {
    *hashable = true;
    for (size_t i = 0; *hashable && i < l->n; i++)
        if (!value_is_hashable(r, &l->items[i], hashable)) return false;
    return true;
}

bool value_is_hashable(run *r, const value *v, bool *hashable) {
    *hashable = v->kind != V_LIST && v->kind != V_DICT && (v->kind != V_VIEW || v->view->which == VIEW_VALUES);
    if (v->kind != V_TUPLE) return true;
    if (!run_enter(r)) return false;
    bool ok = look_inside(r, v->l, hashable);
    run_leave(r);
    return ok;
}

static uint64_t mix(uint64_t h, uint64_t x) {
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

// Of a hashable value, whose depth is therefore known to be small.
static uint64_t hash(const value *v) {
    uint64_t h = 0;
    switch (v->kind) {
    case V_STRING:
        for (size_t i = 0; i < v->s->n_bytes; i++) h = mix(h, (unsigned char)v->s->data[i]);
        return h;
    case V_TUPLE:
        for (size_t i = 0; i < v->l->n; i++) h = mix(h, hash(&v->l->items[i]));
        return h;
    case V_BOOL:
    case V_INT:
    case V_FLOAT: {
        double f = value_to_float(v); // what is equal is equal as a double
        if (f == 0) f = 0;            // -0 is 0
        memcpy(&h, &f, sizeof h);
        return mix(1, h);
    }
    default:
        return (uint64_t)v->kind;
    }
}

bool dict_new(run *r, value_kind kind, value *out) {
    dict *d = run_take(r, 1, sizeof *d);
    *out = (value){.kind = kind, .d = d};
    return d != NULL;
}

// The slot of this key, or the free one where it would go. Only with an index.
static bool find_slot(run *r, const dict *d, const value *key, uint32_t **slot) {
    uint32_t mask = d->n_slots - 1;
    for (uint32_t i = (uint32_t)hash(key) & mask;; i = (i + 1) & mask) {
        *slot = &d->slots[i];
        bool equal = false;
        if (!**slot) return true;
        if (!value_equal(r, &d->pairs[**slot - 1].key, key, &equal)) return false;
        if (equal) return true;
    }
}

static bool find_pair(run *r, const dict *d, const value *key, pair **found) {
    *found = NULL;
    if (key->kind == V_STRING && !run_spend_bytes(r, key->s->n_bytes)) return false;
    if (d->slots) {
        uint32_t *slot;
        if (!find_slot(r, d, key, &slot)) return false;
        if (*slot) *found = &d->pairs[*slot - 1];
        return true;
    }
    for (uint32_t i = 0; i < d->n; i++) {
        bool equal;
        if (!value_equal(r, &d->pairs[i].key, key, &equal)) return false;
        if (equal) return *found = &d->pairs[i], true;
    }
    return true;
}

static bool grow_dict(run *r, dict *d) {
    uint32_t capacity = d->capacity ? 2 * d->capacity : 4;
    if (capacity > UINT32_MAX / 8) return run_fail(r, ERR_TOO_LONG, "a dict of more than %u pairs", d->capacity);
    pair *pairs = run_take(r, capacity, sizeof *pairs);
    if (!pairs) return false;
    if (d->n) memcpy(pairs, d->pairs, d->n * sizeof *pairs);
    d->pairs = pairs, d->capacity = capacity;
    if (capacity <= FEW) return true;
    d->n_slots = 2 * capacity;
    d->slots = run_take(r, d->n_slots, sizeof *d->slots);
    if (!d->slots) return false;
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t *slot;
        if (!find_slot(r, d, &d->pairs[i].key, &slot)) return false;
        *slot = i + 1;
    }
    return true;
}

static bool check_key(run *r, const value *key) {
    bool hashable;
    if (!value_is_hashable(r, key, &hashable)) return false;
    return hashable || run_fail(r, ERR_FORMAT, "a %s cannot be the key of a dict", value_type(key));
}

bool dict_put(run *r, dict *d, value key, value v) {
    pair *p;
    if (!check_key(r, &key) || !find_pair(r, d, &key, &p)) return false;
    if (p) return p->value = v, true;
    if (d->n == d->capacity && !grow_dict(r, d)) return false;
    d->pairs[d->n++] = (pair){key, v};
    if (!d->slots) return true;
    uint32_t *slot;
    if (!find_slot(r, d, &key, &slot)) return false;
    *slot = d->n;
    return true;
}

bool dict_find(run *r, const dict *d, const value *key, const value **found) {
    pair *p;
    if (!check_key(r, key) || !find_pair(r, d, key, &p)) return false;
    *found = p ? &p->value : NULL;
    return true;
}

// Implements door.h.
#include "engine/door.h"

#include <stdlib.h>

door *door_new(uint32_t max_queue) {
    door *d = aligned_alloc(_Alignof(door), sizeof *d);
    check(d);
    *d = (door){.n_holders = 1, .max_queue = max_queue, .cancel_at_us = INT64_MAX};
    return d;
}

door *door_retain(door *d) {
    check(atomic_fetch_add(&d->n_holders, 1) > 0);
    return d;
}

void door_release(door *d) {
    unsigned before = atomic_fetch_sub(&d->n_holders, 1);
    check(before > 0);
    if (before == 1) free(d);
}

bool door_enter(door *d, mail_node *node, err *e) {
    unsigned seen = atomic_load(&d->entered);
    do {
        if (seen & DOOR_SHUT) return fail(e, ERR_STOPPED, "the engine is shutting down");
        if (seen >= d->max_queue)
            return fail(e, ERR_BUSY, "%u requests are waiting, and no more than that may: try again later", seen);
    } while (!atomic_compare_exchange_weak(&d->entered, &seen, seen + 1));
    mailbox_post(&d->mail, node);
    return true;
}

void door_admit(door *d) { check((atomic_fetch_sub(&d->entered, 1) & ~DOOR_SHUT) > 0); }

void door_return(door *d) { atomic_fetch_add(&d->entered, 1); }

void door_shut(door *d, int64_t cancel_at_us) {
    atomic_store(&d->cancel_at_us, cancel_at_us);
    atomic_fetch_or(&d->entered, DOOR_SHUT);
    mailbox_wake(&d->mail);
}

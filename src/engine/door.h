// Door: the one way into an engine, and all that a request handle knows of it.
//
// Shared by the engine and every handle (reference count), so that cancelling or releasing a handle is legal after the
// engine is gone. Any thread.
// `entered` counts sequences that passed and are not in the running set: not yet admitted, or preempted; plus DOOR_SHUT
// once the engine is stopping. So at most max_queue and the running set's worth of sequences are live. Passing is one
// compare-and-swap on it: either the door is shut, or the engine counts on the post that follows and does not end
// before it has arrived. So no request is accepted and then forgotten.
#pragma once

#include "base/err.h"
#include "base/mailbox.h"

#define DOOR_SHUT (1u << 31)

typedef struct door {
    mailbox mail;
    atomic_uint n_holders;
    atomic_uint entered;
    uint32_t max_queue;
    _Atomic int64_t cancel_at_us; // whoever is still live then is cancelled; INT64_MAX until shut
} door;

door *door_new(uint32_t max_queue); // one holder
door *door_retain(door *d);
void door_release(door *d);

// Hands the node over; ERR_BUSY or ERR_STOPPED, and nothing happened, otherwise.
bool door_enter(door *d, mail_node *node, err *e);
void door_admit(door *d);  // engine: one of those who entered no longer waits
void door_return(door *d); // engine: one who was admitted waits again
void door_shut(door *d, int64_t cancel_at_us);
// Engine: shut, and nobody is on the way in.
static inline bool door_is_final(door *d) { return atomic_load(&d->entered) == DOOR_SHUT; }

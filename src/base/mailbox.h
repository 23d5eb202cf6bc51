// Mailbox: many threads post, one thread takes everything, in order, and may sleep until there is something.
//
// Intrusive: a node lives inside the thing that is posted; posting hands its ownership to the consumer, so nothing is
// allocated and nothing can fail. Nodes of one producer come out in the order they went in.
// No wake-up is lost: a post or mailbox_wake that happens after a take makes the next wait return at once.
// A flag set before mailbox_wake is seen by the consumer after the take or wait that swallowed the wake: look at flags
// after taking and before waiting again.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mail_node {
    struct mail_node *next; // the mailbox's while posted, the consumer's list after
} mail_node;

typedef struct mailbox {
    _Alignas(64) atomic_uint bell;          // futex word: quiet, rung or asleep
    _Alignas(64) _Atomic(mail_node *) last; // newest first
} mailbox;

// Zero is a valid empty mailbox. Whoever ends one takes what is left in it.
void mailbox_post(mailbox *m, mail_node *node); // any thread
void mailbox_wake(mailbox *m);                  // any thread; wakes the consumer without mail

// The consumer only. All nodes, oldest first, linked by next; NULL if there are none.
mail_node *mailbox_take(mailbox *m);
// The same, but sleeps until a post, a wake or the absolute CLOCK_MONOTONIC deadline (clock_machine_us; -1: none).
// NULL after a bare wake or at the deadline; sometimes for no reason.
mail_node *mailbox_wait(mailbox *m, int64_t deadline_us);

// The thing around a node: mail_of(node, request, node).
#define mail_of(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

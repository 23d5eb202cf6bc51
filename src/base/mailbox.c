// Implements mailbox.h: a stack that producers push and the consumer takes whole, and a bell.
//
// Order that loses nothing: a producer pushes, then rings; the consumer silences the bell, then takes. A ring that
// comes between the two only costs the consumer one empty round.
#include "base/mailbox.h"

#include "base/futex.h"

enum { BELL_QUIET, BELL_RUNG, BELL_ASLEEP };

void mailbox_wake(mailbox *m) {
    if (atomic_exchange(&m->bell, BELL_RUNG) == BELL_ASLEEP) futex_wake_all(&m->bell);
}

void mailbox_post(mailbox *m, mail_node *node) {
    mail_node *last = atomic_load_explicit(&m->last, memory_order_relaxed);
    do node->next = last;
    while (!atomic_compare_exchange_weak(&m->last, &last, node));
    mailbox_wake(m);
}

mail_node *mailbox_take(mailbox *m) {
    atomic_exchange(&m->bell, BELL_QUIET);
    mail_node *node = atomic_exchange(&m->last, NULL), *oldest = NULL;
    while (node) {
        mail_node *next = node->next;
        node->next = oldest;
        oldest = node, node = next;
    }
    return oldest;
}

mail_node *mailbox_wait(mailbox *m, int64_t deadline_us) {
    unsigned quiet = BELL_QUIET;
    // If this fails the bell has been rung; only the consumer puts it to sleep.
    if (atomic_compare_exchange_strong(&m->bell, &quiet, BELL_ASLEEP))
        while (atomic_load(&m->bell) == BELL_ASLEEP && futex_wait(&m->bell, BELL_ASLEEP, deadline_us)) continue;
    return mailbox_take(m);
}

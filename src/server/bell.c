// Implements bell.h: a mailbox beside an eventfd.
#include "server/bell.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct bell {
    mailbox mail;
    atomic_bool rung; // the eventfd holds a count that the loop has not read yet
    int fd;
    struct event *event;
    void (*answer)(mail_node *node);
};

static void take_all(bell *b) {
    for (mail_node *node = mailbox_take(&b->mail); node;) {
        mail_node *next = node->next; // the callback may free the node
        b->answer(node);
        node = next;
    }
}

// The flag falls before the take, so a post that comes between the two rings again.
static void on_ring(evutil_socket_t fd, short what, void *arg) {
    (void)what;
    bell *b = arg;
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0) check(errno == EAGAIN || errno == EINTR);
    atomic_store(&b->rung, false);
    take_all(b);
}

bell *bell_open(struct event_base *base, void (*answer)(mail_node *node), err *e) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) return fail_null(e, ERR_IO, "cannot make an eventfd: %s", strerror(errno));
    bell *b = aligned_alloc(64, (sizeof *b + 63) & ~(size_t)63); // the mailbox wants whole cache lines
    check(b);
    memset(b, 0, sizeof *b);
    b->fd = fd, b->answer = answer;
    b->event = event_new(base, fd, EV_READ | EV_PERSIST, on_ring, b);
    check(b->event && event_add(b->event, NULL) == 0);
    return b;
}

void bell_close(bell *b) {
    if (!b) return;
    take_all(b);
    event_free(b->event);
    close(b->fd);
    free(b);
}

void bell_post(bell *b, mail_node *node) {
    mailbox_post(&b->mail, node);
    const uint64_t one = 1;
    if (!atomic_exchange(&b->rung, true)) check(write(b->fd, &one, sizeof one) == sizeof one);
}

// Implements interrupt.h. The watcher is detached and lives as long as the program.
#include "cli/interrupt.h"

#include "base/err.h"
#include "cli/cli.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void *watch(void *arg) {
    interrupt *i = arg;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    for (int signal_number; sigwait(&set, &signal_number) == 0;) {
        pthread_mutex_lock(&i->lock);
        bool silent = i->bell < 0;
        if (silent ? i->seen || !i->request : i->seen && !i->request && !i->listening) _exit(CLI_INTERRUPTED);
        if (i->seen != SIGTERM) i->seen = signal_number;
        if (i->request) rf_cancel(i->request);
        if (!silent) eventfd_write(i->bell, 1);
        pthread_mutex_unlock(&i->lock);
    }
    return NULL;
}

interrupt *interrupt_start(void) {
    interrupt *i = xcalloc(1, sizeof *i);
    i->bell = -1;
    pthread_mutex_init(&i->lock, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, i) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &set, NULL); // no watcher: the signals keep their default
    return i;
}

void interrupt_set_request(interrupt *i, rf_request *request) {
    pthread_mutex_lock(&i->lock);
    i->request = request;
    if (request && i->seen) rf_cancel(request); // the signal came while it was being submitted
    pthread_mutex_unlock(&i->lock);
}

void interrupt_set_bell(interrupt *i, int eventfd) {
    pthread_mutex_lock(&i->lock);
    i->bell = eventfd;
    pthread_mutex_unlock(&i->lock);
}

void interrupt_set_listening(interrupt *i, bool listening) {
    pthread_mutex_lock(&i->lock);
    i->listening = listening;
    pthread_mutex_unlock(&i->lock);
}

int interrupt_take(interrupt *i) {
    pthread_mutex_lock(&i->lock);
    int seen = i->seen;
    i->seen = 0;
    eventfd_t rings;
    if (poll(&(struct pollfd){.fd = i->bell, .events = POLLIN}, 1, 0) == 1) eventfd_read(i->bell, &rings);
    pthread_mutex_unlock(&i->lock);
    return seen;
}

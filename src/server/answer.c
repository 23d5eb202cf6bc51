// Implements answer.h.
//
// A slot is one request. `posted` keeps its node from being posted twice, and from being freed while the bell has it.
#include "server/answer.h"

#include <stdlib.h>

typedef struct slot {
    mail_node node;
    atomic_bool posted;
    bool ended;
    bell *bell;
    answer *answer; // NULL: the answer is gone, the bell frees the slot
    rf_request *request;
} slot;

struct answer {
    bell *bell;
    exchange *x; // NULL: nobody reads
    const answer_style *style;
    void *self;
    slot **slots; // [n]
    uint32_t n, n_ended;
    bool started, polling;
};

// The engine's thread.
static void on_notify(void *arg) {
    slot *s = arg;
    if (!atomic_exchange(&s->posted, true)) bell_post(s->bell, &s->node);
}

answer *answer_new(bell *b, exchange *x, const answer_style *style, void *self) {
    answer *a = xcalloc(1, sizeof *a);
    *a = (answer){.bell = b, .x = x, .style = style, .self = self};
    return a;
}

bool answer_submit(answer *a, rf_engine *engine, rf_params params, rf_error *error) {
    slot *s = xcalloc(1, sizeof *s);
    *s = (slot){.bell = a->bell, .answer = a};
    params.notify = on_notify, params.notify_arg = s;
    s->request = rf_submit(engine, &params, error);
    if (!s->request) return free(s), false;
    a->slots = xrealloc(a->slots, (a->n + 1) * sizeof *a->slots);
    a->slots[a->n++] = s;
    return true;
}

static void answer_free(answer *a) {
    for (uint32_t i = 0; i < a->n; i++) {
        slot *s = a->slots[i];
        rf_release(s->request); // it has ended, so no notify runs after this
        s->answer = NULL;
        if (!atomic_load(&s->posted)) free(s);
    }
    free(a->slots), free(a);
}

static void take_event(answer *a, uint32_t choice, const rf_event *event) {
    if (event->kind == RF_EVENT_TEXT) {
        if (a->x) a->style->piece(a->self, a->x, choice, event);
        return;
    }
    a->slots[choice]->ended = true, a->n_ended++;
    if (a->style->record) a->style->record(a->self, choice, event);
    if (a->x) a->style->ended(a->self, a->x, choice, event);
}

// Takes what there is, of the choices in turn, for as long as the client reads. Frees the answer after the last end.
static void drain(answer *a) {
    if (!a->started || a->polling) return; // a write that finds the client gone comes back here
    a->polling = true;
    for (uint32_t i = 0; i < a->n; i++) {
        rf_event event;
        while (!a->slots[i]->ended && (!a->x || exchange_writable(a->x)) && rf_poll(a->slots[i]->request, &event))
            take_event(a, i, &event);
    }
    a->polling = false;
    if (a->n_ended < a->n) return;
    a->style->finished(a->self, a->x);
    answer_free(a);
}

static void on_gone(void *arg) {
    answer *a = arg;
    a->x = NULL;
    answer_cancel(a);
    drain(a);
}

static void on_writable(void *arg) { drain(arg); }

void answer_start(answer *a) {
    a->started = true;
    exchange_on_gone(a->x, on_gone, a);
    exchange_on_writable(a->x, on_writable, a);
    drain(a);
}

void answer_refuse(answer *a) {
    a->started = true, a->x = NULL;
    answer_cancel(a);
    drain(a);
}

void answer_cancel(answer *a) {
    for (uint32_t i = 0; i < a->n; i++) rf_cancel(a->slots[i]->request);
}

uint32_t answer_n_choices(const answer *a) { return a->n; }

void answer_get_status(const answer *a, uint32_t choice, rf_status *status) {
    rf_get_status(a->slots[choice]->request, status);
}

void answer_bell(mail_node *node) {
    slot *s = mail_of(node, slot, node);
    atomic_store(&s->posted, false);
    if (!s->answer) return free(s);
    drain(s->answer);
}

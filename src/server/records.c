// Implements records.h: one list, newest first.
#include "server/records.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct records {
    records_options o;
    record *newest, *oldest;
    uint32_t n_finished;
};

static int64_t wall_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

records *records_new(const records_options *o) {
    records *r = xcalloc(1, sizeof *r);
    r->o = *o;
    return r;
}

static void unlink_record(records *r, record *c) {
    *(c->newer ? &c->newer->older : &r->newest) = c->older;
    *(c->older ? &c->older->newer : &r->oldest) = c->newer;
    free(c);
}

void records_free(records *r) {
    while (r->newest) {
        check(!r->newest->answer);
        unlink_record(r, r->newest);
    }
    free(r);
}

static void forget_old(records *r) {
    int64_t limit = wall_ms() - (int64_t)r->o.max_seconds * 1000;
    for (record *c = r->oldest, *newer; c; c = newer) {
        newer = c->newer;
        if (!c->ended_ms) continue;
        if (r->n_finished <= r->o.max_finished && c->ended_ms >= limit) continue;
        unlink_record(r, c);
        r->n_finished--;
    }
}

static uint64_t random_bits(void) {
    uint64_t bits;
    check(getrandom(&bits, sizeof bits, 0) == sizeof bits);
    return bits;
}

void record_make_id(char id[RECORD_ID_BYTES], const char *prefix) {
    snprintf(id, RECORD_ID_BYTES, "%s%016llx%016llx", prefix, (unsigned long long)random_bits(),
             (unsigned long long)random_bits());
}

record *record_new(records *r, const char *prefix, uint32_t owner, const char *route) {
    record *c = xcalloc(1, sizeof *c);
    *c = (record){.owner = owner, .route = route, .created_ms = wall_ms(), .created_us = clock_machine_us()};
    record_make_id(c->id, prefix);
    c->traced = (double)(random_bits() >> 11) * 0x1p-53 < r->o.trace_rate;
    c->older = r->newest;
    *(c->older ? &c->older->newer : &r->oldest) = c;
    r->newest = c;
    return c;
}

void record_add_end(record *c, const rf_event *event) {
    c->usage.completion_tokens += event->usage.completion_tokens;
    c->usage.prompt_tokens += event->usage.prompt_tokens;
    c->usage.cached_tokens += event->usage.cached_tokens;
    c->usage.draft_tokens += event->usage.draft_tokens;
    c->usage.accepted_tokens += event->usage.accepted_tokens;
    if (event->usage.queued_us > c->usage.queued_us) c->usage.queued_us = event->usage.queued_us;
    if (event->usage.prefill_us > c->usage.prefill_us) c->usage.prefill_us = event->usage.prefill_us;
    if (event->usage.decode_us > c->usage.decode_us) c->usage.decode_us = event->usage.decode_us;
    if (event->finish > c->finish) c->finish = event->finish;
    if (event->finish == RF_FINISH_ERROR) snprintf(c->error, sizeof c->error, "%s", event->error.message);
}

void record_finish(records *r, record *c) {
    c->answer = NULL;
    c->ended_ms = wall_ms();
    r->n_finished++;
    forget_old(r);
}

void record_drop(records *r, record *c) { unlink_record(r, c); }

record *records_find(records *r, const char *id, uint32_t owner) {
    forget_old(r);
    record *c = r->newest;
    while (c && (c->owner != owner || strcmp(c->id, id) != 0)) c = c->older;
    return c;
}

record *records_newest(records *r) {
    forget_old(r);
    return r->newest;
}

uint32_t records_n_live(const records *r, uint32_t owner) {
    uint32_t n = 0;
    for (const record *c = r->newest; c; c = c->older) n += !c->ended_ms && (owner == UINT32_MAX || c->owner == owner);
    return n;
}

// Records: what is known of each call that made the engine work: while it lives and for some time after.
//
// The loop's thread. Bounded in count and age: the oldest finished one goes first; a live one never goes. An id is
// unguessable, and a call of another key is as unknown as one that never was.
#pragma once

#include "server/answer.h"

enum { RECORD_ID_BYTES = 48 };

typedef struct record {
    struct record *newer, *older;
    char id[RECORD_ID_BYTES];
    char client_id[72]; // what the client called it; "": nothing
    uint32_t owner;     // of the key; 0: no keys are used
    answer *answer;     // NULL: it has ended
    const char *route;
    int64_t created_ms, ended_ms; // since 1970
    int64_t created_us, first_us; // CLOCK_MONOTONIC; first_us 0: no token came
    bool traced;

    // after the end; of all choices together
    rf_finish finish; // the worst of them
    char error[320];
    rf_usage usage;
} record;

typedef struct records records;

typedef struct records_options {
    uint32_t max_finished; // 1000
    uint32_t max_seconds;  // 600
    double trace_rate;     // share of calls that /traces shows
} records_options;

records *records_new(const records_options *o);
void records_free(records *r);                                     // none may be live
void record_make_id(char id[RECORD_ID_BYTES], const char *prefix); // prefix, and 32 random hexadecimal digits
record *record_new(records *r, const char *prefix, uint32_t owner, const char *route);
// One choice has ended: counts are added; the record keeps the most telling finish.
void record_add_end(record *c, const rf_event *event);
void record_finish(records *r, record *c);                        // all have; it may be forgotten from now on
void record_drop(records *r, record *c);                          // none was accepted: it is forgotten
record *records_find(records *r, const char *id, uint32_t owner); // NULL if there is none
record *records_newest(records *r);                               // then ->older
uint32_t records_n_live(const records *r, uint32_t owner);        // UINT32_MAX: of all

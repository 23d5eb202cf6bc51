// Implements stream.h in two stages: bytes become characters, characters pass the stop matchers (Knuth-Morris-Pratt,
// one per stop string) on their way into `text`.
//
// Invariant between calls: text[0, n_shown) has been handed out; text[n_shown, n_text) is held back and is exactly the
// longest suffix that begins some stop string; part[0, n_part) begins a character.
// The stop string that ends first wins, of several that end together the longest. A stop string that is not UTF-8 can
// never occur in text and is ignored.
#include "text/stream.h"

#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct stop {
    char *text;
    uint32_t *border; // [n_bytes]: of text[0..i], the longest proper prefix that is also a suffix
    size_t n_bytes, n_matched;
} stop;

struct text_stream {
    char *text;
    size_t n_text, n_shown, capacity;
    char part[4];
    size_t n_part;
    bool ended;
    size_t n_stops;
    stop stops[];
};

static uint32_t stop_step(const stop *s, size_t n_matched, char byte) {
    while (n_matched > 0 && s->text[n_matched] != byte) n_matched = s->border[n_matched - 1];
    return (uint32_t)(n_matched + (s->text[n_matched] == byte));
}

static void stop_init(stop *s, const char *text, size_t n_bytes) {
    *s = (stop){.text = xstrdup(text), .border = xcalloc(n_bytes, sizeof *s->border), .n_bytes = n_bytes};
    for (size_t i = 1; i < n_bytes; i++) s->border[i] = stop_step(s, s->border[i - 1], text[i]);
}

text_stream *text_stream_new(const char *const *stops, size_t n_stops) {
    text_stream *s = xcalloc(1, sizeof *s + n_stops * sizeof s->stops[0]);
    for (size_t i = 0; i < n_stops; i++) {
        size_t n_bytes = strlen(stops[i]);
        if (n_bytes == 0 || utf8_validate(stops[i], n_bytes) < n_bytes) continue;
        stop_init(&s->stops[s->n_stops++], stops[i], n_bytes);
    }
    return s;
}

void text_stream_free(text_stream *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_stops; i++) {
        free(s->stops[i].text);
        free(s->stops[i].border);
    }
    free(s->text);
    free(s);
}

// One more character. When it completes a stop string, that string is taken back out and the stream ends.
static void add_char(text_stream *s, const char *bytes, size_t n_bytes) {
    memcpy(s->text + s->n_text, bytes, n_bytes);
    s->n_text += n_bytes;
    size_t n_cut = 0;
    for (size_t i = 0; i < s->n_stops; i++) {
        stop *t = &s->stops[i];
        for (size_t k = 0; k < n_bytes; k++) t->n_matched = stop_step(t, t->n_matched, bytes[k]);
        if (t->n_matched == t->n_bytes && t->n_bytes > n_cut) n_cut = t->n_bytes;
    }
    s->n_text -= n_cut;
    s->ended = n_cut > 0;
}

static const char replacement[3] = "\xef\xbf\xbd"; // U+FFFD

// Moves what is complete or hopeless out of part.
static void drain_part(text_stream *s) {
    while (s->n_part > 0 && !s->ended) {
        utf8_step step = utf8_next(s->part, s->n_part);
        if (step.kind == UTF8_PART) return;
        if (step.kind == UTF8_CHAR)
            add_char(s, s->part, step.n_bytes);
        else
            add_char(s, replacement, sizeof replacement);
        s->n_part -= step.n_bytes;
        memmove(s->part, s->part + step.n_bytes, s->n_part);
    }
}

// What was handed out last time is no longer needed; every input byte can become at most one replacement.
static void make_room(text_stream *s, size_t n_bytes) {
    s->n_text -= s->n_shown;
    if (s->n_text > 0) memmove(s->text, s->text + s->n_shown, s->n_text);
    s->n_shown = 0;
    size_t wanted = s->n_text + sizeof replacement * (n_bytes + sizeof s->part);
    if (wanted <= s->capacity) return;
    s->capacity = wanted * 2;
    s->text = xrealloc(s->text, s->capacity);
}

static const char *show(text_stream *s, size_t n_held, size_t *n_out) {
    s->n_shown = *n_out = s->n_text - n_held;
    return s->text;
}

const char *text_stream_push(text_stream *s, const char *bytes, size_t n_bytes, size_t *n_out, bool *stopped) {
    make_room(s, n_bytes);
    for (size_t i = 0; i < n_bytes && !s->ended; i++) {
        s->part[s->n_part++] = bytes[i];
        drain_part(s);
    }
    size_t n_held = 0;
    for (size_t i = 0; i < s->n_stops && !s->ended; i++)
        if (s->stops[i].n_matched > n_held) n_held = s->stops[i].n_matched;
    *stopped = s->ended;
    return show(s, n_held, n_out);
}

const char *text_stream_finish(text_stream *s, size_t *n_out) {
    make_room(s, 0);
    if (s->n_part > 0 && !s->ended) add_char(s, replacement, sizeof replacement);
    s->ended = true;
    return show(s, 0, n_out);
}

// ChatML: how the default model's chat template writes a conversation, in C: "<|im_start|>role\ncontent<|im_end|>\n"
// per message, and the template's own system message first when the conversation brings none.
//
// It renders the plain template only; one that does more (edits contents, hides thoughts) is refused, not approximated.
// Control tokens are given out apart from text, so that a user who types "<|im_end|>" has typed ten characters.
#pragma once

#include "base/err.h"

#include <jansson.h>

typedef struct chatml {
    char *default_system; // heap; NULL: the template has none
} chatml;

typedef void chatml_emit(void *arg, const char *text, size_t n_bytes, bool control);

bool chatml_init(chatml *c, const char *chat_template, err *e); // of the model file; NULL: it has none
void chatml_free(chatml *c);

// messages: an array of {"role", "content"} strings. Ends where the assistant's next answer begins.
void chatml_render(const chatml *c, const json_t *messages, chatml_emit *emit, void *arg);

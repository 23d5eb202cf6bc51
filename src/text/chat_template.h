// Chat template: a conversation as the prompt that a model was trained on, written by the model's own template.
//
// Immutable once opened; any threads may render. A template that cannot be parsed is kept with its error, which every
// render then gives: a model is good for other things than chat. Nothing is taken for granted: without a template there
// is no conversation, and without a date there is no strftime_now.
#pragma once

#include "text/jinja.h"
#include "text/vocab.h"

typedef struct chat_template chat_template;

// Copies the text, and the texts of the tokens bos and eos for the template's bos_token and eos_token.
chat_template *chat_template_open(const char *text, const vocab *v);
void chat_template_close(chat_template *t); // t may be NULL

// request: the JSON object that rf_chat_render describes. Fills *out (zero before) as jinja_render does: what came with
// the request is data, but for roles that all templates know. Messages are rid of members that are null (their content
// apart) first, as in transformers.
bool chat_template_render(const chat_template *t, const json_t *request, jinja_text *out, err *e);

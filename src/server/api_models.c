// OpenAI's models. https://platform.openai.com/docs/api-reference/models
#include "server/call.h"
#include "server/json.h"

#include <string.h>

static void put_model(const server *s, buf *b) {
    buf_append_str(b, "{\"id\":");
    json_put_text(b, s->model_id, strlen(s->model_id));
    buf_printf(b, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"rocmforge\"}", (long long)s->started_s);
}

void openai_models(call *c) {
    buf b = {0};
    buf_append_str(&b, "{\"object\":\"list\",\"data\":[");
    put_model(c->s, &b);
    buf_append_str(&b, "]}\n");
    call_reply_json(c, 200, &b);
}

void openai_model(call *c) {
    problem p = {0};
    if (!call_knows_model(c, c->parameter, &p)) return call_fail(c, &p);
    buf b = {0};
    put_model(c->s, &b);
    buf_append_char(&b, '\n');
    call_reply_json(c, 200, &b);
}

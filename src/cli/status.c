// rocmforge status and rocmforge cancel: a running server, or one of its requests, looked at or stopped from outside.
#include "cli/cli.h"
#include "cli/remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct args {
    remote_options where;
    const char *id; // NULL: the server itself
    bool json;
} args;

static const struct argp_option OPTIONS[] = {{"json", 'j', NULL, 0, "print one JSON object", 0}, {0}};
static const struct argp_child CHILDREN[] = {{&REMOTE_ARGP, 0, "Server:", 1}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return state->child_inputs[0] = &a->where, 0;
    case 'j':
        return a->json = true, 0;
    case ARGP_KEY_ARG:
        if (a->id) argp_error(state, "unexpected argument '%s'; one ID is enough", arg);
        return a->id = arg, 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_text(const json_t *text) {
    const char *s = json_string_value(text);
    cli_print_text(stdout, s ? s : "?", s ? strlen(s) : 1, 100);
}

static void print_json(const json_t *root) {
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
}

// ---- one request -------------------------------------------------------------------------------------------------

static void print_request(const json_t *root) {
    const json_t *usage = json_object_get(root, "usage"), *counts = usage ? usage : root;
    print_text(json_object_get(root, "id"));
    fputs(": ", stdout);
    print_text(json_object_get(root, usage ? "finish_reason" : "state"));
    printf(", prompt %lld tokens, answer %lld tokens\n",
           (long long)json_integer_value(json_object_get(counts, "prompt_tokens")),
           (long long)json_integer_value(json_object_get(counts, "completion_tokens")));
}

// The id as one segment of a path (RFC 3986, section 2.3); the heap's.
static char *path_of(const char *route, const char *id) {
    buf b = {0};
    buf_append_str(&b, route);
    for (const char *s = id; *s; s++) {
        bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '-';
        buf_printf(&b, plain ? "%c" : "%%%02X", (unsigned char)*s);
    }
    return buf_take(&b);
}

static json_t *ask(const remote *r, const char *path, const char *body, err *e) { // NULL: no success
    remote_reply reply;
    json_t *root = NULL;
    if (remote_ask(r, path, body, &reply, e) && (reply.status == 200 || remote_refused(r, &reply, e))) {
        root = json_loadb(reply.body.data ? reply.body.data : "", reply.body.n_bytes, 0, NULL);
        if (!root) fail(e, ERR_FORMAT, "%s did not answer with JSON", remote_name(r));
    }
    remote_reply_free(&reply);
    return root;
}

static bool tell_request(const remote *r, const args *a, const char *route, const char *body, err *e) {
    char *path = path_of(route, a->id);
    json_t *root = ask(r, path, body, e);
    free(path);
    if (root && a->json) print_json(root);
    if (root && !a->json) print_request(root);
    json_decref(root);
    return root != NULL;
}

// ---- the server --------------------------------------------------------------------------------------------------

// "status" of /health or /ready: a 503 has one too.
static json_t *state_of(const remote *r, const char *path, err *e) {
    remote_reply reply;
    json_t *root = NULL, *state = NULL;
    if (remote_ask(r, path, NULL, &reply, e)) {
        root = json_loadb(reply.body.data ? reply.body.data : "", reply.body.n_bytes, 0, NULL);
        state = json_incref(json_object_get(root, "status"));
        if (!json_is_string(state)) remote_refused(r, &reply, e);
    }
    json_decref(root);
    remote_reply_free(&reply);
    return state;
}

static const char *const NUMBERS[] = {"requests_running", "requests_queued", "kv_pages", "kv_pages_used",
                                      "kv_pages_cached"};
enum { N_NUMBERS = sizeof NUMBERS / sizeof *NUMBERS };

// A line of Prometheus' text format that has no labels.
static json_int_t number_of(const char *metrics, const char *name) {
    char start[64];
    snprintf(start, sizeof start, "\nrocmforge_%s ", name);
    const char *line = strstr(metrics, start);
    return line ? strtoll(line + strlen(start), NULL, 10) : 0;
}

static bool add_numbers(const remote *r, json_t *root, err *e) {
    remote_reply reply;
    bool good = remote_ask(r, "/metrics", NULL, &reply, e) && (reply.status == 200 || remote_refused(r, &reply, e));
    for (int i = 0; i < N_NUMBERS && good; i++)
        json_object_set_new(root, NUMBERS[i], json_integer(number_of(reply.body.data, NUMBERS[i])));
    remote_reply_free(&reply);
    return good;
}

static void print_server(const json_t *root) {
    fputs("health ", stdout), print_text(json_object_get(root, "health"));
    fputs(", ", stdout), print_text(json_object_get(root, "ready"));
    putchar('\n');
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(root, "models"), i, model) {
        fputs("model ", stdout), print_text(json_object_get(model, "id"));
        fputs(": ", stdout), print_text(json_object_get(model, "architecture"));
        printf(", context %lld tokens, %lld threads, ",
               (long long)json_integer_value(json_object_get(model, "context")),
               (long long)json_integer_value(json_object_get(model, "threads")));
        print_text(json_object_get(model, "isa"));
        putchar('\n');
    }
    long long n[N_NUMBERS];
    for (i = 0; i < N_NUMBERS; i++) n[i] = json_integer_value(json_object_get(root, NUMBERS[i]));
    if (json_object_get(root, "models"))
        printf("requests: %lld running, %lld queued\nKV pages: %lld, %lld used, %lld cached\n", n[0], n[1], n[2], n[3],
               n[4]);
}

// *good: it is ready and healthy.
static bool tell_server(const remote *r, bool as_json, bool *good, err *e) {
    json_t *root = json_object(), *health = state_of(r, "/health", e),
           *ready = health ? state_of(r, "/ready", e) : NULL;
    bool told = ready != NULL, is_ready = told && strcmp(json_string_value(ready), "ready") == 0;
    *good = is_ready && strcmp(json_string_value(health), "ok") == 0;
    json_object_set_new(root, "health", health);
    json_object_set_new(root, "ready", ready);
    if (is_ready) {
        json_t *models = ask(r, "/models", NULL, e);
        told = models && add_numbers(r, root, e);
        if (models) json_object_set(root, "models", json_object_get(models, "models"));
        json_decref(models);
    }
    if (told && as_json) print_json(root);
    if (told && !as_json) print_server(root);
    json_decref(root);
    return told;
}

// ---- the commands ------------------------------------------------------------------------------------------------

int cmd_status(int argc, char **argv) {
    args a = {0};
    static const struct argp argp = {
        OPTIONS,
        parse,
        "[ID]",
        "Show how a running server is, or how far one of its requests.\vExit status: 0 ready and healthy (with ID: the "
        "request is known), 1 not, 2 usage.",
        CHILDREN,
        NULL,
        NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    err e = {0};
    bool good = true;
    remote *r = remote_open(&a.where, &e);
    bool told = r && (a.id ? tell_request(r, &a, "/status/", NULL, &e) : tell_server(r, a.json, &good, &e));
    remote_close(r);
    if (!told) return cli_fail((int)e.code, e.text);
    return good ? CLI_OK : CLI_FAILURE;
}

int cmd_cancel(int argc, char **argv) {
    args a = {0};
    static const struct argp argp = {OPTIONS,
                                     parse,
                                     "ID",
                                     "Cancel a request of a running server. To cancel what has ended is no "
                                     "failure.\vExit status: 0 done, 1 there is "
                                     "no such request, 2 usage.",
                                     CHILDREN,
                                     NULL,
                                     NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    err e = {0};
    if (!a.id) return cli_fail(ERR_USAGE, "the ID of a request is needed");
    remote *r = remote_open(&a.where, &e);
    bool told = r && tell_request(r, &a, "/cancel/", "{}", &e);
    remote_close(r);
    return told ? CLI_OK : cli_fail((int)e.code, e.text);
}

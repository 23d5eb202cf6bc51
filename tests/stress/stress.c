// Stress: the public API under real threads, in every order; made to be run under tsan and asan.
//
// Rounds of a fraction of a second. In each, engines with a thread of their own, a real pool of two and the fake
// forward of world.h are opened and closed at any moment, while clients submit, poll, wait, cancel, ask for status,
// retain, release, hand requests to one another, and walk away. Handles outlive engines. Every answer is compared with
// the request alone; every accepted request must end once; an engine that ends must have no page in use and as many
// ends as it accepted requests; after a round the process has the threads it began with. The main thread keeps the
// engines: a client uses one only under its door's read lock, so that it is not freed then, but it may be shut or full.
#include "engine/world.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>

enum {
    N_KINDS = 64,
    N_CTX = 6 * KV_PAGE_TOKENS,
    N_CLIENTS = 4,
    N_HOUSES = 2, // engines at a time
    N_OWN = 8,    // requests that a client reads at a time
    N_BOARD = 8,  // requests and handles between clients
    MAX_QUEUE = 8,
    MAX_RUNNING = 6,
    ROUND_MS = 150,
    PATIENCE_SECONDS = 60 // for a round
};

typedef struct kind { // what may be asked
    rf_params params;
    int32_t prompt[N_CTX];
    const char *stop;
    answer solo;
} kind;

typedef struct house { // where an engine lives, one after another
    pthread_rwlock_t lock;
    rf_engine *engine;           // NULL: between two
    world worlds[2];             // one per worker
    pool *pool;                  // the engine's
    uint64_t generation;         // number of this engine
    _Atomic uint64_t n_accepted; // by this engine
    _Atomic uint64_t closing;    // engines up to this one are stopping or gone
} house;

// One accepted request. It lives until its last holder has released the handle: after that, no notify may come.
typedef struct ask {
    rf_request *request;
    const kind *kind;
    house *house;
    uint64_t generation;
    atomic_uint n_holders, n_notified;
    atomic_bool cancelled;
    bool timed;
    answer answer; // its reader's
} ask;

typedef struct totals {
    atomic_ullong n_rounds, n_engines, n_asks, n_ends[RF_FINISH_ERROR + 1], n_left, n_busy, n_stopped;
    uint64_t n_preempted, n_guessed; // of the engines that were looked at after their end
} totals;

typedef struct stress {
    world world; // whose vocabulary all share
    kind kinds[N_KINDS];
    house houses[N_HOUSES];
    pthread_mutex_t board_lock;
    ask *requests[N_BOARD]; // to be read on by whoever takes them
    ask *handles[N_BOARD];  // one more hold of a request that another reads
    atomic_bool over;       // the round
    totals totals;
} stress;

typedef struct client {
    stress *stress;
    pthread_t thread;
    uint64_t seed, n_drawn;
    ask *own[N_OWN]; // that it reads
} client;

static uint32_t below(client *c, uint32_t n) { return (uint32_t)(mix(c->seed, c->n_drawn++) % n); }
static bool chance(client *c, uint32_t percent) { return below(c, 100) < percent; }

// ---- kinds of requests -------------------------------------------------------------------------------------------

static void kind_init(stress *s, uint32_t number) {
    client dice = {.seed = number};
    kind *k = &s->kinds[number];
    uint32_t n_prompt = 1 + below(&dice, chance(&dice, 60) ? 40 : N_CTX - 1), family = below(&dice, 3);
    for (uint32_t i = 0; i < n_prompt; i++) k->prompt[i] = (int32_t)(mix(family, i) % 256);
    k->prompt[n_prompt - 1] = (int32_t)below(&dice, 256);
    if (chance(&dice, 5)) k->prompt[0] = WORLD_POISON;
    if (chance(&dice, 50) && n_prompt > 1) k->prompt[1] = WORLD_ECHO;
    rf_params *p = &k->params;
    *p = rf_params_default();
    p->prompt_tokens = k->prompt, p->n_prompt_tokens = n_prompt;
    p->max_tokens = chance(&dice, 10) ? 0 : 1 + below(&dice, 30);
    p->seed = number, p->ignore_eos = chance(&dice, 70), p->temperature = chance(&dice, 50) ? 0 : 0.9f;
    p->logprobs = chance(&dice, 30), p->n_logprobs = p->logprobs ? below(&dice, 4) : 0;
    p->embed = chance(&dice, 15) ? (rf_embed)(1 + below(&dice, 2)) : RF_EMBED_NONE;
    if (p->logprobs && !p->embed) p->score = (rf_score)below(&dice, 3);
    k->stop = "\xEF\xBF\xBD\xEF\xBF\xBD", p->stop = &k->stop, p->n_stop = chance(&dice, 20);
    rf_params alone = *p;
    uint32_t room = N_CTX - n_prompt; // alone, the context is larger
    if (!alone.max_tokens || alone.max_tokens > room) alone.max_tokens = room;
    world_solo(&s->world, &alone, &k->solo);
}

static void check_answer(const ask *a) {
    const answer *got = &a->answer, *solo = &a->kind->solo;
    rf_finish finish = got->end.finish;
    check(got->n_tokens <= solo->n_tokens && !memcmp(got->tokens, solo->tokens, got->n_tokens * sizeof *got->tokens));
    check(got->end.usage.completion_tokens == got->n_tokens);
    if (finish == RF_FINISH_CANCELLED) {
        check(a->cancelled || a->house->closing >= a->generation);
    } else if (finish == RF_FINISH_TIMEOUT) {
        check(a->timed);
    } else {
        check(finish == solo->end.finish && got->n_tokens == solo->n_tokens && got->n_bytes == solo->n_bytes);
        check(!memcmp(got->text, solo->text, got->n_bytes));
        check(got->n_scored == solo->n_scored && got->n_embedding == solo->n_embedding);
        check(!memcmp(got->embedding, solo->embedding, sizeof got->embedding));
    }
}

// ---- a client ----------------------------------------------------------------------------------------------------

static void notified(void *arg) {
    ask *a = arg;
    check(a->n_holders > 0);
    a->n_notified++;
}

// The last hold of an unfinished request cancels it.
static void ask_drop(ask *a) {
    rf_release(a->request);
    if (atomic_fetch_sub(&a->n_holders, 1) == 1) free(a);
}

// Under the house's lock.
static ask *ask_new(client *c, house *h) {
    stress *s = c->stress;
    ask *a = xcalloc(1, sizeof *a);
    *a = (ask){.kind = &s->kinds[below(c, N_KINDS)], .house = h, .generation = h->generation, .n_holders = 1};
    rf_params p = a->kind->params;
    p.priority = (int32_t)below(c, 3);
    if (chance(c, 10)) a->timed = true, p.timeout_ms = 1 + below(c, 20);
    if (chance(c, 60)) p.notify = notified, p.notify_arg = a;
    rf_error error = {0};
    if ((a->request = rf_submit(h->engine, &p, &error))) {
        h->n_accepted++;
        s->totals.n_asks++;
        return a;
    }
    check(error.code == RF_ERR_BUSY || (error.code == RF_ERR_STOPPED && h->closing == h->generation));
    error.code == RF_ERR_BUSY ? s->totals.n_busy++ : s->totals.n_stopped++;
    free(a);
    return NULL;
}

static void do_submit(client *c, ask **own) {
    house *h = &c->stress->houses[below(c, N_HOUSES)];
    pthread_rwlock_rdlock(&h->lock);
    if (h->engine) *own = ask_new(c, h);
    pthread_rwlock_unlock(&h->lock);
    if (!*own && chance(c, 50)) usleep(below(c, 200));
}

static void do_status(const ask *a, bool ended) {
    rf_status status;
    rf_get_status(a->request, &status);
    check(status.n_prompt == a->kind->params.n_prompt_tokens);
    check(status.state == RF_DONE ? status.finish != RF_FINISH_NONE : status.finish == RF_FINISH_NONE && !ended);
    check(status.n_prompt + status.n_generated <= N_CTX);
}

// The end has come: nothing may come after it.
static void finish(client *c, ask **own) {
    ask *a = *own;
    rf_event event;
    check(!rf_poll(a->request, &event) && !rf_wait(a->request, &event, -1));
    do_status(a, true);
    check_answer(a);
    c->stress->totals.n_ends[a->answer.end.finish]++;
    if (chance(c, 20)) rf_cancel(a->request);
    ask_drop(a);
    *own = NULL;
}

static void do_read(client *c, ask **own, int timeout_ms) {
    ask *a = *own;
    rf_event event;
    if (!(timeout_ms ? rf_wait(a->request, &event, timeout_ms) : rf_poll(a->request, &event))) return;
    answer_add(&a->answer, &event);
    if (event.kind == RF_EVENT_END) finish(c, own);
}

static void do_cancel(ask *a) {
    a->cancelled = true;
    rf_cancel(a->request);
}

static void do_leave(client *c, ask **own) {
    c->stress->totals.n_left++;
    ask_drop(*own);
    *own = NULL;
}

static ask *exchange(client *c, ask **board, ask *mine) {
    pthread_mutex_lock(&c->stress->board_lock);
    ask **at = &board[below(c, N_BOARD)], *theirs = *at;
    *at = mine;
    pthread_mutex_unlock(&c->stress->board_lock);
    return theirs;
}

// One more hold for somebody else, against one of somebody else's.
static void do_share(client *c, ask *a) {
    a->n_holders++;
    rf_retain(a->request);
    ask *other = exchange(c, c->stress->handles, a);
    if (!other) return;
    if (chance(c, 30)) do_cancel(other);
    if (chance(c, 70)) do_status(other, false);
    ask_drop(other);
}

static void do_look(client *c) {
    house *h = &c->stress->houses[below(c, N_HOUSES)];
    pthread_rwlock_rdlock(&h->lock);
    if (h->engine) {
        rf_stats stats;
        rf_get_stats(h->engine, &stats);
        check(stats.n_pages_used <= stats.n_pages && stats.n_queued <= MAX_QUEUE + MAX_RUNNING);
        int32_t ids[32];
        check(rf_tokenize(h->engine, "as others do", 12, false, ids, 32, NULL) > 0);
    }
    pthread_rwlock_unlock(&h->lock);
}

static void act_on(client *c, ask **own) {
    switch (below(c, 12)) {
    case 0:
        return do_read(c, own, -1);
    case 1:
    case 2:
        return do_read(c, own, 1 + (int)below(c, 3));
    case 3:
        return do_cancel(*own);
    case 4:
        return do_status(*own, false);
    case 5:
        return do_leave(c, own);
    case 6:
        *own = exchange(c, c->stress->requests, *own); // each reads on where the other was
        return;
    case 7:
        return do_share(c, *own);
    default:
        return do_read(c, own, 0);
    }
}

static void *client_main(void *arg) {
    client *c = arg;
    while (!c->stress->over) {
        ask **own = &c->own[below(c, N_OWN)];
        if (*own)
            act_on(c, own);
        else
            do_submit(c, own);
        if (chance(c, 5)) do_look(c);
        if (chance(c, 5)) usleep(below(c, 500));
    }
    for (uint32_t i = 0; i < N_OWN; i++) {
        while (c->own[i] && chance(c, 95)) do_read(c, &c->own[i], -1);
        if (c->own[i]) do_leave(c, &c->own[i]);
    }
    return NULL;
}

// ---- the keeper of the engines -----------------------------------------------------------------------------------

typedef struct share { // of a step
    house *house;
    const step *step;
} share;

static void run_share(void *arg, int worker) {
    const share *all = arg;
    const step *s = all->step;
    float *logits = s->logits, *hidden = s->hidden;
    for (uint32_t i = 0; i < s->n_seqs; i++) {
        step one = {.seqs = &s->seqs[i], .n_seqs = 1, .kv = s->kv, .logits = logits, .hidden = hidden};
        if (i % 2 == (uint32_t)worker) world_run(&all->house->worlds[worker], &one);
        logits += s->seqs[i].n_logits * WORLD_STRIDE;
        hidden += s->seqs[i].n_hidden * WORLD_HIDDEN_STRIDE;
    }
}

static void house_run(void *self, const step *s) {
    share all = {self, s};
    pool_run(all.house->pool, run_share, &all);
}

static void house_close_pool(void *self) { pool_free(((house *)self)->pool); }

static void open_engine(client *c, house *h) {
    err e = {0};
    h->pool = pool_new(2, &e);
    if (!h->pool) fail_msg("%s", e.text);
    uint32_t max_running = 1 + below(c, MAX_RUNNING);
    engine_config limits = {.forward = {.self = h, .run = house_run, .close = house_close_pool},
                            .clock = &clock_machine,
                            .info.n_ctx = N_CTX,
                            .n_pages = N_CTX / KV_PAGE_TOKENS + below(c, 8),
                            .max_running = max_running,
                            .max_queue = 1 + below(c, MAX_QUEUE),
                            .step_tokens = max_running + below(c, 60),
                            .speculate = chance(c, 40) ? 0 : 1 + below(c, 8)};
    engine *g = world_engine(&c->stress->world, limits);
    if (!engine_start(g, &e)) fail_msg("%s", e.text);
    c->stress->totals.n_engines++;
    pthread_rwlock_wrlock(&h->lock);
    h->engine = g;
    h->generation++;
    h->n_accepted = 0;
    pthread_rwlock_unlock(&h->lock);
}

// Nobody uses the engine any more; requests of it may be held.
static rf_engine *empty(house *h) {
    pthread_rwlock_wrlock(&h->lock);
    rf_engine *g = h->engine;
    h->engine = NULL;
    pthread_rwlock_unlock(&h->lock);
    return g;
}

// As the server does: whoever comes while it stops is refused. Everything accepted has ended, and nothing is left.
static void stop_engine(totals *t, house *h, int drain_ms) {
    engine_shut(h->engine, drain_ms);
    engine_join(h->engine);
    engine *g = empty(h);
    engine_check(g);
    check(pages_used(g) == 0);
    rf_stats stats;
    rf_get_stats(g, &stats);
    uint64_t n_ended = 0;
    for (int i = 0; i <= RF_FINISH_ERROR; i++) n_ended += stats.n_ended[i];
    check(n_ended == h->n_accepted && stats.n_queued == 0 && stats.n_running == 0);
    t->n_preempted += stats.n_preempted, t->n_guessed += stats.accepted_tokens;
    engine_free(g);
}

static void close_engine(client *c, house *h) {
    int drain_ms = chance(c, 50) ? 0 : (int)below(c, 30);
    h->closing = h->generation;
    if (chance(c, 70))
        stop_engine(&c->stress->totals, h, drain_ms);
    else
        rf_engine_close(empty(h), drain_ms);
}

static uint32_t n_threads(void) {
    uint32_t n = 0;
    DIR *tasks = opendir("/proc/self/task");
    check(tasks);
    for (struct dirent *d; (d = readdir(tasks));) n += d->d_name[0] != '.';
    closedir(tasks);
    return n;
}

static void *nothing(void *arg) { return arg; }

// Those that stay: a sanitizer may have one of its own, from the first pthread_create on.
static uint32_t n_threads_idle(void) {
    pthread_t thread;
    check(!pthread_create(&thread, NULL, nothing, NULL));
    pthread_join(thread, NULL);
    usleep(100000);
    return n_threads();
}

// A joined thread may be seen for a moment more.
static void check_threads(uint32_t n) {
    for (int i = 0; n_threads() != n; i++) {
        check(i < 5000);
        usleep(1000);
    }
}

static void clear_board(stress *s) {
    for (uint32_t i = 0; i < N_BOARD; i++) {
        pthread_mutex_lock(&s->board_lock);
        ask *request = s->requests[i], *handle = s->handles[i];
        s->requests[i] = s->handles[i] = NULL;
        pthread_mutex_unlock(&s->board_lock);
        if (request) ask_drop(request);
        if (handle) ask_drop(handle);
    }
}

// Handles outlive the engines, or the engines the handles.
static void run_round(stress *s, uint64_t seed) {
    client clients[N_CLIENTS] = {0}, keeper = {.stress = s, .seed = seed};
    alarm(PATIENCE_SECONDS);
    s->over = false;
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        clients[i].stress = s, clients[i].seed = mix(seed, i);
        check(!pthread_create(&clients[i].thread, NULL, client_main, &clients[i]));
    }
    for (int64_t until = clock_machine_us() + ROUND_MS * 1000; clock_machine_us() < until;) {
        house *h = &s->houses[below(&keeper, N_HOUSES)];
        if (!h->engine)
            open_engine(&keeper, h);
        else if (chance(&keeper, 50))
            close_engine(&keeper, h);
        usleep(below(&keeper, 15000));
    }
    s->over = true;
    bool early = chance(&keeper, 50);
    for (uint32_t i = 0; early && i < N_HOUSES; i++)
        if (s->houses[i].engine) close_engine(&keeper, &s->houses[i]);
    if (chance(&keeper, 50)) clear_board(s);
    for (uint32_t i = 0; i < N_CLIENTS; i++) pthread_join(clients[i].thread, NULL);
    for (uint32_t i = 0; !early && i < N_HOUSES; i++)
        if (s->houses[i].engine) close_engine(&keeper, &s->houses[i]);
    clear_board(s);
    s->totals.n_rounds++;
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static void stress_open(stress *s) {
    world_open(&s->world);
    for (uint32_t i = 0; i < N_KINDS; i++) kind_init(s, i);
    pthread_mutex_init(&s->board_lock, NULL);
    for (uint32_t i = 0; i < N_HOUSES; i++) {
        pthread_rwlock_init(&s->houses[i].lock, NULL);
        s->houses[i].worlds[0] = s->houses[i].worlds[1] = s->world;
    }
}

static void stress_close(stress *s) {
    for (uint32_t i = 0; i < N_HOUSES; i++) pthread_rwlock_destroy(&s->houses[i].lock);
    pthread_mutex_destroy(&s->board_lock);
    world_close(&s->world);
}

static void tell_totals(const totals *t, double seconds) {
    printf("stress: %.1f s, %llu rounds, %llu engines, %llu requests; ends:", seconds, t->n_rounds, t->n_engines,
           t->n_asks);
    for (int i = RF_FINISH_STOP; i <= RF_FINISH_ERROR; i++)
        printf(" %s %llu", rf_finish_name((rf_finish)i), t->n_ends[i]);
    printf("; left before %llu; refused: busy %llu, stopping %llu; more than %llu preempted, %llu guessed\n", t->n_left,
           t->n_busy, t->n_stopped, (unsigned long long)t->n_preempted, (unsigned long long)t->n_guessed);
}

static void hangs(int signal) {
    (void)signal;
    static const char words[] = "stress: the round does not end\n";
    (void)!write(2, words, sizeof words - 1);
    abort();
}

int main(int argc, char **argv) {
    uint64_t seed = 1, seconds = 15;
    for (int i = 1; i < argc; i++) {
        uint64_t *number = !strcmp(argv[i], "--seed") ? &seed : !strcmp(argv[i], "--seconds") ? &seconds : NULL;
        if (!number || ++i == argc) return fprintf(stderr, "usage: stress [--seconds N] [--seed S]\n"), 2;
        *number = strtoull(argv[i], NULL, 10);
    }
    stress *s = xcalloc(1, sizeof *s);
    signal(SIGALRM, hangs);
    stress_open(s);
    uint32_t n_before = n_threads_idle();
    int64_t began = clock_machine_us();
    for (uint64_t round = 0; clock_machine_us() < began + (int64_t)seconds * 1000000; round++) {
        run_round(s, mix(seed, round));
        check_threads(n_before);
    }
    alarm(0);
    tell_totals(&s->totals, (double)(clock_machine_us() - began) * 1e-6);
    stress_close(s);
    free(s);
    return 0;
}

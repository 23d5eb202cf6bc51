// Sim: random schedules of requests against the real scheduler, KV and engine, single-threaded and replayable.
//
// A schedule is a function of its seed: limits of the engine, arrivals, cancels, releases, timeouts, faults, the clock,
// the stop. After every engine_step all invariants are recomputed; every request must get its one END, for a cause that
// it had; every token must be what the same request gets alone (world.h: the fake forward reads its hashes back through
// the page tables, so a wrong page is a wrong answer); every prompt token taken from the cache must have been read by
// another request, of the same salt, that did not fail. One process per core, or --jobs of them; a schedule that fails
// ends its process, and the parent names the seed. With one seed the schedule is also told, line by line.
#include "engine/world.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum {
    N_CTX = 4 * KV_PAGE_TOKENS,
    KINDS = 512, // different requests; each one's solo answer is found once per process
    MAX_ASKS = 24,
    HEALTHY = 40,         // a poisoned prompt fails once it has this many tokens
    PATIENCE_SECONDS = 30 // for one schedule
};

typedef struct kind { // what is asked, apart from when and how urgently
    rf_params params;
    int32_t prompt[N_CTX];
    const char *stops[2];
    rf_logit_bias bias[2];
    uint32_t limit; // tokens, with the prompt
    bool solved;
    answer solo;
} kind;

typedef struct ask { // one request and what is known about it from outside
    struct sim *sim;
    kind *kind;
    rf_request *request; // ours until the schedule ends: besides the callers' holds, the simulation has one of its own
    uint32_t n_callers;
    bool cancelled, has_notify;
    int32_t priority;
    int64_t deadline_us;
    uint64_t patience;        // steps until it must have ended
    uint64_t admitted, ended; // the first step after which it was seen to be; 0: not yet
    uint32_t n_generated;
    rf_state state;
    answer answer;
} ask;

typedef struct sim {
    world world;
    kind *kinds; // [KINDS]
    bool aloud;

    // of the schedule
    uint64_t seed, state, digest;
    engine *engine;
    engine_config limits;
    ask asks[MAX_ASKS];
    uint32_t n_asks, n_wanted;
    uint64_t n_limits; // tokens that all asks together may come to
    uint64_t n_steps, n_preempted;
    rf_stats stats;     // at the end
    int32_t priorities; // 1: all are equal
    uint32_t impatience, disorder, likeness;
    bool collisions; // of hashes
    bool may_stop, shut;
    int64_t cancel_at_us;
} sim;

static uint64_t draw(sim *s) { return mix(s->seed, s->state++); }
static uint32_t below(sim *s, uint32_t n) { return (uint32_t)(draw(s) % n); }
static uint32_t between(sim *s, uint32_t least, uint32_t most) { return least + below(s, most - least + 1); }
static bool chance(sim *s, uint32_t percent) { return below(s, 100) < percent; }

static void __attribute__((format(printf, 2, 3))) tell(sim *s, const char *format, ...) {
    char line[200];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (const char *c = line; *c; c++) s->digest = mix(s->digest, (uint8_t)*c);
    if (s->aloud) printf("%5llu  %s\n", (unsigned long long)s->n_steps, line), fflush(stdout);
}

// ---- kinds of requests -------------------------------------------------------------------------------------------

// Kinds come in pairs that answer one prompt.
static void kind_init(sim *s, uint32_t number) {
    kind *k = &s->kinds[number];
    s->seed = number / 2, s->state = UINT64_MAX / 2;
    uint32_t n_prompt = chance(s, 40) ? between(s, 1, 30) : between(s, 1, N_CTX - 1);
    if (chance(s, 40)) n_prompt = between(s, 1, 3) * KV_PAGE_TOKENS - below(s, 8); // soon needs another page
    uint32_t family = below(s, 4), n_shared = below(s, 2 * N_CTX); // families begin alike, to share pages
    bool echoes = family % 2;                                      // half of them can be guessed
    for (uint32_t i = 0; i < n_prompt; i++)
        k->prompt[i] = i < n_shared ? (int32_t)(mix(family, i) % 256) : (int32_t)below(s, 256);
    if (chance(s, 10)) k->prompt[0] = WORLD_POISON;
    if (echoes && n_prompt > 1) k->prompt[1] = WORLD_ECHO;
    rf_params *p = &k->params;
    *p = rf_params_default();
    p->prompt_tokens = k->prompt, p->n_prompt_tokens = n_prompt;
    s->seed = KINDS + number;
    uint32_t room = N_CTX - n_prompt;
    p->max_tokens = chance(s, 5) ? 0 : between(s, 1, echoes || chance(s, 20) ? 60 : 15);
    k->limit = p->max_tokens && p->max_tokens < room ? n_prompt + p->max_tokens : N_CTX;
    p->seed = draw(s), p->ignore_eos = chance(s, 50);
    if (chance(s, 60)) p->temperature = 0;
    if (chance(s, 15)) p->embed = chance(s, 70) ? RF_EMBED_MEAN : RF_EMBED_LAST;
    if (chance(s, 20)) p->top_k = below(s, 8);
    if (chance(s, 20)) p->repeat_penalty = 1.5f, p->frequency_penalty = 0.5f;
    for (int i = 0; i < 2; i++) k->bias[i] = (rf_logit_bias){(int32_t)below(s, 257), (float)between(s, 0, 200) - 100};
    p->logit_bias = k->bias, p->n_logit_bias = chance(s, 20) ? 2 : 0;
    if (chance(s, 15)) p->logprobs = true, p->n_logprobs = below(s, 4);
    if (p->logprobs && !p->embed) p->score = (rf_score)below(s, 3);
    if (!engine_wants_answer(p)) k->limit = n_prompt;
    k->stops[0] = "\xEF\xBF\xBD\xEF\xBF\xBD", k->stops[1] = "no such words"; // the first comes up now and then
    p->stop = k->stops, p->n_stop = chance(s, 20) ? 2 : 0;
    p->cache_salt = !chance(s, 40) ? "" : chance(s, 50) ? "mine" : "yours";
}

static const answer *kind_solve(sim *s, kind *k) {
    if (k->solved) return &k->solo;
    rf_params p = k->params;
    p.max_tokens = k->limit - (uint32_t)p.n_prompt_tokens; // alone, the context may be larger
    struct manual_clock clock = s->world.clock;
    world_solo(&s->world, &p, &k->solo);
    s->world.clock = clock;
    k->solved = true;
    return &k->solo;
}

// ---- what a schedule does ----------------------------------------------------------------------------------------

static void notified(void *arg) {
    const ask *a = arg;
    check(a->has_notify && a->n_callers > 0); // never after the last release
}

// Served in order, the first of all always gets a token, so a request waits for those before it and no longer. With
// priorities each later one that overtakes may cost the work so far.
static uint64_t patience_of(const sim *s, const ask *a) {
    uint64_t n_tokens = a->kind->limit;
    if (s->priorities > 1) return s->n_limits * (1 + s->n_wanted) + 1;
    for (uint32_t i = 0; i < s->n_asks; i++)
        if (!s->asks[i].answer.n_ends) n_tokens += s->asks[i].kind->limit;
    return n_tokens + 1; // the step during which it came
}

// Now and then one that came before, or its pair.
static uint32_t choose_kind(sim *s) {
    if (!s->n_asks || !chance(s, s->likeness)) return below(s, KINDS);
    return (uint32_t)(s->asks[below(s, s->n_asks)].kind - s->kinds) ^ below(s, 2);
}

static void do_submit(sim *s) {
    uint32_t number = choose_kind(s);
    ask *a = &s->asks[s->n_asks];
    *a = (ask){.sim = s, .kind = &s->kinds[number], .n_callers = 1, .deadline_us = INT64_MAX};
    rf_params p = a->kind->params;
    p.priority = a->priority = (int32_t)below(s, (uint32_t)s->priorities);
    if (chance(s, s->impatience)) {
        p.timeout_ms = between(s, 1, 60);
        a->deadline_us = s->world.clock.us + p.timeout_ms * 1000;
    }
    if (chance(s, 30)) a->has_notify = true, p.notify = notified, p.notify_arg = a;
    rf_error error = {0};
    a->request = rf_submit(s->engine, &p, &error);
    s->n_wanted--;
    tell(s, "submit: request %u, kind %u, %zu+%u tokens, salt '%s', priority %d, timeout %lld ms: %s", s->n_asks,
         number, p.n_prompt_tokens, p.max_tokens, p.cache_salt, p.priority, (long long)p.timeout_ms,
         a->request ? "in" : error.message);
    if (!a->request) {
        check(s->shut ? error.code == RF_ERR_STOPPED : error.code == RF_ERR_BUSY);
        uint32_t n_live = 0;
        for (uint32_t i = 0; i < s->n_asks; i++) n_live += !s->asks[i].answer.n_ends;
        check(s->shut || n_live >= s->limits.max_queue);
        return;
    }
    check(!s->shut);
    request_hold(a->request); // the simulation's own eyes, after the last caller's release
    if (chance(s, 20)) rf_retain(a->request), a->n_callers++;
    a->patience = s->n_steps + patience_of(s, a);
    s->n_asks++;
}

static void do_cancel(sim *s, ask *a) {
    tell(s, "cancel: request %zu", (size_t)(a - s->asks));
    a->cancelled = true;
    rf_cancel(a->request);
}

static void do_release(sim *s, ask *a) {
    tell(s, "release: request %zu, %u callers", (size_t)(a - s->asks), a->n_callers);
    if (--a->n_callers == 0) a->cancelled = true;
    rf_release(a->request);
}

static void do_shut(sim *s) { // a second time: at once
    int drain_ms = s->shut || chance(s, 50) ? 0 : (int)between(s, 1, 40);
    tell(s, "stop: %d ms to drain", drain_ms);
    s->shut = true, s->cancel_at_us = s->world.clock.us + drain_ms * 1000;
    engine_shut(s->engine, drain_ms);
}

static void act(sim *s) {
    while (s->n_wanted && s->n_asks < MAX_ASKS && chance(s, 40)) do_submit(s);
    if (s->n_asks && chance(s, s->disorder)) {
        ask *a = &s->asks[below(s, s->n_asks)];
        if (chance(s, 60))
            do_cancel(s, a);
        else if (a->n_callers)
            do_release(s, a);
    }
    if (s->may_stop && chance(s, 1)) do_shut(s);
}

static void during_step(world *w) {
    sim *s = w->arg;
    if (chance(s, 10)) act(s);
}

// ---- what must hold ----------------------------------------------------------------------------------------------

static void check_end(sim *s, ask *a) {
    const answer *mine = &a->answer, *solo = kind_solve(s, a->kind);
    tell(s, "end: request %zu, %s, %zu tokens", (size_t)(a - s->asks), rf_finish_name(mine->end.finish),
         mine->n_tokens);
    check(mine->end.usage.prompt_tokens == a->kind->params.n_prompt_tokens);
    check(mine->end.usage.completion_tokens == mine->n_tokens);
    if (a->kind->prompt[0] == WORLD_POISON) // no token comes of logits that are not numbers
        check(mine->n_tokens == 0 || mine->end.usage.prompt_tokens + mine->n_tokens <= HEALTHY);
    check(mine->n_tokens <= solo->n_tokens);
    check(!memcmp(mine->tokens, solo->tokens, mine->n_tokens * sizeof *mine->tokens));
    if (mine->end.finish == RF_FINISH_CANCELLED) {
        check(a->cancelled || (s->shut && s->world.clock.us >= s->cancel_at_us));
    } else if (mine->end.finish == RF_FINISH_TIMEOUT) {
        check(s->world.clock.us >= a->deadline_us);
    } else {
        check(mine->end.finish == solo->end.finish && mine->end.error.code == solo->end.error.code);
        check(mine->n_tokens == solo->n_tokens && mine->n_bytes == solo->n_bytes);
        check(!memcmp(mine->text, solo->text, mine->n_bytes));
        check(mine->n_scored == solo->n_scored && mine->logprobs == solo->logprobs);
        check(mine->n_embedding == solo->n_embedding);
        check(!memcmp(mine->embedding, solo->embedding, sizeof mine->embedding));
    }
}

static bool begins_alike(const kind *a, const kind *b, uint32_t n_tokens) {
    size_t n = b->params.n_prompt_tokens;
    for (uint32_t i = 0; i < n_tokens; i++) {
        if (i >= n + b->solo.n_tokens || a->prompt[i] != (i < n ? b->prompt[i] : b->solo.tokens[i - n])) return false;
    }
    return true;
}

// Once all have ended.
static void check_reuse(const sim *s, const ask *a) {
    uint32_t n = a->answer.end.usage.cached_tokens;
    check(n < a->kind->params.n_prompt_tokens);
    bool found = n == 0;
    for (const ask *b = s->asks; b < s->asks + s->n_asks && !found; b++) {
        bool was_there = b != a && b->admitted && b->admitted < a->admitted;
        bool failed = b->answer.end.finish == RF_FINISH_ERROR && b->ended < a->admitted;
        found = was_there && !failed && strcmp(a->kind->params.cache_salt, b->kind->params.cache_salt) == 0 &&
                begins_alike(a->kind, b->kind, n);
    }
    check(found);
}

static void look(sim *s, ask *a) {
    bool had_ended = a->answer.n_ends;
    answer_poll(&a->answer, a->request);
    if (a->answer.n_ends && !had_ended) check_end(s, a);
}

static void check_ask(sim *s, ask *a, bool due, bool preempted) {
    rf_status status;
    rf_get_status(a->request, &status);
    if (status.state != RF_QUEUED && !a->admitted) a->admitted = s->n_steps;
    if (status.state == RF_DONE && !a->ended) a->ended = s->n_steps;
    if (due) check(status.state == RF_DONE); // whoever was to end before the step has
    if (status.state != RF_DONE) {
        check(s->n_steps < a->patience);
        check(status.n_generated >= a->n_generated);
        // A decoder does not wait, unless its pages were taken or, served last, it found none.
        const schedule *d = engine_get_schedule(s->engine);
        if (a->state == RF_DECODE && status.state == RF_DECODE && !preempted)
            check(status.n_generated > a->n_generated || d->running[d->n_running - 1]->request == a->request);
    } else if (a->state != RF_DONE || chance(s, 30)) {
        look(s, a);
        check(a->answer.n_ends == 1);
    }
    a->state = status.state, a->n_generated = status.n_generated;
}

static bool is_due(const sim *s, const ask *a) {
    int64_t now = s->world.clock.us;
    return a->cancelled || now >= a->deadline_us || (s->shut && now >= s->cancel_at_us);
}

static bool step_and_check(sim *s) {
    bool due[MAX_ASKS];
    uint32_t n = s->n_asks;
    for (uint32_t i = 0; i < n; i++) due[i] = is_due(s, &s->asks[i]);
    bool ran = engine_step(s->engine);
    s->n_steps++;
    engine_check(s->engine);
    if (ran) check(s->world.n_tokens <= s->limits.step_tokens && s->world.n_rows <= engine_logits_rows(&s->limits));
    uint64_t n_preempted = engine_get_schedule(s->engine)->n_preempted;
    bool preempted = n_preempted > s->n_preempted;
    s->n_preempted = n_preempted;
    if (preempted) tell(s, "preempted");
    for (uint32_t i = 0; i < s->n_asks; i++) {
        if (chance(s, 50)) look(s, &s->asks[i]);
        check_ask(s, &s->asks[i], i < n && due[i], preempted);
    }
    if (!ran) check(pages_used(s->engine) == 0);
    return ran;
}

// ---- one schedule ------------------------------------------------------------------------------------------------

static void schedule_begin(sim *s, uint64_t seed) {
    s->seed = seed, s->state = 0, s->digest = 0;
    s->world.clock.us = 0, s->world.during = during_step, s->world.arg = s, s->world.n_healthy = HEALTHY;
    s->n_asks = 0, s->n_steps = s->n_preempted = 0, s->shut = false;
    s->n_wanted = between(s, 1, 2 * MAX_ASKS);
    s->n_limits = (uint64_t)s->n_wanted * N_CTX;
    s->priorities = chance(s, 50) ? 1 : 3;
    s->impatience = chance(s, 50) ? 0 : 30;
    s->disorder = chance(s, 30) ? 0 : between(s, 1, 30);
    s->likeness = chance(s, 30) ? 80 : 15;
    s->may_stop = chance(s, 40);
    s->collisions = chance(s, 30);
    if (s->collisions) tell(s, "hashes have one bit");
    uint32_t max_running = between(s, 1, 8);
    s->limits = (engine_config){.info.n_ctx = N_CTX,
                                .hash_mask = s->collisions,
                                .n_pages = N_CTX / KV_PAGE_TOKENS + below(s, chance(s, 60) ? 3 : 12),
                                .max_running = max_running,
                                .max_queue = between(s, 1, 8),
                                .speculate = chance(s, 40) ? 0 : between(s, 1, chance(s, 50) ? 8 : DRAFT_MOST),
                                .step_tokens = max_running + below(s, chance(s, 50) ? 8 : 100)};
    s->engine = world_engine(&s->world, s->limits);
    tell(s, "engine: %u pages, %u running, %u queued, %u tokens a step, %u guessed", s->limits.n_pages, max_running,
         s->limits.max_queue, s->limits.step_tokens, s->limits.speculate);
}

static void schedule_end(sim *s) {
    rf_get_stats(s->engine, &s->stats);
    check(s->stats.accepted_tokens <= s->stats.draft_tokens && (s->limits.speculate || !s->stats.draft_tokens));
    s->world.during = NULL;
    for (uint32_t i = 0; i < s->n_asks; i++) {
        ask *a = &s->asks[i];
        look(s, a);
        check(a->answer.n_ends == 1);
        check_reuse(s, a);
        while (a->n_callers && chance(s, 80)) do_release(s, a); // others outlive the engine
    }
    world_end(s->engine);
    for (uint32_t i = 0; i < s->n_asks; i++) {
        ask *a = &s->asks[i];
        check(atomic_load(&a->request->n_holds) == (a->n_callers ? 2 : 1)); // the callers' and ours
        while (a->n_callers) do_release(s, a);
        request_drop(a->request);
    }
}

static uint64_t schedule_run(sim *s, uint64_t seed) {
    alarm(PATIENCE_SECONDS);
    schedule_begin(s, seed);
    bool ran = true;
    while (ran || s->n_wanted) {
        act(s);
        s->world.clock.us += below(s, 2000);
        ran = step_and_check(s);
        if (s->n_asks == MAX_ASKS) s->n_wanted = 0;
    }
    schedule_end(s);
    tell(s, "passed: %u requests, %llu steps", s->n_asks, (unsigned long long)s->n_steps);
    return s->digest;
}

// ---- many schedules ----------------------------------------------------------------------------------------------

typedef struct progress { // shared between the processes
    uint64_t seed, n_done, n_steps, n_preempted, n_drafted, n_accepted, n_ends[RF_FINISH_ERROR + 1];
} progress;

static void sim_open(sim *s) {
    world_open(&s->world);
    s->kinds = xcalloc(KINDS, sizeof *s->kinds);
    for (uint32_t i = 0; i < KINDS; i++) kind_init(s, i);
}

static void sim_close(sim *s) {
    free(s->kinds);
    world_close(&s->world);
}

static void run_share(uint64_t first, uint64_t n, uint32_t stride, progress *p) {
    sim *s = xcalloc(1, sizeof *s);
    sim_open(s);
    for (uint64_t i = 0; i < n; i += stride) {
        p->seed = first + i;
        schedule_run(s, p->seed);
        p->n_done++, p->n_steps += s->n_steps, p->n_preempted += s->n_preempted;
        p->n_drafted += s->stats.draft_tokens, p->n_accepted += s->stats.accepted_tokens;
        for (uint32_t j = 0; j < s->n_asks; j++) p->n_ends[s->asks[j].answer.end.finish]++;
    }
    sim_close(s);
    free(s);
}

static void tell_failure(uint64_t seed, int status) {
    bool killed = WIFSIGNALED(status);
    fprintf(stderr, "sim: schedule %llu failed (%s %d); to see it again: ./forge sim --seed %llu\n",
            (unsigned long long)seed, killed ? "signal" : "status", killed ? WTERMSIG(status) : WEXITSTATUS(status),
            (unsigned long long)seed);
}

static void tell_totals(const progress *p, uint32_t n_processes, int64_t began) {
    progress all = {0};
    for (uint32_t i = 0; i < n_processes; i++) {
        all.n_done += p[i].n_done, all.n_steps += p[i].n_steps, all.n_preempted += p[i].n_preempted;
        all.n_drafted += p[i].n_drafted, all.n_accepted += p[i].n_accepted;
        for (int j = RF_FINISH_STOP; j <= RF_FINISH_ERROR; j++) all.n_ends[j] += p[i].n_ends[j];
    }
    printf("%llu schedules, %.1f s: %llu steps, %llu preemptions, %llu guesses, %llu right; ends:",
           (unsigned long long)all.n_done, (double)(clock_machine_us() - began) * 1e-6, (unsigned long long)all.n_steps,
           (unsigned long long)all.n_preempted, (unsigned long long)all.n_drafted, (unsigned long long)all.n_accepted);
    for (int j = RF_FINISH_STOP; j <= RF_FINISH_ERROR; j++)
        printf(" %s %llu", rf_finish_name((rf_finish)j), (unsigned long long)all.n_ends[j]);
    printf("\n");
}

// The first process that fails ends the others.
static bool run_many(uint64_t first, uint64_t n, uint32_t n_processes) {
    progress *p = mmap(NULL, n_processes * sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(p != MAP_FAILED);
    pid_t *pids = xcalloc(n_processes, sizeof *pids);
    int64_t began = clock_machine_us();
    for (uint32_t i = 0; i < n_processes; i++) {
        pids[i] = fork();
        check(pids[i] >= 0);
        if (pids[i] == 0) run_share(first + i, n - i, n_processes, &p[i]), _exit(0);
    }
    bool good = true;
    int status;
    for (pid_t pid; (pid = wait(&status)) > 0;) {
        bool failed = good && status != 0;
        for (uint32_t i = 0; i < n_processes; i++) {
            if (pids[i] == pid) {
                pids[i] = 0;
                if (failed) tell_failure(p[i].seed, status);
            } else if (failed && pids[i]) {
                kill(pids[i], SIGKILL);
            }
        }
        if (failed) good = false;
    }
    tell_totals(p, n_processes, began);
    free(pids);
    return good;
}

int main(int argc, char **argv) {
    uint64_t seed = 0, n = 0, n_jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 1; i < argc; i++) {
        uint64_t *number = !strcmp(argv[i], "--seed")    ? &seed
                           : !strcmp(argv[i], "--seeds") ? &n
                           : !strcmp(argv[i], "--jobs")  ? &n_jobs
                                                         : NULL;
        if (!number || ++i == argc) return fprintf(stderr, "usage: sim [--seeds N] [--seed FIRST] [--jobs N]\n"), 2;
        *number = strtoull(argv[i], NULL, 10);
        if (number == &seed && !n) n = 1;
    }
    if (n == 0) n = 100000;
    if (n > 1) return run_many(seed, n, (uint32_t)(n < n_jobs ? n : n_jobs ? n_jobs : 1)) ? 0 : 1;
    sim *s = xcalloc(1, sizeof *s);
    s->aloud = true;
    sim_open(s);
    uint64_t digest = schedule_run(s, seed);
    sim_close(s);
    printf("digest %016llx\n", (unsigned long long)digest);
    free(s);
    return 0;
}

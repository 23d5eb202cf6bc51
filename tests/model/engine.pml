/* The protocol between callers and the engine thread: mailbox, door, request. Checked by tests/system/test_protocol.py.
 *
 * What each piece stands for:
 *     ring                 mailbox_wake (src/base/mailbox.c)      take, sleep     mailbox_take, mailbox_wait
 *     mail                 mailbox.last: pushed one by one, taken whole; bell and futex are the C words
 *     enter, admit, shut   door_enter, door_admit, door_shut (src/engine/door.c); entered and is_shut are one C word
 *     go_back              door_return: who was preempted counts as waiting again
 *     drop                 request_drop (src/engine/request.c), with door_release inside
 *     cancel, release      rf_cancel, rf_release                  await_end       rf_wait, until the END event
 *     end                  request_end with announce              retire          engine_retire (src/engine/engine.c)
 *     Engine               engine_run and engine_step: take, retire who is to end, plan, run, or sleep
 *     Client, Friend       a thread that submits (engine_submit), and one that got the handle by rf_retain
 *     Stopper              rf_engine_close: engine_shut, engine_join, engine_free
 * One statement is one access to something shared; what is one atomic operation in C, or is under no other's eyes, is
 * atomic here. A request takes at most WORK + 1 steps and may lose its place (preemption) in each.
 *
 * Checked: no deadlock and, with a Stopper that waits for all clients, no lost wake-up; exactly one END for whoever was
 * accepted and none for others; nothing is touched after it was freed and everything is freed; no notify after the last
 * release; stop_ends. Contract assumed: rf_submit has returned before rf_engine_close frees the engine, and one thread
 * at a time waits for a request. BROKEN names a way to get it wrong, each of which must be found (the test lists them).
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define WAKE_BEFORE_POST 1
#define TAKE_BEFORE_QUIET 2
#define SLEEP_UNASKED 3
#define NO_HOLD 4
#define POST_UNCOUNTED 5
#define STOP_UNRUNG 6
#define END_UNSIGNALLED 7
#define END_BY_CANCEL 8
#define NOTIFY_KEPT 9

#ifndef N
#define N 2 /* requests */
#endif
#ifndef FRIENDS
#define FRIENDS 0 /* most other holders of a request */
#endif
#ifndef MAX_QUEUE
#define MAX_QUEUE N
#endif
#ifndef WORK
#define WORK 1
#endif

mtype = { QUIET, RUNG, ASLEEP };
mtype = { ABSENT, WAITING, RUNNING };

/* the door and its mailbox */
mtype bell = QUIET;
bool futex; /* the engine is in futex_wait */
chan mail = [N] of { byte };
byte entered;
bool is_shut, cancel_due; /* cancel_due: the clock has passed cancel_at_us */
byte door_holders = 1;
bool door_freed;

typedef request {
    bool cancelled, ended, end_taken, in_wait, has_notify, notify_gone, freed, accepted;
    byte callers, holds;
}
request r[N];

bool engine_ended, engine_freed;
byte n_submitting = N; /* clients that are not back from rf_submit */
byte n_callers = N;    /* clients and friends that are not done */

#define TOUCH(i) assert(!r[i].freed)
#define TOUCH_DOOR assert(!door_freed)
#if BROKEN == NOTIFY_KEPT
#define UNNOTIFY(i) skip
#else
#define UNNOTIFY(i) r[i].has_notify = false
#endif

/* ---- mailbox and door ---- */

inline ring() {
    if
    :: atomic { bell == ASLEEP -> TOUCH_DOOR; bell = RUNG }
       atomic { TOUCH_DOOR; futex = false }
    :: atomic { bell != ASLEEP -> TOUCH_DOOR; bell = RUNG }
    fi
}

inline quiet_bell() { atomic { TOUCH_DOOR; bell = QUIET } }

inline take_all(i) {
    atomic {
        TOUCH_DOOR;
        do
        :: nempty(mail) -> mail ? i; state[i] = WAITING; work[i] = WORK
        :: empty(mail) -> break
        od;
        i = 0
    }
}

inline take(i) {
#if BROKEN == TAKE_BEFORE_QUIET
    take_all(i); quiet_bell()
#else
    quiet_bell(); take_all(i)
#endif
}

inline sleep(i) {
#if BROKEN == SLEEP_UNASKED
    bell = ASLEEP;
#else
    atomic { TOUCH_DOOR; if :: bell == QUIET -> bell = ASLEEP :: else fi }
#endif
    do
    :: atomic { bell == ASLEEP -> futex = true } /* the kernel looks and sleeps as one */
       !futex
    :: bell != ASLEEP -> break
    od;
    take(i)
}

inline enter(seen, seen_shut, ok) {
    atomic { TOUCH_DOOR; seen = entered; seen_shut = is_shut }
    do
    :: seen_shut || seen >= MAX_QUEUE -> break
    :: else ->
       if
       :: atomic {
              entered == seen && is_shut == seen_shut -> TOUCH_DOOR;
#if BROKEN != POST_UNCOUNTED
              entered++;
#endif
              ok = true
          }
          break
       :: atomic {
              entered != seen || is_shut != seen_shut -> TOUCH_DOOR;
              seen = entered; seen_shut = is_shut
          }
       fi
    od;
    seen = 0
}

inline admit() {
#if BROKEN != POST_UNCOUNTED
    atomic { TOUCH_DOOR; assert(entered > 0); entered-- }
#else
    skip
#endif
}

inline go_back() {
#if BROKEN != POST_UNCOUNTED
    atomic { TOUCH_DOOR; entered++ }
#else
    skip
#endif
}

/* ---- request ---- */

inline drop(i) {
    atomic {
        TOUCH(i);
        assert(r[i].holds > 0);
        r[i].holds--;
        if
        :: r[i].holds == 0 ->
           assert(!r[i].in_wait && !door_freed);
           r[i].freed = true;
           door_holders--;
           if :: door_holders == 0 -> door_freed = true :: else fi
        :: else
        fi
    }
}

/* What the lock makes one piece is atomic; pthread_mutex_unlock may look at the mutex once more. */
inline end(i) {
    atomic {
        TOUCH(i);
        assert(!r[i].ended);
        r[i].ended = true;
#if BROKEN != END_UNSIGNALLED
        r[i].in_wait = false;
#endif
        assert(!r[i].has_notify || !r[i].notify_gone)
    }
    TOUCH(i)
}

inline await_end(i) {
    do
    :: atomic { r[i].ended -> TOUCH(i); assert(!r[i].end_taken); r[i].end_taken = true; break }
    :: atomic { !r[i].ended -> TOUCH(i); r[i].in_wait = true } /* pthread_cond_wait */
       !r[i].in_wait
    od
}

inline cancel(i) {
    if
    :: atomic { !r[i].cancelled -> TOUCH(i); r[i].cancelled = true }
#if BROKEN == END_BY_CANCEL
       end(i);
#endif
       ring()
    :: atomic { r[i].cancelled -> TOUCH(i) }
    fi
}

inline release(i) {
    if
    :: atomic { r[i].callers > 1 -> TOUCH(i); r[i].callers-- }
    :: atomic { r[i].callers == 1 -> TOUCH(i); r[i].callers = 0 }
       if /* under the lock */
       :: atomic { !r[i].ended -> TOUCH(i); UNNOTIFY(i) }
          cancel(i)
       :: atomic { r[i].ended -> TOUCH(i); UNNOTIFY(i) }
       fi;
       r[i].notify_gone = true; /* what the caller may do from here on */
       drop(i)
    fi
}

/* ---- the engine's thread ---- */

inline retire(i) {
    if :: !admitted[i] -> admit() :: else fi;
    state[i] = ABSENT;
    end(i);
#if BROKEN != NO_HOLD
    drop(i)
#else
    skip
#endif
}

proctype Engine() {
    mtype state[N] = ABSENT;
    byte work[N];
    bool admitted[N], planned;
    byte i, k;
    do
    :: take(i);
       for (k : 0 .. N - 1) {
           if
           :: state[k] != ABSENT ->
              if
              :: atomic { r[k].cancelled || cancel_due -> TOUCH(k) }
                 retire(k)
              :: atomic { !r[k].cancelled && !cancel_due -> TOUCH(k) }
              fi
           :: else
           fi
       }
       atomic { /* the schedule: the engine's alone; one place to run */
           planned = false;
           k = 0;
           do
           :: k < N && state[k] == RUNNING -> planned = true; break
           :: k < N && state[k] != RUNNING -> k++
           :: k == N -> break
           od;
           if :: !planned -> k = 0 :: else fi;
           do
           :: !planned && k < N && state[k] == WAITING -> state[k] = RUNNING; planned = true
           :: !planned && k < N && state[k] != WAITING -> k++
           :: else -> break
           od
       }
       if
       :: planned ->
          if :: !admitted[k] -> admit(); admitted[k] = true :: else fi;
          if
          :: work[k] > 0 -> work[k]--                       /* goes on */
          :: work[k] > 0 -> work[k]--; state[k] = WAITING; admitted[k] = false; go_back() /* preempted */
          :: retire(k)                                      /* stop, length or error */
          fi
       :: !planned && is_shut && entered == 0 -> break
       :: else -> sleep(i)
       fi
    od;
    engine_ended = true
}

/* ---- callers ---- */

proctype Friend(byte i) {
    if :: cancel(i) :: skip fi;
    release(i);
    n_callers--
}

proctype Client(byte i) {
    byte seen, n_friends;
    bool seen_shut, ok;
    atomic {
        assert(!engine_freed); TOUCH_DOOR;
        door_holders++; r[i].callers = 1; r[i].has_notify = true;
        r[i].holds = (BROKEN == NO_HOLD -> 1 : 2)
    }
    enter(seen, seen_shut, ok);
    if
    :: ok ->
       r[i].accepted = true;
#if BROKEN == WAKE_BEFORE_POST
       ring();
       mail ! i;
#else
       mail ! i;
       ring();
#endif
       n_submitting--;
       do
       :: atomic { n_friends < FRIENDS -> TOUCH(i); r[i].callers++; n_callers++; n_friends++; run Friend(i) } /* rf_retain */
       :: break
       od;
       if :: cancel(i) :: skip fi;
       if :: await_end(i) :: skip /* walks away */ fi;
       release(i)
    :: else ->
       drop(i);
#if BROKEN != NO_HOLD
       drop(i); /* the engine's hold, which it never got */
#endif
       n_submitting--
    fi;
    n_callers--
}

proctype Stopper() {
    if
    :: true /* at any moment */
    :: n_callers == 0
    fi;
    if :: cancel_due = true :: skip fi; /* nothing to drain; or in a while; or the work ends first */
    is_shut = true;
#if BROKEN != STOP_UNRUNG
    ring();
#endif
    if :: cancel_due = true :: skip fi;
    engine_ended;      /* join */
    n_submitting == 0; /* the contract */
    atomic {
        engine_freed = true;
        door_holders--;
        if :: door_holders == 0 -> door_freed = true :: else fi
    }
}

init {
    byte i;
    atomic {
        run Engine();
        run Stopper();
        for (i : 0 .. N - 1) {
            run Client(i)
        }
    }
    _nr_pr == 1;
    for (i : 0 .. N - 1) {
        assert(r[i].freed && r[i].ended == r[i].accepted)
    }
    assert(door_freed && empty(mail))
}

ltl stop_ends { [] (is_shut -> <> engine_ended) }

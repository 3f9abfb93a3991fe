/* A model for spin: the two rings of a child, the two doorbells, and the death of either side.
 *
 *            Parent                        shared memory                         Child
 *   ┌───────────────────────┐   posteriors   tail ▸ cells ▸ head      ┌───────────────────────┐
 *   │ poll, dispatch,       │ ───────────────────────────────────────▶│ take, answer, release │
 *   │ wait                  │◀─────────────────────────────────────── │ wait                  │
 *   └───────▲───────────────┘   error signals head ◂ cells ◂ tail     └───────────────▲───────┘
 *           │ poke                     bell[PARENT], bell[CHILD]                      │ poke
 *   ┌───────┴───────────────┐                                         ┌───────────────┴───────┐
 *   │ ParentWatcher         │◀── dead[CHILD]         dead[PARENT], ──▶│ ChildWatcher          │
 *   └───────────────────────┘                        exit_asked       └───────────────────────┘
 *
 * One atomic block is one access to state that other processes see. It includes the private steps around it: on the
 * process's own variables, in its store buffer, and in cells that it has claimed or received. It also includes the
 * fence before a load; another run covers a buffer that was drained earlier. Each inline models these functions:
 *
 *   claim, fill, commit, no_room   csrc/ring.c      shmb_ring_claim, shmb_ring_commit, no_room
 *   receive, release               csrc/ring.c      load_tail, receive, release_in_order
 *   publish                        csrc/ring.c      publish
 *   ring, poke, take_token         csrc/doorbell.c  shmb_doorbell_ring, _poke, _take_token
 *   announce, sleep                csrc/doorbell.c  shmb_doorbell_announce, _sleep
 *   wait_for_news                  csrc/wait.c      shmb_spin with one check, then shmb_sleep
 *   Parent                         parent/scheduler.py run_until; parent/child.py poll
 *   ParentWatcher                  parent/watcher.py; parent/process.py _on_message, _on_exit
 *   Child                          child/inbox.py take; child/link.py claim
 *   ChildWatcher                   child/link.py _watch
 *
 * Memory: a store to a position or to `waiting` enters the process's store buffer, which has one entry. The buffer is
 * drained at any later time, before the next store, by a seq_cst fence, or when the process dies. Loads pass it.
 * An exchange or addition does not drain it: C11 guarantees less here than x86.
 *
 * Bounds and mutations are -D switches: see run.py, which lists them, and docs/model.md.
 */
#ifndef RECORDS
#define RECORDS 2 /* requests that the parent sends; each must be answered */
#endif
#ifndef CAPACITY
#define CAPACITY 3 /* units of a ring */
#endif
#ifndef MAX_SIZE
#define MAX_SIZE 2 /* units of a record: any number up to this, or with ALTERNATING this, 1, this, 1 */
#endif
#ifndef IN_FLIGHT
#define IN_FLIGHT 2
#endif
#ifndef TOKENS_MAX
#define TOKENS_MAX 1 /* the minimum, so that runs reach it */
#endif
#ifndef SIGNALS
#define SIGNALS 0 /* the number of signals that may interrupt a sleep */
#endif

#define PARENT 0
#define CHILD 1
#define PARENT_WATCHER 2
#define CHILD_WATCHER 3

/* A ring has the number of its producer. */
#define POSTERIORS PARENT
#define ERROR_SIGNALS CHILD

/* A cell of a ring contains the record's number, or one of these. */
#define PADDING 100
#define HALF_WRITTEN 101

/* --- shared memory */

byte tail[2], head[2];
byte cell[2 * CAPACITY];     /* of both rings, one after the other */
byte position[2 * CAPACITY]; /* header of the record that begins in the cell */
byte size[2 * CAPACITY];
byte tokens[2], waiting[2]; /* `waiting`: for what, see below */

/* What a process waits for: a tail, a head, or both. */
#define FOR_TAIL 1
#define FOR_HEAD 2

#define at(r, p) ((r) * CAPACITY + (p) % CAPACITY)

/* --- the kernel */

bool asleep[2];      /* in the futex */
bool killed[2];      /* the process dies before its next step */
bool dead[2];        /* as pidfd and pipe report it */
bool exit_asked;     /* the pipe to the child contains an exit message */
byte signals = SIGNALS;

/* --- private to a process, shared by its threads */

bool exited;   /* SprintProcess.exited, in the parent */
bool has_news; /* SprintProcess.has_events: the main thread must check the process */
bool ended;    /* ParentLink.ended, in the child */

/* --- only for the properties */

byte committed[2], received[2];
bool over[2];    /* the main thread has returned */
bool computing;  /* the child hangs in Sprint's criterion */
bool user_holds; /* the parent's user holds a result and never calls again */

/* --- store buffers */

mtype = {NONE, TAIL, HEAD, WAITING, ENDED};
mtype buffered[4] = NONE;
byte stored[4];

inline drain(p) {
    d_step {
        if
        :: buffered[p] == TAIL -> tail[p] = stored[p]
        :: buffered[p] == HEAD -> head[1 - p] = stored[p]
        :: buffered[p] == WAITING -> waiting[p] = stored[p]
        :: buffered[p] == ENDED -> ended = stored[p]
        :: else
        fi;
        buffered[p] = NONE;
        stored[p] = 0
    }
}

inline store(p, place, what) {
    drain(p);
    buffered[p] = place;
    stored[p] = what;
#ifdef STORES_AT_ONCE
    drain(p)
#endif
}

proctype Memory() {
end:
    do
    :: atomic { buffered[PARENT] != NONE -> drain(PARENT) }
    :: atomic { buffered[CHILD] != NONE -> drain(CHILD) }
    :: atomic { buffered[CHILD_WATCHER] != NONE -> drain(CHILD_WATCHER) }
    od
}

/* --- doorbell.c. `me` is the process that runs this, `bell` the owner of the doorbell. */

inline poke(bell) {
    if
    :: tokens[bell] < TOKENS_MAX -> tokens[bell]++ /* two steps: a load, an addition */
    :: else
    fi;
#ifndef NO_WAKE
    asleep[bell] = false /* FUTEX_WAKE */
#endif
}

#ifdef RINGS_FOR_THE_OTHER_POSITION
#define awaits(bell, what) (waiting[bell] & (FOR_TAIL + FOR_HEAD - what))
#else
#define awaits(bell, what) (waiting[bell] & what)
#endif

inline ring(me, bell, what) {
    atomic {
#ifndef RING_WITHOUT_FENCE
        drain(me);
#endif
        was_waiting = awaits(bell, what) != 0
    };
    if
    :: was_waiting ->
        atomic { was_waiting = waiting[bell] != 0; waiting[bell] = 0 };
        if
#ifndef CLEARS_WITHOUT_POKE
        :: was_waiting -> was_waiting = false; poke(bell)
#endif
        :: else -> was_waiting = false
        fi
    :: else
    fi
}

/* Sets `took`. */
inline take_token(me) {
    took = tokens[me] > 0;
    if
    :: tokens[me] > TOKENS_MAX -> tokens[me] = 0
    :: tokens[me] > 0 && tokens[me] <= TOKENS_MAX -> tokens[me]--
    :: else
    fi
}

inline announce(me, what) {
    store(me, WAITING, what);
#ifndef ANNOUNCE_WITHOUT_FENCE
    drain(me)
#endif
}

/* Until a token or a signal arrives. */
inline sleep(me) {
    do
    :: atomic {
            take_token(me);
            if
            :: took -> took = false; break
            :: else
            fi
        };
        atomic {
            if
            :: tokens[me] == 0 -> asleep[me] = true
#ifdef SLEEPS_WITHOUT_COMPARING
            :: else -> asleep[me] = true
#else
            :: else
#endif
            fi
        };
        if
        :: !asleep[me]
#if SIGNALS
        :: atomic { asleep[me] && signals > 0 -> signals--; asleep[me] = false; break }
#endif
        fi
    od
}

/* --- wait.c. The first two set `news`. */

inline receiver_has_news(me, to_receive) {
    if
    :: to_receive -> news = tail[1 - me] != c_next
    :: else
    fi
}

inline sender_has_news(me, of_room) {
    if
    :: of_room && !news -> news = head[me] != p_peer
    :: else
    fi
}

/* Checks the receiver, the sender, or both. */
inline wait_for_news(me, to_receive, of_room) {
#ifdef DISCARDS_TOKEN
    atomic { take_token(me); took = false };
#endif
    atomic { receiver_has_news(me, to_receive) };
    atomic { sender_has_news(me, of_room) };
#ifndef DISCARDS_TOKEN
    if
    :: news
    :: atomic { !news -> take_token(me); news = took; took = false }
    fi;
#endif
    if
    :: news
    :: else ->
#ifdef CHECKS_BEFORE_ANNOUNCING
        atomic { receiver_has_news(me, to_receive) };
        atomic { sender_has_news(me, of_room); announce(me, (to_receive -> FOR_TAIL : 0) + (of_room -> FOR_HEAD : 0)) };
#else
        atomic { announce(me, (to_receive -> FOR_TAIL : 0) + (of_room -> FOR_HEAD : 0)); receiver_has_news(me, to_receive) };
        atomic { sender_has_news(me, of_room) };
#endif
#ifdef NO_SECOND_CHECK
        news = false;
#endif
        if
        :: news
        :: else -> sleep(me)
        fi;
        atomic { announce(me, 0) }
    fi;
    news = false
}

/* --- ring.c. The private variables of an end are its position (next), the peer's position when it was last loaded
 * (peer) and its published position; p_ is a producer's, c_ a consumer's. */

inline publish_tail(me) {
    p_published = p_next;
    store(me, TAIL, p_next)
}

inline publish_head(me) {
    c_published = c_next;
    store(me, HEAD, c_next)
}

#define used (p_next - p_peer)
#define to_end (CAPACITY - p_next % CAPACITY)
#define restarts (used == 0 && p_next % CAPACITY != 0 && 2 * wanted <= p_next % CAPACITY)
#ifdef ONE_UNIT_TOO_MANY
#define ROOM (CAPACITY + 1)
#else
#define ROOM CAPACITY
#endif

inline pad_to_end(me) {
    cell[at(me, p_next)] = PADDING;
    position[at(me, p_next)] = p_next;
    size[at(me, p_next)] = to_end;
    p_next = p_next + to_end
}

/* Claims a record of `wanted` units. Sets `claimed` to whether there was room. */
inline claim(me) {
    atomic {
        assert(head[me] >= p_peer && head[me] <= p_published); /* load_head */
        p_peer = head[me];
        claimed = true;
        if
        :: restarts || wanted > to_end ->
            if
            :: used + to_end > ROOM -> claimed = false
            :: else ->
                claimed = used + to_end + wanted <= ROOM;
                pad_to_end(me)
            fi
        :: else -> claimed = used + wanted <= ROOM
        fi;
        if
        :: claimed -> /* writes the header; the rest is filled later */
            position[at(me, p_next)] = p_next;
            size[at(me, p_next)] = wanted;
            i = 0;
            do
            :: i < wanted -> cell[at(me, p_next + i)] = HALF_WRITTEN; i++
            :: else -> break
            od;
            i = 0;
            p_next = p_next + wanted
        :: else
        fi
    };
    if /* no_room: padding is sent ahead */
#ifndef PADDING_IS_NOT_SENT_AHEAD
    :: !claimed && p_published != p_next ->
        atomic { publish_tail(me) };
        ring(me, 1 - me, FOR_TAIL)
#endif
    :: else
    fi
}

inline fill(me) {
    i = 0;
    do
    :: i < wanted -> cell[at(me, p_next - wanted + i)] = committed[me] + 1; i++
    :: else -> break
    od;
    i = 0
}

inline commit(me) {
#ifdef COMMITS_BEFORE_FILLING
    atomic { publish_tail(me); committed[me]++ };
    atomic { committed[me]--; fill(me); committed[me]++; claimed = false };
#else
    atomic { fill(me); publish_tail(me); committed[me]++; claimed = false };
#endif
#ifndef COMMIT_DOES_NOT_RING
    ring(me, 1 - me, FOR_TAIL)
#endif
}

/* The received and unreleased record is whole and the right one. */
inline check_record(r) {
    i = 0;
    do
    :: i < c_size -> assert(cell[at(r, c_next - c_size + i)] == received[r]); i++
    :: else -> break
    od;
    i = 0
}

/* Copies the header once and checks it. Sets `got` to whether there is a record other than padding. */
inline take_header(r) {
    got = false;
    if
    :: c_next != c_peer ->
        c_size = size[at(r, c_next)];
        assert(position[at(r, c_next)] == c_next);
        assert(c_size > 0 && c_size <= c_peer - c_next && c_size <= CAPACITY - c_next % CAPACITY);
        c_next = c_next + c_size;
        if
        :: cell[at(r, c_next - c_size)] == PADDING -> c_size = 0
        :: else ->
            got = true;
            received[r]++;
            assert(received[r] <= committed[r]);
            check_record(r)
        fi
    :: else
    fi
}

inline receive(me, r) {
    atomic {
        assert(tail[r] >= c_peer && tail[r] - c_published <= CAPACITY); /* load_tail */
        c_peer = tail[r];
        take_header(r)
    };
    do
    :: got || c_published == c_next -> break
    :: else -> /* skipped padding */
        atomic { publish_head(me) };
        ring(me, 1 - me, FOR_HEAD);
        atomic { take_header(r) }
    od
}

inline release(me, r) {
#ifdef RELEASES_BEFORE_READING
    atomic { publish_head(me) };
    atomic { check_record(r); c_size = 0; got = false };
#else
    atomic { check_record(r); publish_head(me); c_size = 0; got = false };
#endif
#ifndef RELEASE_DOES_NOT_RING
    ring(me, 1 - me, FOR_HEAD)
#endif
}

#define private_positions \
    byte p_next, p_peer, p_published, c_next, c_peer, c_published, c_size, wanted, i; \
    bool was_waiting, took, news, claimed, got

inline choose_size() {
#ifdef ALTERNATING
    wanted = (wanted == MAX_SIZE -> 1 : MAX_SIZE)
#else
    select(wanted : 1 .. MAX_SIZE)
#endif
}

/* --- the parent: Scheduler.run_until with one Child */

#define in_flight (committed[POSTERIORS] - received[ERROR_SIGNALS])

proctype Parent() {
    private_positions;
    bool gone, is_full, progress, keeps;
    {
        choose_size();
        do
        :: progress = false; /* Child.poll: one answer at a time, or all that arrived before the death */
#ifndef CHECKS_DEATH_LAST
#ifdef CLEARS_NEWS_AFTER_CHECKING
            if
            :: has_news -> gone = exited; has_news = false
            :: else
            fi;
#else
            if
            :: has_news -> has_news = false; gone = exited
            :: else
            fi;
#endif
#endif
            do
            :: receive(PARENT, ERROR_SIGNALS);
                if
                :: !got -> break
                :: else ->
#ifdef USER_MAY_HOLD
                    if
                    :: keeps = true; break
                    :: true
                    fi;
#endif
                    progress = true;
                    release(PARENT, ERROR_SIGNALS);
                    if
                    :: !gone -> break
                    :: else
                    fi
                fi
            od;
#ifdef CHECKS_DEATH_LAST
            if
            :: has_news -> has_news = false; gone = exited
            :: else
            fi;
#endif
            if
            :: gone ->
                assert(received[ERROR_SIGNALS] == committed[ERROR_SIGNALS]);
                goto done
            :: else
            fi;
            is_full = false;
            do
            :: !is_full && committed[POSTERIORS] < RECORDS && in_flight < IN_FLIGHT ->
                claim(PARENT);
                if
                :: claimed -> commit(PARENT); choose_size()
                :: else -> is_full = true
                fi
            :: else -> break
            od;
#ifdef USER_MAY_HOLD
            if
            :: keeps -> user_holds = true; (false) /* the user computes and never calls again */
            :: else
            fi;
#endif
            if
            :: received[ERROR_SIGNALS] == RECORDS -> break
            :: else
            fi;
            if
            :: !progress -> wait_for_news(PARENT, true, is_full)
            :: else
            fi
        od;
        exit_asked = true;
        if
        :: exited
#ifdef CHILD_MAY_HANG
        :: computing -> killed[CHILD] = true; exited /* after exit_timeout */
#endif
        fi;
done:
        atomic { over[PARENT] = true; dead[PARENT] = true }
    } unless {
        atomic { killed[PARENT] -> drain(PARENT); asleep[PARENT] = false; dead[PARENT] = true }
    }
}

proctype ParentWatcher() {
    (dead[CHILD]);
#ifdef PARENTS_WATCHER_POKES_TOO_EARLY
    poke(PARENT);
    exited = true;
    has_news = true
#else
    if
    :: has_news = true; poke(PARENT) /* the pipe may close before the process exits */
    :: true
    fi;
#ifdef SETS_NEWS_TOO_EARLY
    has_news = true;
    exited = true;
#else
    exited = true;
    has_news = true;
#endif
#ifndef PARENTS_WATCHER_DOES_NOT_POKE
    poke(PARENT)
#endif
#endif
}

/* --- the child: Inbox.take, and ParentLink.claim for the answer */

#ifdef WAITS_FOR_ROOM_AND_REQUESTS
#define for_requests true
#else
#define for_requests !for_room
#endif

proctype Child() {
    private_positions;
    bool for_room;
    {
        do
        :: ended -> break
        :: else ->
            receive(CHILD, POSTERIORS);
            if
            :: got ->
#ifdef CHILD_MAY_HANG
                if
                :: computing = true; (false)
                :: true
                fi;
#endif
                wanted = c_size; /* an error signal is as large as the posteriors */
                for_room = true;
                do
                :: ended -> break
                :: else ->
                    claim(CHILD);
                    if
                    :: claimed -> commit(CHILD); break
                    :: else -> wait_for_news(CHILD, for_requests, for_room)
                    fi
                od;
                for_room = false;
                wanted = 0;
                release(CHILD, POSTERIORS)
            :: else -> wait_for_news(CHILD, for_requests, for_room)
            fi
        od;
#ifdef CHILD_MAY_HANG
        if
        :: computing = true; (false) /* Sprint continues after its Python code has returned */
        :: true
        fi;
#endif
        atomic { over[CHILD] = true; dead[CHILD] = true }
    } unless {
        atomic { killed[CHILD] -> drain(CHILD); asleep[CHILD] = false; dead[CHILD] = true }
    }
}

proctype ChildWatcher() {
    (dead[PARENT] || exit_asked || dead[CHILD]);
    if
    :: dead[CHILD] -> goto done /* this is a thread of that process */
    :: else
    fi;
#ifdef CHILDS_WATCHER_POKES_TOO_EARLY
    poke(CHILD);
    ended = true;
#else
#ifdef POKES_WHILE_ITS_NEWS_IS_BUFFERED
    atomic { store(CHILD_WATCHER, ENDED, true) };
#else
    ended = true;
#endif
#ifndef CHILDS_WATCHER_DOES_NOT_POKE
    poke(CHILD);
#endif
#endif
#ifdef CHILD_MAY_HANG
#ifdef STOPS_WATCHING_AT_EXIT
    if
    :: exit_asked -> goto done
    :: else
    fi;
#endif
    (dead[PARENT] || dead[CHILD]);
    killed[CHILD] = true; /* os._exit, after _GRACE */
#endif
done:
    skip
}

/* --- kills one of the processes, or neither, at any step */

proctype Killer() {
#ifdef DEATH
    if
    :: killed[PARENT] = true
    :: killed[CHILD] = true
    :: true
    fi
#else
    skip
#endif
}

init {
    atomic {
        run Parent();
        run Child();
        run ParentWatcher();
        run ChildWatcher();
        run Memory();
        run Killer()
    }
}

/* --- the properties. Runs without an LTL claim check the assertions above, and that all processes end. */

#define got_there(r, k) (received[r] >= k || dead[PARENT] || dead[CHILD])

/* committed records are received unless a process ends */
ltl received_in_the_end {
    [] ((committed[POSTERIORS] >= 1) -> <> got_there(POSTERIORS, 1)) &&
    [] ((committed[POSTERIORS] >= RECORDS) -> <> got_there(POSTERIORS, RECORDS)) &&
    [] ((committed[ERROR_SIGNALS] >= 1) -> <> got_there(ERROR_SIGNALS, 1)) &&
    [] ((committed[ERROR_SIGNALS] >= RECORDS) -> <> got_there(ERROR_SIGNALS, RECORDS))
}

/* after a death the other process detects it and ends */
ltl ends_after_a_death { [] ((dead[PARENT] || dead[CHILD]) -> <> (dead[PARENT] && dead[CHILD])) }

/* while the user holds results that leave no room, the child sleeps instead of polling */
ltl sleeps_while_there_is_no_room { [] (user_holds -> <> [] asleep[CHILD]) }

/* run.c - the scheduler and its workers (see stratum/run.h).
 *
 * A task is a node's part in one run.  States:
 *
 *     IDLE -> WAITING -> READY -> RUNNING -> DONE
 *                                    |-> FAILED
 *                                    `-> WAITING   (it chose an input, or became another node)
 *
 * Every reader of a task's output holds a use of it; the last use frees the values, or, if the task has
 * not begun, drops it.  All fields of tasks are guarded by the run's lock, which is never held while an
 * operator runs.
 *
 * Which ready task comes next: the lower wave (so that one fold's intermediates go before the next
 * fold's come), then the longer path to a root.  Under a host with a global lock two nodes that hold it
 * gain next to nothing side by side, so a worker prefers a node that does not hold it while another
 * worker is inside one that does.  Otherwise those that hold it come first, so that it is never idle, but
 * only one wave ahead of the others: a worker that fitted every fold's transformers while another was still
 * at the first fold's models had the features of all folds alive (three folds of 100,000 rows: 330 MB of
 * features where two take 220).  Small nodes that hold it never run beside each other at all:
 * handing the lock to and fro costs more than they do.
 *
 * A task whose outputs somebody computed before (st_recall) becomes READY without its inputs and loads them;
 * if that fails, it starts once more, with its inputs.
 */
#include "../graph/graph.h"
#include "stratum/run.h"

#include <errno.h>
#include <time.h>

typedef struct st_task st_task;
typedef enum tstate { IDLE, WAITING, READY, RUNNING, DONE, FAILED } tstate;

typedef struct reader {
    st_task *t;
    uint32_t life;
} reader;

struct st_task {
    st_node *node;
    tstate state;
    size_t missing; /* inputs (or the target) that are not final yet */
    st_value **out;
    uint32_t *uses;         /* readers of each port now, then the same ever: 2 * n_out */
    size_t total;           /* all readers and pins */
    ST_VEC(reader) readers; /* tasks to tell when this one is final */
    uint32_t life;          /* grows when the task is dropped: what it asked for before is void */
    st_value *error;
    st_node *at; /* where the error arose */
    st_error err;
    st_ref becomes;         /* node != NULL: the value comes from there */
    ST_VEC(st_task *) also; /* what it became or computed inside: their time is part of this one's */
    st_task *awaits;        /* while RUNNING: what st_run_nested computes for it */
    st_task *above;         /* meanwhile: what runs on top of it, on its thread */
    size_t held;            /* so many inputs, from the first, count a use by this task */
    size_t looked;          /* so many inputs, from the first, are known to be there */
    size_t roots;           /* 1 + the last root that asked for it; 0: none */
    bool poisoned;          /* one of its inputs failed */
    bool ran, queued, abandoned, gil;
    bool recall;   /* READY or RUNNING: its outputs are to be loaded, not computed */
    bool unknown;  /* loading failed: it is not tried again */
    bool kept;     /* its outputs are held elsewhere too, for other runs */
    bool telling;  /* it, or what it was made of, said something that loading would not say */
    bool heard;    /* while RUNNING: what it computed inside said something */
    double again;  /* seconds that it would take to have it once more */
    bool asleep;   /* in st_run_nested, and nothing else runs on its thread */
    bool circular; /* it waits inside for itself: the wait is to end */
    void *worker;
    double prio, seconds, claimed;
    double away;    /* seconds of its execution that it spent in st_run_nested */
    uint32_t users; /* scratch of st_run_share */
    uint64_t mark;
    int wave, q;
    size_t heap_at;
    st_task *next_final, *next_drop; /* lists that replace recursion */
};

typedef ST_VEC(st_task *) heap;

enum { Q_CALLER, Q_GIL, Q_FREE, N_QUEUES };

typedef struct root {
    st_task *t;
    uint32_t port;
    bool listed;
    size_t sibling; /* 1 + the root that asked for the same task before */
} root;

struct st_run {
    st_graph *g;
    const st_alloc *a;
    int n_threads;
    pthread_mutex_t lock;
    pthread_cond_t work; /* something is ready, or the run ends */
    pthread_cond_t done; /* something is final, or a caller's task is ready */
    size_t refs;         /* the owner and each worker inside */
    /* guarded by lock: */
    ST_VEC(st_task *) tasks;
    ST_VEC(root) roots;
    ST_VEC(size_t) final_roots; /* in the order in which they became final; as much room as roots */
    size_t told;                /* so many of them, from the first, were answered */
    heap q[N_QUEUES];
    size_t running, gil_running;
    size_t nested; /* running tasks that are inside st_run_nested */
    bool canceled, closing, finishing, dropping;
    st_task *finals, **finals_end, *drops;
    uint64_t walk;
    st_run_stats stats;
    st_recall recall; /* all NULL: there is none; set before the first demand */
};

struct st_keep {
    size_t n;
    st_task *t[];
};

/* The task that this thread is inside of: what st_run_nested is called from. */
static _Thread_local st_task *current;

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* -- The queues ---------------------------------------------------------------------------- */

static bool before(const st_task *a, const st_task *b)
{
    if (a->wave != b->wave) return a->wave < b->wave;
    if (a->prio != b->prio) return a->prio > b->prio;
    return a->node->id < b->node->id;
}

static void heap_up(heap *h, size_t i)
{
    while (i > 0 && before(h->v[i], h->v[(i - 1) / 2])) {
        st_task *t = h->v[i];
        h->v[i] = h->v[(i - 1) / 2];
        h->v[(i - 1) / 2] = t;
        h->v[i]->heap_at = i;
        i = (i - 1) / 2;
        h->v[i]->heap_at = i;
    }
}

static void heap_down(heap *h, size_t i)
{
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= h->n) return;
        if (c + 1 < h->n && before(h->v[c + 1], h->v[c])) c++;
        if (!before(h->v[c], h->v[i])) return;
        st_task *t = h->v[i];
        h->v[i] = h->v[c];
        h->v[c] = t;
        h->v[i]->heap_at = i;
        h->v[c]->heap_at = c;
        i = c;
    }
}

static void heap_remove(heap *h, st_task *t)
{
    size_t i = t->heap_at;
    st_task *last = h->v[--h->n];
    if (last != t) {
        h->v[i] = last;
        last->heap_at = i;
        heap_up(h, i);
        heap_down(h, last->heap_at);
    }
    t->queued = false;
}

static bool on_caller(const st_task *t)
{
    uint32_t p = t->node->op->props;
    return !(p & ST_P_THREAD_SAFE) || (t->node->flags & ST_N_CALLER);
}

static bool holds_gil(const st_task *t)
{
    return (t->node->op->props & ST_P_HOLDS_GIL) && !(t->node->flags & ST_N_FREE);
}

static int queue_of(const st_task *t)
{
    if (t->recall) return Q_GIL; /* loading is the host's work, on any thread */
    return on_caller(t) ? Q_CALLER : holds_gil(t) || (t->node->flags & ST_N_SMALL) ? Q_GIL : Q_FREE;
}

/* The queues hold at most as many tasks as there are, and were grown when a task was made: putting one
 * into a queue cannot fail. */
static void enqueue(st_run *r, st_task *t)
{
    t->q = queue_of(t);
    heap *h = &r->q[t->q];
    t->state = READY;
    t->queued = true;
    t->heap_at = h->n;
    h->v[h->n++] = t;
    heap_up(h, t->heap_at);
    if (t->q != Q_CALLER) pthread_cond_signal(&r->work);
    if (t->q == Q_CALLER || r->n_threads == 0) pthread_cond_broadcast(&r->done);
}

/* -- Tasks --------------------------------------------------------------------------------- */

static size_t n_eager(const st_node *n) { return n->op->props & ST_P_CHOOSES ? (n->n_in ? 1 : 0) : n->n_in; }

static bool is_final(const st_task *t) { return t->state == DONE || t->state == FAILED; }

/* The output can be read.  A task that runs again for one output may still have another one. */
static bool has(const st_task *t, uint32_t port) { return t->out[port] || t->state == DONE; }

static int task_of(st_run *r, st_node *n, st_task **out)
{
    if (n->task) {
        *out = (st_task *)n->task;
        return ST_OK;
    }
    for (int q = 0; q < N_QUEUES; q++) {
        size_t need = r->tasks.n + 1;
        if (need > r->q[q].cap)
            ST_TRY(st_vec_grow_(r->a, (void **)&r->q[q].v, &r->q[q].cap, need, sizeof *r->q[q].v));
    }
    ST_TRY(st_vec_reserve(r->a, &r->tasks, 1));
    st_task *t = st_mem_zero(r->a, sizeof *t);
    size_t k = n->op->n_out ? n->op->n_out : 1;
    if (t) {
        t->out = st_mem_zero(r->a, k * sizeof *t->out);
        t->uses = st_mem_zero(r->a, 2 * k * sizeof *t->uses);
    }
    if (!t || !t->out || !t->uses) {
        if (t) {
            st_mem_free(r->a, t->out);
            st_mem_free(r->a, t->uses);
        }
        st_mem_free(r->a, t);
        return ST_ENOMEM;
    }
    t->node = st_node_retain(n);
    t->wave = INT32_MAX;
    r->tasks.v[r->tasks.n++] = t;
    r->stats.tasks++;
    n->task = (struct st_task *)t;
    *out = t;
    return ST_OK;
}

/* Values to release once the lock is free again: a host's release must not run under it. */
typedef struct trash {
    ST_VEC(st_value *) v;
} trash;

static void throw_away(st_run *r, trash *x, st_value *v)
{
    if (!v) return;
    if (st_vec_reserve(r->a, &x->v, 1) == ST_OK)
        x->v.v[x->v.n++] = v;
    else
        st_value_release(v); /* out of memory: a host's release only queues, so this is safe, if not tidy */
}

static void empty(st_run *r, trash *x)
{
    for (size_t i = 0; i < x->v.n; i++)
        st_value_release(x->v.v[i]);
    st_vec_free(r->a, &x->v);
}

static void use(st_task *t, uint32_t port)
{
    t->uses[port]++;
    t->uses[t->node->op->n_out + port]++;
    t->total++;
}

static void free_values(st_run *r, st_task *t, trash *x)
{
    for (uint32_t p = 0; p < t->node->op->n_out; p++) {
        throw_away(r, x, t->out[p]);
        t->out[p] = NULL;
    }
}

/* One reader less.  Frees values that nobody reads; a task that has not begun and that nobody waits for
 * any more goes to the list of tasks to drop. */
static void drop_edge(st_run *r, st_task *t, uint32_t port, trash *x)
{
    t->total--;
    if (--t->uses[port] == 0) {
        throw_away(r, x, t->out[port]);
        t->out[port] = NULL;
    }
    if (t->total == 0 && (t->state == READY || t->state == WAITING)) {
        if (t->queued) heap_remove(&r->q[t->q], t);
        t->state = IDLE;
        t->life++;
        t->next_drop = r->drops;
        r->drops = t;
    }
}

static void drop_held(st_run *r, st_task *t, trash *x)
{
    size_t held = t->held;
    t->held = 0;
    for (size_t i = 0; i < held; i++)
        drop_edge(r, (st_task *)t->node->in[i].node->task, t->node->in[i].port, x);
}

static void drop_inputs(st_run *r, st_task *t, trash *x)
{
    if (t->becomes.node) {
        st_node *b = t->becomes.node;
        t->becomes.node = NULL;
        drop_edge(r, (st_task *)b->task, t->becomes.port, x);
        st_node_release(b); /* its task holds it too: this frees nothing here */
    }
    drop_held(r, t, x);
}

/* Drop what is in the list; a loop, as dropping a task may add its inputs to the list. */
static void drop_all(st_run *r, trash *x)
{
    if (r->dropping) return;
    r->dropping = true;
    while (r->drops) {
        st_task *t = r->drops;
        r->drops = t->next_drop;
        drop_inputs(r, t, x);
    }
    r->dropping = false;
}

static void unuse(st_run *r, st_task *t, uint32_t port, trash *x)
{
    drop_edge(r, t, port, x);
    drop_all(r, x);
}

static void release_inputs(st_run *r, st_task *t, trash *x)
{
    drop_inputs(r, t, x);
    drop_all(r, x);
}

/* `t` is final (its state says how): tell its readers, and theirs, in a loop. */
static void finish(st_run *r, st_task *t, trash *x);

static void fail_task(st_run *r, st_task *t, st_value *error, st_node *at, const st_error *err, trash *x)
{
    if (t->queued) heap_remove(&r->q[t->q], t);
    t->state = FAILED;
    t->error = st_value_retain(error);
    t->at = at;
    if (err) t->err = *err;
    r->stats.failed++;
    finish(r, t, x);
}

/* Whether failed inputs are this task's business; the failure of what it became is its own. */
static bool tolerates(const st_task *t) { return (t->node->op->props & ST_P_TOLERANT) && !t->becomes.node; }

/* Inputs in order: the first that is not final stops the look, the first that failed fails the task. */
static void check_poison(st_run *r, st_task *t, trash *x)
{
    if (t->state != WAITING || !t->poisoned || tolerates(t)) return;
    st_task *bad = NULL;
    if (t->becomes.node) {
        st_task *b = (st_task *)t->becomes.node->task;
        if (b->state == FAILED) bad = b;
    } else {
        for (size_t i = t->looked; i < n_eager(t->node); i++) {
            st_ref in = t->node->in[i];
            st_task *m = (st_task *)in.node->task;
            if (has(m, in.port)) {
                if (t->looked == i) t->looked++; /* it is not looked at again: wide nodes stay linear */
                continue;
            }
            if (m->state == FAILED) bad = m;
            break;
        }
    }
    if (bad) fail_task(r, t, bad->error, bad->at, &bad->err, x);
}

/* What a task that became another node, or chose one of its inputs, waits for is done. */
static void forward(st_run *r, st_task *t, trash *x)
{
    st_task *m = (st_task *)t->becomes.node->task;
    if (t->uses[0] > 0 && !t->out[0]) t->out[0] = st_value_retain(m->out[t->becomes.port]);
    t->state = DONE;
    finish(r, t, x);
}

/* The roots that asked for `t`, which is final, are answered next. */
static void list_roots(st_run *r, const st_task *t)
{
    for (size_t k = t->roots; k > 0; k = r->roots.v[k - 1].sibling) {
        if (r->roots.v[k - 1].listed) continue;
        r->roots.v[k - 1].listed = true;
        r->final_roots.v[r->final_roots.n++] = k - 1;
    }
}

static void tell(st_run *r, st_task *t, trash *x)
{
    list_roots(r, t);
    release_inputs(r, t, x);
    for (size_t i = 0; i < t->readers.n; i++) {
        st_task *c = t->readers.v[i].t;
        if (c->state != WAITING || c->life != t->readers.v[i].life) continue;
        if (t->state == FAILED) c->poisoned = true;
        c->missing--;
        if (c->poisoned && !tolerates(c))
            check_poison(r, c, x);
        else if (c->missing == 0 && c->becomes.node)
            forward(r, c, x);
        else if (c->missing == 0)
            enqueue(r, c);
    }
    t->readers.n = 0;
    if (t->total == 0 && t->state == DONE) free_values(r, t, x);
}

static void finish(st_run *r, st_task *t, trash *x)
{
    t->next_final = NULL;
    if (r->finals)
        *r->finals_end = t;
    else
        r->finals = t;
    r->finals_end = &t->next_final;
    if (r->finishing) return;
    r->finishing = true;
    while (r->finals) {
        st_task *f = r->finals;
        tell(r, f, x); /* may append to the list */
        r->finals = f->next_final;
    }
    r->finishing = false;
    pthread_cond_broadcast(&r->done);
}

/* A reader wants a task that is done but whose value was freed: it has to run again.  Its other values
 * stay, as readers that are ready to run count on them. */
static void revive(st_run *r, st_task *m, uint32_t port)
{
    if (m->state != DONE || m->out[port]) return;
    m->state = IDLE;
    r->stats.recomputed++;
}

/* Take bound values if every output that somebody reads has one (what a search keeps of a preview is often
 * the state without the output).  Who asks for another one later makes the task run again. */
static bool take_bound(st_run *r, st_task *t, trash *x)
{
    st_node *n = t->node;
    bool all = false;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t p = 0; p < n->op->n_out; p++) {
            if (t->uses[p] == 0 || t->out[p]) continue;
            st_value *v = st_node_bound(n, p);
            if (!v) return false; /* in the second pass: unbound just now */
            all = true;
            if (pass == 0)
                throw_away(r, x, v);
            else
                t->out[p] = v;
        }
    }
    if (all) r->stats.reused++;
    return all;
}

/* Whether every output that somebody reads, and that is not there, can be loaded. */
static bool can_recall(st_run *r, const st_task *t)
{
    const st_node *n = t->node;
    if (!r->recall.knows || t->unknown || !n->plain) return false;
    if (n->op->props & (ST_P_EXPANDS | ST_P_CHOOSES) || n->flags & ST_N_ONCE) return false;
    bool any = false;
    for (uint32_t p = 0; p < n->op->n_out; p++) {
        if (t->uses[p] == 0 || t->out[p]) continue;
        if (!r->recall.knows(r->recall.ud, n, p)) return false;
        any = true;
    }
    return any;
}

static void fail_for_memory(st_run *r, st_task *t, trash *x)
{
    st_error err;
    st_fail(&err, ST_ENOMEM, "out of memory while scheduling");
    fail_task(r, t, NULL, t->node, &err, x);
}

/* Start `first` (IDLE, used by somebody) and what it needs.  Iterative.  What there is no memory for
 * fails. */
static void start(st_run *r, st_task *first, trash *x)
{
    struct step {
        st_task *t;
        size_t i;
    };
    ST_VEC(struct step) stack = {0};
    st_task *next = first;
    while (next || stack.n) {
        if (next) {
            st_task *t = next;
            next = NULL;
            if (take_bound(r, t, x)) {
                t->state = DONE;
                finish(r, t, x);
                continue;
            }
            t->recall = can_recall(r, t);
            if (t->recall) {
                t->poisoned = false;
                enqueue(r, t);
                continue;
            }
            t->state = WAITING;
            t->missing = 1; /* held until every input has been looked at */
            t->poisoned = false;
            t->looked = 0;
            if (st_vec_reserve(r->a, &stack, 1) == ST_OK)
                stack.v[stack.n++] = (struct step){t, 0};
            else
                fail_for_memory(r, t, x);
            continue;
        }
        struct step *s = &stack.v[stack.n - 1];
        st_task *t = s->t;
        if (t->state != WAITING) { /* an input failed it, or its only reader */
            stack.n--;
        } else if (s->i < n_eager(t->node)) {
            st_ref in = t->node->in[s->i++];
            st_task *m;
            if (task_of(r, in.node, &m) != ST_OK) {
                fail_for_memory(r, t, x);
                continue;
            }
            use(m, in.port);
            t->held++;
            if (!m->queued && m->wave > t->wave) m->wave = t->wave;
            if (!m->queued && m->prio < t->prio) m->prio = t->prio;
            revive(r, m, in.port);
            if (m->state == FAILED) t->poisoned = true;
            if (is_final(m) || has(m, in.port)) continue;
            if (st_vec_reserve(r->a, &m->readers, 1) != ST_OK) {
                fail_for_memory(r, t, x);
                continue;
            }
            m->readers.v[m->readers.n++] = (reader){t, t->life};
            t->missing++;
            if (m->state == IDLE) next = m;
        } else {
            stack.n--;
            t->missing--;
            if (t->poisoned && !tolerates(t))
                check_poison(r, t, x);
            else if (t->missing == 0)
                enqueue(r, t);
        }
    }
    st_vec_free(r->a, &stack);
}

/* `t` takes its value from `ref`, which is started if need be. */
static int become(st_run *r, st_task *t, st_ref ref, trash *x)
{
    st_task *m;
    if (ref.node->graph != r->g || ref.port >= ref.node->op->n_out || t->node->op->n_out != 1)
        return ST_EINVAL;
    ST_TRY(task_of(r, ref.node, &m));
    ST_TRY(st_vec_reserve(r->a, &m->readers, 1));
    ST_TRY(st_vec_reserve(r->a, &t->also, 1));
    t->state = WAITING;
    t->becomes = ref;
    t->also.v[t->also.n++] = m;
    st_node_retain(ref.node);
    t->missing = 1;
    t->poisoned = false;
    use(m, ref.port);
    if (!m->queued && m->wave > t->wave) m->wave = t->wave;
    if (!m->queued && m->prio < t->prio) m->prio = t->prio;
    revive(r, m, ref.port);
    if (has(m, ref.port)) {
        forward(r, t, x);
    } else if (m->state == FAILED) {
        fail_task(r, t, m->error, m->at, &m->err, x);
    } else {
        m->readers.v[m->readers.n++] = (reader){t, t->life};
        if (m->state == IDLE) start(r, m, x);
    }
    /* Only now: what it became may read what it read. */
    drop_held(r, t, x);
    drop_all(r, x);
    return ST_OK;
}

/* -- Executing ----------------------------------------------------------------------------- */

#define SMALL_IN 24

/* Load what a READY task would compute.  The lock is held on entry and on return. */
static void load(st_run *r, st_task *t, void *worker)
{
    st_node *n = t->node;
    uint32_t n_out = n->op->n_out;
    st_value *small[4] = {0}, **out = n_out <= 4 ? small : st_mem_zero(r->a, n_out * sizeof *out);
    trash x = {0};
    t->state = RUNNING;
    t->gil = true;
    t->worker = worker;
    r->running++;
    r->gil_running++;
    uint64_t wanted = 0; /* (an operator with more outputs than bits is loaded whole) */
    for (uint32_t p = 0; p < n_out; p++)
        if (p >= 64 || (t->uses[p] > 0 && !t->out[p])) wanted |= UINT64_C(1) << (p < 64 ? p : 63);
    pthread_mutex_unlock(&r->lock);
    double from = now();
    int rc = out ? ST_OK : ST_ENOMEM;
    st_task *outer = current;
    current = t;
    for (uint32_t p = 0; p < n_out && rc == ST_OK; p++)
        if (wanted >> (p < 64 ? p : 63) & 1) rc = r->recall.load(r->recall.ud, n, p, &out[p]);
    current = outer;
    double spent = now() - from;
    pthread_mutex_lock(&r->lock);
    r->running--;
    r->gil_running--;
    t->worker = NULL;
    t->recall = false;
    for (uint32_t p = 0; p < n_out && out; p++) {
        if (rc != ST_OK || t->abandoned || r->closing || t->uses[p] == 0 || t->out[p])
            throw_away(r, &x, out[p]);
        else
            t->out[p] = out[p];
    }
    if (t->abandoned || r->closing) {
        t->state = FAILED;
    } else if (rc == ST_OK) {
        t->again = spent;
        t->kept = true;
        r->stats.recalled++;
        r->stats.recall_seconds += spent;
        t->state = DONE;
        finish(r, t, &x);
    } else {
        t->unknown = true;
        t->state = IDLE;
        if (t->total > 0) start(r, t, &x);
    }
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    empty(r, &x);
    if (out != small) st_mem_free(r->a, out);
    pthread_mutex_lock(&r->lock);
}

/* What was computed may be worth keeping: its outputs are held meanwhile.  Whether it is kept, and what
 * loading it takes then.  The lock is not held: what others read of the task is written by the caller. */
static bool offer(const st_run *r, st_exec *e, double spent, double again, bool telling, double *load)
{
    const st_node *n = e->node;
    if (!r->recall.offer || !n->plain || (n->flags & ST_N_ONCE) || telling || e->becomes.node) return false;
    if (n->op->props & (ST_P_EXPANDS | ST_P_CHOOSES) || again < r->recall.worth) return false;
    return r->recall.offer(r->recall.ud, e, spent, again, load);
}

/* Execute one READY task taken from its queue.  The lock is held on entry and on return. */
static void execute(st_run *r, st_task *t, void *worker)
{
    if (t->recall) {
        load(r, t, worker);
        return;
    }
    st_node *n = t->node;
    st_value *in_s[SMALL_IN], *err_s[SMALL_IN];
    unsigned char shared_s[SMALL_IN];
    size_t k = n->n_in, eager = n_eager(n);
    bool small = k <= SMALL_IN;
    st_value **in = small ? in_s : st_mem_new(r->a, k * sizeof *in);
    st_value **in_err = small ? err_s : st_mem_new(r->a, k * sizeof *in_err);
    unsigned char *shared = small ? shared_s : st_mem_new(r->a, k);
    st_value *out_s[4] = {0},
             **out = n->op->n_out <= 4 ? out_s : st_mem_zero(r->a, n->op->n_out * sizeof *out);
    trash x = {0};
    st_error err = {0};
    int rc = in && in_err && shared && out ? ST_OK : ST_ENOMEM;
    t->gil = holds_gil(t) || (n->flags & ST_N_SMALL);
    t->state = RUNNING;
    t->worker = worker;
    r->running++;
    if (t->gil) r->gil_running++;
    st_exec e = {.run = r,
                 .node = n,
                 .op = n->op,
                 .n_in = k,
                 .in = in,
                 .in_error = in_err,
                 .in_shared = shared,
                 .out = out,
                 .choice = SIZE_MAX,
                 .worker = worker};
    double again = 0;
    bool telling = false;
    if (rc == ST_OK) {
        for (size_t i = 0; i < k; i++) {
            in[i] = in_err[i] = NULL;
            shared[i] = 1;
            if (i >= eager) continue;
            st_ref f = n->in[i];
            st_task *m = (st_task *)f.node->task;
            again += m->again;
            telling |= m->telling;
            in[i] = m->out[f.port];
            in_err[i] = m->state == FAILED ? m->error : NULL;
            shared[i] = m->uses[f.node->op->n_out + f.port] > 1 || m->kept || st_node_is_bound(f.node);
        }
    }
    if (again > r->stats.seconds)
        again = r->stats.seconds; /* what several inputs share was counted for each */
    size_t ready = r->q[Q_GIL].n + r->q[Q_FREE].n;
    /* What waits for nodes that it computes inside leaves its thread to them. */
    e.threads = r->running - r->nested <= 1 && ready == 0 && r->n_threads ? r->n_threads : 1;
    pthread_mutex_unlock(&r->lock);

    double from = now();
    st_task *outer = current;
    current = t;
    if (rc == ST_OK)
        rc = n->op->exec ? n->op->exec(&e, &err) : st_fail(&err, ST_EUNSUPPORTED, "nothing runs it");
    double spent = now() - from;
    current = outer;
    double own = spent - t->away, load_seconds = 0;
    telling |= e.telling || t->heard;
    bool kept = rc == ST_OK && offer(r, &e, own, own + again, telling, &load_seconds);

    pthread_mutex_lock(&r->lock);
    if (rc == ST_OK) {
        t->telling = telling;
        t->again = kept ? load_seconds : own + again;
        t->kept |= kept;
    }
    if (rc == ST_OK && (n->op->props & ST_P_CHOOSES)) {
        if (e.choice == 0 && k > 0) /* the condition itself is the option */
            out[0] = st_value_retain(in[0]);
        else if (e.choice < k)
            e.becomes = (st_ref){st_node_retain(n->in[e.choice].node), n->in[e.choice].port};
        else
            rc = st_fail(&err, ST_EINVAL, "%s chose no input", n->op->name);
    }
    for (uint32_t p = 0; rc == ST_OK && !e.becomes.node && p < n->op->n_out; p++)
        if (!out[p] && t->uses[p] > 0)
            rc = st_fail(&err, ST_EINVAL, "%s left output %u empty", n->op->name, (unsigned)p);
    r->running--;
    if (t->gil) r->gil_running--;
    spent -= t->away;
    t->away = 0;
    t->seconds += spent;
    r->stats.seconds += spent;
    r->stats.executed++;
    t->ran = true;
    t->worker = NULL;
    if (t->abandoned || r->closing) {
        /* nobody waits any more: what it made is discarded */
        for (uint32_t p = 0; p < n->op->n_out && out; p++)
            throw_away(r, &x, out[p]);
        throw_away(r, &x, e.error);
        t->state = FAILED;
    } else if (rc != ST_OK) {
        if (!err.code) st_fail(&err, rc, "%s: %s", n->op->name, st_code_text(rc));
        for (uint32_t p = 0; p < n->op->n_out && out; p++)
            throw_away(r, &x, out[p]);
        fail_task(r, t, e.error, n, &err, &x);
        throw_away(r, &x, e.error);
    } else if (e.becomes.node) {
        for (uint32_t p = 0; p < n->op->n_out; p++)
            throw_away(r, &x, out[p]);
        rc = become(r, t, e.becomes, &x);
        if (rc != ST_OK) {
            st_fail(&err, rc, "%s became another node: %s", n->op->name, st_code_text(rc));
            fail_task(r, t, NULL, n, &err, &x);
        }
    } else {
        for (uint32_t p = 0; p < n->op->n_out; p++) {
            if (t->uses[p] == 0 || t->out[p]) /* nobody wants it, or it was there from before */
                throw_away(r, &x, out[p]);
            else
                t->out[p] = out[p];
        }
        t->state = DONE;
        finish(r, t, &x);
    }
    pthread_cond_broadcast(&r->work); /* the mix of what runs has changed */
    pthread_mutex_unlock(&r->lock);
    if (e.becomes.node) st_node_release(e.becomes.node);
    empty(r, &x);
    if (!small) {
        st_mem_free(r->a, in);
        st_mem_free(r->a, in_err);
        st_mem_free(r->a, shared);
    }
    if (out != out_s) st_mem_free(r->a, out);
    pthread_mutex_lock(&r->lock);
}

static bool nests(const st_task *t) { return t->node->op->props & (ST_P_NESTS | ST_P_EXPANDS); }

/* The best task of a queue that this thread may take now. */
static st_task *peek(st_run *r, int q, bool nested)
{
    heap *h = &r->q[q];
    if (!h->n) return NULL;
    if (!nested || !nests(h->v[0])) return h->v[0];
    st_task *best = NULL;
    for (size_t i = 0; i < h->n; i++)
        if (!nests(h->v[i]) && (!best || before(h->v[i], best))) best = h->v[i];
    return best;
}

/* More than the next wave: what `a` makes would wait there while `b`'s wave still holds its own. */
static bool runs_ahead(const st_task *a, const st_task *b) { return a->wave - 1 > b->wave; }

static st_task *pick_any(st_run *r, bool nested)
{
    st_task *g = peek(r, Q_GIL, nested), *f = peek(r, Q_FREE, nested);
    if (g && f && runs_ahead(g, f)) return f;
    if (g && r->gil_running > 0) {
        if (f) return f;
        return g->node->flags & ST_N_SMALL && !nested ? NULL : g;
    }
    return g ? g : f;
}

static void take(st_run *r, st_task *t) { heap_remove(&r->q[t->q], t); }

/* What `t` waits for: up to two tasks, or its first `t->held` inputs. */
static size_t waits_for(const st_task *t, st_task *some[2])
{
    some[0] = some[1] = NULL;
    if (t->state == RUNNING) {
        some[0] = t->awaits;
        some[1] = t->above;
    } else if (t->state == WAITING && t->becomes.node) {
        some[0] = (st_task *)t->becomes.node->task;
    } else if (t->state == WAITING) {
        return t->held;
    }
    return some[1] ? 2 : some[0] ? 1 : 0;
}

/* Walk from `t` over what is waited for: to a ready task that this thread may take (`wanted` is NULL),
 * or to `wanted`.  NULL: there is none. */
static st_task *search(st_run *r, st_task *t, bool caller, bool other, const st_task *wanted)
{
    ST_VEC(st_task *) stack = {0};
    st_task *found = NULL;
    uint64_t walk = ++r->walk;
    if (st_vec_reserve(r->a, &stack, 1) == ST_OK) stack.v[stack.n++] = t;
    while (stack.n) {
        t = stack.v[--stack.n];
        if (wanted ? t == wanted : t->queued && (t->q == Q_CALLER ? caller : other)) {
            found = t;
            break;
        }
        st_task *some[2];
        size_t n = waits_for(t, some);
        if (st_vec_reserve(r->a, &stack, n) != ST_OK) break; /* it is looked for again */
        for (size_t i = 0; i < n; i++) {
            st_task *m = some[0] ? some[i] : (st_task *)t->node->in[i].node->task;
            if (m->mark == walk) continue;
            m->mark = walk;
            stack.v[stack.n++] = m;
        }
    }
    st_vec_free(r->a, &stack);
    return found;
}

/* A ready task that `target` waits for, of those that a thread inside a node may only take when its own
 * wait needs them: tasks that may wait themselves.  (Any other one of these could end up waiting for the
 * node that lies below it on this thread's stack.) */
static st_task *pick_needed(st_run *r, st_task *target, bool caller, bool other)
{
    bool any = (caller && r->q[Q_CALLER].n) || (other && (r->q[Q_GIL].n || r->q[Q_FREE].n));
    return any ? search(r, target, caller, other, NULL) : NULL;
}

/* Every thread that is inside a node waits there for another one, and none is about to wake up. */
static bool all_wait(const st_run *r)
{
    if (r->running != r->nested) return false;
    for (size_t i = 0; i < r->tasks.n; i++) {
        const st_task *t = r->tasks.v[i];
        if (t->asleep && (t->circular || is_final(t->awaits))) return false;
    }
    return true;
}

/* Where all wait and nothing can begin, nodes may wait for each other: they became, or compute inside,
 * what needs them.  One of the circle fails.  False: there is no circle. */
static bool break_circle(st_run *r, trash *x)
{
    if (r->q[Q_CALLER].n || r->q[Q_GIL].n || r->q[Q_FREE].n || !all_wait(r)) return false;
    for (size_t i = 0; i < r->tasks.n; i++) {
        st_task *t = r->tasks.v[i], *some[2];
        waits_for(t, some);
        if (!some[0] || (t->state == RUNNING && !t->asleep) || !search(r, some[0], false, false, t)) continue;
        if (t->state == RUNNING) {
            t->circular = true; /* its wait ends */
            pthread_cond_broadcast(&r->done);
        } else {
            st_error err;
            st_fail(&err, ST_ECYCLE, "%s became a node that needs it", t->node->op->name);
            fail_task(r, t, NULL, t->node, &err, x);
        }
        return true;
    }
    return false;
}

static void run_unref(st_run *r)
{
    /* lock held; frees when the last one leaves */
    bool last = --r->refs == 0;
    pthread_mutex_unlock(&r->lock);
    if (!last) return;
    for (size_t i = 0; i < r->tasks.n; i++) {
        st_task *t = r->tasks.v[i];
        for (uint32_t p = 0; p < t->node->op->n_out; p++)
            st_value_release(t->out[p]);
        st_value_release(t->error);
        if (t->becomes.node) st_node_release(t->becomes.node);
        st_vec_free(r->a, &t->readers);
        st_vec_free(r->a, &t->also);
        st_mem_free(r->a, t->out);
        st_mem_free(r->a, t->uses);
    }
    /* nodes go last: freeing one may free others that a task still named */
    for (size_t i = 0; i < r->tasks.n; i++) {
        st_node_release(r->tasks.v[i]->node);
        st_mem_free(r->a, r->tasks.v[i]);
    }
    for (int q = 0; q < N_QUEUES; q++)
        st_vec_free(r->a, &r->q[q]);
    st_vec_free(r->a, &r->tasks);
    st_vec_free(r->a, &r->roots);
    st_vec_free(r->a, &r->final_roots);
    pthread_cond_destroy(&r->work);
    pthread_cond_destroy(&r->done);
    pthread_mutex_destroy(&r->lock);
    st_mem_free(r->a, r);
}

/* -- The public face ----------------------------------------------------------------------- */

void st_run_set_recall(st_run *r, const st_recall *recall)
{
    pthread_mutex_lock(&r->lock);
    r->recall = *recall;
    pthread_mutex_unlock(&r->lock);
}

int st_run_new(st_graph *g, int n_threads, st_run **out)
{
    st_run *r = st_mem_zero(g->alloc, sizeof *r);
    if (!r) return ST_ENOMEM;
    r->g = g;
    r->a = g->alloc;
    r->n_threads = n_threads > 0 ? n_threads : 0;
    r->refs = 1;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int bad = pthread_mutex_init(&r->lock, NULL) || pthread_cond_init(&r->work, NULL) ||
              pthread_cond_init(&r->done, &attr);
    pthread_condattr_destroy(&attr);
    if (bad) {
        st_mem_free(r->a, r);
        return ST_ESYSTEM;
    }
    pthread_mutex_lock(&g->lock);
    bool busy = g->has_run;
    g->has_run = true;
    pthread_mutex_unlock(&g->lock);
    if (busy) { /* a node has room for its part in one run */
        pthread_mutex_lock(&r->lock);
        run_unref(r);
        return ST_EUNSUPPORTED;
    }
    *out = r;
    return ST_OK;
}

st_run *st_run_retain(st_run *r)
{
    pthread_mutex_lock(&r->lock);
    r->refs++;
    pthread_mutex_unlock(&r->lock);
    return r;
}

void st_run_release(st_run *r)
{
    pthread_mutex_lock(&r->lock);
    run_unref(r);
}

void st_run_free(st_run *r)
{
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    for (size_t i = 0; i < r->tasks.n; i++) {
        st_task *t = r->tasks.v[i];
        if (t->state == RUNNING) t->abandoned = true;
        if ((st_task *)t->node->task == t) t->node->task = NULL; /* the next run makes its own */
    }
    pthread_mutex_lock(&r->g->lock);
    r->g->has_run = false;
    pthread_mutex_unlock(&r->g->lock);
    pthread_cond_broadcast(&r->work);
    pthread_cond_broadcast(&r->done);
    run_unref(r);
}

void st_worker_run(st_run *r, void *worker)
{
    pthread_mutex_lock(&r->lock);
    r->refs++;
    while (!r->closing && !r->canceled) {
        st_task *t = pick_any(r, false);
        if (!t) {
            pthread_cond_wait(&r->work, &r->lock);
            continue;
        }
        take(r, t);
        execute(r, t, worker);
    }
    pthread_cond_broadcast(&r->done);
    run_unref(r);
}

static double cost_of(const st_node *n)
{
    st_meta m = st_node_meta(n);
    if (m.sure > 0) return m.seconds;
    return n->op->props & ST_P_FITS ? 1.0 : 0.1;
}

/* Ask for `refs`; on success `first` (may be NULL) is the task of the first one. */
static int demand(st_run *r, const st_ref *refs, const int *waves, size_t n, bool as_root, st_task **first,
                  st_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (refs[i].node->graph != r->g || refs[i].port >= refs[i].node->op->n_out)
            return st_fail(err, ST_EINVAL, "ref %zu is none of this run's graph", i);
    st_node **order = NULL;
    size_t m = 0;
    trash x = {0};
    int rc = st_graph_order(r->g, refs, n, &order, &m);
    if (rc != ST_OK) return st_fail(err, rc, "out of memory while scheduling");
    pthread_mutex_lock(&r->lock);
    if (r->closing) rc = ST_ECANCELED;
    /* Longest path to a root, and the earliest wave that needs a node: from the roots down. */
    for (size_t i = 0; i < n && rc == ST_OK; i++) {
        st_task *t;
        rc = task_of(r, refs[i].node, &t);
        if (rc == ST_OK && !t->queued && t->wave > (waves ? waves[i] : 0)) t->wave = waves ? waves[i] : 0;
    }
    for (size_t i = m; i > 0 && rc == ST_OK; i--) {
        st_task *t = (st_task *)order[i - 1]->task;
        if (!t) continue; /* only below an option that nobody has chosen yet */
        double down = t->prio + cost_of(t->node);
        for (size_t k = 0; k < n_eager(t->node) && rc == ST_OK; k++) {
            st_task *c;
            rc = task_of(r, t->node->in[k].node, &c);
            if (rc != ST_OK) break;
            if (c->queued) continue; /* its place in a queue depends on these */
            if (c->prio < down) c->prio = down;
            if (c->wave > t->wave) c->wave = t->wave;
        }
    }
    if (rc == ST_OK && as_root) rc = st_vec_reserve(r->a, &r->roots, n);
    if (rc == ST_OK && r->final_roots.cap < r->roots.cap)
        rc = st_vec_grow_(r->a, (void **)&r->final_roots.v, &r->final_roots.cap, r->roots.cap,
                          sizeof *r->final_roots.v);
    /* Nothing fails from here on: what there is no memory for fails as a node does. */
    if (rc == ST_OK && first) *first = n ? (st_task *)refs[0].node->task : NULL;
    for (size_t i = 0; i < n && rc == ST_OK; i++) {
        st_task *t = (st_task *)refs[i].node->task;
        use(t, refs[i].port);
        if (as_root) {
            r->roots.v[r->roots.n++] = (root){t, refs[i].port, false, t->roots};
            t->roots = r->roots.n;
        }
        revive(r, t, refs[i].port);
        if (t->state == IDLE)
            start(r, t, &x);
        else if (is_final(t))
            list_roots(r, t);
    }
    if (as_root) pthread_cond_broadcast(&r->done);
    pthread_mutex_unlock(&r->lock);
    empty(r, &x);
    st_mem_free(r->a, order);
    return rc == ST_OK ? ST_OK : st_fail(err, rc, "cannot schedule: %s", st_code_text(rc));
}

int st_run_demand(st_run *r, const st_ref *refs, const int *waves, size_t n, bool as_root, st_error *err)
{
    return demand(r, refs, waves, n, as_root, NULL, err);
}

static void wait_done(st_run *r, int ms)
{
    struct timespec ts;
    if (ms < 1) ms = 1;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += ms / 1000;
    ts.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (ts.tv_nsec >= 1000000000L) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000L;
    }
    pthread_cond_timedwait(&r->done, &r->lock, &ts);
}

int64_t st_run_next(st_run *r, st_poll poll, void *ud, int poll_ms, st_error *err)
{
    int64_t found = -1;
    double last = now();
    trash x = {0};
    if (err) err->code = ST_OK;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        if (r->told < r->final_roots.n) {
            found = (int64_t)r->final_roots.v[r->told++];
            break;
        }
        if (r->canceled) {
            st_fail(err, ST_ECANCELED, "cancelled");
            break;
        }
        if (r->told == r->roots.n) break;
        if (poll && now() - last >= poll_ms * 1e-3) {
            pthread_mutex_unlock(&r->lock);
            int stop = poll(ud);
            pthread_mutex_lock(&r->lock);
            last = now();
            if (stop) {
                r->canceled = true;
                pthread_cond_broadcast(&r->work);
                continue;
            }
        }
        st_task *t = peek(r, Q_CALLER, false);
        if (!t && r->n_threads == 0) t = pick_any(r, false);
        if (t) {
            take(r, t);
            execute(r, t, NULL);
            continue;
        }
        if (break_circle(r, &x)) continue;
        wait_done(r, poll_ms);
    }
    pthread_mutex_unlock(&r->lock);
    empty(r, &x);
    return found;
}

int st_run_nested(st_run *r, st_ref ref, void *worker, st_value **value, st_value **error, st_error *err)
{
    *value = *error = NULL;
    st_task *t = NULL;
    ST_TRY(demand(r, &ref, NULL, 1, false, &t, err));
    int rc = ST_OK;
    trash x = {0};
    double from = now();
    pthread_mutex_lock(&r->lock);
    st_task *self = current; /* NULL: called by a thread of the operator's own */
    st_task *awaited = self ? self->awaits : NULL;
    bool gil = self && self->gil;
    if (self) {
        self->awaits = t;
        self->asleep = true;
        r->nested++;
        if (st_vec_reserve(r->a, &self->also, 1) == ST_OK)
            self->also.v[self->also.n++] = t;
        else
            rc = st_fail(err, ST_ENOMEM, "out of memory while waiting for a node");
    }
    if (gil) { /* the host's lock is free while this thread waits */
        r->gil_running--;
        pthread_cond_broadcast(&r->work);
    }
    while (rc == ST_OK && !is_final(t)) {
        if (r->canceled || r->closing) {
            rc = st_fail(err, ST_ECANCELED, "cancelled");
            break;
        }
        if (self && self->circular) {
            self->circular = false;
            rc = st_fail(err, ST_ECYCLE, "%s waits for a node that needs it", self->node->op->name);
            break;
        }
        bool caller = !worker, other = worker || r->n_threads == 0;
        st_task *c = caller ? peek(r, Q_CALLER, true) : NULL;
        if (!c && other) c = pick_any(r, true);
        if (!c) c = pick_needed(r, t, caller, other);
        if (!c && caller && self && all_wait(r)) /* workers wait for this thread, and it for them */
            c = pick_needed(r, t, true, true);
        if (c) {
            if (self) { /* it wakes up when `c` has returned */
                self->asleep = false;
                self->above = c;
            }
            take(r, c);
            execute(r, c, worker);
            if (self) {
                self->asleep = true;
                self->above = NULL;
            }
            continue;
        }
        if (self && break_circle(r, &x)) continue;
        wait_done(r, 20);
    }
    if (gil) r->gil_running++;
    if (self) {
        self->heard |= t->telling;
        self->awaits = awaited;
        self->asleep = false;
        self->away += now() - from;
        r->nested--;
    }
    if (rc == ST_OK) {
        if (t->state == DONE)
            *value = st_value_retain(t->out[ref.port]);
        else {
            *error = st_value_retain(t->error);
            if (err) *err = t->err;
            rc = t->err.code ? t->err.code : ST_EHOST;
        }
    }
    if (!r->closing) unuse(r, t, ref.port, &x); /* the demand's */
    pthread_mutex_unlock(&r->lock);
    empty(r, &x);
    return rc;
}

int st_run_root(st_run *r, size_t index, st_value **value, st_value **error, st_node **at, st_error *err)
{
    int rc = ST_EINVAL;
    *value = *error = NULL;
    if (at) *at = NULL;
    pthread_mutex_lock(&r->lock);
    if (index < r->roots.n) {
        st_task *t = r->roots.v[index].t;
        *value = st_value_retain(t->out[r->roots.v[index].port]);
        if (*value) {
            rc = ST_OK;
        } else if (t->state == FAILED) {
            *error = st_value_retain(t->error);
            if (at) *at = t->at;
            if (err) *err = t->err;
            rc = t->err.code ? t->err.code : ST_EHOST;
        } else {
            rc = ST_ECANCELED;
        }
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

st_node *st_run_failed_at(st_run *r, st_node *n)
{
    pthread_mutex_lock(&r->lock);
    st_task *t = (st_task *)n->task;
    st_node *at = t && t->state == FAILED ? t->at : NULL;
    pthread_mutex_unlock(&r->lock);
    return at;
}

uint32_t st_run_readers(const st_exec *x, size_t i)
{
    if (i >= x->n_in) return 0;
    st_ref f = x->node->in[i];
    pthread_mutex_lock(&x->run->lock);
    st_task *t = (st_task *)f.node->task;
    uint32_t readers = t ? t->uses[f.port] : 0;
    pthread_mutex_unlock(&x->run->lock);
    return readers;
}

void st_run_cancel(st_run *r)
{
    pthread_mutex_lock(&r->lock);
    r->canceled = true;
    pthread_cond_broadcast(&r->work);
    pthread_cond_broadcast(&r->done);
    pthread_mutex_unlock(&r->lock);
}

bool st_run_canceled(st_run *r)
{
    pthread_mutex_lock(&r->lock);
    bool c = r->canceled;
    pthread_mutex_unlock(&r->lock);
    return c;
}

size_t st_run_settle(st_run *r, int ms, void (*stuck)(void *ud, st_node *n, void *worker), void *ud)
{
    struct left {
        st_node *node;
        void *worker;
    };
    double until = now() + ms * 1e-3;
    size_t n = 0;
    ST_VEC(struct left) left = {0};
    pthread_mutex_lock(&r->lock);
    while (r->running > 0 && now() < until)
        wait_done(r, 20);
    for (size_t i = 0; i < r->tasks.n; i++) {
        st_task *t = r->tasks.v[i];
        if (t->state != RUNNING) continue;
        t->abandoned = true;
        n++;
        if (stuck && st_vec_reserve(r->a, &left, 1) == ST_OK)
            left.v[left.n++] = (struct left){st_node_retain(t->node), t->worker};
    }
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < left.n; i++) {
        stuck(ud, left.v[i].node, left.v[i].worker);
        st_node_release(left.v[i].node);
    }
    st_vec_free(r->a, &left);
    return n;
}

int st_run_keep(st_run *r, const st_ref *refs, size_t n, st_keep **out)
{
    st_node **order = NULL;
    size_t m = 0;
    ST_VEC(st_task *) found = {0};
    int rc = st_graph_order(r->g, refs, n, &order, &m);
    if (rc != ST_OK) return rc;
    pthread_mutex_lock(&r->lock);
    uint64_t walk = ++r->walk;
    for (size_t i = 0; i < m && rc == ST_OK; i++) {
        if (!(order[i]->flags & ST_N_VARIES)) continue;
        for (size_t k = 0; k < order[i]->n_in && rc == ST_OK; k++) {
            st_task *t = (st_task *)order[i]->in[k].node->task;
            if (!t || (t->node->flags & ST_N_VARIES) || t->mark == walk) continue;
            t->mark = walk;
            rc = st_vec_reserve(r->a, &found, 1);
            if (rc == ST_OK) found.v[found.n++] = t;
        }
    }
    st_keep *kp = rc == ST_OK ? st_mem_new(r->a, sizeof *kp + found.n * sizeof kp->t[0]) : NULL;
    if (kp) {
        kp->n = found.n;
        for (size_t i = 0; i < found.n; i++) {
            kp->t[i] = found.v[i];
            for (uint32_t p = 0; p < found.v[i]->node->op->n_out; p++)
                use(found.v[i], p);
        }
        *out = kp;
    } else {
        rc = ST_ENOMEM;
    }
    pthread_mutex_unlock(&r->lock);
    st_vec_free(r->a, &found);
    st_mem_free(r->a, order);
    return rc;
}

void st_run_unkeep(st_run *r, st_keep *k)
{
    if (!k) return;
    trash x = {0};
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < k->n; i++) {
        for (uint32_t p = 0; p < k->t[i]->node->op->n_out; p++)
            unuse(r, k->t[i], p, &x);
    }
    pthread_mutex_unlock(&r->lock);
    empty(r, &x);
    st_mem_free(r->a, k);
}

static int share(st_run *r, const st_ref *refs, size_t n, bool everything, double *seconds)
{
    ST_VEC(st_task *) stack = {0};
    int rc = ST_OK;
    pthread_mutex_lock(&r->lock);
    for (int pass = 0; pass < 3 && rc == ST_OK; pass++) {
        for (size_t i = 0; i < n && rc == ST_OK; i++) {
            uint64_t walk = ++r->walk;
            if (pass == 1) seconds[i] = 0;
            st_task *t = (st_task *)refs[i].node->task;
            if (!t) continue;
            t->mark = walk;
            rc = st_vec_reserve(r->a, &stack, 1);
            if (rc == ST_OK) stack.v[stack.n++] = t;
            while (stack.n && rc == ST_OK) {
                t = stack.v[--stack.n];
                if (!everything && !(t->node->flags & ST_N_VARIES))
                    continue; /* before the split: no fold's cost */
                if (pass == 0) t->users++;
                if (pass == 1) seconds[i] += (t->seconds - t->claimed) / (t->users ? t->users : 1);
                if (pass == 2) {
                    t->claimed = t->seconds;
                    t->users = 0;
                }
                size_t n_in = t->node->n_in, n_all = n_in + t->also.n;
                rc = st_vec_reserve(r->a, &stack, n_all);
                for (size_t k = 0; k < n_all && rc == ST_OK; k++) {
                    st_task *m = k < n_in ? (st_task *)t->node->in[k].node->task : t->also.v[k - n_in];
                    if (!m || m->mark == walk) continue;
                    m->mark = walk;
                    stack.v[stack.n++] = m;
                }
            }
        }
    }
    pthread_mutex_unlock(&r->lock);
    st_vec_free(r->a, &stack);
    return rc;
}

int st_run_share(st_run *r, const st_ref *refs, size_t n, double *seconds)
{
    return share(r, refs, n, false, seconds);
}

int st_run_share_all(st_run *r, const st_ref *refs, size_t n, double *seconds)
{
    return share(r, refs, n, true, seconds);
}

st_run_stats st_run_get_stats(st_run *r)
{
    pthread_mutex_lock(&r->lock);
    st_run_stats s = r->stats;
    pthread_mutex_unlock(&r->lock);
    return s;
}

int st_run_profile(st_run *r, int (*each)(void *ud, st_node *n, double seconds, bool failed), void *ud)
{
    pthread_mutex_lock(&r->lock);
    size_t n = r->tasks.n;
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < n; i++) {
        pthread_mutex_lock(&r->lock);
        st_task *t = r->tasks.v[i];
        bool ran = t->ran, failed = t->state == FAILED;
        double s = t->seconds;
        pthread_mutex_unlock(&r->lock);
        if (ran) ST_TRY(each(ud, t->node, s, failed));
    }
    return ST_OK;
}

int st_run_held(st_run *r, int (*each)(void *ud, st_ref ref, uint32_t readers, st_value *v), void *ud)
{
    int rc = ST_OK;
    for (size_t i = 0; rc == ST_OK; i++) {
        pthread_mutex_lock(&r->lock);
        st_task *t = i < r->tasks.n ? r->tasks.v[i] : NULL; /* tasks stay as long as the run */
        pthread_mutex_unlock(&r->lock);
        if (!t) break;
        for (uint32_t p = 0; p < t->node->op->n_out && rc == ST_OK; p++) {
            pthread_mutex_lock(&r->lock);
            st_value *v = st_value_retain(t->out[p]);
            uint32_t readers = t->uses[p];
            pthread_mutex_unlock(&r->lock);
            if (v) rc = each(ud, (st_ref){t->node, p}, readers, v);
            st_value_release(v);
        }
    }
    return rc;
}

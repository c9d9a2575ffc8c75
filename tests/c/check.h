/* check.h - what the C tests share: checks, a counting allocator that can fail, numbers as values, and
 * operators over them.
 *
 * Included by the programs of this folder alone.  Everything is static: each test is one program.
 */
#ifndef ST_CHECK_H
#define ST_CHECK_H

#include "stratum/graph.h"
#include "stratum/run.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define UNUSED __attribute__((unused))

/* -- Checks -------------------------------------------------------------------------------- */

static UNUSED void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    fflush(stderr);
    abort();
}

#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond)) check_failed(__FILE__, __LINE__, "not true: " #cond);                                   \
    } while (0)

#define CHECK_INT(got, want)                                                                                 \
    do {                                                                                                     \
        long long got_ = (long long)(got), want_ = (long long)(want);                                        \
        if (got_ != want_) {                                                                                 \
            char text_[300];                                                                                 \
            snprintf(text_, sizeof text_, "%s is %lld, not %lld", #got, got_, want_);                        \
            check_failed(__FILE__, __LINE__, text_);                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_STR(got, want)                                                                                 \
    do {                                                                                                     \
        const char *got_ = (got), *want_ = (want);                                                           \
        if (strcmp(got_, want_) != 0) {                                                                      \
            fprintf(stderr, "got:\n%s\nwant:\n%s\n", got_, want_);                                           \
            check_failed(__FILE__, __LINE__, "texts differ: " #got);                                         \
        }                                                                                                    \
    } while (0)

#define OK(call) CHECK_INT((call), ST_OK)

#define RUN(test)                                                                                            \
    do {                                                                                                     \
        double from_ = seconds_now();                                                                        \
        test();                                                                                              \
        check_clean(#test);                                                                                  \
        printf("%-44s %6.3f s\n", #test, seconds_now() - from_);                                             \
        fflush(stdout);                                                                                      \
    } while (0)

static UNUSED double seconds_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* -- Memory: counted, and failing when told ------------------------------------------------ */

static struct {
    atomic_long live, calls;
    atomic_long fail_at; /* the call (from 1) that fails; 0: none */
    atomic_long failed;
} memory;

static void *meter_resize(void *ud, void *p, size_t n)
{
    (void)ud;
    long k = atomic_fetch_add(&memory.calls, 1) + 1;
    if (k == atomic_load(&memory.fail_at)) {
        atomic_fetch_add(&memory.failed, 1);
        return NULL;
    }
    void *q = realloc(p, n);
    CHECK(q != NULL);
    if (!p) atomic_fetch_add(&memory.live, 1);
    return q;
}

static void meter_release(void *ud, void *p)
{
    (void)ud;
    CHECK(p != NULL);
    atomic_fetch_sub(&memory.live, 1);
    free(p);
}

static const st_alloc meter = {meter_resize, meter_release, NULL};

/* Each allocation of `all` fails in turn: it says so and gives everything back. */
static UNUSED void check_without_memory(int (*all)(void))
{
    for (long n = 1;; n++) {
        CHECK(n < 100);
        atomic_store(&memory.calls, 0);
        atomic_store(&memory.failed, 0);
        atomic_store(&memory.fail_at, n);
        int rc = all();
        atomic_store(&memory.fail_at, 0);
        CHECK_INT(atomic_load(&memory.live), 0);
        if (!atomic_load(&memory.failed)) {
            OK(rc);
            break;
        }
        CHECK_INT(rc, ST_ENOMEM);
    }
}

/* -- Numbers ------------------------------------------------------------------------------- */

static atomic_long numbers_alive, numbers_most;

static void number_release(void *obj)
{
    atomic_fetch_sub(&numbers_alive, 1);
    free(obj);
}

static int number_describe(void *obj, char *buf, size_t n)
{
    snprintf(buf, n, "#%ld", *(long *)obj);
    return ST_OK;
}

static size_t number_bytes(void *obj)
{
    (void)obj;
    return sizeof(long);
}

static const st_host number_host = {"number", number_release, number_describe, number_bytes};

static UNUSED int number_new(long x, bool encoded, st_value **out)
{
    long *p = malloc(sizeof *p);
    CHECK(p != NULL);
    *p = x;
    int rc = st_value_new(&meter, &number_host, p, encoded ? &x : NULL, encoded ? sizeof x : 0, out);
    if (rc != ST_OK) {
        free(p);
        return rc;
    }
    long n = atomic_fetch_add(&numbers_alive, 1) + 1, most = atomic_load(&numbers_most);
    while (n > most && !atomic_compare_exchange_weak(&numbers_most, &most, n))
        ;
    return ST_OK;
}

static UNUSED long number_of(const st_value *v)
{
    CHECK(v != NULL);
    CHECK(st_value_host(v) == &number_host);
    return *(const long *)st_value_object(v);
}

/* Values are released after the run's lock is: soon, but not at once. */
static UNUSED void expect_numbers(long n)
{
    struct timespec ts = {0, 1000000};
    for (int i = 0; i < 20000 && atomic_load(&numbers_alive) != n; i++)
        nanosleep(&ts, NULL);
    CHECK_INT(atomic_load(&numbers_alive), n);
}

static UNUSED void check_clean(const char *test)
{
    if (atomic_load(&memory.live) != 0 || atomic_load(&numbers_alive) != 0) {
        fprintf(stderr, "%s leaves %ld blocks, %ld numbers\n", test, atomic_load(&memory.live),
                atomic_load(&numbers_alive));
        abort();
    }
}

/* -- Attributes: these consume what they are given, and cannot fail -------------------------- */

static UNUSED st_attr *a_none(void)
{
    st_attr *t;
    OK(st_attr_none(&meter, &t));
    return t;
}

static UNUSED st_attr *a_bool(bool v)
{
    st_attr *t;
    OK(st_attr_bool(&meter, v, &t));
    return t;
}

static UNUSED st_attr *a_int(int64_t v)
{
    st_attr *t;
    OK(st_attr_int(&meter, v, &t));
    return t;
}

static UNUSED st_attr *a_float(double v)
{
    st_attr *t;
    OK(st_attr_float(&meter, v, &t));
    return t;
}

static UNUSED st_attr *a_str(const char *s)
{
    st_attr *t;
    OK(st_attr_str(&meter, s, strlen(s), &t));
    return t;
}

static UNUSED st_attr *a_slot(uint32_t i)
{
    st_attr *t;
    OK(st_attr_slot(&meter, i, &t));
    return t;
}

static UNUSED st_attr *a_ref(st_node *n, uint32_t port)
{
    st_attr *t;
    OK(st_attr_ref(&meter, (st_ref){n, port}, &t));
    return t;
}

static UNUSED st_attr *a_number(long x)
{
    st_value *v;
    st_attr *t;
    OK(number_new(x, true, &v));
    OK(st_attr_value(&meter, v, &t));
    st_value_release(v);
    return t;
}

static UNUSED st_attr *a_seq(st_attr_type type, size_t n, st_attr **items)
{
    st_attr *t;
    OK(st_attr_seq(&meter, type, items, n, &t));
    for (size_t i = 0; i < n; i++)
        st_attr_release(items[i]);
    return t;
}

#define A_COUNT(...) (sizeof((st_attr *[]){__VA_ARGS__}) / sizeof(st_attr *))
#define A_TUPLE(...) a_seq(ST_TUPLE, A_COUNT(__VA_ARGS__), (st_attr *[]){__VA_ARGS__})
#define A_LIST(...) a_seq(ST_LIST, A_COUNT(__VA_ARGS__), (st_attr *[]){__VA_ARGS__})
#define A_DICT(...) a_seq(ST_DICT, A_COUNT(__VA_ARGS__), (st_attr *[]){__VA_ARGS__})
#define A_EMPTY(type) a_seq(type, 0, NULL)

/* -- Operators over numbers ------------------------------------------------------------------ */

static atomic_long executed; /* every operator below counts itself */

static int give(st_exec *x, uint32_t port, long v) { return number_new(v, false, &x->out[port]); }

/* Random graphs add numbers up beyond all bounds: they wrap around. */
static UNUSED long plus(long a, long b) { return (long)((unsigned long)a + (unsigned long)b); }
static UNUSED long tenfold(long a) { return (long)(10 * (unsigned long)a); }

/* The sum of all whole numbers, inputs and elements in a tree. */
static long total(const st_exec *x, const st_attr *t)
{
    long s = 0;
    switch (st_attr_type_of(t)) {
    case ST_BOOL:
    case ST_INT: return (long)st_attr_as_int(t);
    case ST_VALUE: return number_of(st_attr_as_value(t));
    case ST_SLOT: {
        size_t i = (size_t)st_attr_as_int(t);
        CHECK(i < x->n_in);
        return number_of(x->in[i]);
    }
    case ST_LIST:
    case ST_TUPLE:
        for (size_t i = 0; i < st_attr_len(t); i++)
            s = plus(s, total(x, st_attr_item(t, i)));
        return s;
    default: return 0;
    }
}

static UNUSED int run_sum(st_exec *x, st_error *err)
{
    (void)err;
    atomic_fetch_add(&executed, 1);
    return give(x, 0, total(x, st_node_attr(x->node)));
}

/* (sum, 10 * sum) */
static UNUSED int run_two(st_exec *x, st_error *err)
{
    (void)err;
    atomic_fetch_add(&executed, 1);
    long s = total(x, st_node_attr(x->node));
    int rc = give(x, 0, s);
    return rc == ST_OK ? give(x, 1, tenfold(s)) : rc;
}

/* Fails; its error object is the sum. */
static UNUSED int run_boom(st_exec *x, st_error *err)
{
    atomic_fetch_add(&executed, 1);
    long s = total(x, st_node_attr(x->node));
    int rc = number_new(s, false, &x->error);
    return rc == ST_OK ? st_fail(err, ST_EHOST, "boom %ld", s) : rc;
}

/* (condition, option 0, option 1, ...): chooses option `condition`. */
static UNUSED int run_pick(st_exec *x, st_error *err)
{
    atomic_fetch_add(&executed, 1);
    st_attr *t = st_node_attr(x->node);
    for (size_t i = 1; i < x->n_in; i++)
        CHECK(x->in[i] == NULL); /* no option was computed for it */
    size_t k = (size_t)total(x, st_attr_item(t, 0));
    if (k + 1 >= st_attr_len(t)) return st_fail(err, ST_EHOST, "no option %zu", k);
    x->choice = (size_t)st_attr_as_int(st_attr_item(t, k + 1));
    return ST_OK;
}

/* Runs although inputs failed: counts those that did, in hundreds, and adds the others. */
static UNUSED int run_tolerant(st_exec *x, st_error *err)
{
    (void)err;
    atomic_fetch_add(&executed, 1);
    long s = 0;
    for (size_t i = 0; i < x->n_in; i++) {
        CHECK(!x->in[i] || !x->in_error[i]); /* neither: it failed without an error object */
        s = plus(s, x->in[i] ? number_of(x->in[i]) : 100);
    }
    return give(x, 0, s);
}

enum { PURE = ST_P_DETERMINISTIC | ST_P_THREAD_SAFE };

#define OP(id, n_outputs, properties, function)                                                              \
    static UNUSED const st_op id = {#id, 1, properties, n_outputs, ST_LOGICAL, "for tests", function, NULL}

OP(op_sum, 1, PURE, run_sum);
OP(op_two, 2, PURE, run_two);
OP(op_boom, 1, PURE, run_boom);
OP(op_pick, 1, PURE | ST_P_CHOOSES, run_pick);
OP(op_tolerant, 1, PURE | ST_P_TOLERANT, run_tolerant);
OP(op_caller, 1, ST_P_DETERMINISTIC, run_sum);
OP(op_rows, 1, PURE | ST_P_TAKES_ROWS, run_sum);
OP(op_gil, 1, PURE | ST_P_HOLDS_GIL, run_sum);

/* -- Graphs ---------------------------------------------------------------------------------- */

static UNUSED st_graph *new_graph(void)
{
    st_graph *g;
    OK(st_graph_new(&meter, &g));
    return g;
}

static UNUSED void end_graph(st_graph *g)
{
    CHECK_INT(st_graph_get_stats(g).nodes, 0);
    st_graph_free(g);
}

static UNUSED void verify(st_graph *g)
{
    st_error err = {0};
    int rc = st_graph_verify(g, &err);
    if (rc != ST_OK) check_failed(__FILE__, __LINE__, err.message);
}

/* op(expr); consumes the expression. */
static UNUSED st_node *node_with(st_graph *g, const st_op *op, uint32_t flags, st_attr *expr)
{
    st_node *n = NULL;
    st_error err = {0};
    int rc = st_graph_intern(g, op, expr, flags, NULL, &n, &err);
    if (rc != ST_OK) check_failed(__FILE__, __LINE__, err.message);
    st_attr_release(expr);
    return n;
}

static UNUSED st_node *node(st_graph *g, const st_op *op, st_attr *expr) { return node_with(g, op, 0, expr); }

static UNUSED st_node *leaf(st_graph *g, long x) { return node(g, &op_sum, A_TUPLE(a_int(x))); }

static UNUSED st_node *add(st_graph *g, st_node *a, st_node *b)
{
    return node(g, &op_sum, A_TUPLE(a_ref(a, 0), a_ref(b, 0)));
}

static UNUSED st_node *add_int(st_graph *g, st_node *a, long x)
{
    return node(g, &op_sum, A_TUPLE(a_ref(a, 0), a_int(x)));
}

static UNUSED void drop_nodes(st_node **n, size_t count)
{
    for (size_t i = 0; i < count; i++)
        st_node_release(n[i]);
}

#define DROP(...)                                                                                            \
    drop_nodes((st_node *[]){__VA_ARGS__}, sizeof((st_node *[]){__VA_ARGS__}) / sizeof(st_node *))

/* -- Text ------------------------------------------------------------------------------------ */

typedef struct text {
    char *s;
    size_t n, cap, stop_at; /* stop_at: the sink answers ST_ESYSTEM after so many bytes; 0: never */
} text;

static UNUSED int to_text(void *ud, const char *s, size_t n)
{
    text *t = ud;
    if (t->stop_at && t->n + n > t->stop_at) return ST_ESYSTEM;
    if (t->n + n + 1 > t->cap) {
        t->cap = 2 * (t->n + n + 1);
        t->s = realloc(t->s, t->cap);
        CHECK(t->s != NULL);
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
    return ST_OK;
}

static UNUSED void text_free(text *t)
{
    free(t->s);
    *t = (text){0};
}

/* -- Threads that work for a run ------------------------------------------------------------- */

enum { MOST_WORKERS = 8 };

typedef struct crew {
    st_run *run;
    int n;
    pthread_t thread[MOST_WORKERS];
    struct crew_worker {
        st_run *run;
        atomic_bool inside;
    } w[MOST_WORKERS];
} crew;

static UNUSED void *crew_main(void *arg)
{
    struct crew_worker *w = arg;
    st_worker_run(w->run, w);
    st_run_release(w->run);
    return NULL;
}

static UNUSED void crew_start(crew *c, st_run *run, int n)
{
    c->run = run;
    c->n = n;
    for (int i = 0; i < n; i++) {
        c->w[i].run = st_run_retain(run);
        CHECK(pthread_create(&c->thread[i], NULL, crew_main, &c->w[i]) == 0);
    }
}

static UNUSED void crew_join(crew *c)
{
    for (int i = 0; i < c->n; i++)
        CHECK(pthread_join(c->thread[i], NULL) == 0);
    c->n = 0;
}

/* A run of `n` refs on some workers (0: on this thread alone). */
typedef struct job {
    st_graph *g;
    st_run *run;
    crew crew;
} job;

static UNUSED void job_start(job *j, st_graph *g, int workers)
{
    *j = (job){.g = g};
    OK(st_run_new(g, workers, &j->run));
    crew_start(&j->crew, j->run, workers);
}

static UNUSED void job_demand(job *j, st_node *n, uint32_t port)
{
    st_ref r = {n, port};
    OK(st_run_demand(j->run, &r, NULL, 1, true, NULL));
}

static UNUSED size_t job_wait(job *j)
{
    st_error err = {0};
    size_t n = 0;
    while (st_run_next(j->run, NULL, NULL, 50, &err) >= 0)
        n++;
    CHECK_INT(err.code, ST_OK);
    return n;
}

static UNUSED void job_end(job *j)
{
    st_run_cancel(j->run);
    crew_join(&j->crew);
    st_run_free(j->run);
    j->run = NULL;
}

/* The value of root `i`, which must have one. */
static UNUSED long root_value(st_run *r, size_t i)
{
    st_value *v = NULL, *e = NULL;
    st_node *at = NULL;
    st_error err = {0};
    int rc = st_run_root(r, i, &v, &e, &at, &err);
    if (rc != ST_OK) check_failed(__FILE__, __LINE__, err.message);
    CHECK(e == NULL);
    long x = number_of(v);
    st_value_release(v);
    return x;
}

/* The error number of root `i`, which must have failed in a node that fails by itself. */
static UNUSED long root_error(st_run *r, size_t i, st_node **at)
{
    st_value *v = NULL, *e = NULL;
    st_error err = {0};
    int rc = st_run_root(r, i, &v, &e, at, &err);
    CHECK_INT(rc, ST_EHOST);
    CHECK(v == NULL);
    long x = number_of(e);
    char want[32];
    snprintf(want, sizeof want, "boom %ld", x);
    CHECK_STR(err.message, want);
    st_value_release(e);
    return x;
}

/* Small random numbers from a printed seed. */
static UNUSED uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

#endif

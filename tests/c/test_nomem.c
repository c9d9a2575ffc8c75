/* test_nomem.c - every scenario with its first, second, third ... allocation failing, until it passes.
 *
 * A scenario answers ST_OK or ST_ENOMEM; whatever values it got by then are right; nothing is left
 * behind, nothing hangs, nothing crashes. */
#include "lowering.h"

/* Builders that stop at the first failure: after it they answer NULL and release what they are given. */
static _Thread_local int failure;

static st_attr *kept(int rc, st_attr *t)
{
    if (rc == ST_OK) return t;
    CHECK_INT(rc, ST_ENOMEM);
    failure = rc;
    return NULL;
}

#define BUILD(call)                                                                                          \
    st_attr *t = NULL;                                                                                       \
    int rc = failure ? ST_OK : (call);                                                                       \
    return failure ? NULL : kept(rc, t)

static st_attr *b_none(void) { BUILD(st_attr_none(&meter, &t)); }
static st_attr *b_bool(bool v) { BUILD(st_attr_bool(&meter, v, &t)); }
static st_attr *b_int(int64_t v) { BUILD(st_attr_int(&meter, v, &t)); }
static st_attr *b_str(const char *s) { BUILD(st_attr_str(&meter, s, strlen(s), &t)); }
static st_attr *b_slot(uint32_t i) { BUILD(st_attr_slot(&meter, i, &t)); }

static st_attr *b_ref(st_node *n, uint32_t port)
{
    if (!n) return NULL;
    BUILD(st_attr_ref(&meter, (st_ref){n, port}, &t));
}

static st_attr *b_number(long x)
{
    st_value *v = NULL;
    st_attr *t = NULL;
    if (failure) return NULL;
    int rc = number_new(x, true, &v);
    if (rc == ST_OK) rc = st_attr_value(&meter, v, &t);
    st_value_release(v);
    return kept(rc, t);
}

static st_attr *b_seq(st_attr_type type, size_t n, st_attr **items)
{
    st_attr *t = NULL;
    int rc = ST_OK;
    if (!failure) rc = st_attr_seq(&meter, type, items, n, &t);
    for (size_t i = 0; i < n; i++)
        st_attr_release(items[i]);
    return failure ? NULL : kept(rc, t);
}

#define B_TUPLE(...) b_seq(ST_TUPLE, A_COUNT(__VA_ARGS__), (st_attr *[]){__VA_ARGS__})
#define B_LIST(...) b_seq(ST_LIST, A_COUNT(__VA_ARGS__), (st_attr *[]){__VA_ARGS__})
#define B_DICT(...) b_seq(ST_DICT, A_COUNT(__VA_ARGS__), (st_attr *[]){__VA_ARGS__})

static bool good(int rc)
{
    if (rc == ST_OK) return true;
    CHECK_INT(rc, ST_ENOMEM);
    failure = rc;
    return false;
}

static st_node *b_node(st_graph *g, const st_op *op, st_attr *expr)
{
    st_node *n = NULL;
    st_error err = {0};
    if (!failure) {
        if (!good(st_graph_intern(g, op, expr, 0, NULL, &n, &err))) CHECK_INT(err.code, ST_ENOMEM);
    }
    st_attr_release(expr);
    return n;
}

static int ignore_text(void *ud, const char *s, size_t n)
{
    (void)s;
    *(size_t *)ud += n;
    return ST_OK;
}

/* -- Building ---------------------------------------------------------------------------------- */

static void build(void)
{
    enum { N = 80 };
    st_graph *g = NULL;
    st_node *n[N] = {NULL};
    if (!good(st_graph_new(&meter, &g))) return;
    for (int i = 0; i < N && !failure; i++) {
        if (i < 2)
            n[i] = b_node(g, &op_two,
                          B_TUPLE(b_int(i), b_number(i), b_str("text"), B_LIST(b_none(), b_bool(true))));
        else
            n[i] = b_node(
                g, &op_sum,
                B_TUPLE(b_ref(n[i - 1], 0), b_ref(n[i - 2], 0), B_DICT(b_str("k"), b_ref(n[i / 2], 0))));
    }
    if (!failure) { /* a node of many inputs */
        st_attr *items[40];
        for (int i = 0; i < 40; i++)
            items[i] = b_ref(n[i], 0);
        st_node *wide = b_node(g, &op_sum, b_seq(ST_LIST, 40, items));
        st_node_release(wide);
    }
    st_ref root = {n[N - 1], 0};
    size_t bytes = 0;
    st_value *v = NULL;
    if (!failure && good(number_new(1, false, &v)) && good(st_node_bind(n[0], 1, v)))
        st_node_unbind(n[0], 1, v);
    st_value_release(v);
    if (!failure) good(st_graph_print(g, &root, 1, ignore_text, &bytes));
    if (!failure) good(st_graph_dot(g, &root, 1, ignore_text, &bytes));
    if (!failure) good(st_node_encode(n[N - 1], ignore_text, &bytes));
    if (!failure) good(st_graph_verify(g, NULL));
    long at = atomic_exchange(&memory.fail_at, 0); /* whatever happened, the graph is whole */
    verify(g);
    atomic_store(&memory.fail_at, at);
    drop_nodes(n, N);
    end_graph(g);
}

/* -- Lowering ---------------------------------------------------------------------------------- */

static uint32_t b_put(st_plan *p, st_cap_kind kind, const st_op *op, st_attr *fields, size_t n,
                      const uint32_t *kids)
{
    uint32_t i = 0;
    if (!failure) good(st_plan_add(p, kind, op, fields, kids, n, 0, NULL, &i, NULL));
    st_attr_release(fields);
    return i;
}

static void b_bind(st_scope *s, uint32_t i, st_attr *t)
{
    if (!failure) OK(st_scope_bind(s, i, t));
    st_attr_release(t);
}

static uint32_t b_apply(st_plan *p, st_attr *estimator, uint32_t x, uint32_t other)
{
    return b_put(p, ST_CAP_APPLY, NULL,
                 B_TUPLE(b_slot(0), estimator, b_none(), b_none(), b_none(), b_bool(false), b_bool(false),
                         b_bool(true), B_DICT(b_str("fit"), b_slot(0)), b_bool(false)),
                 KIDS(x, other));
}

static uint32_t some_plan(st_plan *p, uint32_t *x, uint32_t *c)
{
    *x = b_put(p, ST_CAP_VAR, NULL, B_TUPLE(b_str("x"), b_none(), b_bool(false), b_bool(false)), NO_KIDS);
    *c = b_put(p, ST_CAP_CHOICE, NULL, B_TUPLE(b_none(), B_LIST(b_int(1), b_int(2))), NO_KIDS);
    uint32_t e = b_put(p, ST_CAP_ESTIMATOR, NULL,
                       B_TUPLE(b_number(TRANSFORMER), B_DICT(b_str("a"), b_slot(0))), KIDS(*c));
    uint32_t a = b_apply(p, b_slot(1), *x, e), b = b_apply(p, b_number(UNSEEDED), a, a);
    uint32_t f = b_put(p, ST_CAP_FREEZE, NULL, B_TUPLE(b_slot(0)), KIDS(b));
    uint32_t i = b_put(p, ST_CAP_IF, NULL, B_TUPLE(b_slot(0), b_slot(1), b_slot(2)), KIDS(*x, f, a));
    uint32_t m = b_put(p, ST_CAP_MATCH, NULL,
                       B_TUPLE(b_slot(0), B_TUPLE(b_int(5)), B_TUPLE(b_slot(1)), b_slot(2), b_bool(true)),
                       KIDS(*x, i, b));
    uint32_t k = b_put(p, ST_CAP_CONCAT, NULL, B_TUPLE(b_slot(0), B_LIST(b_slot(1)), b_int(1)), KIDS(m, a));
    uint32_t live = b_put(p, ST_CAP_ESTIMATOR, NULL,
                          B_TUPLE(b_number(TRANSFORMER), B_DICT(b_str("a"), b_slot(0))), KIDS(*x));
    uint32_t l = b_apply(p, b_slot(1), k, live);
    uint32_t u = b_put(p, ST_CAP_SUBSAMPLE, NULL, B_TUPLE(b_slot(0), b_int(3), b_str("head")), KIDS(l));
    return b_apply(p, b_number(PREDICTOR), u, u);
}

static void lower(void)
{
    st_graph *g = NULL;
    st_plan *p = NULL;
    st_scope *s = NULL, *t = NULL;
    st_node *data = NULL;
    asked_build = asked_flags = asked_seed = asked_match = host_fails = 0;
    if (!good(st_graph_new(&meter, &g))) return;
    if (!good(st_plan_new(g, &lower_ops, &lower_host, &p))) goto done;
    uint32_t x, c, root = some_plan(p, &x, &c);
    data = b_node(g, &op_sum, B_TUPLE(b_int(5)));
    if (failure || !good(st_scope_new(p, "fit", 0, 0, NULL, &s))) goto done;
    b_bind(s, x, b_ref(data, 0));
    st_ref r;
    st_error err = {0};
    if (failure || !good(st_lower_ref(s, root, &r, &err))) goto done;
    if (!good(st_scope_new(p, "predict", ST_SCOPE_SUBSAMPLE, 1, s, &t))) goto done;
    if (!good(st_scope_inherit(t, s)) || !good(st_lower_ref(t, root, &r, &err))) goto done;
    st_attr *field;
    if (good(st_lower_field(t, root, ST_APPLY_X, &field, &err))) st_attr_release(field);
    int64_t first = st_scope_first_apply(s, root);
    if (first == -2)
        failure = ST_ENOMEM;
    else
        CHECK_INT(first, root);
    if (!failure) CHECK_INT(st_attr_type_of(st_scope_value(t, root)), ST_REF);
done:
    st_scope_free(t);
    st_scope_free(s);
    st_plan_free(p);
    DROP(data);
    end_graph(g);
}

static int cv_modes(void *ud, st_value *estimator, uint32_t *modes, st_error *err)
{
    (void)ud;
    (void)estimator;
    (void)err;
    *modes = 1;
    return ST_OK;
}

static int cv_ticket(void *ud, size_t candidate, size_t fold, bool train, st_value **out, st_error *err)
{
    (void)ud;
    (void)candidate;
    (void)err;
    *out = NULL;
    return fold == 0 && !train ? number_new(9, true, out) : ST_OK;
}

static void cross_validate(void)
{
    st_graph *g = NULL;
    st_plan *p = NULL;
    st_cv *cv = NULL;
    st_node *data = NULL;
    st_attr *xs = NULL, *spec = NULL;
    asked_build = asked_flags = asked_seed = asked_match = host_fails = 0;
    if (!good(st_graph_new(&meter, &g))) return;
    if (!good(st_plan_new(g, &lower_ops, &lower_host, &p))) goto done;
    uint32_t x, c, root = some_plan(p, &x, &c);
    if (failure) goto done;
    st_cv_ops ops = {&lo_take, &lo_score};
    st_cv_host host = {NULL, cv_modes, cv_ticket};
    if (!good(st_cv_new(p, root, NULL, 0, 0, x, -1, &ops, &host, &cv))) goto done;
    data = b_node(g, &op_sum, B_TUPLE(b_int(5)));
    xs = b_ref(data, 0);
    spec = b_str("r2");
    if (failure || !good(st_cv_data(cv, xs, NULL)) || !good(st_cv_scoring(cv, spec, -1, true))) goto done;
    for (int f = 0; f < 2 && !failure; f++) {
        st_attr *train = b_int(f), *test = b_int(10 + f);
        if (!failure) good(st_cv_add_fold(cv, train, test));
        st_attr_release(train);
        st_attr_release(test);
        st_attr *o = b_int(f);
        if (!failure) good(st_cv_add_candidate(cv, &c, &o, 1));
        st_attr_release(o);
    }
    st_error err = {0};
    for (unsigned char k = 0; k < 2; k++) /* one candidate after the other */
        if (!failure && !good(st_cv_lower(cv, (unsigned char[2]){!k, k}, &err)))
            CHECK_INT(err.code, ST_ENOMEM);
    if (!failure) CHECK(st_cv_ref(cv, 1, 1, ST_CV_TRAIN).node != NULL);
done:
    st_cv_free(cv);
    st_attr_release(xs);
    st_attr_release(spec);
    DROP(data);
    st_plan_free(p);
    end_graph(g);
}

/* -- Running ----------------------------------------------------------------------------------- */

static st_node *target;

static int run_become(st_exec *x, st_error *err)
{
    (void)err;
    x->becomes = (st_ref){st_node_retain(target), 0};
    return ST_OK;
}

static int run_nest(st_exec *x, st_error *err)
{
    st_value *v, *e;
    int rc = st_run_nested(x->run, (st_ref){target, 0}, x->worker, &v, &e, err);
    x->error = e;
    if (rc != ST_OK) return rc;
    rc = give(x, 0, 1 + number_of(v));
    st_value_release(v);
    return rc;
}

static int run_five(st_exec *x, st_error *err)
{
    (void)err;
    int rc = ST_OK;
    for (uint32_t p = 0; p < 5 && rc == ST_OK; p++)
        rc = give(x, p, p);
    return rc;
}

OP(op_become, 1, PURE | ST_P_EXPANDS, run_become);
OP(op_nest, 1, PURE | ST_P_NESTS, run_nest);
OP(op_five, 5, PURE, run_five);

static int ignore_held(void *ud, st_ref ref, uint32_t readers, st_value *v)
{
    (void)ud;
    (void)ref;
    (void)readers;
    (void)v;
    return ST_OK;
}

static int ignore_profile(void *ud, st_node *n, double seconds, bool failed)
{
    (void)ud;
    (void)n;
    (void)seconds;
    (void)failed;
    return ST_OK;
}

static void run_on(int workers)
{
    enum { N = 12, WIDE = 30 };
    static const long want[N] = {1, 30, 31, -7, 201, 31, 32, 32, 435, 4, -7, 33};
    st_graph *g = NULL;
    st_run *run = NULL;
    st_node *n[N] = {NULL}, *leaves[WIDE] = {NULL};
    crew c = {.n = 0};
    if (!good(st_graph_new(&meter, &g))) return;
    n[0] = b_node(g, &op_sum, B_TUPLE(b_int(1)));
    n[1] = b_node(g, &op_rows, B_TUPLE(b_int(29), b_ref(n[0], 0)));
    n[2] = b_node(g, &op_sum, B_TUPLE(b_ref(n[1], 0), b_ref(n[0], 0)));
    n[3] = b_node(g, &op_boom, B_TUPLE(b_int(7)));
    n[10] = b_node(g, &op_sum, B_TUPLE(b_ref(n[2], 0), b_ref(n[3], 0)));
    n[4] = b_node(g, &op_tolerant, B_TUPLE(b_ref(n[0], 0), b_ref(n[3], 0), b_ref(n[10], 0)));
    n[5] = b_node(g, &op_pick, B_TUPLE(b_ref(n[0], 0), b_ref(n[3], 0), b_ref(n[2], 0)));
    n[6] = b_node(g, &op_nest, B_TUPLE(b_int(0)));
    n[7] = b_node(g, &op_two, B_TUPLE(b_ref(n[2], 0), b_int(1)));
    n[11] = b_node(g, &op_caller, B_TUPLE(b_ref(n[7], 0), b_int(1)));
    for (int i = 0; i < WIDE; i++)
        leaves[i] = b_node(g, &op_sum, B_TUPLE(b_int(i)));
    st_attr *items[WIDE];
    for (int i = 0; i < WIDE; i++)
        items[i] = b_ref(leaves[i], 0);
    n[8] = b_node(g, &op_sum, b_seq(ST_TUPLE, WIDE, items)); /* more inputs than fit on a stack */
    st_node *five = b_node(g, &op_five, B_TUPLE(b_int(0)));
    n[9] = b_node(g, &op_sum, B_TUPLE(b_ref(five, 4)));
    DROP(five);
    st_node *jump = b_node(g, &op_become, B_TUPLE(b_int(0)));
    if (failure || !good(st_run_new(g, workers, &run))) goto done;
    target = n[2];
    crew_start(&c, run, workers);
    st_ref r[N + 1];
    for (int i = 0; i < N; i++)
        r[i] = (st_ref){n[i], 0};
    r[N] = (st_ref){jump, 0};
    st_error err = {0};
    if (!good(st_run_demand(run, r, NULL, N - 3, true, &err))) goto done;
    st_keep *keep = NULL;
    if (good(st_run_keep(run, r, N, &keep))) st_run_unkeep(run, keep);
    if (!failure) good(st_run_demand(run, r + N - 3, NULL, 4, true, &err));
    size_t told = 0, asked = failure ? N - 3 : N + 1;
    while (st_run_next(run, NULL, NULL, 50, &err) >= 0)
        told++;
    CHECK_INT(told, asked);
    for (size_t i = 0; i < asked; i++) {
        st_value *v, *e;
        st_node *at;
        int rc = st_run_root(run, i, &v, &e, &at, &err);
        long w = i < N ? want[i] : 31;
        if (rc == ST_OK) {
            long got = number_of(v);
            /* a tolerant node counts inputs that failed for memory, too */
            CHECK(got == w || (i == 4 && atomic_load(&memory.failed)));
        } else if (rc == ST_EHOST) {
            CHECK(w < 0 && -number_of(e) == w && at == n[3]);
        } else {
            CHECK_INT(rc, ST_ENOMEM);
            CHECK(at != NULL);
            failure = rc;
        }
        st_value_release(v);
        st_value_release(e);
    }
    double s[N];
    if (!failure) good(st_run_share(run, r, N, s));
    OK(st_run_profile(run, ignore_profile, NULL));
    OK(st_run_held(run, ignore_held, NULL));
done:
    if (run) st_run_cancel(run);
    crew_join(&c);
    st_run_free(run);
    drop_nodes(n, N);
    drop_nodes(leaves, WIDE);
    DROP(jump);
    end_graph(g);
}

static void run_alone(void) { run_on(0); }
static void run_with_one(void) { run_on(1); }
static void run_with_three(void) { run_on(3); }

/* ---------------------------------------------------------------------------------------------- */

static void each_allocation(const char *name, void (*scenario)(void))
{
    long n = 1, failed_at = 0;
    for (;; n++) {
        failure = 0;
        atomic_store(&memory.calls, 0);
        atomic_store(&memory.failed, 0);
        atomic_store(&memory.fail_at, n);
        scenario();
        atomic_store(&memory.fail_at, 0);
        check_clean(name);
        if (failure) failed_at++;
        /* several workers ask for memory in no fixed order: a little beyond the end is the end */
        if (!atomic_load(&memory.failed)) {
            CHECK_INT(failure, 0);
            break;
        }
    }
    printf("%-20s %5ld allocations, %ld of them told as out of memory\n", name, n - 1, failed_at);
    fflush(stdout);
    CHECK(n > 50 && failed_at > n / 3);
}

int main(void)
{
    each_allocation("build", build);
    each_allocation("lower", lower);
    each_allocation("cross-validate", cross_validate);
    each_allocation("run alone", run_alone);
    each_allocation("run with 1 worker", run_with_one);
    each_allocation("run with 3 workers", run_with_three);
    return 0;
}

/* test_run.c - the scheduler: what runs how often, what fails with which error, what is freed when,
 * and that nothing waits for ever. */
#include "check.h"
#include "graph/graph.h"

/* Every scenario runs on the driving thread alone and on one, two and four workers. */
static int workers;

#define ON_ALL(test)                                                                                         \
    do {                                                                                                     \
        static const int counts_[] = {0, 1, 2, 4};                                                           \
        for (int k_ = 0; k_ < 4; k_++) {                                                                     \
            workers = counts_[k_];                                                                           \
            RUN(test);                                                                                       \
        }                                                                                                    \
    } while (0)

static long ran(void) { return atomic_exchange(&executed, 0); }

/* -- Values ---------------------------------------------------------------------------------- */

static void diamonds(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *l = add_int(g, x, 10), *r = add_int(g, x, 100), *top = add(g, l, r);
    st_node *unused = add_int(g, top, 5);
    job j;
    job_start(&j, g, workers);
    ran();
    st_ref r3[3] = {{top, 0}, {l, 0}, {top, 0}}; /* one of them twice */
    OK(st_run_demand(j.run, r3, NULL, 3, true, NULL));
    CHECK_INT(job_wait(&j), 3);
    CHECK_INT(ran(), 4);
    CHECK_INT(root_value(j.run, 0), 112);
    CHECK_INT(root_value(j.run, 1), 11);
    CHECK_INT(root_value(j.run, 2), 112);
    /* Asked again: answered without running. */
    job_demand(&j, top, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(ran(), 0);
    st_run_stats s = st_run_get_stats(j.run);
    CHECK_INT(s.executed, 4);
    CHECK_INT(s.failed, 0);
    CHECK_INT(s.recomputed, 0);
    CHECK(s.seconds >= 0);
    job_end(&j);
    DROP(x, l, r, top, unused);
    end_graph(g);
}

static void ladder_runs_once_each(void)
{
    st_graph *g = new_graph();
    st_node *n = leaf(g, 1);
    for (int i = 0; i < 20; i++) {
        st_node *l = add_int(g, n, 0), *m = add(g, l, n);
        DROP(n, l);
        n = m;
    }
    job j;
    job_start(&j, g, workers);
    ran();
    job_demand(&j, n, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(ran(), 41);
    CHECK_INT(root_value(j.run, 0), 1 << 20);
    job_end(&j);
    DROP(n);
    end_graph(g);
}

static void deep_chain(void)
{
    enum { DEEP = 100000 };
    st_graph *g = new_graph();
    st_node *n = leaf(g, 0);
    for (int i = 0; i < DEEP; i++) {
        st_node *m = add_int(g, n, 1);
        DROP(n);
        n = m;
    }
    job j;
    job_start(&j, g, workers);
    ran();
    atomic_store(&numbers_most, 0);
    job_demand(&j, n, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(ran(), DEEP + 1);
    CHECK_INT(root_value(j.run, 0), DEEP);
    CHECK(atomic_load(&numbers_most) <= 4 + 2 * workers); /* freed with their last reader */
    job_end(&j);
    DROP(n);
    end_graph(g);
}

static void two_outputs(void)
{
    st_graph *g = new_graph();
    st_node *two = node(g, &op_two, A_TUPLE(a_int(3)));
    st_node *a = node(g, &op_sum, A_TUPLE(a_ref(two, 0), a_ref(two, 1)));
    st_node *b = node(g, &op_sum, A_TUPLE(a_ref(two, 1)));
    job j;
    job_start(&j, g, workers);
    ran();
    job_demand(&j, b, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 0), 30);
    expect_numbers(1); /* port 0, which nobody wanted, is gone; so is port 1 */
    st_ref both[2] = {{a, 0}, {two, 1}};
    OK(st_run_demand(j.run, both, NULL, 2, true, NULL));
    CHECK_INT(job_wait(&j), 2);
    CHECK_INT(root_value(j.run, 1), 33);
    CHECK_INT(root_value(j.run, 2), 30);
    CHECK_INT(ran(), 4); /* two had to run again */
    CHECK_INT(st_run_get_stats(j.run).recomputed, 1);
    job_end(&j);
    DROP(two, a, b);
    end_graph(g);
}

/* A value is freed as soon as its last reader is done; a wide sum holds all, a tree only a few. */
static void values_go_with_their_last_reader(void)
{
    enum { N = 64 };
    st_graph *g = new_graph();
    st_node *n = leaf(g, 0);
    for (int i = 1; i < N; i++) { /* ((0+1)+2)+..., each leaf read once */
        st_node *l = leaf(g, i), *m = add(g, n, l);
        DROP(n, l);
        n = m;
    }
    job j;
    job_start(&j, g, workers);
    job_demand(&j, n, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 0), N * (N - 1) / 2);
    expect_numbers(1);
    job_end(&j);
    CHECK_INT(atomic_load(&numbers_alive), 0);
    DROP(n);
    end_graph(g);
}

/* A reader that is ready keeps its input's value although another output of that input is wanted anew. */
static atomic_int gate;

static int run_gate(st_exec *x, st_error *err)
{
    while (!atomic_load(&gate))
        sched_yield();
    return run_sum(x, err);
}

OP(op_gate, 1, PURE, run_gate);

static void second_output_again_beside_a_ready_reader(void)
{
    if (workers == 0) return; /* needs a thread that is held up */
    st_graph *g = new_graph();
    st_node *two = node(g, &op_two, A_TUPLE(a_int(1)));
    st_node *first = node(g, &op_sum, A_TUPLE(a_ref(two, 0)));
    st_node *held[MOST_WORKERS], *readers[8];
    job j;
    job_start(&j, g, workers);
    atomic_store(&gate, 0);
    /* readers of port 1 that cannot begin yet: they also need the gate */
    st_node *wait = node(g, &op_gate, A_TUPLE(a_int(1000)));
    st_ref r[1 + 8 + MOST_WORKERS] = {{first, 0}};
    int waves[1 + 8 + MOST_WORKERS] = {0};
    for (int i = 0; i < 8; i++) {
        readers[i] = node(g, &op_sum, A_TUPLE(a_ref(two, 1), a_ref(wait, 0), a_int(i)));
        r[1 + i] = (st_ref){readers[i], 0};
        waves[1 + i] = 1;
    }
    for (int i = 0; i < workers; i++) {
        held[i] = node(g, &op_gate, A_TUPLE(a_int(2000 + i)));
        r[9 + i] = (st_ref){held[i], 0};
        waves[9 + i] = 1;
    }
    OK(st_run_demand(j.run, r, waves, 9 + (size_t)workers, true, NULL));
    CHECK_INT(st_run_next(j.run, NULL, NULL, 10, NULL), 0);
    st_node *again = node(g, &op_sum, A_TUPLE(a_ref(two, 0), a_int(5)));
    job_demand(&j, again, 0); /* port 0 is gone: two runs again, and must leave port 1 alone */
    atomic_store(&gate, 1);
    job_wait(&j);
    for (int i = 0; i < 8; i++)
        CHECK_INT(root_value(j.run, 1 + (size_t)i), 1010 + i);
    CHECK_INT(root_value(j.run, 9 + (size_t)workers), 6);
    job_end(&j);
    DROP(two, first, wait, again);
    drop_nodes(held, (size_t)workers);
    drop_nodes(readers, 8);
    end_graph(g);
}

/* -- Sharing is told --------------------------------------------------------------------------- */

static int run_shared(st_exec *x, st_error *err)
{
    (void)err;
    return give(x, 0, x->in_shared[0]);
}

OP(op_shared, 1, PURE, run_shared);

static void operators_know_who_else_reads(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = leaf(g, 2), *z = leaf(g, 3);
    st_node *a = node(g, &op_shared, A_TUPLE(a_ref(x, 0))), *b = add_int(g, x, 1);
    st_node *c = node(g, &op_shared, A_TUPLE(a_ref(y, 0))), *d = node(g, &op_shared, A_TUPLE(a_ref(z, 0)));
    st_value *v;
    OK(number_new(3, false, &v));
    OK(st_node_bind(z, 0, v));
    st_value_release(v);
    job j;
    job_start(&j, g, workers);
    st_ref r[4] = {{a, 0}, {b, 0}, {c, 0}, {d, 0}};
    /* asked for at once, so that both readers are known before one runs */
    st_node *top = node(g, &op_sum, A_TUPLE(a_ref(a, 0), a_ref(b, 0)));
    job_demand(&j, top, 0);
    OK(st_run_demand(j.run, r, NULL, 4, true, NULL));
    job_wait(&j);
    CHECK_INT(root_value(j.run, 1), 1);
    CHECK_INT(root_value(j.run, 3), 0); /* alone: may be changed in place */
    CHECK_INT(root_value(j.run, 4), 1); /* bound: read again in later runs */
    job_end(&j);
    DROP(x, y, z, a, b, c, d, top);
    end_graph(g);
}

/* -- Failures ------------------------------------------------------------------------------------ */

static int run_slow_boom(st_exec *x, st_error *err)
{
    struct timespec ts = {0, 3000000};
    nanosleep(&ts, NULL);
    return run_boom(x, err);
}

OP(op_slow_boom, 1, PURE, run_slow_boom);

/* The error of the first failing input wins, whichever failed first. */
static void first_failing_input_wins(void)
{
    st_graph *g = new_graph();
    st_node *good = leaf(g, 1);
    st_node *slow = node(g, &op_slow_boom, A_TUPLE(a_int(1))), *quick = node(g, &op_boom, A_TUPLE(a_int(2)));
    st_node *a = node(g, &op_sum, A_TUPLE(a_ref(good, 0), a_ref(slow, 0), a_ref(quick, 0)));
    st_node *b = node(g, &op_sum, A_TUPLE(a_ref(good, 0), a_ref(quick, 0), a_ref(slow, 0)));
    st_node *above = add_int(g, a, 1), *alone = add_int(g, good, 1);
    job j;
    job_start(&j, g, workers);
    job_demand(&j, quick, 0); /* fails at once, before the others are asked for */
    CHECK_INT(st_run_next(j.run, NULL, NULL, 10, NULL), 0);
    job_demand(&j, a, 0);
    job_demand(&j, b, 0);
    job_demand(&j, above, 0);
    job_demand(&j, alone, 0);
    CHECK_INT(job_wait(&j), 4);
    st_node *at;
    CHECK_INT(root_error(j.run, 0, &at), 2);
    CHECK(at == quick);
    CHECK_INT(root_error(j.run, 1, &at), 1);
    CHECK(at == slow);
    CHECK_INT(root_error(j.run, 2, &at), 2);
    CHECK(at == quick);
    CHECK_INT(root_error(j.run, 3, &at), 1);
    CHECK(at == slow && st_run_failed_at(j.run, above) == slow && st_run_failed_at(j.run, alone) == NULL);
    CHECK_INT(root_value(j.run, 4), 2); /* unharmed */
    CHECK_INT(st_run_get_stats(j.run).failed, 5);
    job_end(&j);
    DROP(good, slow, quick, a, b, above, alone);
    end_graph(g);
}

static void failure_chain(void)
{
    enum { DEEP = 100000 };
    st_graph *g = new_graph();
    st_node *boom = node(g, &op_boom, A_TUPLE(a_int(7))), *n = st_node_retain(boom);
    for (int i = 0; i < DEEP; i++) {
        st_node *m = add_int(g, n, 1);
        DROP(n);
        n = m;
    }
    job j;
    job_start(&j, g, workers);
    ran();
    job_demand(&j, n, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(ran(), 1);
    st_node *at;
    CHECK_INT(root_error(j.run, 0, &at), 7);
    CHECK(at == boom);
    job_demand(&j, n, 0); /* a failure is not tried again */
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_error(j.run, 1, &at), 7);
    CHECK_INT(ran(), 0);
    job_end(&j);
    DROP(boom, n);
    end_graph(g);
}

/* What only a failed node needed is dropped; what others need too still runs. */
static void needless_work_is_dropped(void)
{
    st_graph *g = new_graph();
    st_node *boom = node(g, &op_boom, A_TUPLE(a_int(7)));
    st_node *parts[102];
    parts[0] = boom;
    st_attr *items[102];
    items[0] = a_ref(boom, 0);
    st_node *gate_node = node(g, &op_gate, A_TUPLE(a_int(0)));
    parts[1] = gate_node;
    items[1] = a_ref(gate_node, 0);
    for (int i = 2; i < 102; i++) {
        st_node *deep = node(g, &op_sum, A_TUPLE(a_ref(gate_node, 0), a_int(i)));
        parts[i] = add_int(g, deep, 1);
        DROP(deep);
        items[i] = a_ref(parts[i], 0);
    }
    st_node *all = node(g, &op_sum, a_seq(ST_TUPLE, 102, items));
    st_node *other = add_int(g, parts[50], 1000);
    job j;
    job_start(&j, g, workers);
    atomic_store(&gate, workers == 0);
    ran();
    st_ref both[2] = {{all, 0}, {other, 0}};
    OK(st_run_demand(j.run, both, NULL, 2, true, NULL));
    if (workers > 1) { /* with one worker, the gate may well be what it is inside of */
        CHECK_INT(st_run_next(j.run, NULL, NULL, 10, NULL), 0);
        atomic_store(&gate, 1);
        CHECK_INT(job_wait(&j), 1);
        CHECK_INT(ran(), 5); /* boom, gate, and the one branch that `other` needs */
    } else {
        atomic_store(&gate, 1);
        CHECK_INT(job_wait(&j), 2);
        CHECK(ran() <= 204);
    }
    CHECK_INT(root_error(j.run, 0, NULL), 7);
    CHECK_INT(root_value(j.run, 1), 1051);
    /* What was dropped can be asked for later. */
    job_demand(&j, parts[60], 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 2), 61);
    job_end(&j);
    DROP(all, other);
    drop_nodes(parts, 102);
    end_graph(g);
}

static void tolerant_operators(void)
{
    st_graph *g = new_graph();
    st_node *good = leaf(g, 1), *boom = node(g, &op_boom, A_TUPLE(a_int(7))), *below = add_int(g, boom, 1);
    st_node *t = node(g, &op_tolerant, A_TUPLE(a_ref(good, 0), a_ref(boom, 0), a_ref(below, 0)));
    st_node *above = add_int(g, t, 1);
    job j;
    job_start(&j, g, workers);
    job_demand(&j, above, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 0), 202);
    job_demand(&j, t, 0); /* once more, after the failures */
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 1), 201);
    job_end(&j);
    DROP(good, boom, below, t, above);
    end_graph(g);
}

static int run_empty(st_exec *x, st_error *err)
{
    (void)x;
    (void)err;
    return ST_OK;
}

static int run_code(st_exec *x, st_error *err)
{
    (void)err;
    return (int)total(x, st_node_attr(x->node));
}

OP(op_empty, 1, PURE, run_empty);
OP(op_code, 1, PURE, run_code);
OP(op_nothing, 1, PURE, NULL);
OP(op_lost, 1, PURE | ST_P_CHOOSES, run_empty);

static void operators_that_break_the_rules(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1);
    st_node *bad[] = {node(g, &op_empty, A_TUPLE(a_int(1))), node(g, &op_code, A_TUPLE(a_int(ST_ELIMIT))),
                      node(g, &op_nothing, A_TUPLE(a_int(1))),
                      node(g, &op_lost, A_TUPLE(a_ref(x, 0), a_int(1)))};
    static const int want[] = {ST_EINVAL, ST_ELIMIT, ST_EUNSUPPORTED, ST_EINVAL};
    job j;
    job_start(&j, g, workers);
    for (size_t i = 0; i < 4; i++) {
        job_demand(&j, bad[i], 0);
        CHECK_INT(job_wait(&j), 1);
        st_value *v, *e;
        st_node *at;
        st_error err = {0};
        CHECK_INT(st_run_root(j.run, i, &v, &e, &at, &err), want[i]);
        CHECK(v == NULL && e == NULL && at == bad[i] && err.code == want[i] && err.message[0]);
    }
    st_value *v, *e;
    CHECK_INT(st_run_root(j.run, 4, &v, &e, NULL, NULL), ST_EINVAL);
    /* Refs that are none. */
    st_graph *h = new_graph();
    st_node *other = leaf(h, 1);
    st_ref r = {other, 0}, port = {x, 1};
    CHECK_INT(st_run_demand(j.run, &r, NULL, 1, true, NULL), ST_EINVAL);
    CHECK_INT(st_run_demand(j.run, &port, NULL, 1, true, NULL), ST_EINVAL);
    job_end(&j);
    DROP(x, other);
    drop_nodes(bad, 4);
    end_graph(g);
    end_graph(h);
}

/* -- Choosing and expanding ------------------------------------------------------------------------ */

static void branch_not_taken_never_runs(void)
{
    st_graph *g = new_graph();
    st_node *zero = leaf(g, 0), *one = add_int(g, zero, 1);
    st_node *boom = node(g, &op_boom, A_TUPLE(a_int(7))), *fine = add_int(g, one, 41);
    st_node *a = node(g, &op_pick, A_TUPLE(a_ref(one, 0), a_ref(boom, 0), a_ref(fine, 0)));
    st_node *b = node(g, &op_pick, A_TUPLE(a_ref(zero, 0), a_ref(boom, 0), a_ref(fine, 0)));
    st_node *c = node(g, &op_pick, A_TUPLE(a_ref(boom, 0), a_ref(fine, 0)));
    st_node *d =
        node(g, &op_pick, A_TUPLE(a_ref(one, 0), a_ref(boom, 0), a_ref(one, 0))); /* the condition itself */
    st_node *e = node(g, &op_pick, A_TUPLE(a_int(5), a_ref(fine, 0)));
    st_node *above = add_int(g, a, 1);
    job j;
    job_start(&j, g, workers);
    ran();
    job_demand(&j, above, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(ran(), 5); /* zero, one, pick, fine, above */
    CHECK_INT(root_value(j.run, 0), 43);
    job_demand(&j, d, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 1), 1);
    CHECK(st_run_failed_at(j.run, boom) == NULL);
    job_demand(&j, b, 0);
    job_demand(&j, c, 0);
    CHECK_INT(job_wait(&j), 2);
    st_node *at;
    CHECK_INT(root_error(j.run, 2, &at), 7);
    CHECK(at == boom);
    CHECK_INT(root_error(j.run, 3, &at), 7);
    CHECK(at == boom);
    /* choosing again something that has failed already, or an option that is not there */
    st_node *f = node(g, &op_pick, A_TUPLE(a_ref(zero, 0), a_ref(boom, 0)));
    job_demand(&j, f, 0);
    job_demand(&j, e, 0);
    CHECK_INT(job_wait(&j), 2);
    CHECK_INT(root_error(j.run, 4, &at), 7);
    st_value *v, *x;
    CHECK_INT(st_run_root(j.run, 5, &v, &x, &at, NULL), ST_EHOST);
    CHECK(at == e);
    job_end(&j);
    DROP(zero, one, boom, fine, a, b, c, d, e, f, above);
    end_graph(g);
}

/* (n, value): counts down: becomes (n - 1, value + 1), then value + 0. */
static st_graph *the_graph;
static int run_countdown(st_exec *x, st_error *err);
OP(op_countdown, 1, PURE | ST_P_EXPANDS, run_countdown);

static int run_countdown(st_exec *x, st_error *err)
{
    atomic_fetch_add(&executed, 1);
    st_attr *t = st_node_attr(x->node), *expr = NULL, *parts[2] = {NULL, NULL};
    int64_t n = st_attr_as_int(st_attr_item(t, 0));
    st_ref in = st_node_in(x->node, 0);
    st_node *plus = NULL;
    int rc = st_attr_ref(&meter, in, &parts[0]);
    if (rc == ST_OK) rc = st_attr_int(&meter, 1, &parts[1]);
    if (rc == ST_OK) rc = st_attr_seq(&meter, ST_TUPLE, parts, 2, &expr);
    if (rc == ST_OK) rc = st_graph_intern(the_graph, &op_sum, expr, 0, NULL, &plus, err);
    st_attr_release(parts[0]);
    st_attr_release(parts[1]);
    st_attr_release(expr);
    if (rc != ST_OK) return rc;
    if (n == 0) {
        x->becomes = (st_ref){plus, 0};
        return ST_OK;
    }
    expr = parts[0] = parts[1] = NULL;
    rc = st_attr_int(&meter, n - 1, &parts[0]);
    if (rc == ST_OK) rc = st_attr_ref(&meter, (st_ref){plus, 0}, &parts[1]);
    if (rc == ST_OK) rc = st_attr_seq(&meter, ST_TUPLE, parts, 2, &expr);
    if (rc == ST_OK) rc = st_graph_intern(the_graph, &op_countdown, expr, 0, NULL, &x->becomes.node, err);
    st_attr_release(parts[0]);
    st_attr_release(parts[1]);
    st_attr_release(expr);
    st_node_release(plus);
    return rc;
}

static void expanding(void)
{
    st_graph *g = the_graph = new_graph();
    st_node *x = leaf(g, 5);
    st_node *n = node(g, &op_countdown, A_TUPLE(a_int(300), a_ref(x, 0))), *above = add_int(g, n, 1000);
    job j;
    job_start(&j, g, workers);
    ran();
    job_demand(&j, above, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 0), 1306);
    /* what it became read what it had read: nothing ran twice */
    CHECK_INT(st_run_get_stats(j.run).recomputed, 0);
    CHECK_INT(ran(), 1 + 301 + 301 + 1); /* x, countdowns, sums, above */
    job_end(&j);
    DROP(x, n, above);
    end_graph(g);
}

/* Becomes whatever node its attribute number says. */
static st_node *target;
static uint32_t target_port;

static int run_become(st_exec *x, st_error *err)
{
    (void)err;
    atomic_fetch_add(&executed, 1);
    x->becomes = (st_ref){st_node_retain(target), target_port};
    return ST_OK;
}

OP(op_become, 1, PURE | ST_P_EXPANDS, run_become);
OP(op_become2, 2, PURE | ST_P_EXPANDS, run_become);

static void expanding_to_nodes_that_exist(void)
{
    st_graph *g = new_graph();
    st_node *done = leaf(g, 5), *boom = node(g, &op_boom, A_TUPLE(a_int(7))), *fresh = leaf(g, 6);
    st_node *hidden = add_int(g, fresh, 1);
    st_node *e[5];
    for (int i = 0; i < 5; i++)
        e[i] = node(g, &op_become, A_TUPLE(a_int(i)));
    job j;
    job_start(&j, g, workers);
    job_demand(&j, done, 0);
    job_demand(&j, boom, 0);
    CHECK_INT(job_wait(&j), 2);
    st_node *to[5] = {done, boom, hidden, fresh, hidden};
    for (int i = 0; i < 5; i++) {
        target = to[i];
        job_demand(&j, e[i], 0);
        CHECK_INT(job_wait(&j), 1);
    }
    CHECK_INT(root_value(j.run, 2), 5);
    st_node *at;
    CHECK_INT(root_error(j.run, 3, &at), 7);
    CHECK(at == boom);
    CHECK_INT(root_value(j.run, 4), 7);
    CHECK_INT(root_value(j.run, 5), 6);
    CHECK_INT(root_value(j.run, 6), 7);
    job_end(&j);
    DROP(done, boom, fresh, hidden);
    drop_nodes(e, 5);
    end_graph(g);
}

static void expanding_in_circles(void)
{
    st_graph *g = new_graph();
    st_node *self = node(g, &op_become, A_TUPLE(a_int(1))), *above = add_int(g, self, 1);
    st_node *fine = leaf(g, 2), *two = node(g, &op_become2, A_TUPLE(a_int(1)));
    st_node *port = node(g, &op_become, A_TUPLE(a_int(2)));
    static const int want[] = {ST_ECYCLE, ST_ECYCLE, ST_EINVAL, ST_EINVAL};
    for (int round = 0; round < 4; round++) {
        job j;
        job_start(&j, g, workers);
        target = round == 0 ? self : round == 1 ? above : fine;
        target_port = round == 3 ? 9 : 0;
        job_demand(&j, round < 2 ? above : round == 2 ? two : port, 0);
        job_demand(&j, fine, 0);
        CHECK_INT(job_wait(&j), 2);
        CHECK_INT(root_value(j.run, 1), 2);
        st_value *v, *e;
        st_error err = {0};
        CHECK_INT(st_run_root(j.run, 0, &v, &e, NULL, &err), want[round]);
        CHECK(err.message[0] != 0);
        job_end(&j);
    }
    target_port = 0;
    DROP(self, above, fine, two, port);
    end_graph(g);
}

/* -- Nested waits ------------------------------------------------------------------------------------ */

/* (number, ref...): waits for a node that the table below names, then adds its own inputs. */
static st_node *inner[8];

static int run_nest(st_exec *x, st_error *err)
{
    atomic_fetch_add(&executed, 1);
    long k = (long)st_attr_as_int(st_attr_item(st_node_attr(x->node), 0));
    st_value *v, *e;
    int rc = st_run_nested(x->run, (st_ref){inner[k], 0}, x->worker, &v, &e, err);
    if (rc != ST_OK) {
        x->error = e;
        return rc;
    }
    long s = number_of(v);
    st_value_release(v);
    return give(x, 0, 1000 + s);
}

OP(op_nest, 1, PURE | ST_P_NESTS, run_nest);
OP(op_nest_caller, 1, ST_P_NESTS, run_nest);
OP(op_nest_gil, 1, PURE | ST_P_NESTS | ST_P_HOLDS_GIL, run_nest);
OP(op_nest_gil_caller, 1, ST_P_NESTS | ST_P_HOLDS_GIL, run_nest);

static void nested(void)
{
    static const st_op *const kinds[] = {&op_nest, &op_nest_caller, &op_nest_gil, &op_nest_gil_caller};
    for (int k = 0; k < 4; k++) {
        st_graph *g = the_graph = new_graph();
        st_node *x = leaf(g, 1), *boom = node(g, &op_boom, A_TUPLE(a_int(7)));
        /* what is waited for: a chain over every kind of node, of all threads */
        st_node *n = st_node_retain(x);
        for (int i = 0; i < 12; i++) {
            const st_op *op = i % 4 == 0 ? &op_caller : i % 4 == 1 ? &op_gil : &op_sum;
            st_node *m = node_with(g, op, i % 4 == 1 ? ST_N_SMALL : 0, A_TUPLE(a_ref(n, 0), a_int(i % 2)));
            DROP(n);
            n = m;
        }
        inner[0] = n;
        inner[1] = boom;
        inner[2] = node(g, kinds[k], A_TUPLE(a_int(0)));
        inner[3] = node(g, &op_countdown, A_TUPLE(a_int(5), a_ref(x, 0)));
        st_node *top[] = {st_node_retain(inner[2]), node(g, kinds[k], A_TUPLE(a_int(1))),
                          node(g, kinds[k], A_TUPLE(a_int(2))), node(g, kinds[k], A_TUPLE(a_int(3))),
                          node(g, kinds[(k + 1) % 4], A_TUPLE(a_int(2), a_int(0)))};
        job j;
        job_start(&j, g, workers);
        for (int i = 0; i < 5; i++)
            job_demand(&j, top[i], 0);
        CHECK_INT(job_wait(&j), 5);
        CHECK_INT(root_value(j.run, 0), 1007);
        st_node *at;
        CHECK_INT(root_error(j.run, 1, &at), 7);
        CHECK(at == top[1]); /* an operator that passes an error on has failed itself */
        CHECK_INT(root_value(j.run, 2), 2007);
        CHECK_INT(root_value(j.run, 3), 1007);
        CHECK_INT(root_value(j.run, 4), 2007);
        job_end(&j);
        drop_nodes(top, 5);
        DROP(x, inner[0], inner[1], inner[2], inner[3]);
        end_graph(g);
    }
}

static atomic_int threads_given;

static int run_asks_threads(st_exec *x, st_error *err)
{
    atomic_store(&threads_given, x->threads);
    return run_sum(x, err);
}

OP(op_asks_threads, 1, PURE, run_asks_threads);

/* What runs alone has all threads, whoever waits for it. */
static void threads_inside(void)
{
    st_graph *g = the_graph = new_graph();
    inner[0] = node(g, &op_asks_threads, A_TUPLE(a_int(3)));
    inner[1] = node(g, &op_nest, A_TUPLE(a_int(0)));
    st_node *top = node(g, &op_nest, A_TUPLE(a_int(1)));
    job j;
    job_start(&j, g, workers);
    atomic_store(&threads_given, 0);
    job_demand(&j, top, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 0), 2003);
    CHECK_INT(atomic_load(&threads_given), workers ? workers : 1);
    job_end(&j);
    DROP(inner[0], inner[1], top);
    end_graph(g);
}

/* Nodes of each kind wait for nodes of each other kind, a few deep. */
static void nested_deep(void)
{
    static const st_op *const kinds[] = {&op_nest, &op_nest_caller, &op_nest_gil, &op_nest_gil_caller};
    for (unsigned mix = 0; mix < 64; mix++) {
        st_graph *g = new_graph();
        inner[0] = leaf(g, 1);
        for (unsigned i = 1; i < 4; i++)
            inner[i] = node(g, kinds[mix >> (2 * (i - 1)) & 3], A_TUPLE(a_int((int)i - 1)));
        st_node *beside[4];
        job j;
        job_start(&j, g, workers);
        job_demand(&j, inner[3], 0);
        for (int i = 0; i < 4; i++) {
            beside[i] = node(g, kinds[i], A_TUPLE(a_int(2), a_int(i)));
            job_demand(&j, beside[i], 0);
        }
        CHECK_INT(job_wait(&j), 5);
        CHECK_INT(root_value(j.run, 0), 3001);
        for (size_t i = 0; i < 4; i++)
            CHECK_INT(root_value(j.run, 1 + i), 3001);
        job_end(&j);
        drop_nodes(beside, 4);
        drop_nodes(inner, 4);
        end_graph(g);
    }
}

/* A node that waits inside for what needs it, alone and through another one that does so: an error. */
static void nested_circles(void)
{
    for (int round = 0; round < 3; round++) {
        st_graph *g = new_graph();
        st_node *a = node(g, round ? &op_nest_gil : &op_nest_caller, A_TUPLE(a_int(0)));
        st_node *b = node(g, &op_nest, A_TUPLE(a_int(1)));
        st_node *above = add_int(g, a, 1), *fine = leaf(g, 5);
        inner[0] = round == 2 ? b : above; /* a waits for what reads it, or for b, which waits for that */
        inner[1] = above;
        job j;
        job_start(&j, g, workers);
        job_demand(&j, above, 0);
        job_demand(&j, fine, 0);
        CHECK_INT(job_wait(&j), 2);
        st_value *v, *e;
        st_error err = {0};
        CHECK_INT(st_run_root(j.run, 0, &v, &e, NULL, &err), ST_ECYCLE);
        CHECK_INT(root_value(j.run, 1), 5);
        job_end(&j);
        DROP(a, b, above, fine);
        end_graph(g);
    }
}

/* -- Binding, keeping, sharing ------------------------------------------------------------------------- */

static void bound_values_are_taken(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = add_int(g, x, 1), *z = add_int(g, y, 1);
    st_node *two = node(g, &op_two, A_TUPLE(a_int(1))), *t = add_int(g, two, 5);
    st_value *v;
    OK(number_new(50, false, &v));
    OK(st_node_bind(y, 0, v));
    OK(st_node_bind(two, 0, v)); /* one of two outputs: enough for who reads that one */
    st_value_release(v);
    for (int round = 0; round < 3; round++) { /* in every run, until it is unbound */
        job j;
        job_start(&j, g, workers);
        ran();
        st_ref r[3] = {{z, 0}, {y, 0}, {t, 0}};
        OK(st_run_demand(j.run, r, NULL, 3, true, NULL));
        CHECK_INT(job_wait(&j), 3);
        CHECK_INT(root_value(j.run, 0), round < 2 ? 51 : 3);
        CHECK_INT(root_value(j.run, 1), round < 2 ? 50 : 2);
        CHECK_INT(root_value(j.run, 2), 55);
        CHECK_INT(ran(), round < 2 ? 2 : 4);
        CHECK_INT(st_run_get_stats(j.run).reused, round < 2 ? 2 : 1);
        /* the other output: now it has to run, and what was bound stays what it was */
        st_ref both[2] = {{two, 0}, {two, 1}};
        OK(st_run_demand(j.run, both, NULL, 2, true, NULL));
        CHECK_INT(job_wait(&j), 2);
        CHECK_INT(root_value(j.run, 3), 50);
        CHECK_INT(root_value(j.run, 4), 10);
        CHECK_INT(ran(), 1);
        job_end(&j);
        if (round == 1) st_node_unbind(y, 0, NULL);
    }
    DROP(x, y, z, two, t);
    end_graph(g);
}

static void keeping(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = add_int(g, x, 1);
    st_node *rows = node(g, &op_rows, A_TUPLE(a_ref(y, 0))), *fit = add_int(g, rows, 1),
            *refit = add_int(g, y, 100);
    for (int keep = 0; keep < 2; keep++) {
        job j;
        job_start(&j, g, workers);
        ran();
        job_demand(&j, fit, 0);
        st_keep *k = NULL;
        /* without, the refit has to compute y and what it needs again */
        if (!keep) {
            CHECK_INT(job_wait(&j), 1);
        } else {
            st_ref r = {fit, 0};
            OK(st_run_keep(j.run, &r, 1, &k));
            CHECK_INT(job_wait(&j), 1);
        }
        st_run_stats before = st_run_get_stats(j.run);
        job_demand(&j, refit, 0);
        CHECK_INT(job_wait(&j), 1);
        CHECK_INT(root_value(j.run, 1), 102);
        if (!keep) CHECK_INT(st_run_get_stats(j.run).executed - before.executed, 3);
        if (keep && workers == 0) CHECK_INT(st_run_get_stats(j.run).executed - before.executed, 1);
        st_run_unkeep(j.run, k);
        st_run_unkeep(j.run, NULL);
        job_wait(&j);
        expect_numbers(2); /* the roots */
        job_end(&j);
    }
    DROP(x, y, rows, fit, refit);
    end_graph(g);
}

static int run_nap(st_exec *x, st_error *err)
{
    struct timespec ts = {0, 1000000};
    nanosleep(&ts, NULL);
    return run_sum(x, err);
}

OP(op_nap_rows, 1, PURE | ST_P_TAKES_ROWS, run_nap);
OP(op_nap, 1, PURE, run_nap);

/* A thousandth of a second a node: the shares of all roots add up to what was spent on rows. */
static void shares_add_up(void)
{
    enum { ROOTS = 6 };
    st_graph *g = new_graph();
    st_node *before = node(g, &op_nap, A_TUPLE(a_int(1)));
    st_node *rows = node(g, &op_nap_rows, A_TUPLE(a_ref(before, 0)));
    st_node *root[ROOTS], *mid[ROOTS / 2];
    st_ref r[ROOTS];
    double s[ROOTS], sum = 0, all = 0;
    for (int i = 0; i < ROOTS / 2; i++)
        mid[i] = node(g, &op_nap, A_TUPLE(a_ref(rows, 0), a_int(i)));
    for (int i = 0; i < ROOTS; i++) {
        root[i] = node(g, &op_nap, A_TUPLE(a_ref(mid[i / 2], 0), a_int(100 + i)));
        r[i] = (st_ref){root[i], 0};
    }
    job j;
    job_start(&j, g, workers);
    OK(st_run_demand(j.run, r, NULL, ROOTS, true, NULL));
    CHECK_INT(job_wait(&j), ROOTS);
    all = st_run_get_stats(j.run).seconds;
    OK(st_run_share(j.run, r, ROOTS, s));
    for (int i = 0; i < ROOTS; i++) {
        CHECK(s[i] > 0.0015); /* its own, half a mid, a sixth of the rows */
        sum += s[i];
    }
    CHECK(sum < all - 0.0009); /* what lies before the split is nobody's */
    CHECK(sum > all * 0.2);
    OK(st_run_share(j.run, r, ROOTS, s)); /* answered once */
    for (int i = 0; i < ROOTS; i++)
        CHECK(s[i] == 0);
    job_end(&j);
    DROP(before, rows);
    drop_nodes(mid, ROOTS / 2);
    drop_nodes(root, ROOTS);
    end_graph(g);
}

/* Time that a node waited inside another one is that one's, and is told once. */
static void nested_time_counts_once(void)
{
    st_graph *g = the_graph = new_graph();
    st_node *rows = node(g, &op_nap_rows, A_TUPLE(a_int(1)));
    inner[0] = node(g, &op_nap, A_TUPLE(a_ref(rows, 0), a_int(1)));
    st_node *outer = node(g, &op_nest, A_TUPLE(a_int(0), a_ref(rows, 0)));
    job j;
    job_start(&j, g, workers);
    double from = seconds_now(), s = 0;
    job_demand(&j, outer, 0);
    CHECK_INT(job_wait(&j), 1);
    double wall = seconds_now() - from, all = st_run_get_stats(j.run).seconds;
    CHECK(all >= 0.002 && all <= wall);
    st_ref r = {outer, 0};
    OK(st_run_share(j.run, &r, 1, &s));
    CHECK(s > all - 1e-9 && s < all + 1e-9);
    job_end(&j);
    DROP(rows, inner[0], outer);
    end_graph(g);
}

static int count_profile(void *ud, st_node *n, double seconds, bool failed)
{
    (void)n;
    CHECK(seconds >= 0);
    ((int *)ud)[failed]++;
    return ST_OK;
}

static int stop_profile(void *ud, st_node *n, double seconds, bool failed)
{
    (void)ud;
    (void)n;
    (void)seconds;
    (void)failed;
    return ST_ELIMIT;
}

static void profile(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = add_int(g, x, 1), *boom = node(g, &op_boom, A_TUPLE(a_int(1))),
            *above = add_int(g, boom, 1);
    job j;
    job_start(&j, g, workers);
    job_demand(&j, y, 0);
    job_demand(&j, above, 0);
    CHECK_INT(job_wait(&j), 2);
    int n[2] = {0};
    OK(st_run_profile(j.run, count_profile, n));
    CHECK_INT(n[0], 2);
    CHECK_INT(n[1], 1); /* `above` never ran */
    CHECK_INT(st_run_profile(j.run, stop_profile, NULL), ST_ELIMIT);
    job_end(&j);
    DROP(x, y, boom, above);
    end_graph(g);
}

typedef struct seen_held {
    st_node *node;
    long number;
    uint32_t readers;
    int n;
} seen_held;

static int see_held(void *ud, st_ref ref, uint32_t readers, st_value *v)
{
    seen_held *h = ud;
    h->n++;
    if (ref.node == h->node) {
        h->number = number_of(v);
        h->readers = readers;
    }
    return ST_OK;
}

static int stop_held(void *ud, st_ref ref, uint32_t readers, st_value *v)
{
    (void)ref;
    (void)readers;
    (void)v;
    ++*(int *)ud;
    return ST_ELIMIT;
}

/* What a tool is told of the values that are there: those of roots, not those whose last reader is done. */
static void held(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = add_int(g, x, 1), *z = add_int(g, y, 1);
    job j;
    job_start(&j, g, workers);
    st_ref r[3] = {{z, 0}, {z, 0}, {x, 0}};
    OK(st_run_demand(j.run, r, NULL, 3, true, NULL));
    CHECK_INT(job_wait(&j), 3);
    seen_held h = {.node = z};
    OK(st_run_held(j.run, see_held, &h));
    CHECK_INT(h.n, 2);
    CHECK_INT(h.number, 3);
    CHECK_INT(h.readers, 2);
    int calls = 0;
    CHECK_INT(st_run_held(j.run, stop_held, &calls), ST_ELIMIT);
    CHECK_INT(calls, 1);
    job_end(&j);
    DROP(x, y, z);
    end_graph(g);
}

static uint32_t readers_seen[3];

static int run_readers(st_exec *x, st_error *err)
{
    for (size_t i = 0; i < 3; i++)
        readers_seen[i] = st_run_readers(x, i);
    return run_sum(x, err);
}

OP(op_readers, 1, PURE, run_readers);

/* An operator is told how many have yet to read an input: others, itself, and roots that were asked for. */
static void readers_left(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = add_int(g, x, 1);
    st_node *z = node(g, &op_readers, A_TUPLE(a_ref(x, 0), a_ref(y, 0)));
    job j;
    job_start(&j, g, workers);
    st_ref r[3] = {{z, 0}, {x, 0}, {x, 0}};
    OK(st_run_demand(j.run, r, NULL, 3, true, NULL));
    CHECK_INT(job_wait(&j), 3);
    CHECK_INT(readers_seen[0], 3);
    CHECK_INT(readers_seen[1], 1);
    CHECK_INT(readers_seen[2], 0); /* there is no such input */
    job_end(&j);
    DROP(x, y, z);
    end_graph(g);
}

/* -- Order ------------------------------------------------------------------------------------------------
 */

static long order_seen[16];
static atomic_int n_seen;

static int run_note(st_exec *x, st_error *err)
{
    order_seen[atomic_fetch_add(&n_seen, 1)] = (long)st_attr_as_int(st_attr_item(st_node_attr(x->node), 0));
    return run_sum(x, err);
}

OP(op_note, 1, PURE, run_note);

/* One thread: waves first, then the longer path, then age. */
static void order_of_work(void)
{
    if (workers > 1) return;
    st_graph *g = new_graph();
    st_node *n[6];
    for (int i = 0; i < 6; i++)
        n[i] = node(g, &op_note, A_TUPLE(a_int(i)));
    st_node *deep = add_int(g, n[4], 1), *deeper = add_int(g, deep, 2);
    st_ref r[6] = {{n[0], 0}, {n[1], 0}, {n[2], 0}, {n[3], 0}, {deeper, 0}, {n[5], 0}};
    int waves[6] = {1, 0, 1, 2, 1, 0};
    st_run *run;
    OK(st_run_new(g, workers, &run));
    OK(st_run_demand(run, r, waves, 6, true, NULL));
    atomic_store(&n_seen, 0);
    crew c;
    crew_start(&c, run, workers);
    while (st_run_next(run, NULL, NULL, 10, NULL) >= 0)
        ;
    static const long want[] = {1, 5, 4, 0, 2, 3};
    for (int i = 0; i < 6; i++)
        CHECK_INT(order_seen[i], want[i]);
    st_run_cancel(run);
    crew_join(&c);
    st_run_free(run);
    DROP(deep, deeper);
    drop_nodes(n, 6);
    end_graph(g);
}

static atomic_int small_now, small_most;

static int run_small(st_exec *x, st_error *err)
{
    int k = atomic_fetch_add(&small_now, 1) + 1, most = atomic_load(&small_most);
    while (k > most && !atomic_compare_exchange_weak(&small_most, &most, k))
        ;
    for (int i = 0; i < 50; i++)
        sched_yield();
    int rc = run_sum(x, err);
    atomic_fetch_sub(&small_now, 1);
    return rc;
}

OP(op_small, 1, PURE | ST_P_HOLDS_GIL, run_small);

static void small_nodes_never_run_beside_each_other(void)
{
    enum { N = 200 };
    st_graph *g = new_graph();
    st_node *n[N];
    job j;
    job_start(&j, g, workers);
    atomic_store(&small_most, 0);
    for (int i = 0; i < N; i++) {
        n[i] = node_with(g, &op_small, ST_N_SMALL, A_TUPLE(a_int(i)));
        job_demand(&j, n[i], 0);
    }
    CHECK_INT(job_wait(&j), N);
    CHECK_INT(atomic_load(&small_most), 1);
    job_end(&j);
    drop_nodes(n, N);
    end_graph(g);
}

static pthread_t driver;

static int run_on_driver(st_exec *x, st_error *err)
{
    CHECK(pthread_equal(pthread_self(), driver) && x->worker == NULL);
    return run_sum(x, err);
}

static int run_off_driver(st_exec *x, st_error *err)
{
    CHECK(workers == 0 || (!pthread_equal(pthread_self(), driver) && x->worker != NULL));
    return run_sum(x, err);
}

OP(op_on_driver, 1, ST_P_DETERMINISTIC, run_on_driver);
OP(op_on_driver2, 1, PURE, run_on_driver);
OP(op_off_driver, 1, PURE, run_off_driver);

static void threads_that_nodes_run_on(void)
{
    driver = pthread_self();
    st_graph *g = new_graph();
    st_node *n = leaf(g, 0);
    for (int i = 0; i < 100; i++) {
        const st_op *op = i % 3 == 0 ? &op_on_driver : i % 3 == 1 ? &op_on_driver2 : &op_off_driver;
        st_node *m = node_with(g, op, i % 3 == 1 ? ST_N_CALLER : 0, A_TUPLE(a_ref(n, 0), a_int(1)));
        DROP(n);
        n = m;
    }
    job j;
    job_start(&j, g, workers);
    job_demand(&j, n, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 0), 100);
    job_end(&j);
    DROP(n);
    end_graph(g);
}

/* -- Cancellation
 * --------------------------------------------------------------------------------------------- */

static int poll_third(void *ud) { return ++*(int *)ud >= 3; }

static void polling_cancels(void)
{
    st_graph *g = new_graph();
    st_node *wait = node(g, &op_gate, A_TUPLE(a_int(1))), *after = add_int(g, wait, 1), *fine = leaf(g, 4);
    if (workers == 0) { /* the driving thread itself would be held up */
        DROP(wait, after, fine);
        end_graph(g);
        return;
    }
    job j;
    atomic_store(&gate, 0);
    job_start(&j, g, workers);
    job_demand(&j, fine, 0);
    CHECK_INT(st_run_next(j.run, NULL, NULL, 10, NULL), 0);
    job_demand(&j, after, 0);
    int polls = 0;
    st_error err = {0};
    ran();
    CHECK_INT(st_run_next(j.run, poll_third, &polls, 1, &err), -1);
    CHECK_INT(err.code, ST_ECANCELED);
    CHECK_INT(polls, 3);
    CHECK(st_run_canceled(j.run));
    CHECK_INT(root_value(j.run, 0), 4); /* what was done stays done */
    st_value *v, *e;
    CHECK_INT(st_run_root(j.run, 1, &v, &e, NULL, NULL), ST_ECANCELED);
    atomic_store(&gate, 1);
    crew_join(&j.crew);
    CHECK_INT(st_run_settle(j.run, 1000, NULL, NULL), 0);
    CHECK_INT(ran(), 1); /* the node that had begun; nothing after it */
    job_end(&j);
    DROP(wait, after, fine);
    end_graph(g);
}

static void note_stuck(void *ud, st_node *n, void *worker)
{
    st_node **seen = ud;
    CHECK(worker != NULL);
    seen[seen[0] != NULL] = n;
}

/* A library call that cannot be stopped: the run is freed and the next one works while a worker is
 * still inside; what it makes in the end is discarded. */
static void stuck_worker(void)
{
    if (workers == 0) return;
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *stuck = node(g, &op_gate, A_TUPLE(a_ref(x, 0)));
    st_node *after = add_int(g, stuck, 1), *fine = add_int(g, x, 3);
    job j;
    atomic_store(&gate, 0);
    job_start(&j, g, workers);
    job_demand(&j, after, 0);
    while (st_run_settle(j.run, 1, NULL, NULL) == 0) /* until it is inside */
        sched_yield();
    st_run_cancel(j.run);
    st_node *seen[2] = {NULL, NULL};
    CHECK_INT(st_run_settle(j.run, 1, note_stuck, seen), 1);
    CHECK(seen[0] == stuck && seen[1] == NULL);
    st_run_free(j.run); /* the worker is still inside */
    crew old = j.crew;
    for (int round = 0; round < 2; round++) {
        job k;
        job_start(&k, g, workers);
        job_demand(&k, fine, 0);
        CHECK_INT(job_wait(&k), 1);
        CHECK_INT(root_value(k.run, 0), 4);
        job_end(&k);
    }
    /* and even a run that needs the stuck node itself */
    job k;
    job_start(&k, g, workers);
    job_demand(&k, after, 0);
    atomic_store(&gate, 1);
    CHECK_INT(job_wait(&k), 1);
    CHECK_INT(root_value(k.run, 0), 2);
    job_end(&k);
    crew_join(&old);
    DROP(x, stuck, after, fine);
    end_graph(g);
}

/* The same with the worker inside a nested wait: it must not touch what is gone. */
static int run_gate_then_nest(st_exec *x, st_error *err)
{
    while (!atomic_load(&gate))
        sched_yield();
    st_value *v, *e;
    int rc = st_run_nested(x->run, (st_ref){inner[0], 0}, x->worker, &v, &e, err);
    CHECK(v == NULL && e == NULL);
    CHECK_INT(rc, ST_ECANCELED);
    st_ref r = {inner[0], 0};
    CHECK_INT(st_run_demand(x->run, &r, NULL, 1, false, NULL), ST_ECANCELED);
    return rc;
}

OP(op_gate_then_nest, 1, PURE | ST_P_NESTS, run_gate_then_nest);

static void stuck_worker_that_nests(void)
{
    if (workers == 0) return;
    st_graph *g = new_graph();
    inner[0] = leaf(g, 1);
    st_node *n = node(g, &op_gate_then_nest, A_TUPLE(a_int(0)));
    job j;
    atomic_store(&gate, 0);
    job_start(&j, g, workers);
    job_demand(&j, n, 0);
    while (st_run_settle(j.run, 1, NULL, NULL) == 0)
        sched_yield();
    st_run_free(j.run);
    job k;
    job_start(&k, g, workers);
    job_demand(&k, inner[0], 0);
    atomic_store(&gate, 1);
    CHECK_INT(job_wait(&k), 1);
    crew_join(&j.crew);
    job_end(&k);
    DROP(inner[0], n);
    end_graph(g);
}

/* Freed with work left in the queues and workers at it. */
static void freed_in_the_middle(void)
{
    enum { N = 2000 };
    st_graph *g = new_graph();
    st_node *n[N];
    for (int i = 0; i < N; i++)
        n[i] = i < 2 ? leaf(g, i) : add(g, n[i - 1], n[i - 2]);
    for (int round = 0; round < 20; round++) {
        job j;
        job_start(&j, g, workers);
        job_demand(&j, n[N - 1], 0);
        if (round % 2) st_run_cancel(j.run);
        if (round % 4 == 1) crew_join(&j.crew);
        st_run_cancel(j.run);
        crew_join(&j.crew);
        st_run_free(j.run);
    }
    drop_nodes(n, N);
    end_graph(g);
}

static void runs_one_after_another(void)
{
    st_graph *g = new_graph();
    st_node *n = leaf(g, 1), *chain[50];
    for (int i = 0; i < 50; i++) {
        chain[i] = add_int(g, n, 1);
        DROP(n);
        n = st_node_retain(chain[i]);
    }
    DROP(n);
    for (int round = 0; round < 20; round++) {
        job j;
        job_start(&j, g, workers);
        int i = (7 * round) % 50;
        job_demand(&j, chain[i], 0);
        CHECK_INT(job_wait(&j), 1);
        CHECK_INT(root_value(j.run, 0), i + 2);
        CHECK_INT(st_run_get_stats(j.run).executed, i + 2);
        job_end(&j);
    }
    drop_nodes(chain, 50);
    end_graph(g);
}

static void one_run_at_a_time(void)
{
    st_graph *g = new_graph();
    st_run *a, *b = NULL;
    OK(st_run_new(g, workers, &a));
    CHECK_INT(st_run_new(g, workers, &b), ST_EUNSUPPORTED);
    CHECK(b == NULL);
    st_run_free(a);
    OK(st_run_new(g, workers, &b));
    st_run_free(b);
    st_run_free(NULL);
    end_graph(g);
}

/* A thread that comes late to a run that was freed before it. */
static void late_worker(void)
{
    st_graph *g = new_graph();
    st_run *r;
    OK(st_run_new(g, 1, &r));
    st_run_retain(r);
    st_run_free(r);
    st_worker_run(r, NULL); /* returns at once */
    st_run_release(r);
    end_graph(g);
}

static void wide_node(void)
{
    enum { WIDE = 30000 };
    st_graph *g = new_graph();
    st_attr **items = malloc(WIDE * sizeof *items);
    CHECK(items != NULL);
    for (int i = 0; i < WIDE; i++) {
        st_node *n = i == WIDE - 1 ? node(g, &op_boom, A_TUPLE(a_int(7))) : leaf(g, i);
        items[i] = a_ref(n, 0);
        DROP(n);
    }
    st_attr *expr = a_seq(ST_TUPLE, WIDE, items);
    free(items);
    st_node *fails = node(g, &op_sum, st_attr_retain(expr)), *counts = node(g, &op_tolerant, expr);
    job j;
    job_start(&j, g, workers);
    st_ref r[2] = {{fails, 0}, {counts, 0}};
    OK(st_run_demand(j.run, r, NULL, 2, true, NULL));
    CHECK_INT(job_wait(&j), 2);
    CHECK_INT(root_error(j.run, 0, NULL), 7);
    CHECK_INT(root_value(j.run, 1), (long)(WIDE - 2) * (WIDE - 1) / 2 + 100);
    job_end(&j);
    DROP(fails, counts);
    end_graph(g);
}

static void many_roots(void)
{
    enum { N = 30000 };
    st_graph *g = new_graph();
    st_node *x = leaf(g, 0), **n = malloc(N * sizeof *n);
    st_ref *r = malloc(N * sizeof *r);
    CHECK(n && r);
    for (int i = 0; i < N; i++) {
        n[i] = add_int(g, x, i);
        r[i] = (st_ref){n[i], 0};
    }
    job j;
    job_start(&j, g, workers);
    OK(st_run_demand(j.run, r, NULL, N, true, NULL));
    CHECK_INT(job_wait(&j), N);
    for (size_t i = 0; i < N; i += 1000)
        CHECK_INT(root_value(j.run, i), i);
    job_end(&j);
    drop_nodes(n, N);
    DROP(x);
    free(n);
    free(r);
    end_graph(g);
}

int main(void)
{
    ON_ALL(diamonds);
    ON_ALL(ladder_runs_once_each);
    ON_ALL(deep_chain);
    ON_ALL(two_outputs);
    ON_ALL(values_go_with_their_last_reader);
    ON_ALL(second_output_again_beside_a_ready_reader);
    ON_ALL(operators_know_who_else_reads);
    ON_ALL(first_failing_input_wins);
    ON_ALL(failure_chain);
    ON_ALL(needless_work_is_dropped);
    ON_ALL(tolerant_operators);
    ON_ALL(operators_that_break_the_rules);
    ON_ALL(branch_not_taken_never_runs);
    ON_ALL(expanding);
    ON_ALL(expanding_to_nodes_that_exist);
    ON_ALL(expanding_in_circles);
    ON_ALL(nested);
    ON_ALL(threads_inside);
    ON_ALL(nested_deep);
    ON_ALL(nested_circles);
    ON_ALL(bound_values_are_taken);
    ON_ALL(keeping);
    ON_ALL(shares_add_up);
    ON_ALL(nested_time_counts_once);
    ON_ALL(profile);
    ON_ALL(held);
    ON_ALL(readers_left);
    ON_ALL(order_of_work);
    ON_ALL(small_nodes_never_run_beside_each_other);
    ON_ALL(threads_that_nodes_run_on);
    ON_ALL(polling_cancels);
    ON_ALL(stuck_worker);
    ON_ALL(stuck_worker_that_nests);
    ON_ALL(freed_in_the_middle);
    ON_ALL(runs_one_after_another);
    ON_ALL(one_run_at_a_time);
    ON_ALL(late_worker);
    ON_ALL(wide_node);
    ON_ALL(many_roots);
    return 0;
}

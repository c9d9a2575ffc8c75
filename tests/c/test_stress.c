/* test_stress.c - random graphs on one to eight threads against a plain evaluation.
 *
 * Every kind of node takes part: sums, nodes of two outputs, failing ones, tolerant ones, choices,
 * expansions, nested waits, nodes for the calling thread, under a host's lock, small ones.  The seed is
 * printed; ST_SEED and ST_ROUNDS change it. */
#include "check.h"

enum { MOST = 400 };

/* What a node must come to, and how. */
typedef struct expected {
    long value[2];
    bool failed;
    long error;
} expected;

static st_graph *graph;
static st_node *nodes[MOST];
static expected want[MOST];

/* The node with this number, for operators that expand or nest: their last item is a number. */
static st_node *named(const st_exec *x)
{
    st_attr *t = st_node_attr(x->node);
    return nodes[st_attr_as_int(st_attr_item(t, st_attr_len(t) - 1))];
}

static int run_expand(st_exec *x, st_error *err)
{
    (void)err;
    x->becomes = (st_ref){st_node_retain(named(x)), 0};
    return ST_OK;
}

static int run_nest(st_exec *x, st_error *err)
{
    st_value *v, *e;
    st_ref r = {named(x), 0};
    int rc = st_run_nested(x->run, r, x->worker, &v, &e, err);
    if (rc != ST_OK) {
        x->error = e;
        return rc;
    }
    long s = number_of(v);
    st_value_release(v);
    return give(x, 0, plus(s, 1));
}

OP(op_expand, 1, PURE | ST_P_EXPANDS, run_expand);
OP(op_expand_caller, 1, ST_P_EXPANDS, run_expand);
OP(op_nest, 1, PURE | ST_P_NESTS, run_nest);
OP(op_nest_gil, 1, PURE | ST_P_NESTS | ST_P_HOLDS_GIL, run_nest);
OP(op_nest_caller, 1, ST_P_NESTS | ST_P_HOLDS_GIL, run_nest);

/* An earlier node's output as an expression; adds what it comes to. */
static st_attr *input(size_t i, uint32_t port, expected *e)
{
    if (!e->failed && want[i].failed) {
        e->failed = true;
        e->error = want[i].error;
    }
    e->value[0] = plus(e->value[0], want[i].value[port]);
    return a_ref(nodes[i], port);
}

static void make(size_t i, uint64_t *seed)
{
    expected e = {{0, 0}, false, 0};
    st_attr *items[8];
    size_t n = 0;
    unsigned kind = i < 3 ? 0 : (unsigned)(random_next(seed) % 100);
    size_t some = i ? 1 + random_next(seed) % 4 : 0;
    const st_op *op = NULL;
    uint32_t flags = 0;
    size_t near = i > 20 ? i - 20 : 0; /* half of the inputs are recent: depth as well as width */
#define ANY                                                                                                  \
    (i == 0                  ? 0                                                                             \
     : random_next(seed) % 2 ? (size_t)(random_next(seed) % i)                                               \
                             : near + (size_t)(random_next(seed) % (i - near)))
#define PORT(k) (st_node_op(nodes[k])->n_out == 2 ? (uint32_t)(random_next(seed) % 2) : 0)
    if (kind < 60) { /* sums, on all kinds of threads */
        static const st_op *const sums[] = {&op_sum, &op_gil, &op_caller, &op_rows, &op_two};
        op = sums[kind % 5];
        flags = kind % 7 == 0 ? ST_N_SMALL : kind % 11 == 0 ? ST_N_CALLER : 0;
        items[n++] = a_int((int64_t)i);
        e.value[0] = (long)i;
        for (size_t k = 0; k < some; k++) {
            size_t m = ANY;
            items[n++] = input(m, PORT(m), &e);
        }
    } else if (kind < 63) {
        op = &op_boom;
        items[n++] = a_int((int64_t)i);
        e = (expected){{0, 0}, true, (long)i};
    } else if (kind < 75) {
        op = &op_tolerant;
        size_t seen[4];
        for (size_t k = 0; k < some; k++) { /* distinct: the operator looks at inputs, not at items */
            size_t m = ANY, j = 0;
            while (j < k && nodes[seen[j]] != nodes[m])
                j++;
            if (j < k) {
                some = k;
                break;
            }
            seen[k] = m;
            items[n++] = a_ref(nodes[m], 0);
            e.value[0] = plus(e.value[0], want[m].failed ? 100 : want[m].value[0]);
        }
    } else if (kind < 85) {
        op = &op_pick;
        size_t taken = random_next(seed) % some;
        items[n++] = a_int((int64_t)taken);
        for (size_t k = 0; k < some; k++) {
            size_t m = ANY;
            items[n++] = a_ref(nodes[m], 0);
            if (k == taken) e = want[m];
        }
        /* options are never computed for it, so the condition has to be an input: */
        st_attr_release(items[0]);
        st_node *cond = leaf(graph, (long)taken);
        items[0] = a_ref(cond, 0);
        DROP(cond);
    } else {
        static const st_op *const jumps[] = {&op_expand, &op_expand_caller, &op_nest, &op_nest_gil,
                                             &op_nest_caller};
        op = jumps[kind % 5];
        for (size_t k = 0; k + 1 < some; k++) {
            size_t m = ANY;
            items[n++] = input(m, PORT(m), &e);
        }
        size_t to = ANY;
        items[n++] = a_int((int64_t)to);
        if (!e.failed) {
            e = want[to];
            if (kind % 5 >= 2) e.value[0] = plus(e.value[0], 1);
        }
    }
    e.value[1] = tenfold(e.value[0]);
    want[i] = e;
    nodes[i] = node_with(graph, op, flags, a_seq(ST_TUPLE, n, items));
}

static void one_round(uint64_t seed)
{
    graph = new_graph();
    const uint64_t first = seed; /* for messages */
    size_t n = 20 + (size_t)(random_next(&seed) % (MOST - 20));
    for (size_t i = 0; i < n; i++)
        make(i, &seed);
    verify(graph);
    for (int again = 0; again < 2; again++) { /* a second run on the same graph */
        int workers = (int)(random_next(&seed) % (MOST_WORKERS + 1));
        job j;
        job_start(&j, graph, workers);
        size_t asked[MOST], k = 0;
        while (k < 30) {
            st_ref r[30];
            int waves[30];
            size_t some = 1 + (size_t)(random_next(&seed) % 10), c = 0;
            for (; c < some && k < 30; c++) {
                asked[k] = random_next(&seed) % n;
                waves[c] = (int)(random_next(&seed) % 4);
                r[c] = (st_ref){nodes[asked[k++]], 0};
            }
            OK(st_run_demand(j.run, r, waves, c, true, NULL));
            if (random_next(&seed) % 2) CHECK(st_run_next(j.run, NULL, NULL, 20, NULL) >= 0);
        }
        st_keep *keep = NULL;
        st_ref top = {nodes[n - 1], 0};
        OK(st_run_keep(j.run, &top, 1, &keep));
        job_wait(&j);
        for (size_t i = 0; i < k; i++) {
            const expected *e = &want[asked[i]];
            st_value *v = NULL, *x = NULL;
            st_error err = {0};
            int rc = st_run_root(j.run, i, &v, &x, NULL, &err);
            CHECK_INT(rc, e->failed ? ST_EHOST : ST_OK);
            if (number_of(e->failed ? x : v) != (e->failed ? e->error : e->value[0]))
                fprintf(stderr, "node %zu (%s) of seed %llu, %d workers\n", asked[i],
                        st_node_op(nodes[asked[i]])->name, (unsigned long long)first, workers);
            CHECK_INT(number_of(e->failed ? x : v), e->failed ? e->error : e->value[0]);
            st_value_release(v);
            st_value_release(x);
        }
        st_run_unkeep(j.run, keep);
        st_ref r[30];
        double s[30];
        for (size_t i = 0; i < k; i++)
            r[i] = (st_ref){nodes[asked[i]], 0};
        OK(st_run_share(j.run, r, k, s));
        job_end(&j);
    }
    drop_nodes(nodes, n);
    end_graph(graph);
}

int main(void)
{
    const char *s = getenv("ST_SEED"), *k = getenv("ST_ROUNDS");
    uint64_t seed = s ? strtoull(s, NULL, 10) : (uint64_t)time(NULL);
    int rounds = k ? atoi(k) : 60;
    printf("ST_SEED=%llu ST_ROUNDS=%d\n", (unsigned long long)seed, rounds);
    fflush(stdout);
    for (int i = 0; i < rounds; i++) {
        uint64_t one = seed + (uint64_t)i;
        one_round(one);
        check_clean("random graph");
    }
    return 0;
}

/* sums.c - libstratum without Python: operators of one's own, a graph, threads.
 *
 * Values are whole numbers on the heap.  Two operators work on them; the graph is built with the
 * same subexpression asked for three times and computed once.
 */
#include <stratum/graph.h>
#include <stratum/run.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_int executed;

/* -- Values: what the engine asks of them -- */

static void number_release(void *obj) { free(obj); }

static int number_describe(void *obj, char *buf, size_t n)
{
    snprintf(buf, n, "%ld", *(long *)obj);
    return ST_OK;
}

static size_t number_bytes(void *obj)
{
    (void)obj;
    return sizeof(long);
}

static const st_host numbers = {"number", number_release, number_describe, number_bytes};

/* A number that says what it is: equal encodings make equal constants one node. */
static int number_new(long x, st_value **out)
{
    long *p = malloc(sizeof *p);
    if (!p) return ST_ENOMEM;
    *p = x;
    int rc = st_value_new(st_alloc_default(), &numbers, p, &x, sizeof x, out);
    if (rc != ST_OK) free(p);
    return rc;
}

static long number_of(const st_value *v) { return *(const long *)st_value_object(v); }

/* The i-th operand.  A node keeps each distinct input once: slots in its attributes say which. */
static long operand(const st_exec *x, size_t i)
{
    st_attr *slot = st_attr_item(st_node_attr(x->node), i);
    return number_of(x->in[st_attr_as_int(slot)]);
}

/* -- Operators: one row each -- */

static int run_add(st_exec *x, st_error *err)
{
    (void)err;
    atomic_fetch_add(&executed, 1);
    return number_new(operand(x, 0) + operand(x, 1), &x->out[0]);
}

static int run_divide(st_exec *x, st_error *err)
{
    atomic_fetch_add(&executed, 1);
    if (operand(x, 1) == 0) return st_fail(err, ST_EHOST, "division by zero");
    return number_new(operand(x, 0) / operand(x, 1), &x->out[0]);
}

static int run_constant(st_exec *x, st_error *err)
{
    (void)err;
    st_attr *value = st_attr_item(st_node_attr(x->node), 0);
    x->out[0] = st_value_retain(st_attr_as_value(value));
    return ST_OK;
}

enum { PURE = ST_P_STATELESS | ST_P_DETERMINISTIC | ST_P_THREAD_SAFE };

static const st_op constant = {"number", 1, PURE, 1, ST_LOGICAL, "a number", run_constant, NULL};
static const st_op add = {"add", 1, PURE, 1, ST_LOGICAL, "a + b", run_add, NULL};
static const st_op divide = {"divide", 1, PURE, 1, ST_LOGICAL, "a / b", run_divide, NULL};

/* -- The graph -- */

static void check(int rc, const st_error *err)
{
    if (rc == ST_OK) return;
    fprintf(stderr, "%s: %s\n", st_code_text(rc), err->message);
    exit(1);
}

static st_node *leaf(st_graph *g, long x)
{
    st_error err = {0};
    st_value *v = NULL;
    st_attr *a = NULL, *t = NULL;
    st_node *n = NULL;
    check(number_new(x, &v), &err);
    check(st_attr_value(st_graph_alloc(g), v, &a), &err);
    check(st_attr_seq(st_graph_alloc(g), ST_TUPLE, &a, 1, &t), &err);
    check(st_graph_intern(g, &constant, t, 0, NULL, &n, &err), &err);
    st_attr_release(t);
    st_attr_release(a);
    st_value_release(v);
    return n;
}

static st_node *binary(st_graph *g, const st_op *op, st_node *a, st_node *b)
{
    st_error err = {0};
    st_attr *in[2] = {NULL, NULL}, *t = NULL;
    st_node *n = NULL;
    check(st_attr_ref(st_graph_alloc(g), (st_ref){a, 0}, &in[0]), &err);
    check(st_attr_ref(st_graph_alloc(g), (st_ref){b, 0}, &in[1]), &err);
    check(st_attr_seq(st_graph_alloc(g), ST_TUPLE, in, 2, &t), &err);
    check(st_graph_intern(g, op, t, 0, NULL, &n, &err), &err);
    st_attr_release(t);
    st_attr_release(in[0]);
    st_attr_release(in[1]);
    return n;
}

static int to_stdout(void *ud, const char *text, size_t n)
{
    (void)ud;
    return fwrite(text, 1, n, stdout) == n ? ST_OK : ST_ESYSTEM;
}

static void *work(void *run)
{
    st_worker_run(run, NULL);
    return NULL;
}

int main(void)
{
    enum { THREADS = 2 };
    st_error err = {0};
    st_graph *g = NULL;
    check(st_graph_new(st_alloc_default(), &g), &err);

    st_node *two = leaf(g, 2), *three = leaf(g, 3), *zero = leaf(g, 0);
    st_node *five = binary(g, &add, two, three);
    st_node *again = binary(g, &add, two, three); /* the same node */
    st_node *ten = binary(g, &add, five, again);
    st_node *bad = binary(g, &divide, ten, zero);
    printf("asked twice, one node: %s\n", five == again ? "yes" : "no");

    const st_ref roots[2] = {{ten, 0}, {bad, 0}};
    check(st_graph_verify(g, &err), &err);
    check(st_graph_print(g, roots, 2, to_stdout, NULL), &err);

    st_run *run = NULL;
    check(st_run_new(g, THREADS, &run), &err);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, run) != 0) return 1;
    check(st_run_demand(run, roots, NULL, 2, true, &err), &err);
    int failures = 0;
    for (int64_t i; (i = st_run_next(run, NULL, NULL, 100, &err)) >= 0;) {
        st_value *value = NULL, *error = NULL;
        st_node *at = NULL;
        int rc = st_run_root(run, (size_t)i, &value, &error, &at, &err);
        if (rc == ST_OK)
            printf("root %d: %ld\n", (int)i, number_of(value));
        else
            printf("root %d: failed in %s: %s\n", (int)i, st_node_op(at)->name, err.message);
        failures += rc != ST_OK;
        st_value_release(value);
        st_value_release(error);
    }
    /* Cancelling lets the workers come back; the run must outlive them. */
    st_run_cancel(run);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    st_run_free(run);
    printf("%d nodes executed\n", atomic_load(&executed));

    st_node *all[] = {two, three, zero, five, again, ten, bad};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        st_node_release(all[i]);
    st_graph_free(g);
    return failures == 1 && atomic_load(&executed) == 3 ? 0 : 1;
}

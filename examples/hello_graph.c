/* hello_graph.c - who owns what: a graph of text operators, built, printed, run on threads, freed.
 *
 * Every "new" and "intern" gives a reference that its caller releases; a tree of attributes keeps what is
 * inside it, a node keeps its inputs, a run keeps the nodes it was asked for.  So a program releases
 * each thing as soon as it has handed it on, and the last release frees it: at the end the graph must
 * be empty, which this program checks.
 */
#define _POSIX_C_SOURCE 200809L /* strdup, also under -std=c11 */

#include <stratum/graph.h>
#include <stratum/run.h>

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- Values: strings on the heap ----------------------------------------------------------- */

static int text_describe(void *obj, char *buf, size_t n)
{
    snprintf(buf, n, "\"%s\"", (const char *)obj);
    return ST_OK;
}

static size_t text_bytes(void *obj) { return strlen(obj) + 1; }

static const st_host texts = {"text", free, text_describe, text_bytes};

/* A value from a string of malloc, which it takes over.  Its bytes are its encoding: equal texts are
 * interchangeable. */
static int text_value(char *s, st_value **out)
{
    if (!s) return ST_ENOMEM;
    int rc = st_value_new(st_alloc_default(), &texts, s, s, strlen(s), out);
    if (rc != ST_OK) free(s);
    return rc;
}

static const char *text_of(const st_value *v) { return st_value_object(v); }

/* -- Operators ----------------------------------------------------------------------------- */

/* The items of the node's attributes: constants, or slots that name inputs. */
static const char *argument(const st_exec *x, size_t i)
{
    st_attr *item = st_attr_item(st_node_attr(x->node), i);
    if (st_attr_type_of(item) == ST_SLOT)
        return text_of(x->in[st_attr_as_int(item)]); /* borrowed for the time of the call */
    return st_attr_as_str(item);
}

static int run_text(st_exec *x, st_error *err)
{
    (void)err;
    return text_value(strdup(argument(x, 0)), &x->out[0]); /* the engine owns it from here on */
}

static int run_join(st_exec *x, st_error *err)
{
    (void)err;
    const char *a = argument(x, 0), *b = argument(x, 1);
    size_t n = strlen(a) + strlen(b) + 2;
    char *s = malloc(n);
    if (s) snprintf(s, n, "%s %s", a, b);
    return text_value(s, &x->out[0]);
}

static int run_upper(st_exec *x, st_error *err)
{
    (void)err;
    char *s = strdup(argument(x, 0));
    for (char *c = s; c && *c; c++)
        *c = (char)toupper((unsigned char)*c);
    return text_value(s, &x->out[0]);
}

static int run_refuse(st_exec *x, st_error *err)
{
    return st_fail(err, ST_EHOST, "nobody says \"%s\"", argument(x, 0));
}

enum { PURE = ST_P_STATELESS | ST_P_DETERMINISTIC | ST_P_THREAD_SAFE };

/* One row each; the address is the operator, so rows must live as long as the graph. */
static const st_op op_text = {"text", 1, PURE, 1, ST_LOGICAL, "a text", run_text, NULL};
static const st_op op_join = {"join", 1, PURE, 1, ST_LOGICAL, "a and b", run_join, NULL};
static const st_op op_upper = {"upper", 1, PURE, 1, ST_LOGICAL, "in capitals", run_upper, NULL};
static const st_op op_refuse = {"refuse", 1, PURE, 1, ST_LOGICAL, "fails", run_refuse, NULL};

/* -- Building ------------------------------------------------------------------------------ */

static void must(int rc, const st_error *err)
{
    if (rc == ST_OK) return;
    fprintf(stderr, "%s: %s\n", st_code_text(rc), err ? err->message : "");
    exit(1);
}

static st_attr *constant(const char *s)
{
    st_attr *t = NULL;
    must(st_attr_str(st_alloc_default(), s, strlen(s), &t), NULL);
    return t;
}

static st_attr *input(st_node *n)
{
    st_attr *t = NULL;
    must(st_attr_ref(st_alloc_default(), (st_ref){n, 0}, &t), NULL);
    return t;
}

/* The node op(items...): takes over the items, gives a reference to the node. */
static st_node *node(st_graph *g, const st_op *op, st_attr **items, size_t n)
{
    st_error err = {0};
    st_attr *all = NULL;
    st_node *out = NULL;
    must(st_attr_seq(st_alloc_default(), ST_TUPLE, items, n, &all), NULL);
    for (size_t i = 0; i < n; i++)
        st_attr_release(items[i]); /* the tuple keeps them */
    must(st_graph_intern(g, op, all, 0, NULL, &out, &err), &err);
    st_attr_release(all); /* the node keeps what it needs */
    return out;
}

#define NODE(g, op, ...)                                                                                     \
    node((g), (op), (st_attr *[]){__VA_ARGS__}, sizeof((st_attr *[]){__VA_ARGS__}) / sizeof(st_attr *))

/* -- Running ------------------------------------------------------------------------------- */

static int to_stdout(void *ud, const char *s, size_t n)
{
    (void)ud;
    return fwrite(s, 1, n, stdout) == n ? ST_OK : ST_ESYSTEM;
}

static void *work(void *arg)
{
    st_run *run = arg;
    st_worker_run(run, NULL);
    st_run_release(run); /* the reference that main took for this thread */
    return NULL;
}

int main(void)
{
    enum { THREADS = 2, ROOTS = 3 };
    st_error err = {0};
    st_graph *g = NULL;
    must(st_graph_new(st_alloc_default(), &g), NULL);

    st_node *hello = NODE(g, &op_text, constant("hello"));
    st_node *graph = NODE(g, &op_text, constant("graph"));
    st_node *both = NODE(g, &op_join, input(hello), input(graph));
    st_node *loud = NODE(g, &op_upper, input(both));
    st_node *twice = NODE(g, &op_join, input(loud), input(loud));
    st_node *bad = NODE(g, &op_refuse, input(both));
    st_ref roots[ROOTS] = {{twice, 0}, {bad, 0}, {both, 0}};

    must(st_graph_verify(g, &err), &err);
    must(st_graph_print(g, roots, ROOTS, to_stdout, NULL), NULL);
    must(st_graph_dot(g, roots, ROOTS, to_stdout, NULL), NULL);

    st_run *run = NULL;
    pthread_t threads[THREADS];
    must(st_run_new(g, THREADS, &run), NULL);
    must(st_run_demand(run, roots, NULL, ROOTS, true, &err), &err);
    /* The run keeps the roots and what they need. */
    st_node_release(hello);
    st_node_release(graph);
    st_node_release(both);
    st_node_release(loud);
    st_node_release(twice);
    st_node_release(bad);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, st_run_retain(run)) != 0) return 1;

    const char *want[ROOTS] = {"HELLO GRAPH HELLO GRAPH", NULL, "hello graph"};
    int wrong = 0;
    for (int64_t i; (i = st_run_next(run, NULL, NULL, 100, &err)) >= 0;) {
        st_value *value = NULL, *error = NULL;
        st_node *at = NULL;
        if (st_run_root(run, (size_t)i, &value, &error, &at, &err) == ST_OK) {
            printf("root %d: %s\n", (int)i, text_of(value));
            wrong += !want[i] || strcmp(text_of(value), want[i]) != 0;
        } else {
            printf("root %d: %s: %s\n", (int)i, st_node_op(at)->name, err.message);
            wrong += want[i] != NULL;
        }
        st_value_release(value); /* ours: it would outlive the run */
        st_value_release(error);
    }
    st_run_free(run); /* workers leave; the last one frees the run's memory */
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);

    size_t left = st_graph_get_stats(g).nodes;
    printf("nodes left: %zu\n", left);
    st_graph_free(g);
    return wrong || left ? 1 : 0;
}

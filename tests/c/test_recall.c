/* test_recall.c - runs that recall what earlier ones computed: what is asked for, what is not computed then,
 * what happens when loading fails, what is offered. */
#include "check.h"

#include "stratum/cache.h"

/* Keeps what it is offered in a cache under the meanings of nodes; loads fail when told. */
typedef struct keeper {
    st_cache *cache;
    atomic_long asked, loaded, offered;
    atomic_bool broken, deaf;
    double least_again;
} keeper;

static st_hash key_of(const st_node *n, uint32_t port)
{
    st_hash h = st_node_meaning(n);
    h.hi += port + 1;
    return h;
}

static bool knows(void *ud, const st_node *n, uint32_t port)
{
    keeper *k = ud;
    atomic_fetch_add(&k->asked, 1);
    return st_cache_knows(k->cache, key_of(n, port));
}

static int load(void *ud, st_node *n, uint32_t port, st_value **out)
{
    keeper *k = ud;
    if (atomic_load(&k->broken)) return ST_EHOST;
    *out = st_cache_get(k->cache, key_of(n, port), "", 0);
    if (!*out) return ST_EHOST;
    atomic_fetch_add(&k->loaded, 1);
    return ST_OK;
}

static bool offer(void *ud, st_exec *x, double seconds, double again, double *cost)
{
    keeper *k = ud;
    atomic_fetch_add(&k->offered, 1);
    CHECK(seconds >= 0 && again >= k->least_again);
    if (atomic_load(&k->deaf)) return false;
    for (uint32_t p = 0; p < x->op->n_out; p++)
        if (x->out[p]) OK(st_cache_put(k->cache, key_of(x->node, p), "", 0, x->out[p], sizeof(long), 1.0));
    *cost = 0;
    return true;
}

static int workers;

#define ON_ALL(test)                                                                                         \
    do {                                                                                                     \
        static const int counts_[] = {0, 1, 2, 4};                                                           \
        for (int k_ = 0; k_ < 4; k_++) {                                                                     \
            workers = counts_[k_];                                                                           \
            RUN(test);                                                                                       \
        }                                                                                                    \
    } while (0)

static void keeper_start(keeper *k)
{
    *k = (keeper){0};
    OK(st_cache_new(&meter, 1 << 20, &k->cache));
}

static void begin(job *j, keeper *k, st_graph *g, double worth)
{
    job_start(j, g, workers);
    st_recall r = {k, knows, load, offer, worth};
    st_run_set_recall(j->run, &r);
    atomic_store(&executed, 0);
}

/* One root on a run of its own: its value, and how many operators ran. */
static long run_one(keeper *k, st_graph *g, st_node *n, uint32_t port, double worth, long *ran)
{
    job j;
    begin(&j, k, g, worth);
    job_demand(&j, n, port);
    CHECK_INT(job_wait(&j), 1);
    long x = root_value(j.run, 0);
    *ran = atomic_load(&executed);
    job_end(&j);
    return x;
}

/* The second run computes nothing, in another graph too. */
static void nothing_is_computed_twice(void)
{
    keeper k;
    keeper_start(&k);
    long ran;
    for (int round = 0; round < 3; round++) {
        st_graph *g = new_graph();
        st_node *x = leaf(g, 1), *l = add_int(g, x, 10), *r = add_int(g, x, 100), *top = add(g, l, r);
        CHECK_INT(run_one(&k, g, top, 0, 0, &ran), 112);
        CHECK_INT(ran, round ? 0 : 4);
        DROP(x, l, r, top);
        end_graph(g);
    }
    CHECK_INT(atomic_load(&k.offered), 4);
    CHECK_INT(atomic_load(&k.loaded), 2);
    CHECK_INT(atomic_load(&k.asked), 4 + 2);
    st_cache_free(k.cache);
}

/* What is new is computed from what is known. */
static void what_is_new_is_computed(void)
{
    keeper k;
    keeper_start(&k);
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *l = add_int(g, x, 10), *top = add_int(g, l, 5), *other = add(g, top, l);
    long ran;
    CHECK_INT(run_one(&k, g, top, 0, 0, &ran), 16);
    CHECK_INT(ran, 3);
    CHECK_INT(run_one(&k, g, other, 0, 0, &ran), 27);
    CHECK_INT(ran, 1);
    DROP(x, l, top, other);
    end_graph(g);
    st_cache_free(k.cache);
}

/* Loading fails: computed after all, from its inputs, which fail to load as well; asked for once. */
static void broken_entries(void)
{
    keeper k;
    keeper_start(&k);
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *l = add_int(g, x, 10), *r = add_int(g, x, 100), *top = add(g, l, r);
    long ran;
    CHECK_INT(run_one(&k, g, top, 0, 0, &ran), 112);
    atomic_store(&k.broken, true);
    CHECK_INT(run_one(&k, g, top, 0, 0, &ran), 112);
    CHECK(ran >=
          4); /* what one of its readers has read may be gone when the other finds that it has to compute */
    /* Only the top is lost: its inputs are loaded. */
    atomic_store(&k.broken, false);
    st_cache_clear(k.cache);
    CHECK_INT(run_one(&k, g, l, 0, 0, &ran), 11);
    CHECK_INT(run_one(&k, g, top, 0, 0, &ran), 112);
    CHECK_INT(ran, 2); /* the other addition, and the top */
    DROP(x, l, r, top);
    end_graph(g);
    st_cache_free(k.cache);
}

/* Of two outputs one was kept: whoever asks for the other one makes the node run. */
static void outputs_one_by_one(void)
{
    keeper k;
    keeper_start(&k);
    st_graph *g = new_graph();
    st_node *x = leaf(g, 3), *two = node(g, &op_two, A_TUPLE(a_ref(x, 0)));
    long ran;
    CHECK_INT(run_one(&k, g, two, 1, 0, &ran), 30);
    CHECK_INT(ran, 2);
    job j;
    begin(&j, &k, g, 0);
    job_demand(&j, two, 1);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 0), 30);
    CHECK_INT(atomic_load(&executed), 0);
    job_demand(&j, two, 0);
    CHECK_INT(job_wait(&j), 1);
    CHECK_INT(root_value(j.run, 1), 3);
    st_run_stats s = st_run_get_stats(j.run);
    CHECK(s.recalled >= 1);
    job_end(&j);
    DROP(x, two);
    end_graph(g);
    st_cache_free(k.cache);
}

/* Not asked for and not offered: what belongs to one creation, what has parts without an encoding, what
 * chooses; what is made of the first two neither. */
static void what_is_not_kept(void)
{
    keeper k;
    keeper_start(&k);
    st_graph *g = new_graph();
    st_value *v = NULL;
    st_attr *opaque = NULL;
    OK(number_new(7, false, &v));
    OK(st_attr_value(&meter, v, &opaque));
    st_value_release(v);
    st_node *once = node_with(g, &op_sum, ST_N_ONCE, A_TUPLE(a_int(1))), *made = add_int(g, once, 10);
    st_node *own = node(g, &op_sum, A_TUPLE(opaque)), *made_of_own = add_int(g, own, 10);
    st_node *zero = leaf(g, 0), *pick = node(g, &op_pick, A_TUPLE(a_ref(zero, 0), a_ref(made, 0)));
    CHECK(st_node_flags(made) & ST_N_ONCE);
    long ran;
    for (int round = 0; round < 2; round++) {
        CHECK_INT(run_one(&k, g, made, 0, 0, &ran), 11);
        CHECK_INT(ran, 2);
        CHECK_INT(run_one(&k, g, made_of_own, 0, 0, &ran), 17);
        CHECK_INT(ran, 2);
        CHECK_INT(run_one(&k, g, pick, 0, 0, &ran), 11);
    }
    CHECK_INT(atomic_load(&k.offered), 1); /* the zero */
    CHECK_INT(atomic_load(&k.loaded), 1);
    DROP(once, made, own, made_of_own, zero, pick);
    end_graph(g);
    st_cache_free(k.cache);
}

static int run_loud(st_exec *x, st_error *err)
{
    x->telling = true;
    return run_sum(x, err);
}

OP(op_loud, 1, PURE, run_loud);

/* What said something is computed again, and so is what was made of it. */
static void what_was_said_is_said_again(void)
{
    keeper k;
    keeper_start(&k);
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *loud = node(g, &op_loud, A_TUPLE(a_ref(x, 0))), *top = add_int(g, loud, 5);
    long ran;
    for (int round = 0; round < 2; round++) {
        CHECK_INT(run_one(&k, g, top, 0, 0, &ran), 6);
        CHECK_INT(ran, round ? 2 : 3);
    }
    CHECK_INT(atomic_load(&k.offered), 1);
    DROP(x, loud, top);
    end_graph(g);
    st_cache_free(k.cache);
}

static int run_slow(st_exec *x, st_error *err)
{
    struct timespec ts = {0, 3000000};
    nanosleep(&ts, NULL);
    return run_sum(x, err);
}

OP(op_slow, 1, PURE, run_slow);

/* Offered from what it would take to have it again: with all that comes before, unless that is kept. */
static void cheap_nodes_are_not_offered(void)
{
    keeper k;
    keeper_start(&k);
    atomic_store(&k.deaf, true);
    k.least_again = 2e-3;
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *slow = node(g, &op_slow, A_TUPLE(a_ref(x, 0))), *top = add_int(g, slow, 5);
    long ran;
    CHECK_INT(run_one(&k, g, top, 0, 2e-3, &ran), 6);
    CHECK_INT(atomic_load(&k.offered), 2); /* the slow one, and what is made of it */
    atomic_store(&k.deaf, false);
    CHECK_INT(run_one(&k, g, top, 0, 2e-3, &ran), 6);
    CHECK_INT(atomic_load(&k.offered), 3); /* the slow one is kept: what is made of it is cheap */
    CHECK_INT(run_one(&k, g, top, 0, 2e-3, &ran), 6);
    CHECK_INT(ran, 1);
    DROP(x, slow, top);
    end_graph(g);
    st_cache_free(k.cache);
}

static int run_shared(st_exec *x, st_error *err)
{
    (void)err;
    return number_new(x->in_shared[0], false, &x->out[0]);
}

OP(op_shared, 1, PURE, run_shared);

/* A value that is kept has other readers, whoever else reads it: operators are told so. */
static void kept_values_are_shared(void)
{
    keeper k;
    keeper_start(&k);
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *ask = node_with(g, &op_shared, ST_N_ONCE, A_TUPLE(a_ref(x, 0)));
    long ran;
    CHECK_INT(run_one(&k, g, ask, 0, 0, &ran), 1); /* computed and kept */
    CHECK_INT(run_one(&k, g, ask, 0, 0, &ran), 1); /* recalled */
    CHECK_INT(run_one(&k, g, ask, 0, 10, &ran), 1);
    st_cache_clear(k.cache);
    CHECK_INT(run_one(&k, g, ask, 0, 10, &ran), 0); /* computed, and nobody else's */
    DROP(x, ask);
    end_graph(g);
    st_cache_free(k.cache);
}

int main(void)
{
    ON_ALL(nothing_is_computed_twice);
    ON_ALL(what_is_new_is_computed);
    ON_ALL(broken_entries);
    ON_ALL(outputs_one_by_one);
    ON_ALL(what_is_not_kept);
    ON_ALL(what_was_said_is_said_again);
    ON_ALL(cheap_nodes_are_not_offered);
    ON_ALL(kept_values_are_shared);
    return 0;
}

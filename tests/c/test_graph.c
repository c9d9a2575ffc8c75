/* test_graph.c - interning, sharing, keys, the weak table, walks, verification.
 *
 * Sees the insides of nodes: to break them on purpose. */
#include "check.h"
#include "graph/graph.h"

static void hash_consing(void)
{
    st_graph *g = new_graph();
    st_node *two = leaf(g, 2), *again = leaf(g, 2), *three = leaf(g, 3);
    CHECK(two == again && two != three);
    st_node *a = add(g, two, three), *b = add(g, two, three), *c = add(g, three, two), *d = add(g, two, two);
    CHECK(a == b && a != c && a != d);
    CHECK_INT(st_node_n_in(a), 2);
    CHECK_INT(st_node_n_in(d), 1); /* equal inputs are one */
    CHECK(st_node_in(a, 0).node == two && st_node_in(c, 0).node == three);
    CHECK(st_node_id(a) > st_node_id(two) && st_node_id(c) > st_node_id(a));
    CHECK(st_node_op(a) == &op_sum);
    CHECK_INT(st_attr_type_of(st_attr_item(st_node_attr(a), 1)), ST_SLOT);
    st_graph_stats s = st_graph_get_stats(g);
    CHECK_INT(s.nodes, 5);
    CHECK_INT(s.asked, 7);
    CHECK_INT(s.shared, 2);
    /* Typed: 1, 1.0 and True make three nodes. */
    st_node *i = node(g, &op_sum, A_TUPLE(a_int(1))), *f = node(g, &op_sum, A_TUPLE(a_float(1))),
            *t = node(g, &op_sum, A_TUPLE(a_bool(true)));
    CHECK(i != f && f != t && i != t);
    /* The operator is part of the key, and so is its version. */
    static const st_op newer = {"op_sum", 2, PURE, 1, ST_LOGICAL, "", run_sum, NULL};
    st_node *o = node(g, &newer, A_TUPLE(a_int(1))), *p = node(g, &op_gil, A_TUPLE(a_int(1)));
    CHECK(o != i && p != i);
    CHECK(!st_hash_eq(st_node_structure(o), st_node_structure(i)));
    CHECK(!st_hash_eq(st_node_structure(p), st_node_structure(i)));
    verify(g);
    DROP(two, again, three, a, b, c, d, i, f, t, o, p);
    end_graph(g);
}

static void ports(void)
{
    st_graph *g = new_graph();
    st_node *two = node(g, &op_two, A_TUPLE(a_int(1)));
    st_node *a = node(g, &op_sum, A_TUPLE(a_ref(two, 0))), *b = node(g, &op_sum, A_TUPLE(a_ref(two, 1)));
    st_node *c = node(g, &op_sum, A_TUPLE(a_ref(two, 0), a_ref(two, 1), a_ref(two, 0)));
    CHECK(a != b);
    CHECK(!st_hash_eq(st_node_structure(a), st_node_structure(b)));
    CHECK_INT(st_node_n_in(c), 2);
    CHECK_INT(st_node_in(c, 1).port, 1);
    st_node *n = NULL;
    st_error err = {0};
    st_attr *bad = A_TUPLE(a_ref(two, 2));
    CHECK_INT(st_graph_intern(g, &op_sum, bad, 0, NULL, &n, &err), ST_EINVAL);
    st_attr_release(bad);
    bad = A_TUPLE(a_slot(0)); /* slots come from interning alone */
    CHECK_INT(st_graph_intern(g, &op_sum, bad, 0, NULL, &n, &err), ST_EINVAL);
    st_attr_release(bad);
    st_graph *h = new_graph();
    bad = A_TUPLE(a_ref(two, 0)); /* another graph's node */
    CHECK_INT(st_graph_intern(h, &op_sum, bad, 0, NULL, &n, &err), ST_EINVAL);
    st_attr_release(bad);
    CHECK(n == NULL);
    verify(g);
    DROP(two, a, b, c);
    end_graph(g);
    end_graph(h);
}

static void structure_and_meaning(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = leaf(g, 2);
    CHECK(st_hash_eq(st_node_structure(x), st_node_meaning(x)));
    /* A rule replaces y by something that means x: structure differs, meaning is stated. */
    st_attr *e = A_TUPLE(a_int(42));
    st_node *z;
    OK(st_graph_intern_as(g, &op_gil, e, 0, NULL, st_node_meaning(x), &z, NULL));
    st_attr_release(e);
    CHECK(st_hash_eq(st_node_meaning(z), st_node_meaning(x)));
    CHECK(!st_hash_eq(st_node_structure(z), st_node_structure(x)));
    /* What is built on it means the same, though it is another node. */
    st_node *on_x = add(g, x, y), *on_z = add(g, z, y);
    CHECK(on_x != on_z);
    CHECK(st_hash_eq(st_node_meaning(on_x), st_node_meaning(on_z)));
    CHECK(!st_hash_eq(st_node_structure(on_x), st_node_structure(on_z)));
    /* Keys are the same in another graph that was built in another order. */
    st_graph *h = new_graph();
    st_node *y2 = leaf(h, 2), *x2 = leaf(h, 1), *on2 = add(h, x2, y2);
    CHECK(st_hash_eq(st_node_structure(on2), st_node_structure(on_x)));
    verify(g);
    verify(h);
    DROP(x, y, z, on_x, on_z, y2, x2, on2);
    end_graph(g);
    end_graph(h);
}

static void flags_and_origin(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *rows = node(g, &op_rows, A_TUPLE(a_ref(x, 0)));
    st_node *below = add_int(g, rows, 1), *beside = add_int(g, x, 1);
    CHECK(st_node_flags(rows) & ST_N_VARIES);
    CHECK(st_node_flags(below) & ST_N_VARIES);
    CHECK(!(st_node_flags(beside) & ST_N_VARIES));
    st_value *first, *second;
    OK(number_new(1, false, &first));
    OK(number_new(2, false, &second));
    st_attr *e = A_TUPLE(a_int(77));
    st_node *a, *b;
    OK(st_graph_intern(g, &op_sum, e, ST_N_FREE, first, &a, NULL));
    OK(st_graph_intern(g, &op_sum, e, ST_N_CALLER, second, &b, NULL));
    st_attr_release(e);
    CHECK(a == b && st_node_origin(a) == first);
    CHECK(st_node_flags(a) == (ST_N_FREE | ST_N_CALLER)); /* the stricter demand is added */
    CHECK(st_node_is_plain(a));
    e = A_TUPLE(a_int(1));
    st_attr *v;
    OK(st_attr_value(&meter, first, &v));
    e = A_TUPLE(e, v);
    st_node *opaque = node(g, &op_sum, e), *above = add_int(g, opaque, 1);
    CHECK(!st_node_is_plain(opaque) && !st_node_is_plain(above));
    st_meta m = st_node_meta(a);
    CHECK(m.sure == 0 && m.rows != m.rows);
    st_node_set_meta(a, (st_meta){.rows = 5, .sure = 1});
    CHECK(st_node_meta(a).rows == 5);
    DROP(x, rows, below, beside, a, b, opaque, above);
    st_value_release(first);
    st_value_release(second);
    end_graph(g);
}

static void bound_values(void)
{
    st_graph *g = new_graph();
    st_node *n = node(g, &op_two, A_TUPLE(a_int(1)));
    st_value *v, *w;
    OK(number_new(1, false, &v));
    OK(number_new(2, false, &w));
    CHECK(st_node_bound(n, 0) == NULL);
    CHECK_INT(st_node_bind(n, 2, v), ST_EINVAL);
    OK(st_node_bind(n, 1, v));
    CHECK(st_node_bound(n, 0) == NULL);
    st_value *got = st_node_bound(n, 1);
    CHECK(got == v);
    st_value_release(got);
    st_node_unbind(n, 1, w); /* another value: nothing happens */
    OK(st_node_bind(n, 1, w));
    st_node_unbind(n, 1, v);
    got = st_node_bound(n, 1);
    CHECK(got == w);
    st_value_release(got);
    st_node_unbind(n, 1, NULL);
    CHECK(st_node_bound(n, 1) == NULL);
    OK(st_node_bind(n, 0, v)); /* goes with the node */
    st_value_release(v);
    st_value_release(w);
    CHECK_INT(atomic_load(&numbers_alive), 1);
    DROP(n);
    CHECK_INT(atomic_load(&numbers_alive), 0);
    end_graph(g);
}

/* The table does not keep nodes: the last reference takes a node and what only it held. */
static void weak_table(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1);
    for (int round = 0; round < 3; round++) {
        st_node *many[1000];
        for (int i = 0; i < 1000; i++)
            many[i] = add_int(g, x, 1000 * round + i);
        CHECK_INT(st_graph_get_stats(g).nodes, 1001);
        verify(g);
        for (int i = 0; i < 1000; i += 2)
            DROP(many[i]);
        CHECK_INT(st_graph_get_stats(g).nodes, 501);
        verify(g);
        st_node *again = add_int(g, x, 1000 * round + 1);
        CHECK(again == many[1]);
        DROP(again);
        for (int i = 1; i < 1000; i += 2)
            DROP(many[i]);
    }
    /* Graves are swept: ten thousand births and deaths leave the table small. */
    for (int i = 0; i < 10000; i++) {
        st_node *n = add_int(g, x, i);
        DROP(n);
    }
    CHECK(g->cap <= 4096);
    uint64_t id = st_node_id(x);
    DROP(x);
    x = leaf(g, 1);
    CHECK(st_node_id(x) > id); /* born again */
    DROP(x);
    end_graph(g);
}

enum { DEEP = 100000 };

static int count_lines(void *ud, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *(size_t *)ud += s[i] == '\n';
    return ST_OK;
}

static void deep_chain(void)
{
    st_graph *g = new_graph();
    st_node *n = leaf(g, 0);
    for (int i = 0; i < DEEP; i++) {
        st_node *m = add_int(g, n, 1);
        DROP(n);
        n = m;
    }
    CHECK_INT(st_graph_get_stats(g).nodes, DEEP + 1);
    verify(g);
    st_ref r = {n, 0};
    size_t lines = 0;
    OK(st_graph_print(g, &r, 1, count_lines, &lines));
    CHECK_INT(lines, DEEP + 1);
    lines = 0;
    OK(st_graph_dot(g, &r, 1, count_lines, &lines));
    CHECK_INT(lines, 2 + DEEP + 1 + DEEP + 1);
    st_node **order;
    size_t m;
    OK(st_graph_order(g, &r, 1, &order, &m));
    CHECK_INT(m, DEEP + 1);
    for (size_t i = 1; i < m; i++)
        CHECK(st_node_in(order[i], 0).node == order[i - 1]);
    meter_release(NULL, order);
    DROP(n); /* frees all of them, without a frame for each */
    CHECK_INT(st_graph_get_stats(g).nodes, 0);
    end_graph(g);
}

static void ladder(void)
{
    st_graph *g = new_graph();
    st_node *n = leaf(g, 0);
    for (int i = 0; i < 40; i++) { /* each rung reads the one below twice: 2^40 paths */
        st_node *l = add_int(g, n, 1), *r = add_int(g, n, 2), *m = add(g, l, r);
        DROP(n, l, r);
        n = m;
    }
    CHECK_INT(st_graph_get_stats(g).nodes, 121);
    verify(g);
    st_ref root = {n, 0};
    size_t lines = 0;
    OK(st_graph_print(g, &root, 1, count_lines, &lines));
    CHECK_INT(lines, 121);
    DROP(n);
    n = leaf(g, 0);
    for (int i = 0; i < 40; i++) {
        st_node *m = add(g, n, n);
        DROP(n);
        n = m;
    }
    CHECK_INT(st_graph_get_stats(g).nodes, 41);
    DROP(n);
    end_graph(g);
}

static void wide_node(void)
{
    enum { WIDE = 50000 };
    st_graph *g = new_graph();
    st_attr **items = malloc(2 * WIDE * sizeof *items);
    CHECK(items != NULL);
    for (int i = 0; i < WIDE; i++) {
        st_node *n = leaf(g, i);
        items[i] = a_ref(n, 0);
        items[2 * WIDE - 1 - i] = a_ref(n, 0);
        DROP(n);
    }
    st_node *n = node(g, &op_sum, a_seq(ST_TUPLE, 2 * WIDE, items));
    free(items);
    CHECK_INT(st_node_n_in(n), WIDE);
    for (size_t i = 0; i < WIDE; i++)
        CHECK_INT(st_attr_as_int(st_attr_item(st_node_in(n, i).node->attr, 0)), i);
    CHECK_INT(st_attr_as_int(st_attr_item(st_node_attr(n), 2 * WIDE - 1)), 0);
    verify(g);
    DROP(n);
    end_graph(g);
}

/* -- Verification ---------------------------------------------------------------------------- */

static void expect_breach(st_graph *g, const char *what)
{
    st_error err = {0};
    CHECK_INT(st_graph_verify(g, &err), ST_EVERIFY);
    CHECK_INT(err.code, ST_EVERIFY);
    if (!strstr(err.message, what)) check_failed(__FILE__, __LINE__, err.message);
}

static void verify_catches(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = leaf(g, 2), *a = add(g, x, y), *b = add_int(g, a, 1);
    verify(g);

    st_ref in = a->in[1];
    a->in[1].node = b;
    expect_breach(g, "not older");
    a->in[1] = in;
    a->in[1].port = 1;
    expect_breach(g, "no port 1");
    a->in[1] = in;
    a->in[1].node = x; /* the same input twice: well formed by itself, but not what was hashed */
    expect_breach(g, "stale");
    a->in[1] = in;
    verify(g);

    a->n_in = 1;
    expect_breach(g, "slot");
    a->n_in = 2;

    st_attr *attr = a->attr, *other = A_TUPLE(a_slot(0), a_int(5));
    a->attr = other;
    expect_breach(g, "not used");
    a->attr = A_TUPLE(a_slot(0), a_slot(1), a_slot(2));
    expect_breach(g, "slot");
    st_attr_release(a->attr);
    a->attr = A_TUPLE(a_slot(1), a_slot(0));
    expect_breach(g, "stale");
    st_attr_release(a->attr);
    a->attr = A_TUPLE(a_slot(0), a_slot(1), a_ref(x, 0));
    expect_breach(g, "slot");
    st_attr_release(a->attr);
    st_attr_release(other);
    a->attr = attr;
    verify(g);

    uint64_t id = a->id;
    a->id = b->id;
    expect_breach(g, "not older");
    a->id = id;

    st_hash h = a->structure;
    a->structure.hi ^= 1;
    expect_breach(g, "stale");
    a->structure = h;

    size_t at = 0;
    while (g->table[at] != a)
        at++;
    g->table[at] = NULL;
    expect_breach(g, "counts");
    g->table[at] = a;
    size_t hole = (at + g->cap / 2) & (g->cap - 1);
    while (g->table[hole])
        hole = (hole + 1) & (g->cap - 1);
    g->table[at] = NULL;
    g->table[hole] = a; /* far from home, behind empty places */
    expect_breach(g, "does not find");
    g->table[hole] = NULL;
    g->table[at] = a;

    st_graph *real = a->in[0].node->graph, *h2 = new_graph();
    x->graph = h2;
    expect_breach(g, "not older");
    x->graph = real;
    st_graph_free(h2);
    verify(g);
    DROP(x, y, a, b);
    end_graph(g);
}

/* -- Threads --------------------------------------------------------------------------------- */

static void *builder(void *arg)
{
    st_graph *g = arg;
    for (int round = 0; round < 200; round++) {
        st_node *n = leaf(g, round % 7);
        for (int i = 0; i < 20; i++) {
            st_node *m = add_int(g, n, i % 3);
            DROP(n);
            n = m;
        }
        st_ref r = {n, 0};
        st_node **order;
        size_t m;
        OK(st_graph_order(g, &r, 1, &order, &m));
        CHECK_INT(m, 21);
        meter_release(NULL, order);
        DROP(n);
    }
    return NULL;
}

static void concurrent_building(void)
{
    st_graph *g = new_graph();
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], NULL, builder, g) == 0);
    for (int i = 0; i < 4; i++)
        verify(g);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
    verify(g);
    end_graph(g);
}

int main(void)
{
    RUN(hash_consing);
    RUN(ports);
    RUN(structure_and_meaning);
    RUN(flags_and_origin);
    RUN(bound_values);
    RUN(weak_table);
    RUN(deep_chain);
    RUN(ladder);
    RUN(wide_node);
    RUN(verify_catches);
    RUN(concurrent_building);
    return 0;
}

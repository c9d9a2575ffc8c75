/* test_print.c - nodes as text, as DOT and as canonical bytes. */
#include "check.h"

#include <math.h>

static void texts(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *two = node(g, &op_two, A_TUPLE(a_ref(x, 0)));
    st_attr *bytes;
    OK(st_attr_bytes(&meter, "abc", 3, &bytes));
    st_attr *slice = a_seq(ST_SLICE, 3, (st_attr *[]){a_none(), a_int(3), a_none()});
    st_attr *set = a_seq(ST_SET, 1, (st_attr *[]){a_int(1)}),
            *frozen = a_seq(ST_FROZENSET, 1, (st_attr *[]){a_int(2)});
    st_node *n =
        node(g, &op_sum,
             A_TUPLE(a_ref(two, 1), a_ref(x, 0), a_bool(true), a_float(1), a_float(0.1), a_float(-0.0),
                     a_str("a\"b\\c\nd"), a_none(), bytes, slice, A_DICT(a_str("k"), A_LIST(a_int(-2))),
                     a_number(5), set, frozen, A_EMPTY(ST_TUPLE)));
    st_ref r = {n, 0};
    text t = {0};
    OK(st_graph_print(g, &r, 1, to_text, &t));
    CHECK_STR(t.s, "%1 = op_sum(1)\n"
                   "%2 = op_two(%1)\n"
                   "%3 = op_sum(%2.1, %1, True, 1.0, 0.1, -0.0, 'a\"b\\c d', None, <3 bytes>, "
                   "slice(None, 3, None), {'k': [-2]}, #5, {1}, frozenset{2}, ())\n");
    text_free(&t);
    OK(st_graph_dot(g, &r, 1, to_text, &t));
    CHECK_STR(t.s, "digraph stratum {\n  node [shape=box];\n"
                   "  n1 [label=\"op_sum(1)\"];\n"
                   "  n2 [label=\"op_two(%1)\"];\n"
                   "  n1 -> n2;\n"
                   "  n3 [label=\"op_sum(%2.1, %1, True, 1.0, 0.1, -0.0, 'a\\\"b\\\\c d', None, <3 bytes>, "
                   "slice(None, 3, None), {'k': [-2]}, #5, {1}, frozenset{2}, ())\"];\n"
                   "  n2 -> n3;\n"
                   "  n1 -> n3;\n"
                   "}\n");
    text_free(&t);
    DROP(x, two, n);
    end_graph(g);
}

static void printed(st_attr *a, const char *want)
{
    st_graph *g = new_graph();
    st_node *n = node(g, &op_sum, a);
    st_ref r = {n, 0};
    text t = {0};
    OK(st_graph_print(g, &r, 1, to_text, &t));
    CHECK_STR(t.s, want);
    text_free(&t);
    DROP(n);
    end_graph(g);
}

static void numbers(void)
{
    printed(a_float(NAN), "%1 = op_sum(nan)\n");
    printed(a_float(-INFINITY), "%1 = op_sum(-inf)\n");
    printed(a_float(1e300), "%1 = op_sum(1e+300)\n");
    printed(a_float(0.1 + 0.2), "%1 = op_sum(0.30000000000000004)\n");
    printed(a_int(INT64_MIN), "%1 = op_sum(-9223372036854775808)\n");
    printed(a_none(), "%1 = op_sum(None)\n"); /* attributes that are no tuple are the one argument */
}

/* Long strings are cut, but never inside a character. */
static void cutting(void)
{
    char s[200] = "";
    for (int i = 0; i < 47; i++)
        strcat(s, "x");
    strcat(s, "\xc3\xa9"); /* two bytes around the limit of 48 */
    printed(a_str(s), "%1 = op_sum('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...')\n");
    st_attr *items[60];
    for (int i = 0; i < 60; i++)
        items[i] = a_int(1);
    text want = {0};
    to_text(&want, "%1 = op_sum([", 13);
    for (int i = 0; i < 48; i++)
        to_text(&want, "1, ", 3);
    to_text(&want, "...])\n", 6);
    printed(a_seq(ST_LIST, 60, items), want.s);
    text_free(&want);
}

static void order_and_roots(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = leaf(g, 2), *a = add(g, y, x), *alone = leaf(g, 9);
    st_ref r[3] = {{a, 0}, {x, 0}, {a, 0}};
    text t = {0};
    OK(st_graph_print(g, r, 3, to_text, &t));
    CHECK_STR(t.s, "%2 = op_sum(2)\n%1 = op_sum(1)\n%3 = op_sum(%2, %1)\n"); /* only what roots need, once */
    text_free(&t);
    OK(st_graph_print(g, r, 0, to_text, &t));
    CHECK_INT(t.n, 0);
    for (size_t stop = 1; stop < 40; stop += 3) { /* a sink that has had enough */
        t = (text){.stop_at = stop};
        CHECK_INT(st_graph_print(g, r, 3, to_text, &t), ST_ESYSTEM);
        text_free(&t);
        t = (text){.stop_at = stop};
        CHECK_INT(st_graph_dot(g, r, 3, to_text, &t), ST_ESYSTEM);
        text_free(&t);
    }
    DROP(x, y, a, alone);
    end_graph(g);
}

static text encoded(st_node *n)
{
    text t = {0};
    OK(st_node_encode(n, to_text, &t));
    return t;
}

static bool same_encoding(st_node *a, st_node *b)
{
    text s = encoded(a), t = encoded(b);
    bool e = s.n == t.n && memcmp(s.s, t.s, s.n) == 0;
    text_free(&s);
    text_free(&t);
    return e;
}

/* Bytes that no two different nodes share: typed, with lengths, in order. */
static void encoding(void)
{
    st_graph *g = new_graph();
    st_node *x = leaf(g, 1), *y = leaf(g, 2);
    st_node *n[] = {
        node(g, &op_sum, A_TUPLE(a_int(1), a_int(2))),
        node(g, &op_sum, A_TUPLE(a_int(2), a_int(1))),
        node(g, &op_sum, A_LIST(a_int(1), a_int(2))),
        node(g, &op_sum, A_TUPLE(a_float(1), a_int(2))),
        node(g, &op_sum, A_TUPLE(a_bool(true), a_int(2))),
        node(g, &op_sum, A_TUPLE(A_TUPLE(a_int(1)), a_int(2))),
        node(g, &op_sum, A_TUPLE(a_int(1), A_TUPLE(a_int(2)))),
        node(g, &op_sum, A_TUPLE(a_str("ab"), a_str("c"))),
        node(g, &op_sum, A_TUPLE(a_str("a"), a_str("bc"))),
        node(g, &op_gil, A_TUPLE(a_int(1), a_int(2))),
        node(g, &op_sum, A_TUPLE(a_number(1))),
        node(g, &op_sum, A_TUPLE(a_none())),
        node(g, &op_sum, A_TUPLE(a_float(0.0))),
        node(g, &op_sum, A_TUPLE(a_float(-0.0))),
        add(g, x, y),
        add(g, y, x),
        add(g, x, x),
    };
    size_t k = sizeof n / sizeof *n;
    for (size_t i = 0; i < k; i++) {
        CHECK(same_encoding(n[i], n[i]));
        for (size_t j = 0; j < i; j++)
            CHECK(!same_encoding(n[i], n[j]));
    }
    /* The same in another graph. */
    st_graph *h = new_graph();
    st_node *y2 = leaf(h, 2), *x2 = leaf(h, 1), *a2 = add(h, x2, y2);
    CHECK(same_encoding(n[14], a2));
    DROP(y2, x2, a2);
    end_graph(h);
    /* A value without an encoding has none. */
    st_value *v;
    st_attr *a;
    OK(number_new(1, false, &v));
    OK(st_attr_value(&meter, v, &a));
    st_value_release(v);
    st_node *opaque = node(g, &op_sum, A_TUPLE(a));
    text t = {0};
    CHECK_INT(st_node_encode(opaque, to_text, &t), ST_EUNSUPPORTED);
    text_free(&t);
    for (size_t stop = 1; stop < 100; stop += 7) {
        t = (text){.stop_at = stop};
        CHECK_INT(st_node_encode(n[14], to_text, &t), ST_ESYSTEM);
        text_free(&t);
    }
    drop_nodes(n, k);
    DROP(x, y, opaque);
    end_graph(g);
}

int main(void)
{
    RUN(texts);
    RUN(numbers);
    RUN(cutting);
    RUN(order_and_roots);
    RUN(encoding);
    return 0;
}

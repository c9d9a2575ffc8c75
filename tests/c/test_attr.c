/* test_attr.c - attribute trees: typed equality, hashes, limits, substitution. */
#include "check.h"

#include <math.h>

static bool equal(st_attr *a, st_attr *b)
{
    bool e = st_attr_equal(a, b);
    CHECK(e == st_attr_equal(b, a));
    /* Equal trees have equal hashes; the others of these tests happen to differ there too. */
    CHECK(e == st_hash_eq(st_attr_hash(a), st_attr_hash(b)));
    st_attr_release(a);
    st_attr_release(b);
    return e;
}

static double nan_with(uint64_t bits)
{
    double d;
    bits |= UINT64_C(0x7FF8000000000000);
    memcpy(&d, &bits, sizeof d);
    return d;
}

static void typed_equality(void)
{
    CHECK(equal(a_int(1), a_int(1)));
    CHECK(!equal(a_int(1), a_float(1.0)));
    CHECK(!equal(a_int(1), a_bool(true)));
    CHECK(!equal(a_float(1.0), a_bool(true)));
    CHECK(!equal(a_int(0), a_bool(false)));
    CHECK(!equal(a_int(0), a_none()));
    CHECK(!equal(a_int(-1), a_int(-2)));
    CHECK(!equal(a_int(3), a_slot(3)));
    CHECK(!equal(a_int(INT64_MIN), a_int(INT64_MAX)));
    CHECK(!equal(a_float(0.0), a_float(-0.0)));
    CHECK(equal(a_float(-0.0), a_float(-0.0)));
    CHECK(equal(a_float(nan_with(1)), a_float(nan_with(1))));
    CHECK(!equal(a_float(nan_with(1)), a_float(nan_with(2))));
    CHECK(!equal(a_float(INFINITY), a_float(-INFINITY)));
    CHECK(equal(a_none(), a_none()));
    CHECK(!equal(a_str("a"), a_str("b")));
    CHECK(!equal(a_str(""), a_none()));
    st_attr *b, *s;
    OK(st_attr_bytes(&meter, "ab", 2, &b));
    CHECK(!equal(a_str("ab"), b));
    OK(st_attr_str(&meter, "a\0b", 3, &s));
    CHECK_INT(st_attr_len(s), 3);
    OK(st_attr_str(&meter, "a\0c", 3, &b));
    CHECK(!equal(s, b));
    OK(st_attr_str(&meter, NULL, 0, &b));
    CHECK(equal(b, a_str("")));
}

static void containers(void)
{
    CHECK(!equal(A_LIST(a_int(1)), A_TUPLE(a_int(1))));
    CHECK(!equal(A_TUPLE(a_int(1)), a_int(1)));
    CHECK(!equal(A_TUPLE(a_int(1), a_int(2)), A_TUPLE(a_int(2), a_int(1))));
    CHECK(equal(A_TUPLE(a_int(1), A_LIST(a_str("x"))), A_TUPLE(a_int(1), A_LIST(a_str("x")))));
    CHECK(!equal(A_TUPLE(A_TUPLE(a_int(1)), a_int(2)), A_TUPLE(a_int(1), A_TUPLE(a_int(2)))));
    CHECK(!equal(A_TUPLE(a_int(1), a_int(2)), A_TUPLE(A_TUPLE(a_int(1), a_int(2)))));
    CHECK(!equal(A_EMPTY(ST_LIST), A_EMPTY(ST_TUPLE)));
    CHECK(!equal(A_EMPTY(ST_SET), A_EMPTY(ST_FROZENSET)));
    CHECK(!equal(A_EMPTY(ST_DICT), A_EMPTY(ST_SET)));
    CHECK(!equal(A_EMPTY(ST_LIST), a_none()));
    CHECK(!equal(A_DICT(a_str("a"), a_int(1), a_str("b"), a_int(2)),
                 A_DICT(a_str("b"), a_int(2), a_str("a"), a_int(1))));
    st_attr *s = a_seq(ST_SLICE, 3, (st_attr *[]){a_none(), a_int(3), a_none()});
    CHECK(!equal(s, A_TUPLE(a_none(), a_int(3), a_none())));
    /* Equality goes inside: 1 and True differ at any depth. */
    CHECK(!equal(A_LIST(A_LIST(a_int(1))), A_LIST(A_LIST(a_bool(true)))));

    st_attr *t = A_TUPLE(a_int(7), a_str("seven"));
    CHECK_INT(st_attr_type_of(t), ST_TUPLE);
    CHECK_INT(st_attr_len(t), 2);
    CHECK_INT(st_attr_as_int(st_attr_item(t, 0)), 7);
    CHECK_STR(st_attr_as_str(st_attr_item(t, 1)), "seven");
    CHECK(!st_attr_has_refs(t) && st_attr_is_plain(t));
    st_attr *out = NULL, *items[3] = {t, t, t};
    CHECK_INT(st_attr_seq(&meter, ST_DICT, items, 3, &out), ST_EINVAL);
    CHECK_INT(st_attr_seq(&meter, ST_SLICE, items, 2, &out), ST_EINVAL);
    CHECK_INT(st_attr_seq(&meter, ST_INT, items, 1, &out), ST_EINVAL);
    CHECK_INT(st_attr_seq(&meter, ST_N_ATTR_TYPES, items, 1, &out), ST_EINVAL);
    CHECK(out == NULL);
    st_attr_release(t);
    st_attr_release(NULL);
    CHECK(st_attr_retain(NULL) == NULL);
}

static void values_inside(void)
{
    st_value *v, *w;
    OK(number_new(5, true, &v));
    OK(number_new(5, false, &w));
    st_attr *a, *b;
    OK(st_attr_value(&meter, v, &a));
    OK(st_attr_value(&meter, w, &b));
    CHECK(st_attr_as_value(a) == v);
    CHECK(st_attr_is_plain(a) && !st_attr_is_plain(b));
    st_attr *t = A_LIST(a_int(1), st_attr_retain(b));
    CHECK(!st_attr_is_plain(t));
    st_attr_release(t);
    CHECK(!equal(a, b));
    CHECK(equal(a_number(3), a_number(3)));
    CHECK(!equal(a_number(3), a_number(4)));
    CHECK(!equal(a_number(3), a_int(3)));
    st_value_release(v);
    st_value_release(w);
}

static void nesting(void)
{
    st_attr *t = a_int(0);
    for (int i = 0; i < ST_ATTR_MAX_DEPTH; i++)
        t = A_LIST(t);
    st_attr *out = NULL;
    CHECK_INT(st_attr_seq(&meter, ST_TUPLE, &t, 1, &out), ST_ELIMIT);
    CHECK(out == NULL);
    st_attr_release(t);
    /* Width has no such limit. */
    enum { WIDE = 100000 };
    st_attr **items = malloc(WIDE * sizeof *items);
    CHECK(items != NULL);
    for (int i = 0; i < WIDE; i++)
        items[i] = a_int(i);
    t = a_seq(ST_LIST, WIDE, items);
    free(items);
    CHECK_INT(st_attr_len(t), WIDE);
    CHECK_INT(st_attr_as_int(st_attr_item(t, WIDE - 1)), WIDE - 1);
    st_attr_release(t);
}

static void substitution(void)
{
    st_attr *t = A_TUPLE(a_slot(0), A_LIST(a_slot(2), a_int(9)), a_slot(1), a_slot(0));
    CHECK(st_attr_has_refs(t));
    st_attr *by[3] = {a_int(1), NULL, a_str("x")}, *out;
    OK(st_attr_substitute(&meter, t, by, 3, &out));
    st_attr *want = A_TUPLE(a_int(1), A_LIST(a_str("x"), a_int(9)), a_slot(1), a_int(1));
    CHECK(equal(out, want)); /* a slot without a replacement stays */
    OK(st_attr_substitute(&meter, t, by, 1, &out));
    want = A_TUPLE(a_int(1), A_LIST(a_slot(2), a_int(9)), a_slot(1), a_int(1));
    CHECK(equal(out, want)); /* and so does one beyond the list */
    st_attr_release(t);
    t = A_TUPLE(a_int(1));
    OK(st_attr_substitute(&meter, t, by, 3, &out));
    CHECK(out == t); /* nothing to replace: the same tree */
    st_attr_release(out);
    st_attr_release(t);
    st_attr_release(by[0]);
    st_attr_release(by[2]);
    /* What is put in can make a tree too deep. */
    st_attr *deep = a_int(0);
    for (int i = 0; i < ST_ATTR_MAX_DEPTH; i++)
        deep = A_LIST(deep);
    t = A_TUPLE(a_slot(0));
    out = NULL;
    CHECK_INT(st_attr_substitute(&meter, t, &deep, 1, &out), ST_ELIMIT);
    CHECK(out == NULL);
    st_attr_release(t);
    st_attr_release(deep);
}

static void refs(void)
{
    st_graph *g = new_graph();
    st_node *n = node(g, &op_two, A_TUPLE(a_int(1)));
    CHECK(!equal(a_ref(n, 0), a_ref(n, 1)));
    CHECK(equal(a_ref(n, 1), a_ref(n, 1)));
    st_attr *r = a_ref(n, 1), *t = A_LIST(st_attr_retain(r));
    CHECK(st_attr_has_refs(r) && st_attr_has_refs(t));
    CHECK(st_attr_as_ref(r).node == n && st_attr_as_ref(r).port == 1);
    DROP(n);
    CHECK_INT(st_graph_get_stats(g).nodes, 1); /* the expression keeps it */
    st_attr_release(r);
    st_attr_release(t);
    end_graph(g);
}

int main(void)
{
    RUN(typed_equality);
    RUN(containers);
    RUN(values_inside);
    RUN(nesting);
    RUN(substitution);
    RUN(refs);
    return 0;
}

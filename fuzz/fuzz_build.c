/* fuzz_build.c - a byte program interns, rereads, substitutes, binds and releases; after each step the
 * graph verifies, and interning the parts of a node again answers the same node. */
#include "driver.h"

static const st_op ops[] = {
    {"a", 1, 0, 1, ST_LOGICAL, "", NULL, NULL},
    {"b", 1, ST_P_TAKES_ROWS, 2, ST_LOGICAL, "", NULL, NULL},
    {"a", 2, 0, 3, ST_LOGICAL, "", NULL, NULL},
    {"\"\\\n", 1, 0, 1, ST_LOGICAL, "", NULL, NULL},
};

enum { MOST = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    program b = {data, size};
    st_graph *g;
    st_node *nodes[MOST];
    size_t n = 0;
    CHECK(st_graph_new(&counting, &g) == ST_OK);
    for (int step = 0; b.left && step < 500; step++) {
        unsigned k = byte(&b);
        if (n && (k % 8 == 0 || n == MOST)) { /* forget one */
            size_t i = byte(&b) % n;
            st_node_release(nodes[i]);
            nodes[i] = nodes[--n];
        } else if (n && k % 8 == 1) { /* bind or unbind */
            st_node *m = nodes[byte(&b) % n];
            st_value *v = byte_value(byte(&b), false);
            int rc = st_node_bind(m, byte(&b) % 4, v);
            CHECK(rc == ST_OK || rc == ST_EINVAL);
            if (k & 16) st_node_unbind(m, byte(&b) % 4, k & 32 ? v : NULL);
            st_value_release(v);
        } else {
            st_attr *t = attr(&b, nodes, n, k % 8 == 2, 0), *same = NULL;
            st_node *m = NULL, *again = NULL;
            st_error err = {0};
            int rc = st_graph_intern(g, &ops[k >> 4 & 3], t, k >> 6, NULL, &m, &err);
            CHECK(rc == ST_OK || (rc == ST_EINVAL && err.code == rc && m == NULL));
            if (rc == ST_OK) {
                CHECK(st_graph_intern(g, &ops[k >> 4 & 3], t, 0, NULL, &again, &err) == ST_OK);
                CHECK(m == again);
                st_node_release(again);
                /* its attributes with the refs put back are the expression it came from */
                st_attr *by[300] = {NULL};
                CHECK(st_node_n_in(m) < 300);
                for (size_t i = 0; i < st_node_n_in(m); i++)
                    CHECK(st_attr_ref(&counting, st_node_in(m, i), &by[i]) == ST_OK);
                CHECK(st_attr_substitute(&counting, st_node_attr(m), by, st_node_n_in(m), &same) == ST_OK);
                CHECK(st_attr_equal(same, t) && st_hash_eq(st_attr_hash(same), st_attr_hash(t)));
                st_attr_release(same);
                for (size_t i = 0; i < st_node_n_in(m); i++)
                    st_attr_release(by[i]);
                nodes[n++] = m;
            }
            st_attr_release(t);
        }
        if (step % 16 == 0) CHECK(st_graph_verify(g, NULL) == ST_OK);
    }
    CHECK(st_graph_verify(g, NULL) == ST_OK);
    while (n)
        st_node_release(nodes[--n]);
    CHECK(st_graph_get_stats(g).nodes == 0);
    st_graph_free(g);
    CHECK(blocks == 0);
    return 0;
}

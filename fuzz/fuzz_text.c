/* fuzz_text.c - random graphs printed, drawn and encoded: a line a node, quotes that close, encodings
 * that differ where nodes differ; sinks that stop anywhere. */
#include "driver.h"

static const st_op ops[] = {
    {"a", 1, 0, 3, ST_LOGICAL, "", NULL, NULL},
    {"b", 1, 0, 3, ST_LOGICAL, "", NULL, NULL},
    {"odd \"name\"\n\\", 1, 0, 3, ST_LOGICAL, "", NULL, NULL},
};

enum { MOST = 40 };

typedef struct sink {
    char *s;
    size_t n, cap, stop;
} sink;

static int take(void *ud, const char *s, size_t n)
{
    sink *t = ud;
    if (t->n + n > t->stop) return ST_ELIMIT;
    if (t->n + n + 1 > t->cap) {
        t->cap = 2 * (t->n + n + 1);
        t->s = realloc(t->s, t->cap);
        CHECK(t->s != NULL);
    }
    if (n) memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
    return ST_OK;
}

static size_t lines(const sink *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        n += t->s[i] == '\n';
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    program b = {data, size};
    st_graph *g;
    st_node *nodes[MOST];
    size_t n = 0, edges = 0;
    CHECK(st_graph_new(&counting, &g) == ST_OK);
    while (b.left && n < MOST) {
        unsigned k = byte(&b);
        st_attr *t = attr(&b, nodes, n, false, 0);
        if (st_graph_intern(g, &ops[k % 3], t, 0, NULL, &nodes[n], NULL) == ST_OK) n++;
        st_attr_release(t);
    }
    st_ref roots[MOST];
    for (size_t i = 0; i < n; i++)
        roots[i] = (st_ref){nodes[i], 0};
    st_node **order;
    size_t m;
    CHECK(st_graph_order(g, roots, n, &order, &m) == ST_OK);
    CHECK(m == st_graph_get_stats(g).nodes);
    for (size_t i = 0; i < m; i++)
        edges += st_node_n_in(order[i]);
    sink text = {.stop = SIZE_MAX}, dot = {.stop = SIZE_MAX}, cut = {0};
    CHECK(st_graph_print(g, roots, n, take, &text) == ST_OK);
    CHECK(lines(&text) == m);
    CHECK(st_graph_dot(g, roots, n, take, &dot) == ST_OK);
    CHECK(lines(&dot) == 3 + m + edges);
    bool inside = false; /* quotes that are not escaped open and close on one line */
    for (size_t i = 0; i < dot.n; i++) {
        if (dot.s[i] == '\\' && inside)
            i++;
        else if (dot.s[i] == '"')
            inside = !inside;
        else if (dot.s[i] == '\n')
            CHECK(!inside);
    }
    cut.stop = size % 97;
    int rc = st_graph_print(g, roots, n, take, &cut);
    CHECK(rc == (text.n > cut.stop ? ST_ELIMIT : ST_OK));
    free(text.s);
    free(dot.s);
    free(cut.s);
    /* Encodings: all differ, as the nodes do. */
    sink enc[MOST] = {{0}};
    int got[MOST];
    size_t some = m < MOST ? m : MOST;
    for (size_t i = 0; i < some; i++) {
        enc[i].stop = SIZE_MAX;
        got[i] = st_node_encode(order[i], take, &enc[i]);
        CHECK(got[i] == ST_OK || (got[i] == ST_EUNSUPPORTED && !st_attr_is_plain(st_node_attr(order[i]))));
        for (size_t k = 0; k < i; k++)
            if (got[i] == ST_OK && got[k] == ST_OK)
                CHECK(enc[i].n != enc[k].n || memcmp(enc[i].s, enc[k].s, enc[i].n) != 0);
    }
    for (size_t i = 0; i < some; i++)
        free(enc[i].s);
    if (order) count_release(NULL, order);
    while (n)
        st_node_release(nodes[--n]);
    st_graph_free(g);
    CHECK(blocks == 0);
    return 0;
}

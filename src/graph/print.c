/* print.c - nodes as text, as DOT and as canonical bytes.
 *
 * Everything goes to a sink in small pieces, so that a plan of a million nodes needs no large buffer.
 */
#include "graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct printer {
    st_sink sink;
    void *ud;
    bool dot; /* escape quotes and backslashes */
} printer;

/* A node is one line: line ends and other control characters become spaces. */
static int put(const printer *p, const char *s, size_t n)
{
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        bool control = (unsigned char)s[i] < ' ' || s[i] == 0x7F;
        if (!control && !(p->dot && (s[i] == '"' || s[i] == '\\'))) continue;
        if (i > from) ST_TRY(p->sink(p->ud, s + from, i - from));
        ST_TRY(p->sink(p->ud, control ? " " : "\\", 1));
        from = control ? i + 1 : i;
    }
    return n > from ? p->sink(p->ud, s + from, n - from) : ST_OK;
}

static int puts_(const printer *p, const char *s) { return put(p, s, strlen(s)); }
/* Our own text, with its line ends. */
static int line(const printer *p, const char *s) { return p->sink(p->ud, s, strlen(s)); }

/* Long strings and containers are cut: a plan is read by people. */
#define CUT 48

static int put_float(const printer *p, double f)
{
    char buf[40];
    int n = snprintf(buf, sizeof buf, "%.17g", f);
    for (int digits = 1; digits < 17; digits++) { /* the shortest text that means the same number */
        char shorter[40];
        int k = snprintf(shorter, sizeof shorter, "%.*g", digits, f);
        if (strtod(shorter, NULL) != f) continue;
        memcpy(buf, shorter, (size_t)k + 1);
        n = k;
        break;
    }
    if (!strpbrk(buf, ".en")) snprintf(buf + n, sizeof buf - (size_t)n, ".0"); /* 1.0 is no 1 */
    return puts_(p, buf);
}

static int put_attr(const printer *p, const st_attr *t, const st_node *n)
{
    char buf[128];
    switch ((st_attr_type)t->type) {
    case ST_NONE: return puts_(p, "None");
    case ST_BOOL: return puts_(p, t->u.i ? "True" : "False");
    case ST_INT: snprintf(buf, sizeof buf, "%" PRId64, t->u.i); return puts_(p, buf);
    case ST_FLOAT: return put_float(p, t->u.f);
    case ST_STR: {
        size_t k = t->n > CUT ? CUT : t->n;
        while (k < t->n && k && ((unsigned char)t->u.s[k] & 0xC0) == 0x80)
            k--; /* do not cut inside a character */
        ST_TRY(puts_(p, "'"));
        ST_TRY(put(p, t->u.s, k));
        return puts_(p, k < t->n ? "...'" : "'");
    }
    case ST_BYTES: snprintf(buf, sizeof buf, "<%zu bytes>", t->n); return puts_(p, buf);
    case ST_VALUE:
        if (st_value_describe(t->u.v, buf, sizeof buf) != ST_OK) snprintf(buf, sizeof buf, "<value>");
        return puts_(p, buf);
    case ST_SLOT:
    case ST_REF: {
        st_ref r = t->type == ST_REF ? t->u.ref : n->in[t->u.i];
        if (r.port)
            snprintf(buf, sizeof buf, "%%%" PRIu64 ".%u", r.node->id, (unsigned)r.port);
        else
            snprintf(buf, sizeof buf, "%%%" PRIu64, r.node->id);
        return puts_(p, buf);
    }
    default: break;
    }
    static const char *const open[] = {[ST_LIST] = "[", [ST_TUPLE] = "(",
                                       [ST_SET] = "{",  [ST_FROZENSET] = "frozenset{",
                                       [ST_DICT] = "{", [ST_SLICE] = "slice("};
    static const char *const close[] = {[ST_LIST] = "]",      [ST_TUPLE] = ")", [ST_SET] = "}",
                                        [ST_FROZENSET] = "}", [ST_DICT] = "}",  [ST_SLICE] = ")"};
    ST_TRY(puts_(p, open[t->type]));
    for (size_t i = 0; i < t->n; i++) {
        if (i) ST_TRY(puts_(p, t->type == ST_DICT && i % 2 ? ": " : ", "));
        if (i >= CUT) {
            ST_TRY(puts_(p, "..."));
            break;
        }
        ST_TRY(put_attr(p, t->u.items[i], n));
    }
    return puts_(p, close[t->type]);
}

static int put_args(const printer *p, const st_node *n)
{
    const st_attr *t = n->attr;
    if (t->type != ST_TUPLE) return put_attr(p, t, n);
    for (size_t i = 0; i < t->n; i++) {
        if (i) ST_TRY(puts_(p, ", "));
        ST_TRY(put_attr(p, t->u.items[i], n));
    }
    return ST_OK;
}

int st_graph_print(st_graph *g, const st_ref *roots, size_t n, st_sink sink, void *ud)
{
    st_node **order;
    size_t m;
    ST_TRY(st_graph_order(g, roots, n, &order, &m));
    printer p = {sink, ud, false};
    int rc = ST_OK;
    char buf[64];
    for (size_t i = 0; i < m && rc == ST_OK; i++) {
        snprintf(buf, sizeof buf, "%%%" PRIu64 " = ", order[i]->id);
        rc = puts_(&p, buf);
        if (rc == ST_OK) rc = puts_(&p, order[i]->op->name);
        if (rc == ST_OK) rc = puts_(&p, "(");
        if (rc == ST_OK) rc = put_args(&p, order[i]);
        if (rc == ST_OK) rc = sink(ud, ")\n", 2);
    }
    st_mem_free(g->alloc, order);
    return rc;
}

int st_graph_dot(st_graph *g, const st_ref *roots, size_t n, st_sink sink, void *ud)
{
    st_node **order;
    size_t m;
    ST_TRY(st_graph_order(g, roots, n, &order, &m));
    printer raw = {sink, ud, false}, esc = {sink, ud, true};
    int rc = line(&raw, "digraph stratum {\n  node [shape=box];\n");
    char buf[96];
    for (size_t i = 0; i < m && rc == ST_OK; i++) {
        st_node *x = order[i];
        snprintf(buf, sizeof buf, "  n%" PRIu64 " [label=\"", x->id);
        rc = puts_(&raw, buf);
        if (rc == ST_OK) rc = puts_(&esc, x->op->name);
        if (rc == ST_OK) rc = puts_(&raw, "(");
        if (rc == ST_OK) rc = put_args(&esc, x);
        if (rc == ST_OK) rc = line(&raw, ")\"];\n");
        for (size_t k = 0; k < x->n_in && rc == ST_OK; k++) {
            snprintf(buf, sizeof buf, "  n%" PRIu64 " -> n%" PRIu64 ";\n", x->in[k].node->id, x->id);
            rc = line(&raw, buf);
        }
    }
    if (rc == ST_OK) rc = line(&raw, "}\n");
    st_mem_free(g->alloc, order);
    return rc;
}

/* -- Canonical bytes ----------------------------------------------------------------------- */

static int enc_u64(st_sink sink, void *ud, unsigned char tag, uint64_t w)
{
    unsigned char b[9] = {tag};
    for (int i = 0; i < 8; i++)
        b[1 + i] = (unsigned char)(w >> (8 * i));
    return sink(ud, (const char *)b, sizeof b);
}

static int enc_attr(const st_attr *t, st_sink sink, void *ud)
{
    switch ((st_attr_type)t->type) {
    case ST_NONE: return enc_u64(sink, ud, ST_NONE, 0);
    case ST_BOOL:
    case ST_INT:
    case ST_SLOT: return enc_u64(sink, ud, t->type, (uint64_t)t->u.i);
    case ST_FLOAT: {
        uint64_t w;
        memcpy(&w, &t->u.f, 8);
        return enc_u64(sink, ud, ST_FLOAT, w);
    }
    case ST_STR:
    case ST_BYTES: ST_TRY(enc_u64(sink, ud, t->type, t->n)); return sink(ud, t->u.s, t->n);
    case ST_VALUE: {
        size_t n;
        const void *e = st_value_encoding(t->u.v, &n);
        if (!e) return ST_EUNSUPPORTED; /* this value means nothing outside its process */
        ST_TRY(enc_u64(sink, ud, ST_VALUE, n));
        return sink(ud, e, n);
    }
    case ST_REF: return ST_EINVAL;
    default:
        ST_TRY(enc_u64(sink, ud, t->type, t->n));
        for (size_t i = 0; i < t->n; i++)
            ST_TRY(enc_attr(t->u.items[i], sink, ud));
        return ST_OK;
    }
}

int st_node_encode(st_node *n, st_sink sink, void *ud)
{
    size_t k = strlen(n->op->name);
    ST_TRY(enc_u64(sink, ud, 'O', k));
    ST_TRY(sink(ud, n->op->name, k));
    ST_TRY(enc_u64(sink, ud, 'V', n->op->version));
    ST_TRY(enc_attr(n->attr, sink, ud));
    for (size_t i = 0; i < n->n_in; i++) {
        ST_TRY(enc_u64(sink, ud, 'I', n->in[i].port));
        ST_TRY(enc_u64(sink, ud, 'l', n->in[i].node->meaning.lo));
        ST_TRY(enc_u64(sink, ud, 'h', n->in[i].node->meaning.hi));
    }
    return ST_OK;
}

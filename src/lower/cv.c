/* cv.c - candidates times folds as nodes (see stratum/cv.h).
 *
 * Nothing here decides what is shared: every pair is lowered for itself, and the graph answers with the
 * node that exists.  That costs a walk over the plan for each pair (about 0.2 microseconds an entry) and
 * keeps sharing right by construction.
 */
#include "../graph/graph.h"
#include "stratum/cv.h"

typedef struct candidate {
    uint32_t *entries;
    st_attr **outcomes;
    size_t n;
} candidate;

typedef struct pair {
    st_scope *fit;
    st_attr *fit_ref, *test_ref, *train_ref;
} pair;

struct st_cv {
    st_plan *p;
    st_graph *g;
    const st_alloc *a;
    uint32_t root;
    const st_scope *base;
    uint32_t flags;
    int64_t seed, x, y, scorers;
    st_cv_ops ops;
    st_cv_host host;
    st_attr *all_x, *all_y, *spec;
    bool train_scores;
    ST_VEC(st_attr *) train;
    ST_VEC(st_attr *) test;
    ST_VEC(candidate) cand;
    ST_VEC(st_scope *) scopes; /* all that were made, in order */
    pair *pairs;               /* candidate-major */
    size_t n_pairs;
};

static const char *const mode_names[] = {
#define ST_MODE_NAME(x) #x,
    ST_SCORE_MODES(ST_MODE_NAME)
#undef ST_MODE_NAME
};

int st_cv_new(st_plan *p, uint32_t root, const st_scope *base, uint32_t scope_flags, int64_t subsample_seed,
              int64_t x, int64_t y, const st_cv_ops *ops, const st_cv_host *host, st_cv **out)
{
    int64_t n = (int64_t)st_plan_len(p);
    if (root >= st_plan_len(p) || x >= n || y >= n) return ST_EINVAL;
    st_graph *g = st_plan_graph(p);
    st_cv *c = st_mem_zero(g->alloc, sizeof *c);
    if (!c) return ST_ENOMEM;
    c->p = p;
    c->g = g;
    c->a = g->alloc;
    c->root = root;
    c->base = base;
    c->flags = scope_flags;
    c->seed = subsample_seed;
    c->x = x;
    c->y = y;
    c->scorers = -1;
    c->ops = *ops;
    c->host = *host;
    *out = c;
    return ST_OK;
}

void st_cv_free(st_cv *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n_pairs; i++) {
        st_attr_release(c->pairs[i].fit_ref);
        st_attr_release(c->pairs[i].test_ref);
        st_attr_release(c->pairs[i].train_ref);
    }
    st_mem_free(c->a, c->pairs);
    for (size_t i = c->scopes.n; i > 0; i--)
        st_scope_free(c->scopes.v[i - 1]); /* later ones apply the states of earlier ones */
    for (size_t i = 0; i < c->cand.n; i++) {
        for (size_t k = 0; k < c->cand.v[i].n; k++)
            st_attr_release(c->cand.v[i].outcomes[k]);
        st_mem_free(c->a, c->cand.v[i].outcomes);
        st_mem_free(c->a, c->cand.v[i].entries);
    }
    for (size_t i = 0; i < c->train.n; i++)
        st_attr_release(c->train.v[i]);
    for (size_t i = 0; i < c->test.n; i++)
        st_attr_release(c->test.v[i]);
    st_vec_free(c->a, &c->train);
    st_vec_free(c->a, &c->test);
    st_vec_free(c->a, &c->cand);
    st_vec_free(c->a, &c->scopes);
    st_attr_release(c->all_x);
    st_attr_release(c->all_y);
    st_attr_release(c->spec);
    st_mem_free(c->a, c);
}

int st_cv_data(st_cv *c, st_attr *x, st_attr *y)
{
    st_attr_release(c->all_x);
    st_attr_release(c->all_y);
    c->all_x = st_attr_retain(x);
    c->all_y = st_attr_retain(y);
    return ST_OK;
}

int st_cv_scoring(st_cv *c, st_attr *spec, int64_t scorers, bool train_scores)
{
    if (scorers >= (int64_t)st_plan_len(c->p)) return ST_EINVAL;
    st_attr_release(c->spec);
    c->spec = st_attr_retain(spec);
    c->scorers = scorers;
    c->train_scores = train_scores;
    return ST_OK;
}

int st_cv_add_fold(st_cv *c, st_attr *train, st_attr *test)
{
    ST_TRY(st_vec_reserve(c->a, &c->train, 1));
    ST_TRY(st_vec_reserve(c->a, &c->test, 1));
    c->train.v[c->train.n++] = st_attr_retain(train);
    c->test.v[c->test.n++] = st_attr_retain(test);
    return ST_OK;
}

int st_cv_add_candidate(st_cv *c, const uint32_t *entries, st_attr *const *outcomes, size_t n)
{
    ST_TRY(st_vec_reserve(c->a, &c->cand, 1));
    candidate d = {st_mem_new(c->a, n * sizeof *d.entries), st_mem_new(c->a, n * sizeof *d.outcomes), n};
    if (!d.entries || !d.outcomes) {
        st_mem_free(c->a, d.entries);
        st_mem_free(c->a, d.outcomes);
        return ST_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        d.entries[i] = entries[i];
        d.outcomes[i] = st_attr_retain(outcomes[i]);
    }
    c->cand.v[c->cand.n++] = d;
    return ST_OK;
}

size_t st_cv_n_folds(const st_cv *c) { return c->train.n; }
size_t st_cv_n_candidates(const st_cv *c) { return c->cand.n; }

/* take(data, rows) as an expression. */
static int take_rows(st_cv *c, st_attr *data, st_attr *rows, st_attr **out, st_error *err)
{
    st_attr *parts[2] = {data, rows}, *expr;
    st_node *n;
    ST_TRY(st_attr_seq(c->a, ST_TUPLE, parts, 2, &expr));
    int rc =
        st_graph_intern(c->g, c->ops.take, expr, c->flags & ST_SCOPE_SMALL ? ST_N_SMALL : 0u, NULL, &n, err);
    st_attr_release(expr);
    ST_TRY(rc);
    rc = st_attr_ref(c->a, (st_ref){n, 0}, out);
    st_node_release(n);
    return rc;
}

static int make_scope(st_cv *c, size_t cand, const char *mode, st_attr *x, st_attr *y, st_scope *fitted,
                      st_scope **out)
{
    st_scope *s;
    ST_TRY(st_vec_reserve(c->a, &c->scopes, 1));
    ST_TRY(st_scope_new(c->p, mode, c->flags, c->seed, fitted, &s));
    c->scopes.v[c->scopes.n++] = s;
    if (c->base) ST_TRY(st_scope_inherit(s, c->base));
    const candidate *d = &c->cand.v[cand];
    for (size_t i = 0; i < d->n; i++)
        ST_TRY(st_scope_choose(s, d->entries[i], d->outcomes[i]));
    if (c->x >= 0 && x) ST_TRY(st_scope_bind(s, (uint32_t)c->x, x));
    if (c->y >= 0 && y) ST_TRY(st_scope_bind(s, (uint32_t)c->y, y));
    *out = s;
    return ST_OK;
}

int st_cv_evaluate(st_cv *c, size_t cand, const char *mode, st_attr *x, st_attr *y, st_scope *fitted,
                   st_scope **scope, st_ref *value, st_error *err)
{
    if (cand >= c->cand.n) return st_fail(err, ST_EINVAL, "no candidate %zu", cand);
    st_attr *all_x = c->all_x, *all_y = c->all_y, *part_x = NULL, *part_y = NULL;
    if (ST_FAULT(11) && !x && c->pairs) { /* planted: the refit sees the rows of one fold */
        ST_TRY(take_rows(c, all_x, c->train.v[0], &part_x, err));
        if (all_y) ST_TRY(take_rows(c, all_y, c->train.v[0], &part_y, err));
        all_x = part_x;
        all_y = part_y;
    }
    int rc = make_scope(c, cand, mode, x ? x : all_x, x ? y : all_y, fitted, scope);
    st_attr_release(part_x);
    st_attr_release(part_y);
    if (rc != ST_OK) return st_fail(err, rc, "cannot evaluate candidate %zu: %s", cand, st_code_text(rc));
    return st_lower_ref(*scope, c->root, value, err);
}

static st_attr *none_or(const st_alloc *a, st_attr *t)
{
    st_attr *out = NULL;
    if (t) return st_attr_retain(t);
    return st_attr_none(a, &out) == ST_OK ? out : NULL;
}

/* The states of a fit, as a tuple.  A scorer that may ask for more than was foreseen reads them all: they
 * must still be there when it asks, or the pipeline would be fitted once more. */
static int held_states(st_cv *c, const st_scope *fit, bool wanted, st_attr **out)
{
    ST_VEC(st_attr *) v = {0};
    int rc = ST_OK;
    for (uint32_t i = 0; wanted && rc == ST_OK && i < st_plan_len(c->p); i++) {
        st_attr *t = st_scope_state(fit, i);
        if (!t) continue;
        rc = st_vec_reserve(c->a, &v, 1);
        if (rc == ST_OK) v.v[v.n++] = t;
    }
    if (rc == ST_OK) rc = st_attr_seq(c->a, ST_TUPLE, v.v, v.n, out);
    st_vec_free(c->a, &v);
    return rc;
}

/* The score node of one pair on some rows. */
static int lower_score(st_cv *c, size_t cand, size_t fold, bool train, pair *q, st_attr *x, st_attr *y,
                       st_attr **out, st_error *err)
{
    /* The model that scorers see is the first apply from the root. */
    int64_t first = st_scope_first_apply(q->fit, c->root);
    if (first < -1) return st_fail(err, ST_ENOMEM, "out of memory while lowering");
    st_attr *state = first >= 0 ? st_scope_state(q->fit, (uint32_t)first) : NULL;
    st_value *est = NULL;
    if (state && state->type == ST_REF) {
        const st_node *n = state->u.ref.node;
        if ((n->op->props & ST_P_FITS) && n->attr->type == ST_TUPLE && n->attr->n > 1 &&
            n->attr->u.items[1]->type == ST_VALUE)
            est = n->attr->u.items[1]->u.v;
    }
    uint32_t modes = 0;
    ST_TRY(c->host.modes(c->host.ud, est, &modes, err));
    st_attr *names[ST_SCORE_N_MODES] = {0}, *preds[ST_SCORE_N_MODES] = {0};
    st_attr *parts[10] = {0}, *expr = NULL, *ticket = NULL, *scorers = NULL;
    size_t n = 0;
    int rc = ST_OK;
    for (unsigned m = 0; m < ST_SCORE_N_MODES && rc == ST_OK; m++) {
        if (!(modes & (1u << m))) continue;
        st_scope *s;
        st_ref r;
        rc = st_cv_evaluate(c, cand, mode_names[m], x, y, q->fit, &s, &r, err);
        if (rc == ST_OK) rc = st_attr_str(c->a, mode_names[m], strlen(mode_names[m]), &names[n]);
        if (rc == ST_OK) rc = st_attr_ref(c->a, r, &preds[n]);
        n++;
    }
    if (rc == ST_OK && c->scorers >= 0) {
        st_scope *s;
        rc = make_scope(c, cand, "fit_transform", x, y, NULL, &s);
        if (rc == ST_OK) rc = st_lower_field(s, (uint32_t)c->scorers, 1, &scorers, err);
    }
    if (rc == ST_OK) {
        st_value *v = NULL;
        rc = c->host.ticket(c->host.ud, cand, fold, train, &v, err);
        if (rc == ST_OK && v) rc = st_attr_value(c->a, v, &ticket);
        st_value_release(v);
    }
    if (rc == ST_OK) {
        parts[0] = st_attr_retain(q->fit_ref);
        parts[1] = none_or(c->a, c->spec);
        rc = st_attr_seq(c->a, ST_TUPLE, names, n, &parts[2]);
        if (rc == ST_OK) rc = st_attr_seq(c->a, ST_TUPLE, preds, n, &parts[3]);
        parts[4] = none_or(c->a, state);
        parts[5] = st_attr_retain(x);
        parts[6] = none_or(c->a, y);
        parts[7] = none_or(c->a, scorers);
        parts[8] = none_or(c->a, ticket);
        if (rc == ST_OK) rc = held_states(c, q->fit, ticket != NULL, &parts[9]);
        for (size_t i = 0; i < 10; i++)
            if (!parts[i] && rc == ST_OK) rc = ST_ENOMEM;
        if (rc == ST_OK) rc = st_attr_seq(c->a, ST_TUPLE, parts, 10, &expr);
    }
    if (rc == ST_OK) {
        st_node *node;
        uint32_t flags = ticket ? ST_N_CALLER : 0u; /* code that nobody knows: the caller's thread */
        if (c->flags & ST_SCOPE_SMALL) flags |= ST_N_SMALL;
        if (state && state->type == ST_REF) flags |= state->u.ref.node->flags & ST_N_CALLER;
        rc = st_graph_intern(c->g, c->ops.score, expr, flags, NULL, &node, err);
        if (rc == ST_OK) {
            rc = st_attr_ref(c->a, (st_ref){node, 0}, out);
            st_node_release(node);
        }
    }
    st_attr_release(expr);
    st_attr_release(ticket);
    st_attr_release(scorers);
    for (size_t i = 0; i < 10; i++)
        st_attr_release(parts[i]);
    for (size_t i = 0; i < n; i++) {
        st_attr_release(names[i]);
        st_attr_release(preds[i]);
    }
    return rc;
}

int st_cv_lower(st_cv *c, const unsigned char *wanted, st_error *err)
{
    size_t nf = c->train.n, nc = c->cand.n;
    if (!c->all_x || (c->pairs && (!wanted || c->n_pairs != nf * nc)))
        return st_fail(err, ST_EINVAL, "no data, or lowered already");
    if (!c->pairs) {
        c->pairs = st_mem_zero(c->a, nf * nc * sizeof *c->pairs);
        if (!c->pairs) return st_fail(err, ST_ENOMEM, "out of memory while lowering");
        c->n_pairs = nf * nc;
    }
    /* Folds outside, candidates inside: nodes of one fold get ids close to each other. */
    for (size_t f = 0; f < nf; f++) {
        st_attr *xt = NULL, *yt = NULL, *xs = NULL, *ys = NULL;
        size_t tf = ST_FAULT(8) ? (f + 1) % nf : f; /* planted: the wrong fold is scored */
        st_attr *train = ST_FAULT(7) ? c->test.v[f] : c->train.v[f];
        int rc = take_rows(c, c->all_x, train, &xt, err);
        if (rc == ST_OK && c->all_y) rc = take_rows(c, c->all_y, train, &yt, err);
        if (rc == ST_OK) rc = take_rows(c, c->all_x, c->test.v[tf], &xs, err);
        if (rc == ST_OK && c->all_y) rc = take_rows(c, c->all_y, c->test.v[tf], &ys, err);
        for (size_t k = 0; k < nc && rc == ST_OK; k++) {
            pair *q = &c->pairs[k * nf + f];
            st_ref r;
            if ((wanted && !wanted[k]) || q->fit) continue;
            rc = st_cv_evaluate(c, k, "fit", xt, yt, NULL, &q->fit, &r, err);
            if (rc == ST_OK) rc = st_attr_ref(c->a, r, &q->fit_ref);
            if (rc == ST_OK) rc = lower_score(c, k, f, false, q, xs, ys, &q->test_ref, err);
            if (rc == ST_OK && c->train_scores)
                rc = lower_score(c, k, f, true, q, xt, yt, &q->train_ref, err);
        }
        st_attr_release(xt);
        st_attr_release(yt);
        st_attr_release(xs);
        st_attr_release(ys);
        if (rc != ST_OK) {
            if (err && !err->code) st_fail(err, rc, "lowering failed: %s", st_code_text(rc));
            return rc;
        }
    }
    return ST_OK;
}

st_ref st_cv_ref(const st_cv *c, size_t cand, size_t fold, st_cv_part part)
{
    size_t nc = c->cand.n;
    if (ST_FAULT(9)) cand = (cand + 1) % nc; /* planted: scores beside the wrong candidate */
    const pair *q = &c->pairs[cand * c->train.n + fold];
    st_attr *t = part == ST_CV_FIT ? q->fit_ref : part == ST_CV_TEST ? q->test_ref : q->train_ref;
    return t ? t->u.ref : (st_ref){NULL, 0};
}

st_scope *st_cv_scope(const st_cv *c, size_t cand, size_t fold)
{
    return c->pairs[cand * c->train.n + fold].fit;
}

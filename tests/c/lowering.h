/* lowering.h - operators and a host over numbers, for the tests of src/lower.
 *
 * An estimator is a number: its kind (below) plus ten times anything.  Fitting number e to X and y gives
 * the state 1000 * e + X + 3 * y, whose output is state + X; applying a state gives state + X as well.
 * What is missing fails with the error number -1.
 */
#ifndef ST_LOWERING_H
#define ST_LOWERING_H

#include "check.h"
#include "stratum/cv.h"
#include "stratum/lower.h"

enum { TRANSFORMER = 1, PREDICTOR = 2, UNSEEDED = 3, UNKNOWN = 4 };

static st_attr *part(const st_exec *x, size_t i) { return st_attr_item(st_node_attr(x->node), i); }

static int run_fit(st_exec *x, st_error *err)
{
    (void)err;
    atomic_fetch_add(&executed, 1);
    long in = total(x, part(x, 2)), state = 1000 * total(x, part(x, 1)) + in + 3 * total(x, part(x, 3));
    int rc = give(x, 0, state + in);
    return rc == ST_OK ? give(x, 1, state) : rc;
}

static int run_call(st_exec *x, st_error *err)
{
    (void)err;
    atomic_fetch_add(&executed, 1);
    return give(x, 0, total(x, part(x, 2)) + total(x, part(x, 3)));
}

/* (first, others, axis) -> the sum, and the number of others as "columns" */
static int run_concat_fit(st_exec *x, st_error *err)
{
    (void)err;
    atomic_fetch_add(&executed, 1);
    int rc = give(x, 0, total(x, part(x, 0)) + total(x, part(x, 1)));
    return rc == ST_OK ? give(x, 1, 500) : rc;
}

static int run_select(st_exec *x, st_error *err)
{
    atomic_fetch_add(&executed, 1);
    long c = total(x, part(x, 0));
    st_attr *keys = part(x, 1), *options = part(x, 3);
    size_t n = st_attr_len(options), k = 0;
    if (st_attr_type_of(keys) == ST_NONE) {
        k = c ? 0 : 1;
    } else {
        while (k < st_attr_len(keys) && st_attr_as_int(st_attr_item(keys, k)) != c)
            k++;
        if (k == st_attr_len(keys) && !st_attr_as_int(part(x, 2))) k = n;
    }
    if (k >= n) {
        int rc = number_new(-2, false, &x->error);
        return rc == ST_OK ? st_fail(err, ST_EHOST, "boom -2") : rc;
    }
    x->choice = (size_t)st_attr_as_int(st_attr_item(options, k));
    return ST_OK;
}

static int run_missing(st_exec *x, st_error *err)
{
    int rc = number_new(-1, false, &x->error);
    return rc == ST_OK ? st_fail(err, ST_EHOST, "boom -1") : rc;
}

static int run_first(st_exec *x, st_error *err)
{
    (void)err;
    return give(x, 0, total(x, part(x, 0)));
}

#define LOWERED(id, label, n_outputs, properties, function)                                                  \
    static const st_op id = {label, 1, properties, n_outputs, ST_LOGICAL, "for tests", function, NULL}

LOWERED(lo_fit, "fit", 2, PURE | ST_P_FITS, run_fit);
LOWERED(lo_call, "call", 1, PURE, run_call);
LOWERED(lo_applied, "applied", 1, PURE, run_first);
LOWERED(lo_concat_fit, "concat_fit", 2, PURE, run_concat_fit);
LOWERED(lo_concat, "concat", 1, PURE, run_sum);
LOWERED(lo_select, "select", 1, PURE | ST_P_CHOOSES, run_select);
LOWERED(lo_build, "build", 1, PURE, run_sum);
LOWERED(lo_constant, "constant", 1, PURE, run_sum);
LOWERED(lo_missing, "missing", 1, PURE, run_missing);
LOWERED(lo_subsample, "subsample", 1, PURE, run_first);
LOWERED(lo_take, "take", 1, PURE | ST_P_TAKES_ROWS, run_sum);
LOWERED(lo_score, "score", 1, PURE, run_sum);

static const st_lower_ops lower_ops = {&lo_fit,    &lo_call,  &lo_applied,  &lo_concat_fit, &lo_concat,
                                       &lo_select, &lo_build, &lo_constant, &lo_missing,    &lo_subsample};

/* What was asked of the host. */
static int asked_build, asked_flags, asked_seed, asked_match;
static int host_fails; /* answer every question with this code */

/* The template plus 10 times the sum of the whole numbers among the parameters. */
static int host_build(void *ud, st_value *template_, st_attr *params, st_value **out, st_error *err)
{
    (void)ud;
    asked_build++;
    if (host_fails) return st_fail(err, host_fails, "host");
    long s = 0;
    for (size_t i = 0; i < st_attr_len(params); i++)
        if (st_attr_type_of(st_attr_item(params, i)) == ST_INT)
            s += (long)st_attr_as_int(st_attr_item(params, i));
    return number_new(number_of(template_) + 10 * s, true, out);
}

static int host_flags(void *ud, st_value *estimator, uint32_t *flags, st_error *err)
{
    (void)ud;
    asked_flags++;
    if (host_fails) return st_fail(err, host_fails, "host");
    switch (number_of(estimator) % 10) {
    case TRANSFORMER: *flags = ST_EST_TRANSFORM | ST_EST_FIT_TRANSFORM | ST_EST_LIBRARY | ST_EST_FREE; break;
    case PREDICTOR: *flags = ST_EST_PREDICT | ST_EST_LIBRARY; break;
    case UNSEEDED: *flags = ST_EST_TRANSFORM | ST_EST_FIT_TRANSFORM | ST_EST_LIBRARY | ST_EST_UNSEEDED; break;
    default: *flags = 0;
    }
    return ST_OK;
}

static int host_seed(void *ud, st_value *origin, st_value *estimator, int64_t *seed, st_error *err)
{
    (void)ud;
    (void)origin;
    (void)estimator;
    asked_seed++;
    if (host_fails) return st_fail(err, host_fails, "host");
    *seed = 77;
    return ST_OK;
}

static int host_match(void *ud, st_value *origin, st_attr *value, size_t *index, st_error *err)
{
    (void)ud;
    (void)origin;
    asked_match++;
    if (host_fails) return st_fail(err, host_fails, "host");
    *index = (size_t)st_attr_as_int(value);
    return ST_OK;
}

static const st_lower_host lower_host = {NULL, host_build, host_flags, host_seed, host_match};

static UNUSED st_plan *new_plan(st_graph *g)
{
    st_plan *p;
    asked_build = asked_flags = asked_seed = asked_match = host_fails = 0;
    OK(st_plan_new(g, &lower_ops, &lower_host, &p));
    return p;
}

/* Append; consumes `fields`. */
static UNUSED uint32_t put(st_plan *p, st_cap_kind kind, const st_op *op, st_attr *fields, size_t n,
                           const uint32_t *children)
{
    uint32_t i = 0;
    st_error err = {0};
    int rc = st_plan_add(p, kind, op, fields, children, n, 0, NULL, &i, &err);
    if (rc != ST_OK) check_failed(__FILE__, __LINE__, err.message);
    st_attr_release(fields);
    return i;
}

#define KIDS(...)                                                                                            \
    (sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)), (uint32_t[]) { __VA_ARGS__ }
#define NO_KIDS 0, NULL

static UNUSED uint32_t put_var(st_plan *p, const char *name)
{
    return put(p, ST_CAP_VAR, NULL, A_TUPLE(a_str(name), a_none(), a_bool(false), a_bool(false)), NO_KIDS);
}

/* apply(X, estimator, y or -1) */
static UNUSED uint32_t put_apply(st_plan *p, uint32_t x, long estimator, int64_t y)
{
    return put(p, ST_CAP_APPLY, NULL,
               A_TUPLE(a_slot(0), a_number(estimator), y >= 0 ? a_slot(1) : a_none(), a_none(), a_none(),
                       a_bool(false), a_bool(false), a_bool(y < 0), a_none(), a_bool(false)),
               y >= 0 ? 2 : 1, (uint32_t[]){x, y >= 0 ? (uint32_t)y : 0});
}

static UNUSED uint32_t put_sum(st_plan *p, uint32_t a, uint32_t b, long c)
{
    return put(p, ST_CAP_COMPUTE, &op_sum, A_TUPLE(a_slot(0), a_slot(1), a_int(c)), KIDS(a, b));
}

static UNUSED st_scope *new_scope(st_plan *p, const char *mode, st_scope *fitted)
{
    st_scope *s;
    OK(st_scope_new(p, mode, 0, 0, fitted, &s));
    return s;
}

static UNUSED void bind(st_scope *s, uint32_t i, st_attr *value)
{
    OK(st_scope_bind(s, i, value));
    st_attr_release(value);
}

static UNUSED void choose(st_scope *s, uint32_t i, st_attr *outcome)
{
    OK(st_scope_choose(s, i, outcome));
    st_attr_release(outcome);
}

static UNUSED st_ref lowered(st_scope *s, uint32_t i)
{
    st_ref r = {NULL, 0};
    st_error err = {0};
    int rc = st_lower_ref(s, i, &r, &err);
    if (rc != ST_OK) check_failed(__FILE__, __LINE__, err.message);
    return r;
}

/* What the entry is in the scope, as text with the nodes renumbered from 1. */
static UNUSED void expect_plan(st_graph *g, st_scope *s, uint32_t i, const char *want)
{
    st_ref r = lowered(s, i);
    st_node **order;
    size_t n;
    text t = {0}, u = {0};
    OK(st_graph_order(g, &r, 1, &order, &n));
    OK(st_graph_print(g, &r, 1, to_text, &t));
    for (const char *c = t.s; *c;) {
        if (*c != '%') {
            to_text(&u, c++, 1);
            continue;
        }
        char *end;
        unsigned long long id = strtoull(c + 1, &end, 10);
        size_t k = 0;
        while (k < n && st_node_id(order[k]) != id)
            k++;
        char buf[24];
        int len = snprintf(buf, sizeof buf, "%%%zu", k + 1);
        to_text(&u, buf, (size_t)len);
        c = end;
    }
    meter_release(NULL, order);
    CHECK_STR(u.s, want);
    text_free(&t);
    text_free(&u);
}

/* The value of an entry; failed: the error number. */
static UNUSED long evaluate(st_graph *g, st_scope *s, uint32_t i, bool *failed)
{
    st_ref r = lowered(s, i);
    job j;
    job_start(&j, g, 0);
    job_demand(&j, r.node, r.port);
    CHECK_INT(job_wait(&j), 1);
    st_value *v = NULL, *e = NULL;
    int rc = st_run_root(j.run, 0, &v, &e, NULL, NULL);
    CHECK(rc == ST_OK || rc == ST_EHOST);
    *failed = rc != ST_OK;
    long x = number_of(*failed ? e : v);
    st_value_release(v);
    st_value_release(e);
    job_end(&j);
    return x;
}

static UNUSED void expect_value(st_graph *g, st_scope *s, uint32_t i, long want)
{
    bool failed;
    long x = evaluate(g, s, i, &failed);
    CHECK(!failed);
    CHECK_INT(x, want);
}

static UNUSED void expect_error(st_graph *g, st_scope *s, uint32_t i, long want)
{
    bool failed;
    long x = evaluate(g, s, i, &failed);
    CHECK(failed);
    CHECK_INT(x, want);
}

#endif

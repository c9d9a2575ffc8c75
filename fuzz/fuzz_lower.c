/* fuzz_lower.c - random plans, well formed or not, lowered in random scopes: refused or lowered, never
 * a crash, a leak or a graph that does not verify. */
#include "driver.h"
#include "stratum/lower.h"

#define LOWERED(id, label, n_outputs, properties)                                                            \
    static const st_op id = {label, 1, properties, n_outputs, ST_LOGICAL, "", NULL, NULL}

LOWERED(op_fit, "fit", 2, ST_P_FITS);
LOWERED(op_call, "call", 1, 0);
LOWERED(op_applied, "applied", 1, 0);
LOWERED(op_concat_fit, "concat_fit", 2, 0);
LOWERED(op_concat, "concat", 1, 0);
LOWERED(op_select, "select", 1, ST_P_CHOOSES);
LOWERED(op_build, "build", 1, 0);
LOWERED(op_constant, "constant", 1, 0);
LOWERED(op_missing, "missing", 1, 0);
LOWERED(op_subsample, "subsample", 1, 0);
LOWERED(op_user, "user", 1, 0);

static const st_lower_ops ops = {&op_fit,    &op_call,  &op_applied,  &op_concat_fit, &op_concat,
                                 &op_select, &op_build, &op_constant, &op_missing,    &op_subsample};

static program *input; /* the host answers from the program, too */

static int host_build(void *ud, st_value *template_, st_attr *params, st_value **out, st_error *err)
{
    (void)ud;
    (void)template_;
    (void)params;
    unsigned k = byte(input);
    if (k % 16 == 1) return st_fail(err, ST_EHOST, "build");
    *out = byte_value(k, true);
    return ST_OK;
}

static int host_flags(void *ud, st_value *estimator, uint32_t *flags, st_error *err)
{
    (void)ud;
    (void)estimator;
    unsigned k = byte(input);
    *flags = k & 63;
    return k == 255 ? st_fail(err, ST_EHOST, "flags") : ST_OK;
}

static int host_seed(void *ud, st_value *origin, st_value *estimator, int64_t *seed, st_error *err)
{
    (void)ud;
    (void)origin;
    (void)estimator;
    *seed = (int64_t)byte(input);
    return *seed == 255 ? st_fail(err, ST_EHOST, "seed") : ST_OK;
}

static int host_match(void *ud, st_value *origin, st_attr *value, size_t *index, st_error *err)
{
    (void)ud;
    (void)origin;
    (void)value;
    *index = byte(input) % 4;
    return *index == 3 ? st_fail(err, ST_EHOST, "match") : ST_OK;
}

static const st_lower_host host = {NULL, host_build, host_flags, host_seed, host_match};

static st_attr *fixed(unsigned what, unsigned x)
{
    st_attr *t = NULL;
    switch (what) {
    case 0: CHECK(st_attr_slot(&counting, x % 5, &t) == ST_OK); break;
    case 1: CHECK(st_attr_bool(&counting, x & 1, &t) == ST_OK); break;
    case 2: CHECK(st_attr_int(&counting, x % 4, &t) == ST_OK); break;
    case 3: {
        st_value *v = byte_value(x, true);
        CHECK(st_attr_value(&counting, v, &t) == ST_OK);
        st_value_release(v);
        break;
    }
    default: CHECK(st_attr_none(&counting, &t) == ST_OK);
    }
    return t;
}

static st_attr *seq(st_attr_type type, st_attr **items, size_t n)
{
    st_attr *t = NULL;
    CHECK(st_attr_seq(&counting, type, items, n, &t) == ST_OK);
    for (size_t i = 0; i < n; i++)
        st_attr_release(items[i]);
    return t;
}

/* Fields as the kind wants them, mostly: the inside of every field is random. */
static st_attr *fields(program *b, unsigned kind)
{
    st_attr *f[ST_APPLY_N], *l[3], *k[3];
    size_t n = 0, m = 1 + byte(b) % 3;
    if (byte(b) % 16 == 0) return attr(b, NULL, 0, true, 0); /* anything */
    for (size_t i = 0; i < m; i++) {
        l[i] = attr(b, NULL, 0, true, 1);
        k[i] = attr(b, NULL, 0, false, 1);
    }
    st_attr *list = seq(ST_TUPLE, l, m), *keys = seq(ST_LIST, k, m);
    switch (kind) {
    case ST_CAP_VAR:
        f[n++] = attr(b, NULL, 0, false, 1);
        f[n++] = attr(b, NULL, 0, false, 1);
        f[n++] = fixed(1, byte(b));
        f[n++] = fixed(1, byte(b));
        break;
    case ST_CAP_APPLIED: f[n++] = fixed(0, byte(b)); break;
    case ST_CAP_MATCH:
        f[n++] = fixed(0, byte(b));
        f[n++] = st_attr_retain(keys);
        f[n++] = st_attr_retain(list);
        f[n++] = attr(b, NULL, 0, true, 1);
        f[n++] = fixed(1, byte(b));
        break;
    case ST_CAP_CHOICE:
        f[n++] = fixed(byte(b) % 2 ? 2 : 9, byte(b));
        f[n++] = st_attr_retain(list);
        break;
    case ST_CAP_CHOICE_MATCH:
        f[n++] = fixed(0, byte(b));
        f[n++] = st_attr_retain(list);
        break;
    case ST_CAP_ESTIMATOR:
        f[n++] = fixed(3, byte(b));
        f[n++] = attr(b, NULL, 0, true, 1);
        break;
    case ST_CAP_APPLY:
        f[n++] = fixed(0, byte(b));
        f[n++] = fixed(byte(b) % 2 ? 3 : 0, byte(b));
        for (; n < ST_APPLY_N; n++)
            f[n] = n == ST_APPLY_UNSUPERVISED ? fixed(1, byte(b)) : attr(b, NULL, 0, true, 1);
        break;
    default:
        while (n < 4)
            f[n++] = byte(b) % 2 ? fixed(0, byte(b)) : attr(b, NULL, 0, true, 1);
    }
    st_attr_release(list);
    st_attr_release(keys);
    return seq(ST_TUPLE, f, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const modes[] = {"fit", "fit_transform", "predict", "transform", "score", "preview"};
    program b = {data, size};
    st_graph *g;
    st_plan *p;
    st_scope *scopes[8];
    size_t n_scopes = 0;
    st_error err = {0};
    input = &b;
    CHECK(st_graph_new(&counting, &g) == ST_OK);
    CHECK(st_plan_new(g, &ops, &host, &p) == ST_OK);
    for (unsigned want = 4 + byte(&b) % 28; want && b.left; want--) {
        unsigned kind = byte(&b) % ST_N_CAP_KINDS;
        uint32_t kids[5], i;
        for (size_t k = 0; k < 5; k++) /* now and then one that does not exist */
            kids[k] = st_plan_len(p) ? (uint32_t)(byte(&b) % (st_plan_len(p) + (byte(&b) == 7))) : 0;
        st_attr *f = fields(&b, kind);
        int rc = st_plan_add(p, (st_cap_kind)kind, kind == ST_CAP_COMPUTE ? &op_user : NULL, f, kids,
                             st_plan_len(p) ? 5 : 0, 0, NULL, &i, &err);
        CHECK(rc == ST_OK || rc == ST_EINVAL || rc == ST_ECYCLE);
        st_attr_release(f);
    }
    size_t n = st_plan_len(p);
    for (size_t s = 0; n && s < 8 && (s < 2 || b.left); s++) {
        st_scope *fitted = n_scopes && byte(&b) % 2 ? scopes[byte(&b) % n_scopes] : NULL, *one;
        CHECK(st_scope_new(p, modes[byte(&b) % 6], byte(&b) % 4, 5, fitted, &one) == ST_OK);
        scopes[n_scopes++] = one;
        for (unsigned k = byte(&b) % 4; k > 0; k--) {
            uint32_t i = (uint32_t)(byte(&b) % n);
            st_attr *t = attr(&b, NULL, 0, false, 1);
            if (byte(&b) % 2) {
                CHECK(st_scope_bind(one, i, t) == ST_OK);
            } else {
                int rc = st_scope_choose(one, i, t);
                CHECK(rc == ST_OK || rc == ST_EINVAL);
            }
            st_attr_release(t);
        }
        for (unsigned k = 1 + byte(&b) % 3; k > 0; k--) {
            uint32_t i = (uint32_t)(byte(&b) % 2 ? n - 1 : byte(&b) % n);
            st_ref r;
            st_attr *t;
            err.code = 0;
            int rc = byte(&b) % 4 ? st_lower_ref(one, i, &r, &err) : st_lower(one, i, &t, &err);
            CHECK(rc == err.code);
            if (rc == ST_OK) {
                CHECK(st_scope_value(one, i) != NULL);
                int64_t first = st_scope_first_apply(one, i);
                CHECK(first == -1 || st_plan_kind(p, (uint32_t)first) == ST_CAP_APPLY);
            }
            if (byte(&b) % 4 == 0 && st_lower_field(one, i, byte(&b) % 4, &t, &err) == ST_OK)
                st_attr_release(t);
        }
        CHECK(st_graph_verify(g, NULL) == ST_OK);
    }
    while (n_scopes)
        st_scope_free(scopes[--n_scopes]);
    st_plan_free(p);
    CHECK(st_graph_get_stats(g).nodes == 0);
    st_graph_free(g);
    CHECK(blocks == 0);
    return 0;
}

/* counts.c - see counts.h.  Memory: from the caller's allocator, given back before returning.
 *
 * Threads divide sums among them, never rows.  Dense: stretches of columns (of eight where rows do not lie
 * together).  CSR: groups of classes of about as many rows each; every thread goes over all classes of rows
 * and reads the numbers of its own.
 */
#include "kernels/counts.h"

#include "base/internal.h"
#include "kernels/dense.h"
#include "kernels/parallel.h"

#include <float.h>
#include <stdatomic.h>

#define WHOLE 0x1p52 /* what has a fraction loses it in a sum with this */

enum { LEAST_COLUMNS = 64 }; /* that a thread takes of rows: eight lines of the cache */

typedef struct counting {
    const st_counts_in *in;
    double *sums;
    size_t each;         /* columns of an item */
    const size_t *owner; /* CSR: the item that a class belongs to */
    atomic_int met;
    atomic_bool broken;
} counting;

ST_INLINE size_t item_size(st_count_type t) { return t == ST_COUNT_F64 || t == ST_COUNT_I64 ? 8 : 4; }

ST_INLINE double load(const char *p, st_count_type t)
{
    double d;
    float f;
    int64_t l;
    int32_t i;
    switch (t) {
    case ST_COUNT_F64: memcpy(&d, p, sizeof d); return d;
    case ST_COUNT_F32: memcpy(&f, p, sizeof f); return (double)f;
    case ST_COUNT_I64: memcpy(&l, p, sizeof l); return (double)l;
    default: memcpy(&i, p, sizeof i); return (double)i;
    }
}

typedef uint64_t words __attribute__((vector_size(64)));
typedef float floats __attribute__((vector_size(32)));
typedef int32_t shorts __attribute__((vector_size(32)));

/* Eight numbers that lie together.  (One by one, 50 columns take three times as long.) */
ST_INLINE void load_line(st_v8 *v, const char *p, st_count_type t)
{
    floats f;
    shorts i;
    st_m8 l;
    switch (t) {
    case ST_COUNT_F64: memcpy(v, p, sizeof *v); return;
    case ST_COUNT_F32:
        memcpy(&f, p, sizeof f);
        *v = __builtin_convertvector(f, st_v8);
        return;
    case ST_COUNT_I64:
        memcpy(&l, p, sizeof l);
        *v = __builtin_convertvector(l, st_v8);
        return;
    default:
        memcpy(&i, p, sizeof i);
        *v = __builtin_convertvector(i, st_v8);
        return;
    }
}

/* `n` (known to the compiler) numbers `step` bytes apart onto as many sums; of the first `done` nothing. */
ST_INLINE void add_numbers(double *to, const char *p, ptrdiff_t step, st_count_type t, double weight,
                           bool weighted, size_t n, size_t done, words *bad, st_m8 *whole)
{
    st_v8 v = {0}, s = {0};
    if (n == ST_LANES && step == (ptrdiff_t)item_size(t))
        load_line(&v, p, t);
    else
        for (size_t i = 0; i < n; i++)
            v[i] = load(p + (ptrdiff_t)i * step, t);
    /* The sign, and what is carried into it where the exponent is that of infinities.  (Vectors of
     * comparisons other than `==` gcc 12 makes number by number: six times as long.) */
    words sign;
    v += 0.0; /* one zero */
    memcpy(&sign, &v, sizeof sign);
    *bad |= sign | (sign + ((uint64_t)1 << 52));
    *whole &= ((v + WHOLE) - WHOLE == v);
    if (weighted) v *= weight;
    if (done) {
        st_m8 lane = {0, 1, 2, 3, 4, 5, 6, 7}, bits;
        memcpy(&bits, &v, sizeof bits);
        bits &= lane >= (int64_t)done;
        memcpy(&v, &bits, sizeof v);
    }
    memcpy(&s, to, n * sizeof *to);
    s += v;
    memcpy(to, &s, n * sizeof *to);
}

ST_INLINE void dense_as(counting *jb, size_t from, size_t to, st_count_type t, bool weighted, bool lines)
{
    const st_counts_in *in = jb->in;
    ptrdiff_t step = lines ? (ptrdiff_t)item_size(t) : in->col;
    words bad = {0};
    st_m8 whole = {0};
    whole = ~whole;
    const char *p = in->data + (ptrdiff_t)from * in->col;
    for (size_t r = 0; r < in->rows; r++, p += in->row) {
        double *sums = jb->sums + in->codes[r] * in->cols + from, w = weighted ? in->weight[r] : 1;
        size_t j = 0, n = to - from;
        for (; j + ST_LANES <= n; j += ST_LANES)
            add_numbers(sums + j, p + (ptrdiff_t)j * step, step, t, w, weighted, ST_LANES, 0, &bad, &whole);
        if (j < n &&
            n >= ST_LANES) { /* the last eight once more (50 columns: 0.6 of the time of one by one) */
            size_t last = n - ST_LANES;
            add_numbers(sums + last, p + (ptrdiff_t)last * step, step, t, w, weighted, ST_LANES, j - last,
                        &bad, &whole);
            j = n;
        }
        for (; j < n; j++)
            add_numbers(sums + j, p + (ptrdiff_t)j * step, step, t, w, weighted, 1, 0, &bad, &whole);
    }
    int met = 0;
    for (int i = 0; i < ST_LANES; i++)
        met |= (bad[i] >> 63 ? ST_COUNTS_BAD : 0) | (whole[i] ? 0 : ST_COUNTS_FRACTIONS);
    atomic_fetch_or(&jb->met, met);
}

ST_INLINE void dense_of(counting *jb, size_t from, size_t to, st_count_type t)
{
    bool lines = jb->in->col == (ptrdiff_t)item_size(t);
    if (jb->in->weight)
        lines ? dense_as(jb, from, to, t, true, true) : dense_as(jb, from, to, t, true, false);
    else
        lines ? dense_as(jb, from, to, t, false, true) : dense_as(jb, from, to, t, false, false);
}

ST_CLONES static void dense_part(counting *jb, size_t from, size_t to)
{
    switch (jb->in->type) {
    case ST_COUNT_F64: dense_of(jb, from, to, ST_COUNT_F64); return;
    case ST_COUNT_F32: dense_of(jb, from, to, ST_COUNT_F32); return;
    case ST_COUNT_I64: dense_of(jb, from, to, ST_COUNT_I64); return;
    default: dense_of(jb, from, to, ST_COUNT_I32); return;
    }
}

static void dense_item(void *ud, size_t i, unsigned worker)
{
    (void)worker;
    counting *jb = ud;
    size_t from = i * jb->each, to = from + jb->each;
    dense_part(jb, from, to < jb->in->cols ? to : jb->in->cols);
}

ST_INLINE size_t index_at(const void *p, size_t i, bool wide)
{
    /* (what is negative becomes too large) */
    return wide ? (size_t)((const int64_t *)p)[i] : (size_t)(ptrdiff_t)((const int32_t *)p)[i];
}

ST_INLINE bool sparse_as(counting *jb, size_t group, st_count_type t, bool wide)
{
    const st_counts_in *in = jb->in;
    int met = 0;
    for (size_t r = 0; r < in->rows; r++) {
        if (jb->owner[in->codes[r]] != group) continue;
        size_t k = index_at(in->indptr, r, wide), end = index_at(in->indptr, r + 1, wide);
        if (k > end || end > in->stored) return false;
        double *sums = jb->sums + in->codes[r] * in->cols, w = in->weight ? in->weight[r] : 1;
        for (; k < end; k++) {
            size_t j = index_at(in->column, k, wide);
            if (j >= in->cols) return false;
            double v = load(in->data + k * item_size(t), t);
            met |= v >= 0 && v <= DBL_MAX ? 0 : ST_COUNTS_BAD;
            met |= (v + WHOLE) - WHOLE == v ? 0 : ST_COUNTS_FRACTIONS;
            sums[j] += v * w;
        }
    }
    atomic_fetch_or(&jb->met, met);
    return true;
}

ST_INLINE bool sparse_of(counting *jb, size_t group, st_count_type t)
{
    return jb->in->wide ? sparse_as(jb, group, t, true) : sparse_as(jb, group, t, false);
}

static void sparse_item(void *ud, size_t i, unsigned worker)
{
    (void)worker;
    counting *jb = ud;
    bool good = true;
    switch (jb->in->type) {
    case ST_COUNT_F64: good = sparse_of(jb, i, ST_COUNT_F64); break;
    case ST_COUNT_F32: good = sparse_of(jb, i, ST_COUNT_F32); break;
    case ST_COUNT_I64: good = sparse_of(jb, i, ST_COUNT_I64); break;
    default: good = sparse_of(jb, i, ST_COUNT_I32); break;
    }
    if (!good) atomic_store(&jb->broken, true);
}

/* Which of `groups` each class belongs to: the one with the fewest rows so far. */
static int divide(const st_alloc *a, const st_counts_in *in, size_t groups, size_t **out)
{
    size_t *owner = st_mem_zero(a, (in->classes + groups) * sizeof *owner);
    if (!owner) return ST_ENOMEM;
    size_t *rows = owner + in->classes;
    for (size_t r = 0; r < in->rows; r++)
        owner[in->codes[r]]++;
    for (size_t c = 0; c < in->classes; c++) {
        size_t least = 0;
        for (size_t g = 1; g < groups; g++)
            if (rows[g] < rows[least]) least = g;
        rows[least] += owner[c];
        owner[c] = least;
    }
    *out = owner;
    return ST_OK;
}

int st_counts(const st_alloc *a, const st_counts_in *in, unsigned threads, double *sums, int *met)
{
    for (size_t r = 0; r < in->rows; r++)
        if (in->codes[r] >= in->classes) return ST_EINVAL;
    memset(sums, 0, in->classes * in->cols * sizeof *sums);
    size_t many = threads < 1 ? 1 : threads > ST_MAX_THREADS ? ST_MAX_THREADS : threads, items;
    counting jb = {.in = in, .sums = sums};
    size_t *owner = NULL;
    if (in->indptr) {
        items = many < in->classes ? many : in->classes;
        ST_TRY(divide(a, in, items ? items : 1, &owner));
        jb.owner = owner;
        st_parallel(threads, items, sparse_item, &jb);
    } else {
        bool lines = in->col == (ptrdiff_t)item_size(in->type);
        size_t even = (in->cols + many - 1) / many;
        jb.each = !lines ? ST_LANES : even < LEAST_COLUMNS ? LEAST_COLUMNS : even;
        items = (in->cols + jb.each - 1) / jb.each;
        st_parallel(threads, items, dense_item, &jb);
    }
    st_mem_free(a, owner);
    *met = atomic_load(&jb.met);
    return atomic_load(&jb.broken) ? ST_EINVAL : ST_OK;
}

/* encode.c - see encode.h.
 *
 * Numbers are found in an open table of (key, number), which for the few distinct values of a categorical
 * column stays in the first cache.  Measured on one core, 100,000 rows: 0.3 ms for 20 distinct integers,
 * where a sort of them takes 1 to 5.  Rows are written in blocks, so that threads share the page faults of a
 * new matrix.
 */
#include "kernels/encode.h"

#include "kernels/parallel.h"

typedef struct slot {
    uint64_t key;
    uint32_t code; /* ST_NO_CODE: free */
} slot;

typedef struct table {
    slot *v;
    size_t mask, n;
} table;

static inline size_t place(uint64_t key) { return (size_t)((key * 0x9E3779B97F4A7C15u) >> 17); }

static int grow(const st_alloc *a, table *t)
{
    size_t n = 2 * (t->mask + 1);
    slot *v = st_mem_new(a, n * sizeof *v);
    if (!v) return ST_ENOMEM;
    memset(v, 0xFF, n * sizeof *v);
    for (size_t i = 0; i <= t->mask; i++) {
        if (t->v[i].code == ST_NO_CODE) continue;
        size_t j = place(t->v[i].key) & (n - 1);
        while (v[j].code != ST_NO_CODE)
            j = (j + 1) & (n - 1);
        v[j] = t->v[i];
    }
    st_mem_free(a, t->v);
    t->v = v;
    t->mask = n - 1;
    return ST_OK;
}

static inline uint64_t key_at(const uint8_t *p, size_t size)
{
    switch (size) {
    case 1: return *p;
    case 2: {
        uint16_t x;
        memcpy(&x, p, 2);
        return x;
    }
    case 4: {
        uint32_t x;
        memcpy(&x, p, 4);
        return x;
    }
    default: {
        uint64_t x;
        memcpy(&x, p, 8);
        return x;
    }
    }
}

int st_encode_numbers(const st_alloc *a, const void *data, ptrdiff_t stride, size_t n, size_t size,
                      bool floats, size_t most, uint32_t *codes, uint64_t *first, size_t *found)
{
    const uint64_t sign = size == 8 ? UINT64_C(1) << 63 : UINT64_C(1) << 31;
    const uint64_t infinity = size == 8 ? UINT64_C(0x7FF) << 52 : UINT64_C(0xFF) << 23;
    const uint8_t *p = data;
    table t = {.mask = 63};
    bool zero = false, minus_zero = false;
    int rc = ST_OK;
    *found = 0;
    t.v = st_mem_new(a, (t.mask + 1) * sizeof *t.v);
    if (!t.v) return ST_ENOMEM;
    memset(t.v, 0xFF, (t.mask + 1) * sizeof *t.v);
    for (size_t r = 0; r < n; r++, p += stride) {
        uint64_t key = key_at(p, size);
        if (floats && (key & ~sign) > infinity) key = infinity + 1;
        size_t i = place(key) & t.mask;
        while (t.v[i].code != ST_NO_CODE && t.v[i].key != key)
            i = (i + 1) & t.mask;
        if (t.v[i].code == ST_NO_CODE) {
            if (t.n >= most || t.n >= ST_NO_CODE - 1) {
                rc = ST_ELIMIT;
                break;
            }
            zero = zero || key == 0;
            minus_zero = minus_zero || key == sign;
            t.v[i] = (slot){key, (uint32_t)t.n};
            codes[r] = (uint32_t)t.n;
            first[t.n++] = r;
            if (2 * t.n > t.mask) {
                rc = grow(a, &t);
                if (rc != ST_OK) break;
            }
        } else {
            codes[r] = t.v[i].code;
        }
    }
    st_mem_free(a, t.v);
    if (rc == ST_OK && floats && zero && minus_zero) rc = ST_EUNSUPPORTED;
    *found = t.n;
    return rc;
}

void st_encode_count(size_t n, const uint32_t *codes, size_t k, int64_t *counts)
{
    memset(counts, 0, k * sizeof *counts);
    for (size_t r = 0; r < n; r++)
        counts[codes[r]]++;
}

/* -- Matrices -------------------------------------------------------------------------------------------- */

enum { BLOCK = 4096 };

typedef struct rows {
    size_t n, n_features, columns, size;
    const st_feature *features;
    const void *one;
    uint8_t *out;
    const int32_t *indptr;
    int32_t *index;
} rows;

#define FILL(T)                                                                                              \
    for (size_t f = 0; f < w->n_features; f++) {                                                             \
        const uint32_t *codes = w->features[f].codes;                                                        \
        const int32_t *column = w->features[f].column;                                                       \
        T one, *out = (T *)(void *)w->out;                                                                   \
        memcpy(&one, w->one, sizeof one);                                                                    \
        for (size_t r = from; r < to; r++)                                                                   \
            if (column[codes[r]] >= 0) out[r * w->columns + (size_t)column[codes[r]]] = one;                 \
    }

static void dense_block(void *ud, size_t i, unsigned worker)
{
    (void)worker;
    const rows *w = ud;
    size_t from = i * BLOCK, to = from + BLOCK < w->n ? from + BLOCK : w->n;
    switch (w->size) {
    case 1: FILL(uint8_t) break;
    case 2: FILL(uint16_t) break;
    case 4: FILL(uint32_t) break;
    default: FILL(uint64_t) break;
    }
}

void st_encode_dense(size_t n, size_t n_features, const st_feature *features, size_t columns, size_t size,
                     const void *one, void *out, unsigned threads)
{
    rows w = {.n = n,
              .n_features = n_features,
              .columns = columns,
              .size = size,
              .features = features,
              .one = one,
              .out = out};
    st_parallel(threads, (n + BLOCK - 1) / BLOCK, dense_block, &w);
}

int st_encode_layout(size_t n, size_t n_features, const st_feature *features, int32_t *indptr)
{
    int64_t entries = 0;
    indptr[0] = 0;
    for (size_t r = 0; r < n; r++) {
        for (size_t f = 0; f < n_features; f++)
            entries += features[f].column[features[f].codes[r]] >= 0;
        if (entries > INT32_MAX) return ST_ELIMIT;
        indptr[r + 1] = (int32_t)entries;
    }
    return ST_OK;
}

static void index_block(void *ud, size_t i, unsigned worker)
{
    (void)worker;
    const rows *w = ud;
    size_t from = i * BLOCK, to = from + BLOCK < w->n ? from + BLOCK : w->n;
    int32_t *index = w->index + w->indptr[from];
    for (size_t r = from; r < to; r++)
        for (size_t f = 0; f < w->n_features; f++) {
            int32_t column = w->features[f].column[w->features[f].codes[r]];
            if (column >= 0) *index++ = column;
        }
}

void st_encode_index(size_t n, size_t n_features, const st_feature *features, const int32_t *indptr,
                     int32_t *index, unsigned threads)
{
    rows w = {.n = n, .n_features = n_features, .features = features, .indptr = indptr, .index = index};
    st_parallel(threads, (n + BLOCK - 1) / BLOCK, index_block, &w);
}

#define TAKE(T)                                                                                              \
    {                                                                                                        \
        const T *from = values;                                                                              \
        for (size_t r = 0; r < n; r++, to += stride)                                                         \
            memcpy(to, &from[codes[r]], sizeof(T));                                                          \
    }

void st_encode_take(size_t n, const uint32_t *codes, size_t size, const void *values, void *out,
                    ptrdiff_t stride)
{
    uint8_t *to = out;
    switch (size) {
    case 1: TAKE(uint8_t) break;
    case 2: TAKE(uint16_t) break;
    case 4: TAKE(uint32_t) break;
    default: TAKE(uint64_t) break;
    }
}

/* squash.c - see squash.h.
 *
 * Three divisions and a root a number: what the original does in twelve passes and as many temporary
 * matrices.  Built with -fno-math-errno, or else each root is a branch and nothing is a vector.
 */
#include "kernels/squash.h"

#include "kernels/parallel.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>

enum {
    TILE = 256,  /* rows of a column that are turned at a time */
    SLICE = 512, /* rows that one thread takes at a time */
    NARROW = 8,  /* columns below which a line of the row is no vector */
};

typedef struct squashing {
    const st_dense *x;
    const st_squash *s;
    char *out;
    ptrdiff_t out_row;
    size_t slices;
    atomic_bool lost;
} squashing;

/* A line of numbers in place; `step` is 0 where one column's values serve all, else 1.  Differences and
 * quotients are taken in double precision and rounded, which for operands of single precision is what single
 * precision gives; the original's scales may be wider than its matrix.  What is not finite is put right
 * afterwards: choosing in the first loop keeps it from becoming vectors. */
#define SQUASH_PARTS(T, WHOLE, ROOT, SIGN, MOST, line_of, slice_of)                                          \
    ST_INLINE bool line_of(T *restrict v, size_t n, size_t step, const double *restrict center,              \
                           const double *restrict by, const double *restrict times,                          \
                           const double *restrict plus, T limit)                                             \
    {                                                                                                        \
        T root[TILE], done[TILE];                                                                            \
        WHOLE odd = 0;                                                                                       \
        bool lost = false;                                                                                   \
        for (size_t i = 0; i < n; i++) {                                                                     \
            T z = (T)((double)v[i] - center[i * step]);                                                      \
            z = (T)((double)z / by[i * step]);                                                               \
            z = z * (T)times[i * step];                                                                      \
            z = z + (T)plus[i * step];                                                                       \
            T r = z / limit;                                                                                 \
            root[i] = ROOT((T)1 + r * r);                                                                    \
            done[i] = z / root[i];                                                                           \
        }                                                                                                    \
        for (size_t i = 0; i < n; i++)                                                                       \
            odd += !(root[i] <= (MOST));                                                                     \
        for (size_t i = 0; odd && i < n; i++) {                                                              \
            if (isinf(v[i]))                                                                                 \
                done[i] = SIGN(limit, v[i]);                                                                 \
            else if (!(root[i] <= (MOST)) && !isnan(v[i]))                                                   \
                lost = true;                                                                                 \
        }                                                                                                    \
        memcpy(v, done, n * sizeof *v);                                                                      \
        return lost;                                                                                         \
    }                                                                                                        \
                                                                                                             \
    ST_CLONES static bool slice_of(const st_dense *x, const st_squash *s, size_t begin, size_t end,          \
                                   bool in_rows, char *out, ptrdiff_t out_row)                               \
    {                                                                                                        \
        T limit = (T)s->limit, line[TILE];                                                                   \
        bool lost = false;                                                                                   \
        for (size_t i = begin; in_rows && i < end; i++) {                                                    \
            const char *from = x->data + (ptrdiff_t)i * x->row;                                              \
            char *to = out + (ptrdiff_t)i * out_row;                                                         \
            for (size_t j = 0; j < x->cols; j += TILE) {                                                     \
                size_t n = x->cols - j < TILE ? x->cols - j : TILE;                                          \
                memcpy(line, from + j * sizeof *line, n * sizeof *line);                                     \
                lost |= line_of(line, n, 1, s->center + j, s->by + j, s->times + j, s->plus + j, limit);     \
                memcpy(to + j * sizeof *line, line, n * sizeof *line);                                       \
            }                                                                                                \
        }                                                                                                    \
        for (size_t i = begin; !in_rows && i < end; i += TILE) {                                             \
            size_t n = end - i < TILE ? end - i : TILE;                                                      \
            for (size_t j = 0; j < x->cols; j++) {                                                           \
                const char *from = x->data + (ptrdiff_t)i * x->row + (ptrdiff_t)j * x->col;                  \
                char *to = out + (ptrdiff_t)i * out_row + (ptrdiff_t)(j * sizeof *line);                     \
                for (size_t k = 0; k < n; k++)                                                               \
                    memcpy(&line[k], from + (ptrdiff_t)k * x->row, sizeof *line);                            \
                lost |= line_of(line, n, 0, s->center + j, s->by + j, s->times + j, s->plus + j, limit);     \
                for (size_t k = 0; k < n; k++)                                                               \
                    memcpy(to + (ptrdiff_t)k * out_row, &line[k], sizeof *line);                             \
            }                                                                                                \
        }                                                                                                    \
        return lost;                                                                                         \
    }

SQUASH_PARTS(double, int64_t, sqrt, copysign, DBL_MAX, squash_f64, squash_slice_f64)
SQUASH_PARTS(float, int32_t, sqrtf, copysignf, FLT_MAX, squash_f32, squash_slice_f32)

static void squash_slice(void *ud, size_t k, unsigned worker)
{
    (void)worker;
    squashing *q = ud;
    const st_dense *x = q->x;
    size_t begin = st_block_at(x->rows, k, q->slices), end = st_block_at(x->rows, k + 1, q->slices);
    bool f64 = x->type == ST_F64,
         in_rows = x->col == (ptrdiff_t)(f64 ? sizeof(double) : sizeof(float)) && x->cols >= NARROW;
    bool lost = (f64 ? squash_slice_f64 : squash_slice_f32)(x, q->s, begin, end, in_rows, q->out, q->out_row);
    if (lost) atomic_store_explicit(&q->lost, true, memory_order_relaxed);
}

void st_columns_squash(const st_dense *x, const st_squash *s, unsigned threads, char *out, ptrdiff_t out_row,
                       bool *lost)
{
    squashing q = {.x = x, .s = s, .out = out, .out_row = out_row};
    atomic_init(&q.lost, false);
    q.slices = st_blocks(x->rows, SLICE, 64);
    st_parallel(threads, q.slices, squash_slice, &q);
    *lost = atomic_load(&q.lost);
}

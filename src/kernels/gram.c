/* gram.c - see gram.h.  Memory: from the caller's allocator, given back before returning.
 *
 * Rows go in blocks of DEPTH through a packed buffer (panels of eight columns, row after row), where
 * shift and weight are applied; tiles of products are then summed over the block in registers.  A product
 * is a plain sum over the rows of a block, so the shape of a tile does not show in the bits, and each level
 * of the processor has the shape that its registers hold.  Single precision is multiplied and summed over a
 * block in single precision, shifted before and added up in double: twice as fast, and more exact than
 * one sum over all rows.
 *
 * One pass: columns are shifted by the mean of a sample of rows, and the products corrected for what the
 * shift was off.  Where that was so much that digits would be lost, a second pass takes the true means.
 */
#include "kernels/gram.h"

#include "base/internal.h"
#include "kernels/parallel.h"

#include <math.h>

enum {
    PANEL = 8,
    DEPTH = 128,       /* rows of a packed block: two panels of 8 KiB and one more stay in the first cache */
    LEAST_ROWS = 4096, /* of a chunk of rows, the unit of work of a thread */
    MOST_CHUNKS = 16,
    SAMPLE = 256,
    LINE = 64,
};

typedef void (*tile_fn)(const void *a, const void *b, size_t rows, double *c, size_t pitch);

typedef struct pass {
    const st_gram_in *in;
    const double *shift; /* one for each packed column */
    size_t q, width;     /* packed columns without and with padding */
    size_t chunks;
    double *packed, *sums; /* one a worker, one a chunk */
    tile_fn tiles;
} pass;

/* c[8 x 16] += a[rows x 8]' b[rows x 16], b being two panels of numbers of type T. */
#define TILE(name, attribute, V, T, R, N)                                                                    \
    attribute static void name(const void *pa0, const void *pb0, size_t rows, double *restrict c,            \
                               size_t pitch)                                                                 \
    {                                                                                                        \
        enum { W = (int)(sizeof(V) / sizeof(T)) };                                                           \
        const T *restrict b = pb0;                                                                           \
        for (int i0 = 0; i0 < PANEL; i0 += (R))                                                              \
            for (int j0 = 0; j0 < 2 * PANEL; j0 += (N) * W) {                                                \
                V acc[R][N];                                                                                 \
                for (int i = 0; i < (R); i++)                                                                \
                    for (int j = 0; j < (N); j++)                                                            \
                        acc[i][j] = (V){0};                                                                  \
                const T *restrict pa = (const T *)pa0 + i0;                                                  \
                for (size_t r = 0; r < rows; r++, pa += PANEL) {                                             \
                    V vb[N];                                                                                 \
                    _Pragma("GCC unroll 16") for (int j = 0; j < (N); j++)                                   \
                    {                                                                                        \
                        int at = j0 + j * W;                                                                 \
                        memcpy(&vb[j], b + (size_t)(at / PANEL) * DEPTH * PANEL + r * PANEL + at % PANEL,    \
                               sizeof(V));                                                                   \
                    }                                                                                        \
                    _Pragma("GCC unroll 16") for (int i = 0; i < (R); i++)                                   \
                    {                                                                                        \
                        _Pragma("GCC unroll 16") for (int j = 0; j < (N); j++) acc[i][j] += pa[i] * vb[j];   \
                    }                                                                                        \
                }                                                                                            \
                _Pragma("GCC unroll 16") for (int i = 0; i < (R); i++)                                       \
                {                                                                                            \
                    _Pragma("GCC unroll 16") for (int j = 0; j < (N); j++)                                   \
                    {                                                                                        \
                        double *to = c + (size_t)(i0 + i) * pitch + (size_t)(j0 + j * W);                    \
                        for (int k = 0; k < W; k++)                                                          \
                            to[k] += (double)acc[i][j][k];                                                   \
                    }                                                                                        \
                }                                                                                            \
            }                                                                                                \
    }

typedef double v2 __attribute__((vector_size(16)));
typedef float f4 __attribute__((vector_size(16)));

TILE(tile_base, , v2, double, 4, 2)
TILE(narrow_base, , f4, float, 4, 2)

#if defined(__x86_64__) && defined(__GNUC__) && !defined(ST_BASELINE)
typedef double v4 __attribute__((vector_size(32)));
typedef float f8 __attribute__((vector_size(32)));
#define AVX512 __attribute__((target("avx512f,avx512dq,avx512vl")))
TILE(tile_avx2, __attribute__((target("avx2"))), v4, double, 4, 2)
TILE(narrow_avx2, __attribute__((target("avx2"))), f8, float, 4, 2)
TILE(tile_avx512, AVX512, st_v8, double, 8, 2)
TILE(narrow_avx512, AVX512, f8, float, 8, 2)

static tile_fn choose_tile(st_real type)
{
    bool narrow = type == ST_F32;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return narrow ? narrow_avx512 : tile_avx512;
    if (__builtin_cpu_supports("avx2")) return narrow ? narrow_avx2 : tile_avx2;
    return narrow ? narrow_base : tile_base;
}
#else
static tile_fn choose_tile(st_real type) { return type == ST_F32 ? narrow_base : tile_base; }
#endif

/* One column (or part of a panel that is not whole) of a block. */
static void pack_column(const st_dense *m, size_t j, size_t row, size_t n, double shift,
                        const double *restrict root, double *restrict to)
{
    const char *p = m->data + (ptrdiff_t)row * m->row + (ptrdiff_t)j * m->col;
    if (m->type == ST_F64 && m->row == (ptrdiff_t)sizeof(double)) {
        const double *v = (const double *)(const void *)p;
        for (size_t r = 0; r < n; r++)
            to[r * PANEL] = (v[r] - shift) * root[r];
    } else
        for (size_t r = 0; r < n; r++)
            to[r * PANEL] = (st_dense_at(m, row + r, j) - shift) * root[r];
}

/* Whole panels of a matrix whose rows lie together. */
ST_CLONES static void pack_panels(const st_dense *m, size_t panels, size_t row, size_t n, bool weighted,
                                  const double *restrict shift, const double *restrict root,
                                  double *restrict to)
{
    for (size_t r = 0; r < n; r++) {
        const char *p = m->data + (ptrdiff_t)(row + r) * m->row;
        double w = root[r];
        for (size_t k = 0; k < panels; k++) {
            st_v8 v, s;
            st_v8_load(&s, shift + k * PANEL);
            if (m->type == ST_F64)
                st_v8_load(&v, (const double *)(const void *)p + k * PANEL);
            else
                st_v8_widen(&v, (const float *)(const void *)p + k * PANEL);
            v -= s;
            if (weighted) v *= w;
            st_v8_store(to + k * DEPTH * PANEL + r * PANEL, &v);
        }
    }
}

static void pack(const pass *p, size_t row, size_t n, double *to)
{
    const st_gram_in *in = p->in;
    double root[DEPTH];
    for (size_t r = 0; r < n; r++)
        root[r] = in->weight ? sqrt(in->weight[row + r]) : 1.0;
    ptrdiff_t item = in->x.type == ST_F64 ? (ptrdiff_t)sizeof(double) : (ptrdiff_t)sizeof(float);
    size_t j = 0;
    if (in->x.col == item) {
        j = in->x.cols / PANEL;
        pack_panels(&in->x, j, row, n, in->weight != NULL, p->shift, root, to);
        j *= PANEL;
    }
    for (; j < p->width; j++) {
        double *at = to + j / PANEL * DEPTH * PANEL + j % PANEL;
        if (j < in->x.cols)
            pack_column(&in->x, j, row, n, p->shift[j], root, at);
        else if (j < p->q - 1)
            pack_column(&in->y, j - in->x.cols, row, n, p->shift[j], root, at);
        else
            for (size_t r = 0; r < n; r++)
                at[r * PANEL] = j == p->q - 1 ? root[r] : 0.0;
    }
}

/* Doubles become floats in their place. */
ST_CLONES static void narrow(double *packed, size_t n)
{
    char *to = (char *)packed;
    for (size_t i = 0; i < n; i += PANEL) {
        float f[PANEL];
        for (size_t k = 0; k < PANEL; k++)
            f[k] = (float)packed[i + k];
        memcpy(to + i * sizeof(float), f, sizeof f);
    }
}

static void chunk(void *ud, size_t c, unsigned worker)
{
    const pass *p = ud;
    double *packed = p->packed + (size_t)worker * p->width * DEPTH, *sums = p->sums + c * p->width * p->width;
    memset(sums, 0, p->width * p->width * sizeof *sums);
    size_t end = st_block_at(p->in->x.rows, c + 1, p->chunks);
    for (size_t row = st_block_at(p->in->x.rows, c, p->chunks); row < end; row += DEPTH) {
        size_t n = end - row < DEPTH ? end - row : DEPTH;
        pack(p, row, n, packed);
        size_t item = sizeof(double);
        if (p->in->x.type == ST_F32) {
            narrow(packed, p->width * DEPTH);
            item = sizeof(float);
        }
        for (size_t i = 0; i < p->width; i += PANEL)
            for (size_t j = i / (2 * PANEL) * 2 * PANEL; j < p->width; j += 2 * PANEL)
                p->tiles((const char *)packed + i * DEPTH * item, (const char *)packed + j * DEPTH * item, n,
                         sums + i * p->width + j, p->width);
    }
}

/* The sums of one pass over the rows, with the shifts of `p`: into the first chunk's square. */
static void run_pass(pass *p, unsigned threads)
{
    st_parallel(threads, p->chunks, chunk, p);
    size_t square = p->width * p->width;
    for (size_t c = 1; c < p->chunks; c++)
        for (size_t i = 0; i < square; i++)
            p->sums[i] += p->sums[c * square + i];
}

/* A guess at each mean.  Differences from the first row, so that a constant column is met exactly. */
static void guess(const st_gram_in *in, double *shift)
{
    size_t n = in->x.rows, q = in->x.cols + in->y.cols, k = n < SAMPLE ? n : SAMPLE;
    for (size_t j = 0; j < q && n; j++) {
        const st_dense *m = j < in->x.cols ? &in->x : &in->y;
        size_t at = j < in->x.cols ? j : j - in->x.cols;
        double first = st_dense_at(m, 0, at), sum = 0;
        for (size_t s = 0; s < k; s++)
            sum += st_dense_at(m, st_block_at(n, s, k), at) - first;
        shift[j] = first + sum / (double)k;
        if (!isfinite(shift[j])) shift[j] = 0; /* the sums will tell */
    }
}

/* Products around the true means, from sums around the shifts; false: the shifts were too far off. */
static bool finish(const pass *p, st_gram_out *out)
{
    size_t q = p->q - 1, last = p->q - 1;
    const double *s = p->sums;
    double total = s[last * p->width + last];
    bool near = true;
    out->weight = total;
    for (size_t i = 0; i < q; i++) {
        double si = s[i * p->width + last], off = p->in->center ? si / total : 0;
        out->mean[i] = p->in->center ? p->shift[i] + off : 0;
        for (size_t j = i; j < q; j++) {
            double v = s[i * p->width + j];
            if (p->in->center) v -= off * s[j * p->width + last];
            out->product[i * q + j] = out->product[j * q + i] = v;
        }
        /* four bits may go; what is finite neither way needs no second look */
        double lost = off * si;
        if (lost > 16 * out->product[i * q + i] && isfinite(lost)) near = false;
    }
    return near;
}

int st_gram(const st_alloc *a, const st_gram_in *in, unsigned threads, st_gram_out *out)
{
    pass p = {.in = in, .q = in->x.cols + in->y.cols + 1, .tiles = choose_tile(in->x.type)};
    p.width = (p.q + 2 * PANEL - 1) / (2 * PANEL) * 2 * PANEL;
    /* many columns: fewer chunks, because each has a square of sums (at most 32 MiB of them) */
    size_t square = p.width * p.width, most = ((size_t)1 << 22) / square;
    p.chunks = st_blocks(in->x.rows, LEAST_ROWS, most < 1 ? 1 : most > MOST_CHUNKS ? MOST_CHUNKS : most);
    if (threads < 1) threads = 1;
    if (threads > ST_MAX_THREADS) threads = ST_MAX_THREADS;
    if (threads > p.chunks) threads = (unsigned)p.chunks;
    double *shift = st_mem_zero(a, p.width * sizeof(double));
    /* on a cache line: a load of eight would touch two at any other place (a quarter of the time) */
    void *packed = st_mem_new(a, threads * p.width * DEPTH * sizeof(double) + LINE);
    p.packed = packed ? (double *)(((uintptr_t)packed + LINE - 1) / LINE * LINE) : NULL;
    p.sums = st_mem_new(a, p.chunks * square * sizeof(double));
    int rc = shift && p.packed && p.sums ? ST_OK : ST_ENOMEM;
    if (rc == ST_OK) {
        p.shift = shift;
        if (in->center) guess(in, shift);
        run_pass(&p, threads);
        if (!finish(&p, out)) {
            memcpy(shift, out->mean, (p.q - 1) * sizeof *shift);
            run_pass(&p, threads);
            (void)finish(&p, out);
        }
    }
    st_mem_free(a, shift);
    st_mem_free(a, packed);
    st_mem_free(a, p.sums);
    return rc;
}

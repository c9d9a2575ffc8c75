/* gram.c - see gram.h.  Memory: from the caller's allocator, given back before returning.
 *
 * Rows go in blocks of DEPTH through a packed buffer (one row after the other, padded to panels of eight
 * columns), where shift and weight are applied; tiles of products are then summed over the block in
 * registers.  A product is a plain sum over the rows of a block, so the shape of a tile does not show in the
 * bits, and each processor has the shape that suits it.  Measured on Zen 4 (59 GFLOP/s a core, with as
 * without fused operations), share of that: eight lanes 8 x 2 71 %, 8 x 3 77 %, 4 x 6 85 %, four lanes 4 x 6
 * 94 %: there, spreading a number over eight lanes takes the place of an addition.  Three panels to the right
 * stay in the first cache while those to the left pass by, and only panels on or above the diagonal are
 * computed. Single precision is multiplied and summed over a block in single precision, shifted before and
 * added up in double: twice as fast, and more exact than one sum over all rows.
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
    DEPTH = 96, /* rows of a packed block: three panels (24 KiB with a fourth) stay in the first cache */
    LEAST_ROWS = 4096, /* of a chunk of rows, the unit of work of a thread */
    MOST_CHUNKS = 16,
    SAMPLE = 256,
};

/* c[8 x 8 panels] += a[rows x 8]' b[rows x 8 panels]; `pitch`, `to`: numbers from row to row. */
typedef void (*tile_fn)(const void *a, const void *b, size_t rows, size_t pitch, size_t panels, double *c,
                        size_t to);

typedef struct pass {
    const st_gram_in *in;
    const double *shift;    /* one for each packed column */
    size_t q, width, pitch; /* packed columns without and with padding; from row to row */
    size_t chunks, panels;  /* panels: of a tile */
    double *packed, *sums;  /* one a worker, one a chunk */
    tile_fn tiles;
} pass;

/* c[R x 8 P]: what stays in registers. */
#define PART(name, attribute, V, T, R, P)                                                                    \
    attribute static inline void name(const T *restrict a, const T *restrict b, size_t rows, size_t pitch,   \
                                      double *restrict c, size_t to)                                         \
    {                                                                                                        \
        enum { W = (int)(sizeof(V) / sizeof(T)), N = (P) * PANEL / W };                                      \
        typedef double wide __attribute__((vector_size(sizeof(V) / sizeof(T) * sizeof(double))));            \
        V acc[R][N];                                                                                         \
        _Pragma("GCC unroll 32") for (int k = 0; k < (R) * N; k++) acc[k / N][k % N] = (V){0};               \
        for (size_t r = 0; r < rows; r++, a += pitch, b += pitch) {                                          \
            _Pragma("GCC unroll 32") for (int j = 0; j < N; j++)                                             \
            {                                                                                                \
                V v;                                                                                         \
                memcpy(&v, b + j * W, sizeof v);                                                             \
                _Pragma("GCC unroll 32") for (int i = 0; i < (R); i++) acc[i][j] += a[i] * v;                \
            }                                                                                                \
        }                                                                                                    \
        _Pragma("GCC unroll 32") for (int k = 0; k < (R) * N; k++)                                           \
        {                                                                                                    \
            double *at = c + (size_t)(k / N) * to + (size_t)(k % N) * W;                                     \
            wide sum;                                                                                        \
            memcpy(&sum, at, sizeof sum);                                                                    \
            sum += __builtin_convertvector(acc[k / N][k % N], wide);                                         \
            memcpy(at, &sum, sizeof sum);                                                                    \
        }                                                                                                    \
    }

/* A tile of blocks: those of P panels with R rows each, then of Q with S, then of one with U. */
#define TILE(name, attribute, V, T, P, R, Q, S, U)                                                           \
    PART(name##_most, attribute, V, T, R, P)                                                                 \
    PART(name##_some, attribute, V, T, S, Q)                                                                 \
    PART(name##_one, attribute, V, T, U, 1)                                                                  \
    attribute static void name(const void *pa, const void *pb, size_t rows, size_t pitch, size_t panels,     \
                               double *c, size_t to)                                                         \
    {                                                                                                        \
        const T *a = pa, *b = pb;                                                                            \
        for (; panels >= (P); panels -= (P), b += (P) * PANEL, c += (P) * PANEL)                             \
            for (size_t i = 0; i < PANEL; i += (R))                                                          \
                name##_most(a + i, b, rows, pitch, c + i * to, to);                                          \
        for (; panels >= (Q); panels -= (Q), b += (Q) * PANEL, c += (Q) * PANEL)                             \
            for (size_t i = 0; i < PANEL; i += (S))                                                          \
                name##_some(a + i, b, rows, pitch, c + i * to, to);                                          \
        for (; panels > 0; panels--, b += PANEL, c += PANEL)                                                 \
            for (size_t i = 0; i < PANEL; i += (U))                                                          \
                name##_one(a + i, b, rows, pitch, c + i * to, to);                                           \
    }

typedef double v2 __attribute__((vector_size(16)));
typedef float f4 __attribute__((vector_size(16)));

TILE(tile_base, , v2, double, 1, 2, 1, 2, 2)
TILE(narrow_base, , f4, float, 2, 2, 1, 4, 4)

#if defined(__x86_64__) && defined(__GNUC__) && !defined(ST_BASELINE)
#include <cpuid.h>
typedef double v4 __attribute__((vector_size(32)));
typedef float f8 __attribute__((vector_size(32)));
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512dq,avx512vl")))
TILE(tile_avx2, AVX2, v4, double, 3, 2, 2, 2, 4)
TILE(narrow_avx2, AVX2, f8, float, 6, 2, 3, 4, 8)
TILE(tile_avx512, AVX512, st_v8, double, 3, 8, 2, 8, 8)
TILE(narrow_avx512, AVX512, f8, float, 6, 4, 3, 8, 8)
TILE(tile_halved, AVX512, v4, double, 3, 4, 2, 4, 4)
TILE(narrow_halved, AVX512, f8, float, 6, 4, 3, 8, 8)

/* AMD before Zen 5 does eight lanes in two halves. */
static bool halves(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__builtin_cpu_is("amd") || !__get_cpuid(1, &a, &b, &c, &d)) return false;
    return (a >> 8 & 15) + (a >> 20 & 255) < 0x1a;
}

static tile_fn choose_tile(st_real type)
{
    bool single = type == ST_F32;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        if (halves()) return single ? narrow_halved : tile_halved;
        return single ? narrow_avx512 : tile_avx512;
    }
    if (__builtin_cpu_supports("avx2")) return single ? narrow_avx2 : tile_avx2;
    return single ? narrow_base : tile_base;
}
#else
static tile_fn choose_tile(st_real type) { return type == ST_F32 ? narrow_base : tile_base; }
#endif

/* Eight shifted and weighted numbers, into the packed buffer of `type`. */
ST_INLINE void put(void *packed, size_t at, st_v8 *v, const double *shift, double root, bool weighted,
                   st_real type)
{
    st_v8 s;
    st_v8_load(&s, shift);
    *v -= s;
    if (weighted) *v *= root;
    if (type == ST_F64) {
        st_v8_store((double *)packed + at, v);
        return;
    }
    float f[PANEL];
    for (int i = 0; i < PANEL; i++)
        f[i] = (float)(*v)[i];
    memcpy((float *)packed + at, f, sizeof f);
}

/* `n` rows from `row` on: X, Y, ones, each times the root of the row's weight, zeros.  Panel by panel where
 * the columns of X lie together: then eight of them are read one row after the other. */
ST_INLINE void pack_as(const pass *p, size_t row, size_t n, void *to, st_real type, bool lines)
{
    const st_dense *x = &p->in->x, *y = &p->in->y;
    bool weighted = p->in->weight != NULL;
    size_t whole = x->cols / PANEL;
    double root[DEPTH], some[PANEL];
    st_v8 v;
    for (size_t r = 0; r < n; r++)
        root[r] = weighted ? sqrt(p->in->weight[row + r]) : 1.0;
    const char *from = x->data + (ptrdiff_t)row * x->row;
    for (size_t k = 0; k < whole && !lines; k++)
        for (size_t r = 0; r < n; r++) {
            const char *at = from + (ptrdiff_t)r * x->row + (ptrdiff_t)(k * PANEL) * x->col;
            for (size_t i = 0; i < PANEL; i++, at += x->col)
                some[i] = st_real_at(at, type);
            st_v8_load(&v, some);
            put(to, r * p->pitch + k * PANEL, &v, p->shift + k * PANEL, root[r], weighted, type);
        }
    for (size_t r = 0; r < n; r++, from += x->row) {
        for (size_t k = 0; k < whole && lines; k++) {
            if (type == ST_F64)
                st_v8_load(&v, (const double *)(const void *)from + k * PANEL);
            else
                st_v8_widen(&v, (const float *)(const void *)from + k * PANEL);
            put(to, r * p->pitch + k * PANEL, &v, p->shift + k * PANEL, root[r], weighted, type);
        }
        for (size_t j = whole * PANEL; j < p->width; j++) {
            double one = j < x->cols    ? st_real_at(from + (ptrdiff_t)j * x->col, type)
                         : j < p->q - 1 ? st_dense_at(y, row + r, j - x->cols)
                         : j < p->q     ? 1.0
                                        : 0.0;
            one = (one - p->shift[j]) * root[r];
            if (type == ST_F64)
                ((double *)to)[r * p->pitch + j] = one;
            else
                ((float *)to)[r * p->pitch + j] = (float)one;
        }
    }
}

ST_CLONES static void pack(const pass *p, size_t row, size_t n, void *to)
{
    bool single = p->in->x.type == ST_F32;
    if (p->in->x.col == (ptrdiff_t)(single ? sizeof(float) : sizeof(double))) {
        if (single)
            pack_as(p, row, n, to, ST_F32, true);
        else
            pack_as(p, row, n, to, ST_F64, true);
    } else if (single)
        pack_as(p, row, n, to, ST_F32, false);
    else
        pack_as(p, row, n, to, ST_F64, false);
}

static void chunk(void *ud, size_t c, unsigned worker)
{
    const pass *p = ud;
    char *packed = (char *)(p->packed + (size_t)worker * p->pitch * DEPTH);
    double *sums = p->sums + c * p->width * p->width;
    size_t item = p->in->x.type == ST_F32 ? sizeof(float) : sizeof(double);
    memset(sums, 0, p->width * p->width * sizeof *sums);
    const st_dense *x = &p->in->x;
    bool dense = x->col == (ptrdiff_t)item && x->row > 0 && (size_t)x->row < 2 * x->cols * item;
    size_t tiles = 0, step = p->panels * PANEL;
    for (size_t j = 0; j < p->width; j += step)
        tiles += (j + step < p->width ? j + step : p->width) / PANEL;
    size_t end = st_block_at(p->in->x.rows, c + 1, p->chunks);
    for (size_t row = st_block_at(p->in->x.rows, c, p->chunks); row < end; row += DEPTH) {
        size_t n = end - row < DEPTH ? end - row : DEPTH;
        pack(p, row, n, packed);
        /* the rows that come next, while this block is computed with: each tile asks for its share of lines
         */
        const char *next = x->data + (ptrdiff_t)(row + n) * x->row;
        size_t ask = row + n < end && dense ? n * (size_t)x->row / tiles / ST_LINE + 1 : 0;
        for (size_t j = 0; j < p->width; j += step) {
            size_t last = j + step < p->width ? j + step : p->width;
            for (size_t i = 0; i < last; i += PANEL) {
                size_t from = i < j ? j : i;
                for (size_t k = 0; k < ask; k++, next += ST_LINE)
                    __builtin_prefetch(next, 0, 2);
                p->tiles(packed + i * item, packed + from * item, n, p->pitch, (last - from) / PANEL,
                         sums + i * p->width + from, p->width);
            }
        }
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
    p.width = (p.q + PANEL - 1) / PANEL * PANEL;
    p.pitch = p.width | PANEL; /* an odd number of lines, so that rows spread over all of the cache */
    p.panels = in->x.type == ST_F32 ? 6 : 3;
    /* many columns: fewer chunks, because each has a square of sums (at most 32 MiB of them) */
    size_t square = p.width * p.width, most = ((size_t)1 << 22) / square;
    p.chunks = st_blocks(in->x.rows, LEAST_ROWS, most < 1 ? 1 : most > MOST_CHUNKS ? MOST_CHUNKS : most);
    if (threads < 1) threads = 1;
    if (threads > ST_MAX_THREADS) threads = ST_MAX_THREADS;
    if (threads > p.chunks) threads = (unsigned)p.chunks;
    double *shift = st_mem_zero(a, p.width * sizeof(double));
    /* on a cache line: a load of eight would touch two at any other place (a quarter of the time) */
    void *packed = st_mem_new(a, threads * p.pitch * DEPTH * sizeof(double) + ST_LINE);
    void *sums = st_mem_new(a, p.chunks * square * sizeof(double) + ST_LINE);
    int rc = shift && packed && sums ? ST_OK : ST_ENOMEM;
    if (rc == ST_OK) {
        p.packed = (double *)(((uintptr_t)packed + ST_LINE - 1) / ST_LINE * ST_LINE);
        p.sums = (double *)(((uintptr_t)sums + ST_LINE - 1) / ST_LINE * ST_LINE);
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
    st_mem_free(a, sums);
    return rc;
}

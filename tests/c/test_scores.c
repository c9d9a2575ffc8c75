/* test_scores.c - sums by class and what scores of predictions need: against plain loops, in every layout, at
 * any number of threads, with each allocation failing in turn, and bit for bit as compiled for the baseline
 * processor. */
#include "check.h"

#include "kernels/counts.h"
#include "kernels/metrics.h"

#include <math.h>

/* The same kernels once more, without the code for newer processors. */
#undef ST_CLONES
#define ST_CLONES
#define st_counts base_counts
#define st_metric_residuals base_metric_residuals
#define st_metric_ranking base_metric_ranking
#define st_metric_pairs base_metric_pairs
#define st_metric_picked base_metric_picked
int base_counts(const st_alloc *a, const st_counts_in *in, unsigned threads, double *sums, int *met);
void base_metric_residuals(size_t n, const double *y, const double *p, const double *w, st_residuals *out);
int base_metric_ranking(const st_alloc *a, size_t n, const double *score, const uint8_t *positive,
                        const double *w, st_ranking *out);
bool base_metric_pairs(size_t n, const int64_t *a, const int64_t *b, int64_t low, size_t k, const double *w,
                       double *counts);
bool base_metric_picked(const st_dense *x, const uint32_t *codes, double *out);
#include "kernels/counts.c"
#include "kernels/metrics.c"
#undef st_counts
#undef st_metric_residuals
#undef st_metric_ranking
#undef st_metric_pairs
#undef st_metric_picked

static double uniform(uint64_t *seed) { return (double)(random_next(seed) >> 11) * 0x1p-53; }

static void *some(size_t n, size_t size)
{
    void *p = malloc((n + 1) * size);
    CHECK(p != NULL);
    return p;
}

/* -- Sums by class -------------------------------------------------------------------------- */

enum { ROWS = 700, COLS = 131, CLASSES = 3 };

/* `in` at every number of threads, and for the baseline, against sums made one row after the other. */
static void same_sums(const st_counts_in *in, const double *want, int met)
{
    double *sums = some(in->classes * in->cols, sizeof *sums);
    for (unsigned threads = 0; threads < 6; threads++) {
        int seen = -1;
        OK(threads ? st_counts(&meter, in, threads, sums, &seen) : base_counts(&meter, in, 2, sums, &seen));
        CHECK_INT(seen, met);
        CHECK(memcmp(sums, want, in->classes * in->cols * sizeof *sums) == 0);
    }
    free(sums);
}

static void dense_counts(void)
{
    static const size_t sizes[] = {8, 4, 8, 4};
    uint64_t seed = 5;
    static const size_t widths[] = {1, 7, 8, 64, COLS};
    uint32_t codes[ROWS];
    double *w = some(ROWS, sizeof *w), *want = some(CLASSES * COLS, sizeof *want);
    char *data = some(ROWS * COLS, sizeof(double));
    for (size_t r = 0; r < ROWS; r++) {
        codes[r] = (uint32_t)(random_next(&seed) % CLASSES);
        w[r] = uniform(&seed);
    }
    for (int type = 0; type < 4; type++)
        for (size_t s = 0; s < 5; s++)
            for (int how = 0; how < 4; how++) {
                size_t p = widths[s], size = sizes[type];
                bool lines = how & 1, weighted = how & 2;
                st_counts_in in = {.data = data,
                                   .type = (st_count_type)type,
                                   .rows = ROWS,
                                   .cols = p,
                                   .row = (ptrdiff_t)(lines ? p * size : size),
                                   .col = (ptrdiff_t)(lines ? size : ROWS * size),
                                   .codes = codes,
                                   .classes = CLASSES,
                                   .weight = weighted ? w : NULL};
                memset(want, 0, CLASSES * p * sizeof *want);
                for (size_t r = 0; r < ROWS; r++)
                    for (size_t j = 0; j < p; j++) {
                        char *at = data + (ptrdiff_t)r * in.row + (ptrdiff_t)j * in.col;
                        int64_t whole = (int64_t)(random_next(&seed) % 9);
                        double d = type < 2 ? (double)(float)((double)whole * 0.3) : (double)whole;
                        float f = (float)d;
                        int32_t i = (int32_t)whole;
                        const void *from = type == 0   ? (const void *)&d
                                           : type == 1 ? (const void *)&f
                                           : type == 2 ? (const void *)&whole
                                                       : (const void *)&i;
                        memcpy(at, from, size);
                        want[codes[r] * p + j] += d * (weighted ? w[r] : 1);
                    }
                same_sums(&in, want, type < 2 ? ST_COUNTS_FRACTIONS : 0);
            }
    free(w);
    free(want);
    free(data);
}

static void sparse_counts(void)
{
    uint64_t seed = 6;
    uint32_t codes[ROWS];
    double *w = some(ROWS, sizeof *w), *want = some(CLASSES * COLS, sizeof *want);
    double *data = some(ROWS * 9, sizeof *data);
    int32_t *index = some(ROWS * 9, sizeof *index), *begin = some(ROWS + 1, sizeof *begin);
    int64_t *wide = some(ROWS * 9, sizeof *wide), *first = some(ROWS + 1, sizeof *first);
    size_t n = 0;
    for (int weighted = 0; weighted < 2; weighted++) {
        memset(want, 0, CLASSES * COLS * sizeof *want);
        n = 0;
        for (size_t r = 0; r < ROWS; r++) {
            codes[r] = r % 10 ? 1 : (uint32_t)(random_next(&seed) % CLASSES); /* most rows are of one class */
            w[r] = uniform(&seed);
            first[r] = begin[r] = (int32_t)n;
            for (size_t k = random_next(&seed) % 9; k > 0; k--, n++) { /* (a column may come twice) */
                wide[n] = index[n] = (int32_t)(random_next(&seed) % COLS);
                data[n] = uniform(&seed);
                want[codes[r] * COLS + (size_t)index[n]] += data[n] * (weighted ? w[r] : 1);
            }
        }
        first[ROWS] = begin[ROWS] = (int32_t)n;
        st_counts_in in = {.data = (const char *)data,
                           .type = ST_COUNT_F64,
                           .rows = ROWS,
                           .cols = COLS,
                           .indptr = begin,
                           .column = index,
                           .stored = n,
                           .codes = codes,
                           .classes = CLASSES,
                           .weight = weighted ? w : NULL};
        same_sums(&in, want, ST_COUNTS_FRACTIONS);
        in.indptr = first;
        in.column = wide;
        in.wide = true;
        same_sums(&in, want, ST_COUNTS_FRACTIONS);
        /* what is not there */
        int met;
        for (int i = 0; i < 5; i++) {
            int64_t *at = i < 2 ? wide + n / 2 : i < 4 ? first + 3 : NULL, kept = at ? *at : 0;
            if (at) *at = i == 0 ? COLS : i == 1 ? -1 : i == 2 ? (int64_t)n + 1 : -1;
            if (!at) codes[7] = CLASSES;
            CHECK_INT(st_counts(&meter, &in, 2, want, &met), ST_EINVAL);
            if (at) *at = kept;
        }
        codes[7] = 0;
    }
    free(w);
    free(want);
    free(data);
    free(index);
    free(begin);
    free(wide);
    free(first);
}

static void refused_counts(void)
{
    static const double bad[] = {-1e-300, NAN, INFINITY, -INFINITY};
    static const uint32_t codes[2] = {0, 0};
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 11; j++) {
            double x[22] = {0}, sums[11];
            x[11 + j] = bad[i];
            st_counts_in in = {.data = (const char *)x,
                               .rows = 2,
                               .cols = 11,
                               .row = 11 * sizeof *x,
                               .col = sizeof *x,
                               .codes = codes,
                               .classes = 1};
            int met = 0;
            OK(st_counts(&meter, &in, 2, sums, &met));
            CHECK(met & ST_COUNTS_BAD);
        }
    double none, one = -0.0;
    int met = -1;
    st_counts_in in = {.data = (const char *)&one, .codes = codes, .classes = 1};
    OK(st_counts(&meter, &in, 2, &none, &met)); /* nothing at all */
    CHECK_INT(met, 0);
    in.rows = in.cols = 1;
    in.col = in.row = sizeof one;
    OK(st_counts(&meter, &in, 2, &none, &met));
    CHECK(met == 0 && none == 0);
}

/* -- Scores --------------------------------------------------------------------------------- */

static void residuals(void)
{
    uint64_t seed = 7;
    for (size_t n = 1; n < 9000; n = n * 3 + 1)
        for (int weighted = 0; weighted < 2; weighted++) {
            double *y = some(n, sizeof *y), *p = some(n, sizeof *p), *w = some(n, sizeof *w);
            long double total = 0, sum = 0, squares = 0, absolute = 0, spread = 0;
            for (size_t i = 0; i < n; i++) {
                y[i] = 1e3 + uniform(&seed);
                p[i] = 1e3 + uniform(&seed);
                w[i] = weighted ? uniform(&seed) : 1;
                total += w[i];
                sum += (long double)w[i] * y[i];
                squares += (long double)w[i] * (y[i] - p[i]) * (y[i] - p[i]);
                absolute += (long double)w[i] * fabs(y[i] - p[i]);
            }
            for (size_t i = 0; i < n; i++)
                spread += w[i] * (y[i] - sum / total) * (y[i] - sum / total);
            st_residuals r, base;
            st_metric_residuals(n, y, p, weighted ? w : NULL, &r);
            base_metric_residuals(n, y, p, weighted ? w : NULL, &base);
            CHECK(memcmp(&r, &base, sizeof r) == 0);
            CHECK(fabs(r.weight - (double)total) <= 1e-12 * (double)total);
            CHECK(fabs(r.mean - (double)(sum / total)) <= 1e-10);
            CHECK(fabs(r.squares - (double)squares) <= 1e-12 * (double)squares);
            CHECK(fabs(r.absolute - (double)absolute) <= 1e-12 * (double)absolute);
            CHECK(fabs(r.spread - (double)spread) <= 1e-9 * (double)spread + 1e-18);
            y[n / 2] = NAN;
            st_metric_residuals(n, y, p, NULL, &r);
            CHECK(isnan(r.squares) && isnan(r.absolute));
            free(y);
            free(p);
            free(w);
        }
}

/* The area by comparing every positive with every negative, the precision by asking each threshold. */
static void ranking_of(size_t n, const double *score, const uint8_t *positive, const double *w)
{
    double yes = 0, no = 0, area = 0, precision = 0;
    for (size_t i = 0; i < n; i++) {
        double wi = w ? w[i] : 1, above_yes = 0, above_no = 0;
        yes += positive[i] ? wi : 0;
        no += positive[i] ? 0 : wi;
        if (!positive[i]) continue;
        for (size_t j = 0; j < n; j++) {
            double wj = w ? w[j] : 1;
            if (score[j] >= score[i]) *(positive[j] ? &above_yes : &above_no) += wj;
            if (!positive[j]) area += wi * wj * (score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0);
        }
        precision += wi > 0 ? wi * (above_yes / (above_yes + above_no)) : 0;
    }
    st_ranking r, base;
    OK(st_metric_ranking(&meter, n, score, positive, w, &r));
    OK(base_metric_ranking(&meter, n, score, positive, w, &base));
    CHECK(memcmp(&r, &base, sizeof r) == 0);
    CHECK(fabs(r.positives - yes) <= 1e-12 * yes && fabs(r.negatives - no) <= 1e-12 * no);
    if (yes > 0 && no > 0) CHECK(fabs(r.area - area / (yes * no)) <= 1e-12);
    if (yes > 0 && no > 0 && !w) CHECK(r.area == area / (yes * no));
    if (yes > 0) CHECK(fabs(r.precision - precision / yes) <= 1e-12);
}

static void rankings(void)
{
    uint64_t seed = 8;
    enum { MOST = 900 };
    double score[MOST], w[MOST];
    uint8_t positive[MOST];
    for (int kind = 0; kind < 9; kind++)
        for (size_t n = 0; n <= MOST; n = n * 4 + 1)
            for (int share = 0; share < 4; share++) {
                for (size_t i = 0; i < n; i++) {
                    double u = uniform(&seed), v = uniform(&seed);
                    score[i] = kind == 0   ? u
                               : kind == 1 ? u - 0.5
                               : kind == 2 ? floor(u * 5) - 2
                               : kind == 3 ? 1 + u * 1e-13                       /* close together */
                               : kind == 4 ? (u < 0.01 ? -1e300 : 1 + u * 1e-13) /* but for a few */
                               : kind == 5 ? (u < 0.5 ? 0.0 : -0.0)
                               : kind == 6 ? ldexp(u - 0.5, (int)(v * 2000) - 1000)
                               : kind == 7 ? 5e-324 * floor(u * 40)
                                           : 0.25;
                    positive[i] = (uint8_t)(uniform(&seed) * 3 < share ? 1 + (i & 1) : 0);
                    w[i] = u < 0.1 ? 0 : v;
                }
                ranking_of(n, score, positive, NULL);
                ranking_of(n, score, positive, w);
            }
    score[1] = NAN;
    st_ranking r;
    CHECK_INT(st_metric_ranking(&meter, 3, score, positive, NULL, &r), ST_EUNSUPPORTED);
    score[1] = INFINITY;
    CHECK_INT(st_metric_ranking(&meter, 3, score, positive, w, &r), ST_EUNSUPPORTED);
}

static void labels(void)
{
    static const int64_t a[] = {-2, 0, -1, -2, 0, 0}, b[] = {-1, 0, -1, -1, -2, 0};
    static const double w[] = {1, 2, 4, 8, 16, 32}, ones[] = {0, 2, 0, 0, 1, 0, 1, 0, 2},
                        heavy[] = {0, 9, 0, 0, 4, 0, 16, 0, 34};
    double counts[9];
    CHECK(st_metric_pairs(6, a, b, -2, 3, NULL, counts) && memcmp(counts, ones, sizeof ones) == 0);
    CHECK(st_metric_pairs(6, a, b, -2, 3, w, counts) && memcmp(counts, heavy, sizeof heavy) == 0);
    CHECK(base_metric_pairs(6, a, b, -2, 3, w, counts) && memcmp(counts, heavy, sizeof heavy) == 0);
    CHECK(!st_metric_pairs(6, a, b, -2, 2, NULL, counts) && !st_metric_pairs(6, a, b, -1, 3, NULL, counts));
    static const int64_t far[] = {INT64_MAX, INT64_MIN};
    CHECK(!st_metric_pairs(2, far, far, INT64_MIN, 3, NULL, counts));
}

static void probabilities(void)
{
    double x[6] = {0.25, 0.75, 1, 0, 0.5, 0.5}, out[6];
    uint32_t codes[6] = {0, 0, 1};
    st_dense m = {.data = (const char *)x, .rows = 3, .cols = 2, .row = 16, .col = 8};
    CHECK(st_metric_picked(&m, codes, out) && out[0] == 0.25 && out[1] == 1 && out[2] == 0.5);
    CHECK(base_metric_picked(&m, codes, out));
    st_dense one = {.data = (const char *)x, .rows = 6, .cols = 1, .row = 8, .col = 8};
    codes[3] = 1;
    CHECK(st_metric_picked(&one, codes, out) && out[0] == 0.75 && out[2] == 1 && out[2 + 1] == 0);
    codes[1] = 2;
    CHECK(!st_metric_picked(&m, codes, out) && !st_metric_picked(&one, codes, out));
    codes[1] = 1;
    static const double bad[][2] = {{-0.25, 1.25}, {NAN, 1}, {0.4, 0.5}, {INFINITY, 0}, {0.5, 0.50001}};
    for (size_t i = 0; i < 5; i++) {
        memcpy(x + 2, bad[i], sizeof bad[i]);
        CHECK(!st_metric_picked(&m, codes, out));
    }
}

static int all_that_allocates(void)
{
    static const double score[] = {0.5, 0.25, 0.75}, w[] = {1, 2, 3};
    static const uint8_t positive[] = {0, 1, 1};
    static const int32_t begin[] = {0, 1, 2}, column[] = {0, 0};
    static const uint32_t codes[] = {1, 0};
    st_counts_in in = {.data = (const char *)w,
                       .rows = 2,
                       .cols = 1,
                       .indptr = begin,
                       .column = column,
                       .stored = 2,
                       .codes = codes,
                       .classes = 2};
    double sums[2];
    int met;
    ST_TRY(st_counts(&meter, &in, 2, sums, &met));
    CHECK(sums[0] == 2 && sums[1] == 1);
    st_ranking r;
    ST_TRY(st_metric_ranking(&meter, 3, score, positive, NULL, &r));
    CHECK(r.area == 0.5);
    return st_metric_ranking(&meter, 3, score, positive, w, &r);
}

static void no_memory(void) { check_without_memory(all_that_allocates); }

int main(void)
{
    RUN(dense_counts);
    RUN(sparse_counts);
    RUN(refused_counts);
    RUN(residuals);
    RUN(rankings);
    RUN(labels);
    RUN(probabilities);
    RUN(no_memory);
    return 0;
}

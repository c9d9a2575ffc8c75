/* test_squash.c - columns scaled and clipped: against plain loops, with every layout, at any number of
 * threads, and bit for bit as compiled for the baseline processor.  Nothing here allocates but the test. */
#include "check.h"

#include "kernels/squash.h"

#include <float.h>
#include <math.h>

/* The same kernel once more, without the code for newer processors. */
#define ST_BASELINE
#undef ST_CLONES
#define ST_CLONES
#define st_columns_squash base_columns_squash
void base_columns_squash(const st_dense *x, const st_squash *s, unsigned threads, char *out,
                         ptrdiff_t out_row, bool *lost);
#include "kernels/squash.c"
#undef st_columns_squash

enum { MOST = 700 * 40 };

static double x64[MOST], turned64[2 * MOST], out64[MOST], again64[MOST];
static float x32[MOST], turned32[2 * MOST], out32[MOST], again32[MOST];
static double center[40], by[40], factor[40], added[40];

/* Columns of three kinds in turn: divided, multiplied, all zero. */
static void columns_new(size_t p)
{
    for (size_t j = 0; j < p; j++) {
        center[j] = (double)j - 2.5;
        by[j] = j % 3 == 0 ? 0.1 * (double)(j + 1) : 1;
        factor[j] = j % 3 == 0 ? 1 : j % 3 == 1 ? (double)(float)0.3 : 0;
        added[j] = j % 3 == 2 ? 0.0 : -0.0;
    }
}

static double want64(double v, size_t j, double limit)
{
    if (isinf(v)) return copysign(limit, v);
    double z = j % 3 == 0   ? (v - center[j]) / by[j]
               : j % 3 == 1 ? factor[j] * (v - center[j])
               : isnan(v)   ? v
                            : 0;
    return z / sqrt(1 + (z / limit) * (z / limit));
}

static float want32(float v, size_t j, float limit)
{
    if (isinf(v)) return copysignf(limit, v);
    float d = v - (float)center[j];
    float z = j % 3 == 0 ? (float)((double)d / by[j]) : j % 3 == 1 ? (float)factor[j] * d : isnan(v) ? v : 0;
    float r = z / limit;
    return z / sqrtf(1 + r * r);
}

/* One shape: rows together, columns together, neither; 1 to 5 threads; both builds. */
static void shape(size_t n, size_t p)
{
    st_squash s = {.center = center, .by = by, .times = factor, .plus = added, .limit = 3};
    columns_new(p);
    for (size_t i = 0; i < n * p; i++) {
        x64[i] = (double)(i * i % 97) / 4 - 9;
        if (i % 11 == 3) x64[i] = (double)NAN;
        if (i % 23 == 5) x64[i] = i % 2 ? (double)INFINITY : -(double)INFINITY;
        if (i % 29 == 7) x64[i] = center[i % p]; /* zeros with a sign */
        x32[i] = (float)x64[i];
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < p; j++) {
            turned64[j * n + i] = x64[i * p + j];
            turned32[j * n + i] = x32[i * p + j];
        }
    ptrdiff_t w = (ptrdiff_t)p, rows = (ptrdiff_t)n, d = (ptrdiff_t)sizeof(double),
              f = (ptrdiff_t)sizeof(float);
    st_dense dense[4] = {
        {.data = (const char *)x64, .rows = n, .cols = p, .row = w * d, .col = d, .type = ST_F64},
        {.data = (const char *)turned64, .rows = n, .cols = p, .row = d, .col = rows * d, .type = ST_F64},
        {.data = (const char *)x32, .rows = n, .cols = p, .row = w * f, .col = f, .type = ST_F32},
        {.data = (const char *)turned32, .rows = n, .cols = p, .row = f, .col = rows * f, .type = ST_F32},
    };
    bool lost = true;
    st_columns_squash(&dense[0], &s, 1, (char *)out64, w * d, &lost);
    CHECK(!lost);
    lost = true;
    st_columns_squash(&dense[2], &s, 1, (char *)out32, w * f, &lost);
    CHECK(!lost);
    for (size_t i = 0; i < n * p; i++) {
        double v = want64(x64[i], i % p, 3);
        float u = want32(x32[i], i % p, 3);
        CHECK(isnan(v) ? isnan(out64[i]) : memcmp(&v, &out64[i], sizeof v) == 0);
        CHECK(isnan(u) ? isnan(out32[i]) : memcmp(&u, &out32[i], sizeof u) == 0);
    }
    for (int k = 0; k < 4; k++)
        for (unsigned threads = 1; threads <= 5; threads++) {
            char *again = k < 2 ? (char *)again64 : (char *)again32;
            const char *one = k < 2 ? (const char *)out64 : (const char *)out32;
            size_t bytes = n * p * (k < 2 ? sizeof(double) : sizeof(float));
            memset(again, 1, bytes);
            st_columns_squash(&dense[k], &s, threads, again, k < 2 ? w * d : w * f, &lost);
            CHECK(!lost && memcmp(again, one, bytes) == 0);
            memset(again, 1, bytes);
            base_columns_squash(&dense[k], &s, threads, again, k < 2 ? w * d : w * f, &lost);
            CHECK(!lost && memcmp(again, one, bytes) == 0);
        }
    /* every other row from below, into a matrix with room between its rows */
    if (n < 2) return;
    st_dense back = dense[0];
    back.rows = n / 2;
    back.data += (ptrdiff_t)(n - 1) * back.row;
    back.row *= -2;
    memset(turned64, 0, sizeof turned64);
    st_columns_squash(&back, &s, 2, (char *)turned64, (w + 1) * d, &lost);
    for (size_t i = 0; i < back.rows; i++)
        CHECK(memcmp(turned64 + i * (p + 1), out64 + (n - 1 - 2 * i) * p, p * sizeof(double)) == 0);
    CHECK(turned64[p] == 0);
}

static void layouts(void)
{
    static const size_t shapes[][2] = {{0, 3},   {1, 1},    {2, 3},   {9, 8},
                                       {700, 1}, {700, 40}, {513, 9}, {3, 40}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        shape(shapes[i][0], shapes[i][1]);
    /* more columns than a tile */
    enum { WIDE = 600 };
    static double wide[4][WIDE];
    for (size_t j = 0; j < WIDE; j++) {
        x64[j] = (double)j;
        wide[0][j] = 1;
        wide[1][j] = 2;
        wide[2][j] = 1;
        wide[3][j] = -0.0;
    }
    st_squash s = {.center = wide[0], .by = wide[1], .times = wide[2], .plus = wide[3], .limit = 5};
    st_dense m = {
        .data = (const char *)x64, .rows = 1, .cols = WIDE, .row = sizeof wide[0], .col = sizeof(double)};
    bool lost = true;
    st_columns_squash(&m, &s, 1, (char *)out64, sizeof wide[0], &lost);
    CHECK(!lost);
    for (size_t j = 0; j < WIDE; j++) {
        double z = (x64[j] - 1) / 2;
        CHECK(out64[j] == z / sqrt(1 + z / 5 * (z / 5)));
    }
}

/* A finite number whose square, or difference, leaves the range is told of; NaN and infinities are not. */
static void out_of_range(void)
{
    double c = 0, one = 1, none = -0.0, v[4] = {1, (double)NAN, (double)INFINITY, 2};
    float u[4] = {1, (float)NAN, (float)INFINITY, 2};
    st_squash s = {.center = &c, .by = &one, .times = &one, .plus = &none, .limit = 3};
    st_dense m = {.data = (const char *)v, .rows = 4, .cols = 1, .row = sizeof *v, .col = sizeof *v};
    st_dense n = {
        .data = (const char *)u, .rows = 4, .cols = 1, .row = sizeof *u, .col = sizeof *u, .type = ST_F32};
    bool lost = true;
    st_columns_squash(&m, &s, 1, (char *)out64, sizeof *v, &lost);
    CHECK(!lost);
    v[3] = -1e200;
    st_columns_squash(&m, &s, 1, (char *)out64, sizeof *v, &lost);
    CHECK(lost);
    v[3] = DBL_MAX;
    c = -DBL_MAX;
    st_columns_squash(&m, &s, 1, (char *)out64, sizeof *v, &lost);
    CHECK(lost);
    c = 0;
    st_columns_squash(&n, &s, 1, (char *)out32, sizeof *u, &lost);
    CHECK(!lost);
    u[0] = 1e25f;
    st_columns_squash(&n, &s, 1, (char *)out32, sizeof *u, &lost);
    CHECK(lost);
    one = 0;
    v[3] = 0;
    st_columns_squash(&m, &s, 1, (char *)out64, sizeof *v, &lost);
    CHECK(lost);
}

int main(void)
{
    RUN(layouts);
    RUN(out_of_range);
    return 0;
}

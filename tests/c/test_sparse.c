/* test_sparse.c - sparse times dense in double precision: against plain loops, for all widths of strips, at
 * any number of threads, each allocation failing, and bit for bit as compiled for the baseline processor. */
#include "check.h"

#include "kernels/sparse.h"

#include <math.h>

/* The same kernels once more, without the code for newer processors. */
#define ST_BASELINE
#include "kernels/dense.h"
#undef ST_CLONES
#define ST_CLONES
#define st_csr_times base_csr_times
#define st_csr_twice base_csr_twice
#define st_csr_turned base_csr_turned
#define st_csr_back base_csr_back
int base_csr_times(const st_alloc *a, const st_csr *m, size_t k, const void *q, unsigned threads, void *y);
int base_csr_back(const st_alloc *a, const st_csr *m, size_t k, const void *y, unsigned threads, void *z);
int base_csr_twice(const st_alloc *a, const st_csr *m, size_t k, const double *q, unsigned threads,
                   double *z);
int base_csr_turned(const st_alloc *a, const st_csr *m, unsigned threads, int32_t *indptr, int32_t *index,
                    void *data);
#include "kernels/sparse.c"
#undef st_csr_times
#undef st_csr_back
#undef st_csr_twice
#undef st_csr_turned

enum { ROWS = 30000, COLS = 90, K = 90, STORED = ROWS * 10 };

static int32_t indptr[ROWS + 1], column[STORED], turned_ptr[COLS + 1], turned_row[STORED];
static double data[STORED], turned_data[STORED];
static double q[COLS * K], tall[ROWS * K], y[ROWS * K], again[ROWS * K], z[COLS * K];

/* Rows of zero to nine entries, some twice in the same place, in no order. */
static st_csr matrix(size_t rows)
{
    uint64_t x = 11;
    int32_t at = 0;
    for (size_t r = 0; r < rows; r++) {
        indptr[r] = at;
        for (size_t e = 0; e < r % 10; e++, at++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            column[at] = (int32_t)((x >> 40) % (COLS - 1)); /* (the last column is empty) */
            data[at] = (double)(x >> 44) / 7e4 - 7;
        }
    }
    indptr[rows] = at;
    return (st_csr){.rows = rows, .cols = COLS, .indptr = indptr, .index = column, .data = data};
}

static void fill(double *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (double)(i * i % 1013) / 97 - 4;
}

static void products(void)
{
    static const size_t ks[] = {1, 7, 8, 9, 16, 20, 24, 33, 40, 41, 60, 64, 81, K};
    static const size_t sizes[] = {1, 10, 301, ROWS};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        st_csr m = matrix(sizes[s]);
        OK(st_csr_turned(&meter, &m, 3, turned_ptr, turned_row, turned_data));
        st_csr t = {
            .rows = COLS, .cols = m.rows, .indptr = turned_ptr, .index = turned_row, .data = turned_data};
        CHECK_INT(turned_ptr[COLS], indptr[m.rows]);
        CHECK_INT(turned_ptr[COLS - 1], turned_ptr[COLS]);
        for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
            size_t k = ks[i];
            if (m.rows == ROWS && k != 20 && k != 60) continue; /* (time) */
            fill(q, COLS * k);
            fill(tall, m.rows * k);
            OK(st_csr_times(&meter, &m, k, q, 2, y));
            for (size_t r = 0; r < m.rows; r++)
                for (size_t c = 0; c < k; c++) {
                    double sum = 0;
                    for (int32_t e = indptr[r]; e < indptr[r + 1]; e++) {
                        double one = data[e] * q[(size_t)column[e] * k + c];
                        sum += one;
                    }
                    CHECK(memcmp(&sum, &y[r * k + c], sizeof sum) == 0);
                }
            /* the turned matrix, and without one: as SciPy adds, row by row */
            OK(st_csr_times(&meter, &t, k, tall, 2, z));
            static double want[COLS * K], back[COLS * K];
            memset(want, 0, sizeof want);
            for (size_t r = 0; r < m.rows; r++)
                for (int32_t e = indptr[r]; e < indptr[r + 1]; e++)
                    for (size_t c = 0; c < k; c++) {
                        double one = data[e] * tall[r * k + c];
                        want[(size_t)column[e] * k + c] += one;
                    }
            CHECK(memcmp(want, z, COLS * k * sizeof *z) == 0);
            for (unsigned threads = 1; threads <= 5; threads++) {
                OK(st_csr_back(&meter, &m, k, tall, threads, back));
                CHECK(memcmp(want, back, COLS * k * sizeof *z) == 0);
                OK(base_csr_back(&meter, &m, k, tall, threads, back));
                CHECK(memcmp(want, back, COLS * k * sizeof *z) == 0);
            }
            /* both in one */
            static double twice[COLS * K], other[COLS * K];
            OK(st_csr_times(&meter, &t, k, y, 2, want));
            OK(st_csr_twice(&meter, &m, k, q, 1, twice));
            double most = 0;
            for (size_t j = 0; j < COLS * k; j++)
                if (fabs(want[j]) > most) most = fabs(want[j]);
            for (size_t j = 0; j < COLS * k; j++)
                CHECK(fabs(want[j] - twice[j]) <= 1e-12 * most);
            for (unsigned threads = 1; threads <= 5; threads++) {
                OK(st_csr_twice(&meter, &m, k, q, threads, other));
                CHECK(memcmp(twice, other, COLS * k * sizeof *twice) == 0);
                OK(base_csr_twice(&meter, &m, k, q, threads, other));
                CHECK(memcmp(twice, other, COLS * k * sizeof *twice) == 0);
                OK(st_csr_times(&meter, &m, k, q, threads, again));
                CHECK(memcmp(y, again, m.rows * k * sizeof *y) == 0);
                OK(base_csr_times(&meter, &m, k, q, threads, again));
                CHECK(memcmp(y, again, m.rows * k * sizeof *y) == 0);
            }
        }
        static int32_t ptr[COLS + 1], row[STORED];
        static double value[STORED];
        for (unsigned threads = 1; threads <= 5; threads++) {
            OK((threads % 2 ? st_csr_turned : base_csr_turned)(&meter, &m, threads, ptr, row, value));
            CHECK(memcmp(ptr, turned_ptr, sizeof ptr) == 0);
            CHECK(memcmp(row, turned_row, (size_t)ptr[COLS] * sizeof *row) == 0);
            CHECK(memcmp(value, turned_data, (size_t)ptr[COLS] * sizeof *value) == 0);
        }
    }
}

/* The same in single precision. */
static void single(void)
{
    static const size_t ks[] = {1, 8, 12, 20, 33, 41, 60, K};
    static float values[STORED], turned_values[STORED], p[COLS * K], u[5000 * K], v[5000 * K], w[COLS * K];
    st_csr m = matrix(5000);
    for (int32_t e = 0; e < indptr[5000]; e++)
        values[e] = (float)data[e] / 3.0f;
    m.data = values;
    m.type = ST_F32;
    OK(st_csr_turned(&meter, &m, 2, turned_ptr, turned_row, turned_values));
    st_csr t = {.rows = COLS,
                .cols = 5000,
                .indptr = turned_ptr,
                .index = turned_row,
                .data = turned_values,
                .type = ST_F32};
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        size_t k = ks[i];
        for (size_t j = 0; j < COLS * k; j++)
            p[j] = (float)(j * j % 1013) / 97.0f - 4.0f;
        OK(st_csr_times(&meter, &m, k, p, 2, u));
        for (size_t r = 0; r < 5000; r++)
            for (size_t c = 0; c < k; c++) {
                float sum = 0;
                for (int32_t e = indptr[r]; e < indptr[r + 1]; e++) {
                    float one = values[e] * p[(size_t)column[e] * k + c];
                    sum += one;
                }
                CHECK(memcmp(&sum, &u[r * k + c], sizeof sum) == 0);
            }
        OK(st_csr_times(&meter, &t, k, u, 1, p));
        for (unsigned threads = 1; threads <= 4; threads++) {
            OK((threads % 2 ? st_csr_back : base_csr_back)(&meter, &m, k, u, threads, w));
            CHECK(memcmp(p, w, COLS * k * sizeof *w) == 0);
        }
        OK(base_csr_times(&meter, &t, k, u, 3, w));
        CHECK(memcmp(p, w, COLS * k * sizeof *w) == 0);
        OK(base_csr_times(&meter, &m, k, p, 3, v));
    }
    CHECK_INT(st_csr_twice(&meter, &m, 1, q, 1, z), ST_EINVAL);
}

/* Nothing in it, in one way or the other; what is not finite comes through. */
static void odd_ones(void)
{
    static const int32_t none[4] = {0}, two[] = {0, 1, 2}, where[] = {1, 0};
    st_csr empty = {.rows = 3, .cols = 2, .indptr = none};
    double p[4] = {1, 2, 3, 4}, out[6] = {9, 9, 9, 9, 9, 9};
    OK(st_csr_times(&meter, &empty, 2, p, 2, out));
    for (int i = 0; i < 6; i++)
        CHECK(out[i] == 0);
    OK(st_csr_twice(&meter, &empty, 2, p, 2, out));
    CHECK(out[0] == 0 && out[3] == 0);
    OK(st_csr_back(&meter, &empty, 2, out, 2, p));
    CHECK(p[0] == 0 && p[3] == 0);
    OK(st_csr_times(&meter, &empty, 0, p, 2, out));
    OK(st_csr_back(&meter, &empty, 0, p, 2, out));
    empty.rows = 0;
    OK(st_csr_times(&meter, &empty, 2, p, 2, out));
    OK(st_csr_twice(&meter, &empty, 2, p, 2, out));
    OK(st_csr_back(&meter, &empty, 2, out, 2, p));
    for (int i = 0; i < 4; i++)
        p[i] = i + 1;
    int32_t ptr[3] = {7, 7, 7};
    OK(st_csr_turned(&meter, &empty, 2, ptr, NULL, NULL));
    CHECK(ptr[0] == 0 && ptr[2] == 0);
    const double values[] = {(double)NAN, 2};
    st_csr m = {.rows = 2, .cols = 2, .indptr = two, .index = where, .data = values};
    OK(st_csr_times(&meter, &m, 2, p, 1, out));
    CHECK(isnan(out[0]) && isnan(out[1]) && out[2] == 2 && out[3] == 4);
    OK(st_csr_twice(&meter, &m, 2, p, 1, out));
    CHECK(out[0] == 4 && out[1] == 8 && isnan(out[2]) && isnan(out[3]));
}

static int all_that_allocates(void)
{
    st_csr m = matrix(50);
    int rc = st_csr_turned(&meter, &m, 2, turned_ptr, turned_row, turned_data);
    if (rc == ST_OK) rc = st_csr_times(&meter, &m, 9, q, 2, y);
    if (rc == ST_OK) rc = st_csr_back(&meter, &m, 9, y, 2, z);
    if (rc == ST_OK) rc = st_csr_twice(&meter, &m, 9, q, 2, z);
    return rc;
}

static void no_memory(void) { check_without_memory(all_that_allocates); }

int main(void)
{
    RUN(products);
    RUN(single);
    RUN(odd_ones);
    RUN(no_memory);
    return 0;
}

/* test_numeric.c - the numeric kernels: against plain loops, with every layout, at any number of threads,
 * with each allocation failing in turn, and bit for bit as compiled for the baseline processor. */
#include "check.h"

#include "kernels/cholesky.h"
#include "kernels/columns.h"
#include "kernels/descent.h"
#include "kernels/gram.h"
#include "kernels/logistic.h"
#include "kernels/parallel.h"

#include <math.h>

/* The same kernels once more, without the code for newer processors. */
#define ST_BASELINE
#undef ST_CLONES
#define ST_CLONES
#define st_gram base_gram
#define st_logistic_loss base_logistic_loss
#define st_exp8 base_exp8
#define st_log8 base_log8
#define st_columns_sums base_columns_sums
#define st_columns_limits base_columns_limits
#define st_columns_ranks base_columns_ranks
#define st_columns_mode base_columns_mode
#define st_columns_rewrite base_columns_rewrite
#define st_columns_products base_columns_products
#define st_descend base_descend
int base_gram(const st_alloc *a, const st_gram_in *in, unsigned threads, st_gram_out *out);
int base_logistic_loss(const st_alloc *a, const st_logistic *in, const double *coef, unsigned threads,
                       double *loss, double *gradient);
void base_exp8(st_v8 *x);
void base_log8(st_v8 *x);
int base_columns_sums(const st_alloc *a, const st_dense *x, unsigned threads, const st_column_sums *out);
int base_columns_limits(const st_alloc *a, const st_dense *x, unsigned threads, double *least, double *most);
int base_columns_ranks(const st_alloc *a, const st_dense *x, unsigned threads, const double *q, size_t k,
                       double *below, double *above, double *count);
int base_columns_mode(const st_alloc *a, const st_dense *x, unsigned threads, double *mode);
int base_columns_rewrite(const st_dense *x, st_rewrite how, const double *a, const double *b,
                         unsigned threads, char *out, ptrdiff_t out_row, ptrdiff_t out_col, bool *infinite);
int base_columns_products(const st_dense *x, bool bias, const st_product_step *steps, size_t n_steps,
                          size_t width, unsigned threads, char *out, bool *finite);
int base_descend(const st_alloc *a, st_descent *d, double *w);
#define chunk base_gram_chunk
#include "kernels/gram.c"
#undef chunk
#undef PANEL
#define LEAST_ROWS base_logistic_least
#define MOST_CHUNKS base_logistic_most
#define chunk base_logistic_chunk
#define choose base_choose
#define job base_job
#include "kernels/logistic.c"
#undef chunk
#undef LEAST_ROWS
#undef MOST_CHUNKS
#define LEAST_ROWS base_columns_least
#define MOST_CHUNKS base_columns_most
#define SAMPLE base_columns_sample
#define guess base_columns_guess
#define number_of base_number_of
#include "kernels/columns.c"
#define dot base_dot
#define move base_move
#define state base_state
#include "kernels/descent.c"
#undef st_gram
#undef st_logistic_loss
#undef st_exp8
#undef st_log8
#undef st_columns_sums
#undef st_columns_limits
#undef st_columns_ranks
#undef st_columns_mode
#undef st_columns_rewrite
#undef st_columns_products
#undef st_descend

/* -- Data ----------------------------------------------------------------------------------- */

static double uniform(uint64_t *seed) { return (double)(random_next(seed) >> 11) * 0x1p-53; }

static double normal(uint64_t *seed)
{
    double s = 0;
    for (int i = 0; i < 12; i++)
        s += uniform(seed);
    return s - 6;
}

static double *doubles_new(size_t n)
{
    double *v = malloc((n + 1) * sizeof *v);
    CHECK(v != NULL);
    return v;
}

static st_dense by_rows(const double *v, size_t rows, size_t cols)
{
    return (st_dense){.data = (const char *)v,
                      .rows = rows,
                      .cols = cols,
                      .row = (ptrdiff_t)(cols * sizeof *v),
                      .col = (ptrdiff_t)sizeof *v};
}

/* The same numbers, columns together. */
static double *turned(const double *v, size_t rows, size_t cols, st_dense *out)
{
    double *t = doubles_new(rows * cols);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            t[j * rows + i] = v[i * cols + j];
    *out = (st_dense){.data = (const char *)t,
                      .rows = rows,
                      .cols = cols,
                      .row = (ptrdiff_t)sizeof *t,
                      .col = (ptrdiff_t)(rows * sizeof *t)};
    return t;
}

static bool close_to(double a, double b, double scale) { return fabs(a - b) <= 1e-11 * scale; }

static const size_t shapes[][2] = {{1, 1}, {2, 3}, {7, 9}, {130, 16}, {5000, 5}, {9001, 33}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static double *data_new(size_t n, size_t p, uint64_t *seed)
{
    double *x = doubles_new(n * p);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < p; j++)
            x[i * p + j] = normal(seed) + 100.0 * (double)(j % 5);
    return x;
}

/* -- Tests ---------------------------------------------------------------------------------- */

static void count_item(void *ud, size_t i, unsigned worker)
{
    CHECK(worker < 5);
    atomic_fetch_add((atomic_int *)ud + i, 1);
}

static void loops(void)
{
    for (unsigned threads = 0; threads <= 5; threads++)
        for (size_t n = 0; n < 40; n += 13) {
            atomic_int seen[40] = {0};
            st_parallel(threads, n, count_item, seen);
            for (size_t i = 0; i < 40; i++)
                CHECK_INT(atomic_load(&seen[i]), i < n ? 1 : 0);
        }
}

static void gram_of(const st_dense *x, const st_dense *y, const double *w, bool center)
{
    size_t n = x->rows, q = x->cols + y->cols;
    double *mean = doubles_new(q), *product = doubles_new(q * q), *again = doubles_new(q * q);
    st_gram_in in = {.x = *x, .y = *y, .weight = w, .center = center};
    st_gram_out out = {.mean = mean, .product = product};
    OK(st_gram(&meter, &in, 1, &out));
    double total = 0;
    for (size_t i = 0; i < n; i++)
        total += w ? w[i] : 1;
    CHECK(close_to(out.weight, total, total));
    double *columns = doubles_new(n * q);
    for (size_t j = 0; j < q; j++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            double v = j < x->cols ? st_dense_at(x, i, j) : st_dense_at(y, i, j - x->cols);
            columns[j * n + i] = v;
            sum += (w ? w[i] : 1) * v;
        }
        double m = center ? sum / total : 0;
        CHECK(close_to(mean[j], m, 400));
        for (size_t i = 0; i < n; i++)
            columns[j * n + i] -= m;
    }
    for (size_t j = 0; j < q; j++)
        for (size_t k = 0; k < q; k++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += (w ? w[i] : 1) * columns[j * n + i] * columns[k * n + i];
            CHECK(close_to(product[j * q + k], sum, 1 + (center ? 10 : 1e6) * total));
            CHECK(product[j * q + k] == product[k * q + j]);
        }
    out.product = again;
    for (unsigned threads = 2; threads <= 4; threads++) {
        OK(st_gram(&meter, &in, threads, &out));
        CHECK(memcmp(product, again, q * q * sizeof *product) == 0);
    }
    OK(base_gram(&meter, &in, 1, &out));
    CHECK(memcmp(product, again, q * q * sizeof *product) == 0);
    free(columns);
    free(mean);
    free(product);
    free(again);
}

static void gram(void)
{
    uint64_t seed = 1;
    for (size_t s = 0; s < N_SHAPES; s++) {
        size_t n = shapes[s][0], p = shapes[s][1];
        double *x = data_new(n, p, &seed), *y = data_new(n, 2, &seed), *w = doubles_new(n);
        for (size_t i = 0; i < n; i++)
            w[i] = 0.1 + uniform(&seed);
        st_dense dx = by_rows(x, n, p), dy = by_rows(y, n, 2), dt;
        double *t = turned(x, n, p, &dt);
        gram_of(&dx, &dy, NULL, true);
        gram_of(&dt, &dy, NULL, true);
        gram_of(&dx, &dy, w, true);
        gram_of(&dt, &dy, w, false);
        free(t);
        free(x);
        free(y);
        free(w);
    }
}

/* Single precision: close to double, and the same bits everywhere. */
static void gram_single(void)
{
    enum { N = 9001, P = 21, Q = P + 1 };
    uint64_t seed = 11;
    double *x = data_new(N, P, &seed), *y = data_new(N, 1, &seed);
    float *f = malloc(N * P * sizeof *f);
    CHECK(f != NULL);
    for (size_t i = 0; i < N * P; i++) {
        f[i] = (float)x[i];
        x[i] = (double)f[i];
    }
    double mean[Q], product[Q * Q], want[Q * Q];
    st_gram_in in = {.x = by_rows(x, N, P), .y = by_rows(y, N, 1), .center = true};
    st_gram_out out = {.mean = mean, .product = want};
    OK(st_gram(&meter, &in, 1, &out));
    in.x = (st_dense){.data = (const char *)f,
                      .rows = N,
                      .cols = P,
                      .row = (ptrdiff_t)(P * sizeof *f),
                      .col = (ptrdiff_t)sizeof *f,
                      .type = ST_F32};
    out.product = product;
    OK(st_gram(&meter, &in, 1, &out));
    for (size_t i = 0; i < Q * Q; i++)
        CHECK(fabs(product[i] - want[i]) < 1e-6 * N);
    for (unsigned threads = 2; threads < 4; threads++) {
        out.product = want;
        OK(st_gram(&meter, &in, threads, &out));
        CHECK(memcmp(product, want, sizeof want) == 0);
    }
    OK(base_gram(&meter, &in, 2, &out));
    CHECK(memcmp(product, want, sizeof want) == 0);
    free(x);
    free(y);
    free(f);
}

/* A sample that misses where the mass is: the second pass. */
static void gram_far_off(void)
{
    enum { N = 3000 };
    double *x = doubles_new(N), *y = doubles_new(N);
    for (size_t i = 0; i < N; i++) {
        x[i] = (i * 256) % N < 256 ? 1e9 : (double)(i % 7);
        y[i] = 3.25;
    }
    double mean[2], product[4];
    st_gram_in in = {.x = by_rows(x, N, 1), .y = by_rows(y, N, 1), .center = true};
    st_gram_out out = {.mean = mean, .product = product};
    OK(st_gram(&meter, &in, 1, &out));
    long double m = 0, square = 0;
    for (size_t i = 0; i < N; i++)
        m += (long double)x[i] / N;
    for (size_t i = 0; i < N; i++)
        square += ((long double)x[i] - m) * ((long double)x[i] - m);
    CHECK(fabs(product[0] / (double)square - 1) < 1e-12);
    CHECK(product[3] == 0 && mean[1] == 3.25); /* a constant is met exactly */
    x[5] = (double)NAN;
    OK(st_gram(&meter, &in, 1, &out));
    CHECK(!isfinite(product[0]));
    free(x);
    free(y);
}

static void exp_and_log(void)
{
    uint64_t seed = 3;
    double worst = 0;
    for (int i = 0; i < 200000; i++) {
        st_v8 v, b;
        for (int k = 0; k < ST_LANES; k++)
            v[k] = -pow(10, uniform(&seed) * 20 - 17);
        b = v;
        st_v8 e = v;
        st_exp8(&e);
        base_exp8(&b);
        CHECK(memcmp(&e, &b, sizeof e) == 0);
        double want = exp(v[0]), off = v[0] < -708 ? e[0] : fabs(e[0] - want) / want;
        if (off > worst) worst = off;
        st_v8 x = e * 3 + 0x1p-1000, l = x;
        st_log8(&l);
        b = x;
        base_log8(&b);
        CHECK(memcmp(&l, &b, sizeof l) == 0);
        want = log(x[0]);
        off = fabs(l[0] - want) / (fabs(want) > 1e-3 ? fabs(want) : 1e-3);
        if (off > worst) worst = off;
    }
    CHECK(worst < 4.5e-16);
    st_v8 v = {0, -0.0, -708.1, -INFINITY, NAN, -1e-320, -0.5, -1};
    st_exp8(&v);
    CHECK(v[0] == 1 && v[1] == 1 && v[2] == 0 && v[3] == 0 && isnan(v[4]) && v[5] == 1);
}

static void logistic_of(const st_dense *x, size_t k, const double *w, uint64_t *seed)
{
    size_t n = x->rows, p = x->cols, size = k * (p + 1);
    double *target = doubles_new(n), *coef = doubles_new(size), *g = doubles_new(size),
           *again = doubles_new(size);
    double *want = doubles_new(size), total = 0, loss, other, *raw = doubles_new(k + 1);
    size_t classes = k == 1 ? 2 : k;
    for (size_t i = 0; i < n; i++)
        target[i] = (double)(random_next(seed) % classes);
    for (size_t i = 0; i < size; i++) {
        coef[i] = normal(seed) / 100;
        want[i] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        double top = 0, sum = 0, wi = w ? w[i] : 1;
        for (size_t c = 0; c < k; c++) {
            raw[c] = coef[c * (p + 1) + p];
            for (size_t j = 0; j < p; j++)
                raw[c] += coef[c * (p + 1) + j] * st_dense_at(x, i, j);
            if (c == 0 || raw[c] > top) top = raw[c];
        }
        size_t y = (size_t)target[i];
        if (k == 1) {
            total += wi * ((raw[0] > 0 ? raw[0] : 0) + log1p(exp(-fabs(raw[0]))) - (double)y * raw[0]);
            raw[0] = wi * (1 / (1 + exp(-raw[0])) - (double)y);
        } else {
            for (size_t c = 0; c < k; c++)
                sum += exp(raw[c] - top);
            total += wi * (log(sum) + top - raw[y]);
            for (size_t c = 0; c < k; c++)
                raw[c] = wi * (exp(raw[c] - top) / sum - (c == y));
        }
        for (size_t c = 0; c < k; c++) {
            for (size_t j = 0; j < p; j++)
                want[c * (p + 1) + j] += raw[c] * st_dense_at(x, i, j);
            want[c * (p + 1) + p] += raw[c];
        }
    }
    st_logistic in = {.x = *x, .target = target, .weight = w, .classes = k, .intercept = true};
    OK(st_logistic_loss(&meter, &in, coef, 1, &loss, g));
    CHECK(close_to(loss, total, 1 + total));
    for (size_t i = 0; i < size; i++)
        CHECK(close_to(g[i], want[i], 500.0 * (double)n));
    for (unsigned threads = 2; threads <= 3; threads++) {
        OK(st_logistic_loss(&meter, &in, coef, threads, &other, again));
        CHECK(other == loss && memcmp(g, again, size * sizeof *g) == 0);
    }
    OK(base_logistic_loss(&meter, &in, coef, 1, &other, again));
    CHECK(other == loss && memcmp(g, again, size * sizeof *g) == 0);
    in.intercept = false;
    OK(st_logistic_loss(&meter, &in, coef, 1, &other, again));
    for (size_t c = 0; c < k; c++)
        CHECK(again[c * (p + 1) + p] == 0);
    free(target);
    free(coef);
    free(g);
    free(again);
    free(want);
    free(raw);
}

static void logistic(void)
{
    uint64_t seed = 4;
    for (size_t s = 0; s < N_SHAPES; s++) {
        size_t n = shapes[s][0], p = shapes[s][1];
        double *x = data_new(n, p, &seed), *w = doubles_new(n);
        for (size_t i = 0; i < n; i++)
            w[i] = uniform(&seed);
        st_dense d = by_rows(x, n, p);
        logistic_of(&d, 1, NULL, &seed);
        logistic_of(&d, 1, w, &seed);
        logistic_of(&d, 3, w, &seed);
        logistic_of(&d, 11, NULL, &seed);
        free(x);
        free(w);
    }
}

static void cholesky(void)
{
    uint64_t seed = 5;
    for (size_t n = 1; n < 60; n += 7) {
        double *x = data_new(3 * n, n, &seed), *a = doubles_new(n * n), *keep = doubles_new(n * n);
        double *b = doubles_new(2 * n), *want = doubles_new(2 * n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = i == j ? 1 : 0;
                for (size_t r = 0; r < 3 * n; r++)
                    sum += (x[r * n + i] - 200) * (x[r * n + j] - 200);
                a[i * n + j] = keep[i * n + j] = sum;
            }
        for (size_t i = 0; i < 2 * n; i++)
            want[i] = normal(&seed);
        for (size_t k = 0; k < 2; k++)
            for (size_t i = 0; i < n; i++) {
                b[k * n + i] = 0;
                for (size_t j = 0; j < n; j++)
                    b[k * n + i] += keep[i * n + j] * want[k * n + j];
            }
        OK(st_cholesky_solve(a, n, b, 2));
        for (size_t i = 0; i < 2 * n; i++)
            CHECK(fabs(b[i] - want[i]) < 1e-7);
        keep[0] = -1;
        CHECK_INT(st_cholesky_solve(keep, n, b, 2), ST_EINVAL);
        keep[0] = (double)NAN;
        CHECK_INT(st_cholesky_solve(keep, n, b, 2), ST_EINVAL);
        free(x);
        free(a);
        free(keep);
        free(b);
        free(want);
    }
}

/* What is found fulfils the conditions of the optimum; -DST_BASELINE finds the same. */
static void descent(void)
{
    uint64_t seed = 6;
    enum { N = 500, P = 12 };
    double *x = data_new(N, P, &seed), *y = doubles_new(N);
    for (size_t i = 0; i < N; i++)
        y[i] = 2 * x[i * P] - x[i * P + 3] + normal(&seed);
    double mean[P + 1], product[(P + 1) * (P + 1)];
    st_gram_in in = {.x = by_rows(x, N, P), .y = by_rows(y, N, 1), .center = true};
    st_gram_out out = {.mean = mean, .product = product};
    OK(st_gram(&meter, &in, 1, &out));
    for (int positive = 0; positive < 2; positive++)
        for (int ridge = 0; ridge < 2; ridge++) {
            st_descent d = {.product = product,
                            .p = P,
                            .pitch = P + 1,
                            .target = product + P * (P + 1),
                            .square = product[P * (P + 1) + P],
                            .alpha = 30,
                            .beta = ridge * 20.0,
                            .tol = 1e-8,
                            .max_iter = 1000,
                            .positive = positive};
            st_descent e = d;
            double w[P] = {0}, v[P] = {0};
            w[1] = v[1] = 5;
            OK(st_descend(&meter, &d, w));
            OK(base_descend(&meter, &e, v));
            CHECK(memcmp(w, v, sizeof w) == 0 && d.gap == e.gap && d.n_iter == e.n_iter);
            CHECK(d.converged && d.n_iter > 0 && d.gap <= 1e-8 * d.square);
            for (size_t j = 0; j < P; j++) {
                double slack = d.target[j] - d.beta * w[j];
                for (size_t k = 0; k < P; k++)
                    slack -= product[j * (P + 1) + k] * w[k];
                if (w[j] != 0)
                    CHECK(fabs(slack - (w[j] > 0 ? d.alpha : -d.alpha)) < 0.05);
                else
                    CHECK((positive ? slack : fabs(slack)) < d.alpha + 0.05);
                CHECK(!positive || w[j] >= 0);
            }
            e.max_iter = 1;
            memset(v, 0, sizeof v);
            OK(st_descend(&meter, &e, v));
            CHECK_INT(e.n_iter, 1);
        }
    free(x);
    free(y);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void columns_of(const st_dense *x)
{
    size_t n = x->rows, p = x->cols;
    double *got[9], *sorted = doubles_new(n);
    for (int i = 0; i < 9; i++)
        got[i] = doubles_new(3 * p);
    static const double q[3] = {0.5, 0, 0.83};
    for (int variant = 0; variant < 4; variant++) {
        unsigned threads = variant == 3 ? 1 : (unsigned)variant + 1;
        double *v[9], *others = doubles_new(9 * 3 * p);
        for (int i = 0; i < 9; i++)
            v[i] = variant == 0 ? got[i] : others + (size_t)i * 3 * p;
        st_column_sums sums = {v[0], v[1], v[2]};
        if (variant < 3) {
            OK(st_columns_sums(&meter, x, threads, &sums));
            OK(st_columns_limits(&meter, x, threads, v[3], v[4]));
            OK(st_columns_ranks(&meter, x, threads, q, 3, v[5], v[6], v[7]));
            OK(st_columns_mode(&meter, x, threads, v[8]));
        } else {
            OK(base_columns_sums(&meter, x, threads, &sums));
            OK(base_columns_limits(&meter, x, threads, v[3], v[4]));
            OK(base_columns_ranks(&meter, x, threads, q, 3, v[5], v[6], v[7]));
            OK(base_columns_mode(&meter, x, threads, v[8]));
        }
        for (int i = 0; i < 9 && variant > 0; i++)
            for (size_t j = 0; j < (i == 5 || i == 6 ? 3 * p : p); j++)
                CHECK(v[i][j] == got[i][j] || (isnan(v[i][j]) && isnan(got[i][j])));
        free(others);
    }
    for (size_t j = 0; j < p; j++) {
        size_t m = 0, run = 0, most = 0;
        double sum = 0, square = 0, mode = (double)NAN;
        for (size_t i = 0; i < n; i++) {
            double v = st_dense_at(x, i, j);
            if (!isnan(v)) sorted[m++] = v;
        }
        qsort(sorted, m, sizeof *sorted, by_value);
        CHECK_INT(got[0][j], m);
        CHECK_INT(got[7][j], m);
        if (m == 0) {
            CHECK(isnan(got[1][j]) && isnan(got[8][j]) && isnan(got[5][j]) && got[3][j] > got[4][j]);
            continue;
        }
        for (size_t i = 0; i < m; i++) {
            sum += sorted[i] - sorted[0];
            run = i > 0 && sorted[i] == sorted[i - 1] ? run + 1 : 1;
            if (run > most) {
                most = run;
                mode = sorted[i];
            }
        }
        double mean = sorted[0] + sum / (double)m;
        for (size_t i = 0; i < m; i++)
            square += (sorted[i] - mean) * (sorted[i] - mean);
        CHECK(close_to(got[1][j], mean, 400) && close_to(got[2][j], square / (double)m, 1e5));
        CHECK(got[3][j] == sorted[0] && got[4][j] == sorted[m - 1] && got[8][j] == mode);
        for (size_t k = 0; k < 3; k++) {
            size_t at = (size_t)(q[k] * (double)(m - 1));
            CHECK(got[5][k * p + j] == sorted[at]);
            CHECK(got[6][k * p + j] == sorted[at + 1 < m ? at + 1 : at]);
        }
    }
    for (int i = 0; i < 9; i++)
        free(got[i]);
    free(sorted);
}

static void columns(void)
{
    uint64_t seed = 7;
    for (size_t s = 0; s < N_SHAPES; s++) {
        size_t n = shapes[s][0], p = shapes[s][1];
        double *x = data_new(n, p, &seed);
        for (size_t i = 0; i < n * p; i++) {
            uint64_t what = random_next(&seed) % 10;
            if (what == 0) x[i] = (double)NAN;
            if (what == 1) x[i] = 1;
            if (what == 2) x[i] = -x[i];
        }
        for (size_t i = 0; i < n && p > 2; i++) {
            x[i * p] = 0.1;             /* constant */
            x[i * p + 1] = (double)NAN; /* nothing */
        }
        st_dense d = by_rows(x, n, p), t;
        columns_of(&d);
        double *turn = turned(x, n, p, &t);
        columns_of(&t);
        t.row *= 2;
        double out[99];
        if (n > 1 && p > 1) CHECK_INT(st_columns_limits(&meter, &t, 1, out, out), ST_EINVAL);
        free(turn);
        free(x);
    }
}

static void many_keys(void)
{
    enum { N = 40000 };
    double *x = doubles_new(N);
    uint64_t seed = 8;
    for (size_t i = 0; i < N; i++)
        x[i] = i % 3 ? 1 + 0x1p-50 * (double)(random_next(&seed) % 1000) : normal(&seed);
    st_dense d = by_rows(x, N, 1);
    columns_of(&d);
    free(x);
}

static void rewriting_rows(void)
{
    uint64_t seed = 9;
    for (size_t s = 0; s < N_SHAPES; s++) {
        size_t n = shapes[s][0], p = shapes[s][1];
        double *x = data_new(n, p, &seed), *a = data_new(1, p, &seed), *b = data_new(1, p, &seed);
        double *out = doubles_new(n * p), *again = doubles_new(n * p);
        x[n * p / 2] = (double)NAN;
        st_dense d = by_rows(x, n, p), t;
        double *turn = turned(x, n, p, &t);
        for (int how = 0; how < ST_N_REWRITES; how++)
            for (int infinite = 0; infinite < 2; infinite++) {
                if (infinite) x[n * p - 1] = turn[n * p - 1] = -(double)INFINITY;
                bool found = !infinite;
                OK(st_columns_rewrite(&d, (st_rewrite)how, a, b, 2, (char *)out, d.row, d.col, &found));
                CHECK(found == (infinite == 1));
                for (size_t i = 0; i < n * p; i++) {
                    double v = x[i], va = a[i % p], vb = b[i % p];
                    v = how == ST_SUB_DIV ? (v - va) / vb
                        : how == ST_SUB   ? v - va
                        : how == ST_DIV   ? v / vb
                        : how == ST_FILL  ? (isnan(v) ? va : v)
                                          : v * va + vb;
                    CHECK(out[i] == v || (isnan(v) && isnan(out[i])));
                }
                OK(base_columns_rewrite(&d, (st_rewrite)how, a, b, 1, (char *)again, d.row, d.col, &found));
                CHECK(memcmp(out, again, n * p * sizeof *out) == 0);
                OK(st_columns_rewrite(&t, (st_rewrite)how, a, b, 1, (char *)again, t.row, t.col, &found));
                CHECK(found == (infinite == 1));
                for (size_t i = 0; i < n * p; i++)
                    CHECK(memcmp(&again[i % p * n + i / p], &out[i], sizeof *out) == 0);
                if (n > 1 && p > 1)
                    CHECK_INT(
                        st_columns_rewrite(&t, (st_rewrite)how, a, b, 1, (char *)again, d.row, d.col, &found),
                        ST_EINVAL);
                x[n * p - 1] = turn[n * p - 1] = 1;
                x[n * p / 2] = (double)NAN;
                if (n * p == 1) turn[0] = (double)NAN;
            }
        free(turn);
        free(x);
        free(a);
        free(b);
        free(out);
        free(again);
    }
}

static void polynomials(void)
{
    double x[6] = {2, 3, 5, 7, 11, 13}, out[2 * 6], again[2 * 6];
    st_dense d = by_rows(x, 2, 2); /* 1 a b aa ab bb */
    static const st_product_step steps[] = {{1, 2, 0, 3}, {2, 1, 1, 5}};
    bool finite = false;
    OK(st_columns_products(&d, true, steps, 2, 6, 2, (char *)out, &finite));
    static const double want[12] = {1, 2, 3, 4, 6, 9, 1, 5, 7, 25, 35, 49};
    CHECK(finite && memcmp(out, want, sizeof want) == 0);
    OK(base_columns_products(&d, true, steps, 2, 6, 1, (char *)again, &finite));
    CHECK(memcmp(again, want, sizeof want) == 0);
    x[1] = (double)INFINITY;
    OK(st_columns_products(&d, true, steps, 2, 6, 1, (char *)out, &finite));
    CHECK(!finite);
    static const st_product_step bad[] = {
        {1, 3, 0, 3}, {0, 1, 2, 3}, {-1, 1, 0, 3}, {0, -1, 0, 3}, {1, 2, 0, 5}};
    for (size_t i = 0; i < 5; i++)
        CHECK_INT(st_columns_products(&d, true, bad + i, 1, 6, 1, (char *)out, &finite), ST_EINVAL);
    CHECK_INT(st_columns_products(&d, true, NULL, 0, 2, 1, (char *)out, &finite), ST_EINVAL);
}

static int all_that_allocates(void)
{
    double x[40], y[20], w[2] = {0}, out[9], v[8], loss;
    for (size_t i = 0; i < 40; i++)
        x[i] = (double)(i * i % 17);
    for (size_t i = 0; i < 20; i++)
        y[i] = (double)(i % 2);
    st_gram_in in = {.x = by_rows(x, 20, 2), .y = by_rows(y, 20, 1), .center = true};
    st_gram_out gram_out = {.mean = v, .product = out};
    ST_TRY(st_gram(&meter, &in, 2, &gram_out));
    st_descent d = {
        .product = out, .p = 2, .pitch = 3, .target = out + 6, .square = out[8], .alpha = 1, .max_iter = 5};
    ST_TRY(st_descend(&meter, &d, w));
    st_logistic l = {.x = in.x, .target = y, .classes = 1};
    static const double coef[3] = {0};
    ST_TRY(st_logistic_loss(&meter, &l, coef, 2, &loss, v));
    CHECK(close_to(loss, 20 * log(2), 20));
    st_column_sums sums = {v, v + 2, v + 4};
    ST_TRY(st_columns_sums(&meter, &in.x, 2, &sums));
    ST_TRY(st_columns_limits(&meter, &in.x, 2, v, v + 2));
    static const double half = 0.5;
    ST_TRY(st_columns_ranks(&meter, &in.x, 2, &half, 1, v, v + 2, v + 4));
    return st_columns_mode(&meter, &in.x, 2, v);
}

static void no_memory(void) { check_without_memory(all_that_allocates); }

int main(void)
{
    RUN(loops);
    RUN(gram);
    RUN(gram_single);
    RUN(gram_far_off);
    RUN(exp_and_log);
    RUN(logistic);
    RUN(cholesky);
    RUN(descent);
    RUN(columns);
    RUN(many_keys);
    RUN(rewriting_rows);
    RUN(polynomials);
    RUN(no_memory);
    return 0;
}

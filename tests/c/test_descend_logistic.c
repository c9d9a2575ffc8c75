/* test_descend_logistic.c - logistic regression fitted whole: it ends where the gradient, made by plain
 * loops, is as small as was asked for; for every kind of input, at any number of threads, bit for bit as
 * compiled for the baseline processor, and with each allocation failing in turn. */
#include "check.h"

#include "kernels/descend_logistic.h"

#include <math.h>

/* The same once more, without the code for newer processors. */
#undef ST_CLONES
#define ST_CLONES
#define st_logistic_descend base_logistic_descend
int base_logistic_descend(const st_alloc *a, const st_logistic *in, unsigned threads, st_logistic_fit *fit,
                          double *coef);
#include "kernels/descend_logistic.c"
#undef st_logistic_descend
int st_logistic_descend(const st_alloc *a, const st_logistic *in, unsigned threads, st_logistic_fit *fit,
                        double *coef);

static double uniform(uint64_t *seed) { return (double)(random_next(seed) >> 11) * 0x1p-53; }

static double *some(size_t n)
{
    double *p = malloc((n + 1) * sizeof *p);
    CHECK(p != NULL);
    return p;
}

/* The largest entry of the gradient at `coef`, row after row. */
static double steepest(const st_logistic *in, double c, const double *coef)
{
    size_t p = in->x.cols, k = in->classes;
    double *g = some(k * (p + 1)), *raw = some(k), total = 0, most = 0;
    memset(g, 0, k * (p + 1) * sizeof *g);
    for (size_t i = 0; i < in->x.rows; i++) {
        double w = in->weight ? in->weight[i] : 1, top = -INFINITY, sum = 0;
        total += w;
        for (size_t j = 0; j < k; j++) {
            raw[j] = coef[j * (p + 1) + p];
            for (size_t q = 0; q < p; q++)
                raw[j] += coef[j * (p + 1) + q] * st_dense_at(&in->x, i, q);
            top = fmax(top, raw[j]);
        }
        for (size_t j = 0; j < k; j++)
            sum += exp(raw[j] - top);
        for (size_t j = 0; j < k; j++) {
            double chance = k == 1 ? 1 / (1 + exp(-raw[0])) : exp(raw[j] - top) / sum;
            double off = w * (chance - (k == 1 ? in->target[i] : (double)(in->target[i] == (double)j)));
            for (size_t q = 0; q < p; q++)
                g[j * (p + 1) + q] += off * st_dense_at(&in->x, i, q);
            if (in->intercept) g[j * (p + 1) + p] += off;
        }
    }
    for (size_t j = 0; j < k; j++)
        for (size_t q = 0; q <= p; q++) {
            double penalty = q < p ? coef[j * (p + 1) + q] / c : 0;
            most = fmax(most, fabs(g[j * (p + 1) + q] + penalty) / total);
        }
    free(g);
    free(raw);
    return most;
}

enum { ROWS = 120, MOST_COLUMNS = 12, MOST_CLASSES = 4 };

static void one(const st_logistic *in, double c, double tol)
{
    size_t n = in->classes * (in->x.cols + 1);
    double *coef = some(n), *again = some(n);
    st_logistic_fit fit = {.c = c, .tol = tol, .max_iter = 400}, other = fit;
    OK(st_logistic_descend(&meter, in, 1, &fit, coef));
    CHECK(fit.converged && fit.n_iter > 0);
    CHECK(steepest(in, c, coef) <= tol * 1.01 + 1e-12);
    for (size_t j = 0; j < in->classes && !in->intercept; j++)
        CHECK(coef[j * (in->x.cols + 1) + in->x.cols] == 0);
    OK(st_logistic_descend(&meter, in, 3, &other, again));
    CHECK(other.n_iter == fit.n_iter && memcmp(coef, again, n * sizeof *coef) == 0);
    OK(base_logistic_descend(&meter, in, 1, &other, again));
    CHECK(other.n_iter == fit.n_iter && memcmp(coef, again, n * sizeof *coef) == 0);
    other.max_iter = fit.n_iter; /* the last step comes too late */
    OK(st_logistic_descend(&meter, in, 1, &other, again));
    CHECK(!other.converged);
    free(coef);
    free(again);
}

static void ends_in_the_minimum(void)
{
    uint64_t seed = 3;
    static const size_t widths[] = {1, 3, 8, MOST_COLUMNS};
    static const double strengths[] = {1e-4, 0.01, 1, 30};
    double *x = some(ROWS * MOST_COLUMNS), *w = some(ROWS), *two = some(ROWS), *many = some(ROWS);
    float *single = malloc(ROWS * MOST_COLUMNS * sizeof *single);
    CHECK(single != NULL);
    for (size_t s = 0; s < 4; s++) {
        size_t p = widths[s];
        for (size_t i = 0; i < ROWS; i++) {
            double sum = 0;
            for (size_t j = 0; j < p; j++) {
                x[i * p + j] = uniform(&seed) * 4 - 2;
                single[i * p + j] = (float)x[i * p + j];
                sum += x[i * p + j] / (double)(j + 1);
            }
            w[i] = uniform(&seed) + 0.1;
            sum += uniform(&seed) * 4 - 2; /* classes that overlap */
            two[i] = sum > 0;
            many[i] = sum < -1 ? 0 : sum < 0 ? 1 : sum < 1 ? 2 : 3;
        }
        for (int how = 0; how < 8; how++)
            for (size_t c = 0; c < 4; c++) {
                bool f32 = how & 1;
                st_logistic in = {.x = {.data = f32 ? (const char *)single : (const char *)x,
                                        .rows = ROWS,
                                        .cols = p,
                                        .row = (ptrdiff_t)(p * (f32 ? sizeof *single : sizeof *x)),
                                        .col = f32 ? sizeof *single : sizeof *x,
                                        .type = f32 ? ST_F32 : ST_F64},
                                  .target = two,
                                  .weight = how & 2 ? w : NULL,
                                  .classes = 1,
                                  .intercept = !(how & 4)};
                one(&in, strengths[c], 1e-4);
                one(&in, strengths[c], 1e-6);
                in.target = many;
                in.classes = MOST_CLASSES;
                one(&in, strengths[c], 1e-4);
            }
    }
    free(x);
    free(w);
    free(two);
    free(many);
    free(single);
}

static void leaves_to_others(void)
{
    double x[6] = {1, 2, 3, 4, 5, 6}, y[6] = {0, 0, 0, 1, 1, 1}, coef[2];
    st_logistic in = {.x = {.data = (const char *)x, .rows = 6, .cols = 1, .row = 8, .col = 8},
                      .target = y,
                      .classes = 1,
                      .intercept = true};
    st_logistic_fit fit = {.c = 1e12, .tol = 1e-14, .max_iter = 5};
    OK(st_logistic_descend(&meter, &in, 1, &fit, coef));
    CHECK(!fit.converged); /* separable, and hardly a penalty */
    fit = (st_logistic_fit){.c = 1, .tol = 10, .max_iter = 5};
    OK(st_logistic_descend(&meter, &in, 1, &fit, coef));
    CHECK(fit.converged && fit.n_iter == 0 && coef[0] == 0 && coef[1] == 0);
    static const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i < 3; i++) {
        x[2] = bad[i];
        fit = (st_logistic_fit){.c = 1, .tol = 1e-4, .max_iter = 100};
        OK(st_logistic_descend(&meter, &in, 1, &fit, coef));
        CHECK(!fit.converged);
    }
}

static int all_that_allocates(void)
{
    double x[20], y[20], coef[2];
    for (size_t i = 0; i < 20; i++) {
        x[i] = (double)(i * i % 17);
        y[i] = (double)(i % 2);
    }
    st_logistic in = {
        .x = {.data = (const char *)x, .rows = 20, .cols = 1, .row = 8, .col = 8}, .target = y, .classes = 1};
    st_logistic_fit fit = {.c = 1, .tol = 1e-6, .max_iter = 100};
    ST_TRY(st_logistic_descend(&meter, &in, 1, &fit, coef));
    CHECK(fit.converged);
    return ST_OK;
}

static void no_memory(void) { check_without_memory(all_that_allocates); }

int main(void)
{
    RUN(ends_in_the_minimum);
    RUN(leaves_to_others);
    RUN(no_memory);
    return 0;
}

/* cholesky.c - see cholesky.h.  Memory: the caller's. */
#include "kernels/cholesky.h"

#include <math.h>

ST_CLONES static int factor(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double *row = a + i * n;
        for (size_t j = 0; j < i; j++)
            row[j] = (row[j] - st_dot(row, a + j * n, j)) / a[j * n + j];
        double square = row[i] - st_dot(row, row, i);
        if (!(square > 0)) return ST_EINVAL;
        row[i] = sqrt(square);
    }
    return ST_OK;
}

ST_CLONES static void substitute(const double *a, size_t n, double *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (x[i] - st_dot(a + i * n, x, i)) / a[i * n + i];
    /* backwards by columns of the upper half, which are rows of the lower one */
    for (size_t i = n; i-- > 0;) {
        const double *row = a + i * n;
        double v = x[i] / row[i];
        x[i] = v;
        for (size_t j = 0; j < i; j++)
            x[j] -= v * row[j];
    }
}

int st_cholesky_solve(double *a, size_t n, double *b, size_t k)
{
    int rc = factor(a, n);
    for (size_t i = 0; i < k && rc == ST_OK; i++)
        substitute(a, n, b + i * n);
    return rc;
}

/* descent.c - see descent.h.  Memory: one block from the caller's allocator, given back before returning. */
#include "kernels/descent.h"

#include "base/internal.h"

#include <math.h>

typedef struct state {
    st_descent *d;
    double *w, *fitted, *slack; /* fitted: X'X w, slack: X'(y - X w) - beta w */
    size_t *active, n_active;
    double norm; /* of the slack: the largest, in absolute value unless signs are wanted */
} state;

ST_CLONES static void add_scaled(double *restrict to, const double *restrict from, double by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += by * from[i];
}

ST_CLONES static double dot(const double *a, const double *b, size_t n) { return st_dot(a, b, n); }

static double diagonal(const st_descent *d, size_t j) { return d->product[j * d->pitch + j]; }

static void move(state *s, size_t j, double to)
{
    double by = to - s->w[j];
    if (by == 0) return; /* also -0.0 for 0.0, as there */
    s->w[j] = to;
    add_scaled(s->fitted, s->d->product + j * s->d->pitch, by, s->d->p);
}

/* How far the objective can still fall.  Without a penalty it is the squared norm of the gradient. */
static double measure_gap(state *s)
{
    const st_descent *d = s->d;
    size_t p = d->p;
    double qw = dot(s->w, d->target, p), ww = d->beta > 0 ? dot(s->w, s->w, p) : 0;
    double residual = d->square + dot(s->w, s->fitted, p) - 2 * qw, with_y = d->square - qw;
    /* no square is negative: what rounding left of a perfect fit is nothing */
    if (residual < 0) residual = 0;
    double beta = d->alpha == 0 ? 0 : d->beta;
    for (size_t j = 0; j < p; j++)
        s->slack[j] = d->target[j] - s->fitted[j] - beta * s->w[j];
    if (d->alpha == 0) {
        s->norm = dot(s->slack, s->slack, p);
        return d->beta == 0 ? s->norm : residual + d->beta * ww / 2 - with_y + s->norm / (2 * d->beta);
    }
    double norm = d->positive ? s->slack[0] : 0, l1 = 0;
    for (size_t j = 0; j < p; j++) {
        double v = d->positive ? s->slack[j] : fabs(s->slack[j]);
        if (v > norm) norm = v;
        l1 += fabs(s->w[j]);
    }
    s->norm = norm;
    double scale = norm > d->alpha ? d->alpha / norm : 1, quadratic = residual + d->beta * ww;
    double primal = quadratic / 2 + d->alpha * l1, dual = scale * with_y - scale * scale * quadratic / 2;
    return primal - dual;
}

/* Leave out the coordinates that are proven to be zero at the optimum. */
static void screen(state *s)
{
    const st_descent *d = s->d;
    double radius = sqrt(2 * fabs(d->gap)) / d->alpha, over = s->norm > d->alpha ? s->norm : d->alpha;
    size_t kept = 0;
    for (size_t i = 0; i < s->n_active; i++) {
        size_t j = s->active[i];
        double square = diagonal(d, j);
        if (square != 0 && (1 - fabs(s->slack[j] / over)) / sqrt(square + d->beta) <= radius)
            s->active[kept++] = j;
        else if (square != 0)
            move(s, j, 0);
        else
            s->w[j] = 0;
    }
    s->n_active = kept;
}

static double improved(const state *s, size_t j)
{
    const st_descent *d = s->d;
    double square = diagonal(d, j), pull = d->target[j] - s->fitted[j] + s->w[j] * square;
    if (d->positive && pull < 0) return 0;
    double rest = fabs(pull) - d->alpha;
    return pull == 0 ? 0 : copysign(rest > 0 ? rest : 0, pull) / (square + d->beta);
}

int st_descend(const st_alloc *a, st_descent *d, double *w)
{
    size_t p = d->p;
    double *block = st_mem_new(a, p * (2 * sizeof(double) + sizeof(size_t)));
    if (!block) return ST_ENOMEM;
    state s = {.d = d, .w = w, .fitted = block, .slack = block + p, .n_active = p};
    s.active = (size_t *)(void *)(block + 2 * p);
    memset(s.fitted, 0, p * sizeof(double));
    for (size_t j = 0; j < p; j++) {
        s.active[j] = j;
        if (w[j] != 0) add_scaled(s.fitted, d->product + j * d->pitch, w[j], p);
    }
    double tol = d->tol * d->square;
    d->n_iter = 0;
    d->gap = measure_gap(&s);
    d->converged = d->gap <= tol;
    if (!d->converged && d->alpha != 0) screen(&s);
    while (!d->converged && d->n_iter < d->max_iter) {
        double largest = 0, change = 0;
        for (size_t i = 0; i < s.n_active; i++) {
            size_t j = s.active[i];
            if (diagonal(d, j) == 0) continue;
            double was = w[j], now = improved(&s, j);
            move(&s, j, now);
            w[j] = now;
            if (fabs(now - was) > change) change = fabs(now - was);
            if (fabs(now) > largest) largest = fabs(now);
        }
        d->n_iter++;
        if (largest == 0 || change / largest <= d->tol || d->n_iter == d->max_iter) {
            d->gap = measure_gap(&s);
            d->converged = d->gap <= tol;
            if (!d->converged && d->alpha != 0) screen(&s);
        }
    }
    st_mem_free(a, block);
    return ST_OK;
}

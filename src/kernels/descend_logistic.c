/* descend_logistic.c - see descend_logistic.h.  Memory: one block from the caller's allocator, given back
 * before returning.  Vectors have classes * (columns + 1) entries as in logistic.h; without an intercept its
 * gradient is zero, and so it stays where it begins. */
#include "kernels/descend_logistic.h"

#include "base/internal.h"

#include <float.h>
#include <math.h>

enum { PAIRS = 10, MOST_TRIES = 50 };

static const double SUFFICIENT = 1e-3, CURVATURE = 0.9, NARROW = 0.1, LONGEST = 1e10;
static const double LEAST_FALL = 64 * DBL_EPSILON;

typedef struct minimum {
    const st_alloc *a;
    const st_logistic *in;
    st_logistic_fit *fit;
    unsigned threads;
    size_t n;
    double total, penalty;
    double *x, *g;        /* where it stands, and the gradient there */
    double *from, *g_old; /* where the step began */
    double *d;            /* its direction */
    double *s, *y;        /* the last changes of x and g, in a ring */
    double rho[PAIRS], theta;
    size_t pairs, next; /* how many there are; where the next one goes */
    double f;
} minimum;

ST_CLONES static double dot(const double *a, const double *b, size_t n) { return st_dot(a, b, n); }

ST_CLONES static void add_scaled(double *restrict to, const double *restrict from, double by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += by * from[i];
}

static double largest(const double *v, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fabs(v[i]) > most ? fabs(v[i]) : most;
    return most;
}

/* The mean loss with its penalty at x, and its gradient. */
static int evaluate(minimum *m)
{
    double loss, squares = 0;
    ST_TRY(st_logistic_loss(m->a, m->in, m->x, m->threads, &loss, m->g));
    size_t p = m->in->x.cols;
    for (size_t c = 0; c < m->in->classes; c++) {
        const double *w = m->x + c * (p + 1);
        double *g = m->g + c * (p + 1);
        for (size_t i = 0; i < p; i++) {
            g[i] = g[i] / m->total + m->penalty * w[i];
            squares += w[i] * w[i];
        }
        g[p] /= m->total;
    }
    m->f = loss / m->total + 0.5 * m->penalty * squares;
    return ST_OK;
}

/* d = - H g, where H is what the pairs say of the inverse Hessian. */
static void choose_direction(minimum *m)
{
    size_t n = m->n;
    double along[PAIRS];
    for (size_t i = 0; i < n; i++)
        m->d[i] = -m->g[i];
    for (size_t k = 0; k < m->pairs; k++) { /* the latest first */
        size_t at = (m->next + PAIRS - 1 - k) % PAIRS;
        along[at] = dot(m->s + at * n, m->d, n) / m->rho[at];
        add_scaled(m->d, m->y + at * n, -along[at], n);
    }
    for (size_t i = 0; i < n; i++)
        m->d[i] /= m->theta;
    for (size_t k = m->pairs; k-- > 0;) {
        size_t at = (m->next + PAIRS - 1 - k) % PAIRS;
        double back = dot(m->y + at * n, m->d, n) / m->rho[at];
        add_scaled(m->d, m->s + at * n, along[at] - back, n);
    }
}

/* Keep the change of this step, if the function bends upwards along it. */
static void remember(minimum *m, double step, double slope, double first_slope)
{
    size_t n = m->n;
    double *s = m->s + m->next * n, *y = m->y + m->next * n;
    double bend = (slope - first_slope) * step;
    if (!(bend > DBL_EPSILON * (-first_slope * step))) return;
    for (size_t i = 0; i < n; i++) {
        s[i] = step * m->d[i];
        y[i] = m->g[i] - m->g_old[i];
    }
    m->rho[m->next] = bend;
    m->theta = dot(y, y, n) / bend;
    m->next = (m->next + 1) % PAIRS;
    if (m->pairs < PAIRS) m->pairs++;
}

/* -- The line search ----------------------------------------------------------------------- */

typedef struct point {
    double at, f, slope;
} point;

typedef struct bracket {
    point best, other; /* the ends of the interval; best: with the least value so far */
    bool closed;       /* a minimum is known to be between them */
} bracket;

/* The stationary point of the cubic through two points that is reached from `p` towards `q`; `r` is its place
 * as a part of the way.  `clip`: what is under the root may be below zero by rounding. */
static double cubic(const point *p, const point *q, bool clip, bool *outside)
{
    double theta = 3 * (q->f - p->f) / (p->at - q->at) + q->slope + p->slope;
    double scale = fmax(fabs(theta), fmax(fabs(q->slope), fabs(p->slope)));
    double under = (theta / scale) * (theta / scale) - (q->slope / scale) * (p->slope / scale);
    if (clip && under < 0) under = 0;
    double gamma = scale * sqrt(under);
    if (p->at > q->at) gamma = -gamma;
    double over = (gamma - p->slope) + theta;
    double below = clip ? (gamma + (q->slope - p->slope)) + gamma : ((gamma - p->slope) + gamma) + q->slope;
    double r = over / below;
    if (outside) *outside = !(r < 0 && gamma != 0);
    return p->at + r * (q->at - p->at);
}

static double secant(const point *p, const point *q)
{
    return p->at + (p->slope / (p->slope - q->slope)) * (q->at - p->at);
}

/* The next place to try after `now`, within low and high, and the interval that is left. */
static double next_step(bracket *b, const point *now, double low, double high)
{
    const point best = b->best;
    double turned = now->slope * (best.slope / fabs(best.slope)), step;
    bool close = b->closed;
    if (now->f > best.f) { /* too far: a minimum is between */
        double theta = 3 * (best.f - now->f) / (now->at - best.at) + best.slope + now->slope;
        double scale = fmax(fabs(theta), fmax(fabs(best.slope), fabs(now->slope)));
        double gamma =
            scale * sqrt((theta / scale) * (theta / scale) - (best.slope / scale) * (now->slope / scale));
        if (now->at < best.at) gamma = -gamma;
        double r = ((gamma - best.slope) + theta) / (((gamma - best.slope) + gamma) + now->slope);
        double by_cubic = best.at + r * (now->at - best.at);
        double bend = (best.f - now->f) / (now->at - best.at) + best.slope;
        double by_parabola = best.at + ((best.slope / bend) / 2) * (now->at - best.at);
        step = fabs(by_cubic - best.at) < fabs(by_parabola - best.at)
                   ? by_cubic
                   : by_cubic + (by_parabola - by_cubic) / 2;
        close = true;
    } else if (turned < 0) { /* lower, and the slope has turned */
        double by_cubic = cubic(now, &best, false, NULL), by_secant = secant(now, &best);
        step = fabs(by_cubic - now->at) > fabs(by_secant - now->at) ? by_cubic : by_secant;
        close = true;
    } else if (fabs(now->slope) < fabs(best.slope)) { /* lower, and less steep */
        bool outside;
        double by_cubic = cubic(now, &best, true, &outside), by_secant = secant(now, &best);
        if (outside) by_cubic = now->at > best.at ? high : low;
        if (b->closed) {
            step = fabs(by_cubic - now->at) < fabs(by_secant - now->at) ? by_cubic : by_secant;
            double most = now->at + 0.66 * (b->other.at - now->at);
            step = now->at > best.at ? fmin(most, step) : fmax(most, step);
        } else {
            step = fabs(by_cubic - now->at) > fabs(by_secant - now->at) ? by_cubic : by_secant;
            step = fmax(low, fmin(high, step));
        }
    } else if (b->closed) { /* lower, and no less steep */
        step = cubic(now, &b->other, false, NULL);
    } else {
        step = now->at > best.at ? high : low;
    }
    if (now->f > best.f) {
        b->other = *now;
    } else {
        if (turned < 0) b->other = best;
        b->best = *now;
    }
    b->closed = close;
    return step;
}

static point tilted(point p, double by)
{
    p.f -= p.at * by;
    p.slope -= by;
    return p;
}

/* Go along d from where it stands; answers the step in `*step` and the slope there, or false if it is given
 * up.  x, f and g are those of the end. */
static int search_line(minimum *m, double first_slope, double *step, double *slope, bool *good)
{
    size_t n = m->n;
    const double f0 = m->f, fall = SUFFICIENT * first_slope;
    bracket b = {.best = {0, f0, first_slope}, .other = {0, f0, first_slope}};
    double low = 0, high = 5 * *step, width = LONGEST, width_before = 2 * LONGEST;
    bool early = true; /* before the first place that is low enough and where the function rises */
    *good = false;
    for (int tries = 0; tries < MOST_TRIES; tries++) {
        if (*step == 1)
            for (size_t i = 0; i < n; i++)
                m->x[i] = m->from[i] + m->d[i];
        else
            for (size_t i = 0; i < n; i++)
                m->x[i] = *step * m->d[i] + m->from[i];
        ST_TRY(evaluate(m));
        *slope = dot(m->g, m->d, n);
        if (!isfinite(m->f) || !isfinite(*slope)) return ST_OK;
        const point now = {*step, m->f, *slope};
        double enough = f0 + now.at * fall;
        if (early && now.f <= enough && now.slope >= 0) early = false;
        /* (SciPy ends here as well, with a warning to itself: an interval without numbers in it) */
        if (b.closed && (now.at <= low || now.at >= high || high - low <= NARROW * high)) return ST_OK;
        if (now.at == LONGEST && now.f <= enough && now.slope <= fall) return ST_OK;
        *good = now.f <= enough && fabs(now.slope) <= CURVATURE * -first_slope;
        if (*good) return ST_OK;
        if (early && now.f <= b.best.f && now.f > enough) {
            const point raised = tilted(now, fall);
            b.best = tilted(b.best, fall);
            b.other = tilted(b.other, fall);
            *step = next_step(&b, &raised, low, high);
            b.best = tilted(b.best, -fall);
            b.other = tilted(b.other, -fall);
        } else {
            *step = next_step(&b, &now, low, high);
        }
        if (b.closed) {
            double across = fabs(b.other.at - b.best.at);
            if (across >= 0.66 * width_before) *step = b.best.at + 0.5 * (b.other.at - b.best.at);
            width_before = width;
            width = across;
            low = fmin(b.best.at, b.other.at);
            high = fmax(b.best.at, b.other.at);
        } else {
            low = *step + 1.1 * (*step - b.best.at);
            high = *step + 4 * (*step - b.best.at);
        }
        *step = fmin(fmax(*step, 0), LONGEST);
        if (b.closed && (*step <= low || *step >= high || high - low <= NARROW * high)) *step = b.best.at;
    }
    return ST_OK;
}

static int descend(minimum *m)
{
    size_t n = m->n;
    st_logistic_fit *fit = m->fit;
    ST_TRY(evaluate(m));
    if (!isfinite(m->f)) return ST_OK;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(m->g[i])) return ST_OK;
    if (largest(m->g, n) <= fit->tol) {
        fit->converged = true;
        return ST_OK;
    }
    for (;;) {
        choose_direction(m);
        if (m->pairs) /* what is left of the direction when it is added to x */
            for (size_t i = 0; i < n; i++)
                m->d[i] = (m->x[i] + m->d[i]) - m->x[i];
        double first_slope = dot(m->g, m->d, n), step = 1, slope = 0, before = m->f;
        if (!(first_slope < 0)) return ST_OK;
        if (fit->n_iter == 0) step = fmin(1 / sqrt(dot(m->d, m->d, n)), LONGEST);
        memcpy(m->from, m->x, n * sizeof *m->x);
        memcpy(m->g_old, m->g, n * sizeof *m->g);
        bool good;
        ST_TRY(search_line(m, first_slope, &step, &slope, &good));
        if (!good || ++fit->n_iter >= fit->max_iter) return ST_OK;
        double scale = fmax(fmax(fabs(before), fabs(m->f)), 1);
        if (largest(m->g, n) <= fit->tol || before - m->f <= LEAST_FALL * scale) {
            fit->converged = true;
            return ST_OK;
        }
        remember(m, step, slope, first_slope);
    }
}

int st_logistic_descend(const st_alloc *a, const st_logistic *in, unsigned threads, st_logistic_fit *fit,
                        double *coef)
{
    size_t n = in->classes * (in->x.cols + 1);
    minimum m = {.a = a, .in = in, .fit = fit, .threads = threads, .n = n, .theta = 1, .x = coef};
    double *block = st_mem_new(a, (4 + 2 * PAIRS) * n * sizeof *block);
    if (!block) return ST_ENOMEM;
    m.g = block;
    m.from = m.g + n;
    m.g_old = m.from + n;
    m.d = m.g_old + n;
    m.s = m.d + n;
    m.y = m.s + PAIRS * n;
    m.total = (double)in->x.rows;
    if (in->weight) {
        m.total = 0;
        for (size_t i = 0; i < in->x.rows; i++)
            m.total += in->weight[i];
    }
    m.penalty = 1 / (fit->c * m.total);
    memset(coef, 0, n * sizeof *coef);
    fit->n_iter = 0;
    fit->converged = false;
    int rc = descend(&m);
    st_mem_free(a, block);
    return rc;
}

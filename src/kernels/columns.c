/* columns.c - see columns.h.  Memory: from the caller's allocator, given back before returning.
 *
 * Every loop runs along the stride that is that of the numbers.  Rows together: eight columns in a vector,
 * four rows with one load of their sums.  Columns together: eight rows of a column in a vector.
 */
#include "kernels/columns.h"

#include "base/internal.h"
#include "kernels/parallel.h"

#include <math.h>
#include <stdatomic.h>

enum {
    LEAST_ROWS = 4096,
    MOST_CHUNKS = 16,
    SAMPLE = 64,
    SLICE = 1024, /* rows of a rewrite that one thread takes at a time */
    DIGIT = 11,
    FIRST = 14,  /* bits of the first digit of many keys: the exponent and two bits more */
    FEW = 16384, /* keys */
    STRIP = 3,   /* vectors of a row whose sums are in registers together */
    BATCH = 64,  /* rows */
    SLOTS = 4096,
    MOST_COLUMNS = 4, /* that one item gathers, so that a line of the cache is read once for them */
};

ST_INLINE size_t item_size(st_real type) { return type == ST_F64 ? sizeof(double) : sizeof(float); }

ST_INLINE void load8(st_v8 *v, const char *p, st_real type)
{
    if (type == ST_F64)
        memcpy(v, p, sizeof *v);
    else {
        float f[ST_LANES];
        memcpy(f, p, sizeof f);
        for (int i = 0; i < ST_LANES; i++)
            (*v)[i] = (double)f[i];
    }
}

/* Up to eight numbers; `rest` for the others. */
ST_INLINE void load_some(st_v8 *v, const char *p, st_real type, size_t n, double rest)
{
    if (n >= ST_LANES) {
        load8(v, p, type);
        return;
    }
    *v = (st_v8){0} + rest;
    for (size_t i = 0; i < n; i++)
        (*v)[i] = st_real_at(p + i * item_size(type), type);
}

ST_INLINE void masked(st_v8 *to, const st_v8 *v, const st_m8 *mask)
{
    st_m8 bits;
    memcpy(&bits, v, sizeof bits);
    bits &= *mask;
    memcpy(to, &bits, sizeof bits);
}

ST_INLINE void pick(st_v8 *to, const st_m8 *mask, const st_v8 *yes, const st_v8 *no)
{
    st_m8 y, n;
    memcpy(&y, yes, sizeof y);
    memcpy(&n, no, sizeof n);
    y = (y & *mask) | (n & ~*mask);
    memcpy(to, &y, sizeof y);
}

static bool rows_together(const st_dense *x) { return x->col == (ptrdiff_t)item_size(x->type); }
static bool columns_together(const st_dense *x) { return x->row == (ptrdiff_t)item_size(x->type); }

static size_t padded(size_t cols) { return (cols + ST_LANES - 1) / ST_LANES * ST_LANES; }

/* -- Sums and limits ----------------------------------------------------------------------- */

typedef struct reduction {
    const st_dense *x;
    const double *shift;
    size_t chunks, width;
    double *parts; /* a chunk: three rows of `width` (sums) or two (limits) */
    bool limits;
} reduction;

/* What one vector of numbers adds: count, sum and sum of squares of the shifted numbers. */
ST_INLINE void add_sums(const st_v8 *v, const st_v8 *shift, st_v8 *n, st_v8 *s, st_v8 *q)
{
    st_m8 there = *v == *v;
    st_v8 one = (st_v8){0} + 1.0, d = *v - *shift;
    masked(&d, &d, &there);
    masked(&one, &one, &there);
    *n += one;
    *s += d;
    *q += d * d;
}

ST_INLINE void add_limits(const st_v8 *v, st_v8 *least, st_v8 *most)
{
    st_m8 below = *v<*least, above = *v> * most;
    pick(least, &below, v, least);
    pick(most, &above, v, most);
}

/* Rows of less than a vector. */
ST_INLINE void reduce_short(const reduction *r, size_t begin, size_t end, double *part, st_real type,
                            bool limits)
{
    const st_dense *x = r->x;
    const char *p = x->data + (ptrdiff_t)begin * x->row;
    st_v8 v, shift, s0, s1, s2;
    st_v8_load(&shift, r->shift);
    st_v8_load(&s0, part);
    st_v8_load(&s1, part + r->width);
    st_v8_load(&s2, part + 2 * r->width);
    for (size_t row = begin; row < end; row++, p += x->row) {
        load_some(&v, p, type, x->cols, (double)NAN);
        if (limits)
            add_limits(&v, &s0, &s1);
        else
            add_sums(&v, &shift, &s0, &s1, &s2);
    }
    st_v8_store(part, &s0);
    st_v8_store(part + r->width, &s1);
    st_v8_store(part + 2 * r->width, &s2);
}

/* `n` (at most STRIP, known to the compiler) vectors of some rows, from column j on.  The last vector of a
 * row ends with it: what it shares with the one before is not written again. */
ST_INLINE void reduce_strip(const reduction *r, size_t j, size_t n, size_t begin, size_t end, double *part,
                            st_real type, bool limits)
{
    const st_dense *x = r->x;
    size_t item = item_size(type), whole = j + (n - 1) * ST_LANES,
           last = whole + ST_LANES <= x->cols ? whole : x->cols - ST_LANES;
    st_v8 v, shift[STRIP], s0[STRIP], s1[STRIP], s2[STRIP];
    _Pragma("GCC unroll 4") for (size_t i = 0; i < n; i++)
    {
        size_t at = i + 1 < n ? j + i * ST_LANES : last;
        st_v8_load(&shift[i], r->shift + at);
        st_v8_load(&s0[i], part + at);
        st_v8_load(&s1[i], part + r->width + at);
        st_v8_load(&s2[i], part + 2 * r->width + at);
    }
    const char *p = x->data + (ptrdiff_t)begin * x->row;
    for (size_t row = begin; row < end; row++, p += x->row)
        _Pragma("GCC unroll 4") for (size_t i = 0; i < n; i++)
        {
            load8(&v, p + (i + 1 < n ? j + i * ST_LANES : last) * item, type);
            if (limits)
                add_limits(&v, &s0[i], &s1[i]);
            else
                add_sums(&v, &shift[i], &s0[i], &s1[i], &s2[i]);
        }
    _Pragma("GCC unroll 4") for (size_t i = 0; i < n; i++)
    {
        size_t at = j + i * ST_LANES, from = i + 1 < n ? 0 : whole - last;
        double lanes[3][ST_LANES];
        st_v8_store(lanes[0], &s0[i]);
        st_v8_store(lanes[1], &s1[i]);
        st_v8_store(lanes[2], &s2[i]);
        for (size_t k = 0; k < 3; k++)
            memcpy(part + k * r->width + at, lanes[k] + from, (ST_LANES - from) * sizeof(double));
    }
}

/* Sums stay in registers for BATCH rows (100,000 x 20, sums: 0.6 of the time of four rows). */
ST_INLINE void reduce_rows(const reduction *r, size_t begin, size_t end, double *part, st_real type,
                           bool limits)
{
    if (r->x->cols < ST_LANES) {
        reduce_short(r, begin, end, part, type, limits);
        return;
    }
    size_t vectors = r->width / ST_LANES;
    for (size_t row = begin; row < end; row += BATCH) {
        size_t to = end - row < BATCH ? end : row + BATCH, v = 0;
        for (; v + STRIP <= vectors; v += STRIP)
            reduce_strip(r, v * ST_LANES, STRIP, row, to, part, type, limits);
        if (vectors - v == 2)
            reduce_strip(r, v * ST_LANES, 2, row, to, part, type, limits);
        else if (vectors - v == 1)
            reduce_strip(r, v * ST_LANES, 1, row, to, part, type, limits);
    }
}

/* One column of a chunk, whose rows lie together. */
ST_INLINE void reduce_column(const reduction *r, size_t j, size_t begin, size_t end, double *part,
                             st_real type, bool limits)
{
    const st_dense *x = r->x;
    size_t item = item_size(type);
    const char *p = x->data + (ptrdiff_t)j * x->col + (ptrdiff_t)(begin * item);
    st_v8 v, s0 = {0}, s1 = {0}, s2 = {0}, shift = (st_v8){0} + r->shift[j];
    if (limits) {
        s0 += (double)INFINITY;
        s1 -= (double)INFINITY;
    }
    for (size_t n = end - begin; n > 0;) {
        load_some(&v, p, type, n, (double)NAN);
        if (limits)
            add_limits(&v, &s0, &s1);
        else
            add_sums(&v, &shift, &s0, &s1, &s2);
        size_t step = n < ST_LANES ? n : ST_LANES;
        p += step * item;
        n -= step;
    }
    if (!limits) {
        part[j] = st_v8_sum(&s0);
        part[r->width + j] = st_v8_sum(&s1);
        part[2 * r->width + j] = st_v8_sum(&s2);
        return;
    }
    for (int i = 0; i < ST_LANES; i++) {
        if (s0[i] < part[j]) part[j] = s0[i];
        if (s1[i] > part[r->width + j]) part[r->width + j] = s1[i];
    }
}

ST_CLONES static void reduce_part(const reduction *r, size_t begin, size_t end, double *part)
{
    const st_dense *x = r->x;
    bool f64 = x->type == ST_F64;
    if (x->col == (ptrdiff_t)(f64 ? sizeof(double) : sizeof(float))) {
        if (f64 && r->limits)
            reduce_rows(r, begin, end, part, ST_F64, true);
        else if (f64)
            reduce_rows(r, begin, end, part, ST_F64, false);
        else if (r->limits)
            reduce_rows(r, begin, end, part, ST_F32, true);
        else
            reduce_rows(r, begin, end, part, ST_F32, false);
        return;
    }
    for (size_t j = 0; j < x->cols; j++) {
        if (f64 && r->limits)
            reduce_column(r, j, begin, end, part, ST_F64, true);
        else if (f64)
            reduce_column(r, j, begin, end, part, ST_F64, false);
        else if (r->limits)
            reduce_column(r, j, begin, end, part, ST_F32, true);
        else
            reduce_column(r, j, begin, end, part, ST_F32, false);
    }
}

static void reduce_chunk(void *ud, size_t c, unsigned worker)
{
    (void)worker;
    const reduction *r = ud;
    double *part = r->parts + c * 3 * r->width;
    for (size_t j = 0; j < 3 * r->width; j++)
        part[j] = !r->limits ? 0 : j < r->width ? (double)INFINITY : -(double)INFINITY;
    size_t n = r->x->rows;
    reduce_part(r, st_block_at(n, c, r->chunks), st_block_at(n, c + 1, r->chunks), part);
}

static int reduction_begin(const st_alloc *a, reduction *r)
{
    if (!rows_together(r->x) && !columns_together(r->x)) return ST_EINVAL;
    r->width = padded(r->x->cols);
    r->chunks = st_blocks(r->x->rows, LEAST_ROWS, MOST_CHUNKS);
    r->parts = st_mem_new(a, (r->chunks * 3 + 1) * r->width * sizeof(double));
    if (!r->parts) return ST_ENOMEM;
    double *shift = r->parts + r->chunks * 3 * r->width;
    memset(shift, 0, r->width * sizeof *shift);
    r->shift = shift;
    return ST_OK;
}

/* Guesses at the means: of some rows, as differences from the first number there is. */
static void guess(const st_dense *x, double *shift)
{
    size_t k = x->rows < SAMPLE ? x->rows : SAMPLE;
    for (size_t j = 0; j < x->cols; j++) {
        double first = 0, sum = 0, n = 0;
        for (size_t s = 0; s < k; s++) {
            double v = st_dense_at(x, st_block_at(x->rows, s, k), j);
            if (!isfinite(v)) continue;
            if (n == 0) first = v;
            sum += v - first;
            n += 1;
        }
        shift[j] = n > 0 ? first + sum / n : 0;
        if (!isfinite(shift[j])) shift[j] = 0;
    }
}

int st_columns_sums(const st_alloc *a, const st_dense *x, unsigned threads, const st_column_sums *out)
{
    reduction r = {.x = x};
    ST_TRY(reduction_begin(a, &r));
    double *shift = r.parts + r.chunks * 3 * r.width;
    guess(x, shift);
    for (int round = 0;; round++) {
        st_parallel(threads, r.chunks, reduce_chunk, &r);
        bool again = false;
        for (size_t j = 0; j < x->cols; j++) {
            double n = 0, s = 0, q = 0;
            for (size_t c = 0; c < r.chunks; c++) {
                const double *part = r.parts + c * 3 * r.width;
                n += part[j];
                s += part[r.width + j];
                q += part[2 * r.width + j];
            }
            double off = s / n, lost = off * s, squares = q - lost;
            if (squares < 0) squares = 0;
            out->count[j] = n;
            out->mean[j] = shift[j] + off;
            out->variance[j] = squares / n;
            /* the guess was so far off that digits are lost: once more around the mean */
            if (round == 0 && lost > 4 * squares && isfinite(lost)) again = true;
        }
        if (!again) break;
        for (size_t j = 0; j < x->cols; j++)
            if (isfinite(out->mean[j])) shift[j] = out->mean[j];
    }
    st_mem_free(a, r.parts);
    return ST_OK;
}

int st_columns_limits(const st_alloc *a, const st_dense *x, unsigned threads, double *least, double *most)
{
    reduction r = {.x = x, .limits = true};
    ST_TRY(reduction_begin(a, &r));
    st_parallel(threads, r.chunks, reduce_chunk, &r);
    for (size_t j = 0; j < x->cols; j++) {
        least[j] = (double)INFINITY;
        most[j] = -(double)INFINITY;
        for (size_t c = 0; c < r.chunks; c++) {
            const double *part = r.parts + c * 3 * r.width;
            if (part[j] < least[j]) least[j] = part[j];
            if (part[r.width + j] > most[j]) most[j] = part[r.width + j];
        }
    }
    st_mem_free(a, r.parts);
    return ST_OK;
}

/* -- Order ---------------------------------------------------------------------------------- */

/* Numbers as integers in the same order (-0.0 as 0.0), and back. */
ST_INLINE uint64_t key_of(double v)
{
    uint64_t u;
    v += 0.0;
    memcpy(&u, &v, sizeof u);
    return u >> 63 ? ~u : u | (uint64_t)1 << 63;
}

static double number_of(uint64_t key)
{
    uint64_t u = key >> 63 ? key & ~((uint64_t)1 << 63) : ~key;
    double v;
    memcpy(&v, &u, sizeof v);
    return v;
}

typedef struct ordering {
    const st_dense *x;
    size_t group;   /* columns of an item */
    uint64_t *room; /* a worker: the rows, two times more than there are columns in an item */
    const double *q;
    size_t k;
    double *below, *above, *count, *mode;
} ordering;

/* The keys of `n` columns from j on, `rows` apart; how many there are of each. */
static void gather(const st_dense *x, size_t j, size_t n, uint64_t *restrict keys, size_t *restrict count)
{
    const char *p = x->data + (ptrdiff_t)j * x->col;
    uint64_t *to[MOST_COLUMNS];
    for (size_t c = 0; c < n; c++)
        to[c] = keys + c * x->rows;
    for (size_t i = 0; i < x->rows; i++, p += x->row) {
        const char *at = p;
        for (size_t c = 0; c < n; c++, at += x->col) {
            double v = st_real_at(at, x->type);
            *to[c] = key_of(v);
            to[c] += v == v;
        }
    }
    for (size_t c = 0; c < n; c++)
        count[c] = (size_t)(to[c] - (keys + c * x->rows));
}

/* The key at place `rank`: digits from the top, keeping the keys that share them.  No input is slow. */
static uint64_t select_key(const uint64_t *keys, size_t n, size_t rank, uint64_t *room)
{
    for (int shift = 64 - DIGIT;; shift -= DIGIT) {
        if (shift < 0) shift = 0;
        uint32_t counts[1 << DIGIT] = {0};
        size_t at = 0, kept = 0;
        for (size_t i = 0; i < n; i++)
            counts[keys[i] >> shift & ((1 << DIGIT) - 1)]++;
        while (rank >= counts[at])
            rank -= counts[at++];
        if (counts[at] < n || shift == 0) {
            for (size_t i = 0; i < n; i++) {
                room[kept] = keys[i];
                kept += (keys[i] >> shift & ((1 << DIGIT) - 1)) == at;
            }
            keys = room;
            n = kept;
        }
        /* at the end all digits of what is left are the same */
        if (shift == 0) return keys[0];
    }
}

/* All places of a column share the first look at its digits: what is left then is a few keys each. */
static void ranks_of_column(const ordering *o, size_t j, uint64_t *keys, size_t n, uint64_t *some)
{
    size_t cols = o->x->cols;
    uint64_t *room = some + o->x->rows;
    int shift = n < FEW ? 64 - DIGIT : 64 - FIRST;
    uint32_t counts[1 << FIRST];
    memset(counts, 0, sizeof *counts << (64 - shift));
    for (size_t r = 0; r < n; r++)
        counts[keys[r] >> shift]++;
    o->count[j] = (double)n;
    for (size_t i = 0; i < o->k; i++) {
        double *below = o->below + i * cols + j, *above = o->above + i * cols + j;
        *below = *above = (double)NAN;
        if (n == 0) continue;
        size_t rank = (size_t)(o->q[i] * (double)(n - 1)), at = 0, kept = 0;
        if (rank >= n) rank = n - 1;
        bool last = rank + 1 == n;
        while (rank >= counts[at])
            rank -= counts[at++];
        for (size_t r = 0; r < n; r++) {
            some[kept] = keys[r];
            kept += keys[r] >> shift == at;
        }
        *below = *above = number_of(select_key(some, kept, rank, room));
        if (last) continue;
        if (rank + 1 < kept)
            *above = number_of(select_key(some, kept, rank + 1, room));
        else {
            uint64_t next = UINT64_MAX;
            for (size_t r = 0; r < n; r++)
                if (keys[r] >> shift > at && keys[r] < next) next = keys[r];
            *above = number_of(next);
        }
    }
}

/* Sort by digits from the bottom; answers which of the two arrays has the result. */
static uint64_t *sort_keys(uint64_t *keys, uint64_t *room, size_t n)
{
    for (int shift = 0; shift < 64; shift += DIGIT) {
        size_t counts[1 << DIGIT] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++)
            counts[keys[i] >> shift & ((1 << DIGIT) - 1)]++;
        if (counts[keys[0] >> shift & ((1 << DIGIT) - 1)] == n) continue;
        for (size_t d = 0; d < 1 << DIGIT; d++) {
            size_t c = counts[d];
            counts[d] = sum;
            sum += c;
        }
        for (size_t i = 0; i < n; i++)
            room[counts[keys[i] >> shift & ((1 << DIGIT) - 1)]++] = keys[i];
        uint64_t *swap = keys;
        keys = room;
        room = swap;
    }
    return keys;
}

/* Count keys in a table of SLOTS keys and counts: false where there are too many different ones. */
static bool count_keys(const uint64_t *keys, size_t n, uint64_t *table, uint64_t *best)
{
    uint64_t *counts = table + SLOTS;
    size_t used = 0, most = 0;
    memset(counts, 0, SLOTS * sizeof *counts);
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)(keys[i] * 0x9e3779b97f4a7c15u >> 52);
        while (counts[at] != 0 && table[at] != keys[i])
            at = (at + 1) % SLOTS;
        if (counts[at]++ != 0) continue;
        table[at] = keys[i];
        if (++used > SLOTS / 2) return false;
    }
    for (size_t at = 0; at < SLOTS; at++)
        if (counts[at] > most || (counts[at] > 0 && counts[at] == most && table[at] < *best)) {
            most = counts[at];
            *best = table[at];
        }
    return true;
}

static void mode_of_column(const ordering *o, size_t j, uint64_t *keys, size_t n, uint64_t *room)
{
    size_t most = 0;
    uint64_t best = 0;
    o->mode[j] = (double)NAN;
    if (n == 0) return;
    if (o->x->rows >= SLOTS && count_keys(keys, n, room, &best)) {
        o->mode[j] = number_of(best);
        return;
    }
    keys = sort_keys(keys, room, n);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && keys[end] == keys[i];)
            end++;
        if (end - i > most) {
            most = end - i;
            o->mode[j] = number_of(keys[i]);
        }
    }
}

static void order_item(void *ud, size_t item, unsigned worker)
{
    const ordering *o = ud;
    size_t rows = o->x->rows, j = item * o->group, count[MOST_COLUMNS];
    size_t n = o->x->cols - j < o->group ? o->x->cols - j : o->group;
    uint64_t *keys = o->room + (size_t)worker * (o->group + 2) * rows, *more = keys + o->group * rows;
    gather(o->x, j, n, keys, count);
    for (size_t c = 0; c < n; c++)
        if (o->mode)
            mode_of_column(o, j + c, keys + c * rows, count[c], more);
        else
            ranks_of_column(o, j + c, keys + c * rows, count[c], more);
}

static int order(const st_alloc *a, ordering *o, unsigned threads)
{
    if (threads < 1) threads = 1;
    if (threads > ST_MAX_THREADS) threads = ST_MAX_THREADS;
    if (threads > o->x->cols) threads = (unsigned)o->x->cols;
    if (threads < 1) return ST_OK;
    /* two items a thread, where columns do not lie together anyway */
    size_t even = (o->x->cols + 2 * threads - 1) / (2 * threads);
    o->group = columns_together(o->x) ? 1 : even > MOST_COLUMNS ? MOST_COLUMNS : even;
    o->room = st_mem_new(a, threads * (o->group + 2) * o->x->rows * sizeof(uint64_t));
    if (!o->room) return ST_ENOMEM;
    st_parallel(threads, (o->x->cols + o->group - 1) / o->group, order_item, o);
    st_mem_free(a, o->room);
    return ST_OK;
}

int st_columns_ranks(const st_alloc *a, const st_dense *x, unsigned threads, const double *q, size_t k,
                     double *below, double *above, double *count)
{
    ordering o = {.x = x, .q = q, .k = k, .below = below, .above = above, .count = count};
    return order(a, &o, threads);
}

int st_columns_mode(const st_alloc *a, const st_dense *x, unsigned threads, double *mode)
{
    ordering o = {.x = x, .mode = mode};
    return order(a, &o, threads);
}

/* -- Rewriting ------------------------------------------------------------------------------ */

typedef struct rewriting {
    const st_dense *x;
    st_rewrite how;
    const double *a, *b;
    char *out;
    ptrdiff_t out_row, out_col;
    size_t slices;
    atomic_bool infinite;
} rewriting;

/* Numbers rounded to the type that they will be stored in: the original stores between two steps.  Through
 * memory that the compiler must not see through: GCC 12 takes a vector there and back for the vector. */
ST_INLINE void rounded(st_v8 *v, st_real type)
{
    if (type != ST_F32) return;
    float f[ST_LANES];
    for (int i = 0; i < ST_LANES; i++)
        f[i] = (float)(*v)[i];
    __asm__("" : "+m"(f));
    for (int i = 0; i < ST_LANES; i++)
        (*v)[i] = (double)f[i];
}

ST_INLINE void change(st_v8 *v, st_rewrite how, const st_v8 *a, const st_v8 *b, st_real type)
{
    switch (how) {
    case ST_SUB_DIV:
        *v -= *a;
        rounded(v, type);
        *v /= *b;
        break;
    case ST_SUB: *v -= *a; break;
    case ST_DIV: *v /= *b; break;
    case ST_MUL_ADD:
        *v *= *a;
        rounded(v, type);
        *v += *b;
        break;
    default: {
        st_m8 there = *v == *v;
        pick(v, &there, v, a);
    }
    }
}

ST_INLINE void store_some(char *p, const st_v8 *v, st_real type, size_t n)
{
    if (n > ST_LANES) n = ST_LANES;
    if (type == ST_F64) {
        if (n == ST_LANES)
            memcpy(p, v, sizeof *v);
        else
            memcpy(p, v, n * sizeof(double));
        return;
    }
    float f[ST_LANES];
    for (int i = 0; i < ST_LANES; i++)
        f[i] = (float)(*v)[i];
    if (n == ST_LANES)
        memcpy(p, f, sizeof f);
    else
        memcpy(p, f, n * sizeof(float));
}

/* `wrong` becomes NaN for good at an infinity, and at nothing else. */
ST_INLINE void note_infinity(st_v8 *wrong, const st_v8 *v)
{
    st_m8 there = *v == *v;
    st_v8 u;
    masked(&u, v, &there);
    *wrong += u - u;
}

/* `n` numbers in a line; a and b are lines too, or (`one`) a number each. */
ST_INLINE void change_line(const char *from, char *to, size_t n, st_rewrite how, const double *a,
                           const double *b, bool one, st_real type, st_m8 *infinite)
{
    const size_t step = ST_LANES * item_size(type);
    st_v8 va = {0}, vb = {0}, v, wrong = {0};
    if (one) {
        va += a[0];
        vb += b[0];
    }
    size_t i = 0;
    for (; i + ST_LANES <= n; i += ST_LANES, from += step, to += step) {
        load8(&v, from, type);
        if (!one) {
            st_v8_load(&va, a + i);
            st_v8_load(&vb, b + i);
        }
        note_infinity(&wrong, &v);
        change(&v, how, &va, &vb, type);
        store_some(to, &v, type, ST_LANES);
    }
    if (i < n) {
        load_some(&v, from, type, n - i, 1);
        if (!one) {
            load_some(&va, (const char *)(a + i), ST_F64, n - i, 1);
            load_some(&vb, (const char *)(b + i), ST_F64, n - i, 1);
        }
        note_infinity(&wrong, &v);
        change(&v, how, &va, &vb, type);
        store_some(to, &v, type, n - i);
    }
    *infinite |= wrong != wrong;
}

#define CHANGE_LINE(how, type)                                                                               \
    case (how): change_line(from, to, n, how, a, b, one, type, infinite); break;

ST_CLONES static void change_any(const char *from, char *to, size_t n, st_rewrite how, const double *a,
                                 const double *b, bool one, st_real type, st_m8 *infinite)
{
    if (type == ST_F64) switch (how) {
            CHANGE_LINE(ST_SUB_DIV, ST_F64)
            CHANGE_LINE(ST_SUB, ST_F64)
            CHANGE_LINE(ST_DIV, ST_F64)
            CHANGE_LINE(ST_MUL_ADD, ST_F64)
        default: change_line(from, to, n, ST_FILL, a, b, one, ST_F64, infinite);
        }
    else
        switch (how) {
            CHANGE_LINE(ST_SUB_DIV, ST_F32)
            CHANGE_LINE(ST_SUB, ST_F32)
            CHANGE_LINE(ST_DIV, ST_F32)
            CHANGE_LINE(ST_MUL_ADD, ST_F32)
        default: change_line(from, to, n, ST_FILL, a, b, one, ST_F32, infinite);
        }
}

static void rewrite_slice(void *ud, size_t s, unsigned worker)
{
    (void)worker;
    rewriting *w = ud;
    const st_dense *x = w->x;
    size_t begin = st_block_at(x->rows, s, w->slices), end = st_block_at(x->rows, s + 1, w->slices);
    st_m8 infinite = {0};
    if (rows_together(x))
        for (size_t i = begin; i < end; i++)
            change_any(x->data + (ptrdiff_t)i * x->row, w->out + (ptrdiff_t)i * w->out_row, x->cols, w->how,
                       w->a, w->b, false, x->type, &infinite);
    else
        for (size_t j = 0; j < x->cols; j++)
            change_any(x->data + (ptrdiff_t)begin * x->row + (ptrdiff_t)j * x->col,
                       w->out + (ptrdiff_t)begin * w->out_row + (ptrdiff_t)j * w->out_col, end - begin,
                       w->how, w->a + j, w->b + j, true, x->type, &infinite);
    for (int i = 0; i < ST_LANES; i++)
        if (infinite[i]) atomic_store_explicit(&w->infinite, true, memory_order_relaxed);
}

int st_columns_rewrite(const st_dense *x, st_rewrite how, const double *a, const double *b, unsigned threads,
                       char *out, ptrdiff_t out_row, ptrdiff_t out_col, bool *infinite)
{
    ptrdiff_t item = (ptrdiff_t)item_size(x->type);
    if (!(rows_together(x) && out_col == item) && !(columns_together(x) && out_row == item)) return ST_EINVAL;
    rewriting w = {.x = x, .how = how, .a = a, .b = b, .out = out, .out_row = out_row, .out_col = out_col};
    atomic_init(&w.infinite, false);
    w.slices = st_blocks(x->rows, SLICE, 64);
    st_parallel(threads, w.slices, rewrite_slice, &w);
    *infinite = atomic_load(&w.infinite);
    return ST_OK;
}

/* -- Products of columns -------------------------------------------------------------------- */

typedef struct expansion {
    const st_dense *x;
    bool bias;
    const st_product_step *steps;
    size_t n_steps, width, slices;
    char *out;
    atomic_bool broken;
} expansion;

#define EXPAND_ROWS(name, T)                                                                                 \
    ST_CLONES static bool name(const expansion *e, size_t begin, size_t end)                                 \
    {                                                                                                        \
        const st_dense *x = e->x;                                                                            \
        T broken = 0;                                                                                        \
        for (size_t i = begin; i < end; i++) {                                                               \
            T *out = (T *)(void *)e->out + i * e->width, *v = out + (e->bias ? 1 : 0);                       \
            const char *p = x->data + (ptrdiff_t)i * x->row;                                                 \
            if (e->bias) out[0] = 1;                                                                         \
            for (size_t j = 0; j < x->cols; j++) {                                                           \
                memcpy(&v[j], p + (ptrdiff_t)j * x->col, sizeof *v);                                         \
                broken += v[j] * 0;                                                                          \
            }                                                                                                \
            for (size_t s = 0; s < e->n_steps; s++) {                                                        \
                const st_product_step *step = &e->steps[s];                                                  \
                T by = v[step->feature];                                                                     \
                const T *restrict from = out + step->from;                                                   \
                T *restrict to = out + step->to;                                                             \
                size_t n = (size_t)step->n;                                                                  \
                for (size_t k = 0; k < n; k++)                                                               \
                    to[k] = from[k] * by;                                                                    \
            }                                                                                                \
        }                                                                                                    \
        return broken == broken;                                                                             \
    }

EXPAND_ROWS(expand_f64, double)
EXPAND_ROWS(expand_f32, float)

static void expand_slice(void *ud, size_t s, unsigned worker)
{
    (void)worker;
    expansion *e = ud;
    size_t n = e->x->rows, begin = st_block_at(n, s, e->slices), end = st_block_at(n, s + 1, e->slices);
    bool whole = e->x->type == ST_F64 ? expand_f64(e, begin, end) : expand_f32(e, begin, end);
    if (!whole) atomic_store_explicit(&e->broken, true, memory_order_relaxed);
}

int st_columns_products(const st_dense *x, bool bias, const st_product_step *steps, size_t n_steps,
                        size_t width, unsigned threads, char *out, bool *finite)
{
    for (size_t s = 0; s < n_steps; s++) {
        const st_product_step *p = &steps[s];
        if (p->n < 0 || p->from < 0 || p->feature < 0 || (size_t)p->feature >= x->cols ||
            p->to < p->from + p->n || (size_t)(p->to + p->n) > width)
            return ST_EINVAL;
    }
    if (x->cols + (bias ? 1 : 0) > width) return ST_EINVAL;
    expansion e = {.x = x, .bias = bias, .steps = steps, .n_steps = n_steps, .width = width, .out = out};
    atomic_init(&e.broken, false);
    e.slices = st_blocks(x->rows, 256, 64);
    st_parallel(threads, e.slices, expand_slice, &e);
    *finite = !atomic_load(&e.broken);
    return ST_OK;
}

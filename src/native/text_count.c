/* text_count.c - the n-grams of a column's distinct strings, counted, and the rows made of the counts.
 *
 * Strings are shared out to threads in stretches, each thread numbering the terms that it sees.  The parts
 * are then put together in the order of the strings: the first part's terms keep their numbers, those of
 * the next follow where they are new.  That is the order in which one thread would have seen them, so that
 * nothing depends on the number of threads.
 *
 * Counting within a string is a mark a term: which string it was last seen in, and at which entry.
 */
#include "native/text.h"

#include "kernels/parallel.h"

#include <math.h>

/* A second thread costs 30 microseconds and a table of its own; measured, it pays from some 50 KB of text. */
#define BYTES_A_THREAD 50000

typedef struct mark {
    uint32_t text, entry; /* text: its number in the part, plus one */
    int64_t rows;
} mark;

typedef struct count_job {
    const st_column *column;
    const st_text_spec *spec;
    const st_terms *given;
    st_counts *out;
    st_terms *terms; /* a table a part, unless given */
    mark **marks;
    int *rc;
} count_job;

static int count_part(const count_job *job, int at)
{
    const st_alloc *a = job->out->a;
    st_count_part *part = &job->out->parts[at];
    const st_terms *strings = &job->column->strings;
    st_terms *own = job->given ? NULL : &job->terms[at];
    uint64_t *ptr = job->out->ptr + part->from + (size_t)at;
    size_t n_marks = job->given ? job->given->n : 1024;
    mark *marks = st_mem_zero(a, n_marks * sizeof *marks);
    job->marks[at] = marks;
    if (!marks) return ST_ENOMEM;
    if (own) ST_TRY(st_terms_init(own, a, 1024));
    /* looking up changes nothing, so that threads may share the terms that were given */
    st_terms *terms = own ? own : (st_terms *)(uintptr_t)job->given;
    st_scan scan = {0};
    int rc = ST_OK;
    for (size_t t = part->from; t < part->to; t++) {
        *ptr++ = part->ids.n;
        size_t first = part->ids.n;
        uint32_t stamp = (uint32_t)(t - part->from) + 1;
        int64_t weight = job->column->counts.v[t];
        if (!weight) continue;
        rc = st_scan_text(a, &scan, job->spec, strings->bytes + strings->off[t],
                          (size_t)(strings->off[t + 1] - strings->off[t]));
        if (rc == ST_OK) rc = st_vec_reserve(a, &part->ids, scan.grams.n);
        if (rc == ST_OK) rc = st_vec_reserve(a, &part->counts, scan.grams.n);
        for (size_t g = 0; g < scan.grams.n && rc == ST_OK; g += ST_BATCH) {
            size_t n = scan.grams.n - g < ST_BATCH ? scan.grams.n - g : ST_BATCH;
            uint32_t ids[ST_BATCH];
            rc = st_terms_batch(terms, own != NULL, scan.buf.v, scan.grams.v + g, n, ids);
            if (rc == ST_OK && own && own->n > n_marks) {
                mark *more = a->resize(a->ud, marks, 2 * n_marks * sizeof *marks);
                if (!more) {
                    rc = ST_ENOMEM;
                    break;
                }
                memset(more + n_marks, 0, n_marks * sizeof *marks);
                n_marks *= 2;
                job->marks[at] = marks = more;
            }
            for (size_t i = 0; i < n && rc == ST_OK; i++)
                if (ids[i] != ST_NO_TERM) __builtin_prefetch(&marks[ids[i]], 1);
            for (size_t i = 0; i < n && rc == ST_OK; i++) {
                if (ids[i] == ST_NO_TERM) continue;
                mark *m = &marks[ids[i]];
                if (m->text == stamp) {
                    part->counts.v[first + m->entry]++;
                    continue;
                }
                m->text = stamp;
                m->entry = (uint32_t)(part->ids.n - first);
                m->rows += weight;
                part->ids.v[part->ids.n++] = ids[i];
                part->counts.v[part->counts.n++] = 1;
            }
        }
        if (rc != ST_OK) break;
    }
    *ptr = part->ids.n;
    st_scan_free(a, &scan);
    return rc;
}

static void count_fork(void *arg, int part, int n_parts)
{
    count_job *job = arg;
    (void)n_parts;
    job->rc[part] = count_part(job, part);
}

/* Terms of the parts after the first one are given their numbers among all. */
static int put_together(st_counts *c, st_terms *terms, mark **marks)
{
    size_t first = terms[0].n; /* what the first part saw: others are put beside them now */
    c->own = terms[0];
    terms[0] = (st_terms){0};
    for (int p = 1; p < c->n_parts; p++) {
        st_terms *t = &terms[p];
        st_count_part *part = &c->parts[p];
        part->map = st_mem_new(c->a, t->n * sizeof *part->map);
        if (!part->map) return ST_ENOMEM;
        for (size_t i = 0; i < t->n; i++)
            ST_TRY(st_terms_add(&c->own, t->bytes + t->off[i], (size_t)(t->off[i + 1] - t->off[i]),
                                &part->map[i]));
    }
    c->rows = st_mem_zero(c->a, c->own.n * sizeof *c->rows);
    if (!c->rows) return ST_ENOMEM;
    for (int p = 0; p < c->n_parts; p++) {
        size_t n = p ? terms[p].n : first;
        for (size_t i = 0; i < n; i++)
            c->rows[p ? c->parts[p].map[i] : i] += marks[p][i].rows;
    }
    return ST_OK;
}

int st_count(st_counts *out, const st_alloc *a, const st_column *column, const st_text_spec *spec,
             const st_terms *given, int n_threads)
{
    const st_terms *strings = &column->strings;
    *out = (st_counts){.a = a, .terms = given, .n_texts = strings->n};
    int n = (int)(strings->n_bytes / BYTES_A_THREAD) + 1;
    if (n > n_threads) n = n_threads < 1 ? 1 : n_threads;
    if (n > ST_MAX_THREADS) n = ST_MAX_THREADS;
    out->n_parts = n;
    out->parts = st_mem_zero(a, (size_t)n * sizeof *out->parts);
    out->ptr = st_mem_zero(a, (strings->n + (size_t)n) * sizeof *out->ptr);
    st_terms *terms = st_mem_zero(a, (size_t)n * sizeof *terms);
    mark **marks = st_mem_zero(a, (size_t)n * sizeof *marks);
    int *rc = st_mem_zero(a, (size_t)n * sizeof *rc);
    int result = out->parts && out->ptr && terms && marks && rc ? ST_OK : ST_ENOMEM;
    if (result == ST_OK) {
        size_t t = 0;
        for (int p = 0; p < n; p++) {
            out->parts[p].from = t;
            uint64_t stop = strings->n_bytes * ((uint64_t)p + 1) / (uint64_t)n;
            while (t < strings->n && (p == n - 1 || strings->off[t + 1] <= stop))
                t++;
            out->parts[p].to = t;
        }
        count_job job = {column, spec, given, out, terms, marks, rc};
        st_fork(n, count_fork, &job);
        for (int p = 0; p < n && result == ST_OK; p++)
            result = rc[p];
    }
    if (result == ST_OK) {
        if (given) {
            out->rows = st_mem_zero(a, given->n * sizeof *out->rows);
            if (!out->rows) result = ST_ENOMEM;
            for (int p = 0; p < n && out->rows; p++)
                for (size_t i = 0; i < given->n; i++)
                    out->rows[i] += marks[p][i].rows;
        } else {
            result = put_together(out, terms, marks);
            out->terms = &out->own;
        }
    }
    for (int p = 0; p < n; p++) {
        if (marks) st_mem_free(a, marks[p]);
        if (terms) st_terms_free(&terms[p]);
    }
    st_mem_free(a, terms);
    st_mem_free(a, marks);
    st_mem_free(a, rc);
    if (result != ST_OK) st_counts_free(out);
    return result;
}

void st_counts_free(st_counts *c)
{
    if (!c->a) return;
    for (int p = 0; p < c->n_parts && c->parts; p++) {
        st_vec_free(c->a, &c->parts[p].ids);
        st_vec_free(c->a, &c->parts[p].counts);
        st_mem_free(c->a, c->parts[p].map);
    }
    st_mem_free(c->a, c->parts);
    st_mem_free(c->a, c->ptr);
    st_mem_free(c->a, c->rows);
    st_terms_free(&c->own);
    *c = (st_counts){0};
}

/* The entries of string t of a part. */
static inline size_t entries_of(const st_counts *c, int p, size_t t, const uint32_t **ids,
                                const uint32_t **counts)
{
    const st_count_part *part = &c->parts[p];
    const uint64_t *ptr = c->ptr + t + (size_t)p;
    *ids = part->ids.v + ptr[0];
    *counts = part->counts.v + ptr[0];
    return (size_t)(ptr[1] - ptr[0]);
}

void st_counts_totals(const st_counts *c, const int64_t *weights, int64_t *out)
{
    memset(out, 0, c->terms->n * sizeof *out);
    for (int p = 0; p < c->n_parts; p++)
        for (size_t t = c->parts[p].from; t < c->parts[p].to; t++) {
            const uint32_t *ids, *counts, *map = c->parts[p].map;
            size_t n = entries_of(c, p, t, &ids, &counts);
            for (size_t e = 0; e < n; e++)
                out[map ? map[ids[e]] : ids[e]] += weights[t] * (int64_t)counts[e];
        }
}

uint32_t st_counts_max(const st_counts *c)
{
    uint32_t max = 0;
    for (int p = 0; p < c->n_parts; p++)
        for (size_t e = 0; e < c->parts[p].counts.n; e++)
            if (c->parts[p].counts.v[e] > max) max = c->parts[p].counts.v[e];
    return max;
}

/* -- Rows ------------------------------------------------------------------------------------------------ */

int st_counts_layout(const st_counts *c, const int32_t *map, int32_t *indptr)
{
    uint64_t sum = 0;
    bool all = true; /* the common case needs no look at entries */
    for (size_t i = 0; i < c->terms->n && all; i++)
        all = map[i] >= 0;
    for (int p = 0; p < c->n_parts; p++)
        for (size_t t = c->parts[p].from; t < c->parts[p].to; t++) {
            const uint32_t *ids, *counts, *to = c->parts[p].map;
            size_t n = entries_of(c, p, t, &ids, &counts);
            indptr[t] = (int32_t)sum;
            if (all)
                sum += n;
            else
                for (size_t e = 0; e < n; e++)
                    sum += map[to ? to[ids[e]] : ids[e]] >= 0;
            if (sum > INT32_MAX) return ST_ELIMIT;
        }
    indptr[c->n_texts] = (int32_t)sum;
    return ST_OK;
}

typedef struct rows_job {
    const st_counts *c;
    const st_rows_spec *spec;
    int32_t *indptr, *index;
    void *data;
    int bits;      /* of the numbers that are sorted by */
    int32_t *kept; /* with signs: entries of each string that are left */
    int *rc;
} rows_job;

static inline void store(const st_rows_spec *spec, void *data, size_t at, double x)
{
    switch (spec->number) {
    case ST_I32: ((int32_t *)data)[at] = (int32_t)x; break;
    case ST_I64: ((int64_t *)data)[at] = (int64_t)x; break;
    case ST_F32: ((float *)data)[at] = (float)x; break;
    case ST_F64: ((double *)data)[at] = x; break;
    }
}

static double norm_of(const double *x, size_t n, int norm)
{
    double sum = 0;
    if (norm == 1)
        for (size_t e = 0; e < n; e++)
            sum += fabs(x[e]);
    else
        for (size_t e = 0; e < n; e++)
            sum += x[e] * x[e];
    return norm == 2 ? sqrt(sum) : sum;
}

/* The same for values that are float32 throughout. */
static double norm_of_f32(const double *x, size_t n, int norm)
{
    double sum = 0;
    for (size_t e = 0; e < n; e++) {
        float v = (float)x[e];
        float square = v * v;
        sum += norm == 1 ? fabs((double)v) : (double)square;
    }
    return norm == 2 ? sqrt(sum) : sum;
}

typedef struct row_scratch {
    ST_VEC(uint64_t) keys, tmp;
    ST_VEC(double) x;
    ST_VEC(int32_t) column;
} row_scratch;

static int one_row(const rows_job *job, row_scratch *s, int p, size_t t)
{
    const st_counts *c = job->c;
    const st_rows_spec *spec = job->spec;
    const uint32_t *ids, *counts, *to = c->parts[p].map;
    size_t n = entries_of(c, p, t, &ids, &counts), m = 0;
    size_t at = (size_t)job->indptr[t];
    s->keys.n = s->tmp.n = s->x.n = s->column.n = 0;
    ST_TRY(st_vec_reserve(c->a, &s->keys, n));
    ST_TRY(st_vec_reserve(c->a, &s->tmp, n));
    ST_TRY(st_vec_reserve(c->a, &s->x, n));
    ST_TRY(st_vec_reserve(c->a, &s->column, n));
    uint64_t *keys = s->keys.v;
    double *x = s->x.v;
    int32_t *column = s->column.v;
    /* order, with the entry beside it */
    for (size_t e = 0; e < n; e++) {
        uint32_t id = to ? to[ids[e]] : ids[e];
        int32_t col = spec->map[id];
        if (col < 0) continue;
        column[e] = col;
        keys[m++] = (uint64_t)(spec->order == ST_AS_SEEN ? id : (uint32_t)col) << 32 | e;
    }
    st_sort_keys(keys, s->tmp.v, m, job->bits);
    /* values */
    size_t k = 0;
    for (size_t i = 0; i < m; i++) {
        uint32_t e = (uint32_t)keys[i];
        double v = spec->binary && !spec->sign ? 1.0 : (double)counts[e];
        if (spec->sign) {
            uint32_t id = to ? to[ids[e]] : ids[e];
            v *= spec->sign[id];
            if (k && s->tmp.v[k - 1] == (uint64_t)(uint32_t)column[e]) {
                x[k - 1] += v;
                continue;
            }
            s->tmp.v[k] = (uint64_t)(uint32_t)column[e];
        }
        x[k++] = v;
    }
    if (spec->sign) {
        for (size_t i = 0; i < k; i++) {
            keys[i] = s->tmp.v[i] << 32;
            if (spec->binary) x[i] = 1.0;
        }
    } else {
        for (size_t i = 0; i < k; i++)
            keys[i] = (uint64_t)(uint32_t)column[(uint32_t)keys[i]] << 32 | i;
        if (spec->table)
            for (size_t i = 0; i < k; i++)
                x[i] = spec->table[(size_t)x[i]];
        if (spec->idf)
            for (size_t i = 0; i < k; i++)
                x[i] *= spec->idf[keys[i] >> 32];
    }
    if (spec->norm) {
        bool narrow = spec->sign && spec->number == ST_F32;
        double norm = narrow ? norm_of_f32(x, k, spec->norm) : norm_of(x, k, spec->norm);
        if (norm != 0)
            for (size_t i = 0; i < k; i++)
                x[i] /= norm;
    }
    if (spec->sort && spec->order == ST_AS_SEEN) st_sort_keys(keys, s->tmp.v, k, job->bits);
    for (size_t i = 0; i < k; i++) {
        job->index[at + i] = (int32_t)(keys[i] >> 32);
        store(spec, job->data, at + i, x[spec->sign ? i : (uint32_t)keys[i]]);
    }
    if (job->kept) job->kept[t] = (int32_t)k;
    return ST_OK;
}

static void rows_part(void *arg, int part, int n_parts)
{
    rows_job *job = arg;
    const st_counts *c = job->c;
    /* stretches of strings, about as many entries each */
    int64_t all = job->indptr[c->n_texts];
    int64_t low = all * part / n_parts, high = all * (part + 1) / n_parts;
    row_scratch s = {0};
    int rc = ST_OK;
    for (int p = 0; p < c->n_parts && rc == ST_OK; p++)
        for (size_t t = c->parts[p].from; t < c->parts[p].to && rc == ST_OK; t++) {
            /* a row belongs to the part in which it begins; indptr does not change before all are done */
            if (job->indptr[t] < low || (job->indptr[t] >= high && part + 1 < n_parts)) continue;
            rc = one_row(job, &s, p, t);
        }
    st_vec_free(c->a, &s.keys);
    st_vec_free(c->a, &s.tmp);
    st_vec_free(c->a, &s.x);
    st_vec_free(c->a, &s.column);
    job->rc[part] = rc;
}

static size_t size_of(st_number n) { return n == ST_I32 || n == ST_F32 ? 4 : 8; }

int st_counts_rows(const st_counts *c, const st_rows_spec *spec, int32_t *indptr, int32_t *index, void *data,
                   int n_threads)
{
    int rc[ST_MAX_THREADS] = {0};
    rows_job job = {c, spec, indptr, index, data, 1, NULL, rc};
    uint32_t largest = c->terms->n ? (uint32_t)c->terms->n - 1 : 0;
    for (size_t i = 0; i < c->terms->n; i++)
        if (spec->map[i] > 0 && (uint32_t)spec->map[i] > largest) largest = (uint32_t)spec->map[i];
    while (job.bits < 32 && largest >> job.bits)
        job.bits++;
    if (spec->sign) {
        job.kept = st_mem_zero(c->a, c->n_texts * sizeof *job.kept);
        if (!job.kept) return ST_ENOMEM;
    }
    int n = indptr[c->n_texts] > 20000 ? n_threads : 1;
    if (n > ST_MAX_THREADS) n = ST_MAX_THREADS;
    if (n < 1) n = 1;
    st_fork(n, rows_part, &job);
    int result = ST_OK;
    for (int p = 0; p < n && result == ST_OK; p++)
        result = rc[p];
    if (result == ST_OK && spec->sign) {
        int32_t at = 0;
        size_t size = size_of(spec->number);
        for (size_t t = 0; t < c->n_texts; t++) {
            int32_t from = indptr[t];
            if (from != at) {
                memmove(index + at, index + from, (size_t)job.kept[t] * sizeof *index);
                memmove((char *)data + (size_t)at * size, (char *)data + (size_t)from * size,
                        (size_t)job.kept[t] * size);
            }
            indptr[t] = at;
            at += job.kept[t];
        }
        indptr[c->n_texts] = at;
    }
    st_mem_free(c->a, job.kept);
    return result;
}

int st_rows_expand_layout(size_t n, const uint32_t *codes, const int32_t *indptr, int32_t *out)
{
    int64_t sum = 0;
    for (size_t r = 0; r < n; r++) {
        out[r] = (int32_t)sum;
        sum += indptr[codes[r] + 1] - indptr[codes[r]];
        if (sum > INT32_MAX) return ST_ELIMIT;
    }
    out[n] = (int32_t)sum;
    return ST_OK;
}

typedef struct expand_job {
    size_t n, size;
    const uint32_t *codes;
    const int32_t *indptr, *index, *indptr_out;
    const char *data;
    int32_t *index_out;
    char *data_out;
} expand_job;

static void expand_part(void *arg, int part, int n_parts)
{
    const expand_job *j = arg;
    size_t from = j->n * (size_t)part / (size_t)n_parts, to = j->n * ((size_t)part + 1) / (size_t)n_parts;
    for (size_t r = from; r < to; r++) {
        size_t a = (size_t)j->indptr[j->codes[r]], b = (size_t)j->indptr_out[r];
        size_t k = (size_t)j->indptr_out[r + 1] - b;
        memcpy(j->index_out + b, j->index + a, k * sizeof *j->index);
        memcpy(j->data_out + b * j->size, j->data + a * j->size, k * j->size);
    }
}

void st_rows_expand(size_t n, const uint32_t *codes, size_t size, const int32_t *indptr, const int32_t *index,
                    const void *data, const int32_t *indptr_out, int32_t *index_out, void *data_out,
                    int n_threads)
{
    expand_job job = {n, size, codes, indptr, index, indptr_out, data, index_out, data_out};
    st_fork(n && indptr_out[n] > 200000 ? n_threads : 1, expand_part, &job);
}

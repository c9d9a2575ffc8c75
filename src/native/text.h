/* text.h - string columns in their distinct form, and the counts of their n-grams; private to the library and
 * the extension.
 *
 * Threads: one thread at a time an object, except that a finished column or set of counts may be read by
 * many. Functions that take n_threads start that many themselves; results do not depend on the number.
 * Memory:  objects begin as all zero and are emptied by their free function, which may be called at any time.
 *          Arrays to be filled belong to the caller.
 */
#ifndef ST_NATIVE_TEXT_H
#define ST_NATIVE_TEXT_H

#include "kernels/text.h"
#include "native/arrow.h"

/* -- Columns --------------------------------------------------------------------------------------------- */

/* Row r holds the string number codes[r] of `strings`, numbered in the order of first sight; a null holds
 * the empty string and is counted. */
typedef struct st_column {
    const st_alloc *a;
    st_terms strings;
    ST_VEC(uint32_t) codes;
    ST_VEC(int64_t) counts; /* rows a string; as many as there are strings */
    size_t n_nulls;
    bool ascii, surrogates, broken; /* all are ASCII; some hold surrogates; some are no UTF-8 even so */
} st_column;

int st_column_init(st_column *c, const st_alloc *a, size_t expect) ST_USE;
void st_column_free(st_column *c);
int st_column_add(st_column *c, const uint8_t *p, size_t len) ST_USE;
int st_column_add_null(st_column *c) ST_USE;
/* The number of a string, which has no row yet where it is new. */
int st_column_number(st_column *c, const uint8_t *p, size_t len, uint32_t *code) ST_USE;
/* A string that is there already (of a dictionary whose strings were added before): one more row of it. */
int st_column_repeat(st_column *c, uint32_t code) ST_USE;

/* -- Arrow ----------------------------------------------------------------------------------------------- */

/* The rows of an array of strings (u, U, vu, or a dictionary of those).  ST_EINVAL: an array that is broken
 * (arrow.h says what is seen of that); rows before the broken one are there.  ST_EUNSUPPORTED: another type,
 * or a string in the column that is no UTF-8, told after all rows: the original has to say what it says to
 * that. */
int st_column_add_arrow(st_column *c, const struct ArrowSchema *schema,
                        const struct ArrowArray *array) ST_USE;

/* -- Counting -------------------------------------------------------------------------------------------- */

typedef struct st_count_part {
    ST_VEC(uint32_t) ids, counts; /* entries, texts one after the other */
    uint32_t *map;                /* this part's terms to those of all; NULL: they are those */
    size_t from, to;              /* its texts */
} st_count_part;

/* For each string of a column, which terms it has and how often, in the order in which they occur in it. */
typedef struct st_counts {
    const st_alloc *a;
    const st_terms *terms; /* own, or those that were given */
    st_terms own;
    st_count_part *parts;
    int n_parts;
    uint64_t *ptr; /* entries before each string, within its part; n_texts + n_parts */
    size_t n_texts;
    int64_t *rows; /* rows of the column that have each term */
} st_counts;

/* `given`: the terms to look for; others do not count.  NULL: all terms, numbered by first sight. */
int st_count(st_counts *out, const st_alloc *a, const st_column *column, const st_text_spec *spec,
             const st_terms *given, int n_threads) ST_USE;
void st_counts_free(st_counts *c);
/* How often each term occurs in all rows. */
void st_counts_totals(const st_counts *c, const int64_t *weights, int64_t *out);

typedef enum st_order {
    ST_AS_SEEN,   /* entries of a row by the number of their term */
    ST_BY_COLUMN, /* by column */
} st_order;

typedef enum st_number { ST_I32, ST_I64, ST_F32, ST_F64 } st_number;

typedef struct st_rows_spec {
    const int32_t *map; /* term -> column, -1: left out */
    const int8_t *sign; /* by term: +1 or -1; NULL: +1.  Then entries of one column are added up. */
    st_order order;     /* in which values are computed (and norms summed) */
    bool sort;          /* in the end, entries by column */
    bool binary;
    const double *table; /* value of a count, by count; NULL: the count itself */
    size_t n_table;
    const double *idf; /* by column; NULL: 1 */
    int norm;          /* as in st_csr_tfidf */
    st_number number;  /* of `data` */
} st_rows_spec;

/* indptr[n_texts + 1] of the matrix with a row a string; an upper bound where signs are given.
 * ST_ELIMIT: more entries than 32 bits count. */
int st_counts_layout(const st_counts *c, const int32_t *map, int32_t *indptr) ST_USE;
/* Its entries; with signs, `indptr` is brought to what is there and entries move together. */
int st_counts_rows(const st_counts *c, const st_rows_spec *spec, int32_t *indptr, int32_t *index, void *data,
                   int n_threads) ST_USE;

/* indptr of the matrix whose row r is row codes[r] of the given one. */
int st_rows_expand_layout(size_t n, const uint32_t *codes, const int32_t *indptr, int32_t *out) ST_USE;
void st_rows_expand(size_t n, const uint32_t *codes, size_t size, const int32_t *indptr, const int32_t *index,
                    const void *data, const int32_t *indptr_out, int32_t *index_out, void *data_out,
                    int n_threads);

/* The largest count of a term in a string. */
uint32_t st_counts_max(const st_counts *c);

#endif

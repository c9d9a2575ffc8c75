/* text.h - loops over text and over the sparse matrices that text becomes; private to the library.
 *
 * Everything here knows only pointers and lengths.  Text is UTF-8, with surrogates encoded like other code
 * points of their size, because a Python str may hold them.  The order of bytes is then the order of code
 * points.
 *
 * Threads: functions work on what they are given and may be called from any thread.
 * Memory:  scratch belongs to the st_scan or st_terms that the caller gives; the caller frees it.
 */
#ifndef ST_KERNELS_TEXT_H
#define ST_KERNELS_TEXT_H

#include "base/internal.h"

/* -- Terms: distinct byte strings, numbered in the order in which they were first seen ------------------- */

/* A slot holds the first eight bytes, so that most n-grams are compared without a second cache miss. */
typedef struct st_term_slot {
    uint64_t key;
    uint32_t id, len; /* id == ST_NO_TERM: free */
} st_term_slot;

#define ST_NO_TERM UINT32_MAX

typedef struct st_terms {
    const st_alloc *a;
    st_term_slot *slots;
    size_t mask; /* slots - 1 */
    uint8_t *bytes;
    size_t n_bytes, cap_bytes;
    uint64_t *off; /* n + 1 */
    size_t n, cap;
} st_terms;

int st_terms_init(st_terms *t, const st_alloc *a, size_t expect) ST_USE;
void st_terms_free(st_terms *t);
/* The number of a term; added where it is new. */
int st_terms_add(st_terms *t, const uint8_t *p, size_t len, uint32_t *id) ST_USE;
uint32_t st_terms_find(const st_terms *t, const uint8_t *p, size_t len);
#define ST_BATCH 64
/* The numbers of up to ST_BATCH slices of a text, in turn; terms that are new are added, or, where `add` is
 * false, answered with ST_NO_TERM.  Their slots are fetched together, which halves the time of a lookup in a
 * table that no cache holds. */
struct st_gram;
int st_terms_batch(st_terms *t, bool add, const uint8_t *text, const struct st_gram *grams, size_t n,
                   uint32_t *ids) ST_USE;
/* order[i]: the term that stands at place i when all are sorted by code points. */
int st_terms_sort(const st_terms *t, uint32_t *order, int n_threads) ST_USE;

/* -- Scanning -------------------------------------------------------------------------------------------- */

typedef enum st_analyzer { ST_CHAR, ST_CHAR_WB, ST_WORD } st_analyzer;

typedef struct st_text_spec {
    st_analyzer analyzer;
    uint32_t min_n, max_n;
    uint32_t min_word; /* ST_WORD: code points that a word has at least (1 or 2) */
    bool lowercase;
    const st_terms *stop; /* ST_WORD: words left out; may be NULL */
} st_text_spec;

/* A slice of st_scan.buf. */
typedef struct st_gram {
    uint32_t at, len;
} st_gram;

/* Scratch of one thread.  All zero to begin with. */
typedef struct st_scan {
    ST_VEC(uint8_t) buf;   /* the normalised text */
    ST_VEC(uint32_t) at;   /* where its characters, or its words, begin; one more than there are */
    ST_VEC(uint32_t) end;  /* ST_WORD: where words end */
    ST_VEC(uint32_t) word; /* ST_CHAR_WB: the characters where words begin and end, in pairs */
    ST_VEC(st_gram) grams;
} st_scan;

/* The n-grams of a text, in scikit-learn's order, into s->grams.  ST_ELIMIT: a text of 512 MiB or more. */
int st_scan_text(const st_alloc *a, st_scan *s, const st_text_spec *spec, const uint8_t *p,
                 size_t len) ST_USE;
void st_scan_free(const st_alloc *a, st_scan *s);

/* MurmurHash3, 32 bits. */
uint32_t st_murmur3(const uint8_t *p, size_t len, uint32_t seed);

/* -- Rows of sparse matrices ----------------------------------------------------------------------------- */

/* Sort keys whose upper half is below 2^bits; tmp has room for n. */
void st_sort_keys(uint64_t *v, uint64_t *tmp, size_t n, int bits);

/* Y[i, :k] = sum over the entries e of row i, in their order, of data[e] * Q[index[e], :k], each product
 * rounded before it is added: the bits of SciPy's csr_matvecs, and of its csc_matvecs where the rows are
 * columns with entries in the order of rows.  Q and Y are C-contiguous.  All float32. */
int st_csr_dense(const st_alloc *a, size_t n_rows, size_t n_cols, size_t k, const int32_t *indptr,
                 const int32_t *index, const float *data, const float *Q, float *Y, int n_threads) ST_USE;

/* CSR to CSC (or back); rows keep their order within a column. */
int st_csr_transpose(const st_alloc *a, size_t n_rows, size_t n_cols, const int32_t *indptr,
                     const int32_t *index, const float *data, int32_t *indptr_t, int32_t *index_t,
                     float *data_t, int n_threads) ST_USE;

/* out[r, :] = rows[codes[r], :] for matrices of 4-byte items, written column by column (out is Fortran
 * order: column c begins at out + c * n). */
void st_take_columns(size_t n, size_t k, const uint32_t *codes, const float *rows, float *out, int n_threads);

/* data *= idf[index] and rows brought to norm 1 (norm 0: none; 1: sum of absolute values; 2: root of the
 * sum of squares), in stored order, with the sums in double. */
void st_csr_tfidf_f64(size_t n_rows, const int32_t *indptr, const int32_t *index, double *data,
                      const double *idf, int norm, int n_threads);
void st_csr_tfidf_f32(size_t n_rows, const int32_t *indptr, const int32_t *index, float *data,
                      const float *idf, int norm, int n_threads);

/* The variance of each column given as CSC, rows not stored being zero, as scikit-learn's
 * mean_variance_axis computes it from CSR without weights: same bits. */
void st_csc_variance(size_t n_rows, size_t n_cols, const int32_t *indptr, const float *data, float *out,
                     int n_threads);

#endif

/* encode.h - numbers of distinct values, and the matrices that encoders make of them; private to the library.
 *
 * Everything here knows only pointers, lengths and strides.  A column is its *codes*: row r holds the
 * distinct value number codes[r].  What an encoder makes of a value it makes once for each distinct one, in a
 * small table; these loops bring it to the rows.
 *
 * Threads: any thread may call; functions that take `threads` use that many.  Results do not depend on it.
 * Memory:  arrays are the caller's; scratch comes from the allocator that is given, and is gone on return.
 */
#ifndef ST_KERNELS_ENCODE_H
#define ST_KERNELS_ENCODE_H

#include "base/internal.h"

#define ST_NO_CODE UINT32_MAX

/* Number `n` items of `size` bytes (1, 2, 4, 8), `stride` bytes apart, by first sight.  `first[c]` is the row
 * where value c was first seen; it has room for `most`.  Floats (size 4 or 8): all NaN are one value.
 * ST_ELIMIT: more than `most` values.  ST_EUNSUPPORTED: both zeros of floats, which are equal and two. */
int st_encode_numbers(const st_alloc *a, const void *data, ptrdiff_t stride, size_t n, size_t size,
                      bool floats, size_t most, uint32_t *codes, uint64_t *first, size_t *found) ST_USE;

/* Rows of each code; `counts` has `k` items. */
void st_encode_count(size_t n, const uint32_t *codes, size_t k, int64_t *counts);

/* One feature of a one-hot matrix: the column of each code, -1 for none. */
typedef struct st_feature {
    const uint32_t *codes;
    const int32_t *column;
} st_feature;

/* out[r * columns + column] = one for each feature's column; `out` holds zeros. `one` has `size` bytes
 * (1, 2, 4, 8). */
void st_encode_dense(size_t n, size_t n_features, const st_feature *features, size_t columns, size_t size,
                     const void *one, void *out, unsigned threads);

/* The same as CSR: indptr[n + 1] first (ST_ELIMIT: more entries than 32 bits count), then the columns. */
int st_encode_layout(size_t n, size_t n_features, const st_feature *features, int32_t *indptr) ST_USE;
void st_encode_index(size_t n, size_t n_features, const st_feature *features, const int32_t *indptr,
                     int32_t *index, unsigned threads);

/* out[r * stride bytes] = values[codes[r]], items of `size` bytes (1, 2, 4, 8). */
void st_encode_take(size_t n, const uint32_t *codes, size_t size, const void *values, void *out,
                    ptrdiff_t stride);

#endif

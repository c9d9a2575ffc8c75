/* sparse.h - products of a sparse matrix with dense ones: what a truncated SVD is made of.
 *
 * For src/native and the extension.  Matrices belong to the caller, scratch comes from the caller's allocator
 * and is given back before returning.  Dense matrices are C-contiguous and of the type of the sparse one.  No
 * result depends on `threads` or on the processor.
 */
#ifndef ST_KERNELS_SPARSE_H
#define ST_KERNELS_SPARSE_H

#include "kernels/dense.h"
#include "stratum/base.h"

/* CSR; indices need be neither sorted nor distinct.  The caller has checked that they are in range. */
typedef struct st_csr {
    size_t rows, cols;
    const int32_t *indptr, *index;
    const void *data;
    st_real type;
} st_csr;

/* y = A q for q of cols x k, y of rows x k.  A sum goes over a row's entries in stored order, each product
 * rounded before it is added: the bits of SciPy's product. */
int st_csr_times(const st_alloc *a, const st_csr *m, size_t k, const void *q, unsigned threads,
                 void *y) ST_USE;

/* z = A'y for y of rows x k, z of cols x k.  A sum goes over the rows in their order, likewise: the bits of
 * SciPy's product with the transposed matrix. */
int st_csr_back(const st_alloc *a, const st_csr *m, size_t k, const void *y, unsigned threads,
                void *z) ST_USE;

/* z = A'(A q), both cols x k, in one pass over A, which holds nothing of rows x k; in double precision alone.
 * Not SciPy's bits: stretches of rows are added up by themselves. */
int st_csr_twice(const st_alloc *a, const st_csr *m, size_t k, const double *q, unsigned threads,
                 double *z) ST_USE;

/* A as CSC, which is A' as CSR; entries of a column keep the order of rows.  `indptr`: cols + 1. */
int st_csr_turned(const st_alloc *a, const st_csr *m, unsigned threads, int32_t *indptr, int32_t *index,
                  void *data) ST_USE;

#endif

/* internal.h - helpers shared by the library's own files; never installed. */
#ifndef ST_INTERNAL_H
#define ST_INTERNAL_H

#include "stratum/base.h"

#include <string.h>

#define ST_TRY(expr)                                                                                         \
    do {                                                                                                     \
        int st_rc_ = (expr);                                                                                 \
        if (st_rc_ != ST_OK) return st_rc_;                                                                  \
    } while (0)

static inline void *st_mem_new(const st_alloc *a, size_t n) { return a->resize(a->ud, NULL, n ? n : 1); }

static inline void *st_mem_zero(const st_alloc *a, size_t n)
{
    void *p = st_mem_new(a, n);
    if (p) memset(p, 0, n ? n : 1);
    return p;
}

static inline void st_mem_free(const st_alloc *a, void *p)
{
    if (p) a->release(a->ud, p);
}

/* A growing array of T: {T *v; size_t n, cap}.  Growth doubles, so appending is amortised O(1). */
#define ST_VEC(T)                                                                                            \
    struct {                                                                                                 \
        T *v;                                                                                                \
        size_t n, cap;                                                                                       \
    }

int st_vec_grow_(const st_alloc *a, void **v, size_t *cap, size_t need, size_t size) ST_USE;

/* Make room for `extra` more items; ST_OK or ST_ENOMEM. */
#define st_vec_reserve(a, vec, extra)                                                                        \
    ((vec)->n + (extra) <= (vec)->cap                                                                        \
         ? ST_OK                                                                                             \
         : st_vec_grow_((a), (void **)&(vec)->v, &(vec)->cap, (vec)->n + (extra), sizeof *(vec)->v))

#define st_vec_free(a, vec)                                                                                  \
    do {                                                                                                     \
        st_mem_free((a), (vec)->v);                                                                          \
        (vec)->v = NULL;                                                                                     \
        (vec)->n = (vec)->cap = 0;                                                                           \
    } while (0)

/* Planted faults: a build with -DST_PLANT turns ST_FAULT(n) true when the environment variable
 * ST_PLANT is n, so that the differential tests can prove that they would notice.  In every other
 * build it is the constant false. */
#ifdef ST_PLANT
int st_planted(void);
#define ST_FAULT(n) (st_planted() == (n))
#else
#define ST_FAULT(n) false
#endif

#endif

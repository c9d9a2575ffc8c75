/* stratum/base.h - error codes, memory, hashing: what every other part stands on.
 *
 * Threads: every function here may be called from any thread.  A context's allocator must be thread-safe.
 * Memory:  what a function returns through an `out` pointer belongs to the caller unless it says otherwise.
 */
#ifndef STRATUM_BASE_H
#define STRATUM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define ST_API __attribute__((visibility("default")))
#define ST_USE __attribute__((warn_unused_result))
#define ST_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define ST_API
#define ST_USE
#define ST_PRINTF(fmt, args)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* -- Errors -------------------------------------------------------------------------------- */

/* One row a code: name, text.  The text is what st_code_text() answers. */
#define ST_CODES(X)                                                                                          \
    X(ST_OK, "success")                                                                                      \
    X(ST_ENOMEM, "out of memory")                                                                            \
    X(ST_EINVAL, "invalid argument")                                                                         \
    X(ST_ECYCLE, "the graph has a cycle")                                                                    \
    X(ST_EHOST, "a host function failed")                                                                    \
    X(ST_ECANCELED, "cancelled")                                                                             \
    X(ST_ELIMIT, "a limit was exceeded")                                                                     \
    X(ST_EUNSUPPORTED, "not supported")                                                                      \
    X(ST_EVERIFY, "the graph is not well formed")                                                            \
    X(ST_ESYSTEM, "a system call failed")                                                                    \
    X(ST_ENOTFOUND, "not found")

typedef enum st_code {
#define ST_CODE_ENUM(name, text) name,
    ST_CODES(ST_CODE_ENUM)
#undef ST_CODE_ENUM
        ST_N_CODES
} st_code;

/* The text of a code; never NULL. */
ST_API const char *st_code_text(int code);

/* Details of a failure; owned by the caller, who may pass NULL where details do not matter. */
typedef struct st_error {
    int code;
    char message[240];
} st_error;

/* Fill `err` (if any) and answer `code`, so that `return st_fail(...)` reads well. */
ST_API int st_fail(st_error *err, int code, const char *fmt, ...) ST_PRINTF(3, 4);

/* -- Memory -------------------------------------------------------------------------------- */

/* Where memory comes from.  `resize` has realloc's contract (p == NULL allocates). */
typedef struct st_alloc {
    void *(*resize)(void *ud, void *p, size_t n);
    void (*release)(void *ud, void *p);
    void *ud;
} st_alloc;

/* malloc/realloc/free. */
ST_API const st_alloc *st_alloc_default(void);

/* -- Hashing ------------------------------------------------------------------------------- */

/* 128 bits.  A hash only finds candidates: equality is always decided on the full encoding. */
typedef struct st_hash {
    uint64_t lo, hi;
} st_hash;

/* Hash of `n` bytes; the same on every machine of one byte order. */
ST_API st_hash st_hash_bytes(const void *data, size_t n, uint64_t seed);

/* Order-dependent combination of two hashes. */
ST_API st_hash st_hash_mix(st_hash a, st_hash b);

static inline bool st_hash_eq(st_hash a, st_hash b) { return a.lo == b.lo && a.hi == b.hi; }

/* The library's version, "major.minor.patch". */
ST_API const char *st_version(void);

#ifdef __cplusplus
}
#endif
#endif

/* stratum/cache.h - values that were computed, kept in memory under canonical keys.
 *
 * An entry is a value under a key, with the encoding that the key is the hash of: a hit is one only if the
 * encodings are equal.  What is kept is bounded in bytes; what goes first is decided by what it would cost to
 * have it again, how often it was asked for, and how large it is.
 *
 * Threads: every function may be called from any thread; the cache's lock is a leaf, and no host function is
 * called while it is held.  Memory: the cache retains the values and copies the encodings.
 */
#ifndef STRATUM_CACHE_H
#define STRATUM_CACHE_H

#include "stratum/value.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct st_cache st_cache;

typedef struct st_cache_stats {
    size_t entries, bytes, max_bytes;
    uint64_t hits, misses, put, refused, evicted;
    double saved; /* seconds that the hits would have taken to compute */
} st_cache_stats;

ST_API int st_cache_new(const st_alloc *a, size_t max_bytes, st_cache **out) ST_USE;
ST_API void st_cache_free(st_cache *c); /* NULL is fine */

/* Whether there is an entry under the key; says nothing about its encoding. */
ST_API bool st_cache_knows(st_cache *c, st_hash key);
/* The value (retained), or NULL. */
ST_API st_value *st_cache_get(st_cache *c, st_hash key, const void *enc, size_t enc_len);
/* Keep a value of `bytes` bytes that takes `seconds` to have again.  ST_ELIMIT: it is not worth what would
 * have to go for it, or larger than the cache.  An entry with an equal key is replaced. */
ST_API int st_cache_put(st_cache *c, st_hash key, const void *enc, size_t enc_len, st_value *v, size_t bytes,
                        double seconds) ST_USE;
/* What is kept takes `max_bytes` at most, and, once st_cache_fit was called, no more than the process leaves,
 * or `floor` if that is more.  Shrinks at once if need be. */
ST_API void st_cache_set_limit(st_cache *c, size_t max_bytes, size_t floor);
/* The process takes `resident` bytes now, what is kept included.  From now on the cache has half of what this
 * is below the most that the process has taken without it: what is kept adds nothing to a peak but its floor.
 * (Half: what runs between two calls needs room too.)  Shrinks at once if need be. */
ST_API void st_cache_fit(st_cache *c, size_t resident);
ST_API void st_cache_clear(st_cache *c);
ST_API st_cache_stats st_cache_get_stats(st_cache *c);

#ifdef __cplusplus
}
#endif
#endif

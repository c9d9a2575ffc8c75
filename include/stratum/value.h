/* stratum/value.h - values: what nodes compute and what attributes hold by reference.
 *
 * A value is a counted handle to a host's object (a Python object, a C struct): the engine never
 * looks inside.  Threads: retain and release from any thread; a host's `release` may be called on any
 * thread and must not block (the Python host only queues the object).
 * Memory: st_value_new takes over the caller's reference to `obj` and copies the encoding.
 */
#ifndef STRATUM_VALUE_H
#define STRATUM_VALUE_H

#include "stratum/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct st_host {
    const char *name;
    void (*release)(void *obj);                      /* drop the handle's reference */
    int (*describe)(void *obj, char *buf, size_t n); /* short text; 0 or an error code */
    size_t (*bytes)(void *obj);                      /* size estimate; NULL: unknown */
} st_host;

typedef struct st_value st_value;

/* A handle to `obj`.  `enc` is its canonical encoding (copied): two values with equal encodings are
 * interchangeable.  Without one (enc == NULL) a value equals only a handle to the very same object. */
ST_API int st_value_new(const st_alloc *a, const st_host *host, void *obj, const void *enc, size_t enc_len,
                        st_value **out) ST_USE;
ST_API st_value *st_value_retain(st_value *v);
ST_API void st_value_release(st_value *v); /* NULL is fine */

ST_API void *st_value_object(const st_value *v);
ST_API const st_host *st_value_host(const st_value *v);
ST_API bool st_value_encoded(const st_value *v);
ST_API const void *st_value_encoding(const st_value *v, size_t *len);
ST_API st_hash st_value_hash(const st_value *v);
ST_API bool st_value_equal(const st_value *a, const st_value *b);
ST_API size_t st_value_bytes(const st_value *v);
ST_API int st_value_describe(const st_value *v, char *buf, size_t n);

#ifdef __cplusplus
}
#endif
#endif

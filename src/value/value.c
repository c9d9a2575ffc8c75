/* value.c - counted handles to host objects (see stratum/value.h). */
#include "stratum/value.h"

#include "../base/internal.h"

#include <stdatomic.h>
#include <stdio.h>

struct st_value {
    atomic_size_t refs;
    const st_alloc *alloc;
    const st_host *host;
    void *obj;
    st_hash hash;
    bool encoded;
    size_t enc_len;
    unsigned char enc[];
};

int st_value_new(const st_alloc *a, const st_host *host, void *obj, const void *enc, size_t enc_len,
                 st_value **out)
{
    st_value *v = st_mem_new(a, sizeof *v + enc_len);
    if (!v) return ST_ENOMEM;
    atomic_init(&v->refs, 1);
    v->alloc = a;
    v->host = host;
    v->obj = obj;
    v->encoded = enc != NULL;
    v->enc_len = enc ? enc_len : 0;
    if (enc) {
        memcpy(v->enc, enc, enc_len);
        v->hash = st_hash_bytes(enc, enc_len, 1);
    } else {
        /* The object's address: it cannot be reused while the handle keeps the object alive. */
        v->hash = st_hash_bytes(&obj, sizeof obj, 2);
    }
    *out = v;
    return ST_OK;
}

st_value *st_value_retain(st_value *v)
{
    if (v) atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

void st_value_release(st_value *v)
{
    if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1) return;
    if (v->host && v->host->release) v->host->release(v->obj);
    st_mem_free(v->alloc, v);
}

void *st_value_object(const st_value *v) { return v->obj; }
const st_host *st_value_host(const st_value *v) { return v->host; }
bool st_value_encoded(const st_value *v) { return v->encoded; }
st_hash st_value_hash(const st_value *v) { return v->hash; }

const void *st_value_encoding(const st_value *v, size_t *len)
{
    *len = v->enc_len;
    return v->encoded ? v->enc : NULL;
}

bool st_value_equal(const st_value *a, const st_value *b)
{
    if (a == b) return true;
    if (a->host != b->host || a->encoded != b->encoded || !st_hash_eq(a->hash, b->hash)) return false;
    if (!a->encoded) return a->obj == b->obj;
    return a->enc_len == b->enc_len && memcmp(a->enc, b->enc, a->enc_len) == 0;
}

size_t st_value_bytes(const st_value *v) { return v->host && v->host->bytes ? v->host->bytes(v->obj) : 0; }

int st_value_describe(const st_value *v, char *buf, size_t n)
{
    if (v->host && v->host->describe) return v->host->describe(v->obj, buf, n);
    snprintf(buf, n, "<%s>", v->host && v->host->name ? v->host->name : "value");
    return ST_OK;
}

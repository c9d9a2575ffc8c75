/* text_terms.c - distinct byte strings with numbers in the order of first sight, and their sorting.
 *
 * An open table of 16-byte slots (key, number, length) over an arena of bytes.  The key is the first eight
 * bytes: character n-grams end there.  At half load a lookup of a 4-gram among 100,000 costs one miss.
 */
#include "kernels/text.h"

#include "kernels/parallel.h"

#include <stdlib.h>

static inline uint32_t load32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap32(x);
#endif
    return x;
}

static inline uint64_t load64(const uint8_t *p) { return load32(p) | (uint64_t)load32(p + 4) << 32; }

/* The first eight bytes, the first one lowest, zeros after the end. */
static inline uint64_t key_of(const uint8_t *p, size_t len)
{
    if (len >= 8) return load64(p);
    if (len >= 4) return load32(p) | (uint64_t)load32(p + len - 4) << (8 * (len - 4));
    if (len == 0) return 0;
    return p[0] | (uint64_t)p[len / 2] << (8 * (len / 2)) | (uint64_t)p[len - 1] << (8 * (len - 1));
}

static inline uint64_t hash_of(uint64_t key, const uint8_t *p, size_t len)
{
    uint64_t h = (key ^ len * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    for (size_t i = 8; i < len; i += 8) {
        uint64_t x = len - i >= 8 ? load64(p + i) : key_of(p + i, len - i);
        h = (h ^ x) * 0xD6E8FEB86659FD93u;
        h ^= h >> 29;
    }
    h *= 0xD6E8FEB86659FD93u;
    return h ^ h >> 32;
}

int st_terms_init(st_terms *t, const st_alloc *a, size_t expect)
{
    *t = (st_terms){.a = a};
    size_t n = 64;
    while (n < 2 * expect)
        n *= 2;
    t->slots = st_mem_new(a, n * sizeof *t->slots);
    t->off = st_mem_new(a, 2 * sizeof *t->off);
    if (!t->slots || !t->off) {
        st_terms_free(t);
        return ST_ENOMEM;
    }
    t->off[0] = 0;
    t->cap = 1;
    t->mask = n - 1;
    memset(t->slots, 0xFF, n * sizeof *t->slots);
    return ST_OK;
}

void st_terms_free(st_terms *t)
{
    if (!t->a) return;
    st_mem_free(t->a, t->slots);
    st_mem_free(t->a, t->bytes);
    st_mem_free(t->a, t->off);
    *t = (st_terms){0};
}

static inline size_t slot_at(const st_terms *t, uint64_t hash, uint64_t key, const uint8_t *p, size_t len)
{
    size_t i = hash & t->mask;
    for (;; i = (i + 1) & t->mask) {
        const st_term_slot *s = &t->slots[i];
        if (s->id == ST_NO_TERM) return i;
        if (s->key == key && s->len == len &&
            (len <= 8 || memcmp(t->bytes + t->off[s->id] + 8, p + 8, len - 8) == 0))
            return i;
    }
}

static inline size_t slot_of(const st_terms *t, uint64_t key, const uint8_t *p, size_t len)
{
    return slot_at(t, hash_of(key, p, len), key, p, len);
}

uint32_t st_terms_find(const st_terms *t, const uint8_t *p, size_t len)
{
    return t->slots[slot_of(t, key_of(p, len), p, len)].id;
}

static int grow_slots(st_terms *t)
{
    size_t n = 2 * (t->mask + 1);
    st_term_slot *slots = st_mem_new(t->a, n * sizeof *slots);
    if (!slots) return ST_ENOMEM;
    memset(slots, 0xFF, n * sizeof *slots);
    for (size_t i = 0; i <= t->mask; i++) {
        const st_term_slot *s = &t->slots[i];
        if (s->id == ST_NO_TERM) continue;
        size_t j = hash_of(s->key, t->bytes + t->off[s->id], s->len) & (n - 1);
        while (slots[j].id != ST_NO_TERM)
            j = (j + 1) & (n - 1);
        slots[j] = *s;
    }
    st_mem_free(t->a, t->slots);
    t->slots = slots;
    t->mask = n - 1;
    return ST_OK;
}

/* A term that is not there, with the free slot where it belongs. */
static int insert(st_terms *t, size_t i, uint64_t key, const uint8_t *p, size_t len, uint32_t *id)
{
    if (t->n >= ST_NO_TERM - 1 || len > UINT32_MAX) return ST_ELIMIT;
    if (2 * (t->n + 1) > t->mask) {
        ST_TRY(grow_slots(t));
        i = slot_of(t, key, p, len);
    }
    if (t->n + 1 > t->cap) {
        size_t cap = 2 * t->cap + 64;
        uint64_t *off = t->a->resize(t->a->ud, t->off, (cap + 1) * sizeof *off);
        if (!off) return ST_ENOMEM;
        t->off = off;
        t->cap = cap;
    }
    if (t->n_bytes + len > t->cap_bytes) {
        size_t cap = 2 * t->cap_bytes + len + 256;
        uint8_t *bytes = t->a->resize(t->a->ud, t->bytes, cap);
        if (!bytes) return ST_ENOMEM;
        t->bytes = bytes;
        t->cap_bytes = cap;
    }
    if (len) memcpy(t->bytes + t->n_bytes, p, len);
    t->n_bytes += len;
    *id = (uint32_t)t->n;
    t->slots[i] = (st_term_slot){key, *id, (uint32_t)len};
    t->off[++t->n] = t->n_bytes;
    return ST_OK;
}

int st_terms_add(st_terms *t, const uint8_t *p, size_t len, uint32_t *id)
{
    uint64_t key = key_of(p, len);
    size_t i = slot_of(t, key, p, len);
    *id = t->slots[i].id;
    return *id != ST_NO_TERM ? ST_OK : insert(t, i, key, p, len, id);
}

int st_terms_batch(st_terms *t, bool add, const uint8_t *text, const st_gram *grams, size_t n, uint32_t *ids)
{
    uint64_t keys[ST_BATCH], hashes[ST_BATCH];
    for (size_t g = 0; g < n; g++) {
        const uint8_t *p = text + grams[g].at;
        keys[g] = key_of(p, grams[g].len);
        hashes[g] = hash_of(keys[g], p, grams[g].len);
        __builtin_prefetch(&t->slots[hashes[g] & t->mask]);
    }
    for (size_t g = 0; g < n; g++) {
        const uint8_t *p = text + grams[g].at;
        size_t i = slot_at(t, hashes[g], keys[g], p, grams[g].len);
        ids[g] = t->slots[i].id;
        if (ids[g] == ST_NO_TERM && add) ST_TRY(insert(t, i, keys[g], p, grams[g].len, &ids[g]));
    }
    return ST_OK;
}

/* -- Sorting --------------------------------------------------------------------------------------------- */

typedef struct sorted {
    uint64_t key; /* the first eight bytes, the first one highest */
    const uint8_t *p;
    uint32_t len, id;
} sorted;

static int compare(const void *a, const void *b)
{
    const sorted *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    size_t n = x->len < y->len ? x->len : y->len;
    int c = n > 8 ? memcmp(x->p + 8, y->p + 8, n - 8) : 0;
    /* zeros after the end look like the character 0: then the shorter one is first */
    return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

typedef struct sort_job {
    sorted *v, *out;
    size_t n;
} sort_job;

static void sort_part(void *arg, int part, int n_parts)
{
    sort_job *job = arg;
    size_t from = job->n * (size_t)part / (size_t)n_parts, to = job->n * ((size_t)part + 1) / (size_t)n_parts;
    if (to > from) qsort(job->v + from, to - from, sizeof *job->v, compare);
}

int st_terms_sort(const st_terms *t, uint32_t *order, int n_threads)
{
    sorted *v = st_mem_new(t->a, t->n * sizeof *v);
    if (!v) return ST_ENOMEM;
    for (size_t i = 0; i < t->n; i++) {
        const uint8_t *p = t->bytes + t->off[i];
        size_t len = (size_t)(t->off[i + 1] - t->off[i]);
        v[i] = (sorted){__builtin_bswap64(key_of(p, len)), p, (uint32_t)len, (uint32_t)i};
    }
    int parts = n_threads > 1 && t->n > 20000 ? 2 : 1;
    sort_job job = {v, NULL, t->n};
    st_fork(parts, sort_part, &job);
    size_t half = parts == 2 ? t->n / 2 : t->n;
    for (size_t i = 0, a = 0, b = half; i < t->n; i++)
        order[i] = b >= t->n || (a < half && compare(&v[a], &v[b]) < 0) ? v[a++].id : v[b++].id;
    st_mem_free(t->a, v);
    return ST_OK;
}

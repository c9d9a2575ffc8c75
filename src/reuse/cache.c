/* cache.c - values in memory under canonical keys (see stratum/cache.h).
 *
 * A table by key with open addressing holds pointers to entries; the same entries lie in a heap by what they
 * are worth, the least first.  The worth of an entry is Greedy-Dual-Size-Frequency's (Cherkasova, 1998):
 *
 *     clock + (1 + hits) * seconds / bytes
 *
 * where the clock is the worth of what went last, so that what nobody asks for ages without being touched.
 */
#include "stratum/cache.h"

#include "../base/internal.h"

#include <pthread.h>

typedef struct entry {
    st_hash key;
    st_value *value;
    size_t bytes, heap_at, enc_len;
    uint64_t hits;
    double seconds, worth;
    struct entry *next; /* of those that are to be freed once the lock is free */
    unsigned char enc[];
} entry;

struct st_cache {
    const st_alloc *a;
    pthread_mutex_t lock;
    entry **table; /* NULL: empty; GRAVE: was taken out */
    size_t cap, graves;
    ST_VEC(entry *) heap;
    double clock;
    size_t limit, floor; /* as set; stats.max_bytes is what holds now */
    size_t own, peak;    /* what the process takes without what is kept: when it was last told, and at most */
    st_cache_stats stats;
};

#define GRAVE ((entry *)UINTPTR_MAX)

/* What an entry takes besides its value. */
#define OVERHEAD (sizeof(entry) + 3 * sizeof(void *))

static bool before(const entry *a, const entry *b) { return a->worth < b->worth; }

static void heap_set(st_cache *c, size_t i, entry *e)
{
    c->heap.v[i] = e;
    e->heap_at = i;
}

static void heap_move(st_cache *c, size_t i)
{
    entry *e = c->heap.v[i];
    while (i > 0 && before(e, c->heap.v[(i - 1) / 2])) {
        heap_set(c, i, c->heap.v[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= c->heap.n) break;
        if (k + 1 < c->heap.n && before(c->heap.v[k + 1], c->heap.v[k])) k++;
        if (!before(c->heap.v[k], e)) break;
        heap_set(c, i, c->heap.v[k]);
        i = k;
    }
    heap_set(c, i, e);
}

static size_t place(const st_cache *c, st_hash key) { return (size_t)key.lo & (c->cap - 1); }

static entry **find(st_cache *c, st_hash key)
{
    if (!c->cap) return NULL;
    for (size_t i = place(c, key); c->table[i]; i = (i + 1) & (c->cap - 1))
        if (c->table[i] != GRAVE && st_hash_eq(c->table[i]->key, key)) return &c->table[i];
    return NULL;
}

/* Room for one more, at most half full. */
static int grow(st_cache *c)
{
    if (2 * (c->heap.n + c->graves + 1) <= c->cap) return ST_OK;
    size_t cap = 64;
    while (cap < 4 * (c->heap.n + 1))
        cap *= 2;
    entry **table = st_mem_zero(c->a, cap * sizeof *table);
    if (!table) return ST_ENOMEM;
    for (size_t k = 0; k < c->heap.n; k++) {
        size_t i = (size_t)c->heap.v[k]->key.lo & (cap - 1);
        while (table[i])
            i = (i + 1) & (cap - 1);
        table[i] = c->heap.v[k];
    }
    st_mem_free(c->a, c->table);
    c->table = table;
    c->cap = cap;
    c->graves = 0;
    return ST_OK;
}

/* Take an entry out; it goes to the list of those to free. */
static void take_out(st_cache *c, entry *e, entry **gone)
{
    entry **at = find(c, e->key);
    if (at) *at = GRAVE;
    c->graves++;
    size_t i = e->heap_at;
    entry *last = c->heap.v[--c->heap.n];
    if (last != e) {
        heap_set(c, i, last);
        heap_move(c, i);
    }
    c->stats.entries--;
    c->stats.bytes -= e->bytes;
    e->next = *gone;
    *gone = e;
}

static void free_all(st_cache *c, entry *gone)
{
    while (gone) {
        entry *next = gone->next;
        st_value_release(gone->value);
        st_mem_free(c->a, gone);
        gone = next;
    }
}

static void shrink(st_cache *c, size_t to, entry **gone)
{
    while (c->heap.n && c->stats.bytes > to) {
        entry *e = c->heap.v[0];
        c->clock = e->worth;
        c->stats.evicted++;
        take_out(c, e, gone);
    }
}

static double worth_of(const st_cache *c, const entry *e)
{
    return c->clock + (1.0 + (double)e->hits) * e->seconds / (double)e->bytes;
}

int st_cache_new(const st_alloc *a, size_t max_bytes, st_cache **out)
{
    st_cache *c = st_mem_zero(a, sizeof *c);
    if (!c) return ST_ENOMEM;
    if (pthread_mutex_init(&c->lock, NULL) != 0) {
        st_mem_free(a, c);
        return ST_ESYSTEM;
    }
    c->a = a;
    c->stats.max_bytes = c->limit = c->floor = max_bytes;
    *out = c;
    return ST_OK;
}

void st_cache_free(st_cache *c)
{
    if (!c) return;
    st_cache_clear(c);
    st_mem_free(c->a, c->table);
    st_vec_free(c->a, &c->heap);
    pthread_mutex_destroy(&c->lock);
    st_mem_free(c->a, c);
}

bool st_cache_knows(st_cache *c, st_hash key)
{
    pthread_mutex_lock(&c->lock);
    bool known = find(c, key) != NULL;
    pthread_mutex_unlock(&c->lock);
    return known;
}

st_value *st_cache_get(st_cache *c, st_hash key, const void *enc, size_t enc_len)
{
    st_value *v = NULL;
    pthread_mutex_lock(&c->lock);
    entry **at = find(c, key), *e = at ? *at : NULL;
    if (e && e->enc_len == enc_len && memcmp(e->enc, enc, enc_len) == 0) {
        v = st_value_retain(e->value);
        e->hits++;
        e->worth = worth_of(c, e);
        heap_move(c, e->heap_at);
        c->stats.hits++;
        c->stats.saved += e->seconds;
    } else {
        c->stats.misses++;
    }
    pthread_mutex_unlock(&c->lock);
    return v;
}

/* Whether less than `e` is worth, byte for byte, makes room for it. */
static bool pays(const st_cache *c, const entry *e)
{
    size_t free_bytes = c->stats.max_bytes > c->stats.bytes ? c->stats.max_bytes - c->stats.bytes : 0;
    return e->bytes <= free_bytes || !c->heap.n || c->heap.v[0]->worth <= e->worth;
}

int st_cache_put(st_cache *c, st_hash key, const void *enc, size_t enc_len, st_value *v, size_t bytes,
                 double seconds)
{
    entry *e = st_mem_new(c->a, sizeof *e + enc_len), *gone = NULL;
    if (!e) return ST_ENOMEM;
    *e = (entry){.key = key, .enc_len = enc_len, .seconds = seconds > 0 ? seconds : 0};
    e->bytes = bytes + enc_len + OVERHEAD;
    memcpy(e->enc, enc, enc_len);
    int rc = ST_OK;
    pthread_mutex_lock(&c->lock);
    entry **at = find(c, key);
    if (at) take_out(c, *at, &gone);
    e->worth = worth_of(c, e);
    if (e->bytes > c->stats.max_bytes || !pays(c, e))
        rc = ST_ELIMIT;
    else if (grow(c) != ST_OK || st_vec_reserve(c->a, &c->heap, 1) != ST_OK)
        rc = ST_ENOMEM;
    if (rc == ST_OK) {
        shrink(c, c->stats.max_bytes - e->bytes, &gone);
        size_t i = place(c, key);
        while (c->table[i] && c->table[i] != GRAVE)
            i = (i + 1) & (c->cap - 1);
        if (c->table[i] == GRAVE) c->graves--;
        c->table[i] = e;
        e->value = st_value_retain(v);
        heap_set(c, c->heap.n++, e);
        heap_move(c, e->heap_at);
        c->stats.entries++;
        c->stats.bytes += e->bytes;
        c->stats.put++;
    } else if (rc == ST_ELIMIT) {
        c->stats.refused++;
    }
    pthread_mutex_unlock(&c->lock);
    if (rc != ST_OK) st_mem_free(c->a, e);
    free_all(c, gone);
    return rc;
}

/* The limit that holds now. */
static void fit(st_cache *c, entry **gone)
{
    size_t room = (c->peak - c->own) / 2;
    if (room < c->floor) room = c->floor;
    c->stats.max_bytes = room < c->limit ? room : c->limit;
    shrink(c, c->stats.max_bytes, gone);
}

void st_cache_set_limit(st_cache *c, size_t max_bytes, size_t floor)
{
    entry *gone = NULL;
    pthread_mutex_lock(&c->lock);
    c->limit = max_bytes;
    c->floor = floor;
    fit(c, &gone);
    pthread_mutex_unlock(&c->lock);
    free_all(c, gone);
}

void st_cache_fit(st_cache *c, size_t resident)
{
    entry *gone = NULL;
    pthread_mutex_lock(&c->lock);
    c->own = resident > c->stats.bytes ? resident - c->stats.bytes : 0;
    if (c->own > c->peak) c->peak = c->own;
    fit(c, &gone);
    pthread_mutex_unlock(&c->lock);
    free_all(c, gone);
}

void st_cache_clear(st_cache *c)
{
    entry *gone = NULL;
    pthread_mutex_lock(&c->lock);
    while (c->heap.n)
        take_out(c, c->heap.v[c->heap.n - 1], &gone);
    pthread_mutex_unlock(&c->lock);
    free_all(c, gone);
}

st_cache_stats st_cache_get_stats(st_cache *c)
{
    pthread_mutex_lock(&c->lock);
    st_cache_stats s = c->stats;
    pthread_mutex_unlock(&c->lock);
    return s;
}

/* parallel.c - see parallel.h.  Memory: the caller's stack alone. */
#include "kernels/parallel.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct loop {
    atomic_size_t next;
    size_t n;
    st_item_fn fn;
    void *ud;
} loop;

typedef struct helper {
    pthread_t id;
    loop *l;
    unsigned worker;
} helper;

static void work(loop *l, unsigned worker)
{
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
        if (i >= l->n) return;
        l->fn(l->ud, i, worker);
    }
}

static void *enter(void *arg)
{
    helper *h = arg;
    work(h->l, h->worker);
    return NULL;
}

void st_parallel(unsigned threads, size_t n, st_item_fn fn, void *ud)
{
    if (threads > ST_MAX_THREADS) threads = ST_MAX_THREADS;
    if (threads > n) threads = (unsigned)n;
    if (threads <= 1) {
        for (size_t i = 0; i < n; i++)
            fn(ud, i, 0);
        return;
    }
    loop l = {.n = n, .fn = fn, .ud = ud};
    atomic_init(&l.next, 0);
    helper helpers[ST_MAX_THREADS];
    unsigned made = 0;
    for (unsigned t = 1; t < threads; t++) {
        helper *h = &helpers[made];
        h->l = &l;
        h->worker = t;
        if (pthread_create(&h->id, NULL, enter, h) != 0) break;
        made++;
    }
    work(&l, 0);
    for (unsigned t = 0; t < made; t++)
        pthread_join(helpers[t].id, NULL);
}

typedef struct cut {
    st_part_fn fn;
    void *ud;
    int n;
} cut;

static void do_part(void *ud, size_t i, unsigned worker)
{
    (void)worker;
    const cut *c = ud;
    c->fn(c->ud, (int)i, c->n);
}

void st_fork(int n, st_part_fn fn, void *ud)
{
    cut c = {fn, ud, n < 1 ? 1 : n > ST_MAX_THREADS ? ST_MAX_THREADS : n};
    st_parallel((unsigned)c.n, (size_t)c.n, do_part, &c);
}

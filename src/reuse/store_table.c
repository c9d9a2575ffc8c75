/* store_table.c - what a store knows of its entries in memory: a table by key with open addressing. */
#include "store_table.h"

#include "../base/internal.h"

static st_row grave; /* no row: its address marks a slot */
#define GRAVE (&grave)

st_row *st_row_new(const st_alloc *a, const st_store_info *info)
{
    size_t n = strlen(info->label) + 1;
    st_row *r = st_mem_zero(a, sizeof *r + n);
    if (!r) return NULL;
    r->info = *info;
    memcpy(r->label, info->label, n);
    r->info.label = r->label;
    if (!(info->seconds >= 0 && info->seconds < 1e15))
        r->info.seconds = 0; /* NaN, from a file: no row may have it */
    return r;
}

/* Keys are hashes: any half spreads. */
static size_t place(const st_table *t, st_hash key) { return (size_t)key.hi & (t->cap - 1); }

static size_t where(const st_table *t, st_hash key)
{
    for (size_t i = place(t, key);; i = (i + 1) & (t->cap - 1)) {
        const st_row *r = t->slot[i];
        if (!r || (r != GRAVE && st_hash_eq(r->info.key, key))) return i;
    }
}

st_row *st_table_find(const st_table *t, st_hash key) { return t->cap ? t->slot[where(t, key)] : NULL; }

st_row *st_table_at(const st_table *t, size_t i) { return t->slot[i] == GRAVE ? NULL : t->slot[i]; }

static void settle(st_table *t, st_row *r)
{
    size_t i = place(t, r->info.key);
    while (t->slot[i])
        i = (i + 1) & (t->cap - 1);
    t->slot[i] = r;
}

int st_table_promise(const st_alloc *a, st_table *t)
{
    size_t need = t->n + t->promised + 1;
    if (t->cap == 0 || (need + t->graves) * 4 > t->cap * 3) {
        size_t cap = 64;
        while (need * 2 > cap)
            cap *= 2;
        st_row **slot = st_mem_zero(a, cap * sizeof *slot);
        if (!slot) return ST_ENOMEM;
        st_table old = *t;
        t->slot = slot;
        t->cap = cap;
        t->graves = 0;
        for (size_t i = 0; i < old.cap; i++)
            if (st_table_at(&old, i)) settle(t, old.slot[i]);
        st_mem_free(a, old.slot);
    }
    t->promised++;
    return ST_OK;
}

void st_table_insert(st_table *t, st_row *r, bool unsaved)
{
    settle(t, r);
    t->promised--;
    t->n++;
    t->bytes += r->info.bytes;
    r->unsaved = unsaved;
    r->next_unsaved = NULL;
    if (unsaved) {
        r->next_unsaved = t->unsaved;
        t->unsaved = r;
    }
}

st_row *st_table_take(st_table *t, st_hash key)
{
    if (!t->cap) return NULL;
    size_t i = where(t, key);
    st_row *r = t->slot[i];
    if (!r) return NULL;
    t->slot[i] = GRAVE;
    t->graves++;
    t->n--;
    t->bytes -= r->info.bytes;
    if (r->unsaved) {
        st_row **p = &t->unsaved;
        while (*p != r)
            p = &(*p)->next_unsaved;
        *p = r->next_unsaved;
    }
    return r;
}

void st_table_saved(st_table *t, st_row *head)
{
    st_row **p = &t->unsaved;
    while (*p != head)
        p = &(*p)->next_unsaved;
    *p = NULL;
    while (head) {
        st_row *next = head->next_unsaved;
        head->unsaved = false;
        head->next_unsaved = NULL;
        head = next;
    }
}

void st_table_unsave(st_table *t)
{
    t->unsaved = NULL;
    for (size_t i = 0; i < t->cap; i++) {
        st_row *r = st_table_at(t, i);
        if (!r) continue;
        r->unsaved = true;
        r->next_unsaved = t->unsaved;
        t->unsaved = r;
    }
}

void st_table_free(const st_alloc *a, st_table *t)
{
    for (size_t i = 0; i < t->cap; i++)
        st_mem_free(a, st_table_at(t, i));
    st_mem_free(a, t->slot);
    *t = (st_table){0};
}

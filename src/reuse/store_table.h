/* store_table.h - what a store knows of its entries in memory (store_table.c); for the files of the store.
 *
 * No locks in here: the caller has one.
 */
#ifndef ST_STORE_TABLE_H
#define ST_STORE_TABLE_H

#include "stratum/store.h"

typedef struct st_row st_row;
struct st_row {
    st_store_info info;  /* its label is the one below */
    uint64_t hits, sent; /* not in the index yet; of those, on their way */
    uint64_t round;      /* the last walk that saw it */
    bool unsaved;        /* not in the index yet */
    st_row *next_unsaved, *next_sent;
    char label[];
};

typedef struct st_table {
    st_row **slot; /* NULL: empty; GRAVE: was taken out */
    size_t cap, n, graves, promised;
    uint64_t bytes; /* of all rows */
    st_row *unsaved;
} st_table;

/* A row of its own. */
st_row *st_row_new(const st_alloc *a, const st_store_info *info) ST_USE;

st_row *st_table_find(const st_table *t, st_hash key);

/* Room for one more row, which stays until it is inserted or given up. */
int st_table_promise(const st_alloc *a, st_table *t) ST_USE;
static inline void st_table_forget(st_table *t) { t->promised--; }

/* Insert a row whose key is not there yet, into room that was promised.  `unsaved`: the index lacks it. */
void st_table_insert(st_table *t, st_row *r, bool unsaved);

/* Take a row out, which is the caller's then; NULL: there was none. */
st_row *st_table_take(st_table *t, st_hash key);

/* Rows from `head` on are in the index now; newer ones stand before it. */
void st_table_saved(st_table *t, st_row *head);

/* Everything is to go into another index. */
void st_table_unsave(st_table *t);

/* The row in a slot, or NULL. */
st_row *st_table_at(const st_table *t, size_t i);

void st_table_free(const st_alloc *a, st_table *t);

#endif

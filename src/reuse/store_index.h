/* store_index.h - what a store has, in SQLite (store_index.c); for store.c, which lets one thread at a time
 * in.
 *
 * Codes: ST_EVERIFY: this is no index of this version, or a damaged one; ST_ECANCELED: the file was replaced
 * by another one since it was opened; ST_ELIMIT: others kept it busy; ST_EUNSUPPORTED: built without SQLite;
 * ST_ESYSTEM: anything else (disk full, ...).
 */
#ifndef ST_STORE_INDEX_H
#define ST_STORE_INDEX_H

#include "stratum/store.h"

typedef struct st_index st_index;

/* Whether the library has SQLite. */
bool st_index_built(void);

/* Open or make the index at `path`.  *fresh: it was empty.  `wal`: writers and readers side by side, which
 * needs memory shared between processes, and so not a network's file system.  Without `sync` the index may be
 * damaged when the power fails. */
int st_index_open(const st_alloc *a, const char *path, bool read_only, bool wal, bool sync, st_index **out,
                  bool *fresh, st_error *err) ST_USE;
/* Without `fold` what is in the write-ahead log stays there: quick. */
void st_index_close(st_index *x, bool fold);
bool st_index_is_wal(const st_index *x);

/* Several changes, all or none.  A failed change rolls them back. */
int st_index_begin(st_index *x, st_error *err) ST_USE;
int st_index_commit(st_index *x, st_error *err) ST_USE;
void st_index_rollback(st_index *x);

int st_index_add(st_index *x, const st_store_info *row, st_error *err) ST_USE;
int st_index_used(st_index *x, st_hash key, uint64_t hits, int64_t used, st_error *err) ST_USE;
/* *gone: whether there was one. */
int st_index_remove(st_index *x, st_hash key, bool *gone, st_error *err) ST_USE;

/* Whether another connection has changed anything since the last call; true at the first one. */
int st_index_changed(st_index *x, bool *changed, st_error *err) ST_USE;

/* Rows above `after` (0: all); `fn` gets them with their numbers, which grow. */
typedef int (*st_index_row_fn)(void *ud, const st_store_info *row, int64_t number);
int st_index_rows(st_index *x, int64_t after, st_index_row_fn fn, void *ud, st_error *err) ST_USE;

/* Counters, by place. */
enum {
    ST_INDEX_HITS,
    ST_INDEX_MISSES,
    ST_INDEX_PUTS,
    ST_INDEX_DAMAGED,
    ST_INDEX_REMOVED,
    ST_INDEX_SAVED,
    ST_INDEX_N_COUNTERS
};
int st_index_count(st_index *x, const double add[ST_INDEX_N_COUNTERS], st_error *err) ST_USE;
int st_index_counters(st_index *x, double value[ST_INDEX_N_COUNTERS], st_error *err) ST_USE;

#endif

/* store_impl.h - a store's insides, for its own files (store*.c) and tests.
 *
 * Two locks.  `db` is held around everything that uses the index's connection, and whenever rows go; `mem` is
 * a leaf, held for moments, around the table and the counters.  So whoever holds `db` may keep pointers to
 * rows, and what a run asks on its way (knows, get, claim) waits for no disk but its own file's.
 *
 *     store.c        opening, putting, getting, claims
 *     store_sync.c   the table in memory and the index: one brought up to the other
 *     store_tend.c   walking through the folder: rebuilding, gc, verify, clear
 *     store_fork.c   what happens when the process forks
 *     store_file.c, store_index.c, store_lock.c, store_table.c: a file, SQLite, locks, the table
 */
#ifndef ST_STORE_IMPL_H
#define ST_STORE_IMPL_H

#include "store_file.h"
#include "store_index.h"
#include "store_lock.h"
#include "store_table.h"

#include "../base/internal.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

/* Room for any path below a store's folder. */
enum { ST_PATH = PATH_MAX + 128, ST_LABEL_MOST = 1000 };

/* The store's version: what stands in its file "format". */
enum { ST_STORE_FORMAT = 1 };

struct st_claim {
    st_store *s;
    int fd;
    st_claim *prev, *next;
};

struct st_store {
    const st_alloc *a;
    char *dir, *build;
    uint64_t max_bytes;
    bool read_only, plain, sync, own, network;
    bool outdated; /* an older version made what is there */

    pthread_mutex_t db;
    st_index *index;  /* NULL: closed for a fork, or there is none */
    bool sqlite, wal; /* there is one, to be opened when it is needed */
    pid_t pid;        /* whose connection it is */
    dev_t index_dev;
    ino_t index_ino;
    int64_t last;   /* the last row that was read from it */
    double removed; /* how many rows had been taken out then */
    uint64_t round;

    pthread_mutex_t mem;
    st_table table;
    double now[ST_INDEX_N_COUNTERS];  /* counted here, not in the index yet */
    double life[ST_INDEX_N_COUNTERS]; /* what the index had */
    st_claim *claims;

    atomic_uint_fast64_t temporaries;
    st_store *prev, *next; /* all stores of the process: store_fork.c */
};

/* -- store.c */
int64_t st_store_clock(void); /* nanoseconds since 1970 */
/* The path of a key's file; of something else in the folder. */
void st_store_file(const st_store *s, st_hash key, char path[ST_PATH]);
void st_store_path(const st_store *s, const char *name, char path[ST_PATH]);
int st_store_check_format(const st_store *s, int *version, st_error *err) ST_USE;
void st_store_info_of(const st_file *f, st_store_info *info);

/* -- store_sync.c: the caller holds `db` */
/* Whether there is an index; opens it if need be. */
bool st_sync_ready(st_store *s);
/* Open or make the index and read all of it. */
int st_sync_open(st_store *s, st_error *err) ST_USE;
/* Read what others changed. */
int st_sync_load(st_store *s, st_error *err) ST_USE;
/* Write what is new here; `uses`: hits and counters as well. */
int st_sync_flush(st_store *s, bool uses, st_error *err);
/* Take rows out of the index and of the table. */
int st_sync_drop(st_store *s, const st_hash *keys, size_t n, st_error *err);
void st_sync_close(st_store *s, bool fold);
/* In a child that was forked: what is not in the index yet is for the parent to write. */
void st_sync_leave(st_store *s);

/* -- store_tend.c */
typedef struct st_bad {
    st_hash key;
    char why[120];
} st_bad;
typedef ST_VEC(st_bad) st_bads;
/* Look at all files: unknown ones get a row, rows that were seen have the new `round`.  Those that cannot be
 * read go to `bad`, which may be NULL.  The caller holds `db`. */
int st_tend_scan(st_store *s, st_bads *bad, st_error *err) ST_USE;

/* -- store_fork.c */
int st_fork_add(st_store *s, st_error *err) ST_USE;
void st_fork_remove(st_store *s);

#endif

/* store_lock.h - locks among all threads of all processes that use a folder (store_lock.c); for store.c. */
#ifndef ST_STORE_LOCK_H
#define ST_STORE_LOCK_H

#include "stratum/base.h"

/* Places in the lock file: one a key below, these above. */
#define ST_LOCK_KEYS (UINT64_C(1) << 62)
#define ST_LOCK_INDEX (ST_LOCK_KEYS + 1) /* whoever makes or replaces the index */
#define ST_LOCK_GC (ST_LOCK_KEYS + 2)    /* whoever collects */

static inline uint64_t st_lock_place(st_hash key) { return key.lo & (ST_LOCK_KEYS - 1); }

/* Lock `place` of the lock file at `path`; waits `wait_ms` at most (-1: as long as it takes).  *fd holds the
 * lock. ST_ELIMIT: somebody else has it; ST_EUNSUPPORTED: no such locks here. */
int st_lock_take(const char *path, uint64_t place, int wait_ms, int *fd, st_error *err) ST_USE;

/* Give it back, whoever has copies of the descriptor; -1: nothing. */
void st_lock_release(int fd);

/* Close a copy, in a child: the lock stays with the parent. */
void st_lock_leave(int fd);

#endif

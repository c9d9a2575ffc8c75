/* stratum/store.h - results on disk, under the key of what computed them.
 *
 * A store is a folder.  Each entry is one file in it: the full encoding of what was computed (compared whole
 * on a hit: equal keys with different encodings are a miss), some facts, and any number of parts, which are
 * bytes, each at a multiple of 64 in the file so that it is used where it is mapped.  An index (SQLite where
 * the library has it) says what is there without opening files; it can be lost at any time and is made again
 * from them.  docs/store.md describes the format.
 *
 * What is promised: bytes that come back are the bytes that were put, or nothing comes back (every byte is
 * covered by a checksum, verified when it is loaded); a process that dies at any instruction leaves a store
 * that works; any number of processes and threads may use one store at a time.  The checksums are not keyed:
 * whoever may write to the folder may put anything there (st_blob.own, st_store_own).
 *
 * Threads: every function may be called from any thread, st_store_close once and last.  Memory: what comes
 * through an `out` pointer belongs to the caller.  A blob lives on its own: it may be freed after the store
 * was closed, and its mapping outlives the file.
 *
 * After fork() the child may go on with the stores that it got: their connections are closed before a fork
 * and opened again when they are needed, and claims stay with the parent.
 */
#ifndef STRATUM_STORE_H
#define STRATUM_STORE_H

#include "stratum/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct st_store st_store;
typedef struct st_claim st_claim;

/* -- Opening ------------------------------------------------------------------------------------- */

typedef struct st_store_options {
    uint64_t max_bytes; /* what the files may take together; put collects when it is more. 0: no limit */
    bool read_only;     /* nothing is written, not even which entries were useful */
    bool plain;         /* no SQLite: an index in memory, read from the files */
    bool no_sync; /* files are not flushed to the disk: safe when a process dies, not when the power fails */
    const char *build; /* entries of another build are misses; NULL: "" */
} st_store_options;

/* Open the store in folder `dir`, which is made (for this user alone) if need be.  A folder that cannot be
 * written to opens read-only.  ST_EUNSUPPORTED: a newer version made it; nothing was touched. */
ST_API int st_store_open(const st_alloc *a, const char *dir, const st_store_options *options, st_store **out,
                         st_error *err);
ST_API void st_store_close(st_store *s);

/* What other processes added and removed since.  One small query where nothing changed. */
ST_API int st_store_refresh(st_store *s, st_error *err);

ST_API const char *st_store_folder(const st_store *s);
ST_API bool st_store_read_only(const st_store *s);
/* Whether the folder is this user's and nobody else may write to it. */
ST_API bool st_store_own(const st_store *s);
/* "sqlite, wal", "sqlite, delete" (network file systems), "sqlite, read-only" or "memory" (no SQLite). */
ST_API const char *st_store_index_kind(const st_store *s);

/* -- Entries ------------------------------------------------------------------------------------- */

typedef struct st_part {
    void *data;
    size_t len;
} st_part;

enum { ST_STORE_HOST = 1 }; /* kinds: holds objects of a host that are not safe to load from a stranger */

typedef struct st_store_item {
    st_hash key;
    const void *enc; /* the full encoding */
    size_t enc_len;
    const char *label; /* for people: "fit Ridge"; at most 1000 bytes, NULL: "" */
    double seconds;    /* what computing it took */
    uint32_t kind;     /* the caller's flags */
    size_t n_parts;
    const st_part *parts;
} st_store_item;

/* Parts begin at multiples of 64 and may be written to: the pages are this mapping's own. */
typedef struct st_blob {
    size_t n_parts;
    const st_part *parts;
    double seconds;
    uint32_t kind;
    bool own; /* the file and the folder are this user's, and nobody else may write to them */
} st_blob;

/* Whether the index has the key.  Memory only, no system call. */
ST_API bool st_store_knows(const st_store *s, st_hash key);

/* The entry under `key` with this encoding.  ST_ENOTFOUND: there is none, or none that can be used: one that
 * is damaged is counted and taken out.  Looks at the file, not at the index: what another process has just
 * put is found. */
ST_API int st_store_get(st_store *s, st_hash key, const void *enc, size_t enc_len, st_blob **out,
                        st_error *err);
ST_API void st_blob_free(st_blob *b);

/* Put an entry.  The same entry there already is fine; another encoding under the same key is replaced.  On
 * failure (ST_ESYSTEM: disk full, ...; ST_ELIMIT: larger than the store may be) nothing is left behind. */
ST_API int st_store_put(st_store *s, const st_store_item *item, st_error *err);

/* Take an entry out; ST_ENOTFOUND where there is none. */
ST_API int st_store_remove(st_store *s, st_hash key, st_error *err);

/* -- One computes, the others wait ------------------------------------------------------------------ */

/* The right to compute `key`, among all threads of all processes that ask.  Waits `wait_ms` milliseconds at
 * most
 * (-1: as long as it takes), then answers ST_ELIMIT.  A process that dies gives its claims back.  After a
 * claim, look (st_store_get) again: who had it before may have put the value.  Two keys may, rarely, share a
 * claim.  ST_EUNSUPPORTED: this folder has no locks. */
ST_API int st_store_claim(st_store *s, st_hash key, int wait_ms, st_claim **out, st_error *err);
ST_API void st_store_unclaim(st_claim *c); /* before the store is closed */

/* -- Looking after it -------------------------------------------------------------------------------- */

typedef struct st_store_info {
    st_hash key;
    const char *label;
    double seconds;
    uint64_t bytes; /* of the file */
    uint64_t hits;
    int64_t created, used; /* nanoseconds since 1970 */
    uint32_t kind;
} st_store_info;

/* Each entry that the index has, in no order; `fn` may call the store.  Anything but ST_OK from it ends the
 * walk and is the answer. */
typedef int (*st_store_each_fn)(void *ud, const st_store_info *info);
ST_API int st_store_each(st_store *s, st_store_each_fn fn, void *ud, st_error *err);

/* Those whose key, as st_store_key_text writes it, begins with `prefix`. */
ST_API int st_store_find(st_store *s, const char *prefix, st_store_each_fn fn, void *ud, st_error *err);
enum { ST_KEY_TEXT = 33 };
ST_API void st_store_key_text(st_hash key, char text[ST_KEY_TEXT]);

/* The encoding under a key; freed with the allocator of the store. */
ST_API int st_store_encoding(st_store *s, st_hash key, void **enc, size_t *enc_len, st_error *err);

/* What is there now, and what happened: in the store's life, or since it was opened where the index is in
 * memory. */
typedef struct st_store_stats {
    uint64_t entries, bytes;
    uint64_t hits, misses, puts, damaged, removed;
    double seconds_saved; /* what the hits took to compute, less what they took to load */
} st_store_stats;
ST_API int st_store_get_stats(st_store *s, st_store_stats *stats, st_error *err);

/* Take out what is worth least until the files take `max_bytes` at most, what older versions and dead
 * processes left, and rows without files; take in files without rows.  `freed` (may be NULL): bytes.  At once
 * in several processes: the first one works, the others answer ST_OK. */
ST_API int st_store_gc(st_store *s, uint64_t max_bytes, uint64_t *freed, st_error *err);

/* Read every byte of every entry.  `fn` (may be NULL) is told of each one that is damaged, and why; those are
 * taken out.  `damaged` (may be NULL): how many. */
typedef void (*st_store_damage_fn)(void *ud, const st_store_info *info, const char *why);
ST_API int st_store_verify(st_store *s, st_store_damage_fn fn, void *ud, size_t *damaged, st_error *err);

/* Take everything out. */
ST_API int st_store_clear(st_store *s, st_error *err);

#ifdef __cplusplus
}
#endif
#endif

/* store_tend.c - walking through a store's folder: rebuilding what is known, gc, verify, clear.
 *
 * Only names that a store gives are touched: ab/cdef....st, what is in tmp/, index.sqlite.aside-....
 *
 * What an entry is worth (gc): seconds * (1 + hits) * 2^(-age / 7 days) / bytes, its age counted from its
 * last use. So of two that took equally long the larger goes first, and what nobody has asked for in a month
 * counts a sixteenth.
 */
#include "store_impl.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const double HALF_LIFE = 7 * 86400e9;         /* nanoseconds */
static const int64_t STALE = INT64_C(3600000000000); /* an hour: no writer is that slow */

/* -- Walking --------------------------------------------------------------------------------------- */

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/* The key of the file `name` in folder `top`; false: not an entry's name. */
static bool key_of(unsigned top, const char *name, st_hash *key)
{
    if (strlen(name) != 33 || strcmp(name + 30, ".st") != 0) return false;
    uint64_t half[2] = {top, 0};
    for (int i = 0; i < 30; i++) {
        int d = digit(name[i]);
        if (d < 0) return false;
        half[i >= 14] = half[i >= 14] << 4 | (unsigned)d;
    }
    *key = (st_hash){half[1], half[0]};
    return true;
}

typedef int (*file_fn)(st_store *s, st_hash key, const char *path, void *ud, st_error *err);

/* Call `fn` for each file that has the name of an entry. */
static int walk(st_store *s, file_fn fn, void *ud, st_error *err)
{
    char folder[ST_PATH], path[ST_PATH];
    for (unsigned top = 0; top < 256; top++) {
        char name[3];
        snprintf(name, sizeof name, "%02x", top);
        st_store_path(s, name, folder);
        DIR *d = opendir(folder);
        if (!d && errno == ENOMEM) return st_fail(err, ST_ENOMEM, "no memory to read a folder");
        if (!d) continue;
        int rc = ST_OK;
        for (struct dirent *e; rc == ST_OK && (e = readdir(d));) {
            st_hash key;
            if (!key_of(top, e->d_name, &key)) continue;
            st_store_file(s, key, path);
            rc = fn(s, key, path, ud, err);
        }
        closedir(d);
        if (rc != ST_OK) return rc;
    }
    return ST_OK;
}

static int on_file(st_store *s, st_hash key, const char *path, void *ud, st_error *err)
{
    st_bads *bad = ud;
    st_error why = {0};
    pthread_mutex_lock(&s->mem);
    st_row *r = st_table_find(&s->table, key);
    if (r) r->round = s->round;
    pthread_mutex_unlock(&s->mem);
    if (r) return ST_OK;

    st_file f;
    int rc = st_file_open(s->a, path, &key, &f, &why);
    if (rc == ST_ENOMEM) return st_fail(err, rc, "%s", why.message);
    if (rc == ST_EVERIFY && bad) {
        if (st_vec_reserve(s->a, bad, 1) != ST_OK)
            return st_fail(err, ST_ENOMEM, "no memory for a list of files");
        st_bad *b = &bad->v[bad->n++];
        b->key = key;
        snprintf(b->why, sizeof b->why, "%.*s", (int)sizeof b->why - 1, why.message);
    }
    if (rc != ST_OK) return ST_OK; /* gone meanwhile, or not for us to read */

    st_store_info info;
    st_store_info_of(&f, &info);
    r = st_row_new(s->a, &info);
    rc = r ? ST_OK : ST_ENOMEM;
    pthread_mutex_lock(&s->mem);
    if (rc == ST_OK && !st_table_find(&s->table, key)) {
        rc = st_table_promise(s->a, &s->table);
        if (rc == ST_OK) {
            r->round = s->round;
            st_table_insert(&s->table, r, true);
            r = NULL;
        }
    }
    pthread_mutex_unlock(&s->mem);
    st_mem_free(s->a, r);
    st_file_close(s->a, &f);
    return rc == ST_OK ? ST_OK : st_fail(err, rc, "no memory for a row");
}

int st_tend_scan(st_store *s, st_bads *bad, st_error *err)
{
    pthread_mutex_lock(&s->mem);
    s->round++;
    pthread_mutex_unlock(&s->mem);
    return walk(s, on_file, bad, err);
}

/* Remove files of folder `name` ("." or "tmp") that nobody has written to for an hour and whose names begin
 * with `prefix`. */
static void sweep(st_store *s, const char *name, const char *prefix)
{
    char folder[ST_PATH], path[ST_PATH + 256];
    struct stat st;
    st_store_path(s, name, folder);
    DIR *d = opendir(folder);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) continue;
        int64_t at = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        if (st_store_clock() - at > STALE) unlink(path);
    }
    closedir(d);
}

/* -- Taking out -------------------------------------------------------------------------------------- */

typedef struct victim {
    st_hash key;
    uint64_t bytes;
    double worth;
} victim;

typedef ST_VEC(victim) victims;

static int by_worth(const void *p, const void *q)
{
    double a = ((const victim *)p)->worth, b = ((const victim *)q)->worth;
    return a < b ? -1 : a > b;
}

static double worth(const st_row *r, int64_t now)
{
    double age = now > r->info.used ? (double)(now - r->info.used) : 0;
    double bytes = r->info.bytes ? (double)r->info.bytes : 1;
    return r->info.seconds * (1 + (double)(r->info.hits + r->hits)) * exp2(-age / HALF_LIFE) / bytes;
}

/* All rows that the last scan saw, and, by themselves, those that it did not and that have no file. */
static int weigh(st_store *s, victims *all, victims *lost, st_error *err)
{
    char path[ST_PATH];
    int64_t now = st_store_clock();
    int rc = ST_OK;
    pthread_mutex_lock(&s->mem);
    rc = st_vec_reserve(s->a, all, s->table.n);
    if (rc == ST_OK) rc = st_vec_reserve(s->a, lost, s->table.n);
    for (size_t i = 0; rc == ST_OK && i < s->table.cap; i++) {
        const st_row *r = st_table_at(&s->table, i);
        if (!r) continue;
        victims *to = r->round == s->round ? all : lost;
        to->v[to->n++] = (victim){r->info.key, r->info.bytes, worth(r, now)};
    }
    pthread_mutex_unlock(&s->mem);
    if (rc != ST_OK) return st_fail(err, rc, "no memory for a list of entries");
    size_t n = 0;
    for (size_t i = 0; i < lost->n; i++) {
        st_store_file(s, lost->v[i].key, path);
        if (access(path, F_OK) == 0)
            all->v[all->n++] = lost->v[i]; /* put while the scan went on; there is room for every row */
        else
            lost->v[n++] = lost->v[i];
    }
    lost->n = n;
    if (all->n) qsort(all->v, all->n, sizeof *all->v, by_worth); /* (of nothing it would be given no array) */
    return ST_OK;
}

/* Rows of `v` out of index and table, `n` from the front. */
static int drop(st_store *s, const victim *v, size_t n, st_error *err)
{
    if (!n) return ST_OK;
    st_hash *keys = st_mem_new(s->a, n * sizeof *keys);
    if (!keys) return st_fail(err, ST_ENOMEM, "no memory for a list of entries");
    for (size_t i = 0; i < n; i++)
        keys[i] = v[i].key;
    int rc = st_sync_drop(s, keys, n, err);
    st_mem_free(s->a, keys);
    return rc;
}

/* The caller holds `db` and, among processes, the right to collect. */
static int collect(st_store *s, uint64_t max_bytes, uint64_t *freed, st_error *err)
{
    char path[ST_PATH];
    st_bads bad = {0};
    victims all = {0}, lost = {0};
    int rc = st_sync_flush(s, true, err);
    if (rc != ST_ENOMEM) rc = st_sync_load(s, err);
    if (rc == ST_OK) rc = st_tend_scan(s, &bad, err);
    if (rc == ST_OK) rc = weigh(s, &all, &lost, err);
    if (rc == ST_OK) {
        sweep(s, "tmp", "");
        sweep(s, ".", "index.sqlite.aside-");
        for (size_t i = 0; i < bad.n; i++) {
            struct stat st;
            st_store_file(s, bad.v[i].key, path);
            if (lstat(path, &st) == 0 && unlink(path) == 0) *freed += (uint64_t)st.st_size;
        }
        uint64_t bytes = 0;
        size_t n = 0;
        for (size_t i = 0; i < all.n; i++)
            bytes += all.v[i].bytes;
        /* Files first: a row without a file is a miss, a file without a row would stay; and on a full disk
         * the index cannot be written before. */
        for (; n < all.n && bytes > max_bytes; n++) {
            st_store_file(s, all.v[n].key, path);
            if (unlink(path) == 0) *freed += all.v[n].bytes;
            bytes -= all.v[n].bytes;
        }
        rc = drop(s, all.v, n, err);
        if (rc == ST_OK) rc = drop(s, lost.v, lost.n, err);
    }
    if (rc == ST_OK) rc = st_sync_flush(s, false, err);
    st_vec_free(s->a, &bad);
    st_vec_free(s->a, &all);
    st_vec_free(s->a, &lost);
    return rc;
}

/* The version may have grown since the store was opened: what is there now is not ours to judge. */
static int may_change(const st_store *s, st_error *err)
{
    int version;
    if (s->read_only) return st_fail(err, ST_EUNSUPPORTED, "the store is read-only");
    return st_store_check_format(s, &version, err);
}

int st_store_gc(st_store *s, uint64_t max_bytes, uint64_t *freed, st_error *err)
{
    char path[ST_PATH];
    int lock = -1;
    uint64_t bytes = 0;
    if (freed) *freed = 0;
    ST_TRY(may_change(s, err));
    st_store_path(s, "lock", path);
    if (st_lock_take(path, ST_LOCK_GC, 0, &lock, NULL) == ST_ELIMIT) return ST_OK;
    pthread_mutex_lock(&s->db);
    int rc = collect(s, max_bytes, &bytes, err);
    pthread_mutex_unlock(&s->db);
    st_lock_release(lock);
    if (freed) *freed = bytes;
    return rc;
}

/* -- Looking at everything --------------------------------------------------------------------------- */

typedef struct verifier {
    st_store *s;
    st_store_damage_fn fn;
    void *ud;
    size_t damaged;
    st_error *err;
} verifier;

static int tell(verifier *v, const st_store_info *info, const char *why)
{
    char path[ST_PATH];
    st_store *s = v->s;
    v->damaged++;
    if (v->fn) v->fn(v->ud, info, why);
    pthread_mutex_lock(&s->mem);
    s->now[ST_INDEX_DAMAGED] += 1;
    pthread_mutex_unlock(&s->mem);
    if (s->read_only) return ST_OK;
    st_store_file(s, info->key, path);
    unlink(path);
    pthread_mutex_lock(&s->db);
    int rc = st_sync_drop(s, &info->key, 1, v->err);
    pthread_mutex_unlock(&s->db);
    return rc;
}

static int verify_one(void *ud, const st_store_info *info)
{
    verifier *v = ud;
    st_store *s = v->s;
    char path[ST_PATH];
    st_file f;
    st_error why = {0};
    st_store_file(s, info->key, path);
    int rc = st_file_open(s->a, path, &info->key, &f, &why);
    if (rc == ST_OK) {
        rc = st_file_verify(s->a, &f, &why);
        st_file_close(s->a, &f);
    }
    if (rc == ST_EVERIFY) return tell(v, info, why.message);
    if (rc == ST_ENOTFOUND && !s->read_only) { /* somebody took it out */
        pthread_mutex_lock(&s->db);
        rc = st_sync_drop(s, &info->key, 1, v->err);
        pthread_mutex_unlock(&s->db);
        return rc;
    }
    return rc == ST_OK || rc == ST_ENOTFOUND ? ST_OK : st_fail(v->err, rc, "%s", why.message);
}

int st_store_verify(st_store *s, st_store_damage_fn fn, void *ud, size_t *damaged, st_error *err)
{
    verifier v = {s, fn, ud, 0, err};
    st_bads bad = {0};
    int version;
    if (damaged) *damaged = 0;
    ST_TRY(st_store_check_format(s, &version, err));
    pthread_mutex_lock(&s->db);
    int rc = st_sync_load(s, err);
    if (rc == ST_OK) rc = st_tend_scan(s, &bad, err);
    pthread_mutex_unlock(&s->db);
    for (size_t i = 0; i < bad.n && rc == ST_OK; i++) {
        st_store_info info = {.key = bad.v[i].key, .label = ""};
        rc = tell(&v, &info, bad.v[i].why);
    }
    st_vec_free(s->a, &bad);
    if (rc == ST_OK) rc = st_store_each(s, verify_one, &v, err);
    if (damaged) *damaged = v.damaged;
    return rc;
}

static int on_clear(st_store *s, st_hash key, const char *path, void *ud, st_error *err)
{
    (void)s, (void)key, (void)ud;
    if (unlink(path) != 0 && errno != ENOENT) return st_fail(err, ST_ESYSTEM, "taking an entry out: %m");
    return ST_OK;
}

int st_store_clear(st_store *s, st_error *err)
{
    victims all = {0}, lost = {0};
    ST_TRY(may_change(s, err));
    pthread_mutex_lock(&s->db);
    int rc = st_sync_load(s, err);
    if (rc == ST_OK) rc = walk(s, on_clear, NULL, err);
    if (rc == ST_OK) rc = weigh(s, &all, &lost, err);
    if (rc == ST_OK) rc = drop(s, all.v, all.n, err);
    if (rc == ST_OK) rc = drop(s, lost.v, lost.n, err);
    sweep(s, "tmp", "");
    sweep(s, ".", "index.sqlite.aside-");
    pthread_mutex_unlock(&s->db);
    st_vec_free(s->a, &all);
    st_vec_free(s->a, &lost);
    return rc;
}

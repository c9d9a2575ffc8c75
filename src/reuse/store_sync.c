/* store_sync.c - the table in memory and the index: one brought up to the other.
 *
 * The index belongs to all processes, the table to this one.  Whatever goes wrong with the index costs only
 * what it says: if it cannot be read it is set aside, made anew from the table and the files, and if that
 * does not work either, the store goes on with the table alone.
 *
 * A read-only store opens the index only to read it, so that it holds no lock in a folder that is not its
 * own.
 */
#include "store_impl.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void index_path(const st_store *s, const char *end, char path[ST_PATH])
{
    char name[80];
    snprintf(name, sizeof name, "index.sqlite%s", end);
    st_store_path(s, name, path);
}

void st_sync_close(st_store *s, bool fold)
{
    st_index_close(s->index, fold);
    s->index = NULL;
}

void st_sync_leave(st_store *s)
{
    memset(s->now, 0, sizeof s->now);
    if (s->table.unsaved) st_table_saved(&s->table, s->table.unsaved);
    for (size_t i = 0; i < s->table.cap; i++)
        if (st_table_at(&s->table, i)) st_table_at(&s->table, i)->hits = 0;
}

/* -- Opening --------------------------------------------------------------------------------------- */

/* Out of the way, but not gone: somebody may want to look at it.  gc takes it in the end. */
static void set_aside(st_store *s)
{
    char from[ST_PATH], to[ST_PATH], name[60];
    snprintf(name, sizeof name, ".aside-%llx", (unsigned long long)st_store_clock());
    index_path(s, "", from);
    index_path(s, name, to);
    if (rename(from, to) != 0) unlink(from);
    /* What belongs to it must not be taken for the next one's. */
    static const char *const beside[] = {"-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        index_path(s, beside[i], from);
        unlink(from);
    }
}

/* Which file has the index's name. */
static void remember_file(st_store *s)
{
    char path[ST_PATH];
    struct stat st;
    index_path(s, "", path);
    bool there = stat(path, &st) == 0;
    s->index_dev = there ? st.st_dev : 0;
    s->index_ino = there ? st.st_ino : 0;
}

/* Whether that is still so. */
static bool still_there(const st_store *s)
{
    char path[ST_PATH];
    struct stat st;
    index_path(s, "", path);
    return stat(path, &st) == 0 && st.st_dev == s->index_dev && st.st_ino == s->index_ino;
}

/* Open the index.  `bad`: the one that was open is damaged.  ST_OK with s->sqlite false: there will be none.
 */
static int attach(st_store *s, bool bad, bool *fresh, st_error *err)
{
    char path[ST_PATH], lock_path[ST_PATH];
    int lock = -1, rc = ST_EVERIFY;
    *fresh = false;
    index_path(s, "", path);
    if (!s->read_only) {
        /* Without locks two processes may both set it aside: the second one's is found by the next gc. */
        st_store_path(s, "lock", lock_path);
        if (st_lock_take(lock_path, ST_LOCK_INDEX, 30000, &lock, NULL) == ST_OK && bad) bad = still_there(s);
    }
    st_sync_close(s, false);
    for (int i = 0; i < 2 && rc == ST_EVERIFY; i++) {
        if (bad && !s->read_only) set_aside(s);
        bad = true;
        rc = st_index_open(s->a, path, s->read_only, !s->network, s->sync, &s->index, fresh, err);
        if (s->read_only) break;
    }
    if (rc == ST_OK) remember_file(s);
    st_lock_release(lock);
    if (rc == ST_ENOMEM) return rc;
    s->sqlite = rc == ST_OK;
    s->pid = getpid();
    s->last = 0;
    if (rc == ST_OK) s->wal = st_index_is_wal(s->index);
    return ST_OK;
}

/* All rows are to go into an index that is new. */
static void unsave(st_store *s)
{
    pthread_mutex_lock(&s->mem);
    st_table_unsave(&s->table);
    pthread_mutex_unlock(&s->mem);
}

/* Codes after which mend() may help. */
static bool mendable(const st_store *s, int rc)
{
    return !s->read_only && (rc == ST_EVERIFY || rc == ST_ECANCELED);
}

/* An operation answered `rc`: have an index again that can be used, or none. */
static int mend(st_store *s, int rc, st_error *err)
{
    bool fresh = false;
    ST_TRY(attach(s, rc == ST_EVERIFY, &fresh, err));
    if (s->sqlite && !fresh) return ST_OK;
    unsave(s);
    return st_tend_scan(s, NULL, err);
}

bool st_sync_ready(st_store *s)
{
    if (!s->sqlite) return false;
    if (s->pid != getpid()) { /* forked behind our back: the connection is the parent's */
        if (s->index) s->sqlite = false;
        s->index = NULL;
        s->pid = getpid();
    }
    bool fresh = false;
    if (s->sqlite && !s->index && attach(s, false, &fresh, NULL) == ST_OK && fresh) unsave(s);
    return s->index != NULL;
}

/* -- Reading --------------------------------------------------------------------------------------- */

static int on_row(void *ud, const st_store_info *info, int64_t number)
{
    st_store *s = ud;
    st_row *r = st_row_new(s->a, info);
    if (!r) return ST_ENOMEM;
    pthread_mutex_lock(&s->mem);
    int rc = st_table_promise(s->a, &s->table);
    st_row *old = NULL;
    if (rc == ST_OK) {
        old = st_table_take(&s->table, info->key);
        if (old) {
            r->hits = old->hits;
            if (old->info.used > r->info.used) r->info.used = old->info.used;
        }
        r->round = s->round;
        st_table_insert(&s->table, r, false);
    }
    pthread_mutex_unlock(&s->mem);
    st_mem_free(s->a, rc == ST_OK ? old : r);
    if (number > s->last) s->last = number;
    return rc;
}

/* Forget rows that the last walk did not see. */
static void forget_unseen(st_store *s)
{
    pthread_mutex_lock(&s->mem);
    for (size_t i = 0; i < s->table.cap; i++) {
        st_row *r = st_table_at(&s->table, i);
        if (!r || r->unsaved || r->round == s->round) continue;
        st_table_take(&s->table, r->info.key);
        st_mem_free(s->a, r);
    }
    pthread_mutex_unlock(&s->mem);
}

static int load(st_store *s, st_error *err)
{
    bool changed = false;
    double life[ST_INDEX_N_COUNTERS];
    ST_TRY(st_index_changed(s->index, &changed, err));
    if (!changed && s->last) return ST_OK;
    ST_TRY(st_index_counters(s->index, life, err));
    bool all = s->last == 0 || life[ST_INDEX_REMOVED] != s->removed;
    if (all) s->round++;
    int rc = st_index_rows(s->index, all ? 0 : s->last, on_row, s, err);
    if (rc != ST_OK) {
        s->last = 0;
        return rc;
    }
    if (all) forget_unseen(s);
    s->removed = life[ST_INDEX_REMOVED];
    pthread_mutex_lock(&s->mem);
    memcpy(s->life, life, sizeof life);
    pthread_mutex_unlock(&s->mem);
    return ST_OK;
}

/* Without an index the files are all there is. */
static int load_files(st_store *s, st_error *err)
{
    ST_TRY(st_tend_scan(s, NULL, err));
    pthread_mutex_lock(&s->mem);
    if (s->table.unsaved) st_table_saved(&s->table, s->table.unsaved);
    pthread_mutex_unlock(&s->mem);
    forget_unseen(s);
    return ST_OK;
}

int st_sync_load(st_store *s, st_error *err)
{
    if (st_sync_ready(s)) {
        int rc = load(s, err);
        if (mendable(s, rc)) {
            ST_TRY(mend(s, rc, err));
            rc = s->index ? load(s, err) : ST_OK;
        }
        if (s->read_only) {
            st_sync_close(s, false);
            if (rc != ST_OK && rc != ST_ENOMEM) s->sqlite = false;
        }
        if (s->sqlite) return rc;
    }
    if (s->sqlite) return st_fail(err, ST_ENOMEM, "no memory for an index");
    return load_files(s, err);
}

int st_sync_open(st_store *s, st_error *err)
{
    bool fresh = false;
    s->sqlite = !s->plain && st_index_built();
    if (s->outdated) remember_file(s);
    if (s->sqlite) ST_TRY(attach(s, s->outdated, &fresh, err));
    if (s->sqlite && fresh) ST_TRY(st_tend_scan(s, NULL, err));
    int rc = st_sync_load(s, err);
    if (rc == ST_ENOMEM) return rc;
    if (rc != ST_OK) { /* it cannot be read now: go on without it */
        st_sync_close(s, false);
        s->sqlite = false;
        ST_TRY(load_files(s, err));
    }
    if (!s->read_only) {
        rc = st_sync_flush(s, false, NULL);
        if (rc == ST_ENOMEM) return st_fail(err, rc, "no memory for an index");
    }
    return ST_OK;
}

/* -- Writing --------------------------------------------------------------------------------------- */

/* What a flush is to write, taken at one moment. */
typedef struct batch {
    st_row *unsaved; /* by next_unsaved */
    st_row *used;    /* by next_sent */
    double counters[ST_INDEX_N_COUNTERS];
    bool any;
} batch;

static void take_batch(st_store *s, bool uses, batch *b)
{
    *b = (batch){0};
    pthread_mutex_lock(&s->mem);
    b->unsaved = s->table.unsaved;
    b->any = b->unsaved != NULL;
    if (uses) {
        for (int i = 0; i < ST_INDEX_N_COUNTERS; i++) {
            b->counters[i] = s->now[i];
            b->any = b->any || s->now[i] != 0;
        }
        for (size_t i = 0; s->now[ST_INDEX_HITS] != 0 && i < s->table.cap; i++) {
            st_row *r = st_table_at(&s->table, i);
            if (!r || !r->hits) continue;
            r->sent = r->hits;
            r->next_sent = b->used;
            b->used = r;
        }
    }
    pthread_mutex_unlock(&s->mem);
}

/* It is in the index now. */
static void batch_done(st_store *s, const batch *b)
{
    pthread_mutex_lock(&s->mem);
    if (b->unsaved) st_table_saved(&s->table, b->unsaved);
    for (st_row *r = b->used; r; r = r->next_sent) {
        r->info.hits += r->sent;
        r->hits -= r->sent;
    }
    for (int i = 0; i < ST_INDEX_N_COUNTERS; i++) {
        s->now[i] -= b->counters[i];
        s->life[i] += b->counters[i];
    }
    pthread_mutex_unlock(&s->mem);
}

static int write_batch(st_store *s, const batch *b, st_error *err)
{
    st_index *x = s->index;
    ST_TRY(st_index_begin(x, err));
    int rc = ST_OK;
    for (st_row *r = b->unsaved; r && rc == ST_OK; r = r->next_unsaved) {
        pthread_mutex_lock(&s->mem);
        st_store_info info = r->info;
        pthread_mutex_unlock(&s->mem);
        rc = st_index_add(x, &info, err);
    }
    for (st_row *r = b->used; r && rc == ST_OK; r = r->next_sent) {
        pthread_mutex_lock(&s->mem);
        int64_t used = r->info.used;
        pthread_mutex_unlock(&s->mem);
        rc = st_index_used(x, r->info.key, r->sent, used, err);
    }
    if (rc == ST_OK) rc = st_index_count(x, b->counters, err);
    if (rc == ST_OK) return st_index_commit(x, err);
    st_index_rollback(x);
    return rc;
}

int st_sync_flush(st_store *s, bool uses, st_error *err)
{
    if (s->read_only) return ST_OK;
    batch b;
    for (int i = 0;; i++) {
        bool ready = st_sync_ready(s);
        /* Without an index rows need none, and counters are those of this process. */
        take_batch(s, uses && ready, &b);
        if (!b.any) return ST_OK;
        int rc = ready ? write_batch(s, &b, err) : ST_OK;
        if (i || !mendable(s, rc)) {
            if (rc == ST_OK && (ready || !s->sqlite)) batch_done(s, &b);
            return rc;
        }
        ST_TRY(mend(s, rc, err));
    }
}

/* Rows out of the index, with how many they were. */
static int drop_rows(st_store *s, const st_hash *keys, size_t n, double *gone, st_error *err)
{
    st_index *x = s->index;
    double counters[ST_INDEX_N_COUNTERS] = {0};
    ST_TRY(st_index_begin(x, err));
    int rc = ST_OK;
    for (size_t i = 0; i < n && rc == ST_OK; i++) {
        bool was = false;
        rc = st_index_remove(x, keys[i], &was, err);
        counters[ST_INDEX_REMOVED] += was;
    }
    if (rc == ST_OK) rc = st_index_count(x, counters, err);
    if (rc == ST_OK)
        rc = st_index_commit(x, err);
    else
        st_index_rollback(x);
    if (rc == ST_OK) *gone = counters[ST_INDEX_REMOVED];
    return rc;
}

int st_sync_drop(st_store *s, const st_hash *keys, size_t n, st_error *err)
{
    int rc = ST_OK;
    double gone = 0;
    if (!s->read_only && st_sync_ready(s)) {
        rc = drop_rows(s, keys, n, &gone, err);
        if (mendable(s, rc)) {
            rc = mend(s, rc, err);
            if (rc == ST_OK && s->index) rc = drop_rows(s, keys, n, &gone, err);
        }
    }
    pthread_mutex_lock(&s->mem);
    s->removed += gone;
    s->life[ST_INDEX_REMOVED] += gone;
    for (size_t i = 0; i < n; i++) {
        st_row *r = st_table_take(&s->table, keys[i]);
        if (r && !s->sqlite) s->now[ST_INDEX_REMOVED] += 1;
        st_mem_free(s->a, r);
    }
    pthread_mutex_unlock(&s->mem);
    return rc;
}

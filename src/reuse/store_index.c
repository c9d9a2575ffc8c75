/* store_index.c - what a store has, in SQLite.
 *
 * Two tables: a row an entry, numbered in the order of insertion (AUTOINCREMENT: a number is never used
 * twice, so that another process finds what is new by its last number), and lifetime counters, among them how
 * many rows were ever taken out: where that one grew, a reader reads all rows again.
 *
 * The index may lose its last changes when the power fails (synchronous=NORMAL), and may be lost as a whole:
 * files tell what they hold.  So nothing here waits for the disk, and whatever SQLite finds wrong with the
 * file ends in its being set aside.
 */
#include "store_index.h"

#include "../base/internal.h"

bool st_index_built(void)
{
#ifdef ST_HAVE_SQLITE
    return true;
#else
    return false;
#endif
}

#ifdef ST_HAVE_SQLITE
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

enum { SCHEMA = 1, APPLICATION = 0x53547374 /* "STst" */, BUSY_MS = 5000 };

enum { Q_ADD, Q_USED, Q_REMOVE, Q_VERSION, Q_ROWS, Q_COUNT, Q_COUNTERS, Q_N };
static const char *const QUERIES[Q_N] = {
    [Q_ADD] = "INSERT OR REPLACE INTO entry(key,label,kind,seconds,bytes,created,used,hits)"
              " VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
    [Q_USED] = "UPDATE entry SET hits=hits+?2, used=max(used,?3) WHERE key=?1",
    [Q_REMOVE] = "DELETE FROM entry WHERE key=?1",
    [Q_VERSION] = "PRAGMA data_version",
    [Q_ROWS] = "SELECT number,key,label,kind,seconds,bytes,created,used,hits FROM entry WHERE number>?1"
               " ORDER BY number",
    [Q_COUNT] = "INSERT INTO counter(name,value) VALUES(?1,?2)"
                " ON CONFLICT(name) DO UPDATE SET value=value+excluded.value",
    [Q_COUNTERS] = "SELECT name,value FROM counter",
};
static const char *const COUNTERS[ST_INDEX_N_COUNTERS] = {
    [ST_INDEX_HITS] = "hits",       [ST_INDEX_MISSES] = "misses",   [ST_INDEX_PUTS] = "puts",
    [ST_INDEX_DAMAGED] = "damaged", [ST_INDEX_REMOVED] = "removed", [ST_INDEX_SAVED] = "seconds_saved",
};

struct st_index {
    const st_alloc *a;
    sqlite3 *db;
    sqlite3_stmt *q[Q_N];
    bool wal, looked;
    int version; /* of the data, when it was last looked at */
};

/* What SQLite says, as a code of ours. */
static int failed(st_index *x, int rc, st_error *err)
{
    int code = ST_ESYSTEM;
    switch (rc & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED: code = ST_ELIMIT; break;
    case SQLITE_NOMEM: code = ST_ENOMEM; break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
    case SQLITE_ERROR: code = ST_EVERIFY; break; /* ERROR: a table or column is not what it was */
    default: break;
    }
    if (rc == SQLITE_READONLY_DBMOVED) code = ST_ECANCELED;
    return st_fail(err, code, "index: %s (%d)", x->db ? sqlite3_errmsg(x->db) : sqlite3_errstr(rc), rc);
}

static int run(st_index *x, const char *sql, st_error *err)
{
    int rc = sqlite3_exec(x->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? ST_OK : failed(x, rc, err);
}

static int query(st_index *x, int i, sqlite3_stmt **q, st_error *err)
{
    if (!x->q[i]) {
        int rc = sqlite3_prepare_v3(x->db, QUERIES[i], -1, SQLITE_PREPARE_PERSISTENT, &x->q[i], NULL);
        if (rc != SQLITE_OK) return failed(x, rc, err);
    }
    *q = x->q[i];
    return ST_OK;
}

/* Run a query that has no rows; its bindings must outlive the call. */
static int finish(st_index *x, sqlite3_stmt *q, st_error *err)
{
    int rc = sqlite3_step(q), code = rc == SQLITE_DONE ? ST_OK : failed(x, rc, err);
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return code;
}

/* The first number that `sql` answers. */
static int number(st_index *x, const char *sql, int *out, st_error *err)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(x->db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(q);
    int code = ST_OK;
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int(q, 0);
    else if (rc == SQLITE_DONE)
        *out = 0;
    else
        code = failed(x, rc, err);
    sqlite3_finalize(q);
    return code;
}

static int journal(st_index *x, const char *mode, bool *taken, st_error *err)
{
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA journal_mode=%s", mode);
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(x->db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(q);
    int code = rc == SQLITE_ROW ? ST_OK : failed(x, rc, err);
    if (code == ST_OK) {
        const unsigned char *now = sqlite3_column_text(q, 0);
        *taken = now && sqlite3_stricmp((const char *)now, mode) == 0;
    }
    sqlite3_finalize(q);
    return code;
}

/* The schema, which must be ours: made where the file is empty. */
static int schema(st_index *x, bool read_only, bool *fresh, st_error *err)
{
    int version = 0, application = 0, tables = 0;
    *fresh = false;
    ST_TRY(number(x, "PRAGMA user_version", &version, err));
    ST_TRY(number(x, "PRAGMA application_id", &application, err));
    if (version == SCHEMA && application == APPLICATION) return ST_OK;
    ST_TRY(number(x, "SELECT count(*) FROM sqlite_master", &tables, err));
    if (version || application || tables)
        return st_fail(err, ST_EVERIFY, "index: schema %d of application %x is not this version's", version,
                       (unsigned)application);
    if (read_only) return st_fail(err, ST_EVERIFY, "index: empty");
    *fresh = true;
    char sql[1000];
    snprintf(
        sql, sizeof sql,
        "BEGIN IMMEDIATE;"
        "CREATE TABLE IF NOT EXISTS entry(number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE,"
        " label TEXT NOT NULL, kind INTEGER NOT NULL, seconds REAL NOT NULL, bytes INTEGER NOT NULL,"
        " created INTEGER NOT NULL, used INTEGER NOT NULL, hits INTEGER NOT NULL);"
        "CREATE TABLE IF NOT EXISTS counter(name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;"
        "PRAGMA application_id=%d; PRAGMA user_version=%d;"
        "COMMIT",
        (int)APPLICATION, (int)SCHEMA);
    int rc = run(x, sql, err);
    if (rc != ST_OK) st_index_rollback(x);
    return rc;
}

/* A log that nobody has open is gone, but SQLite would make one even to read, which a folder that cannot be
 * written to does not allow: then the file is read as one that does not change.  NULL: there is a log (or no
 * memory). */
static char *still_uri(const st_alloc *a, const char *path)
{
    static const char end[] = "?immutable=1", begin[] = "file:", hex[] = "0123456789ABCDEF";
    size_t n = strlen(path);
    char *uri = st_mem_new(a, 3 * n + sizeof begin + sizeof end);
    if (!uri) return NULL;
    memcpy(uri, path, n);
    memcpy(uri + n, "-wal", 5);
    if (access(uri, F_OK) == 0) {
        st_mem_free(a, uri);
        return NULL;
    }
    char *p = uri + sizeof begin - 1;
    memcpy(uri, begin, sizeof begin - 1);
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("/._-", c)) {
            *p++ = (char)c;
        } else {
            *p++ = '%';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
    }
    memcpy(p, end, sizeof end);
    return uri;
}

int st_index_open(const st_alloc *a, const char *path, bool read_only, bool wal, bool sync, st_index **out,
                  bool *fresh, st_error *err)
{
    *out = NULL;
    st_index *x = st_mem_zero(a, sizeof *x);
    if (!x) return st_fail(err, ST_ENOMEM, "no memory for an index");
    x->a = a;
    int flags =
        (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) | SQLITE_OPEN_NOMUTEX;
    char *uri = read_only ? still_uri(a, path) : NULL;
    int rc = sqlite3_open_v2(uri ? uri : path, &x->db, flags | (uri ? SQLITE_OPEN_URI : 0), NULL);
    st_mem_free(a, uri);
    int code = rc == SQLITE_OK ? ST_OK : failed(x, rc, err);
    if (code == ST_OK) {
        sqlite3_extended_result_codes(x->db, 1);
        sqlite3_busy_timeout(x->db, BUSY_MS);
        /* Whatever somebody wrote into the file's schema, no function of it runs. */
        sqlite3_db_config(x->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        sqlite3_db_config(x->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(x->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    }
    if (code == ST_OK && !read_only) {
        bool taken = false;
        code = run(x, sync ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=OFF", err);
        if (wal && code == ST_OK) code = journal(x, "wal", &taken, err);
        x->wal = taken;
        /* A file system without shared memory says so here, or keeps its mode. */
        if (code == ST_ESYSTEM || (code == ST_OK && !taken)) code = journal(x, "delete", &taken, err);
    }
    if (code == ST_OK) code = schema(x, read_only, fresh, err);
    if (code != ST_OK) {
        st_index_close(x, false);
        return code;
    }
    *out = x;
    return ST_OK;
}

void st_index_close(st_index *x, bool fold)
{
    if (!x) return;
    for (int i = 0; i < Q_N; i++)
        sqlite3_finalize(x->q[i]);
    if (x->db && !fold) sqlite3_db_config(x->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(x->db);
    st_mem_free(x->a, x);
}

bool st_index_is_wal(const st_index *x) { return x->wal; }

int st_index_begin(st_index *x, st_error *err) { return run(x, "BEGIN IMMEDIATE", err); }

int st_index_commit(st_index *x, st_error *err)
{
    int rc = run(x, "COMMIT", err);
    if (rc != ST_OK) st_index_rollback(x);
    return rc;
}

void st_index_rollback(st_index *x)
{
    if (!sqlite3_get_autocommit(x->db)) sqlite3_exec(x->db, "ROLLBACK", NULL, NULL, NULL);
}

int st_index_add(st_index *x, const st_store_info *row, st_error *err)
{
    sqlite3_stmt *q = NULL;
    ST_TRY(query(x, Q_ADD, &q, err));
    sqlite3_bind_blob(q, 1, &row->key, sizeof row->key, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, row->label, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 3, row->kind);
    sqlite3_bind_double(q, 4, row->seconds);
    sqlite3_bind_int64(q, 5, (int64_t)row->bytes);
    sqlite3_bind_int64(q, 6, row->created);
    sqlite3_bind_int64(q, 7, row->used);
    sqlite3_bind_int64(q, 8, (int64_t)row->hits);
    return finish(x, q, err);
}

int st_index_used(st_index *x, st_hash key, uint64_t hits, int64_t used, st_error *err)
{
    sqlite3_stmt *q = NULL;
    ST_TRY(query(x, Q_USED, &q, err));
    sqlite3_bind_blob(q, 1, &key, sizeof key, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, (int64_t)hits);
    sqlite3_bind_int64(q, 3, used);
    return finish(x, q, err);
}

int st_index_remove(st_index *x, st_hash key, bool *gone, st_error *err)
{
    sqlite3_stmt *q = NULL;
    ST_TRY(query(x, Q_REMOVE, &q, err));
    sqlite3_bind_blob(q, 1, &key, sizeof key, SQLITE_STATIC);
    int rc = finish(x, q, err);
    *gone = rc == ST_OK && sqlite3_changes(x->db) > 0;
    return rc;
}

int st_index_changed(st_index *x, bool *changed, st_error *err)
{
    sqlite3_stmt *q = NULL;
    ST_TRY(query(x, Q_VERSION, &q, err));
    int rc = sqlite3_step(q), code = ST_OK;
    if (rc == SQLITE_ROW) {
        int version = sqlite3_column_int(q, 0);
        *changed = !x->looked || version != x->version;
        x->version = version;
        x->looked = true;
    } else {
        code = failed(x, rc, err);
    }
    sqlite3_reset(q);
    return code;
}

int st_index_rows(st_index *x, int64_t after, st_index_row_fn fn, void *ud, st_error *err)
{
    sqlite3_stmt *q = NULL;
    ST_TRY(query(x, Q_ROWS, &q, err));
    sqlite3_bind_int64(q, 1, after);
    int rc, code = ST_OK;
    while (code == ST_OK && (rc = sqlite3_step(q)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW) {
            code = failed(x, rc, err);
            break;
        }
        const unsigned char *label = sqlite3_column_text(q, 2);
        const void *key = sqlite3_column_blob(q, 1);
        st_store_info row = {.label = label ? (const char *)label : "",
                             .kind = (uint32_t)sqlite3_column_int64(q, 3),
                             .seconds = sqlite3_column_double(q, 4),
                             .bytes = (uint64_t)sqlite3_column_int64(q, 5),
                             .created = sqlite3_column_int64(q, 6),
                             .used = sqlite3_column_int64(q, 7),
                             .hits = (uint64_t)sqlite3_column_int64(q, 8)};
        /* Only a damaged file has such rows; all that is lost is that the entry is not known. */
        if (!key || sqlite3_column_bytes(q, 1) != sizeof row.key || (int64_t)row.bytes < 0 ||
            (int64_t)row.hits < 0)
            continue;
        memcpy(&row.key, key, sizeof row.key);
        code = fn(ud, &row, sqlite3_column_int64(q, 0));
        if (code != ST_OK) st_fail(err, code, "index: %s", st_code_text(code));
    }
    sqlite3_reset(q);
    return code;
}

int st_index_count(st_index *x, const double add[ST_INDEX_N_COUNTERS], st_error *err)
{
    for (int i = 0; i < ST_INDEX_N_COUNTERS; i++) {
        if (add[i] == 0) continue;
        sqlite3_stmt *q = NULL;
        ST_TRY(query(x, Q_COUNT, &q, err));
        sqlite3_bind_text(q, 1, COUNTERS[i], -1, SQLITE_STATIC);
        sqlite3_bind_double(q, 2, add[i]);
        ST_TRY(finish(x, q, err));
    }
    return ST_OK;
}

int st_index_counters(st_index *x, double value[ST_INDEX_N_COUNTERS], st_error *err)
{
    memset(value, 0, ST_INDEX_N_COUNTERS * sizeof *value);
    sqlite3_stmt *q = NULL;
    ST_TRY(query(x, Q_COUNTERS, &q, err));
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        const unsigned char *name = sqlite3_column_text(q, 0);
        for (int i = 0; i < ST_INDEX_N_COUNTERS; i++)
            if (name && strcmp((const char *)name, COUNTERS[i]) == 0) value[i] = sqlite3_column_double(q, 1);
    }
    int code = rc == SQLITE_DONE ? ST_OK : failed(x, rc, err);
    sqlite3_reset(q);
    return code;
}

#else /* Without SQLite no index opens, so that nobody calls the others. */

static int none(st_error *err) { return st_fail(err, ST_EUNSUPPORTED, "built without SQLite"); }

int st_index_open(const st_alloc *a, const char *path, bool read_only, bool wal, bool sync, st_index **out,
                  bool *fresh, st_error *err)
{
    (void)a, (void)path, (void)read_only, (void)wal, (void)sync;
    *out = NULL;
    *fresh = false;
    return none(err);
}

void st_index_close(st_index *x, bool fold) { (void)x, (void)fold; }

bool st_index_is_wal(const st_index *x)
{
    (void)x;
    return false;
}

int st_index_begin(st_index *x, st_error *err)
{
    (void)x;
    return none(err);
}

int st_index_commit(st_index *x, st_error *err)
{
    (void)x;
    return none(err);
}

void st_index_rollback(st_index *x) { (void)x; }

int st_index_add(st_index *x, const st_store_info *row, st_error *err)
{
    (void)x, (void)row;
    return none(err);
}

int st_index_used(st_index *x, st_hash key, uint64_t hits, int64_t used, st_error *err)
{
    (void)x, (void)key, (void)hits, (void)used;
    return none(err);
}

int st_index_remove(st_index *x, st_hash key, bool *gone, st_error *err)
{
    (void)x, (void)key, (void)gone;
    return none(err);
}

int st_index_changed(st_index *x, bool *changed, st_error *err)
{
    (void)x, (void)changed;
    return none(err);
}

int st_index_rows(st_index *x, int64_t after, st_index_row_fn fn, void *ud, st_error *err)
{
    (void)x, (void)after, (void)fn, (void)ud;
    return none(err);
}

int st_index_count(st_index *x, const double add[ST_INDEX_N_COUNTERS], st_error *err)
{
    (void)x, (void)add;
    return none(err);
}

int st_index_counters(st_index *x, double value[ST_INDEX_N_COUNTERS], st_error *err)
{
    (void)x, (void)value;
    return none(err);
}
#endif

/* store.c - results on disk: opening a store, putting, getting, claims (see stratum/store.h).
 *
 *     format              "stratum store 1 <checksum>": the version
 *     lock                empty; locks are bytes of it (store_lock.c)
 *     index.sqlite        what is there (store_index.c)
 *     ab/cdef....st       an entry, by the 32 digits of its key (store_file.c)
 *     tmp/                files that are being written
 *
 * An entry is written to tmp/, flushed, renamed to its place, and only then gets its row.  So what stands
 * under a name is whole, unless the disk or somebody else changed it, which its checksums tell; and a process
 * that dies leaves a temporary file (gc takes it after an hour) or a file without a row (found by whoever
 * asks for it, or by gc).  Entries are never changed in place: a mapping that somebody has stays what it was.
 */
#include "store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

int64_t st_store_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* -- Names ----------------------------------------------------------------------------------------- */

void st_store_key_text(st_hash key, char text[ST_KEY_TEXT])
{
    snprintf(text, ST_KEY_TEXT, "%016llx%016llx", (unsigned long long)key.hi, (unsigned long long)key.lo);
}

void st_store_path(const st_store *s, const char *name, char path[ST_PATH])
{
    snprintf(path, ST_PATH, "%s/%s", s->dir, name);
}

void st_store_file(const st_store *s, st_hash key, char path[ST_PATH])
{
    char text[ST_KEY_TEXT];
    st_store_key_text(key, text);
    snprintf(path, ST_PATH, "%s/%.2s/%s.st", s->dir, text, text + 2);
}

/* Nobody else reads what lies in a folder of one's own; a shared one follows the umask. */
static mode_t folder_mode(const st_store *s) { return s->own ? 0700 : 0777; }
static mode_t file_mode(const st_store *s) { return s->own ? 0600 : 0666; }

/* -- Opening --------------------------------------------------------------------------------------- */

/* Make a folder and those above it. */
static int make_folders(const char *dir, st_error *err)
{
    char path[ST_PATH];
    size_t n = strlen(dir);
    if (!n || n >= PATH_MAX)
        return st_fail(err, ST_EINVAL, "the name of the store's folder is empty or too long");
    memcpy(path, dir, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        char was = path[i];
        path[i] = 0;
        if (mkdir(path, i == n ? 0700 : 0777) != 0 && errno != EEXIST) {
            int why = errno;
            struct stat st;
            if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) { /* not one that we may not write beside */
                errno = why;
                return st_fail(err, ST_ESYSTEM, "making the store's folder: %m");
            }
        }
        path[i] = was;
    }
    return ST_OK;
}

/* File systems of a network: memory that processes share works on one machine only. */
static bool is_network(const char *dir)
{
    static const unsigned long kinds[] = {
        0x6969,     0x517B,     0xFF534D42, 0xFE534D42, /* NFS, SMB */
        0x65735546, 0x01021997, 0x00C36400, 0x0BD00BD0, /* FUSE, 9P, Ceph, Lustre */
        0x47504653, 0x19830326, 0x5346414F, 0x73757245, /* GPFS, BeeGFS, AFS, Coda */
    };
    struct statfs f;
    if (statfs(dir, &f) != 0) return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (((unsigned long)f.f_type & 0xFFFFFFFF) == kinds[i]) return true;
    return false;
}

static void format_line(int version, char line[64])
{
    int n = snprintf(line, 64, "stratum store %d ", version);
    st_hash h = st_hash_bytes(line, (size_t)n, 0);
    snprintf(line + n, 64 - (size_t)n, "%016llx\n", (unsigned long long)h.lo);
}

/* The version that the folder says; -1: none, or a damaged line (files say themselves what they are). */
int st_store_check_format(const st_store *s, int *version, st_error *err)
{
    char path[ST_PATH], got[64] = "", want[64];
    *version = -1;
    st_store_path(s, "format", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT ? ST_OK : st_fail(err, ST_ESYSTEM, "reading the store's version: %m");
    ssize_t n = read(fd, got, sizeof got - 1);
    close(fd);
    if (n < 0) return ST_OK;
    int said = 0;
    if (sscanf(got, "stratum store %d ", &said) != 1) return ST_OK;
    format_line(said, want);
    if (strcmp(got, want) == 0) *version = said;
    if (*version > ST_STORE_FORMAT)
        return st_fail(err, ST_EUNSUPPORTED, "the store %s is of version %d; this library knows %d", s->dir,
                       *version, ST_STORE_FORMAT);
    return ST_OK;
}

/* A file in tmp/ that no other process has. */
static int temporary(st_store *s, char path[ST_PATH], int *fd, st_error *err)
{
    for (int tries = 0; tries < 100; tries++) {
        unsigned long long n = atomic_fetch_add(&s->temporaries, 1);
        snprintf(path, ST_PATH, "%s/tmp/%lx-%llx-%llx", s->dir, (long)getpid(),
                 (unsigned long long)st_store_clock(), n);
        *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, file_mode(s));
        if (*fd >= 0) return ST_OK;
        if (errno == ENOENT) {
            char folder[ST_PATH];
            st_store_path(s, "tmp", folder);
            if (mkdir(folder, folder_mode(s)) != 0 && errno != EEXIST) break;
        } else if (errno != EEXIST && errno != EINTR) {
            break;
        }
    }
    return st_fail(err, ST_ESYSTEM, "making a file in the store: %m");
}

static int flush_folder(const st_store *s, const char *name, st_error *err)
{
    if (!s->sync) return ST_OK;
    char path[ST_PATH];
    st_store_path(s, name, path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return st_fail(err, ST_ESYSTEM, "flushing a folder of the store: %m");
    /* Some file systems cannot, and need not. */
    bool good = fsync(fd) == 0 || errno == EINVAL || errno == EBADF || errno == EOPNOTSUPP;
    int why = errno;
    close(fd);
    errno = why;
    return good ? ST_OK : st_fail(err, ST_ESYSTEM, "flushing a folder of the store: %m");
}

/* Write `n` bytes to a new file of the name. */
static int write_small(st_store *s, const char *name, const char *text, st_error *err)
{
    char from[ST_PATH], to[ST_PATH];
    int fd = -1;
    ST_TRY(temporary(s, from, &fd, err));
    size_t n = strlen(text);
    st_store_path(s, name, to);
    bool good = write(fd, text, n) == (ssize_t)n && (!s->sync || fsync(fd) == 0);
    good = close(fd) == 0 && good && rename(from, to) == 0;
    if (good) return flush_folder(s, ".", err);
    st_fail(err, ST_ESYSTEM, "writing the store's version: %m");
    unlink(from);
    return ST_ESYSTEM;
}

/* The folder's own files. */
static int furnish(st_store *s, st_error *err)
{
    int version = 0;
    ST_TRY(st_store_check_format(s, &version, err));
    if (s->read_only) return ST_OK;
    char path[ST_PATH], line[64];
    st_store_path(s, "lock", path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, file_mode(s));
    if (fd < 0) return st_fail(err, ST_ESYSTEM, "making the store's lock file: %m");
    close(fd);
    if (version == ST_STORE_FORMAT) return ST_OK;
    s->outdated = version >= 0;
    format_line(ST_STORE_FORMAT, line);
    return write_small(s, "format", line, err);
}

static int set_up(st_store *s, const char *dir, const st_store_options *o, st_error *err)
{
    const st_alloc *a = s->a;
    struct stat st;
    s->max_bytes = o->max_bytes;
    s->plain = o->plain;
    s->sync = !o->no_sync;
    const char *build = o->build ? o->build : "";
    s->build = st_mem_new(a, strlen(build) + 1);
    if (!s->build) return st_fail(err, ST_ENOMEM, "no memory for a store");
    memcpy(s->build, build, strlen(build) + 1);
    if (!o->read_only) ST_TRY(make_folders(dir, err));
    char *whole = realpath(dir, NULL);
    if (!whole) return st_fail(err, ST_ESYSTEM, "the store's folder: %m");
    s->dir = st_mem_new(a, strlen(whole) + 1);
    if (s->dir) memcpy(s->dir, whole, strlen(whole) + 1);
    free(whole);
    if (!s->dir) return st_fail(err, ST_ENOMEM, "no memory for a store");
    if (stat(s->dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return st_fail(err, ST_ESYSTEM, "the store's folder is not a folder");
    s->own = st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH));
    s->read_only = o->read_only || faccessat(AT_FDCWD, s->dir, W_OK | X_OK, AT_EACCESS) != 0;
    s->network = is_network(s->dir);
    ST_TRY(furnish(s, err));
    return st_sync_open(s, err);
}

static void tear_down(st_store *s)
{
    st_sync_close(s, false);
    pthread_mutex_destroy(&s->db);
    pthread_mutex_destroy(&s->mem);
    st_table_free(s->a, &s->table);
    st_mem_free(s->a, s->dir);
    st_mem_free(s->a, s->build);
    st_mem_free(s->a, s);
}

int st_store_open(const st_alloc *a, const char *dir, const st_store_options *options, st_store **out,
                  st_error *err)
{
    static const st_store_options none;
    *out = NULL;
    st_store *s = st_mem_zero(a, sizeof *s);
    if (!s) return st_fail(err, ST_ENOMEM, "no memory for a store");
    s->a = a;
    if (pthread_mutex_init(&s->db, NULL) != 0) {
        st_mem_free(a, s);
        return st_fail(err, ST_ENOMEM, "no memory for a lock");
    }
    if (pthread_mutex_init(&s->mem, NULL) != 0) {
        pthread_mutex_destroy(&s->db);
        st_mem_free(a, s);
        return st_fail(err, ST_ENOMEM, "no memory for a lock");
    }
    /* Known to fork's handlers before there is a connection. */
    int rc = st_fork_add(s, err);
    if (rc != ST_OK) {
        tear_down(s);
        return rc;
    }
    pthread_mutex_lock(&s->db);
    rc = set_up(s, dir, options ? options : &none, err);
    pthread_mutex_unlock(&s->db);
    if (rc != ST_OK) {
        st_fork_remove(s);
        tear_down(s);
        return rc;
    }
    *out = s;
    return ST_OK;
}

void st_store_close(st_store *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->db);
    if (!s->read_only) (void)st_sync_flush(s, true, NULL); /* what is lost are uses, not entries */
    /* Folding the log into the index flushes both to the disk: some 50 ms at the end of a script, for
     * nothing. SQLite does it by itself every thousand pages. */
    st_sync_close(s, !s->sync);
    pthread_mutex_unlock(&s->db);
    st_fork_remove(s);
    tear_down(s);
}

int st_store_refresh(st_store *s, st_error *err)
{
    pthread_mutex_lock(&s->db);
    int rc = s->read_only ? ST_OK : st_sync_flush(s, true, err);
    /* What cannot be written can still be read. */
    if (rc != ST_ENOMEM) rc = st_sync_load(s, err);
    pthread_mutex_unlock(&s->db);
    return rc;
}

const char *st_store_folder(const st_store *s) { return s->dir; }
bool st_store_read_only(const st_store *s) { return s->read_only; }
bool st_store_own(const st_store *s) { return s->own; }

const char *st_store_index_kind(const st_store *s)
{
    st_store *m = (st_store *)s;
    pthread_mutex_lock(&m->db);
    const char *kind = !s->sqlite     ? "memory"
                       : s->read_only ? "sqlite, read-only"
                       : s->wal       ? "sqlite, wal"
                                      : "sqlite, delete";
    pthread_mutex_unlock(&m->db);
    return kind;
}

/* -- Rows ------------------------------------------------------------------------------------------ */

static void count(st_store *s, int counter, double n)
{
    pthread_mutex_lock(&s->mem);
    s->now[counter] += n;
    pthread_mutex_unlock(&s->mem);
}

void st_store_info_of(const st_file *f, st_store_info *info)
{
    const st_file_head *h = &f->head;
    *info = (st_store_info){.key = h->key,
                            .label = f->label,
                            .seconds = h->seconds,
                            .bytes = h->file_bytes,
                            .created = h->created,
                            .used = h->created,
                            .kind = h->kind};
}

bool st_store_knows(const st_store *s, st_hash key)
{
    st_store *m = (st_store *)s;
    pthread_mutex_lock(&m->mem);
    bool known = st_table_find(&s->table, key) != NULL;
    pthread_mutex_unlock(&m->mem);
    return known;
}

/* The file is of use: its row, which another process may have made, or nobody; and one hit, or none. */
static int note_use(st_store *s, const st_file *f, bool hit, double saved, st_error *err)
{
    st_store_info info;
    st_store_info_of(f, &info);
    info.used = st_store_clock();
    int rc = ST_OK;
    pthread_mutex_lock(&s->mem);
    st_row *r = st_table_find(&s->table, info.key);
    if (!r) {
        rc = st_table_promise(s->a, &s->table);
        if (rc == ST_OK && !(r = st_row_new(s->a, &info))) {
            st_table_forget(&s->table);
            rc = ST_ENOMEM;
        }
        if (r) {
            r->round = s->round;
            st_table_insert(&s->table, r, true);
        }
    }
    if (r && hit) {
        r->hits++;
        r->info.used = info.used;
        s->now[ST_INDEX_HITS] += 1;
        if (saved > 0) s->now[ST_INDEX_SAVED] += saved;
    }
    pthread_mutex_unlock(&s->mem);
    return rc == ST_OK ? ST_OK : st_fail(err, rc, "no memory for a row");
}

/* An entry that cannot be used goes, with its row. */
static void discard(st_store *s, st_hash key)
{
    char path[ST_PATH];
    st_store_file(s, key, path);
    if (!s->read_only) unlink(path);
    pthread_mutex_lock(&s->db);
    (void)st_sync_drop(s, &key, 1, NULL); /* a row that stays is found wrong again */
    pthread_mutex_unlock(&s->db);
}

/* The row of a file that is not there. */
static void forget(st_store *s, st_hash key)
{
    if (!st_store_knows(s, key)) return;
    pthread_mutex_lock(&s->db);
    (void)st_sync_drop(s, &key, 1, NULL);
    pthread_mutex_unlock(&s->db);
}

/* -- Getting --------------------------------------------------------------------------------------- */

static bool is_entry(const st_store *s, const st_file *f, const void *enc, size_t enc_len)
{
    return f->head.enc_len == enc_len && (!enc_len || memcmp(f->enc, enc, enc_len) == 0) &&
           strcmp(f->build, s->build) == 0;
}

int st_store_get(st_store *s, st_hash key, const void *enc, size_t enc_len, st_blob **out, st_error *err)
{
    char path[ST_PATH];
    st_file f;
    double from = seconds_now();
    *out = NULL;
    st_store_file(s, key, path);
    int rc = st_file_open(s->a, path, &key, &f, err);
    if (rc == ST_OK) {
        if (!is_entry(s, &f, enc, enc_len))
            rc = st_fail(err, ST_ENOTFOUND, "the entry of this key is another one");
        else if ((rc = st_file_verify(s->a, &f, err)) == ST_OK)
            rc = st_file_map(s->a, &f, out, err);
        if (rc == ST_OK) {
            (*out)->own = (*out)->own && s->own;
            rc = note_use(s, &f, true, f.head.seconds - (seconds_now() - from), err);
        }
        st_file_close(s->a, &f);
    } else if (rc == ST_ENOTFOUND) {
        forget(s, key);
    }
    if (rc == ST_OK) return rc;
    st_blob_free(*out);
    *out = NULL;
    if (rc == ST_EVERIFY) {
        count(s, ST_INDEX_DAMAGED, 1);
        discard(s, key);
        if (err) err->code = ST_ENOTFOUND; /* the message stays: why it is not there */
        rc = ST_ENOTFOUND;
    }
    count(s, ST_INDEX_MISSES, 1);
    return rc;
}

int st_store_encoding(st_store *s, st_hash key, void **enc, size_t *enc_len, st_error *err)
{
    char path[ST_PATH];
    st_file f;
    *enc = NULL;
    *enc_len = 0;
    st_store_file(s, key, path);
    int rc = st_file_open(s->a, path, &key, &f, err);
    if (rc == ST_EVERIFY && err) err->code = ST_ENOTFOUND;
    if (rc != ST_OK) return rc == ST_EVERIFY ? ST_ENOTFOUND : rc;
    size_t n = (size_t)f.head.enc_len;
    *enc = st_mem_new(s->a, n);
    if (*enc) {
        memcpy(*enc, f.enc, n);
        *enc_len = n;
    } else {
        rc = st_fail(err, ST_ENOMEM, "no memory for an encoding");
    }
    st_file_close(s->a, &f);
    return rc;
}

/* -- Putting --------------------------------------------------------------------------------------- */

/* From its temporary name to its place. */
static int move_in(st_store *s, const char *from, st_hash key, st_error *err)
{
    char to[ST_PATH], text[ST_KEY_TEXT], name[3], folder[ST_PATH];
    st_store_file(s, key, to);
    st_store_key_text(key, text);
    memcpy(name, text, 2);
    name[2] = 0;
    if (rename(from, to) != 0) {
        if (errno != ENOENT) return st_fail(err, ST_ESYSTEM, "moving an entry to its place: %m");
        st_store_path(s, name, folder);
        if ((mkdir(folder, folder_mode(s)) != 0 && errno != EEXIST) || rename(from, to) != 0)
            return st_fail(err, ST_ESYSTEM, "moving an entry to its place: %m");
        ST_TRY(flush_folder(s, ".", err));
    }
    return flush_folder(s, name, err);
}

static int write_file(st_store *s, const st_store_item *item, int64_t created, st_error *err)
{
    char from[ST_PATH], to[ST_PATH];
    int fd = -1;
    ST_TRY(temporary(s, from, &fd, err));
    int rc = st_file_write(s->a, fd, item, s->build, created, err);
    if (rc == ST_OK && s->sync && fsync(fd) != 0) rc = st_fail(err, ST_ESYSTEM, "flushing an entry: %m");
    if (close(fd) != 0 && rc == ST_OK) rc = st_fail(err, ST_ESYSTEM, "closing an entry: %m");
    if (rc == ST_OK) {
        rc = move_in(s, from, item->key, err);
        if (rc != ST_OK) { /* it may have arrived, but not be safe there */
            st_store_file(s, item->key, to);
            unlink(to);
        }
    }
    if (rc != ST_OK) unlink(from);
    return rc;
}

/* Whether the same entry is there already. */
static int already(st_store *s, const st_store_item *item, bool *there, st_error *err)
{
    char path[ST_PATH];
    st_file f;
    *there = false;
    st_store_file(s, item->key, path);
    int rc = st_file_open(s->a, path, &item->key, &f, err);
    if (rc != ST_OK) return rc == ST_ENOMEM ? rc : ST_OK;
    *there = is_entry(s, &f, item->enc, item->enc_len);
    if (*there) rc = note_use(s, &f, false, 0, err);
    st_file_close(s->a, &f);
    return rc;
}

/* Put the row of a new file into its place, and into the index. */
static void enter(st_store *s, st_row *r)
{
    pthread_mutex_lock(&s->db);
    pthread_mutex_lock(&s->mem);
    st_row *old = st_table_take(&s->table, r->info.key);
    r->round = s->round;
    st_table_insert(&s->table, r, true);
    s->now[ST_INDEX_PUTS] += 1;
    pthread_mutex_unlock(&s->mem);
    st_mem_free(s->a, old);
    /* An index that cannot be written now gets the row with the next flush; the file is there. */
    (void)st_sync_flush(s, false, NULL);
    pthread_mutex_unlock(&s->db);
}

int st_store_put(st_store *s, const st_store_item *item, st_error *err)
{
    if (s->read_only) return st_fail(err, ST_EUNSUPPORTED, "the store is read-only");
    const char *label = item->label ? item->label : "";
    for (size_t i = 0; i < item->n_parts; i++)
        if (item->parts[i].len && !item->parts[i].data)
            return st_fail(err, ST_EINVAL, "part %zu is nowhere", i);
    if (strlen(label) > ST_LABEL_MOST)
        return st_fail(err, ST_EINVAL, "a label of more than %d bytes", ST_LABEL_MOST);
    uint64_t bytes = st_file_bytes(item, s->build);
    if (!bytes || (s->max_bytes && bytes > s->max_bytes))
        return st_fail(err, ST_ELIMIT, "an entry larger than the store may be");
    bool there = false;
    ST_TRY(already(s, item, &there, err));
    if (there) return ST_OK;

    int64_t now = st_store_clock();
    st_store_info info = {item->key, label, item->seconds, bytes, 0, now, now, item->kind};
    st_row *r = st_row_new(s->a, &info);
    int rc = r ? ST_OK : ST_ENOMEM;
    pthread_mutex_lock(&s->mem);
    if (r) rc = st_table_promise(s->a, &s->table);
    pthread_mutex_unlock(&s->mem);
    if (rc != ST_OK) {
        st_mem_free(s->a, r);
        return st_fail(err, rc, "no memory for a row");
    }
    rc = write_file(s, item, now, err);
    if (rc != ST_OK) {
        pthread_mutex_lock(&s->mem);
        st_table_forget(&s->table);
        pthread_mutex_unlock(&s->mem);
        st_mem_free(s->a, r);
        return rc;
    }
    enter(s, r);
    pthread_mutex_lock(&s->mem);
    bool full = s->max_bytes && s->table.bytes > s->max_bytes;
    pthread_mutex_unlock(&s->mem);
    /* A tenth of room, so that not every entry collects.  The entry is there, whatever becomes of this. */
    if (full) (void)st_store_gc(s, s->max_bytes / 10 * 9, NULL, NULL);
    return ST_OK;
}

int st_store_remove(st_store *s, st_hash key, st_error *err)
{
    if (s->read_only) return st_fail(err, ST_EUNSUPPORTED, "the store is read-only");
    char path[ST_PATH];
    st_store_file(s, key, path);
    int rc = unlink(path) == 0 ? ST_OK
             : errno == ENOENT ? st_fail(err, ST_ENOTFOUND, "no such entry")
                               : st_fail(err, ST_ESYSTEM, "taking an entry out: %m");
    if (rc == ST_ESYSTEM) return rc;
    pthread_mutex_lock(&s->db);
    int dropped = st_sync_drop(s, &key, 1, rc == ST_OK ? err : NULL);
    pthread_mutex_unlock(&s->db);
    return rc == ST_OK ? dropped : rc;
}

/* -- Claims ---------------------------------------------------------------------------------------- */

int st_store_claim(st_store *s, st_hash key, int wait_ms, st_claim **out, st_error *err)
{
    *out = NULL;
    if (s->read_only) return st_fail(err, ST_EUNSUPPORTED, "the store is read-only");
    st_claim *c = st_mem_zero(s->a, sizeof *c);
    if (!c) return st_fail(err, ST_ENOMEM, "no memory for a claim");
    char path[ST_PATH];
    st_store_path(s, "lock", path);
    int rc = st_lock_take(path, st_lock_place(key), wait_ms, &c->fd, err);
    if (rc != ST_OK) {
        st_mem_free(s->a, c);
        return rc;
    }
    c->s = s;
    pthread_mutex_lock(&s->mem);
    c->next = s->claims;
    if (c->next) c->next->prev = c;
    s->claims = c;
    pthread_mutex_unlock(&s->mem);
    *out = c;
    return ST_OK;
}

void st_store_unclaim(st_claim *c)
{
    if (!c) return;
    st_store *s = c->s;
    pthread_mutex_lock(&s->mem);
    if (c->prev)
        c->prev->next = c->next;
    else
        s->claims = c->next;
    if (c->next) c->next->prev = c->prev;
    int fd = c->fd;
    pthread_mutex_unlock(&s->mem);
    st_lock_release(fd);
    st_mem_free(s->a, c);
}

/* -- What is there --------------------------------------------------------------------------------- */

/* Copies of all rows whose key begins with `prefix`, and of their labels, in one block. */
static int snapshot(st_store *s, const char *prefix, st_store_info **out, size_t *n, st_error *err)
{
    size_t texts = 0, rows = 0, len = strlen(prefix);
    char text[ST_KEY_TEXT];
    *out = NULL;
    *n = 0;
    pthread_mutex_lock(&s->mem);
    for (size_t i = 0; i < s->table.cap; i++) {
        const st_row *r = st_table_at(&s->table, i);
        if (!r) continue;
        rows++;
        texts += strlen(r->label) + 1;
    }
    st_store_info *all = st_mem_new(s->a, rows * sizeof *all + texts);
    char *p = all ? (char *)(all + rows) : NULL;
    for (size_t i = 0; all && i < s->table.cap; i++) {
        const st_row *r = st_table_at(&s->table, i);
        if (!r) continue;
        if (len) st_store_key_text(r->info.key, text);
        if (len && strncmp(text, prefix, len) != 0) continue;
        size_t k = strlen(r->label) + 1;
        all[*n] = r->info;
        all[*n].hits += r->hits;
        all[*n].label = memcpy(p, r->label, k);
        p += k;
        ++*n;
    }
    pthread_mutex_unlock(&s->mem);
    *out = all;
    return all ? ST_OK : st_fail(err, ST_ENOMEM, "no memory for a list of entries");
}

static int each(st_store *s, const char *prefix, st_store_each_fn fn, void *ud, st_error *err)
{
    st_store_info *all;
    size_t n;
    ST_TRY(snapshot(s, prefix, &all, &n, err));
    int rc = ST_OK;
    for (size_t i = 0; i < n && rc == ST_OK; i++)
        rc = fn(ud, &all[i]);
    st_mem_free(s->a, all);
    return rc;
}

int st_store_each(st_store *s, st_store_each_fn fn, void *ud, st_error *err)
{
    return each(s, "", fn, ud, err);
}

int st_store_find(st_store *s, const char *prefix, st_store_each_fn fn, void *ud, st_error *err)
{
    size_t n = strlen(prefix);
    if (n >= ST_KEY_TEXT || strspn(prefix, "0123456789abcdef") != n)
        return st_fail(err, ST_EINVAL, "the beginning of a key is up to %d digits 0-9a-f", ST_KEY_TEXT - 1);
    return each(s, prefix, fn, ud, err);
}

int st_store_get_stats(st_store *s, st_store_stats *stats, st_error *err)
{
    ST_TRY(st_store_refresh(s, err));
    double all[ST_INDEX_N_COUNTERS];
    pthread_mutex_lock(&s->mem);
    for (int i = 0; i < ST_INDEX_N_COUNTERS; i++)
        all[i] = s->life[i] + s->now[i];
    *stats = (st_store_stats){.entries = s->table.n, .bytes = s->table.bytes};
    pthread_mutex_unlock(&s->mem);
    stats->hits = (uint64_t)all[ST_INDEX_HITS];
    stats->misses = (uint64_t)all[ST_INDEX_MISSES];
    stats->puts = (uint64_t)all[ST_INDEX_PUTS];
    stats->damaged = (uint64_t)all[ST_INDEX_DAMAGED];
    stats->removed = (uint64_t)all[ST_INDEX_REMOVED];
    stats->seconds_saved = all[ST_INDEX_SAVED];
    return ST_OK;
}

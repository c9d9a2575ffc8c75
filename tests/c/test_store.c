/* test_store.c - results on disk: what comes back is what was put, or nothing, whatever happened to files,
 * index, disk, memory and processes.
 *
 *     test_store                      the tests
 *     test_store kills N [SEED]       N writers killed at random moments
 *     test_store crowd SECONDS [N]    N processes at once, with readers, collectors and killers among them
 */
#include "check.h"
#include "reuse/store_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- Folders ----------------------------------------------------------------------------------------- */

static char folder[200];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *f)
{
    (void)st, (void)kind, (void)f;
    return remove(path);
}

static void folder_gone(void) { nftw(folder, remove_one, 20, FTW_DEPTH | FTW_PHYS); }

static void folder_new(void)
{
    folder_gone();
    CHECK(mkdir(folder, 0700) == 0);
}

static void path_in(char *path, const char *name) { snprintf(path, ST_PATH, "%s/%s", folder, name); }

/* How many files a folder of the store has; 0 where there is none. */
static int files_in(const char *name)
{
    char path[ST_PATH];
    path_in(path, name);
    DIR *d = opendir(path);
    int n = 0;
    if (!d) return 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

/* -- Entries: everything about one follows from its number ------------------------------------------- */

enum { MOST_PARTS = 6 };

typedef struct made {
    st_store_item item;
    st_part parts[MOST_PARTS];
    char enc[100], label[40];
} made;

static st_hash key_no(uint64_t i) { return st_hash_bytes(&i, sizeof i, 7); }

/* Lengths around what the format knows: nothing, an alignment, a block of the checksum. */
static size_t length_of(uint64_t i, size_t part, bool large)
{
    static const size_t small[] = {0, 1, 63, 64, 65, 200};
    static const size_t big[] = {256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 600000, 0, 1024 * 1024};
    return large && part ? big[(i + part) % 6] : small[(i + part) % 6];
}

static void make_entry(made *m, uint64_t i, size_t n_parts, bool large)
{
    snprintf(m->enc, sizeof m->enc, "the encoding of entry %llu, which is long enough to matter",
             (unsigned long long)i);
    snprintf(m->label, sizeof m->label, "fit Ridge %llu", (unsigned long long)i);
    for (size_t p = 0; p < n_parts; p++) {
        size_t n = length_of(i, p, large);
        unsigned char *b = malloc(n + 8);
        CHECK(b != NULL);
        uint64_t state = i * 31 + p;
        for (size_t k = 0; k < n; k += 8) {
            uint64_t w = random_next(&state);
            memcpy(b + k, &w, 8);
        }
        m->parts[p] = (st_part){b, n};
    }
    m->item = (st_store_item){.key = key_no(i),
                              .enc = m->enc,
                              .enc_len = strlen(m->enc),
                              .label = m->label,
                              .seconds = 1.5 + (double)(i % 100),
                              .kind = (uint32_t)(i % 3),
                              .n_parts = n_parts,
                              .parts = m->parts};
}

static void free_entry(made *m)
{
    for (size_t p = 0; p < m->item.n_parts; p++)
        free(m->parts[p].data);
}

static void check_blob(const st_blob *b, const made *m)
{
    CHECK_INT(b->n_parts, m->item.n_parts);
    CHECK_INT(b->kind, m->item.kind);
    CHECK(b->seconds == m->item.seconds);
    for (size_t p = 0; p < b->n_parts; p++) {
        CHECK_INT(b->parts[p].len, m->parts[p].len);
        CHECK((uintptr_t)b->parts[p].data % 64 == 0);
        CHECK(!b->parts[p].len || memcmp(b->parts[p].data, m->parts[p].data, b->parts[p].len) == 0);
    }
}

static int put_no(st_store *s, uint64_t i, size_t n_parts, bool large)
{
    made m;
    make_entry(&m, i, n_parts, large);
    int rc = st_store_put(s, &m.item, NULL);
    free_entry(&m);
    return rc;
}

/* Get entry i, which, if it comes, is right. */
static int get_no(st_store *s, uint64_t i, size_t n_parts, bool large)
{
    made m;
    st_blob *b;
    make_entry(&m, i, n_parts, large);
    int rc = st_store_get(s, m.item.key, m.item.enc, m.item.enc_len, &b, NULL);
    if (rc == ST_OK) {
        check_blob(b, &m);
        st_blob_free(b);
    }
    free_entry(&m);
    return rc;
}

static const st_store_options QUICK = {.no_sync = true, .build = "b1"};
static const st_store_options PLAIN = {.no_sync = true, .build = "b1", .plain = true};

static st_store *open_with(const st_store_options *o)
{
    st_store *s;
    st_error err = {0};
    if (st_store_open(&meter, folder, o, &s, &err) != ST_OK) check_failed(__FILE__, __LINE__, err.message);
    return s;
}

static st_store_stats stats_of(st_store *s)
{
    st_store_stats t;
    OK(st_store_get_stats(s, &t, NULL));
    return t;
}

static void path_of(st_store *s, uint64_t i, char *path) { st_store_file(s, key_no(i), path); }

/* -- What is promised in fair weather ----------------------------------------------------------------- */

static void round_trip_with(const st_store_options *o)
{
    folder_new();
    st_store *s = open_with(o);
    CHECK_STR(st_store_index_kind(s), o->plain || !st_index_built() ? "memory" : "sqlite, wal");
    CHECK(st_store_own(s) && !st_store_read_only(s));
    made m[8];
    st_blob *b;
    for (uint64_t i = 0; i < 8; i++) {
        make_entry(&m[i], i, i % (MOST_PARTS + 1), i > 3);
        CHECK(!st_store_knows(s, m[i].item.key));
        CHECK_INT(get_no(s, i, i % (MOST_PARTS + 1), i > 3), ST_ENOTFOUND);
        OK(st_store_put(s, &m[i].item, NULL));
        OK(st_store_put(s, &m[i].item, NULL)); /* there already */
        CHECK(st_store_knows(s, m[i].item.key));
    }
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 8; i++) {
            CHECK(st_store_knows(s, m[i].item.key));
            OK(st_store_get(s, m[i].item.key, m[i].item.enc, m[i].item.enc_len, &b, NULL));
            check_blob(b, &m[i]);
            CHECK(b->own);
            for (size_t p = 0; p < b->n_parts; p++) /* one's own pages */
                memset(b->parts[p].data, 0xEE, b->parts[p].len);
            st_blob_free(b);
        }
        OK(st_store_refresh(s, NULL));
        if (round == 0) {
            st_store_close(s);
            s = open_with(o);
        }
    }
    st_store_stats t = stats_of(s);
    CHECK_INT(t.entries, 8);
    bool lives = !o->plain && st_index_built();
    CHECK_INT(t.hits, lives ? 24 : 16);
    CHECK_INT(t.misses, lives ? 8 : 0);
    CHECK_INT(t.puts, lives ? 8 : 0);
    CHECK_INT(t.damaged, 0);
    CHECK(t.seconds_saved > 20 && t.bytes > 4000000);
    CHECK_INT(files_in("tmp"), 0);
    /* A blob is its own. */
    OK(st_store_get(s, m[5].item.key, m[5].item.enc, m[5].item.enc_len, &b, NULL));
    OK(st_store_clear(s, NULL));
    CHECK_INT(stats_of(s).entries, 0);
    CHECK_INT(get_no(s, 5, 5, true), ST_ENOTFOUND);
    st_store_close(s);
    check_blob(b, &m[5]);
    st_blob_free(b);
    for (int i = 0; i < 8; i++)
        free_entry(&m[i]);
}

static void round_trip(void)
{
    round_trip_with(&QUICK);
    round_trip_with(&PLAIN);
    /* What is flushed to the disk. */
    folder_new();
    st_store *s = open_with(NULL);
    OK(put_no(s, 1, 3, true));
    OK(get_no(s, 1, 3, true));
    st_store_close(s);
}

static void equal_keys(void)
{
    folder_new();
    st_store *s = open_with(&QUICK);
    made a, b;
    st_blob *blob;
    make_entry(&a, 1, 3, false);
    make_entry(&b, 2, 2, false);
    b.item.key = a.item.key; /* two meanings, one key */
    OK(st_store_put(s, &a.item, NULL));
    CHECK_INT(st_store_get(s, b.item.key, b.item.enc, b.item.enc_len, &blob, NULL), ST_ENOTFOUND);
    CHECK(blob == NULL);
    CHECK_INT(st_store_get(s, a.item.key, a.item.enc, a.item.enc_len - 1, &blob, NULL), ST_ENOTFOUND);
    CHECK_INT(stats_of(s).damaged, 0);
    OK(st_store_get(s, a.item.key, a.item.enc, a.item.enc_len, &blob, NULL)); /* it stayed */
    OK(st_store_put(s, &b.item, NULL));                                       /* the newer one replaces it */
    check_blob(blob, &a);                                                     /* not under a mapping */
    st_blob_free(blob);
    OK(st_store_get(s, b.item.key, b.item.enc, b.item.enc_len, &blob, NULL));
    check_blob(blob, &b);
    st_blob_free(blob);
    CHECK_INT(st_store_get(s, a.item.key, a.item.enc, a.item.enc_len, &blob, NULL), ST_ENOTFOUND);
    CHECK_INT(stats_of(s).entries, 1);
    st_store_close(s);

    /* Another build's entries are not this one's, and not damaged. */
    st_store_options other = {.no_sync = true, .build = "b2"};
    s = open_with(&other);
    CHECK_INT(st_store_get(s, b.item.key, b.item.enc, b.item.enc_len, &blob, NULL), ST_ENOTFOUND);
    CHECK_INT(stats_of(s).damaged, 0);
    CHECK_INT(stats_of(s).entries, 1);
    OK(st_store_put(s, &b.item, NULL));
    OK(st_store_get(s, b.item.key, b.item.enc, b.item.enc_len, &blob, NULL));
    st_blob_free(blob);
    st_store_close(s);
    free_entry(&a);
    free_entry(&b);
}

typedef struct seen {
    int n;
    int stop;
    char label[40];
    st_store_info last;
} seen;

static int see(void *ud, const st_store_info *info)
{
    seen *x = ud;
    x->n++;
    x->last = *info;
    snprintf(x->label, sizeof x->label, "%s", info->label);
    return x->stop && x->n >= x->stop ? ST_ECANCELED : ST_OK;
}

static void lists(void)
{
    folder_new();
    st_store *s = open_with(&QUICK);
    for (uint64_t i = 0; i < 20; i++)
        OK(put_no(s, i, 2, false));
    OK(get_no(s, 7, 2, false));
    OK(get_no(s, 7, 2, false));
    seen x = {0};
    OK(st_store_each(s, see, &x, NULL));
    CHECK_INT(x.n, 20);
    x = (seen){.stop = 3};
    CHECK_INT(st_store_each(s, see, &x, NULL), ST_ECANCELED);
    CHECK_INT(x.n, 3);
    char digits[ST_KEY_TEXT];
    st_store_key_text(key_no(7), digits);
    for (int again = 0; again < 2; again++) {
        x = (seen){0};
        digits[again ? 32 : 12] = 0;
        OK(st_store_find(s, digits, see, &x, NULL));
        CHECK_INT(x.n, 1);
        CHECK_STR(x.label, "fit Ridge 7");
        CHECK_INT(x.last.hits, 2);
        CHECK_INT(x.last.kind, 1);
        CHECK(x.last.seconds == 8.5 && x.last.used >= x.last.created && x.last.bytes > 128);
        st_store_key_text(key_no(7), digits);
    }
    CHECK_INT(st_store_find(s, "XYZ", see, &x, NULL), ST_EINVAL);
    CHECK_INT(st_store_find(s, "000000000000000000000000000000000", see, &x, NULL), ST_EINVAL);
    void *enc;
    size_t n;
    OK(st_store_encoding(s, key_no(7), &enc, &n, NULL));
    made m;
    make_entry(&m, 7, 0, false);
    CHECK(n == m.item.enc_len && memcmp(enc, m.enc, n) == 0);
    meter.release(NULL, enc);
    CHECK_INT(st_store_encoding(s, key_no(70), &enc, &n, NULL), ST_ENOTFOUND);
    OK(st_store_remove(s, key_no(7), NULL));
    CHECK(!st_store_knows(s, key_no(7)));
    CHECK_INT(st_store_remove(s, key_no(7), NULL), ST_ENOTFOUND);
    CHECK_INT(stats_of(s).entries, 19);
    CHECK_INT(stats_of(s).removed, 1);
    /* What cannot be put. */
    static char longest[ST_LABEL_MOST + 2];
    memset(longest, 'x', ST_LABEL_MOST + 1);
    m.item.label = longest;
    CHECK_INT(st_store_put(s, &m.item, NULL), ST_EINVAL);
    m.item.label = NULL;
    m.item.n_parts = 1;
    m.parts[0] = (st_part){NULL, 3};
    CHECK_INT(st_store_put(s, &m.item, NULL), ST_EINVAL);
    m.parts[0].len = 0;
    m.item.seconds = 0.0 / 0.0;
    OK(st_store_put(s, &m.item, NULL));
    x = (seen){0};
    st_store_key_text(key_no(7), digits);
    OK(st_store_find(s, digits, see, &x, NULL));
    CHECK(x.n == 1 && x.last.seconds == 0);
    CHECK_STR(x.label, "");
    st_store_close(s);
    s = open_with(&QUICK);
    CHECK_INT(stats_of(s).entries, 20);
    CHECK_INT(stats_of(s).hits, st_index_built() ? 2 : 0);
    st_store_close(s);
}

/* -- Damage --------------------------------------------------------------------------------------------- */

static void *file_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    static unsigned char buf[1 << 20];
    *n = fread(buf, 1, sizeof buf, f);
    fclose(f);
    return buf;
}

static void file_write(const char *path, const void *data, size_t n)
{
    unlink(path); /* cutting a file to nothing makes some file systems wait for the disk */
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    CHECK(fwrite(data, 1, n, f) == n);
    CHECK(fclose(f) == 0);
}

static void damaged_bytes(void)
{
    folder_new();
    st_store *s = open_with(&QUICK);
    char path[ST_PATH];
    unsigned char whole[4096];
    size_t n = 0;
    OK(put_no(s, 3, 5, false));
    path_of(s, 3, path);
    memcpy(whole, file_read(path, &n), sizeof whole);
    CHECK(n > 600 && n < sizeof whole && n % 64 == 0);
    uint64_t found = 0, harmless = 0, state = 1;
    for (size_t i = 0; i < n; i++) {
        unsigned char bad[sizeof whole];
        memcpy(bad, whole, n);
        bad[i] ^= (unsigned char)(1u << (random_next(&state) % 8));
        file_write(path, bad, n);
        int rc = get_no(s, 3, 5, false); /* looks at every byte of what comes */
        CHECK(rc == ST_OK || rc == ST_ENOTFOUND);
        if (rc == ST_OK)
            harmless++; /* a zero between parts */
        else
            found++;
        CHECK((access(path, F_OK) == 0) == (rc == ST_OK)); /* it went */
        CHECK(st_store_knows(s, key_no(3)) == (rc == ST_OK));
        CHECK(i >= 300 || rc == ST_ENOTFOUND); /* head and description have no such places */
    }
    CHECK_INT(stats_of(s).damaged, found);
    CHECK(found > 450 && harmless < n / 3);
    for (size_t k = 0; k <= n + 64; k++) {
        unsigned char bad[sizeof whole + 64] = {0};
        if (k == n) continue;
        memcpy(bad, whole, n);
        file_write(path, bad, k);
        CHECK_INT(get_no(s, 3, 5, false), ST_ENOTFOUND);
    }
    /* A whole file under another name. */
    file_write(path, whole, n);
    char other[ST_PATH];
    OK(put_no(s, 4, 1, false));
    path_of(s, 4, other);
    CHECK(rename(path, other) == 0);
    CHECK_INT(get_no(s, 4, 1, false), ST_ENOTFOUND);
    st_store_close(s);

    /* Large parts: a byte anywhere. */
    s = open_with(&QUICK);
    for (int i = 0; i < 40; i++) {
        OK(put_no(s, 9, 6, true));
        path_of(s, 9, path);
        int fd = open(path, O_RDWR);
        struct stat st;
        CHECK(fd >= 0 && fstat(fd, &st) == 0);
        off_t at = (off_t)(random_next(&state) % (uint64_t)st.st_size);
        unsigned char c;
        CHECK(pread(fd, &c, 1, at) == 1);
        c ^= 0x40;
        CHECK(pwrite(fd, &c, 1, at) == 1);
        close(fd);
        int rc = get_no(s, 9, 6, true);
        CHECK(rc == ST_ENOTFOUND || rc == ST_OK);
    }
    st_store_close(s);
}

static void strange_files(void)
{
    folder_new();
    st_store *s = open_with(&QUICK);
    char path[ST_PATH], elsewhere[ST_PATH];
    OK(put_no(s, 1, 2, false));
    path_of(s, 1, path);
    path_in(elsewhere, "elsewhere");
    CHECK(rename(path, elsewhere) == 0 && symlink(elsewhere, path) == 0);
    CHECK_INT(get_no(s, 1, 2, false), ST_ENOTFOUND); /* no links */
    CHECK(access(elsewhere, F_OK) == 0);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK_INT(get_no(s, 1, 2, false), ST_ENOTFOUND); /* does not wait */
    CHECK(mkdir(path, 0700) == 0);
    CHECK_INT(get_no(s, 1, 2, false), ST_ENOTFOUND);
    CHECK(put_no(s, 1, 2, false) == ST_ESYSTEM);
    CHECK(rmdir(path) == 0);
    OK(put_no(s, 1, 2, false));
    OK(get_no(s, 1, 2, false));
    CHECK_INT(files_in("tmp"), 0);
    /* The folder goes while the store is open. */
    folder_gone();
    CHECK_INT(get_no(s, 1, 2, false), ST_ENOTFOUND);
    CHECK(put_no(s, 1, 2, false) == ST_ESYSTEM);
    CHECK(mkdir(folder, 0700) == 0);
    OK(put_no(s, 1, 2, false));
    OK(get_no(s, 1, 2, false));
    st_store_close(s);
}

static void verify_count(void *ud, const st_store_info *info, const char *why)
{
    CHECK(why[0] != 0 && info->label != NULL);
    ++*(int *)ud;
}

static void verify_finds(void)
{
    for (int kind = 0; kind < 2; kind++) {
        folder_new();
        st_store *s = open_with(kind ? &PLAIN : &QUICK);
        char path[ST_PATH];
        size_t n, damaged;
        int told = 0;
        for (uint64_t i = 0; i < 10; i++)
            OK(put_no(s, i, 3, false));
        OK(st_store_verify(s, verify_count, &told, &damaged, NULL));
        CHECK(told == 0 && damaged == 0);
        for (uint64_t i = 0; i < 3; i++) { /* in the head, in a part, cut */
            path_of(s, i, path);
            unsigned char *b = file_read(path, &n);
            b[i == 0 ? 20 : n - 100] ^= 1;
            file_write(path, b, i == 2 ? n - 64 : n);
        }
        path_of(s, 50, path); /* nobody knows this one */
        path[strlen(folder) + 3] = 0;
        mkdir(path, 0700);
        path_of(s, 50, path);
        file_write(path, "what?", 5);
        path_of(s, 9, path);
        CHECK(unlink(path) == 0);
        OK(st_store_verify(s, verify_count, &told, &damaged, NULL));
        CHECK_INT(told, 4);
        CHECK_INT(damaged, 4);
        CHECK_INT(stats_of(s).entries, 6);
        told = 0;
        OK(st_store_verify(s, verify_count, &told, &damaged, NULL));
        CHECK_INT(told, 0);
        CHECK_INT(stats_of(s).damaged, 4);
        for (uint64_t i = 0; i < 10; i++)
            CHECK_INT(get_no(s, i, 3, false), i < 3 || i == 9 ? ST_ENOTFOUND : ST_OK);
        st_store_close(s);
    }
}

static void damaged_index(void)
{
    if (!st_index_built()) return;
    folder_new();
    st_store *s = open_with(&QUICK);
    for (uint64_t i = 0; i < 200; i++)
        OK(put_no(s, i, 1, false));
    st_store_close(s);
    char path[ST_PATH], wal[ST_PATH];
    static unsigned char whole[1 << 20], bad[1 << 20];
    size_t n;
    path_in(path, "index.sqlite");
    path_in(wal, "index.sqlite-wal");
    memcpy(whole, file_read(path, &n), sizeof whole);
    CHECK(n > 10000 && n < sizeof whole);
    uint64_t state = 5;
    for (int i = 0; i < 30; i++) {
        memcpy(bad, whole, n);
        size_t len = n;
        switch (i) {
        case 0: memset(bad, 0, 100); break;
        case 1: len = 0; break;
        case 2: len = n / 2; break;
        case 3: memset(bad, 0x5A, n); break;
        case 4: bad[63] = 9; break;  /* a newer schema */
        case 5: bad[71] ^= 1; break; /* somebody else's */
        case 6: len = 100; break;
        default: /* bits, or stretches */
            for (uint64_t k = random_next(&state) % 20 + 1; k; k--)
                bad[random_next(&state) % n] ^= (unsigned char)(1u << (random_next(&state) % 8));
            if (i % 3 == 0) memset(bad + random_next(&state) % (n - 2000), (int)(i % 256), 2000);
        }
        file_write(path, bad, len);
        if (i % 5 == 4) file_write(wal, bad, 3000); /* and a log of nobody's */
        s = open_with(&QUICK);
        CHECK_STR(st_store_index_kind(s), "sqlite, wal");
        for (uint64_t k = 0; k < 200; k += 7)
            OK(get_no(s, k, 1, false)); /* files are what counts */
        OK(put_no(s, 1000 + (uint64_t)i, 1, false));
        if (i < 7)
            for (uint64_t k = 0; k < 200; k++)
                CHECK(st_store_knows(s, key_no(k)));
        uint64_t freed;
        OK(st_store_gc(s, UINT64_MAX, &freed, NULL)); /* takes in what a damaged row hid */
        for (uint64_t k = 0; k < 200; k++)
            CHECK(st_store_knows(s, key_no(k)));
        st_store_close(s);
        unlink(wal);
    }
    /* Under an open store: it is replaced by nothing, by rubbish, by another one. */
    file_write(path, whole, n);
    s = open_with(&QUICK);
    CHECK(unlink(path) == 0);
    OK(put_no(s, 2001, 1, false));
    OK(put_no(s, 2002, 1, false));
    OK(st_store_refresh(s, NULL));
    st_store *t = open_with(&QUICK);
    CHECK(st_store_knows(t, key_no(2002)) && st_store_knows(t, key_no(3)));
    CHECK(st_store_knows(s, key_no(2002)) && st_store_knows(s, key_no(3)));
    OK(put_no(t, 2003, 1, false));
    OK(st_store_refresh(s, NULL));
    CHECK(st_store_knows(s, key_no(2003)));
    st_store_close(s);
    st_store_close(t);
}

static void versions(void)
{
    folder_new();
    st_store *s = open_with(&QUICK);
    char path[ST_PATH], entry[ST_PATH], line[80];
    for (uint64_t i = 0; i < 4; i++)
        OK(put_no(s, i, 2, false));
    path_of(s, 2, entry);
    st_store_close(s);
    path_in(path, "format");
    /* A newer one: nothing is touched. */
    snprintf(line, sizeof line, "stratum store 9 ");
    st_hash h = st_hash_bytes(line, strlen(line), 0);
    snprintf(line + strlen(line), 40, "%016llx\n", (unsigned long long)h.lo);
    file_write(path, line, strlen(line));
    st_error err = {0};
    CHECK_INT(st_store_open(&meter, folder, &QUICK, &s, &err), ST_EUNSUPPORTED);
    CHECK(s == NULL && strstr(err.message, "version 9") != NULL);
    size_t n;
    CHECK(memcmp(file_read(path, &n), line, strlen(line)) == 0 && n == strlen(line));
    CHECK(access(entry, F_OK) == 0);
    /* A damaged line says nothing. */
    line[14] = '8';
    file_write(path, line, strlen(line));
    s = open_with(&QUICK);
    OK(get_no(s, 2, 2, false));
    /* It becomes a newer one while it is open: what looks after the store leaves it alone. */
    line[14] = '9';
    file_write(path, line, strlen(line));
    CHECK_INT(st_store_gc(s, 0, NULL, NULL), ST_EUNSUPPORTED);
    CHECK_INT(st_store_clear(s, NULL), ST_EUNSUPPORTED);
    CHECK_INT(st_store_verify(s, NULL, NULL, NULL, NULL), ST_EUNSUPPORTED);
    CHECK(access(entry, F_OK) == 0);
    st_store_close(s);
    /* An older one: files of its format are as good as not there, until gc takes them. */
    snprintf(line, sizeof line, "stratum store 0 ");
    h = st_hash_bytes(line, strlen(line), 0);
    snprintf(line + strlen(line), 40, "%016llx\n", (unsigned long long)h.lo);
    file_write(path, line, strlen(line));
    unsigned char *b = file_read(entry, &n);
    b[12] = 0; /* format 0 */
    file_write(entry, b, n);
    s = open_with(&QUICK);
    CHECK(!st_store_knows(s, key_no(2)));
    CHECK(access(entry, F_OK) == 0);
    uint64_t freed;
    OK(st_store_gc(s, UINT64_MAX, &freed, NULL));
    CHECK(freed == n && access(entry, F_OK) != 0);
    OK(put_no(s, 2, 2, false));
    OK(get_no(s, 2, 2, false));
    st_store_close(s);
    s = open_with(&QUICK);
    CHECK_INT(stats_of(s).entries, 4);
    st_store_close(s);
}

/* -- Processes ------------------------------------------------------------------------------------------- */

/* Run `fn` in a child, which must end with 0. */
static void in_child(void (*fn)(void *), void *ud)
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        fn(ud);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (status) {
        fprintf(stderr, "a child ended with status %x\n", (unsigned)status);
        abort();
    }
}

static void child_opens(void *ud)
{
    st_store *s = open_with(ud);
    OK(get_no(s, 1, 2, true));
    OK(put_no(s, 2, 2, true));
    OK(st_store_remove(s, key_no(3), NULL));
    st_store_close(s);
}

static void child_goes_on(void *ud)
{
    st_store *s = ud;
    CHECK(st_store_knows(s, key_no(1)));
    OK(get_no(s, 1, 2, true));
    OK(put_no(s, 2, 2, true));
    OK(put_no(s, 5, 1, true));
    OK(st_store_remove(s, key_no(3), NULL));
    OK(st_store_refresh(s, NULL));
    CHECK(st_store_knows(s, key_no(4)));
    st_store_close(s);
}

static void two_processes(void)
{
    for (int kind = 0; kind < 4; kind++) {
        const st_store_options *o = kind % 2 ? &PLAIN : &QUICK;
        folder_new();
        st_store *s = open_with(o);
        OK(put_no(s, 1, 2, true));
        OK(put_no(s, 3, 1, true));
        OK(put_no(s, 4, 1, true));
        if (kind < 2)
            in_child(child_opens, (void *)o);
        else
            in_child(child_goes_on, s);
        CHECK(!st_store_knows(s, key_no(2)));
        OK(get_no(s, 2, 2, true)); /* it is there, known or not */
        CHECK(st_store_knows(s, key_no(2)));
        CHECK(st_store_knows(s, key_no(3)));
        OK(st_store_refresh(s, NULL));
        CHECK(!st_store_knows(s, key_no(3)));
        CHECK(st_store_knows(s, key_no(5)) == (kind >= 2));
        CHECK_INT(get_no(s, 3, 1, true), ST_ENOTFOUND);
        if (!o->plain && st_index_built()) {
            CHECK_INT(stats_of(s).hits, 2); /* counted once each, in whichever process */
            CHECK_INT(stats_of(s).puts, kind >= 2 ? 5 : 4);
        }
        for (int i = 0; i < 5; i++) { /* forks back and forth */
            OK(put_no(s, 100 + (uint64_t)i, 1, false));
            OK(put_no(s, 3, 1, true));
            in_child(child_goes_on, s);
        }
        OK(st_store_refresh(s, NULL));
        CHECK_STR(st_store_index_kind(s), o->plain || !st_index_built() ? "memory" : "sqlite, wal");
        CHECK_INT(stats_of(s).entries, (kind >= 2 ? 4 : 4) + 5);
        st_store_close(s);
    }
}

/* A fork that no handler sees: the connection is the parent's, and the child goes on without an index. */
static void fork_unseen(void)
{
    folder_new();
    st_store *s = open_with(&QUICK);
    OK(put_no(s, 1, 2, false));
    fflush(NULL);
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    CHECK(pid >= 0);
    if (pid == 0) {
        OK(put_no(s, 2, 2, false));
        OK(get_no(s, 1, 2, false));
        OK(st_store_refresh(s, NULL));
        CHECK(s->index == NULL && st_store_knows(s, key_no(2)));
        CHECK_STR(st_store_index_kind(s), "memory");
        st_store_close(s);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_INT(status, 0);
    OK(put_no(s, 3, 2, false));
    for (uint64_t i = 1; i < 4; i++)
        OK(get_no(s, i, 2, false));
    CHECK_INT(stats_of(s).entries, 3);
    st_store_close(s);
}

/* What a store does on the file system of a network, on one that is none. */
static void network(void)
{
    if (!st_index_built()) return;
    folder_new();
    st_store *s = open_with(&QUICK), *t;
    OK(put_no(s, 1, 2, false));
    s->network = true;
    st_sync_close(s, false);
    OK(put_no(s, 2, 2, false));
    CHECK_STR(st_store_index_kind(s), "sqlite, delete");
    char path[ST_PATH];
    path_in(path, "index.sqlite-wal");
    CHECK(access(path, F_OK) != 0);
    st_store_close(s);
    s = open_with(&QUICK);
    CHECK_INT(stats_of(s).entries, 2);
    t = open_with(&QUICK);
    OK(put_no(t, 3, 2, false));
    OK(st_store_refresh(s, NULL));
    CHECK(st_store_knows(s, key_no(3)));
    st_store_close(s);
    st_store_close(t);
}

static void child_waits(void *ud)
{
    int *ends = ud;
    char c;
    close(ends[1]);
    CHECK(read(ends[0], &c, 1) == 0);
}

static void child_claims_and_dies(void *ud)
{
    st_store *s = ud;
    st_claim *c;
    OK(st_store_claim(s, key_no(1), 0, &c, NULL));
    _exit(0);
}

static void *claimer(void *ud)
{
    st_store *s = ud;
    st_claim *c;
    static atomic_int inside; /* atomic for TSan, which does not know that the claim guards it */
    for (int i = 0; i < 200; i++) {
        OK(st_store_claim(s, key_no(9), -1, &c, NULL));
        CHECK_INT(atomic_fetch_add(&inside, 1), 0);
        CHECK_INT(atomic_fetch_sub(&inside, 1), 1);
        st_store_unclaim(c);
    }
    return NULL;
}

static void claims(void)
{
    folder_new();
    st_store *s = open_with(&QUICK), *t = open_with(&PLAIN);
    st_claim *c, *d;
    st_error err;
    OK(st_store_claim(s, key_no(1), 0, &c, NULL));
    CHECK_INT(st_store_claim(s, key_no(1), 0, &d, &err), ST_ELIMIT);
    CHECK_INT(st_store_claim(t, key_no(1), 20, &d, &err), ST_ELIMIT);
    OK(st_store_claim(s, key_no(2), 0, &d, NULL));
    st_store_unclaim(d);
    st_store_unclaim(c);
    OK(st_store_claim(t, key_no(1), 0, &c, NULL));
    st_store_unclaim(c);
    /* The dead hold none. */
    in_child(child_claims_and_dies, s);
    OK(st_store_claim(s, key_no(1), 0, &c, NULL));
    /* A child does not keep a parent's claim: nor could it, if the parent died. */
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        child_waits(ends);
        _exit(0);
    }
    CHECK_INT(st_store_claim(s, key_no(1), 0, &d, NULL), ST_ELIMIT);
    st_store_unclaim(c);
    OK(st_store_claim(s, key_no(1), 0, &c, NULL));
    close(ends[0]);
    close(ends[1]);
    CHECK(waitpid(pid, NULL, 0) == pid);
    st_store_unclaim(c);
    st_store_unclaim(NULL);
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&thread[i], NULL, claimer, i % 2 ? t : s) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    st_store_close(s);
    st_store_close(t);
}

static void *mixed_thread(void *ud)
{
    st_store *s = ud;
    uint64_t state = (uint64_t)pthread_self();
    for (int i = 0; i < 150; i++) {
        uint64_t k = random_next(&state) % 12;
        switch (random_next(&state) % 10) {
        case 0: OK(st_store_refresh(s, NULL)); break;
        case 1: (void)st_store_remove(s, key_no(k), NULL); break;
        case 2:
            if (i % 8 == 0) OK(st_store_gc(s, 30000, NULL, NULL));
            break;
        case 3:
        case 4:
        case 5: OK(put_no(s, k, 2, k % 4 == 0)); break;
        default: {
            int rc = get_no(s, k, 2, k % 4 == 0);
            CHECK(rc == ST_OK || rc == ST_ENOTFOUND);
            st_store_knows(s, key_no(k));
        }
        }
    }
    return NULL;
}

static void threads(void)
{
    for (int kind = 0; kind < 2; kind++) {
        folder_new();
        st_store *s = open_with(kind ? &PLAIN : &QUICK), *t = open_with(&QUICK);
        pthread_t thread[4];
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&thread[i], NULL, mixed_thread, i % 4 == 3 ? t : s) == 0);
        for (int i = 0; i < 4; i++)
            CHECK(pthread_join(thread[i], NULL) == 0);
        OK(st_store_gc(kind ? t : s, UINT64_MAX, NULL, NULL)); /* a plain store writes no rows */
        OK(st_store_refresh(t, NULL));
        CHECK_INT(stats_of(s).entries, stats_of(t).entries);
        CHECK_INT(stats_of(s).damaged, 0);
        CHECK_INT(files_in("tmp"), 0);
        st_store_close(s);
        st_store_close(t);
    }
}

/* -- Death ----------------------------------------------------------------------------------------------- */

/* Put, get, remove, collect until somebody kills it.  Everything that is got is looked at. */
static void write_forever(uint64_t seed, bool ends, double seconds)
{
    static const st_store_options sync = {.build = "b1"};
    st_store *s = open_with(seed % 3 == 0 ? &sync : seed % 7 == 0 ? &PLAIN : &QUICK);
    uint64_t state = seed;
    double until = seconds_now() + seconds;
    st_claim *c;
    while (!ends || seconds_now() < until) {
        uint64_t k = random_next(&state) % 40;
        int rc = ST_OK;
        switch (random_next(&state) % 16) {
        case 0: rc = st_store_remove(s, key_no(k), NULL); break;
        case 1: OK(st_store_refresh(s, NULL)); break;
        case 2: OK(st_store_gc(s, 4000000, NULL, NULL)); break;
        case 3:
            st_store_close(s);
            s = open_with(seed % 2 ? &QUICK : &sync);
            break;
        case 4:
        case 5:
            if (st_store_claim(s, key_no(k), 5, &c, NULL) == ST_OK) {
                rc = put_no(s, k, k % 5, k % 3 == 0);
                CHECK(rc == ST_OK);
                st_store_unclaim(c);
            }
            break;
        case 6:
        case 7:
        case 8:
        case 9: rc = put_no(s, k, k % 5, k % 3 == 0); break;
        default: rc = get_no(s, k, k % 5, k % 3 == 0);
        }
        CHECK(rc == ST_OK || rc == ST_ENOTFOUND);
    }
    st_store_close(s);
}

static size_t expect_whole(void)
{
    size_t entries = 0;
    for (int kind = 0; kind < 2; kind++) {
        st_store *s = open_with(kind ? &PLAIN : &QUICK);
        size_t damaged;
        OK(st_store_verify(s, NULL, NULL, &damaged, NULL));
        CHECK_INT(damaged, 0);
        for (uint64_t k = 0; k < 40; k++) {
            int rc = get_no(s, k, k % 5, k % 3 == 0);
            CHECK(rc == ST_OK || rc == ST_ENOTFOUND);
            CHECK(kind || (rc == ST_OK) == st_store_knows(s, key_no(k)));
        }
        CHECK(kind || !st_index_built() || strcmp(st_store_index_kind(s), "sqlite, wal") == 0);
        entries = (size_t)stats_of(s).entries;
        st_store_close(s);
    }
    return entries;
}

/* How many entries are there in the end. */
static size_t kill_writers(long n, uint64_t seed)
{
    size_t entries = 0;
    folder_new();
    uint64_t state = seed;
    fflush(NULL);
    for (long i = 0; i < n; i++) {
        pid_t pid[2];
        int many = i % 4 == 3 ? 2 : 1;
        for (int k = 0; k < many; k++) {
            uint64_t own = random_next(&state);
            pid[k] = fork();
            CHECK(pid[k] >= 0);
            if (pid[k] == 0) write_forever(own, false, 0);
        }
        /* Often while it opens, else later. */
        long us = (long)(random_next(&state) % (i % 3 ? 30000 : 4000));
        nanosleep(&(struct timespec){0, us * 1000}, NULL);
        for (int k = 0; k < many; k++) {
            int status;
            CHECK(kill(pid[k], SIGKILL) == 0);
            CHECK(waitpid(pid[k], &status, 0) == pid[k]);
            if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
                fprintf(stderr, "a writer ended by itself, status %x\n", (unsigned)status);
                abort();
            }
        }
        if (i % 10 == 9 || i + 1 == n) entries = expect_whole();
    }
    return entries;
}

static void killed(void) { kill_writers(40, 11); }

static size_t crowd(double seconds, int n)
{
    folder_new();
    fflush(NULL);
    double until = seconds_now() + seconds;
    pid_t pid[64];
    uint64_t state = (uint64_t)time(NULL);
    CHECK(n <= 64);
    for (int i = 0; i < n; i++) {
        uint64_t own = random_next(&state);
        pid[i] = fork();
        CHECK(pid[i] >= 0);
        if (pid[i] == 0) {
            write_forever(own, true, seconds);
            _exit(0);
        }
    }
    while (seconds_now() < until - 1) { /* and some that die */
        pid_t one = fork();
        CHECK(one >= 0);
        if (one == 0) write_forever(random_next(&state), false, 0);
        random_next(&state);
        nanosleep(&(struct timespec){0, (long)(random_next(&state) % 300000000)}, NULL);
        int status;
        kill(one, SIGKILL);
        CHECK(waitpid(one, &status, 0) == one && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    for (int i = 0; i < n; i++) {
        int status;
        CHECK(waitpid(pid[i], &status, 0) == pid[i]);
        CHECK_INT(status, 0);
    }
    return expect_whole();
}

static void together(void) { crowd(1.5, 4); }

/* -- Disks -------------------------------------------------------------------------------------------------
 */

static void child_full(void *ud)
{
    (void)ud;
    signal(SIGXFSZ, SIG_IGN);
    st_store *s = open_with(&QUICK);
    OK(put_no(s, 1, 2, false));
    struct rlimit limit = {100000, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_INT(put_no(s, 9, 6, true), ST_ESYSTEM);
    CHECK_INT(files_in("tmp"), 0);
    CHECK(!st_store_knows(s, key_no(9)));
    CHECK_INT(get_no(s, 9, 6, true), ST_ENOTFOUND);
    OK(get_no(s, 1, 2, false));
    /* Now not even the index grows: files still come and go. */
    limit.rlim_cur = 3000;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (uint64_t i = 10; i < 14; i++) {
        OK(put_no(s, i, 2, false));
        CHECK(st_store_knows(s, key_no(i)));
        OK(get_no(s, i, 2, false));
    }
    limit.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    OK(st_store_refresh(s, NULL));
    OK(put_no(s, 9, 6, true));
    st_store_close(s);
    s = open_with(&QUICK);
    CHECK_INT(stats_of(s).entries, 6);
    st_store_close(s);
}

static void child_tiny_disk(void *ud)
{
    (void)ud;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, "") != 0 ||
        mount("none", folder, "tmpfs", 0, "size=3m") != 0) {
        printf("(no right to mount: full disks by limits alone)\n");
        return;
    }
    static const st_store_options sync = {.build = "b1"};
    st_store *s = open_with(&sync);
    int rc = ST_OK;
    uint64_t n = 0, kept = 0;
    while (n < 100 && (rc = put_no(s, n, 3, true)) == ST_OK)
        n++;
    CHECK_INT(rc, ST_ESYSTEM);
    CHECK(n > 0 && n < 50);
    CHECK_INT(files_in("tmp"), 0);
    for (uint64_t i = 0; i < 200; i++) /* to the last byte */
        if (put_no(s, 1000 + i, 1, false) == ST_OK) OK(get_no(s, 1000 + i, 1, false));
    for (uint64_t i = 0; i < n; i++)
        if (get_no(s, i, 3, true) == ST_OK) kept++;
    CHECK_INT(kept, n);
    st_store_close(s);
    s = open_with(&sync); /* on the full disk */
    for (uint64_t i = 0; i < n; i++)
        OK(get_no(s, i, 3, true));
    OK(st_store_gc(s, 1000000, NULL, NULL));
    CHECK(stats_of(s).bytes <= 1000000);
    OK(put_no(s, 500, 3, true));
    st_store_close(s);
    s = open_with(&sync);
    OK(get_no(s, 500, 3, true));
    st_store_close(s);
    CHECK(umount(folder) == 0);
}

static void full_disk(void)
{
    folder_new();
    in_child(child_full, NULL);
    folder_new();
    if (geteuid() == 0) in_child(child_tiny_disk, NULL);
}

static void look_only(st_store *s, bool sqlite)
{
    CHECK(st_store_read_only(s));
    CHECK_STR(st_store_index_kind(s), sqlite && st_index_built() ? "sqlite, read-only" : "memory");
    st_claim *c;
    CHECK(st_store_knows(s, key_no(1)));
    OK(get_no(s, 1, 2, false));
    CHECK_INT(get_no(s, 2, 2, false), ST_ENOTFOUND);
    CHECK_INT(put_no(s, 2, 2, false), ST_EUNSUPPORTED);
    CHECK_INT(st_store_remove(s, key_no(1), NULL), ST_EUNSUPPORTED);
    CHECK_INT(st_store_gc(s, 0, NULL, NULL), ST_EUNSUPPORTED);
    CHECK_INT(st_store_clear(s, NULL), ST_EUNSUPPORTED);
    CHECK_INT(st_store_claim(s, key_no(1), 0, &c, NULL), ST_EUNSUPPORTED);
    OK(st_store_refresh(s, NULL));
    CHECK_INT(stats_of(s).entries, 1);
    OK(st_store_verify(s, NULL, NULL, NULL, NULL));
    OK(get_no(s, 1, 2, false));
}

static void child_may_not_write(void *ud)
{
    bool damaged = *(bool *)ud;
    if (geteuid() == 0) CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    st_store *s = open_with(&QUICK);
    look_only(s, !damaged);
    made m;
    st_blob *b;
    make_entry(&m, 1, 2, false);
    OK(st_store_get(s, m.item.key, m.item.enc, m.item.enc_len, &b, NULL));
    check_blob(b, &m);
    CHECK(!b->own || geteuid() != 65534);
    st_blob_free(b);
    free_entry(&m);
    st_store_close(s);
    st_error err = {0};
    char path[ST_PATH];
    path_in(path, "below/it");
    CHECK_INT(st_store_open(&meter, path, &QUICK, &s, &err), ST_ESYSTEM);
    CHECK(s == NULL && err.message[0]);
}

static int open_up(const char *path, const struct stat *st, int kind, struct FTW *f)
{
    (void)st, (void)f;
    return chmod(path, kind == FTW_DP ? 0555 : 0444);
}

static int close_again(const char *path, const struct stat *st, int kind, struct FTW *f)
{
    (void)st, (void)f;
    return kind == FTW_D ? chmod(path, 0700) : 0;
}

static void read_only(void)
{
    st_store_options o = QUICK;
    o.read_only = true;
    folder_gone();
    st_store *s;
    CHECK_INT(st_store_open(&meter, folder, &o, &s, NULL), ST_ESYSTEM); /* there is none, and none is made */
    CHECK(access(folder, F_OK) != 0);
    folder_new();
    s = open_with(&o); /* an empty folder is an empty store */
    CHECK_INT(stats_of(s).entries, 0);
    CHECK_INT(files_in("."), 0);
    st_store_close(s);
    s = open_with(&QUICK);
    OK(put_no(s, 1, 2, false));
    st_store *t = open_with(&o); /* beside one that writes */
    look_only(t, true);
    OK(put_no(s, 2, 2, false));
    OK(st_store_refresh(t, NULL));
    CHECK(st_store_knows(t, key_no(2)));
    OK(st_store_remove(s, key_no(2), NULL));
    OK(st_store_refresh(t, NULL));
    CHECK(!st_store_knows(t, key_no(2)));
    st_store_close(s);
    OK(st_store_refresh(t, NULL));
    CHECK(st_store_knows(t, key_no(1)));
    st_store_close(t);
    static const st_store_options sync = {.build = "b1"};
    for (int how = 0; how < 3; how++) {
        bool damaged = how == 2;
        char path[ST_PATH];
        path_in(path, "index.sqlite");
        if (how == 1) { /* it leaves a log */
            s = open_with(&sync);
            OK(put_no(s, 2, 2, false));
            OK(st_store_remove(s, key_no(2), NULL));
            st_store_close(s);
        }
        if (damaged) file_write(path, "rubbish, rubbish", 16);
        CHECK(nftw(folder, open_up, 20, FTW_DEPTH | FTW_PHYS) == 0);
        in_child(child_may_not_write, &damaged);
        CHECK(nftw(folder, close_again, 20, FTW_PHYS) == 0);
    }
}

static void child_shared(void *ud)
{
    (void)ud;
    umask(0);
    st_store *s = open_with(&QUICK);
    CHECK(!st_store_own(s)); /* anybody may have put anything there */
    OK(put_no(s, 1, 1, false));
    made m;
    st_blob *b;
    make_entry(&m, 1, 1, false);
    OK(st_store_get(s, m.item.key, m.item.enc, m.item.enc_len, &b, NULL));
    CHECK(!b->own);
    st_blob_free(b);
    free_entry(&m);
    st_store_close(s);
}

static void owners(void)
{
    folder_new();
    CHECK(chmod(folder, 0777) == 0);
    in_child(child_shared, NULL);
    /* Made for this user alone, with folders above it. */
    char path[ST_PATH];
    path_in(path, "a/b/c");
    st_store *s;
    OK(st_store_open(&meter, path, &QUICK, &s, NULL));
    struct stat st;
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0700);
    CHECK(st_store_own(s));
    CHECK(strcmp(st_store_folder(s) + strlen(st_store_folder(s)) - 6, "/a/b/c") == 0);
    st_store_close(s);
    path_in(path, "file");
    file_write(path, "", 0);
    CHECK_INT(st_store_open(&meter, path, &QUICK, &s, NULL), ST_ESYSTEM);
    CHECK_INT(st_store_open(&meter, "", &QUICK, &s, NULL), ST_EINVAL);
}

/* -- gc ----------------------------------------------------------------------------------------------------
 */

static void gc_order(void)
{
    for (int kind = 0; kind < 2; kind++) {
        folder_new();
        st_store *s = open_with(kind ? &PLAIN : &QUICK);
        made m;
        /* The same bytes: 0 dear, 1 cheap, 2 cheap and asked for often, 3 dear and not asked for in a month,
         * 4 dear and large. */
        static const double seconds[] = {10, 1, 1, 10, 10};
        for (uint64_t i = 0; i < 5; i++) {
            make_entry(&m, 100 + i, 1, false);
            free(m.parts[0].data);
            m.parts[0] = (st_part){calloc(1, i == 4 ? 50000 : 1000), i == 4 ? 50000 : 1000};
            m.item.seconds = seconds[i];
            OK(st_store_put(s, &m.item, NULL));
            st_blob *b;
            for (int k = 0; i == 2 && k < 40; k++) {
                OK(st_store_get(s, m.item.key, m.item.enc, m.item.enc_len, &b, NULL));
                st_blob_free(b);
            }
            free_entry(&m);
        }
        if (!kind) OK(st_store_refresh(s, NULL));
        st_table_find(&s->table, key_no(103))->info.used -= INT64_C(35) * 86400 * 1000000000;
        /* worth a byte: 2: 41, 0: 10, 1: 1, 3: 10/32, 4: 10/40 */
        static const uint64_t order[] = {4, 3, 1, 0, 2};
        for (int i = 0; i < 5; i++) {
            uint64_t bytes = stats_of(s).bytes, freed;
            st_row *r = st_table_find(&s->table, key_no(103));
            if (r) r->info.used = st_store_clock() - INT64_C(35) * 86400 * 1000000000;
            OK(st_store_gc(s, bytes - 1, &freed, NULL));
            CHECK_INT(stats_of(s).entries, 4 - i);
            CHECK(!st_store_knows(s, key_no(100 + order[i])));
            CHECK_INT(stats_of(s).bytes + freed, bytes);
        }
        st_store_close(s);
    }
    /* A store with a limit keeps it. */
    folder_new();
    st_store_options o = QUICK;
    o.max_bytes = 20000;
    st_store *s = open_with(&o);
    for (uint64_t i = 0; i < 100; i++) {
        OK(put_no(s, i, 4, false));
        CHECK(stats_of(s).bytes <= 20000);
    }
    CHECK(stats_of(s).entries > 10);
    CHECK_INT(put_no(s, 1, 2, true), ST_ELIMIT);
    CHECK_INT(files_in("tmp"), 0);
    st_store_close(s);
}

static void gc_leftovers(void)
{
    folder_new();
    st_store *s = open_with(&QUICK);
    char path[ST_PATH];
    for (uint64_t i = 0; i < 4; i++)
        OK(put_no(s, i, 2, false));
    /* A writer that died before it wrote the row; one whose file somebody took; temporaries old and new. */
    st_store *t = open_with(&PLAIN);
    OK(put_no(t, 10, 2, false));
    st_store_close(t);
    path_of(s, 2, path);
    CHECK(unlink(path) == 0);
    struct timespec old[2] = {{time(NULL) - 4000, 0}, {time(NULL) - 4000, 0}};
    path_in(path, "tmp/old");
    file_write(path, "x", 1);
    CHECK(utimensat(AT_FDCWD, path, old, 0) == 0);
    path_in(path, "tmp/new");
    file_write(path, "x", 1);
    path_in(path, "index.sqlite.aside-1");
    file_write(path, "x", 1);
    CHECK(utimensat(AT_FDCWD, path, old, 0) == 0);
    path_in(path, "something of somebody's");
    file_write(path, "x", 1);
    CHECK(utimensat(AT_FDCWD, path, old, 0) == 0);
    CHECK(!st_store_knows(s, key_no(10)) && st_store_knows(s, key_no(2)));
    uint64_t freed;
    OK(st_store_gc(s, UINT64_MAX, &freed, NULL));
    CHECK(st_store_knows(s, key_no(10)) && !st_store_knows(s, key_no(2)));
    CHECK_INT(freed, 0);
    CHECK_INT(files_in("tmp"), 1);
    path_in(path, "index.sqlite.aside-1");
    CHECK(access(path, F_OK) != 0);
    path_in(path, "something of somebody's");
    CHECK(access(path, F_OK) == 0);
    t = open_with(&QUICK);
    CHECK(st_store_knows(t, key_no(10)) && !st_store_knows(t, key_no(2)));
    st_store_close(t);
    /* Somebody else collects: nothing to do. */
    int lock;
    path_in(path, "lock");
    OK(st_lock_take(path, ST_LOCK_GC, 0, &lock, NULL));
    OK(st_store_gc(s, 0, &freed, NULL));
    CHECK(freed == 0 && stats_of(s).entries == 4);
    st_lock_release(lock);
    OK(st_store_gc(s, 0, &freed, NULL));
    CHECK(freed > 0 && stats_of(s).entries == 0);
    st_store_close(s);
}

/* -- Memory
 * -------------------------------------------------------------------------------------------------- */

#define GOOD(call)                                                                                           \
    do {                                                                                                     \
        int rc_ = (call);                                                                                    \
        if (rc_ != ST_OK) {                                                                                  \
            CHECK_INT(rc_, ST_ENOMEM);                                                                       \
            st_store_close(s);                                                                               \
            return rc_;                                                                                      \
        }                                                                                                    \
    } while (0)

static const st_store_options *memory_options;

static int everything(void)
{
    st_store *s = NULL;
    st_claim *c;
    char path[ST_PATH];
    void *enc;
    size_t n;
    seen x = {0};
    GOOD(st_store_open(&meter, folder, memory_options, &s, NULL));
    GOOD(put_no(s, 1, 3, false));
    GOOD(put_no(s, 2, 3, false));
    GOOD(get_no(s, 1, 3, false));
    GOOD(st_store_encoding(s, key_no(1), &enc, &n, NULL));
    meter.release(NULL, enc);
    GOOD(st_store_each(s, see, &x, NULL));
    GOOD(st_store_claim(s, key_no(1), 0, &c, NULL));
    st_store_unclaim(c);
    GOOD(st_store_refresh(s, NULL));
    path_of(s, 2, path);
    unsigned char *b = file_read(path, &n);
    b[5] ^= 1;
    file_write(path, b, n);
    GOOD(st_store_verify(s, NULL, NULL, NULL, NULL));
    GOOD(st_store_gc(s, 10000, NULL, NULL));
    st_store_stats t;
    GOOD(st_store_get_stats(s, &t, NULL));
    GOOD(get_no(s, 1, 3, false)); /* what had been put is there, whatever failed */
    GOOD(st_store_remove(s, key_no(1), NULL));
    GOOD(put_no(s, 3, 1, false));
    GOOD(st_store_clear(s, NULL));
    st_store_close(s);
    return ST_OK;
}

static void without_memory(void)
{
    for (int kind = 0; kind < 2; kind++) {
        memory_options = kind ? &PLAIN : &QUICK;
        long said = 0;
        for (long n = 1;; n++) {
            CHECK(n < 400);
            folder_new();
            if (n % 2) { /* on something that is there, too */
                st_store *s = open_with(memory_options);
                OK(put_no(s, 1, 3, false));
                OK(put_no(s, 7, 3, false));
                st_store_close(s);
            }
            atomic_store(&memory.calls, 0);
            atomic_store(&memory.failed, 0);
            atomic_store(&memory.fail_at, n);
            int rc = everything();
            atomic_store(&memory.fail_at, 0);
            CHECK_INT(atomic_load(&memory.live), 0);
            said += rc == ST_ENOMEM;
            CHECK_INT(files_in("tmp"), 0);
            st_store *s = open_with(memory_options);
            size_t damaged;
            OK(st_store_verify(s, NULL, NULL, &damaged, NULL));
            CHECK(damaged == 0 || rc == ST_ENOMEM);
            OK(put_no(s, 1, 3, false));
            OK(get_no(s, 1, 3, false));
            st_store_close(s);
            if (!atomic_load(&memory.failed)) {
                OK(rc);
                break;
            }
        }
        CHECK(said > 20);
    }
}

int main(int argc, char **argv)
{
    const char *top = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/stratum-store-XXXXXX", top && *top ? top : "/tmp");
    CHECK(mkdtemp(folder) != NULL);
    char *whole = realpath(folder, NULL);
    CHECK(whole && strlen(whole) < sizeof folder);
    snprintf(folder, sizeof folder, "%s", whole);
    free(whole);
    if (argc > 2 && strcmp(argv[1], "kills") == 0) {
        uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t)time(NULL);
        printf("seed %llu\n", (unsigned long long)seed);
        fflush(stdout);
        size_t entries = kill_writers(strtol(argv[2], NULL, 10), seed);
        printf("%s writers killed, %zu entries whole\n", argv[2], entries);
    } else if (argc > 2 && strcmp(argv[1], "crowd") == 0) {
        size_t entries = crowd(strtod(argv[2], NULL), argc > 3 ? atoi(argv[3]) : 8);
        printf("%s seconds, %zu entries whole\n", argv[2], entries);
    } else {
        RUN(round_trip);
        RUN(equal_keys);
        RUN(lists);
        RUN(damaged_bytes);
        RUN(strange_files);
        RUN(verify_finds);
        RUN(damaged_index);
        RUN(versions);
        RUN(two_processes);
        RUN(fork_unseen);
        RUN(network);
        RUN(claims);
        RUN(threads);
        RUN(killed);
        RUN(together);
        RUN(full_disk);
        RUN(read_only);
        RUN(owners);
        RUN(gc_order);
        RUN(gc_leftovers);
        RUN(without_memory);
    }
    folder_gone();
    return 0;
}

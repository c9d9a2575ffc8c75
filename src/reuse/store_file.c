/* store_file.c - one entry of a store as a file.
 *
 *     head     128 bytes (st_file_head): magic, byte order, format, lengths, key, facts, two checksums
 *     meta     a row a part (where, how long, checksum), label, 0, build, 0, the full encoding, zeros
 *     parts    each at a multiple of 64, zeros between them
 *
 * Everything that comes back is covered by a checksum: the head by its own, the meta by one in the head, a
 * part by the one in its row.  Magic, byte order and format come first and stay where they are in every
 * format, so that a file of another version is told from a damaged one.  The head is written last: a file
 * that was not finished has none.  Writers never touch a finished file, so a mapping stays as it was
 * verified.
 *
 * Checksums are st_hash_bytes over blocks of 256 KiB, mixed in order.  A block is hashed while it is in the
 * processor's cache: before it is written, and after it was read.  Reading goes through pread, not through
 * the mapping, because a disk that cannot read answers pread with an error and a mapping with a signal.
 */
#include "store_file.h"

#include "../base/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGN = 64, BLOCK = 256 * 1024 };
static const uint32_t ORDER = 0x01020304;
static const unsigned char MAGIC[8] = {0x89, 'S', 'T', 's', 't', 'o', 'r', '\n'};

_Static_assert(sizeof(st_file_head) == 128 && offsetof(st_file_head, head_sum) == 112,
               "the head is 128 bytes");
_Static_assert(sizeof(st_file_row) == 32, "a row is 32 bytes");

/* -- Sums ------------------------------------------------------------------------------------------ */

static st_hash sum_begin(uint64_t len) { return (st_hash){len, ~len}; }

/* The next block (BLOCK bytes, or the last ones). */
static st_hash sum_add(st_hash sum, const void *block, size_t n)
{
    return st_hash_mix(sum, st_hash_bytes(block, n, n));
}

static st_hash sum_of(const void *data, size_t n)
{
    const unsigned char *p = data;
    st_hash sum = sum_begin(n);
    for (; n > BLOCK; n -= BLOCK, p += BLOCK)
        sum = sum_add(sum, p, BLOCK);
    return sum_add(sum, p, n);
}

/* -- Writing --------------------------------------------------------------------------------------- */

static int put_at(int fd, const void *data, size_t n, uint64_t at, st_error *err)
{
    const unsigned char *p = data;
    while (n) {
        ssize_t k = pwrite(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return st_fail(err, ST_ESYSTEM, "writing an entry: %m");
        p += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return ST_OK;
}

/* A part: each block is hashed, and written while it is in the cache. */
static int put_part(int fd, const st_part *part, uint64_t at, st_hash *sum, st_error *err)
{
    const unsigned char *p = part->data;
    *sum = sum_begin(part->len);
    size_t done = 0;
    do {
        size_t n = part->len - done < BLOCK ? part->len - done : BLOCK;
        *sum = sum_add(*sum, n ? p + done : (const void *)"", n);
        ST_TRY(put_at(fd, n ? p + done : NULL, n, at + done, err));
        done += n;
    } while (done < part->len);
    return ST_OK;
}

/* x rounded up to a multiple of ALIGN, added to *total; false: too large. */
static bool add_aligned(uint64_t *total, uint64_t x)
{
    const uint64_t most = INT64_MAX / 2;
    if (x > most || *total > most) return false;
    *total += (x + ALIGN - 1) / ALIGN * ALIGN;
    return true;
}

/* Lengths of the meta block and of the file. */
static bool layout(const st_store_item *item, size_t label_len, size_t build_len, uint64_t *meta,
                   uint64_t *file)
{
    *meta = 0;
    if (item->enc_len > INT64_MAX / 4 || item->n_parts > UINT32_MAX || label_len > UINT32_MAX ||
        build_len > UINT32_MAX)
        return false;
    if (!add_aligned(meta, item->n_parts * sizeof(st_file_row) + label_len + build_len + 2 + item->enc_len))
        return false;
    *file = sizeof(st_file_head) + *meta;
    for (size_t i = 0; i < item->n_parts; i++)
        if (!add_aligned(file, item->parts[i].len)) return false;
    return true;
}

uint64_t st_file_bytes(const st_store_item *item, const char *build)
{
    uint64_t meta, file;
    return layout(item, item->label ? strlen(item->label) : 0, strlen(build), &meta, &file) ? file : 0;
}

int st_file_write(const st_alloc *a, int fd, const st_store_item *item, const char *build, int64_t created,
                  st_error *err)
{
    const char *label = item->label ? item->label : "";
    size_t label_len = strlen(label), build_len = strlen(build);
    st_file_head head = {.order = ORDER,
                         .format = ST_FILE_FORMAT,
                         .key = item->key,
                         .seconds = item->seconds,
                         .created = created,
                         .kind = item->kind,
                         .enc_len = item->enc_len,
                         .label_len = (uint32_t)label_len,
                         .build_len = (uint32_t)build_len};
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    if (!layout(item, label_len, build_len, &head.meta_bytes, &head.file_bytes))
        return st_fail(err, ST_ELIMIT, "an entry larger than a file can be");
    head.n_parts = (uint32_t)item->n_parts;
    st_file_row *rows = st_mem_zero(a, sizeof head + head.meta_bytes);
    if (!rows) return st_fail(err, ST_ENOMEM, "no memory for what describes an entry");

    /* The block in memory: head, then meta. */
    unsigned char *block = (unsigned char *)rows;
    rows = (st_file_row *)(void *)(block + sizeof head);
    unsigned char *p = (unsigned char *)(rows + item->n_parts);
    memcpy(p, label, label_len);
    p += label_len + 1;
    memcpy(p, build, build_len);
    p += build_len + 1;
    if (item->enc_len) memcpy(p, item->enc, item->enc_len);

    int rc = ST_OK;
    uint64_t at = sizeof head + head.meta_bytes;
    for (size_t i = 0; i < item->n_parts && rc == ST_OK; i++) {
        rows[i].at = at;
        rows[i].len = item->parts[i].len;
        rc = put_part(fd, &item->parts[i], at, &rows[i].sum, err);
        add_aligned(&at, rows[i].len);
    }
    head.meta_sum = sum_of(rows, head.meta_bytes);
    head.head_sum = sum_of(&head, offsetof(st_file_head, head_sum));
    memcpy(block, &head, sizeof head);
    /* The zeros after the last part. */
    if (rc == ST_OK && ftruncate(fd, (off_t)head.file_bytes) != 0)
        rc = st_fail(err, ST_ESYSTEM, "writing an entry: %m");
    if (rc == ST_OK) rc = put_at(fd, block, sizeof head + head.meta_bytes, 0, err);
    st_mem_free(a, block);
    return rc;
}

/* -- Reading --------------------------------------------------------------------------------------- */

static int get_at(int fd, void *data, size_t n, uint64_t at, st_error *err)
{
    unsigned char *p = data;
    while (n) {
        ssize_t k = pread(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return st_fail(err, errno == EIO ? ST_EVERIFY : ST_ESYSTEM, "reading an entry: %m");
        if (k == 0) return st_fail(err, ST_EVERIFY, "the file is short");
        p += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return ST_OK;
}

static int check_head(const st_file_head *h, uint64_t size, st_error *err)
{
    if (memcmp(h->magic, MAGIC, sizeof MAGIC) != 0)
        return st_fail(err, ST_EVERIFY, "not an entry of a store");
    if (h->order != ORDER) return st_fail(err, ST_EVERIFY, "written on a machine of another byte order");
    if (h->format != ST_FILE_FORMAT)
        return st_fail(err, ST_EVERIFY, "format %u, not %u", (unsigned)h->format, (unsigned)ST_FILE_FORMAT);
    if (!st_hash_eq(h->head_sum, sum_of(h, offsetof(st_file_head, head_sum))))
        return st_fail(err, ST_EVERIFY, "the head is damaged");
    if (h->file_bytes != size) return st_fail(err, ST_EVERIFY, "the file has another length than it says");
    uint64_t rows = (uint64_t)h->n_parts * sizeof(st_file_row);
    uint64_t texts = (uint64_t)h->label_len + h->build_len + 2;
    if (h->meta_bytes > size - sizeof *h || h->meta_bytes % ALIGN || rows > h->meta_bytes ||
        texts > h->meta_bytes - rows || h->enc_len > h->meta_bytes - rows - texts)
        return st_fail(err, ST_EVERIFY, "the head makes no sense");
    return ST_OK;
}

static int check_meta(const st_file *f, st_error *err)
{
    const st_file_head *h = &f->head;
    if (!st_hash_eq(h->meta_sum, sum_of(f->meta, h->meta_bytes)))
        return st_fail(err, ST_EVERIFY, "the description is damaged");
    bool good = !f->label[h->label_len] && !f->build[h->build_len] && !memchr(f->label, 0, h->label_len) &&
                !memchr(f->build, 0, h->build_len);
    uint64_t end = sizeof *h + h->meta_bytes;
    for (uint32_t i = 0; i < h->n_parts && good; i++) {
        const st_file_row *r = &f->rows[i];
        good =
            r->at % ALIGN == 0 && r->at >= end && r->at <= h->file_bytes && r->len <= h->file_bytes - r->at;
        end = r->at + r->len;
    }
    return good ? ST_OK : st_fail(err, ST_EVERIFY, "the description makes no sense");
}

int st_file_read(const st_alloc *a, int fd, st_file *f, st_error *err)
{
    *f = (st_file){.fd = fd};
    struct stat st;
    int rc = ST_OK;
    if (fstat(fd, &st) != 0)
        rc = st_fail(err, ST_ESYSTEM, "reading an entry: %m");
    else if (!S_ISREG(st.st_mode))
        rc = st_fail(err, ST_EVERIFY, "not a file");
    else if ((uint64_t)st.st_size < sizeof f->head)
        rc = st_fail(err, ST_EVERIFY, "the file is short");
    if (rc == ST_OK) rc = get_at(fd, &f->head, sizeof f->head, 0, err);
    if (rc == ST_OK) rc = check_head(&f->head, (uint64_t)st.st_size, err);
    if (rc == ST_OK) {
        const st_file_head *h = &f->head;
        f->own = st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH));
        f->meta = st_mem_new(a, h->meta_bytes);
        if (!f->meta)
            rc = st_fail(err, ST_ENOMEM, "no memory for what describes an entry");
        else
            rc = get_at(fd, f->meta, h->meta_bytes, sizeof *h, err);
        if (rc == ST_OK) {
            f->rows = f->meta;
            f->label = (const char *)(f->rows + h->n_parts);
            f->build = f->label + h->label_len + 1;
            f->enc = f->build + h->build_len + 1;
            rc = check_meta(f, err);
        }
    }
    if (rc != ST_OK) st_file_close(a, f);
    return rc;
}

int st_file_open(const st_alloc *a, const char *path, const st_hash *key, st_file *f, st_error *err)
{
    *f = (st_file){.fd = -1};
    /* O_NONBLOCK: whatever lies there, opening it does not wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        int code = errno == ENOENT || errno == ENOTDIR ? ST_ENOTFOUND
                   : errno == ELOOP || errno == EIO    ? ST_EVERIFY
                                                       : ST_ESYSTEM;
        return st_fail(err, code, "opening an entry: %m");
    }
    ST_TRY(st_file_read(a, fd, f, err));
    if (key && !st_hash_eq(*key, f->head.key)) {
        st_file_close(a, f);
        return st_fail(err, ST_EVERIFY, "the file is that of another key");
    }
    return ST_OK;
}

void st_file_close(const st_alloc *a, st_file *f)
{
    if (f->fd >= 0) close(f->fd);
    st_mem_free(a, f->meta);
    *f = (st_file){.fd = -1};
}

static int verify_part(const st_file *f, uint32_t i, void *block, st_error *err)
{
    const st_file_row *r = &f->rows[i];
    st_hash sum = sum_begin(r->len);
    uint64_t done = 0;
    do {
        size_t n = r->len - done < BLOCK ? (size_t)(r->len - done) : BLOCK;
        ST_TRY(get_at(f->fd, block, n, r->at + done, err));
        sum = sum_add(sum, block, n);
        done += n;
    } while (done < r->len);
    return st_hash_eq(sum, r->sum) ? ST_OK : st_fail(err, ST_EVERIFY, "part %u is damaged", (unsigned)i);
}

int st_file_verify(const st_alloc *a, const st_file *f, st_error *err)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < f->head.n_parts; i++)
        if (f->rows[i].len > most) most = f->rows[i].len;
    void *block = st_mem_new(a, most < BLOCK ? (size_t)most : BLOCK);
    if (!block) return st_fail(err, ST_ENOMEM, "no memory to read an entry");
    int rc = ST_OK;
    for (uint32_t i = 0; i < f->head.n_parts && rc == ST_OK; i++)
        rc = verify_part(f, i, block, err);
    st_mem_free(a, block);
    return rc;
}

/* -- Mapping --------------------------------------------------------------------------------------- */

typedef struct mapped {
    st_blob blob;
    const st_alloc *a;
    void *map;
    size_t map_len;
    st_part parts[];
} mapped;

int st_file_map(const st_alloc *a, const st_file *f, st_blob **out, st_error *err)
{
    const st_file_head *h = &f->head;
    *out = NULL;
    mapped *m = st_mem_zero(a, sizeof *m + h->n_parts * sizeof m->parts[0]);
    if (!m) return st_fail(err, ST_ENOMEM, "no memory for an entry");
    m->a = a;
    m->map_len = (size_t)h->file_bytes;
    /* Pages that are only read need no room in the swap, however many there are. */
    m->map = mmap(NULL, m->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, f->fd, 0);
    if (m->map == MAP_FAILED) {
        int code = errno == ENOMEM ? ST_ENOMEM : ST_ESYSTEM;
        st_fail(err, code, "mapping an entry: %m");
        st_mem_free(a, m);
        return code;
    }
    for (uint32_t i = 0; i < h->n_parts; i++)
        m->parts[i] = (st_part){(unsigned char *)m->map + f->rows[i].at, (size_t)f->rows[i].len};
    m->blob = (st_blob){h->n_parts, m->parts, h->seconds, h->kind, f->own};
    *out = &m->blob;
    return ST_OK;
}

void st_blob_free(st_blob *b)
{
    if (!b) return;
    mapped *m = (mapped *)(void *)b;
    munmap(m->map, m->map_len);
    st_mem_free(m->a, m);
}

/* fuzz_store.c - files of the store, whole and broken, read as an entry (src/reuse/store_file.c).
 *
 * An entry with random parts is written.  Then its file is damaged: bits, stretches of bytes, its length,
 * fields of the head and rows of the parts set to absurd numbers.  Either the reader refuses it, or all of
 * its bytes are what was written.
 *
 * On half of the inputs the checksums of head and description are made right again afterwards: what an
 * attacker would do, and what no damage does.  Then nothing is promised of the content, but the reader stays
 * inside the file, and every part that it gives can be read to its end.  Some inputs are a file as they are.
 */
#include "driver.h"
#include "reuse/store_file.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 5, MOST_LEN = 400 };

typedef struct entry {
    st_store_item item;
    st_part parts[MOST];
    uint8_t bytes[MOST][MOST_LEN], enc[MOST_LEN];
    char label[20], build[20];
} entry;

static void make(program *b, entry *e)
{
    memset(e, 0, sizeof *e);
    e->item =
        (st_store_item){.key = {word(b), word(b)}, .enc = e->enc, .enc_len = byte(b), .label = e->label};
    e->item.kind = byte(b);
    e->item.n_parts = byte(b) % (MOST + 1);
    e->item.parts = e->parts;
    for (size_t i = 0; i < e->item.enc_len; i++)
        e->enc[i] = (uint8_t)(i * 7 + e->item.kind);
    for (unsigned i = byte(b) % 19; i > 0; i--)
        e->label[i - 1] = (char)('a' + i);
    for (unsigned i = byte(b) % 19; i > 0; i--)
        e->build[i - 1] = (char)('A' + i);
    for (size_t p = 0; p < e->item.n_parts; p++) {
        e->parts[p] = (st_part){e->bytes[p], byte(b) * (size_t)(byte(b) % 2 ? 1 : 0)};
        for (size_t i = 0; i < e->parts[p].len; i++)
            e->bytes[p][i] = (uint8_t)(i * 13 + p + 1);
    }
}

/* As store_file.c makes them for what is shorter than a block. */
static st_hash sum(const void *p, size_t n)
{
    return st_hash_mix((st_hash){n, ~(uint64_t)n}, st_hash_bytes(p, n, n));
}

static void make_right(uint8_t *file, size_t n)
{
    st_file_head h;
    if (n < sizeof h) return;
    memcpy(&h, file, sizeof h);
    if (h.meta_bytes <= n - sizeof h && h.meta_bytes < 100000)
        h.meta_sum = sum(file + sizeof h, h.meta_bytes);
    h.head_sum = sum(&h, offsetof(st_file_head, head_sum));
    memcpy(file, &h, sizeof h);
}

static void damage(program *b, uint8_t *file, size_t *n, size_t room)
{
    for (unsigned k = byte(b) % 4 + 1; k; k--) {
        size_t at = *n ? word(b) % *n : 0;
        static const uint64_t absurd[] = {
            0, 1, 63, 64, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 63, 1u << 20};
        uint64_t x = absurd[byte(b) % 9];
        switch (byte(b) % 8) {
        case 0:
        case 1:
            if (*n) file[at] ^= (uint8_t)(1u << (byte(b) % 8));
            break;
        case 2:
            for (unsigned i = byte(b); i && at < *n; i--)
                file[at++] = (uint8_t)byte(b);
            break;
        case 3: *n = at; break;
        case 4: {
            size_t more = byte(b);
            if (*n + more > room) more = room - *n;
            memset(file + *n, 0, more);
            *n += more;
            break;
        }
        case 5: /* a field of the head */
            at = 8 * (byte(b) % 14);
            if (at + 8 <= *n) memcpy(file + at, &x, byte(b) % 2 ? 8 : 4);
            break;
        default: /* a row */
            at = sizeof(st_file_head) + 8 * (byte(b) % (4 * MOST));
            if (at + 8 <= *n) memcpy(file + at, &x, 8);
        }
    }
}

static uint64_t touch(const void *p, size_t n)
{
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++)
        x += ((const volatile uint8_t *)p)[i];
    return x;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static entry e;
    static uint8_t file[1 << 16], whole[1 << 16];
    program b = {data, n};
    long before = atomic_load(&blocks);
    unsigned how = byte(&b);
    int fd = memfd_create("entry", MFD_CLOEXEC);
    CHECK(fd >= 0);
    size_t len;
    if (how % 16 == 0) { /* the input itself */
        len = b.left;
        memcpy(file, b.p, len);
        if (how & 16) make_right(file, len);
    } else {
        make(&b, &e);
        CHECK(st_file_write(&counting, fd, &e.item, e.build, 5, NULL) == ST_OK);
        struct stat st;
        CHECK(fstat(fd, &st) == 0 && (size_t)st.st_size < sizeof file);
        len = (size_t)st.st_size;
        CHECK(len == st_file_bytes(&e.item, e.build) && len % 64 == 0);
        CHECK(pread(fd, file, len, 0) == (ssize_t)len);
        memcpy(whole, file, len);
        if (how % 16 > 1) damage(&b, file, &len, sizeof file);
        if (how & 16) make_right(file, len);
    }
    CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, file, len, 0) == (ssize_t)len);

    st_file f;
    st_error err = {0};
    st_blob *blob = NULL;
    int rc = st_file_read(&counting, fd, &f, &err);
    if (rc == ST_OK) {
        CHECK(f.head.file_bytes == len);
        touch(f.label, strlen(f.label));
        touch(f.build, strlen(f.build));
        touch(f.enc, f.head.enc_len);
        rc = st_file_verify(&counting, &f, &err);
        if (rc == ST_OK) CHECK(st_file_map(&counting, &f, &blob, NULL) == ST_OK);
        if (blob) {
            for (size_t p = 0; p < blob->n_parts; p++) {
                CHECK((uintptr_t)blob->parts[p].data % 64 == 0);
                touch(blob->parts[p].data, blob->parts[p].len);
            }
        }
        if (blob && how % 16 && !(how & 16)) { /* not forged: then it is what was written */
            CHECK(st_hash_eq(f.head.key, e.item.key) && blob->kind == e.item.kind);
            CHECK(strcmp(f.label, e.label) == 0 && strcmp(f.build, e.build) == 0);
            CHECK(f.head.enc_len == e.item.enc_len && memcmp(f.enc, e.enc, e.item.enc_len) == 0);
            CHECK(blob->n_parts == e.item.n_parts);
            for (size_t p = 0; p < blob->n_parts; p++)
                CHECK(blob->parts[p].len == e.parts[p].len &&
                      memcmp(blob->parts[p].data, e.bytes[p], e.parts[p].len) == 0);
        }
        st_file_close(&counting, &f);
    } else {
        CHECK(rc == ST_EVERIFY && err.message[0]);
        CHECK(how % 16 != 1); /* undamaged */
    }
    CHECK(how % 16 != 1 || blob);
    st_blob_free(blob);
    CHECK(atomic_load(&blocks) == before);
    return 0;
}

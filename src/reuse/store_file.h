/* store_file.h - one entry of a store as a file (store_file.c); used by store.c, the tests and the fuzz
 * driver.
 */
#ifndef ST_STORE_FILE_H
#define ST_STORE_FILE_H

#include "stratum/store.h"

#include <sys/types.h>

/* Version of the layout of files.  A file of another one is a miss. */
enum { ST_FILE_FORMAT = 1 };

/* The first bytes of a file, in the byte order of the machine that wrote it. */
typedef struct st_file_head {
    unsigned char magic[8];
    uint32_t order, format;
    uint64_t file_bytes; /* of the whole file */
    uint64_t meta_bytes; /* from the end of this head to the first part */
    st_hash key;
    double seconds;
    int64_t created; /* nanoseconds since 1970 */
    uint32_t kind, n_parts;
    uint64_t enc_len;
    uint32_t label_len, build_len;
    uint64_t zero;
    st_hash meta_sum; /* of those meta_bytes */
    st_hash head_sum; /* of what comes before it */
} st_file_head;

/* Where a part lies, and its checksum. */
typedef struct st_file_row {
    uint64_t at, len;
    st_hash sum;
} st_file_row;

/* What was read of a file: its head and what stands before the parts. */
typedef struct st_file {
    int fd;
    st_file_head head;
    bool own;   /* this user's, and nobody else may write to it */
    void *meta; /* holds what the next four point to */
    const st_file_row *rows;
    const char *label; /* ends with 0, as build does */
    const char *build;
    const void *enc;
} st_file;

/* How many bytes an item takes; 0: more than can be counted. */
uint64_t st_file_bytes(const st_store_item *item, const char *build);

/* Write an item to an empty file. */
int st_file_write(const st_alloc *a, int fd, const st_store_item *item, const char *build, int64_t created,
                  st_error *err) ST_USE;

/* Read head and meta of an open file, which `f` owns from then on, or which is closed on failure. ST_EVERIFY:
 * this is no entry of this format, or a damaged one; `err` says why. */
int st_file_read(const st_alloc *a, int fd, st_file *f, st_error *err) ST_USE;

/* The same by name; `key` (may be NULL) is what it must hold.  ST_ENOTFOUND: no such file. */
int st_file_open(const st_alloc *a, const char *path, const st_hash *key, st_file *f, st_error *err) ST_USE;
void st_file_close(const st_alloc *a, st_file *f);

/* Compare the checksums of all parts; ST_EVERIFY: damaged. */
int st_file_verify(const st_alloc *a, const st_file *f, st_error *err) ST_USE;

/* Map the parts of a file that was verified. */
int st_file_map(const st_alloc *a, const st_file *f, st_blob **out, st_error *err) ST_USE;

#endif

/* arrow.h - string arrays of Arrow's C data interface, read with the checks that it allows; private to the
 * library and the extension.
 *
 * The interface tells a consumer no size of a buffer, but for those that views point into.  What is checked:
 * counts and lengths by themselves, that buffers are there, that offsets are not negative, do not decrease
 * from a string's begin to its end, and stay below the offset after the last row (as long as the text must
 * be); that views stay in their buffer; that indices stay in their dictionary.  What cannot be: that a
 * validity bitmap, offsets, views or indices have as many rows as the array says, and that the text has as
 * many bytes as its last offset says.
 *
 * Nothing need be aligned: numbers are copied out.
 *
 * Threads: an st_strings is not changed by reading; any number of threads may read.
 * Memory:  nothing is allocated; everything points into the array, which must outlive it.
 */
#ifndef ST_NATIVE_ARROW_H
#define ST_NATIVE_ARROW_H

#include "base/internal.h"

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};
struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};
#endif
#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE
struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};
#endif

typedef enum st_string_kind {
    ST_OFFSETS_32, /* u */
    ST_OFFSETS_64, /* U */
    ST_VIEWS,      /* vu */
} st_string_kind;

/* An array opened for reading; rows count from 0, the array's offset being counted in. */
typedef struct st_strings {
    st_string_kind kind;
    int64_t n;
    const uint8_t *bits; /* validity; NULL: no nulls */
    int64_t first;       /* the bit of row 0 */
    const uint8_t *rows; /* offsets or views, from row 0 on */
    const uint8_t *text; /* between offsets; NULL: all strings are empty */
    int64_t end;         /* the offset after the last row */
    const void **more;   /* what views point into, */
    const uint8_t *sizes;
    int64_t n_more; /* how many those are */
} st_strings;

/* What length, offset and null count say by themselves: ST_EINVAL where they cannot be. */
int st_arrow_counts(const struct ArrowArray *array) ST_USE;

/* Open an array of type u, U or vu.  ST_EUNSUPPORTED: another type; ST_EINVAL: an array that is broken. */
int st_strings_open(st_strings *s, const struct ArrowSchema *schema, const struct ArrowArray *array) ST_USE;

/* `fn` for each array of a stream, until it returns something else than ST_OK: that comes back.  ST_EHOST:
 * the stream failed.  Schema and arrays are given back; the stream is the caller's. */
typedef int (*st_arrow_fn)(void *ud, const struct ArrowSchema *schema, const struct ArrowArray *array);
int st_arrow_each(struct ArrowArrayStream *stream, st_arrow_fn fn, void *ud) ST_USE;

static inline bool st_bit_null(const uint8_t *bits, int64_t i)
{
    return bits && !(bits[i >> 3] >> (i & 7) & 1);
}

static inline bool st_strings_null(const st_strings *s, int64_t row)
{
    return st_bit_null(s->bits, s->first + row);
}

static inline bool st_strings_between(const st_strings *s, int64_t from, int64_t to, const uint8_t **p,
                                      size_t *len)
{
    if (from < 0 || to < from || to > s->end || (!s->text && to != from)) return false;
    *p = s->text ? s->text + from : (const uint8_t *)"";
    *len = (size_t)(to - from);
    return true;
}

/* The string of a row that is not null; false: it is broken.  `kind` is s->kind (a loop for each kind, with a
 * constant here, takes no time to ask). */
static inline bool st_strings_at(const st_strings *s, st_string_kind kind, int64_t row, const uint8_t **p,
                                 size_t *len)
{
    if (kind == ST_OFFSETS_32) {
        int32_t off[2];
        memcpy(off, s->rows + 4 * row, sizeof off);
        return st_strings_between(s, off[0], off[1], p, len);
    }
    if (kind == ST_OFFSETS_64) {
        int64_t off[2];
        memcpy(off, s->rows + 8 * row, sizeof off);
        return st_strings_between(s, off[0], off[1], p, len);
    }
    /* 16 bytes: length; up to 12 bytes, or 4 bytes, number of the buffer, offset in it */
    const uint8_t *view = s->rows + 16 * row;
    int32_t n, which, at;
    memcpy(&n, view, 4);
    if (n < 0) return false;
    *len = (size_t)n;
    if (n <= 12) {
        *p = view + 4;
        return true;
    }
    memcpy(&which, view + 8, 4);
    memcpy(&at, view + 12, 4);
    if (which < 0 || which >= s->n_more || at < 0 || !s->more[which]) return false;
    int64_t size;
    memcpy(&size, s->sizes + 8 * (int64_t)which, 8);
    if ((int64_t)at + n > size) return false;
    *p = (const uint8_t *)s->more[which] + at;
    return true;
}

#endif

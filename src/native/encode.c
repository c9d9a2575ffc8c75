/* encode.c - see encode.h.
 *
 * A row whose string was the last one in its line of a small cache is not looked up: 4,096 lines of 16 bytes,
 * found by the string's ends and its length.  Measured on 100,000 rows: 20 strings 0.3 ms, and 0.9 with
 * lookups alone; 1,000 strings of 20 bytes 0.7, and 2.2.
 */
#include "native/encode.h"

enum { LINE_BITS = 12 };

typedef struct line {
    uint64_t ends; /* first and last four bytes */
    uint32_t len, code;
} line;

static inline uint32_t load32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* First and last bytes: with the length, all of a string of up to eight. */
static inline uint64_t ends_of(const uint8_t *p, size_t len)
{
    if (len >= 4) return load32(p) | (uint64_t)load32(p + len - 4) << 32;
    if (len == 0) return 0;
    return p[0] | (uint64_t)p[len / 2] << 8 | (uint64_t)p[len - 1] << 16;
}

static inline int number(st_terms *t, line *lines, const uint8_t *p, size_t len, size_t most, uint32_t *code)
{
    uint64_t ends = ends_of(p, len);
    line *l = &lines[((ends ^ len << 29) * 0x9E3779B97F4A7C15u) >> (64 - LINE_BITS)];
    if (l->ends == ends && l->len == len && l->code != ST_NO_CODE &&
        (len <= 8 || memcmp(t->bytes + t->off[l->code], p, len) == 0)) {
        *code = l->code;
        return ST_OK;
    }
    ST_TRY(st_terms_add(t, p, len, code));
    if (t->n > most) return ST_ELIMIT;
    *l = (line){ends, (uint32_t)len, *code};
    return ST_OK;
}

/* What is done with a row's string; NULL: a null. */
typedef int (*row_fn)(void *ud, int64_t row, const uint8_t *p, size_t len);

#define EACH(KIND)                                                                                           \
    case KIND:                                                                                               \
        for (int64_t r = 0; r < s.n; r++) {                                                                  \
            const uint8_t *p = NULL;                                                                         \
            size_t len = 0;                                                                                  \
            if (!st_strings_null(&s, r) && !st_strings_at(&s, KIND, r, &p, &len)) return ST_EINVAL;          \
            ST_TRY(row(ud, r, p, len));                                                                      \
        }                                                                                                    \
        return ST_OK;

/* (Inlined with its `row` into each of the loops.) */
static inline __attribute__((always_inline)) int
each_row(const struct ArrowSchema *schema, const struct ArrowArray *array, row_fn row, void *ud)
{
    st_strings s;
    ST_TRY(st_strings_open(&s, schema, array));
    switch (s.kind) {
        EACH(ST_OFFSETS_32)
        EACH(ST_OFFSETS_64)
        EACH(ST_VIEWS)
    }
    return ST_EUNSUPPORTED;
}

typedef struct numbering {
    st_terms *t;
    line *lines;
    size_t most, n_nulls;
    uint32_t *codes;
} numbering;

static inline int number_row(void *ud, int64_t row, const uint8_t *p, size_t len)
{
    numbering *w = ud;
    if (p) return number(w->t, w->lines, p, len, w->most, &w->codes[row]);
    w->codes[row] = ST_NO_CODE;
    w->n_nulls++;
    return ST_OK;
}

int st_encode_arrow(st_terms *t, const struct ArrowSchema *schema, const struct ArrowArray *array,
                    size_t most, uint32_t *codes, size_t *n_nulls)
{
    size_t size = sizeof(line) << LINE_BITS;
    numbering w = {t, st_mem_new(t->a, size), most, 0, codes};
    if (!w.lines) return ST_ENOMEM;
    memset(w.lines, 0xFF, size);
    int rc = each_row(schema, array, number_row, &w);
    st_mem_free(t->a, w.lines);
    *n_nulls += w.n_nulls;
    return rc;
}

typedef struct dating {
    const st_date_layout *layout;
    int64_t *out;
} dating;

static inline int date_row(void *ud, int64_t row, const uint8_t *p, size_t len)
{
    dating *w = ud;
    w->out[row] = ST_NO_DATE;
    return !p || st_date_read(w->layout, p, len, &w->out[row]) ? ST_OK : ST_EUNSUPPORTED;
}

int st_encode_arrow_dates(const st_date_layout *layout, const struct ArrowSchema *schema,
                          const struct ArrowArray *array, int64_t *out)
{
    dating w = {layout, out};
    return each_row(schema, array, date_row, &w);
}

typedef struct looking {
    const st_terms *some;
    uint64_t lengths;  /* of the strings, up to 62; the last bit: longer ones */
    uint64_t first[4]; /* which bytes they begin with */
} looking;

static inline uint64_t length_bit(size_t len) { return UINT64_C(1) << (len < 63 ? len : 63); }

static inline bool is_space(uint8_t c) { return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31); }

/* Few strings are looked up: most have another length or begin with another byte. */
static inline int look_row(void *ud, int64_t row, const uint8_t *p, size_t len)
{
    (void)row;
    const looking *w = ud;
    if (!p) return ST_OK;
    if (len && (p[0] <= ' ' || p[0] >= 0x80)) {
        size_t i = 0;
        while (i < len && (is_space(p[i]) || p[i] >= 0x80))
            i++;
        if (i == len) return ST_ELIMIT;
    }
    if (!(w->lengths & length_bit(len)) || (len && !(w->first[p[0] >> 6] >> (p[0] & 63) & 1))) return ST_OK;
    return st_terms_find(w->some, p, len) == ST_NO_TERM ? ST_OK : ST_ELIMIT;
}

int st_encode_arrow_among(const st_terms *some, const struct ArrowSchema *schema,
                          const struct ArrowArray *array, bool *found)
{
    looking w = {.some = some};
    for (size_t i = 0; i < some->n; i++) {
        size_t len = (size_t)(some->off[i + 1] - some->off[i]);
        uint8_t c = len ? some->bytes[some->off[i]] : 0;
        w.lengths |= length_bit(len);
        if (len) w.first[c >> 6] |= UINT64_C(1) << (c & 63);
    }
    int rc = each_row(schema, array, look_row, &w);
    if (rc != ST_ELIMIT) return rc;
    *found = true;
    return ST_OK;
}

/* fuzz_arrow.c - columns of strings as Arrow's C data, whole and broken, read as text (st_column_add_arrow),
 * as numbers of categories, as dates and looked through (st_encode_arrow*).
 *
 * Arrays have each layout (u, U, vu, dictionaries of those with each type of index), begin at an offset, have
 * bitmaps of nulls or none, buffers at odd addresses, and no byte beyond what the interface asks for: ASan
 * sees a read beside them.  What is broken on purpose is what a consumer can see: negative and absurd
 * lengths, offsets and null counts, buffers that are missing or too few, another format, offsets that are
 * negative, decrease or leave the text, views of negative length or out of their buffers, sizes of those too
 * small, indices out of their dictionary.  The driver reads each array slowly, by the letter of the format,
 * and says which rows come before the first broken one; the library must read those, and no others.  Text
 * that is no UTF-8 is numbered by encoders, byte for byte, and refused as text.
 *
 * What no consumer can see, and is therefore not tried: an array that claims more rows than its bitmap, its
 * offsets, views or indices have, and a last offset beyond the text.  The interface tells no such size.
 */
#include "driver.h"
#include "native/encode.h"
#include "native/text.h"

enum { MOST = 24, MOST_TEXT = 40 };

/* -- Buffers of exact size ----------------------------------------------------------------------------------
 */

static void *held[64];
static size_t n_held;

/* A copy with nothing beside it, at an address that need not be even. */
static void *keep(const void *p, size_t n, bool odd)
{
    uint8_t *q = malloc(n + odd + (n + odd == 0));
    CHECK(q != NULL && n_held < 64);
    held[n_held++] = q;
    if (n) memcpy(q + odd, p, n);
    return q + odd;
}

static void release_all(void)
{
    while (n_held)
        free(held[--n_held]);
}

/* -- What an array means
 * ------------------------------------------------------------------------------------- */

typedef struct row {
    enum { STRING, NULL_ROW, BROKEN } is;
    const uint8_t *p;
    size_t len;
} row;

/* An array, and what a reader is to find in it. */
typedef struct column {
    struct ArrowSchema schema;
    struct ArrowArray array;
    const void *buffers[8];
    int opens; /* ST_OK, or how opening it fails */
    size_t n;
    row rows[MOST];
} column;

static bool set(const uint8_t *bits, size_t i) { return !bits || (bits[i / 8] & (1u << i % 8)) != 0; }

/* A header that is broken, in one of the ways that show.  `n`: rows that it has. */
static void break_header(program *b, column *c, int min_buffers)
{
    static const int64_t absurd[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX / 16, INT64_MAX - 1};
    unsigned how = byte(b), k = byte(b);
    bool empty = c->n == 0;
    switch (how % 8) {
    case 0: c->array.length = absurd[k % 5], c->opens = ST_EINVAL; break;
    case 1: c->array.offset = absurd[k % 5], c->opens = ST_EINVAL; break;
    case 2:
        c->array.null_count = k % 2 ? -2 - (int64_t)(k / 2) : (int64_t)c->n + 1 + k / 2, c->opens = ST_EINVAL;
        break;
    case 3:
        c->array.n_buffers = k % 8 ? (int64_t)(k % (unsigned)min_buffers) : -1;
        c->opens = empty ? ST_OK : ST_EINVAL;
        break;
    case 4:
        c->array.buffers = NULL;
        c->opens = empty ? ST_OK : ST_EINVAL;
        break;
    case 5:
        c->buffers[1] = NULL;
        c->opens = empty ? ST_OK : ST_EINVAL;
        break;
    case 6:
        c->schema.format = NULL;
        c->opens = ST_EINVAL;
        break;
    default: {
        static const char *const formats[] = {"z", "", "uu", "vz", "g", "+l", "b", "v"};
        c->schema.format = formats[k % 8];
        c->opens = ST_EUNSUPPORTED;
    }
    }
}

static size_t make_string(program *b, uint8_t *s)
{
    unsigned k = byte(b);
    size_t n = 0;
    switch (k % 8) {
    case 0: return 0;
    case 1:
        return (size_t)sprintf((char *)s, "%04u-%02u-%02u", 1900 + byte(b), 1 + byte(b) % 12,
                               1 + byte(b) % 31);
    case 2: /* white space and what is not ASCII */
        for (unsigned i = 0; i < k / 16 % 8; i++) {
            static const char *const pieces[] = {
                " ", "\t", "\n", "\x1f", "\xc2\xa0", "\xe2\x80\x83", "\xf0\x9f\x98\x80", " "};
            const char *piece = pieces[byte(b) % 8];
            memcpy(s + n, piece, strlen(piece));
            n += strlen(piece);
        }
        return n;
    case 3: /* equal ends, long enough not to fit into a view */
        memcpy(s, "begin ............. end", 23);
        s[8 + k / 32] = (uint8_t)('0' + byte(b) % 3);
        return 23;
    case 5:
        if (k & 64) { /* a sequence at the ends of what is UTF-8 */
            static const uint8_t ends[] = {0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0};
            s[n++] = (uint8_t)(0xC0 + byte(b) % 0x38);
            for (size_t more = s[0] < 0xE0 ? 1 : s[0] < 0xF0 ? 2 : 3; more; more--)
                s[n++] = 0x80;
            s[1] = ends[byte(b) % 8];
            if (byte(b) % 8 == 0) s[n - 1] = ends[byte(b) % 8];
            return n;
        }
        /* fall through */
    default: {
        size_t len = k % 8 == 4 ? byte(b) % MOST_TEXT : k / 8 % 4;
        for (n = 0; n < len; n++)
            s[n] = (uint8_t)(k % 8 == 4 && k & 32 ? byte(b) : byte(b) & 0x7F);
        return n;
    }
    }
}

/* An array of strings; `n` rows after some that are skipped. */
static void make_strings(program *b, column *c, bool breaks)
{
    uint8_t text[2 * MOST * MOST_TEXT], bits[MOST], views[2 * MOST][16];
    int64_t off[2 * MOST + 1] = {0}, sizes[3] = {0};
    size_t n_text = 0, lead = byte(b) % 20, n = byte(b) % MOST, all = lead + n;
    unsigned kind = byte(b), harm = breaks ? byte(b) : 0;
    bool odd = kind / 4 % 4 == 0;
    int n_more = (int)(kind / 32 % 3);
    size_t cut[4] = {0}; /* where the buffers of views begin in the text */
    *c = (column){.n = n, .opens = ST_OK};
    memset(views, 0, sizeof views);
    memset(bits, 0, sizeof bits);
    if (kind % 8 == 5)
        n_text = (size_t)(off[0] = (int64_t)make_string(b, text)); /* text before the first one */
    for (size_t i = 0; i < all; i++) {
        uint8_t s[MOST_TEXT];
        size_t len = make_string(b, s);
        if (n_text + len > sizeof text) len = 0;
        memcpy(text + n_text, s, len);
        n_text += len;
        off[i + 1] = (int64_t)n_text;
        if (byte(b) % 4) bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
    }
    bool nulls = kind / 16 % 2;
    const uint8_t *valid = nulls ? keep(bits, (all + 7) / 8, odd) : NULL;
    int64_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += !set(valid, lead + i);
    c->array = (struct ArrowArray){.length = (int64_t)n,
                                   .offset = (int64_t)lead,
                                   .null_count = kind % 2 ? count : -1,
                                   .n_buffers = 3,
                                   .buffers = c->buffers};
    c->buffers[0] = valid;
    /* offsets anywhere but after the last row, where one has to stay in the text */
    for (unsigned k = kind % 3 != 2 && harm % 4 == 1 ? 1 + byte(b) % 3 : 0; k && all; k--) {
        static const int64_t odd_ones[] = {-1, INT32_MIN, INT32_MAX, 0, INT64_MIN, INT64_MAX};
        size_t i = byte(b) % (all + 1);
        unsigned x = byte(b);
        int64_t to = x % 2 ? odd_ones[x / 2 % 6] : (int64_t)(x / 2);
        if (i == all && to > (int64_t)n_text) to = (int64_t)n_text;
        off[i] = to;
    }
    if (kind % 3 == 2) {
        c->schema.format = "vu";
        for (int k = 1; k < n_more; k++)
            cut[k] = cut[k - 1] + (n_text - cut[k - 1]) / 2;
        if (n_more) cut[n_more] = n_text;
        for (size_t i = 0; i < all; i++) {
            int64_t from = off[i], len = off[i + 1] - from;
            int which = 0;
            while (which + 1 < n_more && (int64_t)cut[which + 1] <= from)
                which++;
            from -= (int64_t)cut[which];
            int32_t put[2] = {which, (int32_t)from}, size = (int32_t)len;
            unsigned x = harm % 4 == 2 ? byte(b) : 0;
            if (x % 8 == 1) put[0] = (int32_t)(byte(b) % 8) - 3;
            if (x % 8 == 2) put[1] = (int32_t)word(b);
            if (x % 8 == 3) size = (int32_t)word(b);
            if (x % 8 == 4) size = INT32_MAX, put[1] = INT32_MAX;
            memcpy(views[i], &size, 4);
            if (size > 12) {
                memcpy(views[i] + 8, put, 8);
            } else if (size > 0) {
                memcpy(views[i] + 4, text + off[i], (size_t)(size < len ? size : len));
            }
        }
        c->buffers[1] = keep(views, all * 16, odd);
        c->array.n_buffers = 3 + n_more;
        for (int k = 0; k < n_more; k++) {
            c->buffers[2 + k] = keep(text + cut[k], cut[k + 1] - cut[k], odd);
            sizes[k] = (int64_t)(cut[k + 1] - cut[k]);
            if (harm % 16 == 3) sizes[k] -= byte(b);
            if (harm % 32 == 7) c->buffers[2 + k] = NULL;
        }
        c->buffers[2 + n_more] = keep(sizes, (size_t)n_more * 8, odd);
        for (size_t i = 0; i < n; i++) {
            row *r = &c->rows[i];
            const uint8_t *view = (const uint8_t *)c->buffers[1] + 16 * (lead + i);
            int32_t field[4];
            memcpy(field, view, 16);
            if (!set(valid, lead + i)) {
                r->is = NULL_ROW;
            } else if (field[0] < 0) {
                r->is = BROKEN;
            } else if (field[0] <= 12) {
                r->p = view + 4, r->len = (size_t)field[0];
            } else if (field[2] < 0 || field[2] >= n_more || field[3] < 0 ||
                       (int64_t)field[3] + field[0] > sizes[field[2]] || !c->buffers[2 + field[2]]) {
                r->is = BROKEN;
            } else {
                r->p = (const uint8_t *)c->buffers[2 + field[2]] + field[3], r->len = (size_t)field[0];
            }
        }
        if (harm % 64 == 11 && n_more) {
            c->buffers[2 + n_more] = NULL; /* no sizes */
            if (n) c->opens = ST_EINVAL;
        }
    } else {
        int32_t small[2 * MOST + 1];
        bool wide = kind % 3 == 1;
        c->schema.format = wide ? "U" : "u";
        for (size_t i = 0; i <= all; i++) {
            small[i] = (int32_t)off[i];
            if (!wide) off[i] = small[i];
        }
        if (off[all] > (int64_t)n_text) off[all] = small[all] = 0; /* a wide one, cut */
        size_t room = off[all] > 0 ? (size_t)off[all] : 0;
        c->buffers[1] = wide ? keep(off, (all + 1) * 8, odd) : keep(small, (all + 1) * 4, odd);
        c->buffers[2] = harm % 32 == 9 ? NULL : keep(text, room, odd);
        for (size_t i = 0; i < n; i++) {
            row *r = &c->rows[i];
            int64_t from = off[lead + i], to = off[lead + i + 1];
            if (!set(valid, lead + i)) {
                r->is = NULL_ROW;
            } else if (from < 0 || from > to || to > off[all] || (!c->buffers[2] && from != to)) {
                r->is = BROKEN;
            } else {
                r->p = c->buffers[2] ? (const uint8_t *)c->buffers[2] + from : (const uint8_t *)"";
                r->len = (size_t)(to - from);
            }
        }
    }
    if (harm % 16 == 5) break_header(b, c, 3);
    if (c->opens == ST_OK && n == 0 && byte(b) % 2) c->array.n_buffers = 0, c->array.buffers = NULL;
}

/* An array of indices into `d`; rows are what they lead to. */
static void make_dictionary(program *b, column *c, column *d)
{
    static const char *const formats[] = {"c", "C", "s", "S", "i", "I", "l", "L"};
    uint8_t bits[MOST], index[2 * MOST * 8];
    size_t lead = byte(b) % 20, n = byte(b) % MOST, all = lead + n;
    unsigned kind = byte(b), harm = byte(b), format = kind % 8;
    size_t size = (size_t)1 << format / 2;
    int64_t which[2 * MOST];
    *c = (column){.n = n, .opens = d->opens};
    memset(bits, 0, sizeof bits);
    for (size_t i = 0; i < all; i++) {
        uint64_t x = d->n ? byte(b) % d->n : 0;
        if (harm % 4 == 1 && byte(b) % 8 == 0) x = byte(b) % 2 ? word(b) : d->n;
        memcpy(index + i * size, &x, size); /* little ends first, as in all of this driver's machines */
        bool sign = format % 2 == 0 || size == 8;
        uint64_t top = UINT64_C(1) << (8 * size - 1), low = x & (2 * top - 1);
        which[i] = sign && (low & top) ? -1 : (int64_t)low;
        if (byte(b) % 4) bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
    }
    c->schema = (struct ArrowSchema){.format = formats[format], .dictionary = &d->schema};
    c->array = (struct ArrowArray){.length = (int64_t)n,
                                   .offset = (int64_t)lead,
                                   .null_count = -1,
                                   .n_buffers = 2,
                                   .buffers = c->buffers};
    c->array.dictionary = &d->array;
    bool odd = kind & 16;
    c->buffers[0] = kind & 8 ? keep(bits, (all + 7) / 8, odd) : NULL;
    c->buffers[1] = keep(index, all * size, odd);
    for (size_t i = 0; i < n; i++) {
        int64_t x = which[lead + i];
        c->rows[i].is = BROKEN;
        if (!set(c->buffers[0], lead + i))
            c->rows[i].is = NULL_ROW;
        else if (x >= 0 && (size_t)x < d->n)
            c->rows[i] = d->rows[x];
    }
    if (d->opens != ST_OK) return;
    if (harm % 16 == 5) break_header(b, c, 2);
    if (harm % 16 == 6) c->array.dictionary = NULL, c->opens = ST_EINVAL;
    /* a dictionary of what is itself a dictionary */
    if (harm % 16 == 7) d->schema.dictionary = &d->schema, c->opens = ST_EUNSUPPORTED;
}

/* -- The readers
 * ---------------------------------------------------------------------------------------------- */

typedef struct seen {
    row rows[2 * MOST];
    size_t n;
} seen;

static size_t number_slowly(seen *s, const row *r)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->rows[i].len == r->len && (r->len == 0 || memcmp(s->rows[i].p, r->p, r->len) == 0)) return i;
    CHECK(s->n < 2 * MOST);
    s->rows[s->n] = *r;
    return s->n++;
}

static void same_strings(const st_terms *t, const seen *s)
{
    CHECK(t->n == s->n);
    for (size_t i = 0; i < s->n; i++) {
        CHECK(t->off[i + 1] - t->off[i] == s->rows[i].len);
        CHECK(s->rows[i].len == 0 || memcmp(t->bytes + t->off[i], s->rows[i].p, s->rows[i].len) == 0);
    }
}

/* By the table of well-formed sequences: no surrogates, nothing longer than need be. */
static bool is_utf8(const uint8_t *p, size_t n)
{
    static const struct {
        uint8_t first[2], second[2];
        size_t more;
    } forms[] = {
        {{0x00, 0x7F}, {0, 0}, 0},       {{0xC2, 0xDF}, {0x80, 0xBF}, 1}, {{0xE0, 0xE0}, {0xA0, 0xBF}, 2},
        {{0xE1, 0xEC}, {0x80, 0xBF}, 2}, {{0xED, 0xED}, {0x80, 0x9F}, 2}, {{0xEE, 0xEF}, {0x80, 0xBF}, 2},
        {{0xF0, 0xF0}, {0x90, 0xBF}, 3}, {{0xF1, 0xF3}, {0x80, 0xBF}, 3}, {{0xF4, 0xF4}, {0x80, 0x8F}, 3}};
    for (size_t i = 0; i < n;) {
        size_t f = 0;
        while (f < 9 && (p[i] < forms[f].first[0] || p[i] > forms[f].first[1]))
            f++;
        if (f == 9 || n - i <= forms[f].more) return false;
        for (size_t k = 1; k <= forms[f].more; k++)
            if (p[i + k] < (k == 1 ? forms[f].second[0] : 0x80) ||
                p[i + k] > (k == 1 ? forms[f].second[1] : 0xBF))
                return false;
        i += 1 + forms[f].more;
    }
    return true;
}

/* As text: nulls are the empty string.  The second time the same rows follow. */
static void as_text(const column *c)
{
    static const row empty = {STRING, (const uint8_t *)"", 0};
    st_column out;
    seen s = {.n = 0};
    size_t rows = 0, nulls = 0;
    int64_t counts[2 * MOST] = {0};
    CHECK(st_column_init(&out, &counting, 0) == ST_OK);
    for (int turn = 0; turn < 2; turn++) {
        int want = c->opens;
        int rc = st_column_add_arrow(&out, &c->schema, &c->array);
        for (size_t i = 0; i < c->n && want == ST_OK; i++) {
            if (c->rows[i].is == BROKEN) {
                want = ST_EINVAL;
                break;
            }
            size_t k = number_slowly(&s, c->rows[i].is == NULL_ROW ? &empty : &c->rows[i]);
            nulls += c->rows[i].is == NULL_ROW;
            CHECK(rows < out.codes.n && out.codes.v[rows] == k);
            rows++;
            counts[k]++;
        }
        for (size_t i = 0; i < s.n && want == ST_OK; i++)
            if (!is_utf8(s.rows[i].p, s.rows[i].len)) want = ST_EUNSUPPORTED;
        CHECK(rc == want);
        CHECK(out.codes.n == rows && out.n_nulls == nulls);
        same_strings(&out.strings, &s);
        CHECK(out.counts.n == s.n && (s.n == 0 || memcmp(out.counts.v, counts, s.n * sizeof *counts) == 0));
    }
    bool ascii = true;
    for (size_t i = 0; i < s.n; i++)
        for (size_t k = 0; k < s.rows[i].len; k++)
            ascii = ascii && s.rows[i].p[k] < 0x80;
    CHECK(out.ascii == ascii);
    st_column_free(&out);
}

static void as_categories(program *b, const column *c)
{
    st_terms t;
    seen s = {.n = 0};
    uint32_t *codes = malloc((c->n + 1) * sizeof *codes);
    size_t nulls = 0, want_nulls = 0, most = byte(b) % 4 ? 100 : byte(b) % 6;
    int want = c->opens;
    CHECK(codes != NULL && st_terms_init(&t, &counting, 0) == ST_OK);
    int rc = st_encode_arrow(&t, &c->schema, &c->array, most, codes, &nulls);
    for (size_t i = 0; i < c->n && want == ST_OK; i++) {
        if (c->rows[i].is == BROKEN) {
            want = ST_EINVAL;
        } else if (c->rows[i].is == NULL_ROW) {
            want_nulls++;
            CHECK(codes[i] == ST_NO_CODE);
        } else {
            size_t k = number_slowly(&s, &c->rows[i]);
            if (s.n > most)
                want = ST_ELIMIT;
            else
                CHECK(codes[i] == k);
        }
    }
    CHECK(rc == want && nulls == want_nulls);
    same_strings(&t, &s);
    st_terms_free(&t);
    free(codes);
}

static void as_dates(const column *c)
{
    st_date_layout layout;
    int64_t *out = malloc((c->n + 1) * sizeof *out);
    int want = c->opens;
    CHECK(out != NULL && st_date_layout_read(&layout, "%Y-%m-%d", 8));
    int rc = st_encode_arrow_dates(&layout, &c->schema, &c->array, out);
    for (size_t i = 0; i < c->n && want == ST_OK; i++) {
        int64_t us = ST_NO_DATE;
        if (c->rows[i].is == BROKEN)
            want = ST_EINVAL;
        else if (c->rows[i].is == STRING && !st_date_read(&layout, c->rows[i].p, c->rows[i].len, &us))
            want = ST_EUNSUPPORTED;
        else
            CHECK(out[i] == us);
    }
    CHECK(rc == want);
    free(out);
}

static void looked_through(program *b, const column *c)
{
    st_terms some;
    bool found = false, want_found = false;
    int want = c->opens;
    uint32_t id;
    CHECK(st_terms_init(&some, &counting, 0) == ST_OK);
    for (unsigned k = byte(b) % 4; k; k--) {
        uint8_t s[MOST_TEXT];
        size_t len = make_string(b, s);
        CHECK(st_terms_add(&some, s, len, &id) == ST_OK);
    }
    if (byte(b) % 4 == 0 && c->n && c->rows[c->n / 2].is == STRING)
        CHECK(st_terms_add(&some, c->rows[c->n / 2].p, c->rows[c->n / 2].len, &id) == ST_OK);
    int rc = st_encode_arrow_among(&some, &c->schema, &c->array, &found);
    for (size_t i = 0; i < c->n && want == ST_OK && !want_found; i++) {
        const row *r = &c->rows[i];
        if (r->is == BROKEN) want = ST_EINVAL;
        if (r->is != STRING) continue;
        size_t blank = 0;
        while (blank < r->len &&
               (r->p[blank] >= 0x80 || memchr(" \t\n\v\f\r\x1c\x1d\x1e\x1f", r->p[blank], 10)))
            blank++;
        want_found = r->len && blank == r->len;
        for (size_t k = 0; k < some.n; k++)
            if (some.off[k + 1] - some.off[k] == r->len &&
                (r->len == 0 || memcmp(some.bytes + some.off[k], r->p, r->len) == 0))
                want_found = true;
    }
    CHECK(rc == want && found == want_found);
    st_terms_free(&some);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    program b = {data, size};
    for (int k = 0; k < 20 && (k == 0 || b.left); k++) {
        unsigned how = byte(&b);
        column c, d;
        make_strings(&b, &c, how & 8);
        as_text(&c);
        as_categories(&b, &c);
        as_dates(&c);
        looked_through(&b, &c);
        /* as a dictionary, of which encoders take none */
        if (how % 2) {
            make_dictionary(&b, &d, &c);
            as_text(&d);
            d.opens = d.schema.format ? ST_EUNSUPPORTED : ST_EINVAL;
            as_categories(&b, &d);
            as_dates(&d);
            looked_through(&b, &d);
        }
        release_all();
    }
    CHECK(blocks == 0);
    return 0;
}

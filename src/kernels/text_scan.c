/* text_scan.c - lower case, white space, words and n-grams, as Python and scikit-learn have them.
 *
 * A text is written once more into scratch, normalised so that every n-gram is a slice of it: characters
 * with runs of white space made one; words with one space around each; tokens with one space between.  An
 * n-gram is then two numbers, and nothing is copied or allocated for it.
 *
 * The Unicode tables are generated from the Python that the build ran with (tools/unicode_tables.py): what
 * is a letter differs between its versions.
 */
#include "kernels/text.h"
#include "unicode_tables.h"

/* -- Code points ----------------------------------------------------------------------------------------- */

static inline uint8_t uni_flags(uint32_t c)
{
    return c < 0x110000 ? st_uni_flags[st_uni_flags_page[c >> 8] * 256u + (c & 255)] : 0;
}

/* The code point at p (before end), and how many bytes it has.  A broken sequence is taken byte by byte. */
static inline uint32_t decode(const uint8_t *p, const uint8_t *end, uint32_t *n)
{
    uint32_t c = p[0];
    size_t left = (size_t)(end - p);
    if (c < 0xC0) {
        *n = 1;
        return c;
    }
    if (c < 0xE0 && left >= 2) {
        *n = 2;
        return (c & 31) << 6 | (p[1] & 63u);
    }
    if (c < 0xF0 && left >= 3) {
        *n = 3;
        return (c & 15) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
    }
    if (left >= 4) {
        *n = 4;
        return (c & 7) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    }
    *n = 1;
    return c;
}

static inline uint32_t encode(uint32_t c, uint8_t *q)
{
    if (c < 0x80) {
        q[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        q[0] = (uint8_t)(0xC0 | c >> 6);
        q[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        q[0] = (uint8_t)(0xE0 | c >> 12);
        q[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        q[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    q[0] = (uint8_t)(0xF0 | c >> 18);
    q[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    q[2] = (uint8_t)(0x80 | (c >> 6 & 63));
    q[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

/* Whether the capital sigma at p becomes a final one: a cased letter before it, none after it, letters that
 * do not count left out. */
static bool final_sigma(const uint8_t *text, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q = p;
    uint32_t n;
    uint8_t flags = 0;
    while (q > text) {
        do
            q--;
        while (q > text && (*q & 0xC0) == 0x80);
        flags = uni_flags(decode(q, end, &n));
        if (!(flags & ST_UNI_IGNORABLE)) break;
        flags = 0;
    }
    if (!(flags & ST_UNI_CASED)) return false;
    for (q = p + 2; q < end; q += n) {
        flags = uni_flags(decode(q, end, &n));
        if (!(flags & ST_UNI_IGNORABLE)) return !(flags & ST_UNI_CASED);
    }
    return true;
}

/* The lower case of c, which has one; how many code points it is. */
static uint32_t lower(uint32_t c, const uint8_t *text, const uint8_t *p, const uint8_t *end, uint32_t *to)
{
    if (c == 0x3A3) {
        to[0] = final_sigma(text, p, end) ? 0x3C2 : 0x3C3;
        return 1;
    }
    if (uni_flags(c) & ST_UNI_MANY) {
        for (size_t i = 0; i < sizeof st_uni_many / sizeof *st_uni_many; i++)
            if (st_uni_many[i].code == c) {
                memcpy(to, st_uni_many[i].to, sizeof st_uni_many[i].to);
                return st_uni_many[i].n;
            }
    }
    to[0] = (uint32_t)((int32_t)c + st_uni_delta[st_uni_delta_page[c >> 8] * 256u + (c & 255)]);
    return 1;
}

/* -- The three ways of cutting --------------------------------------------------------------------------- */

/* What the writer of a text is doing; each analyzer reads the fields that it needs. */
typedef struct writer {
    const st_text_spec *spec;
    uint8_t *q; /* the next byte to write */
    uint8_t *base;
    uint32_t *at, *end, *word;
    size_t n_at, n_end, n_word;
    uint32_t run;         /* ST_CHAR: white space not written yet: how many */
    uint32_t blank;       /* its first code point */
    uint32_t n_in;        /* code points of the word being written; 0: none */
    const uint8_t *start; /* where that word begins */
} writer;

static inline void put(writer *w, uint32_t c)
{
    w->at[w->n_at++] = (uint32_t)(w->q - w->base);
    w->q += encode(c, w->q);
}

static inline void char_flush(writer *w)
{
    if (w->run) put(w, w->run == 1 ? w->blank : ' ');
    w->run = 0;
}

static inline void char_put(writer *w, uint32_t c, uint8_t flags)
{
    if (flags & ST_UNI_SPACE) {
        if (w->run++ == 0) w->blank = c;
        return;
    }
    if (w->run) char_flush(w);
    put(w, c);
}

static inline void wb_flush(writer *w)
{
    if (!w->n_in) return;
    put(w, ' ');
    w->word[w->n_word++] = (uint32_t)w->n_at; /* one past the space that ends it */
    w->n_in = 0;
}

static inline void wb_put(writer *w, uint32_t c, uint8_t flags)
{
    if (flags & ST_UNI_SPACE) {
        wb_flush(w);
        return;
    }
    if (!w->n_in) {
        /* the space that ended the word before begins this one */
        if (!w->n_word) put(w, ' ');
        w->word[w->n_word++] = (uint32_t)w->n_at - 1;
        w->n_in = 1;
    }
    put(w, c);
}

static inline void word_flush(writer *w)
{
    if (!w->n_in) return;
    bool keep = w->n_in >= w->spec->min_word;
    if (keep && w->spec->stop)
        keep = st_terms_find(w->spec->stop, w->start, (size_t)(w->q - w->start)) == ST_NO_TERM;
    if (keep) {
        w->at[w->n_at++] = (uint32_t)(w->start - w->base);
        w->end[w->n_end++] = (uint32_t)(w->q - w->base);
        *w->q++ = ' ';
    } else {
        w->q = w->base + (w->start - w->base);
    }
    w->n_in = 0;
}

static inline void word_put(writer *w, uint32_t c, uint8_t flags)
{
    if (!(flags & ST_UNI_WORD)) {
        word_flush(w);
        return;
    }
    if (w->n_in++ == 0) w->start = w->q;
    w->q += encode(c, w->q);
}

#define WALK(PUT)                                                                                            \
    while (p < end) {                                                                                        \
        uint32_t c = *p, size = 1;                                                                           \
        if (c >= 0x80) c = decode(p, end, &size);                                                            \
        uint8_t flags = uni_flags(c);                                                                        \
        if (w->spec->lowercase && (flags & ST_UNI_LOWERS)) {                                                 \
            if (c < 0x80) {                                                                                  \
                PUT(w, c + 32, flags);                                                                       \
            } else {                                                                                         \
                uint32_t to[ST_UNI_MANY_WIDTH];                                                              \
                uint32_t n = lower(c, text, p, end, to);                                                     \
                for (uint32_t i = 0; i < n; i++)                                                             \
                    PUT(w, to[i], uni_flags(to[i]));                                                         \
            }                                                                                                \
        } else {                                                                                             \
            PUT(w, c, flags);                                                                                \
        }                                                                                                    \
        p += size;                                                                                           \
    }

static void walk_char(writer *w, const uint8_t *text, const uint8_t *end)
{
    const uint8_t *p = text;
    WALK(char_put)
    char_flush(w);
    w->at[w->n_at] = (uint32_t)(w->q - w->base);
}

static void walk_wb(writer *w, const uint8_t *text, const uint8_t *end)
{
    const uint8_t *p = text;
    WALK(wb_put)
    wb_flush(w);
    w->at[w->n_at] = (uint32_t)(w->q - w->base);
}

static void walk_word(writer *w, const uint8_t *text, const uint8_t *end)
{
    const uint8_t *p = text;
    WALK(word_put)
    word_flush(w);
}

static bool is_ascii(const uint8_t *p, size_t len)
{
    uint64_t high = 0;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        high |= x;
    }
    for (; len; p++, len--)
        high |= (uint64_t)*p;
    return !(high & 0x8080808080808080u);
}

/* The same for ASCII: a third of the time, which is most of what texts of words take. */
static void walk_word_ascii(writer *w, const uint8_t *text, const uint8_t *end)
{
    uint8_t to[128]; /* what is written; 0: no word */
    for (uint32_t c = 0; c < 128; c++) {
        uint8_t flags = uni_flags(c);
        uint32_t small = w->spec->lowercase && (flags & ST_UNI_LOWERS) ? c + 32 : c;
        to[c] = (uint8_t)(flags & ST_UNI_WORD ? small : 0);
    }
    for (const uint8_t *p = text; p < end;) {
        uint8_t c = to[*p++];
        if (!c) continue;
        uint8_t *q = w->q;
        w->start = q;
        *q++ = c;
        while (p < end && (c = to[*p]) != 0) {
            *q++ = c;
            p++;
        }
        w->n_in = (uint32_t)(q - w->q);
        w->q = q;
        word_flush(w);
    }
}

/* -- n-grams of what was written ------------------------------------------------------------------------- */

static int grams_char(const st_alloc *a, st_scan *s, const st_text_spec *spec)
{
    size_t n = s->at.n - 1;
    const uint32_t *at = s->at.v;
    for (size_t size = spec->min_n; size <= spec->max_n && size <= n; size++) {
        ST_TRY(st_vec_reserve(a, &s->grams, n));
        st_gram *g = s->grams.v + s->grams.n;
        for (size_t i = 0; i + size <= n; i++)
            g[i] = (st_gram){at[i], at[i + size] - at[i]};
        s->grams.n += n - size + 1;
    }
    return ST_OK;
}

static int grams_wb(const st_alloc *a, st_scan *s, const st_text_spec *spec)
{
    const uint32_t *at = s->at.v;
    for (size_t w = 0; w < s->word.n; w += 2) {
        size_t first = s->word.v[w], n = s->word.v[w + 1] - first;
        for (size_t size = spec->min_n; size <= spec->max_n; size++) {
            ST_TRY(st_vec_reserve(a, &s->grams, n));
            st_gram *g = s->grams.v + s->grams.n;
            if (n <= size) { /* a short word counts once, whole */
                *g = (st_gram){at[first], at[first + n] - at[first]};
                s->grams.n++;
                break;
            }
            for (size_t i = 0; i + size <= n; i++)
                g[i] = (st_gram){at[first + i], at[first + i + size] - at[first + i]};
            s->grams.n += n - size + 1;
        }
    }
    return ST_OK;
}

static int grams_word(const st_alloc *a, st_scan *s, const st_text_spec *spec)
{
    size_t n = s->end.n;
    for (size_t size = spec->min_n; size <= spec->max_n && size <= n; size++) {
        ST_TRY(st_vec_reserve(a, &s->grams, n));
        st_gram *g = s->grams.v + s->grams.n;
        for (size_t i = 0; i + size <= n; i++)
            g[i] = (st_gram){s->at.v[i], s->end.v[i + size - 1] - s->at.v[i]};
        s->grams.n += n - size + 1;
    }
    return ST_OK;
}

int st_scan_text(const st_alloc *a, st_scan *s, const st_text_spec *spec, const uint8_t *p, size_t len)
{
    if (len >= (size_t)1 << 29) return ST_ELIMIT;
    s->buf.n = s->at.n = s->end.n = s->word.n = s->grams.n = 0;
    /* one byte may become a few (U+0130: 2 bytes, 3), and each word has spaces around it */
    size_t room = 4 * len + 16;
    ST_TRY(st_vec_reserve(a, &s->buf, room));
    ST_TRY(st_vec_reserve(a, &s->at, 2 * len + 8));
    if (spec->analyzer == ST_WORD) ST_TRY(st_vec_reserve(a, &s->end, len + 8));
    if (spec->analyzer == ST_CHAR_WB) ST_TRY(st_vec_reserve(a, &s->word, len + 8));
    writer w = {
        .spec = spec, .q = s->buf.v, .base = s->buf.v, .at = s->at.v, .end = s->end.v, .word = s->word.v};
    switch (spec->analyzer) {
    case ST_CHAR: walk_char(&w, p, p + len); break;
    case ST_CHAR_WB: walk_wb(&w, p, p + len); break;
    case ST_WORD:
        if (len >= 128 && is_ascii(p, len))
            walk_word_ascii(&w, p, p + len);
        else
            walk_word(&w, p, p + len);
        break;
    }
    s->buf.n = (size_t)(w.q - w.base);
    s->at.n = w.n_at + 1;
    s->end.n = w.n_end;
    s->word.n = w.n_word;
    switch (spec->analyzer) {
    case ST_CHAR: return grams_char(a, s, spec);
    case ST_CHAR_WB: return grams_wb(a, s, spec);
    default: return grams_word(a, s, spec);
    }
}

void st_scan_free(const st_alloc *a, st_scan *s)
{
    st_vec_free(a, &s->buf);
    st_vec_free(a, &s->at);
    st_vec_free(a, &s->end);
    st_vec_free(a, &s->word);
    st_vec_free(a, &s->grams);
}

uint32_t st_murmur3(const uint8_t *p, size_t len, uint32_t seed)
{
    uint32_t h = seed;
    size_t i = 0;
    for (; i + 4 <= len; i += 4) {
        uint32_t k =
            (uint32_t)p[i] | (uint32_t)p[i + 1] << 8 | (uint32_t)p[i + 2] << 16 | (uint32_t)p[i + 3] << 24;
        k *= 0xcc9e2d51u;
        k = k << 15 | k >> 17;
        h ^= k * 0x1b873593u;
        h = h << 13 | h >> 19;
        h = h * 5 + 0xe6546b64u;
    }
    if (i < len) {
        uint32_t k = 0;
        for (size_t j = len; j-- > i;)
            k = k << 8 | p[j];
        k *= 0xcc9e2d51u;
        k = k << 15 | k >> 17;
        h ^= k * 0x1b873593u;
    }
    h ^= (uint32_t)len;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    return h ^ h >> 16;
}

/* fuzz_tokens.c - words and n-grams of texts, their counts, and the rows made of them, against plain loops.
 *
 * Texts: any bytes; ASCII; UTF-8 of code points that mean something to the analyzers (spaces of all kinds,
 * capitals whose lower case is longer, sigmas, letters that casing skips, surrogates, the last ones); any
 * code points. Every analyzer, ranges of sizes, both least lengths of a word, lower case or not, stop words.
 *
 * What is broken UTF-8 has no right answer: of it, n-grams must lie in what was written, and threads agree.
 * Of the rest, the n-grams are those of the loops below, which decode the text into code points and cut it as
 * scikit-learn's documentation says; short columns are counted and made rows of by loops as well.  What
 * letters and spaces are both sides take from the table that the build makes of Python (tests/python compares
 * that). Accents are not here: Python strips them, before the text comes to C.
 *
 * One, two and three threads must agree in every bit; they only start above 50,000 bytes, so that now and
 * then a text is repeated until it is that long.
 */
#include "driver.h"
#include "native/text.h"
#include "unicode_tables.h"

#include <math.h>

enum { MOST_TEXT = 4200, MOST_CODES = 2 * MOST_TEXT + 8, MOST_SLOW = 300 };

/* -- Code points
 * ------------------------------------------------------------------------------------------------ */

static unsigned flags_of(uint32_t c) { return st_uni_flags[256u * st_uni_flags_page[c / 256] + c % 256]; }

/* Texts as code points; false: no UTF-8 (surrogates are). */
static bool decode_all(const uint8_t *p, size_t n, uint32_t *out, size_t *n_out)
{
    *n_out = 0;
    for (size_t i = 0; i < n;) {
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        size_t size = p[i] < 0x80 ? 1 : p[i] >= 0xF0 ? 4 : p[i] >= 0xE0 ? 3 : 2;
        uint32_t c = p[i];
        if ((p[i] >= 0x80 && p[i] < 0xC0) || p[i] >= 0xF8 || i + size > n) return false;
        if (size > 1) c &= 0x7Fu >> size;
        for (size_t k = 1; k < size; k++) {
            if (p[i + k] < 0x80 || p[i + k] > 0xBF) return false;
            c = 64 * c + p[i + k] - 0x80;
        }
        if (c < least[size] || c > 0x10FFFF) return false;
        out[(*n_out)++] = c;
        i += size;
    }
    return true;
}

static size_t write_code(uint32_t c, uint8_t *q)
{
    static const uint8_t begin[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t k = size; k-- > 1; c /= 64)
        q[k] = (uint8_t)(0x80 + c % 64);
    q[0] = (uint8_t)(begin[size] + c);
    return size;
}

/* str.lower, of which the sigma at the end of a word is the only rule that looks around. */
static size_t lower_all(const uint32_t *c, size_t n, uint32_t *out)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned flags = flags_of(c[i]);
        if (c[i] == 0x3A3) {
            size_t before = i, after = i + 1;
            while (before > 0 && (flags_of(c[before - 1]) & ST_UNI_IGNORABLE))
                before--;
            while (after < n && (flags_of(c[after]) & ST_UNI_IGNORABLE))
                after++;
            bool follows = before > 0 && (flags_of(c[before - 1]) & ST_UNI_CASED);
            bool more = after < n && (flags_of(c[after]) & ST_UNI_CASED);
            out[m++] = follows && !more ? 0x3C2 : 0x3C3;
        } else if (flags & ST_UNI_MANY) {
            size_t k = 0;
            while (st_uni_many[k].code != c[i])
                k++;
            for (uint32_t j = 0; j < st_uni_many[k].n; j++)
                out[m++] = st_uni_many[k].to[j];
        } else if (flags & ST_UNI_LOWERS) {
            out[m++] =
                (uint32_t)((int32_t)c[i] + st_uni_delta[256u * st_uni_delta_page[c[i] / 256] + c[i] % 256]);
        } else {
            out[m++] = c[i];
        }
    }
    return m;
}

static bool space(uint32_t c) { return flags_of(c) & ST_UNI_SPACE; }

/* -- n-grams, one after the other
 * ------------------------------------------------------------------------------- */

/* Terms in the order in which they come: bytes, and where each begins. */
typedef struct list {
    uint8_t *bytes;
    size_t *at; /* n + 1 */
    size_t n, room, room_bytes;
} list;

static void list_begin(list *l)
{
    if (l->n + 2 > l->room) {
        l->room = 2 * l->room + 64;
        l->at = realloc(l->at, l->room * sizeof *l->at);
        CHECK(l->at != NULL);
        if (!l->n) l->at[0] = 0;
    }
    l->at[l->n + 1] = l->at[l->n];
    l->n++;
}

static void list_put(list *l, uint32_t c)
{
    if (l->at[l->n] + 4 > l->room_bytes) {
        l->room_bytes = 2 * l->room_bytes + 64;
        l->bytes = realloc(l->bytes, l->room_bytes);
        CHECK(l->bytes != NULL);
    }
    l->at[l->n] += write_code(c, l->bytes + l->at[l->n]);
}

static void list_add(list *l, const uint32_t *c, size_t n)
{
    list_begin(l);
    for (size_t i = 0; i < n; i++)
        list_put(l, c[i]);
}

static void list_free(list *l)
{
    free(l->bytes);
    free(l->at);
    *l = (list){0};
}

static size_t len_of(const list *l, size_t i) { return l->at[i + 1] - l->at[i]; }

static bool is_term(const list *l, size_t i, const uint8_t *p, size_t len)
{
    return len_of(l, i) == len && (len == 0 || memcmp(l->bytes + l->at[i], p, len) == 0);
}

static void cut_chars(const st_text_spec *spec, const uint32_t *c, size_t n, list *out)
{
    static uint32_t text[MOST_CODES];
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        size_t run = 0;
        while (i + run < n && space(c[i + run]))
            run++;
        text[m++] = run > 1 ? ' ' : c[i];
        i += run > 1 ? run : 1;
    }
    for (size_t size = spec->min_n; size <= spec->max_n && size <= m; size++)
        for (size_t i = 0; i + size <= m; i++)
            list_add(out, text + i, size);
}

static void cut_chars_of_words(const st_text_spec *spec, const uint32_t *c, size_t n, list *out)
{
    static uint32_t word[MOST_CODES];
    for (size_t i = 0; i < n;) {
        size_t m = 1;
        word[0] = ' ';
        while (i < n && !space(c[i]))
            word[m++] = c[i++];
        if (m == 1) {
            i++;
            continue;
        }
        word[m++] = ' ';
        for (size_t size = spec->min_n; size <= spec->max_n; size++) {
            for (size_t k = 0; k == 0 || k + size <= m; k++)
                list_add(out, word + k, size < m ? size : m);
            if (size >= m) break; /* longer ones would be the same again */
        }
    }
}

static void cut_words(const st_text_spec *spec, const list *stop, const uint32_t *c, size_t n, list *out)
{
    list words = {0};
    for (size_t i = 0; i < n;) {
        size_t m = 0;
        while (i + m < n && (flags_of(c[i + m]) & ST_UNI_WORD))
            m++;
        if (m >= spec->min_word && m) {
            list_add(&words, c + i, m);
            for (size_t k = 0; k < stop->n; k++)
                if (is_term(stop, k, words.bytes + words.at[words.n - 1], len_of(&words, words.n - 1))) {
                    words.n--;
                    break;
                }
        }
        i += m ? m : 1;
    }
    for (size_t size = spec->min_n; size <= spec->max_n && size <= words.n; size++)
        for (size_t i = 0; i + size <= words.n; i++) {
            list_begin(out);
            for (size_t k = i; k < i + size; k++) {
                static uint32_t word[MOST_CODES];
                size_t m;
                if (k > i) list_put(out, ' ');
                CHECK(decode_all(words.bytes + words.at[k], len_of(&words, k), word, &m));
                for (size_t j = 0; j < m; j++)
                    list_put(out, word[j]);
            }
        }
    list_free(&words);
}

/* The n-grams of a text; false: it is not UTF-8. */
static bool cut(const st_text_spec *spec, const list *stop, const uint8_t *p, size_t len, list *out)
{
    static uint32_t codes[MOST_CODES], small[MOST_CODES];
    const uint32_t *c = codes;
    size_t n;
    if (!decode_all(p, len, codes, &n)) return false;
    if (spec->lowercase) {
        n = lower_all(codes, n, small);
        c = small;
    }
    switch (spec->analyzer) {
    case ST_CHAR: cut_chars(spec, c, n, out); break;
    case ST_CHAR_WB: cut_chars_of_words(spec, c, n, out); break;
    case ST_WORD: cut_words(spec, stop, c, n, out); break;
    }
    return true;
}

/* -- Making of texts
 * --------------------------------------------------------------------------------------------- */

static size_t make_text(program *b, unsigned kind, size_t len, uint8_t *p)
{
    static const uint32_t codes[] = {
        'a',     'B',      '9',   '_',    ' ',    ' ',     ' ',    '\n',   '.',    '\'',    0x3A3,
        0x3A3,   0x3C3,    0x130, 0x345,  0xAD,   0x2B0,   0x301,  0xA0,   0x2003, 0x3000,  0x1680,
        0x85,    0x1C,     0x661, 0xDF,   0x1E9E, 0x212A,  0x4E2D, 0xD800, 0xDFFF, 0x1F600, 0x10400,
        0x10428, 0x10FFFF, 0,     0x2160, 0x24B6, 0xAB70,  0x10D0, 0x1C90, 0xFF21, 0x1D7D8, 0xAA,
        0x200B,  0x2019,   0x7FF, 0x800,  0xFFFF, 0x10000, 0x80,   0x7F};
    size_t n = 0;
    for (; n + 8 < len && b->left;) {
        unsigned c = byte(b);
        switch (kind % 5) {
        case 0: p[n++] = (uint8_t)c; break;
        case 1: p[n++] = (uint8_t)(c & 0x7F); break;
        case 2: p[n++] = (uint8_t)"abCD  ,\nef0_Z'"[c % 15]; break;
        case 3: n += write_code(codes[c % (sizeof codes / sizeof *codes)], p + n); break;
        default: n += write_code((c << 16 | byte(b) << 8 | byte(b)) % 0x110000, p + n);
        }
    }
    return n;
}

/* -- Scanning
 * ------------------------------------------------------------------------------------------------------ */

/* The n-grams of one text by both ways; how many there are. */
static size_t scan_both(st_scan *scan, const st_text_spec *spec, const list *stop, const uint8_t *p,
                        size_t len)
{
    list want = {0};
    /* nothing beside the text */
    uint8_t *own = malloc(len ? len : 1);
    CHECK(own != NULL);
    if (len) memcpy(own, p, len);
    CHECK(st_scan_text(&counting, scan, spec, own, len) == ST_OK);
    free(own);
    /* the room that it takes, which buffers that grow by halves hide */
    CHECK(scan->buf.n <= 4 * len + 16 && scan->at.n <= 2 * len + 8 && scan->end.n <= len + 8 &&
          scan->word.n <= len + 8);
    for (size_t i = 0; i < scan->grams.n; i++)
        CHECK(scan->grams.v[i].at + (size_t)scan->grams.v[i].len <= scan->buf.n);
    if (cut(spec, stop, p, len, &want)) {
        CHECK(scan->grams.n == want.n);
        for (size_t i = 0; i < want.n; i++)
            CHECK(is_term(&want, i, scan->buf.v + scan->grams.v[i].at, scan->grams.v[i].len));
    }
    list_free(&want);
    return scan->grams.n;
}

/* -- Counting
 * ------------------------------------------------------------------------------------------------------ */

/* Entry of a string: a term, and how often. */
typedef struct entry {
    size_t term, count;
} entry;

/* Entries of string t as the library has them. */
static size_t entries(const st_counts *c, size_t t, entry *out)
{
    int p = 0;
    while (t >= c->parts[p].to)
        p++;
    const st_count_part *part = &c->parts[p];
    uint64_t from = c->ptr[t + (size_t)p], to = c->ptr[t + (size_t)p + 1];
    for (uint64_t e = from; e < to; e++)
        out[e - from] = (entry){part->map ? part->map[part->ids.v[e]] : part->ids.v[e], part->counts.v[e]};
    return (size_t)(to - from);
}

static int by_bytes(const list *l, size_t a, size_t b)
{
    size_t n = len_of(l, a), m = len_of(l, b);
    int c = memcmp(l->bytes + l->at[a], l->bytes + l->at[b], n < m ? n : m);
    return c ? c : (n > m) - (n < m);
}

/* A row as st_rows_spec says, by insertion and one loop a step. */
static size_t row_slowly(const st_rows_spec *spec, const entry *e, size_t n, int32_t *column, double *x)
{
    size_t k = 0;
    uint64_t key[MOST_SLOW];
    for (size_t i = 0; i < n; i++) {
        int32_t col = spec->map[e[i].term];
        if (col < 0) continue;
        double v = (double)e[i].count;
        if (spec->binary && !spec->sign) v = 1;
        if (spec->sign) {
            v *= spec->sign[e[i].term];
            size_t same = 0;
            while (same < k && column[same] != col)
                same++;
            if (same < k) {
                x[same] += v;
                continue;
            }
        }
        /* where it belongs, after what is equal */
        uint64_t own = spec->order == ST_AS_SEEN ? e[i].term : (uint64_t)col;
        size_t at = k++;
        for (; at && key[at - 1] > own; at--)
            key[at] = key[at - 1], column[at] = column[at - 1], x[at] = x[at - 1];
        key[at] = own, column[at] = col, x[at] = v;
    }
    for (size_t i = 0; i < k; i++) {
        if (spec->binary && spec->sign) x[i] = 1;
        if (spec->table && !spec->sign) x[i] = spec->table[(size_t)x[i]];
        if (spec->idf && !spec->sign) x[i] *= spec->idf[column[i]];
    }
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        float narrow = (float)x[i], square = narrow * narrow;
        bool f32 = spec->sign && spec->number == ST_F32;
        if (spec->norm == 1) sum += f32 ? (double)fabsf(narrow) : fabs(x[i]);
        if (spec->norm == 2) sum += f32 ? (double)square : x[i] * x[i];
    }
    if (spec->norm == 2) sum = sqrt(sum);
    for (size_t i = 0; i < k && spec->norm && sum != 0; i++)
        x[i] /= sum;
    for (size_t i = 1; i < k && spec->sort; i++)
        for (size_t j = i; j && column[j - 1] > column[j]; j--) {
            int32_t c = column[j];
            double v = x[j];
            column[j] = column[j - 1], x[j] = x[j - 1];
            column[j - 1] = c, x[j - 1] = v;
        }
    return k;
}

static double item(const void *data, st_number number, size_t i)
{
    switch (number) {
    case ST_I32: return ((const int32_t *)data)[i];
    case ST_I64: return (double)((const int64_t *)data)[i];
    case ST_F32: return (double)((const float *)data)[i];
    default: return ((const double *)data)[i];
    }
}

static double narrowed(st_number number, double x)
{
    switch (number) {
    case ST_I32: return (int32_t)x;
    case ST_I64: return (double)(int64_t)x;
    case ST_F32: return (double)(float)x;
    default: return x;
    }
}

typedef struct matrix {
    int32_t *indptr, *index;
    void *data;
} matrix;

static matrix make_rows(const st_counts *c, const st_rows_spec *spec, int n_threads)
{
    matrix m = {.indptr = malloc((c->n_texts + 1) * sizeof *m.indptr)};
    CHECK(m.indptr != NULL && st_counts_layout(c, spec->map, m.indptr) == ST_OK);
    size_t n = (size_t)m.indptr[c->n_texts];
    m.index = malloc(n * sizeof *m.index + 1);
    m.data = malloc(n * (spec->number == ST_I32 || spec->number == ST_F32 ? 4 : 8) + 1);
    CHECK(m.index != NULL && m.data != NULL);
    CHECK(st_counts_rows(c, spec, m.indptr, m.index, m.data, n_threads) == ST_OK);
    return m;
}

static void matrix_free(matrix *m)
{
    free(m->indptr);
    free(m->index);
    free(m->data);
}

/* A random way to make rows; arrays of it are freed by spec_free. */
static st_rows_spec make_spec(unsigned way, const st_counts *c)
{
    unsigned k = way % 256, keep = way / 256;
    size_t n = c->terms->n, max = st_counts_max(c);
    int32_t *map = malloc((n + 1) * sizeof *map);
    int8_t *sign = k & 1 ? malloc(n + 1) : NULL;
    double *table = (k & 131) == 2 ? malloc((max + 1) * sizeof *table) : NULL, *idf = NULL;
    int32_t columns = 0;
    CHECK(map != NULL && (sign || !(k & 1)) && (table || (k & 131) != 2));
    if (sign) {
        columns = 1 + (int32_t)(keep % 50);
        for (size_t i = 0; i < n; i++) {
            map[i] = (int32_t)(i * 7 % (size_t)columns);
            sign[i] = i % 3 ? 1 : -1;
        }
    } else {
        /* some left out, the others backwards or in some other order */
        for (size_t i = 0; i < n; i++)
            map[i] = keep % 4 && i % (keep % 4 + 1) == 0 ? -1 : columns++;
        for (size_t i = 0; i < n && k & 4; i++)
            if (map[i] >= 0) map[i] = columns - 1 - map[i];
    }
    for (size_t i = 0; table && i <= max; i++)
        table[i] = 1 + log((double)(i ? i : 1));
    if (k & 8 && !sign) {
        idf = malloc(((size_t)columns + 1) * sizeof *idf);
        CHECK(idf != NULL);
        for (int32_t i = 0; i < columns; i++)
            idf[i] = 1 + log((double)(1 + i % 17));
    }
    st_number number = (st_number)(k / 16 % 4);
    int norm = (int)(keep / 16 % 3);
    if (norm && number < ST_F32) number = ST_F64;
    return (st_rows_spec){.map = map,
                          .sign = sign,
                          .order = sign || keep & 64 ? ST_BY_COLUMN : ST_AS_SEEN,
                          .sort = k & 64,
                          .binary = k & 128,
                          .table = table,
                          .n_table = max + 1,
                          .idf = idf,
                          .norm = norm,
                          .number = number};
}

static void spec_free(st_rows_spec *s)
{
    free((void *)(uintptr_t)s->map);
    free((void *)(uintptr_t)s->sign);
    free((void *)(uintptr_t)s->table);
    free((void *)(uintptr_t)s->idf);
}

/* Whether two ways of counting came to the same. */
static void same_counts(const st_counts *a, const st_counts *b, const int64_t *weights)
{
    CHECK(a->n_texts == b->n_texts && a->terms->n == b->terms->n);
    size_t n = a->terms->n;
    CHECK(a->terms->n_bytes == b->terms->n_bytes);
    if (n) {
        CHECK(memcmp(a->terms->off, b->terms->off, (n + 1) * sizeof *a->terms->off) == 0);
        CHECK(memcmp(a->rows, b->rows, n * sizeof *a->rows) == 0);
    }
    if (a->terms->n_bytes) CHECK(memcmp(a->terms->bytes, b->terms->bytes, a->terms->n_bytes) == 0);
    CHECK(st_counts_max(a) == st_counts_max(b));
    int64_t *sum = malloc((2 * n + 1) * sizeof *sum);
    CHECK(sum != NULL);
    st_counts_totals(a, weights, sum);
    st_counts_totals(b, weights, sum + n);
    CHECK(memcmp(sum, sum + n, n * sizeof *sum) == 0);
    free(sum);
}

static void same_matrix(const matrix *a, const matrix *b, size_t rows, size_t size)
{
    CHECK(memcmp(a->indptr, b->indptr, (rows + 1) * sizeof *a->indptr) == 0);
    size_t n = (size_t)a->indptr[rows];
    CHECK(memcmp(a->index, b->index, n * sizeof *a->index) == 0);
    CHECK(memcmp(a->data, b->data, n * size) == 0);
}

/* A column counted by one thread and by more, with all its terms and with every second one given. */
static void count_by_threads(unsigned way, const st_column *column, const st_text_spec *spec)
{
    st_counts one = {0};
    st_terms some;
    uint32_t id;
    CHECK(st_count(&one, &counting, column, spec, NULL, 1) == ST_OK);
    st_rows_spec rows = make_spec(way, &one);
    matrix m = make_rows(&one, &rows, 1);
    CHECK(st_terms_init(&some, &counting, 0) == ST_OK);
    for (size_t i = 0; i < one.own.n; i += 2)
        CHECK(st_terms_add(&some, one.own.bytes + one.own.off[i], one.own.off[i + 1] - one.own.off[i], &id) ==
              ST_OK);
    uint32_t *order = malloc((2 * one.own.n + 1) * sizeof *order);
    CHECK(order != NULL);
    CHECK(st_terms_sort(&one.own, order, 1) == ST_OK);
    CHECK(st_terms_sort(&one.own, order + one.own.n, 2) == ST_OK);
    CHECK(memcmp(order, order + one.own.n, one.own.n * sizeof *order) == 0);
    for (size_t i = 1; i < one.own.n; i++) {
        const uint64_t *x = one.own.off + order[i - 1], *y = one.own.off + order[i];
        size_t left = (size_t)(x[1] - x[0]), right = (size_t)(y[1] - y[0]);
        int c = memcmp(one.own.bytes + *x, one.own.bytes + *y, left < right ? left : right);
        CHECK(c < 0 || (c == 0 && left < right));
    }
    free(order);
    st_counts given = {0};
    CHECK(st_count(&given, &counting, column, spec, &some, 1) == ST_OK);
    for (int n = 2; n <= 3; n++) {
        st_counts more = {0};
        CHECK(st_count(&more, &counting, column, spec, NULL, n) == ST_OK);
        same_counts(&one, &more, column->counts.v);
        matrix other = make_rows(&more, &rows, n);
        same_matrix(&m, &other, one.n_texts, rows.number == ST_I32 || rows.number == ST_F32 ? 4 : 8);
        matrix_free(&other);
        st_counts_free(&more);
        CHECK(st_count(&more, &counting, column, spec, &some, n) == ST_OK);
        same_counts(&given, &more, column->counts.v);
        st_counts_free(&more);
    }
    matrix_free(&m);
    spec_free(&rows);
    st_terms_free(&some);
    st_counts_free(&given);
    st_counts_free(&one);
}

/* The numbers of the terms of all strings, in the order of first sight, by loops. */
static void count_slowly(unsigned way, const st_column *column, const st_text_spec *spec, const list *stop)
{
    const st_terms *strings = &column->strings;
    st_counts c = {0};
    list known = {0}, grams = {0};
    CHECK(st_count(&c, &counting, column, spec, NULL, 2) == ST_OK);
    st_rows_spec rows = make_spec(way, &c);
    matrix m = make_rows(&c, &rows, 2);
    int64_t seen[MOST_SLOW] = {0}, total[MOST_SLOW] = {0}, totals[MOST_SLOW];
    size_t max = 0;
    for (size_t t = 0; t < strings->n; t++) {
        entry want[MOST_SLOW], got[MOST_SLOW];
        size_t n = 0;
        grams.n = 0;
        CHECK(
            cut(spec, stop, strings->bytes + strings->off[t], strings->off[t + 1] - strings->off[t], &grams));
        for (size_t g = 0; g < grams.n && column->counts.v[t]; g++) {
            const uint8_t *p = grams.bytes + grams.at[g];
            size_t len = len_of(&grams, g), id = 0, e = 0;
            while (id < known.n && !is_term(&known, id, p, len))
                id++;
            if (id == known.n) {
                static uint32_t codes[MOST_CODES];
                size_t n_codes;
                CHECK(decode_all(p, len, codes, &n_codes));
                list_add(&known, codes, n_codes);
            }
            while (e < n && want[e].term != id)
                e++;
            if (e == n) want[n++] = (entry){id, 0};
            want[e].count++;
            if (want[e].count == 1) seen[id] += column->counts.v[t];
            if (want[e].count > max) max = want[e].count;
            total[id] += column->counts.v[t];
        }
        CHECK(entries(&c, t, got) == n);
        for (size_t e = 0; e < n; e++)
            CHECK(got[e].term == want[e].term && got[e].count == want[e].count);
        int32_t index[MOST_SLOW];
        double x[MOST_SLOW];
        size_t k = row_slowly(&rows, want, n, index, x), at = (size_t)m.indptr[t];
        CHECK((size_t)m.indptr[t + 1] - at == k);
        for (size_t i = 0; i < k; i++)
            CHECK(m.index[at + i] == index[i] &&
                  item(m.data, rows.number, at + i) == narrowed(rows.number, x[i]));
    }
    CHECK(c.terms->n == known.n && st_counts_max(&c) == max);
    uint32_t order[MOST_SLOW];
    st_counts_totals(&c, column->counts.v, totals);
    CHECK(st_terms_sort(c.terms, order, 2) == ST_OK);
    for (size_t i = 0; i < known.n; i++) {
        const uint8_t *p = c.terms->bytes + c.terms->off[i];
        size_t len = (size_t)(c.terms->off[i + 1] - c.terms->off[i]);
        CHECK(is_term(&known, i, p, len) && st_terms_find(c.terms, p, len) == i);
        CHECK(c.rows[i] == seen[i] && totals[i] == total[i]);
        if (i) CHECK(by_bytes(&known, order[i - 1], order[i]) < 0);
    }
    matrix_free(&m);
    spec_free(&rows);
    list_free(&known);
    list_free(&grams);
    st_counts_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t text[MOST_TEXT], longer[3 * MOST_TEXT];
    program b = {data, size};
    unsigned kind = byte(&b), range = byte(&b), more = byte(&b), way = byte(&b) << 8 | byte(&b);
    st_text_spec spec = {.analyzer = (st_analyzer)(kind % 3),
                         .min_n = 1 + range % 4 % 3,
                         .min_word = 1 + range / 64 % 2,
                         .lowercase = kind / 4 % 2};
    spec.max_n = spec.min_n + (range / 4 % 16 == 15 ? UINT32_MAX - spec.min_n : range / 4 % 3);
    st_terms stop_terms;
    st_column column;
    st_scan scan = {0};
    list stop = {0};
    bool valid = true;
    size_t grams = 0;
    CHECK(st_terms_init(&stop_terms, &counting, 0) == ST_OK);
    CHECK(st_column_init(&column, &counting, 0) == ST_OK);
    if (spec.analyzer == ST_WORD && more % 4 == 0) {
        static const char *const words[] = {"a", "ab", "efe", "0_", "\xCF\x83", "9", ""};
        for (size_t i = more / 4 % 2; i < 7; i += 2) {
            static uint32_t codes[MOST_CODES];
            size_t n;
            uint32_t id;
            CHECK(decode_all((const uint8_t *)words[i], strlen(words[i]), codes, &n));
            list_add(&stop, codes, n);
            CHECK(st_terms_add(&stop_terms, (const uint8_t *)words[i], strlen(words[i]), &id) == ST_OK);
        }
        spec.stop = &stop_terms;
    }
    while (b.left) {
        unsigned k = byte(&b);
        size_t most = k % 16 || spec.max_n > 8 ? byte(&b) % 64 : MOST_TEXT,
               n = make_text(&b, kind / 8, most, text), codes;
        static uint32_t out[MOST_CODES];
        size_t repeat = k == 77 ? 3 : 1;
        valid = decode_all(text, n, out, &codes) && valid;
        grams += scan_both(&scan, &spec, &stop, text, n);
        for (size_t i = 0; i < repeat; i++)
            memcpy(longer + i * n, text, n);
        for (unsigned r = k / 64; r; r--)
            CHECK(st_column_add(&column, longer, repeat * n) == ST_OK);
        grams += (repeat - 1) * 3 * (n + 4);
        uint32_t id;
        if (k < 64) CHECK(st_column_number(&column, text, n, &id) == ST_OK); /* a string without a row */
    }
    if (valid && grams < MOST_SLOW) count_slowly(way, &column, &spec, &stop);
    if (size > 1000 && more % 8 == 1 && spec.max_n < 8) {
        /* the same strings, with a number behind each */
        size_t n = column.strings.n;
        for (unsigned i = 0; column.strings.n_bytes < 170000 && n; i++) {
            size_t s = i % n, len = (size_t)(column.strings.off[s + 1] - column.strings.off[s]);
            if (more & 64 && len > 3) len = 3; /* many short ones: so many terms that two threads sort them */
            memcpy(longer, column.strings.bytes + column.strings.off[s], len);
            len += (size_t)sprintf((char *)longer + len, "%u", i);
            CHECK(st_column_add(&column, longer, len) == ST_OK);
        }
        count_by_threads(way, &column, &spec);
    } else if (more % 4 == 2 && spec.max_n < 8) {
        count_by_threads(way, &column, &spec);
    }
    st_scan_free(&counting, &scan);
    st_column_free(&column);
    st_terms_free(&stop_terms);
    list_free(&stop);
    CHECK(blocks == 0);
    return 0;
}

/* test_text.c - string columns, n-grams, the rows made of them, and the sparse loops; with every allocation
 * failing in turn, and with one thread and several. */
#include "check.h"

#include "kernels/parallel.h"
#include "native/text.h"

/* Term -> number; -1: not there. */
static int term_number(const st_terms *t, const char *s)
{
    uint32_t id = st_terms_find(t, (const uint8_t *)s, strlen(s));
    return id == ST_NO_TERM ? -1 : (int)id;
}

static void fill(st_column *c, const char *const *texts, size_t n)
{
    OK(st_column_init(c, &meter, n));
    for (size_t i = 0; i < n; i++)
        OK(st_column_add(c, (const uint8_t *)texts[i], strlen(texts[i])));
}

static void test_terms(void)
{
    st_terms t;
    OK(st_terms_init(&t, &meter, 0));
    char words[32];
    uint32_t id;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 2000; i++) {
            snprintf(words, sizeof words, "%.*d", i % 20, i);
            OK(st_terms_add(&t, (const uint8_t *)words, strlen(words), &id));
            if (round) CHECK(id < t.n && term_number(&t, words) == (int)id);
        }
    /* the empty string, one of a zero, and more zeros than the key tells apart */
    OK(st_terms_add(&t, (const uint8_t *)"", 0, &id));
    size_t n = t.n;
    for (size_t len = 1; len < 12; len++)
        OK(st_terms_add(&t, (const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\0", len, &id));
    CHECK_INT(t.n, n + 11);
    uint32_t *order = malloc(t.n * sizeof *order);
    OK(st_terms_sort(&t, order, 2));
    for (size_t i = 1; i < t.n; i++) {
        const uint8_t *a = t.bytes + t.off[order[i - 1]], *b = t.bytes + t.off[order[i]];
        size_t la = (size_t)(t.off[order[i - 1] + 1] - t.off[order[i - 1]]),
               lb = (size_t)(t.off[order[i] + 1] - t.off[order[i]]), m = la < lb ? la : lb;
        int c = memcmp(a, b, m);
        CHECK(c < 0 || (c == 0 && la < lb));
    }
    free(order);
    st_terms_free(&t);
}

static void grams(const st_text_spec *spec, const char *words, const char *want)
{
    st_scan s = {0};
    char got[400] = "";
    OK(st_scan_text(&meter, &s, spec, (const uint8_t *)words, strlen(words)));
    for (size_t i = 0; i < s.grams.n; i++) {
        strcat(got, i ? "|" : "");
        strncat(got, (char *)s.buf.v + s.grams.v[i].at, s.grams.v[i].len);
    }
    CHECK_STR(got, want);
    st_scan_free(&meter, &s);
}

static void test_scan(void)
{
    grams(&(st_text_spec){ST_CHAR, 1, 2, 1, true, NULL}, "A  b\t", "a| |b|\t|a | b|b\t");
    grams(&(st_text_spec){ST_CHAR, 3, 9, 1, true, NULL}, "ab", "");
    grams(&(st_text_spec){ST_CHAR_WB, 3, 4, 1, false, NULL}, " a Bcd ", " a | Bc|Bcd|cd | Bcd|Bcd ");
    grams(&(st_text_spec){ST_CHAR_WB, 2, 2, 1, false, NULL}, "  ", "");
    grams(&(st_text_spec){ST_WORD, 1, 2, 2, true, NULL}, "One a TWO-three",
          "one|two|three|one two|two three");
    grams(&(st_text_spec){ST_WORD, 1, 1, 1, true, NULL}, "a_1 \xC3\x89t\xC3\xA9", "a_1|\xC3\xA9t\xC3\xA9");
    /* a final sigma, one that is not, and the letter that becomes two */
    grams(&(st_text_spec){ST_WORD, 1, 1, 1, true, NULL}, "\xCE\x91\xCE\xA3 \xCE\xA3\xCE\x91 \xC4\xB0",
          "\xCE\xB1\xCF\x82|\xCF\x83\xCE\xB1|i");
    grams(&(st_text_spec){ST_CHAR, 2, 2, 1, true, NULL}, "\xC4\xB0", "i\xCC\x87");
    st_terms stop;
    uint32_t id;
    OK(st_terms_init(&stop, &meter, 0));
    OK(st_terms_add(&stop, (const uint8_t *)"the", 3, &id));
    grams(&(st_text_spec){ST_WORD, 2, 2, 2, true, &stop}, "one the two", "one two");
    st_terms_free(&stop);
    /* a words long enough for the loop that only ASCII takes */
    char words[300];
    memset(words, '.', sizeof words);
    memcpy(words, "Ab", 2);
    memcpy(words + 295, "_9z", 3);
    words[298] = 0;
    grams(&(st_text_spec){ST_WORD, 1, 1, 2, true, NULL}, words, "ab|_9z");
    CHECK_INT(st_murmur3((const uint8_t *)"hello", 5, 0), 0x248bfa47);
}

static void test_rows(void)
{
    static const char *const texts[] = {"b a b", "c a", "b a b", "", "a d c c"};
    st_column column;
    st_counts counts;
    fill(&column, texts, 5);
    CHECK_INT(column.strings.n, 4);
    CHECK_INT(column.counts.v[0], 2);
    st_text_spec spec = {ST_WORD, 1, 1, 1, true, NULL};
    OK(st_count(&counts, &meter, &column, &spec, NULL, 2));
    CHECK_INT(counts.terms->n, 4);
    CHECK_INT(term_number(counts.terms, "b"), 0);
    CHECK_INT(term_number(counts.terms, "d"), 3);
    CHECK_INT(counts.rows[1], 4); /* a: in four rows */
    int64_t totals[4];
    st_counts_totals(&counts, column.counts.v, totals);
    CHECK_INT(totals[0], 4);
    CHECK_INT(totals[2], 3);
    CHECK_INT(st_counts_max(&counts), 2);
    /* columns in the order d c a, without b */
    int32_t map[] = {-1, 2, 1, 0}, indptr[5], index[8], wide[6], wide_index[16];
    double data[8], wide_data[16];
    OK(st_counts_layout(&counts, map, indptr));
    CHECK_INT(indptr[4], 6);
    st_rows_spec rows = {.map = map, .order = ST_AS_SEEN, .sort = true, .number = ST_F64, .norm = 1};
    OK(st_counts_rows(&counts, &rows, indptr, index, data, 2));
    static const int32_t want[] = {2, 1, 2, 0, 1, 2};
    CHECK(memcmp(index, want, sizeof want) == 0);
    CHECK(data[0] == 1 && data[1] == 0.5 && data[3] == 0.25 && data[4] == 0.5);
    OK(st_rows_expand_layout(5, column.codes.v, indptr, wide));
    CHECK_INT(wide[5], 7);
    st_rows_expand(5, column.codes.v, 8, indptr, index, data, wide, wide_index, wide_data, 2);
    CHECK(wide_index[3] == 2 && wide_data[3] == 1 && wide[4] == wide[3]);
    /* two terms in one column with opposite signs */
    int32_t one[] = {3, 3, 0, 1};
    int8_t sign[] = {1, -1, 1, 1};
    rows = (st_rows_spec){.map = one, .sign = sign, .order = ST_BY_COLUMN, .sort = true, .number = ST_I32};
    int32_t small[8];
    OK(st_counts_layout(&counts, one, indptr));
    OK(st_counts_rows(&counts, &rows, indptr, index, small, 1));
    CHECK_INT(indptr[1], 1);
    CHECK_INT(small[0], 1);
    CHECK_INT(indptr[4], 6);
    st_counts_free(&counts);
    /* given terms */
    st_terms given;
    uint32_t id;
    OK(st_terms_init(&given, &meter, 0));
    OK(st_terms_add(&given, (const uint8_t *)"c", 1, &id));
    OK(st_count(&counts, &meter, &column, &spec, &given, 2));
    CHECK_INT(counts.rows[0], 2);
    st_counts_free(&counts);
    st_terms_free(&given);
    st_column_free(&column);
}

/* Enough words for `n_threads` parts. */
static char *long_text(size_t seed)
{
    static _Thread_local char words[400];
    uint64_t x = seed * 0x9E3779B97F4A7C15u + 1;
    size_t at = 0;
    while (at < 390) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        at += (size_t)snprintf(words + at, sizeof words - at, "w%u ", (unsigned)(x >> 40) % 3000);
    }
    return words;
}

static void note_part(void *ud, int part, int n_parts)
{
    atomic_int *seen = ud;
    CHECK(part >= 0 && part < n_parts);
    atomic_fetch_add(&seen[part], 1);
    atomic_store(&seen[ST_MAX_THREADS], n_parts);
}

/* Each part is done once, whatever number of them is asked for. */
static void test_fork(void)
{
    static const int asked[] = {-3, 0, 1, 2, 3, 7, ST_MAX_THREADS, ST_MAX_THREADS + 1, 1000};
    for (size_t k = 0; k < sizeof asked / sizeof *asked; k++) {
        atomic_int seen[ST_MAX_THREADS + 1] = {0};
        int n = asked[k] < 1 ? 1 : asked[k] > ST_MAX_THREADS ? ST_MAX_THREADS : asked[k];
        st_fork(asked[k], note_part, seen);
        CHECK_INT(atomic_load(&seen[ST_MAX_THREADS]), n);
        for (int i = 0; i < ST_MAX_THREADS; i++)
            CHECK_INT(atomic_load(&seen[i]), i < n);
    }
}

static void test_threads(void)
{
    enum { N = 600 };
    st_column column;
    OK(st_column_init(&column, &meter, N));
    for (size_t i = 0; i < N; i++)
        OK(st_column_add(&column, (const uint8_t *)long_text(i), strlen(long_text(i))));
    st_text_spec spec = {ST_WORD, 1, 2, 1, true, NULL};
    st_counts one, many;
    OK(st_count(&one, &meter, &column, &spec, NULL, 1));
    OK(st_count(&many, &meter, &column, &spec, NULL, 4));
    CHECK_INT(many.n_parts, 4);
    CHECK_INT(one.terms->n, many.terms->n);
    CHECK(memcmp(one.terms->bytes, many.terms->bytes, one.terms->n_bytes) == 0);
    CHECK(memcmp(one.rows, many.rows, one.terms->n * sizeof *one.rows) == 0);
    size_t n = one.terms->n;
    int32_t *map = malloc(n * sizeof *map), *ptr[2], *index[2];
    double *data[2];
    uint32_t *order = malloc(n * sizeof *order);
    OK(st_terms_sort(one.terms, order, 2));
    for (size_t i = 0; i < n; i++)
        map[order[i]] = (int32_t)i;
    for (int k = 0; k < 2; k++) {
        const st_counts *c = k ? &many : &one;
        ptr[k] = malloc((N + 1) * sizeof(int32_t));
        OK(st_counts_layout(c, map, ptr[k]));
        size_t nnz = (size_t)ptr[k][N];
        index[k] = malloc(nnz * sizeof(int32_t));
        data[k] = malloc(nnz * sizeof(double));
        st_rows_spec rows = {.map = map, .order = ST_AS_SEEN, .sort = true, .norm = 2, .number = ST_F64};
        OK(st_counts_rows(c, &rows, ptr[k], index[k], data[k], k ? 3 : 1));
        /* no thread is one thread, whose failure is told as well */
        atomic_store(&memory.fail_at, atomic_load(&memory.calls) + 1);
        CHECK_INT(st_counts_rows(c, &rows, ptr[k], index[k], data[k], 0), ST_ENOMEM);
        atomic_store(&memory.fail_at, 0);
        OK(st_counts_rows(c, &rows, ptr[k], index[k], data[k], 0));
    }
    size_t nnz = (size_t)ptr[0][N];
    CHECK(memcmp(ptr[0], ptr[1], (N + 1) * sizeof(int32_t)) == 0);
    CHECK(memcmp(index[0], index[1], nnz * sizeof(int32_t)) == 0);
    CHECK(memcmp(data[0], data[1], nnz * sizeof(double)) == 0);
    for (int k = 0; k < 2; k++) {
        free(ptr[k]);
        free(index[k]);
        free(data[k]);
    }
    free(map);
    free(order);
    st_counts_free(&one);
    st_counts_free(&many);
    st_column_free(&column);
}

static void test_sort(void)
{
    enum { N = 3000 };
    static uint64_t v[N], tmp[N];
    uint64_t x = 7;
    for (size_t n = 0; n < N; n = n * 2 + 1)
        for (int bits = 1; bits <= 31; bits += 10) {
            for (size_t i = 0; i < n; i++) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                v[i] = (x >> 33 & ((1u << bits) - 1)) << 32 | i;
            }
            st_sort_keys(v, tmp, n, bits);
            /* stable: what is equal above is in order below */
            for (size_t i = 1; i < n; i++)
                CHECK(v[i - 1] < v[i]);
        }
}

static void test_dense(void)
{
    enum { R = 301, C = 97, K = 150, NNZ = R * 9 };
    static int32_t indptr[R + 1], index[NNZ], ptr_t[C + 1], index_t[NNZ];
    static float data[NNZ], data_t[NNZ], Q[C * K], L[R * K], Y[C * K > R * K ? C * K : R * K];
    uint64_t x = 3;
    size_t at = 0;
    for (size_t r = 0; r < R; r++) {
        indptr[r] = (int32_t)at;
        for (size_t e = 0; e < r % 10 && at < NNZ; e++, at++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            index[at] = (int32_t)((x >> 40) % C);
            data[at] = (float)(x >> 50) / 77.0f;
        }
    }
    indptr[R] = (int32_t)at;
    for (size_t i = 0; i < C * K; i++)
        Q[i] = (float)(i % 131) / 7.0f - 9;
    for (size_t i = 0; i < R * K; i++)
        L[i] = (float)(i % 113) / 3.0f - 11;
    OK(st_csr_transpose(&meter, R, C, indptr, index, data, ptr_t, index_t, data_t, 3));
    static const size_t ks[] = {1, 7, 8, 9, 30, 32, 33, 40, 41, 48, 72, 80, 150};
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        size_t k = ks[i];
        OK(st_csr_dense(&meter, R, C, k, indptr, index, data, Q, Y, 2));
        for (size_t r = 0; r < R; r++)
            for (size_t c = 0; c < k; c++) {
                float sum = 0;
                for (int32_t e = indptr[r]; e < indptr[r + 1]; e++) {
                    float product = data[e] * Q[(size_t)index[e] * k + c];
                    sum += product;
                }
                CHECK(memcmp(&sum, &Y[r * k + c], sizeof sum) == 0);
            }
        OK(st_csr_dense(&meter, C, R, k, ptr_t, index_t, data_t, L, Y, 2));
        static float want[C * K];
        memset(want, 0, sizeof want);
        for (size_t r = 0; r < R; r++) /* as SciPy adds them: row by row */
            for (int32_t e = indptr[r]; e < indptr[r + 1]; e++)
                for (size_t c = 0; c < k; c++) {
                    float product = data[e] * L[r * k + c];
                    want[(size_t)index[e] * k + c] += product;
                }
        CHECK(memcmp(want, Y, C * k * sizeof(float)) == 0);
    }
    /* rows by code, column after column */
    static const uint32_t codes[] = {2, 0, 2};
    static const float rows[] = {1, 2, 3, 4, 5, 6};
    float out[6];
    st_take_columns(3, 2, codes, rows, out, 2);
    CHECK(out[0] == 5 && out[1] == 1 && out[2] == 5 && out[3] == 6 && out[4] == 2);
}

/* -- Arrow ----------------------------------------------------------------------------------------------- */

static void test_arrow(void)
{
    static const char bytes[] = "xbeta gamma delta x";
    static const int32_t off[] = {0, 1, 5, 6, 6, 6};
    static const uint8_t valid[] = {0x17}; /* row 3 is null */
    const void *buffers[] = {valid, off, bytes};
    struct ArrowSchema schema = {.format = "u"};
    struct ArrowArray array = {.length = 4, .offset = 1, .null_count = 1, .n_buffers = 3, .buffers = buffers};
    st_column c;
    OK(st_column_init(&c, &meter, 0));
    OK(st_column_add_arrow(&c, &schema, &array));
    CHECK_INT(c.codes.n, 4);
    CHECK_INT(c.n_nulls, 1);
    CHECK_INT(c.strings.n, 3); /* "beta", " ", "" */
    CHECK_INT(term_number(&c.strings, "beta"), 0);
    schema.format = "l";
    CHECK_INT(st_column_add_arrow(&c, &schema, &array), ST_EUNSUPPORTED);
    /* a dictionary, with an index out of bounds in the end */
    schema.format = "u";
    static const int8_t index[] = {4, 1, 1, 9};
    const void *keys[] = {NULL, index};
    struct ArrowSchema coded = {.format = "c", .dictionary = &schema};
    array.offset = 0, array.length = 5;
    struct ArrowArray codes = {.length = 3, .n_buffers = 2, .buffers = keys, .dictionary = &array};
    OK(st_column_add_arrow(&c, &coded, &codes));
    CHECK_INT(c.codes.n, 7);
    CHECK_INT(c.strings.n, 3);
    codes.length = 4;
    CHECK_INT(st_column_add_arrow(&c, &coded, &codes), ST_EINVAL);
    st_column_free(&c);
    CHECK(c.a == NULL);
}

/* Rows of an array that were read, and -1 where it was found broken after them. */
static int read_rows(const char *format, const struct ArrowArray *array, const struct ArrowSchema *dictionary,
                     size_t *n)
{
    struct ArrowSchema schema = {.format = format, .dictionary = (struct ArrowSchema *)(uintptr_t)dictionary};
    st_column c;
    OK(st_column_init(&c, &meter, 0));
    int rc = st_column_add_arrow(&c, &schema, array);
    *n = c.codes.n;
    st_column_free(&c);
    return rc;
}

/* Strings that nobody has as a str. */
static void test_not_utf8(void)
{
    static const char *const whole[] = {"ascii",
                                        "\xC2\x80",
                                        "\xDF\xBF",
                                        "\xE0\xA0\x80",
                                        "\xED\x9F\xBF",
                                        "\xEE\x80\x80",
                                        "\xF0\x90\x80\x80",
                                        "\xF4\x8F\xBF\xBF",
                                        "longer than eight \xC3\xA9!"};
    static const char *const broken[] = {"\x80",
                                         "\xC0\x80",
                                         "\xC1\xBF",
                                         "\xC3",
                                         "\xC3(",
                                         "\xE0\x9F\xBF",
                                         "\xE2\x82",
                                         "\xE2\x82(",
                                         "\xED\xA0\x80",
                                         "\xED\xBF\xBF",
                                         "\xF0\x8F\xBF\xBF",
                                         "\xF0\x9F\x98",
                                         "\xF4\x90\x80\x80",
                                         "\xF5\x80\x80\x80",
                                         "\xFF",
                                         "longer than eight \xC3\xA9 \xFE"};
    for (size_t i = 0; i < 9 + 16; i++) {
        const char *words = i < 9 ? whole[i] : broken[i - 9];
        const int32_t off[] = {0, 0, (int32_t)strlen(words)};
        const void *buffers[] = {NULL, off, words};
        struct ArrowArray array = {.length = 2, .n_buffers = 3, .buffers = buffers};
        size_t n;
        CHECK_INT(read_rows("u", &array, NULL, &n), i < 9 ? ST_OK : ST_EUNSUPPORTED);
        CHECK_INT(n, 2);
    }
}

#define BROKEN_AFTER(rows, format, dictionary)                                                               \
    do {                                                                                                     \
        size_t n_;                                                                                           \
        CHECK_INT(read_rows((format), &array, (dictionary), &n_), ST_EINVAL);                                \
        CHECK_INT(n_, rows);                                                                                 \
    } while (0)

/* Each thing that a reader can see of an array that is broken. */
static void test_broken_arrow(void)
{
    static const char bytes[] = "a text of which views show stretches";
    size_t n;
    /* offsets: a negative one, one that decreases, one beyond the last */
    int32_t off[] = {0, 3, 6, 6, 9};
    const void *buffers[6] = {NULL, off, bytes};
    struct ArrowArray array = {.length = 4, .n_buffers = 3, .buffers = buffers};
    OK(read_rows("u", &array, NULL, &n));
    CHECK_INT(n, 4);
    off[0] = -1;
    BROKEN_AFTER(0, "u", NULL);
    off[0] = 0, off[2] = 2;
    BROKEN_AFTER(1, "u", NULL);
    off[2] = 10;
    BROKEN_AFTER(1, "u", NULL);
    static const uint8_t valid[] = {0x09}; /* both rows that have it are null: nobody reads them */
    buffers[0] = valid;
    OK(read_rows("u", &array, NULL, &n));
    buffers[0] = NULL;
    int64_t wide[] = {0, 3, INT64_MAX, INT64_MIN, 9};
    buffers[1] = wide;
    BROKEN_AFTER(1, "U", NULL);
    /* no text: empty strings alone */
    buffers[1] = off, buffers[2] = NULL, off[2] = 3;
    BROKEN_AFTER(0, "u", NULL);
    off[0] = 3, off[3] = 3, off[4] = 3;
    OK(read_rows("u", &array, NULL, &n));
    CHECK_INT(n, 4);
    /* counts and buffers */
    const struct ArrowArray whole = array;
    static const int64_t lengths[] = {-1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        array.length = lengths[i];
        BROKEN_AFTER(0, "u", NULL);
        array = whole, array.offset = lengths[i];
        BROKEN_AFTER(0, "u", NULL);
        array = whole;
    }
    array.null_count = 5;
    BROKEN_AFTER(0, "u", NULL);
    array.null_count = -2;
    BROKEN_AFTER(0, "u", NULL);
    array = whole, array.n_buffers = 2;
    BROKEN_AFTER(0, "u", NULL);
    array = whole, array.buffers = NULL;
    BROKEN_AFTER(0, "u", NULL);
    array.length = 0; /* no rows need no buffers */
    OK(read_rows("u", &array, NULL, &n));
    array = whole, buffers[1] = NULL;
    BROKEN_AFTER(0, "u", NULL);
    BROKEN_AFTER(0, NULL, NULL);
    /* views: length, buffer, place, size, no buffer, no sizes */
    struct {
        int32_t len;
        char begin[4];
        int32_t which, at;
    } views[2] = {{3, "abc", 0, 0}, {13, "a te", 0, 0}}, view = views[1];
    int64_t sizes[] = {36};
    buffers[1] = views, buffers[2] = bytes, buffers[3] = sizes;
    array.length = 2, array.n_buffers = 4;
    OK(read_rows("vu", &array, NULL, &n));
    CHECK_INT(n, 2);
    views[1].len = -13;
    BROKEN_AFTER(1, "vu", NULL);
    views[1] = view, views[1].which = 1;
    BROKEN_AFTER(1, "vu", NULL);
    views[1].which = -1;
    BROKEN_AFTER(1, "vu", NULL);
    views[1] = view, views[1].at = -1;
    BROKEN_AFTER(1, "vu", NULL);
    views[1].at = 24;
    BROKEN_AFTER(1, "vu", NULL);
    views[1].at = 23;
    OK(read_rows("vu", &array, NULL, &n));
    views[1].len = INT32_MAX, views[1].at = INT32_MAX;
    BROKEN_AFTER(1, "vu", NULL);
    views[1] = view, buffers[2] = NULL;
    BROKEN_AFTER(1, "vu", NULL);
    buffers[2] = bytes, buffers[3] = NULL;
    BROKEN_AFTER(0, "vu", NULL);
    /* a dictionary that is not there, or claims what nobody has; indices that are not there */
    buffers[3] = sizes;
    const struct ArrowSchema strings = {.format = "vu"};
    struct ArrowArray values = array;
    static const uint64_t index[] = {1, UINT64_MAX};
    const void *keys[] = {NULL, index};
    array = (struct ArrowArray){.length = 1, .n_buffers = 2, .buffers = keys, .dictionary = &values};
    OK(read_rows("L", &array, &strings, &n));
    CHECK_INT(n, 1);
    array.length = 2;
    BROKEN_AFTER(1, "L", &strings);
    keys[1] = NULL;
    BROKEN_AFTER(0, "L", &strings);
    keys[1] = index, array.n_buffers = 1;
    BROKEN_AFTER(0, "L", &strings);
    array.n_buffers = 2, values.length = INT64_MAX / 32;
    CHECK_INT(read_rows("L", &array, &strings, &n), ST_ELIMIT);
    values.length = INT64_MAX / 2;
    BROKEN_AFTER(0, "L", &strings);
    array.dictionary = NULL;
    BROKEN_AFTER(0, "L", &strings);
    CHECK_INT(read_rows("LL", &whole, &strings, &n), ST_EINVAL);
}

/* -- Every allocation failing ---------------------------------------------------------------------------- */

static int scenario(void)
{
    st_column column = {0};
    st_counts counts = {0};
    int32_t indptr[300], *map = NULL, *index = NULL;
    double *data = NULL;
    uint32_t *order = NULL;
    int rc = st_column_init(&column, &meter, 10);
    for (size_t i = 0; i < 260 && rc == ST_OK; i++)
        rc = st_column_add(&column, (const uint8_t *)long_text(i), strlen(long_text(i)));
    if (rc == ST_OK) rc = st_column_add_null(&column);
    st_text_spec spec = {ST_CHAR_WB, 2, 3, 1, true, NULL};
    if (rc == ST_OK) rc = st_count(&counts, &meter, &column, &spec, NULL, 2);
    if (rc == ST_OK) {
        size_t n = counts.terms->n;
        map = malloc(n * sizeof *map);
        order = malloc(n * sizeof *order);
        rc = st_terms_sort(counts.terms, order, 2);
        for (size_t i = 0; i < n && rc == ST_OK; i++)
            map[order[i]] = (int32_t)i;
    }
    if (rc == ST_OK) rc = st_counts_layout(&counts, map, indptr);
    if (rc == ST_OK) {
        index = malloc((size_t)indptr[column.strings.n] * sizeof *index);
        data = malloc((size_t)indptr[column.strings.n] * sizeof *data);
        st_rows_spec rows = {.map = map, .order = ST_AS_SEEN, .sort = true, .norm = 2, .number = ST_F64};
        rc = st_counts_rows(&counts, &rows, indptr, index, data, 2);
    }
    free(map);
    free(order);
    free(index);
    free(data);
    st_counts_free(&counts);
    st_column_free(&column);
    return rc;
}

static int dense_scenario(void)
{
    static const int32_t indptr[] = {0, 1, 2}, index[] = {1, 0};
    static const float data[] = {2, 3}, Q[] = {1, 2, 3, 4, 5, 6};
    float Y[6], data_t[2];
    int32_t ptr_t[3], index_t[2];
    int rc = st_csr_dense(&meter, 2, 2, 3, indptr, index, data, Q, Y, 1);
    if (rc == ST_OK) rc = st_csr_transpose(&meter, 2, 2, indptr, index, data, ptr_t, index_t, data_t, 1);
    if (rc == ST_OK) CHECK(Y[0] == 8 && Y[3] == 3 && index_t[0] == 1);
    return rc;
}

static void test_nomem(void)
{
    int (*const scenarios[])(void) = {scenario, dense_scenario};
    for (size_t s = 0; s < 2; s++) {
        int rc = ST_ENOMEM;
        for (long n = 1; rc == ST_ENOMEM; n++) {
            atomic_store(&memory.calls, 0);
            atomic_store(&memory.fail_at, n);
            rc = scenarios[s]();
            atomic_store(&memory.fail_at, 0);
            CHECK(rc == ST_OK || rc == ST_ENOMEM);
            CHECK_INT(atomic_load(&memory.live), 0);
        }
    }
}

int main(void)
{
    RUN(test_terms);
    RUN(test_scan);
    RUN(test_rows);
    RUN(test_fork);
    RUN(test_threads);
    RUN(test_sort);
    RUN(test_dense);
    RUN(test_arrow);
    RUN(test_broken_arrow);
    RUN(test_not_utf8);
    RUN(test_nomem);
    return 0;
}

/* test_encode.c - distinct numbers and strings, and what is made of codes; every allocation failing in turn,
 * one thread and several. */
#include "check.h"

#include "native/encode.h"

#include <math.h>

static void test_numbers(void)
{
    static const double d[] = {2, NAN, -1, 2, -NAN, INFINITY, -INFINITY, -0.0, -1};
    static const uint32_t want[] = {0, 1, 2, 0, 1, 3, 4, 5, 2};
    uint32_t codes[9];
    uint64_t first[9];
    size_t found;
    OK(st_encode_numbers(&meter, d, 8, 9, 8, true, 9, codes, first, &found));
    CHECK_INT(found, 6);
    CHECK(memcmp(codes, want, sizeof want) == 0);
    CHECK(first[1] == 1 && first[5] == 7);
    /* as whole numbers, the two NaN differ; each second item */
    OK(st_encode_numbers(&meter, d, 24, 3, 8, false, 9, codes, first, &found));
    CHECK_INT(found, 2);
    CHECK_INT(st_encode_numbers(&meter, d, 8, 9, 8, true, 5, codes, first, &found), ST_ELIMIT);
    static const float f[] = {0, NAN, -0.0F};
    OK(st_encode_numbers(&meter, f, 4, 2, 4, true, 9, codes, first, &found));
    CHECK_INT(st_encode_numbers(&meter, f, 4, 3, 4, true, 9, codes, first, &found), ST_EUNSUPPORTED);
    /* backwards */
    static const int16_t s[] = {7, 8, 7};
    OK(st_encode_numbers(&meter, s + 2, -2, 3, 2, false, 9, codes, first, &found));
    CHECK(found == 2 && codes[0] == 0 && codes[1] == 1 && codes[2] == 0);
    static const uint8_t b[] = {1, 0, 1, 1};
    OK(st_encode_numbers(&meter, b, 1, 4, 1, false, 9, codes, first, &found));
    int64_t counts[2];
    st_encode_count(4, codes, 2, counts);
    CHECK(found == 2 && counts[0] == 3 && counts[1] == 1);
    OK(st_encode_numbers(&meter, b, 1, 0, 1, false, 9, codes, first, &found));
    CHECK_INT(found, 0);
}

static void test_arrow(void)
{
    static const char bytes[] = "xbeta gamma delta beta the same ends, the same ends; ";
    static const int64_t off[] = {1, 5, 6, 6, 6, 18, 22, 22, 37, 52};
    static const uint8_t valid[] = {0xF7, 0x03}; /* row 3 is null */
    const void *buffers[] = {valid, off, bytes};
    struct ArrowSchema schema = {.format = "U"};
    struct ArrowArray array = {.length = 9, .null_count = 1, .n_buffers = 3, .buffers = buffers};
    st_terms t;
    uint32_t codes[9];
    size_t nulls = 0;
    OK(st_terms_init(&t, &meter, 0));
    OK(st_encode_arrow(&t, &schema, &array, 9, codes, &nulls));
    static const uint32_t want[] = {0, 1, 2, ST_NO_CODE, 3, 0, 2, 4, 5};
    CHECK(memcmp(codes, want, sizeof want) == 0);
    CHECK_INT(nulls, 1);
    /* a slice, with shorter offsets */
    static const int32_t small[] = {1, 5, 6, 6, 6, 18, 22, 22, 37, 52};
    buffers[1] = small;
    schema.format = "u";
    array.offset = 3, array.length = 3;
    OK(st_encode_arrow(&t, &schema, &array, 9, codes, &nulls));
    CHECK(nulls == 2 && codes[0] == ST_NO_CODE && codes[1] == 3 && codes[2] == 0);
    CHECK_INT(t.n, 6);
    CHECK_INT(st_encode_arrow(&t, &schema, &array, 5, codes, &nulls), ST_ELIMIT);
    /* views */
    struct {
        int32_t len;
        char text[12];
    } views[3] = {{4, "beta"}, {15, ""}, {0, ""}};
    static const int32_t at[] = {0, 22};
    memcpy(views[1].text, bytes + 22, 4);
    memcpy(views[1].text + 4, at, 8);
    int64_t sizes[] = {37};
    const void *viewed[] = {NULL, views, bytes, sizes};
    array = (struct ArrowArray){.length = 3, .n_buffers = 4, .buffers = viewed};
    schema.format = "vu";
    OK(st_encode_arrow(&t, &schema, &array, 9, codes, &nulls));
    CHECK(codes[0] == 0 && codes[1] == 4 && codes[2] == 2);
    sizes[0] = 36; /* a view that leaves its buffer */
    CHECK_INT(st_encode_arrow(&t, &schema, &array, 9, codes, &nulls), ST_EINVAL);
    schema.format = "l";
    CHECK_INT(st_encode_arrow(&t, &schema, &array, 9, codes, &nulls), ST_EUNSUPPORTED);
    schema.dictionary = &schema;
    CHECK_INT(st_encode_arrow(&t, &schema, &array, 9, codes, &nulls), ST_EUNSUPPORTED);
    st_terms_free(&t);
}

enum { N = 10000 };

static void test_rows(void)
{
    static uint32_t codes[2][N];
    static int32_t indptr[2][N + 1], index[2][2 * N];
    static float dense[2][N * 4];
    static uint8_t bytes[N * 4];
    static uint16_t shorts[N * 4];
    static double doubles[N * 4];
    static const int32_t first[] = {1, -1, 0}, second[] = {3, 2};
    static const float one = 1;
    static const double wide = 1;
    static const uint8_t byte = 1;
    static const uint16_t word = 1;
    for (size_t r = 0; r < N; r++) {
        codes[0][r] = (uint32_t)(r * 7 % 3);
        codes[1][r] = (uint32_t)(r / 3 % 2);
    }
    const st_feature f[] = {{codes[0], first}, {codes[1], second}};
    for (unsigned t = 0; t < 2; t++) {
        st_encode_dense(N, 2, f, 4, 4, &one, dense[t], 1 + 2 * t);
        OK(st_encode_layout(N, 2, f, indptr[t]));
        st_encode_index(N, 2, f, indptr[t], index[t], 1 + 2 * t);
    }
    CHECK(memcmp(dense[0], dense[1], sizeof dense[0]) == 0);
    CHECK(memcmp(index[0], index[1], sizeof index[0]) == 0);
    st_encode_dense(N, 2, f, 4, 1, &byte, bytes, 1);
    st_encode_dense(N, 2, f, 4, 2, &word, shorts, 1);
    st_encode_dense(N, 2, f, 4, 8, &wide, doubles, 1);
    for (size_t r = 0; r < N; r++) {
        float row[4] = {0};
        if (first[codes[0][r]] >= 0) row[first[codes[0][r]]] = 1;
        row[second[codes[1][r]]] = 1;
        for (size_t c = 0; c < 4; c++)
            CHECK(dense[0][4 * r + c] == row[c] && bytes[4 * r + c] == row[c] &&
                  shorts[4 * r + c] == row[c] && doubles[4 * r + c] == row[c]);
        float sparse[4] = {0};
        for (int32_t e = indptr[0][r]; e < indptr[0][r + 1]; e++)
            sparse[index[0][e]] = 1;
        CHECK(memcmp(row, sparse, sizeof row) == 0);
    }
    static const int32_t values[] = {5, 6, 7};
    static int32_t taken[2 * N];
    st_encode_take(N, codes[0], 4, values, taken + 1, 8);
    CHECK(taken[1] == 5 && taken[3] == 6 && taken[5] == 7 && taken[0] == 0);
    static const uint8_t small[] = {5, 6, 7};
    static const uint16_t middle[] = {5, 6, 7};
    static const int64_t large[] = {5, 6, 7};
    static int64_t out[N];
    st_encode_take(N, codes[0], 8, large, out, 8);
    CHECK(out[0] == 5 && out[2] == 7);
    static uint16_t halves[N];
    st_encode_take(N, codes[0], 2, middle, halves, 2);
    CHECK(halves[0] == 5 && halves[1] == 6);
    st_encode_take(N, codes[0], 1, small, bytes, 1);
    CHECK(bytes[0] == 5 && bytes[2] == 7);
}

static int64_t read_date(const char *format, const char *words)
{
    st_date_layout layout;
    int64_t us = 77;
    CHECK(st_date_layout_read(&layout, format, strlen(format)));
    return st_date_read(&layout, (const uint8_t *)words, strlen(words), &us) ? us : -77;
}

static void test_dates(void)
{
    static const char *const refused[] = {
        "%Y-%m", "%Y-%m-%d %z", "%Y-%m-%d %", "%Y-%m-%d %Y", "%Y%m%d\xC3", "%y-%m-%d", ""};
    st_date_layout layout;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        CHECK(!st_date_layout_read(&layout, refused[i], strlen(refused[i])));
    char many[80] = "%Y%m%d";
    memset(many + 6, '-', 70);
    CHECK(!st_date_layout_read(&layout, many, strlen(many)));
    CHECK_INT(read_date("%Y-%m-%d", "1970-01-01"), 0);
    CHECK_INT(read_date("%d/%m/%Y %H:%M:%S", "29/02/2000 23:59:58"), INT64_C(951868798000000));
    CHECK_INT(read_date("%Y%m%d", "00010101"), INT64_C(-62135596800000000));
    CHECK_INT(read_date("%Y%m%d", "99991231"), INT64_C(253402214400000000));
    static const char *const wrong[] = {"1970-01-1",  "1970-01-010", "1970-13-01", "1970-00-01", "1970-01-32",
                                        "1970-04-31", "1900-02-29",  "1970-02-00", "0000-01-01", "1970/01/01",
                                        "197a-01-01", "a970-01-01",  "",           "1970-01-0:"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_INT(read_date("%Y-%m-%d", wrong[i]), -77);
    CHECK_INT(read_date("%Y-%m-%d %H", "1970-01-01 24"), -77);
    CHECK_INT(read_date("%Y-%m-%d %M", "1970-01-01 60"), -77);
    CHECK_INT(read_date("%Y-%m-%d %S", "1970-01-01 59"), 59000000);
}

/* Every day of some centuries, forwards, against a calendar that counts. */
static void test_parts(void)
{
    enum { DAYS = 300000 };
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    static const st_date_part parts[] = {ST_YEAR,        ST_MONTH,      ST_DAY,          ST_WEEKDAY,
                                         ST_DAY_OF_YEAR, ST_HOUR,       ST_MINUTE,       ST_SECOND,
                                         ST_MICROSECOND, ST_NANOSECOND, ST_TOTAL_SECONDS};
    int64_t *times = malloc(DAYS * sizeof *times);
    float *out = malloc(DAYS * 11 * sizeof *out), *twice = malloc(DAYS * 11 * sizeof *out);
    int64_t first = read_date("%Y-%m-%d", "1499-01-01") / 1000000 / 86400;
    for (int64_t d = 0; d < DAYS; d++)
        times[d] = (first + d) * 86400 + 3600 * (d % 24) + 60 * (d % 60) + d % 59;
    times[7] = ST_NO_DATE;
    st_dates_parts(DAYS, times, 1, 11, parts, out, 1);
    st_dates_parts(DAYS, times, 1, 11, parts, twice, 3);
    CHECK(memcmp(out, twice, DAYS * 11 * sizeof *out) == 0);
    int year = 1499, month = 0, day = 1, of_year = 1, weekday = 7;
    for (int64_t d = 0; d < DAYS; d++) {
        const float *o = out + d;
        if (d == 7)
            for (size_t k = 0; k < 11; k++)
                CHECK(isnan(o[k * DAYS]));
        else
            CHECK(o[0] == (float)year && o[DAYS] == (float)month + 1 && o[2 * DAYS] == (float)day &&
                  o[3 * DAYS] == (float)weekday && o[4 * DAYS] == (float)of_year &&
                  o[5 * DAYS] == (float)(d % 24) && o[6 * DAYS] == (float)(d % 60) &&
                  o[7 * DAYS] == (float)(d % 59) && o[8 * DAYS] == 0 && o[10 * DAYS] == (float)times[d]);
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        weekday = weekday % 7 + 1;
        of_year++;
        if (++day > lengths[month] + (month == 1 && leap)) {
            day = 1;
            if (++month == 12) month = 0, year++, of_year = 1;
        }
    }
    static const int64_t small[] = {-1, 1, INT64_MAX, INT64_MIN + 1};
    static const st_date_part some[] = {ST_YEAR, ST_MICROSECOND, ST_NANOSECOND};
    st_dates_parts(2, small, 1000000000, 3, some, out, 1);
    CHECK(out[0] == 1969 && out[1] == 1970 && out[2] == 999999 && out[3] == 0 && out[4] == 999 &&
          out[5] == 1);
    for (int64_t unit = 1; unit <= 1000000; unit *= 1000)
        st_dates_parts(4, small, unit, 3, some, out, 1);
    /* the least time: its day begins before the least number */
    static const struct {
        int64_t unit;
        float parts[7];
    } least[] = {{1000000000, {1677, 9, 21, 0, 12, 43, 145224}},
                 {1000000, {-290308, 12, 21, 19, 59, 5, 224193}},
                 {1000, {-292275055.0f, 5, 16, 16, 47, 4, 193000}},
                 {1, {-292277022657.0f, 1, 27, 8, 29, 53, 0}}};
    static const st_date_part whole[] = {ST_YEAR,   ST_MONTH,  ST_DAY,        ST_HOUR,
                                         ST_MINUTE, ST_SECOND, ST_MICROSECOND};
    for (size_t u = 0; u < 4; u++) {
        st_dates_parts(1, small + 3, least[u].unit, 7, whole, out, 1);
        for (size_t k = 0; k < 7; k++)
            CHECK(out[k] == least[u].parts[k]);
    }
    static const int64_t nights[] = {0, 86400, ST_NO_DATE, -172800, 5};
    CHECK(st_dates_midnight(4, nights, 1) && !st_dates_midnight(5, nights, 1));
    free(times);
    free(out);
    free(twice);
}

static void test_arrow_dates(void)
{
    static const char bytes[] = "2020-01-011999-12-31";
    static const int32_t off[] = {0, 10, 10, 20};
    static const uint8_t valid[] = {5};
    const void *buffers[] = {valid, off, bytes};
    struct ArrowSchema schema = {.format = "u"};
    struct ArrowArray array = {.length = 3, .null_count = -1, .n_buffers = 3, .buffers = buffers};
    st_date_layout layout;
    int64_t out[3];
    CHECK(st_date_layout_read(&layout, "%Y-%m-%d", 8));
    OK(st_encode_arrow_dates(&layout, &schema, &array, out));
    CHECK(out[0] == INT64_C(1577836800000000) && out[1] == ST_NO_DATE && out[2] == INT64_C(946598400000000));
    buffers[0] = NULL;
    CHECK_INT(st_encode_arrow_dates(&layout, &schema, &array, out), ST_EUNSUPPORTED);
}

static bool among(const st_terms *some, const char *words)
{
    int32_t off[] = {0, 4, 4 + (int32_t)strlen(words)};
    char bytes[100] = "more";
    strcat(bytes, words);
    const void *buffers[] = {NULL, off, bytes};
    struct ArrowSchema schema = {.format = "u"};
    struct ArrowArray array = {.length = 2, .n_buffers = 3, .buffers = buffers};
    bool found = false;
    OK(st_encode_arrow_among(some, &schema, &array, &found));
    schema.format = "i";
    CHECK_INT(st_encode_arrow_among(some, &schema, &array, &found), ST_EUNSUPPORTED);
    return found;
}

static void test_among(void)
{
    static const char *const some[] = {
        "NA", "n/a", "?", "A string of more than sixty-four bytes, which is one for the last bit"};
    st_terms t;
    uint32_t id;
    OK(st_terms_init(&t, &meter, 4));
    for (size_t i = 0; i < 4; i++)
        OK(st_terms_add(&t, (const uint8_t *)some[i], strlen(some[i]), &id));
    for (size_t i = 0; i < 4; i++)
        CHECK(among(&t, some[i]));
    static const char *const not[] = {
        "",   "NB", "xA",  "NAN",
        "n/", " a", "\t?", "A string of more than sixty-four bytes, which is none of those there"};
    for (size_t i = 0; i < sizeof not/ sizeof *not; i++)
        CHECK(!among(&t, not[i]));
    CHECK(among(&t, " ") && among(&t, "\t\n\x1c ") && among(&t, "\xC2\xA0 ") && among(&t, "\xC3\xA9"));
    OK(st_terms_add(&t, (const uint8_t *)"", 0, &id));
    CHECK(among(&t, ""));
    st_terms_free(&t);
}

static int scenario(void)
{
    static const int32_t off[] = {0, 1, 2, 3};
    const void *buffers[] = {NULL, off, "aba"};
    struct ArrowSchema schema = {.format = "u"};
    struct ArrowArray array = {.length = 3, .n_buffers = 3, .buffers = buffers};
    uint64_t numbers[300], first[300];
    uint32_t codes[300];
    size_t found, nulls = 0;
    for (size_t i = 0; i < 300; i++)
        numbers[i] = i * i;
    int rc = st_encode_numbers(&meter, numbers, 8, 300, 8, false, 300, codes, first, &found);
    if (rc == ST_OK) CHECK(found == 300 && codes[299] == 299);
    st_terms t = {0};
    if (rc == ST_OK) rc = st_terms_init(&t, &meter, 0);
    if (rc == ST_OK) rc = st_encode_arrow(&t, &schema, &array, 3, codes, &nulls);
    st_terms_free(&t);
    return rc;
}

static void test_nomem(void)
{
    int rc = ST_ENOMEM;
    for (long n = 1; rc == ST_ENOMEM; n++) {
        atomic_store(&memory.calls, 0);
        atomic_store(&memory.fail_at, n);
        rc = scenario();
        atomic_store(&memory.fail_at, 0);
        CHECK(rc == ST_OK || rc == ST_ENOMEM);
        CHECK_INT(atomic_load(&memory.live), 0);
    }
}

int main(void)
{
    RUN(test_numbers);
    RUN(test_arrow);
    RUN(test_rows);
    RUN(test_dates);
    RUN(test_parts);
    RUN(test_arrow_dates);
    RUN(test_among);
    RUN(test_nomem);
    return 0;
}

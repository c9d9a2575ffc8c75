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
    const void *viewed[] = {NULL, views, bytes};
    array = (struct ArrowArray){.length = 3, .n_buffers = 3, .buffers = viewed};
    schema.format = "vu";
    OK(st_encode_arrow(&t, &schema, &array, 9, codes, &nulls));
    CHECK(codes[0] == 0 && codes[1] == 4 && codes[2] == 2);
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
    RUN(test_nomem);
    return 0;
}

/* test_base.c - error codes, growing arrays, the hash, values. */
#include "base/internal.h"
#include "check.h"

static void codes(void)
{
    for (int c = 0; c < ST_N_CODES; c++) {
        CHECK(st_code_text(c)[0] != 0);
        for (int d = 0; d < c; d++)
            CHECK(strcmp(st_code_text(c), st_code_text(d)) != 0);
    }
    CHECK_STR(st_code_text(-1), "unknown code");
    CHECK_STR(st_code_text(ST_N_CODES), "unknown code");
    st_error err = {0};
    CHECK_INT(st_fail(&err, ST_EINVAL, "no %s number %d", "such", 7), ST_EINVAL);
    CHECK_INT(err.code, ST_EINVAL);
    CHECK_STR(err.message, "no such number 7");
    CHECK_INT(st_fail(NULL, ST_ENOMEM, "nobody %s", "listens"), ST_ENOMEM);
    char big[1000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    st_fail(&err, ST_EHOST, "%s", big);
    CHECK_INT(strlen(err.message), sizeof err.message - 1);
    CHECK(strcmp(st_version(), "") != 0);
}

static void vectors(void)
{
    ST_VEC(int) v = {0};
    for (int i = 0; i < 1000; i++) {
        OK(st_vec_reserve(&meter, &v, 1));
        v.v[v.n++] = i;
    }
    for (int i = 0; i < 1000; i++)
        CHECK_INT(v.v[i], i);
    CHECK(v.cap >= 1000 && v.cap <= 2048);
    size_t cap = 8;
    void *p = NULL;
    CHECK_INT(st_vec_grow_(&meter, &p, &cap, SIZE_MAX / 2 + 2, 1), ST_ENOMEM);
    CHECK_INT(st_vec_grow_(&meter, &p, &cap, SIZE_MAX / 16, 64), ST_ENOMEM);
    CHECK(p == NULL && cap == 8);
    st_vec_free(&meter, &v);
}

static bool same(st_hash a, st_hash b) { return st_hash_eq(a, b); }

static void hash_lengths_and_places(void)
{
    unsigned char buf[300] = {0};
    st_hash seen[301];
    /* Runs of zero bytes: only their length tells them apart. */
    for (size_t n = 0; n <= 300; n++) {
        seen[n] = st_hash_bytes(buf, n, 0);
        for (size_t k = 0; k < n; k++)
            CHECK(!same(seen[n], seen[k]));
    }
    /* Every single byte counts, and where it stands. */
    for (size_t n = 1; n <= 200; n += 7) {
        st_hash zero = st_hash_bytes(buf, n, 0), last = zero;
        for (size_t i = 0; i < n; i++) {
            buf[i] = 1;
            st_hash h = st_hash_bytes(buf, n, 0);
            CHECK(!same(h, zero) && !same(h, last));
            CHECK(h.lo != zero.lo && h.hi != zero.hi);
            last = h;
            buf[i] = 0;
        }
    }
    CHECK(!same(st_hash_bytes("a", 1, 0), st_hash_bytes("a", 1, 1)));
    CHECK(same(st_hash_bytes(NULL, 0, 5), st_hash_bytes("x", 0, 5)));
}

static void hash_alignment(void)
{
    unsigned char data[150], shifted[160];
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)random_next(&seed);
    for (size_t n = 0; n <= sizeof data; n++) {
        st_hash h = st_hash_bytes(data, n, 9);
        for (size_t off = 1; off < 9; off += 3) {
            memcpy(shifted + off, data, n);
            CHECK(same(h, st_hash_bytes(shifted + off, n, 9)));
        }
    }
}

static int by_lo(const void *a, const void *b)
{
    const st_hash *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo ? 1 : x->hi < y->hi ? -1 : x->hi > y->hi;
}

/* A million small keys: no equal hashes, not even equal halves (expected: 3e-8 pairs). */
static void hash_small_keys(void)
{
    enum { N = 1000000 };
    st_hash *h = malloc(N * sizeof *h);
    CHECK(h != NULL);
    for (uint64_t i = 0; i < N; i++) {
        unsigned char key[9] = {(unsigned char)(i % 15)};
        memcpy(key + 1, &i, 8);
        h[i] = st_hash_bytes(key, sizeof key, 3);
    }
    qsort(h, N, sizeof *h, by_lo);
    for (size_t i = 1; i < N; i++)
        CHECK(h[i].lo != h[i - 1].lo);
    for (size_t i = 0; i < N; i++) {
        uint64_t t = h[i].lo;
        h[i].lo = h[i].hi;
        h[i].hi = t;
    }
    qsort(h, N, sizeof *h, by_lo);
    for (size_t i = 1; i < N; i++)
        CHECK(h[i].lo != h[i - 1].lo);
    free(h);
}

/* Each input bit changes each output bit about half of the time. */
static void hash_avalanche(void)
{
    uint64_t seed = 2;
    unsigned flips[128] = {0};
    enum { ROUNDS = 400, BITS = 72 };
    for (int r = 0; r < ROUNDS; r++) {
        unsigned char key[9];
        for (size_t i = 0; i < sizeof key; i++)
            key[i] = (unsigned char)random_next(&seed);
        st_hash a = st_hash_bytes(key, sizeof key, 0);
        for (int b = 0; b < BITS; b++) {
            key[b / 8] ^= (unsigned char)(1u << (b % 8));
            st_hash c = st_hash_bytes(key, sizeof key, 0);
            key[b / 8] ^= (unsigned char)(1u << (b % 8));
            for (int i = 0; i < 64; i++) {
                flips[i] += (unsigned)((a.lo ^ c.lo) >> i & 1);
                flips[64 + i] += (unsigned)((a.hi ^ c.hi) >> i & 1);
            }
        }
    }
    for (int i = 0; i < 128; i++) {
        double p = flips[i] / (double)(ROUNDS * BITS); /* standard deviation 0.003 */
        CHECK(p > 0.48 && p < 0.52);
    }
}

static void hash_mix(void)
{
    st_hash a = st_hash_bytes("a", 1, 0), b = st_hash_bytes("b", 1, 0), z = {0, 0};
    CHECK(!same(st_hash_mix(a, b), st_hash_mix(b, a)));
    CHECK(!same(st_hash_mix(a, z), st_hash_mix(z, a)));
    CHECK(!same(st_hash_mix(a, b), a));
    CHECK(same(st_hash_mix(a, b), st_hash_mix(a, b)));
    CHECK(!same(st_hash_mix(st_hash_mix(a, b), z), st_hash_mix(a, st_hash_mix(b, z))));
}

static void values(void)
{
    st_value *a, *b, *c, *d;
    OK(number_new(5, true, &a));
    OK(number_new(5, true, &b));
    OK(number_new(6, true, &c));
    OK(number_new(5, false, &d));
    CHECK(st_value_equal(a, a) && st_value_equal(a, b));
    CHECK(same(st_value_hash(a), st_value_hash(b)));
    CHECK(!st_value_equal(a, c) && !st_value_equal(a, d) && !st_value_equal(d, a));
    CHECK(st_value_equal(d, d));
    CHECK(st_value_encoded(a) && !st_value_encoded(d));
    size_t n;
    long x;
    const void *enc = st_value_encoding(a, &n);
    CHECK_INT(n, sizeof x);
    memcpy(&x, enc, sizeof x);
    CHECK_INT(x, 5);
    CHECK(st_value_encoding(d, &n) == NULL);
    CHECK_INT(st_value_bytes(a), sizeof(long));
    char buf[16];
    OK(st_value_describe(a, buf, sizeof buf));
    CHECK_STR(buf, "#5");
    CHECK(st_value_host(a) == &number_host);
    CHECK(st_value_retain(a) == a && st_value_retain(NULL) == NULL);
    st_value_release(a);
    CHECK_INT(atomic_load(&numbers_alive), 4);
    st_value_release(a);
    CHECK_INT(atomic_load(&numbers_alive), 3);
    st_value_release(b);
    st_value_release(c);
    st_value_release(d);
    st_value_release(NULL);

    /* A host may leave everything out; handles to one object are equal without an encoding. */
    static const st_host bare = {"bare", NULL, NULL, NULL}, other = {"other", NULL, NULL, NULL};
    int obj = 0;
    OK(st_value_new(&meter, &bare, &obj, NULL, 0, &a));
    OK(st_value_new(&meter, &bare, &obj, NULL, 0, &b));
    OK(st_value_new(&meter, &other, &obj, NULL, 0, &c));
    OK(st_value_new(&meter, &bare, &obj, "", 0, &d)); /* an empty encoding is one */
    CHECK(st_value_equal(a, b) && !st_value_equal(a, c) && !st_value_equal(a, d));
    CHECK(st_value_encoded(d));
    CHECK_INT(st_value_bytes(a), 0);
    OK(st_value_describe(a, buf, sizeof buf));
    CHECK_STR(buf, "<bare>");
    st_value_release(a);
    st_value_release(b);
    st_value_release(c);
    st_value_release(d);
}

static void *retain_and_release(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        st_value *v = st_value_retain(arg);
        CHECK_INT(number_of(v), 1);
        st_value_release(v);
    }
    st_value_release(arg);
    return NULL;
}

static void values_in_threads(void)
{
    st_value *v;
    pthread_t t[4];
    OK(number_new(1, true, &v));
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], NULL, retain_and_release, st_value_retain(v)) == 0);
    st_value_release(v);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
}

int main(void)
{
    RUN(codes);
    RUN(vectors);
    RUN(hash_lengths_and_places);
    RUN(hash_alignment);
    RUN(hash_small_keys);
    RUN(hash_avalanche);
    RUN(hash_mix);
    RUN(values);
    RUN(values_in_threads);
    return 0;
}

/* test_cache.c - values in memory under keys: hits, equal keys of other encodings, what goes first, limits,
 * threads, no memory. */
#include "check.h"

#include "stratum/cache.h"

static st_hash key(uint64_t k) { return (st_hash){k, ~k}; }

/* Put the number k under key k; the cache's answer. */
static int put(st_cache *c, uint64_t k, size_t bytes, double seconds)
{
    st_value *v = NULL;
    int rc = number_new((long)k, false, &v);
    if (rc == ST_OK) rc = st_cache_put(c, key(k), &k, sizeof k, v, bytes, seconds);
    st_value_release(v);
    return rc;
}

static bool has(st_cache *c, uint64_t k)
{
    st_value *v = st_cache_get(c, key(k), &k, sizeof k);
    if (v) CHECK_INT(number_of(v), (long)k);
    st_value_release(v);
    return v != NULL;
}

static st_cache *new_cache(size_t bytes)
{
    st_cache *c = NULL;
    OK(st_cache_new(&meter, bytes, &c));
    return c;
}

static void round_trip(void)
{
    st_cache *c = new_cache(1 << 20);
    CHECK(!st_cache_knows(c, key(1)) && !has(c, 1));
    OK(put(c, 1, 100, 1.0));
    CHECK(st_cache_knows(c, key(1)) && has(c, 1));
    /* An equal key is no hit where the encoding is another one. */
    uint64_t other = 2;
    CHECK(!st_cache_get(c, key(1), &other, sizeof other));
    CHECK(!st_cache_get(c, key(1), &other, 1));
    OK(put(c, 1, 100, 1.0)); /* replaced */
    CHECK(has(c, 1));
    st_cache_stats s = st_cache_get_stats(c);
    CHECK_INT(s.entries, 1);
    CHECK_INT(s.hits, 2);
    CHECK_INT(s.misses, 3);
    CHECK_INT(s.put, 2);
    CHECK_INT(s.evicted, 0);
    CHECK(s.saved == 2.0);
    expect_numbers(1);
    st_cache_clear(c);
    CHECK(!st_cache_knows(c, key(1)));
    expect_numbers(0);
    CHECK_INT(st_cache_get_stats(c).bytes, 0);
    st_cache_free(c);
    st_cache_free(NULL);
}

static void what_goes_first(void)
{
    st_cache *c = new_cache(10000);
    /* Nine values of some 1,000 bytes, each a second dearer than the one before. */
    for (uint64_t k = 0; k < 9; k++)
        OK(put(c, k, 800, 1.0 + (double)k));
    for (int i = 0; i < 20; i++)
        CHECK(has(c, 0)); /* cheap, but asked for again and again */
    OK(put(c, 100, 3000, 1e4));
    CHECK(has(c, 100) && has(c, 0) && has(c, 8));
    CHECK(!has(c, 1)); /* the cheapest that nobody asked for */
    /* Not worth what would have to go for it; larger than the cache. */
    CHECK_INT(put(c, 200, 9000, 1e-9), ST_ELIMIT);
    CHECK_INT(put(c, 201, 20000, 1e9), ST_ELIMIT);
    CHECK(!has(c, 200) && !has(c, 201));
    st_cache_stats s = st_cache_get_stats(c);
    CHECK_INT(s.refused, 2);
    CHECK(s.bytes <= 10000 && s.evicted > 0);
    st_cache_set_limit(c, 0, 0);
    CHECK_INT(st_cache_get_stats(c).entries, 0);
    CHECK_INT(put(c, 1, 0, 1), ST_ELIMIT);
    st_cache_free(c);
}

/* What was dear long ago goes when nobody asks for it: the clock moves with what goes. */
static void ages(void)
{
    st_cache *c = new_cache(20000);
    OK(put(c, 0, 1000, 50.0));
    for (uint64_t k = 1; k < 900; k++)
        OK(put(c, k, 1000, 5.0));
    CHECK(!has(c, 0) && has(c, 899));
    st_cache_free(c);
}

/* Beyond its floor the cache takes only half of what the process leaves below its own peak. */
static void fits_below_the_peak(void)
{
    st_cache *c = new_cache(0);
    st_cache_fit(c, 100000); /* the process's peak before there was a cache */
    st_cache_set_limit(c, 1000000, 5000);
    CHECK_INT(st_cache_get_stats(c).max_bytes, 5000);
    st_cache_fit(c, 40000);
    CHECK_INT(st_cache_get_stats(c).max_bytes, 30000);
    for (uint64_t k = 0; k < 40; k++)
        (void)!put(c, k, 900, 1.0);
    size_t kept = st_cache_get_stats(c).bytes;
    CHECK(kept > 28000 && kept <= 30000);
    st_cache_fit(c, 40000 + kept); /* what is kept is not the process's own */
    CHECK_INT(st_cache_get_stats(c).max_bytes, 30000);
    CHECK_INT(st_cache_get_stats(c).bytes, kept);
    st_cache_fit(c, 92000 + kept); /* it grows: what is kept makes room */
    CHECK_INT(st_cache_get_stats(c).max_bytes, 5000);
    kept = st_cache_get_stats(c).bytes;
    CHECK(kept > 3000 && kept <= 5000);
    st_cache_fit(c, 300000 + kept); /* a new peak */
    st_cache_fit(c, 0);
    CHECK_INT(st_cache_get_stats(c).max_bytes, 150000);
    st_cache_set_limit(c, 2000, 5000); /* the limit is above the floor */
    CHECK_INT(st_cache_get_stats(c).max_bytes, 2000);
    CHECK(st_cache_get_stats(c).bytes <= 2000);
    st_cache_free(c);
}

static void *work(void *arg)
{
    st_cache *c = arg;
    for (uint64_t i = 0; i < 4000; i++) {
        uint64_t k = (i * 7919) % 997;
        if (!has(c, k)) {
            int rc = put(c, k, 200, (double)(k % 10));
            CHECK(rc == ST_OK || rc == ST_ELIMIT);
        }
        if (i % 1000 == 999) st_cache_set_limit(c, 20000 + 1000 * (i % 3000), 20000);
    }
    return NULL;
}

static void threads(void)
{
    st_cache *c = new_cache(60000);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], NULL, work, c) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
    st_cache_stats s = st_cache_get_stats(c);
    CHECK(s.hits > 0 && s.evicted > 0);
    st_cache_free(c);
}

/* All of it, told to stop at the first failure. */
static int everything(void)
{
    st_cache *c = NULL;
    int rc = st_cache_new(&meter, 1 << 20, &c);
    if (rc != ST_OK) return rc;
    for (uint64_t k = 0; rc == ST_OK && k < 20; k++) {
        rc = put(c, k, 10, 1.0);
        CHECK(has(c, k) == (rc == ST_OK));
    }
    st_cache_free(c);
    return rc;
}

static void without_memory(void) { check_without_memory(everything); }

int main(void)
{
    RUN(round_trip);
    RUN(what_goes_first);
    RUN(ages);
    RUN(fits_below_the_peak);
    RUN(threads);
    RUN(without_memory);
    return 0;
}

/* test_tiles.c - every shape of tile that this processor can run gives the bits of the baseline's. */
#define st_gram tiles_gram
#include "check.h"

#include "kernels/gram.h"

/* the kernel once more, with its insides */
int tiles_gram(const st_alloc *a, const st_gram_in *in, unsigned threads, st_gram_out *out);
#include "kernels/gram.c"

enum { MOST = 6, ROWS = DEPTH, WIDE = (MOST + 1) * PANEL };

static void tiles_of(tile_fn tiles, tile_fn base, st_real type)
{
    static double numbers[ROWS * WIDE], got[PANEL * WIDE], want[PANEL * WIDE];
    uint64_t seed = 3;
    for (size_t rows = 1; rows <= ROWS; rows += 19)
        for (size_t panels = 1; panels <= MOST; panels++) {
            for (size_t i = 0; i < ROWS * WIDE; i++) {
                double v = (double)(random_next(&seed) >> 11) * 0x1p-52 - 1;
                if (type == ST_F64)
                    numbers[i] = v;
                else
                    ((float *)numbers)[i] = (float)v;
            }
            for (size_t i = 0; i < PANEL * WIDE; i++)
                got[i] = want[i] = (double)i / 7;
            size_t item = type == ST_F64 ? sizeof(double) : sizeof(float);
            const char *right = (const char *)numbers + PANEL * item;
            base(numbers, right, rows, WIDE, panels, want, WIDE);
            tiles(numbers, right, rows, WIDE, panels, got, WIDE);
            CHECK(memcmp(got, want, sizeof got) == 0);
            CHECK(want[0] != 0 && want[panels * PANEL] == (double)(panels * PANEL) / 7);
        }
}

static void tiles_agree(void)
{
    tiles_of(choose_tile(ST_F64), tile_base, ST_F64);
    tiles_of(choose_tile(ST_F32), narrow_base, ST_F32);
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2")) {
        tiles_of(tile_avx2, tile_base, ST_F64);
        tiles_of(narrow_avx2, narrow_base, ST_F32);
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        tiles_of(tile_avx512, tile_base, ST_F64);
        tiles_of(narrow_avx512, narrow_base, ST_F32);
        tiles_of(tile_halved, tile_base, ST_F64);
        tiles_of(narrow_halved, narrow_base, ST_F32);
    }
#endif
}

int main(void)
{
    RUN(tiles_agree);
    return 0;
}

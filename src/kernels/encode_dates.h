/* encode_dates.h - dates written in one fixed layout, and the parts of dates; private to the library.
 *
 * The calendar is the Gregorian one, also before its time, as everywhere in datetime libraries.
 *
 * Threads: any thread may call; st_dates_parts uses `threads`, with the same result.
 * Memory:  nothing is allocated; arrays are the caller's.
 */
#ifndef ST_KERNELS_ENCODE_DATES_H
#define ST_KERNELS_ENCODE_DATES_H

#include "base/internal.h"

#define ST_NO_DATE INT64_MIN

/* A layout: where in a text of `len` bytes stands what. */
typedef struct st_date_layout {
    size_t len;
    int at[6]; /* year (four digits), month, day, hour, minute, second (two each); -1: not there */
    uint64_t literal[8], mask[8]; /* the other bytes of a text, and where they stand */
} st_date_layout;

/* From a format of %Y %m %d %H %M %S and ASCII characters.  False: another format, one without a whole date,
 * or longer than 63 bytes. */
bool st_date_layout_read(st_date_layout *layout, const char *format, size_t len);

/* Microseconds since 1970; false where the text is not a date in this layout. */
bool st_date_read(const st_date_layout *layout, const uint8_t *p, size_t len, int64_t *us);

typedef enum st_date_part {
    ST_YEAR,
    ST_MONTH,
    ST_DAY,
    ST_HOUR,
    ST_MINUTE,
    ST_SECOND,
    ST_MICROSECOND,
    ST_NANOSECOND,
    ST_TOTAL_SECONDS,
    ST_WEEKDAY, /* Monday: 1 */
    ST_DAY_OF_YEAR
} st_date_part;

/* out[k * n + r]: part k of time r as a float, NaN for ST_NO_DATE.  Times count units of which a second has
 * `per_second` (1, 1000, ..., 1e9). */
void st_dates_parts(size_t n, const int64_t *times, int64_t per_second, size_t n_parts,
                    const st_date_part *parts, float *out, unsigned threads);

/* Whether no time of day is another than midnight. */
bool st_dates_midnight(size_t n, const int64_t *times, int64_t per_second);

#endif

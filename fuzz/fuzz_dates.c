/* fuzz_dates.c - the reader of dates in a fixed layout and the parts of times, against a plain calendar.
 *
 * Formats: the six directives in any order, some left out, twice, unknown, with literals of any byte, up to
 * and beyond the longest.  Texts: dates of the years 0 to 9999 written in the format, days that do not exist
 * included, and the same with bytes changed, added or cut off.  Times: of each unit, no date, around the ends
 * of days and years, the largest and the least.  The calendar here walks from year to year and from month to
 * month; it shares nothing with the library but what is asked.  One thread and two give the same bits.
 */
#include "driver.h"
#include "kernels/encode_dates.h"

#include <math.h>

/* -- A plain calendar --------------------------------------------------------------------------------------
 */

static int days_in_year(int64_t year)
{
    if (year % 400 == 0) return 366;
    if (year % 100 == 0) return 365;
    return year % 4 == 0 ? 366 : 365;
}

static int days_in_month(int64_t year, int month)
{
    static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && days_in_year(year) == 366);
}

typedef struct date {
    int64_t year;
    int month, day, of_year;
} date;

/* The date that is so many days after 1970-01-01.  400 years have 146,097 days. */
static date date_after(int64_t days)
{
    date d = {.year = 1970};
    int64_t spans = days / 146097;
    days %= 146097;
    d.year += 400 * spans;
    while (days < 0)
        days += days_in_year(--d.year);
    while (days >= days_in_year(d.year))
        days -= days_in_year(d.year++);
    d.of_year = (int)days + 1;
    d.month = 1;
    while (days >= days_in_month(d.year, d.month))
        days -= days_in_month(d.year, d.month++);
    d.day = (int)days + 1;
    return d;
}

/* Days from 1970-01-01 to a date of the years 1 to 9999. */
static int64_t days_until(int year, int month, int day)
{
    int64_t days = day - 1;
    for (int m = 1; m < month; m++)
        days += days_in_month(year, m);
    for (int y = 1970; y < year; y++)
        days += days_in_year(y);
    for (int y = year; y < 1970; y++)
        days -= days_in_year(y);
    return days;
}

/* -- Reading ------------------------------------------------------------------------------------------------
 */

static const char directives[] = "YmdHMS";

/* What a format is to the reader: the length of its texts, or 0 where it is refused. */
static size_t length_of(const char *format, size_t len)
{
    size_t n = 0, seen[6] = {0};
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)format[i];
        if (c == 0 || c >= 0x80) return 0;
        if (c != '%') {
            n++;
            continue;
        }
        if (++i == len) return 0;
        size_t k = 0;
        while (k < 6 && directives[k] != format[i])
            k++;
        if (k == 6 || seen[k]++) return 0;
        n += k == 0 ? 4 : 2;
    }
    return seen[0] && seen[1] && seen[2] && n <= 63 ? n : 0;
}

/* A text read along its format; false: it is no date. */
static bool read_slowly(const char *format, size_t len, const uint8_t *p, size_t n, int64_t *us)
{
    int part[6] = {0};
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        if (format[i] != '%') {
            if (at == n || p[at++] != (uint8_t)format[i]) return false;
            continue;
        }
        size_t k = (size_t)(strchr(directives, format[++i]) - directives);
        for (int digits = k == 0 ? 4 : 2; digits; digits--) {
            if (at == n || p[at] < '0' || p[at] > '9') return false;
            part[k] = 10 * part[k] + (p[at++] - '0');
        }
    }
    if (at != n || part[0] < 1 || part[1] < 1 || part[1] > 12 || part[2] < 1) return false;
    if (part[2] > days_in_month(part[0], part[1])) return false;
    if (part[3] > 23 || part[4] > 59 || part[5] > 59) return false;
    *us = days_until(part[0], part[1], part[2]) * 86400000000 +
          (part[3] * 3600 + part[4] * 60 + part[5]) * (int64_t)1000000;
    return true;
}

static size_t make_format(program *b, char *format)
{
    char order[6];
    memcpy(order, directives, 6);
    for (unsigned i = 5; i; i--) {
        unsigned k = byte(b) % (i + 1);
        char c = order[i];
        order[i] = order[k];
        order[k] = c;
    }
    size_t n = 0;
    unsigned kind = byte(b);
    for (unsigned i = 0; i < 6; i++) {
        /* mostly all dates are whole */
        bool time = strchr("HMS", order[i]) != NULL;
        if (byte(b) % (time ? 3 : 60) == 0) continue;
        for (unsigned more = kind % 16 == 1 ? byte(b) % 20 : byte(b) % 3; more; more--) {
            unsigned c = byte(b);
            format[n++] = "-/ :.T_x0Z"[c % 10];
            /* long ones are of these alone, or hardly one were taken */
            if (kind % 16 != 1 && c % 16 == 0) format[n - 1] = c % 32 || c == 0 ? (char)c : '%';
        }
        format[n++] = '%';
        format[n++] = kind % 32 == 2 ? (char)byte(b) : kind % 32 == 18 ? directives[byte(b) % 6] : order[i];
    }
    if (kind % 16 == 3 || kind % 32 == 1) format[n++] = 'Z';
    return n;
}

/* A text in the format; numbers mostly such as there are, at the ends of what there is often. */
static size_t make_text(program *b, const char *format, size_t len, uint8_t *p)
{
    static const int most[6] = {9999, 12, 31, 23, 59, 59};
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        const char *name = NULL;
        if (format[i] == '%' && i + 1 < len && format[i + 1]) name = strchr(directives, format[i + 1]);
        if (!name) {
            p[n++] = (uint8_t)format[i];
            continue;
        }
        i++;
        size_t k = (size_t)(name - directives);
        unsigned how = byte(b), x = how % 4 ? byte(b) << 8 | byte(b) : byte(b);
        int value = (int)(x % (unsigned)(most[k] + 2));
        if (how % 8 == 1) value = most[k];
        if (how % 8 == 2) value = k == 0 ? (int)(x % 100) * 100 : 1; /* leap years, or not */
        if (how % 8 == 3) value = k == 1 ? 2 : k == 2 ? 29 : value;
        char text[16];
        int digits = snprintf(text, sizeof text, k == 0 ? "%04d" : "%02d", value);
        memcpy(p + n, text, (size_t)digits);
        n += (size_t)digits;
    }
    unsigned change = byte(b);
    if (change % 8 == 1 && n) p[byte(b) % n] = (uint8_t)byte(b);
    if (change % 8 == 2 && n) p[byte(b) % n] = (uint8_t)('0' + byte(b) % 10);
    if (change % 32 == 3) p[n++] = (uint8_t)byte(b);
    if (change % 32 == 4 && n) n--;
    return n;
}

static void reading(program *b)
{
    char format[256];
    uint8_t text[512];
    size_t len = make_format(b, format), want = length_of(format, len);
    st_date_layout layout;
    /* exactly as long as they are: a checker sees what is read beside them */
    char *own = malloc(len ? len : 1);
    CHECK(own != NULL);
    memcpy(own, format, len);
    bool taken = st_date_layout_read(&layout, own, len);
    free(own);
    CHECK(taken == (want != 0));
    if (!taken) return;
    CHECK(layout.len == want);
    for (int i = 0; i < 4; i++) {
        size_t n = make_text(b, format, len, text);
        int64_t us = 0, slowly = 0;
        uint8_t *p = malloc(n ? n : 1);
        CHECK(p != NULL);
        memcpy(p, text, n);
        bool read = st_date_read(&layout, p, n, &us);
        free(p);
        CHECK(read == read_slowly(format, len, text, n, &slowly));
        if (read) CHECK(us == slowly);
    }
}

/* -- Parts
 * ---------------------------------------------------------------------------------------------------- */

enum { N_PARTS = ST_DAY_OF_YEAR + 1, MOST_TIMES = 6000 };

/* All parts of one time, as floats. */
static void parts_slowly(int64_t t, int64_t per_second, float *out)
{
    if (t == ST_NO_DATE) {
        for (int k = 0; k < N_PARTS; k++)
            out[k] = NAN;
        return;
    }
    uint64_t per_day = 86400 * (uint64_t)per_second, rest;
    int64_t day;
    if (t >= 0) {
        day = (int64_t)((uint64_t)t / per_day);
        rest = (uint64_t)t % per_day;
    } else {
        uint64_t back = 0 - (uint64_t)t, days = back / per_day + (back % per_day != 0);
        day = -(int64_t)days;
        rest = days * per_day - back;
    }
    int64_t second = (int64_t)(rest / (uint64_t)per_second);
    int64_t nanosecond = (int64_t)(rest % (uint64_t)per_second) * (1000000000 / per_second);
    date d = date_after(day);
    out[ST_YEAR] = (float)d.year;
    out[ST_MONTH] = (float)d.month;
    out[ST_DAY] = (float)d.day;
    out[ST_HOUR] = (float)(second / 60 / 60);
    out[ST_MINUTE] = (float)(second / 60 - second / 60 / 60 * 60);
    out[ST_SECOND] = (float)(second - second / 60 * 60);
    out[ST_MICROSECOND] = (float)(nanosecond / 1000);
    out[ST_NANOSECOND] = (float)(nanosecond % 1000);
    out[ST_TOTAL_SECONDS] = (float)((double)t / (double)per_second);
    int64_t weekday = 3; /* a Thursday, Monday being 0 */
    weekday = (weekday + day % 7 + 7) % 7;
    out[ST_WEEKDAY] = (float)(weekday + 1);
    out[ST_DAY_OF_YEAR] = (float)d.of_year;
}

static int64_t make_time(program *b, int64_t per_second)
{
    unsigned how = byte(b);
    uint64_t w = word(b);
    int64_t x = (int64_t)w;
    switch (how % 8) {
    case 0: return ST_NO_DATE;
    case 1: return x;
    case 2: return how & 8 ? INT64_MAX - (int64_t)(w % 3) : INT64_MIN + 1 + (int64_t)(w % 3);
    case 3: return (int64_t)(w % 2000) - 1000;
    case 4: /* beside a midnight */
    {
        int64_t most = INT64_MAX / 86400 / per_second - 1;
        return x % most * 86400 * per_second + (int)(how / 8 % 3) - 1;
    }
    case 5: /* beside a new year or a first of March of the years 1 to 9999, where the unit reaches it */
    {
        int year = how & 128 ? 100 * (1 + (int)(w % 99)) : 1 + (int)(w % 9999);
        int64_t day = days_until(year, how & 8 ? 1 : 3, 1);
        int64_t most = INT64_MAX / 86400 / per_second - 1;
        return day % most * 86400 * per_second + (int)(how / 16 % 3) - 1;
    }
    default: return x >> (how / 8 % 32);
    }
}

static void taking_apart(program *b)
{
    static const int64_t units[] = {1, 1000, 1000000, 1000000000, 10, 1000000000};
    int64_t per_second = units[byte(b) % 6];
    size_t n = byte(b) % 40;
    /* now and then more than one block: then the times repeat */
    size_t rows = byte(b) == 77 ? 2000 + word(b) % (MOST_TIMES - 2000) : n;
    if (!n) rows = 0;
    int64_t *times = malloc((rows + 1) * sizeof *times);
    float *want = malloc((n + 1) * N_PARTS * sizeof *want);
    float *got = malloc((rows * N_PARTS + 1) * sizeof *got),
          *two = malloc((rows * N_PARTS + 1) * sizeof *two);
    CHECK(times && want && got && two);
    st_date_part part[N_PARTS];
    size_t n_parts = 0;
    unsigned chosen = byte(b) << 8 | byte(b);
    for (unsigned k = 0; k < N_PARTS; k++)
        if (chosen >> k & 1) part[n_parts++] = (st_date_part)((k + chosen / 4096) % N_PARTS);
    bool midnight = true;
    for (size_t r = 0; r < rows; r++) {
        times[r] = r < n ? make_time(b, per_second) : times[r % n];
        if (r < n) parts_slowly(times[r], per_second, want + r * N_PARTS);
        if (times[r] == ST_NO_DATE) continue;
        if (times[r] % (86400 * per_second) != 0) midnight = false;
    }
    CHECK(st_dates_midnight(rows, times, per_second) == midnight);
    st_dates_parts(rows, times, per_second, n_parts, part, got, 1);
    for (size_t k = 0; k < n_parts; k++)
        for (size_t r = 0; r < rows; r++) {
            float x = got[k * rows + r], y = want[r % n * N_PARTS + part[k]];
            CHECK(isnan(y) ? isnan(x) : x == y);
        }
    st_dates_parts(rows, times, per_second, n_parts, part, two, 2);
    CHECK(memcmp(got, two, rows * n_parts * sizeof *got) == 0);
    free(times);
    free(want);
    free(got);
    free(two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    program b = {data, size};
    for (unsigned k = byte(&b); b.left; k = byte(&b)) {
        if (k % 2)
            reading(&b);
        else
            taking_apart(&b);
    }
    CHECK(blocks == 0);
    return 0;
}

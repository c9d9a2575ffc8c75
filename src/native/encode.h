/* encode.h - the strings of an Arrow column, numbered or read as dates; private to the library and the
 * extension.
 *
 * Unlike st_column (text.h) a missing value is none of the strings, and rows are written where the caller
 * wants them: what categories need and n-grams do not.
 *
 * Threads: one thread at a time a table of strings.
 * Memory:  the table is the caller's (st_terms_init, st_terms_free), as are codes.
 */
#ifndef ST_NATIVE_ENCODE_H
#define ST_NATIVE_ENCODE_H

#include "kernels/encode.h"
#include "kernels/encode_dates.h"
#include "native/text.h"

/* The numbers of the rows of an array of strings (u, U, vu), by first sight in all arrays that went into the
 * table; ST_NO_CODE for null.  `codes` has room for array->length.  ST_EUNSUPPORTED: another type.
 * ST_EINVAL: an array that is broken (arrow.h), which holds of the functions below as well.  ST_ELIMIT: more
 * than `most` strings. */
int st_encode_arrow(st_terms *strings, const struct ArrowSchema *schema, const struct ArrowArray *array,
                    size_t most, uint32_t *codes, size_t *n_nulls) ST_USE;

/* Whether a row may be one of some strings, or may be nothing but white space: *found becomes true at the
 * first that is one of them, or is made of white space and non-ASCII characters alone.  ST_EUNSUPPORTED:
 * another type. */
int st_encode_arrow_among(const st_terms *some, const struct ArrowSchema *schema,
                          const struct ArrowArray *array, bool *found) ST_USE;

/* The dates of the rows in microseconds since 1970, ST_NO_DATE for null.  ST_EUNSUPPORTED: another type, or a
 * text that is no date in this layout. */
int st_encode_arrow_dates(const st_date_layout *layout, const struct ArrowSchema *schema,
                          const struct ArrowArray *array, int64_t *out) ST_USE;

#endif

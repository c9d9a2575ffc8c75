/* encode.h - the strings of an Arrow column, numbered; private to the library and the extension.
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
#include "native/text.h"

/* The numbers of the rows of an array of strings (u, U, vu), by first sight in all arrays that went into the
 * table; ST_NO_CODE for null.  `codes` has room for array->length.  ST_EUNSUPPORTED: another type. ST_ELIMIT:
 * more than `most` strings. */
int st_encode_arrow(st_terms *strings, const struct ArrowSchema *schema, const struct ArrowArray *array,
                    size_t most, uint32_t *codes, size_t *n_nulls) ST_USE;

#endif

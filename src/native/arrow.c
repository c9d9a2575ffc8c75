/* arrow.c - see arrow.h. */
#include "native/arrow.h"

/* Rows are at most 16 bytes: no address of one overflows. */
#define MOST_ROWS (INT64_MAX / 32)

int st_arrow_counts(const struct ArrowArray *array)
{
    if (array->length < 0 || array->offset < 0 || array->length > MOST_ROWS ||
        array->offset > MOST_ROWS - array->length)
        return ST_EINVAL;
    /* -1: not counted */
    return array->null_count < -1 || array->null_count > array->length ? ST_EINVAL : ST_OK;
}

int st_strings_open(st_strings *s, const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    *s = (st_strings){0};
    if (!schema->format) return ST_EINVAL;
    if (schema->dictionary) return ST_EUNSUPPORTED;
    if (strcmp(schema->format, "u") == 0)
        s->kind = ST_OFFSETS_32;
    else if (strcmp(schema->format, "U") == 0)
        s->kind = ST_OFFSETS_64;
    else if (strcmp(schema->format, "vu") == 0)
        s->kind = ST_VIEWS;
    else
        return ST_EUNSUPPORTED;
    ST_TRY(st_arrow_counts(array));
    if (array->length == 0) return ST_OK; /* its buffers may be missing */
    if (array->n_buffers < 3 || !array->buffers || !array->buffers[1]) return ST_EINVAL;
    static const int64_t row_size[] = {4, 8, 16};
    s->n = array->length;
    s->bits = array->buffers[0];
    s->first = array->offset;
    s->rows = (const uint8_t *)array->buffers[1] + row_size[s->kind] * array->offset;
    if (s->kind == ST_VIEWS) {
        /* the last buffer holds the sizes of those that views point into */
        s->n_more = array->n_buffers - 3;
        s->more = array->buffers + 2;
        s->sizes = array->buffers[array->n_buffers - 1];
        return s->n_more && !s->sizes ? ST_EINVAL : ST_OK;
    }
    s->text = array->buffers[2];
    if (s->kind == ST_OFFSETS_32) {
        int32_t end;
        memcpy(&end, s->rows + 4 * s->n, 4);
        s->end = end;
    } else {
        memcpy(&s->end, s->rows + 8 * s->n, 8);
    }
    return ST_OK;
}

int st_arrow_each(struct ArrowArrayStream *stream, st_arrow_fn fn, void *ud)
{
    struct ArrowSchema schema = {0};
    if (stream->get_schema(stream, &schema) != 0) return ST_EHOST;
    int rc = ST_OK;
    while (rc == ST_OK) {
        struct ArrowArray array = {0};
        if (stream->get_next(stream, &array) != 0) rc = ST_EHOST;
        if (rc != ST_OK || !array.release) break;
        rc = fn(ud, &schema, &array);
        array.release(&array);
    }
    if (schema.release) schema.release(&schema);
    return rc;
}

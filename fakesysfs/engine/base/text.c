/*
 * text.c - the printer for all text of files: it grows up to a limit, and drops what is beyond.
 *
 * Owns: struct text. Does not own: what is printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

void text_append(struct text *out, const char *data, size_t len)
{
    if (out->limit != 0 && out->len + len > out->limit)
        len = out->limit - out->len;
    if (out->len + len + 1 > out->cap) {
        size_t cap = out->cap != 0 ? out->cap : 64;
        while (cap < out->len + len + 1)
            cap *= 2;
        char *grown = out->m != NULL ? xrealloc(out->m, out->data, cap, 1)
                                     : realloc(out->data, cap);
        if (grown == NULL) {
            out->lost = true;
            return;
        }
        out->data = grown;
        out->cap = cap;
    }
    memcpy(out->data + out->len, data, len);
    out->len += len;
    out->data[out->len] = '\0';
}

void text_printf(struct text *out, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len < 0)
        return;
    if ((size_t)len < sizeof line) {
        text_append(out, line, (size_t)len);
        return;
    }
    char *big = malloc((size_t)len + 1);
    if (big == NULL) {
        out->lost = true;
        return;
    }
    va_start(args, format);
    vsnprintf(big, (size_t)len + 1, format, args);
    va_end(args);
    text_append(out, big, (size_t)len);
    free(big);
}

char *text_take(struct text *out, size_t *size)
{
    text_append(out, "", 0);
    if (out->lost)
        text_free(out);
    *size = out->len;
    return out->data;
}

void text_free(struct text *out)
{
    free(out->data);
    memset(out, 0, sizeof *out);
}

/*
 * reason.c - why a call failed, for the caller.
 *
 * Owns: the reason in the caller's task. Does not own: the words.
 */
#include <stdio.h>

#include "machine.h"

int fail(struct machine *m, int err, const char *format, ...)
{
    if (m->task != NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(m->task->reason, sizeof m->task->reason, format, args);
        va_end(args);
    }
    return err;
}

/*
 * klog.c - what the simulated kernel says: the lines of its log, and the taint flag.
 *
 * Owns: the ring of lines, their times by the virtual clock. Does not own: the words.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum { KLOG_LIMIT = 1 << 16 };

void klog(struct machine *m, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* Like the kernel's ring, the log forgets its oldest half when it is full; numbers of lines go
     * on. */
    if (m->nr_klog - m->klog_dropped >= KLOG_LIMIT) {
        size_t drop = KLOG_LIMIT / 2;
        for (size_t i = 0; i < drop; i++)
            free(m->klog_line[i]);
        size_t keep = m->nr_klog - m->klog_dropped - drop;
        memmove(m->klog_line, m->klog_line + drop, keep * sizeof *m->klog_line);
        memmove(m->klog_time, m->klog_time + drop, keep * sizeof *m->klog_time);
        m->klog_dropped += drop;
    }
    if (m->nr_klog - m->klog_dropped == m->cap_klog) {
        m->cap_klog = m->cap_klog != 0 ? m->cap_klog * 2 : 64;
        m->klog_line = xrealloc(m, m->klog_line, m->cap_klog, sizeof *m->klog_line);
        m->klog_time = xrealloc(m, m->klog_time, m->cap_klog, sizeof *m->klog_time);
    }
    m->klog_line[m->nr_klog - m->klog_dropped] = xstrdup(m, line);
    m->klog_time[m->nr_klog - m->klog_dropped] = ++m->clock_us;
    m->nr_klog++;
}

char *klog_text(struct machine *m, uint64_t from, size_t *size)
{
    struct text out = {0};

    machine_lock(m, NULL);
    for (uint64_t i = from > m->klog_dropped ? from : m->klog_dropped; i < m->nr_klog; i++)
        text_printf(&out, "%llu\t%s\n", (unsigned long long)m->klog_time[i - m->klog_dropped],
                    m->klog_line[i - m->klog_dropped]);
    machine_unlock(m);
    return text_take(&out, size);
}

void warn_on(struct machine *m, bool bad, const char *what)
{
    if (!bad)
        return;
    if (!m->tainted)
        klog(m, "WARNING: %s", what);
    m->tainted = true;
}

void klog_destroy(struct machine *m)
{
    for (size_t i = 0; i < m->nr_klog - m->klog_dropped; i++)
        free(m->klog_line[i]);
    free(m->klog_line);
    free(m->klog_time);
}

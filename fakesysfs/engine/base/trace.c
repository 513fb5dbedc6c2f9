/*
 * trace.c - the trace: which functions ran inside which, as the function_graph tracer prints them.
 *
 * Owns: the ring of entries, and its text. Does not own: the names (who calls TRACE), the files by
 * which it is switched on and read.
 */
#include <stdlib.h>

#include "machine.h"

enum { TRACE_RING = 1 << 15, TRACE_DEPTH = 100 };

struct trace_entry {
    const char *name; /* NULL: a leave */
    uint32_t depth;
    uint32_t ticks; /* entries written before this one: the trace's clock */
};

static void trace_record(struct machine *m, const char *name)
{
    if (m->trace == NULL)
        m->trace = xcalloc(m, TRACE_RING, sizeof *m->trace);
    m->trace[m->nr_trace % TRACE_RING] = (struct trace_entry){
        .name = name, .depth = m->trace_depth, .ticks = (uint32_t)m->nr_trace};
    m->nr_trace++;
}

void trace_enter(struct machine *m, const char *name)
{
    if (!m->trace_on)
        return;
    trace_record(m, name);
    m->trace_depth++;
}

void trace_leave(struct trace_scope *scope)
{
    struct machine *m = scope->m;

    if (!m->trace_on || m->trace_depth == 0)
        return;
    m->trace_depth--;
    trace_record(m, NULL);
}

void trace_leaf(struct machine *m, const char *name)
{
    if (!m->trace_on)
        return;
    trace_record(m, name);
    trace_record(m, NULL);
}

/* A tick of the trace's clock stands for 0.1 us: the trace tells order and weight, not time. */
static void trace_duration(struct text *out, uint32_t ticks)
{
    text_printf(out, " 0) %3u.%03u us    |  ", ticks / 10, ticks % 10 * 100);
}

/* The first entry that is not forgotten. */
static uint64_t trace_first(const struct machine *m)
{
    uint64_t oldest = m->nr_trace > TRACE_RING ? m->nr_trace - TRACE_RING : 0;

    return oldest > m->trace_from ? oldest : m->trace_from;
}

void trace_print(struct machine *m, uint64_t from, uint64_t to, struct text *out)
{
    uint32_t start[TRACE_DEPTH + 1] = {0};

    if (from == 0)
        text_printf(out,
                    "# tracer: function_graph\n#\n# CPU  DURATION                  FUNCTION CALLS\n"
                    "# |     |   |                     |   |   |   |\n");
    if (from < trace_first(m))
        from = trace_first(m);
    if (to > m->nr_trace)
        to = m->nr_trace;
    while (from < to &&
           (m->trace[from % TRACE_RING].depth != 0 || m->trace[from % TRACE_RING].name == NULL))
        from++; /* the ring may begin in the middle of an operation: start with the next one */
    for (uint64_t i = from; i < to; i++) {
        const struct trace_entry *entry = &m->trace[i % TRACE_RING];
        uint32_t depth = entry->depth < TRACE_DEPTH ? entry->depth : TRACE_DEPTH;
        bool leaf = entry->name != NULL && i + 1 < to &&
                    m->trace[(i + 1) % TRACE_RING].name == NULL;
        if (leaf) {
            trace_duration(out, 1);
            text_printf(out, "%*s%s();\n", (int)(2 * depth), "", entry->name);
            i++;
        } else if (entry->name != NULL) {
            start[depth] = entry->ticks;
            text_printf(out, " 0)               |  %*s%s() {\n", (int)(2 * depth), "", entry->name);
        } else {
            trace_duration(out, entry->ticks - start[depth]);
            text_printf(out, "%*s}\n", (int)(2 * depth), "");
        }
    }
}

uint64_t trace_end(struct machine *m)
{
    machine_lock(m, NULL);
    uint64_t end = m->nr_trace, first = trace_first(m);
    while (end > first && (m->trace[(end - 1) % TRACE_RING].depth != 0 ||
                           m->trace[(end - 1) % TRACE_RING].name != NULL))
        end--;
    machine_unlock(m);
    return end;
}

char *trace_text(struct machine *m, uint64_t from, uint64_t to, size_t *size)
{
    struct text out = {0};

    machine_lock(m, NULL);
    trace_print(m, from, to, &out);
    machine_unlock(m);
    return text_take(&out, size);
}

void trace_clear(struct machine *m)
{
    machine_lock(m, NULL);
    m->trace_from = m->nr_trace;
    machine_unlock(m);
}

void trace_destroy(struct machine *m)
{
    free(m->trace);
}

/*
 * trace_read.c - the trace is read, and its operations get names.
 *
 * Owns: which operations are printed, the line that names each, who is still to name one. Does not
 * own: the ring (trace.c), the lines of the calls (trace_graph.c). Thread-safe: public functions
 * lock; trace_print() does not.
 */
#include <string.h>

#include "base/trace_calls.h"
#include "machine.h"

/* The first operation that is not forgotten. */
static uint64_t first_op(const struct machine *m)
{
    uint64_t oldest = m->nr_trace > TRACE_OPS ? m->nr_trace - TRACE_OPS : 0;

    return oldest > m->trace_from ? oldest : m->trace_from;
}

void trace_print(struct machine *m, uint64_t from, uint64_t to, bool own, struct text *out)
{
    if (from == 0)
        text_printf(out,
                    "# tracer: function_graph\n#\n# CPU  DURATION                  FUNCTION CALLS\n"
                    "# |     |   |                     |   |   |   |\n");
    if (from < first_op(m))
        from = first_op(m);
    for (uint64_t number = from; number < to && number < m->nr_trace; number++) {
        const struct trace_op *op = trace_op_get(m, number);
        if (op == NULL || !op->done || op->nr_calls == 0)
            continue;
        text_printf(out, "# %s", op->what != NULL ? op->what : op->calls[0].name);
        if (op->has_result)
            text_printf(out, " -> %lld", (long long)op->result);
        text_printf(out, "%s\n", op->cut ? " (cut)" : "");
        trace_graph_print(m, op, own, out);
    }
}

uint64_t trace_end(struct machine *m)
{
    machine_lock(m, NULL);
    uint64_t end = first_op(m);
    for (const struct trace_op *op; end < m->nr_trace; end++)
        if ((op = trace_op_get(m, end)) != NULL && !op->done)
            break;
    machine_unlock(m);
    return end;
}

char *trace_text(struct machine *m, uint64_t from, uint64_t to, bool own, size_t *size)
{
    struct text out = {0};

    machine_lock(m, NULL);
    trace_print(m, from, to, own, &out);
    machine_unlock(m);
    return text_take(&out, size);
}

bool trace_unnamed(struct machine *m, uint64_t *number, uint64_t *caller)
{
    bool found = false;

    machine_lock(m, NULL);
    for (uint64_t n = m->nr_trace; n-- > first_op(m) && !found;) {
        struct trace_op *op = trace_op_get(m, n);
        if (op == NULL || (op->done && op->asked))
            break; /* those before were asked for too */
        if (op->done && op->what == NULL) {
            op->asked = found = true;
            *number = n;
            *caller = op->caller;
        }
        op->asked = op->asked || op->done;
    }
    machine_unlock(m);
    return found;
}

void trace_name(struct machine *m, uint64_t number, const char *what)
{
    machine_lock(m, NULL);
    struct trace_op *op = trace_op_get(m, number);
    if (op != NULL && op->what == NULL)
        op->what = strdup(what);
    machine_unlock(m);
}

void trace_clear(struct machine *m)
{
    machine_lock(m, NULL);
    m->trace_from = m->nr_trace;
    machine_unlock(m);
}

/*
 * trace.c - the trace: which of the engine's functions ran inside which, by operation.
 *
 * Owns: the ring of operations, their names, results and calls. Does not own: which functions these
 * are (who calls TRACE), what a kernel calls beside and how lines look (trace_graph.c), the files
 * by which the trace is switched on and read. Thread-safe: public functions lock.
 */
#include <stdlib.h>
#include <string.h>

#include "base/trace_calls.h"
#include "machine.h"

enum { TRACE_CALLS = 8192, WORD_BYTES = 64 };

struct trace_op *trace_op_get(const struct machine *m, uint64_t number)
{
    struct trace_op *op = m->trace != NULL ? m->trace[number % TRACE_OPS] : NULL;

    return op != NULL && op->number == number ? op : NULL;
}

/* The operation that runs; NULL: none, or the ring has forgotten it. */
static struct trace_op *op_running(const struct machine *m)
{
    return m->trace_at.op != 0 ? trace_op_get(m, m->trace_at.op - 1) : NULL;
}

static void op_free(struct trace_op *op)
{
    if (op == NULL)
        return;
    free(op->calls);
    free(op->what);
    free(op);
}

/* Without memory for it, an operation is not recorded: nothing depends on that. */
static struct trace_op *op_begin(struct machine *m)
{
    if (m->trace == NULL)
        m->trace = calloc(TRACE_OPS, sizeof *m->trace);
    struct trace_op *op = m->trace != NULL ? calloc(1, sizeof *op) : NULL;
    if (op == NULL)
        return NULL;
    op->number = m->nr_trace++;
    op->caller = m->task != NULL ? m->task->caller : 0;
    op_free(m->trace[op->number % TRACE_OPS]);
    m->trace[op->number % TRACE_OPS] = op;
    m->trace_at.op = op->number + 1;
    m->trace_at.call = 0;
    return op;
}

static bool call_begin(struct machine *m, struct trace_op *op, const char *name)
{
    if (op->nr_calls == TRACE_CALLS)
        return !(op->cut = true);
    if (op->nr_calls == op->cap_calls) {
        uint32_t cap = op->cap_calls != 0 ? 2 * op->cap_calls : 32;
        struct trace_call *calls = realloc(op->calls, cap * sizeof *calls);
        if (calls == NULL)
            return !(op->cut = true);
        op->calls = calls;
        op->cap_calls = cap;
    }
    op->calls[op->nr_calls++] = (struct trace_call){
        .name = name, .enter_us = m->clock_us, .parent = m->trace_at.call, .times = 1};
    m->trace_at.call = op->nr_calls;
    return true;
}

struct trace_scope trace_enter(struct machine *m, const char *name)
{
    struct trace_op *op = NULL;

    if (m->trace_on)
        op = m->trace_at.op != 0 ? op_running(m) : op_begin(m);
    return (struct trace_scope){op != NULL && call_begin(m, op, name) ? m : NULL};
}

struct trace_scope trace_enter_within(struct machine *m, const char *name)
{
    return m->trace_at.op != 0 ? trace_enter(m, name) : (struct trace_scope){NULL};
}

/* Is the call that ends alike the one before it, and did neither call anything? */
static bool repeats(const struct trace_op *op, uint32_t index)
{
    const struct trace_call *call = &op->calls[index], *before = call - 1;

    return index != 0 && index + 1 == op->nr_calls && before->parent == call->parent &&
           before->end == index && strcmp(before->name, call->name) == 0;
}

void trace_leave(struct trace_scope *scope)
{
    struct machine *m = scope->m;
    struct trace_op *op = m != NULL ? op_running(m) : NULL;

    if (op == NULL)
        return;
    uint32_t index = m->trace_at.call - 1;
    struct trace_call *call = &op->calls[index];
    call->leave_us = m->clock_us;
    m->trace_at.call = call->parent;
    if (repeats(op, index)) {
        call[-1].leave_us = call->leave_us;
        call[-1].times++;
        op->nr_calls--;
    } else {
        call->end = op->nr_calls;
    }
    if (m->trace_at.call == 0 && !m->trace_at.held) {
        op->done = true;
        m->trace_at = (struct trace_place){0};
    }
}

void trace_begin(struct machine *m)
{
    m->trace_at = (struct trace_place){.held = true};
}

void trace_finish(struct machine *m, int64_t result)
{
    struct trace_op *op = op_running(m);

    m->trace_at = (struct trace_place){0};
    if (op == NULL)
        return;
    op->result = result;
    op->has_result = op->done = true;
}

void trace_finish_write(struct machine *m, const char *path, const char *buf, size_t count,
                        int64_t result)
{
    struct trace_op *op = op_running(m);
    struct text what = {0};
    size_t size;

    trace_finish(m, result < 0 ? result : 0);
    if (op == NULL)
        return;
    while (count != 0 && (buf[count - 1] == '\n' || buf[count - 1] == '\0'))
        count--;
    text_printf(&what, "echo ");
    for (size_t i = 0; i < count && i < WORD_BYTES; i++)
        text_printf(&what, "%c", buf[i] >= ' ' && buf[i] < 0x7f ? buf[i] : '?');
    text_printf(&what, " > %s", path);
    op->what = text_take(&what, &size);
}

struct trace_place trace_pause(struct machine *m)
{
    struct trace_place place = m->trace_at;

    m->trace_at = (struct trace_place){0};
    return place;
}

void trace_destroy(struct machine *m)
{
    for (size_t i = 0; m->trace != NULL && i < TRACE_OPS; i++)
        op_free(m->trace[i]);
    free(m->trace);
}

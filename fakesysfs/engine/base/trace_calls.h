/*
 * trace_calls.h - private to trace.c, trace_read.c and trace_graph.c: what is recorded of an
 * operation.
 */
#ifndef FAKESYSFS_TRACE_CALLS_H
#define FAKESYSFS_TRACE_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRACE_OPS = 512 }; /* so many are kept */

struct trace_call {
    const char *name;
    uint64_t enter_us, leave_us; /* by the machine's clock */
    uint32_t parent;             /* index + 1; 0: the operation itself */
    uint32_t end;                /* index behind all that it called */
    uint32_t times;              /* so many calls that called nothing, one after another */
};

struct trace_op {
    uint64_t number, caller;
    char *what; /* NULL: not named */
    int64_t result;
    bool has_result, done, asked; /* asked: who caused it was asked for */
    struct trace_call *calls;     /* in the order in which they began */
    uint32_t nr_calls, cap_calls;
    bool cut; /* there were more */
};

struct machine;
/* The operation with this number; NULL: it was not recorded, or is forgotten. */
struct trace_op *trace_op_get(const struct machine *m, uint64_t number);

#endif

/*
 * tracing.c - /sys/kernel/debug/tracing: the trace of the engine's functions as files.
 *
 * Owns: those files. Does not own: the trace itself and how its lines look (base/).
 * Linux: kernel/trace/trace.c.
 */
#include <errno.h>

#include "machine.h"

static uint64_t size_zero(struct machine *m, const struct sysfs_node *node)
{
    (void)m;
    (void)node;
    return 0;
}

static int trace_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    trace_print(m, 0, UINT64_MAX, false, out);
    return 0;
}

/* Whatever is written, and also an open that truncates in the real one, empties the trace. */
static int64_t trace_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    (void)node;
    (void)buf;
    m->trace_from = m->nr_trace;
    return (int64_t)count;
}

static int tracing_on_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%d\n", m->trace_on);
    return 0;
}

static int64_t tracing_on_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                size_t count)
{
    uint64_t value;

    (void)node;
    if (parse_u64(buf, &value) != 0)
        return fail(m, -EINVAL, "`tracing_on` takes 0 or 1");
    m->trace_on = value != 0;
    return (int64_t)count;
}

static const struct sysfs_attr tracing_attrs[] = {
    {.name = "trace",
     .mode = 0640,
     .show = trace_show,
     .store = trace_store,
     .size = size_zero,
     .flags = ATTR_LARGE},
    {.name = "tracing_on",
     .mode = 0640,
     .show = tracing_on_show,
     .store = tracing_on_store,
     .size = size_zero},
    {0},
};
static const struct sysfs_class tracing_class = {.name = "tracing", .attrs = tracing_attrs};

void tracing_register(struct machine *m)
{
    sysfs_dir_add(m, "/sys/kernel/debug/tracing", &tracing_class, 0);
}

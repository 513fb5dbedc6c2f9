/*
 * error_injection.c - /sys/kernel/debug/notifier-error-inject: the kernel's own way to make a
 * notifier refuse.
 *
 * Owns: those files. Does not own: the chain that asks for the errno (memory_hotplug.c).
 * Linux: lib/notifier-error-inject.c.
 */
#include <errno.h>
#include <stdio.h>

#include "machine.h"

/* id 0: MEM_GOING_ONLINE, 1: MEM_GOING_OFFLINE */
static int *injected(struct machine *m, const struct sysfs_node *node)
{
    return node->id == 0 ? &m->inject_going_online : &m->inject_going_offline;
}

static int error_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    text_printf(out, "%d\n", *injected(m, node));
    return 0;
}

static int64_t error_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    int64_t value;

    if (parse_s64(buf, &value) != 0 || (value < 0 && !has(m, F_inject_signed)))
        return fail(m, -EINVAL, "an errno as a negative number is needed");
    *injected(m, node) = value > 0 ? 0 : value < -4095 ? -4095 : (int)value;
    return (int64_t)count;
}

static uint64_t size_zero(struct machine *m, const struct sysfs_node *node)
{
    (void)m;
    (void)node;
    return 0;
}

static const struct sysfs_attr inject_attrs[] = {
    {.name = "error",
     .mode = 0600,
     .show = error_show,
     .store = error_store,
     .size = size_zero,
     .flags = ATTR_EMPTY_STORE},
    {0},
};
static const struct sysfs_class inject_class = {.name = "notifier error injection",
                                                .attrs = inject_attrs};

void error_injection_register(struct machine *m)
{
    static const char inject[] = "/sys/kernel/debug/notifier-error-inject/memory/actions";
    char path[128];

    if (!configured(m, CONFIG_MEMORY_NOTIFIER_ERROR_INJECT))
        return;
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", inject,
                 i == 0 ? "MEM_GOING_ONLINE" : "MEM_GOING_OFFLINE");
        sysfs_dir_add(m, path, &inject_class, i);
    }
}

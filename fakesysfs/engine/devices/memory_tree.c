/*
 * memory_tree.c - what stands around the memory blocks: /sys/bus/memory, the module parameters of
 * memory_hotplug, /sys/firmware/memmap, the kernel's own error injection in debugfs.
 *
 * Owns: those files, the firmware's map. Does not own: the blocks (memory_block.c), what a policy
 * does (zone.c). Linux: drivers/base/bus.c, mm/memory_hotplug.c, drivers/firmware/memmap.c,
 * lib/notifier-error-inject.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

/* ---- /sys/bus/memory ---- */

static const struct memory_block *block_at(const struct machine *m, uint64_t id)
{
    return radix_get(&m->blocks, id);
}

static void device_target(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    text_printf(out, "../../../devices/system/memory/memory%llu", (unsigned long long)node->id);
}

static bool device_alive(struct machine *m, uint64_t id, uint64_t serial)
{
    const struct memory_block *b = block_at(m, id);

    return b != NULL && b->serial == serial;
}

static const struct sysfs_class device_link_class = {
    .name = "device of bus/memory", .target = device_target, .alive = device_alive};

static int devices_lookup(struct machine *m, uint64_t unused, const char *name,
                          struct sysfs_node *out)
{
    uint64_t id;

    (void)unused;
    if (!name_number(name, "memory", &id) || block_at(m, id) == NULL)
        return -ENOENT;
    *out = sysfs_link_node(&device_link_class, id, 0, block_at(m, id)->serial);
    return 0;
}

static void devices_list(struct machine *m, uint64_t unused,
                         void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                         void *ctx)
{
    uint64_t id = 0;
    void *value;

    (void)unused;
    for (; radix_next(&m->blocks, id, &id, &value); id++) {
        char name[32];
        snprintf(name, sizeof name, "memory%llu", (unsigned long long)id);
        struct sysfs_node node = sysfs_link_node(&device_link_class, id, 0,
                                                 ((struct memory_block *)value)->serial);
        add(ctx, name, &node);
    }
}

static uint64_t no_dirs(struct machine *m, uint64_t unused)
{
    (void)m;
    (void)unused;
    return 0;
}

static uint64_t devices_changed(struct machine *m, uint64_t unused)
{
    (void)unused;
    return m->blocks_changed_us;
}

static const struct sysfs_class devices_class = {.name = "bus/memory/devices",
                                                 .lookup = devices_lookup,
                                                 .list = devices_list,
                                                 .nr_dirs = no_dirs,
                                                 .changed_us = devices_changed};
static const struct sysfs_class drivers_class = {.name = "bus/memory/drivers"};

static int64_t bus_uevent_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                size_t count)
{
    (void)node;
    return uevent_synthesize(m, buf, count, "/bus/memory", "bus", NULL, true);
}

static int drivers_autoprobe_show(struct machine *m, const struct sysfs_node *node,
                                  struct text *out)
{
    (void)node;
    text_printf(out, "%d\n", m->drivers_autoprobe[0]);
    return 0;
}

static int64_t drivers_autoprobe_store(struct machine *m, const struct sysfs_node *node,
                                       const char *buf, size_t count)
{
    (void)node;
    m->drivers_autoprobe[0] = buf[0] != '0';
    return (int64_t)count;
}

static int64_t drivers_probe_store(struct machine *m, const struct sysfs_node *node,
                                   const char *buf, size_t count)
{
    uint64_t id;

    (void)node;
    /* The name must match to the letter: the newline of an echo already makes it another one. */
    if (!name_number(buf, "memory", &id) || block_at(m, id) == NULL)
        return fail(m, -ENODEV, "bus memory has no device of exactly this name");
    return (int64_t)count;
}

static const struct sysfs_attr bus_attrs[] = {
    {.name = "uevent", .mode = 0200, .store = bus_uevent_store},
    {.name = "drivers_probe", .mode = 0200, .store = drivers_probe_store},
    {.name = "drivers_autoprobe",
     .mode = 0644,
     .show = drivers_autoprobe_show,
     .store = drivers_autoprobe_store},
    {0},
};
static const struct sysfs_class bus_class = {.name = "bus/memory", .attrs = bus_attrs};

/* ---- /sys/module/memory_hotplug ---- */

static const char *const policy_words[] = {"contig-zones", "auto-movable"};

static int online_policy_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%s\n", policy_words[m->auto_movable]);
    return 0;
}

static int64_t online_policy_store(struct machine *m, const struct sysfs_node *node,
                                   const char *buf, size_t count)
{
    (void)node;
    for (unsigned i = 0; i < 2; i++)
        if (sysfs_streq(buf, policy_words[i])) {
            m->auto_movable = i == 1;
            return (int64_t)count;
        }
    return fail(m, -EINVAL, "`online_policy` takes contig-zones or auto-movable");
}

static int auto_movable_ratio_show(struct machine *m, const struct sysfs_node *node,
                                   struct text *out)
{
    (void)node;
    text_printf(out, "%u\n", m->auto_movable_ratio);
    return 0;
}

static int64_t auto_movable_ratio_store(struct machine *m, const struct sysfs_node *node,
                                        const char *buf, size_t count)
{
    uint64_t value;
    int err = parse_u64(buf, &value);

    (void)node;
    if (err == 0 && value > UINT32_MAX)
        err = -ERANGE;
    if (err != 0)
        return fail(m, err, "`auto_movable_ratio` takes a number below 2^32");
    m->auto_movable_ratio = (unsigned)value;
    return (int64_t)count;
}

static int auto_movable_numa_aware_show(struct machine *m, const struct sysfs_node *node,
                                        struct text *out)
{
    (void)node;
    text_printf(out, "%c\n", m->auto_movable_numa_aware ? 'Y' : 'N');
    return 0;
}

static int64_t auto_movable_numa_aware_store(struct machine *m, const struct sysfs_node *node,
                                             const char *buf, size_t count)
{
    bool value;

    (void)node;
    if (parse_bool(m, buf, &value) != 0)
        return fail(m, -EINVAL, "`auto_movable_numa_aware` takes a truth value");
    m->auto_movable_numa_aware = value;
    return (int64_t)count;
}

static int memmap_on_memory_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    static const char *const words[] = {"N", "Y", "force"};

    (void)node;
    text_printf(out, "%s\n", words[m->memmap_on_memory]);
    return 0;
}

static bool memmap_on_memory_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_memmap_on_memory);
}

static bool policy_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_online_policy);
}

static bool numa_policy_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_online_policy) && configured(m, CONFIG_NUMA);
}

static const struct sysfs_attr parameter_attrs[] = {
    {.name = "memmap_on_memory",
     .mode = 0444,
     .show = memmap_on_memory_show,
     .visible = memmap_on_memory_visible},
    {.name = "online_policy",
     .mode = 0644,
     .show = online_policy_show,
     .store = online_policy_store,
     .visible = policy_visible},
    {.name = "auto_movable_ratio",
     .mode = 0644,
     .show = auto_movable_ratio_show,
     .store = auto_movable_ratio_store,
     .visible = policy_visible},
    {.name = "auto_movable_numa_aware",
     .mode = 0644,
     .show = auto_movable_numa_aware_show,
     .store = auto_movable_numa_aware_store,
     .visible = numa_policy_visible},
    {0},
};
static const struct sysfs_class parameters_class = {.name = "module parameters",
                                                    .attrs = parameter_attrs};

static int64_t module_uevent_store(struct machine *m, const struct sysfs_node *node,
                                   const char *buf, size_t count)
{
    (void)node;
    return uevent_synthesize(m, buf, count, "/module/memory_hotplug", "module", NULL, true);
}

static bool modules_configured(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return configured(m, CONFIG_MODULES);
}

static const struct sysfs_attr module_attrs[] = {
    {.name = "uevent", .mode = 0200, .store = module_uevent_store, .visible = modules_configured},
    {0},
};
static const struct sysfs_class module_class = {.name = "module", .attrs = module_attrs};

/* ---- /sys/kernel/debug/notifier-error-inject ---- */

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

/* ---- /sys/kernel/debug/tracing ---- */

static int trace_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    trace_print(m, 0, UINT64_MAX, out);
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

/* ---- /sys/firmware/memmap ---- */

static struct firmware_entry *firmware_find(struct machine *m, uint64_t nr)
{
    for (size_t i = 0; i < m->nr_firmware; i++)
        if (m->firmware[i].nr == nr)
            return &m->firmware[i];
    return NULL;
}

static int firmware_start_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    const struct firmware_entry *entry = firmware_find(m, node->id);

    text_printf(out, "0x%llx\n", entry != NULL ? (unsigned long long)entry->start : 0);
    return 0;
}

static int firmware_end_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    const struct firmware_entry *entry = firmware_find(m, node->id);

    text_printf(out, "0x%llx\n", entry != NULL ? (unsigned long long)entry->end : 0);
    return 0;
}

static int firmware_type_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    const struct firmware_entry *entry = firmware_find(m, node->id);

    text_printf(out, "%s\n", entry != NULL ? entry->type : "");
    return 0;
}

static bool firmware_alive(struct machine *m, uint64_t nr, uint64_t serial)
{
    (void)serial; /* numbers are never given twice */
    return firmware_find(m, nr) != NULL;
}

static const struct sysfs_attr firmware_entry_attrs[] = {
    {.name = "start", .mode = 0444, .show = firmware_start_show},
    {.name = "end", .mode = 0444, .show = firmware_end_show},
    {.name = "type", .mode = 0444, .show = firmware_type_show},
    {0},
};
static const struct sysfs_class firmware_entry_class = {
    .name = "firmware memmap entry", .attrs = firmware_entry_attrs, .alive = firmware_alive};

static int firmware_lookup(struct machine *m, uint64_t unused, const char *name,
                           struct sysfs_node *out)
{
    uint64_t nr;

    (void)unused;
    if (!name_number(name, "", &nr) || firmware_find(m, nr) == NULL)
        return -ENOENT;
    *out = sysfs_dir_node(&firmware_entry_class, nr, 0);
    return 0;
}

static void firmware_list(struct machine *m, uint64_t unused,
                          void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                          void *ctx)
{
    (void)unused;
    for (size_t i = 0; i < m->nr_firmware; i++) {
        char name[32];
        snprintf(name, sizeof name, "%llu", (unsigned long long)m->firmware[i].nr);
        struct sysfs_node node = sysfs_dir_node(&firmware_entry_class, m->firmware[i].nr, 0);
        add(ctx, name, &node);
    }
}

static uint64_t firmware_nr_dirs(struct machine *m, uint64_t unused)
{
    (void)unused;
    return m->nr_firmware;
}

static const struct sysfs_class firmware_class = {.name = "firmware memmap",
                                                  .lookup = firmware_lookup,
                                                  .list = firmware_list,
                                                  .nr_dirs = firmware_nr_dirs};

void firmware_map_add(struct machine *m, uint64_t start, uint64_t end, const char *type)
{
    if (!configured(m, CONFIG_FIRMWARE_MEMMAP))
        return;
    m->firmware = xrealloc(m->firmware, m->nr_firmware + 1, sizeof *m->firmware);
    m->firmware[m->nr_firmware++] = (struct firmware_entry){
        .start = start, .end = end, .type = xstrdup(type), .nr = m->next_firmware++};
}

void firmware_map_remove(struct machine *m, uint64_t start, uint64_t end)
{
    for (size_t i = 0; i < m->nr_firmware; i++) {
        struct firmware_entry *entry = &m->firmware[i];
        if (entry->start != start || entry->end != end || strcmp(entry->type, "System RAM") != 0)
            continue;
        free(entry->type);
        memmove(entry, entry + 1, (m->nr_firmware - i - 1) * sizeof *entry);
        m->nr_firmware--;
        return;
    }
}

void firmware_map_destroy(struct machine *m)
{
    for (size_t i = 0; i < m->nr_firmware; i++)
        free(m->firmware[i].type);
    free(m->firmware);
}

/* ---- all of it ---- */

void memory_tree_register(struct machine *m)
{
    static const char inject[] = "/sys/kernel/debug/notifier-error-inject/memory/actions";
    char path[128];

    sysfs_dir_add(m, "/sys/bus/memory", &bus_class, 0);
    sysfs_dir_add(m, "/sys/bus/memory/devices", &devices_class, 0);
    sysfs_dir_add(m, "/sys/bus/memory/drivers", &drivers_class, 0);
    if (has(m, F_memmap_on_memory) || has(m, F_online_policy)) {
        sysfs_dir_add(m, "/sys/module/memory_hotplug", &module_class, 0);
        sysfs_dir_add(m, "/sys/module/memory_hotplug/parameters", &parameters_class, 0);
    }
    if (configured(m, CONFIG_FIRMWARE_MEMMAP))
        sysfs_dir_add(m, "/sys/firmware/memmap", &firmware_class, 0);
    sysfs_dir_add(m, "/sys/kernel/debug/tracing", &tracing_class, 0);
    if (configured(m, CONFIG_MEMORY_NOTIFIER_ERROR_INJECT))
        for (unsigned i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "%s/%s", inject,
                     i == 0 ? "MEM_GOING_ONLINE" : "MEM_GOING_OFFLINE");
            sysfs_dir_add(m, path, &inject_class, i);
        }
}

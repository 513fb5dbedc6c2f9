/*
 * bus_memory.c - /sys/bus/memory: the bus that the memory blocks are devices of.
 *
 * Owns: its files, and the links to the blocks. Does not own: the blocks (memory_block.c).
 * Linux: drivers/base/bus.c.
 */
#include <errno.h>
#include <stdio.h>

#include "machine.h"

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

void bus_memory_register(struct machine *m)
{
    sysfs_dir_add(m, "/sys/bus/memory", &bus_class, 0);
    sysfs_dir_add(m, "/sys/bus/memory/devices", &devices_class, 0);
    sysfs_dir_add(m, "/sys/bus/memory/drivers", &drivers_class, 0);
}

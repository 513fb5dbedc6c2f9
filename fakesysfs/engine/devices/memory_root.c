/*
 * memory_root.c - /sys/devices/system/memory itself: the attributes that are not of one block, the
 * list of blocks.
 *
 * Owns: auto_online_blocks, block_size_bytes, probe, soft_offline_page, hard_offline_page,
 * crash_hotplug and uevent there. Does not own: the blocks, and what adding memory means
 * (memory_block.c); poisoned pages (memory_failure.c). Linux: drivers/base/memory.c
 * memory_dev_init(), probe_store().
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

static int auto_online_blocks_show(struct machine *m, const struct sysfs_node *node,
                                   struct text *out)
{
    (void)node;
    text_printf(out, "%s\n", online_type_words[m->auto_online]);
    return 0;
}

static int64_t auto_online_blocks_store(struct machine *m, const struct sysfs_node *node,
                                        const char *buf, size_t count)
{
    int type = online_type_from_word(buf);

    (void)node;
    if (type < 0 || (type > TYPE_ONLINE && !has(m, F_auto_online_four_words)))
        return fail(m, -EINVAL, "`auto_online_blocks` does not know this word");
    m->auto_online = (enum online_type)type;
    return (int64_t)count;
}

static int block_size_bytes_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%llx\n", (unsigned long long)m->block_bytes);
    return 0;
}

static int64_t probe_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    uint64_t address;
    int nid, err = parse_u64(buf, &address);

    (void)node;
    TRACE(m, "probe_store");
    if (err != 0)
        return fail(m, err, "`probe` takes one physical address");
    if (address % m->block_bytes != 0)
        return fail(m, -EINVAL, "0x%llx is not a multiple of the block size",
                    (unsigned long long)address);
    {
        TRACE(m, "lock_device_hotplug_sysfs");
        if ((err = hotplug_lock(m)) != 0)
            return err;
    }
    {
        TRACE(m, "memory_add_physaddr_to_nid");
        nid = node_of_address(m, address);
    }
    err = memory_add_locked(m, nid, address, m->block_bytes, -1, false);
    hotplug_unlock(m);
    return err != 0 ? err : (int64_t)count;
}

static int64_t offline_page_store(struct machine *m, const char *buf, size_t count, bool hard)
{
    uint64_t address;

    if (m->task != NULL && !m->task->capable)
        return fail(m, -EPERM, "this takes CAP_SYS_ADMIN");
    if (parse_u64(buf, &address) != 0)
        return fail(m, -EINVAL, "one physical address is needed");
    int err = hard ? page_hard_offline(m, address >> m->page_shift)
                   : page_soft_offline(m, address >> m->page_shift);
    return err != 0 ? err : (int64_t)count;
}

static int64_t soft_offline_page_store(struct machine *m, const struct sysfs_node *node,
                                       const char *buf, size_t count)
{
    (void)node;
    return offline_page_store(m, buf, count, false);
}

static int64_t hard_offline_page_store(struct machine *m, const struct sysfs_node *node,
                                       const char *buf, size_t count)
{
    (void)node;
    return offline_page_store(m, buf, count, true);
}

static int crash_hotplug_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    /* Newer kernels ask the crash kernel that is loaded: none ever is. */
    text_printf(out, "%d\n", !has(m, F_crash_hotplug_by_image));
    return 0;
}

static int root_uevent_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    (void)node;
    (void)out;
    return 0;
}

static int64_t root_uevent_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                 size_t count)
{
    (void)node;
    /* A device without bus and class: its events are filtered out. */
    return uevent_synthesize(m, buf, count, "/devices/system/memory", "memory", " memory", false);
}

static bool probe_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return configured(m, CONFIG_ARCH_MEMORY_PROBE);
}

static bool memory_failure_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return configured(m, CONFIG_MEMORY_FAILURE);
}

static bool crash_hotplug_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_crash_hotplug) && configured(m, CONFIG_CRASH_HOTPLUG);
}

static const struct sysfs_attr root_attrs[] = {
    {.name = "uevent", .mode = 0644, .show = root_uevent_show, .store = root_uevent_store},
    {.name = "auto_online_blocks",
     .mode = 0644,
     .show = auto_online_blocks_show,
     .store = auto_online_blocks_store},
    {.name = "block_size_bytes", .mode = 0444, .show = block_size_bytes_show},
    {.name = "probe", .mode = 0200, .store = probe_store, .visible = probe_visible},
    {.name = "soft_offline_page",
     .mode = 0200,
     .store = soft_offline_page_store,
     .visible = memory_failure_visible},
    {.name = "hard_offline_page",
     .mode = 0200,
     .store = hard_offline_page_store,
     .visible = memory_failure_visible},
    {.name = "crash_hotplug",
     .mode = 0444,
     .show = crash_hotplug_show,
     .visible = crash_hotplug_visible},
    {0},
};

static int root_lookup(struct machine *m, uint64_t unused, const char *name, struct sysfs_node *out)
{
    uint64_t id;

    (void)unused;
    if (strcmp(name, "power") == 0) {
        *out = sysfs_dir_node(&sysfs_power_class, UINT64_MAX, 0);
        return 0;
    }
    if (!name_number(name, "memory", &id) || block_get(m, id) == NULL)
        return -ENOENT;
    *out = sysfs_dir_node(&memory_block_class, id, block_get(m, id)->serial);
    return 0;
}

static void root_list(struct machine *m, uint64_t unused,
                      void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                      void *ctx)
{
    uint64_t id = 0;
    void *value;
    struct sysfs_node node;

    (void)unused;
    root_lookup(m, 0, "power", &node);
    add(ctx, "power", &node);
    for (; radix_next(&m->blocks, id, &id, &value); id++) {
        char name[32];
        snprintf(name, sizeof name, "memory%llu", (unsigned long long)id);
        node = sysfs_dir_node(&memory_block_class, id, ((struct memory_block *)value)->serial);
        add(ctx, name, &node);
    }
}

static uint64_t root_nr_dirs(struct machine *m, uint64_t unused)
{
    (void)unused;
    return m->nr_memory_blocks + 1;
}

static uint64_t root_changed(struct machine *m, uint64_t unused)
{
    (void)unused;
    return m->blocks_changed_us;
}

static const struct sysfs_class root_class = {
    .name = "memory",
    .attrs = root_attrs,
    .lookup = root_lookup,
    .list = root_list,
    .nr_dirs = root_nr_dirs,
    .changed_us = root_changed,
};

void memory_root_register(struct machine *m)
{
    sysfs_dir_add(m, "/sys/devices/system/memory", &root_class, 0);
}

/*
 * sclp_mem.c - memory on standby, as s390 has it: storage that the machine holds ready, and that
 * Linux adds at boot or when somebody asks for it.
 *
 * Owns: which blocks are on standby, /sys/firmware/memory with the files `config` and
 * `memmap_on_memory` of each block. Does not own: what adding and removing a block means
 * (memory_block.c). A block is configured while it exists: nobody else adds or removes one of
 * these. Linux: drivers/s390/char/sclp_mem.c; before 6.18 drivers/s390/char/sclp_cmd.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

/* ---- which blocks there are ---- */

static void run_add(struct machine *m, uint64_t first, uint64_t end, bool on_memory)
{
    struct standby_run *last = m->nr_standby != 0 ? &m->standby[m->nr_standby - 1] : NULL;

    if (first >= end)
        return;
    if (last != NULL && last->end == first && last->on_memory == on_memory) {
        last->end = end;
        return;
    }
    m->standby = xrealloc(m, m->standby, m->nr_standby + 1, sizeof *m->standby);
    m->standby[m->nr_standby++] = (struct standby_run){first, end, on_memory};
}

static const struct standby_run *run_of(const struct machine *m, uint64_t id)
{
    for (size_t i = 0; i < m->nr_standby; i++)
        if (id >= m->standby[i].first && id < m->standby[i].end)
            return &m->standby[i];
    return NULL;
}

/* Will its memmap be in the block itself? As for its neighbours, unless somebody has asked for the
 * other. */
static bool on_memory(const struct machine *m, uint64_t id)
{
    return run_of(m, id)->on_memory != (radix_get(&m->standby_turned, id) != NULL);
}

/* Linux: mhp_supports_memmap_on_memory(); s390 can since blocks have memmaps of their own. */
static bool on_memory_possible(struct machine *m)
{
    return has(m, F_memmap_on_memory_altmap) && memmap_on_memory_wanted(m, m->block_bytes);
}

/* Before 6.18: Linux adds it when it boots, and leaves it offline whatever the policy. */
static int add_at_boot(struct machine *m, uint64_t first, uint64_t end)
{
    enum online_type auto_online = m->auto_online;
    int err = 0;

    m->auto_online = TYPE_OFFLINE;
    for (uint64_t id = first; id < end && err == 0; id++)
        err = memory_add_locked(m, 0, id * m->block_bytes, m->block_bytes, -1,
                                on_memory_possible(m));
    m->auto_online = auto_online;
    events_drop(m); /* nobody listened yet */
    m->event_seq = 0;
    return err == -ENOMEM
               ? fail(m, err, "there is too little memory to describe the memory on standby")
               : err;
}

int standby_boot(struct machine *m, const struct machine_config *config)
{
    const bool configured_later = has(m, F_s390_configured_memory);
    uint64_t id = 0;
    void *value;
    int err = 0;

    if (config->nr_standby != 0 && configured_later)
        for (; radix_next(&m->blocks, id, &id, &value); id++)
            run_add(m, id, id + 1, false);
    for (size_t i = 0; i < config->nr_standby && err == 0; i++) {
        uint64_t start = config->standby[i].start, bytes = config->standby[i].end - start;
        uint64_t first = (start + m->block_bytes - 1) / m->block_bytes;
        uint64_t end = (start + bytes) / m->block_bytes;
        klog(m, "%s: Standby memory at 0x%" PRIx64 " (%" PRIu64 "M of %" PRIu64 "M usable)",
             configured_later ? "sclp_mem" : "sclp_cmd", start,
             end > first ? (end - first) * m->block_bytes >> 20 : 0, bytes >> 20);
        if (configured_later)
            run_add(m, first, end, on_memory_possible(m));
        else
            err = add_at_boot(m, first, end);
    }
    return err;
}

void standby_destroy(struct machine *m)
{
    free(m->standby);
    radix_free(&m->standby_turned);
}

/* ---- files ---- */

static int config_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    text_printf(out, "%d\n", block_get(m, node->id) != NULL);
    return 0;
}

static int configure(struct machine *m, uint64_t id, bool wanted)
{
    const struct memory_block *b = block_get(m, id);
    uint64_t start = id * m->block_bytes;

    if (wanted == (b != NULL))
        return 0;
    if (wanted)
        return memory_add_locked(m, 0, start, m->block_bytes, -1, on_memory(m, id));
    if (b->state != BLOCK_OFFLINE)
        return fail(m, -EBUSY, "memory%" PRIu64 " is not offline", id);
    return memory_remove_locked(m, start, m->block_bytes);
}

static int64_t config_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                            size_t count)
{
    bool wanted;
    int err = parse_bool(m, buf, &wanted);

    TRACE(m, "sclp_config_mem_store");
    if (err != 0 || (err = hotplug_lock(m)) != 0)
        return err;
    err = configure(m, node->id, wanted);
    hotplug_unlock(m);
    return err != 0 ? err : (int64_t)count;
}

static int memmap_on_memory_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    text_printf(out, "%d\n", on_memory(m, node->id));
    return 0;
}

static int64_t memmap_on_memory_store(struct machine *m, const struct sysfs_node *node,
                                      const char *buf, size_t count)
{
    bool wanted;
    int err = parse_bool(m, buf, &wanted);

    TRACE(m, "sclp_memmap_on_memory_store");
    if (err != 0)
        return err;
    if (wanted && !on_memory_possible(m))
        return fail(m, -EOPNOTSUPP, "this needs memory_hotplug.memmap_on_memory=Y");
    if ((err = hotplug_lock(m)) != 0)
        return err;
    if (block_get(m, node->id) != NULL)
        err = fail(m, -EBUSY, "memory%" PRIu64 " is configured", node->id);
    else
        radix_set(m, &m->standby_turned, node->id,
                  wanted != run_of(m, node->id)->on_memory ? m->standby : NULL); /* any but NULL */
    hotplug_unlock(m);
    return err != 0 ? err : (int64_t)count;
}

static const struct sysfs_attr block_attrs[] = {
    {.name = "config", .mode = 0644, .show = config_show, .store = config_store},
    {.name = "memmap_on_memory",
     .mode = 0644,
     .show = memmap_on_memory_show,
     .store = memmap_on_memory_store},
    {0},
};

static const struct sysfs_class block_class = {.name = "standby block", .attrs = block_attrs};

static int root_lookup(struct machine *m, uint64_t unused, const char *name, struct sysfs_node *out)
{
    uint64_t id;

    (void)unused;
    if (!name_number(name, "memory", &id) || run_of(m, id) == NULL)
        return -ENOENT;
    *out = sysfs_dir_node(&block_class, id, 0);
    return 0;
}

static void root_list(struct machine *m, uint64_t unused,
                      void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                      void *ctx)
{
    (void)unused;
    for (size_t i = 0; i < m->nr_standby; i++)
        for (uint64_t id = m->standby[i].first; id < m->standby[i].end; id++) {
            char name[32];
            struct sysfs_node node = sysfs_dir_node(&block_class, id, 0);
            snprintf(name, sizeof name, "memory%" PRIu64, id);
            add(ctx, name, &node);
        }
}

static uint64_t root_nr_dirs(struct machine *m, uint64_t unused)
{
    uint64_t nr = 0;

    (void)unused;
    for (size_t i = 0; i < m->nr_standby; i++)
        nr += m->standby[i].end - m->standby[i].first;
    return nr;
}

static const struct sysfs_class root_class = {.name = "memory of the firmware",
                                              .lookup = root_lookup,
                                              .list = root_list,
                                              .nr_dirs = root_nr_dirs};

void standby_register(struct machine *m)
{
    if (m->nr_standby != 0)
        sysfs_dir_add(m, "/sys/firmware/memory", &root_class, 0);
}

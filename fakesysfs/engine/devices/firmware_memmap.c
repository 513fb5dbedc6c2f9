/*
 * firmware_memmap.c - /sys/firmware/memmap: the memory map of the firmware, with what was added.
 *
 * Owns: the entries and their files. Does not own: when memory is added (add_memory.c).
 * Linux: drivers/firmware/memmap.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

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
    m->firmware = xrealloc(m, m->firmware, m->nr_firmware + 1, sizeof *m->firmware);
    m->firmware[m->nr_firmware++] = (struct firmware_entry){
        .start = start, .end = end, .type = xstrdup(m, type), .nr = m->next_firmware++};
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

void firmware_map_register(struct machine *m)
{
    if (configured(m, CONFIG_FIRMWARE_MEMMAP))
        sysfs_dir_add(m, "/sys/firmware/memmap", &firmware_class, 0);
}

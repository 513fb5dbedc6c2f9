/*
 * memory_block_files.c - the directory memoryN of a memory block: its attributes and links.
 *
 * Owns: the words that are read and written there. Does not own: what a write does to the block
 * (memory_block.c), the directory the blocks are in (memory_root.c). Linux: drivers/base/memory.c
 * state_store(), valid_zones_show(), drivers/base/core.c online_store().
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

/* ---- attributes ---- */

/* The block a file belongs to; NULL once it is gone, also when another one has its number. */
static struct memory_block *block_of(struct machine *m, const struct sysfs_node *node)
{
    struct memory_block *b = block_get(m, node->id);

    return b != NULL && b->serial == node->serial ? b : NULL;
}

/* device_lock(): wait until the block is neither going online nor offline. */
static int block_wait_idle(struct machine *m, const struct sysfs_node *node,
                           struct memory_block **b)
{
    while ((*b = block_of(m, node)) != NULL && (*b)->busy) {
        int err = wait_changed(m);
        if (err != 0)
            return err;
    }
    return *b == NULL ? -ENODEV : 0;
}

static int phys_index_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    text_printf(out, "%08llx\n", (unsigned long long)node->id);
    return 0;
}

static int phys_device_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    const struct memory_block *b = block_of(m, node);

    if (b == NULL)
        return -ENODEV;
    text_printf(out, "%d\n", b->phys_device);
    return 0;
}

static int state_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    const struct memory_block *b = block_of(m, node);

    if (b == NULL)
        return -ENODEV;
    text_printf(out, "%s\n",
                b->state == BLOCK_ONLINE    ? "online"
                : b->state == BLOCK_OFFLINE ? "offline"
                                            : "going-offline");
    return 0;
}

static int parse_type(struct machine *m, const char *buf)
{
    if (!has(m, F_state_parse_first))
        return online_type_from_word(buf);
    TRACE(m, "mhp_online_type_from_str");
    return online_type_from_word(buf);
}

static int64_t state_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    int type, ret;

    TRACE(m, "state_store");
    type = parse_type(m, buf);
    if (type < 0 && has(m, F_state_parse_first))
        return fail(m, -EINVAL, "`state` takes online, online_kernel, online_movable, offline");
    {
        TRACE(m, "lock_device_hotplug_sysfs");
        if ((ret = hotplug_lock(m)) != 0)
            return ret;
    }
    struct memory_block *b = block_of(m, node);
    if (b == NULL)
        ret = -ENODEV;
    else if (type < 0)
        ret = fail(m, -EINVAL, "`state` takes online, online_kernel, online_movable, offline");
    else if (type == TYPE_OFFLINE)
        ret = block_offline(m, b);
    else {
        b->online_type = (enum online_type)
            type; /* stays when the block is online already: a quirk tools meet */
        ret = block_online(m, b);
    }
    if (ret == 1)
        ret = fail(m, -EINVAL, "memory%llu is %s already", (unsigned long long)node->id,
                   type == TYPE_OFFLINE ? "offline" : "online");
    hotplug_unlock(m);
    return ret < 0 ? ret : (int64_t)count;
}

static int online_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    struct memory_block *b;
    int err = block_wait_idle(m, node, &b);

    if (err == 0)
        text_printf(out, "%d\n", !b->dev_offline);
    return err;
}

static int64_t online_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                            size_t count)
{
    bool online;
    int ret = parse_bool(m, buf, &online);

    TRACE(m, "online_store");
    if (ret != 0)
        return fail(m, ret, "`online` takes 0 or 1");
    if ((ret = hotplug_lock(m)) != 0)
        return ret;
    struct memory_block *b = block_of(m, node);
    ret = b == NULL ? -ENODEV : online ? block_online(m, b) : block_offline(m, b);
    hotplug_unlock(m);
    return ret < 0 ? ret : (int64_t)count;
}

/* Kernels before 5.7 look at the pages; later ones say yes, as nobody could rely on the answer. */
static int removable_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    const struct memory_block *b = block_of(m, node);
    bool removable = configured(m, CONFIG_MEMORY_HOTREMOVE);

    if (b == NULL)
        return -ENODEV;
    if (b->removable >= 0) {
        removable = b->removable != 0;
    } else if (!has(m, F_removable_const) && b->state != BLOCK_OFFLINE) {
        uint64_t pfn = block_pfn(m, b), end = pfn + m->block_pages;
        struct folio folio;
        while (removable && pfn < end && folio_at(m, pfn, &folio)) {
            unsigned mobility = kind_mobility(folio.kind);
            removable = mobility != MOBILITY_RESERVED && mobility != MOBILITY_UNMOVABLE;
            pfn = folio.page == NULL ? section_first_pfn(m, folio.s) + m->pages_per_section
                                     : folio.pfn + (1ull << folio.order);
        }
    }
    text_printf(out, "%d\n", removable);
    return 0;
}

static int valid_zones_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    const struct memory_block *b = block_of(m, node);

    if (b == NULL)
        return -ENODEV;
    if (b->state == BLOCK_ONLINE) {
        const struct zone *z = block_zone(m, b);
        text_printf(out, "%s\n", z != NULL ? zone_name(z) : "none");
        return 0;
    }
    const struct zone *first = NULL;
    for (enum online_type type = TYPE_ONLINE; type < NR_ONLINE_TYPES; type++) {
        const struct zone *z = zone_for_range(m, type, b->nid, block_group(m, b), block_pfn(m, b),
                                              m->block_pages);
        if (first == NULL)
            first = z;
        else if (z == first)
            continue;
        text_printf(out, "%s%s", z == first ? "" : " ", zone_name(z));
    }
    text_printf(out, "\n");
    return 0;
}

static int block_uevent_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    struct memory_block *b;

    (void)out; /* memory blocks add no keys of their own */
    return has(m, F_uevent_show_lock) ? block_wait_idle(m, node, &b) : 0;
}

static int64_t block_uevent_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                  size_t count)
{
    const struct memory_block *b = block_of(m, node);
    char path[BLOCK_PATH_SIZE], name[BLOCK_PATH_SIZE];

    if (b == NULL)
        return -ENODEV;
    snprintf(name, sizeof name, "memory memory%llu", (unsigned long long)b->id);
    return uevent_synthesize(m, buf, count, block_path(b, path), "memory", name, true);
}

static bool hotremove_configured(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return configured(m, CONFIG_MEMORY_HOTREMOVE);
}

static const struct sysfs_attr block_attrs[] = {
    {.name = "uevent",
     .mode = 0644,
     .show = block_uevent_show,
     .store = block_uevent_store,
     .flags = ATTR_DEVICE_LOCK},
    {.name = "phys_index", .mode = 0444, .show = phys_index_show},
    {.name = "state", .mode = 0644, .show = state_show, .store = state_store},
    {.name = "phys_device", .mode = 0444, .show = phys_device_show},
    {.name = "removable", .mode = 0444, .show = removable_show},
    {.name = "valid_zones",
     .mode = 0444,
     .show = valid_zones_show,
     .visible = hotremove_configured},
    {.name = "online",
     .mode = 0644,
     .show = online_show,
     .store = online_store,
     .flags = ATTR_DEVICE_LOCK},
    {0},
};

/* ---- links ---- */

enum { LINK_SUBSYSTEM, LINK_NODE, LINK_FIRMWARE };

static void block_link_target(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    switch (node->aux & 0xff) {
    case LINK_SUBSYSTEM:
        text_printf(out, "../../../../bus/memory");
        break;
    case LINK_NODE:
        text_printf(out, "../../node/node%llu", (unsigned long long)(node->aux >> 8));
        break;
    default:
        text_printf(out, "../../../LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04/PNP0C80:%02llx",
                    (unsigned long long)(node->aux >> 8));
    }
}

static bool block_alive(struct machine *m, uint64_t id, uint64_t serial)
{
    const struct memory_block *b = block_get(m, id);

    return b != NULL && b->serial == serial;
}

static const struct sysfs_class block_link_class = {
    .name = "link of a memory block", .target = block_link_target, .alive = block_alive};

static int block_lookup(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out)
{
    const struct memory_block *b = block_get(m, id);
    uint64_t aux, nid;

    if (b == NULL)
        return -ENOENT;
    if (strcmp(name, "power") == 0) {
        *out = sysfs_dir_node(&sysfs_power_class, id, b->serial);
        return 0;
    }
    if (strcmp(name, "subsystem") == 0)
        aux = LINK_SUBSYSTEM;
    else if (strcmp(name, "firmware_node") == 0 && b->acpi_slot >= 0 &&
             (unsigned)b->acpi_slot < m->nr_acpi_slots)
        aux = LINK_FIRMWARE | (uint64_t)b->acpi_slot << 8;
    else if (configured(m, CONFIG_NUMA) && !b->unlinked && name_number(name, "node", &nid) &&
             ((b->nid >= 0 && nid == (uint64_t)b->nid) ||
              (b->second_nid >= 0 && nid == (uint64_t)b->second_nid)))
        aux = LINK_NODE | nid << 8;
    else
        return -ENOENT;
    *out = sysfs_link_node(&block_link_class, id, aux, b->serial);
    return 0;
}

static void block_list(struct machine *m, uint64_t id,
                       void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                       void *ctx)
{
    const struct memory_block *b = block_get(m, id);
    char node_names[2][24] = {"", ""};
    const char *names[] = {"subsystem", "power", "firmware_node", node_names[0], node_names[1]};
    struct sysfs_node node;

    if (b != NULL && b->nid >= 0)
        snprintf(node_names[0], sizeof *node_names, "node%d", b->nid);
    if (b != NULL && b->second_nid >= 0)
        snprintf(node_names[1], sizeof *node_names, "node%d", b->second_nid);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (block_lookup(m, id, names[i], &node) == 0)
            add(ctx, names[i], &node);
}

static uint64_t block_nr_dirs(struct machine *m, uint64_t id)
{
    (void)m;
    (void)id;
    return 1; /* power */
}

const struct sysfs_class memory_block_class = {
    .name = "memory block",
    .attrs = block_attrs,
    .lookup = block_lookup,
    .list = block_list,
    .alive = block_alive,
    .nr_dirs = block_nr_dirs,
};

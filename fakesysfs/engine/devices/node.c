/*
 * node.c - the NUMA nodes as devices: /sys/devices/system/node, its nodeN directories,
 * /sys/bus/node.
 *
 * Owns: which nodes have a directory, their uevents, the masks, the links to CPUs and memory
 * blocks. Does not own: what the files of a node say about its memory (node_files.c, meminfo.c,
 * vmstat.c), when a node comes and goes (memory_block.c). Linux: drivers/base/node.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/node_files.h"

static const char node_path[] = "/sys/devices/system/node";

/* What a link of node_link_class leads to: in the high half of aux. */
enum { LINK_SUBSYSTEM, LINK_CPU, LINK_MEMORY, LINK_DEVICE };

static uint64_t link_aux(unsigned what, uint64_t number)
{
    return (uint64_t)what << 56 | number;
}

static void link_target(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    unsigned long long number = node->aux & ((UINT64_C(1) << 56) - 1);
    switch (node->aux >> 56) {
    case LINK_SUBSYSTEM:
        text_printf(out, "../../../../bus/node");
        break;
    case LINK_CPU:
        text_printf(out, "../../cpu/cpu%llu", number);
        break;
    case LINK_MEMORY:
        text_printf(out, "../../memory/memory%llu", number);
        break;
    default:
        text_printf(out, "../../../devices/system/node/node%llu", number);
        break;
    }
}

static const struct sysfs_class node_link_class = {.name = "node link", .target = link_target};

static struct sysfs_node link_to(uint64_t nid, unsigned what, uint64_t number)
{
    return sysfs_link_node(&node_link_class, nid, link_aux(what, number), 0);
}

/* "memory32" with prefix "memory" is 32. No leading zeros, as there is one name for each. */
static bool numbered(const char *name, const char *prefix, uint64_t *number)
{
    size_t len = strlen(prefix);
    if (strncmp(name, prefix, len) != 0)
        return false;
    const char *digits = name + len;
    if (digits[0] == '\0' || (digits[0] == '0' && digits[1] != '\0') || strlen(digits) > 15)
        return false;
    *number = 0;
    for (; *digits != '\0'; digits++) {
        if (*digits < '0' || *digits > '9')
            return false;
        *number = *number * 10 + (uint64_t)(*digits - '0');
    }
    return true;
}

/* ---- masks ---- */

static void node_mask_print(struct machine *m, struct text *out, uint64_t mask)
{
    const char *separator = "";
    (void)m;
    for (unsigned nid = 0; nid < MAX_NODES; nid++) {
        if ((mask >> nid & 1) == 0)
            continue;
        unsigned last = nid;
        while (last + 1 < MAX_NODES && (mask >> (last + 1) & 1) != 0)
            last++;
        text_printf(out, last == nid ? "%s%u" : "%s%u-%u", separator, nid, last);
        separator = ",";
        nid = last;
    }
    text_printf(out, "\n");
}

typedef bool (*test_fn)(struct machine *m, const struct node *node);

/* Nodes for which test() holds. */
static int mask_show(struct machine *m, struct text *out, test_fn test)
{
    uint64_t mask = 0;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        if (test(m, &m->nodes[nid]))
            mask |= UINT64_C(1) << nid;
    node_mask_print(m, out, mask);
    return 0;
}

static bool is_possible(struct machine *m, const struct node *node)
{
    (void)m;
    (void)node;
    return true;
}

static bool is_online(struct machine *m, const struct node *node)
{
    (void)m;
    return node->online;
}

static bool has_memory(struct machine *m, const struct node *node)
{
    (void)m;
    return node_has_memory(node);
}

static bool has_normal_memory(struct machine *m, const struct node *node)
{
    for (unsigned type = 0; type <= ZONE_NORMAL; type++) {
        const struct zone *z = &node->zones[type];
        if (has(m, F_normal_memory_mask) ? zone_populated(z) : z->present_early != 0)
            return true;
    }
    return false;
}

static bool has_cpu(struct machine *m, const struct node *node)
{
    (void)m;
    return node->nr_cpus != 0;
}

static bool has_nothing(struct machine *m, const struct node *node)
{
    (void)m;
    (void)node;
    return false;
}

#define MASK_SHOW(name, test)                                                           \
    static int name(struct machine *m, const struct sysfs_node *node, struct text *out) \
    {                                                                                   \
        (void)node;                                                                     \
        return mask_show(m, out, test);                                                 \
    }

MASK_SHOW(possible_show, is_possible)
MASK_SHOW(online_show, is_online)
MASK_SHOW(has_normal_memory_show, has_normal_memory)
MASK_SHOW(has_memory_show, has_memory)
MASK_SHOW(has_cpu_show, has_cpu)
MASK_SHOW(has_generic_initiator_show, has_nothing) /* no device has memory affinity of its own */

static bool generic_initiator_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_has_generic_initiator);
}

/* ---- uevent files ---- */

static int uevent_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    (void)node;
    (void)out; /* a node adds no keys, so there is nothing to read */
    return 0;
}

/* The root belongs to no bus: its events are filtered, its name is printed without a driver's
 * before it. */
static int64_t root_uevent_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                 size_t count)
{
    (void)node;
    return uevent_synthesize(m, buf, count, "/devices/system/node", "", " node", false);
}

static int64_t bus_uevent_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                size_t count)
{
    (void)node;
    return uevent_synthesize(m, buf, count, "/bus/node", "bus", NULL, true);
}

static int64_t node_uevent_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                 size_t count)
{
    char devpath[64], name[32];
    snprintf(devpath, sizeof devpath, "/devices/system/node/node%llu",
             (unsigned long long)node->id);
    snprintf(name, sizeof name, "node node%llu", (unsigned long long)node->id);
    return uevent_synthesize(m, buf, count, devpath, "node", name, true);
}

/* ---- nodeN ---- */

static bool node_alive(struct machine *m, uint64_t id, uint64_t serial)
{
    (void)serial;
    return m->nodes[id].registered;
}

static bool block_of_node(const struct memory_block *b, uint64_t nid)
{
    return !b->unlinked &&
           ((uint64_t)b->nid == nid || (b->nr_nodes > 1 && (uint64_t)b->second_nid == nid));
}

static bool cpu_of_node(const struct node *node, uint64_t cpu)
{
    for (unsigned i = 0; i < node->nr_cpus; i++)
        if ((uint64_t)node->cpus[i] == cpu)
            return true;
    return false;
}

static int node_lookup(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out)
{
    uint64_t number;
    if (strcmp(name, "power") == 0) {
        *out = sysfs_dir_node(&sysfs_power_class, id, 0);
        return 0;
    }
    if (strcmp(name, "subsystem") == 0) {
        *out = link_to(id, LINK_SUBSYSTEM, 0);
        return 0;
    }
    if (numbered(name, "memory", &number)) {
        const struct memory_block *b = radix_get(&m->blocks, number);
        if (b == NULL || !block_of_node(b, id))
            return -ENOENT;
        *out = link_to(id, LINK_MEMORY, number);
        return 0;
    }
    if (numbered(name, "cpu", &number)) {
        if (!cpu_of_node(&m->nodes[id], number))
            return -ENOENT;
        *out = link_to(id, LINK_CPU, number);
        return 0;
    }
    return node_files_lookup(m, id, name, out);
}

static void node_list(struct machine *m, uint64_t id, add_fn add, void *ctx)
{
    struct sysfs_node child = sysfs_dir_node(&sysfs_power_class, id, 0);
    char name[32];
    add(ctx, "power", &child);
    child = link_to(id, LINK_SUBSYSTEM, 0);
    add(ctx, "subsystem", &child);
    node_files_list(m, id, add, ctx);
    for (unsigned i = 0; i < m->nodes[id].nr_cpus; i++) {
        snprintf(name, sizeof name, "cpu%d", m->nodes[id].cpus[i]);
        child = link_to(id, LINK_CPU, (uint64_t)m->nodes[id].cpus[i]);
        add(ctx, name, &child);
    }
    uint64_t nr = 0;
    void *value;
    for (; radix_next(&m->blocks, nr, &nr, &value); nr++) {
        if (!block_of_node(value, id))
            continue;
        snprintf(name, sizeof name, "memory%llu", (unsigned long long)nr);
        child = link_to(id, LINK_MEMORY, nr);
        add(ctx, name, &child);
    }
}

static const struct sysfs_attr node_attrs[] = {
    {.name = "cpumap",
     .mode = 0444,
     .show = node_cpumap_show,
     .size = node_cpumap_size,
     .flags = ATTR_LARGE},
    {.name = "cpulist",
     .mode = 0444,
     .show = node_cpulist_show,
     .size = node_cpulist_size,
     .flags = ATTR_LARGE},
    {.name = "meminfo", .mode = 0444, .show = node_meminfo_show},
    {.name = "numastat", .mode = 0444, .show = node_numastat_show},
    {.name = "distance", .mode = 0444, .show = node_distance_show},
    {.name = "vmstat", .mode = 0444, .show = node_vmstat_show},
    {.name = "compact", .mode = 0200, .store = node_compact_store, .visible = node_compact_visible},
    {.name = "reclaim", .mode = 0200, .store = node_reclaim_store, .visible = node_reclaim_visible},
    {.name = "uevent", .mode = 0644, .show = uevent_show, .store = node_uevent_store},
    {.name = NULL},
};

static void count_dir(void *ctx, const char *name, const struct sysfs_node *node)
{
    (void)name;
    *(uint64_t *)ctx += node->type == SYSFS_DIR;
}

/* power/ and what is in node_files.c: memory blocks and processors are links. */
static uint64_t node_nr_dirs(struct machine *m, uint64_t id)
{
    uint64_t nr = 1;
    node_files_list(m, id, count_dir, &nr);
    return nr;
}

static const struct sysfs_class node_class = {.name = "node",
                                              .attrs = node_attrs,
                                              .lookup = node_lookup,
                                              .list = node_list,
                                              .alive = node_alive,
                                              .nr_dirs = node_nr_dirs};

/* ---- the root, and the bus ---- */

/* nodeN of the root is a directory, that of the bus's devices/ a link to it. */
static struct sysfs_node node_child(uint64_t nid, bool as_link)
{
    return as_link ? link_to(nid, LINK_DEVICE, nid) : sysfs_dir_node(&node_class, nid, 0);
}

static int registered_lookup(struct machine *m, const char *name, bool as_link,
                             struct sysfs_node *out)
{
    uint64_t nid;
    if (!numbered(name, "node", &nid) || nid >= m->possible_nodes || !m->nodes[nid].registered)
        return -ENOENT;
    *out = node_child(nid, as_link);
    return 0;
}

static void registered_list(struct machine *m, bool as_link, add_fn add, void *ctx)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        if (!m->nodes[nid].registered)
            continue;
        char name[32];
        snprintf(name, sizeof name, "node%u", nid);
        struct sysfs_node child = node_child(nid, as_link);
        add(ctx, name, &child);
    }
}

static int root_lookup(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out)
{
    (void)id;
    return registered_lookup(m, name, false, out);
}

static void root_list(struct machine *m, uint64_t id, add_fn add, void *ctx)
{
    (void)id;
    registered_list(m, false, add, ctx);
}

static int devices_lookup(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out)
{
    (void)id;
    return registered_lookup(m, name, true, out);
}

static void devices_list(struct machine *m, uint64_t id, add_fn add, void *ctx)
{
    (void)id;
    registered_list(m, true, add, ctx);
}

static const struct sysfs_attr root_attrs[] = {
    {.name = "possible", .mode = 0444, .show = possible_show},
    {.name = "online", .mode = 0444, .show = online_show},
    {.name = "has_normal_memory", .mode = 0444, .show = has_normal_memory_show},
    {.name = "has_memory", .mode = 0444, .show = has_memory_show},
    {.name = "has_cpu", .mode = 0444, .show = has_cpu_show},
    {.name = "has_generic_initiator",
     .mode = 0444,
     .show = has_generic_initiator_show,
     .visible = generic_initiator_visible},
    {.name = "uevent", .mode = 0644, .show = uevent_show, .store = root_uevent_store},
    {.name = NULL},
};

static const struct sysfs_class root_class = {
    .name = "node root", .attrs = root_attrs, .lookup = root_lookup, .list = root_list};

enum { BUS_MEMORY, BUS_NODE }; /* drivers_autoprobe[] */

static int drivers_autoprobe_show(struct machine *m, const struct sysfs_node *node,
                                  struct text *out)
{
    (void)node;
    text_printf(out, "%d\n", m->drivers_autoprobe[BUS_NODE]);
    return 0;
}

static int64_t drivers_autoprobe_store(struct machine *m, const struct sysfs_node *node,
                                       const char *buf, size_t count)
{
    (void)node;
    m->drivers_autoprobe[BUS_NODE] = buf[0] != '0';
    return (int64_t)count;
}

/* Finds the device by its exact name, and then no driver for it, as there are none. */
static int64_t drivers_probe_store(struct machine *m, const struct sysfs_node *node,
                                   const char *buf, size_t count)
{
    struct sysfs_node found;
    (void)node;
    if (registered_lookup(m, buf, true, &found) != 0)
        return fail(m, -ENODEV, "no device of this bus has exactly this name; a newline counts");
    return (int64_t)count;
}

static const struct sysfs_attr bus_attrs[] = {
    {.name = "drivers_autoprobe",
     .mode = 0644,
     .show = drivers_autoprobe_show,
     .store = drivers_autoprobe_store},
    {.name = "drivers_probe", .mode = 0200, .store = drivers_probe_store},
    {.name = "uevent", .mode = 0200, .store = bus_uevent_store},
    {.name = NULL},
};

static const struct sysfs_class bus_class = {.name = "node bus", .attrs = bus_attrs};
static const struct sysfs_class devices_class = {
    .name = "node bus devices", .lookup = devices_lookup, .list = devices_list};
static const struct sysfs_class drivers_class = {.name = "node bus drivers"};

/* ---- nodes come and go ---- */

static void node_uevent(struct machine *m, const char *action, int nid)
{
    char devpath[64];
    snprintf(devpath, sizeof devpath, "/devices/system/node/node%d", nid);
    uevent_add(m, action, devpath, "node", NULL);
}

void node_device_add(struct machine *m, int nid)
{
    TRACE(m, "__register_one_node");
    m->nodes[nid].registered = true;
    node_uevent(m, "add", nid);
}

void node_device_remove(struct machine *m, int nid)
{
    TRACE(m, "unregister_one_node");
    node_uevent(m, "remove", nid);
    m->nodes[nid].registered = false;
}

void node_register(struct machine *m)
{
    m->drivers_autoprobe[BUS_NODE] = true;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        m->nodes[nid].registered = m->nodes[nid].online && configured(m, CONFIG_NUMA);
    /* nobody listens yet: no event */
    if (!configured(m, CONFIG_NUMA))
        return;
    sysfs_dir_add(m, node_path, &root_class, 0);
    sysfs_dir_add(m, "/sys/devices/system/node/power", &sysfs_power_class, 0);
    sysfs_dir_add(m, "/sys/bus/node", &bus_class, 0);
    sysfs_dir_add(m, "/sys/bus/node/devices", &devices_class, 0);
    sysfs_dir_add(m, "/sys/bus/node/drivers", &drivers_class, 0);
}

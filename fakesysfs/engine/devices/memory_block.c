/*
 * memory_block.c - memory blocks: the devices memoryN, their state machine, every attribute of
 * theirs.
 *
 * Owns: which blocks exist, their state and online type, the adding and removing of memory as
 * blocks (uevents, links to nodes, auto-online), the words of the attributes. Does not own: page
 * frames and zones (memory_hotplug.c and below), DIMMs (acpi.c), the directory the blocks are in
 * (memory_root.c), bus/memory and module parameters (memory_tree.c). Linux: drivers/base/memory.c,
 * drivers/base/core.c device_online(), mm/memory_hotplug.c add_memory_resource().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum { BLOCK_PATH_SIZE = 64 };

const char *const online_type_words[NR_ONLINE_TYPES] = {
    [TYPE_OFFLINE] = "offline",
    [TYPE_ONLINE] = "online",
    [TYPE_KERNEL] = "online_kernel",
    [TYPE_MOVABLE] = "online_movable",
};

int online_type_from_word(const char *buf)
{
    for (int type = 0; type < NR_ONLINE_TYPES; type++)
        if (sysfs_streq(buf, online_type_words[type]))
            return type;
    return -EINVAL;
}

struct memory_block *block_get(struct machine *m, uint64_t id)
{
    return radix_get(&m->blocks, id);
}

static const char *block_path(const struct memory_block *b, char path[BLOCK_PATH_SIZE])
{
    snprintf(path, BLOCK_PATH_SIZE, "/devices/system/memory/memory%llu", (unsigned long long)b->id);
    return path;
}

static uint64_t block_pfn(const struct machine *m, const struct memory_block *b)
{
    return b->id * m->block_pages;
}

static struct memory_group *block_group(struct machine *m, const struct memory_block *b)
{
    return b->group >= 0 ? &m->groups[b->group] : NULL;
}

static void block_uevent(struct machine *m, const struct memory_block *b, const char *action)
{
    char path[BLOCK_PATH_SIZE];

    TRACE_LEAF(m, "dev_uevent_filter");
    TRACE_LEAF(m, "dev_uevent_name");
    TRACE_LEAF(m, "dev_uevent");
    uevent_add(m, action, block_path(b, path), "memory", NULL);
}

/* ---- the state machine ---- */

static int block_go_online(struct machine *m, struct memory_block *b)
{
    uint64_t start_pfn = block_pfn(m, b);

    if (has(m, F_online_poisoned_ehwpoison) && b->nr_poisoned != 0)
        return fail(m, -EHWPOISON, "memory%llu has %u poisoned pages", (unsigned long long)b->id,
                    b->nr_poisoned);
    struct zone *z;
    {
        TRACE_LEAF(m, "zone_for_pfn_range");
        z = zone_for_range(m, b->online_type, b->nid, block_group(m, b), start_pfn, m->block_pages);
    }
    TRACE_LEAF(m, "mem_hotplug_begin");
    if (has(m, F_prepare_online_notifier))
        memory_notify(m); /* MEM_PREPARE_ONLINE */
    int err = online_pages(m, start_pfn, m->block_pages, z, block_group(m, b), b->nr_vmemmap);
    TRACE_LEAF(m, "mem_hotplug_done");
    if (err == 0)
        b->zone = b->last_zone = z->index;
    return err;
}

/*
 * Linux: test_pages_in_a_zone(), until a block remembered its zone: the zone of the first page of
 * every largest chunk, NULL when they differ, or when one is beyond the end of the zone, as behind
 * RAM that ends within the block.
 */
static struct zone *zone_by_pages(struct machine *m, const struct memory_block *b)
{
    uint64_t start_pfn = block_pfn(m, b);
    struct zone *only = NULL;

    for (uint64_t pfn = start_pfn; pfn < start_pfn + m->block_pages; pfn += 1ull << m->max_order) {
        struct zone *z = zone_of(m, pfn);
        if (z == NULL)
            continue; /* its section is not there */
        if (only != NULL && (z != only || pfn >= only->end_pfn))
            return NULL;
        only = z;
    }
    return only;
}

/* The zone an online block is in, as this kernel finds it out; NULL: none, or several. */
static struct zone *block_zone(struct machine *m, const struct memory_block *b)
{
    return has(m, F_valid_zones_cached) ? zone_by_index(m, b->zone) : zone_by_pages(m, b);
}

static int block_go_offline(struct machine *m, struct memory_block *b)
{
    /* What the pages say may be wrong about the last few of them; then a real kernel goes astray,
     * and we do not. */
    struct zone *z = block_zone(m, b) != NULL ? zone_by_index(m, b->zone) : NULL;

    if (z == NULL) {
        if (has(m, F_cancel_offline_always))
            memory_notify(m);
        return fail(m, -EINVAL, "memory%llu lies in more than one zone or node",
                    (unsigned long long)b->id);
    }
    TRACE_LEAF(m, "mem_hotplug_begin");
    uint64_t pfn = block_pfn(m, b);
    if (b->removable == 0 &&
        !has(m, F_removable_const)) { /* found so: then something is in it that cannot move */
        buddy_alloc_range(m, pfn, pfn + m->block_pages, 0, KIND_KERNEL, &pfn);
        b->removable = -1;
    }
    int err = offline_pages(m, block_pfn(m, b), m->block_pages, z, block_group(m, b),
                            b->nr_vmemmap);
    if (has(m, F_prepare_online_notifier) && err == 0)
        memory_notify(m); /* MEM_FINISH_OFFLINE */
    TRACE_LEAF(m, "mem_hotplug_done");
    if (err == 0)
        b->zone = -1;
    return err;
}

/* The only place that writes b->state. Linux: memory_block_change_state(). */
static int block_change_state(struct machine *m, struct memory_block *b, enum block_state to,
                              enum block_state from)
{
    char path[BLOCK_PATH_SIZE];

    if (b->state != from)
        return fail(m, -EINVAL, "memory%llu is not %s", (unsigned long long)b->id,
                    from == BLOCK_ONLINE ? "online" : "offline");
    if (to == BLOCK_OFFLINE)
        b->state = BLOCK_GOING_OFFLINE;
    int err = to == BLOCK_ONLINE ? block_go_online(m, b) : block_go_offline(m, b);
    b->state = err == 0 ? to : from;
    b->removable = err == 0 ? -1 : b->removable;
    event_add(m, EVENT_STATE, err, block_path(b, path),
              err != 0 && m->task != NULL ? m->task->reason
              : to == BLOCK_ONLINE        ? "online"
                                          : "offline");
    return err;
}

static void block_set_busy(struct machine *m, struct memory_block *b, bool busy)
{
    b->busy = busy;
    if (!busy)
        pthread_cond_broadcast(&m->changed);
}

int block_online(struct machine *m, struct memory_block *b)
{
    int err;

    TRACE(m, "device_online");
    if (!b->dev_offline)
        return 1;
    block_set_busy(m, b, true);
    {
        TRACE(m, "memory_subsys_online");
        if (b->online_type == TYPE_OFFLINE)
            b->online_type = TYPE_ONLINE;
        err = block_change_state(m, b, BLOCK_ONLINE, BLOCK_OFFLINE);
        b->online_type = TYPE_OFFLINE; /* unset: the next `online` without a word decides anew */
    }
    if (err == 0) {
        block_uevent(m, b, "online");
        b->dev_offline = false;
    }
    block_set_busy(m, b, false);
    return err;
}

int block_offline(struct machine *m, struct memory_block *b)
{
    int err;

    TRACE(m, "device_offline");
    TRACE_LEAF(m, "device_for_each_child");
    if (b->dev_offline)
        return 1;
    block_set_busy(m, b, true);
    {
        TRACE(m, "memory_subsys_offline");
        unsigned missing = 0;
        for (unsigned i = 0; i < m->sections_per_block && has(m, F_section_count_check); i++)
            missing += section_get(m, b->id * m->sections_per_block + i) == NULL;
        if (missing != 0)
            err = fail(m, -EINVAL, "memory%llu lacks %u sections", (unsigned long long)b->id,
                       missing);
        else
            err = block_change_state(m, b, BLOCK_OFFLINE, BLOCK_ONLINE);
    }
    if (err == 0) {
        block_uevent(m, b, "offline");
        b->dev_offline = true;
    }
    block_set_busy(m, b, false);
    return err;
}

/* ---- blocks come and go ---- */

struct memory_block *block_create(struct machine *m, uint64_t id, int nid)
{
    struct memory_block *b = xcalloc(1, sizeof *b);

    *b = (struct memory_block){
        .id = id,
        .serial = ++m->block_serial,
        .state = BLOCK_OFFLINE,
        .online_type = TYPE_OFFLINE,
        .phys_device = m->has_phys_device ? (int)id
                                          : 0, /* s390x: the storage increment, which is as large */
        .dev_offline = true,
        .nid = (int16_t)nid,
        .second_nid = -1,
        .zone = -1,
        .last_zone = -1,
        .group = -1,
        .acpi_slot = -1,
        .removable = -1,
    };
    radix_set(&m->blocks, id, b);
    m->nr_memory_blocks++;
    m->nodes[nid].nr_blocks++;
    m->blocks_changed_us = m->clock_us;
    return b;
}

static void block_destroy(struct machine *m, struct memory_block *b)
{
    m->poisoned_pages -= b->nr_poisoned;
    radix_set(&m->blocks, b->id, NULL);
    m->nr_memory_blocks--;
    m->nodes[b->nid].nr_blocks--;
    if (b->second_nid >= 0)
        m->nodes[b->second_nid].nr_blocks--;
    m->blocks_changed_us = m->clock_us;
    free(b);
}

void block_destroy_all(struct machine *m)
{
    uint64_t id = 0;
    void *value;

    for (; radix_next(&m->blocks, id, &id, &value); id++)
        free(value);
    radix_free(&m->blocks);
}

/* Linux: add_memory_block() and what device_register() does for it, in the order the tracer saw. */
static struct memory_block *block_add(struct machine *m, uint64_t id, int nid, int16_t group)
{
    TRACE(m, "add_memory_block");
    TRACE_LEAF(m, "find_memory_block_by_id");
    struct memory_block *b = block_create(m, id, nid);
    b->group = group;
    TRACE(m, "device_register");
    TRACE_LEAF(m, "device_initialize");
    TRACE(m, "device_add");
    TRACE_LEAF(m, "dev_set_name");
    TRACE_LEAF(m, "device_get_ownership");
    TRACE_LEAF(m, "kernfs_create_dir_ns");
    TRACE_LEAF(m, "device_create_file");
    {
        TRACE(m, "bus_add_device");
        TRACE_LEAF(m, "device_add_groups");
        TRACE_LEAF(m, "klist_devices_get");
    }
    TRACE_LEAF(m, "blocking_notifier_call_chain");
    block_uevent(m, b, "add");
    TRACE_LEAF(m, "bus_probe_device");
    return b;
}

static void block_del(struct machine *m, struct memory_block *b)
{
    TRACE(m, "remove_memory_block");
    TRACE(m, "device_unregister");
    {
        TRACE(m, "device_del");
        TRACE_LEAF(m, "kill_device");
        TRACE_LEAF(m, "blocking_notifier_call_chain");
        TRACE_LEAF(m, "__kernfs_remove");
        {
            TRACE(m, "device_remove_file");
            TRACE_LEAF(m, "__kernfs_remove");
        }
        {
            TRACE(m, "device_remove_attrs");
            TRACE_LEAF(m, "device_remove_file");
        }
        {
            TRACE(m, "bus_remove_device");
            TRACE_LEAF(m, "__kernfs_remove");
            TRACE_LEAF(m, "device_remove_groups");
            TRACE_LEAF(m, "klist_devices_put");
        }
        TRACE_LEAF(m, "device_platform_notify_remove");
        block_uevent(m, b, "remove");
        TRACE_LEAF(m, "cleanup_glue_dir");
    }
    TRACE(m, "device_release");
    TRACE_LEAF(m, "memory_block_release");
    block_destroy(m, b);
}

static void auto_online(struct machine *m, uint64_t first_id, uint64_t end_id)
{
    for (uint64_t id = first_id; id < end_id; id++) {
        struct memory_block *b = block_get(m, id);
        if (b == NULL)
            continue;
        b->online_type = m->auto_online;
        if (block_online(m, b) != 0)
            return; /* the walk ends at the first block that is not to be had; adding has succeeded
                       all the same */
    }
}

static void node_bring_online(struct machine *m, int nid)
{
    TRACE(m, "__try_online_node");
    if (m->nodes[nid].online)
        return;
    zone_build_own_zonelist(
        m,
        &m->nodes[nid]); /* hotadd_init_pgdat(); the others' lists wait for memory to go online */
    m->nodes[nid].online = true;
}

/* What is to become of sections that are added. */
struct addition {
    int nid;
    int16_t group;
    bool on_memory;
    const char *driver; /* name in /proc/iomem of memory that a driver manages; NULL: it is the
                           firmware's */
};

/* The device of a section's block, unless an earlier section has made it. */
static int section_added(struct machine *m, uint64_t section_nr, void *ctx)
{
    const struct addition *add = ctx;
    uint64_t id = section_nr / m->sections_per_block;

    if (block_get(m, id) != NULL)
        return 0;
    int err = fault_at(m, "memory_add/block");
    if (err != 0)
        return err;
    struct memory_block *b = block_add(m, id, add->nid, add->group);
    if (add->on_memory)
        b->nr_vmemmap = (uint32_t)vmemmap_pages(m);
    return 0;
}

static int blocks_create(struct machine *m, uint64_t first, uint64_t end, struct addition *add)
{
    int err = 0;

    TRACE(m, "create_memory_block_devices");
    TRACE_LEAF(m, "memory_block_size_bytes");
    for (uint64_t id = first; id < end && err == 0; id++)
        err = section_added(m, id * m->sections_per_block, add);
    return err;
}

/* Undo: of those only whose first section is gone, if `bare`. */
static void blocks_remove(struct machine *m, uint64_t first, uint64_t end, bool bare)
{
    for (uint64_t id = first; id < end; id++)
        if (block_get(m, id) != NULL &&
            (!bare || section_get(m, id * m->sections_per_block) == NULL))
            block_del(m, block_get(m, id));
}

static void link_blocks_to_node(struct machine *m)
{
    /* The links are computed from b->nid: nothing to make, but the order of names is the kernel's.
     */
    TRACE(m, "register_memory_blocks_under_node");
    TRACE(m, "walk_memory_blocks");
    TRACE_LEAF(m, "find_memory_block_by_id");
    TRACE(m, "register_mem_block_under_node_hotplug");
    TRACE(m, "do_register_memory_block_under_node");
    TRACE_LEAF(m, "memory_block_add_nid");
}

static int memory_add_as(struct machine *m, uint64_t start, uint64_t size_bytes,
                         struct addition *add)
{
    uint64_t first = start / m->block_bytes, end = (start + size_bytes) / m->block_bytes;
    const int nid = add->nid;
    bool new_node, devices_later = has(m, F_block_devices_after_add);
    int err;

    TRACE(m, add->driver != NULL ? "add_memory_driver_managed" : "__add_memory");
    if ((err = range_claim(m, start, size_bytes,
                           add->driver != NULL ? add->driver : "System RAM")) != 0)
        return err;
    {
        TRACE(m, "add_memory_resource");
        TRACE_LEAF(m, "memory_block_size_bytes");
        if ((err = range_check(m, start, size_bytes)) != 0)
            goto failed_claimed;
        if (nid < 0 || (unsigned)nid >= m->possible_nodes) {
            klog(m, "node %d was absent from the node_possible_map", nid);
            err = fail(m, -EINVAL, "node %d is not possible on this machine", nid);
            goto failed_claimed;
        }
        if (add->group >= 0)
            TRACE_LEAF(m, "memory_group_find_by_id");
        TRACE_LEAF(m, "mem_hotplug_begin");
        if ((err = fault_at(m, "memory_add/node")) != 0)
            goto failed_claimed;
        new_node = !m->nodes[nid].online;
        node_bring_online(m, nid);
        err = range_add(m, nid, start, size_bytes, add->on_memory,
                        devices_later ? NULL : section_added, add);
        if (err != 0)
            goto failed_node;
        if (new_node && has(m, F_node_before_blocks))
            node_device_add(m, nid);
        if (devices_later && (err = blocks_create(m, first, end, add)) != 0)
            goto failed_added;
        if (new_node && !has(m, F_node_before_blocks))
            node_device_add(m, nid);
        link_blocks_to_node(m);
        if (add->driver == NULL)
            firmware_map_add(m, start, start + size_bytes - 1, "System RAM");
        else
            resource_merge(m, start);
        TRACE_LEAF(m, "mem_hotplug_done");
    }
    if (m->auto_online != TYPE_OFFLINE)
        auto_online(m, first, end);
    return 0;

failed_added:
    blocks_remove(m, first, end, false);
    range_remove(m, start, size_bytes);
    if (new_node && has(m, F_node_before_blocks))
        node_device_remove(m, nid);
failed_node:
    if (!devices_later)
        blocks_remove(m, first, end, true); /* those of the sections before the one that failed */
    if (new_node)
        m->nodes[nid].online = false;
failed_claimed:
    range_unclaim(m, start, size_bytes);
    return err;
}

int memory_add_locked(struct machine *m, int nid, uint64_t start, uint64_t size_bytes,
                      int16_t group, bool on_memory)
{
    struct addition addition = {.nid = nid, .group = group, .on_memory = on_memory};

    return memory_add_as(m, start, size_bytes, &addition);
}

int memory_add_managed(struct machine *m, int nid, uint64_t start, uint64_t size_bytes,
                       int16_t group, const char *name)
{
    struct addition addition = {.nid = nid, .group = group, .driver = name};

    return memory_add_as(m, start, size_bytes, &addition);
}

/* A node without memory and processors goes away. Linux: try_offline_node(). */
static void node_try_offline(struct machine *m, int nid)
{
    struct node *node = &m->nodes[nid];

    TRACE_LEAF(m, "try_offline_node");
    if (!node->online || node->nr_cpus != 0 || node->end_pfn != node->start_pfn ||
        node->nr_blocks != 0)
        return;
    node->online = false;
    node_device_remove(m, nid);
}

int memory_remove_locked(struct machine *m, uint64_t start, uint64_t size_bytes)
{
    uint64_t first = start / m->block_bytes, end = (start + size_bytes) / m->block_bytes;
    int nid = -1;

    TRACE(m, "__remove_memory");
    TRACE(m, "try_remove_memory");
    TRACE_LEAF(m, "memory_block_size_bytes");
    if (range_check(m, start, size_bytes) != 0)
        return -EINVAL;
    {
        TRACE(m, "walk_memory_blocks");
        TRACE_LEAF(m, "find_memory_block_by_id");
    }
    for (uint64_t id = first; id < end; id++) {
        struct memory_block *b = block_get(m, id);
        if (b == NULL || b->state == BLOCK_OFFLINE)
            continue;
        klog(m, "removing memory fails, because memory [0x%016llx-0x%016llx] is onlined",
             (unsigned long long)(id * m->block_bytes),
             (unsigned long long)((id + 1) * m->block_bytes - 1));
        if (!has(m, F_remove_online_ebusy)) {
            klog(m, "kernel BUG at mm/memory_hotplug.c:1847!");
            m->tainted = true;
            return fail(m, -EBUSY, "memory%llu is online, and this kernel dies of that",
                        (unsigned long long)id);
        }
        return fail(m, -EBUSY, "memory%llu is online", (unsigned long long)id);
    }
    firmware_map_remove(m, start, start + size_bytes - 1);
    {
        TRACE(m, "remove_memory_block_devices");
        TRACE_LEAF(m, "memory_block_size_bytes");
        TRACE_LEAF(m, "find_memory_block_by_id");
        {
            TRACE(m, "unregister_memory_block_under_nodes");
            TRACE_LEAF(m, "__kernfs_remove");
        }
        for (uint64_t id = first; id < end; id++) {
            struct memory_block *b = block_get(m, id);
            if (b == NULL) {
                warn_on(m, true, "remove_memory_block_devices: a block of the range is missing");
                continue;
            }
            nid = b->nid;
            if (!has(m, F_span_shrink_at_offline) && b->last_zone >= 0)
                zone_shrink_span(m, zone_by_index(m, b->last_zone), block_pfn(m, b),
                                 m->block_pages);
            block_del(m, b);
        }
    }
    TRACE_LEAF(m, "mem_hotplug_begin");
    range_remove(m, start, size_bytes);
    range_unclaim(m, start, size_bytes);
    if (nid >= 0)
        node_try_offline(m, nid);
    TRACE_LEAF(m, "mem_hotplug_done");
    return 0;
}

int memory_add(struct machine *m, struct task *task, int nid, uint64_t start, uint64_t size_bytes)
{
    machine_lock(m, task);
    int err = hotplug_lock(m);
    if (err == 0) {
        err = memory_add_locked(m, nid, start, size_bytes, -1, false);
        hotplug_unlock(m);
    }
    machine_unlock(m);
    return err;
}

int memory_remove(struct machine *m, struct task *task, uint64_t start, uint64_t size_bytes)
{
    machine_lock(m, task);
    uint64_t last = start + size_bytes - 1;
    int err = size_bytes != 0 && (last < start || last >> m->max_phys_bits != 0)
                  ? fail(m, -EINVAL, "0x%llx, size 0x%llx is beyond the physical address space",
                         (unsigned long long)start, (unsigned long long)size_bytes)
                  : hotplug_lock(m);
    if (err == 0) {
        for (uint64_t at = start; err == 0 && at - start < size_bytes; at += m->block_bytes)
            if (vmem_owns(m, at >> m->page_shift))
                err = fail(m, -EBUSY,
                           "0x%llx is of a virtio-mem device, whose driver alone removes it",
                           (unsigned long long)at);
        if (err == 0)
            err = memory_remove_locked(m, start, size_bytes);
        hotplug_unlock(m);
    }
    machine_unlock(m);
    return err;
}

/* ---- attributes of memoryN ---- */

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

static int64_t state_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    int type, ret;

    TRACE(m, "state_store");
    if (has(m, F_state_parse_first))
        TRACE_LEAF(m, "mhp_online_type_from_str");
    type = online_type_from_word(buf);
    if (type < 0 && has(m, F_state_parse_first))
        return fail(m, -EINVAL, "`state` takes online, online_kernel, online_movable, offline");
    {
        TRACE_LEAF(m, "lock_device_hotplug_sysfs");
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
    TRACE_LEAF(m, "unlock_device_hotplug");
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

/* ---- links of memoryN ---- */

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

/* ---- a picture for people ---- */

uint64_t machine_block_bytes(const struct machine *m)
{
    return m->block_bytes;
}

static void block_count(struct machine *m, const struct memory_block *b, struct block_info *info)
{
    for (unsigned i = 0; i < m->sections_per_block; i++) {
        const struct section *s = section_get(m, b->id * m->sections_per_block + i);
        if (s == NULL || (s->state & SECTION_ONLINE) == 0)
            continue;
        info->present_pages += m->pages_per_section;
        for (uint64_t offset = 0; offset < m->pages_per_section;) {
            unsigned kind = s->map != NULL ? s->map[offset].kind : s->kind;
            uint64_t pages = s->map != NULL ? 1ull << s->map[offset].order : m->pages_per_section;
            unsigned mobility = kind_mobility(kind);
            info->present_pages -= kind == KIND_HOLE ? pages : 0;
            info->free_pages += mobility == MOBILITY_FREE ? pages : 0;
            info->movable_pages += mobility == MOBILITY_MOVABLE ? pages : 0;
            info->unmovable_pages += mobility == MOBILITY_UNMOVABLE || kind == KIND_RESERVED ? pages
                                                                                             : 0;
            offset += pages;
        }
    }
}

size_t blocks_snapshot(struct machine *m, struct block_info **blocks)
{
    uint64_t id = 0;
    size_t nr = 0;
    void *value;

    machine_lock(m, NULL);
    struct block_info *list = xcalloc(m->nr_memory_blocks + 1, sizeof *list);
    for (; radix_next(&m->blocks, id, &id, &value); id++) {
        const struct memory_block *b = value;
        list[nr] = (struct block_info){
            .id = b->id,
            .start = b->id * m->block_bytes,
            .state = b->state == BLOCK_ONLINE    ? "online"
                     : b->state == BLOCK_OFFLINE ? "offline"
                                                 : "going-offline",
            .zone = b->zone >= 0 ? zone_name(zone_by_index(m, b->zone)) : "none",
            .nid = b->nid,
        };
        block_count(m, b, &list[nr++]);
    }
    machine_unlock(m);
    *blocks = list;
    return nr;
}

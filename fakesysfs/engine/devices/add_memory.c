/*
 * add_memory.c - memory is added and removed: the steps of it in their order, and their undo.
 *
 * Owns: the order of address space, node, sections, blocks and links; auto-online of what was
 * added. Does not own: each of the steps (hotplug_range.c for page frames, memory_block.c for
 * blocks, node.c for nodes), who asks for it (acpi.c, virtio_mem.c, memory_root.c). Linux:
 * mm/memory_hotplug.c add_memory_resource(), try_remove_memory().
 */
#include <errno.h>

#include "machine.h"

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
    struct memory_block *b = block_register(m, id, add->nid, add->group);
    if (add->on_memory)
        b->nr_vmemmap = (uint32_t)vmemmap_pages(m);
    return 0;
}

static int blocks_create(struct machine *m, uint64_t first, uint64_t end, struct addition *add)
{
    int err = 0;

    TRACE(m, "create_memory_block_devices");
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
            block_unregister(m, block_get(m, id));
}

static int memory_add_as(struct machine *m, uint64_t start, uint64_t size_bytes,
                         struct addition *add)
{
    uint64_t first = start / m->block_bytes, end = (start + size_bytes) / m->block_bytes;
    const int nid = add->nid;
    bool new_node, devices_later = has(m, F_block_devices_after_add);
    int err;

    if ((err = range_claim(m, start, size_bytes,
                           add->driver != NULL ? add->driver : "System RAM")) != 0)
        return err;
    {
        TRACE(m, "add_memory_resource");
        if ((err = range_check(m, start, size_bytes)) != 0)
            goto failed_claimed;
        if (nid < 0 || (unsigned)nid >= m->possible_nodes) {
            klog(m, "node %d was absent from the node_possible_map", nid);
            err = fail(m, -EINVAL, "node %d is not possible on this machine", nid);
            goto failed_claimed;
        }
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
        if (add->driver == NULL)
            firmware_map_add(m, start, start + size_bytes - 1, "System RAM");
        else
            resource_merge(m, start);
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

    TRACE(m, "__add_memory");
    return memory_add_as(m, start, size_bytes, &addition);
}

int memory_add_managed(struct machine *m, int nid, uint64_t start, uint64_t size_bytes,
                       int16_t group, const char *name)
{
    struct addition addition = {.nid = nid, .group = group, .driver = name};

    TRACE(m, "add_memory_driver_managed");
    return memory_add_as(m, start, size_bytes, &addition);
}

/* A node without memory and processors goes away. Linux: try_offline_node(). */
static void node_try_offline(struct machine *m, int nid)
{
    struct node *node = &m->nodes[nid];

    TRACE(m, "try_offline_node");
    if (!node->online || node->nr_cpus != 0 || node->end_pfn != node->start_pfn ||
        node->nr_blocks != 0)
        return;
    node->online = false;
    node_device_remove(m, nid);
}

/* Memory is not removed while a block of it is online. */
static int blocks_offline(struct machine *m, uint64_t first, uint64_t end)
{
    TRACE(m, "walk_memory_blocks");
    for (uint64_t id = first; id < end; id++) {
        const struct memory_block *b = block_get(m, id);
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
    return 0;
}

int memory_remove_locked(struct machine *m, uint64_t start, uint64_t size_bytes)
{
    uint64_t first = start / m->block_bytes, end = (start + size_bytes) / m->block_bytes;
    int nid = -1, err;

    TRACE(m, "__remove_memory");
    TRACE(m, "try_remove_memory");
    if (range_check(m, start, size_bytes) != 0)
        return -EINVAL;
    if ((err = blocks_offline(m, first, end)) != 0)
        return err;
    firmware_map_remove(m, start, start + size_bytes - 1);
    {
        TRACE(m, "remove_memory_block_devices");
        for (uint64_t id = first; id < end; id++) {
            struct memory_block *b = block_get(m, id);
            if (b == NULL) {
                warn_once(m, WARNED_BLOCKS, "drivers/base/memory.c remove_memory_block_devices");
                continue;
            }
            nid = b->nid;
            if (!has(m, F_span_shrink_at_offline) && b->last_zone >= 0)
                zone_shrink_span(m, zone_by_index(m, b->last_zone), block_pfn(m, b),
                                 m->block_pages);
            block_unregister(m, b);
        }
    }
    range_remove(m, start, size_bytes);
    range_unclaim(m, start, size_bytes);
    if (nid >= 0)
        node_try_offline(m, nid);
    return 0;
}

int memory_add(struct machine *m, struct task *task, int nid, uint64_t start, uint64_t size_bytes)
{
    machine_lock(m, task);
    /* what is too large is refused for that */
    bool possible = size_bytes >> m->max_phys_bits == 0;
    int err = host_memory_ready(m,
                                possible ? size_bytes / m->block_bytes * HOST_BYTES_OF_BLOCK : 0);
    if (err == 0)
        err = hotplug_lock(m);
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
            else if (block_get(m, at / m->block_bytes) == NULL)
                err = fail(m, -EINVAL, "there is no memory block at 0x%llx",
                           (unsigned long long)at);
        if (err == 0)
            err = memory_remove_locked(m, start, size_bytes);
        hotplug_unlock(m);
    }
    machine_unlock(m);
    return err;
}

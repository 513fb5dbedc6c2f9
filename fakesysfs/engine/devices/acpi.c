/*
 * acpi.c - the guest's side of a DIMM slot: what Linux does when the firmware says that one was
 * plugged, or should go.
 *
 * Owns: what is in a slot, memory groups of DIMMs, the order of offlining at an eject with its
 * roll-back. Does not own: the board with its slots and QEMU's words (board.py), memory blocks
 * (memory_block.c), files of a slot (acpi_tree.c). Linux: drivers/acpi/scan.c
 * acpi_device_hotplug(), acpi_scan_try_to_offline(); drivers/acpi/acpi_memhotplug.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum { OST_SUCCESS = 0, OST_FAILURE = 1, OST_BUSY = 0x82, MAX_SLOTS = 256 };

/* ---- memory groups ---- */

static int group_new(struct machine *m, int nid, uint64_t max_pages)
{
    if (!has(m, F_memory_groups))
        return -1;
    TRACE(m, "memory_group_register_static");
    return memory_group_new(m, (struct memory_group){.nid = nid, .max_pages = max_pages});
}

static void group_drop(struct machine *m, int group)
{
    if (group < 0)
        return;
    TRACE(m, "memory_group_unregister");
    m->groups[group].used = false;
}

/* ---- plug ---- */

/* Linux: acpi_memory_device_add(). Memory that is there already (probed, say) is bound to the DIMM
 * all the same. */
static int device_attach(struct machine *m, unsigned slot)
{
    struct acpi_dimm *dimm = &m->dimms[slot];
    int err;

    {
        TRACE(m, "acpi_memory_device_add");
        dimm->group = group_new(m, dimm->nid, dimm->size_bytes / m->page_bytes);
        bool on_memory;
        {
            TRACE(m, "mhp_supports_memmap_on_memory");
            on_memory = memmap_on_memory_wanted(m, dimm->size_bytes);
        }
        err = memory_add_locked(m, dimm->nid, dimm->start, dimm->size_bytes, (int16_t)dimm->group,
                                on_memory);
        if (err != 0 && err != -EEXIST) {
            klog(m, "acpi PNP0C80:%02x: add_memory failed", slot);
            klog(m, "acpi PNP0C80:%02x: acpi_memory_enable_device() error", slot);
            group_drop(m, dimm->group);
            return err;
        }
        TRACE(m, "walk_memory_blocks");
        uint64_t first = dimm->start / m->block_bytes;
        uint32_t bound = 0;
        for (uint64_t id = first; id * m->block_bytes < dimm->start + dimm->size_bytes; id++) {
            struct memory_block *b = block_get(m, id);
            if (b == NULL)
                continue;
            TRACE(m, "acpi_bind_memblk");
            b->acpi_slot = (int16_t)slot;
            b->physical_node = bound++;
        }
    }
    dimm->attached = true;
    return 0;
}

static int device_check(struct machine *m, unsigned slot)
{
    int err = 0;

    TRACE(m, "acpi_bus_scan");
    TRACE(m, "acpi_bus_attach");
    /* Later kernels scan the whole bus: every DIMM that failed before is tried once more, and fails
     * once more. */
    for (unsigned other = 0; other < m->nr_dimms; other++)
        if (other == slot || (has(m, F_acpi_rescan_all) && m->dimms[other].present))
            if (!m->dimms[other].attached) {
                int ret = device_attach(m, other);
                err = other == slot ? ret : err;
            }
    return err;
}

static int hotplug_insert(struct machine *m, unsigned slot, int nid, uint64_t start,
                          uint64_t size_bytes)
{
    int err;

    if (slot >= MAX_SLOTS)
        return fail(m, -EINVAL, "there is no slot %u", slot);
    TRACE(m, "acpi_device_hotplug");
    {
        TRACE(m, "lock_device_hotplug");
        if ((err = hotplug_lock(m)) != 0)
            return err;
    }
    if (slot >= m->nr_dimms) {
        m->dimms = xrealloc(m, m->dimms, slot + 1, sizeof *m->dimms);
        memset(m->dimms + m->nr_dimms, 0, (slot + 1 - m->nr_dimms) * sizeof *m->dimms);
        m->nr_dimms = slot + 1;
    }
    if (nid < 0) /* of a node that Linux does not know */
        nid = node_of_address(m, start);
    if (!m->dimms[slot].attached)
        m->dimms[slot] = (struct acpi_dimm){
            .present = true, .nid = nid, .start = start, .size_bytes = size_bytes, .group = -1};
    err = device_check(m, slot);
    hotplug_unlock(m);
    return err != 0 && has(m, F_acpi_add_failure_status) ? OST_FAILURE : OST_SUCCESS;
}

int acpi_device_check(struct machine *m, struct task *task, unsigned slot, int nid, uint64_t start,
                      uint64_t size_bytes)
{
    uint64_t last = start + size_bytes - 1;

    machine_lock(m, task);
    trace_begin(m);
    int ret = size_bytes == 0 || last < start || last >> m->max_phys_bits != 0
                  ? fail(m, -EINVAL, "0x%llx, size 0x%llx is no part of the physical address space",
                         (unsigned long long)start, (unsigned long long)size_bytes)
                  : host_memory_ready(m, size_bytes / m->block_bytes * HOST_BYTES_OF_BLOCK);
    if (ret == 0)
        ret = hotplug_insert(m, slot, nid, start, size_bytes);
    trace_finish(m, ret);
    machine_unlock(m);
    return ret;
}

/* ---- eject ---- */

/*
 * Switch every block of the DIMM off, in two passes: the first goes on at a failure, because a
 * block that comes later may be what the failed one waits for; the second tries only those that
 * failed, and gives up at the first. put_online remembers those that this operation really switched
 * off.
 */
static int offline_blocks(struct machine *m, unsigned slot, uint64_t first, uint64_t end,
                          bool *put_online)
{
    uint64_t failed = UINT64_MAX;

    for (int pass = 0; pass < 2; pass++) {
        failed = UINT64_MAX;
        TRACE(m, "acpi_bus_offline");
        for (uint64_t id = first; id < end; id++) {
            struct memory_block *b = block_get(m, id);
            if (b == NULL || b->acpi_slot != (int)slot || (pass == 1 && put_online[id - first]))
                continue;
            int ret = block_offline(m, b);
            if (ret == -EINTR)
                return ret;
            if (ret >= 0) {
                put_online[id - first] = ret == 0;
            } else {
                failed = id;
                if (pass == 1)
                    break;
            }
        }
        if (failed == UINT64_MAX)
            return 0;
    }
    klog(m, "memory memory%llu: Offline failed.", (unsigned long long)failed);
    return -EBUSY;
}

static void bring_back(struct machine *m, uint64_t first, uint64_t end, const bool *put_online)
{
    for (uint64_t id = first; id < end; id++)
        if (put_online[id - first] && block_get(m, id) != NULL)
            block_online(
                m, block_get(
                       m, id)); /* plain online: the zone is chosen anew and may be another one */
}

static int eject(struct machine *m, unsigned slot)
{
    struct acpi_dimm *dimm = &m->dimms[slot];
    uint64_t first = dimm->start / m->block_bytes,
             end = (dimm->start + dimm->size_bytes) / m->block_bytes;
    bool *put_online = xcalloc(m, end - first + 1, sizeof *put_online);
    int err = offline_blocks(m, slot, first, end, put_online);

    if (err != 0)
        bring_back(m, first, end, put_online);
    free(put_online);
    if (err != 0)
        return err;
    TRACE(m, "acpi_bus_trim");
    TRACE(m, "acpi_memory_device_remove");
    {
        TRACE(m, "walk_memory_blocks");
        for (uint64_t id = first; id < end; id++) {
            struct memory_block *b = block_get(m, id);
            if (b == NULL)
                continue;
            TRACE(m, "acpi_unbind_memblk");
            b->acpi_slot = -1;
        }
    }
    err = memory_remove_locked(m, dimm->start, dimm->size_bytes);
    TRACE(m, "acpi_memory_device_free");
    group_drop(m, dimm->group);
    return err;
}

static int hotplug_eject(struct machine *m, unsigned slot)
{
    int err;

    if (slot >= m->nr_dimms || !m->dimms[slot].present)
        return fail(m, -ENODEV, "slot %u is empty", slot);
    TRACE(m, "acpi_device_hotplug");
    {
        TRACE(m, "lock_device_hotplug");
        if ((err = hotplug_lock(m)) != 0)
            return err;
    }
    /* A DIMM that the driver could not take has no blocks: nothing stands in the way. */
    err = m->dimms[slot].attached ? eject(m, slot) : 0;
    if (err == 0)
        m->dimms[slot] = (struct acpi_dimm){.group = -1};
    hotplug_unlock(m);
    return err == 0 ? OST_SUCCESS : err == -EINTR ? err : OST_BUSY;
}

int acpi_eject_request(struct machine *m, struct task *task, unsigned slot)
{
    machine_lock(m, task);
    trace_begin(m);
    int ret = hotplug_eject(m, slot);
    trace_finish(m, ret);
    machine_unlock(m);
    return ret;
}

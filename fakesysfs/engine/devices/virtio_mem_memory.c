/*
 * virtio_mem_memory.c - what the driver of virtio-mem asks of the host, and of Linux' own memory
 * hotplug.
 *
 * Owns: requests to plug and unplug, adding and removing a block of the device, taking its pages
 * away. Does not own: in which order (virtio_mem_subblocks.c, virtio_mem_big_blocks.c), the pages
 * themselves (contig.c). Linux: drivers/virtio/virtio_mem.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine.h"
#include "virtio_mem.h"

enum { RETRIES_MOVABLE = 5 };

uint64_t vmem_slot_addr(const struct virtio_mem *vm, uint64_t slot)
{
    return (vm->first + slot) * vm->block_bytes;
}

static uint64_t slots_usable(const struct virtio_mem *vm)
{
    uint64_t end = (vm->addr + vm->usable_bytes) / vm->block_bytes;

    return end > vm->first ? end - vm->first : 0;
}

int vmem_use_block(struct machine *m, struct virtio_mem *vm, uint64_t slot)
{
    if (!vmem_may_add(vm, vm->block_bytes) || (slot == vm->nr && vm->nr >= slots_usable(vm)))
        return fail(
            m, -ENOSPC,
            "virtio%u cannot add more memory: too much of it is offline, or the region is full",
            vm->number);
    if (slot == vm->nr)
        vmem_use_next(m, vm);
    return 0;
}

/* ---- requests to the host ---- */

/* The host answers at once, and tells whoever listens how large the device is now. */
int vmem_request(struct machine *m, struct virtio_mem *vm, uint64_t bytes, bool plug)
{
    char path[32], data[48];
    int err;

    if (vm->config_changed)
        return -EAGAIN; /* what is wanted has changed meanwhile */
    if ((err = fault_at(m, plug ? "virtio_mem/plug" : "virtio_mem/unplug")) != 0)
        return err;
    vm->plugged += plug ? bytes : -bytes;
    snprintf(path, sizeof path, "virtio%u", vm->number);
    snprintf(data, sizeof data, "size %" PRIu64, vm->plugged);
    event_add(m, EVENT_VIRTIO_MEM, 0, path, data);
    return 0;
}

/* ---- memory of Linux ---- */

/* Not before the lock is held is the block the driver's, in `state`: somebody else may be at memory
 * in the same place. */
int vmem_block_add(struct machine *m, struct virtio_mem *vm, uint64_t slot, enum vmem_state state)
{
    int err = hotplug_lock(m);

    if (err != 0)
        return err;
    vmem_set_state(vm, slot, state);
    vm->offline_bytes += vm->block_bytes; /* it may go online before the call returns */
    err = memory_add_managed(m, vm->nid, vmem_slot_addr(vm, slot), vm->block_bytes,
                             (int16_t)vm->group, "System RAM (virtio_mem)");
    if (err != 0) {
        vm->offline_bytes -= vm->block_bytes;
        klog(m, "virtio_mem virtio%u: adding memory failed: %d", vm->number, err);
    }
    hotplug_unlock(m);
    return err;
}

/* Linux: remove_memory(): of what is offline. Called with the hotplug lock held. */
int vmem_block_remove(struct machine *m, struct virtio_mem *vm, uint64_t slot)
{
    int err = memory_remove_locked(m, vmem_slot_addr(vm, slot), vm->block_bytes);

    vm->offline_bytes -= err == 0 ? vm->block_bytes : 0;
    vm->removed |= err == 0;
    return err;
}

/* Linux: offline_and_remove_memory(): all blocks, or none; those switched off go back to their kind
 * of zone. */
int vmem_block_offline_and_remove(struct machine *m, struct virtio_mem *vm, uint64_t slot)
{
    uint64_t first = vmem_slot_addr(vm, slot) / m->block_bytes,
             nr = vm->block_bytes / m->block_bytes, done = 0;
    uint8_t *type = xcalloc(m, nr, 1);
    int err = 0;

    for (; done < nr && err == 0; done++) {
        struct memory_block *b = block_get(m, first + done);
        if (b == NULL)
            continue;
        int was = b->zone >= 0 ? b->zone % NR_ZONES == ZONE_MOVABLE ? TYPE_MOVABLE : TYPE_KERNEL
                               : TYPE_OFFLINE;
        int ret = block_offline(m, b);
        type[done] = (uint8_t)(ret == 0 ? was : TYPE_OFFLINE);
        err = ret < 0 ? ret : 0;
    }
    if (err == 0)
        err = vmem_block_remove(m, vm, slot);
    for (uint64_t i = 0; i < done && err != 0; i++) {
        struct memory_block *b = block_get(m, first + i);
        if (b == NULL || type[i] == TYPE_OFFLINE)
            continue;
        b->online_type = (enum online_type)type[i];
        block_online(m, b);
    }
    free(type);
    return err;
}

/* Linux: virtio_mem_fake_offline(). Movable promises that it will go, so there it is worth trying
 * again. */
int vmem_fake_offline(struct machine *m, uint64_t start, uint64_t bytes)
{
    uint64_t pfn = start >> m->page_shift;
    bool retry = has(m, F_virtio_mem_big_blocks) && zone_of(m, pfn)->type == ZONE_MOVABLE;
    unsigned tries = retry ? RETRIES_MOVABLE : 1;
    int err = -EBUSY;

    while (tries-- != 0 && err != 0 && err != -ENOMEM)
        err = contig_take(m, pfn, bytes >> m->page_shift);
    return err == 0 || err == -ENOMEM ? err : -EBUSY;
}

/*
 * virtio_mem_big_blocks.c - virtio-mem where the device's unit is a memory block or several.
 *
 * Owns: which blocks are plugged and unplugged, in which order. Does not own: how one is
 * (virtio_mem_memory.c). A block of the device comes and goes as a whole. Linux:
 * drivers/virtio/virtio_mem.c, functions with `bbm` in their names.
 */
#include <errno.h>
#include <inttypes.h>

#include "machine.h"
#include "virtio_mem.h"

/* ---- big block mode ---- */

int vmem_plug_big(struct machine *m, struct virtio_mem *vm, uint64_t wanted)
{
    int err = 0;

    for (uint64_t slot = 0; wanted != 0; slot++) {
        if (slot < vm->nr && vmem_state(vm, slot) != VMEM_UNUSED)
            continue;
        if ((err = vmem_use_block(m, vm, slot)) != 0)
            return err;
        if ((err = vmem_request(m, vm, vm->block_bytes, true)) != 0)
            return err;
        if ((err = vmem_block_add(m, vm, slot, VMEM_ADDED)) != 0) {
            vmem_set_state(vm, slot,
                           vmem_request(m, vm, vm->block_bytes, false) == 0 ? VMEM_UNUSED
                                                                            : VMEM_PLUGGED);
            return err;
        }
        wanted--;
        cond_resched(m);
    }
    return 0;
}

static bool big_is(struct machine *m, struct virtio_mem *vm, uint64_t slot, bool offline)
{
    for (uint64_t at = vmem_slot_addr(vm, slot); at < vmem_slot_addr(vm, slot + 1);
         at += m->block_bytes) {
        const struct memory_block *b = block_get(m, at / m->block_bytes);
        if (b != NULL && b->zone >= 0 && (offline || b->zone % NR_ZONES != ZONE_MOVABLE))
            return false;
    }
    return true;
}

/* First all of it that is online is taken away from the allocator, so that going offline cannot
 * take long. */
static int unplug_big_block(struct machine *m, struct virtio_mem *vm, uint64_t slot)
{
    uint64_t start = vmem_slot_addr(vm, slot), end = start + vm->block_bytes, taken = start;
    uint64_t bytes = m->pages_per_section << m->page_shift;
    int err = 0;

    vmem_set_state(vm, slot, VMEM_FAKE_OFFLINE);
    for (; taken < end && err == 0; taken += err == 0 ? bytes : 0)
        if (section_online_of(m, taken >> m->page_shift) != NULL)
            err = vmem_fake_offline(m, taken, bytes);
    if (err == 0)
        err = vmem_block_offline_and_remove(m, vm, slot);
    if (err != 0)
        goto failed_taken;
    err = vmem_request(m, vm, vm->block_bytes, false);
    vmem_set_state(vm, slot, err == 0 ? VMEM_UNUSED : VMEM_PLUGGED);
    return err;

failed_taken:
    for (uint64_t at = start; at < taken; at += bytes) {
        struct folio folio;
        if (folio_at(m, at >> m->page_shift, &folio) && folio.kind == KIND_UNPLUGGED)
            contig_give(m, at >> m->page_shift, m->pages_per_section);
    }
    vmem_set_state(vm, slot, VMEM_ADDED);
    return err;
}

int vmem_unplug_big(struct machine *m, struct virtio_mem *vm, uint64_t wanted)
{
    for (unsigned pass = 0; pass < 3;
         pass++) /* those offline first, then those in Movable, then all */
        for (uint64_t slot = vm->nr; slot-- != 0 && vm->count[VMEM_ADDED] != 0;) {
            int err = hotplug_lock(m);
            if (err != 0)
                return err;
            if (vmem_state(vm, slot) != VMEM_ADDED || (pass < 2 && !big_is(m, vm, slot, pass == 0)))
                err = -EBUSY;
            else
                err = unplug_big_block(m, vm, slot);
            hotplug_unlock(m);
            if (err != 0 && err != -EBUSY)
                return err;
            if (err == 0 && --wanted == 0)
                return 0;
            cond_resched(m);
        }
    return fail(m, -EBUSY, "virtio%u: what is still plugged is busy", vm->number);
}

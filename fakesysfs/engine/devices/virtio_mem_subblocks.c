/*
 * virtio_mem_subblocks.c - virtio-mem where the device's unit is smaller than a memory block.
 *
 * Owns: which subblocks are plugged and unplugged, in which order. Does not own: how one is
 * (virtio_mem_memory.c), what others do with a block (virtio_mem_state.c). A block may be plugged
 * in part: while it is online its other subblocks are held by the driver, present but not managed.
 * Linux: drivers/virtio/virtio_mem.c, functions with `sbm` in their names.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "machine.h"
#include "virtio_mem.h"

static uint8_t *units_of(struct virtio_mem *vm, uint64_t slot)
{
    return vm->plugged_units + slot * vm->units;
}

static unsigned units_plugged(struct virtio_mem *vm, uint64_t slot)
{
    unsigned nr = 0;

    for (unsigned unit = 0; unit < vm->units; unit++)
        nr += units_of(vm, slot)[unit];
    return nr;
}

static int request_units(struct machine *m, struct virtio_mem *vm, uint64_t slot, unsigned unit,
                         unsigned nr, bool plug)
{
    int err = vmem_request(m, vm, nr * vm->unit_bytes, plug);

    if (err == 0)
        memset(units_of(vm, slot) + unit, plug, nr);
    return err;
}

/* ---- subblock mode: plug ---- */

/* A block that is not added: plug what is wanted of it first, so that all of that goes online at
 * once. */
static int plug_and_add(struct machine *m, struct virtio_mem *vm, uint64_t slot, uint64_t *wanted)
{
    unsigned nr = *wanted < vm->units ? (unsigned)*wanted : vm->units;
    int err = request_units(m, vm, slot, 0, nr, true);

    if (err != 0)
        return err;
    if ((err = vmem_block_add(m, vm, slot,
                              nr == vm->units ? VMEM_OFFLINE : VMEM_OFFLINE_PARTIAL)) != 0)
        goto failed_plugged;
    *wanted -= nr;
    return 0;

failed_plugged:
    vmem_set_state(vm, slot,
                   request_units(m, vm, slot, 0, nr, false) == 0 ? VMEM_UNUSED : VMEM_PLUGGED);
    return err;
}

/* A block that is added already, in part. */
static int plug_more(struct machine *m, struct virtio_mem *vm, uint64_t slot, uint64_t *wanted)
{
    enum vmem_state state = vmem_state(vm, slot);
    const uint8_t *units = units_of(vm, slot);
    int err = 0;

    for (unsigned unit = 0; unit < vm->units && *wanted != 0 && err == 0; unit++) {
        unsigned nr = 0;
        while (nr < *wanted && unit + nr < vm->units && units[unit + nr] == 0)
            nr++;
        if (nr == 0 || (err = request_units(m, vm, slot, unit, nr, true)) != 0)
            continue;
        *wanted -= nr;
        if (state != VMEM_OFFLINE_PARTIAL)
            contig_give(m, (vmem_slot_addr(vm, slot) + unit * vm->unit_bytes) >> m->page_shift,
                        nr * vm->unit_bytes >> m->page_shift);
    }
    if (units_plugged(vm, slot) == vm->units)
        vmem_set_state(vm, slot, state - 1);
    return err;
}

/* States of blocks that are looked at in one go. */
#define STATE(name) (1u << VMEM_##name)

static bool state_in(const struct virtio_mem *vm, uint64_t slot, unsigned states)
{
    return (states >> vmem_state(vm, slot) & 1) != 0;
}

static bool any_in(const struct virtio_mem *vm, unsigned states)
{
    uint64_t nr = 0;

    for (unsigned state = 0; state < NR_VMEM_STATES; state++)
        nr += (states >> state & 1) != 0 ? vm->count[state] : 0;
    return nr != 0;
}

int vmem_plug_subblocks(struct machine *m, struct virtio_mem *vm, uint64_t wanted)
{
    static const unsigned orders[][3] = {
        {STATE(KERNEL_PARTIAL) | STATE(MOVABLE_PARTIAL), STATE(OFFLINE_PARTIAL)},
        {STATE(KERNEL_PARTIAL), STATE(MOVABLE_PARTIAL), STATE(OFFLINE_PARTIAL)}};
    const unsigned *partial = orders[has(m, F_virtio_mem_movable_first)];
    int err = 0;

    for (unsigned i = 0; i < 3; i++)
        for (uint64_t slot = 0; slot < vm->nr && any_in(vm, partial[i]) && wanted != 0; slot++) {
            if ((err = hotplug_lock(m)) != 0)
                return err;
            if (state_in(vm, slot, partial[i]))
                err = plug_more(m, vm, slot, &wanted);
            hotplug_unlock(m);
            if (err != 0)
                return err;
        }
    for (uint64_t slot = 0; wanted != 0; slot++) {
        if (slot < vm->nr && vmem_state(vm, slot) != VMEM_UNUSED)
            continue;
        if ((err = vmem_use_block(m, vm, slot)) != 0)
            return err;
        if ((err = plug_and_add(m, vm, slot, &wanted)) != 0)
            return err;
        cond_resched(m);
    }
    return 0;
}

/* ---- subblock mode: unplug ---- */

/* Of a block that is offline, or not added: from its end on, as many at a time as there are in a
 * row. */
int vmem_unplug_raw(struct machine *m, struct virtio_mem *vm, uint64_t slot, uint64_t *wanted)
{
    const uint8_t *units = units_of(vm, slot);
    int err = 0;

    for (unsigned end = vm->units; end > 0 && *wanted != 0 && err == 0; end--) {
        unsigned nr = 0;
        while (nr < *wanted && nr < end && units[end - 1 - nr] != 0)
            nr++;
        if (nr == 0 || (err = request_units(m, vm, slot, end - nr, nr, false)) != 0)
            continue;
        *wanted -= nr;
        end -= nr - 1;
    }
    return err;
}

static int unplug_offline(struct machine *m, struct virtio_mem *vm, uint64_t slot, uint64_t *wanted)
{
    int err = vmem_unplug_raw(m, vm, slot, wanted);
    unsigned left = units_plugged(vm, slot);

    if (left != vm->units)
        vmem_set_state(vm, slot, VMEM_OFFLINE_PARTIAL);
    if (err != 0 || left != 0)
        return err;
    vmem_set_state(vm, slot, VMEM_UNUSED); /* so that nobody can bring it online any more */
    return vmem_block_remove(m, vm, slot);
}

/* Of a block that is online all is unplugged. Nothing is in use any more, but others may refuse all
 * the same. */
static int remove_unplugged(struct machine *m, struct virtio_mem *vm, uint64_t slot)
{
    int err = vmem_block_offline_and_remove(m, vm, slot);

    if (err == 0)
        vmem_set_state(vm, slot, VMEM_UNUSED);
    vm->left_over |= err != 0;
    return err == 0 || !has(m, F_virtio_mem_removes_later) ? 0 : -EBUSY;
}

static int unplug_online_units(struct machine *m, struct virtio_mem *vm, uint64_t slot,
                               unsigned unit, unsigned nr)
{
    uint64_t start = vmem_slot_addr(vm, slot) + unit * vm->unit_bytes, bytes = nr * vm->unit_bytes;
    enum vmem_state state = vmem_state(vm, slot);
    int err = vmem_fake_offline(m, start, bytes);

    if (err != 0)
        return err;
    if ((err = request_units(m, vm, slot, unit, nr, false)) != 0)
        goto failed_taken;
    if (state == VMEM_KERNEL || state == VMEM_MOVABLE)
        vmem_set_state(vm, slot, state + 1);
    return 0;

failed_taken:
    contig_give(m, start >> m->page_shift, bytes >> m->page_shift);
    return err;
}

/* Of a block that is online: the whole block at once where that may be, else what is not busy, from
 * its end on. */
static int unplug_online(struct machine *m, struct virtio_mem *vm, uint64_t slot, uint64_t *wanted)
{
    int err = -EBUSY;

    if (*wanted >= vm->units && units_plugged(vm, slot) == vm->units) {
        err = unplug_online_units(m, vm, slot, 0, vm->units);
        if (err != 0 && err != -EBUSY)
            return err;
        *wanted -= err == 0 ? vm->units : 0;
    }
    for (unsigned unit = vm->units; unit-- != 0 && *wanted != 0 && err != 0;) {
        if (units_of(vm, slot)[unit] == 0)
            continue;
        int ret = unplug_online_units(m, vm, slot, unit, 1);
        if (ret != 0 && ret != -EBUSY)
            return ret;
        *wanted -= ret == 0;
    }
    return units_plugged(vm, slot) != 0 ? 0 : remove_unplugged(m, vm, slot);
}

int vmem_unplug_subblocks(struct machine *m, struct virtio_mem *vm, uint64_t wanted)
{
    /* Partly plugged ones first, so that whole blocks can be removed; Movable before the kernel's
     * zones, or as they come. */
    static const unsigned orders[][6] = {
        {STATE(OFFLINE_PARTIAL), STATE(OFFLINE), STATE(MOVABLE_PARTIAL) | STATE(KERNEL_PARTIAL),
         STATE(MOVABLE) | STATE(KERNEL)},
        {STATE(OFFLINE_PARTIAL), STATE(OFFLINE), STATE(MOVABLE_PARTIAL), STATE(KERNEL_PARTIAL),
         STATE(MOVABLE), STATE(KERNEL)}};
    const unsigned *order = orders[has(m, F_virtio_mem_movable_first)];
    bool kept = false;

    for (unsigned i = 0; i < 6; i++)
        for (uint64_t slot = vm->nr; slot-- != 0 && any_in(vm, order[i]);) {
            int err = 0;
            if (!state_in(vm, slot, order[i]))
                continue;
            if ((err = hotplug_lock(m)) != 0)
                return err;
            if (state_in(vm, slot, order[i]))
                err = i < 2 ? unplug_offline(m, vm, slot, &wanted)
                            : unplug_online(m, vm, slot, &wanted);
            hotplug_unlock(m);
            kept |= err == -EBUSY;
            if (err != 0 && err != -EBUSY)
                return err;
            if (wanted == 0)
                return kept ? -EBUSY : 0;
            cond_resched(m);
        }
    return fail(m, -EBUSY, "virtio%u: what is still plugged is busy", vm->number);
}

/* Blocks of which all is unplugged, and that did not go offline then. */
int vmem_remove_left_over(struct machine *m, struct virtio_mem *vm)
{
    int err = 0;

    if (!vm->left_over || !has(m, F_virtio_mem_removes_later))
        return 0;
    vm->left_over = false;
    for (uint64_t slot = 0; slot < vm->nr; slot++) {
        enum vmem_state state = vmem_state(vm, slot);
        if ((state != VMEM_KERNEL_PARTIAL && state != VMEM_MOVABLE_PARTIAL) ||
            units_plugged(vm, slot) != 0)
            continue;
        if (hotplug_lock(m) != 0)
            return -EINTR;
        if (vmem_state(vm, slot) == state && remove_unplugged(m, vm, slot) != 0)
            err = -EBUSY;
        hotplug_unlock(m);
    }
    return err;
}

/*
 * virtio_mem.c - the guest's driver of virtio-mem devices: it plugs and unplugs until the size is
 * as requested.
 *
 * Owns: which memory is plugged and unplugged in which order, what the host is asked and told. Does
 * not own: the states of blocks and what others do with them (virtio_mem_state.c), taking pages
 * away (contig.c), the host's side with its names and limits (virtio_mem.py).
 *
 * Memory is added to Linux in memory blocks. Where the device's unit is smaller than one (subblock
 * mode), a block may be plugged in part: of a block that is online the other subblocks are held by
 * the driver, present but not managed. Where it is not (big block mode), a block of the device is
 * one or more memory blocks and comes and goes as a whole. A block's place in the device is its
 * `slot`. The driver works while it holds the hotplug lock, block by block. Linux:
 * drivers/virtio/virtio_mem.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

#define MOST_OFFLINE \
    (UINT64_C(1) << 30) /* added and not online yet, so that memory lasts to describe it */
enum { RETRIES_MOVABLE = 5, MOST_BLOCKS_OFFLINE = 10 /* of kernels that count them */ };

static void say(struct machine *m, const struct virtio_mem *vm, const char *what, uint64_t value)
{
    klog(m, "virtio_mem virtio%u: %s: 0x%" PRIx64, vm->number, what, value);
}

static uint64_t slot_addr(const struct virtio_mem *vm, uint64_t slot)
{
    return (vm->first + slot) * vm->block_bytes;
}

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

/* ---- requests to the host ---- */

/* The host answers at once, and tells whoever listens how large the device is now. */
static int request(struct machine *m, struct virtio_mem *vm, uint64_t bytes, bool plug)
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

static int request_units(struct machine *m, struct virtio_mem *vm, uint64_t slot, unsigned unit,
                         unsigned nr, bool plug)
{
    int err = request(m, vm, nr * vm->unit_bytes, plug);

    if (err == 0)
        memset(units_of(vm, slot) + unit, plug, nr);
    return err;
}

/* ---- memory of Linux ---- */

/* Not before the lock is held is the block the driver's, in `state`: somebody else may be at memory
 * in the same place. */
static int block_add(struct machine *m, struct virtio_mem *vm, uint64_t slot, enum vmem_state state)
{
    int err = hotplug_lock(m);

    if (err != 0)
        return err;
    vmem_set_state(vm, slot, state);
    vm->offline_bytes += vm->block_bytes; /* it may go online before the call returns */
    err = memory_add_managed(m, vm->nid, slot_addr(vm, slot), vm->block_bytes, (int16_t)vm->group,
                             "System RAM (virtio_mem)");
    if (err != 0) {
        vm->offline_bytes -= vm->block_bytes;
        klog(m, "virtio_mem virtio%u: adding memory failed: %d", vm->number, err);
    }
    hotplug_unlock(m);
    return err;
}

/* Linux: remove_memory(): of what is offline. Called with the hotplug lock held. */
static int block_remove(struct machine *m, struct virtio_mem *vm, uint64_t slot)
{
    int err = memory_remove_locked(m, slot_addr(vm, slot), vm->block_bytes);

    vm->offline_bytes -= err == 0 ? vm->block_bytes : 0;
    vm->removed |= err == 0;
    return err;
}

/* Linux: offline_and_remove_memory(): all blocks, or none; those switched off go back to their kind
 * of zone. */
static int block_offline_and_remove(struct machine *m, struct virtio_mem *vm, uint64_t slot)
{
    uint64_t first = slot_addr(vm, slot) / m->block_bytes, nr = vm->block_bytes / m->block_bytes,
             done = 0;
    uint8_t *type = xcalloc(nr, 1);
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
        err = block_remove(m, vm, slot);
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
static int fake_offline(struct machine *m, uint64_t start, uint64_t bytes)
{
    uint64_t pfn = start >> m->page_shift;
    bool retry = has(m, F_virtio_mem_big_blocks) && zone_of(m, pfn)->type == ZONE_MOVABLE;
    unsigned tries = retry ? RETRIES_MOVABLE : 1;
    int err = -EBUSY;

    while (tries-- != 0 && err != 0 && err != -ENOMEM)
        err = contig_take(m, pfn, bytes >> m->page_shift);
    return err == 0 || err == -ENOMEM ? err : -EBUSY;
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
    if ((err = block_add(m, vm, slot, nr == vm->units ? VMEM_OFFLINE : VMEM_OFFLINE_PARTIAL)) != 0)
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
            contig_give(m, (slot_addr(vm, slot) + unit * vm->unit_bytes) >> m->page_shift,
                        nr * vm->unit_bytes >> m->page_shift);
    }
    if (units_plugged(vm, slot) == vm->units)
        vmem_set_state(vm, slot, state - 1);
    return err;
}

static uint64_t slots_usable(const struct virtio_mem *vm)
{
    uint64_t end = (vm->addr + vm->usable_bytes) / vm->block_bytes;

    return end > vm->first ? end - vm->first : 0;
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

static int plug_subblocks(struct machine *m, struct virtio_mem *vm, uint64_t wanted)
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
        if (!vmem_may_add(vm, vm->block_bytes) || (slot == vm->nr && vm->nr >= slots_usable(vm)))
            return fail(
                m, -ENOSPC,
                "virtio%u cannot add more memory: too much of it is offline, or the region is full",
                vm->number);
        if (slot == vm->nr)
            vmem_use_next(vm);
        if ((err = plug_and_add(m, vm, slot, &wanted)) != 0)
            return err;
        cond_resched(m);
    }
    return 0;
}

/* ---- subblock mode: unplug ---- */

/* Of a block that is offline, or not added: from its end on, as many at a time as there are in a
 * row. */
static int unplug_raw(struct machine *m, struct virtio_mem *vm, uint64_t slot, uint64_t *wanted)
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
    int err = unplug_raw(m, vm, slot, wanted);
    unsigned left = units_plugged(vm, slot);

    if (left != vm->units)
        vmem_set_state(vm, slot, VMEM_OFFLINE_PARTIAL);
    if (err != 0 || left != 0)
        return err;
    vmem_set_state(vm, slot, VMEM_UNUSED); /* so that nobody can bring it online any more */
    return block_remove(m, vm, slot);
}

/* Of a block that is online all is unplugged. Nothing is in use any more, but others may refuse all
 * the same. */
static int remove_unplugged(struct machine *m, struct virtio_mem *vm, uint64_t slot)
{
    int err = block_offline_and_remove(m, vm, slot);

    if (err == 0)
        vmem_set_state(vm, slot, VMEM_UNUSED);
    vm->left_over |= err != 0;
    return err == 0 || !has(m, F_virtio_mem_removes_later) ? 0 : -EBUSY;
}

static int unplug_online_units(struct machine *m, struct virtio_mem *vm, uint64_t slot,
                               unsigned unit, unsigned nr)
{
    uint64_t start = slot_addr(vm, slot) + unit * vm->unit_bytes, bytes = nr * vm->unit_bytes;
    enum vmem_state state = vmem_state(vm, slot);
    int err = fake_offline(m, start, bytes);

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

static int unplug_subblocks(struct machine *m, struct virtio_mem *vm, uint64_t wanted)
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

/* ---- big block mode ---- */

static int plug_big(struct machine *m, struct virtio_mem *vm, uint64_t wanted)
{
    int err = 0;

    for (uint64_t slot = 0; wanted != 0; slot++) {
        if (slot < vm->nr && vmem_state(vm, slot) != VMEM_UNUSED)
            continue;
        if (!vmem_may_add(vm, vm->block_bytes) || (slot == vm->nr && vm->nr >= slots_usable(vm)))
            return fail(
                m, -ENOSPC,
                "virtio%u cannot add more memory: too much of it is offline, or the region is full",
                vm->number);
        if (slot == vm->nr)
            vmem_use_next(vm);
        if ((err = request(m, vm, vm->block_bytes, true)) != 0)
            return err;
        if ((err = block_add(m, vm, slot, VMEM_ADDED)) != 0) {
            vmem_set_state(
                vm, slot, request(m, vm, vm->block_bytes, false) == 0 ? VMEM_UNUSED : VMEM_PLUGGED);
            return err;
        }
        wanted--;
        cond_resched(m);
    }
    return 0;
}

static bool big_is(struct machine *m, struct virtio_mem *vm, uint64_t slot, bool offline)
{
    for (uint64_t at = slot_addr(vm, slot); at < slot_addr(vm, slot + 1); at += m->block_bytes) {
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
    uint64_t start = slot_addr(vm, slot), end = start + vm->block_bytes, taken = start;
    uint64_t bytes = m->pages_per_section << m->page_shift;
    int err = 0;

    vmem_set_state(vm, slot, VMEM_FAKE_OFFLINE);
    for (; taken < end && err == 0; taken += err == 0 ? bytes : 0)
        if (section_online_of(m, taken >> m->page_shift) != NULL)
            err = fake_offline(m, taken, bytes);
    if (err == 0)
        err = block_offline_and_remove(m, vm, slot);
    if (err != 0)
        goto failed_taken;
    err = request(m, vm, vm->block_bytes, false);
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

static int unplug_big(struct machine *m, struct virtio_mem *vm, uint64_t wanted)
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

/* ---- the work ---- */

static void refresh(struct machine *m, struct virtio_mem *vm)
{
    vm->config_changed = false;
    vm->requested = vm->host_requested;
    vm->usable_bytes = vm->host_usable;
    say(m, vm, "plugged size", vm->plugged);
    say(m, vm, "requested size", vm->requested);
}

/* What could not be unplugged when it should have been. */
static int unplug_pending(struct machine *m, struct virtio_mem *vm)
{
    for (uint64_t slot = 0; slot < vm->nr && vm->count[VMEM_PLUGGED] != 0; slot++) {
        uint64_t wanted = vm->units;
        if (vmem_state(vm, slot) != VMEM_PLUGGED)
            continue;
        int err = vm->big ? request(m, vm, vm->block_bytes, false)
                          : unplug_raw(m, vm, slot, &wanted);
        if (err != 0)
            return err;
        vmem_set_state(vm, slot, VMEM_UNUSED);
    }
    return 0;
}

/* Blocks of which all is unplugged, and that did not go offline then. */
static int remove_left_over(struct machine *m, struct virtio_mem *vm)
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

static int work_once(struct machine *m, struct virtio_mem *vm)
{
    uint64_t unit = vm->big ? vm->block_bytes : vm->unit_bytes;

    if (vm->config_changed)
        refresh(m, vm);
    int err = unplug_pending(m, vm);
    if (err == 0)
        err = remove_left_over(m, vm);
    if (err != 0 || vm->requested == vm->plugged)
        return err;
    bool plug = vm->requested > vm->plugged;
    uint64_t wanted = (plug ? vm->requested - vm->plugged : vm->plugged - vm->requested) / unit;
    if (wanted == 0)
        return 0;
    if (vm->big)
        return plug ? plug_big(m, vm, wanted) : unplug_big(m, vm, wanted);
    return plug ? plug_subblocks(m, vm, wanted) : unplug_subblocks(m, vm, wanted);
}

/*
 * Once more, at once? What is wanted has changed; or memory was removed, which needs no description
 * any more: what held that may be free now. A host that only says no is asked again until it
 * agrees, but not without giving up the mutex.
 */
static bool work_again(struct machine *m, const struct virtio_mem *vm, int *err)
{
    if (*err != -EAGAIN)
        return *err == -EBUSY && vm->removed;
    if (vm->config_changed)
        return true;
    int stop = atomic_load(&m->ending) ? fail(m, -EINTR, "the machine ended") : wait_changed(m);
    *err = stop != 0 ? stop : *err;
    return stop == 0;
}

/* 0: as requested, or as near as can be for now; else why not, and -EBUSY, -ENOMEM, -ETXTBSY are
 * worth a retry. */
static int work(struct machine *m, struct virtio_mem *vm)
{
    int err;

    if (vm->broken)
        return fail(m, -EIO, "virtio%u is broken: see the kernel log", vm->number);
    vm->working = true;
    do {
        vm->removed = false;
        err = work_once(m, vm);
    } while (work_again(m, vm, &err));
    vm->working = false;
    pthread_cond_broadcast(&m->changed);
    if (err == 0 || err == -ENOSPC || err == -EBUSY || err == -ENOMEM || err == -ETXTBSY ||
        err == -EINTR)
        return err;
    klog(m, "virtio_mem virtio%u: unknown error, marking device broken: %d", vm->number, err);
    vm->broken = true;
    return err;
}

/* ---- the device ---- */

static void warn_alignment(struct machine *m, const struct virtio_mem *vm)
{
    static const char text[] =
        "The alignment of the physical %s address can make some memory unusable.";

    for (unsigned end = 0; end < 2; end++)
        if ((vm->addr + (end != 0 ? vm->region_bytes : 0)) % m->block_bytes != 0) {
            char line[128];
            snprintf(line, sizeof line, text, end != 0 ? "end" : "start");
            klog(m, "virtio_mem virtio%u: %s", vm->number, line);
        }
}

static void say_nid(struct machine *m, const struct virtio_mem *vm)
{
    if (configured(m, CONFIG_NUMA))
        klog(m, "virtio_mem virtio%u: nid: %d", vm->number, vm->nid);
}

/* The lines about a device that will do. Kernels without big block mode named the node last. */
static void say_found(struct machine *m, const struct virtio_mem *vm, uint64_t device_block_bytes)
{
    say(m, vm, "start address", vm->addr);
    say(m, vm, "region size", vm->region_bytes);
    say(m, vm, "device block size", device_block_bytes);
    if (has(m, F_virtio_mem_big_blocks))
        say_nid(m, vm);
    say(m, vm, "memory block size", m->block_bytes);
    say(m, vm, vm->big ? "big block size" : "subblock size", vm->unit_bytes);
    if (!has(m, F_virtio_mem_big_blocks))
        say_nid(m, vm);
}

/* The number is the virtio bus's: a device that the driver refuses has one, too. */
static int probe(struct machine *m, int nid, uint64_t addr, uint64_t region_bytes,
                 uint64_t device_block_bytes)
{
    uint64_t unit = m->page_bytes << (has(m, F_virtio_mem_pageblock_unit) ||
                                              m->pageblock_order > m->max_order
                                          ? m->pageblock_order
                                          : m->max_order);

    if (device_block_bytes > m->block_bytes && !has(m, F_virtio_mem_big_blocks)) {
        klog(m, "virtio_mem virtio%u: The block size is not supported (too big).",
             m->nr_virtio_mem_devices++);
        return fail(m, -EINVAL, "this kernel plugs no more than one memory block at a time");
    }
    struct virtio_mem *vm = xcalloc(1, sizeof *vm);
    unit = unit > device_block_bytes ? unit : device_block_bytes;
    *vm = (struct virtio_mem){
        .number = m->nr_virtio_mem_devices++,
        .nid = nid,
        .addr = addr,
        .region_bytes = region_bytes,
        .big = unit >= m->block_bytes && has(m, F_virtio_mem_big_blocks),
        .block_bytes = m->block_bytes,
        .unit_bytes = unit,
    };
    if (vm->big)
        vm->block_bytes = vm->unit_bytes = device_block_bytes > m->block_bytes ? device_block_bytes
                                                                               : m->block_bytes;
    vm->units = (unsigned)(vm->block_bytes / vm->unit_bytes);
    vm->first = (addr + vm->block_bytes - 1) / vm->block_bytes;
    vm->offline_most = 2 * vm->block_bytes > MOST_OFFLINE ? 2 * vm->block_bytes : MOST_OFFLINE;
    if (!has(m, F_virtio_mem_big_blocks))
        vm->offline_most = MOST_BLOCKS_OFFLINE * vm->block_bytes;
    char name[32];
    snprintf(name, sizeof name, "virtio%u", vm->number);
    int err = resource_request(m, addr, addr + region_bytes - 1, name, RES_SYSRAM | RES_IDLE,
                               false);
    if (err != 0) {
        klog(m, "virtio_mem virtio%u: could not reserve device region", vm->number);
        free(vm);
        return -EBUSY;
    }
    warn_alignment(m, vm);
    say_found(m, vm, device_block_bytes);
    vm->group = memory_group_new(
        m, (struct memory_group){
               .dynamic = true, .nid = nid, .unit_pages = vm->block_bytes >> m->page_shift});
    m->vmems = xrealloc(m->vmems, m->nr_vmems + 1, sizeof(struct virtio_mem *));
    m->vmems[m->nr_vmems++] = vm;
    return (int)vm->number;
}

int virtio_mem_probe(struct machine *m, struct task *task, int nid, uint64_t addr,
                     uint64_t region_bytes, uint64_t device_block_bytes)
{
    machine_lock(m, task);
    int ret;
    if (!has(m, F_virtio_mem))
        ret = fail(m, -ENODEV, "this kernel has no driver for virtio-mem");
    else if (nid < -1 || nid >= (int)m->possible_nodes || region_bytes == 0 ||
             addr + region_bytes - 1 < addr || device_block_bytes == 0 ||
             (device_block_bytes & (device_block_bytes - 1)) != 0)
        ret = fail(m, -EINVAL, "there can be no such device");
    else
        ret = probe(m, nid >= 0 ? nid : node_of_address(m, addr), addr, region_bytes,
                    device_block_bytes);
    machine_unlock(m);
    return ret;
}

static struct virtio_mem *device(struct machine *m, unsigned number, int *err)
{
    for (size_t i = 0; i < m->nr_vmems; i++)
        if (m->vmems[i]->number == number) {
            *err = 0;
            return m->vmems[i];
        }
    *err = fail(m, -ENODEV, "there is no virtio%u", number);
    return NULL;
}

int virtio_mem_request(struct machine *m, struct task *task, unsigned number, uint64_t requested,
                       uint64_t usable_bytes)
{
    int err;

    machine_lock(m, task);
    struct virtio_mem *vm = device(m, number, &err);
    if (vm != NULL) {
        vm->host_requested = requested;
        vm->host_usable = usable_bytes < vm->region_bytes ? usable_bytes : vm->region_bytes;
        vm->config_changed = true;
    }
    machine_unlock(m);
    return err;
}

int virtio_mem_work(struct machine *m, struct task *task, unsigned number)
{
    int err;

    machine_lock(m, task);
    struct virtio_mem *vm = device(m, number, &err);
    while (vm != NULL && vm->working && err == 0)
        err = wait_changed(m); /* one at a time */
    if (vm != NULL && err == 0)
        err = work(m, vm);
    machine_unlock(m);
    return err;
}

int64_t virtio_mem_size(struct machine *m, struct task *task, unsigned number)
{
    int err;

    machine_lock(m, task);
    const struct virtio_mem *vm = device(m, number, &err);
    int64_t ret = vm != NULL ? (int64_t)vm->plugged : err;
    machine_unlock(m);
    return ret;
}

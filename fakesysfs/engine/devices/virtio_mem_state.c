/*
 * virtio_mem_state.c - which pages of virtio-mem devices are plugged, and what becomes of their
 * blocks.
 *
 * Owns: the devices, the state of each of their blocks, the subblocks that are plugged, what the
 * driver makes of memory going online and offline. Does not own: what is plugged or unplugged when
 * (virtio_mem_subblocks.c), the pages (buddy.c). Linux: drivers/virtio/virtio_mem.c
 * virtio_mem_memory_notifier_cb(), virtio_mem_online_page_cb().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

void vmem_destroy_all(struct machine *m)
{
    for (size_t i = 0; i < m->nr_vmems; i++) {
        free(m->vmems[i]->state);
        free(m->vmems[i]->plugged_units);
        free(m->vmems[i]);
    }
    free(m->vmems);
}

/* The device whose region a page is in; NULL: none. */
static struct virtio_mem *vmem_of(struct machine *m, uint64_t pfn)
{
    uint64_t at = pfn << m->page_shift;

    for (size_t i = 0; i < m->nr_vmems; i++)
        if (at >= m->vmems[i]->addr && at - m->vmems[i]->addr < m->vmems[i]->region_bytes)
            return m->vmems[i];
    return NULL;
}

/* Where blocks are remembered that have been used: a block beyond has not. */
static uint64_t vmem_slot(const struct machine *m, const struct virtio_mem *vm, uint64_t pfn)
{
    return (pfn << m->page_shift) / vm->block_bytes - vm->first;
}

enum vmem_state vmem_state(const struct virtio_mem *vm, uint64_t slot)
{
    return slot < vm->nr ? (enum vmem_state)vm->state[slot] : VMEM_UNUSED;
}

void vmem_set_state(struct virtio_mem *vm, uint64_t slot, enum vmem_state state)
{
    vm->count[vm->state[slot]]--;
    vm->count[state]++;
    vm->state[slot] = (uint8_t)state;
}

uint64_t vmem_use_next(struct machine *m, struct virtio_mem *vm)
{
    if (vm->nr == vm->cap) {
        vm->cap = vm->cap != 0 ? vm->cap * 2 : 16;
        vm->state = xrealloc(m, vm->state, vm->cap, 1);
        vm->plugged_units = xrealloc(m, vm->plugged_units, vm->cap * vm->units, 1);
    }
    vm->state[vm->nr] = VMEM_UNUSED;
    memset(vm->plugged_units + vm->nr * vm->units, 0, vm->units);
    vm->count[VMEM_UNUSED]++;
    return vm->nr++;
}

static bool page_plugged(const struct machine *m, const struct virtio_mem *vm, uint64_t pfn)
{
    uint64_t slot = vmem_slot(m, vm, pfn);

    if (vm->big)
        return vmem_state(vm, slot) != VMEM_FAKE_OFFLINE;
    uint64_t unit = (pfn << m->page_shift) % vm->block_bytes / vm->unit_bytes;
    return slot < vm->nr && vm->plugged_units[slot * vm->units + unit] != 0;
}

uint64_t vmem_run(struct machine *m, uint64_t pfn, uint64_t end_pfn, bool *plugged)
{
    const struct virtio_mem *vm = vmem_of(m, pfn);
    uint64_t step = vm != NULL ? vm->unit_bytes >> m->page_shift : 0, at = pfn;

    *plugged = vm == NULL || page_plugged(m, vm, pfn);
    if (vm == NULL)
        return end_pfn;
    do
        at = (at / step + 1) * step;
    while (at < end_pfn && page_plugged(m, vm, at) == *plugged);
    return at < end_pfn ? at : end_pfn;
}

/* The device that has added the block of this page; NULL: none has, even if what is there lies in a
 * region. */
static struct virtio_mem *owner_of(struct machine *m, uint64_t pfn, uint64_t *slot)
{
    struct virtio_mem *vm = vmem_of(m, pfn);

    if (vm == NULL)
        return NULL;
    *slot = vmem_slot(m, vm, pfn);
    return vmem_state(vm, *slot) > VMEM_PLUGGED ? vm : NULL;
}

bool vmem_owns(struct machine *m, uint64_t pfn)
{
    uint64_t slot;

    return owner_of(m, pfn, &slot) != NULL;
}

/* ---- notifications ---- */

static int going_online(struct machine *m, uint64_t start_pfn)
{
    const struct virtio_mem *vm = vmem_of(m, start_pfn);

    if (vm == NULL || vm->big)
        return 0;
    enum vmem_state state = vmem_state(vm, vmem_slot(m, vm, start_pfn));
    if (state == VMEM_OFFLINE || state == VMEM_OFFLINE_PARTIAL)
        return 0;
    klog(m, "virtio_mem virtio%u: memory block onlining denied", vm->number);
    return fail(m, -EPERM, "virtio%u is about to take this memory away, or has not plugged it",
                vm->number);
}

bool vmem_may_add(const struct virtio_mem *vm, uint64_t bytes)
{
    return vm->offline_bytes + bytes <= vm->offline_most;
}

static void went_online(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, bool movable)
{
    uint64_t slot;
    struct virtio_mem *vm = owner_of(m, start_pfn, &slot);
    char path[32];

    if (vm == NULL)
        return;
    if (!vm->big)
        vmem_set_state(vm, slot,
                       (movable ? VMEM_MOVABLE : VMEM_KERNEL) +
                           (vmem_state(vm, slot) == VMEM_OFFLINE_PARTIAL));
    vm->offline_bytes -= nr_pages << m->page_shift;
    /* With half of what may be offline online, more can be added; what the driver is at itself goes
     * on anyway. */
    if (!vm->working && vm->plugged < vm->requested && vmem_may_add(vm, vm->offline_most / 2)) {
        snprintf(path, sizeof path, "virtio%u", vm->number);
        event_add(m, EVENT_VIRTIO_MEM, 0, path, "work");
    }
}

static void went_offline(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t slot;
    struct virtio_mem *vm = owner_of(m, start_pfn, &slot);

    if (vm == NULL)
        return;
    enum vmem_state state = vmem_state(vm, slot);
    if (!vm->big)
        vmem_set_state(vm, slot,
                       state == VMEM_KERNEL || state == VMEM_MOVABLE ? VMEM_OFFLINE
                                                                     : VMEM_OFFLINE_PARTIAL);
    vm->offline_bytes += nr_pages << m->page_shift;
}

static uint64_t online_run(struct machine *m, uint64_t pfn, uint64_t end_pfn, bool *give)
{
    return vmem_of(m, pfn) != NULL ? vmem_run(m, pfn, end_pfn, give) : 0;
}

static const struct memory_listener vmem_listener = {.going_online = going_online,
                                                     .online = went_online,
                                                     .offline = went_offline,
                                                     .online_run = online_run};

void vmem_driver_register(struct machine *m)
{
    memory_listener_register(m, &vmem_listener);
}

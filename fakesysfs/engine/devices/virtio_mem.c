/*
 * virtio_mem.c - the guest's driver of virtio-mem devices: it finds them, and works until the size
 * is as requested.
 *
 * Owns: what is done when, and what is tried again. Does not own: which blocks that concerns
 * (virtio_mem_subblocks.c, virtio_mem_big_blocks.c), the states of blocks and what others do with
 * them (virtio_mem_state.c), the host's side with its names and limits (qemu/virtio_mem.py).
 *
 * Memory is added to Linux in memory blocks. Where the device's unit is smaller than one, the
 * driver works in subblock mode; where it is not, in big block mode. A block's place in the device
 * is its `slot`. The driver works while it holds the hotplug lock, block by block. Linux:
 * drivers/virtio/virtio_mem.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "virtio_mem.h"

#define MOST_OFFLINE \
    (UINT64_C(1) << 30) /* added and not online yet, so that memory lasts to describe it */
enum { MOST_BLOCKS_OFFLINE = 10 }; /* of kernels that count them */

static void say(struct machine *m, const struct virtio_mem *vm, const char *what, uint64_t value)
{
    klog(m, "virtio_mem virtio%u: %s: 0x%" PRIx64, vm->number, what, value);
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
        int err = vm->big ? vmem_request(m, vm, vm->block_bytes, false)
                          : vmem_unplug_raw(m, vm, slot, &wanted);
        if (err != 0)
            return err;
        vmem_set_state(vm, slot, VMEM_UNUSED);
    }
    return 0;
}

static int work_once(struct machine *m, struct virtio_mem *vm)
{
    uint64_t unit = vm->big ? vm->block_bytes : vm->unit_bytes;

    if (vm->config_changed)
        refresh(m, vm);
    int err = unplug_pending(m, vm);
    if (err == 0)
        err = vmem_remove_left_over(m, vm);
    if (err != 0 || vm->requested == vm->plugged)
        return err;
    bool plug = vm->requested > vm->plugged;
    uint64_t wanted = (plug ? vm->requested - vm->plugged : vm->plugged - vm->requested) / unit;
    if (wanted == 0)
        return 0;
    if (vm->big)
        return plug ? vmem_plug_big(m, vm, wanted) : vmem_unplug_big(m, vm, wanted);
    return plug ? vmem_plug_subblocks(m, vm, wanted) : vmem_unplug_subblocks(m, vm, wanted);
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
    struct virtio_mem *vm = xcalloc(m, 1, sizeof *vm);
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
    m->vmems = xrealloc(m, m->vmems, m->nr_vmems + 1, sizeof(struct virtio_mem *));
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
        err = sections_ready(m, 0);
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

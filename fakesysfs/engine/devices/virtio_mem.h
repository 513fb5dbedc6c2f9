/*
 * virtio_mem.h - private to virtio_mem*.c: what the parts of the driver of virtio-mem call of one
 * another. A `slot` is the number of a block of the device; `wanted` counts units down.
 *
 * Owns: prototypes. Does not own: struct virtio_mem and the states of blocks (devices.h).
 */
#ifndef FAKESYSFS_VIRTIO_MEM_H
#define FAKESYSFS_VIRTIO_MEM_H

#include "devices.h"

/* ---- virtio_mem_memory.c: 0 or a negative errno ---- */
uint64_t vmem_slot_addr(const struct virtio_mem *vm, uint64_t slot);
/* Make the unused block `slot`, or the next one beyond all that were used, ready to be plugged: 0,
 * or -ENOSPC when no more may be added. */
int vmem_use_block(struct machine *m, struct virtio_mem *vm, uint64_t slot);
int vmem_request(struct machine *m, struct virtio_mem *vm, uint64_t bytes, bool plug);
int vmem_block_add(struct machine *m, struct virtio_mem *vm, uint64_t slot, enum vmem_state state);
int vmem_block_remove(struct machine *m, struct virtio_mem *vm, uint64_t slot);
int vmem_block_offline_and_remove(struct machine *m, struct virtio_mem *vm, uint64_t slot);
int vmem_fake_offline(struct machine *m, uint64_t start, uint64_t bytes);

/* ---- virtio_mem_subblocks.c ---- */
int vmem_plug_subblocks(struct machine *m, struct virtio_mem *vm, uint64_t wanted);
int vmem_unplug_subblocks(struct machine *m, struct virtio_mem *vm, uint64_t wanted);
int vmem_unplug_raw(struct machine *m, struct virtio_mem *vm, uint64_t slot, uint64_t *wanted);
int vmem_remove_left_over(struct machine *m, struct virtio_mem *vm);

/* ---- virtio_mem_big_blocks.c ---- */
int vmem_plug_big(struct machine *m, struct virtio_mem *vm, uint64_t wanted);
int vmem_unplug_big(struct machine *m, struct virtio_mem *vm, uint64_t wanted);

#endif

/*
 * devices.h - memory blocks, DIMM slots, nodes as devices, and the prototypes of devices/.
 *
 * Owns: the structs of devices. Does not own: page frames (mm.h), files in general (sysfs.h).
 */
#ifndef FAKESYSFS_DEVICES_H
#define FAKESYSFS_DEVICES_H

#include "mm/mm.h"
#include "sysfs/sysfs.h"

/* What a memory block takes of the host's memory, with its sections and events: about. */
enum { HOST_BYTES_OF_BLOCK = 1024 };

enum block_state {
    BLOCK_ONLINE = 1,
    BLOCK_GOING_OFFLINE = 2,
    BLOCK_OFFLINE = 4,
    BLOCK_GOING_ONLINE = 8
};

struct memory_block {
    uint64_t id;
    uint64_t serial; /* grows with every block made: tells a block from its successor of the same
                        number */
    enum block_state state;
    enum online_type online_type;
    bool dev_offline; /* what `online` shows, inverted; follows state after the uevent */
    bool busy;        /* device_lock: an online or offline of it is under way */
    int16_t nid;
    int16_t zone;           /* index of the zone it went online in; -1: none or several */
    int16_t group;          /* memory group, -1: none */
    int16_t acpi_slot;      /* DIMM it belongs to, -1: none */
    uint32_t physical_node; /* how many blocks of the DIMM were bound to it before */
    int phys_device;
    bool unlinked;    /* found without a link to its node */
    int8_t removable; /* what `removable` says until the state changes: as it was found; -1: what
                         there is to see */
    uint8_t nr_nodes; /* 2 where nodes meet within it */
    int16_t second_nid;
    int16_t last_zone;   /* where it was before it went offline: old kernels shrink that zone's span
                            only at remove */
    uint32_t nr_vmemmap; /* pages of memmap_on_memory at its start */
    uint32_t nr_poisoned;
};

/*
 * Invariants (machine_check): a memory_block with acpi_slot >= 0 lies within that DIMM, which is
 * attached; physical_node ascends with the blocks of one, and is at most the number of blocks of
 * memory before it in the DIMM
 */
struct acpi_dimm { /* one PNP0C80 device */
    bool present;  /* QEMU shows something in the slot */
    bool attached; /* the driver took it */
    int nid;
    uint64_t start, size_bytes;
    int group;
};

/* Of a block of a virtio-mem device. The one after OFFLINE, KERNEL, MOVABLE is the same, plugged in
 * part. */
enum vmem_state {
    VMEM_UNUSED,  /* not plugged, not added */
    VMEM_PLUGGED, /* plugged, and yet not added: it could not be unplugged */
    VMEM_OFFLINE,
    VMEM_OFFLINE_PARTIAL,
    VMEM_KERNEL,
    VMEM_KERNEL_PARTIAL,
    VMEM_MOVABLE,
    VMEM_MOVABLE_PARTIAL,
    VMEM_ADDED,        /* big block mode: plugged and added */
    VMEM_FAKE_OFFLINE, /* ... and about to go: what goes online of it now stays unplugged */
    NR_VMEM_STATES
};

/*
 * plugged       = unit_bytes * number of plugged units; block_bytes * number of blocks ADDED in big
 * block mode; and of those PLUGGED in either offline_bytes = bytes of the memory blocks it has
 * added and that are offline count[s]      = number of blocks with state s
 */
struct virtio_mem {
    unsigned number; /* virtioN */
    int nid, group;
    uint64_t addr, region_bytes, usable_bytes, requested, plugged;
    uint64_t host_requested,
        host_usable; /* what the host wants now; the driver has seen it when !config_changed */
    bool config_changed, working, broken, left_over,
        removed; /* left_over: a block that is unplugged, but has not gone */
    bool big;    /* big block mode */
    uint64_t block_bytes,
        unit_bytes;   /* of its blocks: memory blocks, or larger; of what is plugged at a time */
    unsigned units;   /* per block */
    uint64_t first;   /* number of its first block: address / block_bytes */
    uint64_t nr, cap; /* blocks ever used, the lowest ones */
    uint8_t *state, *plugged_units; /* of each block; of each unit of each block: 0 or 1 */
    uint64_t count[NR_VMEM_STATES], offline_bytes, offline_most;
};

/* ---- memory_block.c ---- */
enum { BLOCK_PATH_SIZE = 64 };
struct memory_block *block_get(struct machine *m, uint64_t id);
const char *block_path(const struct memory_block *b, char path[BLOCK_PATH_SIZE]);
uint64_t block_pfn(const struct machine *m, const struct memory_block *b);         /* its first */
struct memory_group *block_group(struct machine *m, const struct memory_block *b); /* or NULL */
/* The zone an online block is in, as this kernel finds it out; NULL: none, or several. */
struct zone *block_zone(struct machine *m, const struct memory_block *b);
int block_online(struct machine *m,
                 struct memory_block *b); /* device_online(): 1 when it was online */
int block_offline(struct machine *m,
                  struct memory_block *b); /* device_offline(): 1 when it was offline */
struct memory_block *block_create(struct machine *m, uint64_t id, int nid);
struct memory_block *block_register(struct machine *m, uint64_t id, int nid,
                                    int16_t group); /* device_register(), with its uevent */
void block_unregister(struct machine *m, struct memory_block *b); /* device_unregister() */
void block_destroy_all(struct machine *m);
extern const char *const online_type_words[NR_ONLINE_TYPES];
int online_type_from_word(const char *buf); /* enum online_type or -EINVAL */

/* ---- memory_block_files.c ---- */
extern const struct sysfs_class memory_block_class; /* directories memoryN */

/* ---- add_memory.c ---- */
/* __add_memory() and __remove_memory(), with the hotplug lock held. group: memory group or -1. */
int memory_add_locked(struct machine *m, int nid, uint64_t start, uint64_t size_bytes,
                      int16_t group, bool on_memory);
/* The same for a driver that manages the memory: it has a name of its own in /proc/iomem, where
 * neighbours merge. */
int memory_add_managed(struct machine *m, int nid, uint64_t start, uint64_t size_bytes,
                       int16_t group, const char *name);
int memory_remove_locked(struct machine *m, uint64_t start, uint64_t size_bytes);

/* ---- memory_root.c ---- */
void memory_root_register(struct machine *m); /* hangs /sys/devices/system/memory into the tree */

/* ---- bus_memory.c, module_parameters.c, error_injection.c, tracing.c ---- */
void bus_memory_register(struct machine *m); /* each hangs its directory into the tree */
void module_parameters_register(struct machine *m);
void error_injection_register(struct machine *m);
void tracing_register(struct machine *m);

/* ---- firmware_memmap.c ---- */
void firmware_map_register(struct machine *m);
void firmware_map_add(struct machine *m, uint64_t start, uint64_t end, const char *type);
void firmware_map_remove(struct machine *m, uint64_t start, uint64_t end);
void firmware_map_destroy(struct machine *m);

/* ---- node.c ---- */
void node_register(struct machine *m);
void node_device_add(struct machine *m, int nid); /* directory and uevent */
void node_device_remove(struct machine *m, int nid);

/* ---- procfs.c ---- */
void procfs_register(struct machine *m);

/* ---- hugepages.c, sysctl.c ---- */
void hugepages_register(struct machine *m); /* hangs /sys/kernel/mm/hugepages into the tree */
void sysctl_register(struct machine *m);    /* and the files of /proc/sys/vm */
void procfs_node_meminfo(struct machine *m, int nid, struct text *out);
void procfs_node_vmstat(struct machine *m, int nid, struct text *out);

/* ---- acpi_tree.c ---- */
void acpi_register(struct machine *m); /* hangs the PNP0C80 devices into the tree */

/* ---- virtio_mem_state.c ---- */
enum vmem_state vmem_state(const struct virtio_mem *vm, uint64_t slot);
void vmem_set_state(struct virtio_mem *vm, uint64_t slot, enum vmem_state state);
uint64_t vmem_use_next(struct machine *m,
                       struct virtio_mem *vm); /* one more block is used: its slot */
bool vmem_may_add(const struct virtio_mem *vm, uint64_t bytes); /* is little enough offline? */
bool vmem_owns(struct machine *m, uint64_t pfn); /* is it in a block that a device has added? */
/* From pfn on, up to where are all pages plugged, or none? Plugged is what is of no device. */
uint64_t vmem_run(struct machine *m, uint64_t pfn, uint64_t end_pfn, bool *plugged);
void vmem_driver_register(struct machine *m); /* from now on it hears of memory */
void vmem_destroy_all(struct machine *m);

/* ---- sclp_mem.c ---- */
struct standby_run { /* blocks first to end - 1; on_memory: the memmap of one is to be in itself */
    uint64_t first, end;
    bool on_memory;
};
int standby_boot(struct machine *m, const struct machine_config *config);
void standby_register(struct machine *m); /* /sys/firmware/memory, where there is one */
void standby_destroy(struct machine *m);

/* ---- boot.c ---- */
int boot_check_blocks(struct machine *m,
                      const struct machine_config *config); /* -EINVAL: lists that cannot be */
void boot_memory(struct machine *m, const struct machine_config *config);
void boot_offline_blocks(struct machine *m,
                         const struct machine_config *config); /* once pages can be allocated */

#endif

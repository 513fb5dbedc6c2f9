/*
 * machine.h - private to the engine: the glossary, and a machine as a whole.
 *
 * Owns: struct machine. Does not own: what its parts are (base.h, mm.h, sysfs.h, devices.h).
 *
 * Locks: hotplug (a flag under the mutex: one add, online, offline, remove at a time) before
 * `mutex` (all data). Public functions (engine.h) lock; everything else runs with the mutex held
 * and does not.
 */
/* clang-format off */
/*
 * Glossary
 *   pfn           number of a page frame: physical address >> page_shift
 *   page          a page frame, and the 12 bytes that describe it while its section is detailed
 *   section       the unit of hotplug in the memory map: 128 MiB on x86_64
 *   pageblock     2 MiB on x86_64; has one migratetype
 *   folio         2^order pages that were allocated together and move together; its first page is
 *                 its head
 *   memory block  one or more sections; what sysfs shows as memoryN
 *   uniform       a section whose pages are all alike: free in largest chunks of one migratetype, or
 *                 folios of one kind and order. It costs its section entry and nothing else; it is
 *                 one node of one list.
 *   detailed      a section that has a struct page each
 *   node          a NUMA node here; "list node" is written out where the other one is meant
 *   DIMM          what a slot of the board holds; Linux sees the slot as an ACPI device, and adds
 *                 all of it or nothing
 *   region        addresses of a virtio-mem device; at first there is no memory
 *   unit          what a virtio-mem device plugs at a time: smaller than a memory block (subblock
 *                 mode), or not (big block mode); in the first the units of a block that are not
 *                 plugged are held while it is online
 *   zonelist      in which order a node asks nodes for memory
 */
/* clang-format on */
#ifndef FAKESYSFS_MACHINE_H
#define FAKESYSFS_MACHINE_H

#include "base/base.h"
#include "devices/devices.h"
#include "mm/mm.h"
#include "sysfs/sysfs.h"

struct rule; /* base/rules.h: faults on purpose */
struct late_device;
struct static_dir; /* sysfs_tree.h: the fixed directories: /, /sys, /sys/devices ... */
struct open_file;  /* sysfs.c: handles */
struct node_attrs; /* sysfs_tree.h: what chmod, chown, utimensat have set */

struct machine {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* broadcast when hotplug is free again or a block is no longer busy */
    bool hotplug_held;
    struct task *task; /* of the call that holds the mutex */
    void *reserve;     /* see host_memory.c; NULL: it was needed */

    bool feature[NR_FEATURES];
    int64_t config[NR_CONFIGS];
    char release[32];
    char *cmdline;
    uint64_t seed, random_state;
    unsigned page_shift, section_page_shift, max_order, pageblock_order, struct_page_bytes;
    uint64_t page_bytes, pages_per_section, pageblock_pages, block_bytes, block_pages;
    unsigned sections_per_block, pageblocks_per_section, chunks_per_section;
    bool zone_exists[NR_ZONES];
    uint64_t dma_end_pfn, dma32_end_pfn;
    unsigned max_phys_bits, iomem_bits;
    bool not_x86;

    /* events.c, klog.c, trace.c, fault.c, rules.c */
    uint64_t clock_us, event_seq;
    struct event *events;
    size_t nr_events, cap_events;
    char **klog_line;
    uint64_t *klog_time;
    size_t nr_klog, cap_klog, klog_dropped; /* klog_line[0] is line number klog_dropped */
    struct trace_op **trace;                /* a ring of the last operations */
    uint64_t nr_trace;                      /* operations ever begun */
    uint64_t trace_from;                    /* operations before this one were cleared away */
    struct trace_place trace_at;
    struct trace_graph *trace_graph; /* what the kernel calls beside; NULL: not known */
    bool trace_on, tainted;
    struct fault *faults;
    size_t nr_faults;
    struct rule *rules;               /* by number */
    struct late_device *late_devices; /* whose add event is told before their files are there */
    size_t nr_rules, nr_late_devices;
    size_t awaiting_stores; /* calls of file_await_stores() */
    size_t nr_hiding; /* rules that hide something, and late devices: 0: a walk need not ask */
    uint64_t rule_number;
    atomic_bool ending;

    /* sysfs.c, tree_store.c, sparse.c, resource.c */
    struct static_dir *dirs;
    size_t nr_dirs;
    struct open_file **files;
    size_t nr_files, lowest_free_file;
    int64_t handles_before; /* the last handle of a file that was opened before the last reset */
    struct machine *before; /* the machine until then, if a call may still be in it */
    struct node_attrs *overrides; /* a hash table by inode number */
    size_t nr_overrides, cap_overrides;
    struct user_file *user_files;
    size_t nr_user_files;
    struct radix sections, blocks;
    struct radix mapped;            /* what of the direct map has no section, see hotplug_range.c */
    bool warned[NR_WARNINGS];       /* of what a kernel warns only once */
    struct section *recent_section; /* where folio_at() looks first */
    struct radix
        memmaps; /* section number -> struct memmap of hot-added memory, see memory_hotplug.c */
    struct section **section_pool; /* chunks of RADIX_SIZE; index 0 unused */
    size_t nr_sections_made, nr_section_chunks;
    /* The memmaps of detailed sections, one slot of pages_per_section after another. Only address
     * space is reserved for all that there could be; what of it is accessible grows with nr_slots,
     * and the host's memory comes with use. */
    struct page *memmap;
    size_t memmap_pages;    /* reserved */
    uint32_t spare_slot[8]; /* free ones without a head whose memory was kept, for the next section
                               that needs one */
    unsigned nr_spare_slots;
    uint32_t *free_section_index;
    size_t nr_free_section_index;
    struct section **slots; /* slot -> section; slot 0 unused */
    size_t nr_slots, cap_slots;
    uint32_t *free_slots;
    size_t nr_free_slots;
    struct resource iomem;

    /* zone.c */
    enum zone_type policy_zone; /* the highest kernel zone that ever had memory */
    uint64_t nr_accesses;       /* calls of show() and store(); a long text counts for several, see
                                   boot_load.c */
    struct first_use {          /* what the kernel takes first of a zone that was empty */
        unsigned kind;
        uint64_t nr_pages;
    } first_use[NR_KINDS];
    size_t nr_first_use;
    struct node nodes[MAX_NODES];
    struct zone *zones[MAX_NODES * NR_ZONES]; /* by index */
    unsigned possible_nodes;
    int distance[MAX_NODES][MAX_NODES];
    struct boot_range *hotplug_nids;
    size_t nr_hotplug_nids;
    bool unknown_nid_told; /* that memory came whose node nobody knows */
    uint64_t min_free_kbytes;
    int64_t user_min_free_kbytes; /* what was written to it last; -1: nothing was */
    uint64_t mem_limit;           /* bytes, of mem= */
    bool movable_node;

    /* load, memory failure, huge pages, devices */
    uint64_t percpu_kb, vmalloc_kb; /* each CPU's; beside kernel stacks */
    uint64_t swap_bytes, pgmigrate_success, pgmigrate_fail, pgfree, thp_migrated;
    uint64_t hugetlb_total, hugetlb_free;
    uint64_t hugetlb_overcommit;                     /* how many more may be taken on demand */
    unsigned hugetlb_next_grow, hugetlb_next_shrink; /* the node whose turn it is */
    uint64_t poisoned_pages;
    struct radix bad_reserved; /* bad pages that are reserved: they stay what they are */
    uint64_t direct_map_4k, direct_map_2m, direct_map_1g; /* kB */
    enum online_type auto_online;
    bool auto_movable;
    unsigned auto_movable_ratio;
    bool auto_movable_numa_aware;
    unsigned memmap_on_memory;
    struct memory_group *groups;
    size_t nr_groups;
    struct acpi_dimm *dimms;
    size_t nr_dimms;
    const struct memory_listener *listeners[MAX_LISTENERS];
    unsigned nr_listeners;
    struct virtio_mem **vmems;
    size_t nr_vmems;
    unsigned nr_virtio_mem_devices; /* that the guest has ever found, those that its driver refused
                                       among them */
    unsigned nr_acpi_slots;         /* that firmware describes: they have devices */
    uint64_t block_serial, nr_memory_blocks, blocks_changed_us;
    bool drivers_autoprobe[2]; /* memory, node */
    int inject_going_online, inject_going_offline;
    struct firmware_entry {
        uint64_t start, end;
        char *type;
        uint64_t nr;
    } *firmware;
    size_t nr_firmware;

    /* sclp_mem.c: blocks that /sys/firmware/memory tells of, ascending */
    struct standby_run *standby;
    size_t nr_standby;
    struct radix standby_turned; /* has an entry where the block is not as its run */
    uint64_t
        increment_bytes; /* of s390's storage, which phys_device counts; 0: it counts nothing */
    uint64_t next_firmware;
};

static inline bool has(const struct machine *m, enum feature f)
{
    return m->feature[f];
}
static inline bool configured(const struct machine *m, enum config c)
{
    return m->config[c] != 0;
}

#include "mm/inline.h"

#endif

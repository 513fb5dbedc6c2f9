/*
 * machine.h - private to the engine: the glossary, every struct with its invariants, every prototype that crosses a file.
 *
 * Glossary
 *   pfn          number of a page frame: physical address >> page_shift
 *   page         a page frame, and the 12 bytes that describe it while its section is detailed
 *   section      the unit of hotplug in the memory map: 128 MiB on x86_64
 *   pageblock    2 MiB on x86_64; has one migratetype
 *   folio        2^order pages that were allocated together and move together; its first page is its head
 *   memory block one or more sections; what sysfs shows as memoryN
 *   uniform      a section whose pages are all alike: free in largest chunks of one migratetype, or folios of one kind
 *                and order. It costs its section entry and nothing else; it is one node of one list.
 *   detailed     a section that has a struct page each
 *   node         a NUMA node here; "list node" is written out where the other one is meant
 *   DIMM         what a slot of the board holds; Linux sees the slot as an ACPI device, and adds all of it or nothing
 *   region       addresses of a virtio-mem device; at first there is no memory
 *   unit         what a virtio-mem device plugs at a time: smaller than a memory block (subblock mode), or not (big
 *                block mode); in the first the units of a block that are not plugged are held while it is online
 *   zonelist     in which order a node asks nodes for memory
 *
 * Files call only files of earlier letters:
 *   a record.c fault.c rules.c   b sparse.c resource.c sysfs_parse.c sysfs_tree.c
 *   c sysfs.c pageblock.c zone.c virtio_mem_state.c
 *   d buddy.c   e workload.c   f page_isolation.c   g migrate.c
 *   h contig.c memory_hotplug.c memory_failure.c vmstat.c
 *   i meminfo.c zoneinfo.c   j node_files.c procfs.c   k node.c memory_tree.c   l memory_block.c
 *   m acpi.c acpi_tree.c boot.c check.c memory_root.c virtio_mem.c   n machine.c   o fuse_ops.c
 *
 * Locks: hotplug (a flag under the mutex: one add, online, offline, remove at a time) before `mutex` (all data).
 * Public functions (engine.h) lock; everything here runs with the mutex held and does not.
 */
#ifndef FAKESYSFS_MM_H
#define FAKESYSFS_MM_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

#include "engine.h"

enum {
    MAX_ORDERS = 14,  /* largest order any architecture uses, plus one */
    MAX_NODES = 64,
    RADIX_SHIFT = 10, /* sections and blocks are found by a two-level table of 2^10 each */
    RADIX_SIZE = 1 << RADIX_SHIFT,
};

enum zone_type { ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE, ZONE_DEVICE, NR_ZONES };

enum migratetype { MT_UNMOVABLE, MT_MOVABLE, MT_RECLAIMABLE, MT_HIGHATOMIC, MT_CMA, MT_ISOLATE, NR_MT };

/* Who holds a page. Order matters only in that lists of folios exist from KIND_ANON on. */
enum page_kind {
    KIND_INSIDE,      /* not a head: the page belongs to the folio or chunk that begins before it */
    KIND_HOLE,        /* no RAM here */
    KIND_RESERVED,    /* PageReserved: kernel image, boot memmap, firmware; never given to the buddy */
    KIND_FREE,        /* in the buddy's lists */
    KIND_POISONED,    /* taken out of use by memory failure */
    KIND_MEMMAP_SELF, /* memmap_on_memory: the block's own memmap lives here; present, not managed */
    KIND_UNPLUGGED,   /* of a virtio-mem block that is online, but not plugged in whole; present, not managed */
    KIND_ANON,
    KIND_FILE,
    KIND_SHMEM,
    KIND_SLAB,
    KIND_SLAB_RECLAIMABLE,
    KIND_PAGETABLES,
    KIND_KERNEL,
    KIND_KERNEL_STACK,
    KIND_MEMMAP,      /* memmap of hot-added memory */
    KIND_HUGETLB,     /* huge page in the pool: free there, or used when pinned/reserved by load */
    KIND_OFFLINE,     /* ballooned: PageOffline */
    KIND_PCP,         /* free, but on the list of a CPU: nobody's, and yet not counted as free */
    NR_KINDS
};

/* How isolation and migration treat a kind (kernel.md 5.4). */
enum mobility { MOBILITY_MOVABLE, MOBILITY_UNMOVABLE, MOBILITY_SKIPPED, MOBILITY_RESERVED, MOBILITY_FREE };

/*
 * A list node: 0 is none; with the top bit set a whole uniform section, by its index in the pool of sections; else one
 * head page, by its index in machine->memmap. Section 0 and the first memmap are never used.
 */
typedef uint32_t ref_t;
#define REF_SECTION 0x80000000u

struct page {
    ref_t next, prev;
    uint8_t kind;  /* enum page_kind */
    uint8_t order; /* of a head */
    uint8_t pins;  /* extra references: migration fails */
    uint8_t flags; /* PAGE_* */
};
#define PAGE_SOFT_POISON 1u /* a poisoned page that was soft-offlined */

struct list { /* nr counts chunks or folios; a uniform section counts for all of its own */
    ref_t head, tail;
    uint64_t nr;
};

/*
 * Invariants (machine_check):
 *   state has SECTION_ONLINE  =>  zone >= 0 or zones != NULL
 *   map == NULL and online    =>  uniform: kind, order valid; nr_free = kind == KIND_FREE ? pages_per_section : 0
 *   map != NULL               =>  the heads of map tile the section; nr_free = sum of 2^order over free heads;
 *                                 alike_pages = 0, or sum of 2^order over heads with (kind, order) == (alike_kind,
 *                                 alike_order); pages_per_section whenever the section could be uniform
 *   nr_isolated = pageblocks whose isolation is set
 */
struct section {
    uint32_t nr;           /* section number = pfn >> section_page_shift */
    uint32_t index;        /* in the pool of sections */
    ref_t base;            /* of map[0], while detailed */
    struct page *map;      /* in machine->memmap; NULL: uniform, or not online */
    uint8_t *blocks;       /* PB_* per pageblock; NULL: all are `mt`, none isolated */
    int16_t *zones;        /* zone index per pageblock where zones meet; else NULL */
    ref_t next, prev;      /* list links while uniform */
    uint32_t nr_free;      /* free pages in here, isolated ones too */
    uint32_t alike_pages;  /* pages of folios of at least a pageblock that look like one of them */
    uint32_t nr_poisoned;  /* stays while offline; the next onlining forgets it */
    uint32_t nr_pinned;    /* folios with pins */
    uint16_t nr_isolated;
    int16_t zone;          /* index into zones, -1: none, or several (see zones) */
    int16_t nid;           /* node it was added to */
    uint8_t state;         /* SECTION_* */
    uint8_t mt;            /* migratetype of all pageblocks while blocks == NULL */
    uint8_t kind, order;   /* while uniform and online */
    uint8_t alike_kind, alike_order;
};
#define SECTION_PRESENT 1u
#define SECTION_ONLINE 2u
#define SECTION_EARLY 4u
#define SECTION_GIANT 8u /* the kernel maps it by pages of 1 GiB */
#define SECTION_DESCENDING 16u /* while uniform and free: its chunks came to the list one by one, each before the last */
#define PB_MT 0x0fu      /* mask of the migratetype */
#define PB_ISOLATED 0x80u

struct radix { /* two levels: chunk[nr >> RADIX_SHIFT][nr & (RADIX_SIZE - 1)] */
    void ***chunk;
    size_t nr_chunks;
    uint32_t *used; /* entries per chunk */
};

/*
 * managed  = pages handed to the buddy so far and not taken back
 * managed  = free + isolated_free + sum of kind_pages[KIND_ANON ...] + kind_pages[KIND_POISONED]
 * present  = managed + kind_pages[KIND_RESERVED] + kind_pages[KIND_MEMMAP_SELF] + kind_pages[KIND_UNPLUGGED]
 * spanned  = end_pfn - start_pfn >= present; 0 for an empty zone
 * free     = sum over order and migratetype except isolate of free_area[o][mt].nr << o; isolated_free the same of isolate
 */
struct zone {
    int16_t index; /* nid * NR_ZONES + type */
    int16_t nid;
    enum zone_type type;
    uint64_t start_pfn, end_pfn; /* span, end exclusive; both 0: empty */
    uint64_t present, present_early, managed;
    struct radix sections;       /* those in it, online or on their way */
    struct list free_area[MAX_ORDERS][NR_MT];
    uint64_t free, isolated_free;
    struct list held[NR_KINDS];      /* folios by kind, from KIND_ANON on; head is the youngest */
    uint64_t kind_pages[NR_KINDS];
    uint64_t nr_isolated_blocks;
    uint64_t min_wmark, low_wmark, high_wmark, promo_wmark;
    uint64_t lowmem_reserve[NR_ZONES];
    uint64_t allocated, numa_hit, numa_miss, numa_foreign, numa_local, numa_other; /* pages, or events */
    unsigned pcp_disabled;
    uint64_t users_due; /* the kernel itself starts to use it when nr_accesses gets here; 0: it does already, or never will */
};

struct node {
    int nid;
    bool online, registered; /* registered: has a directory */
    uint64_t start_pfn, end_pfn, present;
    int *cpus;
    unsigned nr_cpus;
    int fallback[MAX_NODES]; /* its zonelist; whatever has memory is in it (machine_check), once */
    unsigned nr_fallback;
    uint64_t poisoned; /* memory_failure counters */
    uint64_t nr_blocks; /* memory blocks that lie in it, wholly or partly */
    struct zone zones[NR_ZONES];
};

enum block_state { BLOCK_ONLINE = 1, BLOCK_GOING_OFFLINE = 2, BLOCK_OFFLINE = 4, BLOCK_GOING_ONLINE = 8 };
enum online_type { TYPE_OFFLINE, TYPE_ONLINE, TYPE_KERNEL, TYPE_MOVABLE, NR_ONLINE_TYPES };

struct memory_block {
    uint64_t id;
    uint64_t serial;     /* grows with every block made: tells a block from its successor of the same number */
    enum block_state state;
    enum online_type online_type;
    bool dev_offline;    /* what `online` shows, inverted; follows state after the uevent */
    bool busy;           /* device_lock: an online or offline of it is under way */
    int16_t nid;
    int16_t zone;        /* index of the zone it went online in; -1: none or several */
    int16_t group;       /* memory group, -1: none */
    int16_t acpi_slot;   /* DIMM it belongs to, -1: none */
    uint32_t physical_node; /* how many blocks of the DIMM were bound to it before */
    int phys_device;
    bool unlinked;       /* found without a link to its node */
    int8_t removable;    /* what `removable` says until the state changes: as it was found; -1: what there is to see */
    uint8_t nr_nodes;    /* 2 where nodes meet within it */
    int16_t second_nid;
    int16_t last_zone;   /* where it was before it went offline: old kernels shrink that zone's span only at remove */
    uint32_t nr_vmemmap; /* pages of memmap_on_memory at its start */
    uint32_t nr_poisoned;
};

struct memory_group { /* a DIMM (static), or a device that grows (dynamic) */
    bool used, dynamic;
    int nid;
    uint64_t max_pages, unit_pages, present_kernel, present_movable;
};

/*
 * Invariants (machine_check): a memory_block with acpi_slot >= 0 lies within that DIMM, which is attached; physical_node
 * ascends with the blocks of one, and is at most the number of blocks of memory before it in the DIMM
 */
struct acpi_dimm { /* one PNP0C80 device */
    bool present;   /* QEMU shows something in the slot */
    bool attached;  /* the driver took it */
    bool failed;    /* add_memory failed */
    int nid;
    uint64_t start, size_bytes;
    int group;
};

/* Of a block of a virtio-mem device. The one after OFFLINE, KERNEL, MOVABLE is the same, plugged in part. */
enum vmem_state {
    VMEM_UNUSED,  /* not plugged, not added */
    VMEM_PLUGGED, /* plugged, and yet not added: it could not be unplugged */
    VMEM_OFFLINE, VMEM_OFFLINE_PARTIAL,
    VMEM_KERNEL, VMEM_KERNEL_PARTIAL,
    VMEM_MOVABLE, VMEM_MOVABLE_PARTIAL,
    VMEM_ADDED,        /* big block mode: plugged and added */
    VMEM_FAKE_OFFLINE, /* ... and about to go: what goes online of it now stays unplugged */
    NR_VMEM_STATES
};

/*
 * plugged       = unit_bytes * number of plugged units; block_bytes * number of blocks ADDED in big block mode; and
 *                 of those PLUGGED in either
 * offline_bytes = bytes of the memory blocks it has added and that are offline
 * count[s]      = number of blocks with state s
 */
struct virtio_mem {
    unsigned number; /* virtioN */
    int nid, group;
    uint64_t addr, region_bytes, usable_bytes, requested, plugged;
    uint64_t host_requested, host_usable; /* what the host wants now; the driver has seen it when !config_changed */
    bool config_changed, working, broken, left_over, removed; /* left_over: a block that is unplugged, but has not gone */
    bool big; /* big block mode */
    uint64_t block_bytes, unit_bytes; /* of its blocks: memory blocks, or larger; of what is plugged at a time */
    unsigned units;                   /* per block */
    uint64_t first;                   /* number of its first block: address / block_bytes */
    uint64_t nr, cap;                 /* blocks ever used, the lowest ones */
    uint8_t *state, *plugged_units;   /* of each block; of each unit of each block: 0 or 1 */
    uint64_t count[NR_VMEM_STATES], offline_bytes, offline_most;
};

struct resource { /* a node of the tree behind /proc/iomem; end inclusive */
    uint64_t start, end;
    char *name;
    unsigned flags;
    struct resource *parent, **child; /* children ascending */
    size_t nr_children, cap_children;
};

/* ---- the tree (sysfs_tree.c) ---- */

struct text { /* bounded printer: grows up to limit, drops what is beyond and remembers it in `full` */
    char *data;
    size_t len, cap, limit;
    bool full;
};

struct sysfs_node;
typedef int (*show_fn)(struct machine *m, const struct sysfs_node *node, struct text *out);
typedef int64_t (*store_fn)(struct machine *m, const struct sysfs_node *node, const char *buf, size_t count);

struct sysfs_attr {
    const char *name;
    uint32_t mode; /* permission bits */
    show_fn show;
    store_fn store;
    /* st_size; NULL: 4096 */
    uint64_t (*size)(struct machine *m, const struct sysfs_node *node);
    /* is the file there on this machine? NULL: always */
    bool (*visible)(struct machine *m, const struct sysfs_node *node);
    unsigned flags; /* ATTR_* */
};
#define ATTR_LARGE 1u       /* show may exceed a page: files of /proc and node files with a size of their own */
#define ATTR_EMPTY_STORE 2u /* store is called for a write of no bytes (debugfs) */
#define ATTR_DEVICE_LOCK 4u /* show waits until the block is neither going online nor offline */
#define ATTR_PROC 8u        /* a file of /proc: size 0, one read gives it all, writes are EIO */

/* A kind of directory. `id` tells which of its kind: block id, node id, slot; 0 for those that exist once. */
struct sysfs_class {
    const char *name;
    const struct sysfs_attr *attrs; /* ends with name == NULL; may be NULL */
    /* Find a child that is no attribute. 0 and *out, or -ENOENT. May be NULL. */
    int (*lookup)(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out);
    /* Call add() for every child that is no attribute. May be NULL. */
    void (*list)(struct machine *m, uint64_t id, void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                 void *ctx);
    /* Target of a link with this class (type SYSFS_LINK): print it. */
    void (*target)(struct machine *m, const struct sysfs_node *node, struct text *out);
    /* Does `id` with this serial still exist? NULL: always. */
    bool (*alive)(struct machine *m, uint64_t id, uint64_t serial);
    /* How many directories list() would name. NULL: list() is asked, which costs a walk for each stat of the directory. */
    uint64_t (*nr_dirs)(struct machine *m, uint64_t id);
    /* Virtual time in us at which a child last came or went: the directory's mtime. NULL: it never changed since boot. */
    uint64_t (*changed_us)(struct machine *m, uint64_t id);
};

enum sysfs_type { SYSFS_DIR, SYSFS_FILE, SYSFS_LINK };

struct sysfs_node { /* a value: nothing is stored for the hundred thousand files that could be opened */
    enum sysfs_type type;
    const struct sysfs_class *cls; /* of a dir: its class; of a file: its directory's; of a link: who prints its target */
    const struct sysfs_attr *attr; /* of a file */
    uint64_t id;                   /* which directory of the class */
    uint64_t aux;                  /* of a link: what it points to; of a user's file, a fixed directory: its number */
    uint64_t serial;               /* of what `id` names, checked by alive() */
    uint64_t ino;                  /* 0: computed */
};

struct rule;         /* rules.c: faults on purpose */
struct veil;
struct static_dir;   /* sysfs_tree.c: the fixed directories: /, /sys, /sys/devices ... */
struct open_file;    /* sysfs.c: handles */
struct node_attrs;   /* sysfs_tree.h: what chmod, chown, utimensat have set */

struct machine {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* broadcast when hotplug is free again or a block is no longer busy */
    bool hotplug_held;
    uint64_t hotplug_ticket;
    struct task *task; /* of the call that holds the mutex */

    bool feature[NR_FEATURES];
    int64_t config[NR_CONFIGS];
    char release[32];
    uint64_t seed, random_state;
    unsigned page_shift, section_page_shift, max_order, pageblock_order, struct_page_bytes;
    uint64_t page_bytes, pages_per_section, pageblock_pages, block_bytes, block_pages;
    unsigned sections_per_block, pageblocks_per_section, chunks_per_section;
    bool zone_exists[NR_ZONES];
    uint64_t dma_end_pfn, dma32_end_pfn;
    unsigned max_phys_bits, iomem_bits;
    bool has_phys_device, not_x86;

    /* a: record.c, fault.c, rules.c */
    uint64_t clock_us, event_seq;
    struct event *events;
    size_t nr_events, cap_events;
    char **klog_line;
    uint64_t *klog_time;
    size_t nr_klog, cap_klog, klog_dropped; /* klog_line[0] is line number klog_dropped */
    struct trace_entry *trace;
    uint64_t nr_trace; /* ever written; the ring keeps the last TRACE_RING */
    uint64_t trace_from; /* entries before this one were cleared away */
    unsigned trace_depth;
    bool trace_on, tainted;
    struct fault *faults;
    size_t nr_faults;
    struct rule *rules; /* by number */
    struct veil *veils;
    size_t nr_rules, nr_veils;
    size_t awaiting_stores; /* calls of file_await_stores() */
    size_t nr_hiding; /* rules that hide something, and veils: 0 for a walk that need not ask */
    uint64_t rule_number;
    atomic_bool ending;

    /* b, c: sysfs.c, sysfs_tree.c, sparse.c, resource.c */
    struct static_dir *dirs;
    size_t nr_dirs;
    struct open_file **files;
    size_t nr_files, lowest_free_file;
    struct node_attrs *overrides; /* a hash table by inode number */
    size_t nr_overrides, cap_overrides;
    struct user_file *user_files;
    size_t nr_user_files;
    struct radix sections, blocks;
    struct section *recent_section; /* where folio_at() looks first */
    struct radix memmaps; /* section number -> struct memmap of hot-added memory, see memory_hotplug.c */
    struct section **section_pool; /* chunks of RADIX_SIZE; index 0 unused */
    size_t nr_sections_made, nr_section_chunks;
    /* The memmaps of detailed sections, one slot of pages_per_section after another. Only address space is reserved for
     * all that there could be; what of it is accessible grows with nr_slots, and the host's memory comes with use. */
    struct page *memmap;
    size_t memmap_pages;   /* reserved */
    uint32_t spare_slot[8]; /* free ones without a head whose memory was kept, for the next section that needs one */
    unsigned nr_spare_slots;
    uint32_t *free_section_index;
    size_t nr_free_section_index;
    struct section **slots; /* slot -> section; slot 0 unused */
    size_t nr_slots, cap_slots;
    uint32_t *free_slots;
    size_t nr_free_slots;
    struct resource iomem;

    /* c: zone.c */
    enum zone_type policy_zone; /* the highest kernel zone that ever had memory */
    uint64_t nr_accesses; /* calls of show() and store(); a long text counts for several, see workload.c */
    struct node nodes[MAX_NODES];
    struct zone *zones[MAX_NODES * NR_ZONES]; /* by index */
    unsigned possible_nodes;
    int distance[MAX_NODES][MAX_NODES];
    struct boot_range *hotplug_nids;
    size_t nr_hotplug_nids;
    uint64_t min_free_kbytes;
    uint64_t mem_limit; /* bytes, of mem= */
    bool movable_node;

    /* e ... i */
    uint64_t swap_bytes, pgmigrate_success, pgmigrate_fail, pgfree, thp_migrated, compact_count;
    uint64_t hugetlb_total, hugetlb_free;
    uint64_t poisoned_pages;
    uint64_t direct_map_4k, direct_map_2m, direct_map_1g; /* kB */
    enum online_type auto_online, online_policy_unused;
    bool auto_movable;
    unsigned auto_movable_ratio;
    bool auto_movable_numa_aware;
    unsigned memmap_on_memory;
    struct memory_group *groups;
    size_t nr_groups;
    struct acpi_dimm *dimms;
    size_t nr_dimms;
    struct virtio_mem **vmems;
    size_t nr_vmems;
    unsigned nr_acpi_slots; /* that firmware describes: they have devices */
    uint64_t block_serial, nr_memory_blocks, blocks_changed_us;
    bool drivers_autoprobe[2]; /* memory, node */
    int inject_going_online, inject_going_offline;
    struct firmware_entry { uint64_t start, end; char *type; uint64_t nr; } *firmware;
    size_t nr_firmware;
    uint64_t next_firmware;
};

static inline bool has(const struct machine *m, enum feature f) { return m->feature[f]; }
static inline bool configured(const struct machine *m, enum config c) { return m->config[c] != 0; }

/* ---- record.c (a) ---- */
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
int fail(struct machine *m, int err, const char *format, ...) PRINTF(3, 4);  /* stores the reason, returns err */
void warn_on(struct machine *m, bool bad, const char *what);                 /* taints and logs; never aborts */
void klog(struct machine *m, const char *format, ...) PRINTF(2, 3);          /* one line of the kernel log */
void event_add(struct machine *m, enum event_kind kind, int err, const char *path, const char *data);
/* The kernel's uevent; env: extra "KEY=VALUE" strings, NULL-terminated, or NULL. devpath as "/devices/...". */
void uevent_add(struct machine *m, const char *action, const char *devpath, const char *subsystem, const char *const *env);
void record_destroy(struct machine *m);
void machine_lock(struct machine *m, struct task *task);
void machine_unlock(struct machine *m);
bool task_interrupted(struct machine *m);
/* Give the mutex up for a moment (and sleep for CONFIG_STEP_DELAY_US); everything must be consistent. */
void cond_resched(struct machine *m);
void wait_slice(struct machine *m, uint64_t us); /* wait for `changed`, with the mutex given up; us < 1 s */
int wait_changed(struct machine *m); /* wait for `changed` or a while; -EINTR when interrupted */
int hotplug_lock(struct machine *m); /* 0 or -EINTR */
void hotplug_unlock(struct machine *m);
void text_printf(struct text *out, const char *format, ...) PRINTF(2, 3);
void text_append(struct text *out, const char *data, size_t len);
void text_free(struct text *out);
uint64_t random_next(struct machine *m);
uint64_t random_step(uint64_t *state);           /* a generator of one's own */
uint64_t random_below(struct machine *m, uint64_t limit);
void *xcalloc(size_t n, size_t size);            /* never NULL: a process without memory ends with a message */
void *xrealloc(void *p, size_t n, size_t size);
char *xstrdup(const char *s);
void *xreserve(size_t *size);                    /* address space; *size shrinks where the process may not have it */
void xcommit(void *start, size_t size);          /* reserved space becomes zeroed memory, used as it is touched */
void xdiscard(void *start, size_t size);         /* committed memory is zeroed, and the host has it back where it can */
void xunreserve(void *start, size_t size);
struct trace_scope { struct machine *m; };
void trace_print(struct machine *m, uint64_t from, uint64_t to, struct text *out); /* see trace_text() */
void trace_enter(struct machine *m, const char *name);
void trace_leave(struct trace_scope *scope);
void trace_leaf(struct machine *m, const char *name); /* enter and leave */
#define TRACE_JOIN_(a, b) a##b
#define TRACE_NAME_(line) TRACE_JOIN_(trace_scope_, line)
#define TRACE(m, name)                                                                                         \
    trace_enter((m), (name));                                                                                  \
    __attribute__((cleanup(trace_leave))) struct trace_scope TRACE_NAME_(__LINE__) = {(m)};                    \
    (void)TRACE_NAME_(__LINE__)
#define TRACE_LEAF(m, name) trace_leaf((m), (name))

/* ---- fault.c (a) ---- */
int fault_at(struct machine *m, const char *point); /* 0, or the negative errno to fail with */
void fault_destroy(struct machine *m);

/* ---- rules.c (a) ---- */
enum rule_op { RULE_OPEN, RULE_READ, RULE_WRITE, RULE_LIST, RULE_HIDE, RULE_VANISH, RULE_UEVENT, RULE_UNPLUG };
enum uevent_effect { /* of rules for uevents, and then of rules for unplugging, which may also delay */
    UEVENT_PASS, UEVENT_DROP, UEVENT_DUPLICATE, UEVENT_REORDER, UEVENT_DELAY, UEVENT_EARLY,
    UNPLUG_NEVER, UNPLUG_REFUSE, UNPLUG_STAY, UNPLUG_TWICE
};
/* A pass: 0, or the negative errno to return instead. May give the mutex up. */
int rules_apply(struct machine *m, enum rule_op op, const char *path);
static inline int rules_at(struct machine *m, enum rule_op op, const char *path)
{
    return m->nr_rules == 0 ? 0 : rules_apply(m, op, path);
}
/* Is there to be nothing at `path`? listing: its directory is about to name it. Ask when nr_hiding != 0. */
bool rules_hidden(struct machine *m, const char *path, bool link, bool listing);
void rules_uevent(struct machine *m, const char *action, const char *devpath); /* it was recorded: is it early? */
void rules_taken(struct machine *m); /* the events recorded so far are about to be delivered */
void rules_destroy(struct machine *m);

/* ---- sysfs_tree.c, sysfs_parse.c (b), sysfs.c (c) ---- */
/* Hang a directory into the tree. Parents are made as needed. Returns nothing: paths are ours. */
void sysfs_dir_add(struct machine *m, const char *path, const struct sysfs_class *cls, uint64_t id);
void sysfs_file_add(struct machine *m, const char *dir, const struct sysfs_class *cls); /* its attrs become files of dir */
void sysfs_destroy(struct machine *m);
/* Values that lookup() and list() hand out. A power/ directory is sysfs_dir_node(&sysfs_power_class, id, serial). */
struct sysfs_node sysfs_dir_node(const struct sysfs_class *cls, uint64_t id, uint64_t serial);
struct sysfs_node sysfs_link_node(const struct sysfs_class *cls, uint64_t id, uint64_t aux, uint64_t serial);
/* "memory32" with prefix "memory" is 32; no leading zeros: there is one name for each. */
bool name_number(const char *name, const char *prefix, uint64_t *number);
/* Parsers of stored text, as the kernel's of the same purpose. */
bool sysfs_streq(const char *stored, const char *word);
int parse_u64(const char *s, uint64_t *value);            /* kstrtoull base 0: -EINVAL -ERANGE */
int parse_bool(struct machine *m, const char *s, bool *value); /* kstrtobool: -EINVAL */
int parse_s64(const char *s, int64_t *value);             /* simple_strtoll as debugfs uses it: kstrtoll base 0 */
/* lib/kobject_uevent.c kobject_synth_uevent(): parse `buf`, send; devname: "memory memory32" for the second log line
 * or NULL; send: false for devices whose events are filtered. Returns count or -EINVAL. */
int64_t uevent_synthesize(struct machine *m, const char *buf, size_t count, const char *devpath, const char *subsystem,
                          const char *devname, bool send);
/* The same for a device that adds its MODALIAS. */
int64_t uevent_synthesize_alias(struct machine *m, const char *buf, size_t count, const char *devpath,
                                const char *subsystem, const char *devname, bool send, const char *modalias);
extern const struct sysfs_class sysfs_power_class; /* power/ with its five files; dies with the directory it is in */
uint32_t sysfs_name_hash(const char *name);        /* kernfs_name_hash(): the order of readdir */

/* ---- sparse.c (b); its shortest functions are in inline.h ---- */
struct section *section_add(struct machine *m, uint64_t section_nr, int nid);
void section_remove(struct machine *m, struct section *s);
/* Give a uniform section its memmap. Its folios take its place in `list` (NULL: it is on none): free chunks ascending,
 * held folios descending, because the youngest stands first. A section that is neither gets a blank memmap. */
void section_detail(struct machine *m, struct section *s, struct list *list);
void section_drop_map(struct machine *m, struct section *s); /* free it; the caller has taken all pages off all lists */
struct folio { /* a head page, wherever its section keeps it */
    struct section *s;
    struct page *page; /* NULL: in a uniform section */
    uint64_t pfn, offset; /* of the head; offset within the section */
    unsigned kind, order, pins;
};
bool folio_at(struct machine *m, uint64_t pfn, struct folio *folio); /* the folio that holds pfn; false: not online */
bool folio_next(struct machine *m, struct folio *folio); /* the one behind it, also where it has been freed meanwhile */
uint64_t pfn_of_ref(struct machine *m, ref_t ref);
void radix_set(struct radix *r, uint64_t nr, void *value);
/* The smallest number >= from in use and its value, or false. Skips empty chunks. */
bool radix_next(const struct radix *r, uint64_t from, uint64_t *nr, void **value);
bool radix_prev(const struct radix *r, uint64_t from, uint64_t *nr, void **value); /* largest <= from */
void radix_free(struct radix *r);
void sparse_destroy(struct machine *m);

/* ---- resource.c (b) ---- */
/* As __request_region: 0, or -EEXIST. busy_only: descend into non-busy resources that contain the range. */
int resource_request(struct machine *m, uint64_t start, uint64_t end, const char *name, unsigned flags, bool busy_only);
void resource_merge(struct machine *m, uint64_t start); /* what is claimed there, with neighbours of its name */
void resource_release(struct machine *m, uint64_t start, uint64_t end); /* may split or trim what it was part of */
int resource_insert(struct machine *m, const struct boot_resource *list, size_t nr); /* the boot tree */
/* Pages of busy System RAM in a range, as walk_system_ram_range() counts them. */
uint64_t resource_ram_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void resource_print(struct machine *m, struct text *out); /* /proc/iomem */
void resource_destroy(struct machine *m);

/* ---- pageblock.c (c) ---- */
unsigned pageblock_mt(struct machine *m, uint64_t pfn); /* what free lists go by: MT_ISOLATE when isolated */
void pageblock_set_mt(struct machine *m, uint64_t pfn, unsigned mt);
bool pageblock_isolated(struct machine *m, uint64_t pfn);
/* mt_after: the migratetype when isolation ends; NR_MT: what it was before. */
void pageblock_set_isolated(struct machine *m, uint64_t pfn, bool isolated, unsigned mt_after);
void pageblock_set_all(struct machine *m, struct section *s, unsigned mt); /* the whole section, not isolated */
/* A whole section that has no blocks array: isolate or un-isolate at once. */
void pageblock_set_section_isolated(struct machine *m, struct section *s, bool isolated, unsigned mt_after);
bool pageblock_all_alike(struct machine *m, const struct section *s); /* one migratetype, none isolated */
void pageblock_fold(struct machine *m, struct section *s);            /* drop `blocks` when all alike */

/* ---- zone.c (c) ---- */
struct zone *zone_of(struct machine *m, uint64_t pfn); /* of an online section; NULL for none */
const char *zone_name(const struct zone *z);
const char *zone_type_name(enum zone_type type);
bool zone_is_empty(const struct zone *z);
bool zone_intersects(const struct zone *z, uint64_t start_pfn, uint64_t nr_pages);
uint64_t zone_spanned(const struct zone *z);
bool zone_populated(const struct zone *z); /* present pages */
void zone_grow_span(struct machine *m, struct zone *z, uint64_t start_pfn, uint64_t nr_pages);
void zone_shrink_span(struct machine *m, struct zone *z, uint64_t start_pfn, uint64_t nr_pages);
void zone_track_section(struct machine *m, struct section *s, bool joins); /* or leaves the zones it names */
void zone_destroy_all(struct machine *m);
void node_update_span(struct machine *m, struct node *node);
struct zone *zone_default_kernel(struct machine *m, int nid, uint64_t start_pfn, uint64_t nr_pages);
struct zone *zone_movable(struct machine *m, int nid);
/* zone_for_pfn_range(): which zone a range joins. group may be NULL. */
struct zone *zone_for_range(struct machine *m, enum online_type type, int nid, struct memory_group *group,
                            uint64_t start_pfn, uint64_t nr_pages);
void zone_update_watermarks(struct machine *m);       /* init_per_zone_wmark_min() and what hangs on it */
int node_of_address(const struct machine *m, uint64_t address); /* of memory that is added without saying which */
/* build_all_zonelists(), with its lines in the log; a node that lost its last memory just now counts if `leaving`, else -1 */
void zone_build_zonelists(struct machine *m, int leaving);
void zone_print_demotion(struct machine *m); /* to where nodes demote pages: the log, when other nodes have memory */
void zone_build_own_zonelist(struct machine *m, struct node *node); /* ... of a node that is added, for itself alone */
uint64_t zone_pcp_batch(const struct machine *m, const struct zone *z); /* pages that CPUs' lists take at once; 0: 1 */
uint64_t total_managed(struct machine *m);
uint64_t total_free(struct machine *m);

/* ---- virtio_mem_state.c (c) ---- */
struct virtio_mem *vmem_of(struct machine *m, uint64_t pfn); /* the device whose region it is in; NULL: none */
enum vmem_state vmem_state(const struct virtio_mem *vm, uint64_t slot);
void vmem_set_state(struct virtio_mem *vm, uint64_t slot, enum vmem_state state);
uint64_t vmem_use_next(struct virtio_mem *vm); /* one more block is used: its slot */
bool vmem_may_add(const struct virtio_mem *vm, uint64_t bytes); /* is little enough offline? */
bool vmem_owns(struct machine *m, uint64_t pfn); /* is it in a block that a device has added? */
/* From pfn on, up to where are all pages plugged, or none? Plugged is what is of no device. */
uint64_t vmem_run(struct machine *m, uint64_t pfn, uint64_t end_pfn, bool *plugged);
int vmem_going_online(struct machine *m, uint64_t start_pfn); /* of a memory block: 0 or -EPERM */
void vmem_online(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, bool movable);
void vmem_offline(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void vmem_destroy_all(struct machine *m);

/* ---- buddy.c (d) ---- */
/* Take 2^order pages from this zone for this migratetype; false: none. The pages become one folio of `kind`. */
bool buddy_alloc(struct machine *m, struct zone *z, unsigned order, unsigned mt, unsigned kind, bool nofragment,
                 uint64_t *pfn);
void buddy_free(struct machine *m, const struct folio *folio); /* a held folio goes back to the lists */
/* The same in two steps, so that neighbours can go back as one: between the two the pages are nobody's, so the mutex
 * must not be given up, nor anything be checked. */
void buddy_vacate(struct machine *m, const struct folio *folio);
void buddy_free_vacated(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void buddy_free_section(struct machine *m, struct section *s); /* a whole held uniform section at once */
/* Hand pages over for the first time, ascending, in the largest aligned chunks; managed grows. A whole section at once
 * when all of it is given. */
void buddy_give_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, bool to_tail);
/* Linux: __offline_isolated_pages(): all free chunks of a range leave the lists. */
void buddy_take_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
uint64_t buddy_move_block(struct machine *m, uint64_t pfn, unsigned mt); /* move_freepages_block: pages moved */
/* Isolate a plain uniform section (one migratetype, nothing in it that cannot move) or end that, all at once. */
void buddy_isolate_section(struct machine *m, struct section *s, bool isolated, unsigned mt_after);
/* Isolation of a section has ended: if it is alike again it becomes uniform. */
void buddy_settle(struct machine *m, struct section *s);
void buddy_keep(struct machine *m, uint64_t start_pfn, uint64_t nr_pages); /* free pages move to a CPU's own list ... */
void buddy_drain(struct machine *m, struct zone *z);                       /* ... and those of a zone back */
bool buddy_take_page(struct machine *m, uint64_t pfn); /* take_page_off_buddy: one free page becomes KIND_POISONED */
/* 2^order pages out of [start_pfn, end_pfn), lowest first, whatever their migratetype, but none that is isolated. */
bool buddy_alloc_range(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, unsigned order, unsigned kind,
                       uint64_t *pfn);
/* A whole uniform free section at once, as folios of this kind and order, where single allocations would take the same
 * pages in the same order; false: they would not. */
bool buddy_alloc_section(struct machine *m, struct zone *z, unsigned order, unsigned mt, unsigned kind);
/* For taking away a part of a section. A free chunk that lies across pfn becomes several, none of which does ... */
void buddy_split_at(struct machine *m, uint64_t pfn);
void buddy_rejoin(struct machine *m, uint64_t pfn); /* ... and the free chunk at pfn is merged with its buddies again */
/* Free pages that are whole pageblocks become folios of this kind, one for each; managed shrinks. */
void buddy_seize(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned kind);
void buddy_set_kind(struct machine *m, struct folio *folio, unsigned kind); /* a held folio changes hands */
void buddy_pin(struct machine *m, struct folio *folio, int delta);
void folio_link(struct machine *m, struct section *s, uint64_t offset, unsigned kind, unsigned order); /* reserved, hole */
void folio_unlink(struct machine *m, struct folio *folio); /* and back: neither held nor free any more */

/* ---- workload.c (e) ---- */
const char *kind_name(unsigned kind);
int kind_by_name(const char *name); /* -1: unknown */
unsigned kind_mobility(unsigned kind);
unsigned kind_migratetype(unsigned kind);
/* alloc_pages(): zonelists, watermarks, fallback. highest: the highest zone allowed; nid: the preferred node;
 * nodemask: nodes allowed (bit per nid), 0: all. 0 or -ENOMEM. */
int pages_alloc(struct machine *m, unsigned kind, unsigned order, enum zone_type highest, int nid, uint64_t nodemask,
                uint64_t *pfn);
void hugetlb_count(struct machine *m, unsigned kind, int64_t nr_pages); /* the pool grows or shrinks, if it is the kind */
void pages_free(struct machine *m, uint64_t pfn);
int load_boot(struct machine *m, const struct machine_config *config);
void load_expect_users(struct machine *m, struct zone *z);  /* the zone has got its first pages */
void load_first_users(struct machine *m);  /* to be called before it matters where they are */
void load_slabs_shrunk(struct machine *m); /* they are about to come */
uint64_t memory_available(struct machine *m);              /* MemAvailable, pages */

/* ---- page_isolation.c (f) ---- */
struct unmovable { uint64_t pfn, head_pfn; unsigned kind; };
int isolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct unmovable *why); /* 0, -EBUSY */
void undo_isolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned mt);
/* Pageblocks of one section, or of whole sections, whatever else is in them; nothing is logged. 0, -EBUSY. */
int isolate_part(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void undo_isolate_part(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
int test_isolated(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void dump_page(struct machine *m, uint64_t pfn, const char *reason);

/* ---- migrate.c (g) ---- */
/* First folio at or after start that can move. 0 and *pfn, -ENOENT: none, -EBUSY: a page that never will. */
int scan_movable(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, uint64_t *pfn);
/* One pass over a range: every folio that can move is moved. Returns folios left behind. `told`: failures
 * logged; NULL: none is, and the pages may stay on their node. */
uint64_t migrate_range(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, unsigned *told);
int dissolve_range(struct machine *m, uint64_t start_pfn, uint64_t end_pfn); /* free huge pages go back to the buddy */

/* ---- contig.c (h) ---- */
/* Pageblocks that are online are emptied and become KIND_UNPLUGGED. 0; -EBUSY, -ENOMEM: as before. */
int contig_take(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void contig_give(struct machine *m, uint64_t start_pfn, uint64_t nr_pages); /* they are free again */

/* ---- memory_hotplug.c (h): pfn ranges ---- */
/* The steps of adding memory, in their order; each failure leaves nothing of itself. */
int range_claim(struct machine *m, uint64_t start, uint64_t size_bytes, const char *name); /* register_memory_resource() */
void range_unclaim(struct machine *m, uint64_t start, uint64_t size_bytes);
int range_check(struct machine *m, uint64_t start, uint64_t size_bytes);   /* check_hotplug_memory_range() */
/* arch_add_memory(): sections and their memmap. self_memmap: it lives in the memory itself, nothing is allocated. */
int range_add(struct machine *m, int nid, uint64_t start, uint64_t size_bytes, bool self_memmap,
              int (*added)(struct machine *m, uint64_t section_nr, void *ctx), void *ctx); /* NULL, or told of each */
void range_remove(struct machine *m, uint64_t start, uint64_t size_bytes); /* arch_remove_memory() */

int memory_group_new(struct machine *m, struct memory_group group); /* its number; -1: this kernel has no groups */
void memmap_destroy_all(struct machine *m);
void memory_notify(struct machine *m); /* a notification that nobody can refuse */
bool memmap_on_memory_wanted(struct machine *m, uint64_t size_bytes);
uint64_t vmemmap_pages(const struct machine *m); /* of a block's memmap that lives in the block itself */
/* nr_vmemmap: pages at the start that hold the range's own memmap (memmap_on_memory). */
int online_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z, struct memory_group *group,
                 uint64_t nr_vmemmap);
int offline_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z, struct memory_group *group,
                  uint64_t nr_vmemmap);

/* ---- memory_block.c (l) ---- */
struct memory_block *block_get(struct machine *m, uint64_t id);
int block_online(struct machine *m, struct memory_block *b);   /* device_online(): 1 when it was online */
int block_offline(struct machine *m, struct memory_block *b);  /* device_offline(): 1 when it was offline */
/* __add_memory() and __remove_memory(), with the hotplug lock held. group: memory group or -1. */
int memory_add_locked(struct machine *m, int nid, uint64_t start, uint64_t size_bytes, int16_t group, bool on_memory);
/* The same for a driver that manages the memory: it has a name of its own in /proc/iomem, where neighbours merge. */
int memory_add_managed(struct machine *m, int nid, uint64_t start, uint64_t size_bytes, int16_t group, const char *name);
int memory_remove_locked(struct machine *m, uint64_t start, uint64_t size_bytes);
struct memory_block *block_create(struct machine *m, uint64_t id, int nid);
void block_destroy_all(struct machine *m);
extern const struct sysfs_class memory_block_class; /* directories memoryN */
extern const char *const online_type_words[NR_ONLINE_TYPES];
int online_type_from_word(const char *buf); /* enum online_type or -EINVAL */

/* ---- memory_root.c (m) ---- */
void memory_root_register(struct machine *m); /* hangs /sys/devices/system/memory into the tree */

/* ---- memory_tree.c (k) ---- */
void memory_tree_register(struct machine *m); /* bus/memory, module parameters, firmware/memmap, error injection */
void firmware_map_add(struct machine *m, uint64_t start, uint64_t end, const char *type);
void firmware_map_remove(struct machine *m, uint64_t start, uint64_t end);
void firmware_map_destroy(struct machine *m);

/* ---- memory_failure.c (h) ---- */
int page_soft_offline(struct machine *m, uint64_t pfn);
int page_hard_offline(struct machine *m, uint64_t pfn);

/* ---- node.c (k) ---- */
void node_register(struct machine *m);
void node_device_add(struct machine *m, int nid);    /* directory and uevent */
void node_device_remove(struct machine *m, int nid);
void node_mask_print(struct machine *m, struct text *out, uint64_t mask);

/* ---- procfs.c (j) ---- */
void procfs_register(struct machine *m);
void procfs_node_meminfo(struct machine *m, int nid, struct text *out);
void procfs_node_vmstat(struct machine *m, int nid, struct text *out);

/* ---- acpi_tree.c (m) ---- */
void acpi_register(struct machine *m); /* hangs the PNP0C80 devices into the tree */

/* ---- boot.c (m) ---- */
int boot_check_blocks(struct machine *m, const struct machine_config *config); /* -EINVAL: lists that cannot be */
void boot_memory(struct machine *m, const struct machine_config *config);
void boot_offline_blocks(struct machine *m, const struct machine_config *config); /* once pages can be allocated */

#include "mm/inline.h"

#endif

/*
 * mm.h - page frames: sections, zones, nodes, free lists, and the prototypes of mm/.
 *
 * Owns: the structs of memory with their invariants, which machine_check() walks. Does not own:
 * memory blocks (devices.h), any text of a file.
 */
#ifndef FAKESYSFS_MM_H
#define FAKESYSFS_MM_H

#include "base/base.h"
#include "base/memory_names.h"

enum {
    MAX_ORDERS = 14, /* largest order any architecture uses, plus one */
    MAX_NODES = 64,
    MAX_LISTENERS = 4, /* drivers that hear of memory going online and offline */
    RADIX_SHIFT = 10,  /* sections and blocks are found by a two-level table of 2^10 each */
    RADIX_SIZE = 1 << RADIX_SHIFT,
};

#define X(name, word) ZONE_##name,
enum zone_type { FAKESYSFS_ZONES(X) NR_ZONES };
#undef X
#define X(name, word) MT_##name,
enum migratetype { FAKESYSFS_MIGRATETYPES(X) NR_MT };
#undef X

/* Who holds a page. Order matters only in that lists of folios exist from KIND_ANON on. */
enum page_kind {
    KIND_INSIDE,   /* not a head: the page belongs to the folio or chunk that begins before it */
    KIND_HOLE,     /* no RAM here */
    KIND_RESERVED, /* PageReserved: kernel image, boot memmap, firmware; never given to the buddy */
    KIND_FREE,     /* in the buddy's lists */
    KIND_POISONED, /* taken out of use by memory failure */
    KIND_MEMMAP_SELF, /* memmap_on_memory: the block's own memmap lives here; present, not managed
                       */
    KIND_UNPLUGGED, /* of a virtio-mem block that is online, but not plugged in whole; present, not
                       managed */
    KIND_ANON,
    KIND_FILE,
    KIND_SHMEM,
    KIND_SLAB,
    KIND_SLAB_RECLAIMABLE,
    KIND_PAGETABLES,
    KIND_KERNEL,
    KIND_KERNEL_STACK,
    KIND_MEMMAP,  /* memmap of hot-added memory */
    KIND_HUGETLB, /* huge page in the pool: free there, or used when pinned/reserved by load */
    KIND_OFFLINE, /* ballooned: PageOffline */
    KIND_PCP,     /* free, but on the list of a CPU: nobody's, and yet not counted as free */
    NR_KINDS
};

/* How isolation and migration treat a kind. */
enum mobility {
    MOBILITY_MOVABLE,
    MOBILITY_UNMOVABLE,
    MOBILITY_SKIPPED,
    MOBILITY_RESERVED,
    MOBILITY_FREE
};

/*
 * A list node: 0 is none; with the top bit set a whole uniform section, by its index in the pool of
 * sections; else one head page, by its index in machine->memmap. Section 0 and the first memmap are
 * never used.
 */
typedef uint32_t ref_t;
#define REF_SECTION 0x80000000u

struct page {
    ref_t next, prev;
    uint8_t kind;  /* enum page_kind */
    uint8_t order; /* of a head */
    uint8_t pins;  /* extra references: migration fails */
    uint8_t mt;    /* of a free head: migratetype of the list it is on */
};

struct list { /* nr counts chunks or folios; a uniform section counts for all of its own */
    ref_t head, tail;
    uint64_t nr;
};

/*
 * Invariants (machine_check):
 *   state has SECTION_ONLINE  =>  zone >= 0 or zones != NULL
 *   map == NULL and online    =>  uniform: kind, order valid; nr_free = kind == KIND_FREE ?
 * pages_per_section : 0 map != NULL               =>  the heads of map tile the section; nr_free =
 * sum of 2^order over free heads; alike_pages = 0, or sum of 2^order over heads with (kind, order)
 * == (alike_kind, alike_order); pages_per_section whenever the section could be uniform nr_isolated
 * = pageblocks whose isolation is set
 */
struct section {
    uint32_t nr;          /* section number = pfn >> section_page_shift */
    uint32_t index;       /* in the pool of sections */
    ref_t base;           /* of map[0], while detailed */
    struct page *map;     /* in machine->memmap; NULL: uniform, or not online */
    uint8_t *blocks;      /* PB_* per pageblock; NULL: all are `mt`, none isolated */
    int16_t *zones;       /* zone index per pageblock where zones meet; else NULL */
    ref_t next, prev;     /* list links while uniform */
    uint32_t nr_free;     /* free pages in here, isolated ones too */
    uint32_t alike_pages; /* pages of folios of at least a pageblock that look like one of them */
    uint32_t nr_poisoned; /* stays while offline; the next onlining forgets it */
    uint32_t nr_pinned;   /* folios with pins */
    uint16_t nr_isolated;
    int16_t zone;        /* index into zones, -1: none, or several (see zones) */
    int16_t nid;         /* node it was added to */
    uint8_t state;       /* SECTION_* */
    uint8_t mt;          /* migratetype of all pageblocks while blocks == NULL */
    uint8_t kind, order; /* while uniform and online */
    uint8_t alike_kind, alike_order;
};
#define SECTION_PRESENT 1u
#define SECTION_ONLINE 2u
#define SECTION_EARLY 4u
#define SECTION_GIANT 8u /* the kernel maps it by pages of 1 GiB */
#define SECTION_DESCENDING \
    16u /* while uniform and free: its chunks came to the list one by one, each before the last */
#define PB_MT 0x0fu /* mask of the migratetype */
#define PB_ISOLATED 0x80u

struct radix { /* two levels: chunk[nr >> RADIX_SHIFT][nr & (RADIX_SIZE - 1)] */
    void ***chunk;
    size_t nr_chunks;
    uint32_t *used; /* entries per chunk */
};

/*
 * managed  = pages handed to the buddy so far and not taken back
 * managed  = free + isolated_free + sum of kind_pages[KIND_ANON ...] + kind_pages[KIND_POISONED]
 * present  = managed + kind_pages[KIND_RESERVED] + kind_pages[KIND_MEMMAP_SELF] +
 * kind_pages[KIND_UNPLUGGED] spanned  = end_pfn - start_pfn >= present; 0 for an empty zone free =
 * sum over order and migratetype except isolate of free_area[o][mt].nr << o; isolated_free the same
 * of isolate
 */
struct zone {
    int16_t index; /* nid * NR_ZONES + type */
    int16_t nid;
    enum zone_type type;
    uint64_t start_pfn, end_pfn; /* span, end exclusive; both 0: empty */
    uint64_t present, present_early, managed;
    struct radix sections; /* those in it, online or on their way */
    struct list free_area[MAX_ORDERS][NR_MT];
    uint64_t free, isolated_free;
    struct list held[NR_KINDS]; /* folios by kind, from KIND_ANON on; head is the youngest */
    uint64_t kind_pages[NR_KINDS];
    uint64_t nr_isolated_blocks;
    uint64_t min_wmark, low_wmark, high_wmark, promo_wmark;
    uint64_t lowmem_reserve[NR_ZONES];
    uint64_t allocated, numa_hit, numa_miss, numa_foreign, numa_local,
        numa_other; /* pages, or events */
    unsigned pcp_disabled;
    uint64_t users_due; /* the kernel itself starts to use it when nr_accesses gets here; 0: it does
                           already, or never will */
};

enum mf_result { MF_IGNORED, MF_FAILED, MF_DELAYED, MF_RECOVERED, NR_MF_RESULTS };

struct node {
    int nid;
    bool online, registered; /* registered: has a directory */
    uint64_t start_pfn, end_pfn, present;
    int *cpus;
    unsigned nr_cpus;
    int fallback[MAX_NODES]; /* its zonelist; whatever has memory is in it (machine_check), once */
    unsigned nr_fallback;
    uint64_t
        failures[NR_MF_RESULTS]; /* bad pages, by what became of them; of hard offlining only */
    uint64_t nr_blocks;          /* memory blocks that lie in it, wholly or partly */
    struct zone zones[NR_ZONES];
};

enum online_type { TYPE_OFFLINE, TYPE_ONLINE, TYPE_KERNEL, TYPE_MOVABLE, NR_ONLINE_TYPES };

struct memory_group { /* a DIMM (static), or a device that grows (dynamic) */
    bool used, dynamic;
    int nid;
    uint64_t max_pages, unit_pages, present_kernel, present_movable;
};

/*
 * What a driver wants to know of memory that goes online and offline, and has a say in. Linux:
 * register_memory_notifier(), set_online_page_callback().
 */
struct memory_listener {
    int (*going_online)(struct machine *m, uint64_t start_pfn); /* 0, or -errno to refuse */
    void (*online)(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, bool movable);
    void (*offline)(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
    /* Are pages given to the buddy (*give), or held back, and up to where is that the same from pfn
     * on? 0: this memory is not the driver's. */
    uint64_t (*online_run)(struct machine *m, uint64_t pfn, uint64_t end_pfn, bool *give);
};

struct resource { /* a node of the tree behind /proc/iomem; end inclusive */
    uint64_t start, end;
    char *name;
    unsigned flags;
    struct resource *parent, **child; /* children ascending */
    size_t nr_children, cap_children;
};

/* ---- sparse.c; its shortest functions are in inline.h ---- */
struct section *section_add(struct machine *m, uint64_t section_nr, int nid);
void section_remove(struct machine *m, struct section *s);
/* Give a uniform section its memmap. Its folios take its place in `list` (NULL: it is on none):
 * free chunks ascending, held folios descending, because the youngest stands first. A section that
 * is neither gets a blank memmap. */
/* Is there memory for an operation that details at most nr sections? 0, or -ENOMEM with a reason:
 * then nothing may be changed. As host_memory_ready(), which it asks too. */
int sections_ready(struct machine *m, uint64_t nr);
/* Must pages not be allocated, because the last memmaps are for operations that free some? */
bool sections_short(struct machine *m);
void section_detail(struct machine *m, struct section *s, struct list *list);
void section_drop_map(
    struct machine *m,
    struct section *s); /* free it; the caller has taken all pages off all lists */
struct folio {          /* a head page, wherever its section keeps it */
    struct section *s;
    struct page *page;    /* NULL: in a uniform section */
    uint64_t pfn, offset; /* of the head; offset within the section */
    unsigned kind, order, pins;
};
bool folio_at(struct machine *m, uint64_t pfn,
              struct folio *folio); /* the folio that holds pfn; false: not online */
bool folio_next(
    struct machine *m,
    struct folio *folio); /* the one behind it, also where it has been freed meanwhile */
uint64_t pfn_of_ref(struct machine *m, ref_t ref);
void radix_set(struct machine *m, struct radix *r, uint64_t nr, void *value);
/* The smallest number >= from in use and its value, or false. Skips empty chunks. */
bool radix_next(const struct radix *r, uint64_t from, uint64_t *nr, void **value);
bool radix_prev(const struct radix *r, uint64_t from, uint64_t *nr,
                void **value); /* largest <= from */
void radix_free(struct radix *r);
void sparse_destroy(struct machine *m);

/* ---- resource.c ---- */
/* As __request_region: 0, or -EEXIST. busy_only: descend into non-busy resources that contain the
 * range. */
int resource_request(struct machine *m, uint64_t start, uint64_t end, const char *name,
                     unsigned flags, bool busy_only);
void resource_merge(struct machine *m,
                    uint64_t start); /* what is claimed there, with neighbours of its name */
void resource_release(struct machine *m, uint64_t start,
                      uint64_t end); /* may split or trim what it was part of */
int resource_insert(struct machine *m, const struct boot_resource *list,
                    size_t nr); /* the boot tree */
/* Pages of busy System RAM in a range, as walk_system_ram_range() counts them. */
uint64_t resource_ram_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void resource_print(struct machine *m, struct text *out); /* /proc/iomem */
void resource_destroy(struct machine *m);

/* ---- pageblock.c ---- */
unsigned pageblock_mt(struct machine *m,
                      uint64_t pfn); /* what free lists go by: MT_ISOLATE when isolated */
void pageblock_set_mt(struct machine *m, uint64_t pfn, unsigned mt);
bool pageblock_isolated(struct machine *m, uint64_t pfn);
/* mt_after: the migratetype when isolation ends; NR_MT: what it was before. */
void pageblock_set_isolated(struct machine *m, uint64_t pfn, bool isolated, unsigned mt_after);
void pageblock_set_all(struct machine *m, struct section *s,
                       unsigned mt); /* the whole section, not isolated */
/* A whole section that has no blocks array: isolate or un-isolate at once. */
void pageblock_set_section_isolated(struct machine *m, struct section *s, bool isolated,
                                    unsigned mt_after);
const char *migratetype_name(unsigned mt);
void pageblock_fold(struct machine *m, struct section *s); /* drop `blocks` when all alike */

/* ---- zone.c ---- */
struct zone *zone_of(struct machine *m, uint64_t pfn); /* of an online section; NULL for none */
const char *zone_name(const struct zone *z);
const char *zone_type_name(enum zone_type type);
int zone_type_by_name(const char *name); /* in any case; -1: no zone is called so */
bool zone_is_empty(const struct zone *z);
bool zone_intersects(const struct zone *z, uint64_t start_pfn, uint64_t nr_pages);
uint64_t zone_spanned(const struct zone *z);
bool zone_populated(const struct zone *z); /* present pages */
void zone_grow_span(struct machine *m, struct zone *z, uint64_t start_pfn, uint64_t nr_pages);
void zone_shrink_span(struct machine *m, struct zone *z, uint64_t start_pfn, uint64_t nr_pages);
void zone_track_section(struct machine *m, struct section *s,
                        bool joins); /* or leaves the zones it names */
void zone_destroy_all(struct machine *m);
void node_update_span(struct machine *m, struct node *node);
/* zone_for_pfn_range(): which zone a range joins. group may be NULL. */
struct zone *zone_for_range(struct machine *m, enum online_type type, int nid,
                            struct memory_group *group, uint64_t start_pfn, uint64_t nr_pages);
void zone_update_watermarks(struct machine *m); /* init_per_zone_wmark_min() and what hangs on it */
void zone_set_min_free(struct machine *m, uint64_t kbytes); /* as a user sets it */
bool node_has_memory(const struct node *node);              /* N_MEMORY: some of it is online */
int node_of_address(struct machine *m,
                    uint64_t address); /* of memory that is added without saying which */
/* build_all_zonelists(), with its lines in the log; a node that lost its last memory just now
 * counts if `leaving`, else -1 */
void zone_build_zonelists(struct machine *m, int leaving);
void zone_print_demotion(
    struct machine *m); /* to where nodes demote pages: the log, when other nodes have memory */
void zone_build_own_zonelist(struct machine *m,
                             struct node *node); /* ... of a node that is added, for itself alone */
uint64_t zone_pcp_batch(const struct machine *m,
                        const struct zone *z); /* pages that CPUs' lists take at once; 0: 1 */
uint64_t total_managed(struct machine *m);
uint64_t total_free(struct machine *m);

/* ---- buddy.c, buddy_alloc.c, buddy_section.c ---- */
/* Take 2^order pages from this zone for this migratetype; false: none. The pages become one folio
 * of `kind`. */
bool buddy_alloc(struct machine *m, struct zone *z, unsigned order, unsigned mt, unsigned kind,
                 bool nofragment, uint64_t *pfn);
void buddy_free(struct machine *m,
                const struct folio *folio); /* a held folio goes back to the lists */
/* The same in two steps, so that neighbours can go back as one: between the two the pages are
 * nobody's, so the mutex must not be given up, nor anything be checked. */
void buddy_vacate(struct machine *m, const struct folio *folio);
void buddy_free_vacated(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void buddy_free_section(struct machine *m,
                        struct section *s); /* a whole held uniform section at once */
/* Hand pages over for the first time, ascending, in the largest aligned chunks; managed grows. A
 * whole section at once when all of it is given. */
void buddy_give_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, bool to_tail);
/* Linux: __offline_isolated_pages(): all free chunks of a range leave the lists. */
void buddy_take_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
uint64_t buddy_move_block(struct machine *m, uint64_t pfn,
                          unsigned mt); /* move_freepages_block: pages moved */
/* Isolate a plain uniform section (one migratetype, nothing in it that cannot move) or end that,
 * all at once. */
void buddy_isolate_section(struct machine *m, struct section *s, bool isolated, unsigned mt_after);
/* Isolation of a section has ended: if it is alike again it becomes uniform. */
void buddy_settle(struct machine *m, struct section *s);
void buddy_keep(struct machine *m, uint64_t start_pfn,
                uint64_t nr_pages);                  /* free pages move to a CPU's own list ... */
void buddy_drain(struct machine *m, struct zone *z); /* ... and those of a zone back */
bool buddy_take_page(struct machine *m,
                     uint64_t pfn); /* take_page_off_buddy: one free page becomes KIND_POISONED */
/* 2^order pages out of [start_pfn, end_pfn), lowest first, whatever their migratetype, but none
 * that is isolated. */
bool buddy_alloc_range(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, unsigned order,
                       unsigned kind, uint64_t *pfn);
/* A whole uniform free section at once, as folios of this kind and order, where single allocations
 * would take the same pages in the same order; false: they would not. */
bool buddy_alloc_section(struct machine *m, struct zone *z, unsigned order, unsigned mt,
                         unsigned kind);
/* For taking away a part of a section. A free chunk that lies across pfn becomes several, none of
 * which does ... */
void buddy_split_at(struct machine *m, uint64_t pfn);
void buddy_rejoin(
    struct machine *m,
    uint64_t pfn); /* ... and the free chunk at pfn is merged with its buddies again */
/* Free pages that are whole pageblocks become folios of this kind, one for each; managed shrinks.
 */
void buddy_seize(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned kind);
void buddy_pin(struct machine *m, struct folio *folio, int delta);
void folio_link(struct machine *m, struct section *s, uint64_t offset, unsigned kind,
                unsigned order); /* reserved, hole */
void folio_unlink(struct machine *m,
                  struct folio *folio); /* and back: neither held nor free any more */

/* ---- page_kind.c ---- */
struct kind_info {
    const char *name;
    uint8_t mobility, mt, highest; /* enum mobility, migratetype, highest zone */
    int8_t order;                  /* of one allocation; -1: a pageblock */
};
extern const struct kind_info page_kinds[NR_KINDS];
extern const char pinned_name[]; /* KIND_ANON with a reference that stays: no kind of its own */
const char *kind_name(unsigned kind);
int kind_by_name(const char *name); /* -1: unknown */
unsigned kind_mobility(unsigned kind);
unsigned kind_order(const struct machine *m, unsigned kind); /* of one allocation */

/* ---- page_alloc.c ---- */
/* alloc_pages(): zonelists, watermarks, fallback. highest: the highest zone allowed; nid: the
 * preferred node; nodemask: nodes allowed (bit per nid), 0: all. 0 or -ENOMEM. */
int pages_alloc(struct machine *m, unsigned kind, unsigned order, enum zone_type highest, int nid,
                uint64_t nodemask, uint64_t *pfn);
void pages_free(struct machine *m, uint64_t pfn);
uint64_t memory_available(struct machine *m); /* MemAvailable, pages */

/* ---- load.c ---- */
void hugetlb_count(struct machine *m, unsigned kind,
                   int64_t nr_pages); /* the pool grows or shrinks, if it is the kind */

/* ---- boot_load.c ---- */
int load_boot(struct machine *m, const struct machine_config *config);
void load_expect_users(struct machine *m, struct zone *z); /* the zone has got its first pages */
void load_first_users(struct machine *m);  /* to be called before it matters where they are */
void load_slabs_shrunk(struct machine *m); /* they are about to come */

/* ---- page_isolation.c ---- */
struct unmovable {
    uint64_t pfn, head_pfn;
    unsigned kind;
};
int isolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages,
                  struct unmovable *why); /* 0, -EBUSY */
void undo_isolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned mt);
/* Pageblocks of one section, or of whole sections, whatever else is in them; nothing is logged. 0,
 * -EBUSY. */
int isolate_part(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void undo_isolate_part(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
int test_isolated(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void dump_page(struct machine *m, uint64_t pfn, const char *reason);

/* ---- migrate.c ---- */
/* First folio at or after start that can move. 0 and *pfn, -ENOENT: none, -EBUSY: a page that never
 * will. */
int scan_movable(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, uint64_t *pfn);
/* One pass over a range: every folio that can move is moved. Returns folios left behind. `told`:
 * failures logged; NULL: none is, and the pages may stay on their node. */
uint64_t migrate_range(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, unsigned *told);
int dissolve_range(struct machine *m, uint64_t start_pfn,
                   uint64_t end_pfn); /* free huge pages go back to the buddy */

/* ---- contig.c ---- */
/* Pageblocks that are online are emptied and become KIND_UNPLUGGED. 0; -EBUSY, -ENOMEM: as before.
 */
int contig_take(struct machine *m, uint64_t start_pfn, uint64_t nr_pages);
void contig_give(struct machine *m, uint64_t start_pfn,
                 uint64_t nr_pages); /* they are free again */

/* ---- hotplug_range.c ---- */
enum warning { WARNED_MEMMAP, WARNED_ADD_PAGES, WARNED_MAPPING, WARNED_BLOCKS, NR_WARNINGS };
void warn_once(struct machine *m, enum warning what,
               const char *where); /* a kernel's WARN_ON_ONCE(), in the log */
/* The steps of adding memory, in their order; each failure leaves nothing of itself, but that of
 * range_add(): sections before the one that failed stay. */
int range_claim(struct machine *m, uint64_t start, uint64_t size_bytes,
                const char *name); /* register_memory_resource() */
void range_unclaim(struct machine *m, uint64_t start, uint64_t size_bytes);
int range_check(struct machine *m, uint64_t start,
                uint64_t size_bytes); /* check_hotplug_memory_range() */
/* arch_add_memory(): sections and their memmap. self_memmap: it lives in the memory itself, nothing
 * is allocated. */
int range_add(struct machine *m, int nid, uint64_t start, uint64_t size_bytes, bool self_memmap,
              int (*added)(struct machine *m, uint64_t section_nr, void *ctx),
              void *ctx); /* NULL, or told of each */
/* A block that a machine was found with, offline: nothing is logged. false, and nothing is left:
 * there is no memory for its memmap. */
bool range_found(struct machine *m, int nid, uint64_t start, bool self_memmap);
void range_remove(struct machine *m, uint64_t start,
                  uint64_t size_bytes); /* arch_remove_memory() */
void memmap_destroy_all(struct machine *m);
bool memmap_on_memory_wanted(struct machine *m, uint64_t size_bytes);
uint64_t vmemmap_pages(
    const struct machine *m); /* of a block's memmap that lives in the block itself */
int memory_group_new(struct machine *m,
                     struct memory_group group); /* its number; -1: this kernel has no groups */

/* ---- memory_hotplug.c ---- */
void memory_listener_register(struct machine *m, const struct memory_listener *listener);
void memory_notify(struct machine *m); /* a notification that nobody can refuse */
/* nr_vmemmap: pages at the start that hold the range's own memmap (memmap_on_memory). */
int online_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z,
                 struct memory_group *group, uint64_t nr_vmemmap);
int offline_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z,
                  struct memory_group *group);

/* ---- memory_failure.c ---- */
int page_soft_offline(struct machine *m, uint64_t pfn);
int page_hard_offline(struct machine *m, uint64_t pfn);

#endif

/*
 * workload.c - who holds each page, and the allocator's choice of node and zone for them.
 *
 * Owns: the table of kinds (how each is placed, counted, moved), zonelists and watermarks of an
 * allocation, the load that a machine has after boot, allocation and freeing on demand. Does not
 * own: free lists (buddy.c), migration. Linux: mm/page_alloc.c get_page_from_freelist();
 * kernel.md 5.4 for how the kinds behave.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

struct kind_info {
    const char *name;
    uint8_t mobility, mt, highest; /* enum mobility, migratetype, highest zone */
    int8_t order;                  /* of one allocation; -1: a pageblock */
};

static const struct kind_info kinds[NR_KINDS] = {
    [KIND_INSIDE] = {"inside", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_HOLE] = {"hole", MOBILITY_RESERVED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_RESERVED] = {"reserved", MOBILITY_RESERVED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_FREE] = {"free", MOBILITY_FREE, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_POISONED] = {"poisoned", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_MEMMAP_SELF] = {"own memmap", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_UNPLUGGED] = {"unplugged", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_ANON] = {"anon", MOBILITY_MOVABLE, MT_MOVABLE, ZONE_MOVABLE, 0},
    [KIND_FILE] = {"file", MOBILITY_MOVABLE, MT_MOVABLE, ZONE_MOVABLE, 0},
    [KIND_SHMEM] = {"shmem", MOBILITY_MOVABLE, MT_MOVABLE, ZONE_MOVABLE, 0},
    [KIND_SLAB] = {"slab", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, 0},
    [KIND_SLAB_RECLAIMABLE] = {"slab_reclaimable", MOBILITY_UNMOVABLE, MT_RECLAIMABLE, ZONE_NORMAL,
                               0},
    [KIND_PAGETABLES] = {"pagetables", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, 0},
    [KIND_KERNEL] = {"kernel", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, 0},
    [KIND_KERNEL_STACK] = {"kernel_stack", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, 2},
    [KIND_MEMMAP] = {"memmap", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, -1},
    [KIND_HUGETLB] = {"hugetlb", MOBILITY_MOVABLE, MT_MOVABLE, ZONE_MOVABLE, -1},
    [KIND_OFFLINE] = {"offline", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_PCP] = {"pcp", MOBILITY_FREE, MT_MOVABLE, ZONE_MOVABLE, 0},
};

/* "pinned" is no kind of its own: anonymous pages with a reference that never goes away by itself.
 * They are kept out of Movable, as long-term pins are. */
static const char pinned_name[] = "pinned";

const char *kind_name(unsigned kind)
{
    return kinds[kind].name;
}

int kind_by_name(const char *name)
{
    for (int kind = KIND_ANON; kind < KIND_PCP; kind++)
        if (strcmp(kinds[kind].name, name) == 0)
            return kind;
    return strcmp(name, pinned_name) == 0 ? KIND_ANON : -1;
}

unsigned kind_mobility(unsigned kind)
{
    return kinds[kind].mobility;
}

unsigned kind_migratetype(unsigned kind)
{
    return kinds[kind].mt;
}

static unsigned kind_order(const struct machine *m, unsigned kind)
{
    return kinds[kind].order < 0 ? m->pageblock_order : (unsigned)kinds[kind].order;
}

/* ---- one allocation ---- */

struct request {
    unsigned kind, order;
    enum zone_type highest;
    int nid;
    uint64_t nodemask; /* 0: all */
};

enum how {               /* of a walk through the zonelist */
           LOW_MARK = 1, /* stay above the low watermark, else above the lowest */
           UNMIXED = 2,  /* take no pages from pageblocks of another migratetype, only whole ones
                            (ALLOC_NOFRAGMENT) */
};

struct place { /* in the zonelist: nodes by distance, in each from the highest zone allowed down */
    unsigned i;
    int type;
};

/* The zone at this place, or the next one that has memory and is allowed; *place moves behind it.
 */
static struct zone *zonelist_next(struct machine *m, const struct request *r, struct place *place)
{
    const struct node *origin = &m->nodes[r->nid];

    for (; place->i < origin->nr_fallback; place->i++, place->type = (int)r->highest) {
        int nid = origin->fallback[place->i];
        if (r->nodemask != 0 && (r->nodemask >> nid & 1) == 0)
            continue;
        struct zone *zones = m->nodes[nid].zones;
        for (int type = place->type; type >= 0; type--)
            if (zone_managed(&zones[type])) {
                place->type = type - 1;
                return &zones[type];
            }
    }
    return NULL;
}

/* Linux: alloc_flags_nofragment(): Normal is kept unmixed as long as the zone below it can help
 * out. */
static bool keeps_unmixed(struct machine *m, const struct zone *preferred)
{
    if (preferred->type != ZONE_NORMAL || !m->zone_exists[ZONE_DMA32])
        return false;
    if (zone_populated(&m->nodes[preferred->nid].zones[ZONE_DMA32]))
        return true;
    unsigned nr_online = 0;
    for (unsigned nid = 0; nid < m->possible_nodes && nr_online < 2; nid++)
        nr_online += m->nodes[nid].online;
    return nr_online == 1;
}

static void count_numa(struct zone *z, struct zone *preferred, int nid, uint64_t events)
{
    if (z->nid == preferred->nid) {
        z->numa_hit += events;
    } else {
        z->numa_miss += events;
        preferred->numa_foreign += events;
    }
    if (z->nid == nid)
        z->numa_local += events;
    else
        z->numa_other += events;
}

static inline bool zone_gives(struct machine *m, const struct request *r, struct zone *z,
                              struct zone *preferred, unsigned how, uint64_t *pfn)
{
    if (!zone_watermark_ok(z, r->order, (how & LOW_MARK) != 0 ? z->low_wmark : z->min_wmark,
                           r->highest) ||
        !buddy_alloc(m, z, r->order, kinds[r->kind].mt, r->kind, (how & UNMIXED) != 0, pfn))
        return false;
    count_numa(z, preferred, r->nid, 1);
    return true;
}

/* Try every zone of the zonelist: nearly always the preferred one, the first, gives. `place` is
 * behind it. */
static inline bool walk_zonelist(struct machine *m, const struct request *r, struct zone *preferred,
                                 const struct place *place, unsigned how, uint64_t *pfn)
{
    if (zone_gives(m, r, preferred, preferred, how, pfn))
        return true;
    struct place next = *place;
    for (struct zone *z; (z = zonelist_next(m, r, &next)) != NULL;) {
        if ((how & UNMIXED) != 0 && z->nid != preferred->nid)
            return false; /* near memory that is mixed is better than far memory that is not */
        if (zone_gives(m, r, z, preferred, how, pfn))
            return true;
    }
    return false;
}

/* What CPUs keep to themselves goes back. Did they have any? */
static bool drain_all(struct machine *m)
{
    bool any = false;

    for (unsigned i = 0; i < m->possible_nodes * NR_ZONES; i++) {
        any = any || m->zones[i]->held[KIND_PCP].nr != 0;
        buddy_drain(m, m->zones[i]);
    }
    return any;
}

static int request_pages(struct machine *m, const struct request *r, uint64_t *pfn)
{
    struct place place = {0, (int)r->highest};
    struct zone *preferred = zonelist_next(m, r, &place);

    if (m->trace_depth != 0) /* for an operation, not for a load */
        TRACE_LEAF(m, "__zone_watermark_ok");
    if (preferred != NULL && ((keeps_unmixed(m, preferred) &&
                               walk_zonelist(m, r, preferred, &place, LOW_MARK | UNMIXED, pfn)) ||
                              walk_zonelist(m, r, preferred, &place, LOW_MARK, pfn) ||
                              walk_zonelist(m, r, preferred, &place, 0, pfn) ||
                              (drain_all(m) && walk_zonelist(m, r, preferred, &place, 0, pfn))))
        return 0;
    return fail(m, -ENOMEM, "no free memory for order %u (%s)", r->order, kinds[r->kind].name);
}

/* A section at once, where single allocations would take all of it; NULL: they would not. */
static struct zone *request_section(struct machine *m, const struct request *r)
{
    struct place place = {0, (int)r->highest};
    struct zone *z = zonelist_next(m, r, &place), *preferred = z;

    while (z != NULL && !zone_watermark_ok(z, r->order, z->low_wmark, r->highest))
        z = zonelist_next(m, r, &place);
    if (z == NULL ||
        z->free < m->pages_per_section + z->low_wmark + z->lowmem_reserve[r->highest] ||
        !buddy_alloc_section(m, z, r->order, kinds[r->kind].mt, r->kind))
        return NULL; /* single allocations come from here first */
    count_numa(z, preferred, r->nid, m->pages_per_section >> r->order);
    return z;
}

int pages_alloc(struct machine *m, unsigned kind, unsigned order, enum zone_type highest, int nid,
                uint64_t nodemask, uint64_t *pfn)
{
    struct request r = {kind, order, highest, nid, nodemask};

    return request_pages(m, &r, pfn);
}

void pages_free(struct machine *m, uint64_t pfn)
{
    struct folio folio;

    if (folio_at(m, pfn, &folio))
        buddy_free(m, &folio);
}

static int first_node(struct machine *m)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++)
            if (zone_managed(&m->nodes[nid].zones[type]))
                return (int)nid;
    return 0;
}

/* ---- many at once ---- */

#define GOT_SECTION (1ull << 63)

struct haul { /* what an allocation has got so far, so that it can be given back */
    uint64_t *got;
    size_t nr, cap;
};

static void haul_add(struct haul *haul, uint64_t pfn)
{
    if (haul->nr == haul->cap) {
        haul->cap = haul->cap != 0 ? haul->cap * 2 : 256;
        haul->got = xrealloc(haul->got, haul->cap, sizeof *haul->got);
    }
    haul->got[haul->nr++] = pfn;
}

/* Give back what was got after the first `keep`, youngest first. */
static void haul_undo(struct machine *m, struct haul *haul, size_t keep)
{
    while (haul->nr > keep) {
        uint64_t first = haul->got[--haul->nr];
        if ((first & GOT_SECTION) == 0) {
            pages_free(m, first);
            continue;
        }
        first &= ~GOT_SECTION;
        struct section *s = section_of(m, first);
        if (s->map == NULL) {
            buddy_free_section(m, s);
            continue;
        }
        struct folio folio;
        for (uint64_t end = first + m->pages_per_section; end > first; end = folio.pfn) {
            folio_at(m, end - 1, &folio);
            buddy_free(m, &folio);
        }
    }
}

static void pin_new(struct machine *m, uint64_t pfn)
{
    struct folio folio;

    folio_at(m, pfn, &folio);
    buddy_pin(m, &folio, 1);
}

/* nr_pages of one kind, in folios of one order; -ENOMEM and nothing taken when they are not to be
 * had. */
static int allocate_many(struct machine *m, struct request *r, uint64_t nr_pages, bool pinned,
                         struct haul *haul)
{
    size_t before = haul->nr;
    uint64_t got = 0, pfn = 0;

    while (got < nr_pages) {
        struct zone *z = NULL;
        if (nr_pages - got >= m->pages_per_section && !pinned)
            z = request_section(m, r);
        if (z != NULL) {
            haul_add(haul, pfn_of_ref(m, z->held[r->kind].head) | GOT_SECTION);
            got += m->pages_per_section;
            continue;
        }
        int err = request_pages(m, r, &pfn);
        if (err != 0) {
            haul_undo(m, haul, before);
            return err;
        }
        if (pinned)
            pin_new(m, pfn);
        haul_add(haul, pfn);
        got += 1ull << r->order;
    }
    return 0;
}

/* The same out of one range of pages, lowest first. */
static int allocate_in_range(struct machine *m, const struct request *r, uint64_t start_pfn,
                             uint64_t end_pfn, int zone_type, uint64_t nr_pages, bool pinned,
                             struct haul *haul)
{
    size_t before = haul->nr;

    for (uint64_t got = 0; got < nr_pages; got += 1ull << r->order) {
        uint64_t pfn = 0;
        bool found = false;
        while (!found && buddy_alloc_range(m, start_pfn, end_pfn, r->order, r->kind, &pfn)) {
            start_pfn = pfn + (1ull << r->order);
            found = zone_type < 0 || zone_of(m, pfn)->type == (enum zone_type)zone_type;
            if (!found)
                pages_free(m, pfn);
        }
        if (!found) {
            haul_undo(m, haul, before);
            return fail(m, -ENOMEM, "no free memory for order %u there", r->order);
        }
        if (pinned)
            pin_new(m, pfn);
        haul_add(haul, pfn);
    }
    return 0;
}

/* The same out of the zones of one type, wherever the watermarks are: nodes of the request by
 * distance. */
static int allocate_in_zones(struct machine *m, const struct request *r, int zone_type,
                             uint64_t nr_pages, bool pinned, struct haul *haul)
{
    const struct node *origin = &m->nodes[r->nid];
    size_t before = haul->nr;

    for (uint64_t got = 0; got < nr_pages; got += 1ull << r->order) {
        uint64_t pfn = 0;
        bool found = false;
        for (unsigned i = 0; i < origin->nr_fallback && !found; i++) {
            struct zone *z = &m->nodes[origin->fallback[i]].zones[zone_type];
            found = (r->nodemask == 0 || (r->nodemask >> z->nid & 1) != 0) &&
                    buddy_alloc(m, z, r->order, kinds[r->kind].mt, r->kind, false, &pfn);
        }
        if (!found) {
            haul_undo(m, haul, before);
            return fail(m, -ENOMEM, "no free memory for order %u in zone %s", r->order,
                        zone_type_name((enum zone_type)zone_type));
        }
        if (pinned)
            pin_new(m, pfn);
        haul_add(haul, pfn);
    }
    return 0;
}

void hugetlb_count(struct machine *m, unsigned kind, int64_t nr_pages)
{
    if (kind != KIND_HUGETLB)
        return;
    m->hugetlb_total += (uint64_t)(nr_pages / (int64_t)m->pageblock_pages);
    m->hugetlb_free += (uint64_t)(nr_pages / (int64_t)m->pageblock_pages);
}

static int zone_type_by_name(const char *name)
{
    for (int type = 0; type < NR_ZONES; type++)
        if (strcasecmp(zone_type_name((enum zone_type)type), name) == 0)
            return type;
    return -1;
}

static bool block_is_online(struct machine *m, uint64_t id)
{
    for (unsigned i = 0; i < m->sections_per_block; i++) {
        const struct section *s = section_get(m, id * m->sections_per_block + i);
        if (s != NULL && (s->state & SECTION_ONLINE) != 0)
            return true;
    }
    return false;
}

static int64_t allocate(struct machine *m, const char *kind_word, uint64_t nr_pages, int order,
                        const char *zone, int nid, int64_t block_id)
{
    int kind = kind_by_name(kind_word), zone_type = zone != NULL ? zone_type_by_name(zone) : -1;
    bool pinned = strcmp(kind_word, pinned_name) == 0;
    struct haul haul = {0};

    if (kind < 0)
        return fail(m, -EINVAL, "no kind of page is called %s", kind_word);
    if (zone != NULL && zone_type < 0)
        return fail(m, -EINVAL, "no zone is called %s", zone);
    if (nid >= (int)m->possible_nodes || (nid >= 0 && !m->nodes[nid].online))
        return fail(m, -EINVAL, "there is no node %d", nid);
    if (kind == KIND_MEMMAP)
        return fail(m, -EINVAL, "a memmap comes and goes with the memory it describes");
    struct request r = {
        .kind = (unsigned)kind,
        .order = order < 0 ? kind_order(m, (unsigned)kind) : (unsigned)order,
        .highest = pinned ? ZONE_NORMAL : kinds[kind].highest,
        .nid = nid < 0 ? first_node(m) : nid,
        .nodemask = nid < 0 ? 0 : 1ull << nid,
    };
    if (r.order > m->max_order)
        return fail(m, -EINVAL, "order %u is larger than the largest, %u", r.order, m->max_order);
    if (kind == KIND_HUGETLB && r.order != m->pageblock_order)
        return fail(m, -EINVAL, "huge pages are of order %u here", m->pageblock_order);
    if (block_id >= 0 || zone_type >= 0 || nr_pages > total_free(m))
        (void)drain_all(m);
    if (nr_pages > total_free(m))
        return fail(m, -ENOMEM, "%llu pages are more than are free", (unsigned long long)nr_pages);
    nr_pages = (nr_pages + (1ull << r.order) - 1) & ~((1ull << r.order) - 1);
    int err = 0;
    if (block_id < 0 && zone_type >= 0)
        err = allocate_in_zones(m, &r, zone_type, nr_pages, pinned, &haul);
    else if (block_id < 0)
        err = allocate_many(m, &r, nr_pages, pinned, &haul);
    else if (block_is_online(m, (uint64_t)block_id))
        err = allocate_in_range(m, &r, (uint64_t)block_id * m->block_pages,
                                (uint64_t)(block_id + 1) * m->block_pages, zone_type, nr_pages,
                                pinned, &haul);
    else
        err = fail(m, -ENODEV, "memory%lld is not there or not online", (long long)block_id);
    if (err == 0)
        hugetlb_count(m, r.kind, (int64_t)nr_pages);
    free(haul.got);
    return err != 0 ? err : (int64_t)nr_pages;
}

int64_t load_allocate(struct machine *m, struct task *task, const char *kind, uint64_t nr_pages,
                      int order, const char *zone, int nid, int64_t block_id)
{
    machine_lock(m, task);
    int64_t ret = allocate(m, kind, nr_pages, order, zone, nid, block_id);
    machine_unlock(m);
    return ret;
}

/* The youngest folio of a kind in a zone from `ref` on; pinned ones are passed over, or are the
 * only ones that count. */
static ref_t youngest(struct machine *m, ref_t ref, bool pinned, struct folio *folio)
{
    for (; ref != 0; ref = list_next(m, ref)) {
        folio_at(m, pfn_of_ref(m, ref), folio);
        if ((folio->pins != 0) == pinned)
            break;
    }
    return ref;
}

/* Are there that many pages to free? Looks no further than it must. */
static bool enough_held(struct machine *m, unsigned kind, bool pinned, uint64_t nr_pages, int nid)
{
    uint64_t found = 0;
    struct folio folio;

    for (unsigned n = 0; n < m->possible_nodes; n++)
        for (int type = 0; type < NR_ZONES && (nid < 0 || (int)n == nid); type++)
            for (ref_t ref = m->nodes[n].zones[type].held[kind].head;
                 found < nr_pages && (ref = youngest(m, ref, pinned, &folio)) != 0;
                 ref = list_next(m, ref))
                found += folio.page == NULL ? m->pages_per_section : 1ull << folio.order;
    return found >= nr_pages;
}

static int64_t free_many(struct machine *m, const char *kind_word, uint64_t nr_pages, int nid)
{
    int kind = kind_by_name(kind_word);
    bool pinned = strcmp(kind_word, pinned_name) == 0;
    uint64_t freed = 0;
    struct folio folio;

    if (kind < 0)
        return fail(m, -EINVAL, "no kind of page is called %s", kind_word);
    if (kind == KIND_MEMMAP)
        return fail(m, -EINVAL, "a memmap comes and goes with the memory it describes");
    if (!enough_held(m, (unsigned)kind, pinned, nr_pages, nid))
        return fail(m, -EINVAL, "fewer than %llu pages of %s are held, they cannot be freed",
                    (unsigned long long)nr_pages, kind_word);
    for (int type = NR_ZONES - 1; type >= 0; type--)
        for (unsigned n = 0; n < m->possible_nodes; n++) {
            const struct list *list = &m->nodes[n].zones[type].held[kind];
            while (freed < nr_pages && (nid < 0 || (int)n == nid) &&
                   youngest(m, list->head, pinned, &folio) != 0) {
                uint64_t pages = 1ull << folio.order;
                if (folio.page == NULL && nr_pages - freed >= m->pages_per_section) {
                    pages = m->pages_per_section;
                    buddy_free_section(m, folio.s);
                } else if (folio.page == NULL) {
                    /* of a uniform section the highest folio is the youngest */
                    pages_free(m, section_first_pfn(m, folio.s) + m->pages_per_section - pages);
                } else {
                    buddy_free(m, &folio);
                }
                hugetlb_count(m, (unsigned)kind, -(int64_t)pages);
                freed += pages;
            }
        }
    return (int64_t)freed;
}

int64_t load_free(struct machine *m, struct task *task, const char *kind, uint64_t nr_pages,
                  int nid)
{
    machine_lock(m, task);
    int64_t ret = free_many(m, kind, nr_pages, nid);
    machine_unlock(m);
    return ret;
}

/* ---- single pages ---- */

int page_pin(struct machine *m, struct task *task, uint64_t pfn, int delta)
{
    struct folio folio;
    int ret = 0;

    machine_lock(m, task);
    if (!folio_at(m, pfn, &folio))
        ret = fail(m, -ENXIO, "page 0x%llx is not online", (unsigned long long)pfn);
    else if (folio.kind < KIND_ANON || folio.kind == KIND_PCP)
        ret = fail(m, -EINVAL, "page 0x%llx is %s and cannot be pinned", (unsigned long long)pfn,
                   kind_name(folio.kind));
    else if ((int)folio.pins + delta < 0 || (int)folio.pins + delta > 255)
        ret = fail(m, -EINVAL, "page 0x%llx has %u pins", (unsigned long long)pfn, folio.pins);
    else
        buddy_pin(m, &folio, delta);
    machine_unlock(m);
    return ret;
}

int page_free_at(struct machine *m, struct task *task, uint64_t pfn)
{
    struct folio folio;
    int ret = 0;

    machine_lock(m, task);
    if (!folio_at(m, pfn, &folio))
        ret = fail(m, -ENXIO, "page 0x%llx is not online", (unsigned long long)pfn);
    else if (folio.kind < KIND_ANON || folio.kind == KIND_MEMMAP || folio.kind == KIND_PCP)
        ret = fail(m, -EINVAL, "page 0x%llx is %s and cannot be freed", (unsigned long long)pfn,
                   kind_name(folio.kind));
    else if (folio.pins != 0)
        ret = fail(m, -EBUSY, "page 0x%llx has %u pins", (unsigned long long)pfn, folio.pins);
    else {
        hugetlb_count(m, folio.kind, -(1ll << folio.order));
        buddy_free(m, &folio);
    }
    machine_unlock(m);
    return ret;
}

int page_describe(struct machine *m, struct task *task, uint64_t pfn, struct page_info *info)
{
    static const char *const mt_names[NR_MT] = {"Unmovable",  "Movable", "Reclaimable",
                                                "HighAtomic", "CMA",     "Isolate"};
    struct folio folio;
    int ret = 0;

    machine_lock(m, task);
    struct section *s = section_of(m, pfn);
    if (s == NULL) {
        ret = fail(m, -ENXIO, "page 0x%llx is in no section: there is no memory",
                   (unsigned long long)pfn);
    } else {
        /* Pages that went so far as to be made ready for their onlining are what they then were
         * made. */
        const char *kind = s->kind == KIND_INSIDE ? "offline memory" : kind_name(s->kind);
        *info = (struct page_info){.pfn = pfn,
                                   .head_pfn = pfn,
                                   .kind = kind,
                                   .zone = "none",
                                   .migratetype = "none",
                                   .section_state = "offline",
                                   .nid = s->nid,
                                   .block_id = pfn / m->block_pages};
        if (folio_at(m, pfn, &folio)) {
            const struct zone *z = zone_of(m, pfn);
            info->head_pfn = folio.pfn;
            info->kind = kind_name(folio.kind);
            info->order = folio.order;
            info->pins = folio.pins;
            info->online = true;
            info->poisoned = folio.kind == KIND_POISONED;
            info->zone = z != NULL ? zone_name(z) : "none";
            info->migratetype = mt_names[pageblock_mt(m, pfn)];
            info->section_state = folio.page == NULL ? "uniform" : "detailed";
        }
    }
    machine_unlock(m);
    return ret;
}

/* ---- the load of a booted machine ---- */

/* A small idle Linux: what each kind takes, in KiB, on a machine large enough. */
static const struct {
    uint8_t kind;
    uint32_t kib;
} idle_load[] = {
    {KIND_SLAB, 6200},       {KIND_SLAB_RECLAIMABLE, 9000},
    {KIND_KERNEL, 7000},     {KIND_KERNEL_STACK, 1600},
    {KIND_PAGETABLES, 1200}, {KIND_FILE, 36000},
    {KIND_ANON, 14000},      {KIND_SHMEM, 1400},
};
enum { NR_IDLE = sizeof idle_load / sizeof *idle_load, BOOT_STEPS = 16 };

/* What is wanted of one kind, in pages. On a machine of a few MiB the load shrinks to an eighth of
 * it. */
static uint64_t idle_pages(const struct machine *m, unsigned i, uint64_t free_pages)
{
    uint64_t page_kb = m->page_bytes / 1024, wanted_kb = 0;

    for (unsigned k = 0; k < NR_IDLE; k++)
        wanted_kb += idle_load[k].kib;
    uint64_t share = free_pages * page_kb / 8 < wanted_kb ? free_pages * page_kb * 128 / wanted_kb
                                                          : 1024;
    return idle_load[i].kib * share / 1024 / page_kb;
}

/* While it boots a kernel reads and forgets: each step takes movable memory, and some of its own,
 * that is given back at the end, so that what stays is spread over the memory as on a machine that
 * has booted, not packed at its start. */
static int load_idle(struct machine *m)
{
    uint64_t pages = total_free(m), gap_limit = (128ull << 20) / m->page_bytes;
    struct haul passing = {0}, staying = {0};
    int err = 0;

    uint64_t gap = pages / (BOOT_STEPS + 2) < gap_limit ? pages / (BOOT_STEPS + 2) : gap_limit;
    int nid = first_node(m);
    for (unsigned step = 0; step < BOOT_STEPS && err == 0; step++) {
        struct request file = {KIND_FILE, 0, kinds[KIND_FILE].highest, nid, 0};
        struct request kernel = {KIND_KERNEL, 0, kinds[KIND_KERNEL].highest, nid, 0};
        /* On a machine of a few MiB there may be no room left for what passes: then it does
         * without. */
        (void)allocate_many(m, &file, gap * 3 / 4 + random_below(m, gap / 4 + 1), false, &passing);
        (void)allocate_many(m, &kernel, gap / 16, false, &passing);
        unsigned first = (unsigned)random_below(m, NR_IDLE);
        for (unsigned i = 0; i < NR_IDLE && err == 0; i++) {
            const unsigned kind = idle_load[(first + i) % NR_IDLE].kind;
            uint64_t total = idle_pages(m, (first + i) % NR_IDLE, pages);
            uint64_t part = (step + 1) * total / BOOT_STEPS - step * total / BOOT_STEPS;
            struct request r = {kind, kind_order(m, kind), kinds[kind].highest, nid, 0};
            err = allocate_many(m, &r, part, false, &staying);
            if (err != 0 && passing.nr != 0) {
                haul_undo(m, &passing, 0);
                err = allocate_many(m, &r, part, false, &staying);
            }
        }
    }
    haul_undo(m, &passing, 0);
    free(passing.got);
    free(staying.got);
    return err;
}

/* ---- a machine that has lived ---- */

struct want { /* one line of the load to place, in pages */
    const char *kind;
    uint64_t nr_pages;
    int nid;
    uint64_t placed;
};

static size_t wanted_load(struct machine *m, const struct machine_config *config,
                          struct want **list)
{
    uint64_t free_pages = total_free(m);
    size_t nr = config->nr_load != 0 ? config->nr_load : NR_IDLE;

    *list = xcalloc(nr, sizeof **list);
    for (size_t i = 0; i < nr; i++)
        if (config->nr_load != 0)
            (*list)[i] = (struct want){config->load[i].kind,
                                       (config->load[i].bytes + m->page_bytes - 1) / m->page_bytes,
                                       config->load[i].nid, 0};
        else
            (*list)[i] = (struct want){kinds[idle_load[i].kind].name,
                                       idle_pages(m, (unsigned)i, free_pages), -1, 0};
    return nr;
}

/* Free one of them, whichever: the oldest do not go first. Returns its pages. */
static uint64_t forget_one(struct machine *m, struct haul *passing)
{
    size_t victim = (size_t)random_below(m, passing->nr);
    struct folio folio;

    folio_at(m, passing->got[victim], &folio);
    buddy_free(m, &folio);
    passing->got[victim] = passing->got[--passing->nr];
    return 1ull << folio.order;
}

/* What comes and goes in one round: files read and forgotten, processes, and now and then something
 * of the kernel's. */
static void age_round(struct machine *m, struct haul *passing, uint64_t *held, uint64_t most)
{
    static const uint8_t kind_of[8] = {KIND_FILE, KIND_FILE, KIND_FILE, KIND_ANON,
                                       KIND_ANON, KIND_ANON, KIND_SLAB, KIND_SLAB_RECLAIMABLE};
    int nid = first_node(m);

    for (uint64_t got = 0; got < most / 16;) {
        uint64_t pfn, chance = random_next(m);
        unsigned kind = kind_of[chance & 7],
                 order = (chance >> 3 & 7) < 5 ? 0 : (unsigned)(chance >> 6 & 3);
        struct request r = {kind, order, kinds[kind].highest, nid, 0};
        if (total_free(m) < total_managed(m) / 8 || request_pages(m, &r, &pfn) != 0)
            break;
        haul_add(passing, pfn);
        got += 1ull << order;
        *held += 1ull << order;
    }
    while (*held > most)
        *held -= forget_one(m, passing);
}

/* Place the load in as many parts as there are rounds, among allocations that come and go, so that
 * what stays is strewn over the memory and free memory is in crumbs. */
static int load_aged(struct machine *m, const struct machine_config *config)
{
    struct want *list;
    size_t nr = wanted_load(m, config, &list);
    uint64_t most = total_free(m) / 2, held = 0;
    struct haul passing = {0};
    int err = 0;

    most = most < (1u << 20)
               ? most
               : 1u << 20; /* cost follows use: a large machine ages in a part of its memory */
    for (unsigned round = 0; round < config->aged && err == 0; round++) {
        age_round(m, &passing, &held, most);
        for (size_t i = 0; i < nr && err == 0; i++) {
            uint64_t due = (round + 1) * list[i].nr_pages / config->aged;
            if (due <= list[i].placed)
                continue; /* a folio of the last part reached further */
            int64_t got = allocate(m, list[i].kind, due - list[i].placed, -1, NULL, list[i].nid,
                                   -1);
            if (got == -ENOMEM) { /* whoever comes and goes makes room for what is to stay */
                while (passing.nr > 0)
                    held -= forget_one(m, &passing);
                got = allocate(m, list[i].kind, due - list[i].placed, -1, NULL, list[i].nid, -1);
            }
            err = got < 0 ? (int)got : 0;
            list[i].placed += got > 0 ? (uint64_t)got : 0;
        }
    }
    while (passing.nr > 0)
        forget_one(m, &passing);
    free(passing.got);
    free(list);
    return err;
}

int load_boot(struct machine *m, const struct machine_config *config)
{
    if (total_managed(m) == 0)
        return 0;
    if (config->aged != 0)
        return load_aged(m, config);
    if (config->nr_load == 0)
        return load_idle(m);
    for (size_t i = 0; i < config->nr_load; i++) {
        const struct boot_load *load = &config->load[i];
        int64_t got = allocate(m, load->kind, (load->bytes + m->page_bytes - 1) / m->page_bytes, -1,
                               NULL, load->nid, -1);
        if (got < 0)
            return (int)got;
    }
    return 0;
}

/*
 * A kernel zone that has just got pages is where the kernel takes its next ones from, if it is the
 * highest one of a node with processors. It needs new ones when what it has is used up: after some
 * files were read, or when slabs were given back for a block that goes offline (slub's
 * MEM_GOING_OFFLINE). So the block that was first there can go offline again at once, and soon
 * after no more; measured.
 */
enum { ACCESSES_PER_SLAB = 8 };

void load_expect_users(struct machine *m, struct zone *z)
{
    z->users_due = 0;
    for (int higher = (int)z->type + 1; higher <= ZONE_NORMAL; higher++)
        if (zone_populated(&m->nodes[z->nid].zones[higher]))
            return;
    if (z->type <= ZONE_NORMAL && m->nodes[z->nid].nr_cpus != 0)
        z->users_due = m->nr_accesses + ACCESSES_PER_SLAB;
}

static void take_first_pages(struct machine *m, struct zone *z)
{
    static const struct {
        uint8_t kind, nr;
    } first_users[] = {{KIND_SLAB, 22}, {KIND_PAGETABLES, 6}, {KIND_KERNEL, 4}};
    uint64_t pfn;

    for (unsigned i = 0; i < sizeof first_users / sizeof *first_users; i++)
        for (unsigned n = 0; n < first_users[i].nr; n++)
            if (!buddy_alloc(m, z, 0, MT_UNMOVABLE, first_users[i].kind, true, &pfn))
                return;
}

void load_slabs_shrunk(struct machine *m)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = ZONE_DMA; type <= ZONE_NORMAL; type++) {
            struct zone *z = &m->nodes[nid].zones[type];
            if (z->users_due > m->nr_accesses)
                z->users_due = m->nr_accesses + 1;
        }
}

void load_first_users(struct machine *m)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = ZONE_DMA; type <= ZONE_NORMAL; type++) {
            struct zone *z = &m->nodes[nid].zones[type];
            if (z->users_due == 0 || m->nr_accesses < z->users_due)
                continue;
            z->users_due = 0;
            if (zone_populated(z))
                take_first_pages(m, z);
        }
}

/* Linux: mm/page_alloc.c si_mem_available() */
uint64_t memory_available(struct machine *m)
{
    uint64_t reserve = 0, low = 0, cache = 0, reclaimable = 0;

    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++) {
            const struct zone *z = &m->nodes[nid].zones[type];
            uint64_t most = 0;
            for (int higher = type; higher < NR_ZONES; higher++)
                most = z->lowmem_reserve[higher] > most ? z->lowmem_reserve[higher] : most;
            most += z->high_wmark;
            reserve += most < z->managed ? most : z->managed;
            low += z->low_wmark;
            cache += z->kind_pages[KIND_FILE];
            reclaimable += z->kind_pages[KIND_SLAB_RECLAIMABLE];
        }
    uint64_t available = total_free(m);
    available -= reserve < available ? reserve : available;
    cache -= cache / 2 < low ? cache / 2 : low;
    reclaimable -= reclaimable / 2 < low ? reclaimable / 2 : low;
    return available + cache + reclaimable;
}

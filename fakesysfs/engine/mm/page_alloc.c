/*
 * page_alloc.c - the allocator's choice of node and zone.
 *
 * Owns: zonelists and watermarks of an allocation, allocations that are given back as one. Does not
 * own: free lists (buddy_alloc.c), who wants pages (load.c, boot_load.c). Linux: mm/page_alloc.c
 * get_page_from_freelist(), mm/show_mem.c si_mem_available().
 */
#include <errno.h>
#include <stdlib.h>

#include "page_alloc.h"

/* ---- one allocation ---- */

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
static struct zone *zonelist_next(struct machine *m, const struct page_request *r,
                                  struct place *place)
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

static inline bool watermark_ok(struct machine *m, const struct zone *z, unsigned order,
                                uint64_t mark, enum zone_type highest)
{
    TRACE_WITHIN(m, "__zone_watermark_ok");
    return zone_watermark_ok(z, order, mark, highest);
}

static inline bool zone_gives(struct machine *m, const struct page_request *r, struct zone *z,
                              struct zone *preferred, unsigned how, uint64_t *pfn)
{
    if (!watermark_ok(m, z, r->order, (how & LOW_MARK) != 0 ? z->low_wmark : z->min_wmark,
                      r->highest) ||
        !buddy_alloc(m, z, r->order, page_kinds[r->kind].mt, r->kind, (how & UNMIXED) != 0, pfn))
        return false;
    count_numa(z, preferred, r->nid, 1);
    return true;
}

/* Try every zone of the zonelist: nearly always the preferred one, the first, gives. `place` is
 * behind it. */
static inline bool walk_zonelist(struct machine *m, const struct page_request *r,
                                 struct zone *preferred, const struct place *place, unsigned how,
                                 uint64_t *pfn)
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
bool drain_all_zones(struct machine *m)
{
    bool any = false;

    for (unsigned i = 0; i < m->possible_nodes * NR_ZONES; i++) {
        any = any || m->zones[i]->held[KIND_PCP].nr != 0;
        buddy_drain(m, m->zones[i]);
    }
    return any;
}

int page_request(struct machine *m, const struct page_request *r, uint64_t *pfn)
{
    struct place place = {0, (int)r->highest};
    struct zone *preferred = zonelist_next(m, r, &place);

    if (preferred != NULL &&
        ((keeps_unmixed(m, preferred) &&
          walk_zonelist(m, r, preferred, &place, LOW_MARK | UNMIXED, pfn)) ||
         walk_zonelist(m, r, preferred, &place, LOW_MARK, pfn) ||
         walk_zonelist(m, r, preferred, &place, 0, pfn) ||
         (drain_all_zones(m) && walk_zonelist(m, r, preferred, &place, 0, pfn))))
        return 0;
    return fail(m, -ENOMEM, "no free memory for order %u (%s)", r->order, page_kinds[r->kind].name);
}

/* A section at once, where single allocations would take all of it; NULL: they would not. */
static struct zone *request_section(struct machine *m, const struct page_request *r)
{
    struct place place = {0, (int)r->highest};
    struct zone *z = zonelist_next(m, r, &place), *preferred = z;

    while (z != NULL && !zone_watermark_ok(z, r->order, z->low_wmark, r->highest))
        z = zonelist_next(m, r, &place);
    if (z == NULL ||
        z->free < m->pages_per_section + z->low_wmark + z->lowmem_reserve[r->highest] ||
        !buddy_alloc_section(m, z, r->order, page_kinds[r->kind].mt, r->kind))
        return NULL; /* single allocations come from here first */
    count_numa(z, preferred, r->nid, m->pages_per_section >> r->order);
    return z;
}

int pages_alloc(struct machine *m, unsigned kind, unsigned order, enum zone_type highest, int nid,
                uint64_t nodemask, uint64_t *pfn)
{
    struct page_request r = {kind, order, highest, nid, nodemask};

    return page_request(m, &r, pfn);
}

void pages_free(struct machine *m, uint64_t pfn)
{
    struct folio folio;

    if (folio_at(m, pfn, &folio))
        buddy_free(m, &folio);
}

int first_node_with_memory(struct machine *m)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++)
            if (zone_managed(&m->nodes[nid].zones[type]))
                return (int)nid;
    return 0;
}

/* ---- many at once ---- */

#define GOT_SECTION (1ull << 63) /* in taken->got: a whole section */

bool taken_room(struct taken *taken)
{
    if (taken->nr < taken->cap)
        return true;
    size_t cap = taken->cap != 0 ? taken->cap * 2 : 256;
    uint64_t *got = reallocarray(taken->got, cap, sizeof *got);
    if (got == NULL)
        return false;
    taken->got = got;
    taken->cap = cap;
    return true;
}

void taken_add(struct taken *taken, uint64_t pfn)
{
    taken->got[taken->nr++] = pfn;
}

/* Give back what was got after the first `keep`, youngest first. */
void taken_give_back(struct machine *m, struct taken *taken, size_t keep)
{
    while (taken->nr > keep) {
        uint64_t first = taken->got[--taken->nr];
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
int page_request_many(struct machine *m, struct page_request *r, uint64_t nr_pages, bool pinned,
                      struct taken *taken)
{
    size_t before = taken->nr;
    uint64_t got = 0, pfn = 0;

    while (got < nr_pages) {
        struct zone *z = NULL;
        if (!taken_room(taken)) {
            taken_give_back(m, taken, before);
            return no_host_memory(m);
        }
        if (nr_pages - got >= m->pages_per_section && !pinned)
            z = request_section(m, r);
        if (z != NULL) {
            taken_add(taken, pfn_of_ref(m, z->held[r->kind].head) | GOT_SECTION);
            got += m->pages_per_section;
            continue;
        }
        int err = page_request(m, r, &pfn);
        if (err != 0) {
            taken_give_back(m, taken, before);
            return err;
        }
        if (pinned)
            pin_new(m, pfn);
        taken_add(taken, pfn);
        got += 1ull << r->order;
    }
    return 0;
}

/* The same out of one range of pages, lowest first. */
int page_request_in_range(struct machine *m, const struct page_request *r, uint64_t start_pfn,
                          uint64_t end_pfn, int zone_type, uint64_t nr_pages, bool pinned,
                          struct taken *taken)
{
    size_t before = taken->nr;

    for (uint64_t got = 0; got < nr_pages; got += 1ull << r->order) {
        uint64_t pfn = 0;
        bool found = false;
        if (!taken_room(taken)) {
            taken_give_back(m, taken, before);
            return no_host_memory(m);
        }
        while (!found && buddy_alloc_range(m, start_pfn, end_pfn, r->order, r->kind, &pfn)) {
            start_pfn = pfn + (1ull << r->order);
            found = zone_type < 0 || zone_of(m, pfn)->type == (enum zone_type)zone_type;
            if (!found)
                pages_free(m, pfn);
        }
        if (!found) {
            taken_give_back(m, taken, before);
            return fail(m, -ENOMEM, "no free memory for order %u there", r->order);
        }
        if (pinned)
            pin_new(m, pfn);
        taken_add(taken, pfn);
    }
    return 0;
}

/* The same out of the zones of one type, wherever the watermarks are: nodes of the request by
 * distance. */
int page_request_in_zones(struct machine *m, const struct page_request *r, int zone_type,
                          uint64_t nr_pages, bool pinned, struct taken *taken)
{
    const struct node *origin = &m->nodes[r->nid];
    size_t before = taken->nr;

    for (uint64_t got = 0; got < nr_pages; got += 1ull << r->order) {
        uint64_t pfn = 0;
        bool found = false;
        if (!taken_room(taken)) {
            taken_give_back(m, taken, before);
            return no_host_memory(m);
        }
        for (unsigned i = 0; i < origin->nr_fallback && !found; i++) {
            struct zone *z = &m->nodes[origin->fallback[i]].zones[zone_type];
            found = (r->nodemask == 0 || (r->nodemask >> z->nid & 1) != 0) &&
                    buddy_alloc(m, z, r->order, page_kinds[r->kind].mt, r->kind, false, &pfn);
        }
        if (!found) {
            taken_give_back(m, taken, before);
            return fail(m, -ENOMEM, "no free memory for order %u in zone %s", r->order,
                        zone_type_name((enum zone_type)zone_type));
        }
        if (pinned)
            pin_new(m, pfn);
        taken_add(taken, pfn);
    }
    return 0;
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

/*
 * migrate.c - move what can move out of a range of pages that is going offline.
 *
 * Owns: which folio is next, where its pages go (nodes and zones as Linux chooses them), what is
 * logged when one cannot go. Does not own: the retry and the signal (memory_hotplug.c), isolation.
 * Linux: mm/memory_hotplug.c scan_movable_pages(), do_migrate_range(); mm/migrate.c.
 */
#include <errno.h>

#include "machine.h"

enum {
    TOLD_LIMIT = 10
}; /* the kernel's rate limit: ten messages per operation here, whatever its duration */

int scan_movable(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, uint64_t *pfn)
{
    struct folio folio;

    for (uint64_t at = start_pfn; at < end_pfn; at = folio.pfn + (1ull << folio.order)) {
        if (!folio_at(m, at, &folio))
            return -ENOENT;
        if (folio.page == NULL && folio.kind == KIND_FREE) { /* nothing in this section */
            folio = (struct folio){.pfn = section_first_pfn(m, folio.s) + m->pages_per_section - 1};
            continue;
        }
        if (folio.kind ==
            KIND_OFFLINE) /* somebody took it away from the allocator and holds on to it */
            return fail(m, -EBUSY, "unmovable page 0x%llx (%s)", (unsigned long long)folio.pfn,
                        kind_name(folio.kind));
        /* Free huge pages are dissolved later; huge pages in use move like others. */
        if (kind_mobility(folio.kind) == MOBILITY_MOVABLE &&
            (folio.kind != KIND_HUGETLB || folio.pins != 0)) {
            *pfn = folio.pfn;
            return 0;
        }
    }
    return -ENOENT;
}

/* Nodes the pages may go to: all others that have memory, or their own where there is no other. */
static uint64_t target_nodes(struct machine *m, int nid)
{
    uint64_t mask = 0;

    for (unsigned other = 0; other < m->possible_nodes; other++)
        for (int type = 0; type < NR_ZONES && (int)other != nid; type++)
            if (zone_populated(&m->nodes[other].zones[type]))
                mask |= 1ull << other;
    return mask != 0 ? mask : 1ull << nid;
}

static void tell_failure(struct machine *m, const struct folio *folio, int ret, unsigned *told)
{
    if (told == NULL || (*told >= TOLD_LIMIT && has(m, F_migrate_ratelimit)))
        return;
    if (*told < 2 * TOLD_LIMIT) {
        klog(m, "migrating pfn %llx failed ret:%d%s", (unsigned long long)folio->pfn, ret,
             has(m, F_migrate_newline) ? "" : " ");
        dump_page(m, folio->pfn, "migration failure");
    }
    (*told)++;
}

/* What was in the folio has other pages now; its own are to be freed. 0, or why not. */
static int move_folio(struct machine *m, struct folio *folio, uint64_t nodes)
{
    const struct zone *z = zone_in_section(m, folio->s, folio->offset);
    uint64_t to;

    if (folio->pins != 0) {
        fail(m, 1, "page 0x%llx (%s) is pinned", (unsigned long long)folio->pfn,
             kind_name(folio->kind));
        return 1; /* one page was not migrated */
    }
    int err = fault_at(m, "migrate/move");
    if (err != 0)
        return err;
    if ((err = fault_at(m, "migrate/alloc")) != 0)
        return err;
    /* A page of a kernel zone stays within kernel zones: its target is asked for without
     * __GFP_HIGHMEM. */
    enum zone_type highest = z->type == ZONE_MOVABLE ? ZONE_MOVABLE : ZONE_NORMAL;
    err = pages_alloc(m, folio->kind, folio->order, highest, z->nid, nodes, &to);
    if (err != 0)
        return err;
    buddy_vacate(m, folio);
    m->pgmigrate_success += 1ull << folio->order;
    m->thp_migrated += folio->order == m->pageblock_order && folio->kind != KIND_HUGETLB;
    return 0;
}

uint64_t migrate_range(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, unsigned *told)
{
    struct folio folio;
    uint64_t left = 0, nodes = told == NULL ? UINT64_MAX : 0;
    uint64_t vacated_pfn = 0, nr_vacated = 0; /* one run of pages not freed yet */
    bool trace_on = m->trace_on;

    TRACE(m, "migrate_pages");
    bool online = folio_at(m, start_pfn, &folio);
    while (online && folio.pfn < end_pfn) {
        if (folio.page == NULL && folio.kind == KIND_FREE) {
            online = folio_at(m, section_first_pfn(m, folio.s) + m->pages_per_section, &folio);
            continue;
        }
        if (kind_mobility(folio.kind) == MOBILITY_MOVABLE &&
            (folio.kind != KIND_HUGETLB || folio.pins != 0)) {
            if (nodes == 0)
                nodes = target_nodes(m, folio.s->nid);
            int ret = move_folio(m, &folio, nodes);
            m->trace_on = false; /* the first folio shows what every further one does */
            if (ret == 0) {
                if (nr_vacated == 0)
                    vacated_pfn = folio.pfn;
                nr_vacated += 1ull << folio.order;
            } else {
                left++;
                m->pgmigrate_fail += 1ull << folio.order;
                tell_failure(m, &folio, ret, told);
            }
        }
        uint64_t next = folio.pfn + (1ull << folio.order);
        bool block_done = (next & (m->pageblock_pages - 1)) == 0 || next >= end_pfn;
        if (nr_vacated != 0 && (block_done || vacated_pfn + nr_vacated != next)) {
            buddy_free_vacated(m, vacated_pfn, nr_vacated);
            nr_vacated = 0;
        }
        if (block_done && next < end_pfn)
            cond_resched(m); /* readers are served between pageblocks */
        online = folio_next(m, &folio);
    }
    m->trace_on = trace_on;
    return left;
}

int dissolve_range(struct machine *m, uint64_t start_pfn, uint64_t end_pfn)
{
    struct folio folio;
    int err = fault_at(m, "offline/dissolve");

    if (err != 0)
        return err;
    for (uint64_t pfn = start_pfn; pfn < end_pfn; pfn = folio.pfn + (1ull << folio.order)) {
        if (!folio_at(m, pfn, &folio))
            break;
        if (folio.page == NULL && folio.kind != KIND_HUGETLB) {
            folio = (struct folio){.pfn = section_first_pfn(m, folio.s) + m->pages_per_section - 1};
            continue;
        }
        if (folio.kind != KIND_HUGETLB || folio.pins != 0)
            continue;
        hugetlb_count(m, KIND_HUGETLB, -(1ll << folio.order));
        buddy_free(m, &folio);
    }
    return 0;
}

/*
 * load.c - pages taken and given back on demand: a load of some kind, or one page.
 *
 * Owns: what a user may take and free, and where. Does not own: the choice of a zone
 * (page_alloc.c), the load of a machine that has booted (boot_load.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "page_alloc.h"

/* ---- many pages ---- */

void hugetlb_count(struct machine *m, unsigned kind, int64_t nr_pages)
{
    if (kind != KIND_HUGETLB)
        return;
    m->hugetlb_total += (uint64_t)(nr_pages / (int64_t)m->pageblock_pages);
    m->hugetlb_free += (uint64_t)(nr_pages / (int64_t)m->pageblock_pages);
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

int64_t load_take(struct machine *m, const char *kind_word, uint64_t nr_pages, int order,
                  const char *zone, int nid, int64_t block_id)
{
    int kind = kind_by_name(kind_word), zone_type = zone != NULL ? zone_type_by_name(zone) : -1;
    bool pinned = strcmp(kind_word, pinned_name) == 0;
    struct taken taken = {0};

    if (kind < 0)
        return fail(m, -EINVAL, "no kind of page is called %s", kind_word);
    if (zone != NULL && zone_type < 0)
        return fail(m, -EINVAL, "no zone is called %s", zone);
    if (nid >= (int)m->possible_nodes || (nid >= 0 && !m->nodes[nid].online))
        return fail(m, -EINVAL, "there is no node %d", nid);
    if (kind == KIND_MEMMAP)
        return fail(m, -EINVAL, "a memmap comes and goes with the memory it describes");
    struct page_request r = {
        .kind = (unsigned)kind,
        .order = order < 0 ? kind_order(m, (unsigned)kind) : (unsigned)order,
        .highest = pinned ? ZONE_NORMAL : page_kinds[kind].highest,
        .nid = nid < 0 ? first_node_with_memory(m) : nid,
        .nodemask = nid < 0 ? 0 : 1ull << nid,
    };
    if (r.order > m->max_order)
        return fail(m, -EINVAL, "order %u is larger than the largest, %u", r.order, m->max_order);
    if (kind == KIND_HUGETLB && r.order != m->pageblock_order)
        return fail(m, -EINVAL, "huge pages are of order %u here", m->pageblock_order);
    if (block_id >= 0 || zone_type >= 0 || nr_pages > total_free(m))
        (void)drain_all_zones(m);
    if (nr_pages > total_free(m))
        return fail(m, -ENOMEM, "%llu pages are more than are free", (unsigned long long)nr_pages);
    nr_pages = (nr_pages + (1ull << r.order) - 1) & ~((1ull << r.order) - 1);
    int err = 0;
    if (block_id < 0 && zone_type >= 0)
        err = page_request_in_zones(m, &r, zone_type, nr_pages, pinned, &taken);
    else if (block_id < 0)
        err = page_request_many(m, &r, nr_pages, pinned, &taken);
    else if (block_is_online(m, (uint64_t)block_id))
        err = page_request_in_range(m, &r, (uint64_t)block_id * m->block_pages,
                                    (uint64_t)(block_id + 1) * m->block_pages, zone_type, nr_pages,
                                    pinned, &taken);
    else
        err = fail(m, -ENODEV, "memory%lld is not there or not online", (long long)block_id);
    if (err == 0)
        hugetlb_count(m, r.kind, (int64_t)nr_pages);
    free(taken.got);
    return err != 0 ? err : (int64_t)nr_pages;
}

int64_t load_allocate(struct machine *m, struct task *task, const char *kind, uint64_t nr_pages,
                      int order, const char *zone, int nid, int64_t block_id)
{
    machine_lock(m, task);
    int64_t ret = sections_ready(m, 0);
    if (ret == 0)
        ret = load_take(m, kind, nr_pages, order, zone, nid, block_id);
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
    int64_t ret = sections_ready(m, 0);
    if (ret == 0)
        ret = free_many(m, kind, nr_pages, nid);
    machine_unlock(m);
    return ret;
}

/* ---- single pages ---- */

int page_pin(struct machine *m, struct task *task, uint64_t pfn, int delta)
{
    struct folio folio;
    int ret = 0;

    machine_lock(m, task);
    if ((ret = sections_ready(m, 0)) != 0)
        ; /* with its reason */
    else if (!folio_at(m, pfn, &folio))
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
    if ((ret = sections_ready(m, 0)) != 0)
        ; /* with its reason */
    else if (!folio_at(m, pfn, &folio))
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
            info->migratetype = migratetype_name(pageblock_mt(m, pfn));
            info->section_state = folio.page == NULL ? "uniform" : "detailed";
        }
    }
    machine_unlock(m);
    return ret;
}

/*
 * page_isolation.c (f) - take pageblocks out of the allocator's reach, and put them back.
 *
 * Owns: the decision whether a pageblock may be isolated and which page stands in the way, the order in which the
 * pageblocks of a range are tried, the undo, the dump of the page in the kernel log.
 * Does not own: moving what is in there (migrate.c), free lists (buddy.c).
 * Linux: mm/page_isolation.c start_isolate_page_range(), has_unmovable_pages(); mm/debug.c __dump_page().
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mm.h"

/* ---- the dump ---- */

enum { FLAG_UPTODATE = 2, FLAG_LRU = 4, FLAG_SLAB = 9, FLAG_RESERVED = 12, FLAG_SWAPBACKED = 19 };

void dump_page(struct machine *m, uint64_t pfn, const char *reason)
{
    struct folio folio;
    struct zone *z = zone_of(m, pfn);
    unsigned long long flags = z != NULL ? (unsigned long long)z->type << 56 | (unsigned long long)z->nid << 54 : 0;
    const char *names = "", *prefix = "", *mapping = "0000000000000000";
    unsigned refcount = 1, mapcount = 0;

    if (!folio_at(m, pfn, &folio))
        return;
    switch (folio.kind) {
    case KIND_RESERVED:
    case KIND_HOLE:
        flags |= 1ull << FLAG_RESERVED;
        names = "reserved|";
        break;
    case KIND_SLAB:
    case KIND_SLAB_RECLAIMABLE:
        flags |= 1ull << FLAG_SLAB;
        names = "slab|";
        break;
    case KIND_ANON:
        flags |= 1ull << FLAG_UPTODATE | 1ull << FLAG_LRU | 1ull << FLAG_SWAPBACKED;
        names = "uptodate|lru|swapbacked|";
        prefix = "anon ";
        mapcount = 1;
        refcount = 1 + folio.pins;
        break;
    case KIND_FILE:
    case KIND_SHMEM:
        flags |= 1ull << FLAG_UPTODATE | 1ull << FLAG_LRU;
        names = "uptodate|lru|";
        refcount = 2 + folio.pins;
        break;
    default:
        break;
    }
    klog(m, "page:(____ptrval____) refcount:%u mapcount:%u mapping:%s index:0x0 pfn:0x%llx", refcount, mapcount, mapping,
         (unsigned long long)pfn);
    klog(m, "%sflags: 0x%llx(%snode=%d|zone=%d)", prefix, flags, names, z != NULL ? z->nid : 0, z != NULL ? (int)z->type : 0);
    klog(m, "raw: %016llx 0000000000000000 dead000000000122 0000000000000000", flags);
    klog(m, "raw: 0000000000000000 0000000000000000 %08x%08x 0000000000000000", refcount, mapcount - 1);
    klog(m, "page dumped because: %s", reason);
}

/* ---- one pageblock ---- */

static bool folio_unmovable(struct machine *m, const struct folio *folio, const struct zone *z)
{
    switch (kind_mobility(folio->kind)) {
    case MOBILITY_RESERVED:
        return true;
    case MOBILITY_UNMOVABLE:
        /* Movable promises that whatever is there can move; only reserved pages are looked for. */
        return z == NULL || z->type != ZONE_MOVABLE;
    case MOBILITY_SKIPPED:
        return folio->kind == KIND_OFFLINE && !has(m, F_pageoffline_skipped);
    default:
        return false;
    }
}

static bool has_unmovable(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, struct unmovable *why)
{
    struct folio folio;
    const struct zone *z = zone_of(m, start_pfn);

    for (uint64_t pfn = start_pfn; pfn < end_pfn;) {
        if (!folio_at(m, pfn, &folio))
            return true;
        if (folio_unmovable(m, &folio, z)) {
            *why = (struct unmovable){.pfn = pfn, .head_pfn = folio.pfn, .kind = folio.kind};
            return true;
        }
        pfn = folio.pfn + (1ull << folio.order);
    }
    return false;
}

static int isolate_block(struct machine *m, uint64_t pfn, struct unmovable *why)
{
    int err = fault_at(m, "offline/pageblock");

    if (err != 0)
        return err;
    TRACE(m, "set_migratetype_isolate");
    if (has_unmovable(m, pfn, pfn + m->pageblock_pages, why)) {
        dump_page(m, why->pfn, "unmovable page");
        return fail(m, -EBUSY, "unmovable page 0x%llx (%s)", (unsigned long long)why->pfn, kind_name(why->kind));
    }
    TRACE_LEAF(m, "set_pageblock_migratetype");
    pageblock_set_isolated(m, pfn, true, NR_MT);
    TRACE_LEAF(m, "move_freepages_block");
    buddy_move_block(m, pfn, MT_ISOLATE);
    zone_of(m, pfn)->nr_isolated_blocks++;
    return 0;
}

static void unisolate_block(struct machine *m, uint64_t pfn, unsigned mt)
{
    if (!pageblock_isolated(m, pfn))
        return;
    pageblock_set_isolated(m, pfn, false, has(m, F_isolate_bit) ? NR_MT : mt);
    buddy_move_block(m, pfn, pageblock_mt(m, pfn));
    zone_of(m, pfn)->nr_isolated_blocks--;
}

/* ---- a range ---- */

/* A section that can be isolated as a whole: nothing would stop any of its pageblocks, and all are Movable. */
static bool section_plain(const struct section *s)
{
    return s != NULL && (s->state & SECTION_ONLINE) != 0 && s->map == NULL && s->blocks == NULL && s->zones == NULL &&
           s->mt == MT_MOVABLE && (s->kind == KIND_FREE || kind_mobility(s->kind) == MOBILITY_MOVABLE);
}

/* End the isolation of whatever is isolated in the range, section by section. */
static void unisolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned mt)
{
    for (uint64_t at = start_pfn; at < start_pfn + nr_pages; at += m->pages_per_section) {
        struct section *s = section_online_of(m, at);
        if (s == NULL || s->nr_isolated == 0)
            continue;
        if (s->map == NULL && s->blocks == NULL)
            buddy_isolate_section(m, s, false, has(m, F_isolate_bit) ? NR_MT : mt);
        else
            for (uint64_t pfn = at; pfn < at + m->pages_per_section; pfn += m->pageblock_pages)
                unisolate_block(m, pfn, mt);
        buddy_settle(m, s);
    }
}

int isolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct unmovable *why)
{
    uint64_t end_pfn = start_pfn + nr_pages, last = end_pfn - m->pageblock_pages, pfn;
    bool plain = true, first_last = has(m, F_isolate_first_last);
    int err;

    TRACE(m, "start_isolate_page_range");
    if ((err = fault_at(m, "offline/isolate")) != 0)
        return err;
    for (pfn = start_pfn; pfn < end_pfn && plain; pfn += m->pages_per_section)
        plain = section_plain(section_of(m, pfn));
    if (plain) {
        {
            TRACE(m, "isolate_single_pageblock");
            TRACE(m, "set_migratetype_isolate");
            TRACE_LEAF(m, "set_pageblock_migratetype");
            TRACE_LEAF(m, "move_freepages_block");
        }
        for (pfn = start_pfn; pfn < end_pfn; pfn += m->pages_per_section)
            buddy_isolate_section(m, section_of(m, pfn), true, NR_MT);
        return 0;
    }
    if (first_last) {
        {
            TRACE(m, "isolate_single_pageblock");
            if ((err = isolate_block(m, start_pfn, why)) != 0)
                return err;
        }
        TRACE(m, "isolate_single_pageblock");
        if (last != start_pfn && (err = isolate_block(m, last, why)) != 0) {
            TRACE(m, "unset_migratetype_isolate");
            TRACE_LEAF(m, "move_freepages_block");
            TRACE_LEAF(m, "set_pageblock_migratetype");
            unisolate_range(m, start_pfn, nr_pages, MT_MOVABLE);
            return err;
        }
    }
    for (pfn = start_pfn; pfn < end_pfn; pfn += m->pageblock_pages) {
        if (first_last && (pfn == start_pfn || pfn == last))
            continue;
        if ((err = isolate_block(m, pfn, why)) == 0)
            continue;
        undo_isolate_range(m, start_pfn, nr_pages, MT_MOVABLE);
        return err;
    }
    return 0;
}

void undo_isolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned mt)
{
    TRACE(m, "undo_isolate_page_range");
    TRACE_LEAF(m, "pfn_to_online_page");
    TRACE(m, "unset_migratetype_isolate");
    TRACE_LEAF(m, "move_freepages_block");
    TRACE_LEAF(m, "set_pageblock_migratetype");
    unisolate_range(m, start_pfn, nr_pages, mt);
}

int test_isolated(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    struct folio folio;

    TRACE(m, "test_pages_isolated");
    TRACE_LEAF(m, "pfn_to_online_page");
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn = folio.pfn + (1ull << folio.order)) {
        if (!folio_at(m, pfn, &folio))
            return -EBUSY;
        if (folio.page == NULL && folio.kind == KIND_FREE)
            folio = (struct folio){.pfn = section_first_pfn(m, folio.s) + m->pages_per_section - 1};
        else if (folio.kind != KIND_FREE && folio.kind != KIND_POISONED && folio.kind != KIND_MEMMAP_SELF)
            return -EBUSY;
    }
    return 0;
}

/*
 * buddy.c - folios change hands: freed, merged, handed over for the first time.
 *
 * Owns: how freed chunks merge, managed pages, folios that are held. Does not own: taking pages
 * (buddy_alloc.c), whole sections (buddy_section.c), the lists themselves (free_lists.h), which
 * zone to ask (page_alloc.c), when to isolate.
 *
 * Order of ties, written down: a freed chunk goes to the head of its list, or to the tail where the
 * caller says so or where its next larger buddy is free already and the two may soon merge; fresh
 * memory goes in ascending order, so that its last chunk is used first where it goes to the head.
 * Linux: mm/page_alloc.c __free_one_page().
 */
#include "free_lists.h"

/* ---- folios that are held ---- */

void folio_link(struct machine *m, struct section *s, uint64_t offset, unsigned kind,
                unsigned order)
{
    held_add(m, zone_in_section(m, s, offset), s, offset, kind, order);
}

void folio_unlink(struct machine *m, struct folio *folio)
{
    detail(m, folio->s);
    held_del(m, zone_in_section(m, folio->s, folio->offset), folio->s, folio->offset);
}

void buddy_pin(struct machine *m, struct folio *folio, int delta)
{
    detail(m, folio->s);
    struct page *page = &folio->s->map[folio->offset];
    bool was = page->pins != 0;
    page->pins = (uint8_t)(page->pins + delta);
    folio->s->nr_pinned += (uint32_t)(page->pins != 0) - (uint32_t)was;
    folio->page = page;
    folio->pins = page->pins;
}

/* ---- freeing ---- */

static inline bool mergeable(unsigned mt)
{
    return mt < MT_HIGHATOMIC;
}

/* Put a chunk that is on no list into the lists, merged with every free buddy. */
static void free_merge(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                       unsigned order, bool to_tail)
{
    unsigned mt = pageblock_mt_of(m, s, (unsigned)(offset >> m->pageblock_order));

    while (order < m->max_order) {
        uint64_t buddy = offset ^ (1ull << order);
        const struct page *page = &s->map[buddy];
        if (page->kind != KIND_FREE || page->order != order)
            break;
        if (s->zones != NULL && zone_in_section(m, s, buddy) != z)
            break;
        if (order >= m->pageblock_order) {
            unsigned buddy_mt = pageblock_mt_of(m, s, (unsigned)(buddy >> m->pageblock_order));
            if (buddy_mt != mt && (!mergeable(mt) || !mergeable(buddy_mt)))
                break;
        }
        free_del_from(m, z, s, buddy, order, page->mt);
        offset &= ~(1ull << order);
        order++;
    }
    if (!to_tail && order < m->max_order - 1) {
        /* The buddy of the next order is free: this chunk may merge soon, so it is better used
         * last. */
        uint64_t higher = (offset & ~(1ull << order)) ^ (1ull << (order + 1));
        const struct page *page = &s->map[higher];
        to_tail = page->kind == KIND_FREE && page->order == order + 1;
    }
    free_add(m, z, s, offset, order, mt, to_tail);
    if (order == m->max_order && s->nr_free == m->pages_per_section)
        section_fold_free(m, s);
}

void buddy_rejoin(struct machine *m, uint64_t pfn)
{
    struct folio folio;

    if (!folio_at(m, pfn, &folio) || folio.kind != KIND_FREE || folio.page == NULL)
        return;
    struct zone *z = zone_in_section(m, folio.s, folio.offset);
    free_del(m, z, folio.s, folio.offset);
    free_merge(m, z, folio.s, folio.offset, folio.order, false);
}

static inline void vacate(struct machine *m, struct zone *z, const struct folio *folio)
{
    detail(m, folio->s);
    held_del(m, z, folio->s, folio->offset);
    m->pgfree += 1ull << folio->order;
}

void buddy_vacate(struct machine *m, const struct folio *folio)
{
    vacate(m, zone_in_section(m, folio->s, folio->offset), folio);
}

/* Are all pageblocks from `from` up to `to` of the zone, and on the side of isolation, of the page
 * at `offset`? */
static bool one_side(struct machine *m, const struct section *s, uint64_t offset, uint64_t from,
                     uint64_t to)
{
    if (s->nr_isolated == 0 && s->zones == NULL)
        return true;
    bool isolated = pageblock_mt_of(m, s, (unsigned)(offset >> m->pageblock_order)) == MT_ISOLATE;
    for (; from < to; from += m->pageblock_pages)
        if (zone_in_section(m, s, from) != zone_in_section(m, s, offset) ||
            (pageblock_mt_of(m, s, (unsigned)(from >> m->pageblock_order)) == MT_ISOLATE) !=
                isolated)
            return false;
    return true;
}

/* The largest chunk of one zone, and of one side of isolation, that begins here. */
static unsigned chunk_order(struct machine *m, const struct section *s, uint64_t offset,
                            uint64_t nr_pages)
{
    unsigned order = 0;

    while (order < m->max_order && (offset & ((2ull << order) - 1)) == 0 &&
           (2ull << order) <= nr_pages &&
           (order < m->pageblock_order ||
            one_side(m, s, offset, offset + (1ull << order), offset + (2ull << order))))
        order++;
    return order;
}

void buddy_free_vacated(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    for (uint64_t pfn = start_pfn, end_pfn = start_pfn + nr_pages; pfn < end_pfn;) {
        struct section *s = section_of(m, pfn);
        uint64_t offset = pfn & (m->pages_per_section - 1);
        struct zone *z = zone_in_section(m, s, offset);
        unsigned order = chunk_order(m, s, offset, end_pfn - pfn);
        free_merge(m, z, s, offset, order, false);
        pfn += 1ull << order;
    }
}

void buddy_free(struct machine *m, const struct folio *folio)
{
    struct zone *z = zone_in_section(m, folio->s, folio->offset);

    vacate(m, z, folio);
    if (folio->order > m->pageblock_order && folio->s->nr_isolated != 0)
        buddy_free_vacated(m, folio->pfn, 1ull << folio->order); /* a part of it may be isolated */
    else
        free_merge(m, z, folio->s, folio->offset, folio->order, false);
}

void buddy_free_section(struct machine *m, struct section *s)
{
    struct zone *z = zone_by_index(m, s->zone);

    list_del(m, section_list(m, s), ref_of(m, s, 0), m->pages_per_section >> s->order);
    z->kind_pages[s->kind] -= m->pages_per_section;
    pageblock_fold(m, s);
    s->alike_pages = 0;
    m->pgfree += m->pages_per_section;
    if (s->blocks == NULL) {
        s->kind = KIND_FREE;
        s->order = (uint8_t)m->max_order;
        s->nr_free = (uint32_t)m->pages_per_section;
        count_free(z, s->mt, (int64_t)m->pages_per_section);
        list_add_tail(m, section_list(m, s), ref_of(m, s, 0), m->chunks_per_section);
        return;
    }
    s->kind = KIND_INSIDE;
    section_detail(m, s, NULL);
    /* Youngest first, as the folios would go one by one. */
    for (uint64_t offset = m->pages_per_section; offset > 0; offset -= m->pageblock_pages)
        free_merge(m, z, s, offset - m->pageblock_pages, m->pageblock_order, false);
}

void buddy_drain(struct machine *m, struct zone *z)
{
    struct folio folio;

    while (z->held[KIND_PCP].head != 0 &&
           folio_at(m, pfn_of_ref(m, z->held[KIND_PCP].head), &folio))
        buddy_free(m, &folio);
}

/* ---- a part of a section ---- */

void buddy_split_at(struct machine *m, uint64_t pfn)
{
    struct folio folio;

    if (!folio_at(m, pfn, &folio) || folio.kind != KIND_FREE || folio.pfn == pfn)
        return;
    detail(m, folio.s);
    struct section *s = folio.s;
    struct zone *z = zone_in_section(m, s, folio.offset);
    uint64_t offset = folio.offset, target = pfn & (m->pages_per_section - 1);
    unsigned order = folio.order, mt = s->map[offset].mt;
    free_del(m, z, s, offset);
    while (offset != target) {
        order--;
        uint64_t middle = offset + (1ull << order);
        free_add(m, z, s, target < middle ? middle : offset, order, mt, false);
        offset = target < middle ? offset : middle;
    }
    free_add(m, z, s, offset, order, mt, false);
}

void buddy_seize(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned kind)
{
    struct folio folio;

    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages;
         pfn = folio.pfn + (1ull << folio.order)) {
        if (!folio_at(m, pfn, &folio))
            return;
        detail(m, folio.s);
        free_del(m, zone_in_section(m, folio.s, folio.offset), folio.s, folio.offset);
    }
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pageblock_pages) {
        struct section *s = section_of(m, pfn);
        uint64_t offset = pfn & (m->pages_per_section - 1);
        struct zone *z = zone_in_section(m, s, offset);
        held_add(m, z, s, offset, kind, m->pageblock_order);
        z->managed -= m->pageblock_pages;
    }
}

/* ---- memory comes ---- */

void buddy_give_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, bool to_tail)
{
    uint64_t end_pfn = start_pfn + nr_pages;

    for (uint64_t pfn = start_pfn; pfn < end_pfn;) {
        struct section *s = section_of(m, pfn);
        uint64_t offset = pfn & (m->pages_per_section - 1);
        struct zone *z = zone_in_section(m, s, offset);
        if (offset == 0 && end_pfn - pfn >= m->pages_per_section && s->map == NULL &&
            s->zones == NULL && s->blocks == NULL && s->kind == KIND_INSIDE) {
            s->kind = KIND_FREE;
            s->order = (uint8_t)m->max_order;
            s->nr_free = (uint32_t)m->pages_per_section;
            z->managed += m->pages_per_section;
            count_free(z, s->mt, (int64_t)m->pages_per_section);
            if (to_tail) {
                list_add_tail(m, section_list(m, s), ref_of(m, s, 0), m->chunks_per_section);
            } else {
                s->state |= SECTION_DESCENDING;
                list_add_head(m, section_list(m, s), ref_of(m, s, 0), m->chunks_per_section);
            }
            pfn += m->pages_per_section;
            continue;
        }
        unsigned order = chunk_order(m, s, offset, end_pfn - pfn);
        detail(m, s);
        z->managed += 1ull << order;
        pfn += 1ull << order;
        free_merge(m, z, s, offset, order, to_tail);
    }
}

/*
 * buddy.c - the free lists: by zone, order and migratetype; and the hand-over of folios between
 * them and whoever holds pages.
 *
 * Owns: zone->free_area, zone->held, the counters that are the lengths of those lists (free,
 * isolated_free, kind_pages, managed), the heads in a detailed section's memmap. Does not own:
 * which zone to ask (workload.c), when to isolate.
 *
 * Order of ties, written down: a freed chunk goes to the head of its list, or to the tail where the
 * caller says so or where its next larger buddy is free already and the two may soon merge; fresh
 * memory goes in ascending order, so that its last chunk is used first where it goes to the head;
 * an allocation takes the head; of a chunk that is split the lower part is used first. A section
 * that becomes wholly free in one migratetype moves as one to the tail of its list, ascending; one
 * that becomes folios of one kind and of at least a pageblock each moves as one to the head of its
 * list. Linux: mm/page_alloc.c __free_one_page(), __rmqueue_smallest(), __rmqueue_fallback(),
 * steal_suitable_fallback().
 */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

/* ---- a chunk on a free list ---- */

static inline struct list *free_list(struct zone *z, unsigned order, unsigned mt)
{
    return &z->free_area[order][mt];
}

static inline void count_free(struct zone *z, unsigned mt, int64_t nr_pages)
{
    if (mt == MT_ISOLATE)
        z->isolated_free += (uint64_t)nr_pages;
    else
        z->free += (uint64_t)nr_pages;
}

static void free_add(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                     unsigned order, unsigned mt, bool to_tail)
{
    struct page *page = &s->map[offset];
    ref_t ref = ref_of_page(s, offset);

    page->kind = KIND_FREE;
    page->order = (uint8_t)order;
    page->flags = (uint8_t)mt; /* which list it is on */
    page->pins = 0;
    if (to_tail)
        list_add_tail(m, free_list(z, order, mt), ref, 1);
    else
        list_add_head(m, free_list(z, order, mt), ref, 1);
    count_free(z, mt, 1ll << order);
    s->nr_free += 1u << order;
}

/* order and mt: of the list it is on. */
static inline void free_del_from(struct machine *m, struct zone *z, struct section *s,
                                 uint64_t offset, unsigned order, unsigned mt)
{
    struct page *page = &s->map[offset];

    list_del(m, free_list(z, order, mt), ref_of_page(s, offset), 1);
    count_free(z, mt, -(1ll << order));
    s->nr_free -= 1u << order;
    page->kind = KIND_INSIDE;
    page->flags = 0;
}

static void free_del(struct machine *m, struct zone *z, struct section *s, uint64_t offset)
{
    free_del_from(m, z, s, offset, s->map[offset].order, s->map[offset].flags);
}

/* The list a uniform free section stands on. */
static inline struct list *section_list(struct machine *m, struct section *s)
{
    struct zone *z = zone_by_index(m, s->zone);

    return s->kind == KIND_FREE   ? free_list(z, m->max_order, s->mt)
           : s->kind >= KIND_ANON ? &z->held[s->kind]
                                  : NULL;
}

static inline void detail(struct machine *m, struct section *s)
{
    if (s->map == NULL)
        section_detail(m, s, s->kind == KIND_INSIDE ? NULL : section_list(m, s));
}

/* ---- a folio that is held ---- */

static void section_fold_held(struct machine *m, struct section *s);

/* Only folios of at least a pageblock can make a section uniform again: others are not worth a
 * count. */
static bool folds(const struct machine *m, unsigned kind, unsigned order)
{
    return kind >= KIND_ANON && order >= m->pageblock_order;
}

/* How many pages look like this one. */
static uint32_t count_alike(const struct machine *m, const struct section *s, unsigned kind,
                            unsigned order)
{
    uint32_t pages = 0;

    for (uint64_t offset = 0; offset < m->pages_per_section; offset += 1ull << order)
        if (s->map[offset].kind == kind && s->map[offset].order == order)
            pages += 1u << order;
    return pages;
}

static void held_add(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                     unsigned kind, unsigned order)
{
    struct page *page = &s->map[offset];
    uint64_t nr_pages = 1ull << order;

    page->kind = (uint8_t)kind;
    page->order = (uint8_t)order;
    page->flags = 0;
    page->pins = 0;
    if (kind >= KIND_ANON)
        list_add_head(m, &z->held[kind], ref_of_page(s, offset), 1);
    if (z != NULL)
        z->kind_pages[kind] += nr_pages;
    if (!folds(m, kind, order))
        return;
    if (s->alike_pages == 0) {
        if (s->nr_free != 0)
            return; /* counted when the last free page goes: not before can the section be uniform
                     */
        s->alike_kind = (uint8_t)kind;
        s->alike_order = (uint8_t)order;
        s->alike_pages = count_alike(m, s, kind, order);
    } else if (s->alike_kind == kind && s->alike_order == order) {
        s->alike_pages += (uint32_t)nr_pages;
    }
}

static void held_del(struct machine *m, struct zone *z, struct section *s, uint64_t offset)
{
    struct page *page = &s->map[offset];
    const unsigned kind = page->kind, order = page->order;
    uint64_t nr_pages = 1ull << order;

    if (kind >= KIND_ANON)
        list_del(m, &z->held[kind], ref_of_page(s, offset), 1);
    if (z != NULL)
        z->kind_pages[kind] -= nr_pages;
    if (s->alike_pages != 0 && s->alike_kind == kind && s->alike_order == order)
        s->alike_pages -= (uint32_t)nr_pages;
    if (page->pins != 0)
        s->nr_pinned--;
    page->kind = KIND_INSIDE;
    page->pins = 0;
}

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

void buddy_set_kind(struct machine *m, struct folio *folio, unsigned kind)
{
    struct section *s = folio->s;
    struct zone *z = zone_in_section(m, s, folio->offset);

    detail(m, s);
    held_del(m, z, s, folio->offset);
    held_add(m, z, s, folio->offset, kind, folio->order);
    if (kind == KIND_POISONED)
        s->nr_poisoned += 1u << folio->order;
    folio->kind = kind;
    folio->page = &s->map[folio->offset];
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
    unsigned order = folio.order, mt = s->map[offset].flags;
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

/* ---- sections that become alike again ---- */

static void section_fold_held(struct machine *m, struct section *s)
{
    unsigned kind = s->alike_kind, order = s->alike_order;

    if (s->alike_pages != m->pages_per_section || s->zones != NULL || s->nr_pinned != 0)
        return;
    struct list *list = &zone_by_index(m, s->zone)->held[kind];
    for (uint64_t offset = 0; offset < m->pages_per_section; offset += 1ull << order)
        list_del(m, list, ref_of(m, s, offset), 1);
    section_drop_map(m, s);
    s->kind = (uint8_t)kind;
    s->order = (uint8_t)order;
    list_add_head(m, list, ref_of(m, s, 0), m->pages_per_section >> order);
}

static void section_fold_free(struct machine *m, struct section *s)
{
    if (s->nr_free != m->pages_per_section || s->zones != NULL || s->nr_isolated != 0 ||
        s->map == NULL)
        return;
    for (uint64_t offset = 0; offset < m->pages_per_section; offset += 1ull << m->max_order) {
        const struct page *page = &s->map[offset];
        if (page->kind != KIND_FREE || page->order != m->max_order ||
            page->flags != s->map[0].flags)
            return;
    }
    unsigned mt = s->map[0].flags;
    pageblock_fold(m, s);
    if (s->blocks != NULL || s->mt != mt)
        return;
    struct zone *z = zone_by_index(m, s->zone);
    struct list *list = free_list(z, m->max_order, mt);
    for (uint64_t offset = 0; offset < m->pages_per_section; offset += 1ull << m->max_order)
        list_del(m, list, ref_of(m, s, offset), 1);
    section_drop_map(m, s);
    s->kind = KIND_FREE;
    s->order = (uint8_t)m->max_order;
    s->alike_pages = 0;
    list_add_tail(m, list, ref_of(m, s, 0), m->chunks_per_section);
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
        free_del_from(m, z, s, buddy, order, page->flags);
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

/* ---- allocating ---- */

/* Split a chunk that is on no list: its lowest 2^order pages are left over, upper halves go to the
 * list of mt. */
static void expand(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                   unsigned from, unsigned order, unsigned mt)
{
    while (from > order) {
        from--;
        free_add(m, z, s, offset + (1ull << from), from, mt, false);
    }
}

static struct section *list_head_section(struct machine *m, struct list *list, uint64_t *offset)
{
    struct section *s = section_of_ref(m, list->head);

    if ((list->head & REF_SECTION) != 0)
        section_detail(m, s, list);
    *offset = list->head - s->base;
    return s;
}

static bool take_smallest(struct machine *m, struct zone *z, unsigned order, unsigned mt,
                          unsigned kind, uint64_t *pfn)
{
    for (unsigned from = order; from <= m->max_order; from++) {
        struct list *list = free_list(z, from, mt);
        if (list->head == 0)
            continue;
        uint64_t offset;
        struct section *s = list_head_section(m, list, &offset);
        free_del_from(m, z, s, offset, from, mt);
        expand(m, z, s, offset, from, order, mt);
        held_add(m, z, s, offset, kind, order);
        *pfn = section_first_pfn(m, s) + offset;
        z->allocated += 1ull << order;
        if (s->alike_pages == m->pages_per_section)
            section_fold_held(m, s);
        return true;
    }
    return false;
}

static const uint8_t fallbacks[MT_HIGHATOMIC][2] = {
    [MT_UNMOVABLE] = {MT_RECLAIMABLE, MT_MOVABLE},
    [MT_MOVABLE] = {MT_RECLAIMABLE, MT_UNMOVABLE},
    [MT_RECLAIMABLE] = {MT_UNMOVABLE, MT_MOVABLE},
};

static int find_fallback(const struct machine *m, struct zone *z, unsigned order, unsigned mt,
                         bool *can_steal)
{
    *can_steal = order >= m->pageblock_order / 2 || mt == MT_RECLAIMABLE || mt == MT_UNMOVABLE;
    for (unsigned i = 0; i < 2; i++)
        if (free_list(z, order, fallbacks[mt][i])->head != 0)
            return fallbacks[mt][i];
    return -1;
}

static void move_chunk(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                       unsigned mt)
{
    unsigned order = s->map[offset].order;

    free_del(m, z, s, offset);
    free_add(m, z, s, offset, order, mt, true);
}

/* Free pages of a pageblock move to the list of mt; movable ones that are held are counted in
 * *movable. */
static uint64_t move_block(struct machine *m, struct section *s, uint64_t offset, unsigned mt,
                           uint64_t *movable)
{
    uint64_t end = (offset & ~(m->pageblock_pages - 1)) + m->pageblock_pages, moved = 0;
    struct zone *z = zone_in_section(m, s, offset);

    detail(m, s);
    offset = end - m->pageblock_pages;
    while (offset < end) {
        const struct page *page = &s->map[offset];
        uint64_t nr_pages = 1ull << page->order;
        if (page->kind == KIND_INSIDE) { /* within a chunk or folio that began earlier */
            offset++;
            while (offset < end && s->map[offset].kind == KIND_INSIDE)
                offset++;
            continue;
        }
        if (page->kind == KIND_FREE) {
            move_chunk(m, z, s, offset, mt);
            moved += nr_pages;
        } else if (page->kind >= KIND_ANON && page->kind <= KIND_SHMEM) {
            *movable += nr_pages;
        }
        offset += nr_pages;
    }
    return moved;
}

uint64_t buddy_move_block(struct machine *m, uint64_t pfn, unsigned mt)
{
    uint64_t movable = 0;

    return move_block(m, section_of(m, pfn), pfn & (m->pages_per_section - 1), mt, &movable);
}

static void steal(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                  unsigned start_mt, bool whole)
{
    unsigned order = s->map[offset].order;
    uint64_t first = section_first_pfn(m, s);

    TRACE(m, "steal_suitable_fallback");
    if (order >= m->pageblock_order) {
        TRACE_LEAF(m, "set_pageblock_migratetype");
        for (uint64_t at = offset; at < offset + (1ull << order); at += m->pageblock_pages)
            pageblock_set_mt(m, first + at, start_mt);
    } else if (whole) {
        unsigned old_mt = pageblock_mt_of(m, s, (unsigned)(offset >> m->pageblock_order));
        uint64_t movable = 0, moved = move_block(m, s, offset, start_mt, &movable);
        uint64_t alike = start_mt == MT_MOVABLE ? movable
                         : old_mt == MT_MOVABLE ? m->pageblock_pages - moved - movable
                                                : 0;
        if (moved != 0) {
            if (moved + alike >= m->pageblock_pages / 2)
                pageblock_set_mt(m, first + offset, start_mt);
            return;
        }
    }
    move_chunk(m, z, s, offset, start_mt);
}

static bool take_fallback(struct machine *m, struct zone *z, unsigned order, unsigned mt,
                          bool nofragment)
{
    unsigned min_order = nofragment && order < m->pageblock_order ? m->pageblock_order : order;
    int fallback = -1;
    unsigned from = m->max_order;
    bool can_steal = false;

    TRACE_LEAF(m, "find_suitable_fallback");
    for (;; from--) {
        fallback = find_fallback(m, z, from, mt, &can_steal);
        if (fallback >= 0)
            break;
        if (from == min_order)
            return false;
    }
    if (!can_steal && mt == MT_MOVABLE && from > order)
        for (from = order; (fallback = find_fallback(m, z, from, mt, &can_steal)) < 0;)
            from++;
    uint64_t offset;
    struct section *s = list_head_section(m, free_list(z, from, (unsigned)fallback), &offset);
    steal(m, z, s, offset, mt, can_steal);
    return true;
}

bool buddy_alloc(struct machine *m, struct zone *z, unsigned order, unsigned mt, unsigned kind,
                 bool nofragment, uint64_t *pfn)
{
    if (order > m->max_order)
        return false;
    while (!take_smallest(m, z, order, mt, kind, pfn))
        if (!take_fallback(m, z, order, mt, nofragment))
            return false;
    return true;
}

bool buddy_alloc_section(struct machine *m, struct zone *z, unsigned order, unsigned mt,
                         unsigned kind)
{
    for (unsigned smaller = order; smaller < m->max_order; smaller++)
        if (free_list(z, smaller, mt)->head != 0)
            return false; /* single allocations would use those first */
    struct list *list = free_list(z, m->max_order, mt);
    if ((list->head & REF_SECTION) == 0 || order > m->max_order)
        return false;
    struct section *s = section_of_ref(m, list->head);
    if ((s->state & SECTION_DESCENDING) != 0)
        return false; /* they would use its highest chunk first */
    list_del(m, list, list->head, m->chunks_per_section);
    count_free(z, mt, -(int64_t)m->pages_per_section);
    s->nr_free = 0;
    s->kind = (uint8_t)kind;
    s->order = (uint8_t)order;
    s->alike_kind = (uint8_t)kind;
    s->alike_order = (uint8_t)order;
    s->alike_pages = folds(m, kind, order) ? (uint32_t)m->pages_per_section : 0;
    z->kind_pages[kind] += m->pages_per_section;
    z->allocated += m->pages_per_section;
    list_add_head(m, &z->held[kind], ref_of(m, s, 0), m->pages_per_section >> order);
    return true;
}

bool buddy_alloc_range(struct machine *m, uint64_t start_pfn, uint64_t end_pfn, unsigned order,
                       unsigned kind, uint64_t *pfn)
{
    uint64_t at = start_pfn;
    struct folio folio;

    while (at < end_pfn) {
        if (!folio_at(m, at, &folio)) {
            at = (at | (m->pages_per_section - 1)) + 1;
            continue;
        }
        uint64_t nr_pages = 1ull << folio.order;
        if (folio.kind != KIND_FREE || folio.order < order || folio.pfn < start_pfn ||
            pageblock_isolated(m, folio.pfn)) {
            at = folio.pfn + nr_pages;
            continue;
        }
        detail(m, folio.s);
        struct zone *z = zone_in_section(m, folio.s, folio.offset);
        unsigned mt = folio.s->map[folio.offset].flags;
        free_del(m, z, folio.s, folio.offset);
        expand(m, z, folio.s, folio.offset, folio.order, order, mt);
        held_add(m, z, folio.s, folio.offset, kind, order);
        z->allocated += 1ull << order;
        *pfn = folio.pfn;
        section_fold_held(m, folio.s);
        return true;
    }
    return false;
}

/* One page out of the free chunk that it is in. */
static bool take_page(struct machine *m, uint64_t pfn, unsigned kind)
{
    struct folio folio;

    if (!folio_at(m, pfn, &folio) || folio.kind != KIND_FREE)
        return false;
    detail(m, folio.s);
    struct section *s = folio.s;
    struct zone *z = zone_in_section(m, s, folio.offset);
    uint64_t offset = folio.offset, target = pfn & (m->pages_per_section - 1);
    unsigned order = folio.order, mt = s->map[offset].flags;
    free_del(m, z, s, offset);
    while (order > 0) { /* keep the half that holds the page, give back the other */
        order--;
        uint64_t middle = offset + (1ull << order);
        free_add(m, z, s, target < middle ? middle : offset, order, mt, false);
        offset = target < middle ? offset : middle;
    }
    held_add(m, z, s, target, kind, 0);
    return true;
}

bool buddy_take_page(struct machine *m, uint64_t pfn)
{
    if (!take_page(m, pfn, KIND_POISONED))
        return false;
    section_of(m, pfn)->nr_poisoned++;
    return true;
}

void buddy_keep(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn++)
        take_page(m, pfn, KIND_PCP);
}

void buddy_drain(struct machine *m, struct zone *z)
{
    struct folio folio;

    while (z->held[KIND_PCP].head != 0 &&
           folio_at(m, pfn_of_ref(m, z->held[KIND_PCP].head), &folio))
        buddy_free(m, &folio);
}

/* ---- memory comes and goes ---- */

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

void buddy_take_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section) {
        struct section *s = section_of(m, pfn);
        struct zone *z = zone_by_index(m, s->zone);
        if (s->map == NULL) {
            warn_on(m, s->kind != KIND_FREE, "a section goes offline that is not free");
            s->state &= (uint8_t)~SECTION_DESCENDING;
            list_del(m, section_list(m, s), ref_of(m, s, 0), m->chunks_per_section);
            count_free(z, s->mt, -(int64_t)m->pages_per_section);
            z->managed -= m->pages_per_section;
        }
        for (uint64_t offset = 0; s->map != NULL && offset < m->pages_per_section;) {
            unsigned kind = s->map[offset].kind;
            uint64_t pages = 1ull << s->map[offset].order;
            bool unmanaged = kind == KIND_MEMMAP_SELF || kind == KIND_HOLE ||
                             kind == KIND_UNPLUGGED;
            warn_on(
                m, kind != KIND_FREE && kind != KIND_POISONED && !unmanaged && kind != KIND_OFFLINE,
                "a page goes offline that is held");
            if (kind == KIND_FREE)
                free_del(m, z, s, offset);
            else
                held_del(m, z, s, offset);
            z->managed -= !unmanaged ? pages : 0;
            offset += pages;
        }
        section_drop_map(m, s);
        s->kind = KIND_INSIDE;
        s->nr_free = s->alike_pages = 0;
    }
}

void buddy_isolate_section(struct machine *m, struct section *s, bool isolated, unsigned mt_after)
{
    struct zone *z = zone_by_index(m, s->zone);

    if (s->kind == KIND_FREE) {
        list_del(m, section_list(m, s), ref_of(m, s, 0), m->chunks_per_section);
        count_free(z, s->mt, -(int64_t)s->nr_free);
    }
    pageblock_set_section_isolated(m, s, isolated, mt_after);
    s->state &= (uint8_t)~SECTION_DESCENDING;
    if (s->kind == KIND_FREE) {
        list_add_tail(m, section_list(m, s), ref_of(m, s, 0), m->chunks_per_section);
        count_free(z, s->mt, (int64_t)s->nr_free);
    }
    z->nr_isolated_blocks += isolated ? m->pageblocks_per_section
                                      : -(uint64_t)m->pageblocks_per_section;
}

void buddy_settle(struct machine *m, struct section *s)
{
    pageblock_fold(m, s);
    section_fold_free(m, s);
}

/*
 * buddy_alloc.c - taking pages off the free lists: by order and migratetype, by address, a section
 * at a time.
 *
 * Owns: which chunk is taken, how it is split, when a pageblock is stolen from another migratetype.
 * Does not own: which zone to ask (page_alloc.c), freeing (buddy.c). An allocation takes the head
 * of a list; of a chunk that is split the lower part is used first. Linux: mm/page_alloc.c
 * __rmqueue_smallest(), __rmqueue_fallback(), steal_suitable_fallback().
 */
#include "free_lists.h"

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

    TRACE_WITHIN(m, "steal_suitable_fallback");
    if (order >= m->pageblock_order) {
        TRACE_WITHIN(m, "set_pageblock_migratetype");
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

    for (;; from--) {
        {
            TRACE_WITHIN(m, "find_suitable_fallback");
            fallback = find_fallback(m, z, from, mt, &can_steal);
        }
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
    if (order > m->max_order || sections_short(m))
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

    if (sections_short(m))
        return false;
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
        unsigned mt = folio.s->map[folio.offset].mt;
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
    unsigned order = folio.order, mt = s->map[offset].mt;
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

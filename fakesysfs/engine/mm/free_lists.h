/*
 * free_lists.h - how one chunk or folio is put on its list and taken off, for the files of the
 * buddy only.
 *
 * Owns: zone->free_area, zone->held and the counters that are the lengths of those lists (free,
 * isolated_free, kind_pages), the heads in a detailed section's memmap: nobody else writes them.
 * Does not own: when to do so (buddy.c, buddy_alloc.c, buddy_section.c). Inline, because every page
 * that is allocated or freed runs through here several times.
 */
#ifndef FAKESYSFS_FREE_LISTS_H
#define FAKESYSFS_FREE_LISTS_H

#include "machine.h"

/* ---- buddy_section.c: a section that becomes alike again is one entry ---- */
void section_fold_held(struct machine *m, struct section *s); /* all held by one kind */
void section_fold_free(struct machine *m, struct section *s); /* all free */

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

static inline void free_add(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                            unsigned order, unsigned mt, bool to_tail)
{
    struct page *page = &s->map[offset];
    ref_t ref = ref_of_page(s, offset);

    page->kind = KIND_FREE;
    page->order = (uint8_t)order;
    page->mt = (uint8_t)mt; /* which list it is on */
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
    page->mt = 0;
}

static inline void free_del(struct machine *m, struct zone *z, struct section *s, uint64_t offset)
{
    free_del_from(m, z, s, offset, s->map[offset].order, s->map[offset].mt);
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

/* Only folios of at least a pageblock can make a section uniform again: others are not worth a
 * count. */
static inline bool folds(const struct machine *m, unsigned kind, unsigned order)
{
    return kind >= KIND_ANON && order >= m->pageblock_order;
}

/* How many pages look like this one. */
static inline uint32_t count_alike(const struct machine *m, const struct section *s, unsigned kind,
                                   unsigned order)
{
    uint32_t pages = 0;

    for (uint64_t offset = 0; offset < m->pages_per_section; offset += 1ull << order)
        if (s->map[offset].kind == kind && s->map[offset].order == order)
            pages += 1u << order;
    return pages;
}

static inline void held_add(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                            unsigned kind, unsigned order)
{
    struct page *page = &s->map[offset];
    uint64_t nr_pages = 1ull << order;

    page->kind = (uint8_t)kind;
    page->order = (uint8_t)order;
    page->mt = 0;
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

static inline void held_del(struct machine *m, struct zone *z, struct section *s, uint64_t offset)
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

/* Split a chunk that is on no list: its lowest 2^order pages are left over, upper halves go to the
 * list of mt. */
static inline void expand(struct machine *m, struct zone *z, struct section *s, uint64_t offset,
                          unsigned from, unsigned order, unsigned mt)
{
    while (from > order) {
        from--;
        free_add(m, z, s, offset + (1ull << from), from, mt, false);
    }
}

#endif

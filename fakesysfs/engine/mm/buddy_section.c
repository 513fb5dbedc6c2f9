/*
 * buddy_section.c - operations of the buddy on whole sections.
 *
 * Owns: when a section becomes uniform again, how all of it leaves the lists or changes sides at
 * once. Does not own: single chunks (buddy.c, buddy_alloc.c). A section that becomes wholly free in
 * one migratetype moves as one to the tail of its list, ascending; one that becomes folios of one
 * kind and of at least a pageblock each moves as one to the head of its list. Linux:
 * mm/page_alloc.c __offline_isolated_pages().
 */
#include "free_lists.h"

void section_fold_held(struct machine *m, struct section *s)
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

void section_fold_free(struct machine *m, struct section *s)
{
    if (s->nr_free != m->pages_per_section || s->zones != NULL || s->nr_isolated != 0 ||
        s->map == NULL)
        return;
    for (uint64_t offset = 0; offset < m->pages_per_section; offset += 1ull << m->max_order) {
        const struct page *page = &s->map[offset];
        if (page->kind != KIND_FREE || page->order != m->max_order || page->mt != s->map[0].mt)
            return;
    }
    unsigned mt = s->map[0].mt;
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

void buddy_settle(struct machine *m, struct section *s)
{
    pageblock_fold(m, s);
    section_fold_free(m, s);
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

/*
 * inline.h - the few functions that every path of a page runs through, so short that a call would
 * cost more than they do.
 *
 * Owns nothing: each belongs to the file that its heading names. machine.h includes it at its end.
 * They call nothing but each other.
 */
#ifndef FAKESYSFS_FAST_H
#define FAKESYSFS_FAST_H

#include "machine.h"

/* ---- sparse.c: sections ---- */

static inline void *radix_get(const struct radix *r, uint64_t nr)
{
    uint64_t chunk = nr >> RADIX_SHIFT;

    return chunk < r->nr_chunks && r->chunk[chunk] != NULL ? r->chunk[chunk][nr & (RADIX_SIZE - 1)]
                                                           : NULL;
}

static inline struct section *section_get(const struct machine *m,
                                          uint64_t section_nr) /* NULL: not present */
{
    return (struct section *)radix_get(&m->sections, section_nr);
}

static inline struct section *section_of(const struct machine *m, uint64_t pfn)
{
    return section_get(m, pfn >> m->section_page_shift);
}

/* pfn_to_online_page(): NULL when not online. */
static inline struct section *section_online_of(const struct machine *m, uint64_t pfn)
{
    struct section *s = section_of(m, pfn);

    return s != NULL && (s->state & SECTION_ONLINE) != 0 ? s : NULL;
}

static inline uint64_t section_first_pfn(const struct machine *m, const struct section *s)
{
    return (uint64_t)s->nr << m->section_page_shift;
}

/* ---- sparse.c: what a list node refers to ---- */

static inline struct section *section_by_index(const struct machine *m, uint32_t index)
{
    return &m->section_pool[index >> RADIX_SHIFT][index & (RADIX_SIZE - 1)];
}

static inline struct section *section_of_ref(const struct machine *m, ref_t ref)
{
    return (ref & REF_SECTION) != 0 ? section_by_index(m, ref & ~REF_SECTION)
                                    : m->slots[ref >> m->section_page_shift];
}

static inline struct page *page_of_ref(const struct machine *m, ref_t ref) /* not for sections */
{
    return &m->memmap[ref];
}

static inline ref_t ref_of(const struct machine *m, const struct section *s, uint64_t offset)
{
    (void)m;
    return s->map == NULL ? REF_SECTION | s->index : s->base + (ref_t)offset;
}

static inline ref_t ref_of_page(const struct section *s,
                                uint64_t offset) /* of a detailed section */
{
    return s->base + (ref_t)offset;
}

/* ---- sparse.c: lists ---- */

static inline ref_t *link_next(const struct machine *m, ref_t ref)
{
    return (ref & REF_SECTION) != 0 ? &section_of_ref(m, ref)->next : &page_of_ref(m, ref)->next;
}

static inline ref_t *link_prev(const struct machine *m, ref_t ref)
{
    return (ref & REF_SECTION) != 0 ? &section_of_ref(m, ref)->prev : &page_of_ref(m, ref)->prev;
}

static inline ref_t list_next(const struct machine *m, ref_t ref)
{
    return *link_next(m, ref);
}

static inline void list_add_head(const struct machine *m, struct list *list, ref_t ref, uint64_t nr)
{
    *link_prev(m, ref) = 0;
    *link_next(m, ref) = list->head;
    if (list->head != 0)
        *link_prev(m, list->head) = ref;
    else
        list->tail = ref;
    list->head = ref;
    list->nr += nr;
}

static inline void list_add_tail(const struct machine *m, struct list *list, ref_t ref, uint64_t nr)
{
    *link_next(m, ref) = 0;
    *link_prev(m, ref) = list->tail;
    if (list->tail != 0)
        *link_next(m, list->tail) = ref;
    else
        list->head = ref;
    list->tail = ref;
    list->nr += nr;
}

static inline void list_del(const struct machine *m, struct list *list, ref_t ref, uint64_t nr)
{
    ref_t next = *link_next(m, ref), prev = *link_prev(m, ref);

    if (prev != 0)
        *link_next(m, prev) = next;
    else
        list->head = next;
    if (next != 0)
        *link_prev(m, next) = prev;
    else
        list->tail = prev;
    *link_next(m, ref) = *link_prev(m, ref) = 0;
    list->nr -= nr;
}

/* ---- pageblock.c ---- */

static inline unsigned pageblock_mt_of(const struct machine *m, const struct section *s,
                                       unsigned block_in_section)
{
    (void)m;
    if (s->blocks == NULL)
        return s->mt;
    uint8_t byte = s->blocks[block_in_section];
    return (byte & PB_ISOLATED) != 0 ? MT_ISOLATE : byte & PB_MT;
}

/* ---- zone.c ---- */

static inline struct zone *zone_by_index(struct machine *m, int index) /* -1: NULL */
{
    return index < 0 ? NULL : m->zones[index];
}

static inline struct zone *zone_in_section(struct machine *m, const struct section *s,
                                           uint64_t offset)
{
    return zone_by_index(m, s->zones != NULL ? s->zones[offset >> m->pageblock_order] : s->zone);
}

static inline bool zone_managed(const struct zone *z)
{
    return z->managed != 0;
}

static inline bool zone_watermark_ok(const struct zone *z, unsigned order, uint64_t mark,
                                     enum zone_type highest)
{
    uint64_t needed = mark + z->lowmem_reserve[highest];

    return z->free >= (1ull << order) && z->free - ((1ull << order) - 1) > needed;
}

#endif

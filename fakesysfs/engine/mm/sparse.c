/*
 * sparse.c - sections: the map of physical memory, as sparse as memory itself, and what a list node
 * refers to.
 *
 * Owns: the two-level tables, the pool of sections, the memmaps of detailed sections, the links of
 * lists. A section whose pages are all alike has no memmap; it is detailed when its first page
 * starts to differ (buddy.c asks). Does not own: which list a folio is on and what that means
 * (buddy.c), zones, migratetypes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

/* ---- two-level tables ---- */

void radix_set(struct machine *m, struct radix *r, uint64_t nr, void *value)
{
    uint64_t chunk = nr >> RADIX_SHIFT;

    if (chunk >= r->nr_chunks) {
        if (value == NULL)
            return;
        size_t more = chunk + 1;
        r->chunk = xrealloc(m, r->chunk, more, sizeof *r->chunk);
        r->used = xrealloc(m, r->used, more, sizeof *r->used);
        memset(r->chunk + r->nr_chunks, 0, (more - r->nr_chunks) * sizeof *r->chunk);
        memset(r->used + r->nr_chunks, 0, (more - r->nr_chunks) * sizeof *r->used);
        r->nr_chunks = more;
    }
    if (r->chunk[chunk] == NULL) {
        if (value == NULL)
            return;
        r->chunk[chunk] = xcalloc(m, RADIX_SIZE, sizeof(void *));
    }
    void **slot = &r->chunk[chunk][nr & (RADIX_SIZE - 1)];
    /* A chunk that has become empty stays: what came and went there will come again. */
    r->used[chunk] += (uint32_t)(value != NULL) - (uint32_t)(*slot != NULL);
    *slot = value;
}

bool radix_next(const struct radix *r, uint64_t from, uint64_t *nr, void **value)
{
    for (uint64_t chunk = from >> RADIX_SHIFT; chunk < r->nr_chunks;
         chunk++, from = chunk << RADIX_SHIFT) {
        if (r->used[chunk] == 0)
            continue;
        for (uint64_t i = from & (RADIX_SIZE - 1); i < RADIX_SIZE; i++)
            if (r->chunk[chunk][i] != NULL) {
                *nr = (chunk << RADIX_SHIFT) + i;
                *value = r->chunk[chunk][i];
                return true;
            }
    }
    return false;
}

bool radix_prev(const struct radix *r, uint64_t from, uint64_t *nr, void **value)
{
    if (r->nr_chunks == 0)
        return false;
    uint64_t last = (r->nr_chunks << RADIX_SHIFT) - 1;
    if (from > last)
        from = last;
    for (int64_t chunk = (int64_t)(from >> RADIX_SHIFT); chunk >= 0; chunk--) {
        int64_t i = chunk == (int64_t)(from >> RADIX_SHIFT) ? (int64_t)(from & (RADIX_SIZE - 1))
                                                            : RADIX_SIZE - 1;
        for (; r->used[chunk] != 0 && i >= 0; i--)
            if (r->chunk[chunk][i] != NULL) {
                *nr = ((uint64_t)chunk << RADIX_SHIFT) + (uint64_t)i;
                *value = r->chunk[chunk][i];
                return true;
            }
    }
    return false;
}

void radix_free(struct radix *r)
{
    for (size_t i = 0; i < r->nr_chunks; i++)
        free(r->chunk[i]);
    free(r->chunk);
    free(r->used);
    memset(r, 0, sizeof *r);
}

/* ---- sections ---- */

static uint32_t section_index_new(struct machine *m)
{
    if (m->nr_free_section_index > 0)
        return m->free_section_index[--m->nr_free_section_index];
    if (m->nr_sections_made == 0)
        m->nr_sections_made = 1; /* index 0 means "none" in a ref */
    if (m->nr_sections_made >> RADIX_SHIFT >= m->nr_section_chunks) {
        m->section_pool = xrealloc(m, m->section_pool, m->nr_section_chunks + 1,
                                   sizeof *m->section_pool);
        m->section_pool[m->nr_section_chunks++] = xcalloc(m, RADIX_SIZE, sizeof(struct section));
    }
    return (uint32_t)m->nr_sections_made++;
}

struct section *section_add(struct machine *m, uint64_t section_nr, int nid)
{
    uint32_t index = section_index_new(m);
    struct section *s = section_by_index(m, index);

    *s = (struct section){
        .nr = (uint32_t)section_nr,
        .index = index,
        .zone = -1,
        .nid = (int16_t)nid,
        .state = SECTION_PRESENT,
        .mt = MT_MOVABLE,
        .kind = KIND_INSIDE,
    };
    radix_set(m, &m->sections, section_nr, s);
    return s;
}

void section_remove(struct machine *m, struct section *s)
{
    m->recent_section = NULL;
    section_drop_map(m, s);
    free(s->blocks);
    free(s->zones);
    radix_set(m, &m->sections, s->nr, NULL);
    /* Room for every index ever made, so that giving one back cannot fail. */
    m->free_section_index = xrealloc(m, m->free_section_index, m->nr_sections_made,
                                     sizeof *m->free_section_index);
    m->free_section_index[m->nr_free_section_index++] = s->index;
    uint32_t index = s->index;
    memset(s, 0, sizeof *s);
    s->index = index;
}

/* ---- memmaps ---- */

/* So many memmaps are kept for operations that have begun: they detail a section here and there. */
enum { SLOTS_KEPT = 4 };

/* Make more of what is reserved accessible. false: there is no more. */
static bool slots_grow(struct machine *m)
{
    size_t before = m->cap_slots, map_bytes = m->pages_per_section * sizeof *m->memmap;

    if (m->memmap == NULL) {
        size_t size = (size_t)REF_SECTION * sizeof *m->memmap;
        if ((m->memmap = reserve_space(&size)) == NULL)
            return false;
        m->memmap_pages = size / sizeof *m->memmap;
        m->nr_slots = 1; /* a ref to the first page of slot 0 would mean "none" */
    }
    size_t limit = m->memmap_pages >> m->section_page_shift;
    size_t cap = before != 0 ? before * 2 : 64;
    cap = cap < limit ? cap : limit;
    if (cap <= before ||
        !commit_space((char *)m->memmap + before * map_bytes, (cap - before) * map_bytes))
        return false;
    m->cap_slots = cap;
    m->slots = xrealloc(m, m->slots, cap, sizeof *m->slots);
    m->free_slots = xrealloc(m, m->free_slots, cap, sizeof *m->free_slots);
    return true;
}

/* Are there memmaps for nr sections more, or for all that have none? */
static bool slots_left(struct machine *m, uint64_t nr)
{
    for (;;) {
        size_t free = m->nr_free_slots + m->nr_spare_slots;
        size_t left = m->cap_slots - m->nr_slots + free;
        if (left >= nr)
            return true;
        size_t sections = m->nr_sections_made - m->nr_free_section_index;
        size_t detailed = m->nr_slots - free;
        if (left + detailed >= sections)
            return true;
        if (!slots_grow(m))
            return false;
    }
}

int sections_ready(struct machine *m, uint64_t nr)
{
    return slots_left(m, nr + SLOTS_KEPT) ? host_memory_ready(m, 0) : no_host_memory(m);
}

bool sections_short(struct machine *m)
{
    return !slots_left(m, 2 * SLOTS_KEPT) && no_host_memory(m) != 0;
}

/* A blank memmap: zeroes are KIND_INSIDE; pages of the host are used only where heads will stand.
 */
static void slot_new(struct machine *m, struct section *s)
{
    uint32_t slot;

    if (m->nr_spare_slots > 0) {
        slot = m->spare_slot[--m->nr_spare_slots];
    } else if (m->nr_free_slots > 0) {
        slot = m->free_slots[--m->nr_free_slots];
    } else {
        /* Who asked sections_ready() never gets to the end: slot 0 is no place for a memmap. */
        bool left = m->nr_slots < m->cap_slots || slots_grow(m);
        warn_on(m, !left, "there is no memory for the memmap of a section");
        slot = left ? (uint32_t)m->nr_slots++ : 0;
    }
    m->slots[slot] = s;
    s->base = slot << m->section_page_shift;
    s->map = &m->memmap[s->base];
}

/* A memmap that had only large folios can be wiped by its heads alone; others are cheaper to give
 * back. */
static bool map_is_blank(struct machine *m, struct section *s)
{
    unsigned heads = 0;

    for (uint64_t offset = 0; offset < m->pages_per_section; heads++) {
        struct page *page = &s->map[offset];
        if (page->kind == KIND_INSIDE || heads > 2 * m->chunks_per_section)
            return false;
        offset += 1ull << page->order;
        page->kind = KIND_INSIDE;
    }
    return true;
}

void section_drop_map(struct machine *m, struct section *s)
{
    if (s->map == NULL)
        return;
    uint32_t slot = s->base >> m->section_page_shift;
    if (m->nr_spare_slots < sizeof m->spare_slot / sizeof *m->spare_slot && map_is_blank(m, s)) {
        m->spare_slot[m->nr_spare_slots++] = slot;
    } else {
        discard_space(s->map, m->pages_per_section * sizeof *s->map);
        m->free_slots[m->nr_free_slots++] = slot;
    }
    m->slots[slot] = NULL;
    s->map = NULL;
    s->base = 0;
}

static inline uint32_t offset_of_ref(const struct machine *m, ref_t ref)
{
    return (uint32_t)(ref & (m->pages_per_section - 1));
}

uint64_t pfn_of_ref(struct machine *m, ref_t ref)
{
    uint64_t first = section_first_pfn(m, section_of_ref(m, ref));

    return (ref & REF_SECTION) != 0 ? first : first + offset_of_ref(m, ref);
}

/* ---- lists ---- */

void section_detail(struct machine *m, struct section *s, struct list *list)
{
    unsigned kind = s->kind, order = s->order;

    if (s->map != NULL)
        return;
    slot_new(m, s);
    if (kind == KIND_INSIDE)
        return;
    uint64_t nr = m->pages_per_section >> order;
    ref_t base = s->base;
    bool descending = kind != KIND_FREE || (s->state & SECTION_DESCENDING) != 0;
    for (uint64_t i = 0; i < nr; i++) {
        struct page *page = &s->map[i << order];
        page->kind = (uint8_t)kind;
        page->order = (uint8_t)order;
        page->mt = kind == KIND_FREE ? s->mt : 0; /* a free head remembers its list */
        if (list == NULL)
            continue;
        ref_t below = i > 0 ? base | (ref_t)((i - 1) << order) : 0;
        ref_t above = i + 1 < nr ? base | (ref_t)((i + 1) << order) : 0;
        page->prev = descending ? above : below;
        page->next = descending ? below : above;
    }
    s->kind = KIND_INSIDE;
    s->state &= (uint8_t)~SECTION_DESCENDING;
    if (list == NULL)
        return;
    ref_t lowest = base, highest = base | (ref_t)((nr - 1) << order);
    ref_t first = descending ? highest : lowest, last = descending ? lowest : highest;
    page_of_ref(m, first)->prev = s->prev;
    page_of_ref(m, last)->next = s->next;
    if (s->prev != 0)
        *link_next(m, s->prev) = first;
    else
        list->head = first;
    if (s->next != 0)
        *link_prev(m, s->next) = last;
    else
        list->tail = last;
    s->next = s->prev = 0;
}

bool folio_at(struct machine *m, uint64_t pfn, struct folio *folio)
{
    struct section *s = m->recent_section;

    /* Most often it is the section asked for last. A guess that holds costs less than the way
     * through the tables. */
    if (s == NULL || s->nr != pfn >> m->section_page_shift) {
        if ((s = section_of(m, pfn)) == NULL)
            return false;
        m->recent_section = s;
    }
    if ((s->state & SECTION_ONLINE) == 0)
        return false;
    uint64_t offset = pfn & (m->pages_per_section - 1), first = pfn - offset;
    if (s->map == NULL) {
        offset &= ~((1ull << s->order) - 1);
        *folio = (struct folio){.s = s, .offset = offset, .kind = s->kind, .order = s->order};
    } else {
        unsigned order = 0;
        /* A head of order o stands on a multiple of 2^o: look at each candidate below. */
        while (s->map[offset].kind == KIND_INSIDE && (1ull << order) < m->pages_per_section)
            offset &= ~((1ull << ++order) - 1);
        struct page *page = &s->map[offset];
        *folio = (struct folio){.s = s,
                                .page = page,
                                .offset = offset,
                                .kind = page->kind,
                                .order = page->order,
                                .pins = page->pins};
    }
    folio->pfn = first + offset;
    return true;
}

bool folio_next(struct machine *m, struct folio *folio)
{
    struct section *s = folio->s;
    uint64_t pages = 1ull << folio->order, offset = folio->offset + pages;

    /* A walk through a memmap is where this is called most: no need to look for the section again.
     */
    if (s->map == NULL || offset >= m->pages_per_section || s->map[offset].kind == KIND_INSIDE)
        return folio_at(m, folio->pfn + pages, folio);
    struct page *page = &s->map[offset];
    folio->page = page;
    folio->pfn += pages;
    folio->offset = offset;
    folio->kind = page->kind;
    folio->order = page->order;
    folio->pins = page->pins;
    return true;
}

void sparse_destroy(struct machine *m)
{
    uint64_t nr = 0;
    void *value;

    while (radix_next(&m->sections, nr, &nr, &value)) {
        struct section *s = value;
        free(s->blocks);
        free(s->zones);
        nr++;
    }
    radix_free(&m->sections);
    release_space(m->memmap, m->memmap_pages * sizeof *m->memmap);
    for (size_t i = 0; i < m->nr_section_chunks; i++)
        free(m->section_pool[i]);
    free(m->section_pool);
    free(m->free_section_index);
    free(m->slots);
    free(m->free_slots);
}

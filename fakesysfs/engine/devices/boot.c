/*
 * boot.c - the memory of a machine as it is when Linux has booted.
 *
 * Owns: which sections and blocks exist at boot, where zones begin and end (kernelcore=,
 * movablecore=), what is reserved (kernel image, boot memmap), the hand-over of the rest to the
 * buddy; blocks that are listed: machines that were captured, memory on standby. Does not own: what
 * happens later; the load of the booted machine (boot_load.c). Work is proportional to the number
 * of sections, nothing else. Linux: mm/mm_init.c (formerly page_alloc.c)
 * find_zone_movable_pfns_for_nodes(), memblock_free_all().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

struct span { /* page frames, end exclusive */
    uint64_t start, end;
    int nid;
};

struct layout { /* while booting: RAM and what of it is reserved, both ascending and without overlap
                 */
    struct span *ram, *reserved;
    size_t nr_ram, nr_reserved;
    uint64_t movable_pfn[MAX_NODES]; /* where Movable begins on each node; 0: nowhere */
};

static int span_order(const void *a, const void *b)
{
    const struct span *left = a, *right = b;

    return left->start < right->start ? -1 : left->start > right->start;
}

static void reserve(struct machine *m, struct layout *layout, uint64_t start, uint64_t end)
{
    if (start >= end)
        return;
    layout->reserved = xrealloc(m, layout->reserved, layout->nr_reserved + 1,
                                sizeof *layout->reserved);
    layout->reserved[layout->nr_reserved++] = (struct span){start, end, 0};
}

/* Pages of the memmap of a node's boot memory. */
static uint64_t memmap_pages(const struct machine *m, const struct layout *layout, unsigned nid)
{
    uint64_t sections = 0, next = 0;

    for (size_t i = 0; i < layout->nr_ram; i++) {
        if (layout->ram[i].nid != (int)nid)
            continue;
        uint64_t first = layout->ram[i].start >> m->section_page_shift;
        uint64_t end = (layout->ram[i].end + m->pages_per_section - 1) >> m->section_page_shift;
        sections += end - (first > next ? first : next);
        next = end;
    }
    return sections * (m->pages_per_section * m->struct_page_bytes / m->page_bytes);
}

/* The memmap of boot memory stands at the top of each node's RAM, as memblock allocates from the
 * top down. */
static void reserve_memmap(struct machine *m, struct layout *layout)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        uint64_t left = memmap_pages(m, layout, nid);
        for (size_t i = layout->nr_ram; i-- > 0 && left > 0;) {
            const struct span *ram = &layout->ram[i];
            if (ram->nid != (int)nid)
                continue;
            /* Never more than half of a range: a machine needs something to run in. */
            uint64_t most = (ram->end - ram->start) / 2, take = left < most ? left : most;
            reserve(m, layout, ram->end - take, ram->end);
            left -= take;
        }
    }
}

/* Of a node whose blocks are listed, from the top down: `left` pages of those that are (not) said
 * to be removable. None of Movable: that memory came later. dry: only count. Returns pages. */
static uint64_t reserve_listed(struct machine *m, struct layout *layout, unsigned nid,
                               bool removable, uint64_t left, bool dry)
{
    uint64_t taken = 0;

    for (size_t i = layout->nr_ram; i-- > 0;) {
        const struct span ram = layout->ram[i];
        for (uint64_t end = ram.end, start; end > ram.start && ram.nid == (int)nid && taken < left;
             end = start) {
            const struct memory_block *b = block_get(m, (end - 1) / m->block_pages);
            const struct zone *z = b != NULL ? zone_by_index(m, b->zone) : NULL;
            start = (end - 1) / m->block_pages * m->block_pages;
            start = start > ram.start ? start : ram.start;
            if ((z != NULL && z->type == ZONE_MOVABLE) ||
                (b != NULL && b->removable != 0) != removable)
                continue;
            uint64_t take = end - start < left - taken ? end - start : left - taken;
            taken += take;
            if (!dry)
                reserve(m, layout, end - take, end);
        }
    }
    return taken;
}

/* What a node has no room for, because all it has is Movable, is on a lower one. */
static void reserve_listed_memmap(struct machine *m, struct layout *layout)
{
    uint64_t left = 0;

    for (unsigned nid = m->possible_nodes; nid-- > 0;) {
        left += memmap_pages(m, layout, nid);
        uint64_t room = reserve_listed(m, layout, nid, false, UINT64_MAX, true) +
                        reserve_listed(m, layout, nid, true, UINT64_MAX, true);
        uint64_t take = left < room / 2 ? left : room / 2,
                 done = reserve_listed(m, layout, nid, false, take, false);
        reserve_listed(m, layout, nid, true, take - done, false);
        left -= take;
    }
}

static void layout_make(struct machine *m, const struct machine_config *config,
                        struct layout *layout)
{
    memset(layout, 0, sizeof *layout);
    layout->ram = xcalloc(m, config->nr_memory + 1, sizeof *layout->ram);
    for (size_t i = 0; i < config->nr_memory; i++) {
        uint64_t start = (config->memory[i].start + m->page_bytes - 1) >> m->page_shift;
        uint64_t end = config->memory[i].end >> m->page_shift;
        if (start < end)
            layout->ram[layout->nr_ram++] = (struct span){start, end, config->memory[i].nid};
    }
    qsort(layout->ram, layout->nr_ram, sizeof *layout->ram, span_order);
    if (m->nr_memory_blocks != 0)
        reserve_listed_memmap(m, layout);
    else
        reserve_memmap(m, layout);
    for (size_t i = 0; i < config->nr_reserved; i++)
        reserve(m, layout, config->reserved[i].start >> m->page_shift,
                (config->reserved[i].end + m->page_bytes - 1) >> m->page_shift);
    if (layout->nr_reserved == 0)
        return;
    qsort(layout->reserved, layout->nr_reserved, sizeof *layout->reserved, span_order);
    size_t kept = 0; /* merge what touches or overlaps */
    for (size_t i = 1; i < layout->nr_reserved; i++) {
        struct span *last = &layout->reserved[kept];
        if (layout->reserved[i].start <= last->end)
            last->end = layout->reserved[i].end > last->end ? layout->reserved[i].end : last->end;
        else
            layout->reserved[++kept] = layout->reserved[i];
    }
    layout->nr_reserved = kept + 1;
}

/* ---- zones ---- */

static void zone_limits(const struct machine *m, enum zone_type type, uint64_t *low, uint64_t *high)
{
    uint64_t dma = m->zone_exists[ZONE_DMA] ? m->dma_end_pfn : 0;
    uint64_t dma32 = m->zone_exists[ZONE_DMA32] ? m->dma32_end_pfn : dma;

    *low = type == ZONE_DMA ? 0 : type == ZONE_DMA32 ? dma : dma32;
    *high = type == ZONE_DMA ? dma : type == ZONE_DMA32 ? dma32 : UINT64_MAX;
}

/* Linux: find_zone_movable_pfns_for_nodes(). kernelcore= pages are spread evenly over the nodes,
 * lowest first, and never below the highest zone that has memory; what is left of that zone becomes
 * Movable. */
static void find_movable(struct machine *m, const struct machine_config *config,
                         struct layout *layout)
{
    uint64_t total = 0, required, usable_start = 0, left[MAX_NODES] = {0};
    unsigned nr_nodes = 0;

    for (size_t i = 0; i < layout->nr_ram; i++)
        total += layout->ram[i].end - layout->ram[i].start;
    required = config->kernelcore_percent != 0 ? total * config->kernelcore_percent / 100
                                               : config->kernelcore >> m->page_shift;
    uint64_t movable = config->movablecore_percent != 0 ? total * config->movablecore_percent / 100
                                                        : config->movablecore >> m->page_shift;
    if (movable != 0) {
        uint64_t chunk = 1ull << m->max_order;
        movable = (movable + chunk - 1) & ~(chunk - 1);
        uint64_t core = total - (movable < total ? movable : total);
        required = core > required ? core : required;
    }
    if (required == 0 || required >= total ||
        m->movable_node) /* with movable_node the firmware decides: none */
        return;
    for (int type = ZONE_NORMAL; type >= 0 && usable_start == 0; type--) {
        uint64_t low, high;
        zone_limits(m, (enum zone_type)type, &low, &high);
        for (size_t i = 0; i < layout->nr_ram; i++)
            if (layout->ram[i].end > low && layout->ram[i].start < high)
                usable_start = low != 0 ? low : 1;
    }
    for (size_t i = 0; i < layout->nr_ram; i++)
        left[layout->ram[i].nid] = 1;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        nr_nodes += left[nid] != 0;
    while (nr_nodes > 0 && required > nr_nodes) {
        uint64_t share = required / nr_nodes;
        for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
            if (left[nid] == 0)
                continue;
            share = required < share ? required / nr_nodes : share;
            uint64_t remaining = share;
            for (size_t i = 0; i < layout->nr_ram; i++) {
                uint64_t start = layout->ram[i].start, end = layout->ram[i].end;
                if (layout->ram[i].nid != (int)nid)
                    continue;
                start = layout->movable_pfn[nid] > start ? layout->movable_pfn[nid] : start;
                if (start >= end)
                    continue;
                if (start < usable_start) {
                    uint64_t kernel_pages = (end < usable_start ? end : usable_start) - start;
                    remaining -= kernel_pages < remaining ? kernel_pages : remaining;
                    required -= kernel_pages < required ? kernel_pages : required;
                    if (end <= usable_start) {
                        layout->movable_pfn[nid] = end;
                        continue;
                    }
                    start = usable_start;
                }
                uint64_t size = end - start < remaining ? end - start : remaining;
                layout->movable_pfn[nid] = start + size;
                required -= size < required ? size : required;
                remaining -= size;
                if (remaining == 0)
                    break;
            }
        }
        nr_nodes--;
    }
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        uint64_t chunk = 1ull << m->max_order, last = 0;
        layout->movable_pfn[nid] = (layout->movable_pfn[nid] + chunk - 1) & ~(chunk - 1);
        for (size_t i = 0; i < layout->nr_ram; i++)
            last = layout->ram[i].nid == (int)nid ? layout->ram[i].end : last;
        if (layout->movable_pfn[nid] >= last)
            layout->movable_pfn[nid] = 0;
    }
}

static struct zone *zone_by_address(struct machine *m, const struct layout *layout, int nid,
                                    uint64_t pfn)
{
    struct node *node = &m->nodes[nid];

    for (int type = ZONE_DMA; type < ZONE_NORMAL; type++) {
        uint64_t low, high;
        zone_limits(m, (enum zone_type)type, &low, &high);
        if (pfn >= low && pfn < high &&
            (layout->movable_pfn[nid] == 0 || pfn < layout->movable_pfn[nid]))
            return &node->zones[type];
    }
    return &node->zones[layout->movable_pfn[nid] != 0 && pfn >= layout->movable_pfn[nid]
                            ? ZONE_MOVABLE
                            : ZONE_NORMAL];
}

/* A block that is listed knows its zone. One that lies in several does not say where they meet:
 * where addresses say, else in its middle, so that each half is like the block that it touches. */
static struct zone *boot_zone(struct machine *m, const struct layout *layout, int nid, uint64_t pfn)
{
    const struct memory_block *b = block_get(m, pfn / m->block_pages);
    struct zone *z = zone_by_address(m, layout, nid, pfn);

    if (b == NULL)
        return z;
    if (b->zone >= 0)
        return zone_by_index(m, b->zone);
    uint64_t first = b->id * m->block_pages, last = first + m->block_pages - 1;
    if (zone_by_address(m, layout, nid, first) != zone_by_address(m, layout, nid, last))
        return z;
    b = pfn - first < m->block_pages / 2 ? b->id > 0 ? block_get(m, b->id - 1) : NULL
                                         : block_get(m, b->id + 1);
    return b != NULL && b->zone >= 0 && b->nid == nid ? zone_by_index(m, b->zone) : z;
}

/* A zone spans what it can of its node, holes included; one without any RAM stays empty. */
static void set_spans(struct machine *m, const struct layout *layout)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        struct node *node = &m->nodes[nid];
        uint64_t first = UINT64_MAX, last = 0, movable = layout->movable_pfn[nid];
        for (size_t i = 0; i < layout->nr_ram; i++) {
            if (layout->ram[i].nid != (int)nid)
                continue;
            first = layout->ram[i].start < first ? layout->ram[i].start : first;
            last = layout->ram[i].end > last ? layout->ram[i].end : last;
        }
        for (int type = 0; type < ZONE_MOVABLE && last != 0; type++) {
            struct zone *z = &node->zones[type];
            uint64_t low, high;
            zone_limits(m, (enum zone_type)type, &low, &high);
            if (movable != 0 && high > movable)
                high = movable;
            uint64_t start = first > low ? first : low, end = last < high ? last : high;
            if (z->present == 0 || start >= end)
                continue;
            z->start_pfn = start;
            z->end_pfn = end;
        }
        if (movable != 0 && last > movable) {
            node->zones[ZONE_MOVABLE].start_pfn = movable > first ? movable : first;
            node->zones[ZONE_MOVABLE].end_pfn = last;
        }
        node_update_span(m, node);
    }
}

/* ---- sections ---- */

/* First pfn at or after `pfn` where something changes: RAM begins or ends, a reservation begins or
 * ends. */
static uint64_t next_change(const struct layout *layout, size_t ram, size_t reserved, uint64_t pfn,
                            uint64_t end)
{
    if (ram < layout->nr_ram) {
        const struct span *s = &layout->ram[ram];
        uint64_t at = pfn < s->start ? s->start : s->end;
        end = at < end ? at : end;
    }
    if (reserved < layout->nr_reserved) {
        const struct span *s = &layout->reserved[reserved];
        uint64_t at = pfn < s->start ? s->start : s->end;
        end = at < end ? at : end;
    }
    return end;
}

static void link_chunks(struct machine *m, struct section *s, uint64_t offset, uint64_t end,
                        unsigned kind)
{
    while (offset < end) {
        unsigned order = 0;
        while (order < m->max_order && (offset & ((2ull << order) - 1)) == 0 &&
               offset + (2ull << order) <= end && (s->zones == NULL || order < m->pageblock_order))
            order++;
        folio_link(m, s, offset, kind, order);
        offset += 1ull << order;
    }
}

static void count_present(struct machine *m, struct zone *z, uint64_t pfn, uint64_t nr_pages)
{
    zone_grow_span(m, z, pfn, nr_pages);
    z->present += nr_pages;
    z->present_early += nr_pages;
    m->nodes[z->nid].present += nr_pages;
}

static bool section_mixed(struct machine *m, const struct layout *layout, uint64_t first,
                          size_t ram)
{
    const struct zone *z = NULL;

    for (uint64_t pfn = first; pfn < first + m->pages_per_section; pfn += m->pageblock_pages) {
        while (ram + 1 < layout->nr_ram && layout->ram[ram].end <= pfn)
            ram++;
        const struct zone *here = boot_zone(m, layout, layout->ram[ram].nid, pfn);
        if (z != NULL && here != z)
            return true;
        z = here;
    }
    return false;
}

/* One section: all RAM and all free (or all reserved) costs one entry; anything else is detailed.
 */
static void boot_section(struct machine *m, const struct layout *layout, uint64_t nr, size_t *ram,
                         size_t *reserved)
{
    uint64_t first = nr << m->section_page_shift, end = first + m->pages_per_section;
    const struct span *here = &layout->ram[*ram];
    struct section *s = section_add(m, nr, here->nid);

    s->state |= SECTION_EARLY | SECTION_ONLINE;
    while (*reserved < layout->nr_reserved && layout->reserved[*reserved].end <= first)
        (*reserved)++;
    bool whole = here->start <= first && here->end >= end;
    const struct span *held = *reserved < layout->nr_reserved ? &layout->reserved[*reserved] : NULL;
    struct zone *z = boot_zone(m, layout, here->nid, first);
    bool plain = whole && z == boot_zone(m, layout, here->nid, end - 1);
    if (plain && (held == NULL || held->start >= end)) {
        s->zone = z->index;
        count_present(m, z, first, m->pages_per_section);
        buddy_give_range(m, first, m->pages_per_section, true);
        return;
    }
    if (plain && held->start <= first && held->end >= end) {
        s->zone = z->index;
        s->kind = KIND_RESERVED;
        s->order = (uint8_t)m->max_order;
        z->kind_pages[KIND_RESERVED] += m->pages_per_section;
        count_present(m, z, first, m->pages_per_section);
        return;
    }
    size_t at = *ram;
    if (section_mixed(m, layout, first, at)) {
        s->zones = xcalloc(m, m->pageblocks_per_section, sizeof *s->zones);
        for (unsigned i = 0; i < m->pageblocks_per_section; i++) {
            uint64_t pfn = first + i * m->pageblock_pages;
            while (at + 1 < layout->nr_ram && layout->ram[at].end <= pfn)
                at++;
            s->zones[i] = boot_zone(m, layout, layout->ram[at].nid, pfn)->index;
        }
    } else {
        s->zone = z->index;
    }
    section_detail(m, s, NULL);
    size_t nr_reserved = *reserved;
    at = *ram;
    for (uint64_t pfn = first; pfn < end;) {
        while (at < layout->nr_ram && layout->ram[at].end <= pfn)
            at++;
        while (nr_reserved < layout->nr_reserved && layout->reserved[nr_reserved].end <= pfn)
            nr_reserved++;
        uint64_t next = next_change(layout, at, nr_reserved, pfn, end);
        bool is_ram = at < layout->nr_ram && pfn >= layout->ram[at].start;
        bool is_held = nr_reserved < layout->nr_reserved &&
                       pfn >= layout->reserved[nr_reserved].start;
        if (s->zones != NULL && ((pfn | (m->pageblock_pages - 1)) + 1) < next)
            next = (pfn | (m->pageblock_pages - 1)) + 1; /* zones change at pageblocks only */
        if (is_ram)
            count_present(m, zone_of(m, pfn), pfn, next - pfn);
        if (is_ram && !is_held)
            buddy_give_range(m, pfn, next - pfn, true);
        else
            link_chunks(m, s, pfn - first, next - first, is_ram ? KIND_RESERVED : KIND_HOLE);
        pfn = next;
    }
}

/* ---- blocks ---- */

/* Linux: early_node_zone_for_memory_block(): the one zone whose span meets the block, or none where
 * several do. */
static void boot_block(struct machine *m, uint64_t id)
{
    uint64_t start_pfn = id * m->block_pages;
    struct memory_block *b = block_get(m, id);
    const struct zone *only = NULL;
    bool several = false, listed = b != NULL;

    for (unsigned i = 0; i < m->sections_per_block; i++) {
        const struct section *s = section_get(m, id * m->sections_per_block + i);
        if (s == NULL)
            continue;
        if (b == NULL)
            b = block_create(m, id, s->nid);
        else if (s->nid != b->nid)
            b->second_nid = s->nid;
        for (unsigned k = 0; s->zones != NULL && k < m->pageblocks_per_section; k++)
            if (zone_by_index(m, s->zones[k])->nid != b->nid)
                b->second_nid = zone_by_index(m, s->zones[k])->nid;
    }
    b->nr_nodes = b->second_nid >= 0 ? 2 : 1;
    if (b->second_nid >= 0)
        m->nodes[b->second_nid].nr_blocks++;
    b->state = BLOCK_ONLINE;
    b->dev_offline = false;
    for (int type = 0; type < NR_ZONES; type++) {
        const struct zone *z = &m->nodes[b->nid].zones[type];
        if (!zone_populated(z) || !zone_intersects(z, start_pfn, m->block_pages))
            continue;
        several = several || only != NULL;
        only = z;
    }
    if (!listed)
        b->zone = several || only == NULL || b->second_nid >= 0 ? -1 : only->index;
    b->last_zone = b->zone;
}

/* ---- blocks that are listed ---- */

static bool listed_online(const struct boot_block *row)
{
    return strcmp(row->state, "online") == 0;
}

static struct memory_block *list_block(struct machine *m, const struct boot_block *row)
{
    struct memory_block *b = block_create(m, row->id, row->nid);

    b->phys_device = row->phys_device;
    b->unlinked = !row->linked;
    b->removable = (int8_t)(row->removable < 0 ? -1 : row->removable != 0);
    return b;
}

/* Before there are any sections: their zones follow from this. */
static void list_online_blocks(struct machine *m, const struct machine_config *config)
{
    for (size_t i = 0; i < config->nr_blocks; i++) {
        const struct boot_block *row = &config->blocks[i];
        if (!listed_online(row))
            continue;
        int type = zone_type_by_name(row->zone);
        list_block(m, row)->zone = type >= 0 ? m->nodes[row->nid].zones[type].index : (int16_t)-1;
    }
}

/* Linux: add_memory_resource() at some time before. Whoever added more than the rest has room for
 * the memmap of had an answer to that which nobody can see. */
void boot_offline_blocks(struct machine *m, const struct machine_config *config)
{
    bool on_memory = memmap_on_memory_wanted(m, m->block_bytes);

    for (size_t i = 0; i < config->nr_blocks; i++) {
        const struct boot_block *row = &config->blocks[i];
        if (listed_online(row))
            continue;
        if (on_memory || !range_found(m, row->nid, row->id * m->block_bytes, false))
            range_found(m, row->nid, row->id * m->block_bytes, true);
        struct memory_block *b = list_block(m, row);
        b->nr_vmemmap = on_memory ? (uint32_t)vmemmap_pages(m) : 0;
    }
}

int boot_check_blocks(struct machine *m, const struct machine_config *config)
{
    size_t ram = 0;

    for (size_t i = 0; i < config->nr_blocks; i++) {
        const struct boot_block *row = &config->blocks[i];
        uint64_t start = row->id * m->block_bytes, end = start + m->block_bytes;
        int type = zone_type_by_name(row->zone);
        if (row->id > UINT64_MAX / m->block_bytes - 1 || (end - 1) >> m->max_phys_bits != 0)
            return fail(m, -EINVAL, "memory%llu is beyond the largest address",
                        (unsigned long long)row->id);
        if (i > 0 && row->id <= row[-1].id)
            return fail(m, -EINVAL, "memory%llu is listed twice, or out of order",
                        (unsigned long long)row->id);
        if (row->nid < 0 || (unsigned)row->nid >= m->possible_nodes || !m->nodes[row->nid].online)
            return fail(m, -EINVAL, "memory%llu is on no node that is online",
                        (unsigned long long)row->id);
        if (listed_online(row) &&
            (type >= 0 ? !m->zone_exists[type] : strcmp(row->zone, "none") != 0))
            return fail(m, -EINVAL, "memory%llu is in a zone that does not exist",
                        (unsigned long long)row->id);
        while (ram < config->nr_memory && config->memory[ram].end <= start)
            ram++;
        bool there = ram < config->nr_memory && config->memory[ram].start < end;
        if (listed_online(row) != there)
            return fail(m, -EINVAL, "memory%llu is listed %s and has %s",
                        (unsigned long long)row->id, row->state, there ? "RAM in use" : "no RAM");
    }
    for (size_t i = 0; i < config->nr_zone_spans; i++) {
        const struct boot_span *span = &config->zone_spans[i];
        int type = zone_type_by_name(span->zone);
        if (type < 0 || !m->zone_exists[type] || (unsigned)span->nid >= m->possible_nodes ||
            span->start >= span->end)
            return fail(m, -EINVAL, "the span of a zone that does not exist, or an empty one");
    }
    return 0;
}

/* ---- all of it ---- */

void boot_memory(struct machine *m, const struct machine_config *config)
{
    struct layout layout;
    size_t reserved = 0;
    uint64_t next = 0, id = 0;
    void *value;

    list_online_blocks(m, config);
    bool listed = m->nr_memory_blocks != 0;
    layout_make(m, config, &layout);
    find_movable(m, config, &layout);
    for (size_t i = 0; i < layout.nr_ram; i++) {
        uint64_t nr = layout.ram[i].start >> m->section_page_shift;
        uint64_t end = (layout.ram[i].end + m->pages_per_section - 1) >> m->section_page_shift;
        for (nr = nr > next ? nr : next; nr < end; nr++) {
            size_t ram = i;
            boot_section(m, &layout, nr, &ram, &reserved);
            zone_track_section(m, section_get(m, nr), true);
        }
        next = end > next ? end : next;
    }
    if (!listed)
        set_spans(m, &layout);
    for (size_t i = 0; i < config->nr_zone_spans; i++) {
        const struct boot_span *span = &config->zone_spans[i];
        zone_grow_span(m, &m->nodes[span->nid].zones[zone_type_by_name(span->zone)],
                       span->start >> m->page_shift, (span->end - span->start) >> m->page_shift);
    }
    for (uint64_t nr = 0; radix_next(&m->sections, nr, &nr, &value);
         nr = (id + 1) * m->sections_per_block) {
        id = nr / m->sections_per_block;
        boot_block(m, id);
    }
    free(layout.ram);
    free(layout.reserved);
}

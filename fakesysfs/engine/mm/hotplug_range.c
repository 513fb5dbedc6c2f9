/*
 * hotplug_range.c - ranges of page frames come and go: address space, sections, memmap.
 *
 * Owns: the checks of a range that is added, the memmap of hot-added memory, the direct map's
 * counters, the table of memory groups. Does not own: what happens to the range after it was added
 * (memory_hotplug.c), memory blocks. Linux: mm/memory_hotplug.c register_memory_resource(),
 * check_hotplug_memory_range(), __add_pages(), arch_add_memory().
 */
#include <errno.h>
#include <stdlib.h>

#include "machine.h"

struct memmap { /* pages that hold the struct pages of one hot-added section */
    unsigned nr;
    uint64_t pfn[];
};

/* ---- the physical address space ---- */

/* The largest range that could be mapped; -E2BIG beyond. Kernels before 5.10 do not ask. */
static int range_allowed(struct machine *m, uint64_t start, uint64_t size_bytes)
{
    TRACE(m, "mhp_range_allowed");
    uint64_t limit = m->max_phys_bits >= 64 ? UINT64_MAX : (1ull << m->max_phys_bits) - 1,
             end = start + size_bytes;

    if ((!has(m, F_range_check) && !has(m, F_range_warn)) || (end > start && end - 1 <= limit))
        return 0;
    if (has(m, F_range_check))
        klog(m, "Hotplug memory [0x%llx-0x%llx] exceeds maximum addressable range [0x0-0x%llx]",
             (unsigned long long)start, (unsigned long long)end, (unsigned long long)limit);
    else
        klog(
            m,
            "Hotplugged memory exceeds maximum addressable address, range=0x%llx-0x%llx, maximum=0x%llx",
            (unsigned long long)start, (unsigned long long)end - 1, (unsigned long long)limit);
    return fail(m, -E2BIG, "0x%llx is beyond the largest address of memory, 0x%llx",
                (unsigned long long)start, (unsigned long long)limit);
}

int range_claim(struct machine *m, uint64_t start, uint64_t size_bytes, const char *name)
{
    int err;

    TRACE(m, "register_memory_resource");
    if (has(m, F_mem_limit_e2big) && m->mem_limit != 0 && start + size_bytes > m->mem_limit)
        return fail(m, -E2BIG, "0x%llx to 0x%llx is beyond mem=0x%llx", (unsigned long long)start,
                    (unsigned long long)(start + size_bytes - 1), (unsigned long long)m->mem_limit);
    if ((err = range_allowed(m, start, size_bytes)) != 0 ||
        (err = fault_at(m, "range_add/resource")) != 0)
        return err;
    TRACE(m, "__request_region");
    if (size_bytes != 0 && start + size_bytes - 1 >= start)
        err = resource_request(m, start, start + size_bytes - 1, name, RES_BUSY | RES_SYSRAM,
                               has(m, F_resource_busy_only));
    else
        err = -EEXIST;
    return err == 0
               ? 0
               : fail(m, err, "0x%llx to 0x%llx overlaps what is there already (see /proc/iomem)",
                      (unsigned long long)start, (unsigned long long)(start + size_bytes - 1));
}

void range_unclaim(struct machine *m, uint64_t start, uint64_t size_bytes)
{
    TRACE(m, "release_mem_region_adjustable");
    resource_release(m, start, start + size_bytes - 1);
}

int range_check(struct machine *m, uint64_t start, uint64_t size_bytes)
{
    if (size_bytes != 0 && start % m->block_bytes == 0 && size_bytes % m->block_bytes == 0)
        return 0;
    klog(m, "Block size [0x%llx] unaligned hotplug range: start 0x%llx, size 0x%llx",
         (unsigned long long)m->block_bytes, (unsigned long long)start,
         (unsigned long long)size_bytes);
    return fail(m, -EINVAL, "0x%llx, size 0x%llx is not a multiple of the block size 0x%llx",
                (unsigned long long)start, (unsigned long long)size_bytes,
                (unsigned long long)m->block_bytes);
}

/* ---- sections and their memmap ---- */

static void memmap_free(struct machine *m, uint64_t section_nr)
{
    struct memmap *map = radix_get(&m->memmaps, section_nr);

    if (map == NULL)
        return;
    for (unsigned i = 0; i < map->nr; i++)
        pages_free(m, map->pfn[i]);
    radix_set(m, &m->memmaps, section_nr, NULL);
    free(map);
}

void memmap_destroy_all(struct machine *m)
{
    uint64_t nr = 0;
    void *value;

    for (; radix_next(&m->memmaps, nr, &nr, &value); nr++)
        free(value);
    radix_free(&m->memmaps);
    radix_free(&m->mapped);
}

/* Linux: WARN_ON_ONCE(), and a `static bool warned`: the first of a kind since boot. */
static bool first_time(struct machine *m, enum warning what)
{
    bool before = m->warned[what];

    m->warned[what] = true;
    return !before;
}

void warn_once(struct machine *m, enum warning what, const char *where)
{
    if (!first_time(m, what))
        return;
    klog(m, "------------[ cut here ]------------");
    klog(m, "WARNING: CPU: 0 at %s", where);
}

/*
 * A section's struct pages come from the node's other memory: huge pages where there are some and
 * the memmap is as large, else single ones. When that is not enough, what was got goes back.
 * Linux: vmemmap_populate_hugepages(), vmemmap_alloc_block(); section_deactivate().
 */
static int memmap_alloc(struct machine *m, uint64_t section_nr, int nid)
{
    uint64_t nr_pages = (m->pages_per_section * m->struct_page_bytes + m->page_bytes - 1) /
                        m->page_bytes;
    struct memmap *map = xcalloc(m, 1, sizeof *map + nr_pages * sizeof *map->pfn);

    radix_set(m, &m->memmaps, section_nr, map);
    for (uint64_t got = 0, huge_end = 0; got < nr_pages;) {
        bool huge = (got & (m->pageblock_pages - 1)) == 0 && nr_pages - got >= m->pageblock_pages &&
                    got >= huge_end;
        unsigned order = huge ? m->pageblock_order : 0;
        int err = fault_at(m, "range_add/memmap");
        if (err == 0)
            err = pages_alloc(m, KIND_MEMMAP, order, ZONE_NORMAL, nid, 0, &map->pfn[map->nr]);
        if (err == 0) {
            map->nr++;
            got += 1ull << order;
            continue;
        }
        if (first_time(m, WARNED_MEMMAP))
            klog(m,
                 "vmemmap alloc failure: order:%u, "
                 "mode:0x4cc0(GFP_KERNEL|__GFP_RETRY_MAYFAIL), nodemask=(null)",
                 order);
        huge_end = got + m->pageblock_pages; /* single pages up to here */
        if (!huge) {
            memmap_free(m, section_nr);
            return err;
        }
    }
    return 0;
}

/* ---- the direct map of x86: its counters, and what of it has no section ---- */

/* In m->mapped: sections that are mapped, but not there, because their addition failed. */
static const char small_pages, giant_pages;

static void direct_map_count(struct machine *m, const char *by, bool comes)
{
    uint64_t kb = m->pages_per_section * m->page_bytes / 1024;
    uint64_t *counter = by == &giant_pages ? &m->direct_map_1g : &m->direct_map_2m;

    if (comes) {
        *counter += kb;
        return;
    }
    uint64_t large = kb < *counter ? kb
                                   : *counter; /* boot memory has crooked edges in small pages */
    *counter -= large;
    kb -= large;
    m->direct_map_4k -= kb < m->direct_map_4k ? kb : m->direct_map_4k;
}

/* How a section is mapped; NULL: it is not. */
static const char *mapped_by(const struct machine *m, uint64_t nr)
{
    const struct section *s = section_get(m, nr);

    return s == NULL                         ? radix_get(&m->mapped, nr)
           : (s->state & SECTION_GIANT) != 0 ? &giant_pages
                                             : &small_pages;
}

/* Linux: split_mem_range(): what makes up whole GiB is mapped by pages of that size. */
static const char *maps_by(const struct machine *m, uint64_t nr, uint64_t first, uint64_t end)
{
    unsigned shift = m->section_page_shift + m->page_shift;
    uint64_t giant = nr << shift >> 30 << 30;

    return giant >= first << shift && giant + (1ull << 30) <= end << shift ? &giant_pages
                                                                           : &small_pages;
}

static void map_section(struct machine *m, uint64_t nr, const char *by)
{
    struct section *s = section_get(m, nr);

    if (s == NULL)
        radix_set(m, &m->mapped, nr, (void *)(uintptr_t)by);
    else if (by == &giant_pages)
        s->state |= SECTION_GIANT;
    else
        s->state &= (uint8_t)~SECTION_GIANT;
}

/* Linux: init_memory_mapping(): all of a range, before there is any section of it. */
static void direct_map_add(struct machine *m, uint64_t first, uint64_t end)
{
    for (uint64_t nr = first; nr < end && !m->not_x86; nr++) {
        const char *by = maps_by(m, nr, first, end), *before = mapped_by(m, nr);
        if (before == &giant_pages && by == &small_pages)
            warn_once(m, WARNED_MAPPING, "arch/x86/mm/init_64.c phys_pud_init");
        if (before != by)
            direct_map_count(m, by, true);
        map_section(m, nr, by);
    }
}

static void direct_map_remove(struct machine *m, uint64_t first, uint64_t end)
{
    for (uint64_t nr = first; nr < end && !m->not_x86; nr++) {
        const char *by = mapped_by(m, nr);
        if (by != NULL)
            direct_map_count(m, by, false);
        radix_set(m, &m->mapped, nr, NULL);
    }
}

/* ---- sections that come and go ---- */

static void sections_remove(struct machine *m, uint64_t start, uint64_t end)
{
    for (uint64_t nr = start; nr < end; nr++) {
        struct section *s = section_get(m, nr);
        if (s == NULL)
            continue;
        TRACE_WITHIN(m, "sparse_remove_section");
        section_remove(m, s);
        memmap_free(m, nr);
    }
}

/* One section of a range; nothing of it stays when it fails. Linux: sparse_add_section(). */
static int section_add_whole(struct machine *m, uint64_t nr, int nid, bool self_memmap)
{
    int err;

    if (section_get(m, nr) != NULL)
        return fail(m, -EEXIST, "section %llu is there already", (unsigned long long)nr);
    err = fault_at(m, "range_add/section");
    if (err == 0 && !self_memmap)
        err = memmap_alloc(m, nr, nid);
    if (err == 0) {
        bool giant = radix_get(&m->mapped, nr) == &giant_pages;
        section_add(m, nr, nid)->state |= giant ? SECTION_GIANT : 0;
        radix_set(m, &m->mapped, nr, NULL);
    }
    return err;
}

/* Linux: __add_pages() breaks off at the first section that fails. What it has added until then
 * stays, in the direct map too, and its memmap is lost: nobody takes it back. */
int range_add(struct machine *m, int nid, uint64_t start, uint64_t size_bytes, bool self_memmap,
              int (*added)(struct machine *m, uint64_t section_nr, void *ctx), void *ctx)
{
    uint64_t first = start >> m->page_shift >> m->section_page_shift;
    uint64_t end = (start + size_bytes) >> m->page_shift >> m->section_page_shift;
    int err = 0;

    TRACE(m, "arch_add_memory");
    direct_map_add(m, first, end);
    TRACE(m, "__add_pages");
    bool trace_on = m->trace_on;
    for (uint64_t nr = first; nr < end && err == 0; nr++) {
        if (has(m, F_add_skips_existing) && section_get(m, nr) != NULL)
            continue;
        if ((err = section_add_whole(m, nr, nid, self_memmap)) != 0)
            break;
        if (added != NULL)
            err = added(m, nr, ctx);
        m->trace_on = false; /* the first section shows what every further one does */
    }
    m->trace_on = trace_on;
    if (err != 0 && !m->not_x86)
        warn_once(m, WARNED_ADD_PAGES, "arch/x86/mm/init_64.c add_pages");
    return err;
}

bool range_found(struct machine *m, int nid, uint64_t start, bool self_memmap)
{
    uint64_t first = start >> m->page_shift >> m->section_page_shift;
    uint64_t end = first + m->sections_per_block;
    bool told = m->warned[WARNED_MEMMAP], all = true;

    direct_map_add(m, first, end);
    m->warned[WARNED_MEMMAP] = true; /* whatever happened then, nothing is logged now */
    for (uint64_t nr = first; nr < end && all; nr++)
        all = section_add_whole(m, nr, nid, self_memmap) == 0;
    m->warned[WARNED_MEMMAP] = told;
    if (!all) {
        direct_map_remove(m, first, end);
        sections_remove(m, first, end);
    }
    return all;
}

void range_remove(struct machine *m, uint64_t start, uint64_t size_bytes)
{
    uint64_t first = start >> m->page_shift >> m->section_page_shift;
    uint64_t end = (start + size_bytes) >> m->page_shift >> m->section_page_shift;

    TRACE(m, "arch_remove_memory");
    direct_map_remove(m, first, end);
    TRACE(m, "__remove_pages");
    for (uint64_t nr = first; nr < end; nr++) {
        const struct section *s = section_get(m, nr);
        if (s == NULL)
            continue;
        /* The marks of poisoned pages go with their memmap; kernels that count by block see to it
         * with the block. */
        m->poisoned_pages -= has(m, F_poison_kept_per_block) ? 0 : s->nr_poisoned;
    }
    sections_remove(m, first, end);
}

/* Forced, it is stretched to whole pageblocks. */
uint64_t vmemmap_pages(const struct machine *m)
{
    uint64_t unit = m->memmap_on_memory == 2 ? m->page_bytes << m->pageblock_order : m->page_bytes;

    return (m->block_pages * m->struct_page_bytes + unit - 1) / unit * (unit / m->page_bytes);
}

bool memmap_on_memory_wanted(struct machine *m, uint64_t size_bytes)
{
    if (!has(m, F_memmap_on_memory) || m->memmap_on_memory == 0)
        return false;
    if (!has(m, F_memmap_on_memory_altmap) && size_bytes != m->block_bytes)
        return false;
    return vmemmap_pages(m) % m->pageblock_pages == 0 && vmemmap_pages(m) < m->block_pages;
}

/* ---- memory groups ---- */

int memory_group_new(struct machine *m, struct memory_group group)
{
    size_t i = 0;

    if (!has(m, F_memory_groups))
        return -1;
    while (i < m->nr_groups && m->groups[i].used)
        i++;
    if (i == m->nr_groups) {
        m->groups = xrealloc(m, m->groups, i + 1, sizeof *m->groups);
        m->nr_groups = i + 1;
    }
    group.used = true;
    m->groups[i] = group;
    return (int)i;
}

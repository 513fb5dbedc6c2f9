/*
 * memory_hotplug.c - ranges of page frames come, go online, go offline, go.
 *
 * Owns: the order of the steps and their undo, present counters, sections' zones, the memmap of
 * hot-added memory, notifiers and their error injection, the table of memory groups. Does not own:
 * memory blocks and their states, any text (memory_block.c); free lists (buddy.c). Linux:
 * mm/memory_hotplug.c register_memory_resource(), check_hotplug_memory_range(), online_pages(),
 * offline_pages().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine.h"

struct memmap { /* pages that hold the struct pages of one hot-added section */
    unsigned nr;
    uint64_t pfn[];
};

/* ---- the physical address space ---- */

/* The largest range that could be mapped; -E2BIG beyond. Kernels before 5.10 do not ask. */
static int range_allowed(struct machine *m, uint64_t start, uint64_t size_bytes)
{
    uint64_t limit = m->max_phys_bits >= 64 ? UINT64_MAX : (1ull << m->max_phys_bits) - 1,
             end = start + size_bytes;

    if (has(m, F_range_check)) {
        TRACE(m, "mhp_range_allowed");
        TRACE(m, "mhp_get_pluggable_range");
        TRACE_LEAF(m, "arch_get_mappable_range");
    }
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
    TRACE_LEAF(m, "__request_resource");
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
    TRACE_LEAF(m, "free_resource");
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
    radix_set(&m->memmaps, section_nr, NULL);
    free(map);
}

void memmap_destroy_all(struct machine *m)
{
    uint64_t nr = 0;
    void *value;

    for (; radix_next(&m->memmaps, nr, &nr, &value); nr++)
        free(value);
    radix_free(&m->memmaps);
}

/* A section's struct pages come from the node's other memory: one huge page where there is one,
 * smaller ones else. */
static int memmap_alloc(struct machine *m, uint64_t section_nr, int nid)
{
    uint64_t nr_pages = (m->pages_per_section * m->struct_page_bytes + m->page_bytes - 1) /
                        m->page_bytes,
             got = 0;
    struct memmap *map = xcalloc(1, sizeof *map + nr_pages * sizeof *map->pfn);
    unsigned order = 0;

    radix_set(&m->memmaps, section_nr, map);
    while ((2ull << order) <= nr_pages && order < m->pageblock_order)
        order++;
    while (got < nr_pages) {
        while ((1ull << order) > nr_pages - got)
            order--;
        int err = fault_at(m, "range_add/memmap");
        if (err == 0)
            err = pages_alloc(m, KIND_MEMMAP, order, ZONE_NORMAL, nid, 0, &map->pfn[map->nr]);
        if (err == 0) {
            map->nr++;
            got += 1ull << order;
        } else if (order > 0) {
            order--;
        } else {
            memmap_free(m, section_nr);
            return err;
        }
    }
    return 0;
}

/* Linux: split_mem_range(): what makes up whole GiB is mapped by pages of that size. */
static void direct_map_add(struct machine *m, struct section *s, uint64_t start, uint64_t end)
{
    uint64_t first = section_first_pfn(m, s) << m->page_shift, giant = first >> 30 << 30;
    uint64_t kb = m->pages_per_section * m->page_bytes / 1024;

    if (m->not_x86)
        return;
    if (giant >= start && giant + (1ull << 30) <= end) {
        s->state |= SECTION_GIANT;
        m->direct_map_1g += kb;
    } else {
        m->direct_map_2m += kb;
    }
}

static void direct_map_remove(struct machine *m, const struct section *s)
{
    uint64_t kb = m->pages_per_section * m->page_bytes / 1024;
    uint64_t *from = (s->state & SECTION_GIANT) != 0 ? &m->direct_map_1g : &m->direct_map_2m;
    uint64_t large = kb < *from ? kb : *from; /* boot memory has crooked edges in small pages */

    *from -= large;
    kb -= large;
    m->direct_map_4k -= kb < m->direct_map_4k ? kb : m->direct_map_4k;
}

static void sections_remove(struct machine *m, uint64_t start, uint64_t end)
{
    for (uint64_t nr = start; nr < end; nr++) {
        struct section *s = section_get(m, nr);
        if (s == NULL)
            continue;
        section_remove(m, s);
        memmap_free(m, nr);
    }
}

int range_add(struct machine *m, int nid, uint64_t start, uint64_t size_bytes, bool self_memmap,
              int (*added)(struct machine *m, uint64_t section_nr, void *ctx), void *ctx)
{
    uint64_t first = start >> m->page_shift >> m->section_page_shift;
    uint64_t end = (start + size_bytes) >> m->page_shift >> m->section_page_shift,
             end_added = first;
    int err = 0;

    TRACE(m, "arch_add_memory");
    TRACE(m, "add_pages");
    TRACE(m, "__add_pages");
    bool trace_on = m->trace_on;
    for (uint64_t nr = first; nr < end; nr++) {
        TRACE_LEAF(m, "subsection_mask_set");
        if (section_get(m, nr) != NULL)
            err = fail(m, -EEXIST, "section %llu is there already", (unsigned long long)nr);
        else
            err = fault_at(m, "range_add/section");
        if (err == 0 && !self_memmap)
            err = memmap_alloc(m, nr, nid);
        if (err != 0)
            break;
        section_add(m, nr, nid);
        end_added = nr + 1;
        if (added != NULL && (err = added(m, nr, ctx)) != 0)
            break;
        m->trace_on = false; /* the first section shows what every further one does */
    }
    m->trace_on = trace_on;
    if (err != 0) {
        sections_remove(m, first, end_added);
        return err;
    }
    TRACE_LEAF(m, "sync_global_pgds");
    for (uint64_t nr = first; nr < end; nr++)
        direct_map_add(m, section_get(m, nr), start, start + size_bytes);
    return 0;
}

void range_remove(struct machine *m, uint64_t start, uint64_t size_bytes)
{
    uint64_t first = start >> m->page_shift >> m->section_page_shift;
    uint64_t end = (start + size_bytes) >> m->page_shift >> m->section_page_shift;

    TRACE(m, "arch_remove_memory");
    TRACE(m, "__remove_pages");
    TRACE(m, "sparse_remove_section");
    TRACE_LEAF(m, "clear_hwpoisoned_pages");
    TRACE(m, "section_deactivate");
    TRACE_LEAF(m, "subsection_mask_set");
    TRACE_LEAF(m, "vmemmap_free");
    for (uint64_t nr = first; nr < end; nr++) {
        const struct section *s = section_get(m, nr);
        if (s == NULL)
            continue;
        direct_map_remove(m, s);
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
        m->groups = xrealloc(m->groups, i + 1, sizeof *m->groups);
        m->nr_groups = i + 1;
    }
    group.used = true;
    m->groups[i] = group;
    return (int)i;
}

/* ---- notifiers ---- */

/* Tell the chain that memory is about to go online or offline. Subscribers of ours: error
 * injection, fault points, and of what is to go online the driver of virtio-mem: what goes offline
 * it lets go. */
static int notify(struct machine *m, bool online, uint64_t start_pfn)
{
    int injected = online ? m->inject_going_online : m->inject_going_offline;
    const char *action = online ? "MEM_GOING_ONLINE" : "MEM_GOING_OFFLINE";

    TRACE(m, "memory_notify");
    TRACE(m, "blocking_notifier_call_chain");
    TRACE_LEAF(m, "notifier_call_chain");
    if (injected != 0) {
        klog(m, "Injecting error (%d) to %s", injected, action);
        return fail(m, injected, "%s was refused by error injection (%d)", action, injected);
    }
    int err = fault_at(m, online ? "online/notifier" : "offline/notifier");
    return err == 0 && online ? vmem_going_online(m, start_pfn) : err;
}

/* What the chains are told and nobody of ours has a say in: that it was called off, that it is
 * done. */
void memory_notify(struct machine *m)
{
    TRACE(m, "memory_notify");
    TRACE(m, "blocking_notifier_call_chain");
    TRACE_LEAF(m, "notifier_call_chain");
}

/* Later kernels have a chain for the first memory of a node that comes, and the last one that goes.
 */
static void node_notify(struct machine *m, bool first_or_last)
{
    if (has(m, F_node_notifier) && first_or_last)
        TRACE_LEAF(m, "node_notify");
}

/* ---- zones of a range ---- */

static void adjust_present(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z,
                           struct memory_group *group, int sign)
{
    int64_t pages = (int64_t)nr_pages * sign;
    const struct section *s = section_of(m, start_pfn);

    TRACE_LEAF(m, "adjust_present_page_count");
    z->present += (uint64_t)pages;
    if ((s->state & SECTION_EARLY) != 0)
        z->present_early += (uint64_t)pages;
    m->nodes[z->nid].present += (uint64_t)pages;
    if (group == NULL)
        return;
    if (z->type == ZONE_MOVABLE)
        group->present_movable += (uint64_t)pages;
    else
        group->present_kernel += (uint64_t)pages;
}

static void move_range_to_zone(struct machine *m, uint64_t start_pfn, uint64_t nr_pages,
                               struct zone *z)
{
    TRACE(m, "move_pfn_range_to_zone");
    TRACE_LEAF(m, "clear_zone_contiguous");
    zone_grow_span(m, z, start_pfn, nr_pages);
    TRACE_LEAF(m, "set_pageblock_migratetype");
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section) {
        struct section *s = section_of(m, pfn);
        s->zone = z->index;
        zone_track_section(m, s, true);
        s->kind = has(m, F_pageoffline_init)
                      ? KIND_OFFLINE
                      : KIND_RESERVED; /* until somebody may have its pages */
        s->nr_poisoned = 0;
        pageblock_set_all(m, s, MT_MOVABLE);
        if (has(m, F_online_isolated))
            pageblock_set_section_isolated(m, s, true, NR_MT);
    }
    if (has(m, F_online_isolated))
        z->nr_isolated_blocks += nr_pages / m->pageblock_pages;
    TRACE(m, "set_zone_contiguous");
    TRACE(m, "__pageblock_pfn_to_page");
    TRACE_LEAF(m, "pfn_to_online_page");
}

static void remove_range_from_zone(struct machine *m, uint64_t start_pfn, uint64_t nr_pages,
                                   struct zone *z, bool shrink)
{
    TRACE(m, "remove_pfn_range_from_zone");
    TRACE_LEAF(m, "clear_zone_contiguous");
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section) {
        struct section *s = section_of(m, pfn);
        zone_track_section(m, s, false);
        free(s->zones);
        s->zones = NULL;
        s->zone = -1;
        pageblock_set_all(m, s, MT_MOVABLE);
    }
    if (shrink)
        zone_shrink_span(m, z, start_pfn, nr_pages);
    TRACE(m, "set_zone_contiguous");
    if (zone_is_empty(z))
        return;
    TRACE(m, "__pageblock_pfn_to_page");
    TRACE_LEAF(m, "pfn_to_online_page");
}

/* ---- online ---- */

/* The range's own memmap takes its first pages: they are there, but nobody's to give. */
static void place_vmemmap(struct machine *m, uint64_t start_pfn, uint64_t nr_vmemmap)
{
    struct section *s = section_of(m, start_pfn);

    if (nr_vmemmap == 0)
        return;
    section_detail(m, s, NULL);
    for (uint64_t offset = 0; offset < nr_vmemmap; offset += m->pageblock_pages)
        folio_link(m, s, offset, KIND_MEMMAP_SELF, m->pageblock_order);
}

/* Kernels up to 5.4 look at each section first. */
static int sections_probed(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    TRACE_LEAF(m, "pages_correctly_probed");
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section) {
        const struct section *s = section_of(m, pfn);
        if (s != NULL && (s->state & SECTION_ONLINE) == 0)
            continue;
        klog(m, "section %llu pfn[%llx, %llx) %s",
             (unsigned long long)(pfn >> m->section_page_shift), (unsigned long long)pfn,
             (unsigned long long)(pfn + m->pages_per_section),
             s == NULL ? "not present" : "is already online");
        return fail(m, -EBUSY, "section %llu is %s",
                    (unsigned long long)(pfn >> m->section_page_shift),
                    s == NULL ? "not there" : "online already");
    }
    return 0;
}

/* Of a block of a virtio-mem device only what is plugged is given; the rest is held. Returns the
 * range's pages. */
static uint64_t give_plugged(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t end_pfn = start_pfn + nr_pages, next;
    bool plugged;

    for (uint64_t pfn = start_pfn; pfn < end_pfn; pfn = next) {
        next = vmem_run(m, pfn, end_pfn, &plugged);
        if (plugged)
            buddy_give_range(m, pfn, next - pfn, has(m, F_fresh_at_tail));
        for (uint64_t held = pfn; !plugged && held < next; held += m->pageblock_pages) {
            struct section *s = section_of(m, held);
            section_detail(m, s, NULL);
            folio_link(m, s, held & (m->pages_per_section - 1), KIND_UNPLUGGED, m->pageblock_order);
        }
    }
    return nr_pages;
}

/* Of a range that had holes when it was booted only the RAM goes online. Returns its pages. */
static uint64_t give_ram(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    if (vmem_of(m, start_pfn) != NULL)
        return give_plugged(m, start_pfn, nr_pages);
    uint64_t end_pfn = start_pfn + nr_pages, ram = resource_ram_pages(m, start_pfn, nr_pages);

    if (ram == nr_pages) {
        buddy_give_range(m, start_pfn, nr_pages, has(m, F_fresh_at_tail));
        return ram;
    }
    for (uint64_t pfn = start_pfn, next; pfn < end_pfn; pfn = next) {
        struct section *s = section_of(m, pfn);
        uint64_t here = resource_ram_pages(m, pfn, 1),
                 end_section = (pfn | (m->pages_per_section - 1)) + 1;
        for (next = pfn + 1;
             next < end_section && next < end_pfn && resource_ram_pages(m, next, 1) == here;)
            next++;
        section_detail(m, s, NULL);
        if (here != 0)
            buddy_give_range(m, pfn, next - pfn, has(m, F_fresh_at_tail));
        for (uint64_t hole = pfn; here == 0 && hole < next; hole++)
            folio_link(m, s, hole & (m->pages_per_section - 1), KIND_HOLE, 0);
    }
    return ram;
}

/* Freed one by one, pages go by way of a CPU's own list, which keeps the last ones of the range. */
static uint64_t pages_kept_by_cpu(struct machine *m, struct zone *z, uint64_t nr_pages)
{
    uint64_t batch = zone_pcp_batch(m, z), high = 6 * batch;

    if (!has(m, F_online_order0) || batch == 0 || nr_pages < high)
        return 0;
    return high - batch + (z->kind_pages[KIND_PCP] + nr_pages - high) % batch;
}

int online_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z,
                 struct memory_group *group, uint64_t nr_vmemmap)
{
    bool was_populated = zone_populated(z), first_of_node = m->nodes[z->nid].present == 0;
    int err = nr_vmemmap != 0 ? fault_at(m, "online/memmap") : 0;

    if (err == 0 && has(m, F_pages_correctly_probed))
        err = sections_probed(m, start_pfn, nr_pages);
    TRACE(m, "online_pages");
    if (err != 0)
        return err;
    move_range_to_zone(m, start_pfn, nr_pages, z);
    node_notify(m, first_of_node);
    if ((err = notify(m, true, start_pfn)) != 0)
        goto failed_notify;
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section)
        section_of(m, pfn)->kind = KIND_INSIDE;

    TRACE_LEAF(m, "per_cpu_pages_init");
    TRACE_LEAF(m, "zone_set_pageset_high_and_batch");
    place_vmemmap(m, start_pfn, nr_vmemmap);
    {
        TRACE(m, "generic_online_page");
        TRACE(m, "__free_pages_core");
        TRACE_LEAF(m, "__free_pages_ok");
    }
    uint64_t kept = pages_kept_by_cpu(m, z, nr_pages);
    uint64_t ram = nr_vmemmap + give_ram(m, start_pfn + nr_vmemmap, nr_pages - nr_vmemmap);
    TRACE_LEAF(m, "online_mem_sections");
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section)
        section_of(m, pfn)->state |= SECTION_ONLINE;
    adjust_present(m, start_pfn, ram, z, group, 1);
    if (kept != 0) {
        buddy_drain(m, z);
        buddy_keep(m, start_pfn + nr_pages - kept, kept);
    }
    if (!was_populated)
        zone_build_zonelists(m, -1);
    if (has(m, F_online_isolated))
        undo_isolate_range(m, start_pfn, nr_pages, MT_MOVABLE);
    zone_update_watermarks(m);
    {
        TRACE(m, "nr_free_buffer_pages");
        TRACE_LEAF(m, "nr_free_zone_pages");
    }
    TRACE_LEAF(m, "kswapd_run");
    TRACE_LEAF(m, "kcompactd_run");
    node_notify(m, first_of_node);
    vmem_online(m, start_pfn, nr_pages, z->type == ZONE_MOVABLE);
    if (first_of_node)
        zone_print_demotion(m);
    if (!was_populated)
        load_expect_users(m, z);
    return 0;

failed_notify:
    memory_notify(m);
    node_notify(m, first_of_node);
    if (has(m, F_online_isolated))
        z->nr_isolated_blocks -= nr_pages / m->pageblock_pages;
    remove_range_from_zone(m, start_pfn, nr_pages, z, has(m, F_online_refusal_shrinks_span));
    return err;
}

/* ---- offline ---- */

/* A pass that moved nothing will hardly do better at once: wait a little, as a real pass would have
 * taken. */
static void pause_pass(struct machine *m, unsigned futile)
{
    struct timespec pause = {.tv_nsec = (futile < 10 ? 1 : 5) * 1000000L};
    struct task *task = m->task;
    uint32_t depth = m->trace_depth;

    m->task = NULL;
    pthread_mutex_unlock(&m->mutex);
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&m->mutex);
    m->task = task;
    m->trace_depth = depth;
}

/* Where the lists of CPUs are not off for the duration, each pass empties them. */
static void drain_pass(struct machine *m, struct zone *z, unsigned futile)
{
    if (has(m, F_pcp_disabled_offline))
        return;
    buddy_drain(m, z);
    if (futile != 0)
        return;
    TRACE_LEAF(m, "lru_add_drain_all");
    TRACE(m, "drain_all_pages");
    TRACE_LEAF(m, "drain_pages_zone");
}

/* Move everything out; ends when the range is empty, at a page that never will move, or with a
 * signal. */
static int empty_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t end_pfn = start_pfn + nr_pages, pfn;
    unsigned told = 0, futile = 0;
    int ret;

    do {
        pfn = start_pfn;
        do {
            if (task_interrupted(m))
                return fail(m, -EINTR, "signal backoff");
            drain_pass(m, zone_of(m, start_pfn), futile);
            ret = scan_movable(m, pfn, end_pfn, &pfn);
            if (ret == 0) {
                bool trace_on = m->trace_on;
                m->trace_on = trace_on &&
                              futile == 0; /* one pass shows what every further one does */
                uint64_t before = m->pgmigrate_success;
                migrate_range(m, pfn, end_pfn, &told);
                m->trace_on = trace_on;
                if (m->pgmigrate_success == before)
                    pause_pass(m, futile++);
            }
        } while (ret == 0);
        if (ret != -ENOENT)
            return ret;
        if ((ret = dissolve_range(m, start_pfn, end_pfn)) != 0)
            return ret;
        bool trace_on = m->trace_on;
        m->trace_on = trace_on && futile == 0;
        ret = test_isolated(m, start_pfn, nr_pages);
        m->trace_on = trace_on;
        if (ret != 0) {
            fail(m, ret, "a page that cannot move is in the range and may be freed some day");
            pause_pass(m, futile++);
        }
    } while (ret != 0);
    return 0;
}

static void pcp_disable(struct machine *m, struct zone *z)
{
    buddy_drain(m, z);
    if (!has(m, F_pcp_disabled_offline))
        return;
    z->pcp_disabled++;
    TRACE(m, "zone_pcp_disable");
    TRACE_LEAF(m, "__zone_set_pageset_high_and_batch");
    TRACE(m, "__drain_all_pages");
    TRACE_LEAF(m, "drain_pages_zone");
}

static void pcp_enable(struct machine *m, struct zone *z)
{
    if (!has(m, F_pcp_disabled_offline))
        return;
    z->pcp_disabled--;
    TRACE(m, "zone_pcp_enable");
    TRACE_LEAF(m, "__zone_set_pageset_high_and_batch");
}

int offline_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z,
                  struct memory_group *group, uint64_t nr_vmemmap)
{
    struct unmovable why = {0};
    int err;

    (void)nr_vmemmap; /* those pages stay where they are; buddy_take_range() knows them by their
                         kind */
    TRACE(m, "offline_pages");
    if (has(m, F_offline_holes_einval)) {
        TRACE(m, "walk_system_ram_range");
        TRACE_LEAF(m, "find_next_iomem_res");
        TRACE_LEAF(m, "count_system_ram_pages_cb");
        if (resource_ram_pages(m, start_pfn, nr_pages) != nr_pages)
            return fail(m, -EINVAL, "memory holes");
    }
    bool last_of_node = nr_pages >= m->nodes[z->nid].present;
    load_first_users(m);
    pcp_disable(m, z);
    if ((err = isolate_range(m, start_pfn, nr_pages, &why)) != 0)
        goto failed_isolate;
    node_notify(m, last_of_node);
    if ((err = notify(m, false, start_pfn)) != 0)
        goto failed_isolated;
    cond_resched(m);
    if ((err = empty_range(m, start_pfn, nr_pages)) != 0)
        goto failed_isolated;

    {
        TRACE(m, "__offline_isolated_pages");
        TRACE_LEAF(m, "offline_mem_sections");
    }
    uint64_t holes = z->kind_pages[KIND_HOLE];
    buddy_take_range(m, start_pfn, nr_pages);
    uint64_t ram = nr_pages - (holes - z->kind_pages[KIND_HOLE]);
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section)
        section_of(m, pfn)->state &= (uint8_t)~SECTION_ONLINE;
    if (has(m, F_offlined_pages_info))
        klog(m, "Offlined Pages %llu", (unsigned long long)ram);
    z->nr_isolated_blocks -= nr_pages / m->pageblock_pages;
    pcp_enable(m, z);
    TRACE_LEAF(m, "adjust_managed_page_count");
    adjust_present(m, start_pfn, ram, z, group, -1);
    zone_update_watermarks(m);
    {
        TRACE(m, "nr_free_buffer_pages");
        TRACE_LEAF(m, "nr_free_zone_pages");
    }
    if (!zone_populated(z)) {
        TRACE_LEAF(m, "zone_pcp_reset");
        zone_build_zonelists(m, has(m, F_fallback_skips_memoryless)
                                    ? -1
                                    : z->nid); /* N_MEMORY is cleared before, or after */
    }
    node_notify(m, last_of_node);
    if (last_of_node)
        zone_print_demotion(m);
    vmem_offline(m, start_pfn, nr_pages);
    remove_range_from_zone(m, start_pfn, nr_pages, z, has(m, F_span_shrink_at_offline));
    load_slabs_shrunk(m);
    return 0;

failed_isolated:
    undo_isolate_range(m, start_pfn, nr_pages, MT_MOVABLE);
    memory_notify(m);
    node_notify(m, last_of_node);
    pcp_enable(m, z);
    load_slabs_shrunk(m);
    return err;
failed_isolate:
    if (has(m, F_cancel_offline_always))
        memory_notify(m); /* of something that nobody was told of */
    pcp_enable(m, z);
    return err;
}

/*
 * vmstat.c - the names of all counters, in the kernel's order, and where their values come from.
 *
 * Owns: the tables behind /proc/vmstat, nodeN/vmstat and the counters inside /proc/zoneinfo. A line
 * says from or until which feature it exists and which configuration it needs. A counter the model
 * has no notion of is 0, as on a machine that was never short of memory (reclaim, swap, faults,
 * writeback, huge page splitting). Does not own: the counters themselves (zone.c, buddy.c,
 * migrate.c), nor the text around them (zoneinfo.c).
 */
#include <string.h>

#include "proc/proc.h"

typedef uint64_t (*value_fn)(const struct machine *m, const struct tally *t);

enum { ALWAYS = -1, X86 = -2 }; /* in place of a feature or a configuration */

struct line {
    const char *name;
    int since,
        until;  /* feature that brings it, or ALWAYS, or X86; feature that ends it, or ALWAYS */
    int config; /* configuration it needs, or ALWAYS, or X86 */
    value_fn value;
};

void tally_zone(const struct machine *m, struct tally *t, const struct zone *z)
{
    for (unsigned k = 0; k < NR_KINDS; k++)
        t->kind[k] += z->kind_pages[k];
    t->free += z->free;
    for (unsigned order = m->pageblock_order; order <= m->max_order; order++)
        for (unsigned mt = 0; mt < NR_MT; mt++)
            if (mt != MT_ISOLATE)
                t->free_large += z->free_area[order][mt].nr << order;
    t->managed += z->managed;
    t->numa_hit += z->numa_hit;
    t->numa_miss += z->numa_miss;
    t->numa_foreign += z->numa_foreign;
    t->numa_local += z->numa_local;
    t->numa_other += z->numa_other;
    t->allocated[z->type] += z->allocated;
}

void tally_node(const struct machine *m, struct tally *t, const struct node *node)
{
    uint64_t early = 0;
    for (unsigned type = 0; type < NR_ZONES; type++) {
        tally_zone(m, t, &node->zones[type]);
        early += node->zones[type].present_early;
    }
    /* The memmap comes in whole sections, also where a section has holes. */
    uint64_t sections = (early + m->pages_per_section - 1) / m->pages_per_section;
    t->memmap_boot += sections * m->pages_per_section * m->struct_page_bytes / m->page_bytes;
}

void tally_machine(const struct machine *m, struct tally *t)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        tally_node(m, t, &m->nodes[nid]);
}

uint64_t tally_kb(const struct machine *m, uint64_t pages)
{
    return pages * m->page_bytes / 1024;
}

unsigned machine_nr_cpus(const struct machine *m)
{
    unsigned nr = 0;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        nr += m->nodes[nid].nr_cpus;
    return nr != 0 ? nr : 1;
}

bool has_direct_map_counters(const struct machine *m)
{
    return m->direct_map_4k != 0 || m->direct_map_2m != 0 || m->direct_map_1g != 0;
}

/* ---- values ---- */

static uint64_t nothing(const struct machine *m, const struct tally *t)
{
    (void)m;
    (void)t;
    return 0;
}

#define COUNTER(name, expression)                                        \
    static uint64_t name(const struct machine *m, const struct tally *t) \
    {                                                                    \
        (void)m;                                                         \
        (void)t;                                                         \
        return expression;                                               \
    }

COUNTER(free_pages, t->free)
COUNTER(free_large, t->free_large)
/* New anonymous and shared memory starts on the inactive anonymous list, file pages on the inactive
 * one. */
COUNTER(inactive_anon, t->kind[KIND_ANON] + t->kind[KIND_SHMEM])
COUNTER(inactive_file, t->kind[KIND_FILE])
COUNTER(anon, t->kind[KIND_ANON])
COUNTER(file_pages, t->kind[KIND_FILE] + t->kind[KIND_SHMEM])
COUNTER(shmem, t->kind[KIND_SHMEM])
COUNTER(slab_reclaimable, t->kind[KIND_SLAB_RECLAIMABLE])
COUNTER(slab, t->kind[KIND_SLAB])
COUNTER(kernel_stack, tally_kb(m, t->kind[KIND_KERNEL_STACK]))
COUNTER(vmalloc, t->kind[KIND_KERNEL_STACK]) /* stacks are mapped there */
COUNTER(page_tables, t->kind[KIND_PAGETABLES])
COUNTER(hugetlb, t->kind[KIND_HUGETLB])
COUNTER(balloon, t->kind[KIND_OFFLINE])
COUNTER(memmap, t->kind[KIND_MEMMAP] + t->kind[KIND_MEMMAP_SELF])
COUNTER(memmap_boot, t->memmap_boot)
COUNTER(numa_hit, t->numa_hit)
COUNTER(numa_miss, t->numa_miss)
COUNTER(numa_foreign, t->numa_foreign)
COUNTER(numa_local, t->numa_local)
COUNTER(numa_other, t->numa_other)
COUNTER(pgfree, m->pgfree)
COUNTER(pgmigrate_success, m->pgmigrate_success)
COUNTER(pgmigrate_fail, m->pgmigrate_fail)
COUNTER(thp_migrated, m->thp_migrated)

/* Pages no allocation for a user may take: totalreserve_pages. */
static uint64_t reserve_pages(const struct machine *m)
{
    uint64_t sum = 0;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        for (unsigned type = 0; type < NR_ZONES; type++) {
            const struct zone *z = &m->nodes[nid].zones[type];
            uint64_t reserve = 0;
            for (unsigned above = type; above < NR_ZONES; above++)
                if (z->lowmem_reserve[above] > reserve)
                    reserve = z->lowmem_reserve[above];
            reserve += z->high_wmark;
            sum += reserve < z->managed ? reserve : z->managed;
        }
    }
    return sum;
}

/* Memory that may be dirty before writers wait: percent of what is free or file cache. */
static uint64_t dirty_limit(const struct machine *m, const struct tally *t, unsigned percent)
{
    uint64_t reserve = reserve_pages(m);
    uint64_t dirtyable = (t->free > reserve ? t->free - reserve : 0) + inactive_file(m, t) + 1;
    return percent * m->page_bytes / 100 * dirtyable / m->page_bytes;
}

COUNTER(dirty_threshold, dirty_limit(m, t, 20))
COUNTER(dirty_background, dirty_limit(m, t, 10))

/* ---- tables ---- */

#define LINE(name, value) {name, ALWAYS, ALWAYS, ALWAYS, value}
#define SINCE(feature, name, value) {name, F_##feature, ALWAYS, ALWAYS, value}
#define UNTIL(feature, name, value) {name, ALWAYS, F_##feature, ALWAYS, value}
#define WITH(config, name, value) {name, ALWAYS, ALWAYS, CONFIG_##config, value}
#define SINCE_WITH(feature, config, name, value) {name, F_##feature, ALWAYS, CONFIG_##config, value}
#define BETWEEN(first, last, name, value) {name, F_##first, F_##last, ALWAYS, value}
#define SINCE_X86(feature, name, value) {name, F_##feature, ALWAYS, X86, value}
#define LAST {NULL, ALWAYS, ALWAYS, ALWAYS, NULL}

static const struct line zone_lines[] = {
    LINE("nr_free_pages", free_pages),
    SINCE(vmstat_free_blocks, "nr_free_pages_blocks", free_large),
    LINE("nr_zone_inactive_anon", inactive_anon),
    LINE("nr_zone_active_anon", nothing),
    LINE("nr_zone_inactive_file", inactive_file),
    LINE("nr_zone_active_file", nothing),
    LINE("nr_zone_unevictable", nothing),
    LINE("nr_zone_write_pending", nothing),
    LINE("nr_mlock", nothing),
    UNTIL(vmstat_page_table_node, "nr_page_table_pages", page_tables),
    UNTIL(vmstat_kernel_stack_node, "nr_kernel_stack", kernel_stack),
    UNTIL(vmstat_no_bounce, "nr_bounce", nothing),
    WITH(ZSMALLOC, "nr_zspages", nothing),
    LINE("nr_free_cma", nothing),
    SINCE_WITH(meminfo_unaccepted, UNACCEPTED_MEMORY, "nr_unaccepted", nothing),
    LAST,
};

static const struct line numa_lines[] = {
    WITH(NUMA, "numa_hit", numa_hit),
    WITH(NUMA, "numa_miss", numa_miss),
    WITH(NUMA, "numa_foreign", numa_foreign),
    WITH(NUMA, "numa_interleave", nothing),
    WITH(NUMA, "numa_local", numa_local),
    WITH(NUMA, "numa_other", numa_other),
    LAST,
};

static const struct line node_lines[] = {
    LINE("nr_inactive_anon", inactive_anon),
    LINE("nr_active_anon", nothing),
    LINE("nr_inactive_file", inactive_file),
    LINE("nr_active_file", nothing),
    LINE("nr_unevictable", nothing),
    LINE("nr_slab_reclaimable", slab_reclaimable),
    LINE("nr_slab_unreclaimable", slab),
    LINE("nr_isolated_anon", nothing),
    LINE("nr_isolated_file", nothing),
    LINE("workingset_nodes", nothing),
    UNTIL(vmstat_workingset_split, "workingset_refault", nothing),
    UNTIL(vmstat_workingset_split, "workingset_activate", nothing),
    UNTIL(vmstat_workingset_split, "workingset_restore", nothing),
    SINCE(vmstat_workingset_split, "workingset_refault_anon", nothing),
    SINCE(vmstat_workingset_split, "workingset_refault_file", nothing),
    SINCE(vmstat_workingset_split, "workingset_activate_anon", nothing),
    SINCE(vmstat_workingset_split, "workingset_activate_file", nothing),
    SINCE(vmstat_workingset_split, "workingset_restore_anon", nothing),
    SINCE(vmstat_workingset_split, "workingset_restore_file", nothing),
    LINE("workingset_nodereclaim", nothing),
    LINE("nr_anon_pages", anon),
    LINE("nr_mapped", nothing),
    LINE("nr_file_pages", file_pages),
    LINE("nr_dirty", nothing),
    LINE("nr_writeback", nothing),
    UNTIL(vmstat_no_writeback_temp, "nr_writeback_temp", nothing),
    LINE("nr_shmem", shmem),
    LINE("nr_shmem_hugepages", nothing),
    LINE("nr_shmem_pmdmapped", nothing),
    SINCE(meminfo_filehuge, "nr_file_hugepages", nothing),
    SINCE(meminfo_filehuge, "nr_file_pmdmapped", nothing),
    LINE("nr_anon_transparent_hugepages", nothing),
    UNTIL(vmstat_unstable_last, "nr_unstable", nothing),
    LINE("nr_vmscan_write", nothing),
    LINE("nr_vmscan_immediate_reclaim", nothing),
    LINE("nr_dirtied", nothing),
    LINE("nr_written", nothing),
    SINCE(vmstat_throttled, "nr_throttled_written", nothing),
    LINE("nr_kernel_misc_reclaimable", nothing),
    SINCE(vmstat_foll_pin, "nr_foll_pin_acquired", nothing),
    SINCE(vmstat_foll_pin, "nr_foll_pin_released", nothing),
    SINCE(vmstat_vmalloc, "nr_vmalloc", vmalloc),
    SINCE(vmstat_kernel_stack_node, "nr_kernel_stack", kernel_stack),
    SINCE(vmstat_page_table_node, "nr_page_table_pages", page_tables),
    SINCE(meminfo_secpagetables, "nr_sec_page_table_pages", nothing),
    SINCE_WITH(vmstat_iommu, IOMMU_SUPPORT, "nr_iommu_pages", nothing),
    SINCE(vmstat_swapcached, "nr_swapcached", nothing),
    SINCE_WITH(vmstat_promote, NUMA_BALANCING, "pgpromote_success", nothing),
    SINCE_WITH(vmstat_promote, NUMA_BALANCING, "pgpromote_candidate", nothing),
    SINCE_WITH(vmstat_promote_nrl, NUMA_BALANCING, "pgpromote_candidate_nrl", nothing),
    SINCE(vmstat_pgdemote_node, "pgdemote_kswapd", nothing),
    SINCE(vmstat_pgdemote_node, "pgdemote_direct", nothing),
    SINCE(vmstat_pgdemote_node, "pgdemote_khugepaged", nothing),
    SINCE(vmstat_proactive, "pgdemote_proactive", nothing),
    SINCE(vmstat_reclaim_node, "pgsteal_kswapd", nothing),
    SINCE(vmstat_reclaim_node, "pgsteal_direct", nothing),
    SINCE(vmstat_reclaim_node, "pgsteal_khugepaged", nothing),
    SINCE(vmstat_reclaim_node, "pgsteal_proactive", nothing),
    SINCE(vmstat_reclaim_node, "pgsteal_anon", nothing),
    SINCE(vmstat_reclaim_node, "pgsteal_file", nothing),
    SINCE(vmstat_reclaim_node, "pgscan_kswapd", nothing),
    SINCE(vmstat_reclaim_node, "pgscan_direct", nothing),
    SINCE(vmstat_reclaim_node, "pgscan_khugepaged", nothing),
    SINCE(vmstat_reclaim_node, "pgscan_proactive", nothing),
    SINCE(vmstat_reclaim_node, "pgscan_anon", nothing),
    SINCE(vmstat_reclaim_node, "pgscan_file", nothing),
    SINCE(vmstat_pgrotate, "pgrotate_anon", nothing),
    SINCE(vmstat_pgrotate, "pgrotate_file", nothing),
    SINCE(vmstat_reclaim_node, "pgrefill", nothing),
    SINCE_WITH(vmstat_hugetlb, HUGETLB_PAGE, "nr_hugetlb", hugetlb),
    SINCE(vmstat_balloon, "nr_balloon_pages", balloon),
    SINCE(vmstat_kernel_file, "nr_kernel_file_pages", nothing),
    SINCE(meminfo_gpu, "nr_gpu_active", nothing),
    SINCE(meminfo_gpu, "nr_gpu_reclaim", nothing),
    LAST,
};

static const struct line system_lines[] = {
    LINE("nr_dirty_threshold", dirty_threshold),
    LINE("nr_dirty_background_threshold", dirty_background),
    SINCE(vmstat_memmap, "nr_memmap_pages", memmap),
    SINCE(vmstat_memmap, "nr_memmap_boot_pages", memmap_boot),
    LINE("pgpgin", nothing),
    LINE("pgpgout", nothing),
    LINE("pswpin", nothing),
    LINE("pswpout", nothing),
    LAST,
};

static const struct line event_lines[] = {
    /* after those that exist once per type of zone */
    LINE("pgfree", pgfree),
    LINE("pgactivate", nothing),
    LINE("pgdeactivate", nothing),
    LINE("pglazyfree", nothing),
    LINE("pgfault", nothing),
    LINE("pgmajfault", nothing),
    LINE("pglazyfreed", nothing),
    UNTIL(vmstat_reclaim_node, "pgrefill", nothing),
    SINCE(vmstat_pgreuse, "pgreuse", nothing),
    UNTIL(vmstat_reclaim_node, "pgsteal_kswapd", nothing),
    UNTIL(vmstat_reclaim_node, "pgsteal_direct", nothing),
    BETWEEN(vmstat_khugepaged, vmstat_reclaim_node, "pgsteal_khugepaged", nothing),
    BETWEEN(vmstat_proactive, vmstat_reclaim_node, "pgsteal_proactive", nothing),
    BETWEEN(vmstat_pgdemote, vmstat_pgdemote_node, "pgdemote_kswapd", nothing),
    BETWEEN(vmstat_pgdemote, vmstat_pgdemote_node, "pgdemote_direct", nothing),
    BETWEEN(vmstat_khugepaged, vmstat_pgdemote_node, "pgdemote_khugepaged", nothing),
    UNTIL(vmstat_reclaim_node, "pgscan_kswapd", nothing),
    UNTIL(vmstat_reclaim_node, "pgscan_direct", nothing),
    BETWEEN(vmstat_khugepaged, vmstat_reclaim_node, "pgscan_khugepaged", nothing),
    BETWEEN(vmstat_proactive, vmstat_reclaim_node, "pgscan_proactive", nothing),
    LINE("pgscan_direct_throttle", nothing),
    BETWEEN(vmstat_scan_anon, vmstat_reclaim_node, "pgscan_anon", nothing),
    BETWEEN(vmstat_scan_anon, vmstat_reclaim_node, "pgscan_file", nothing),
    BETWEEN(vmstat_scan_anon, vmstat_reclaim_node, "pgsteal_anon", nothing),
    BETWEEN(vmstat_scan_anon, vmstat_reclaim_node, "pgsteal_file", nothing),
    SINCE_WITH(vmstat_zone_reclaim_success, NUMA, "zone_reclaim_success", nothing),
    WITH(NUMA, "zone_reclaim_failed", nothing),
    LINE("pginodesteal", nothing),
    LINE("slabs_scanned", nothing),
    LINE("kswapd_inodesteal", nothing),
    LINE("kswapd_low_wmark_hit_quickly", nothing),
    LINE("kswapd_high_wmark_hit_quickly", nothing),
    LINE("pageoutrun", nothing),
    LINE("pgrotated", nothing),
    LINE("drop_pagecache", nothing),
    LINE("drop_slab", nothing),
    LINE("oom_kill", nothing),
    WITH(NUMA_BALANCING, "numa_pte_updates", nothing),
    WITH(NUMA_BALANCING, "numa_huge_pte_updates", nothing),
    WITH(NUMA_BALANCING, "numa_hint_faults", nothing),
    WITH(NUMA_BALANCING, "numa_hint_faults_local", nothing),
    WITH(NUMA_BALANCING, "numa_pages_migrated", nothing),
    LINE("pgmigrate_success", pgmigrate_success),
    LINE("pgmigrate_fail", pgmigrate_fail),
    SINCE(vmstat_thp_migration, "thp_migration_success", thp_migrated),
    SINCE(vmstat_thp_migration, "thp_migration_fail", nothing),
    SINCE(vmstat_thp_migration, "thp_migration_split", nothing),
    WITH(COMPACTION, "compact_migrate_scanned", nothing),
    WITH(COMPACTION, "compact_free_scanned", nothing),
    WITH(COMPACTION, "compact_isolated", nothing),
    WITH(COMPACTION, "compact_stall", nothing),
    WITH(COMPACTION, "compact_fail", nothing),
    WITH(COMPACTION, "compact_success", nothing),
    WITH(COMPACTION, "compact_daemon_wake", nothing),
    WITH(COMPACTION, "compact_daemon_migrate_scanned", nothing),
    WITH(COMPACTION, "compact_daemon_free_scanned", nothing),
    WITH(HUGETLB_PAGE, "htlb_buddy_alloc_success", nothing),
    WITH(HUGETLB_PAGE, "htlb_buddy_alloc_fail", nothing),
    SINCE_WITH(vmstat_cma_alloc, CMA, "cma_alloc_success", nothing),
    SINCE_WITH(vmstat_cma_alloc, CMA, "cma_alloc_fail", nothing),
    LINE("unevictable_pgs_culled", nothing),
    LINE("unevictable_pgs_scanned", nothing),
    LINE("unevictable_pgs_rescued", nothing),
    LINE("unevictable_pgs_mlocked", nothing),
    LINE("unevictable_pgs_munlocked", nothing),
    LINE("unevictable_pgs_cleared", nothing),
    LINE("unevictable_pgs_stranded", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_fault_alloc", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_fault_fallback", nothing),
    SINCE_WITH(vmstat_thp_charge, TRANSPARENT_HUGEPAGE, "thp_fault_fallback_charge", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_collapse_alloc", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_collapse_alloc_failed", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_file_alloc", nothing),
    SINCE_WITH(vmstat_thp_charge, TRANSPARENT_HUGEPAGE, "thp_file_fallback", nothing),
    SINCE_WITH(vmstat_thp_charge, TRANSPARENT_HUGEPAGE, "thp_file_fallback_charge", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_file_mapped", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_split_page", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_split_page_failed", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_deferred_split_page", nothing),
    SINCE_WITH(vmstat_thp_underused, TRANSPARENT_HUGEPAGE, "thp_underused_split_page", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_split_pmd", nothing),
    SINCE_WITH(vmstat_thp_scan_exceed, TRANSPARENT_HUGEPAGE, "thp_scan_exceed_none_pte", nothing),
    SINCE_WITH(vmstat_thp_scan_exceed, TRANSPARENT_HUGEPAGE, "thp_scan_exceed_swap_pte", nothing),
    SINCE_WITH(vmstat_thp_scan_exceed, TRANSPARENT_HUGEPAGE, "thp_scan_exceed_share_pte", nothing),
    {"thp_split_pud", X86, ALWAYS, CONFIG_TRANSPARENT_HUGEPAGE, nothing},
    WITH(TRANSPARENT_HUGEPAGE, "thp_zero_page_alloc", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_zero_page_alloc_failed", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_swpout", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "thp_swpout_fallback", nothing),
    WITH(MEMORY_BALLOON, "balloon_inflate", nothing),
    WITH(MEMORY_BALLOON, "balloon_deflate", nothing),
    WITH(MEMORY_BALLOON, "balloon_migrate", nothing),
    LINE("swap_ra", nothing),
    LINE("swap_ra_hit", nothing),
    SINCE(vmstat_thp_swpin, "swpin_zero", nothing),
    SINCE(vmstat_thp_swpin, "swpout_zero", nothing),
    SINCE_WITH(vmstat_ksm, KSM, "ksm_swpin_copy", nothing),
    SINCE_WITH(vmstat_ksm, KSM, "cow_ksm", nothing),
    SINCE_WITH(vmstat_zswap, ZSWAP, "zswpin", nothing),
    SINCE_WITH(vmstat_zswap, ZSWAP, "zswpout", nothing),
    SINCE_WITH(vmstat_zswpwb, ZSWAP, "zswpwb", nothing),
    SINCE_X86(vmstat_direct_map_splits, "direct_map_level2_splits", nothing),
    SINCE_X86(vmstat_direct_map_splits, "direct_map_level3_splits", nothing),
    SINCE_X86(vmstat_direct_map_collapses, "direct_map_level2_collapses", nothing),
    SINCE_X86(vmstat_direct_map_collapses, "direct_map_level3_collapses", nothing),
    SINCE(vmstat_nrswp, "nrswpin", nothing),
    SINCE(vmstat_nrswp, "nrswpout", nothing),
    SINCE(vmstat_unstable_last, "nr_unstable", nothing),
    LAST,
};

static bool line_exists(const struct machine *m, const struct line *l)
{
    if ((l->since == X86 || l->config == X86) && !has_direct_map_counters(m))
        return false;
    if (l->since >= 0 && !m->feature[l->since])
        return false;
    if (l->until >= 0 && m->feature[l->until])
        return false;
    return l->config < 0 || m->config[l->config] != 0;
}

static void print_plain(const struct machine *m, const struct line *lines, const struct tally *t,
                        struct text *out)
{
    for (const struct line *l = lines; l->name != NULL; l++)
        if (line_exists(m, l))
            text_printf(out, "%s %llu\n", l->name, (unsigned long long)l->value(m, t));
}

static void print_padded(const struct machine *m, const struct line *lines, const struct tally *t,
                         struct text *out)
{
    for (const struct line *l = lines; l->name != NULL; l++)
        if (line_exists(m, l))
            text_printf(out, "\n      %-12s %llu", l->name, (unsigned long long)l->value(m, t));
}

void vmstat_print_zone(const struct machine *m, const struct tally *t, struct text *out)
{
    print_padded(m, zone_lines, t, out);
    print_padded(m, numa_lines, t, out);
}

void vmstat_print_node(const struct machine *m, const struct tally *t, struct text *out)
{
    print_padded(m, node_lines, t, out);
}

/* Events counted by type of zone: all zones of pgalloc, then all of allocstall, then all of pgskip.
 */
static void print_zone_events(const struct machine *m, const struct tally *t, struct text *out)
{
    static const char *const event[] = {"pgalloc", "allocstall", "pgskip"};
    static const char *const suffix[NR_ZONES] = {"dma", "dma32", "normal", "movable", "device"};
    for (unsigned e = 0; e < sizeof event / sizeof event[0]; e++) {
        for (unsigned type = 0; type < NR_ZONES; type++) {
            if (!m->zone_exists[type] || (type == ZONE_DEVICE && !has(m, F_vmstat_device_zone)))
                continue;
            uint64_t value = e == 0 ? t->allocated[type] : 0;
            text_printf(out, "%s_%s %llu\n", event[e], suffix[type], (unsigned long long)value);
        }
    }
}

int vmstat_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    struct tally t;
    memset(&t, 0, sizeof t);
    tally_machine(m, &t);
    print_plain(m, zone_lines, &t, out);
    print_plain(m, numa_lines, &t, out);
    print_plain(m, node_lines, &t, out);
    print_plain(m, system_lines, &t, out);
    print_zone_events(m, &t, out);
    print_plain(m, event_lines, &t, out);
    return 0;
}

void procfs_node_vmstat(struct machine *m, int nid, struct text *out)
{
    struct tally t;
    memset(&t, 0, sizeof t);
    tally_node(m, &t, &m->nodes[nid]);
    print_plain(m, zone_lines, &t, out);
    print_plain(m, numa_lines, &t, out);
    print_plain(m, node_lines, &t, out);
}

/*
 * zoneinfo.c - /proc/zoneinfo, /proc/buddyinfo, /proc/pagetypeinfo: zones as text.
 *
 * Owns: these three files. Does not own: the list of counters inside zoneinfo (vmstat.c),
 * watermarks and spans (zone.c), free lists (buddy.c).
 */
#include <string.h>

#include "proc/proc.h"

static unsigned bits_needed(uint64_t value) /* fls(): 0 for 0, 1 for 1, 3 for 7 */
{
    return value != 0 ? 64u - (unsigned)__builtin_clzll(value) : 0;
}

/* Calls fn for each zone that exists of each online node; first tells the first populated one of
 * its node. */
static void each_zone(struct machine *m, struct text *out,
                      void (*fn)(struct machine *m, struct zone *z, bool first, struct text *out))
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        struct node *node = &m->nodes[nid];
        bool seen = false;
        if (!node->online)
            continue;
        for (unsigned type = 0; type < NR_ZONES; type++) {
            struct zone *z = &node->zones[type];
            if (!m->zone_exists[type])
                continue;
            bool first = !seen && zone_populated(z);
            seen = seen || first;
            fn(m, z, first, out);
        }
    }
}

/* ---- zoneinfo ---- */

/* How the lists of single pages, one per CPU and zone, are dimensioned. Only that of the first CPU
 * ever holds any. */
struct pageset {
    uint64_t high, batch, high_min, high_max;
};

static struct pageset pageset_of(struct machine *m, const struct zone *z)
{
    const uint64_t batch = zone_pcp_batch(m, z);
    const struct node *node = &m->nodes[z->nid];
    if (z->pcp_disabled != 0) /* for as long as a block of the zone goes offline */
        return (struct pageset){.batch = 1};
    unsigned cpus = node->nr_cpus != 0 ? node->nr_cpus : machine_nr_cpus(m);
    struct pageset set = {.batch = batch != 0 ? batch : 1};
    if (!has(m, F_zoneinfo_pcp_by_zone)) {
        set.high = 6 * batch;
        return set;
    }
    set.high_min = z->low_wmark / cpus;
    if (set.high_min < 4 * set.batch)
        set.high_min = 4 * set.batch;
    set.high_max = z->managed / 8 / cpus;
    if (set.high_max < 4 * set.batch)
        set.high_max = 4 * set.batch;
    set.high = has(m, F_zoneinfo_pcp_auto) && z->allocated == 0 ? 0 : set.high_min;
    return set;
}

/* What one CPU may keep to itself of a counter before it is added to the zone's. */
static unsigned stat_threshold(struct machine *m, const struct zone *z)
{
    unsigned units = bits_needed(z->managed >> (27 - m->page_shift));
    unsigned threshold = 2 * bits_needed(machine_nr_cpus(m)) * (1 + units);
    return threshold < 125 ? threshold : 125;
}

static void print_pagesets(struct machine *m, const struct zone *z, struct text *out)
{
    struct pageset set = pageset_of(m, z);
    unsigned threshold = stat_threshold(m, z);
    uint64_t count = z->kind_pages[KIND_PCP];
    text_printf(out, "\n  pagesets");
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        for (unsigned i = 0; i < m->nodes[nid].nr_cpus; i++) {
            text_printf(out, "\n    cpu: %d", m->nodes[nid].cpus[i]);
            if (has(m, F_zoneinfo_pcp_limits))
                text_printf(out,
                            "\n              count:    %llu"
                            "\n              high:     %llu"
                            "\n              batch:    %llu"
                            "\n              high_min: %llu"
                            "\n              high_max: %llu",
                            (unsigned long long)count, (unsigned long long)set.high,
                            (unsigned long long)set.batch, (unsigned long long)set.high_min,
                            (unsigned long long)set.high_max);
            else
                text_printf(out,
                            "\n              count: %llu"
                            "\n              high:  %llu"
                            "\n              batch: %llu",
                            (unsigned long long)count, (unsigned long long)set.high,
                            (unsigned long long)set.batch);
            count = 0;
            text_printf(out, "\n  vm stats threshold: %u", threshold);
        }
    }
}

static void print_watermarks(struct machine *m, const struct zone *z, struct text *out)
{
    text_printf(out, "\n  pages free     %llu", (unsigned long long)z->free);
    if (has(m, F_zoneinfo_boost))
        text_printf(out, "\n        boost    0");
    text_printf(out,
                "\n        min      %llu"
                "\n        low      %llu"
                "\n        high     %llu",
                (unsigned long long)z->min_wmark, (unsigned long long)z->low_wmark,
                (unsigned long long)z->high_wmark);
    if (has(m, F_zoneinfo_promo))
        text_printf(out, "\n        promo    %llu", (unsigned long long)z->promo_wmark);
    text_printf(out,
                "\n        spanned  %llu"
                "\n        present  %llu"
                "\n        managed  %llu",
                (unsigned long long)zone_spanned(z), (unsigned long long)z->present,
                (unsigned long long)z->managed);
    if (has(m, F_zoneinfo_cma))
        text_printf(out, "\n        cma      0");

    const char *separator = "\n        protection: (";
    for (unsigned type = 0; type < NR_ZONES; type++) {
        if (!m->zone_exists[type])
            continue;
        text_printf(out, "%s%llu", separator, (unsigned long long)z->lowmem_reserve[type]);
        separator = ", ";
    }
    text_printf(out, ")");
}

static void print_zone(struct machine *m, struct zone *z, bool first, struct text *out)
{
    text_printf(out, "Node %d, zone %8s", z->nid, zone_name(z));
    if (first) {
        struct tally t;
        memset(&t, 0, sizeof t);
        tally_node(m, &t, &m->nodes[z->nid]);
        text_printf(out, "\n  per-node stats");
        vmstat_print_node(m, &t, out);
    }
    print_watermarks(m, z, out);
    if (!zone_populated(z)) {
        text_printf(out, "\n");
        return;
    }
    struct tally t;
    memset(&t, 0, sizeof t);
    tally_zone(m, &t, z);
    vmstat_print_zone(m, &t, out);
    print_pagesets(m, z, out);
    text_printf(out,
                "\n  node_unreclaimable:  0"
                "\n  start_pfn:           %llu",
                (unsigned long long)z->start_pfn);
    if (has(m, F_zoneinfo_highatomic))
        text_printf(out, "\n  reserved_highatomic: 0"
                         "\n  free_highatomic:     0");
    text_printf(out, "\n");
}

int zoneinfo_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    each_zone(m, out, print_zone);
    return 0;
}

/* ---- buddyinfo ---- */

static void print_buddies(struct machine *m, struct zone *z, bool first, struct text *out)
{
    (void)first;
    if (!zone_populated(z))
        return;
    text_printf(out, "Node %d, zone %8s ", z->nid, zone_name(z));
    for (unsigned order = 0; order <= m->max_order; order++) {
        uint64_t nr = 0;
        for (unsigned mt = 0; mt < NR_MT; mt++)
            nr += z->free_area[order][mt].nr;
        text_printf(out, "%6llu ", (unsigned long long)nr);
    }
    text_printf(out, "\n");
}

int buddyinfo_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    each_zone(m, out, print_buddies);
    return 0;
}

/* ---- pagetypeinfo ---- */

static bool migratetype_exists(const struct machine *m, unsigned mt)
{
    return mt != MT_CMA || configured(m, CONFIG_CMA);
}

static void print_free_by_type(struct machine *m, const struct zone *z, struct text *out)
{
    const uint64_t cap = 100000;
    for (unsigned mt = 0; mt < NR_MT; mt++) {
        if (!migratetype_exists(m, mt))
            continue;
        text_printf(out, "Node %4d, zone %8s, type %12s ", z->nid, zone_name(z),
                    migratetype_name(mt));
        for (unsigned order = 0; order <= m->max_order; order++) {
            uint64_t nr = z->free_area[order][mt].nr;
            bool over = has(m, F_pagetypeinfo_capped) && nr >= cap;
            text_printf(out, "%s%6llu ", over ? ">" : "", (unsigned long long)(over ? cap : nr));
        }
        text_printf(out, "\n");
    }
}

/* Pageblocks of section s inside the zone's span that belong to the zone, by migratetype. */
static void count_section(struct machine *m, const struct zone *z, struct section *s,
                          uint64_t count[NR_MT])
{
    if (s->zones == NULL && s->zone != z->index)
        return;
    uint64_t first_pfn = section_first_pfn(m, s), end_pfn = first_pfn + m->pages_per_section;
    uint64_t from = first_pfn > z->start_pfn ? first_pfn : z->start_pfn;
    uint64_t to = end_pfn < z->end_pfn ? end_pfn : z->end_pfn;
    unsigned begin = (unsigned)((from - first_pfn) >> m->pageblock_order);
    unsigned end = (unsigned)((to - first_pfn + m->pageblock_pages - 1) >> m->pageblock_order);
    if (s->zones == NULL && s->blocks == NULL) {
        count[pageblock_mt_of(m, s, begin)] += end - begin;
        return;
    }
    for (unsigned b = begin; b < end; b++)
        if (s->zones == NULL || s->zones[b] == z->index)
            count[pageblock_mt_of(m, s, b)]++;
}

static void print_blocks_by_type(struct machine *m, const struct zone *z, struct text *out)
{
    uint64_t count[NR_MT] = {0};
    uint64_t nr = z->start_pfn >> m->section_page_shift;
    void *value;
    while (radix_next(&m->sections, nr, &nr, &value) && nr << m->section_page_shift < z->end_pfn) {
        struct section *s = section_get(m, nr);
        if (s != NULL && (s->state & SECTION_ONLINE) != 0)
            count_section(m, z, s, count);
        nr++;
    }
    text_printf(out, "Node %d, zone %8s ", z->nid, zone_name(z));
    for (unsigned mt = 0; mt < NR_MT; mt++)
        if (migratetype_exists(m, mt))
            text_printf(out, "%12llu ", (unsigned long long)count[mt]);
    text_printf(out, "\n");
}

static void print_node_types(struct machine *m, const struct node *node, struct text *out)
{
    text_printf(out, "Page block order: %u\nPages per block:  %llu\n\n", m->pageblock_order,
                (unsigned long long)m->pageblock_pages);
    text_printf(out, "%-43s ", "Free pages count per migrate type at order");
    for (unsigned order = 0; order <= m->max_order; order++)
        text_printf(out, "%6u ", order);
    text_printf(out, "\n");
    for (unsigned type = 0; type < NR_ZONES; type++)
        if (zone_populated(&node->zones[type]))
            print_free_by_type(m, &node->zones[type], out);
    text_printf(out, "\n%-23s", "Number of blocks type ");
    for (unsigned mt = 0; mt < NR_MT; mt++)
        if (migratetype_exists(m, mt))
            text_printf(out, "%12s ", migratetype_name(mt));
    text_printf(out, "\n");
    for (unsigned type = 0; type < NR_ZONES; type++)
        if (zone_populated(&node->zones[type]))
            print_blocks_by_type(m, &node->zones[type], out);
}

int pagetypeinfo_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        const struct node *n = &m->nodes[nid];
        bool memory = false;
        for (unsigned type = 0; type < NR_ZONES; type++)
            memory = memory || zone_populated(&n->zones[type]);
        if (n->online && memory) /* a node without memory prints nothing, not even the heading */
            print_node_types(m, n, out);
    }
    return 0;
}

/*
 * zone.c - nodes and zones: their spans, which zone a range of pages may join, watermarks, the
 * order in which allocations fall from zone to zone.
 *
 * Owns: start_pfn/end_pfn of zones and nodes, watermarks and lowmem reserves, the node order by
 * distance, the policy of onlining (contig-zones, auto-movable). Does not own: which pages are free
 * or held, block states. Linux: mm/memory_hotplug.c zone_for_pfn_range() and its helpers,
 * mm/page_alloc.c __setup_per_zone_wmarks().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "machine.h"

#define X(name, word) [ZONE_##name] = word,
static const char *const zone_names[NR_ZONES] = {FAKESYSFS_ZONES(X)};
#undef X

const char *zone_type_name(enum zone_type type)
{
    return zone_names[type];
}

int zone_type_by_name(const char *name)
{
    for (int type = 0; type < NR_ZONES; type++)
        if (strcasecmp(zone_names[type], name) == 0)
            return type;
    return -1;
}

const char *zone_name(const struct zone *z)
{
    return zone_names[z->type];
}

struct zone *zone_of(struct machine *m, uint64_t pfn)
{
    const struct section *s = section_online_of(m, pfn);

    return s == NULL ? NULL : zone_in_section(m, s, pfn & (m->pages_per_section - 1));
}

uint64_t zone_spanned(const struct zone *z)
{
    return z->end_pfn - z->start_pfn;
}

bool zone_is_empty(const struct zone *z)
{
    return zone_spanned(z) == 0;
}

bool zone_intersects(const struct zone *z, uint64_t start_pfn, uint64_t nr_pages)
{
    return !zone_is_empty(z) && start_pfn < z->end_pfn && start_pfn + nr_pages > z->start_pfn;
}

bool zone_populated(const struct zone *z)
{
    return z->present != 0;
}

uint64_t total_managed(struct machine *m)
{
    uint64_t sum = 0;

    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++)
            sum += m->nodes[nid].zones[type].managed;
    return sum;
}

uint64_t total_free(struct machine *m)
{
    uint64_t sum = 0;

    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++)
            sum += m->nodes[nid].zones[type].free;
    return sum;
}

/* ---- spans ---- */

void node_update_span(struct machine *m, struct node *node)
{
    (void)m;
    node->start_pfn = node->end_pfn = 0;
    for (int type = 0; type < NR_ZONES; type++) {
        const struct zone *z = &node->zones[type];
        if (zone_is_empty(z))
            continue;
        if (node->end_pfn == 0 || z->start_pfn < node->start_pfn)
            node->start_pfn = z->start_pfn;
        if (z->end_pfn > node->end_pfn)
            node->end_pfn = z->end_pfn;
    }
}

void zone_grow_span(struct machine *m, struct zone *z, uint64_t start_pfn, uint64_t nr_pages)
{
    struct node *node = &m->nodes[z->nid];

    if (zone_is_empty(z) || start_pfn < z->start_pfn)
        z->start_pfn = start_pfn;
    if (start_pfn + nr_pages > z->end_pfn)
        z->end_pfn = start_pfn + nr_pages;
    if (node->end_pfn == node->start_pfn || start_pfn < node->start_pfn)
        node->start_pfn = start_pfn;
    if (start_pfn + nr_pages > node->end_pfn)
        node->end_pfn = start_pfn + nr_pages;
}

void zone_track_section(struct machine *m, struct section *s, bool joins)
{
    for (uint64_t offset = 0; offset < m->pages_per_section; offset += m->pageblock_pages) {
        radix_set(m, &zone_in_section(m, s, offset)->sections, s->nr, joins ? s : NULL);
        if (s->zones == NULL)
            break; /* all the same */
    }
}

void zone_destroy_all(struct machine *m)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++)
            radix_free(&m->nodes[nid].zones[type].sections);
}

/* First pfn at or after `from` whose section belongs to the zone; sections where zones meet are
 * boot memory. */
static bool zone_first_pfn(struct machine *m, const struct zone *z, uint64_t from, uint64_t *pfn)
{
    uint64_t nr;
    void *value;

    if (!radix_next(&z->sections, from >> m->section_page_shift, &nr, &value))
        return false;
    uint64_t first = nr << m->section_page_shift;
    *pfn = first > z->start_pfn ? first : z->start_pfn;
    return true;
}

static bool zone_last_end(struct machine *m, const struct zone *z, uint64_t before, uint64_t *end)
{
    uint64_t nr;
    void *value;

    if (!radix_prev(&z->sections, (before - 1) >> m->section_page_shift, &nr, &value))
        return false;
    uint64_t last = (nr + 1) << m->section_page_shift;
    *end = last < z->end_pfn ? last : z->end_pfn;
    return true;
}

void zone_shrink_span(struct machine *m, struct zone *z, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t end_pfn = start_pfn + nr_pages, found;

    /* Linux: mm/memory_hotplug.c shrink_zone_span(): only a range at either end moves the span. */
    if (start_pfn <= z->start_pfn) {
        if (zone_first_pfn(m, z, end_pfn, &found))
            z->start_pfn = found;
        else
            z->start_pfn = z->end_pfn = 0;
    } else if (end_pfn >= z->end_pfn) {
        if (zone_last_end(m, z, start_pfn, &found))
            z->end_pfn = found;
        else
            z->start_pfn = z->end_pfn = 0;
    }
    node_update_span(m, &m->nodes[z->nid]);
}

/* Linux: memory_add_physaddr_to_nid(): what the firmware's tables say, else the node of their first
 * entry. Where no tables are kept the answer is a guess, and the kernel says so. */
int node_of_address(struct machine *m, uint64_t address)
{
    if (m->nr_hotplug_nids == 0 && !has(m, F_unknown_nid_once))
        klog(m, "Unknown node for memory at 0x%llx, assuming node 0", (unsigned long long)address);
    else if (m->nr_hotplug_nids == 0 && !m->unknown_nid_told)
        klog(m, "Unknown online node for memory at 0x%llx, assuming node 0",
             (unsigned long long)address);
    m->unknown_nid_told |= m->nr_hotplug_nids == 0;
    for (size_t i = 0; i < m->nr_hotplug_nids; i++)
        if (address >= m->hotplug_nids[i].start && address < m->hotplug_nids[i].end)
            return m->hotplug_nids[i].nid;
    return m->nr_hotplug_nids != 0 ? m->hotplug_nids[0].nid : 0;
}

/* ---- which zone a range joins ---- */

static struct zone *zone_movable(struct machine *m, int nid)
{
    return &m->nodes[nid].zones[ZONE_MOVABLE];
}

static struct zone *zone_default_kernel(struct machine *m, int nid, uint64_t start_pfn,
                                        uint64_t nr_pages)
{
    struct node *node = &m->nodes[nid];

    for (int type = ZONE_DMA; type < ZONE_NORMAL; type++)
        if (zone_intersects(&node->zones[type], start_pfn, nr_pages))
            return &node->zones[type];
    return &node->zones[ZONE_NORMAL];
}

/* Linux: auto_movable_can_online_movable(): would nr_pages more of Movable keep to the ratio? nid
 * -1: everywhere. */
static bool auto_movable_fits(struct machine *m, int only_nid, const struct memory_group *group,
                              uint64_t nr_pages)
{
    uint64_t kernel_early = 0, movable = 0, required = 0;

    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        if (only_nid >= 0 && (int)nid != only_nid)
            continue;
        for (int type = 0; type < NR_ZONES; type++) {
            const struct zone *z = &m->nodes[nid].zones[type];
            if (type == ZONE_MOVABLE)
                movable += z->present;
            else
                kernel_early += z->present_early;
        }
    }
    for (size_t i = 0; i < m->nr_groups; i++) {
        const struct memory_group *other = &m->groups[i];
        if (!other->used || !other->dynamic || other == group ||
            (only_nid >= 0 && other->nid != only_nid))
            continue;
        uint64_t wanted = other->present_movable * 100 / m->auto_movable_ratio;
        movable -= other->present_movable;
        required += wanted - (wanted < other->present_kernel ? wanted : other->present_kernel);
    }
    if (kernel_early <= required)
        return false;
    kernel_early -= required;
    if (group != NULL &&
        group->dynamic) /* what a device has in kernel zones counts for its own Movable */
        kernel_early += group->present_kernel;
    return movable + nr_pages <= kernel_early * m->auto_movable_ratio / 100;
}

static struct zone *auto_movable_zone(struct machine *m, int nid, struct memory_group *group,
                                      uint64_t start_pfn, uint64_t nr_pages)
{
    struct zone *kernel_zone = zone_default_kernel(m, nid, start_pfn, nr_pages);
    uint64_t wanted = nr_pages, online = 0;

    if (m->auto_movable_ratio == 0)
        return kernel_zone;
    if (group != NULL && !group->dynamic) {
        if (group->present_kernel != 0)
            return kernel_zone;
        wanted = group->max_pages;
        online = group->present_movable;
    } else if (group != NULL && group->unit_pages != nr_pages) {
        wanted = group->unit_pages;
        uint64_t first = start_pfn / wanted * wanted;
        for (uint64_t pfn = first; pfn < first + wanted; pfn += m->pages_per_section) {
            const struct zone *z = zone_of(m, pfn);
            if (z != NULL && z->type != ZONE_MOVABLE)
                return kernel_zone;
            online += z != NULL ? m->pages_per_section : 0;
        }
    }
    if (!auto_movable_fits(m, -1, group, wanted - online))
        return kernel_zone;
    if (m->auto_movable_numa_aware && configured(m, CONFIG_NUMA) &&
        !auto_movable_fits(m, nid, group, wanted - online))
        return kernel_zone;
    return zone_movable(m, nid);
}

struct zone *zone_for_range(struct machine *m, enum online_type type, int nid,
                            struct memory_group *group, uint64_t start_pfn, uint64_t nr_pages)
{
    struct zone *kernel_zone = zone_default_kernel(m, nid, start_pfn, nr_pages),
                *movable = zone_movable(m, nid);

    if (type == TYPE_KERNEL)
        return kernel_zone;
    if (type == TYPE_MOVABLE)
        return movable;
    if (m->auto_movable && has(m, F_online_policy))
        return auto_movable_zone(m, nid, group, start_pfn, nr_pages);
    bool in_kernel = zone_intersects(kernel_zone, start_pfn, nr_pages);
    bool in_movable = zone_intersects(movable, start_pfn, nr_pages);
    /* In one span only: stay there. In both or in none: the kernel's zone, unless booted with
     * movable_node. */
    if (in_kernel != in_movable)
        return in_kernel ? kernel_zone : movable;
    return m->movable_node ? movable : kernel_zone;
}

/* ---- watermarks ---- */

static uint64_t int_sqrt(uint64_t x)
{
    uint64_t root = 0;

    for (uint64_t bit = 1ull << 31; bit != 0; bit >>= 1)
        if ((root + bit) * (root + bit) <= x)
            root += bit;
    return root;
}

/* Linux: nr_free_zone_pages(): pages above the high watermark in zones up to `highest`, with the
 * watermarks of now. */
static uint64_t pages_above_high(struct machine *m, enum zone_type highest)
{
    uint64_t sum = 0;

    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type <= (int)highest; type++) {
            const struct zone *z = &m->nodes[nid].zones[type];
            sum += z->managed > z->high_wmark ? z->managed - z->high_wmark : 0;
        }
    return sum;
}

static bool wmark_in_sum(const struct machine *m, int type)
{
    return type != ZONE_MOVABLE || !has(m, F_movable_wmark_separate);
}

static void setup_wmarks(struct machine *m)
{
    uint64_t pages_min = m->min_free_kbytes * 1024 / m->page_bytes, sum = 0;

    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++)
            sum += wmark_in_sum(m, type) ? m->nodes[nid].zones[type].managed : 0;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++) {
            struct zone *z = &m->nodes[nid].zones[type];
            uint64_t share = sum == 0 ? 0 : (uint64_t)((__uint128_t)pages_min * z->managed / sum);
            z->min_wmark = share;
            if (!wmark_in_sum(m, type)) {
                uint64_t own = z->managed / 1024;
                z->min_wmark = z->managed == 0 ? 0 : own < 32 ? 32 : own > 128 ? 128 : own;
            }
            uint64_t step = share / 4 > z->managed / 1000 ? share / 4 : z->managed / 1000;
            z->low_wmark = z->min_wmark + step;
            z->high_wmark = z->min_wmark + 2 * step;
            z->promo_wmark = z->min_wmark + 3 * step;
        }
}

static void setup_lowmem_reserve(struct machine *m)
{
    static const unsigned ratio[NR_ZONES] = {256, 256, 32, 0, 0};

    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++) {
            struct zone *z = &m->nodes[nid].zones[type];
            uint64_t above = 0;
            memset(z->lowmem_reserve, 0, sizeof z->lowmem_reserve);
            for (int higher = type + 1; higher < NR_ZONES; higher++) {
                above += m->nodes[nid].zones[higher].managed;
                z->lowmem_reserve[higher] = ratio[type] == 0 || z->managed == 0
                                                ? 0
                                                : above / ratio[type];
            }
        }
}

void zone_update_watermarks(struct machine *m)
{
    uint64_t page_kb = m->page_bytes / 1024, cap = has(m, F_min_free_cap_256m) ? 262144 : 65536;

    uint64_t wanted;
    {
        TRACE(m, "calculate_min_free_kbytes");
        TRACE(m, "nr_free_zone_pages");
        wanted = int_sqrt(pages_above_high(m, ZONE_NORMAL) * page_kb * 16);
    }
    if ((int64_t)wanted > m->user_min_free_kbytes)
        m->min_free_kbytes = wanted < 128 ? 128 : wanted > cap ? cap : wanted;
    else
        klog(m,
             "min_free_kbytes is not updated to %lld because user defined value %lld is preferred",
             (long long)wanted, (long long)m->user_min_free_kbytes);
    {
        TRACE(m, "setup_per_zone_wmarks");
        setup_wmarks(m);
    }
    {
        TRACE(m, "setup_per_zone_lowmem_reserve");
        setup_lowmem_reserve(m);
    }
    if (!has(m, F_khugepaged_min_free) || !configured(m, CONFIG_TRANSPARENT_HUGEPAGE))
        return;
    /* khugepaged wants two pageblocks per zone and migratetype, but no more than a twentieth of low
     * memory. It looks at the watermarks just set. Linux: mm/khugepaged.c
     * set_recommended_min_free_kbytes(). */
    uint64_t nr_zones = 0;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type <= ZONE_NORMAL; type++)
            nr_zones += zone_populated(&m->nodes[nid].zones[type]);
    uint64_t recommended = m->pageblock_pages * nr_zones * 2 + m->pageblock_pages * nr_zones * 9;
    uint64_t most = pages_above_high(m, ZONE_NORMAL) / 20;
    recommended = (recommended < most ? recommended : most) * page_kb;
    if (recommended > m->min_free_kbytes) {
        if (m->user_min_free_kbytes >= 0)
            klog(
                m,
                "raising min_free_kbytes from %llu to %llu to help transparent hugepage allocations",
                (unsigned long long)m->min_free_kbytes, (unsigned long long)recommended);
        m->min_free_kbytes = recommended;
        setup_wmarks(m);
    }
}

/* Linux: min_free_kbytes_sysctl_handler(). */
void zone_set_min_free(struct machine *m, uint64_t kbytes)
{
    m->min_free_kbytes = kbytes;
    m->user_min_free_kbytes = (int64_t)kbytes;
    setup_wmarks(m);
}

/* Linux: zone_batchsize(). */
uint64_t zone_pcp_batch(const struct machine *m, const struct zone *z)
{
    uint64_t batch = z->managed >> 10, most = (UINT64_C(1) << 20) / m->page_bytes;

    batch = (batch < most ? batch : most) / 4;
    batch = batch < 1 ? 1 : batch + batch / 2;
    return (UINT64_C(1) << (63 - __builtin_clzll(batch))) - 1;
}

/* ---- zonelists: the order in which nodes are asked for memory, and what the log says of it ----
 */

bool node_has_memory(const struct node *node)
{
    for (int type = 0; type < NR_ZONES; type++)
        if (zone_populated(&node->zones[type]))
            return true;
    return false;
}

/* What is built at one go. */
struct zonelists {
    int leaving; /* a node that has just lost its last memory and still counts; -1 for none */
    unsigned
        load[MAX_NODES]; /* how many nodes have it as the first of several that are equally far */
};

/*
 * Itself (if it has memory, later kernels say), then nodes with memory: the near before the far,
 * the next before those under it, those without processors before those with, and of what is still
 * equal the one that is less asked. Linux: mm/page_alloc.c find_next_best_node(),
 * build_zonelists().
 */
static void build_fallback(struct machine *m, struct node *node, struct zonelists *lists)
{
    unsigned nid = (unsigned)node->nid, previous = nid;
    bool taken[MAX_NODES] = {false};

    node->nr_fallback = 0;
    taken[nid] = true;
    if (!has(m, F_fallback_skips_memoryless) || node_has_memory(node) || (int)nid == lists->leaving)
        node->fallback[node->nr_fallback++] = node->nid;
    for (;;) {
        uint64_t least = UINT64_MAX;
        unsigned best = nid;
        for (unsigned other = 0; other < m->possible_nodes; other++) {
            const struct node *candidate = &m->nodes[other];
            if (taken[other] || (!node_has_memory(candidate) && (int)other != lists->leaving))
                continue;
            uint64_t cost = (uint64_t)m->distance[nid][other] + (other < nid) +
                            (candidate->nr_cpus != 0);
            cost = cost * MAX_NODES + lists->load[other];
            if (cost < least) {
                least = cost;
                best = other;
            }
        }
        if (best == nid)
            return;
        taken[best] = true;
        if (m->distance[nid][best] != m->distance[nid][previous])
            lists->load[best]++;
        previous = best;
        node->fallback[node->nr_fallback++] = (int)best;
    }
}

static void print_fallback(struct machine *m, const struct node *node)
{
    struct text order = {0};

    if (!has(m, F_fallback_order_line) || !configured(m, CONFIG_NUMA))
        return;
    for (unsigned i = 0; i < node->nr_fallback; i++)
        text_printf(&order, "%d ", node->fallback[i]);
    klog(m, "Fallback order for Node %d: %s", node->nid, order.data != NULL ? order.data : "");
    text_free(&order);
}

static void print_built(struct machine *m)
{
    unsigned nr_online = 0;

    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        const struct node *node = &m->nodes[nid];
        nr_online += node->online;
        for (int type = ZONE_DMA; type <= ZONE_NORMAL; type++)
            if (zone_populated(&node->zones[type]) && type > (int)m->policy_zone)
                m->policy_zone = (enum zone_type)type; /* for good: check_highest_zone() */
    }
    uint64_t pages;
    {
        TRACE(m, "nr_free_zone_pages");
        pages = pages_above_high(m, ZONE_MOVABLE);
    }
    bool grouping = pages >= m->pageblock_pages * (NR_MT - 1);
    klog(m, "Built %u zonelists, mobility grouping %s.  Total pages: %llu", nr_online,
         grouping ? "on" : "off", (unsigned long long)pages);
    if (configured(m, CONFIG_NUMA))
        klog(m, "Policy zone: %s", zone_names[m->policy_zone]);
}

void zone_build_zonelists(struct machine *m, int leaving)
{
    struct zonelists lists = {.leaving = leaving};

    TRACE(m, "build_all_zonelists");
    {
        TRACE(m, "__build_all_zonelists");
        for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
            TRACE(m, "build_zonelists");
            build_fallback(m, &m->nodes[nid], &lists);
            print_fallback(m, &m->nodes[nid]);
        }
    }
    print_built(m);
}

void zone_build_own_zonelist(struct machine *m, struct node *node)
{
    struct zonelists lists = {.leaving = -1};

    TRACE(m, "build_all_zonelists");
    build_fallback(m, node, &lists);
    print_fallback(m, node);
    print_built(m);
}

/* Linux: mm/memory-tiers.c dump_demotion_targets(): all nodes are of one tier, none is below
 * another. */
void zone_print_demotion(struct machine *m)
{
    if (!has(m, F_demotion_targets_line) || !configured(m, CONFIG_NUMA))
        return;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        if (node_has_memory(&m->nodes[nid]))
            klog(m, "Demotion targets for Node %u: null", nid);
}

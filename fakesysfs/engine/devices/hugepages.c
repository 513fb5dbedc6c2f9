/*
 * hugepages.c - the pools of huge pages, of the machine and of each node, and the files that tell
 * of them and change them.
 *
 * Owns: /sys/kernel/mm/hugepages, hugepages/ of a node, how a pool grows and shrinks. Does not own:
 * the pages (mm/), meminfo (proc/meminfo.c), /proc/sys/vm (sysctl.c). Linux: mm/hugetlb.c,
 * mm/hugetlb_sysfs.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/node_files.h"
#include "proc/proc.h"

/* Directories of huge page sizes: id is scope << 8 | which, where scope is the node plus one, and 0
 * the machine. */
enum { HSTATE_DEFAULT, HSTATE_GIGANTIC, NR_HSTATES };

static unsigned hstate_which(const struct sysfs_node *node)
{
    return node->id & 0xff;
}

/* The node; -1: all of them. */
static int hstate_nid(const struct sysfs_node *node)
{
    return (int)(node->id >> 8) - 1;
}

static uint64_t hstate_kb(const struct machine *m, unsigned which)
{
    return which == HSTATE_GIGANTIC ? UINT64_C(1) << 20 : m->pageblock_pages * m->page_bytes / 1024;
}

/* x86_64 has pages of 1 GiB; they are never in the pool here. */
static bool hstate_exists(const struct machine *m, unsigned which)
{
    return which == HSTATE_DEFAULT || has_direct_map_counters(m);
}

/* ---- the pool ---- */

static struct hugetlb_count pool_count(struct machine *m, int nid)
{
    if (nid >= 0)
        return hugetlb_of_node(m, nid);
    return (struct hugetlb_count){m->hugetlb_total, m->hugetlb_free};
}

/* One huge page of the node nobody uses goes back to the free lists. */
static bool node_pool_shrink(struct machine *m, unsigned nid)
{
    for (unsigned type = NR_ZONES; type-- > 0;) {
        const struct zone *z = &m->nodes[nid].zones[type];
        for (ref_t ref = z->held[KIND_HUGETLB].head; ref != 0; ref = list_next(m, ref)) {
            struct folio folio;
            if (!folio_at(m, pfn_of_ref(m, ref), &folio) || folio.pins != 0)
                continue;
            hugetlb_count(m, KIND_HUGETLB, -(int64_t)(UINT64_C(1) << folio.order));
            pages_free(m, folio.pfn);
            return true;
        }
    }
    return false;
}

static bool node_pool_grow(struct machine *m, unsigned nid)
{
    uint64_t pfn;

    if (pages_alloc(m, KIND_HUGETLB, m->pageblock_order, ZONE_MOVABLE, (int)nid, UINT64_C(1) << nid,
                    &pfn) != 0)
        return false;
    hugetlb_count(m, KIND_HUGETLB, (int64_t)m->pageblock_pages);
    return true;
}

/* One page more or less, of a node or of the one whose turn it is: the nodes with memory take
 * turns. Linux: for_each_node_mask_to_alloc(). */
static bool pool_step(struct machine *m, int nid, unsigned *turn,
                      bool (*step)(struct machine *m, unsigned nid))
{
    if (nid >= 0)
        return step(m, (unsigned)nid);
    for (unsigned tried = 0; tried < m->possible_nodes; tried++) {
        unsigned next = *turn;
        *turn = (next + 1) % m->possible_nodes;
        if (node_has_memory(&m->nodes[next]) && step(m, next))
            return true;
    }
    return false;
}

/* The pool gets as close to the number as memory allows; falling short is no error. */
static void pool_set(struct machine *m, int nid, uint64_t wanted)
{
    uint64_t total = pool_count(m, nid).total;

    while (total < wanted && pool_step(m, nid, &m->hugetlb_next_grow, node_pool_grow))
        total++;
    while (total > wanted && pool_step(m, nid, &m->hugetlb_next_shrink, node_pool_shrink))
        total--;
    if (m->task != NULL)
        m->task->reason[0] = '\0'; /* that of the page which was not to be had */
}

void hugepages_set(struct machine *m, uint64_t wanted)
{
    pool_set(m, -1, wanted);
}

/* ---- files ---- */

static struct hugetlb_count hstate_count(struct machine *m, const struct sysfs_node *node)
{
    if (hstate_which(node) == HSTATE_GIGANTIC)
        return (struct hugetlb_count){0, 0};
    return pool_count(m, hstate_nid(node));
}

static int nr_hugepages_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    text_printf(out, "%llu\n", (unsigned long long)hstate_count(m, node).total);
    return 0;
}

static int free_hugepages_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    text_printf(out, "%llu\n", (unsigned long long)hstate_count(m, node).free);
    return 0;
}

/* Surplus and reserved pages: no process maps any. */
static int none_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    (void)node;
    text_printf(out, "0\n");
    return 0;
}

/* kstrtoul() with base 10. */
static int parse_decimal(struct machine *m, const char *s, uint64_t *value)
{
    s += *s == '+';
    if (*s < '0' || *s > '9')
        return fail(m, -EINVAL, "not a decimal number");
    *value = 0;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(*value, 10u, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*s - '0'), value))
            return fail(m, -ERANGE, "the number is too large");
    s += *s == '\n';
    return *s == '\0' ? 0 : fail(m, -EINVAL, "something stands behind the number");
}

static int64_t nr_hugepages_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                  size_t count)
{
    uint64_t wanted;
    int err = parse_decimal(m, buf, &wanted);

    if (err != 0)
        return err;
    if (hstate_which(node) == HSTATE_DEFAULT)
        pool_set(m, hstate_nid(node), wanted);
    return (int64_t)count;
}

static int overcommit_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    uint64_t number = hstate_which(node) == HSTATE_DEFAULT ? m->hugetlb_overcommit : 0;

    text_printf(out, "%llu\n", (unsigned long long)number);
    return 0;
}

static int64_t overcommit_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                size_t count)
{
    uint64_t number;

    if (hstate_which(node) == HSTATE_GIGANTIC)
        return fail(m, -EINVAL, "pages of this size are never taken on demand");
    int err = parse_decimal(m, buf, &number);
    if (err != 0)
        return err;
    m->hugetlb_overcommit = number;
    return (int64_t)count;
}

static bool numa_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return configured(m, CONFIG_NUMA);
}

static bool demote_visible(struct machine *m, const struct sysfs_node *node)
{
    return has(m, F_hugetlb_demote) && hstate_which(node) == HSTATE_GIGANTIC;
}

static int64_t demote_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                            size_t count)
{
    uint64_t number;
    (void)node;
    int err = parse_decimal(m, buf, &number);
    return err != 0 ? err : (int64_t)count; /* there is never one to demote */
}

static int demote_size_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%llukB\n", (unsigned long long)hstate_kb(m, HSTATE_DEFAULT));
    return 0;
}

static int64_t demote_size_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                 size_t count)
{
    const char *end;
    uint64_t bytes;
    (void)node;
    if (!parse_size(buf, &end, &bytes) || bytes != hstate_kb(m, HSTATE_DEFAULT) * 1024)
        return fail(m, -EINVAL, "pages can be demoted to %llu kB only",
                    (unsigned long long)hstate_kb(m, HSTATE_DEFAULT));
    return (int64_t)count;
}

#define OF_BOTH                                                                                    \
    {.name = "nr_hugepages",                                                                       \
     .mode = 0644,                                                                                 \
     .show = nr_hugepages_show,                                                                    \
     .store = nr_hugepages_store},                                                                 \
        {.name = "free_hugepages", .mode = 0444, .show = free_hugepages_show},                     \
        {.name = "surplus_hugepages", .mode = 0444, .show = none_show},                            \
        {.name = "demote", .mode = 0200, .store = demote_store, .visible = demote_visible},        \
    {                                                                                              \
        .name = "demote_size", .mode = 0644, .show = demote_size_show, .store = demote_size_store, \
        .visible = demote_visible                                                                  \
    }

static const struct sysfs_attr node_attrs[] = {OF_BOTH, {.name = NULL}};
static const struct sysfs_attr machine_attrs[] = {
    OF_BOTH,
    {.name = "nr_overcommit_hugepages",
     .mode = 0644,
     .show = overcommit_show,
     .store = overcommit_store},
    {.name = "resv_hugepages", .mode = 0444, .show = none_show},
    /* nobody who writes has a memory policy */
    {.name = "nr_hugepages_mempolicy",
     .mode = 0644,
     .show = nr_hugepages_show,
     .store = nr_hugepages_store,
     .visible = numa_visible},
    {.name = NULL},
};

static const struct sysfs_class node_hstate_class = {.name = "huge page size", .attrs = node_attrs};
static const struct sysfs_class machine_hstate_class = {.name = "huge page size",
                                                        .attrs = machine_attrs};

/* ---- directories ---- */

static void hstate_child(const struct machine *m, uint64_t scope, unsigned which, char *name,
                         size_t size, struct sysfs_node *child)
{
    snprintf(name, size, "hugepages-%llukB", (unsigned long long)hstate_kb(m, which));
    *child = sysfs_dir_node(scope != 0 ? &node_hstate_class : &machine_hstate_class,
                            scope << 8 | which, 0);
}

static int sizes_lookup(struct machine *m, uint64_t scope, const char *name, struct sysfs_node *out)
{
    for (unsigned which = 0; which < NR_HSTATES; which++) {
        char own[40];
        struct sysfs_node child;
        if (!hstate_exists(m, which))
            continue;
        hstate_child(m, scope, which, own, sizeof own, &child);
        if (strcmp(name, own) == 0) {
            *out = child;
            return 0;
        }
    }
    return -ENOENT;
}

static void sizes_list(struct machine *m, uint64_t scope, add_fn add, void *ctx)
{
    for (unsigned which = 0; which < NR_HSTATES; which++) {
        char name[40];
        struct sysfs_node child;
        if (!hstate_exists(m, which))
            continue;
        hstate_child(m, scope, which, name, sizeof name, &child);
        add(ctx, name, &child);
    }
}

static int node_lookup(struct machine *m, uint64_t nid, const char *name, struct sysfs_node *out)
{
    return sizes_lookup(m, nid + 1, name, out);
}

static void node_list(struct machine *m, uint64_t nid, add_fn add, void *ctx)
{
    sizes_list(m, nid + 1, add, ctx);
}

const struct sysfs_class node_hugepages_class = {
    .name = "hugepages", .lookup = node_lookup, .list = node_list};
static const struct sysfs_class machine_hugepages_class = {
    .name = "hugepages", .lookup = sizes_lookup, .list = sizes_list};

void hugepages_register(struct machine *m)
{
    if (configured(m, CONFIG_HUGETLB_PAGE))
        sysfs_dir_add(m, "/sys/kernel/mm/hugepages", &machine_hugepages_class, 0);
}

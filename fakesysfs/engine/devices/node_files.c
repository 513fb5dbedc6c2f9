/*
 * node_files.c - what the files of a node's directory say and take: CPUs, distances, counters, huge
 * pages.
 *
 * Owns: the text of those files, and the sub-directories hugepages/, memory_failure/ and x86/. Does
 * not own: the directory itself and its links (node.c), meminfo and vmstat (meminfo.c, vmstat.c).
 * Linux: drivers/base/node.c, mm/hugetlb.c, mm/vmscan.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/node_files.h"
#include "proc/proc.h"

enum { CPU_WORDS = 8192 / 32 }; /* as many CPUs as Linux can have */

/* ---- CPUs ---- */

struct cpu_set {
    uint32_t word[CPU_WORDS];
    unsigned limit; /* CPUs of the machine: the highest number plus one */
};

static void cpus_of_node(const struct machine *m, uint64_t nid, struct cpu_set *set)
{
    memset(set, 0, sizeof *set);
    for (unsigned n = 0; n < m->possible_nodes; n++) {
        for (unsigned i = 0; i < m->nodes[n].nr_cpus; i++) {
            unsigned cpu = (unsigned)m->nodes[n].cpus[i];
            if (cpu >= CPU_WORDS * 32)
                continue;
            if (cpu >= set->limit)
                set->limit = cpu + 1;
            if (n == nid)
                set->word[cpu / 32] |= UINT32_C(1) << cpu % 32;
        }
    }
    if (set->limit == 0)
        set->limit = 1;
}

/* Words of 32 bits, highest first; the highest is as wide as there are CPUs. */
int node_cpumap_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    struct cpu_set set;
    cpus_of_node(m, node->id, &set);
    unsigned words = (set.limit + 31) / 32;
    unsigned first_bits = (set.limit - 1) % 32 + 1;
    for (unsigned i = words; i-- > 0;) {
        unsigned digits = i == words - 1 ? (first_bits + 3) / 4 : 8;
        text_printf(out, "%s%0*x", i == words - 1 ? "" : ",", (int)digits, set.word[i]);
    }
    text_printf(out, "\n");
    return 0;
}

static bool set_has(const struct cpu_set *set, unsigned cpu)
{
    return cpu < set->limit && (set->word[cpu / 32] >> cpu % 32 & 1) != 0;
}

int node_cpulist_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    struct cpu_set set;
    const char *separator = "";
    cpus_of_node(m, node->id, &set);
    for (unsigned cpu = 0; cpu < set.limit; cpu++) {
        if (!set_has(&set, cpu))
            continue;
        unsigned last = cpu;
        while (set_has(&set, last + 1))
            last++;
        text_printf(out, last == cpu ? "%s%u" : "%s%u-%u", separator, cpu, last);
        separator = ",";
        cpu = last;
    }
    text_printf(out, "\n");
    return 0;
}

/* Sizes that hold the longest text NR_CPUS can give, where the files have a size of their own. */
uint64_t node_cpumap_size(struct machine *m, const struct sysfs_node *node)
{
    uint64_t longest = (uint64_t)m->config[CONFIG_NR_CPUS] * 9 / 32;
    (void)node;
    return has(m, F_cpu_maps_sized) && longest > m->page_bytes ? longest - 1 : m->page_bytes;
}

uint64_t node_cpulist_size(struct machine *m, const struct sysfs_node *node)
{
    uint64_t longest = (uint64_t)m->config[CONFIG_NR_CPUS] * 7 / 2;
    (void)node;
    return has(m, F_cpu_maps_sized) && longest > m->page_bytes ? longest : m->page_bytes;
}

/* ---- counters ---- */

int node_meminfo_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    procfs_node_meminfo(m, (int)node->id, out);
    return 0;
}

int node_vmstat_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    procfs_node_vmstat(m, (int)node->id, out);
    return 0;
}

int node_numastat_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    struct tally t;
    memset(&t, 0, sizeof t);
    tally_node(m, &t, &m->nodes[node->id]);
    text_printf(out,
                "numa_hit %llu\nnuma_miss %llu\nnuma_foreign %llu\n"
                "interleave_hit 0\nlocal_node %llu\nother_node %llu\n",
                (unsigned long long)t.numa_hit, (unsigned long long)t.numa_miss,
                (unsigned long long)t.numa_foreign, (unsigned long long)t.numa_local,
                (unsigned long long)t.numa_other);
    return 0;
}

/* Only online nodes have a column. The blank goes before every node but number 0. */
int node_distance_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    for (unsigned other = 0; other < m->possible_nodes; other++)
        if (m->nodes[other].online)
            text_printf(out, "%s%d", other != 0 ? " " : "", m->distance[node->id][other]);
    text_printf(out, "\n");
    return 0;
}

/* ---- compact, reclaim ---- */

bool node_compact_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return configured(m, CONFIG_COMPACTION);
}

/* Whatever is written asks for compaction. It moves no page here: large chunks are never short for
 * long. */
int64_t node_compact_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    (void)m;
    (void)node;
    (void)m;
    (void)buf;
    return (int64_t)count;
}

bool node_reclaim_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_node_reclaim);
}

/* memparse(): a number with an optional K, M, G, T, P or E behind it; *end is what follows. */
static bool parse_size(const char *s, const char **end, uint64_t *bytes)
{
    static const char suffixes[] = "KMGTPE";
    char *after;
    if (*s < '0' || *s > '9')
        return false;
    *bytes = strtoull(s, &after, 0);
    for (unsigned i = 0; *after != '\0' && i < sizeof suffixes - 1; i++) {
        if (*after != suffixes[i] && *after != suffixes[i] + ('a' - 'A'))
            continue;
        *bytes <<= 10 * (i + 1);
        after++;
        break;
    }
    *end = after;
    return true;
}

/* "swappiness=0" ... "swappiness=200" or "swappiness=max", any number of them. */
static bool reclaim_options_valid(const char *s)
{
    static const char key[] = "swappiness=";
    for (s += strspn(s, " \n\t"); *s != '\0'; s += strspn(s, " \n\t")) {
        size_t len = strcspn(s, " \n\t");
        if (strncmp(s, key, sizeof key - 1) != 0)
            return false;
        const char *value = s + sizeof key - 1;
        char *after;
        unsigned long number = strtoul(value, &after, 10);
        bool word = len == sizeof key - 1 + 3 && strncmp(value, "max", 3) == 0;
        if (!word && (*value < '0' || *value > '9' || number > 200 || after != s + len))
            return false;
        s += len;
    }
    return true;
}

/* Drops file pages of a zone, youngest first. Returns the pages freed, `wanted` if it can. */
static uint64_t reclaim_zone(struct machine *m, const struct zone *z, uint64_t wanted)
{
    uint64_t freed = 0;
    ref_t ref = z->held[KIND_FILE].head;
    while (ref != 0 && freed < wanted) {
        uint64_t before = z->kind_pages[KIND_FILE];
        struct folio folio;
        ref_t next = list_next(m, ref);
        if (folio_at(m, pfn_of_ref(m, ref), &folio) && folio.pins == 0) {
            if (folio.page == NULL && wanted - freed >= m->pages_per_section) {
                buddy_free_section(m, folio.s);
            } else {
                pages_free(m, folio.pfn);
                if (folio.page == NULL)
                    next = z->held[KIND_FILE].head; /* the section has become many list nodes */
            }
        }
        freed += before - z->kind_pages[KIND_FILE];
        ref = next;
    }
    return freed;
}

/* Clean file pages are what an idle machine without swap can give. -EAGAIN: less than was asked
 * for. */
int64_t node_reclaim_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    uint64_t bytes, freed = 0;
    const char *options;
    if (!parse_size(buf, &options, &bytes) || !reclaim_options_valid(options))
        return fail(m, -EINVAL, "not a size, or an option that is unknown");
    uint64_t wanted = bytes / m->page_bytes;
    for (unsigned type = NR_ZONES; type-- > 0 && freed < wanted;)
        freed += reclaim_zone(m, &m->nodes[node->id].zones[type], wanted - freed);
    if (freed < wanted)
        return fail(m, -EAGAIN, "only %llu of %llu pages could be reclaimed",
                    (unsigned long long)freed, (unsigned long long)wanted);
    return (int64_t)count;
}

/* ---- hugepages/ ---- */

/* Directories of huge page sizes: id is nid << 8 | which. */
enum { HSTATE_DEFAULT, HSTATE_GIGANTIC, NR_HSTATES };

static uint64_t hstate_kb(const struct machine *m, unsigned which)
{
    return which == HSTATE_GIGANTIC ? UINT64_C(1) << 20 : m->pageblock_pages * m->page_bytes / 1024;
}

/* x86_64 has pages of 1 GiB; they are never in the pool here. */
static bool hstate_exists(const struct machine *m, unsigned which)
{
    return which == HSTATE_DEFAULT || has_direct_map_counters(m);
}

static struct hugetlb_count hstate_count(struct machine *m, const struct sysfs_node *node)
{
    if ((node->id & 0xff) == HSTATE_GIGANTIC)
        return (struct hugetlb_count){0, 0};
    return hugetlb_of_node(m, (int)(node->id >> 8));
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

static int surplus_hugepages_show(struct machine *m, const struct sysfs_node *node,
                                  struct text *out)
{
    (void)m;
    (void)node;
    text_printf(out, "0\n"); /* nothing is overcommitted */
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

/* One huge page of the node nobody uses goes back to the free lists. */
static bool pool_shrink(struct machine *m, int nid)
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

static bool pool_grow(struct machine *m, int nid)
{
    uint64_t pfn;
    if (pages_alloc(m, KIND_HUGETLB, m->pageblock_order, ZONE_MOVABLE, nid, UINT64_C(1) << nid,
                    &pfn) != 0)
        return false;
    hugetlb_count(m, KIND_HUGETLB, (int64_t)m->pageblock_pages);
    return true;
}

/* The pool gets as close to the number as memory allows; falling short is no error. */
static int64_t nr_hugepages_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                  size_t count)
{
    uint64_t wanted;
    int nid = (int)(node->id >> 8);
    int err = parse_decimal(m, buf, &wanted);
    if (err != 0)
        return err;
    if ((node->id & 0xff) == HSTATE_GIGANTIC)
        return (int64_t)count;
    uint64_t total = hugetlb_of_node(m, nid).total;
    while (total < wanted && pool_grow(m, nid))
        total++;
    while (total > wanted && pool_shrink(m, nid))
        total--;
    if (m->task != NULL)
        m->task->reason[0] = '\0'; /* that of the page which was not to be had */
    return (int64_t)count;
}

static bool demote_visible(struct machine *m, const struct sysfs_node *node)
{
    return has(m, F_hugetlb_demote) && (node->id & 0xff) == HSTATE_GIGANTIC;
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

static const struct sysfs_attr hstate_attrs[] = {
    {.name = "nr_hugepages", .mode = 0644, .show = nr_hugepages_show, .store = nr_hugepages_store},
    {.name = "free_hugepages", .mode = 0444, .show = free_hugepages_show},
    {.name = "surplus_hugepages", .mode = 0444, .show = surplus_hugepages_show},
    {.name = "demote", .mode = 0200, .store = demote_store, .visible = demote_visible},
    {.name = "demote_size",
     .mode = 0644,
     .show = demote_size_show,
     .store = demote_size_store,
     .visible = demote_visible},
    {.name = NULL},
};

static const struct sysfs_class hstate_class = {.name = "huge page size", .attrs = hstate_attrs};

static void hstate_child(const struct machine *m, uint64_t nid, unsigned which, char *name,
                         size_t size, struct sysfs_node *child)
{
    snprintf(name, size, "hugepages-%llukB", (unsigned long long)hstate_kb(m, which));
    *child = sysfs_dir_node(&hstate_class, nid << 8 | which, 0);
}

static int hugepages_lookup(struct machine *m, uint64_t id, const char *name,
                            struct sysfs_node *out)
{
    for (unsigned which = 0; which < NR_HSTATES; which++) {
        char own[40];
        struct sysfs_node child;
        if (!hstate_exists(m, which))
            continue;
        hstate_child(m, id, which, own, sizeof own, &child);
        if (strcmp(name, own) == 0) {
            *out = child;
            return 0;
        }
    }
    return -ENOENT;
}

static void hugepages_list(struct machine *m, uint64_t id, add_fn add, void *ctx)
{
    for (unsigned which = 0; which < NR_HSTATES; which++) {
        char name[40];
        struct sysfs_node child;
        if (!hstate_exists(m, which))
            continue;
        hstate_child(m, id, which, name, sizeof name, &child);
        add(ctx, name, &child);
    }
}

static const struct sysfs_class hugepages_class = {
    .name = "hugepages", .lookup = hugepages_lookup, .list = hugepages_list};

/* ---- memory_failure/, x86/ ---- */

static int failures_print(struct text *out, uint64_t number)
{
    text_printf(out, "%llu\n", (unsigned long long)number);
    return 0;
}

#define FAILURES_SHOW(name, result)                                                     \
    static int name(struct machine *m, const struct sysfs_node *node, struct text *out) \
    {                                                                                   \
        return failures_print(out, m->nodes[node->id].failures[result]);                \
    }

FAILURES_SHOW(ignored_show, MF_IGNORED)
FAILURES_SHOW(failed_show, MF_FAILED)
FAILURES_SHOW(delayed_show, MF_DELAYED)
FAILURES_SHOW(recovered_show, MF_RECOVERED)

static int total_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    uint64_t total = 0;
    for (unsigned result = 0; result < NR_MF_RESULTS; result++)
        total += m->nodes[node->id].failures[result];
    return failures_print(out, total);
}

static int zero_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    (void)node;
    text_printf(out, "0\n");
    return 0;
}

static const struct sysfs_attr memory_failure_attrs[] = {
    {.name = "total", .mode = 0444, .show = total_show},
    {.name = "ignored", .mode = 0444, .show = ignored_show},
    {.name = "failed", .mode = 0444, .show = failed_show},
    {.name = "delayed", .mode = 0444, .show = delayed_show},
    {.name = "recovered", .mode = 0444, .show = recovered_show},
    {.name = NULL},
};

static const struct sysfs_attr x86_attrs[] = {
    {.name = "sgx_total_bytes", .mode = 0444, .show = zero_show}, /* no enclave memory */
    {.name = NULL},
};

static const struct sysfs_class memory_failure_class = {.name = "memory_failure",
                                                        .attrs = memory_failure_attrs};
static const struct sysfs_class x86_class = {.name = "x86", .attrs = x86_attrs};

/* The directory a name stands for in this node, or NULL. */
static const struct sysfs_class *directory_class(struct machine *m, uint64_t nid, const char *name)
{
    if (strcmp(name, "hugepages") == 0 && configured(m, CONFIG_HUGETLB_PAGE) &&
        (has(m, F_node_hugepages_always) || node_has_memory(&m->nodes[nid])))
        return &hugepages_class;
    if (strcmp(name, "memory_failure") == 0 && has(m, F_node_memory_failure) &&
        configured(m, CONFIG_MEMORY_FAILURE))
        return &memory_failure_class;
    if (strcmp(name, "x86") == 0 && configured(m, CONFIG_X86_SGX))
        return &x86_class;
    return NULL;
}

int node_files_lookup(struct machine *m, uint64_t nid, const char *name, struct sysfs_node *out)
{
    const struct sysfs_class *cls = directory_class(m, nid, name);
    if (cls == NULL)
        return -ENOENT;
    *out = sysfs_dir_node(cls, nid, 0);
    return 0;
}

void node_files_list(struct machine *m, uint64_t nid, add_fn add, void *ctx)
{
    static const char *const names[] = {"hugepages", "memory_failure", "x86"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct sysfs_node child;
        if (node_files_lookup(m, nid, names[i], &child) == 0)
            add(ctx, names[i], &child);
    }
}

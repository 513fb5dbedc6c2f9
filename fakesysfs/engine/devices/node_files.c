/*
 * node_files.c - what the files of a node's directory say and take: CPUs, distances, counters.
 *
 * Owns: the text of those files, and the sub-directories memory_failure/ and x86/. Does not own:
 * the directory itself and its links (node.c), hugepages/ (hugepages.c), meminfo and vmstat
 * (meminfo.c, vmstat.c). Linux: drivers/base/node.c, mm/vmscan.c.
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

uint64_t zone_reclaim(struct machine *m, const struct zone *z, unsigned kind, uint64_t wanted)
{
    uint64_t freed = 0;
    ref_t ref = z->held[kind].head;
    while (ref != 0 && freed < wanted) {
        uint64_t before = z->kind_pages[kind];
        struct folio folio;
        ref_t next = list_next(m, ref);
        if (folio_at(m, pfn_of_ref(m, ref), &folio) && folio.pins == 0) {
            if (folio.page == NULL && wanted - freed >= m->pages_per_section) {
                buddy_free_section(m, folio.s);
            } else {
                pages_free(m, folio.pfn);
                if (folio.page == NULL)
                    next = z->held[kind].head; /* the section has become many list nodes */
            }
        }
        freed += before - z->kind_pages[kind];
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
        freed += zone_reclaim(m, &m->nodes[node->id].zones[type], KIND_FILE, wanted - freed);
    if (freed < wanted)
        return fail(m, -EAGAIN, "only %llu of %llu pages could be reclaimed",
                    (unsigned long long)freed, (unsigned long long)wanted);
    return (int64_t)count;
}

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
        return &node_hugepages_class;
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

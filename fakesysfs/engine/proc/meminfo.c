/*
 * meminfo.c - /proc/meminfo and nodeN/meminfo.
 *
 * Owns: their lines in the kernel's order, each with the feature and the configuration that bring
 * it. What the model has no notion of (swap cache, dirty pages, mapped files) is 0, as on an idle
 * machine. Does not own: any number.
 */
#include <string.h>

#include "proc/proc.h"

enum { ALWAYS = -1 };

struct meminfo { /* what the lines are made from */
    struct tally t;
    struct hugetlb_count hugetlb;
    uint64_t hugetlb_pages; /* of hugetlb.total, in pages */
};

struct meminfo_line {
    const char *name; /* with its colon */
    int since;        /* feature that brings it, or ALWAYS */
    int config;       /* configuration it needs, or ALWAYS */
    uint64_t (*kb)(struct machine *m, const struct meminfo *info);
};

/* Huge pages of a zone that somebody uses: those with a reference. */
static uint64_t hugetlb_used(struct machine *m, const struct zone *z)
{
    uint64_t used = 0;
    for (ref_t ref = z->held[KIND_HUGETLB].head; ref != 0; ref = list_next(m, ref))
        used += (ref & REF_SECTION) != 0 ? section_of_ref(m, ref)->nr_pinned
                                         : page_of_ref(m, ref)->pins != 0;
    return used;
}

struct hugetlb_count hugetlb_of_node(struct machine *m, int nid)
{
    struct hugetlb_count count = {0, 0};
    for (unsigned type = 0; type < NR_ZONES; type++) {
        const struct zone *z = &m->nodes[nid].zones[type];
        count.total += z->kind_pages[KIND_HUGETLB] >> m->pageblock_order;
        count.free += z->kind_pages[KIND_HUGETLB] >> m->pageblock_order;
        if (m->hugetlb_free != m->hugetlb_total)
            count.free -= hugetlb_used(m, z);
    }
    return count;
}

/* ---- values, in kB ---- */

#define VALUE(name, pages)                                              \
    static uint64_t name(struct machine *m, const struct meminfo *info) \
    {                                                                   \
        (void)info;                                                     \
        return tally_kb(m, pages);                                      \
    }

VALUE(total, info->t.managed)
VALUE(free_, info->t.free)
VALUE(used, info->t.managed - info->t.free)
VALUE(available, memory_available(m))
VALUE(cached, info->t.kind[KIND_FILE] + info->t.kind[KIND_SHMEM])
/* Nothing is ever promoted to an active list. */
VALUE(inactive, info->t.kind[KIND_ANON] + info->t.kind[KIND_SHMEM] + info->t.kind[KIND_FILE])
VALUE(inactive_anon, info->t.kind[KIND_ANON] + info->t.kind[KIND_SHMEM])
VALUE(inactive_file, info->t.kind[KIND_FILE])
VALUE(swap, m->swap_bytes / m->page_bytes)
VALUE(anon, info->t.kind[KIND_ANON])
VALUE(shmem, info->t.kind[KIND_SHMEM])
VALUE(slab_reclaimable, info->t.kind[KIND_SLAB_RECLAIMABLE])
VALUE(slab_unreclaimable, info->t.kind[KIND_SLAB])
VALUE(slab, info->t.kind[KIND_SLAB] + info->t.kind[KIND_SLAB_RECLAIMABLE])
VALUE(kernel_stack, info->t.kind[KIND_KERNEL_STACK])
VALUE(page_tables, info->t.kind[KIND_PAGETABLES])
VALUE(commit_limit, (info->t.managed - info->hugetlb_pages) / 2 + m->swap_bytes / m->page_bytes)
VALUE(committed, info->t.kind[KIND_ANON] + info->t.kind[KIND_SHMEM])
/* Kernel stacks are mapped there, and what the machine is told. */
VALUE(vmalloc_used, info->t.kind[KIND_KERNEL_STACK] + m->vmalloc_kb * 1024 / m->page_bytes)
VALUE(percpu, m->percpu_kb * 1024 / m->page_bytes * machine_nr_cpus(m))
VALUE(corrupted, m->poisoned_pages)
VALUE(balloon, info->t.kind[KIND_OFFLINE])

static uint64_t nothing(struct machine *m, const struct meminfo *info)
{
    (void)m;
    (void)info;
    return 0;
}

/* The size of the area: on x86 by the depth of page tables, elsewhere that of aarch64 with 48 bits.
 */
static uint64_t vmalloc_total(struct machine *m, const struct meminfo *info)
{
    (void)info;
    if (!has_direct_map_counters(m))
        return UINT64_C(133143592960);
    return m->max_phys_bits > 46 ? UINT64_C(13743895347199) : UINT64_C(34359738367);
}

/* ---- lines ---- */

#define LINE(name, kb) {name ":", ALWAYS, ALWAYS, kb}
#define SINCE(feature, name, kb) {name ":", F_##feature, ALWAYS, kb}
#define WITH(config, name, kb) {name ":", ALWAYS, CONFIG_##config, kb}
#define SINCE_WITH(feature, config, name, kb) {name ":", F_##feature, CONFIG_##config, kb}
#define LAST {NULL, ALWAYS, ALWAYS, NULL}

static const struct meminfo_line machine_lines[] = {
    LINE("MemTotal", total),
    LINE("MemFree", free_),
    LINE("MemAvailable", available),
    LINE("Buffers", nothing),
    LINE("Cached", cached),
    LINE("SwapCached", nothing),
    LINE("Active", nothing),
    LINE("Inactive", inactive),
    LINE("Active(anon)", nothing),
    LINE("Inactive(anon)", inactive_anon),
    LINE("Active(file)", nothing),
    LINE("Inactive(file)", inactive_file),
    LINE("Unevictable", nothing),
    LINE("Mlocked", nothing),
    LINE("SwapTotal", swap),
    LINE("SwapFree", swap),
    SINCE_WITH(meminfo_zswap, ZSWAP, "Zswap", nothing),
    SINCE_WITH(meminfo_zswap, ZSWAP, "Zswapped", nothing),
    LINE("Dirty", nothing),
    LINE("Writeback", nothing),
    LINE("AnonPages", anon),
    LINE("Mapped", nothing),
    LINE("Shmem", shmem),
    SINCE(meminfo_kreclaimable, "KReclaimable", slab_reclaimable),
    LINE("Slab", slab),
    LINE("SReclaimable", slab_reclaimable),
    LINE("SUnreclaim", slab_unreclaimable),
    LINE("KernelStack", kernel_stack),
    LINE("PageTables", page_tables),
    SINCE(meminfo_secpagetables, "SecPageTables", nothing),
    LINE("NFS_Unstable", nothing),
    LINE("Bounce", nothing),
    LINE("WritebackTmp", nothing),
    LINE("CommitLimit", commit_limit),
    LINE("Committed_AS", committed),
    LINE("VmallocTotal", vmalloc_total),
    LINE("VmallocUsed", vmalloc_used),
    LINE("VmallocChunk", nothing),
    SINCE(meminfo_percpu, "Percpu", percpu),
    WITH(MEMORY_FAILURE, "HardwareCorrupted", corrupted),
    WITH(TRANSPARENT_HUGEPAGE, "AnonHugePages", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "ShmemHugePages", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "ShmemPmdMapped", nothing),
    SINCE_WITH(meminfo_filehuge, TRANSPARENT_HUGEPAGE, "FileHugePages", nothing),
    SINCE_WITH(meminfo_filehuge, TRANSPARENT_HUGEPAGE, "FilePmdMapped", nothing),
    WITH(CMA, "CmaTotal", nothing),
    WITH(CMA, "CmaFree", nothing),
    SINCE_WITH(meminfo_unaccepted, UNACCEPTED_MEMORY, "Unaccepted", nothing),
    SINCE(meminfo_balloon, "Balloon", balloon),
    SINCE(meminfo_gpu, "GPUActive", nothing),
    SINCE(meminfo_gpu, "GPUReclaim", nothing),
    LAST,
};

static const struct meminfo_line node_lines[] = {
    LINE("MemTotal", total),
    LINE("MemFree", free_),
    LINE("MemUsed", used),
    SINCE(node_swapcached, "SwapCached", nothing),
    LINE("Active", nothing),
    LINE("Inactive", inactive),
    LINE("Active(anon)", nothing),
    LINE("Inactive(anon)", inactive_anon),
    LINE("Active(file)", nothing),
    LINE("Inactive(file)", inactive_file),
    LINE("Unevictable", nothing),
    LINE("Mlocked", nothing),
    LINE("Dirty", nothing),
    LINE("Writeback", nothing),
    LINE("FilePages", cached),
    LINE("Mapped", nothing),
    LINE("AnonPages", anon),
    LINE("Shmem", shmem),
    LINE("KernelStack", kernel_stack),
    LINE("PageTables", page_tables),
    SINCE(meminfo_secpagetables, "SecPageTables", nothing),
    LINE("NFS_Unstable", nothing),
    LINE("Bounce", nothing),
    LINE("WritebackTmp", nothing),
    SINCE(meminfo_kreclaimable, "KReclaimable", slab_reclaimable),
    LINE("Slab", slab),
    LINE("SReclaimable", slab_reclaimable),
    LINE("SUnreclaim", slab_unreclaimable),
    WITH(TRANSPARENT_HUGEPAGE, "AnonHugePages", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "ShmemHugePages", nothing),
    WITH(TRANSPARENT_HUGEPAGE, "ShmemPmdMapped", nothing),
    SINCE_WITH(meminfo_filehuge, TRANSPARENT_HUGEPAGE, "FileHugePages", nothing),
    SINCE_WITH(meminfo_filehuge, TRANSPARENT_HUGEPAGE, "FilePmdMapped", nothing),
    SINCE_WITH(meminfo_unaccepted, UNACCEPTED_MEMORY, "Unaccepted", nothing),
    SINCE(node_balloon, "Balloon", balloon),
    SINCE(meminfo_gpu, "GPUActive", nothing),
    SINCE(meminfo_gpu, "GPUReclaim", nothing),
    LAST,
};

static bool line_exists(const struct machine *m, const struct meminfo_line *l)
{
    if (l->since != ALWAYS && !m->feature[l->since])
        return false;
    return l->config == ALWAYS || m->config[l->config] != 0;
}

static void print_hugetlb(struct machine *m, const struct meminfo *info, struct text *out)
{
    unsigned long long size = m->pageblock_pages * m->page_bytes / 1024;
    text_printf(out,
                "HugePages_Total:   %5llu\n"
                "HugePages_Free:    %5llu\n"
                "HugePages_Rsvd:        0\n"
                "HugePages_Surp:        0\n"
                "Hugepagesize:   %8llu kB\n"
                "Hugetlb:        %8llu kB\n",
                (unsigned long long)info->hugetlb.total, (unsigned long long)info->hugetlb.free,
                size, info->hugetlb.total * size);
}

int meminfo_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    struct meminfo info;
    memset(&info, 0, sizeof info);
    tally_machine(m, &info.t);
    info.hugetlb = (struct hugetlb_count){m->hugetlb_total, m->hugetlb_free};
    info.hugetlb_pages = info.hugetlb.total << m->pageblock_order;
    for (const struct meminfo_line *l = machine_lines; l->name != NULL; l++) {
        if (!line_exists(m, l))
            continue;
        /* Only HardwareCorrupted is longer than the column; its number has what is left of the
         * width. */
        bool longer = strlen(l->name) > 16;
        text_printf(out, longer ? "%-19s%5llu kB\n" : "%-16s%8llu kB\n", l->name,
                    (unsigned long long)l->kb(m, &info));
    }
    if (configured(m, CONFIG_HUGETLB_PAGE))
        print_hugetlb(m, &info, out);
    if (has_direct_map_counters(m))
        text_printf(out,
                    "DirectMap4k:    %8llu kB\n"
                    "DirectMap2M:    %8llu kB\n"
                    "DirectMap1G:    %8llu kB\n",
                    (unsigned long long)m->direct_map_4k, (unsigned long long)m->direct_map_2m,
                    (unsigned long long)m->direct_map_1g);
    return 0;
}

void procfs_node_meminfo(struct machine *m, int nid, struct text *out)
{
    struct meminfo info;
    memset(&info, 0, sizeof info);
    tally_node(m, &info.t, &m->nodes[nid]);
    info.hugetlb = hugetlb_of_node(m, nid);
    for (const struct meminfo_line *l = node_lines; l->name != NULL; l++) {
        if (!line_exists(m, l))
            continue;
        bool narrow = l->since == F_meminfo_filehuge && !has(m, F_node_filehuge_aligned);
        text_printf(out, narrow ? "Node %d %-15s%8llu kB\n" : "Node %d %-16s%8llu kB\n", nid,
                    l->name, (unsigned long long)l->kb(m, &info));
    }
    if (configured(m, CONFIG_HUGETLB_PAGE))
        text_printf(out,
                    "Node %d HugePages_Total: %5llu\n"
                    "Node %d HugePages_Free:  %5llu\n"
                    "Node %d HugePages_Surp:  %5u\n",
                    nid, (unsigned long long)info.hugetlb.total, nid,
                    (unsigned long long)info.hugetlb.free, nid, 0u);
}

/*
 * machines.h - machines for C tests, and how to look at them: a picture of their pages, their files
 * as text.
 *
 *     struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
 *     CHECK_MAP(m, 3, "MMMM MMMM MMMM MMMM");
 *     CHECK_EQ(store(m, "memory3/state", "offline"), 0);
 *     CHECK_MAP(m, 3, "---- ---- ---- ----");
 *     machine_finish(m);                       (checks all invariants first)
 *
 * Kernels are the profiles of fakesysfs/kernels, turned into headers by the Makefile. A toy machine
 * has sections of sixteen pages, so that a test can draw all of them; the others have the sizes of
 * a real architecture.
 */
#ifndef FAKESYSFS_MACHINES_H
#define FAKESYSFS_MACHINES_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

/* ---- kernels ---- */

#define X(name) [F_##name] = true,
static const bool kernel_5_0[NR_FEATURES] = {
#include "kernels/5.0.h"
};
static const bool kernel_5_10[NR_FEATURES] = {
#include "kernels/5.10.h"
};
static const bool kernel_6_1[NR_FEATURES] = {
#include "kernels/6.1.h"
};
static const bool kernel_6_18[NR_FEATURES] = {
#include "kernels/6.18.h"
};
#undef X
#define KERNEL(version) (&(const struct kernel){#version, kernel_##version})

struct kernel {
    const char *name;
    const bool *features;
};

/* ---- shapes ---- */

enum { SHAPE_RANGES = 4 };

struct shape {
    const char *name;
    unsigned page_shift, section_shift, max_order, pageblock_order, struct_page_bytes,
        sections_per_block, nr_nodes;
    bool zone_dma, zone_dma32;
    uint64_t dma_end, dma32_end;
    struct boot_range memory[SHAPE_RANGES], reserved[SHAPE_RANGES];
    uint64_t hotplug_base; /* where memory is plugged; on the last node */
};

#define TOY                                                                      \
    .page_shift = 16, .section_shift = 20, .max_order = 3, .pageblock_order = 2, \
    .struct_page_bytes = 16384

/* Blocks 0 to 15, a section of 16 pages each; pageblocks of 4 pages, chunks of 8. The first
 * pageblock is the kernel's and sections 12 to 15 are the boot memmap. Memory is plugged from block
 * 32 on. */
static const struct shape toy = {
    .name = "toy",
    TOY,
    .sections_per_block = 1,
    .nr_nodes = 1,
    .memory = {{0, 16 << 20, 0}},
    .reserved = {{0, 4 << 16, 0}},
    .hotplug_base = 32 << 20,
};

/* The same twice: blocks 0 to 15 on node 0, 16 to 31 on node 1, each with its memmap at its end. A
 * third node is possible, and has neither memory nor processors. */
static const struct shape toy_nodes = {
    .name = "toy-nodes",
    TOY,
    .sections_per_block = 1,
    .nr_nodes = 3,
    .memory = {{0, 16 << 20, 0}, {16 << 20, 32 << 20, 1}},
    .reserved = {{0, 4 << 16, 0}},
    .hotplug_base = 64 << 20,
};

/* Blocks of four sections, with zones DMA (the first 24 pages) and Normal. */
static const struct shape toy_wide = {
    .name = "toy-wide",
    TOY,
    .sections_per_block = 4,
    .nr_nodes = 1,
    .zone_dma = true,
    .dma_end = 24 << 16,
    .memory = {{0, 24 << 20, 0}},
    .reserved = {{0, 4 << 16, 0}},
    .hotplug_base = 64 << 20,
};

/* Memory with holes: one page, half a pageblock and a whole section are missing, and the end is
 * crooked. */
static const struct shape toy_holes = {
    .name = "toy-holes",
    TOY,
    .sections_per_block = 1,
    .nr_nodes = 1,
    .memory = {{0, 5 << 16, 0},
               {6 << 16, 66 << 16, 0},
               {68 << 16, 80 << 16, 0},
               {96 << 16, 259 << 16, 0}},
    .reserved = {{0, 4 << 16, 0}},
    .hotplug_base = 32 << 20,
};

static const struct shape x86 = {
    .name = "x86",
    .page_shift = 12,
    .section_shift = 27,
    .max_order = 10,
    .pageblock_order = 9,
    .struct_page_bytes = 64,
    .sections_per_block = 1,
    .nr_nodes = 1,
    .zone_dma = true,
    .zone_dma32 = true,
    .dma_end = 16 << 20,
    .dma32_end = 1ull << 32,
    .memory = {{4096, 0x9f000, 0}, {1 << 20, 512 << 20, 0}},
    .reserved = {{16 << 20, 48 << 20, 0}},
    .hotplug_base = 1ull << 32,
};

static const struct shape arm64 = {
    .name = "arm64-64k",
    .page_shift = 16,
    .section_shift = 29,
    .max_order = 13,
    .pageblock_order = 13,
    .struct_page_bytes = 64,
    .sections_per_block = 1,
    .nr_nodes = 1,
    .zone_dma = true,
    .dma_end = 1ull << 32,
    .memory = {{1ull << 30, 3ull << 30, 0}},
    .reserved = {{1ull << 30, (1ull << 30) + (32 << 20), 0}},
    .hotplug_base = 1ull << 33,
};

static const struct shape ppc64 = {
    .name = "ppc64le",
    .page_shift = 16,
    .section_shift = 24,
    .max_order = 8,
    .pageblock_order = 5,
    .struct_page_bytes = 64,
    .sections_per_block = 4,
    .nr_nodes = 2,
    .memory = {{0, 256 << 20, 0}, {256 << 20, 512 << 20, 1}},
    .reserved = {{0, 20 << 20, 0}},
    .hotplug_base = 1ull << 30,
};

/* ---- making and ending one ---- */

static struct task test_task = {.capable = true};

/* A test that fails leaves its machine here, so that the leak check does not bury the failure. */
static struct machine *unfinished[64];

static void note_machine(struct machine *from, struct machine *to)
{
    for (unsigned i = 0; i < sizeof unfinished / sizeof *unfinished; i++)
        if (unfinished[i] == from) {
            unfinished[i] = to;
            return;
        }
}

static struct machine *machine_make(const struct shape *shape, const struct kernel *kernel,
                                    void (*tweak)(struct machine_config *config))
{
    static const struct {
        const char *name;
        int64_t value;
    } configs[NR_CONFIGS] = {
#define X(name, value) {#name, value},
        FAKESYSFS_CONFIGS(X)
#undef X
    };
    static const int cpus[] = {0};
    struct boot_node nodes[] = {{0, cpus, 1}, {1, NULL, 0}};
    struct boot_load no_load = {"kernel", 0, -1};
    static const struct boot_use first_use[] = {{"slab", 7}, {"kernel", 3}};
    static const struct boot_use idle[] = {
        {"slab", 6200}, {"kernel", 7000}, {"file", 36000}, {"kernel_stack", 1600}, {"anon", 14000}};
    struct boot_range hotplug = {0, UINT64_MAX, (int)(shape->nr_nodes < 2 ? 0 : 1)};
    struct boot_resource resources[SHAPE_RANGES + 1];
    struct machine_config config = {
        .release = kernel->name,
        .seed = 1,
        .page_shift = shape->page_shift,
        .section_shift = shape->section_shift,
        .max_order = shape->max_order,
        .pageblock_order = shape->pageblock_order,
        .struct_page_bytes = shape->struct_page_bytes,
        .block_bytes = (uint64_t)shape->sections_per_block << shape->section_shift,
        .zone_dma = shape->zone_dma,
        .zone_dma32 = shape->zone_dma32,
        .dma_end = shape->dma_end,
        .dma32_end = shape->dma32_end,
        .max_phys_bits = 46,
        .iomem_bits = 46,
        .resources = resources,
        .memory = shape->memory,
        .reserved = shape->reserved,
        .nodes = nodes,
        .nr_nodes = shape->nr_nodes < 2 ? 1 : 2,
        .possible_nodes = shape->nr_nodes,
        .hotplug_nids = &hotplug,
        .nr_hotplug_nids = 1,
        .auto_movable_ratio = 301,
        .auto_movable_numa_aware = true,
        .load = &no_load,
        .nr_load = 1,
        .first_use = first_use,
        .nr_first_use = sizeof first_use / sizeof *first_use,
        .idle = idle,
        .nr_idle = sizeof idle / sizeof *idle,
    };

    memcpy(config.features, kernel->features, sizeof config.features);
    for (unsigned i = 0; i < NR_CONFIGS; i++)
        config.config[i] = configs[i].value;
    for (; config.nr_memory < SHAPE_RANGES && shape->memory[config.nr_memory].end != 0;
         config.nr_memory++)
        resources[config.nr_resources++] = (struct boot_resource){
            .start = shape->memory[config.nr_memory].start,
            .end = shape->memory[config.nr_memory].end - 1,
            .name = "System RAM",
            .flags = RES_BUSY | RES_SYSRAM};
    while (config.nr_reserved < SHAPE_RANGES && shape->reserved[config.nr_reserved].end != 0)
        config.nr_reserved++;
    if (tweak != NULL)
        tweak(&config);
    struct machine *m = machine_create(&config, &test_task);
    if (m == NULL) {
        fprintf(stderr, "no machine %s with kernel %s: %s\n", shape->name, kernel->name,
                test_task.reason);
        __builtin_trap();
    }
    note_machine(NULL, m);
    return m;
}

/* Prints the first violated invariant, if there is one. */
static int machine_sound(struct machine *m)
{
    struct task task = {.capable = true};

    if (machine_check(m, &task) == 0)
        return 1;
    fprintf(stderr, "machine_check(): %s\n", task.reason);
    return 0;
}

#define machine_finish(m)        \
    do {                         \
        CHECK(machine_sound(m)); \
        note_machine((m), NULL); \
        machine_destroy(m);      \
    } while (0)

/* ---- files ---- */

/* Writes to a file of /sys/devices/system/memory, or to any other one by its whole path. 0 or a
 * negative errno. */
static int store_as(struct machine *m, struct task *task, const char *path, const char *text)
{
    char whole[128];

    snprintf(whole, sizeof whole, "%s%s", path[0] == '/' ? "" : "/sys/devices/system/memory/",
             path);
    int64_t handle = file_open(m, task, whole, O_WRONLY);
    if (handle < 0)
        return (int)handle;
    int64_t ret = file_write(m, task, handle, text, strlen(text));
    file_release(m, handle);
    return ret < 0 ? (int)ret : 0;
}

static int store(struct machine *m, const char *path, const char *text)
{
    return store_as(m, &test_task, path, text);
}

static int block_store(struct machine *m, uint64_t id, const char *word)
{
    char path[64];

    snprintf(path, sizeof path, "memory%llu/state", (unsigned long long)id);
    return store(m, path, word);
}

/* The text of a file, or an empty one; from malloc(). */
static char *fetch(struct machine *m, const char *path)
{
    struct task task = {.capable = true};
    struct text out = {0};
    char whole[128], buf[4096];

    snprintf(whole, sizeof whole, "%s%s", path[0] == '/' ? "" : "/sys/devices/system/memory/",
             path);
    int64_t handle = file_open(m, &task, whole, O_RDONLY), got;
    text_append(&out, "", 0);
    while (handle > 0 && (got = file_read(m, &task, handle, buf, sizeof buf, out.len)) > 0)
        text_append(&out, buf, (size_t)got);
    if (handle > 0)
        file_release(m, handle);
    return out.data;
}

/* Events of NUMA allocation only ever grow, in Linux too. */
static void append_state(struct text *out, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        const char *word = text + strspn(text, " ");
        if (strncmp(word, "numa_", 5) != 0)
            text_append(out, text, len + (text[len] == '\n'));
        text += len + (text[len] == '\n');
    }
}

/* All that tells the state of memory, as text: what must be the same again after an operation that
 * failed. */
static char *snapshot(struct machine *m)
{
    static const char *const files[] = {"/proc/buddyinfo", "/proc/pagetypeinfo", "/proc/zoneinfo",
                                        "/proc/iomem", "/proc/meminfo"};
    static const char *const attrs[] = {"state", "online", "valid_zones", "removable",
                                        "phys_index"};
    static const char *const dirs[] = {"/sys/devices/system/memory", "/sys/devices/system/node",
                                       "/sys/firmware/memmap", "/sys/bus/memory/devices"};
    struct text out = {0};
    char path[128];

    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        char *text = fetch(m, files[i]);
        text_printf(&out, "== %s\n", files[i]);
        append_state(&out, text);
        free(text);
    }
    for (unsigned i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        struct dirent_out *entries = NULL;
        struct task task = {.capable = true};
        int64_t nr = file_readdir(m, &task, dirs[i], &entries);
        text_printf(&out, "== %s\n", dirs[i]);
        for (int64_t k = 0; k < nr; k++) {
            text_printf(&out, "%s\n", entries[k].name);
            for (unsigned a = 0; a < sizeof attrs / sizeof *attrs && i == 0; a++) {
                if (strncmp(entries[k].name, "memory", 6) != 0)
                    break;
                snprintf(path, sizeof path, "%s/%s", entries[k].name, attrs[a]);
                char *text = fetch(m, path);
                text_printf(&out, "  %s %s", attrs[a], text);
                free(text);
            }
        }
        free(entries);
    }
    return out.data;
}

/* The first line in which two texts differ, on stderr. */
static int same_text(const char *before, const char *after)
{
    const char *section = before;
    size_t at = 0;

    if (strcmp(before, after) == 0)
        return 1;
    for (size_t i = 0; before[i] != '\0' && before[i] == after[i]; i++)
        if (before[i] == '\n') {
            at = i + 1;
            section = strncmp(before + at, "==", 2) == 0 ? before + at : section;
        }
    fprintf(stderr, "%.*s:\n- %.*s\n+ %.*s\n", (int)strcspn(section, "\n"), section,
            (int)strcspn(before + at, "\n"), before + at, (int)strcspn(after + at, "\n"),
            after + at);
    return 0;
}

/* ---- pictures ---- */

/*
 * One letter per page:  free  M movable  U unmovable  R reclaimable  I isolated
 *                       held  a anon, file, shmem  p pinned  u unmovable  h huge page  o balloon
 *                       r reserved  x poisoned  v memmap of the block itself  = not plugged
 *                       _ hole  - offline  . no memory at all
 */
static char page_letter(struct machine *m, uint64_t pfn)
{
    struct folio folio;

    if (section_of(m, pfn) == NULL)
        return '.';
    if (!folio_at(m, pfn, &folio))
        return '-';
    if (folio.pins != 0)
        return 'p';
    switch (folio.kind) {
    case KIND_FREE:
        return "MURHCI"[(int[]){1, 0, 2, 3, 4,
                                5}[folio.page != NULL ? folio.page->mt : folio.s->mt]];
    case KIND_HUGETLB:
        return 'h';
    case KIND_OFFLINE:
        return 'o';
    case KIND_RESERVED:
        return 'r';
    case KIND_POISONED:
        return 'x';
    case KIND_MEMMAP_SELF:
        return 'v';
    case KIND_UNPLUGGED:
        return '=';
    case KIND_HOLE:
        return '_';
    default:
        return kind_mobility(folio.kind) == MOBILITY_MOVABLE ? 'a' : 'u';
    }
}

/* A section as text, with a blank after each pageblock. Several pictures may be in use at once. */
static const char *picture(struct machine *m, uint64_t section_nr)
{
    static char pictures[8][256];
    static unsigned turn;
    char *out = pictures[turn++ % 8], *at = out;

    for (uint64_t offset = 0; offset < m->pages_per_section && at < out + 250; offset++) {
        if (offset != 0 && (offset & (m->pageblock_pages - 1)) == 0)
            *at++ = ' ';
        *at++ = page_letter(m, section_nr * m->pages_per_section + offset);
    }
    *at = '\0';
    return out;
}

#define CHECK_MAP(m, section_nr, expected) CHECK_STR(picture((m), (section_nr)), (expected))

/* ---- pages ---- */

static struct zone *zone_at(struct machine *m, int nid, enum zone_type type)
{
    return &m->nodes[nid].zones[type];
}

/* Allocate in a block, lowest page first; how many pages, or a negative errno. */
static int64_t take_in(struct machine *m, const char *kind, uint64_t nr_pages, int order,
                       int64_t block)
{
    return load_allocate(m, &test_task, kind, nr_pages, order, NULL, -1, block);
}

/* The page numbers on a free list of the Normal zone of node 0, first to last. */
static const char *free_text(struct machine *m, unsigned order, unsigned mt)
{
    static char texts[4][2048];
    static unsigned turn;
    char *out = texts[turn++ % 4], *at = out;

    *out = '\0';
    for (ref_t ref = zone_at(m, 0, ZONE_NORMAL)->free_area[order][mt].head; ref != 0;
         ref = list_next(m, ref))
        for (unsigned i = 0;
             i < ((ref & REF_SECTION) != 0 ? m->chunks_per_section : 1) && at < out + 2000; i++)
            at += sprintf(at, "%s%llu", at == out ? "" : " ",
                          (unsigned long long)pfn_of_ref(m, ref) + (i << order));
    return out;
}

#define CHECK_FREE(m, order, mt, expected) CHECK_STR(free_text((m), (order), (mt)), (expected))

#endif

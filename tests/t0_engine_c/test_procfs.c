/*
 * test_procfs.c - the text of /proc and of node directories, made from small machines put together
 * by hand.
 *
 * Owns: what the lines look like and that they agree with each other. Does not own: whether the
 * numbers of a machine that boots are right (machine_check() and the recordings tell).
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/node.c"
#include "proc/proc.h"
#include "testhelper.h"

struct fixture {
    struct machine *m;
    struct task task;
    struct text out;
};

/* 4 KiB pages, sections of 128 MiB, zones Normal and Movable; `nodes` nodes with one CPU each. */
static void fixture_make(struct fixture *f, unsigned nodes)
{
    struct machine *m = calloc(1, sizeof *m);
    memset(f, 0, sizeof *f);
    f->m = m;
    m->task = &f->task;
    m->page_shift = 12;
    m->page_bytes = 4096;
    m->section_page_shift = 15;
    m->pages_per_section = 1u << 15;
    m->block_pages = m->pages_per_section;
    m->sections_per_block = 1;
    m->max_order = 10;
    m->pageblock_order = 9;
    m->pageblock_pages = 512;
    m->pageblocks_per_section = 64;
    m->chunks_per_section = 32;
    m->struct_page_bytes = 64;
    m->max_phys_bits = 52;
    m->possible_nodes = nodes;
    m->zone_exists[ZONE_NORMAL] = m->zone_exists[ZONE_MOVABLE] = true;
    m->config[CONFIG_NR_CPUS] = 64;
    m->config[CONFIG_NUMA] = m->config[CONFIG_HUGETLB_PAGE] = 1;
    for (unsigned nid = 0; nid < nodes; nid++) {
        struct node *node = &m->nodes[nid];
        node->nid = (int)nid;
        node->online = node->registered = true;
        node->cpus = xcalloc(m, 1, sizeof *node->cpus);
        node->cpus[0] = (int)nid;
        node->nr_cpus = 1;
        for (unsigned type = 0; type < NR_ZONES; type++) {
            struct zone *z = &node->zones[type];
            z->nid = (int16_t)nid;
            z->type = (enum zone_type)type;
            z->index = (int16_t)(nid * NR_ZONES + type);
            m->zones[z->index] = z;
        }
        for (unsigned other = 0; other < nodes; other++)
            m->distance[nid][other] = nid == other ? 10 : 21;
    }
    zone_build_zonelists(m, -1);
}

static void fixture_destroy(struct fixture *f)
{
    text_free(&f->out);
    for (unsigned nid = 0; nid < f->m->possible_nodes; nid++)
        free(f->m->nodes[nid].cpus);
    events_destroy(f->m);
    klog_destroy(f->m);
    trace_destroy(f->m);
    host_memory_destroy(f->m);
    sparse_destroy(f->m);
    free(f->m);
}

/* An online section, all of it free and movable, in a zone of a node. */
static struct section *section_give(struct machine *m, uint64_t nr, int nid, enum zone_type type)
{
    struct zone *z = &m->nodes[nid].zones[type];
    struct section *s = section_add(m, nr, nid);
    s->state |= SECTION_ONLINE;
    s->zone = z->index;
    s->mt = MT_MOVABLE;
    zone_grow_span(m, z, nr << m->section_page_shift, m->pages_per_section);
    z->present += m->pages_per_section;
    buddy_give_range(m, nr << m->section_page_shift, m->pages_per_section, true);
    return s;
}

static const char *shown(struct fixture *f, show_fn show, uint64_t id)
{
    struct sysfs_node node = {.id = id};
    text_free(&f->out);
    memset(&f->out, 0, sizeof f->out);
    show(f->m, &node, &f->out);
    text_append(&f->out, "", 1);
    return f->out.data;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The number behind the line that starts like this. */
static uint64_t number_after(const char *text, const char *start)
{
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (starts_with(line, start))
            return strtoull(line + strlen(start), NULL, 10);
    }
    return UINT64_MAX;
}

TEST(masks_are_lists_of_ranges)
{
    struct fixture f;
    fixture_make(&f, 1);
    node_mask_print(f.m, &f.out, 0);
    node_mask_print(f.m, &f.out, 1);
    node_mask_print(f.m, &f.out, 0x2f);
    node_mask_print(f.m, &f.out, UINT64_MAX);
    text_append(&f.out, "", 1);
    CHECK_STR(f.out.data, "\n0\n0-3,5\n0-63\n");
    fixture_destroy(&f);
}

TEST(cpu_maps_are_as_wide_as_there_are_cpus)
{
    struct fixture f;
    struct sysfs_node node = {.id = 0};
    fixture_make(&f, 2);
    CHECK_STR(shown(&f, node_cpumap_show, 0), "1\n");
    CHECK_STR(shown(&f, node_cpumap_show, 1), "2\n");
    CHECK_STR(shown(&f, node_cpulist_show, 1), "1\n");
    f.m->nodes[1].cpus[0] = 37;
    CHECK_STR(shown(&f, node_cpumap_show, 0), "00,00000001\n");
    CHECK_STR(shown(&f, node_cpumap_show, 1), "20,00000000\n");
    f.m->nodes[1].nr_cpus = 0;
    CHECK_STR(shown(&f, node_cpumap_show, 1), "0\n");
    CHECK_STR(shown(&f, node_cpulist_show, 1), "\n");
    CHECK_EQ(node_cpulist_size(f.m, &node), 4096);
    f.m->feature[F_cpu_maps_sized] = true;
    f.m->config[CONFIG_NR_CPUS] = 8192;
    CHECK_EQ(node_cpulist_size(f.m, &node), 28672);
    CHECK_EQ(node_cpumap_size(f.m, &node), 4096);
    fixture_destroy(&f);
}

TEST(distance_has_columns_for_online_nodes)
{
    struct fixture f;
    fixture_make(&f, 3);
    CHECK_STR(shown(&f, node_distance_show, 1), "21 10 21\n");
    f.m->nodes[2].online = false;
    CHECK_STR(shown(&f, node_distance_show, 1), "21 10\n");
    fixture_destroy(&f);
}

/* |N N N N|M M|  node 0: two sections of Normal, one of Movable; node 1: one of Movable */
TEST(sums_agree)
{
    static const char *const same[] = {"nr_free_pages ", "nr_zone_inactive_anon ",
                                       "nr_anon_pages "};
    struct fixture f;
    uint64_t pfn, kb = 0, pages[3] = {0};
    fixture_make(&f, 2);
    section_give(f.m, 32, 0, ZONE_NORMAL);
    section_give(f.m, 33, 0, ZONE_NORMAL);
    section_give(f.m, 34, 0, ZONE_MOVABLE);
    section_give(f.m, 40, 1, ZONE_MOVABLE);
    CHECK_EQ(pages_alloc(f.m, KIND_ANON, 0, ZONE_MOVABLE, 1, 0, &pfn), 0);
    CHECK_EQ(pages_alloc(f.m, KIND_SLAB, 2, ZONE_NORMAL, 0, 0, &pfn), 0);
    CHECK_EQ(number_after(shown(&f, meminfo_show, 0), "MemTotal:"), 4 * 131072);
    CHECK_EQ(number_after(f.out.data, "MemFree:"), 4 * 131072 - 5 * 4);
    CHECK_EQ(number_after(f.out.data, "AnonPages:"), 4);
    CHECK_EQ(number_after(f.out.data, "Slab:"), 16);
    CHECK_EQ(number_after(shown(&f, node_meminfo_show, 0), "Node 0 MemFree:"), 3 * 131072 - 16);
    kb = number_after(shown(&f, node_meminfo_show, 1), "Node 1 MemFree:");
    CHECK_EQ(kb, 131072 - 4);
    CHECK_EQ(number_after(f.out.data, "Node 1 MemUsed:"), 4);
    for (unsigned i = 0; i < 3; i++)
        pages[i] = number_after(shown(&f, node_vmstat_show, 0), same[i]) +
                   number_after(shown(&f, node_vmstat_show, 1), same[i]);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(number_after(shown(&f, vmstat_show, 0), same[i]), pages[i]);
    CHECK_EQ(pages[0], 4 * 32768 - 5);
    fixture_destroy(&f);
}

TEST(meminfo_keeps_its_columns)
{
    struct fixture f;
    fixture_make(&f, 1);
    f.m->config[CONFIG_MEMORY_FAILURE] = 1;
    f.m->poisoned_pages = 3;
    f.m->direct_map_4k = 18304;
    section_give(f.m, 32, 0, ZONE_NORMAL);
    const char *text = shown(&f, meminfo_show, 0);
    CHECK(starts_with(text, "MemTotal:         131072 kB\nMemFree:          131072 kB\n"));
    CHECK(strstr(text, "\nHardwareCorrupted:    12 kB\n") != NULL);
    CHECK(strstr(text, "\nVmallocTotal:   13743895347199 kB\n") != NULL);
    CHECK(strstr(text, "\nHugePages_Total:       0\n") != NULL);
    CHECK(strstr(text, "\nHugepagesize:       2048 kB\n") != NULL);
    CHECK(strstr(text, "\nDirectMap4k:       18304 kB\n") != NULL);
    CHECK(strstr(text, "SecPageTables") == NULL);
    f.m->config[CONFIG_TRANSPARENT_HUGEPAGE] = 1;
    f.m->feature[F_meminfo_filehuge] = true;
    CHECK(strstr(shown(&f, node_meminfo_show, 0), "\nNode 0 FileHugePages:        0 kB\n") != NULL);
    f.m->feature[F_node_filehuge_aligned] = true;
    CHECK(strstr(shown(&f, node_meminfo_show, 0), "\nNode 0 FileHugePages:         0 kB\n") !=
          NULL);
    CHECK(strstr(f.out.data, "\nNode 0 HugePages_Free:      0\n") != NULL);
    fixture_destroy(&f);
}

TEST(zoneinfo_of_one_zone)
{
    struct fixture f;
    fixture_make(&f, 1);
    section_give(f.m, 32, 0, ZONE_NORMAL);
    struct zone *z = &f.m->nodes[0].zones[ZONE_NORMAL];
    f.m->config[CONFIG_NUMA] = 0;
    f.m->feature[F_zoneinfo_boost] = f.m->feature[F_zoneinfo_pcp_by_zone] = true;
    z->min_wmark = 1453;
    z->low_wmark = 1816;
    z->high_wmark = 2179;
    z->lowmem_reserve[ZONE_MOVABLE] = 1024;
    const char *text = shown(&f, zoneinfo_show, 0);
    CHECK(starts_with(text, "Node 0, zone   Normal\n  per-node stats\n      nr_inactive_anon 0\n"));
    CHECK(strstr(text, "\n      nr_mapped    0\n") != NULL);
    CHECK(strstr(text,
                 "\n  pages free     32768\n        boost    0\n        min      1453\n"
                 "        low      1816\n        high     2179\n        spanned  32768\n"
                 "        present  32768\n        managed  32768\n        protection: (0, 1024)\n"
                 "      nr_free_pages 32768\n") != NULL);
    const char *end = strstr(text, "\n  pagesets\n");
    CHECK(end != NULL);
    CHECK_STR(end,
              "\n  pagesets\n    cpu: 0\n              count: 0\n              high:  1816\n"
              "              batch: 7\n  vm stats threshold: 4\n  node_unreclaimable:  0\n"
              "  start_pfn:           1048576\n"
              "Node 0, zone  Movable\n  pages free     0\n        boost    0\n        min      0\n"
              "        low      0\n        high     0\n        spanned  0\n        present  0\n"
              "        managed  0\n        protection: (0, 0)\n");
    fixture_destroy(&f);
}

/* Section 33 is isolated: its chunks stay in buddyinfo, and are no free pages. */
TEST(isolated_chunks_are_in_buddyinfo)
{
    struct fixture f;
    fixture_make(&f, 1);
    section_give(f.m, 32, 0, ZONE_NORMAL);
    section_give(f.m, 33, 0, ZONE_NORMAL);
    CHECK_STR(
        shown(&f, buddyinfo_show, 0),
        "Node 0, zone   Normal      0      0      0      0      0      0      0      0      0      0 "
        "    64 \n");
    struct zone *z = &f.m->nodes[0].zones[ZONE_NORMAL];
    z->free_area[10][MT_MOVABLE].nr -= 32;
    z->free_area[10][MT_ISOLATE].nr += 32;
    CHECK_STR(
        shown(&f, buddyinfo_show, 0),
        "Node 0, zone   Normal      0      0      0      0      0      0      0      0      0      0 "
        "    64 \n");
    z->free_area[10][MT_MOVABLE].nr += 32;
    z->free_area[10][MT_ISOLATE].nr -= 32;
    fixture_destroy(&f);
}

TEST(pagetypeinfo_counts_pageblocks)
{
    struct fixture f;
    fixture_make(&f, 2); /* node 1 has no memory and is not there */
    section_give(f.m, 32, 0, ZONE_NORMAL);
    section_give(f.m, 40, 0, ZONE_NORMAL);
    pageblock_set_mt(f.m, (32ull << 15) + 512, MT_UNMOVABLE);
    const char *text = shown(&f, pagetypeinfo_show, 0);
    CHECK(starts_with(text, "Page block order: 9\nPages per block:  512\n\n"
                            "Free pages count per migrate type at order       0      1 "));
    CHECK(strstr(text, "\nNode    0, zone   Normal, type    Unmovable      0 ") != NULL);
    CHECK(strstr(text, " CMA") == NULL);
    const char *blocks = strstr(text, "\nNumber of blocks");
    CHECK_STR(blocks,
              "\nNumber of blocks type     Unmovable      Movable  Reclaimable   HighAtomic "
              "     Isolate \n"
              "Node 0, zone   Normal            1          127            0            0 "
              "           0 \n");
    fixture_destroy(&f);
}

TEST(pagetypeinfo_stops_counting)
{
    struct fixture f;
    fixture_make(&f, 1);
    section_give(f.m, 32, 0, ZONE_NORMAL);
    f.m->nodes[0].zones[ZONE_NORMAL].free_area[0][MT_MOVABLE].nr = 123456;
    CHECK(strstr(shown(&f, pagetypeinfo_show, 0), "type      Movable 123456      0 ") != NULL);
    f.m->feature[F_pagetypeinfo_capped] = true;
    CHECK(strstr(shown(&f, pagetypeinfo_show, 0), "type      Movable >100000      0 ") != NULL);
    f.m->nodes[0].zones[ZONE_NORMAL].free_area[0][MT_MOVABLE].nr = 0;
    fixture_destroy(&f);
}

TEST(vmstat_lines_come_and_go)
{
    struct fixture f;
    fixture_make(&f, 1);
    const char *text = shown(&f, vmstat_show, 0);
    CHECK(strstr(text, "\nnr_mlock 0\nnr_page_table_pages 0\nnr_kernel_stack 0\nnr_bounce 0\n") !=
          NULL);
    CHECK(strstr(text, "\nworkingset_refault 0\n") != NULL);
    CHECK(strstr(text, "\npgalloc_normal 0\npgalloc_movable 0\nallocstall_normal 0\n") != NULL);
    CHECK(strstr(text, "direct_map") == NULL);
    f.m->feature[F_vmstat_kernel_stack_node] = f.m->feature[F_vmstat_page_table_node] = true;
    f.m->feature[F_vmstat_workingset_split] = f.m->feature[F_vmstat_unstable_last] = true;
    text = shown(&f, vmstat_show, 0);
    CHECK(strstr(text, "\nnr_mlock 0\nnr_bounce 0\n") != NULL);
    CHECK(strstr(text, "\nnr_kernel_stack 0\nnr_page_table_pages 0\n") != NULL);
    CHECK(strstr(text, "\nworkingset_refault_anon 0\n") != NULL);
    CHECK(strstr(text, "\nswap_ra 0\nswap_ra_hit 0\nnr_unstable 0\n") != NULL);
    fixture_destroy(&f);
}

TEST(a_block_is_linked_under_its_nodes)
{
    struct fixture f;
    struct sysfs_node child;
    struct memory_block lone = {.id = 3, .nid = 0, .nr_nodes = 1};
    struct memory_block both = {.id = 4, .nid = 0, .nr_nodes = 2, .second_nid = 1};
    fixture_make(&f, 2);
    radix_set(f.m, &f.m->blocks, 3, &lone);
    radix_set(f.m, &f.m->blocks, 4, &both);
    CHECK_EQ(node_lookup(f.m, 0, "memory3", &child), 0);
    CHECK_EQ(child.type, SYSFS_LINK);
    link_target(f.m, &child, &f.out);
    text_append(&f.out, "", 1);
    CHECK_STR(f.out.data, "../../memory/memory3");
    CHECK_EQ(node_lookup(f.m, 1, "memory3", &child), -ENOENT);
    CHECK_EQ(node_lookup(f.m, 0, "memory4", &child), 0);
    CHECK_EQ(node_lookup(f.m, 1, "memory4", &child), 0);
    CHECK_EQ(node_lookup(f.m, 1, "memory04", &child), -ENOENT);
    CHECK_EQ(node_lookup(f.m, 1, "memory", &child), -ENOENT);
    CHECK_EQ(node_lookup(f.m, 1, "memory4x", &child), -ENOENT);
    CHECK_EQ(node_lookup(f.m, 1, "cpu1", &child), 0);
    CHECK_EQ(node_lookup(f.m, 1, "cpu0", &child), -ENOENT);
    CHECK_EQ(node_lookup(f.m, 1, "hugepages", &child), -ENOENT); /* it has no memory */
    f.m->feature[F_node_hugepages_always] = true;
    CHECK_EQ(node_lookup(f.m, 1, "hugepages", &child), 0);
    CHECK_EQ(node_lookup(f.m, 1, "x86", &child), -ENOENT);
    radix_set(f.m, &f.m->blocks, 3, NULL);
    radix_set(f.m, &f.m->blocks, 4, NULL);
    radix_free(&f.m->blocks);
    fixture_destroy(&f);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct dirent_out *)a)->name, ((const struct dirent_out *)b)->name);
}

/* The names in a directory, sorted, each with a blank behind it. */
static const char *listed(struct fixture *f, const char *path)
{
    struct dirent_out *entries = NULL;
    int64_t nr = file_readdir(f->m, &f->task, path, &entries);
    text_free(&f->out);
    memset(&f->out, 0, sizeof f->out);
    qsort(entries, nr > 0 ? (size_t)nr : 0, sizeof *entries, by_name);
    for (int64_t i = 0; i < nr; i++)
        text_printf(&f->out, "%s ", entries[i].name);
    text_append(&f->out, "", 1);
    free(entries);
    return f->out.data;
}

TEST(the_tree_is_that_of_the_recordings)
{
    struct fixture f;
    struct file_stat st;
    char target[64];
    struct memory_block block = {.id = 7, .nid = 0, .nr_nodes = 1};
    fixture_make(&f, 2);
    pthread_mutex_init(&f.m->mutex, NULL);
    f.m->task = NULL;
    f.m->config[CONFIG_COMPACTION] = 1;
    f.m->feature[F_has_generic_initiator] = f.m->feature[F_node_hugepages_always] = true;
    f.m->nodes[1].online = false;
    radix_set(f.m, &f.m->blocks, 7, &block);
    node_register(f.m);
    CHECK_STR(
        listed(&f, "/sys/devices/system/node"),
        "has_cpu has_generic_initiator has_memory has_normal_memory node0 online possible power "
        "uevent ");
    CHECK_STR(
        listed(&f, "/sys/devices/system/node/node0"),
        "compact cpu0 cpulist cpumap distance hugepages meminfo memory7 numastat power subsystem "
        "uevent vmstat ");
    CHECK_EQ(file_stat(f.m, &f.task, "/sys/devices/system/node/node0", &st), 0);
    CHECK_EQ(st.nlink, 4);
    CHECK_EQ(file_stat(f.m, &f.task, "/sys/devices/system/node", &st), 0);
    CHECK_EQ(st.nlink, 4);
    f.m->config[CONFIG_X86_SGX] = f.m->config[CONFIG_MEMORY_FAILURE] = 1;
    f.m->feature[F_node_memory_failure] = f.m->feature[F_cpu_maps_sized] = true;
    f.m->config[CONFIG_NR_CPUS] = 8192;
    CHECK_EQ(file_stat(f.m, &f.task, "/sys/devices/system/node/node0", &st), 0);
    CHECK_EQ(st.nlink, 6);
    CHECK_EQ(file_stat(f.m, &f.task, "/sys/devices/system/node/node0/cpulist", &st), 0);
    CHECK_EQ(st.size, 28672);
    CHECK_EQ(file_stat(f.m, &f.task, "/sys/devices/system/node/node0/compact", &st), 0);
    CHECK_EQ(st.mode, 0100200);
    CHECK_EQ(file_readlink(f.m, &f.task, "/sys/devices/system/node/node0/memory7", target,
                           sizeof target),
             0);
    CHECK_STR(target, "../../memory/memory7");
    CHECK_STR(listed(&f, "/sys/bus/node"),
              "devices drivers drivers_autoprobe drivers_probe uevent ");
    CHECK_STR(listed(&f, "/sys/bus/node/devices"), "node0 ");
    node_device_add(f.m, 1);
    CHECK_STR(listed(&f, "/sys/bus/node/devices"), "node0 node1 ");
    radix_set(f.m, &f.m->blocks, 7, NULL);
    radix_free(&f.m->blocks);
    pthread_mutex_destroy(&f.m->mutex);
    sysfs_destroy(f.m);
    fixture_destroy(&f);
}

static int64_t stored(struct fixture *f, const struct sysfs_node *dir, const char *name,
                      const char *text)
{
    for (const struct sysfs_attr *attr = dir->cls->attrs; attr->name != NULL; attr++)
        if (strcmp(attr->name, name) == 0)
            return attr->store(f->m, dir, text, strlen(text));
    return -ENOENT;
}

TEST(the_pool_of_huge_pages_grows_and_shrinks)
{
    struct fixture f;
    struct sysfs_node hugepages, size;
    fixture_make(&f, 1);
    section_give(f.m, 32, 0, ZONE_NORMAL);
    section_give(f.m, 33, 0, ZONE_MOVABLE);
    CHECK_EQ(node_lookup(f.m, 0, "hugepages", &hugepages), 0);
    CHECK_EQ(hugepages.cls->lookup(f.m, 0, "hugepages-1048576kB", &size), -ENOENT);
    CHECK_EQ(hugepages.cls->lookup(f.m, 0, "hugepages-2048kB", &size), 0);
    CHECK_EQ(stored(&f, &size, "nr_hugepages", "10\n"), 3);
    CHECK_EQ(f.m->hugetlb_total, 10);
    CHECK_EQ(hugetlb_of_node(f.m, 0).total, 10);
    CHECK_EQ(hugetlb_of_node(f.m, 0).free, 10);
    CHECK_EQ(number_after(shown(&f, meminfo_show, 0), "Hugetlb:"), 10 * 2048);
    CHECK_EQ(stored(&f, &size, "nr_hugepages", "1000"), 4); /* as many as there are */
    CHECK(f.m->hugetlb_total > 100 && f.m->hugetlb_total <= 128);
    CHECK_EQ(f.task.reason[0], 0);
    CHECK_EQ(stored(&f, &size, "nr_hugepages", "4"), 1);
    CHECK_EQ(f.m->hugetlb_total, 4);
    CHECK_EQ(total_free(f.m), 2 * 32768 - 4 * 512);
    CHECK_EQ(stored(&f, &size, "nr_hugepages", "0x10"), -EINVAL);
    CHECK_EQ(stored(&f, &size, "nr_hugepages", ""), -EINVAL);
    CHECK_EQ(stored(&f, &size, "nr_hugepages", "99999999999999999999"), -ERANGE);
    fixture_destroy(&f);
}

TEST(reclaim_takes_file_pages)
{
    struct fixture f;
    struct sysfs_node dir = sysfs_dir_node(&node_class, 0, 0);
    uint64_t pfn;
    fixture_make(&f, 1);
    section_give(f.m, 32, 0, ZONE_NORMAL);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQ(pages_alloc(f.m, KIND_FILE, 0, ZONE_MOVABLE, 0, 0, &pfn), 0);
    CHECK_EQ(stored(&f, &dir, "reclaim", "40K\n"), 4);
    CHECK_EQ(f.m->nodes[0].zones[ZONE_NORMAL].kind_pages[KIND_FILE], 90);
    CHECK_EQ(stored(&f, &dir, "reclaim", "4096 swappiness=0"), 17);
    CHECK_EQ(f.m->nodes[0].zones[ZONE_NORMAL].kind_pages[KIND_FILE], 89);
    CHECK_EQ(stored(&f, &dir, "reclaim", "1M"), -EAGAIN);
    CHECK_EQ(f.m->nodes[0].zones[ZONE_NORMAL].kind_pages[KIND_FILE], 0);
    CHECK_EQ(stored(&f, &dir, "reclaim", "all"), -EINVAL);
    CHECK_EQ(stored(&f, &dir, "reclaim", "1 swappiness=201"), -EINVAL);
    CHECK_EQ(stored(&f, &dir, "reclaim", "1 fast"), -EINVAL);
    fixture_destroy(&f);
}

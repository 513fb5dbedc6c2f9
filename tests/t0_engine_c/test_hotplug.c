/*
 * test_hotplug.c - memory comes, goes online, goes offline, goes: what happens to its pages, to the
 * zones, to who held them. Pictures: machines.h has the key; - is offline, . no memory at all, v
 * the block's own memmap.
 */
#include "mm/memory_hotplug.c"

#include "machines.h"
#include "testhelper.h"

static const uint64_t MIB = 1 << 20;

/* A task in which a signal arrives at the nth look. */
static int looks_left;

static int signal_arrives(void)
{
    return looks_left-- <= 0;
}

static int offline_for(struct machine *m, uint64_t block, int looks, struct task *task)
{
    char path[64];

    *task = (struct task){.capable = true, .interrupted = signal_arrives};
    looks_left = looks;
    snprintf(path, sizeof path, "memory%llu/state", (unsigned long long)block);
    return store_as(m, task, path, "offline");
}

static void plug(struct machine *m, uint64_t block, int nid)
{
    CHECK_EQ(memory_add(m, &test_task, nid, block * m->block_bytes, m->block_bytes), 0);
}

static void check_state(struct machine *m, uint64_t block, const char *state,
                        const char *valid_zones)
{
    char path[64], expected[64];

    snprintf(path, sizeof path, "memory%llu/state", (unsigned long long)block);
    char *text = fetch(m, path);
    snprintf(expected, sizeof expected, "%s\n", state);
    CHECK_STR(text, expected);
    free(text);
    snprintf(path, sizeof path, "memory%llu/valid_zones", (unsigned long long)block);
    text = fetch(m, path);
    snprintf(expected, sizeof expected, "%s\n", valid_zones);
    CHECK_STR(text, expected);
    free(text);
}

/* ---- adding and removing ---- */

/* .... -> ---- -> ....     a memmap of one pageblock is taken for it, and given back */
TEST(memory_comes_and_goes)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct zone *z = zone_at(m, 0, ZONE_NORMAL);

    plug(m, 40, 0); /* the first memmap claims pageblocks for kernel pages, and they stay claimed */
    CHECK_EQ(memory_remove(m, &test_task, 40 * MIB, MIB), 0);
    char *before = snapshot(m);
    plug(m, 32, 0);
    CHECK_MAP(m, 32, "---- ---- ---- ----");
    CHECK_EQ(z->kind_pages[KIND_MEMMAP], 4);
    CHECK_EQ(z->present, 256);
    check_state(m, 32, "offline", "Normal Movable");
    CHECK(machine_sound(m));
    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB, MIB), -EEXIST);
    CHECK_EQ(memory_add(m, &test_task, 0, 31 * MIB, 2 * MIB), -EEXIST);
    CHECK_EQ(memory_remove(m, &test_task, 32 * MIB, MIB), 0);
    CHECK_MAP(m, 32, ".... .... .... ....");
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    machine_finish(m);
}

TEST(ranges_that_cannot_be)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    char *before = snapshot(m);

    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB, MIB / 2), -EINVAL);
    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB + 4096, MIB), -EINVAL);
    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB, 0), -E2BIG); /* it ends before it begins */
    CHECK_EQ(memory_add(m, &test_task, 1, 32 * MIB, MIB), -EINVAL);
    CHECK_EQ(memory_add(m, &test_task, -1, 32 * MIB, MIB), -EINVAL);
    CHECK_EQ(memory_add(m, &test_task, 0, 1ull << 46, MIB), -E2BIG);
    CHECK_EQ(memory_add(m, &test_task, 0, UINT64_MAX - MIB + 1, MIB), -E2BIG);
    CHECK_EQ(memory_remove(m, &test_task, 3 * MIB, MIB), -EBUSY);
    CHECK_EQ(memory_remove(m, &test_task, 3 * MIB, MIB / 2), -EINVAL);
    CHECK_EQ(memory_remove(m, &test_task, 0, UINT64_MAX / MIB * MIB),
             -EINVAL); /* not one block after the other */
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    machine_finish(m);
}

/* Memory in pieces of 128 MiB, removed as one GiB: what the kernel maps adds up. */
TEST(direct_map)
{
    struct machine *m = machine_make(&x86, KERNEL(6_1), NULL);
    const uint64_t gib = 1ull << 30;
    uint64_t start = 4 * gib;
    uint64_t small = m->direct_map_4k, large = m->direct_map_2m;

    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(memory_add(m, &test_task, 0, start + i * (gib / 8), gib / 8), 0);
    CHECK_EQ(m->direct_map_2m, large + (1 << 20));
    CHECK_EQ(m->direct_map_1g, 0);
    CHECK_EQ(memory_remove(m, &test_task, start, gib), 0);
    CHECK_EQ(m->direct_map_2m, large);
    CHECK_EQ(m->direct_map_1g, 0);
    start =
        8 *
        gib; /* the pieces stay in /proc/iomem: none of them contained the range that was removed */
    CHECK_EQ(memory_add(m, &test_task, 0, start, gib + gib / 4), 0);
    CHECK_EQ(m->direct_map_1g, 1 << 20);
    CHECK_EQ(m->direct_map_2m, large + (1 << 18));
    CHECK_EQ(memory_remove(m, &test_task, start + gib, gib / 4), 0);
    CHECK_EQ(memory_remove(m, &test_task, start, gib), 0);
    CHECK_EQ(m->direct_map_1g, 0);
    CHECK_EQ(m->direct_map_2m, large);
    CHECK_EQ(m->direct_map_4k, small);
    machine_finish(m);
}

/* ---- online and offline ---- */

/* ---- -> MMMM -> ---- in Movable: the zone appears and disappears */
TEST(a_block_of_movable)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct zone *z = zone_at(m, 0, ZONE_MOVABLE);

    plug(m, 32, 0);
    plug(m, 35, 0);
    char *before = snapshot(m);
    CHECK_EQ(block_store(m, 32, "online_movable"), 0);
    CHECK_MAP(m, 32, "MMMM MMMM MMMM MMMM");
    check_state(m, 32, "online", "Movable");
    CHECK_EQ(z->managed, 16);
    CHECK_EQ(z->free, 16);
    CHECK_EQ(z->start_pfn, 512);
    CHECK_EQ(zone_spanned(z), 16);
    CHECK_EQ(block_store(m, 35, "online_movable"), 0);
    CHECK_EQ(zone_spanned(z), 64); /* the gap counts */
    CHECK_EQ(z->present, 32);
    CHECK_EQ(block_store(m, 32, "online"), -EINVAL);
    CHECK(machine_sound(m));
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    CHECK_EQ(z->start_pfn, 560);
    CHECK_EQ(zone_spanned(z), 16);
    CHECK_EQ(block_store(m, 32, "offline"), -EINVAL);
    CHECK_EQ(block_store(m, 35, "offline"), 0);
    CHECK(zone_is_empty(z));
    CHECK_MAP(m, 35, "---- ---- ---- ----");
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    machine_finish(m);
}

/* Fresh memory is used last, except by kernels from before 5.10. */
TEST(fresh_memory)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    plug(m, 32, 0);
    CHECK_EQ(block_store(m, 32, "online"), 0);
    CHECK_FREE(
        m, 3, MT_MOVABLE,
        "16 24 32 40 48 56 64 72 80 88 96 104 112 120 128 136 144 152 160 168 176 184 512 520");
    machine_finish(m);

    m = machine_make(&toy, KERNEL(5_0), NULL);
    plug(m, 32, 0);
    CHECK_EQ(block_store(m, 32, "online"), 0);
    CHECK_FREE(
        m, 3, MT_MOVABLE,
        "512 520 16 24 32 40 48 56 64 72 80 88 96 104 112 120 128 136 144 152 160 168 176 184");
    machine_finish(m);
}

/* vvvv MMMM MMMM MMMM     the block holds its own memmap: present, but nobody's to give */
static void own_memmap(struct machine_config *config)
{
    config->memmap_on_memory = 1;
}

/* Each is wrong for a moment, and the check says so. */
#define FINDS(m, what, wrong)                        \
    do {                                             \
        struct task task_ = {0};                     \
        __typeof__(what) right_ = (what);            \
        (what) = (wrong);                            \
        if (machine_check((m), &task_) == 0)         \
            TEST_FAIL("%s is not looked at", #what); \
        (what) = right_;                             \
        CHECK(machine_sound(m));                     \
    } while (0)

TEST(the_check_looks_at_devices_and_zonelists)
{
    struct machine *m = machine_make(&toy_nodes, KERNEL(6_1), NULL);
    const uint64_t unit = m->page_bytes << m->pageblock_order, base = toy_nodes.hotplug_base;

    CHECK_EQ(acpi_device_check(m, &test_task, 0, 0, base, 2 * MIB), 0);
    struct memory_block *b = block_get(m, base / MIB + 1);
    FINDS(m, b->physical_node, 0);
    FINDS(m, b->physical_node, 2);
    FINDS(m, b->acpi_slot, 1);
    FINDS(m, m->dimms[0].attached, false);
    FINDS(m, m->dimms[0].size_bytes, MIB);
    FINDS(m, m->nodes[1].nr_fallback, 1);
    FINDS(m, m->nodes[1].fallback[1], m->nodes[1].fallback[0]);
    CHECK_EQ(virtio_mem_probe(m, &test_task, 0, base + 4 * MIB, 4 * MIB, unit), 0);
    struct virtio_mem *vm = m->vmems[0];
    CHECK_EQ(virtio_mem_request(m, &test_task, 0, MIB + unit, 4 * MIB), 0);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), 0);
    CHECK_EQ(block_store(m, base / MIB + 4, "online_movable"), 0);
    FINDS(m, vm->plugged, MIB);
    FINDS(m, vm->offline_bytes, 0);
    FINDS(m, vm->count[VMEM_MOVABLE], 0);
    FINDS(m, vm->state[0], VMEM_OFFLINE);
    FINDS(m, vm->plugged_units[1], 0);
    machine_finish(m);
}

TEST(memmap_on_memory)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), own_memmap);
    struct zone *z = zone_at(m, 0, ZONE_MOVABLE);

    CHECK_EQ(acpi_device_check(m, &test_task, 0, 0, 32 * MIB, MIB), 0);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_MEMMAP], 0);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->free, 188);
    char *before = snapshot(m);
    CHECK_EQ(block_store(m, 32, "online_movable"), 0);
    CHECK_MAP(m, 32, "vvvv MMMM MMMM MMMM");
    CHECK_EQ(z->present, 16);
    CHECK_EQ(z->managed, 12);
    CHECK_EQ(z->free, 12);
    CHECK(machine_sound(m));
    CHECK_EQ(take_in(m, "anon", 12, 0, 32), 12);
    CHECK_MAP(m, 32, "vvvv aaaa aaaa aaaa");
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    CHECK_EQ(load_free(m, &test_task, "anon", 12, -1), 12);
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    CHECK_EQ(acpi_eject_request(m, &test_task, 0), 0);
    CHECK_MAP(m, 32, ".... .... .... ....");
    /* Only as many blocks as are one range of their own: before 6.8 a single one. */
    CHECK_EQ(acpi_device_check(m, &test_task, 0, 0, 32 * MIB, 2 * MIB), 0);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_MEMMAP], 8);
    machine_finish(m);

    m = machine_make(&toy, KERNEL(6_18), own_memmap);
    CHECK_EQ(acpi_device_check(m, &test_task, 0, 0, 32 * MIB, 2 * MIB), 0);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_MEMMAP], 0);
    machine_finish(m);
}

/* A memmap of four pages of 64 KiB in a pageblock of 32: only by force, and then it takes the whole
 * pageblock. */
static void forced_memmap(struct machine_config *config)
{
    config->memmap_on_memory = 2;
}

TEST(memmap_on_memory_by_force)
{
    struct machine *m = machine_make(&ppc64, KERNEL(6_18), own_memmap);
    uint64_t start = 1ull << 30;

    CHECK(!memmap_on_memory_wanted(m, m->block_bytes));
    machine_finish(m);
    m = machine_make(&ppc64, KERNEL(6_18), forced_memmap);
    CHECK(memmap_on_memory_wanted(m, m->block_bytes));
    CHECK_EQ(vmemmap_pages(m), 32);
    CHECK_EQ(acpi_device_check(m, &test_task, 0, 0, start, m->block_bytes), 0);
    CHECK_EQ(block_store(m, start / m->block_bytes, "online_movable"), 0);
    CHECK_EQ(zone_at(m, 0, ZONE_MOVABLE)->managed, 1024 - 32);
    CHECK_EQ(block_store(m, start / m->block_bytes, "offline"), 0);
    machine_finish(m);

    /* One pageblock is the whole block: there would be nothing left to use. */
    m = machine_make(&arm64, KERNEL(6_18), forced_memmap);
    CHECK(!memmap_on_memory_wanted(m, m->block_bytes));
    machine_finish(m);
}

static void kernel_uses(struct machine_config *config)
{
    config->config[CONFIG_KERNEL_USE_AFTER] = 8;
}

/* The first block of a kernel zone goes offline again at once, but not when files were read in
 * between. */
TEST(the_kernel_uses_a_new_kernel_zone)
{
    struct machine *m = machine_make(&x86, KERNEL(6_1), kernel_uses);

    CHECK_EQ(store(m, "probe", "0x100000000"), 0);
    CHECK_EQ(block_store(m, 32, "online"), 0);
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    CHECK_EQ(block_store(m, 32, "online"), 0);
    for (int i = 0; i < 4; i++)
        check_state(m, 32, "online", "Normal");
    CHECK_EQ(block_store(m, 32, "offline"), -EBUSY);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_SLAB], 7);
    machine_finish(m);

    /* Unless it is told to, the kernel takes nothing there, however many files are read. */
    m = machine_make(&x86, KERNEL(6_1), NULL);
    CHECK_EQ(store(m, "probe", "0x100000000"), 0);
    CHECK_EQ(block_store(m, 32, "online"), 0);
    for (int i = 0; i < 100; i++)
        check_state(m, 32, "online", "Normal");
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    machine_finish(m);
}

/* When a block goes offline, slabs are shrunk; the next ones come from the new zone, where it is
 * lowest. */
TEST(offlining_makes_the_kernel_use_a_new_zone)
{
    struct machine *m = machine_make(&x86, KERNEL(6_1), kernel_uses);
    const uint64_t blocks[] = {32, 33, 34};

    for (unsigned i = 0; i < 3; i++)
        plug(m, blocks[i], 0);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(block_store(m, blocks[i], "online"), 0);
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    CHECK_EQ(block_store(m, 33, "offline"), -EBUSY);
    CHECK_EQ(block_store(m, 34, "offline"), 0);
    machine_finish(m);
}

/* The log calls Normal the policy zone as soon as it has memory, and still when it has none any
 * more. */
TEST(the_policy_zone_stays)
{
    struct machine *m = machine_make(&x86, KERNEL(6_1), NULL);
    size_t size;

    plug(m, 32, 0);
    CHECK_EQ(block_store(m, 32, "online_kernel"), 0);
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    char *log = klog_text(m, 0, &size);
    unsigned dma32 = 0, normal = 0;
    for (const char *at = log; (at = strstr(at, "Policy zone: ")) != NULL; at++) {
        dma32 += strncmp(at, "Policy zone: DMA32", 18) == 0;
        normal += strncmp(at, "Policy zone: Normal", 19) == 0;
    }
    CHECK_EQ(dma32, 1);
    CHECK_EQ(normal, 2);
    free(log);
    machine_finish(m);
}

/* ---- what is in use moves ---- */

/* aaaa MMMM aMMM MMMM  ->  ---- ---- ---- ----     to other blocks of the node, as there is no
 * other node */
TEST(pages_move_within_their_node)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct zone *z = zone_at(m, 0, ZONE_NORMAL);

    CHECK_EQ(take_in(m, "anon", 4, 0, 3), 4);
    CHECK_EQ(take_in(m, "file", 4, 2, 3), 4);
    CHECK_EQ(take_in(m, "shmem", 1, 0, 3), 1);
    CHECK_EQ(block_store(m, 3, "offline"), 0);
    CHECK_MAP(m, 3, "---- ---- ---- ----");
    CHECK_EQ(z->kind_pages[KIND_ANON], 4);
    CHECK_EQ(z->kind_pages[KIND_FILE], 4);
    CHECK_EQ(z->kind_pages[KIND_SHMEM], 1);
    CHECK_EQ(m->pgmigrate_success, 9);
    CHECK_MAP(m, 0, "rrrr aaaa aaaa aMMM"); /* in the order of their addresses */
    machine_finish(m);
}

/* Two nodes: everything goes to the other one, though there is room at home. */
TEST(pages_move_to_the_other_node)
{
    struct machine *m = machine_make(&toy_nodes, KERNEL(6_1), NULL);

    CHECK_EQ(take_in(m, "anon", 5, 0, 3), 5);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_ANON], 5);
    CHECK_EQ(block_store(m, 3, "offline"), 0);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_ANON], 0);
    CHECK_EQ(zone_at(m, 1, ZONE_NORMAL)->kind_pages[KIND_ANON], 5);
    CHECK_MAP(m, 16, "aaaa aMMM MMMM MMMM");
    machine_finish(m);
}

/* paaa  ->  p---? No: the block stays online, what could move has moved. */
TEST(a_pinned_page_keeps_its_block)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct task task;
    size_t size;

    CHECK_EQ(take_in(m, "anon", 4, 0, 3), 4);
    CHECK_EQ(page_pin(m, &test_task, 49, 1), 0);
    CHECK_MAP(m, 3, "apaa MMMM MMMM MMMM");
    CHECK_EQ(offline_for(m, 3, 3, &task), -EINTR);
    CHECK_STR(task.reason, "signal backoff");
    CHECK_MAP(m, 3, "MpMM MMMM MMMM MMMM");
    check_state(m, 3, "online", "Normal");
    CHECK_EQ(m->pgmigrate_success, 3);
    CHECK(m->pgmigrate_fail >= 1);
    char *log = klog_text(m, 0, &size);
    CHECK(strstr(log, "migrating pfn 31 failed ret:1\n") != NULL);
    free(log);
    CHECK_EQ(page_pin(m, &test_task, 49, -1), 0);
    CHECK_EQ(offline_for(m, 3, 3, &task), 0);
    machine_finish(m);
}

/* No room anywhere else: nothing moves, and the signal ends it. */
TEST(nowhere_to_go)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct task task;
    uint64_t pages = zone_at(m, 0, ZONE_NORMAL)->free;

    CHECK_EQ(load_allocate(m, &test_task, "anon", pages, 0, "Normal", 0, -1), pages);
    char *before = snapshot(m);
    CHECK_EQ(offline_for(m, 3, 2, &task), -EINTR);
    CHECK_MAP(m, 3, "aaaa aaaa aaaa aaaa");
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    machine_finish(m);
}

/* hhhh MMMM hhhh MMMM  ->  ---- : free huge pages are dissolved, the pool shrinks; one in use moves
 */
TEST(huge_pages)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    CHECK_EQ(take_in(m, "hugetlb", 12, -1, 3), 12);
    CHECK_EQ(page_free_at(m, &test_task, 52), 0);
    CHECK_EQ(m->hugetlb_total, 2);
    CHECK_EQ(block_store(m, 3, "offline"), 0);
    CHECK_EQ(m->hugetlb_total, 0);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_HUGETLB], 0);
    machine_finish(m);
}

/* Slab in Movable is seen only by the loop that moves pages, which never ends by itself. */
TEST(slab_in_movable)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct task task;

    plug(m, 32, 0);
    CHECK_EQ(block_store(m, 32, "online_movable"), 0);
    CHECK_EQ(take_in(m, "slab", 1, 0, 32), 1);
    char *before = snapshot(m);
    CHECK_EQ(offline_for(m, 32, 3, &task), -EINTR);
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    CHECK_EQ(load_free(m, &test_task, "slab", 1, -1), 1);
    CHECK_EQ(offline_for(m, 32, 3, &task), 0);
    free(before);
    free(after);
    machine_finish(m);
}

/* ---- refusals ---- */

static const char going_online[] =
    "/sys/kernel/debug/notifier-error-inject/memory/actions/MEM_GOING_ONLINE/error";
static const char going_offline[] =
    "/sys/kernel/debug/notifier-error-inject/memory/actions/MEM_GOING_OFFLINE/error";

TEST(a_notifier_refuses)
{
    const struct kernel *kernels[] = {KERNEL(5_0), KERNEL(5_10), KERNEL(6_1), KERNEL(6_18)};

    for (unsigned i = 0; i < 4; i++) {
        struct machine *m = machine_make(&toy, kernels[i], NULL);
        plug(m, 32, 0);
        CHECK_EQ(fault_set(m, &test_task, "online/notifier", -ENOMEM, 1, 1), 0);
        CHECK_EQ(fault_set(m, &test_task, "offline/notifier", -EBUSY, 1, 1), 0);
        char *before = snapshot(m);
        CHECK_EQ(block_store(m, 32, "online_movable"), -ENOMEM);
        CHECK_EQ(block_store(m, 3, "offline"), -EBUSY);
        CHECK_MAP(m, 32, "---- ---- ---- ----");
        CHECK_MAP(m, 3, "MMMM MMMM MMMM MMMM");
        CHECK(machine_sound(m));
        char *after = snapshot(m);
        if (i == 0) /* the oldest kernel forgets that the zone had no span */
            CHECK_EQ(zone_spanned(zone_at(m, 0, ZONE_MOVABLE)), 16);
        else
            CHECK(same_text(before, after));
        free(before);
        free(after);
        CHECK_EQ(block_store(m, 32, "online_movable"), 0);
        machine_finish(m);
    }
}

/* The kernel's own error injection does the same until it is told to stop. */
TEST(error_injection)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    CHECK_EQ(store(m, going_offline, "-16"), 0);
    CHECK_EQ(block_store(m, 3, "offline"), -EBUSY);
    CHECK_EQ(block_store(m, 3, "offline"), -EBUSY);
    CHECK_EQ(store(m, going_offline, "0"), 0);
    CHECK_EQ(block_store(m, 3, "offline"), 0);
    CHECK_EQ(store(m, going_online, "-4095"), 0);
    CHECK_EQ(block_store(m, 3, "online"), -4095);
    CHECK_EQ(store(m, going_online, "0"), 0);
    CHECK_EQ(block_store(m, 3, "online"), 0);
    machine_finish(m);
}

/* A block with a hole, and one in which zones meet, cannot go offline. */
TEST(holes_and_seams)
{
    struct machine *m = machine_make(&toy_holes, KERNEL(6_1), NULL);

    CHECK_EQ(block_store(m, 4, "offline"), -EINVAL);
    CHECK_STR(test_task.reason, "memory holes");
    CHECK_MAP(m, 4, "MM__ MMMM MMMM MMMM");
    CHECK_EQ(block_store(m, 3, "offline"), 0);
    machine_finish(m);

    m = machine_make(&toy_wide, KERNEL(6_1), NULL);
    check_state(m, 0, "online", "none");
    CHECK_EQ(block_store(m, 0, "offline"), -EINVAL);
    CHECK_EQ(block_store(m, 1, "offline"), 0);
    machine_finish(m);
}

/* ---- poison ---- */

TEST(poisoned_memory_goes_offline)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    plug(m, 32, 0);
    CHECK_EQ(block_store(m, 32, "online_movable"), 0);
    CHECK_EQ(take_in(m, "anon", 2, 0, 32), 2);
    CHECK_EQ(store(m, "soft_offline_page", "0x2000000"), 0);
    CHECK_EQ(store(m, "hard_offline_page", "0x2010000"), 0);
    CHECK_EQ(store(m, "soft_offline_page", "0x2040fff"), 0);
    CHECK_MAP(m, 32,
              "xxaM xMMM MMMM MMMM"); /* one anonymous page has moved, the other one is lost */
    CHECK_EQ(m->poisoned_pages, 3);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_ANON] +
                 zone_at(m, 0, ZONE_MOVABLE)->kind_pages[KIND_ANON],
             1);
    CHECK_EQ(load_free(m, &test_task, "anon", 1, -1), 1);
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    CHECK_EQ(zone_at(m, 0, ZONE_MOVABLE)->managed, 0);
    CHECK_EQ(block_store(m, 32, "online_movable"), 0);
    CHECK_MAP(m, 32, "MMMM MMMM MMMM MMMM"); /* forgotten with the memmap, but still counted */
    CHECK_EQ(m->poisoned_pages, 3);
    CHECK_EQ(store(m, "hard_offline_page", "0x2050000"), 0);
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    CHECK_EQ(memory_remove(m, &test_task, 32 * MIB, MIB), 0);
    CHECK_EQ(m->poisoned_pages,
             3); /* the last one went with its memmap, the others are counted for ever */
    machine_finish(m);

    m = machine_make(&toy, KERNEL(6_18), NULL);
    plug(m, 32, 0);
    CHECK_EQ(block_store(m, 32, "online_movable"), 0);
    CHECK_EQ(store(m, "hard_offline_page", "0x2050000"), 0);
    CHECK_EQ(block_store(m, 32, "offline"), 0);
    CHECK_EQ(block_store(m, 32, "online_movable"), -EHWPOISON);
    CHECK_EQ(memory_remove(m, &test_task, 32 * MIB, MIB), 0);
    CHECK_EQ(m->poisoned_pages, 0);
    machine_finish(m);
}

/* ---- DIMMs ---- */

/* A DIMM of three blocks, of which the last will not go: the others come back, here into Movable
 * around them. */
TEST(an_eject_is_rolled_back)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    plug(m, 32, 0);
    plug(m, 36, 0);
    CHECK_EQ(acpi_device_check(m, &test_task, 0, 0, 33 * MIB, 3 * MIB), 0);
    for (uint64_t id = 32; id < 37; id++)
        CHECK_EQ(block_store(m, id, "online_movable"), 0);
    CHECK_EQ(take_in(m, "offline", 1, 0, 35), 1);
    char *before = snapshot(m);
    CHECK_EQ(acpi_eject_request(m, &test_task, 0), 0x82);
    check_state(m, 33, "online", "Movable");
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    CHECK_EQ(load_free(m, &test_task, "offline", 1, -1), 1);
    CHECK_EQ(acpi_eject_request(m, &test_task, 0), 0);
    CHECK_MAP(m, 33, ".... .... .... ....");
    CHECK_MAP(m, 36, "MMMM MMMM MMMM MMMM");
    CHECK_EQ(acpi_eject_request(m, &test_task, 0), -ENODEV);
    CHECK_EQ(acpi_eject_request(m, &test_task, 77), -ENODEV);
    CHECK_EQ(acpi_device_check(m, &test_task, 100000, 0, 32 * MIB, MIB), -EINVAL);
    machine_finish(m);
}

/* What was Movable comes back as Normal where Normal reaches around it: the choice is made anew. */
TEST(a_rolled_back_block_may_change_its_zone)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    CHECK_EQ(acpi_device_check(m, &test_task, 0, 0, 32 * MIB, 2 * MIB), 0);
    plug(m, 40, 0);
    CHECK_EQ(block_store(m, 40, "online_kernel"), 0);
    CHECK_EQ(block_store(m, 32, "online_movable"), 0);
    CHECK_EQ(block_store(m, 33, "online_movable"), 0);
    CHECK_EQ(take_in(m, "offline", 1, 0, 33), 1);
    CHECK_EQ(acpi_eject_request(m, &test_task, 0), 0x82);
    check_state(m, 32, "online", "Normal");
    check_state(m, 33, "online", "Movable");
    machine_finish(m);
}

/* A DIMM whose size is no multiple of a block is plugged and has no blocks; it can go again. */
TEST(a_crooked_dimm)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    char *before = snapshot(m);

    CHECK_EQ(acpi_device_check(m, &test_task, 3, 0, 32 * MIB, MIB / 2), 0);
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    CHECK_EQ(acpi_eject_request(m, &test_task, 3), 0);
    free(before);
    free(after);
    machine_finish(m);
}

/* ---- nodes ---- */

/* The first memory of a node that is only possible: it appears, and goes with its last block. */
TEST(a_node_comes_and_goes)
{
    const struct kernel *kernels[] = {KERNEL(6_1), KERNEL(6_18)};

    for (unsigned i = 0; i < 2; i++) {
        struct machine *m = machine_make(&toy_nodes, kernels[i], NULL);
        plug(m, 80, 1); /* where the memory map of node 2 will come from, too */
        CHECK_EQ(memory_remove(m, &test_task, 80 * MIB, MIB), 0);
        char *before = snapshot(m);
        CHECK(!m->nodes[2].online);
        plug(m, 64, 2);
        CHECK(m->nodes[2].online);
        CHECK_EQ(block_store(m, 64, "online_movable"), 0);
        char *text = fetch(m, "/sys/devices/system/node/has_memory");
        CHECK_STR(text, "0-2\n");
        free(text);
        CHECK_EQ(m->nodes[2].present, 16);
        CHECK_EQ(block_store(m, 64, "offline"), 0);
        CHECK(m->nodes[2].online);
        CHECK_EQ(memory_remove(m, &test_task, 64 * MIB, MIB), 0);
        CHECK(!m->nodes[2].online);
        char *after = snapshot(m);
        CHECK(same_text(before, after));
        free(before);
        free(after);
        machine_finish(m);
    }
}

/* ---- auto-online ---- */

/* Blocks come up as they come; the walk ends at the first that does not, and adding succeeds all
 * the same. */
TEST(auto_online)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    CHECK_EQ(store(m, "auto_online_blocks", "online_movable"), 0);
    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB, 2 * MIB), 0);
    check_state(m, 32, "online", "Movable");
    check_state(m, 33, "online", "Movable");
    CHECK_EQ(fault_set(m, &test_task, "online/notifier", -ENOMEM, 2, 1), 0);
    CHECK_EQ(memory_add(m, &test_task, 0, 36 * MIB, 3 * MIB), 0);
    check_state(m, 36, "online", "Movable");
    check_state(m, 37, "offline", "Normal Movable");
    check_state(m, 38, "offline", "Normal Movable");
    machine_finish(m);
}

/* ---- the same twice ---- */

static void do_things(struct machine *m, struct text *out)
{
    size_t size;

    plug(m, 64, 1);
    block_store(m, 64, "online_movable");
    load_allocate(m, &test_task, "anon", 100, 0, NULL, -1, -1);
    block_store(m, 3, "offline");
    acpi_device_check(m, &test_task, 1, 1, 70 * MIB, 2 * MIB);
    block_store(m, 70, "online");
    store(m, "hard_offline_page", "0x4000000");
    load_free(m, &test_task, "anon", 50, -1);
    block_store(m, 64, "offline");
    acpi_eject_request(m, &test_task, 1);
    char *texts[] = {snapshot(m), klog_text(m, 0, &size),
                     trace_text(m, 0, UINT64_MAX, false, &size), fetch(m, "/proc/vmstat")};
    for (unsigned i = 0; i < 4; i++) {
        text_append(out, texts[i], strlen(texts[i]));
        free(texts[i]);
    }
    struct event *events;
    size = events_take(m, &events);
    for (size_t i = 0; i < size; i++) {
        text_printf(out, "%llu %llu %d %s %s %d\n", (unsigned long long)events[i].seq,
                    (unsigned long long)events[i].time_us, events[i].kind, events[i].path,
                    events[i].data, events[i].err);
        event_free(&events[i]);
    }
    free(events);
}

static void idle_load(struct machine_config *config)
{
    config->nr_load = 0;
}

TEST(one_seed_one_history)
{
    struct text texts[2] = {{0}, {0}};

    for (unsigned i = 0; i < 2; i++) {
        struct machine *m = machine_make(&toy_nodes, KERNEL(6_1), idle_load);
        do_things(m, &texts[i]);
        machine_finish(m);
    }
    CHECK(texts[0].len > 10000);
    CHECK(same_text(texts[0].data, texts[1].data));
    text_free(&texts[0]);
    text_free(&texts[1]);
}

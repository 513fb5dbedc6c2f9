/*
 * test_hotplug_range.c - ranges that are added, and what an addition leaves behind that fails.
 */
#include "mm/hotplug_range.c"

#include "machines.h"
#include "testhelper.h"

static const uint64_t MIB = 1 << 20;

/* No free memory for the second memmap: the first section stays, and nobody gives its memmap back.
 */
TEST(no_memory_for_the_memmap)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct zone *z = zone_at(m, 0, ZONE_NORMAL);
    size_t size;

    while (z->free > z->min_wmark + 6)
        CHECK_EQ(load_allocate(m, &test_task, "slab", 1, 0, "Normal", 0, -1), 1);
    uint64_t free_pages = z->free, large = m->direct_map_2m;
    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB, 2 * MIB), -ENOMEM);
    CHECK_EQ(z->free, free_pages - 4);
    CHECK_EQ(z->kind_pages[KIND_MEMMAP], 4);
    CHECK(section_of(m, 32 * MIB >> m->page_shift) != NULL);
    CHECK(block_get(m, 32) == NULL);
    CHECK_EQ(m->direct_map_2m, large + 2 * 1024);
    CHECK(machine_sound(m));

    /* The address is taken, though /proc/iomem does not know: that is EEXIST, and it stays so. */
    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB, MIB), -EEXIST);
    CHECK_EQ(memory_add(m, &test_task, 0, 33 * MIB, MIB), -ENOMEM);
    CHECK_EQ(z->free, free_pages - 4);
    char *log = klog_text(m, 0, &size);
    const char *first = strstr(log, "vmemmap alloc failure: order:2, mode:0x4cc0");
    CHECK(first != NULL);
    CHECK(strstr(first + 1, "vmemmap alloc failure") == NULL);
    const char *warning = strstr(log, "WARNING: CPU: 0 at arch/x86/mm/init_64.c add_pages");
    CHECK(warning != NULL && warning > first);
    CHECK(strstr(warning + 1, "WARNING") == NULL);
    free(log);

    /* With more memory the next address can be had. */
    CHECK_EQ(load_free(m, &test_task, "slab", 8, -1), 8);
    CHECK_EQ(memory_add(m, &test_task, 0, 33 * MIB, MIB), 0);
    CHECK_EQ(memory_remove(m, &test_task, 33 * MIB, MIB), 0);
    machine_finish(m);

    /* The oldest kernels have made the block already, and pass over what is there. */
    m = machine_make(&toy, KERNEL(5_0), NULL);
    CHECK_EQ(fault_set(m, &test_task, "range_add/section", -ENOMEM, 2, 1), 0);
    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB, 2 * MIB), -ENOMEM);
    CHECK(block_get(m, 32) != NULL);
    CHECK(block_get(m, 33) == NULL);
    CHECK_EQ(memory_add(m, &test_task, 0, 32 * MIB, 2 * MIB), 0);
    CHECK(block_get(m, 33) != NULL);
    machine_finish(m);
}

/* A DIMM of a few blocks where a failed one has left pages of 1 GiB in the direct map. */
TEST(what_a_failed_addition_leaves_in_the_direct_map)
{
    struct machine *m = machine_make(&x86, KERNEL(6_1), NULL);
    const uint64_t gib = 1ull << 30;
    uint64_t small = m->direct_map_2m, giant = m->direct_map_1g;
    size_t size;

    CHECK_EQ(fault_set(m, &test_task, "range_add/section", -ENOMEM, 3, 1), 0);
    CHECK_EQ(memory_add(m, &test_task, 0, 4 * gib, 2 * gib), -ENOMEM);
    CHECK_EQ(m->direct_map_1g, giant + (2 << 20));
    CHECK_EQ(memory_add(m, &test_task, 0, 4 * gib, gib / 8), -EEXIST);
    CHECK_EQ(m->direct_map_2m, small + (128 << 10));
    CHECK_EQ(memory_add(m, &test_task, 0, 5 * gib, gib / 8), 0);
    CHECK_EQ(m->direct_map_2m, small + (256 << 10));
    CHECK_EQ(memory_remove(m, &test_task, 5 * gib, gib / 8), 0);
    CHECK_EQ(m->direct_map_2m, small + (128 << 10));
    char *log = klog_text(m, 0, &size);
    const char *warning = strstr(log, "WARNING: CPU: 0 at arch/x86/mm/init_64.c phys_pud_init");
    CHECK(warning != NULL);
    CHECK(strstr(warning + 1, "WARNING") == NULL);
    free(log);
    machine_finish(m);
}

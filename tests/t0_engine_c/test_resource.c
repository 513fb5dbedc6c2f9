/*
 * test_resource.c - the tree behind /proc/iomem: who may claim a range, how a released range is cut
 * out of a claim, how pages of RAM are counted, how it is printed. Maps: one character is 128 MiB,
 * B busy, w a window that is not.
 */
#include "mm/resource.c"

#include <stdlib.h>

#include "testhelper.h"

#define BLOCK 0x8000000ull
#define RAM (RES_BUSY | RES_SYSRAM)
#define END (((uint64_t)1 << 40) / BLOCK)

static struct machine *M;

static void begin(void)
{
    M = calloc(1, sizeof *M);
    M->page_shift = 12;
    M->iomem_bits = 40;
}

static void end(void)
{
    resource_destroy(M);
    events_destroy(M);
    klog_destroy(M);
    trace_destroy(M);
    host_memory_destroy(M);
    free(M);
}

static const char *iomem(void)
{
    static char copy[4096];
    struct text out = {0};

    resource_print(M, &out);
    snprintf(copy, sizeof copy, "%s", out.len != 0 ? out.data : "");
    text_free(&out);
    return copy;
}

static bool shows(const char *lines)
{
    return strstr(iomem(), lines) != NULL;
}

static int claim(uint64_t first, uint64_t nr)
{
    return resource_request(M, first * BLOCK, (first + nr) * BLOCK - 1, "System RAM", RAM, true);
}

static void release(uint64_t first, uint64_t nr)
{
    resource_release(M, first * BLOCK, (first + nr) * BLOCK - 1);
}

/* A machine of 1 GiB as QEMU's q35 shows it. */
static const struct boot_resource boot[] = {
    {0x00000000, 0x00000fff, "Reserved", RES_BUSY, 0},
    {0x00001000, 0x0009fbff, "System RAM", RAM, 0},
    {0x0009fc00, 0x0009ffff, "Reserved", RES_BUSY, 0},
    {0x000a0000, 0x000bffff, "PCI Bus 0000:00", 0, 0},
    {0x000c0000, 0x000c05ff, "Video ROM", RES_BUSY, 0},
    {0x000f0000, 0x000fffff, "Reserved", RES_BUSY, 0},
    {0x000f0000, 0x000fffff, "System ROM", RES_BUSY, 1},
    {0x00100000, 0x3ffdffff, "System RAM", RAM, 0},
    {0x01000000, 0x01800ce7, "Kernel code", RAM, 1},
    {0x01a00000, 0x01bb0fff, "Kernel rodata", RAM, 1},
    {0x3ffe0000, 0x3fffffff, "Reserved", RES_BUSY, 0},
    {0x40000000, 0xafffffff, "PCI Bus 0000:00", 0, 0},
    {0xb0000000, 0xbfffffff, "PCI MMCONFIG 0000 [bus 00-ff]", RES_BUSY, 0},
    {0xb0000000, 0xbfffffff, "Reserved", RES_BUSY, 1},
    {0xb0000000, 0xbfffffff, "pnp 00:05", RES_BUSY, 2},
    {0xc0000000, 0xfebfffff, "PCI Bus 0000:00", 0, 0},
    {0x3c0000000, 0xbbfffffff, "PCI Bus 0000:00", 0, 0},
    {0xfd00000000, 0xffffffffff, "Reserved", RES_BUSY, 0},
};
enum { NR_BOOT = sizeof boot / sizeof *boot };

static void begin_booted(void)
{
    begin();
    CHECK_EQ(resource_insert(M, boot, NR_BOOT), 0);
}

TEST(boot_tree_is_printed_as_the_kernel_prints_it)
{
    begin_booted();
    CHECK_STR(iomem(), "00000000-00000fff : Reserved\n"
                       "00001000-0009fbff : System RAM\n"
                       "0009fc00-0009ffff : Reserved\n"
                       "000a0000-000bffff : PCI Bus 0000:00\n"
                       "000c0000-000c05ff : Video ROM\n"
                       "000f0000-000fffff : Reserved\n"
                       "  000f0000-000fffff : System ROM\n"
                       "00100000-3ffdffff : System RAM\n"
                       "  01000000-01800ce7 : Kernel code\n"
                       "  01a00000-01bb0fff : Kernel rodata\n"
                       "3ffe0000-3fffffff : Reserved\n"
                       "40000000-afffffff : PCI Bus 0000:00\n"
                       "b0000000-bfffffff : PCI MMCONFIG 0000 [bus 00-ff]\n"
                       "  b0000000-bfffffff : Reserved\n"
                       "    b0000000-bfffffff : pnp 00:05\n"
                       "c0000000-febfffff : PCI Bus 0000:00\n"
                       "3c0000000-bbfffffff : PCI Bus 0000:00\n"
                       "fd00000000-ffffffffff : Reserved\n");
    end();
}

TEST(boot_trees_that_are_none)
{
    static const struct boot_resource orphan[] = {{0, 0xff, "a", 0, 0}, {0, 0xf, "b", 0, 2}};
    static const struct boot_resource overlap[] = {{0, 0xff, "a", 0, 0}, {0x80, 0x1ff, "b", 0, 0}};
    static const struct boot_resource outside[] = {{0, 0xff, "a", 0, 0}, {0x80, 0x1ff, "b", 0, 1}};

    begin();
    CHECK_EQ(resource_insert(M, orphan, 2), -EINVAL);
    end();
    begin();
    CHECK_EQ(resource_insert(M, overlap, 2), -EINVAL);
    end();
    begin();
    CHECK_EQ(resource_insert(M, outside, 2), -EINVAL);
    end();
}

/* BBBBBBBBwwwwwwwwwwwwww...  +B at 32: free; at 0..7: taken; at 8: within the window, as its child
 */
TEST(claims_of_a_booted_machine)
{
    begin_booted();
    CHECK_EQ(claim(32, 1), 0);
    CHECK_EQ(claim(32, 1), -EEXIST);
    CHECK_EQ(claim(31, 2), -EEXIST);
    CHECK_EQ(claim(0, 1), -EEXIST);
    CHECK_EQ(claim(1, 1), -EEXIST);
    CHECK_EQ(claim(8, 1), 0);
    CHECK(shows("\n40000000-afffffff : PCI Bus 0000:00\n  40000000-47ffffff : System RAM\n"));
    CHECK(shows("\n100000000-107ffffff : System RAM\n3c0000000"));
    CHECK_EQ(claim(21, 2), -EEXIST); /* half in the window, half in the busy one behind it */
    end();
}

/* ..wwww..  a range that only overlaps a window, or contains it, does not fit */
TEST(windows_bound_what_lies_in_them)
{
    static const struct boot_resource window[] = {
        {2 * BLOCK, 6 * BLOCK - 1, "PCI Bus 0000:00", 0, 0}};

    begin();
    CHECK_EQ(resource_insert(M, window, 1), 0);
    CHECK_EQ(claim(1, 2), -EEXIST);
    CHECK_EQ(claim(5, 2), -EEXIST);
    CHECK_EQ(claim(1, 6), -EEXIST);
    CHECK_EQ(claim(2, 4), 0); /* all of it */
    CHECK_EQ(claim(3, 1), -EEXIST);
    end();
}

TEST(any_overlap_conflicts_on_old_kernels)
{
    begin_booted();
    CHECK_EQ(resource_request(M, 8 * BLOCK, 9 * BLOCK - 1, "System RAM", RAM, false), -EEXIST);
    CHECK_EQ(resource_request(M, 32 * BLOCK, 33 * BLOCK - 1, "System RAM", RAM, false), 0);
    end();
}

TEST(nothing_lies_beyond_the_physical_address_space)
{
    struct task task = {0};

    begin();
    M->task = &task;
    CHECK_EQ(claim(END, 1), -EEXIST);
    CHECK(strstr(task.reason, "beyond the physical address space") != NULL);
    CHECK_EQ(resource_request(M, 0x400000000000, 0x400007ffffff, "System RAM", RAM, true), -EEXIST);
    CHECK_EQ(resource_request(M, 0xfffffffff8000000, UINT64_MAX, "System RAM", RAM, true), -EEXIST);
    CHECK_EQ(resource_request(M, 2 * BLOCK, BLOCK, "System RAM", RAM, true),
             -EEXIST); /* upside down */
    CHECK_EQ(claim(END - 1, 1), 0);
    M->task = NULL;
    end();
}

/* BBBB -> .BBB, BBB., B.BB, .... */
TEST(release_trims_splits_and_frees)
{
    static const struct {
        uint64_t first, nr;
        const char *left;
    } cases[] = {
        {4, 1, "28000000-3fffffff : System RAM\n"},
        {7, 1, "20000000-37ffffff : System RAM\n"},
        {5, 1, "20000000-27ffffff : System RAM\n30000000-3fffffff : System RAM\n"},
        {4, 4, ""},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin();
        CHECK_EQ(claim(4, 4), 0);
        release(cases[i].first, cases[i].nr);
        CHECK_STR(iomem(), cases[i].left);
        CHECK_EQ(claim(cases[i].first, cases[i].nr), 0); /* and it can be claimed again */
        CHECK_EQ(claim(cases[i].first, cases[i].nr), -EEXIST);
        CHECK(!M->tainted);
        end();
    }
}

static int claim_as(const char *name, uint64_t first)
{
    return resource_request(M, first * BLOCK, (first + 1) * BLOCK - 1, name, RAM, true);
}

/* d.bb, +d  ->  ddd.bb: what has the name of the claim and touches it becomes one with it, and
 * nothing else does. */
TEST(only_neighbours_of_the_claim_merge)
{
    begin();
    CHECK_EQ(resource_request(M, 0, 16 * BLOCK - 1, "window", RES_IDLE, true), 0);
    CHECK_EQ(claim_as("b", 4), 0);
    CHECK_EQ(claim_as("b", 5), 0);
    CHECK_EQ(claim_as("d", 0), 0);
    resource_merge(M, 0);
    CHECK(shows("00000000-07ffffff : d\n  20000000-27ffffff : b\n  28000000-2fffffff : b\n"));
    CHECK_EQ(claim_as("d", 2), 0);
    resource_merge(M, 2 * BLOCK);
    CHECK(shows("00000000-07ffffff : d\n  10000000-17ffffff : d\n  20000000-27ffffff : b\n"));
    CHECK_EQ(claim_as("d", 1), 0);
    resource_merge(M, BLOCK);
    CHECK_STR(iomem(), "00000000-7fffffff : window\n"
                       "  00000000-17ffffff : d\n"
                       "  20000000-27ffffff : b\n"
                       "  28000000-2fffffff : b\n");
    CHECK_EQ(claim_as("d", 6), 0);
    resource_merge(M, 6 * BLOCK);
    CHECK(shows("28000000-2fffffff : b\n  30000000-37ffffff : d\n"));
    end();
}

TEST(release_finds_its_claim_in_a_window)
{
    begin_booted();
    CHECK_EQ(claim(8, 2), 0);
    CHECK_EQ(claim(10, 1), 0);
    release(9, 1);
    CHECK(shows("  40000000-47ffffff : System RAM\n  50000000-57ffffff : System RAM\n"));
    release(10, 1);
    release(8, 1);
    CHECK(shows("40000000-afffffff : PCI Bus 0000:00\nb0000000"));
    end();
}

/* B B (two claims): a range over both is nobody's; a busy one is not cut where a child of it lies
 */
TEST(release_of_what_is_not_one_claim)
{
    begin_booted();
    CHECK_EQ(claim(32, 1), 0);
    CHECK_EQ(claim(33, 1), 0);
    release(32, 2);
    CHECK(shows("100000000-107ffffff : System RAM\n108000000-10fffffff : System RAM\n"));
    release(40, 1);
    CHECK(!M->tainted);
    resource_release(M, 0x00100000, 0x01ffffff); /* the kernel image lies there */
    CHECK(shows("00100000-3ffdffff : System RAM\n  01000000"));
    CHECK(M->tainted);
    end();
}

TEST(pages_of_ram)
{
    begin_booted();
    CHECK_EQ(resource_ram_pages(M, 0, 0x8000),
             0x9f - 1 + 0x8000 - 0x100); /* part pages do not count */
    CHECK_EQ(resource_ram_pages(M, 0, 1), 0);
    CHECK_EQ(resource_ram_pages(M, 1, 1), 1);
    CHECK_EQ(resource_ram_pages(M, 0x9e, 4), 1);
    CHECK_EQ(resource_ram_pages(M, 7 * 0x8000, 0x8000), 0x8000 - 0x20);
    CHECK_EQ(resource_ram_pages(M, 0x1000, 0x1000),
             0x1000); /* children of RAM are not counted twice */
    CHECK_EQ(resource_ram_pages(M, 8 * 0x8000, 0x8000), 0);
    CHECK_EQ(resource_ram_pages(M, 0x100, 0), 0);
    CHECK_EQ(claim(8, 1), 0); /* within a window */
    CHECK_EQ(claim(32, 2), 0);
    CHECK_EQ(resource_ram_pages(M, 8 * 0x8000, 0x8000), 0x8000);
    CHECK_EQ(resource_ram_pages(M, 32 * 0x8000, 0x8000), 0x8000);
    CHECK_EQ(resource_ram_pages(M, 31 * 0x8000, 4 * 0x8000), 2 * 0x8000);
    end();
}

TEST(deep_trees_are_indented_to_a_limit)
{
    static struct boot_resource deep[8];

    begin();
    for (unsigned i = 0; i < 8; i++)
        deep[i] = (struct boot_resource){0, 0xff, "x", 0, i};
    CHECK_EQ(resource_insert(M, deep, 8), 0);
    CHECK(shows("\n          00000000-000000ff : x\n          00000000-000000ff : x\n"));
    CHECK(!shows("            00000000"));
    end();
}

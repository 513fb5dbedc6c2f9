/*
 * test_isolation.c - pageblocks are taken out of the allocator's reach and put back: which page is
 * named when that fails, and that undoing leaves nothing. Pictures: machines.h has the key to the
 * letters; I is isolated and free.
 */
#include "mm/page_isolation.c"

#include "machines.h"
#include "testhelper.h"

/* One page of a free section is held, all others stay free. */
static void put(struct machine *m, const char *kind, uint64_t pfn)
{
    uint64_t first = pfn & ~15ull, got;

    for (unsigned i = 0; i < 16; i++)
        CHECK(buddy_alloc_range(m, first, first + 16, 0, (unsigned)kind_by_name(kind), &got));
    for (uint64_t other = first; other < first + 16; other++)
        if (other != pfn)
            CHECK_EQ(page_free_at(m, &test_task, other), 0);
}

static int isolate(struct machine *m, uint64_t block, struct unmovable *why)
{
    *why = (struct unmovable){0};
    return isolate_range(m, block * m->block_pages, m->block_pages, why);
}

static void undo(struct machine *m, uint64_t block)
{
    undo_isolate_range(m, block * m->block_pages, m->block_pages, MT_MOVABLE);
}

/* Isolation fails at this page, and everything is as it was. */
static void refused(const struct kernel *kernel, const char *kind, uint64_t held,
                    uint64_t also_held, uint64_t named)
{
    struct machine *m = machine_make(&toy, kernel, NULL);
    struct unmovable why;

    put(m, kind, held);
    if (also_held != 0) {
        CHECK_EQ(take_in(m, "anon", 15, 0, 3), 15);
        CHECK_EQ(page_free_at(m, &test_task, also_held), 0);
        CHECK_EQ(take_in(m, kind, 1, 0, 3), 1);
        for (uint64_t pfn = 48; pfn < 64; pfn++)
            if (pfn != held && pfn != also_held)
                CHECK_EQ(page_free_at(m, &test_task, pfn), 0);
    }
    char before[64], *state = snapshot(m);
    snprintf(before, sizeof before, "%s", picture(m, 3));
    CHECK_EQ(isolate(m, 3, &why), -EBUSY);
    CHECK_EQ(why.pfn, named);
    CHECK_EQ(why.head_pfn, named);
    CHECK_STR(kind_name(why.kind), kind);
    CHECK_MAP(m, 3, before);
    char *after = snapshot(m);
    CHECK(same_text(state, after));
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->isolated_free, 0);
    free(state);
    free(after);
    machine_finish(m);
}

/* uMMM MMMM MMMM MMMM */
TEST(first_pageblock_refuses)
{
    refused(KERNEL(6_1), "slab", 48, 0, 48);
    refused(KERNEL(5_0), "slab", 48, 0, 48);
    refused(KERNEL(6_18), "pagetables", 50, 0, 50);
}

/* MMMM MMMM MMMM MMMu */
TEST(last_pageblock_refuses)
{
    refused(KERNEL(6_1), "kernel", 63, 0, 63);
    refused(KERNEL(5_0), "kernel", 63, 0, 63);
    refused(KERNEL(6_18), "slab_reclaimable", 61, 0, 61);
}

/* MMMM MuMM MMMM MMMM */
TEST(middle_pageblock_refuses)
{
    refused(KERNEL(6_1), "slab", 53, 0, 53);
    refused(KERNEL(5_0), "slab", 53, 0, 53);
    refused(KERNEL(6_18), "slab", 53, 0, 53);
}

/* MMMM MuMM MMMM MMMu: newer kernels try the last pageblock second, so it is the one that is named
 */
TEST(the_last_pageblock_comes_second)
{
    refused(KERNEL(6_1), "slab", 53, 63, 63);
    refused(KERNEL(6_18), "slab", 53, 63, 63);
    refused(KERNEL(5_0), "slab", 53, 63, 53);
    refused(KERNEL(5_10), "slab", 53, 63, 53);
}

/* The page is in the kernel's log, too. */
TEST(the_page_is_dumped)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    size_t size;

    put(m, "slab", 53);
    CHECK_EQ(block_store(m, 3, "offline"), -EBUSY);
    CHECK_STR(test_task.reason, "unmovable page 0x35 (slab)");
    char *log = klog_text(m, 0, &size);
    CHECK(strstr(log, "pfn:0x35\n") != NULL);
    CHECK(strstr(log, "page dumped because: unmovable page\n") != NULL);
    free(log);
    machine_finish(m);
}

/* rrrr MMMM MMMM MMMM: what is reserved refuses, the kernel's image as well as the boot memmap */
TEST(reserved_pages_refuse)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct unmovable why;

    CHECK_EQ(isolate(m, 0, &why), -EBUSY);
    CHECK_EQ(why.pfn, 0);
    CHECK_EQ(isolate(m, 13, &why), -EBUSY);
    CHECK_EQ(why.pfn, 208);
    CHECK_STR(kind_name(why.kind), "reserved");
    machine_finish(m);
}

/* MMMM MMMM MMMM MMMM  ->  IIII IIII IIII IIII  ->  MMMM MMMM MMMM MMMM     free pages are no
 * longer counted as free */
TEST(a_free_block_and_back)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct zone *z = zone_at(m, 0, ZONE_NORMAL);
    struct unmovable why;
    char *before = snapshot(m);

    CHECK_EQ(isolate(m, 3, &why), 0);
    CHECK_MAP(m, 3, "IIII IIII IIII IIII");
    CHECK_EQ(z->free, 172);
    CHECK_EQ(z->isolated_free, 16);
    CHECK_EQ(z->nr_isolated_blocks, 4);
    CHECK_FREE(m, 3, MT_ISOLATE, "48 56");
    CHECK_EQ(test_isolated(m, 48, 16), 0);
    CHECK(machine_sound(m));
    undo(m, 3);
    CHECK_MAP(m, 3, "MMMM MMMM MMMM MMMM");
    CHECK_FREE(m, 3, MT_ISOLATE, "");
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    machine_finish(m);
}

/* aMMa MMMM hhhh pMMM  ->  aIIa IIII hhhh pIII  ->  as before; what is held stays where it is */
TEST(a_used_block_and_back)
{
    const struct kernel *kernels[] = {KERNEL(5_0), KERNEL(6_1), KERNEL(6_18)};

    for (unsigned i = 0; i < 3; i++) {
        struct machine *m = machine_make(&toy, kernels[i], NULL);
        struct unmovable why;
        CHECK_EQ(take_in(m, "anon", 8, 0, 3), 8);
        CHECK_EQ(take_in(m, "hugetlb", 4, -1, 3), 4);
        CHECK_EQ(take_in(m, "pinned", 1, 0, 3), 1);
        for (uint64_t pfn = 49; pfn < 56; pfn++)
            if (pfn != 51)
                CHECK_EQ(page_free_at(m, &test_task, pfn), 0);
        CHECK_MAP(m, 3, "aMMa MMMM hhhh pMMM");
        char *before = snapshot(m);
        CHECK_EQ(isolate(m, 3, &why), 0);
        CHECK_MAP(m, 3, "aIIa IIII hhhh pIII");
        CHECK_EQ(test_isolated(m, 48, 16), -EBUSY);
        CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->isolated_free, 9);
        CHECK(machine_sound(m));
        undo(m, 3);
        CHECK_MAP(m, 3, "aMMa MMMM hhhh pMMM");
        char *after = snapshot(m);
        CHECK(same_text(before, after));
        free(before);
        free(after);
        machine_finish(m);
    }
}

/* hhhh hhhh hhhh hhhh uniform: isolated as a whole, freed while it is, and back */
TEST(pages_that_come_back_are_isolated)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct unmovable why;

    CHECK_EQ(take_in(m, "hugetlb", 16, -1, 3), 16);
    CHECK_EQ(isolate(m, 3, &why), 0);
    CHECK(section_get(m, 3)->map == NULL);
    CHECK_EQ(page_free_at(m, &test_task, 57), 0);
    CHECK_MAP(m, 3, "hhhh hhhh IIII hhhh");
    CHECK_EQ(load_free(m, &test_task, "hugetlb", 12, -1), 12);
    CHECK_MAP(m, 3, "IIII IIII IIII IIII");
    CHECK_FREE(m, 3, MT_ISOLATE, "48 56");
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->free, 172);
    CHECK(machine_sound(m));
    undo(m, 3);
    CHECK(section_get(m, 3)->map == NULL);
    machine_finish(m);
}

/* The same, freed in one piece. */
TEST(a_whole_section_comes_back_isolated)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct unmovable why;

    CHECK_EQ(take_in(m, "hugetlb", 16, -1, 3), 16);
    CHECK_EQ(isolate(m, 3, &why), 0);
    CHECK_EQ(load_free(m, &test_task, "hugetlb", 16, -1), 16);
    CHECK_MAP(m, 3, "IIII IIII IIII IIII");
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->isolated_free, 16);
    CHECK(machine_sound(m));
    undo(m, 3);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->free, 188);
    machine_finish(m);
}

/*
 * |........ ........ ........ .......I|  a folio of eight pageblocks, of which the last alone is
 * isolated, is freed: |7              |6      |5  |5  |5I |  in pieces that lie on one side each
 */
TEST(a_large_folio_comes_back_isolated_in_part)
{
    struct machine *m = machine_make(&ppc64, KERNEL(6_1), NULL);
    uint64_t first = 4 * m->block_pages, last = first + 256 - 32;
    struct folio folio;

    CHECK_EQ(take_in(m, "anon", 256, 8, 4), 256);
    CHECK(folio_at(m, first, &folio));
    CHECK_EQ(folio.order, 8);
    CHECK_EQ(isolate_part(m, last, 32), 0);
    CHECK_EQ(page_free_at(m, &test_task, first), 0);
    CHECK(folio_at(m, first, &folio));
    CHECK_EQ(folio.order, 7);
    CHECK(folio_at(m, last, &folio));
    CHECK_EQ(folio.pfn, last);
    CHECK_EQ(folio.order, 5);
    CHECK_EQ(zone_of(m, last)->isolated_free, 32);
    CHECK(machine_sound(m));
    undo_isolate_part(m, last, 32);
    buddy_rejoin(m, last);
    CHECK(folio_at(m, last, &folio));
    CHECK_EQ(folio.pfn, first);
    machine_finish(m);
}

/* UUUU UUUU MMMM MMMM  ->  isolated  ->  MMMM ... with a migratetype, UUUU UUUU ... with a bit of
 * its own */
TEST(what_isolation_does_to_the_migratetype)
{
    const struct {
        const struct kernel *kernel;
        const char *after;
    } cases[] = {
        {KERNEL(5_0), "MMMM MMMM MMMM MMMM"},
        {KERNEL(6_1), "MMMM MMMM MMMM MMMM"},
        {KERNEL(6_18), "UUUU UUUU MMMM MMMM"},
    };

    for (unsigned i = 0; i < 3; i++) {
        struct machine *m = machine_make(&toy, cases[i].kernel, NULL);
        struct unmovable why;
        CHECK_EQ(take_in(m, "anon", 8, 3, 3), 8);
        pageblock_set_mt(m, 48, MT_UNMOVABLE);
        pageblock_set_mt(m, 52, MT_UNMOVABLE);
        CHECK_EQ(page_free_at(m, &test_task, 48), 0);
        CHECK_MAP(m, 3, "UUUU UUUU MMMM MMMM");
        CHECK_EQ(isolate(m, 3, &why), 0);
        CHECK_MAP(m, 3, "IIII IIII IIII IIII");
        undo(m, 3);
        CHECK_MAP(m, 3, cases[i].after);
        machine_finish(m);
    }
}

/* oMMM: a balloon's page stops old kernels here; new ones find it later, when they look for what to
 * move */
TEST(a_balloon_page)
{
    struct unmovable why;
    struct machine *m = machine_make(&toy, KERNEL(5_0), NULL);

    put(m, "offline", 52);
    CHECK_EQ(isolate(m, 3, &why), -EBUSY);
    CHECK_STR(kind_name(why.kind), "offline");
    machine_finish(m);

    m = machine_make(&toy, KERNEL(6_1), NULL);
    put(m, "offline", 52);
    CHECK_EQ(isolate(m, 3, &why), 0);
    undo(m, 3);
    char *before = snapshot(m);
    CHECK_EQ(block_store(m, 3, "offline"), -EBUSY);
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    machine_finish(m);
}

/* MMMM xMMM: a poisoned page stands in nobody's way */
TEST(a_poisoned_page)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct unmovable why;

    CHECK_EQ(store(m, "hard_offline_page", "0x340000"), 0);
    CHECK_MAP(m, 3, "MMMM xMMM MMMM MMMM");
    CHECK_EQ(isolate(m, 3, &why), 0);
    CHECK_MAP(m, 3, "IIII xIII IIII IIII");
    CHECK_EQ(test_isolated(m, 48, 16), 0);
    undo(m, 3);
    machine_finish(m);
}

/* In Movable nobody looks for slab: the promise was that everything there can move. */
TEST(unmovable_pages_in_movable_are_not_seen)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct unmovable why;

    CHECK_EQ(store(m, "probe", "0x2000000"), 0);
    CHECK_EQ(block_store(m, 32, "online_movable"), 0);
    put(m, "slab", 518);
    CHECK_MAP(m, 32, "MMMM MMuM MMMM MMMM");
    CHECK_EQ(isolate(m, 32, &why), 0);
    undo(m, 32);
    machine_finish(m);
}

/* Four sections of a block, some uniform, one used, one Unmovable: all or nothing */
TEST(a_block_of_several_sections)
{
    struct machine *m = machine_make(&toy_wide, KERNEL(6_1), NULL);
    struct unmovable why;

    CHECK_EQ(take_in(m, "anon", 3, 0, 2), 3); /* section 8 */
    char *before = snapshot(m);
    CHECK_EQ(isolate(m, 2, &why), 0);
    CHECK_MAP(m, 8, "aaaI IIII IIII IIII");
    CHECK_MAP(m, 11, "IIII IIII IIII IIII");
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->nr_isolated_blocks, 16);
    CHECK(machine_sound(m));
    undo(m, 2);
    CHECK(section_get(m, 11)->map == NULL);
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(after);
    put(m, "slab", 170); /* section 10 */
    CHECK_EQ(isolate(m, 2, &why), -EBUSY);
    CHECK_EQ(why.pfn, 170);
    CHECK_MAP(m, 8, "aaaM MMMM MMMM MMMM");
    CHECK_EQ(page_free_at(m, &test_task, 170), 0);
    after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    machine_finish(m);
}

/*
 * test_buddy.c - the free lists: splitting and merging, whose turn it is, stealing from another
 * migratetype, sections that become uniform and detailed again. Pictures: one letter per page, a
 * blank between pageblocks; machines.h has the key.
 */
#include "mm/buddy.c"

#include "machines.h"
#include "testhelper.h"

static struct machine *toy_machine(void)
{
    return machine_make(&toy, KERNEL(6_1), NULL);
}

/* One folio of this order from the Normal zone, as the allocator gives it. */
static uint64_t take(struct machine *m, unsigned order, unsigned mt, unsigned kind)
{
    uint64_t pfn = UINT64_MAX;

    CHECK(buddy_alloc(m, zone_at(m, 0, ZONE_NORMAL), order, mt, kind, false, &pfn));
    return pfn;
}

/* Everything that is free becomes anonymous memory, page by page. */
static void fill(struct machine *m)
{
    uint64_t pages = zone_at(m, 0, ZONE_NORMAL)->free;

    CHECK_EQ(load_allocate(m, &test_task, "anon", pages, 0, "Normal", 0, -1), pages);
}

static void give_back(struct machine *m, uint64_t pfn)
{
    CHECK_EQ(page_free_at(m, &test_task, pfn), 0);
}

/* ---- split and merge ---- */

/* MMMM MMMM ....  ->  aMMM MMMM ....     the upper halves: one page, two, a pageblock */
TEST(a_chunk_is_split_from_the_top_down)
{
    struct machine *m = toy_machine();

    CHECK_EQ(take_in(m, "anon", 1, 0, 3), 1);
    CHECK_MAP(m, 3, "aMMM MMMM MMMM MMMM");
    CHECK_FREE(m, 0, MT_MOVABLE, "49");
    CHECK_FREE(m, 1, MT_MOVABLE, "50");
    CHECK_FREE(m, 2, MT_MOVABLE, "52 4");
    machine_finish(m);
}

/* aMMM MMMM MMMM MMMM  ->  MMMM MMMM MMMM MMMM     as one, behind all others */
TEST(the_last_page_back_makes_the_section_uniform)
{
    struct machine *m = toy_machine();

    CHECK_EQ(take_in(m, "anon", 1, 0, 3), 1);
    CHECK(section_get(m, 3)->map != NULL);
    give_back(m, 48);
    CHECK_MAP(m, 3, "MMMM MMMM MMMM MMMM");
    CHECK(section_get(m, 3)->map == NULL);
    /* chunk 8 is the upper half of section 0; the others stand as at boot */
    CHECK_FREE(m, 3, MT_MOVABLE,
               "8 16 24 32 40 64 72 80 88 96 104 112 120 128 136 144 152 160 168 176 184 48 56");
    machine_finish(m);
}

/* aaaa aaaa  ->  aaaM aaaa  ->  aaMM aaaa  ->  aMMM aaaa  ->  MMMM aaaa     buddies merge,
 * neighbours do not */
TEST(only_buddies_merge)
{
    struct machine *m = toy_machine();

    fill(m);
    give_back(m, 51);
    CHECK_FREE(m, 0, MT_MOVABLE, "51");
    give_back(m, 49);
    CHECK_FREE(m, 0, MT_MOVABLE, "49 51"); /* 50 is in between: the youngest stands first */
    give_back(m, 50);
    CHECK_FREE(m, 0, MT_MOVABLE, "49");
    CHECK_FREE(m, 1, MT_MOVABLE, "50");
    give_back(m, 48);
    CHECK_MAP(m, 3, "MMMM aaaa aaaa aaaa");
    CHECK_FREE(m, 2, MT_MOVABLE, "48");
    machine_finish(m);
}

/* rrrr aaaa  ->  rrrr MMMM     what is reserved never merges, also when it is the buddy */
TEST(reserved_pages_stay_apart)
{
    struct machine *m = toy_machine();

    fill(m);
    for (uint64_t pfn = 4; pfn < 8; pfn++)
        give_back(m, pfn);
    CHECK_MAP(m, 0, "rrrr MMMM aaaa aaaa");
    CHECK_FREE(m, 2, MT_MOVABLE, "4");
    machine_finish(m);
}

/* The lower part of a chunk is used first: pages come in ascending order. */
TEST(allocations_ascend)
{
    struct machine *m = toy_machine();

    for (uint64_t pfn = 4; pfn < 48; pfn++)
        CHECK_EQ(take(m, 0, MT_MOVABLE, KIND_ANON), pfn);
    CHECK_MAP(m, 2, "aaaa aaaa aaaa aaaa");
    machine_finish(m);
}

/* aMaa MMMM: page 48 goes to the tail, because 50 51 being free it may soon merge further; page 32
 * to the head. */
TEST(a_page_that_may_merge_soon_is_used_last)
{
    struct machine *m = toy_machine();

    fill(m);
    give_back(m, 50);
    give_back(m, 51);
    give_back(m, 33);
    give_back(m, 48); /* its buddy 49 is held; the next larger buddy, 50 51, is free */
    CHECK_FREE(m, 0, MT_MOVABLE, "33 48");
    give_back(m, 17);
    CHECK_FREE(m, 0, MT_MOVABLE, "17 33 48");
    CHECK_EQ(take(m, 0, MT_MOVABLE, KIND_FILE), 17);
    machine_finish(m);
}

/* ---- another migratetype's memory ---- */

/* MMMM MMMM MMMM  ->  MMMM uUUU UUUU     the largest chunk there is, so that pages of one kind stay
 * together */
TEST(a_large_chunk_is_stolen_with_its_pageblocks)
{
    struct machine *m = toy_machine();

    CHECK_EQ(take(m, 0, MT_UNMOVABLE, KIND_SLAB), 8);
    CHECK_MAP(m, 0, "rrrr MMMM uUUU UUUU");
    CHECK_EQ(pageblock_mt(m, 8), MT_UNMOVABLE);
    CHECK_EQ(pageblock_mt(m, 12), MT_UNMOVABLE);
    CHECK_EQ(pageblock_mt(m, 4), MT_MOVABLE);
    machine_finish(m);
}

/* MMaa  ->  uUaa     half of the pageblock is free: it becomes Unmovable */
TEST(a_pageblock_half_free_changes_sides)
{
    struct machine *m = toy_machine();

    fill(m);
    give_back(m, 48);
    give_back(m, 49);
    CHECK_EQ(take(m, 0, MT_UNMOVABLE, KIND_SLAB), 48);
    CHECK_MAP(m, 3, "uUaa aaaa aaaa aaaa");
    CHECK_EQ(pageblock_mt(m, 48), MT_UNMOVABLE);
    machine_finish(m);
}

/* Maaa  ->  uaaa     less than half: the page is taken, the pageblock stays Movable */
TEST(a_pageblock_mostly_used_stays)
{
    struct machine *m = toy_machine();

    fill(m);
    give_back(m, 48);
    CHECK_EQ(take(m, 0, MT_UNMOVABLE, KIND_SLAB), 48);
    CHECK_EQ(pageblock_mt(m, 48), MT_MOVABLE);
    give_back(m, 48);
    CHECK_MAP(m, 3, "Maaa aaaa aaaa aaaa");
    machine_finish(m);
}

/* Muuu of an Unmovable pageblock  ->  auuu: a movable page takes what is left over, and claims
 * nothing */
TEST(movable_takes_a_single_page_of_unmovable)
{
    struct machine *m = toy_machine();
    struct zone *z = zone_at(m, 0, ZONE_NORMAL);

    for (unsigned i = 0; i < 8; i++)
        take(m, 0, MT_UNMOVABLE, KIND_SLAB); /* pages 8 to 15 */
    fill(m);
    give_back(m, 13);
    CHECK_MAP(m, 0, "rrrr aaaa uuuu uUuu");
    CHECK_EQ(take(m, 0, MT_MOVABLE, KIND_ANON), 13);
    CHECK_EQ(pageblock_mt(m, 13), MT_UNMOVABLE);
    CHECK_EQ(z->free, 0);
    machine_finish(m);
}

/* Reclaimable falls back to Unmovable before Movable; Unmovable to Reclaimable. */
TEST(order_of_fallbacks)
{
    struct machine *m = toy_machine();

    CHECK_EQ(take(m, 0, MT_UNMOVABLE, KIND_SLAB), 8);
    CHECK_EQ(take(m, 3, MT_RECLAIMABLE, KIND_SLAB_RECLAIMABLE),
             16); /* nothing Unmovable is that large */
    CHECK_EQ(take(m, 2, MT_RECLAIMABLE, KIND_SLAB_RECLAIMABLE),
             24); /* largest first, wherever it is */
    CHECK_MAP(m, 1, "uuuu uuuu uuuu RRRR");
    CHECK_MAP(m, 0, "rrrr MMMM uUUU UUUU");
    fill(m); /* takes the others' free pages in the end */
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->free, 0);
    machine_finish(m);
}

/* Whole pageblocks or nothing: with `nofragment` a mixed pageblock is left alone. */
TEST(no_fragmenting)
{
    struct machine *m = toy_machine();
    uint64_t pfn;

    fill(m);
    give_back(m, 48);
    give_back(m, 49);
    CHECK(!buddy_alloc(m, zone_at(m, 0, ZONE_NORMAL), 0, MT_UNMOVABLE, KIND_SLAB, true, &pfn));
    CHECK_MAP(m, 3, "MMaa aaaa aaaa aaaa");
    give_back(m, 50);
    give_back(m, 51);
    CHECK(buddy_alloc(m, zone_at(m, 0, ZONE_NORMAL), 0, MT_UNMOVABLE, KIND_SLAB, true, &pfn));
    CHECK_MAP(m, 3, "uUUU aaaa aaaa aaaa");
    machine_finish(m);
}

/* UUUU MMMM  ->  one chunk of eight, on the list of the pageblock that was freed last */
TEST(chunks_of_two_migratetypes_merge)
{
    struct machine *m = toy_machine();

    fill(m);
    pageblock_set_mt(m, 48, MT_UNMOVABLE);
    for (uint64_t pfn = 48; pfn < 56; pfn++)
        give_back(m, pfn);
    CHECK_FREE(m, 3, MT_MOVABLE, "48");
    CHECK_EQ(pageblock_mt(m, 48), MT_UNMOVABLE);
    CHECK_MAP(m, 3, "MMMM MMMM aaaa aaaa");
    machine_finish(m);
}

/* ---- uniform and detailed ---- */

/* hhhh hhhh hhhh hhhh     the fourth huge page makes the section uniform; one back, and it is
 * detailed again */
TEST(huge_pages_make_a_section_uniform)
{
    struct machine *m = toy_machine();
    struct section *s = section_get(m, 3);
    struct list *held = &zone_at(m, 0, ZONE_NORMAL)->held[KIND_HUGETLB];

    CHECK_EQ(take_in(m, "hugetlb", 12, -1, 3), 12);
    CHECK_MAP(m, 3, "hhhh hhhh hhhh MMMM");
    CHECK(s->map != NULL);
    CHECK_EQ(take_in(m, "hugetlb", 4, -1, 3), 4);
    CHECK(s->map == NULL);
    CHECK_EQ(held->nr, 4);
    CHECK_MAP(m, 3, "hhhh hhhh hhhh hhhh");
    give_back(m, 52);
    CHECK(s->map != NULL);
    CHECK_MAP(m, 3, "hhhh MMMM hhhh hhhh");
    /* the highest is the youngest */
    CHECK_EQ(pfn_of_ref(m, held->head), 60);
    CHECK_EQ(pfn_of_ref(m, held->tail), 48);
    CHECK_EQ(take_in(m, "hugetlb", 4, -1, 3), 4);
    CHECK(s->map == NULL);
    machine_finish(m);
}

/* The count of folios alike starts anew when the last of its kind has gone, with those that were
 * there before. */
TEST(folios_alike_are_counted_again)
{
    struct machine *m = toy_machine();
    struct section *s = section_get(m, 3);

    CHECK_EQ(take_in(m, "slab", 4, 2, 3), 4);
    CHECK_EQ(take_in(m, "anon", 8, 2, 3), 8);
    CHECK_MAP(m, 3, "uuuu aaaa aaaa MMMM");
    give_back(m, 48);
    CHECK_EQ(take_in(m, "anon", 4, 2, 3), 4);
    CHECK(machine_sound(m));
    CHECK_EQ(take_in(m, "anon", 4, 2, 3), 4);
    CHECK(s->map == NULL); /* four alike, though a slab came first */
    for (uint64_t pfn = 48; pfn < 64; pfn += 4)
        give_back(m, pfn);
    CHECK_EQ(s->alike_pages, 0);
    CHECK(s->map == NULL);
    machine_finish(m);
}

/* Single pages never make a section uniform, whatever was there before them. */
TEST(single_pages_come_and_go)
{
    struct machine *m = toy_machine();

    for (unsigned round = 0; round < 3; round++) {
        CHECK_EQ(take_in(m, "slab", 1, 0, 3), 1);
        CHECK_EQ(take_in(m, "anon", 15, 0, 3), 15);
        give_back(m, 48);
        CHECK_EQ(take_in(m, "anon", 1, 0, 3), 1);
        CHECK_MAP(m, 3, "aaaa aaaa aaaa aaaa");
        CHECK(section_get(m, 3)->map != NULL);
        CHECK(machine_sound(m));
        for (uint64_t pfn = 48; pfn < 64; pfn++)
            give_back(m, pfn);
        CHECK(section_get(m, 3)->map == NULL);
    }
    machine_finish(m);
}

/* A pinned folio keeps its section detailed, so that it is the one that is pinned. */
TEST(a_pin_keeps_detail)
{
    struct machine *m = toy_machine();

    CHECK_EQ(take_in(m, "hugetlb", 16, -1, 3), 16);
    CHECK(section_get(m, 3)->map == NULL);
    CHECK_EQ(page_pin(m, &test_task, 53, 1), 0);
    CHECK_MAP(m, 3, "hhhh pppp hhhh hhhh");
    give_back(m, 60);
    CHECK_EQ(take_in(m, "hugetlb", 4, -1, 3), 4);
    CHECK(section_get(m, 3)->map != NULL);
    CHECK_EQ(page_free_at(m, &test_task, 54), -EBUSY);
    CHECK_EQ(page_pin(m, &test_task, 55, -1), 0);
    CHECK_EQ(page_pin(m, &test_task, 55, -1), -EINVAL);
    machine_finish(m);
}

/* Every free list, entry by entry. */
static void check_same_lists(struct machine *left, struct machine *right)
{
    for (unsigned order = 0; order < MAX_ORDERS; order++)
        for (unsigned mt = 0; mt < NR_MT; mt++)
            CHECK_FREE(left, order, mt, free_text(right, order, mt));
    for (unsigned kind = KIND_ANON; kind < NR_KINDS; kind++)
        CHECK_EQ(zone_at(left, 0, ZONE_NORMAL)->held[kind].nr,
                 zone_at(right, 0, ZONE_NORMAL)->held[kind].nr);
}

/* A load that takes and frees whole sections at once must leave what page by page leaves. */
TEST(whole_sections_are_a_shortcut)
{
    for (unsigned order = 0; order < 4; order++) {
        struct machine *bulk = toy_machine(), *single = toy_machine();

        CHECK_EQ(load_allocate(bulk, &test_task, "anon", 88, (int)order, NULL, -1, -1), 88);
        for (uint64_t got = 0; got < 88; got += 1u << order)
            CHECK_EQ(load_allocate(single, &test_task, "anon", 1, (int)order, NULL, -1, -1),
                     1 << order);
        for (uint64_t nr = 0; nr < 12; nr++)
            CHECK_MAP(bulk, nr, picture(single, nr));
        check_same_lists(bulk, single);
        CHECK_EQ(zone_at(bulk, 0, ZONE_NORMAL)->numa_hit,
                 zone_at(single, 0, ZONE_NORMAL)->numa_hit);
        CHECK_EQ(load_free(bulk, &test_task, "anon", 72, -1), 72);
        for (uint64_t got = 0; got < 72; got += 1u << order)
            CHECK_EQ(load_free(single, &test_task, "anon", 1, -1), 1 << order);
        for (uint64_t nr = 0; nr < 12; nr++)
            CHECK_MAP(bulk, nr, picture(single, nr));
        check_same_lists(bulk, single);
        machine_finish(bulk);
        machine_finish(single);
    }
}

/* The same where the pageblocks of the section have become different in the meantime. */
TEST(a_held_section_of_two_migratetypes_is_freed)
{
    struct machine *bulk = toy_machine(), *single = toy_machine();
    struct machine *both[] = {bulk, single};

    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(take_in(both[i], "hugetlb", 16, -1, 3), 16);
        pageblock_set_mt(both[i], 52, MT_UNMOVABLE);
        CHECK(section_get(both[i], 3)->map == NULL);
    }
    CHECK_EQ(load_free(bulk, &test_task, "hugetlb", 16, -1), 16);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(load_free(single, &test_task, "hugetlb", 4, -1), 4);
    CHECK_MAP(bulk, 3, picture(single, 3));
    check_same_lists(bulk, single);
    machine_finish(bulk);
    machine_finish(single);
}

/* ---- single pages and ranges ---- */

/* MMMM MMMM  ->  MMMM MxMM     the halves around it stay free */
TEST(a_bad_page_is_cut_out)
{
    struct machine *m = toy_machine();
    struct zone *z = zone_at(m, 0, ZONE_NORMAL);
    uint64_t managed = z->managed, free_pages = z->free;

    CHECK(buddy_take_page(m, 53));
    CHECK_MAP(m, 3, "MMMM MxMM MMMM MMMM");
    CHECK_FREE(m, 0, MT_MOVABLE, "52");
    CHECK_FREE(m, 1, MT_MOVABLE, "54");
    CHECK_EQ(z->managed, managed);
    CHECK_EQ(z->free, free_pages - 1);
    CHECK(!buddy_take_page(m, 53));
    CHECK(!buddy_take_page(m, 0));
    machine_finish(m);
}

/* IIII MMMM MMMM MMMM  ->  IIII aMMM MMMM MMMM     a page that is isolated is nobody's to take */
TEST(isolated_pages_are_not_given)
{
    struct machine *m = toy_machine();
    struct unmovable why;
    uint64_t pfn;

    CHECK_EQ(isolate_range(m, 48, 16, &why), 0);
    CHECK_MAP(m, 3, "IIII IIII IIII IIII");
    CHECK(!buddy_alloc_range(m, 48, 64, 0, KIND_ANON, &pfn));
    CHECK(buddy_alloc_range(m, 48, 80, 0, KIND_ANON, &pfn));
    CHECK_EQ(pfn, 64);
    for (unsigned i = 0; i < 171; i++)
        CHECK(take(m, 0, MT_MOVABLE, KIND_ANON) >> 4 != 3);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->free, 0);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->isolated_free, 16);
    undo_isolate_range(m, 48, 16, MT_MOVABLE);
    CHECK_EQ(take(m, 0, MT_MOVABLE, KIND_ANON), 48);
    machine_finish(m);
}

/* rrrr M_MM  and  MM__ MMMM     around holes chunks are as large as they can be */
TEST(free_memory_around_holes)
{
    struct machine *m = machine_make(&toy_holes, KERNEL(6_1), NULL);

    CHECK_MAP(m, 0, "rrrr M_MM MMMM MMMM");
    CHECK_MAP(m, 4, "MM__ MMMM MMMM MMMM");
    CHECK_MAP(m, 5, ".... .... .... ....");
    CHECK_FREE(m, 0, MT_MOVABLE, "4 194");
    CHECK_FREE(m, 1, MT_MOVABLE, "6 64 192");
    CHECK_FREE(m, 2, MT_MOVABLE, "68");
    machine_finish(m);
}

/* Order 3 is the largest: more is refused, nothing is taken. */
TEST(too_large)
{
    struct machine *m = toy_machine();
    uint64_t pfn;

    CHECK(!buddy_alloc(m, zone_at(m, 0, ZONE_NORMAL), 4, MT_MOVABLE, KIND_ANON, false, &pfn));
    CHECK(!buddy_alloc(m, zone_at(m, 0, ZONE_MOVABLE), 0, MT_MOVABLE, KIND_ANON, false, &pfn));
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->free, 188);
    machine_finish(m);
}

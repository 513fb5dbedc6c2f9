/*
 * page_kind.c - the kinds of pages: one table of how each is named, placed, counted and moved.
 *
 * Owns: that table, which everything else asks. Does not own: where the pages are (page_alloc.c,
 * load.c). Linux: mm/page_isolation.c has_unmovable_pages() for what moves.
 */
#include <string.h>

#include "machine.h"

const struct kind_info page_kinds[NR_KINDS] = {
    [KIND_INSIDE] = {"inside", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_HOLE] = {"hole", MOBILITY_RESERVED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_RESERVED] = {"reserved", MOBILITY_RESERVED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_FREE] = {"free", MOBILITY_FREE, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_POISONED] = {"poisoned", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_MEMMAP_SELF] = {"own memmap", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_UNPLUGGED] = {"unplugged", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_ANON] = {"anon", MOBILITY_MOVABLE, MT_MOVABLE, ZONE_MOVABLE, 0},
    [KIND_FILE] = {"file", MOBILITY_MOVABLE, MT_MOVABLE, ZONE_MOVABLE, 0},
    [KIND_SHMEM] = {"shmem", MOBILITY_MOVABLE, MT_MOVABLE, ZONE_MOVABLE, 0},
    [KIND_SLAB] = {"slab", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, 0},
    [KIND_SLAB_RECLAIMABLE] = {"slab_reclaimable", MOBILITY_UNMOVABLE, MT_RECLAIMABLE, ZONE_NORMAL,
                               0},
    [KIND_PAGETABLES] = {"pagetables", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, 0},
    [KIND_KERNEL] = {"kernel", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, 0},
    [KIND_KERNEL_STACK] = {"kernel_stack", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, 2},
    [KIND_MEMMAP] = {"memmap", MOBILITY_UNMOVABLE, MT_UNMOVABLE, ZONE_NORMAL, -1},
    [KIND_HUGETLB] = {"hugetlb", MOBILITY_MOVABLE, MT_MOVABLE, ZONE_MOVABLE, -1},
    [KIND_OFFLINE] = {"offline", MOBILITY_SKIPPED, MT_MOVABLE, ZONE_NORMAL, 0},
    [KIND_PCP] = {"pcp", MOBILITY_FREE, MT_MOVABLE, ZONE_MOVABLE, 0},
};

/* "pinned" is no kind of its own: anonymous pages with a reference that never goes away by itself.
 * They are kept out of Movable, as long-term pins are. */
const char pinned_name[] = "pinned";

const char *kind_name(unsigned kind)
{
    return page_kinds[kind].name;
}

int kind_by_name(const char *name)
{
    for (int kind = KIND_ANON; kind < KIND_PCP; kind++)
        if (strcmp(page_kinds[kind].name, name) == 0)
            return kind;
    return strcmp(name, pinned_name) == 0 ? KIND_ANON : -1;
}

unsigned kind_mobility(unsigned kind)
{
    return page_kinds[kind].mobility;
}

unsigned kind_order(const struct machine *m, unsigned kind)
{
    return page_kinds[kind].order < 0 ? m->pageblock_order : (unsigned)page_kinds[kind].order;
}

/*
 * contig.c - take a range of pages away from the allocator while it is online, and give it back.
 *
 * Owns: the order of the steps and their undo. Does not own: isolation, migration, free lists.
 * Linux: mm/page_alloc.c alloc_contig_range(); drivers/virtio/virtio_mem.c
 * virtio_mem_fake_offline(), _fake_online().
 */
#include <errno.h>

#include "machine.h"

enum { PASSES = 5 };

static bool all_free(struct machine *m, uint64_t start_pfn, uint64_t end_pfn)
{
    struct folio folio;

    for (uint64_t pfn = start_pfn; pfn < end_pfn; pfn = folio.pfn + (1ull << folio.order))
        if (!folio_at(m, pfn, &folio) || folio.kind != KIND_FREE)
            return false;
    return true;
}

/* Move out what can move. Unlike memory that is to go offline, what is in here may stay on its
 * node. */
static int empty(struct machine *m, uint64_t start_pfn, uint64_t end_pfn)
{
    uint64_t pfn;

    for (unsigned pass = 0; pass < PASSES; pass++) {
        if (all_free(m, start_pfn, end_pfn))
            return 0;
        if (scan_movable(m, start_pfn, end_pfn, &pfn) == 0)
            migrate_range(m, pfn, end_pfn, NULL);
        dissolve_range(m, start_pfn, end_pfn);
    }
    if (all_free(m, start_pfn, end_pfn))
        return 0;
    return fail(m, -EBUSY, "something between page 0x%llx and 0x%llx cannot move now",
                (unsigned long long)start_pfn, (unsigned long long)end_pfn - 1);
}

int contig_take(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t end_pfn = start_pfn + nr_pages;
    int err = sections_ready(m, 2 * (nr_pages / m->pages_per_section + 2));

    if (err == 0)
        err = fault_at(m, "virtio_mem/contig");

    if (err != 0)
        return err;
    buddy_split_at(m, start_pfn);
    buddy_split_at(m, end_pfn);
    if ((err = isolate_part(m, start_pfn, nr_pages)) != 0)
        goto failed_split;
    if ((err = empty(m, start_pfn, end_pfn)) != 0)
        goto failed_isolated;
    buddy_seize(m, start_pfn, nr_pages, KIND_UNPLUGGED);
    undo_isolate_part(m, start_pfn, nr_pages);
    return 0;

failed_isolated:
    undo_isolate_part(m, start_pfn, nr_pages);
failed_split:
    buddy_rejoin(m, start_pfn);
    buddy_rejoin(m, end_pfn - 1);
    return err;
}

void contig_give(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pageblock_pages) {
        struct folio folio;
        if (folio_at(m, pfn, &folio))
            folio_unlink(m, &folio);
        buddy_give_range(m, pfn, m->pageblock_pages, has(m, F_fresh_at_tail));
    }
}

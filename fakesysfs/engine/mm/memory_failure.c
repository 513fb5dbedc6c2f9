/*
 * memory_failure.c - pages that are taken out of use because their memory is bad.
 *
 * Owns: soft and hard offlining of one page, what is logged and counted. Does not own: the files
 * that ask for it (memory_block.c), what a later onlining of the block says (memory_block.c).
 * Linux: mm/memory-failure.c soft_offline_page(), memory_failure().
 */
#include <errno.h>

#include "machine.h"

static void count_poisoned(struct machine *m, uint64_t pfn)
{
    struct memory_block *b = radix_get(&m->blocks, pfn / m->block_pages);

    m->poisoned_pages++;
    if (b != NULL && has(m, F_poison_kept_per_block))
        b->nr_poisoned++;
}

/* Log what became of a page that was reported as bad. Linux: action_result(); soft offlining does
 * not come here. */
static int action_result(struct machine *m, uint64_t pfn, const char *page, enum mf_result result)
{
    static const char *const names[NR_MF_RESULTS] = {"Ignored", "Failed", "Delayed", "Recovered"};
    const struct zone *z = zone_of(m, pfn);

    if (z != NULL)
        m->nodes[z->nid].failures[result]++;
    klog(m, "Memory failure: 0x%llx: recovery action for %s: %s", (unsigned long long)pfn, page,
         names[result]);
    return result == MF_RECOVERED || result == MF_DELAYED
               ? 0
               : fail(m, -EBUSY, "page 0x%llx: %s, nothing can be done", (unsigned long long)pfn,
                      page);
}

/* Does it stay where it is once it is known to be bad? The memmap of a section and what a device
 * has taken are kept track of in whole pieces, so a page of these is not marked. */
static bool can_mark(unsigned kind)
{
    return kind == KIND_RESERVED || (kind >= KIND_SLAB && kind <= KIND_KERNEL_STACK);
}

/* A page of the kernel's own: nobody can move it, and it is not handed out when it is freed. What
 * surrounds it stays as it is. Linux: TestSetPageHWPoison(). */
static void mark(struct machine *m, struct folio *folio, uint64_t pfn)
{
    struct section *s = folio->s;
    uint64_t offset = folio->offset, target = pfn & (m->pages_per_section - 1);

    count_poisoned(m, pfn);
    if (folio->kind == KIND_RESERVED) { /* never in use, and never offline */
        radix_set(m, &m->bad_reserved, pfn, m);
        return;
    }
    folio_unlink(m, folio);
    for (unsigned order = folio->order; order-- > 0;) {
        uint64_t middle = offset + (1ull << order);
        folio_link(m, s, target < middle ? middle : offset, folio->kind, order);
        offset = target < middle ? offset : middle;
    }
    folio_link(m, s, target, KIND_POISONED, 0);
    s->nr_poisoned++;
}

static bool is_marked(const struct machine *m, const struct folio *folio, uint64_t pfn)
{
    return folio->kind == KIND_POISONED || radix_get(&m->bad_reserved, pfn) != NULL;
}

/* What a page held goes elsewhere, and the page out of use. */
static int move_and_take(struct machine *m, struct folio *folio, uint64_t pfn)
{
    const struct zone *z = zone_of(m, pfn);
    uint64_t to;

    if (folio->kind == KIND_HUGETLB) {
        hugetlb_count(m, KIND_HUGETLB,
                      -(1ll << folio->order)); /* dissolved: the pool has one less */
    } else {
        enum zone_type highest = z->type == ZONE_MOVABLE ? ZONE_MOVABLE : ZONE_NORMAL;
        if (pages_alloc(m, folio->kind, folio->order, highest, z->nid, 0, &to) != 0)
            return -ENOMEM;
        m->pgmigrate_success += 1ull << folio->order;
    }
    buddy_free(m, folio);
    buddy_take_page(m, pfn);
    return 0;
}

static void tell_already_poisoned(struct machine *m, uint64_t pfn)
{
    if (has(m, F_soft_offline_capital))
        klog(m, "Soft offline: 0x%llx: page already poisoned", (unsigned long long)pfn);
    else if (has(m, F_soft_offline_function))
        klog(m, "soft_offline_page: 0x%llx page already poisoned", (unsigned long long)pfn);
    else
        klog(m, "soft offline: 0x%llx page already poisoned", (unsigned long long)pfn);
}

/* A page that a CPU keeps to itself is fetched back first. Linux: shake_page(). */
static bool fetch(struct machine *m, uint64_t pfn, struct folio *folio)
{
    bool online = folio_at(m, pfn, folio);

    if (!online || folio->kind != KIND_PCP)
        return online;
    buddy_drain(m, zone_of(m, pfn));
    return folio_at(m, pfn, folio);
}

int page_soft_offline(struct machine *m, uint64_t pfn)
{
    struct folio folio;

    TRACE(m, "soft_offline_page");
    if (section_of(m, pfn) == NULL)
        return fail(m, -ENXIO, "there is no memory at page 0x%llx", (unsigned long long)pfn);
    if (!fetch(m, pfn, &folio) || folio.kind == KIND_HOLE)
        return has(m, F_soft_offline_online_check)
                   ? fail(m, -EIO, "page 0x%llx is in a section that is not online",
                          (unsigned long long)pfn)
                   : fail(m, -ENXIO, "page 0x%llx is not in use", (unsigned long long)pfn);
    if (is_marked(m, &folio, pfn)) {
        tell_already_poisoned(m, pfn);
        return has(m, F_soft_offline_poisoned_ok)
                   ? 0
                   : fail(m, -EBUSY, "page 0x%llx is poisoned already", (unsigned long long)pfn);
    }
    if (folio.kind == KIND_FREE) {
        buddy_take_page(m, pfn);
        count_poisoned(m, pfn);
        return 0;
    }
    if (kind_mobility(folio.kind) != MOBILITY_MOVABLE) {
        klog(m, "Memory failure: 0x%llx: unhandlable page.", (unsigned long long)pfn);
        return fail(m, -EIO, "page 0x%llx is %s: it cannot be handled", (unsigned long long)pfn,
                    kind_name(folio.kind));
    }
    if (folio.pins != 0 || move_and_take(m, &folio, pfn) != 0) {
        klog(m, "soft offline: 0x%llx: page migration failed 1", (unsigned long long)pfn);
        return fail(m, -EBUSY, "page 0x%llx could not be migrated", (unsigned long long)pfn);
    }
    count_poisoned(m, pfn);
    return 0;
}

int page_hard_offline(struct machine *m, uint64_t pfn)
{
    unsigned long long nr = pfn;
    const char *page;
    struct folio folio;

    TRACE(m, "memory_failure");
    if (section_of(m, pfn) == NULL && has(m, F_hard_offline_no_page))
        return action_result(m, pfn, "non struct page pfn", MF_IGNORED);
    if (!fetch(m, pfn, &folio) || folio.kind == KIND_HOLE) {
        klog(m, "Memory failure: 0x%llx: memory outside kernel control", nr);
        return fail(m, -ENXIO, "page 0x%llx is outside the kernel's control", nr);
    }
    switch (is_marked(m, &folio, pfn) ? KIND_POISONED : folio.kind) {
    case KIND_POISONED:
        if (has(m, F_hard_offline_action_line))
            klog(m, "Memory failure: 0x%llx: recovery action for already poisoned page: Failed",
                 nr);
        else
            klog(m, "Memory failure: 0x%llx: already hardware poisoned", nr);
        return has(m, F_hard_offline_ehwpoison)
                   ? fail(m, -EHWPOISON, "page 0x%llx is poisoned already", nr)
                   : 0;
    case KIND_FREE:
        buddy_take_page(m, pfn);
        page = "free buddy page";
        break;
    case KIND_ANON:
    case KIND_SHMEM:
        page = "dirty LRU page";
        break;
    case KIND_FILE:
        page = "clean LRU page";
        break;
    case KIND_HUGETLB:
        hugetlb_count(m, KIND_HUGETLB, -(1ll << folio.order));
        page = "huge page";
        break;
    default:
        if (can_mark(folio.kind))
            mark(m, &folio, pfn);
        klog(m, "Memory failure: 0x%llx: unhandlable page.", nr);
        return action_result(m, pfn,
                             has(m, F_hard_offline_get_page) ? "get hwpoison page" : "unknown page",
                             MF_IGNORED);
    }
    if (folio.kind !=
        KIND_FREE) { /* what it held is lost: the owner gets SIGBUS, the page never comes back */
        buddy_free(m, &folio);
        buddy_take_page(m, pfn);
    }
    count_poisoned(m, pfn);
    return action_result(m, pfn, page, MF_RECOVERED);
}

/*
 * page_isolation.c - take pageblocks out of the allocator's reach, and put them back.
 *
 * Owns: the decision whether a pageblock may be isolated and which page stands in the way, the
 * order in which the pageblocks of a range are tried, the undo, the dump of the page in the kernel
 * log. Does not own: moving what is in there (migrate.c), free lists (buddy.c). Linux:
 * mm/page_isolation.c start_isolate_page_range(), has_unmovable_pages(); mm/debug.c __dump_page().
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

/* ---- the dump ---- */

enum {
    FLAG_UPTODATE = 2,
    FLAG_LRU = 4,
    FLAG_HEAD = 6,
    FLAG_SLAB = 9,
    FLAG_RESERVED = 12,
    FLAG_SWAPBACKED = 19
};

struct page_type { /* of pages that are not mapped: where others have their map count, as a byte or,
                      earlier, as bits */
    const char *name;
    unsigned byte, bits;
};

struct dump {
    const struct folio *folio;
    const struct zone *zone;
    unsigned long long flags;
    char names[64]; /* each flag with `|` behind it */
    unsigned refcount, mapcount;
    bool compound, anon;
    struct page_type type;
};

static void dump_flag(struct dump *dump, unsigned bit, const char *name)
{
    size_t len = strlen(dump->names);

    dump->flags |= 1ull << bit;
    snprintf(dump->names + len, sizeof dump->names - len, "%s|", name);
}

static void dump_fill(struct machine *m, struct dump *dump)
{
    const struct folio *folio = dump->folio;
    bool lru = folio->kind == KIND_ANON || folio->kind == KIND_FILE || folio->kind == KIND_SHMEM;
    bool slab = folio->kind == KIND_SLAB || folio->kind == KIND_SLAB_RECLAIMABLE;

    if (dump->zone != NULL)
        dump->flags = (unsigned long long)dump->zone->type << 56 |
                      (unsigned long long)dump->zone->nid << 54;
    dump->refcount = 1 + folio->pins + (folio->kind == KIND_FILE || folio->kind == KIND_SHMEM);
    dump->anon = folio->kind == KIND_ANON;
    dump->mapcount = dump->anon;
    dump->compound = folio->order > 0 && (lru || slab || folio->kind == KIND_HUGETLB);
    dump->type = (struct page_type){"", 0xff, 0};
    if (lru) {
        dump_flag(dump, FLAG_UPTODATE, "uptodate");
        dump_flag(dump, FLAG_LRU, "lru");
    }
    if (slab && has(m, F_dump_folio))
        dump->type = (struct page_type){"slab", 0xf5, 0}; /* a type now, no flag */
    else if (slab)
        dump_flag(dump, FLAG_SLAB, "slab");
    if (folio->kind == KIND_RESERVED || folio->kind == KIND_HOLE)
        dump_flag(dump, FLAG_RESERVED, "reserved");
    if (dump->compound)
        dump_flag(dump, FLAG_HEAD, "head");
    if (dump->anon || folio->kind == KIND_SHMEM)
        dump_flag(dump, FLAG_SWAPBACKED, "swapbacked");
    if (folio->kind == KIND_PAGETABLES)
        dump->type = (struct page_type){"table", 0xf2, 0x200};
    if (folio->kind == KIND_OFFLINE)
        dump->type = (struct page_type){"offline", 0xf1, 0x100};
    if (folio->kind == KIND_HUGETLB && has(m, F_dump_folio))
        dump->type = (struct page_type){"hugetlb", 0xf4, 0};
}

/* What stands in struct page where others have their map count. */
static unsigned dump_type_word(struct machine *m, const struct dump *dump)
{
    if (dump->mapcount != 0)
        return dump->mapcount - 1;
    return has(m, F_dump_folio) && dump->type.byte != 0xff ? dump->type.byte << 24
                                                           : ~dump->type.bits;
}

static void dump_first_lines(struct machine *m, const struct dump *dump, unsigned long long pfn)
{
    static const char hashed[] = "(____ptrval____)",
                      mapping[] = "mapping:0000000000000000 index:0x0";
    const unsigned long long memmap = 0xffffea0000000000; /* where struct page 0 is without KASLR */
    const char *count = has(m, F_dump_refcount) ? "refcount" : "count",
               *at = has(m, F_dump_folio) ? " " : hashed;
    unsigned order = dump->folio->order, refs = dump->refcount, mapped = dump->mapcount;

    if (!has(m, F_dump_pfn)) {
        klog(m, "page:%llx %s:%u mapcount:%u %s%s%s", memmap + pfn * m->struct_page_bytes, count,
             refs, mapped, mapping, dump->compound ? " compound_mapcount: " : "",
             !dump->compound ? ""
             : mapped != 0   ? "1"
                             : "0");
        return;
    }
    klog(m, "page:%s%s%s:%u mapcount:%u %s pfn:0x%llx", at, at == hashed ? " " : "", count, refs,
         mapped, mapping, pfn);
    if (!dump->compound)
        return;
    if (has(m, F_dump_folio))
        klog(m, "head: order:%u mapcount:%u entire_mapcount:%u nr_pages_mapped:0 pincount:0", order,
             mapped, mapped);
    else if (has(m, F_dump_page_type))
        klog(m, "head:%s order:%u entire_mapcount:%u nr_pages_mapped:0 pincount:0", hashed, order,
             mapped);
    else
        klog(m, "head:%s order:%u compound_mapcount:%u compound_pincount:0", hashed, order, mapped);
}

/* Eight words of struct page. Of those that matter to nobody here all are zero. */
static void dump_words(struct machine *m, const struct dump *dump, const char *what, unsigned word)
{
    klog(m, "%s: %016llx 0000000000000000 dead000000000122 0000000000000000", what, dump->flags);
    klog(m, "%s: 0000000000000000 0000000000000000 %08x%08x 0000000000000000", what, dump->refcount,
         word);
}

void dump_page(struct machine *m, uint64_t pfn, const char *reason)
{
    struct folio folio;
    struct dump dump = {.folio = &folio, .zone = zone_of(m, pfn)};

    if (!folio_at(m, pfn, &folio))
        return;
    dump_fill(m, &dump);
    dump_first_lines(m, &dump, pfn);
    bool anon_line = dump.anon &&
                     !has(m, F_dump_refcount); /* printk() began a new line where none was meant */
    if (anon_line)
        klog(m, "anon ");
    klog(m, "%sflags: 0x%llx(%snode=%d|zone=%d)", dump.anon && !anon_line ? "anon " : "",
         dump.flags, dump.names, dump.zone != NULL ? dump.zone->nid : 0,
         dump.zone != NULL ? (int)dump.zone->type : 0);
    unsigned word = dump_type_word(m, &dump);
    if (has(m, F_dump_folio) && dump.type.byte != 0xff)
        klog(m, "page_type: %x(%s)", dump.type.byte, dump.type.name);
    else if (has(m, F_dump_page_type) && !has(m, F_dump_folio))
        klog(m, "page_type: 0x%x(%s)", word, dump.type.bits != 0 ? dump.type.name : "");
    dump_words(m, &dump, "raw", word);
    if (dump.compound && has(m, F_dump_pfn) && (has(m, F_dump_folio) || pfn != folio.pfn))
        dump_words(m, &dump, "head", word);
    klog(m, "page dumped because: %s", reason);
}

/* ---- one pageblock ---- */

static bool folio_unmovable(struct machine *m, const struct folio *folio, const struct zone *z)
{
    switch (kind_mobility(folio->kind)) {
    case MOBILITY_RESERVED:
        /* Holes come here only where they do not keep the range from going offline in the first
         * place. */
        return folio->kind != KIND_HOLE || has(m, F_offline_holes_einval);
    case MOBILITY_UNMOVABLE:
        /* Movable promises that whatever is there can move; only reserved pages are looked for. */
        return z == NULL || z->type != ZONE_MOVABLE;
    case MOBILITY_SKIPPED:
        return folio->kind == KIND_OFFLINE && !has(m, F_pageoffline_skipped);
    default:
        return false;
    }
}

static bool has_unmovable(struct machine *m, uint64_t start_pfn, uint64_t end_pfn,
                          struct unmovable *why)
{
    struct folio folio;
    const struct zone *z = zone_of(m, start_pfn);
    bool online = folio_at(m, start_pfn, &folio);

    while (online && !folio_unmovable(m, &folio, z)) {
        if (folio.pfn + (1ull << folio.order) >= end_pfn)
            return false;
        online = folio_next(m, &folio);
    }
    if (online)
        *why = (struct unmovable){.pfn = folio.pfn > start_pfn ? folio.pfn : start_pfn,
                                  .head_pfn = folio.pfn,
                                  .kind = folio.kind};
    return true;
}

static int isolate_block(struct machine *m, uint64_t pfn, struct unmovable *why)
{
    int err = fault_at(m, "offline/pageblock");

    if (err != 0)
        return err;
    TRACE(m, "set_migratetype_isolate");
    if (has_unmovable(m, pfn, pfn + m->pageblock_pages, why)) {
        dump_page(m, why->pfn, "unmovable page");
        return fail(m, -EBUSY, "unmovable page 0x%llx (%s)", (unsigned long long)why->pfn,
                    kind_name(why->kind));
    }
    {
        TRACE(m, "set_pageblock_migratetype");
        pageblock_set_isolated(m, pfn, true, NR_MT);
    }
    {
        TRACE(m, "move_freepages_block");
        buddy_move_block(m, pfn, MT_ISOLATE);
    }
    zone_of(m, pfn)->nr_isolated_blocks++;
    return 0;
}

static void unisolate_block(struct machine *m, uint64_t pfn, unsigned mt)
{
    if (!pageblock_isolated(m, pfn))
        return;
    pageblock_set_isolated(m, pfn, false, has(m, F_isolate_bit) ? NR_MT : mt);
    buddy_move_block(m, pfn, pageblock_mt(m, pfn));
    zone_of(m, pfn)->nr_isolated_blocks--;
}

/* ---- a range ---- */

/* A section that can be isolated as a whole: nothing would stop any of its pageblocks, and all are
 * Movable. */
static bool section_plain(const struct section *s)
{
    return s != NULL && (s->state & SECTION_ONLINE) != 0 && s->map == NULL && s->blocks == NULL &&
           s->zones == NULL && s->mt == MT_MOVABLE &&
           (s->kind == KIND_FREE || kind_mobility(s->kind) == MOBILITY_MOVABLE);
}

/* End the isolation of whatever is isolated in the range, section by section. */
static void unisolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned mt)
{
    for (uint64_t at = start_pfn; at < start_pfn + nr_pages; at += m->pages_per_section) {
        struct section *s = section_online_of(m, at);
        if (s == NULL || s->nr_isolated == 0)
            continue;
        if (s->map == NULL && s->blocks == NULL)
            buddy_isolate_section(m, s, false, has(m, F_isolate_bit) ? NR_MT : mt);
        else
            for (uint64_t pfn = at; pfn < at + m->pages_per_section; pfn += m->pageblock_pages)
                unisolate_block(m, pfn, mt);
        buddy_settle(m, s);
    }
}

int isolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct unmovable *why)
{
    uint64_t end_pfn = start_pfn + nr_pages, last = end_pfn - m->pageblock_pages, pfn;
    bool plain = true, first_last = has(m, F_isolate_first_last);
    int err;

    TRACE(m, "start_isolate_page_range");
    if ((err = fault_at(m, "offline/isolate")) != 0)
        return err;
    for (pfn = start_pfn; pfn < end_pfn && plain; pfn += m->pages_per_section)
        plain = section_plain(section_of(m, pfn));
    if (plain) {
        TRACE(m, "set_migratetype_isolate");
        for (pfn = start_pfn; pfn < end_pfn; pfn += m->pages_per_section)
            buddy_isolate_section(m, section_of(m, pfn), true, NR_MT);
        return 0;
    }
    if (first_last) {
        {
            TRACE(m, "isolate_single_pageblock");
            if ((err = isolate_block(m, start_pfn, why)) != 0)
                return err;
        }
        TRACE(m, "isolate_single_pageblock");
        if (last != start_pfn && (err = isolate_block(m, last, why)) != 0) {
            TRACE(m, "unset_migratetype_isolate");
            unisolate_range(m, start_pfn, nr_pages, MT_MOVABLE);
            return err;
        }
    }
    for (pfn = start_pfn; pfn < end_pfn; pfn += m->pageblock_pages) {
        if (first_last && (pfn == start_pfn || pfn == last))
            continue;
        if ((err = isolate_block(m, pfn, why)) == 0)
            continue;
        undo_isolate_range(m, start_pfn, nr_pages, MT_MOVABLE);
        return err;
    }
    return 0;
}

void undo_isolate_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, unsigned mt)
{
    TRACE(m, "undo_isolate_page_range");
    TRACE(m, "unset_migratetype_isolate");
    unisolate_range(m, start_pfn, nr_pages, mt);
}

/* ---- a part of a section ---- */

void undo_isolate_part(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pageblock_pages)
        unisolate_block(m, pfn, MT_MOVABLE);
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section)
        buddy_settle(m, section_of(m, pfn));
}

int isolate_part(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    struct unmovable why;
    int err = 0;

    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages && err == 0;
         pfn += m->pageblock_pages) {
        if ((err = fault_at(m, "offline/pageblock")) != 0)
            break;
        if (pageblock_isolated(m, pfn))
            err = fail(m, -EBUSY, "somebody else isolates page 0x%llx", (unsigned long long)pfn);
        else if (has_unmovable(m, pfn, pfn + m->pageblock_pages, &why))
            err = fail(m, -EBUSY, "unmovable page 0x%llx (%s)", (unsigned long long)why.pfn,
                       kind_name(why.kind));
        if (err != 0)
            break;
        pageblock_set_isolated(m, pfn, true, NR_MT);
        buddy_move_block(m, pfn, MT_ISOLATE);
        zone_of(m, pfn)->nr_isolated_blocks++;
    }
    if (err != 0)
        undo_isolate_part(m, start_pfn, nr_pages);
    return err;
}

int test_isolated(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    struct folio folio;

    TRACE(m, "test_pages_isolated");
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages;
         pfn = folio.pfn + (1ull << folio.order)) {
        if (!folio_at(m, pfn, &folio))
            return -EBUSY;
        if (folio.page == NULL && folio.kind == KIND_FREE)
            folio = (struct folio){.pfn = section_first_pfn(m, folio.s) + m->pages_per_section - 1};
        else if (folio.kind != KIND_FREE && folio.kind != KIND_POISONED &&
                 folio.kind != KIND_MEMMAP_SELF && folio.kind != KIND_UNPLUGGED &&
                 folio.kind != KIND_HOLE)
            return -EBUSY;
    }
    return 0;
}

/*
 * pageblock.c - the migratetype of each pageblock, and whether it is isolated.
 *
 * Owns: the bytes behind `section->blocks` and `section->mt`. A section whose pageblocks are all
 * alike keeps one byte; the array comes with the first that differs and goes when they agree again.
 * Does not own: free lists. Who changes a migratetype moves the free pages too (buddy_move_block).
 *
 * Kernels before the isolate bit overwrite the migratetype with MIGRATE_ISOLATE and have to invent
 * one when isolation ends; later ones keep it. Here the old type always survives; the caller says
 * which comes after, NR_MT: the old one.
 */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

#define X(name, word) [MT_##name] = word,
static const char *const migratetype_names[NR_MT] = {FAKESYSFS_MIGRATETYPES(X)};
#undef X

const char *migratetype_name(unsigned mt)
{
    return migratetype_names[mt];
}

static unsigned block_nr(const struct machine *m, uint64_t pfn)
{
    return (unsigned)((pfn & (m->pages_per_section - 1)) >> m->pageblock_order);
}

unsigned pageblock_mt(struct machine *m, uint64_t pfn)
{
    const struct section *s = section_of(m, pfn);

    return s == NULL ? MT_MOVABLE : pageblock_mt_of(m, s, block_nr(m, pfn));
}

static void blocks_make(struct machine *m, struct section *s)
{
    if (s->blocks != NULL)
        return;
    bool isolated = s->mt == MT_ISOLATE;
    s->blocks = xcalloc(m, m->pageblocks_per_section, 1);
    memset(s->blocks, isolated ? MT_MOVABLE | PB_ISOLATED : s->mt, m->pageblocks_per_section);
}

void pageblock_set_mt(struct machine *m, uint64_t pfn, unsigned mt)
{
    struct section *s = section_of(m, pfn);

    if (s->blocks == NULL && s->mt == mt)
        return;
    blocks_make(m, s);
    uint8_t *byte = &s->blocks[block_nr(m, pfn)];
    *byte = (uint8_t)((*byte & PB_ISOLATED) | mt);
}

bool pageblock_isolated(struct machine *m, uint64_t pfn)
{
    return pageblock_mt(m, pfn) == MT_ISOLATE;
}

void pageblock_set_isolated(struct machine *m, uint64_t pfn, bool isolated, unsigned mt_after)
{
    struct section *s = section_of(m, pfn);

    blocks_make(m, s);
    uint8_t *byte = &s->blocks[block_nr(m, pfn)];
    if (isolated == ((*byte & PB_ISOLATED) != 0))
        return;
    if (isolated)
        *byte |= PB_ISOLATED;
    else
        *byte = (uint8_t)(mt_after == NR_MT ? *byte & PB_MT : mt_after);
    s->nr_isolated = (uint16_t)(s->nr_isolated + (isolated ? 1 : -1));
}

void pageblock_set_all(struct machine *m, struct section *s, unsigned mt)
{
    (void)m;
    free(s->blocks);
    s->blocks = NULL;
    s->mt = (uint8_t)mt;
    s->nr_isolated = 0;
}

void pageblock_set_section_isolated(struct machine *m, struct section *s, bool isolated,
                                    unsigned mt_after)
{
    /* MT_ISOLATE in `mt` stands for: all pageblocks isolated, MT_MOVABLE before. Only such sections
     * come here. */
    s->mt = (uint8_t)(isolated ? MT_ISOLATE : mt_after == NR_MT ? MT_MOVABLE : mt_after);
    s->nr_isolated = (uint16_t)(isolated ? m->pageblocks_per_section : 0);
}

static bool pageblock_all_alike(struct machine *m, const struct section *s)
{
    if (s->blocks == NULL)
        return true;
    for (unsigned i = 1; i < m->pageblocks_per_section; i++)
        if (s->blocks[i] != s->blocks[0])
            return false;
    return (s->blocks[0] & PB_ISOLATED) == 0;
}

void pageblock_fold(struct machine *m, struct section *s)
{
    if (s->blocks != NULL && pageblock_all_alike(m, s))
        pageblock_set_all(m, s, s->blocks[0] & PB_MT);
}

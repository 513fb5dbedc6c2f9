/*
 * check.c - recount everything and compare: the invariants of machine.h, one after another.
 *
 * Owns: machine_check(). It changes nothing and trusts no counter: free and held pages are counted
 * from the memmaps, lists are walked link by link. Its cost is that of what is detailed plus one
 * step per section.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

struct count { /* of one zone, recounted */
    uint64_t free_chunks[MAX_ORDERS][NR_MT], kind_pages[NR_KINDS], present, isolated_blocks;
};

static int check_failed(struct machine *m, const char *what, uint64_t where, uint64_t want,
                        uint64_t got)
{
    return fail(m, -EIO, "%s at 0x%llx: recounted %llu, kept %llu", what, (unsigned long long)where,
                (unsigned long long)want, (unsigned long long)got);
}

/* Two free buddies that could be one chunk. */
static bool unmerged(struct machine *m, const struct section *s, uint64_t offset)
{
    unsigned order = s->map[offset].order;
    uint64_t buddy = offset ^ (1ull << order);
    const struct page *other = order < m->max_order ? &s->map[buddy] : NULL;

    if (other == NULL || other->kind != KIND_FREE || other->order != order ||
        zone_in_section(m, s, offset) != zone_in_section(m, s, buddy))
        return false;
    return (pageblock_mt_of(m, s, (unsigned)(offset >> m->pageblock_order)) == MT_ISOLATE) ==
           (pageblock_mt_of(m, s, (unsigned)(buddy >> m->pageblock_order)) == MT_ISOLATE);
}

static int check_detailed(struct machine *m, struct section *s, struct count *counts)
{
    uint64_t first = section_first_pfn(m, s), nr_free = 0, alike = 0, poisoned = 0, pinned = 0;

    for (uint64_t offset = 0; offset < m->pages_per_section;) {
        const struct page *page = &s->map[offset];
        uint64_t pages = 1ull << page->order;
        const struct zone *z = zone_in_section(m, s, offset);
        if (page->kind == KIND_INSIDE || page->kind >= NR_KINDS)
            return check_failed(m, "a page that is no head where one is due", first + offset, 1,
                                page->kind);
        if (page->order > m->max_order || (offset & (pages - 1)) != 0 ||
            offset + pages > m->pages_per_section)
            return check_failed(m, "a folio that does not fit its order", first + offset,
                                page->order, m->max_order);
        for (uint64_t i = 1; i < pages; i++)
            if (s->map[offset + i].kind != KIND_INSIDE)
                return check_failed(m, "a head inside a folio", first + offset + i, 0,
                                    s->map[offset + i].kind);
        if (z == NULL)
            return check_failed(m, "a page of no zone", first + offset, 1, 0);
        struct count *count = &counts[z->index];
        if (page->kind == KIND_FREE) {
            count->free_chunks[page->order][page->mt]++;
            nr_free += pages;
            if (unmerged(m, s, offset))
                return check_failed(m, "two free buddies", first + offset, page->order + 1u,
                                    page->order);
            if ((page->mt == MT_ISOLATE) != (pageblock_mt(m, first + offset) == MT_ISOLATE))
                return check_failed(m, "a free chunk on the wrong side of isolation",
                                    first + offset, pageblock_mt(m, first + offset), page->mt);
        } else {
            count->kind_pages[page->kind] += pages;
            if (page->kind == s->alike_kind && page->order == s->alike_order)
                alike += pages;
        }
        count->present += page->kind != KIND_HOLE ? pages : 0;
        poisoned += page->kind == KIND_POISONED ? pages : 0;
        pinned += page->pins != 0;
        offset += pages;
    }
    if (nr_free != s->nr_free)
        return check_failed(m, "free pages of a section", first, nr_free, s->nr_free);
    if (s->alike_pages != 0 && alike != s->alike_pages)
        return check_failed(m, "pages alike of a section", first, alike, s->alike_pages);
    if (poisoned != s->nr_poisoned)
        return check_failed(m, "poisoned pages of a section", first, poisoned, s->nr_poisoned);
    if (pinned != s->nr_pinned)
        return check_failed(m, "pinned folios of a section", first, pinned, s->nr_pinned);
    return 0;
}

static int check_section(struct machine *m, struct section *s, struct count *counts)
{
    uint64_t first = section_first_pfn(m, s), isolated = 0;

    if ((s->state & SECTION_ONLINE) == 0) {
        if (s->map != NULL || s->nr_free != 0 || s->zone >= 0)
            return check_failed(m, "an offline section that holds pages", first, 0, s->nr_free);
        return 0;
    }
    if (s->zone < 0 && s->zones == NULL)
        return check_failed(m, "an online section without a zone", first, 1, 0);
    if (s->zones == NULL &&
        !zone_intersects(zone_by_index(m, s->zone), first, m->pages_per_section))
        return check_failed(m, "a section outside the span of its zone", first, 0,
                            (uint64_t)s->zone);
    for (unsigned i = 0; i < m->pageblocks_per_section; i++) {
        bool yes = pageblock_mt_of(m, s, i) == MT_ISOLATE;
        isolated += yes;
        counts[zone_in_section(m, s, i * m->pageblock_pages)->index].isolated_blocks += yes;
        if (s->blocks == NULL && !yes)
            break; /* all alike */
    }
    if (isolated != s->nr_isolated)
        return check_failed(m, "isolated pageblocks of a section", first, isolated, s->nr_isolated);
    if (s->map != NULL)
        return check_detailed(m, s, counts);
    struct count *count = &counts[s->zone];
    if (s->kind == KIND_FREE) {
        if (s->nr_free != m->pages_per_section)
            return check_failed(m, "free pages of a uniform section", first, m->pages_per_section,
                                s->nr_free);
        count->free_chunks[m->max_order][s->mt] += m->chunks_per_section;
    } else if (s->kind == KIND_RESERVED || s->kind >= KIND_ANON) {
        count->kind_pages[s->kind] += m->pages_per_section;
    } else {
        return check_failed(m, "a uniform section of nothing", first, KIND_FREE, s->kind);
    }
    count->present += m->pages_per_section;
    return 0;
}

/* Walk a list: every node belongs there, links agree both ways, the length is the one kept. */
static int check_list(struct machine *m, const struct list *list, const struct zone *z,
                      unsigned kind, unsigned order, unsigned mt)
{
    uint64_t nr = 0;
    ref_t before = 0;

    for (ref_t ref = list->head; ref != 0; before = ref, ref = list_next(m, ref)) {
        const struct section *s = section_of_ref(m, ref);
        uint64_t pfn = pfn_of_ref(m, ref);
        bool whole = (ref & REF_SECTION) != 0;
        const struct page *page = whole ? NULL : page_of_ref(m, ref);
        ref_t prev = whole ? s->prev : page->prev;
        if (prev != before)
            return check_failed(m, "the links of a list", pfn, before, prev);
        if ((whole ? s->kind : page->kind) != kind || zone_of(m, pfn) != z)
            return check_failed(m, "a list node that does not belong there", pfn, kind,
                                whole ? s->kind : page->kind);
        if (kind == KIND_FREE &&
            ((whole ? s->mt : page->mt) != mt || (whole ? s->order : page->order) != order))
            return check_failed(m, "a free chunk on the wrong list", pfn, order,
                                whole ? s->order : page->order);
        nr += !whole ? 1 : m->pages_per_section >> s->order;
        if (nr > list->nr)
            break; /* also what a ring would do */
    }
    if (nr != list->nr || list->tail != before)
        return check_failed(m, "the length of a list", z->start_pfn, nr, list->nr);
    return 0;
}

static int check_zone(struct machine *m, const struct zone *z, const struct count *count)
{
    uint64_t free_pages = 0, isolated = 0, held = 0;
    int err;

    for (unsigned order = 0; order < MAX_ORDERS; order++)
        for (unsigned mt = 0; mt < NR_MT; mt++) {
            const struct list *list = &z->free_area[order][mt];
            if (list->nr != count->free_chunks[order][mt])
                return check_failed(m, "free chunks of a zone", order,
                                    count->free_chunks[order][mt], list->nr);
            if ((err = check_list(m, list, z, KIND_FREE, order, mt)) != 0)
                return err;
            *(mt == MT_ISOLATE ? &isolated : &free_pages) += list->nr << order;
        }
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        if (kind != KIND_FREE && kind != KIND_INSIDE &&
            z->kind_pages[kind] != count->kind_pages[kind])
            return check_failed(m, kind_name(kind), z->start_pfn, count->kind_pages[kind],
                                z->kind_pages[kind]);
        if (kind >= KIND_ANON && (err = check_list(m, &z->held[kind], z, kind, 0, 0)) != 0)
            return err;
        held += kind >= KIND_POISONED && kind != KIND_MEMMAP_SELF && kind != KIND_UNPLUGGED
                    ? count->kind_pages[kind]
                    : 0;
    }
    if (z->free != free_pages || z->isolated_free != isolated)
        return check_failed(m, "free pages of a zone", z->start_pfn, free_pages + isolated,
                            z->free + z->isolated_free);
    if (z->managed != free_pages + isolated + held)
        return check_failed(m, "managed pages of a zone", z->start_pfn,
                            free_pages + isolated + held, z->managed);
    if (z->present != count->present)
        return check_failed(m, "present pages of a zone", z->start_pfn, count->present, z->present);
    if (z->present > zone_spanned(z) || z->present_early > z->present)
        return check_failed(m, "the span of a zone", z->start_pfn, z->present, zone_spanned(z));
    if (z->nr_isolated_blocks != count->isolated_blocks)
        return check_failed(m, "isolated pageblocks of a zone", z->start_pfn,
                            count->isolated_blocks, z->nr_isolated_blocks);
    return 0;
}

static int check_block(struct machine *m, const struct memory_block *b)
{
    unsigned online = 0, present = 0;

    for (unsigned i = 0; i < m->sections_per_block; i++) {
        const struct section *s = section_get(m, b->id * m->sections_per_block + i);
        present += s != NULL;
        online += s != NULL && (s->state & SECTION_ONLINE) != 0;
    }
    if (present == 0)
        return check_failed(m, "a memory block without a section", b->id, 1, 0);
    if (b->busy)
        return 0; /* on its way: section and block agree at the end */
    if (online != (b->state == BLOCK_ONLINE ? present : 0))
        return check_failed(m, "online sections of a memory block", b->id, online,
                            (uint64_t)b->state);
    if (b->dev_offline != (b->state != BLOCK_ONLINE))
        return check_failed(m, "`online` and `state` of a memory block", b->id, b->state,
                            b->dev_offline);
    return 0;
}

/* Counters of the machine that the zones must add up to. */
static int check_machine(struct machine *m, const struct count *counts)
{
    uint64_t huge = 0, memmap = 0, expected = 0, nr = 0;
    void *value;

    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        uint64_t present = 0;
        for (unsigned type = 0; type < NR_ZONES; type++) {
            present += counts[nid * NR_ZONES + type].present;
            huge += counts[nid * NR_ZONES + type].kind_pages[KIND_HUGETLB];
            memmap += counts[nid * NR_ZONES + type].kind_pages[KIND_MEMMAP];
        }
        if (present != m->nodes[nid].present)
            return check_failed(m, "present pages of a node", nid, present, m->nodes[nid].present);
    }
    if (huge != m->hugetlb_total * m->pageblock_pages)
        return check_failed(m, "pages of the huge page pool", 0, huge,
                            m->hugetlb_total * m->pageblock_pages);
    for (; radix_next(&m->sections, nr, &nr, &value); nr++) {
        const struct memory_block *b = radix_get(&m->blocks, nr / m->sections_per_block);
        bool own = b != NULL ? b->nr_vmemmap == 0 : radix_get(&m->memmaps, nr) != NULL;
        if ((((struct section *)value)->state & SECTION_EARLY) == 0 && own)
            expected += (m->pages_per_section * m->struct_page_bytes + m->page_bytes - 1) /
                        m->page_bytes;
    }
    if (memmap != expected)
        return check_failed(m, "pages of memmaps", 0, memmap, expected);
    return 0;
}

static int check_groups(struct machine *m)
{
    for (size_t i = 0; i < m->nr_groups; i++) {
        uint64_t kernel = 0, movable = 0, nr = 0;
        void *value;
        for (; m->groups[i].used && radix_next(&m->blocks, nr, &nr, &value); nr++) {
            const struct memory_block *b = value;
            if (b->group == (int16_t)i && b->state == BLOCK_ONLINE && b->zone >= 0)
                *(b->zone % NR_ZONES == ZONE_MOVABLE ? &movable : &kernel) += m->block_pages;
        }
        if (m->groups[i].used &&
            (m->groups[i].present_kernel != kernel || m->groups[i].present_movable != movable))
            return check_failed(m, "online pages of a memory group", i, kernel + movable,
                                m->groups[i].present_kernel + m->groups[i].present_movable);
    }
    return 0;
}

/* Blocks of a DIMM lie in it, and their numbers there ascend with them. */
static int check_dimms(struct machine *m)
{
    const struct memory_block *before = NULL;
    uint64_t nr = 0;
    void *value;

    for (; radix_next(&m->blocks, nr, &nr, &value); nr++) {
        const struct memory_block *b = value;
        if (b->acpi_slot < 0)
            continue;
        const struct acpi_dimm *dimm = (size_t)b->acpi_slot < m->nr_dimms ? &m->dimms[b->acpi_slot]
                                                                          : NULL;
        uint64_t start = b->id * m->block_bytes;
        if (dimm == NULL || !dimm->attached || start < dimm->start ||
            start - dimm->start >= dimm->size_bytes)
            return check_failed(m, "the slot of a block that is in no DIMM there", b->id,
                                UINT64_MAX, (uint64_t)b->acpi_slot);
        uint64_t least = before != NULL && before->acpi_slot == b->acpi_slot
                             ? before->physical_node + 1
                             : 0;
        if (b->physical_node < least || b->physical_node > (start - dimm->start) / m->block_bytes)
            return check_failed(m, "the number of a block in its DIMM", b->id, least,
                                b->physical_node);
        before = b;
    }
    return 0;
}

/* Whichever node asks for memory, every node that has some is asked, and none twice. */
static int check_fallback(struct machine *m, const struct node *node)
{
    bool listed[MAX_NODES] = {false};

    for (unsigned i = 0; i < node->nr_fallback; i++) {
        if (node->fallback[i] < 0 || node->fallback[i] >= (int)m->possible_nodes ||
            listed[node->fallback[i]])
            return check_failed(m, "nodes that a node falls back to", (uint64_t)node->nid, i,
                                (uint64_t)node->fallback[i]);
        listed[node->fallback[i]] = true;
    }
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES && !listed[nid]; type++)
            if (zone_populated(&m->nodes[nid].zones[type]))
                return check_failed(m, "a node that is missing among those to fall back to",
                                    (uint64_t)node->nid, nid, 0);
    return 0;
}

/* The pages of a block that is online: held by the driver where its units are not plugged, and
 * nowhere else. */
static int check_vmem_pages(struct machine *m, const struct virtio_mem *vm, uint64_t slot)
{
    uint64_t pfn = (vm->first + slot) * vm->block_bytes >> m->page_shift,
             end = pfn + (vm->block_bytes >> m->page_shift), next;
    struct folio folio;
    bool plugged;

    for (; pfn < end; pfn = next) {
        next = vmem_run(m, pfn, end, &plugged);
        for (uint64_t at = pfn; at < next && folio_at(m, at, &folio);
             at = folio.pfn + (1ull << folio.order))
            if ((folio.kind == KIND_UNPLUGGED) == plugged)
                return check_failed(m, "pages of a virtio-mem device that are plugged", at, plugged,
                                    folio.kind);
    }
    return 0;
}

static int check_vmem(struct machine *m, struct virtio_mem *vm)
{
    uint64_t plugged = 0, offline = 0, count[NR_VMEM_STATES] = {0};
    int err;

    for (uint64_t slot = 0; slot < vm->nr; slot++) {
        enum vmem_state state = vmem_state(vm, slot);
        unsigned units = 0, online = 0, added = 0;
        for (unsigned unit = 0; unit < vm->units; unit++)
            units += vm->plugged_units[slot * vm->units + unit];
        for (uint64_t at = 0; at < vm->block_bytes; at += m->block_bytes) {
            const struct memory_block *b = radix_get(
                &m->blocks, ((vm->first + slot) * vm->block_bytes + at) / m->block_bytes);
            added += b != NULL;
            online += b != NULL && b->state == BLOCK_ONLINE;
        }
        count[state]++;
        plugged += vm->big ? (state >= VMEM_ADDED || state == VMEM_PLUGGED) * vm->block_bytes
                           : units * vm->unit_bytes;
        if (state == VMEM_UNUSED || state == VMEM_PLUGGED)
            continue; /* what somebody else has put there is his */
        offline += (added - online) * m->block_bytes;
        if (added != vm->block_bytes / m->block_bytes)
            return check_failed(m, "memory blocks of a virtio-mem device", slot,
                                vm->block_bytes / m->block_bytes, added);
        if (!vm->big && (online != 0) != (state >= VMEM_KERNEL))
            return check_failed(m, "the state of a block of a virtio-mem device", slot, online,
                                state);
        if (!vm->big && (units == vm->units) != (state == VMEM_OFFLINE || state == VMEM_KERNEL ||
                                                 state == VMEM_MOVABLE))
            return check_failed(m, "plugged units of a block of a virtio-mem device", slot, units,
                                state);
        if ((err = check_vmem_pages(m, vm, slot)) != 0)
            return err;
    }
    if (plugged != vm->plugged)
        return check_failed(m, "plugged bytes of a virtio-mem device", vm->number, plugged,
                            vm->plugged);
    if (offline != vm->offline_bytes)
        return check_failed(m, "offline bytes of a virtio-mem device", vm->number, offline,
                            vm->offline_bytes);
    for (unsigned state = 0; state < NR_VMEM_STATES; state++)
        if (count[state] != vm->count[state])
            return check_failed(m, "blocks of a virtio-mem device in a state", state, count[state],
                                vm->count[state]);
    return 0;
}

static int check_all(struct machine *m, struct count *counts)
{
    uint64_t nr = 0, blocks = 0;
    void *value;
    int err;

    for (nr = 0; radix_next(&m->sections, nr, &nr, &value); nr++)
        if ((err = check_section(m, value, counts)) != 0)
            return err;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++) {
            const struct zone *z = &m->nodes[nid].zones[type];
            if ((err = check_zone(m, z, &counts[z->index])) != 0)
                return err;
        }
    for (nr = 0; radix_next(&m->blocks, nr, &nr, &value); nr++, blocks++)
        if ((err = check_block(m, value)) != 0)
            return err;
    if (blocks != m->nr_memory_blocks)
        return check_failed(m, "the number of memory blocks", 0, blocks, m->nr_memory_blocks);
    if ((err = check_machine(m, counts)) != 0)
        return err;
    if (!m->hotplug_held && ((err = check_groups(m)) != 0 || (err = check_dimms(m)) != 0))
        return err;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        if (!m->hotplug_held && (err = check_fallback(m, &m->nodes[nid])) != 0)
            return err;
    for (size_t i = 0; i < m->nr_vmems; i++)
        if (!m->vmems[i]->working && !m->hotplug_held && (err = check_vmem(m, m->vmems[i])) != 0)
            return err;
    if (m->tainted)
        return fail(m, -EIO, "the machine is tainted: see the kernel log");
    return 0;
}

int machine_check(struct machine *m, struct task *task)
{
    machine_lock(m, task);
    struct count *counts = xcalloc(m, m->possible_nodes * NR_ZONES, sizeof *counts);
    int err = check_all(m, counts);
    free(counts);
    machine_unlock(m);
    return err;
}

/*
 * memory_hotplug.c - ranges of page frames go online and offline.
 *
 * Owns: the order of the steps and their undo, present counters, sections' zones, notifiers and
 * their error injection. Does not own: how a range is added and removed (hotplug_range.c), memory
 * blocks and their states, any text (memory_block.c); free lists (buddy.c). Linux:
 * mm/memory_hotplug.c online_pages(), offline_pages().
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "machine.h"

/* ---- notifiers ---- */

void memory_listener_register(struct machine *m, const struct memory_listener *listener)
{
    if (m->nr_listeners < MAX_LISTENERS)
        m->listeners[m->nr_listeners++] = listener;
    else
        warn_on(m, true, "more drivers listen to memory than there is room for");
}

/* Tell the chain that memory is about to go online or offline. Error injection and fault points may
 * refuse, and drivers what is to go online: nobody of ours refuses to let memory go. */
static int notify(struct machine *m, bool online, uint64_t start_pfn)
{
    int injected = online ? m->inject_going_online : m->inject_going_offline;
    const char *action = online ? "MEM_GOING_ONLINE" : "MEM_GOING_OFFLINE";

    TRACE(m, "memory_notify");
    TRACE(m, "notifier_call_chain");
    if (injected != 0) {
        klog(m, "Injecting error (%d) to %s", injected, action);
        return fail(m, injected, "%s was refused by error injection (%d)", action, injected);
    }
    int err = fault_at(m, online ? "online/notifier" : "offline/notifier");
    for (unsigned i = 0; i < m->nr_listeners && err == 0 && online; i++)
        err = m->listeners[i]->going_online(m, start_pfn);
    return err;
}

static void tell_online(struct machine *m, uint64_t start_pfn, uint64_t nr_pages,
                        const struct zone *z)
{
    for (unsigned i = 0; i < m->nr_listeners; i++)
        m->listeners[i]->online(m, start_pfn, nr_pages, z->type == ZONE_MOVABLE);
}

static void tell_offline(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    for (unsigned i = 0; i < m->nr_listeners; i++)
        m->listeners[i]->offline(m, start_pfn, nr_pages);
}

/* What the chains are told and nobody of ours has a say in: that it was called off, that it is
 * done. */
void memory_notify(struct machine *m)
{
    TRACE(m, "memory_notify");
}

/* Later kernels have a chain for the first memory of a node that comes, and the last one that goes.
 */
static void node_notify(struct machine *m, bool first_or_last)
{
    if (!has(m, F_node_notifier) || !first_or_last)
        return;
    TRACE(m, "node_notify");
}

/* ---- zones of a range ---- */

static void adjust_present(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z,
                           struct memory_group *group, int sign)
{
    int64_t pages = (int64_t)nr_pages * sign;
    const struct section *s = section_of(m, start_pfn);

    TRACE(m, "adjust_present_page_count");
    z->present += (uint64_t)pages;
    if ((s->state & SECTION_EARLY) != 0)
        z->present_early += (uint64_t)pages;
    m->nodes[z->nid].present += (uint64_t)pages;
    if (group == NULL)
        return;
    if (z->type == ZONE_MOVABLE)
        group->present_movable += (uint64_t)pages;
    else
        group->present_kernel += (uint64_t)pages;
}

static void move_range_to_zone(struct machine *m, uint64_t start_pfn, uint64_t nr_pages,
                               struct zone *z)
{
    TRACE(m, "move_pfn_range_to_zone");
    zone_grow_span(m, z, start_pfn, nr_pages);
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section) {
        struct section *s = section_of(m, pfn);
        s->zone = z->index;
        zone_track_section(m, s, true);
        s->kind = has(m, F_pageoffline_init)
                      ? KIND_OFFLINE
                      : KIND_RESERVED; /* until somebody may have its pages */
        s->nr_poisoned = 0;
        {
            TRACE(m, "set_pageblock_migratetype");
            pageblock_set_all(m, s, MT_MOVABLE);
        }
        if (has(m, F_online_isolated))
            pageblock_set_section_isolated(m, s, true, NR_MT);
    }
    if (has(m, F_online_isolated))
        z->nr_isolated_blocks += nr_pages / m->pageblock_pages;
}

static void remove_range_from_zone(struct machine *m, uint64_t start_pfn, uint64_t nr_pages,
                                   struct zone *z, bool shrink)
{
    TRACE(m, "remove_pfn_range_from_zone");
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section) {
        struct section *s = section_of(m, pfn);
        zone_track_section(m, s, false);
        free(s->zones);
        s->zones = NULL;
        s->zone = -1;
        pageblock_set_all(m, s, MT_MOVABLE);
    }
    if (shrink)
        zone_shrink_span(m, z, start_pfn, nr_pages);
}

/* ---- online ---- */

/* The range's own memmap takes its first pages: they are there, but nobody's to give. */
static void place_vmemmap(struct machine *m, uint64_t start_pfn, uint64_t nr_vmemmap)
{
    struct section *s = section_of(m, start_pfn);

    if (nr_vmemmap == 0)
        return;
    section_detail(m, s, NULL);
    for (uint64_t offset = 0; offset < nr_vmemmap; offset += m->pageblock_pages)
        folio_link(m, s, offset, KIND_MEMMAP_SELF, m->pageblock_order);
}

/* Kernels up to 5.4 look at each section first. */
static int sections_probed(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    TRACE(m, "pages_correctly_probed");
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section) {
        const struct section *s = section_of(m, pfn);
        if (s != NULL && (s->state & SECTION_ONLINE) == 0)
            continue;
        klog(m, "section %llu pfn[%llx, %llx) %s",
             (unsigned long long)(pfn >> m->section_page_shift), (unsigned long long)pfn,
             (unsigned long long)(pfn + m->pages_per_section),
             s == NULL ? "not present" : "is already online");
        return fail(m, -EBUSY, "section %llu is %s",
                    (unsigned long long)(pfn >> m->section_page_shift),
                    s == NULL ? "not there" : "online already");
    }
    return 0;
}

/* Memory of a driver: what it does not give is held. Returns the range's pages; 0: it is of no
 * driver. Linux: online_page_callback. */
static uint64_t give_by_driver(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t end_pfn = start_pfn + nr_pages, next = 0;
    const struct memory_listener *driver = NULL;
    bool give = false;

    for (unsigned i = 0; i < m->nr_listeners && next == 0; i++) {
        driver = m->listeners[i];
        next = driver->online_run(m, start_pfn, end_pfn, &give);
    }
    if (next == 0)
        return 0;
    for (uint64_t pfn = start_pfn; pfn < end_pfn; pfn = next) {
        next = driver->online_run(m, pfn, end_pfn, &give);
        if (give)
            buddy_give_range(m, pfn, next - pfn, has(m, F_fresh_at_tail));
        for (uint64_t held = pfn; !give && held < next; held += m->pageblock_pages) {
            struct section *s = section_of(m, held);
            section_detail(m, s, NULL);
            folio_link(m, s, held & (m->pages_per_section - 1), KIND_UNPLUGGED, m->pageblock_order);
        }
    }
    return nr_pages;
}

/* Of a range that had holes when it was booted only the RAM goes online. Returns its pages. */
static uint64_t give_ram(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t end_pfn = start_pfn + nr_pages, ram = give_by_driver(m, start_pfn, nr_pages);

    if (ram != 0)
        return ram;
    ram = resource_ram_pages(m, start_pfn, nr_pages);
    if (ram == nr_pages) {
        buddy_give_range(m, start_pfn, nr_pages, has(m, F_fresh_at_tail));
        return ram;
    }
    for (uint64_t pfn = start_pfn, next; pfn < end_pfn; pfn = next) {
        struct section *s = section_of(m, pfn);
        uint64_t here = resource_ram_pages(m, pfn, 1),
                 end_section = (pfn | (m->pages_per_section - 1)) + 1;
        for (next = pfn + 1;
             next < end_section && next < end_pfn && resource_ram_pages(m, next, 1) == here;)
            next++;
        section_detail(m, s, NULL);
        if (here != 0)
            buddy_give_range(m, pfn, next - pfn, has(m, F_fresh_at_tail));
        for (uint64_t hole = pfn; here == 0 && hole < next; hole++)
            folio_link(m, s, hole & (m->pages_per_section - 1), KIND_HOLE, 0);
    }
    return ram;
}

/* Freed one by one, pages go by way of a CPU's own list, which keeps the last ones of the range. */
static uint64_t pages_kept_by_cpu(struct machine *m, struct zone *z, uint64_t nr_pages)
{
    uint64_t batch = zone_pcp_batch(m, z), high = 6 * batch;

    if (!has(m, F_online_order0) || batch == 0 || nr_pages < high)
        return 0;
    return high - batch + (z->kind_pages[KIND_PCP] + nr_pages - high) % batch;
}

int online_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z,
                 struct memory_group *group, uint64_t nr_vmemmap)
{
    bool was_populated = zone_populated(z), first_of_node = m->nodes[z->nid].present == 0;
    int err = sections_ready(m, nr_pages / m->pages_per_section);

    if (err == 0 && nr_vmemmap != 0)
        err = fault_at(m, "online/memmap");
    if (err == 0 && has(m, F_pages_correctly_probed))
        err = sections_probed(m, start_pfn, nr_pages);
    TRACE(m, "online_pages");
    if (err != 0)
        return err;
    move_range_to_zone(m, start_pfn, nr_pages, z);
    node_notify(m, first_of_node);
    if ((err = notify(m, true, start_pfn)) != 0)
        goto failed_notify;
    for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section)
        section_of(m, pfn)->kind = KIND_INSIDE;

    place_vmemmap(m, start_pfn, nr_vmemmap);
    uint64_t kept = pages_kept_by_cpu(m, z, nr_pages), ram = nr_vmemmap;
    {
        TRACE(m, "generic_online_page");
        ram += give_ram(m, start_pfn + nr_vmemmap, nr_pages - nr_vmemmap);
    }
    {
        TRACE(m, "online_mem_sections");
        for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section)
            section_of(m, pfn)->state |= SECTION_ONLINE;
    }
    adjust_present(m, start_pfn, ram, z, group, 1);
    if (kept != 0) {
        buddy_drain(m, z);
        buddy_keep(m, start_pfn + nr_pages - kept, kept);
    }
    if (!was_populated)
        zone_build_zonelists(m, -1);
    if (has(m, F_online_isolated))
        undo_isolate_range(m, start_pfn, nr_pages, MT_MOVABLE);
    zone_update_watermarks(m);
    node_notify(m, first_of_node);
    tell_online(m, start_pfn, nr_pages, z);
    if (first_of_node)
        zone_print_demotion(m);
    if (!was_populated)
        load_expect_users(m, z);
    return 0;

failed_notify:
    memory_notify(m);
    node_notify(m, first_of_node);
    if (has(m, F_online_isolated))
        z->nr_isolated_blocks -= nr_pages / m->pageblock_pages;
    remove_range_from_zone(m, start_pfn, nr_pages, z, has(m, F_online_refusal_shrinks_span));
    return err;
}

/* ---- offline ---- */

/* A pass that moved nothing will hardly do better at once: wait a little, as a real pass would have
 * taken. */
static void pause_pass(struct machine *m, unsigned futile)
{
    struct timespec pause = {.tv_nsec = (futile < 10 ? 1 : 5) * 1000000L};
    struct task *task = m->task;
    struct trace_place place = trace_pause(m);

    m->task = NULL;
    pthread_mutex_unlock(&m->mutex);
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&m->mutex);
    m->task = task;
    m->trace_at = place;
}

/* Where the lists of CPUs are not off for the duration, each pass empties them. */
static void drain_pass(struct machine *m, struct zone *z, unsigned futile)
{
    if (has(m, F_pcp_disabled_offline))
        return;
    bool trace_on = m->trace_on;
    m->trace_on = trace_on && futile == 0;
    {
        TRACE(m, "drain_all_pages");
        buddy_drain(m, z);
    }
    m->trace_on = trace_on;
}

/* Move everything out; ends when the range is empty, at a page that never will move, or with a
 * signal. */
static int empty_range(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t end_pfn = start_pfn + nr_pages, pfn;
    unsigned told = 0, futile = 0;
    int ret;

    do {
        pfn = start_pfn;
        do {
            if (task_interrupted(m))
                return fail(m, -EINTR, "signal backoff");
            drain_pass(m, zone_of(m, start_pfn), futile);
            ret = scan_movable(m, pfn, end_pfn, &pfn);
            if (ret == 0) {
                bool trace_on = m->trace_on;
                m->trace_on = trace_on &&
                              futile == 0; /* one pass shows what every further one does */
                uint64_t before = m->pgmigrate_success;
                migrate_range(m, pfn, end_pfn, &told);
                m->trace_on = trace_on;
                if (m->pgmigrate_success == before)
                    pause_pass(m, futile++);
            }
        } while (ret == 0);
        if (ret != -ENOENT)
            return ret;
        if ((ret = dissolve_range(m, start_pfn, end_pfn)) != 0)
            return ret;
        bool trace_on = m->trace_on;
        m->trace_on = trace_on && futile == 0;
        ret = test_isolated(m, start_pfn, nr_pages);
        m->trace_on = trace_on;
        if (ret != 0) {
            fail(m, ret, "a page that cannot move is in the range and may be freed some day");
            pause_pass(m, futile++);
        }
    } while (ret != 0);
    return 0;
}

static void pcp_disable(struct machine *m, struct zone *z)
{
    if (!has(m, F_pcp_disabled_offline)) {
        buddy_drain(m, z);
        return;
    }
    TRACE(m, "zone_pcp_disable");
    z->pcp_disabled++;
    TRACE(m, "__drain_all_pages");
    buddy_drain(m, z);
}

static void pcp_enable(struct machine *m, struct zone *z)
{
    if (!has(m, F_pcp_disabled_offline))
        return;
    TRACE(m, "zone_pcp_enable");
    z->pcp_disabled--;
}

int offline_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages, struct zone *z,
                  struct memory_group *group)
{
    struct unmovable why = {0};
    /* its sections, and those its pages go to */
    int err = sections_ready(m, 2 * (nr_pages / m->pages_per_section));

    if (err != 0)
        return err;
    TRACE(m, "offline_pages");
    if (has(m, F_offline_holes_einval)) {
        TRACE(m, "walk_system_ram_range");
        if (resource_ram_pages(m, start_pfn, nr_pages) != nr_pages)
            return fail(m, -EINVAL, "memory holes");
    }
    bool last_of_node = nr_pages >= m->nodes[z->nid].present;
    load_first_users(m);
    pcp_disable(m, z);
    if ((err = isolate_range(m, start_pfn, nr_pages, &why)) != 0)
        goto failed_isolate;
    node_notify(m, last_of_node);
    if ((err = notify(m, false, start_pfn)) != 0)
        goto failed_isolated;
    cond_resched(m);
    if ((err = empty_range(m, start_pfn, nr_pages)) != 0)
        goto failed_isolated;

    uint64_t holes = z->kind_pages[KIND_HOLE];
    {
        TRACE(m, "__offline_isolated_pages");
        buddy_take_range(m, start_pfn, nr_pages);
        TRACE(m, "offline_mem_sections");
        for (uint64_t pfn = start_pfn; pfn < start_pfn + nr_pages; pfn += m->pages_per_section)
            section_of(m, pfn)->state &= (uint8_t)~SECTION_ONLINE;
    }
    uint64_t ram = nr_pages - (holes - z->kind_pages[KIND_HOLE]);
    if (has(m, F_offlined_pages_info))
        klog(m, "Offlined Pages %llu", (unsigned long long)ram);
    z->nr_isolated_blocks -= nr_pages / m->pageblock_pages;
    pcp_enable(m, z);
    adjust_present(m, start_pfn, ram, z, group, -1);
    zone_update_watermarks(m);
    if (!zone_populated(z)) {
        zone_build_zonelists(m, has(m, F_fallback_skips_memoryless)
                                    ? -1
                                    : z->nid); /* N_MEMORY is cleared before, or after */
    }
    node_notify(m, last_of_node);
    if (last_of_node)
        zone_print_demotion(m);
    tell_offline(m, start_pfn, nr_pages);
    remove_range_from_zone(m, start_pfn, nr_pages, z, has(m, F_span_shrink_at_offline));
    load_slabs_shrunk(m);
    return 0;

failed_isolated:
    undo_isolate_range(m, start_pfn, nr_pages, MT_MOVABLE);
    memory_notify(m);
    node_notify(m, last_of_node);
    pcp_enable(m, z);
    load_slabs_shrunk(m);
    return err;
failed_isolate:
    if (has(m, F_cancel_offline_always))
        memory_notify(m); /* of something that nobody was told of */
    pcp_enable(m, z);
    return err;
}

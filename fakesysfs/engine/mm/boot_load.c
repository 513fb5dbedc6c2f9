/*
 * boot_load.c - who holds pages when a machine has booted, and when it has aged.
 *
 * Owns: the idle load, machines that are fragmented, the first pages that the kernel takes of a
 * zone. Does not own: how a load is taken (load.c, page_alloc.c).
 */
#include <errno.h>
#include <stdlib.h>

#include "page_alloc.h"

/* ---- the load of a booted machine ---- */

enum { BOOT_STEPS = 16 }; /* chosen: docs/fidelity.md */

/* What is wanted of one kind, in pages. On a machine of a few MiB the load shrinks to an eighth of
 * it. */
static uint64_t idle_pages(const struct machine *m, const struct machine_config *config, size_t i,
                           uint64_t free_pages)
{
    uint64_t page_kb = m->page_bytes / 1024, wanted_kb = 0;

    for (size_t k = 0; k < config->nr_idle; k++)
        wanted_kb += config->idle[k].amount;
    uint64_t share = free_pages * page_kb / 8 < wanted_kb ? free_pages * page_kb * 128 / wanted_kb
                                                          : 1024;
    return config->idle[i].amount * share / 1024 / page_kb;
}

/* While it boots a kernel reads and forgets: each step takes movable memory, and some of its own,
 * that is given back at the end, so that what stays is spread over the memory as on a machine that
 * has booted, not packed at its start. */
static int load_idle(struct machine *m, const struct machine_config *config)
{
    uint64_t pages = total_free(m), gap_limit = (128ull << 20) / m->page_bytes;
    struct taken passing = {0}, staying = {0};
    int err = 0;

    uint64_t gap = pages / (BOOT_STEPS + 2) < gap_limit ? pages / (BOOT_STEPS + 2) : gap_limit;
    int nid = first_node_with_memory(m);
    for (unsigned step = 0; step < BOOT_STEPS && err == 0; step++) {
        struct page_request file = {KIND_FILE, 0, page_kinds[KIND_FILE].highest, nid, 0};
        struct page_request kernel = {KIND_KERNEL, 0, page_kinds[KIND_KERNEL].highest, nid, 0};
        /* On a machine of a few MiB there may be no room left for what passes: then it does
         * without. */
        (void)page_request_many(m, &file, gap * 3 / 4 + random_below(m, gap / 4 + 1), false,
                                &passing);
        (void)page_request_many(m, &kernel, gap / 16, false, &passing);
        size_t first = (size_t)random_below(m, config->nr_idle);
        for (size_t i = 0; i < config->nr_idle && err == 0; i++) {
            size_t at = (first + i) % config->nr_idle;
            const unsigned kind = (unsigned)kind_by_name(config->idle[at].kind);
            uint64_t total = idle_pages(m, config, at, pages);
            uint64_t part = (step + 1) * total / BOOT_STEPS - step * total / BOOT_STEPS;
            struct page_request r = {kind, kind_order(m, kind), page_kinds[kind].highest, nid, 0};
            err = page_request_many(m, &r, part, false, &staying);
            if (err != 0 && passing.nr != 0) {
                taken_give_back(m, &passing, 0);
                err = page_request_many(m, &r, part, false, &staying);
            }
        }
    }
    taken_give_back(m, &passing, 0);
    free(passing.got);
    free(staying.got);
    return err;
}

/* ---- a machine that has aged ---- */

struct want { /* one line of the load to place, in pages */
    const char *kind;
    uint64_t nr_pages;
    int nid;
    uint64_t placed;
};

static size_t wanted_load(struct machine *m, const struct machine_config *config,
                          struct want **list)
{
    uint64_t free_pages = total_free(m);
    size_t nr = config->nr_load != 0 ? config->nr_load : config->nr_idle;

    *list = xcalloc(m, nr, sizeof **list);
    for (size_t i = 0; i < nr; i++)
        if (config->nr_load != 0)
            (*list)[i] = (struct want){config->load[i].kind,
                                       (config->load[i].bytes + m->page_bytes - 1) / m->page_bytes,
                                       config->load[i].nid, 0};
        else
            (*list)[i] = (struct want){config->idle[i].kind, idle_pages(m, config, i, free_pages),
                                       -1, 0};
    return nr;
}

/* Free one of them, whichever: the oldest do not go first. Returns its pages. */
static uint64_t forget_one(struct machine *m, struct taken *passing)
{
    size_t victim = (size_t)random_below(m, passing->nr);
    struct folio folio;

    folio_at(m, passing->got[victim], &folio);
    buddy_free(m, &folio);
    passing->got[victim] = passing->got[--passing->nr];
    return 1ull << folio.order;
}

/* What comes and goes in one round: files read and forgotten, processes, and now and then something
 * of the kernel's. */
static void age_round(struct machine *m, struct taken *passing, uint64_t *held, uint64_t most)
{
    static const uint8_t kind_of[8] = {KIND_FILE, KIND_FILE, KIND_FILE, KIND_ANON,
                                       KIND_ANON, KIND_ANON, KIND_SLAB, KIND_SLAB_RECLAIMABLE};
    int nid = first_node_with_memory(m);

    for (uint64_t got = 0; got < most / 16;) {
        uint64_t pfn, chance = random_next(m);
        unsigned kind = kind_of[chance & 7],
                 order = (chance >> 3 & 7) < 5 ? 0 : (unsigned)(chance >> 6 & 3);
        struct page_request r = {kind, order, page_kinds[kind].highest, nid, 0};
        if (!taken_room(passing) || total_free(m) < total_managed(m) / 8 ||
            page_request(m, &r, &pfn) != 0)
            break;
        taken_add(passing, pfn);
        got += 1ull << order;
        *held += 1ull << order;
    }
    while (*held > most)
        *held -= forget_one(m, passing);
}

/* Place the load in as many parts as there are rounds, among allocations that come and go, so that
 * what stays is strewn over the memory and free memory is in crumbs. */
static int load_aged(struct machine *m, const struct machine_config *config)
{
    struct want *list;
    size_t nr = wanted_load(m, config, &list);
    uint64_t most = total_free(m) / 2, held = 0;
    struct taken passing = {0};
    int err = 0;

    most = most < (1u << 20)
               ? most
               : 1u << 20; /* cost follows use: a large machine ages in a part of its memory */
    for (unsigned round = 0; round < config->aged && err == 0; round++) {
        age_round(m, &passing, &held, most);
        for (size_t i = 0; i < nr && err == 0; i++) {
            uint64_t due = (round + 1) * list[i].nr_pages / config->aged;
            if (due <= list[i].placed)
                continue; /* a folio of the last part reached further */
            int64_t got = load_take(m, list[i].kind, due - list[i].placed, -1, NULL, list[i].nid,
                                    -1);
            if (got == -ENOMEM) { /* whoever comes and goes makes room for what is to stay */
                while (passing.nr > 0)
                    held -= forget_one(m, &passing);
                got = load_take(m, list[i].kind, due - list[i].placed, -1, NULL, list[i].nid, -1);
            }
            err = got < 0 ? (int)got : 0;
            list[i].placed += got > 0 ? (uint64_t)got : 0;
        }
    }
    while (passing.nr > 0)
        forget_one(m, &passing);
    free(passing.got);
    free(list);
    return err;
}

static int check_kinds(struct machine *m, const struct boot_use *list, size_t nr)
{
    for (size_t i = 0; i < nr; i++)
        if (kind_by_name(list[i].kind) < 0)
            return fail(m, -EINVAL, "no kind of page is called %s", list[i].kind);
    return 0;
}

int load_boot(struct machine *m, const struct machine_config *config)
{
    int err;

    if ((err = check_kinds(m, config->first_use, config->nr_first_use)) != 0 ||
        (err = check_kinds(m, config->idle, config->nr_idle)) != 0)
        return err;
    for (size_t i = 0; i < config->nr_first_use && i < NR_KINDS; i++)
        m->first_use[m->nr_first_use++] = (struct first_use){
            (unsigned)kind_by_name(config->first_use[i].kind), config->first_use[i].amount};
    if (total_managed(m) == 0)
        return 0;
    if (config->aged != 0)
        return load_aged(m, config);
    if (config->nr_load == 0)
        return config->nr_idle != 0 ? load_idle(m, config) : 0;
    for (size_t i = 0; i < config->nr_load; i++) {
        const struct boot_load *load = &config->load[i];
        int64_t got = load_take(m, load->kind, (load->bytes + m->page_bytes - 1) / m->page_bytes,
                                -1, NULL, load->nid, -1);
        if (got < 0)
            return (int)got;
    }
    return 0;
}

/* ---- the kernel begins to use a zone ---- */

/*
 * A kernel zone that has just got its first pages is where the kernel takes its next ones from, if
 * it is the highest one of a node with processors. When that is depends on what else the kernel
 * does, so a machine does so only if it is configured: KERNEL_USE_AFTER accesses to files later, or
 * sooner when slabs were given back for a block that goes offline (slub's MEM_GOING_OFFLINE).
 */
void load_expect_users(struct machine *m, struct zone *z)
{
    z->users_due = 0;
    if (!configured(m, CONFIG_KERNEL_USE_AFTER))
        return;
    for (int higher = (int)z->type + 1; higher <= ZONE_NORMAL; higher++)
        if (zone_populated(&m->nodes[z->nid].zones[higher]))
            return;
    if (z->type <= ZONE_NORMAL && m->nodes[z->nid].nr_cpus != 0)
        z->users_due = m->nr_accesses + (uint64_t)m->config[CONFIG_KERNEL_USE_AFTER];
}

static void take_first_pages(struct machine *m, struct zone *z)
{
    uint64_t pfn;

    for (size_t i = 0; i < m->nr_first_use; i++)
        for (uint64_t n = 0; n < m->first_use[i].nr_pages; n++)
            if (!buddy_alloc(m, z, 0, MT_UNMOVABLE, m->first_use[i].kind, true, &pfn))
                return;
}

void load_slabs_shrunk(struct machine *m)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = ZONE_DMA; type <= ZONE_NORMAL; type++) {
            struct zone *z = &m->nodes[nid].zones[type];
            if (z->users_due > m->nr_accesses)
                z->users_due = m->nr_accesses + 1;
        }
}

void load_first_users(struct machine *m)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = ZONE_DMA; type <= ZONE_NORMAL; type++) {
            struct zone *z = &m->nodes[nid].zones[type];
            if (z->users_due == 0 || m->nr_accesses < z->users_due)
                continue;
            z->users_due = 0;
            if (zone_populated(z))
                take_first_pages(m, z);
        }
}

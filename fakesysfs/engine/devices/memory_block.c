/*
 * memory_block.c - memory blocks: the devices memoryN and their state machine.
 *
 * Owns: which blocks exist, their state and online type, how a device is registered (uevents). Does
 * not own: adding and removing memory (add_memory.c), the files of a block (memory_block_files.c),
 * page frames and zones (memory_hotplug.c and below), DIMMs (acpi.c). Linux: drivers/base/memory.c,
 * drivers/base/core.c device_online().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

const char *const online_type_words[NR_ONLINE_TYPES] = {
    [TYPE_OFFLINE] = "offline",
    [TYPE_ONLINE] = "online",
    [TYPE_KERNEL] = "online_kernel",
    [TYPE_MOVABLE] = "online_movable",
};

int online_type_from_word(const char *buf)
{
    for (int type = 0; type < NR_ONLINE_TYPES; type++)
        if (sysfs_streq(buf, online_type_words[type]))
            return type;
    return -EINVAL;
}

struct memory_block *block_get(struct machine *m, uint64_t id)
{
    return radix_get(&m->blocks, id);
}

const char *block_path(const struct memory_block *b, char path[BLOCK_PATH_SIZE])
{
    snprintf(path, BLOCK_PATH_SIZE, "/devices/system/memory/memory%llu", (unsigned long long)b->id);
    return path;
}

uint64_t block_pfn(const struct machine *m, const struct memory_block *b)
{
    return b->id * m->block_pages;
}

struct memory_group *block_group(struct machine *m, const struct memory_block *b)
{
    return b->group >= 0 ? &m->groups[b->group] : NULL;
}

static void block_uevent(struct machine *m, const struct memory_block *b, const char *action)
{
    char path[BLOCK_PATH_SIZE];

    TRACE(m, "dev_uevent");
    uevent_add(m, action, block_path(b, path), "memory", NULL);
}

/* ---- the state machine ---- */

static int block_go_online(struct machine *m, struct memory_block *b)
{
    uint64_t start_pfn = block_pfn(m, b);

    if (has(m, F_online_poisoned_ehwpoison) && b->nr_poisoned != 0)
        return fail(m, -EHWPOISON, "memory%llu has %u poisoned pages", (unsigned long long)b->id,
                    b->nr_poisoned);
    struct zone *z;
    {
        TRACE(m, "zone_for_pfn_range");
        z = zone_for_range(m, b->online_type, b->nid, block_group(m, b), start_pfn, m->block_pages);
    }
    if (has(m, F_prepare_online_notifier))
        memory_notify(m); /* MEM_PREPARE_ONLINE */
    int err = online_pages(m, start_pfn, m->block_pages, z, block_group(m, b), b->nr_vmemmap);
    if (err == 0)
        b->zone = b->last_zone = z->index;
    return err;
}

/*
 * Linux: test_pages_in_a_zone(), until a block remembered its zone: the zone of the first page of
 * every largest chunk, NULL when they differ, or when one is beyond the end of the zone, as behind
 * RAM that ends within the block.
 */
static struct zone *zone_by_pages(struct machine *m, const struct memory_block *b)
{
    uint64_t start_pfn = block_pfn(m, b);
    struct zone *only = NULL;

    for (uint64_t pfn = start_pfn; pfn < start_pfn + m->block_pages; pfn += 1ull << m->max_order) {
        struct zone *z = zone_of(m, pfn);
        if (z == NULL)
            continue; /* its section is not there */
        if (only != NULL && (z != only || pfn >= only->end_pfn))
            return NULL;
        only = z;
    }
    return only;
}

/* The zone an online block is in, as this kernel finds it out; NULL: none, or several. */
struct zone *block_zone(struct machine *m, const struct memory_block *b)
{
    return has(m, F_valid_zones_cached) ? zone_by_index(m, b->zone) : zone_by_pages(m, b);
}

static int block_go_offline(struct machine *m, struct memory_block *b)
{
    /* What the pages say may be wrong about the last few of them; then a real kernel goes astray,
     * and we do not. */
    struct zone *z = block_zone(m, b) != NULL ? zone_by_index(m, b->zone) : NULL;

    if (z == NULL) {
        if (has(m, F_cancel_offline_always))
            memory_notify(m);
        return fail(m, -EINVAL, "memory%llu lies in more than one zone or node",
                    (unsigned long long)b->id);
    }
    uint64_t pfn = block_pfn(m, b);
    if (b->removable == 0 &&
        !has(m, F_removable_const)) { /* found so: then something is in it that cannot move */
        buddy_alloc_range(m, pfn, pfn + m->block_pages, 0, KIND_KERNEL, &pfn);
        b->removable = -1;
    }
    int err = offline_pages(m, block_pfn(m, b), m->block_pages, z, block_group(m, b));
    if (has(m, F_prepare_online_notifier) && err == 0)
        memory_notify(m); /* MEM_FINISH_OFFLINE */
    if (err == 0)
        b->zone = -1;
    return err;
}

/* The only place that writes b->state. Linux: memory_block_change_state(). */
static int block_change_state(struct machine *m, struct memory_block *b, enum block_state to,
                              enum block_state from)
{
    char path[BLOCK_PATH_SIZE];

    if (b->state != from)
        return fail(m, -EINVAL, "memory%llu is not %s", (unsigned long long)b->id,
                    from == BLOCK_ONLINE ? "online" : "offline");
    if (to == BLOCK_OFFLINE)
        b->state = BLOCK_GOING_OFFLINE;
    int err = to == BLOCK_ONLINE ? block_go_online(m, b) : block_go_offline(m, b);
    b->state = err == 0 ? to : from;
    b->removable = err == 0 ? -1 : b->removable;
    event_add(m, EVENT_STATE, err, block_path(b, path),
              err != 0 && m->task != NULL ? m->task->reason
              : to == BLOCK_ONLINE        ? "online"
                                          : "offline");
    return err;
}

static void block_set_busy(struct machine *m, struct memory_block *b, bool busy)
{
    b->busy = busy;
    if (!busy)
        pthread_cond_broadcast(&m->changed);
}

int block_online(struct machine *m, struct memory_block *b)
{
    int err;

    TRACE(m, "device_online");
    if (!b->dev_offline)
        return 1;
    block_set_busy(m, b, true);
    {
        TRACE(m, "memory_subsys_online");
        if (b->online_type == TYPE_OFFLINE)
            b->online_type = TYPE_ONLINE;
        err = block_change_state(m, b, BLOCK_ONLINE, BLOCK_OFFLINE);
        b->online_type = TYPE_OFFLINE; /* unset: the next `online` without a word decides anew */
    }
    if (err == 0) {
        block_uevent(m, b, "online");
        b->dev_offline = false;
    }
    block_set_busy(m, b, false);
    return err;
}

int block_offline(struct machine *m, struct memory_block *b)
{
    int err;

    TRACE(m, "device_offline");
    if (b->dev_offline)
        return 1;
    block_set_busy(m, b, true);
    {
        TRACE(m, "memory_subsys_offline");
        unsigned missing = 0;
        for (unsigned i = 0; i < m->sections_per_block && has(m, F_section_count_check); i++)
            missing += section_get(m, b->id * m->sections_per_block + i) == NULL;
        if (missing != 0)
            err = fail(m, -EINVAL, "memory%llu lacks %u sections", (unsigned long long)b->id,
                       missing);
        else
            err = block_change_state(m, b, BLOCK_OFFLINE, BLOCK_ONLINE);
    }
    if (err == 0) {
        block_uevent(m, b, "offline");
        b->dev_offline = true;
    }
    block_set_busy(m, b, false);
    return err;
}

/* ---- blocks come and go ---- */

struct memory_block *block_create(struct machine *m, uint64_t id, int nid)
{
    struct memory_block *b = xcalloc(m, 1, sizeof *b);

    *b = (struct memory_block){
        .id = id,
        .serial = ++m->block_serial,
        .state = BLOCK_OFFLINE,
        .online_type = TYPE_OFFLINE,
        .phys_device = m->increment_bytes != 0 ? (int)(id * m->block_bytes / m->increment_bytes)
                                               : 0,
        .dev_offline = true,
        .nid = (int16_t)nid,
        .second_nid = -1,
        .zone = -1,
        .last_zone = -1,
        .group = -1,
        .acpi_slot = -1,
        .removable = -1,
    };
    radix_set(m, &m->blocks, id, b);
    m->nr_memory_blocks++;
    m->nodes[nid].nr_blocks++;
    m->blocks_changed_us = m->clock_us;
    return b;
}

static void block_destroy(struct machine *m, struct memory_block *b)
{
    m->poisoned_pages -= b->nr_poisoned;
    radix_set(m, &m->blocks, b->id, NULL);
    m->nr_memory_blocks--;
    m->nodes[b->nid].nr_blocks--;
    if (b->second_nid >= 0)
        m->nodes[b->second_nid].nr_blocks--;
    m->blocks_changed_us = m->clock_us;
    free(b);
}

void block_destroy_all(struct machine *m)
{
    uint64_t id = 0;
    void *value;

    for (; radix_next(&m->blocks, id, &id, &value); id++)
        free(value);
    radix_free(&m->blocks);
}

/* Linux: add_memory_block() and what device_register() does for it. */
struct memory_block *block_register(struct machine *m, uint64_t id, int nid, int16_t group)
{
    TRACE(m, "add_memory_block");
    struct memory_block *b = block_create(m, id, nid);
    b->group = group;
    block_uevent(m, b, "add");
    return b;
}

void block_unregister(struct machine *m, struct memory_block *b)
{
    TRACE(m, "remove_memory_block");
    block_uevent(m, b, "remove");
    TRACE(m, "memory_block_release");
    block_destroy(m, b);
}

/* ---- a picture for people ---- */

uint64_t machine_block_bytes(const struct machine *m)
{
    return m->block_bytes;
}

static void block_count(struct machine *m, const struct memory_block *b, struct block_info *info)
{
    for (unsigned i = 0; i < m->sections_per_block; i++) {
        const struct section *s = section_get(m, b->id * m->sections_per_block + i);
        if (s == NULL || (s->state & SECTION_ONLINE) == 0)
            continue;
        info->present_pages += m->pages_per_section;
        for (uint64_t offset = 0; offset < m->pages_per_section;) {
            unsigned kind = s->map != NULL ? s->map[offset].kind : s->kind;
            uint64_t pages = s->map != NULL ? 1ull << s->map[offset].order : m->pages_per_section;
            unsigned mobility = kind_mobility(kind);
            info->present_pages -= kind == KIND_HOLE ? pages : 0;
            info->free_pages += mobility == MOBILITY_FREE ? pages : 0;
            info->movable_pages += mobility == MOBILITY_MOVABLE ? pages : 0;
            info->unmovable_pages += mobility == MOBILITY_UNMOVABLE || kind == KIND_RESERVED ? pages
                                                                                             : 0;
            offset += pages;
        }
    }
}

int64_t blocks_snapshot(struct machine *m, struct task *task, struct block_info **blocks)
{
    uint64_t id = 0;
    size_t nr = 0;
    void *value;

    machine_lock(m, task);
    struct block_info *list = calloc(m->nr_memory_blocks + 1, sizeof *list);
    int64_t ret = list == NULL ? no_host_memory(m) : 0;
    for (; list != NULL && radix_next(&m->blocks, id, &id, &value); id++) {
        const struct memory_block *b = value;
        list[nr] = (struct block_info){
            .id = b->id,
            .start = b->id * m->block_bytes,
            .state = b->state == BLOCK_ONLINE    ? "online"
                     : b->state == BLOCK_OFFLINE ? "offline"
                                                 : "going-offline",
            .zone = b->zone >= 0 ? zone_name(zone_by_index(m, b->zone)) : "none",
            .nid = b->nid,
        };
        block_count(m, b, &list[nr++]);
    }
    machine_unlock(m);
    *blocks = list;
    return ret == 0 ? (int64_t)nr : ret;
}

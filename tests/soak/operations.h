/*
 * operations.h - everything that can be done to a machine, chosen by a stream of bytes: what the
 * soak, the fuzzer and a test of t0 have in common.
 *
 * Owns: the choice and the arguments of operations, and what must hold after each, whether it
 * succeeded or not. The stream is random numbers or a fuzzer's input: each byte decides the next
 * question, and every stream means something. Does not own: what an operation should do (the tests
 * beside test_buddy.c, and model_buddy.py).
 */
#ifndef FAKESYSFS_OPERATIONS_H
#define FAKESYSFS_OPERATIONS_H

#include "machines.h"

/* Nobody waits for anything here: what the engine sleeps for a while costs nothing. */
int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    (void)wanted;
    (void)left;
    return 0;
}

/* ---- where decisions come from ---- */

struct source {
    const uint8_t *data; /* NULL: random numbers */
    size_t left;
    uint64_t state;
};

/* A number below `limit`, at most 256. */
static unsigned choose(struct source *s, unsigned limit)
{
    if (s->data != NULL) {
        if (s->left == 0)
            return 0;
        s->left--;
        return *s->data++ % limit;
    }
    uint64_t z = (s->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (unsigned)((z ^ (z >> 31)) % limit);
}

static bool exhausted(const struct source *s)
{
    return s->data != NULL && s->left == 0;
}

/* ---- a machine and what is done to it ---- */

/* clang-format off */
#define OPERATIONS(X) \
    X(online) X(online_file) X(offline) X(offline_file) X(probe) X(add) \
    X(remove) X(plug) X(unplug) X(allocate) X(allocate_in_zone) X(allocate_in_block) \
    X(free) X(free_page) X(pin) X(unpin) X(soft_offline) X(hard_offline) \
    X(fault) X(mend) X(inject) X(auto_online) X(parameter) X(read) \
    X(resize) X(drive)
/* clang-format on */

enum operation {
#define X(name) OP_##name,
    OPERATIONS(X)
#undef X
        NR_OPERATIONS
};

static const char *const operation_names[] = {
#define X(name) #name,
    OPERATIONS(X)
#undef X
};

/* How often each comes; what wears a machine out is rare. */
static const uint8_t weights[NR_OPERATIONS] = {
    [OP_online] = 8,
    [OP_online_file] = 3,
    [OP_offline] = 14,
    [OP_offline_file] = 3,
    [OP_probe] = 4,
    [OP_add] = 6,
    [OP_remove] = 8,
    [OP_plug] = 6,
    [OP_unplug] = 8,
    [OP_allocate] = 12,
    [OP_allocate_in_zone] = 5,
    [OP_allocate_in_block] = 5,
    [OP_free] = 14,
    [OP_free_page] = 5,
    [OP_pin] = 4,
    [OP_unpin] = 6,
    [OP_soft_offline] = 1,
    [OP_hard_offline] = 1,
    [OP_fault] = 5,
    [OP_mend] = 5,
    [OP_inject] = 2,
    [OP_auto_online] = 2,
    [OP_parameter] = 2,
    [OP_read] = 1,
    [OP_resize] = 5,
    [OP_drive] = 2,
};

static enum operation choose_operation(struct source *s)
{
    unsigned sum = 0, op = 0;

    for (unsigned i = 0; i < NR_OPERATIONS; i++)
        sum += weights[i];
    for (unsigned at = choose(s, sum); at >= weights[op]; op++)
        at -= weights[op];
    return (enum operation)op;
}

enum { NR_SLOTS = 4, SLOT_BLOCKS = 4, FREE_BLOCKS = 8, VIRTIO_MEM_BLOCKS = 4 };

struct driver {
    struct machine *m;
    const struct shape *shape;
    struct source *source;
    struct task task;
    uint64_t done[NR_OPERATIONS], succeeded[NR_OPERATIONS];
    char last[160]; /* the last operation, in words */
};

/* A signal arrives when it has been asked for this often. */
static _Thread_local int polls_left;

static int signal_arrives(void)
{
    return polls_left-- <= 0;
}

static const struct shape *const driver_shapes[] = {&toy,   &toy_nodes, &toy_wide, &toy_holes,
                                                    &ppc64, &arm64,     &x86};
static struct source *tweak_source;

/* Boot options at random; kernelcore and movablecore in small parts of the toys' 16 MiB. */
static void driver_tweak(struct machine_config *config)
{
    static const char *const words[] = {"", "online", "offline", "online_movable", "online_kernel"};

    config->seed = choose(tweak_source, 256);
    config->memhp_default_state = words[choose(tweak_source, 5)];
    config->online_policy = choose(tweak_source, 2) ? "auto-movable" : "contig-zones";
    config->memmap_on_memory = choose(tweak_source, 3);
    config->movable_node = choose(tweak_source, 2);
    config->config[CONFIG_KERNEL_USE_AFTER] = 8 * (int64_t)choose(tweak_source, 2);
    switch (choose(tweak_source, 6)) {
    case 0:
        config->kernelcore = (uint64_t)(choose(tweak_source, 16) + 2) << 20;
        break;
    case 1:
        config->movablecore_percent = choose(tweak_source, 60);
        break;
    case 2:
        config->nr_load = 0; /* the idle load of a machine that has booted */
        break;
    case 3:
        config->nr_load = 0;
        config->aged = choose(tweak_source, 4);
        break;
    default:
        break;
    }
}

static void driver_start(struct driver *d, struct source *source, unsigned shape)
{
    const struct kernel *const kernels[] = {KERNEL(6_1), KERNEL(5_0), KERNEL(6_18), KERNEL(5_10)};

    memset(d, 0, sizeof *d);
    d->source = tweak_source = source;
    d->shape = driver_shapes[shape];
    d->task = (struct task){.capable = true, .interrupted = signal_arrives};
    d->m = machine_make(d->shape, kernels[choose(source, 4)], driver_tweak);
}

static void driver_stop(struct driver *d)
{
    note_machine(d->m, NULL);
    machine_destroy(d->m);
}

/* ---- choices ---- */

static const char *choose_kind(struct driver *d)
{
    static const char *const kinds[] = {
        "anon",    "file",         "shmem",  "anon",       "hugetlb",
        "hugetlb", "slab",         "pinned", "pagetables", "slab_reclaimable",
        "kernel",  "kernel_stack", "offline"};
    static const char *const wrong[] = {"memmap", "free", "reserved", "nonsense"};
    unsigned which = choose(d->source, 128);

    return which < 4 ? wrong[which] : kinds[which % (sizeof kinds / sizeof *kinds)];
}

/* A block: of those that were plugged two times of three, else any. A number that is none if there
 * is no such block. */
static uint64_t choose_block(struct driver *d)
{
    unsigned which = choose(d->source, 256);
    uint64_t from = which % 3 != 0 ? d->shape->hotplug_base / d->m->block_bytes : 0, id = from;
    void *value;

    for (unsigned skip = which / 3 % (from == 0 ? 32 : 12) + 1; skip > 0; skip--) {
        if (!radix_next(&d->m->blocks, from, &from, &value))
            break; /* the last one, then */
        id = from++;
    }
    return id;
}

static uint64_t choose_page(struct driver *d)
{
    uint64_t block = choose_block(d), part = choose(d->source, 256);

    return block * d->m->block_pages + (part * d->m->block_pages >> 8) + choose(d->source, 4);
}

static uint64_t slot_base(const struct driver *d, unsigned slot)
{
    return d->shape->hotplug_base + (FREE_BLOCKS + 4 + slot * SLOT_BLOCKS) * d->m->block_bytes;
}

/* Memory that is plugged by address: a few blocks from hotplug_base on. The slots' memory comes
 * behind, and then that of the virtio-mem device, in whose last block there may be somebody else's.
 */
static uint64_t choose_address(struct driver *d)
{
    unsigned which = choose(d->source, 128);

    if (which < 4)
        return slot_base(d, NR_SLOTS) + (VIRTIO_MEM_BLOCKS - 1) * d->m->block_bytes;
    return d->shape->hotplug_base + which % FREE_BLOCKS * d->m->block_bytes;
}

static int words(struct driver *d, const char *path, const char *word)
{
    snprintf(d->last, sizeof d->last, "%s <- %s", path, word);
    return store_as(d->m, &d->task, path, word);
}

static int block_words(struct driver *d, const char *file, const char *word)
{
    char path[64];

    snprintf(path, sizeof path, "memory%llu/%s", (unsigned long long)choose_block(d), file);
    return words(d, path, word);
}

/* ---- operations ---- */

static int do_remove(struct driver *d)
{
    uint64_t start = choose_block(d) * d->m->block_bytes, nr = 1 + choose(d->source, 3);

    for (uint64_t i = 0; i < nr; i++) {
        const struct memory_block *b = block_get(d->m, start / d->m->block_bytes + i);
        if (b == NULL || b->acpi_slot >= 0 ||
            (b->state != BLOCK_OFFLINE && !has(d->m, F_remove_online_ebusy)))
            return -ENOENT; /* the kernel would warn, and be tainted: now, or when the DIMM is
                               unplugged */
    }
    snprintf(d->last, sizeof d->last, "remove 0x%llx, %llu blocks", (unsigned long long)start,
             (unsigned long long)nr);
    return memory_remove(d->m, &d->task, start, nr * d->m->block_bytes);
}

static int do_add(struct driver *d)
{
    uint64_t start = choose_address(d), size = (1 + choose(d->source, 3)) * d->m->block_bytes;
    int nid = (int)choose(d->source, d->m->possible_nodes + 1) - (choose(d->source, 32) == 0);

    if (choose(d->source, 16) == 0)
        size += d->m->page_bytes; /* not a whole block */
    snprintf(d->last, sizeof d->last, "add 0x%llx, 0x%llx to node %d", (unsigned long long)start,
             (unsigned long long)size, nid);
    return memory_add(d->m, &d->task, nid, start, size);
}

static int do_plug(struct driver *d)
{
    unsigned slot = choose(d->source, NR_SLOTS);
    uint64_t size = (1 + choose(d->source, SLOT_BLOCKS)) * d->m->block_bytes;

    if (choose(d->source, 16) == 0)
        size -= d->m->page_bytes; /* a DIMM that no driver will take */
    snprintf(d->last, sizeof d->last, "plug slot %u, 0x%llx", slot, (unsigned long long)size);
    return acpi_device_check(d->m, &d->task, slot, (int)choose(d->source, d->m->possible_nodes),
                             slot_base(d, slot), size);
}

static int do_unplug(struct driver *d)
{
    unsigned slot = choose(d->source, NR_SLOTS);

    snprintf(d->last, sizeof d->last, "unplug slot %u", slot);
    int ret = acpi_eject_request(d->m, &d->task, slot);
    return ret > 0 ? -EBUSY : ret;
}

/* One virtio-mem device behind the slots: the host wants another size of it, or its driver tries
 * once more. */
static int do_virtio_mem(struct driver *d, bool resize)
{
    const unsigned blocks = VIRTIO_MEM_BLOCKS;
    uint64_t region = blocks * d->m->block_bytes, unit = d->m->page_bytes << d->m->pageblock_order;
    uint64_t size = choose(d->source, 2) ? choose(d->source, blocks + 1) * d->m->block_bytes
                                         : choose(d->source, 32) * unit;

    snprintf(d->last, sizeof d->last, "%s virtio-mem, 0x%llx", resize ? "resize" : "drive",
             (unsigned long long)size);
    if (d->m->nr_vmems == 0) {
        int ret = virtio_mem_probe(d->m, &d->task, (int)choose(d->source, d->m->possible_nodes),
                                   slot_base(d, NR_SLOTS), region,
                                   choose(d->source, 4) == 0 ? 2 * d->m->block_bytes : unit);
        if (ret < 0)
            return ret;
    }
    int err = resize ? virtio_mem_request(d->m, &d->task, 0, size < region ? size : region, region)
                     : 0;
    return err != 0 ? err : virtio_mem_work(d->m, &d->task, 0);
}

static int do_allocate(struct driver *d, const char *zone, int64_t block)
{
    const char *kind = choose_kind(d);
    int order = (int)choose(d->source, d->m->max_order + 3) - 1,
        nid = (int)choose(d->source, 12) - 8;
    unsigned nr = choose(d->source, 64);

    nid = nid < -1 ? -1 : nid;

    nr = nr >= 62 ? nr * 16 : nr / 2;
    order = order > (int)d->m->max_order || choose(d->source, 2) ? -1 : order;
    snprintf(d->last, sizeof d->last, "allocate %u %s, order %d, zone %s, node %d, block %lld", nr,
             kind, order, zone != NULL ? zone : "-", nid, (long long)block);
    return (int)load_allocate(d->m, &d->task, kind, nr, order, zone, nid, block);
}

static int do_free(struct driver *d)
{
    const char *kind = choose_kind(d);
    unsigned nr = choose(d->source, 48);

    snprintf(d->last, sizeof d->last, "free %u %s", nr, kind);
    return (int)load_free(d->m, &d->task, kind, nr,
                          (int)choose(d->source, d->m->possible_nodes + 1) - 1);
}

static int do_page(struct driver *d, enum operation op)
{
    uint64_t pfn = choose_page(d);

    snprintf(d->last, sizeof d->last, "%s page 0x%llx", operation_names[op],
             (unsigned long long)pfn);
    if (op == OP_free_page)
        return page_free_at(d->m, &d->task, pfn);
    if (op == OP_pin || op == OP_unpin)
        return page_pin(d->m, &d->task, pfn, op == OP_pin ? 1 : -1);
    char address[32];
    snprintf(address, sizeof address, "0x%llx", (unsigned long long)pfn << d->m->page_shift);
    return store_as(d->m, &d->task,
                    op == OP_soft_offline ? "soft_offline_page" : "hard_offline_page", address);
}

static int do_fault(struct driver *d)
{
    static const int errors[] = {-ENOMEM, -EBUSY, -EINVAL, -EIO, 0};
    const char *const *names;
    size_t nr = fault_points(&names);
    const char *point = names[choose(d->source, (unsigned)nr)];
    unsigned nth = 1 + choose(d->source, 8), times = 1 + choose(d->source, 12);

    snprintf(d->last, sizeof d->last, "fault %s, nth %u, %u times", point, nth, times);
    return fault_set(d->m, &d->task, point, errors[choose(d->source, 5)], nth, times);
}

static int do_inject(struct driver *d)
{
    static const char *const files[] = {"MEM_GOING_ONLINE", "MEM_GOING_OFFLINE"};
    char path[128];

    snprintf(path, sizeof path, "/sys/kernel/debug/notifier-error-inject/memory/actions/%s/error",
             files[choose(d->source, 2)]);
    return words(d, path, choose(d->source, 8) == 0 ? "-12" : "0");
}

static int do_parameter(struct driver *d)
{
    static const char *const settings[][2] = {
        {"online_policy", "auto-movable"}, {"online_policy", "contig-zones"},
        {"auto_movable_ratio", "100"},     {"auto_movable_ratio", "301"},
        {"auto_movable_numa_aware", "0"},  {"auto_movable_numa_aware", "1"}};
    unsigned which = choose(d->source, 6);
    char path[128];

    snprintf(path, sizeof path, "/sys/module/memory_hotplug/parameters/%s", settings[which][0]);
    return words(d, path, settings[which][1]);
}

static int do_read(struct driver *d)
{
    struct event *events;
    struct block_info *blocks;
    size_t size;

    snprintf(d->last, sizeof d->last, "read everything");
    free(snapshot(d->m));
    free(klog_text(d->m, 0, &size));
    free(trace_text(d->m, 0, UINT64_MAX, false, &size));
    blocks_snapshot(d->m, NULL, &blocks);
    free(blocks);
    size = events_take(d->m, &events);
    for (size_t i = 0; i < size; i++)
        event_free(&events[i]);
    free(events);
    return 0;
}

static int do_operation(struct driver *d, enum operation op)
{
    static const char *const online_words[] = {"online_movable", "online", "online_kernel",
                                               "online_movable"};
    static const char *const zones[] = {"Normal",  "Movable", "Normal", "Movable",
                                        "Movable", "DMA",     "DMA32",  "Device"};

    switch (op) {
    case OP_online:
        return block_words(d, "state", online_words[choose(d->source, 4)]);
    case OP_online_file:
        return block_words(d, "online", "1");
    case OP_offline:
        return block_words(d, "state", "offline");
    case OP_offline_file:
        return block_words(d, "online", "0");
    case OP_probe: {
        char address[32];
        snprintf(address, sizeof address, "0x%llx", (unsigned long long)choose_address(d));
        return words(d, "probe", address);
    }
    case OP_add:
        return do_add(d);
    case OP_remove:
        return do_remove(d);
    case OP_plug:
        return do_plug(d);
    case OP_unplug:
        return do_unplug(d);
    case OP_allocate:
        return do_allocate(d, NULL, -1);
    case OP_allocate_in_zone:
        return do_allocate(d, zones[choose(d->source, 8)], -1);
    case OP_allocate_in_block:
        return do_allocate(d, NULL, (int64_t)choose_block(d));
    case OP_free:
        return do_free(d);
    case OP_free_page:
    case OP_pin:
    case OP_unpin:
    case OP_soft_offline:
    case OP_hard_offline:
        return do_page(d, op);
    case OP_fault:
        return do_fault(d);
    case OP_mend:
        snprintf(d->last, sizeof d->last, "mend");
        fault_clear(d->m);
        return 0;
    case OP_inject:
        return do_inject(d);
    case OP_auto_online:
        return words(d, "auto_online_blocks",
                     choose(d->source, 2) ? "offline" : online_words[choose(d->source, 4)]);
    case OP_parameter:
        return do_parameter(d);
    case OP_resize:
    case OP_drive:
        return do_virtio_mem(d, op == OP_resize);
    default:
        return do_read(d);
    }
}

/* ---- what must hold ---- */

struct totals { /* that an operation which failed leaves as they were */
    uint64_t present, managed, blocks, direct_map, hugetlb;
};

static struct totals count_totals(const struct machine *m)
{
    struct totals t = {.blocks = m->nr_memory_blocks,
                       .direct_map = m->direct_map_4k + m->direct_map_2m + m->direct_map_1g};

    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++) {
            t.present += m->nodes[nid].zones[type].present;
            t.managed += m->nodes[nid].zones[type].managed;
        }
    return t;
}

/* What is true between any two operations; NULL, or what is not. */
static const char *between_operations(const struct machine *m)
{
    if (m->hotplug_held)
        return "the hotplug lock is held";
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (int type = 0; type < NR_ZONES; type++) {
            const struct zone *z = &m->nodes[nid].zones[type];
            if (z->nr_isolated_blocks != 0 || z->isolated_free != 0)
                return "pageblocks are isolated";
            if (z->pcp_disabled != 0)
                return "per-CPU lists are off";
        }
    return NULL;
}

/* Does the next operation. NULL, or what is wrong afterwards. An eject that fails may leave blocks
 * offline that it could not bring back, and virtio-mem gets as far as it can, so only the memory of
 * others is counted. */
static const char *driver_step(struct driver *d)
{
    enum operation op = choose_operation(d->source);
    struct totals before = count_totals(d->m);
    struct task task = {.capable = true};

    polls_left = (int)choose(d->source, 4) + 1;
    snprintf(d->last, sizeof d->last, "%s", operation_names[op]);
    int ret = do_operation(d, op);
    d->done[op]++;
    d->succeeded[op] += ret >= 0;
    struct totals after = count_totals(d->m);
    bool by_parts = op == OP_unplug || op == OP_resize || op == OP_drive;
    if (op == OP_probe || op == OP_add || op == OP_plug) { /* an addition breaks off where it is */
        before.direct_map = after.direct_map;
        before.blocks = d->m->feature[F_block_devices_after_add] ? before.blocks : after.blocks;
    }
    if (ret < 0 && !by_parts && memcmp(&before, &after, sizeof before) != 0)
        return "an operation that failed has changed the amount of memory";
    if (ret < 0 && d->task.reason[0] == '\0' && ret != -ENOENT && ret != -EACCES && ret != -ENODEV)
        return "an operation that failed says no reason";
    const char *wrong = between_operations(d->m);
    if (wrong == NULL && machine_check(d->m, &task) != 0) {
        static char text[sizeof task.reason];
        snprintf(text, sizeof text, "%s", task.reason);
        wrong = text;
    }
    return wrong;
}

#endif

/*
 * test_undo.c - failure leaves no trace: every fault point of fault.c fails on every pass of every
 * operation that comes by it, and afterwards all files say what they said before.
 *
 * Owns: that no point is forgotten, and that undoing is complete. What the errors are called is
 * tested elsewhere.
 */
#include "base/fault.c"

#include "machines.h"
#include "testhelper.h"

static const uint64_t MIB = 1 << 20;

/* Blocks 32 and 36 are online in Movable, the memory between them belongs to whoever wants it: zone
 * spans reach around what a test does, which is what lets the oldest kernel take part (it does not
 * shrink them when onlining fails). */
static struct machine *prepare(const struct shape *shape, const struct kernel *kernel)
{
    struct machine *m = machine_make(shape, kernel, NULL);
    uint64_t base = shape->hotplug_base, block = m->block_bytes;
    char path[64];

    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(memory_add(m, &test_task, 0, base + 4 * i * block, block), 0);
        snprintf(path, sizeof path, "memory%llu/state", (unsigned long long)(base / block + 4 * i));
        CHECK_EQ(store(m, path, "online_movable"), 0);
    }
    return m;
}

/* ---- operations; each finds and leaves the machine as prepare() made it, but for what is said
 * ---- */

static uint64_t first_block(const struct machine *m, const struct shape *shape)
{
    return shape->hotplug_base / m->block_bytes;
}

static int looks_left;

static int signal_arrives(void)
{
    return looks_left-- <= 0;
}

static struct task hurried = {.capable = true, .interrupted = signal_arrives};

static int set_state(struct machine *m, uint64_t block, const char *word)
{
    char path[64];

    looks_left = 2;
    snprintf(path, sizeof path, "memory%llu/state", (unsigned long long)block);
    return store_as(m, &hurried, path, word);
}

static int add_two(struct machine *m, const struct shape *shape)
{
    return memory_add(m, &test_task, 0, shape->hotplug_base + m->block_bytes, 2 * m->block_bytes);
}

static int remove_two(struct machine *m, const struct shape *shape)
{
    return memory_remove(m, &test_task, shape->hotplug_base + m->block_bytes, 2 * m->block_bytes);
}

static int add_to_new_node(struct machine *m, const struct shape *shape)
{
    return memory_add(m, &test_task, (int)shape->nr_nodes - 1, shape->hotplug_base + m->block_bytes,
                      m->block_bytes);
}

static int remove_one(struct machine *m, const struct shape *shape)
{
    return memory_remove(m, &test_task, shape->hotplug_base + m->block_bytes, m->block_bytes);
}

static int plug(struct machine *m, const struct shape *shape)
{
    int ret = acpi_device_check(m, &test_task, 0, 0, shape->hotplug_base + m->block_bytes,
                                2 * m->block_bytes);

    return block_get(m, first_block(m, shape) + 1) != NULL
               ? ret
               : -EIO; /* Linux calls it a success all the same */
}

static int eject(struct machine *m, const struct shape *shape)
{
    (void)shape;
    looks_left = 2;
    int ret = acpi_eject_request(m, &hurried, 0);
    return ret > 0 ? -EBUSY : ret;
}

static int plug_and_use(struct machine *m, const struct shape *shape)
{
    int err = plug(m, shape);

    for (uint64_t i = 1; i < 3 && err == 0; i++)
        err = set_state(m, first_block(m, shape) + i, "online_movable");
    return err;
}

static int online(struct machine *m, const struct shape *shape)
{
    return set_state(m, first_block(m, shape) + 1, "online_movable");
}

static int offline(struct machine *m, const struct shape *shape)
{
    return set_state(m, first_block(m, shape) + 1, "offline");
}

static int add_and_use(struct machine *m, const struct shape *shape)
{
    int err = add_two(m, shape);

    return err != 0 ? err : online(m, shape);
}

static int stop_and_remove(struct machine *m, const struct shape *shape)
{
    int err = offline(m, shape);

    return err != 0 ? err : remove_two(m, shape);
}

/* Some of the block's pages are used: it is detailed, so that its pageblocks are isolated one by
 * one. */
static int add_and_fill(struct machine *m, const struct shape *shape)
{
    int err = add_and_use(m, shape);

    if (err == 0 && take_in(m, "anon", 3, 0, (int64_t)first_block(m, shape) + 1) != 3)
        err = -ENOMEM;
    if (err == 0 && m->pageblocks_per_section > 1 &&
        take_in(m, "hugetlb", m->pageblock_pages, -1, (int64_t)first_block(m, shape) + 1) < 0)
        err = -ENOMEM;
    return err;
}

/* It is offline: the pages have moved, the huge page is gone. */
static int empty_and_remove(struct machine *m, const struct shape *shape)
{
    return load_free(m, &test_task, "anon", 3, -1) == 3 ? remove_two(m, shape) : -EINVAL;
}

/* Own memmap: it is laid out when the block goes online. */
static int plug_with_own_memmap(struct machine *m, const struct shape *shape)
{
    m->memmap_on_memory = 2;
    int err = acpi_device_check(m, &test_task, 0, 0, shape->hotplug_base + m->block_bytes,
                                m->block_bytes);
    m->memmap_on_memory = 0;
    return err;
}

/* A virtio-mem device between the two blocks, found once. Its size is told in what it plugs at a
 * time. */
static int want_units(struct machine *m, const struct shape *shape, uint64_t units)
{
    uint64_t base = shape->hotplug_base + m->block_bytes, bytes = 3 * m->block_bytes;

    if (m->nr_vmems == 0 &&
        virtio_mem_probe(m, &test_task, 0, base, bytes, m->page_bytes << m->pageblock_order) != 0)
        return -ENODEV;
    int err = virtio_mem_request(m, &test_task, 0, units * m->vmems[0]->unit_bytes, bytes);
    return err != 0 ? err : virtio_mem_work(m, &test_task, 0);
}

static int want_none(struct machine *m, const struct shape *shape)
{
    return want_units(m, shape, 0);
}

static int want_one(struct machine *m, const struct shape *shape)
{
    return want_units(m, shape, 1);
}

static int want_two_online(struct machine *m, const struct shape *shape)
{
    int err = want_units(m, shape, 2);

    for (uint64_t id = first_block(m, shape) + 1;
         err == 0 && block_get(m, id) != NULL && id < first_block(m, shape) + 4; id++)
        if (block_get(m, id)->state == BLOCK_OFFLINE)
            err = set_state(m, id, "online_movable");
    return err;
}

struct scenario {
    const char *name;
    int (*before)(struct machine *m, const struct shape *shape); /* NULL: nothing */
    int (*tested)(struct machine *m, const struct shape *shape);
    int (*after)(struct machine *m,
                 const struct shape *shape); /* when `tested` has succeeded in the end */
    const char *points[8];
    bool new_node, own_memmap, virtio_mem;
};

static const struct scenario scenarios[] = {
    {"add",
     NULL,
     add_two,
     remove_two,
     {"range_add/resource", "range_add/section", "range_add/memmap", "memory_add/node",
      "memory_add/block"},
     false,
     false,
     false},
    {"add to a new node",
     NULL,
     add_to_new_node,
     remove_one,
     {"range_add/resource", "range_add/section", "range_add/memmap", "memory_add/node",
      "memory_add/block"},
     true,
     false,
     false},
    {"plug",
     NULL,
     plug,
     eject,
     {"range_add/resource", "range_add/section", "range_add/memmap", "memory_add/node",
      "memory_add/block"},
     false,
     false,
     false},
    {"online", add_two, online, stop_and_remove, {"online/notifier"}, false, false, false},
    {"online with its own memmap",
     plug_with_own_memmap,
     online,
     eject,
     {"online/memmap", "online/notifier"},
     false,
     true,
     false},
    {"offline",
     add_and_use,
     offline,
     remove_two,
     {"offline/isolate", "offline/notifier", "offline/dissolve"},
     false,
     false,
     false},
    {"offline, used",
     add_and_fill,
     offline,
     empty_and_remove,
     {"offline/isolate", "offline/pageblock", "offline/notifier", "migrate/alloc", "migrate/move"},
     false,
     false,
     false},
    {"virtio-mem plugs",
     want_none,
     want_one,
     want_none,
     {"virtio_mem/plug", "range_add/resource", "range_add/section", "range_add/memmap",
      "memory_add/node", "memory_add/block"},
     false,
     false,
     true},
    {"virtio-mem unplugs",
     want_two_online,
     want_one,
     want_none,
     {"virtio_mem/contig", "virtio_mem/unplug"},
     false,
     false,
     true},
    {"eject",
     plug_and_use,
     eject,
     NULL,
     {"offline/isolate", "offline/notifier", "offline/dissolve"},
     false,
     false,
     false},
};
enum { NR_SCENARIOS = sizeof scenarios / sizeof *scenarios };

static const struct kernel *const *all_kernels(unsigned *nr)
{
    static const struct kernel kernels[] = {
        {"5.0", kernel_5_0}, {"5.10", kernel_5_10}, {"6.1", kernel_6_1}, {"6.18", kernel_6_18}};
    static const struct kernel *list[] = {&kernels[0], &kernels[1], &kernels[2], &kernels[3]};

    *nr = 4;
    return list;
}

static bool is_migration(const char *point)
{
    return strncmp(point, "migrate/", 8) == 0;
}

/* Where a loop would go on with the next page, or with a smaller piece, all of them must fail. */
static uint64_t times_of(const char *point)
{
    bool tried_again = strcmp(point, "range_add/memmap") == 0 ||
                       strcmp(point, "virtio_mem/contig") == 0;

    return is_migration(point) || tried_again ? 1000000 : 1;
}

/* The oldest kernels leave pages on CPUs' lists when they go online, and take them back at any
 * attempt to go offline. */
static char *settled(struct machine *m)
{
    for (int type = 0; type < NR_ZONES; type++)
        buddy_drain(m, zone_at(m, 0, (enum zone_type)type));
    return snapshot(m);
}

/* An addition that fails breaks off: sections before the one that failed stay, in old kernels with
 * their blocks, and all of it in the direct map. Take that back, as if it had been removed, to see
 * that nothing else is left. */
static void take_back(struct machine *m, const struct shape *shape, const char *point)
{
    uint64_t id = first_block(m, shape) + 1;

    if (strncmp(point, "range_add/", 10) != 0 &&
        (strcmp(point, "memory_add/block") != 0 || has(m, F_block_devices_after_add)))
        return;
    for (uint64_t end = id + 3; id < end; id++) {
        machine_lock(m, &test_task);
        if (block_get(m, id) == NULL)
            range_remove(m, id * m->block_bytes, m->block_bytes);
        machine_unlock(m);
        if (block_get(m, id) != NULL && m->nr_vmems == 0)
            CHECK_EQ(memory_remove(m, &test_task, id * m->block_bytes, m->block_bytes), 0);
    }
}

/* One point fails on its nth pass; false: the operation succeeded, there is no such pass. */
static bool fails(struct machine *m, const struct shape *shape, const struct scenario *s,
                  const char *point, uint64_t nth)
{
    char *before = settled(m);

    CHECK_EQ(fault_set(m, &test_task, point, -ENOMEM, nth, times_of(point)), 0);
    int ret = s->tested(m, shape);
    fault_clear(m);
    if (!machine_sound(m))
        TEST_FAIL("%s, kernel %s, %s: %s, pass %u", shape->name, m->release, s->name, point,
                  (unsigned)nth);
    /* A block that came and goes as a whole has left Linux before the host is asked; it is asked
     * again the next time. */
    bool gone = ret < 0 && strcmp(point, "virtio_mem/unplug") == 0 &&
                m->vmems[0]->count[VMEM_PLUGGED] != 0;
    CHECK(!gone || m->vmems[0]->big);
    if (ret < 0)
        take_back(m, shape, point);
    if (ret < 0 && !gone) {
        char *after = settled(m);
        if (!same_text(before, after))
            TEST_FAIL("%s, kernel %s, %s: %s, pass %u", shape->name, m->release, s->name, point,
                      (unsigned)nth);
        free(after);
    }
    free(before);
    return ret < 0;
}

static void walk(const struct shape *shape, const struct kernel *kernel, const struct scenario *s,
                 uint64_t hits[])
{
    struct machine *m = prepare(shape, kernel);
    bool has_own = !s->own_memmap ||
                   (has(m, F_memmap_on_memory) && (shape == &toy || shape == &toy_nodes));

    if ((s->new_node && shape->nr_nodes < 3) || !has_own ||
        (s->virtio_mem && !has(m, F_virtio_mem))) {
        machine_finish(m);
        return;
    }
    /* Once with success: pageblocks that kernel pages claim stay claimed. */
    CHECK(s->before == NULL || s->before(m, shape) == 0);
    CHECK_EQ(s->tested(m, shape), 0);
    CHECK(s->after == NULL || s->after(m, shape) == 0);
    CHECK(s->before == NULL || s->before(m, shape) == 0);
    for (unsigned i = 0; i < 8 && s->points[i] != NULL; i++) {
        uint64_t nth = 1;
        while (fails(m, shape, s, s->points[i], nth) && !is_migration(s->points[i]))
            nth++;
        if (is_migration(
                s->points[i])) /* from the second page on, what has moved stays where it is */
            CHECK_EQ(s->tested(m, shape), 0);
        hits[i] += nth - (is_migration(s->points[i]) ? 0 : 1);
        /* It succeeded at last: back to the beginning. */
        CHECK(s->after == NULL || s->after(m, shape) == 0);
        CHECK(s->before == NULL || s->before(m, shape) == 0);
    }
    machine_finish(m);
}

/* Every point has failed somewhere, and fault.c has no point that is in no scenario. */
static void walk_all(const struct shape *shape, bool walked[NR_POINTS])
{
    unsigned nr_kernels;
    const struct kernel *const *kernels = all_kernels(&nr_kernels);

    for (unsigned i = 0; i < NR_SCENARIOS; i++) {
        uint64_t hits[8] = {0};
        for (unsigned k = 0; k < nr_kernels; k++)
            walk(shape, kernels[k], &scenarios[i], hits);
        for (unsigned p = 0; p < 8 && scenarios[i].points[p] != NULL; p++)
            for (unsigned n = 0; n < NR_POINTS; n++)
                if (hits[p] != 0 && strcmp(points[n], scenarios[i].points[p]) == 0)
                    walked[n] = true;
    }
}

TEST(every_undo_of_a_toy)
{
    bool walked[NR_POINTS] = {false};

    walk_all(&toy, walked);
    walk_all(&toy_nodes, walked);
    for (unsigned n = 0; n < NR_POINTS; n++)
        if (!walked[n])
            TEST_FAIL("nothing fails at %s", points[n]);
}

TEST(every_undo_of_wide_blocks)
{
    bool walked[NR_POINTS] = {false};

    walk_all(&toy_wide, walked);
}

TEST(every_undo_of_real_sizes)
{
    bool walked[NR_POINTS] = {false};

    walk_all(&ppc64, walked);
    walk_all(&arm64, walked);
}

/* ---- the points themselves ---- */

TEST(points_fire_as_told)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    CHECK_EQ(fault_set(m, &test_task, "offline/nonsense", -ENOMEM, 1, 1), -ENOENT);
    CHECK_EQ(fault_set(m, &test_task, "offline/isolate", 5, 1, 1), -EINVAL);
    CHECK_EQ(fault_set(m, &test_task, "offline/isolate", -5000, 1, 1), -EINVAL);
    CHECK_EQ(fault_set(m, &test_task, "offline/isolate", -EIO, 2, 2), 0);
    CHECK_EQ(block_store(m, 3, "offline"), 0);
    CHECK_EQ(block_store(m, 4, "offline"), -EIO);
    CHECK_STR(test_task.reason, "fault injected at offline/isolate");
    CHECK_EQ(block_store(m, 4, "offline"), -EIO);
    CHECK_EQ(block_store(m, 4, "offline"), 0);
    CHECK_EQ(fault_hits(m, "offline/isolate"), 4);
    CHECK_EQ(fault_hits(m, "nonsense"), 0);
    CHECK_EQ(fault_set(m, &test_task, "offline/isolate", -EIO, 1, 100), 0);
    fault_clear(m);
    CHECK_EQ(block_store(m, 5, "offline"), 0);
    machine_finish(m);
}

/* ---- loads that do not fit ---- */

/* Whatever was got is given back, whole sections too. */
TEST(a_load_that_does_not_fit)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    char *before = snapshot(m);

    CHECK_EQ(load_allocate(m, &test_task, "anon", 187, 0, NULL, -1, -1), -ENOMEM);
    CHECK_EQ(load_allocate(m, &test_task, "anon", 1000, 0, NULL, -1, -1), -ENOMEM);
    CHECK_EQ(load_allocate(m, &test_task, "anon", UINT64_MAX, 0, NULL, -1, -1), -ENOMEM);
    CHECK_EQ(load_allocate(m, &test_task, "anon", 185, 3, "Normal", 0, -1), -ENOMEM);
    CHECK_EQ(load_allocate(m, &test_task, "pinned", 17, 0, NULL, -1, 3), -ENOMEM);
    CHECK_EQ(load_allocate(m, &test_task, "anon", 1, 0, "Movable", -1, -1), -ENOMEM);
    CHECK_EQ(load_allocate(m, &test_task, "anon", 1, 0, "Movable", -1, 3), -ENOMEM);
    CHECK_EQ(load_allocate(m, &test_task, "hugetlb", 4, 1, NULL, -1, -1), -EINVAL);
    CHECK_EQ(load_allocate(m, &test_task, "anon", 4, 9, NULL, -1, -1), -EINVAL);
    CHECK_EQ(load_allocate(m, &test_task, "memmap", 4, -1, NULL, -1, -1), -EINVAL);
    CHECK_EQ(load_allocate(m, &test_task, "anon", 4, 0, NULL, -1, 77), -ENODEV);
    CHECK_EQ(load_free(m, &test_task, "anon", 1, -1), -EINVAL);
    CHECK_EQ(load_free(m, &test_task, "memmap", 0, -1), -EINVAL);
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    machine_finish(m);
}

/* Too many are asked for: none is freed. Pinned pages are freed by their own name only. */
TEST(freeing_is_all_or_nothing)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);

    CHECK_EQ(load_allocate(m, &test_task, "anon", 5, 0, NULL, -1, -1), 5);
    CHECK_EQ(load_allocate(m, &test_task, "pinned", 3, 0, NULL, -1, -1), 3);
    CHECK_EQ(load_free(m, &test_task, "anon", 6, -1), -EINVAL);
    CHECK_EQ(load_free(m, &test_task, "pinned", 4, -1), -EINVAL);
    CHECK_EQ(zone_at(m, 0, ZONE_NORMAL)->kind_pages[KIND_ANON], 8);
    CHECK_EQ(load_free(m, &test_task, "anon", 5, -1), 5);
    CHECK_EQ(load_free(m, &test_task, "pinned", 3, -1), 3);
    CHECK_EQ(load_allocate(m, &test_task, "file", 8, 3, NULL, -1, -1), 8);
    CHECK_EQ(load_free(m, &test_task, "file", 1, -1), 8); /* folios are not broken */
    machine_finish(m);
}

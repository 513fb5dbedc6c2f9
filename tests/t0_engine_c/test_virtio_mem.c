/*
 * test_virtio_mem.c - the guest's driver of virtio-mem: what it plugs and unplugs in which order,
 * and what it leaves.
 *
 * Owns: pictures of blocks that are plugged in part, the order of choice, random sizes with random
 * use of the memory. The failure of each step is in test_undo.c, what the host sees in t2.
 */
#include "devices/virtio_mem.c"

#include "machines.h"
#include "testhelper.h"

static const uint64_t MIB = 1 << 20;

enum { FIRST = 32 }; /* of the toy's blocks of 1 MiB: 16 pages of 64 KiB in 4 pageblocks */

static uint64_t unit(const struct machine *m)
{
    return m->page_bytes << m->pageblock_order;
}

static struct machine *with_device(const struct shape *shape, const struct kernel *kernel,
                                   uint64_t nr_blocks, uint64_t block)
{
    struct machine *m = machine_make(shape, kernel, NULL);

    uint64_t bytes = nr_blocks * m->block_bytes;
    CHECK_EQ(virtio_mem_probe(m, &test_task, 0, shape->hotplug_base, bytes,
                              block != 0 ? block : unit(m)),
             0);
    return m;
}

static int want(struct machine *m, uint64_t bytes)
{
    CHECK_EQ(virtio_mem_request(m, &test_task, 0, bytes, UINT64_MAX), 0);
    int err = virtio_mem_work(m, &test_task, 0);
    CHECK(machine_sound(m));
    return err;
}

/*
 *   before: nothing            after: 3 units are plugged, and online, the last one is not
 *   .... .... .... ....        MMMM MMMM MMMM ====
 */
TEST(a_block_is_plugged_in_part)
{
    struct machine *m = with_device(&toy, KERNEL(6_1), 4, 0);
    uint64_t managed = total_managed(m), free_pages;

    CHECK_MAP(m, FIRST, ".... .... .... ....");
    CHECK_EQ(want(m, 3 * unit(m)), 0);
    CHECK_MAP(m, FIRST, "---- ---- ---- ----");
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 3 * unit(m));
    CHECK_EQ(total_managed(m), managed);
    CHECK_EQ(block_store(m, FIRST, "online_movable"), 0);
    CHECK_EQ(total_managed(m), managed + 3 * m->pageblock_pages);
    CHECK_MAP(m, FIRST, "MMMM MMMM MMMM ====");
    CHECK_EQ(zone_at(m, 0, ZONE_MOVABLE)->present, m->block_pages);
    CHECK_EQ(zone_at(m, 0, ZONE_MOVABLE)->kind_pages[KIND_UNPLUGGED],
             m->block_pages - 3 * m->pageblock_pages);
    CHECK(machine_sound(m));
    /* More is wanted: the rest of the block first, then the next. */
    CHECK_EQ(want(m, m->block_bytes + unit(m)), 0);
    CHECK_EQ(zone_at(m, 0, ZONE_MOVABLE)->kind_pages[KIND_UNPLUGGED], 0);
    CHECK_EQ(block_get(m, FIRST + 1)->state, BLOCK_OFFLINE);
    CHECK_EQ(m->vmems[0]->offline_bytes, m->block_bytes);
    /* Less: what is offline goes first, and its block with it; then units from the end. */
    free_pages = total_free(m);
    CHECK_EQ(want(m, m->block_bytes - 3 * unit(m)), 0);
    CHECK(block_get(m, FIRST + 1) == NULL);
    CHECK_EQ(total_managed(m), managed + m->block_pages - 3 * m->pageblock_pages);
    CHECK(total_free(m) <= free_pages);
    /* It goes offline with what is not plugged, comes back with what is, and goes for good when
     * nothing is wanted. */
    CHECK_EQ(block_store(m, FIRST, "offline"), 0);
    CHECK_EQ(total_managed(m), managed);
    CHECK_EQ(block_store(m, FIRST, "online_movable"), 0);
    CHECK_EQ(total_managed(m), managed + m->block_pages - 3 * m->pageblock_pages);
    CHECK_EQ(want(m, 0), 0);
    CHECK(block_get(m, FIRST) == NULL);
    CHECK_EQ(total_managed(m), managed);
    machine_finish(m);
}

TEST(what_is_busy_stays)
{
    struct machine *m = with_device(&toy, KERNEL(6_1), 4, 0);

    CHECK_EQ(want(m, 2 * m->block_bytes), 0);
    CHECK_EQ(block_store(m, FIRST, "online_kernel"), 0);
    CHECK_EQ(block_store(m, FIRST + 1, "online_movable"), 0);
    CHECK_EQ(take_in(m, "slab", 1, 0, FIRST), 1);
    CHECK_EQ(take_in(m, "anon", 5, 0, FIRST + 1), 5);
    uint64_t pinned = 0;
    CHECK_EQ(take_in(m, "anon", 1, 0, FIRST + 1), 1);
    for (uint64_t pfn = FIRST * m->block_pages; pfn < (FIRST + 2) * m->block_pages && pinned == 0;
         pfn++) {
        struct folio folio;
        if (folio_at(m, pfn, &folio) && folio.kind == KIND_ANON &&
            pfn >= (FIRST + 1) * m->block_pages)
            pinned = pfn;
    }
    CHECK_EQ(page_pin(m, &test_task, pinned, 1), 0);
    CHECK_EQ(want(m, 0), -EBUSY);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 2 * unit(m));
    CHECK(block_get(m, FIRST) != NULL && block_get(m, FIRST + 1) != NULL);
    /* The rest moved away, out of Movable, too. */
    CHECK_EQ(zone_at(m, 0, ZONE_MOVABLE)->kind_pages[KIND_ANON] <= m->pageblock_pages, 1);
    CHECK_EQ(page_pin(m, &test_task, pinned, -1), 0);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), -EBUSY);
    CHECK(machine_sound(m));
    CHECK(block_get(m, FIRST + 1) == NULL);
    CHECK_EQ(load_free(m, &test_task, "slab", 1, -1), 1);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), 0);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 0);
    machine_finish(m);
}

/* Only its driver adds and removes a device's memory; what it has not plugged nobody brings online.
 */
TEST(others_keep_off)
{
    struct machine *m = with_device(&toy, KERNEL(6_1), 4, 0);

    CHECK_EQ(want(m, unit(m)), 0);
    CHECK_EQ(memory_remove(m, &test_task, FIRST * MIB, MIB), -EBUSY);
    CHECK_EQ(virtio_mem_probe(m, &test_task, 0, (FIRST + 2) * MIB, MIB, unit(m)), -EBUSY);
    CHECK_EQ(memory_add(m, &test_task, 0, (FIRST + 1) * MIB, MIB), 0);
    CHECK_EQ(block_store(m, FIRST + 1, "online"), -EPERM);
    CHECK(machine_sound(m));
    CHECK_EQ(want(m, 2 * MIB), -EEXIST);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), MIB);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), -EIO); /* the driver has given up */
    CHECK_EQ(memory_remove(m, &test_task, (FIRST + 1) * MIB, MIB), 0);
    machine_finish(m);
}

/* What somebody else has put into a region goes online and offline like any memory, and is none of
 * the device's. */
TEST(others_memory_does_not_count)
{
    struct machine *m = with_device(&toy, KERNEL(6_1), 8, 2 * MIB);

    CHECK_EQ(memory_add(m, &test_task, 0, (FIRST + 4) * MIB, MIB), 0);
    CHECK_EQ(block_store(m, FIRST + 4, "online"), 0);
    CHECK(machine_sound(m));
    CHECK_EQ(m->vmems[0]->offline_bytes, 0);
    CHECK_EQ(want(m, 4 * MIB), 0);
    CHECK_EQ(m->vmems[0]->offline_bytes, 4 * MIB);
    CHECK_EQ(block_store(m, FIRST + 4, "offline"), 0);
    CHECK(machine_sound(m));
    CHECK_EQ(memory_remove(m, &test_task, (FIRST + 4) * MIB, MIB), 0);
    CHECK_EQ(want(m, 0), 0);
    machine_finish(m);
}

TEST(too_much_is_offline)
{
    struct machine *m = with_device(&toy, KERNEL(6_1), 8, 0);

    m->vmems[0]->offline_most = 2 * MIB;
    CHECK_EQ(want(m, 6 * MIB), -ENOSPC);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 2 * MIB);
    struct event *events;
    size_t nr = events_take(m, &events), works = 0;
    for (size_t i = 0; i < nr; i++)
        event_free(&events[i]);
    free(events);
    CHECK_EQ(block_store(m, FIRST, "online_movable"),
             0); /* half of what may be offline is online: there is work */
    nr = events_take(m, &events);
    for (size_t i = 0; i < nr; i++) {
        works += events[i].kind == EVENT_VIRTIO_MEM && strcmp(events[i].data, "work") == 0;
        event_free(&events[i]);
    }
    free(events);
    CHECK_EQ(works, 1);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), -ENOSPC);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 3 * MIB);
    machine_finish(m);
}

/* Blocks of the device as large as those of Linux, or larger, come and go whole. */
TEST(big_blocks)
{
    struct machine *m = with_device(&toy, KERNEL(6_1), 8, 2 * MIB);

    CHECK(m->vmems[0]->big);
    CHECK_EQ(want(m, 5 * MIB), 0);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 4 * MIB);
    for (unsigned i = 0; i < 4; i++)
        if (i != 2)
            CHECK_EQ(block_store(m, FIRST + i, i == 1 ? "online_kernel" : "online_movable"), 0);
    CHECK_EQ(take_in(m, "slab", 1, 0, FIRST + 1), 1);
    CHECK_EQ(want(m, 2 * MIB), 0);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 2 * MIB);
    CHECK(block_get(m, FIRST + 2) == NULL && block_get(m, FIRST + 1) != NULL);
    char *before = snapshot(m);
    CHECK_EQ(want(m, 0), -EBUSY);
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    CHECK_EQ(load_free(m, &test_task, "slab", 1, -1), 1);
    /* Gone from Linux, and the host cannot take it back now: it is later, with nothing else of it.
     */
    CHECK_EQ(fault_set(m, &test_task, "virtio_mem/unplug", -ETXTBSY, 1, 1), 0);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), -ETXTBSY);
    CHECK(machine_sound(m) && block_get(m, FIRST) == NULL);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 2 * MIB);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), 0);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 0);
    machine_finish(m);
}

TEST(devices_that_cannot_be)
{
    struct machine *m = machine_make(&toy_nodes, KERNEL(6_1), NULL);
    uint64_t base = toy_nodes.hotplug_base;

    CHECK_EQ(virtio_mem_probe(m, &test_task, 0, base, 4 * MIB, 3 * MIB), -EINVAL);
    CHECK_EQ(virtio_mem_probe(m, &test_task, 0, base, 0, MIB), -EINVAL);
    CHECK_EQ(virtio_mem_probe(m, &test_task, 0, UINT64_MAX - MIB, 4 * MIB, MIB), -EINVAL);
    CHECK_EQ(virtio_mem_probe(m, &test_task, (int)m->possible_nodes, base, 4 * MIB, MIB), -EINVAL);
    CHECK_EQ(virtio_mem_probe(m, &test_task, -2, base, 4 * MIB, MIB), -EINVAL);
    CHECK_EQ(m->nr_vmems, 0);
    /* A node that Linux does not know is no reason: the address has one. */
    CHECK_EQ(virtio_mem_probe(m, &test_task, -1, base, 4 * MIB, MIB), 0);
    CHECK_EQ(m->vmems[0]->nid, node_of_address(m, base));
    CHECK_EQ(want(m, MIB), 0);
    CHECK_EQ(block_get(m, base / MIB)->nid, node_of_address(m, base));
    machine_finish(m);
}

TEST(kernels_differ)
{
    struct machine *m = machine_make(&toy, KERNEL(5_0), NULL);
    CHECK_EQ(virtio_mem_probe(m, &test_task, 0, 32 * MIB, MIB, unit(m)), -ENODEV);
    machine_finish(m);
    m = with_device(&toy, KERNEL(5_10), 4, 0);
    CHECK_EQ(m->vmems[0]->unit_bytes, m->page_bytes << m->max_order);
    CHECK_EQ(m->vmems[0]->group, -1);
    machine_finish(m);
    m = with_device(&toy, KERNEL(6_1), 4, 0);
    CHECK_EQ(m->vmems[0]->unit_bytes, unit(m));
    CHECK(m->groups[m->vmems[0]->group].dynamic);
    machine_finish(m);
}

static int looks_left;

static int signal_arrives(void)
{
    return looks_left-- <= 0;
}

static struct task hurried = {.capable = true, .interrupted = signal_arrives};

/* The host's refusals: tried again, or given up. */
TEST(the_host_refuses)
{
    struct machine *m = with_device(&toy, KERNEL(6_1), 4, 0);

    CHECK_EQ(fault_set(m, &test_task, "virtio_mem/plug", -ETXTBSY, 1, 1), 0);
    CHECK_EQ(want(m, MIB), -ETXTBSY);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), 0);
    /* Adding fails, and so does unplugging what was plugged for it: it is unplugged the next time.
     */
    CHECK_EQ(fault_set(m, &test_task, "memory_add/node", -ENOMEM, 1, 1), 0);
    CHECK_EQ(fault_set(m, &test_task, "virtio_mem/unplug", -ETXTBSY, 1, 1), 0);
    CHECK_EQ(want(m, 2 * MIB), -ENOMEM);
    CHECK_EQ(m->vmems[0]->count[VMEM_PLUGGED], 1);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 2 * MIB);
    fault_clear(m);
    CHECK_EQ(want(m, 0), 0);
    CHECK_EQ(m->vmems[0]->count[VMEM_UNUSED], 2);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 0);
    /* It says no, without a reason: asked at once again, until a signal if need be. */
    CHECK_EQ(fault_set(m, &test_task, "virtio_mem/plug", -EAGAIN, 1, 3), 0);
    CHECK_EQ(want(m, MIB), 0);
    CHECK_EQ(fault_set(m, &test_task, "virtio_mem/unplug", -EAGAIN, 1, UINT64_MAX), 0);
    CHECK_EQ(virtio_mem_request(m, &test_task, 0, 0, UINT64_MAX), 0);
    looks_left = 3;
    CHECK_EQ(virtio_mem_work(m, &hurried, 0), -EINTR);
    CHECK(machine_sound(m));
    rules_end(m); /* nothing waits at the end of a machine */
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), -EINTR);
    fault_clear(m);
    CHECK_EQ(virtio_mem_work(m, &test_task, 0), 0);
    machine_finish(m);
}

/* Something in Movable that cannot move would be waited for until it does: with a signal in the
 * end. */
static void set_state(struct machine *m, uint64_t block, const char *word)
{
    char path[64];

    looks_left = 3;
    snprintf(path, sizeof path, "memory%llu/state", (unsigned long long)block);
    store_as(m, &hurried, path, word);
}

/* Any sizes in any order, with memory in use and blocks switched on and off: all invariants after
 * each step. */
static void churn(const struct shape *shape, const struct kernel *kernel, uint64_t device_block,
                  uint64_t seed)
{
    static const char *const words[] = {"online", "online_movable", "online_kernel", "offline"};
    static const char *const kinds[] = {"anon", "file", "slab"};
    struct machine *m = with_device(shape, kernel, 6, device_block);
    uint64_t state = seed, first = shape->hotplug_base / m->block_bytes, taken[3] = {0};

    for (unsigned step = 0; step < 120; step++) {
        uint64_t dice = random_step(&state), kind = random_step(&state) % 3;
        uint64_t id = first + random_step(&state) % 6,
                 pages = 1 + random_step(&state) % m->pageblock_pages;
        switch (dice % 4) {
        case 0:
            want(m, random_step(&state) % (6 * m->block_bytes / unit(m) + 1) * unit(m));
            break;
        case 1:
            if (block_get(m, id) != NULL)
                set_state(m, id, words[random_step(&state) % 4]);
            break;
        case 2:
            if (take_in(m, kinds[kind], pages, 0, (int64_t)id) == (int64_t)pages)
                taken[kind] += pages;
            break;
        default:
            load_free(m, &test_task, kinds[kind], taken[kind], -1);
            taken[kind] = 0;
        }
        if (!machine_sound(m))
            TEST_FAIL("%s, kernel %s, seed %u, step %u", shape->name, kernel->name, (unsigned)seed,
                      step);
    }
    for (unsigned kind = 0; kind < 3; kind++)
        load_free(m, &test_task, kinds[kind], taken[kind], -1);
    CHECK_EQ(want(m, 0), 0);
    CHECK_EQ(virtio_mem_size(m, &test_task, 0), 0);
    for (uint64_t id = first; id < first + 6; id++)
        CHECK(block_get(m, id) == NULL);
    machine_finish(m);
}

TEST(any_sizes_in_any_order)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        churn(&toy, KERNEL(6_1), 0, seed);
        churn(&toy, KERNEL(5_10), 0, seed);
        churn(&toy, KERNEL(6_18), 2 * MIB, seed);
        churn(&toy_wide, KERNEL(6_18), 0, seed);
    }
    churn(&ppc64, KERNEL(6_1), 0, 1);
}

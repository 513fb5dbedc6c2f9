/*
 * engine.c - how fast the engine is, without Python and without a mount: one line `NAME
 * NANOSECONDS` per figure.
 *
 * Owns: what is timed and in what order. Each figure is the median of many samples; the references
 * (a memset of 2 MiB, a walk over an array of 64 bytes per page frame) are taken between them, so
 * that both see the same machine. Does not own: what the figures should be (bench.py).
 *
 * Arguments: the names of the kernel's features. Everything is asked for as a program would, by
 * writing to `state`; only the allocator is called directly.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine.h"

enum {
    ROUNDS = 301,
    FULL_ROUNDS = 31,
    PAIRS = 20000,
    MAX_SAMPLES = 512,
    HUGE = 2 << 20,
    STRUCT_PAGE = 64
};

static const uint64_t GIB = 1ull << 30, BLOCK = 128ull << 20,
                      HOT = 4ull << 30; /* HOT: where memory is added */
static const uint64_t BLOCK_PAGES = (128ull << 20) >> 12;

static struct machine *m;
static struct task task = {.capable = true};

/* ---- samples ---- */

struct samples {
    const char *name;
    size_t nr;
    double ns[MAX_SAMPLES];
};

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void sample(struct samples *samples, double since, double per)
{
    double taken = now_ns() - since;

    if (samples->nr < MAX_SAMPLES)
        samples->ns[samples->nr++] = taken / per;
}

static int by_size(const void *a, const void *b)
{
    const double *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static double median(struct samples *samples)
{
    qsort(samples->ns, samples->nr, sizeof *samples->ns, by_size);
    return samples->ns[samples->nr / 2];
}

static void report(struct samples *samples)
{
    printf("%s %.2f\n", samples->name, median(samples));
}

static void need(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s: %s\n", what, task.reason);
    exit(1);
}

/* ---- references ---- */

static volatile uint8_t sink;

/* Touched before, so that no page fault is timed. */
static void time_memset(struct samples *samples)
{
    static uint8_t *memory;
    static int byte;

    if (memory == NULL) {
        memory = calloc(HUGE, 1);
        memset(memory, 1, HUGE);
    }
    double start = now_ns();
    memset(memory, ++byte, HUGE);
    sink = memory[HUGE / 2];
    sample(samples, start, 1);
}

/* One byte of each page frame's 64: the least that a kernel with a flat memmap does. */
static void time_walk(struct samples *samples, uint8_t *array, uint64_t nr_pages)
{
    uint8_t sum = 0;
    double start = now_ns();

    for (uint64_t i = 0; i < nr_pages; i++)
        sum = (uint8_t)(sum + array[i * STRUCT_PAGE]);
    sink = sum;
    sample(samples, start, 1);
}

/* ---- the machine ---- */

static void machine_make(int nr_features, char **features)
{
    static const char *const names[] = {
#define X(name) #name,
        FAKESYSFS_FEATURES(X)
#undef X
    };
    static const int64_t configs[] = {
#define X(name, value) value,
        FAKESYSFS_CONFIGS(X)
#undef X
    };
    const struct boot_range ram[] = {{1 << 20, GIB, 0}};
    const struct boot_resource iomem[] = {
        {1 << 20, GIB - 1, "System RAM", RES_BUSY | RES_SYSRAM, 0}};
    const int cpu = 0;
    const struct boot_node node = {0, &cpu, 1};
    struct machine_config config = {
        .release = "6.1.0",
        .seed = 1,
        .page_shift = 12,
        .section_shift = 27,
        .max_order = 10,
        .pageblock_order = 9,
        .struct_page_bytes = STRUCT_PAGE,
        .block_bytes = BLOCK,
        .zone_dma = true,
        .zone_dma32 = true,
        .dma_end = 16 << 20,
        .dma32_end = 4ull << 30,
        .max_phys_bits = 52,
        .iomem_bits = 52,
        .resources = iomem,
        .nr_resources = 1,
        .memory = ram,
        .nr_memory = 1,
        .nodes = &node,
        .nr_nodes = 1,
        .possible_nodes = 1,
        .online_policy = "contig-zones",
        .auto_movable_ratio = 301,
    };

    memcpy(config.config, configs, sizeof configs);
    for (int i = 0; i < nr_features; i++)
        for (int f = 0; f < NR_FEATURES; f++)
            config.features[f] = config.features[f] || strcmp(features[i], names[f]) == 0;
    m = machine_create(&config, &task);
    need(m != NULL, "machine_create");
}

static int64_t state_open(uint64_t id)
{
    char path[64];

    snprintf(path, sizeof path, "/sys/devices/system/memory/memory%" PRIu64 "/state", id);
    int64_t handle = file_open(m, &task, path, 2);
    need(handle > 0, path);
    return handle;
}

static void state_store(int64_t handle, const char *word)
{
    need(file_write(m, &task, handle, word, strlen(word)) == (int64_t)strlen(word), word);
}

static void forget_events(void)
{
    struct event *events;
    size_t nr = events_take(m, &events);

    for (size_t i = 0; i < nr; i++)
        event_free(&events[i]);
    free(events);
}

static void check(void)
{
    need(machine_check(m, &task) == 0, "machine_check");
}

/* ---- what is timed ---- */

static void time_blocks(struct samples *memset_ns)
{
    struct samples online = {.name = "online"}, offline = {.name = "offline"},
                   add = {.name = "add"}, gone = {.name = "remove"};
    uint64_t id = HOT / BLOCK;

    for (int i = 0; i < ROUNDS; i++) {
        double start = now_ns();
        need(memory_add(m, &task, 0, HOT, BLOCK) == 0, "memory_add");
        sample(&add, start, 1);
        int64_t state = state_open(id);
        start = now_ns();
        state_store(state, "online_movable");
        sample(&online, start, 1);
        start = now_ns();
        state_store(state, "offline");
        sample(&offline, start, 1);
        file_release(m, state);
        start = now_ns();
        need(memory_remove(m, &task, HOT, BLOCK) == 0, "memory_remove");
        sample(&gone, start, 1);
        time_memset(memset_ns);
        forget_events();
    }
    check();
    report(&add);
    report(&online);
    report(&offline);
    report(&gone);
}

/* Give every page of the block to somebody, one by one, and put them on their list in random order.
 */
static void fill_scattered(uint64_t id)
{
    uint32_t *order = calloc(BLOCK_PAGES, sizeof *order);

    need(load_allocate(m, &task, "anon", BLOCK_PAGES, 0, NULL, -1, (int64_t)id) ==
             (int64_t)BLOCK_PAGES,
         "fill a block");
    machine_lock(m, &task);
    for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
        uint32_t other = (uint32_t)random_below(m, i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    for (uint32_t i = 0; i < BLOCK_PAGES; i++) {
        struct folio folio;
        folio_at(m, id * BLOCK_PAGES + order[i], &folio);
        folio_unlink(m, &folio);
        folio_link(m, folio.s, folio.offset, KIND_ANON, folio.order);
    }
    machine_unlock(m);
    free(order);
}

/* Two blocks take turns: the pages of one migrate to the other. */
static void time_migration(struct samples *memset_ns)
{
    struct samples full = {.name = "migrate_page"}, walk = {.name = "walk_block"};
    uint64_t id = HOT / BLOCK;
    uint8_t *array = calloc(BLOCK_PAGES, STRUCT_PAGE);

    memset(array, 1, BLOCK_PAGES * STRUCT_PAGE);
    need(memory_add(m, &task, 0, HOT, 2 * BLOCK) == 0, "memory_add");
    int64_t state = state_open(id), other = state_open(id + 1);
    state_store(other, "online_movable");
    for (int i = 0; i < FULL_ROUNDS; i++) {
        state_store(state, "online_movable");
        fill_scattered(id);
        double start = now_ns();
        state_store(state, "offline");
        sample(&full, start, (double)BLOCK_PAGES);
        time_walk(&walk, array, BLOCK_PAGES);
        time_memset(memset_ns);
        need(load_free(m, &task, "anon", BLOCK_PAGES, -1) >= 0, "free");
        forget_events();
    }
    check();
    state_store(other, "offline");
    file_release(m, state);
    file_release(m, other);
    need(memory_remove(m, &task, HOT, 2 * BLOCK) == 0, "memory_remove");
    report(&full);
    report(&walk);
    free(array);
}

static void time_pairs(struct samples *memset_ns)
{
    static const struct {
        const char *name;
        unsigned order;
    } sizes[] = {{"pair_order0", 0}, {"pair_order9", 9}};

    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        struct samples pair = {.name = sizes[k].name};
        for (int i = 0; i < FULL_ROUNDS; i++) {
            machine_lock(m, &task);
            double start = now_ns();
            for (int n = 0; n < PAIRS; n++) {
                uint64_t pfn;
                need(pages_alloc(m, KIND_ANON, sizes[k].order, ZONE_MOVABLE, 0, 0, &pfn) == 0,
                     "pages_alloc");
                pages_free(m, pfn);
            }
            sample(&pair, start, PAIRS);
            machine_unlock(m);
            time_memset(memset_ns);
        }
        report(&pair);
    }
}

/* What a GiB with a folio in every page adds to the check of the machine. */
static void time_check(void)
{
    struct samples before = {.name = "check_before"}, detailed = {.name = "check_gib"},
                   walk = {.name = "walk_gib"};
    struct samples *const phase[] = {&before, &detailed};
    uint64_t first = HOT / BLOCK, nr_blocks = GIB / BLOCK, nr_pages = GIB >> 12;
    uint8_t *array = calloc(nr_pages, STRUCT_PAGE);

    memset(array, 1, nr_pages * STRUCT_PAGE);
    need(memory_add(m, &task, 0, HOT, GIB) == 0, "memory_add");
    for (size_t k = 0; k < sizeof phase / sizeof *phase; k++) {
        for (uint64_t id = first; k == 1 && id < first + nr_blocks; id++) {
            int64_t state = state_open(id);
            state_store(state, "online_movable");
            fill_scattered(id);
            file_release(m, state);
        }
        for (int i = 0; i < FULL_ROUNDS; i++) {
            double start = now_ns();
            check();
            sample(phase[k], start, 1);
            time_walk(&walk, array, nr_pages);
        }
    }
    printf("%s %.2f\n", detailed.name, median(&detailed) - median(&before));
    report(&walk);
    free(array);
}

int main(int argc, char **argv)
{
    struct samples memset_ns = {.name = "memset"};

    machine_make(argc - 1, argv + 1);
    time_blocks(&memset_ns);
    time_migration(&memset_ns);
    time_pairs(&memset_ns);
    time_check();
    report(&memset_ns);
    machine_destroy(m);
    return 0;
}

/*
 * test_operations.c - ten thousand random operations, all invariants checked after each: a short
 * piece of `make soak`. And the same stream of decisions twice: the two machines must say the same
 * in every file, event and log line.
 */
#include "../soak/operations.h"

#include "testhelper.h"

static void live(unsigned shape, uint64_t seed, unsigned operations)
{
    struct source source = {.state = seed};
    struct driver d;

    driver_start(&d, &source, shape);
    for (unsigned i = 0; i < operations; i++) {
        const char *wrong = driver_step(&d);
        if (wrong != NULL)
            TEST_FAIL("%s, seed %u, operation %u: %s: %s", d.shape->name, (unsigned)seed, i, d.last,
                      wrong);
    }
    driver_stop(&d);
}

TEST(toys)
{
    for (unsigned seed = 1; seed <= 16; seed++)
        live(seed % 4, seed, 600);
}

TEST(real_sizes)
{
    live(4, 17, 350);
    live(5, 18, 30);
    live(6, 19, 20);
}

static void history(struct text *out, uint64_t seed)
{
    struct source source = {.state = seed};
    struct driver d;
    struct event *events;
    size_t size;

    driver_start(&d, &source, (unsigned)(seed % 5));
    for (unsigned i = 0; i < 200; i++) {
        CHECK(driver_step(&d) == NULL);
        text_printf(out, "%s: %s\n", d.last, d.task.reason);
        char *state = snapshot(d.m);
        text_append(out, state, strlen(state));
        free(state);
    }
    char *texts[] = {klog_text(d.m, 0, &size), trace_text(d.m, 0, UINT64_MAX, false, &size),
                     fetch(d.m, "/proc/vmstat"), fetch(d.m, "/proc/zoneinfo")};
    for (unsigned i = 0; i < 4; i++) {
        text_append(out, texts[i], strlen(texts[i]));
        free(texts[i]);
    }
    size = events_take(d.m, &events);
    for (size_t i = 0; i < size; i++) {
        text_printf(out, "%llu %llu %d %s %s %d\n", (unsigned long long)events[i].seq,
                    (unsigned long long)events[i].time_us, events[i].kind, events[i].path,
                    events[i].data, events[i].err);
        event_free(&events[i]);
    }
    free(events);
    driver_stop(&d);
}

TEST(the_same_twice)
{
    for (uint64_t seed = 100; seed < 105; seed++) {
        struct text once = {0}, twice = {0};
        history(&once, seed);
        history(&twice, seed);
        CHECK(same_text(once.data, twice.data));
        text_free(&once);
        text_free(&twice);
    }
}

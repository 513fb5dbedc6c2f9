/*
 * soak.c - random operations on random machines, for as long as one likes: `make soak N=1000000
 * SEED=1`.
 *
 * A machine lives for a thousand operations; after each all invariants are checked. The first
 * violation ends the run and is printed with the seed of its machine and the operation, so that
 * `soak OPERATIONS SEED` shows it again.
 */
#include <time.h>
#include <unistd.h>

#include "operations.h"

enum { LIFE = 1000 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Mostly toys, whose check costs microseconds; machines with the sizes of real ones now and then.
 */
static unsigned choose_shape(struct source *source)
{
    static const uint8_t shapes[] = {0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4};
    unsigned rare = choose(source, 256);

    return rare == 0 ? 6 : rare < 4 ? 5 : shapes[choose(source, 16)];
}

/* The machine's own log may say more. */
static void print_log(struct machine *m)
{
    size_t size;
    char *text = klog_text(m, 0, &size), *from = text + size;

    for (unsigned lines = 0; from > text && lines<12; lines += from> text && from[-1] == '\n')
        from--;
    fprintf(stderr, "%s", from);
    free(text);
}

static int live(uint64_t seed, uint64_t operations, uint64_t done[NR_OPERATIONS],
                uint64_t succeeded[NR_OPERATIONS])
{
    struct source source = {.state = seed};
    struct driver d;
    const char *wrong = NULL;

    driver_start(&d, &source, choose_shape(&source));
    for (uint64_t i = 0; i < operations && wrong == NULL; i++)
        if ((wrong = driver_step(&d)) != NULL) {
            fprintf(stderr, "%s, machine seed %llu, operation %llu: %s: %s\n", d.shape->name,
                    (unsigned long long)seed, (unsigned long long)i, d.last, wrong);
            print_log(d.m);
        }
    for (unsigned op = 0; op < NR_OPERATIONS; op++) {
        done[op] += d.done[op];
        succeeded[op] += d.succeeded[op];
    }
    driver_stop(&d);
    return wrong == NULL ? 0 : 1;
}

int main(int argc, char **argv)
{
    uint64_t total = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000,
             seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    uint64_t done[NR_OPERATIONS] = {0}, succeeded[NR_OPERATIONS] = {0}, so_far = 0, machines = 0;
    double start = now(), told = start;

    while (so_far < total) {
        uint64_t operations = total - so_far < LIFE ? total - so_far : LIFE;
        if (live(seed + machines++, operations, done, succeeded) != 0)
            return 1;
        so_far += operations;
        if (isatty(STDERR_FILENO) && now() - told > 1) {
            told = now();
            fprintf(stderr, "\r%llu of %llu", (unsigned long long)so_far,
                    (unsigned long long)total);
        }
    }
    double seconds = now() - start;
    printf("%-20s %10s %10s\n", "operation", "done", "succeeded");
    for (unsigned op = 0; op < NR_OPERATIONS; op++)
        printf("%-20s %10llu %10llu\n", operation_names[op], (unsigned long long)done[op],
               (unsigned long long)succeeded[op]);
    printf(
        "%llu operations on %llu machines in %.1f s, %.0f per second: no invariant was violated\n",
        (unsigned long long)so_far, (unsigned long long)machines, seconds,
        (double)so_far / seconds);
    return 0;
}

/*
 * fuzz_operations.c - libFuzzer decides what is done to a machine: `make fuzz`, for a minute or
 * FUZZ_SECONDS=.
 *
 * An input is the stream of decisions of operations.h; its first bytes choose the machine. A
 * violated invariant is a crash, and libFuzzer leaves the input that led to it; the program run
 * with that file as its argument shows it again.
 */
#include "../soak/operations.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source source = {.data = data, .left = size};
    struct driver d;

    if (size == 0)
        return 0;
    driver_start(&d, &source, choose(&source, 4));
    while (!exhausted(&source)) {
        const char *wrong = driver_step(&d);
        if (wrong == NULL)
            continue;
        fprintf(stderr, "%s, kernel %s: %s: %s\n", d.shape->name, d.m->release, d.last, wrong);
        __builtin_trap();
    }
    driver_stop(&d);
    return 0;
}

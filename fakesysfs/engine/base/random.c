/*
 * random.c - random numbers: splitmix64, one generator for the machine, and one for each fault
 * rule.
 *
 * Owns: the step of a generator. Does not own: the seed (the configuration), what chance decides.
 */

#include "machine.h"

uint64_t random_step(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t random_next(struct machine *m)
{
    return random_step(&m->random_state);
}

uint64_t random_below(struct machine *m, uint64_t limit)
{
    return limit == 0 ? 0 : random_next(m) % limit;
}

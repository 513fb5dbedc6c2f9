/*
 * host_memory.c - memory that the engine takes from its host, the process it runs in.
 *
 * Owns: allocation, and address space that is reserved first and becomes memory as it is needed.
 * Does not own: what is kept there, nor any memory of the simulated machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

static void *or_die(void *p, size_t size)
{
    if (p == NULL && size != 0) {
        fprintf(stderr, "fakesysfs: no memory for %zu bytes\n", size);
        abort(); /* nothing sensible is left: the process itself has no memory */
    }
    return p;
}

void *xcalloc(size_t n, size_t size)
{
    return or_die(calloc(n, size), n * size);
}

void *xrealloc(void *p, size_t n, size_t size)
{
    if (size != 0 && n > SIZE_MAX / size)
        return or_die(NULL, SIZE_MAX);
    return or_die(realloc(p, n * size), n * size);
}

char *xstrdup(const char *s)
{
    return or_die(strdup(s), strlen(s) + 1);
}

static void *map_nothing(size_t size)
{
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p != MAP_FAILED ? p : NULL;
}

void *xreserve(size_t *size)
{
    size_t possible = *size;
    void *p = map_nothing(*size);

    while (p == NULL && possible != 0 && (p = map_nothing(possible)) == NULL)
        possible /= 2;
    if (p == NULL || possible == *size)
        return or_die(p, *size);
    /* The process may not have as much address space: most of what there is left is for others. */
    munmap(p, possible);
    *size = possible / 4;
    return or_die(map_nothing(*size), *size);
}

void xcommit(void *start, size_t size)
{
    size_t before = (uintptr_t)start %
                    (size_t)sysconf(_SC_PAGESIZE); /* of a page that is committed already */

    if (mprotect((char *)start - before, before + size, PROT_READ | PROT_WRITE) != 0)
        or_die(NULL, size);
}

void xdiscard(void *start, size_t size)
{
    size_t host_page = (size_t)sysconf(_SC_PAGESIZE);

    if (((uintptr_t)start | size) % host_page != 0 || madvise(start, size, MADV_DONTNEED) != 0)
        memset(start, 0, size);
}

void xunreserve(void *start, size_t size)
{
    if (start != NULL)
        munmap(start, size);
}

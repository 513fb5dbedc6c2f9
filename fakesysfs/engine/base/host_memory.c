/*
 * host_memory.c - memory that the engine takes from its host, the process it runs in.
 *
 * Owns: allocation, the reserve, and address space that is reserved first and becomes memory as it
 * is needed. Does not own: what is kept there, nor any memory of the simulated machine.
 *
 * When the process has no memory left, an operation must fail before it has changed anything. So
 * each public function that may need memory asks host_memory_ready() first: the machine keeps a
 * reserve, which is more than an operation of ordinary size takes, and what a large one takes in
 * addition is tried out. An allocation in the middle of an operation that fails all the same gives
 * the reserve up, and the next operation is refused until there is a reserve again. After that it
 * waits for memory, as the kernel does for __GFP_NOFAIL.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

/* Of address space: nothing of it is touched. malloc() asks the host for 1 MiB at least when it
 * cannot grow the heap. */
enum { RESERVE_BYTES = 2 << 20, NAP_NS = 1000000 };

int host_memory_ready(struct machine *m, uint64_t bytes)
{
    void *more = NULL;

    if (m->reserve == NULL)
        m->reserve = malloc(RESERVE_BYTES);
    if (m->reserve != NULL && (bytes == 0 || (more = malloc(bytes)) != NULL)) {
        free(more);
        return 0;
    }
    return no_host_memory(m);
}

int no_host_memory(struct machine *m)
{
    if (m->task != NULL)
        m->task->no_host_memory = true;
    return fail(m, -ENOMEM, "this process can get no more memory from its host");
}

void host_memory_destroy(struct machine *m)
{
    free(m->reserve);
}

/* After a failed allocation: is there a reason to try again? Waits until there is. */
static void await_memory(struct machine *m)
{
    if (m->reserve == NULL)
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    free(m->reserve);
    m->reserve = NULL;
}

void *xcalloc(struct machine *m, size_t n, size_t size)
{
    void *p;

    while ((p = calloc(n, size)) == NULL && n != 0 && size != 0)
        await_memory(m);
    return p;
}

void *xrealloc(struct machine *m, void *p, size_t n, size_t size)
{
    void *moved;

    while ((moved = reallocarray(p, n, size)) == NULL && n != 0 && size != 0)
        await_memory(m);
    return moved;
}

char *xstrdup(struct machine *m, const char *s)
{
    size_t size = strlen(s) + 1;

    return memcpy(xcalloc(m, size, 1), s, size);
}

static void *map_nothing(size_t size)
{
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p != MAP_FAILED ? p : NULL;
}

void *reserve_space(size_t *size)
{
    size_t possible = *size;
    void *p = map_nothing(*size);

    while (p == NULL && possible != 0 && (p = map_nothing(possible)) == NULL)
        possible /= 2;
    if (p == NULL || possible == *size)
        return p;
    /* The process may not have as much address space: most of what is left is for threads and
     * others. */
    munmap(p, possible);
    *size = possible / 8;
    return map_nothing(*size);
}

bool commit_space(void *start, size_t size)
{
    /* of a page that is committed already */
    size_t before = (uintptr_t)start % (size_t)sysconf(_SC_PAGESIZE);

    return mprotect((char *)start - before, before + size, PROT_READ | PROT_WRITE) == 0;
}

void discard_space(void *start, size_t size)
{
    size_t host_page = (size_t)sysconf(_SC_PAGESIZE);

    if (((uintptr_t)start | size) % host_page != 0 || madvise(start, size, MADV_DONTNEED) != 0)
        memset(start, 0, size);
}

void release_space(void *start, size_t size)
{
    if (start != NULL)
        munmap(start, size);
}

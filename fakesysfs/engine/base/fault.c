/*
 * fault.c - named points at which the engine can be told to fail, so that every undo path can be
 * walked.
 *
 * Owns: the list of points and when each fires: on its nth pass from now, `times` times. Does not
 * own: what failing means there (the caller's undo labels), nor fault rules on files.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

struct fault {
    const char *point;
    int err;             /* 0: not armed */
    uint64_t nth, times; /* passes still to let through; failures still to deal out */
    uint64_t hits;       /* passes since the first fault_set() or fault_hits() */
};

static const char *const points[] = {
    "range_add/resource", /* register_memory_resource(): no memory for the resource */
    "range_add/section",  /* sparse_add_section() */
    "range_add/memmap",   /* ... no memory for one piece of a section's memmap */
    "memory_add/node",    /* __try_online_node() */
    "memory_add/block",   /* create_memory_block_devices() */
    "online/notifier",    /* MEM_GOING_ONLINE refused */
    "online/memmap",      /* mhp_init_memmap_on_memory() */
    "offline/isolate",    /* start_isolate_page_range() */
    "offline/pageblock",  /* set_migratetype_isolate() of one pageblock, where not all of the range
                             is isolated at once */
    "offline/notifier",   /* MEM_GOING_OFFLINE refused */
    "offline/dissolve",   /* dissolve_free_huge_pages() */
    "migrate/alloc",      /* no target page */
    "virtio_mem/plug",    /* the host refuses to plug, or is busy */
    "virtio_mem/unplug",  /* ... to unplug */
    "virtio_mem/contig",  /* alloc_contig_range() of what is to be unplugged */
    "migrate/move",       /* the page itself cannot move */
};
enum { NR_POINTS = sizeof points / sizeof *points };

static struct fault *fault_find(struct machine *m, const char *point)
{
    if (m->faults == NULL) {
        m->faults = xcalloc(m, NR_POINTS, sizeof *m->faults);
        m->nr_faults = NR_POINTS;
        for (size_t i = 0; i < NR_POINTS; i++)
            m->faults[i].point = points[i];
    }
    for (size_t i = 0; i < m->nr_faults; i++)
        if (strcmp(m->faults[i].point, point) == 0)
            return &m->faults[i];
    return NULL;
}

int fault_at(struct machine *m, const char *point)
{
    if (m->faults == NULL)
        return 0; /* nobody ever armed or counted one: nothing to look for on hot paths */
    struct fault *fault = fault_find(m, point);
    if (fault == NULL) {
        warn_on(m, true, "a fault point that is not in the list");
        return 0;
    }
    fault->hits++;
    if (fault->err == 0 || fault->times == 0)
        return 0;
    if (fault->nth > 1) {
        fault->nth--;
        return 0;
    }
    fault->times--;
    return fail(m, fault->err, "fault injected at %s", point);
}

int fault_set(struct machine *m, struct task *task, const char *point, int err, uint64_t nth,
              uint64_t times)
{
    int ret = 0;

    machine_lock(m, task);
    struct fault *fault = fault_find(m, point);
    if (fault == NULL)
        ret = fail(m, -ENOENT, "no fault point is called %s", point);
    else if (err > 0 || err < -4095)
        ret = fail(m, -EINVAL, "an errno between -4095 and 0 is needed, not %d", err);
    else
        *fault = (struct fault){
            .point = fault->point, .err = err, .nth = nth, .times = times, .hits = fault->hits};
    machine_unlock(m);
    return ret;
}

void fault_clear(struct machine *m)
{
    machine_lock(m, NULL);
    for (size_t i = 0; i < m->nr_faults; i++)
        m->faults[i].err = 0;
    machine_unlock(m);
}

size_t fault_points(const char *const **names)
{
    *names = points;
    return NR_POINTS;
}

uint64_t fault_hits(struct machine *m, const char *point)
{
    machine_lock(m, NULL);
    struct fault *fault = fault_find(m, point);
    uint64_t hits = fault != NULL ? fault->hits : 0;
    machine_unlock(m);
    return hits;
}

void fault_destroy(struct machine *m)
{
    free(m->faults);
}

/*
 * resource.c - the tree of physical address ranges behind /proc/iomem.
 *
 * Owns: who may claim a range, what is left of a claim when a part of it goes, which ranges are RAM
 * the kernel uses, the text of /proc/iomem. Does not own: sections or pages; a range here is only a
 * claim.
 *
 * Invariants: children lie within their parent, siblings are ascending and do not overlap. The root
 * is [0, 2^iomem_bits - 1].
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum { MAX_PRINTED_DEPTH = 5 }; /* children below that are printed, but not indented further */

static uint64_t root_end(const struct machine *m)
{
    return m->iomem_bits == 0 || m->iomem_bits >= 64 ? UINT64_MAX
                                                     : ((uint64_t)1 << m->iomem_bits) - 1;
}

static struct resource *resource_new(struct machine *m, uint64_t start, uint64_t end,
                                     const char *name, unsigned flags)
{
    struct resource *res = xcalloc(m, 1, sizeof *res);

    *res = (struct resource){.start = start, .end = end, .name = xstrdup(m, name), .flags = flags};
    return res;
}

static void resource_free(struct resource *res)
{
    for (size_t i = 0; i < res->nr_children; i++)
        resource_free(res->child[i]);
    free(res->child);
    free(res->name);
    free(res);
}

/* Number of the first child that ends at or after `start`. */
static size_t child_from(const struct resource *parent, uint64_t start)
{
    size_t low = 0, high = parent->nr_children;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (parent->child[middle]->end < start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void child_insert(struct machine *m, struct resource *parent, size_t at,
                         struct resource *res)
{
    if (parent->nr_children == parent->cap_children) {
        parent->cap_children = parent->cap_children != 0 ? parent->cap_children * 2 : 4;
        parent->child = xrealloc(m, parent->child, parent->cap_children, sizeof(struct resource *));
    }
    memmove(parent->child + at + 1, parent->child + at,
            (parent->nr_children - at) * sizeof(struct resource *));
    parent->child[at] = res;
    parent->nr_children++;
    res->parent = parent;
}

/* Put `res` among the children of `parent`. NULL, or who is in the way: a child, or the parent: too
 * small. */
static struct resource *resource_place(struct machine *m, struct resource *parent,
                                       struct resource *res)
{
    size_t at = child_from(parent, res->start);

    if (res->end < res->start || res->start < parent->start || res->end > parent->end)
        return parent;
    if (at < parent->nr_children && parent->child[at]->start <= res->end)
        return parent->child[at];
    child_insert(m, parent, at, res);
    return NULL;
}

int resource_insert(struct machine *m, const struct boot_resource *list, size_t nr)
{
    struct resource *last = &m->iomem;
    unsigned depth = 0; /* of what comes below `last`'s parent; the root's children have 0 */

    m->iomem.start = 0;
    m->iomem.end = root_end(m);
    for (size_t i = 0; i < nr; i++) {
        struct resource *parent = last;
        if (list[i].depth > depth)
            return fail(m, -EINVAL,
                        "resource %s has no parent: its depth is %u, at most %u can follow",
                        list[i].name, list[i].depth, depth);
        for (; depth > list[i].depth; depth--)
            parent = parent->parent;
        struct resource *res = resource_new(m, list[i].start, list[i].end, list[i].name,
                                            list[i].flags);
        if (resource_place(m, parent, res) != NULL) {
            resource_free(res);
            return fail(
                m, -EINVAL, "resource 0x%llx-0x%llx (%s) overlaps another one, or its parent's end",
                (unsigned long long)list[i].start, (unsigned long long)list[i].end, list[i].name);
        }
        last = res;
        depth = list[i].depth + 1;
    }
    return 0;
}

int resource_request(struct machine *m, uint64_t start, uint64_t end, const char *name,
                     unsigned flags, bool busy_only)
{
    struct resource *parent = &m->iomem, *conflict, *res;

    res = resource_new(m, start, end, name,
                       (flags & RES_IDLE) != 0 ? flags & ~RES_IDLE : flags | RES_BUSY);

    m->iomem.end = root_end(m);
    /* A child that is not busy only bounds what may be claimed: what lies within it becomes its
     * child. */
    while ((conflict = resource_place(m, parent, res)) != NULL) {
        if (!busy_only || conflict == parent || (conflict->flags & RES_BUSY) != 0)
            break;
        parent = conflict;
    }
    if (conflict == NULL)
        return 0;
    resource_free(res);
    if (conflict == &m->iomem)
        return fail(
            m, -EEXIST, "0x%llx-0x%llx is beyond the physical address space, which ends at 0x%llx",
            (unsigned long long)start, (unsigned long long)end, (unsigned long long)m->iomem.end);
    return fail(m, -EEXIST, "0x%llx-0x%llx is taken: 0x%llx-0x%llx is %s",
                (unsigned long long)start, (unsigned long long)end,
                (unsigned long long)conflict->start, (unsigned long long)conflict->end,
                conflict->name);
}

void resource_merge(struct machine *m, uint64_t start)
{
    struct resource *parent = &m->iomem;
    size_t at;

    for (;;) {
        at = child_from(parent, start);
        if (at == parent->nr_children || parent->child[at]->start > start)
            return;
        if ((parent->child[at]->flags & RES_BUSY) != 0)
            break;
        parent = parent->child[at];
    }
    if (at != 0)
        at--;
    for (unsigned i = 0; i < 2 && at + 1 < parent->nr_children && parent->child[at]->start <= start;
         i++) {
        struct resource *left = parent->child[at], *right = parent->child[at + 1];
        if (left->end + 1 != right->start || left->flags != right->flags ||
            left->nr_children + right->nr_children != 0 || strcmp(left->name, right->name) != 0) {
            at++;
            continue;
        }
        left->end = right->end;
        parent->nr_children--;
        memmove(parent->child + at + 1, parent->child + at + 2,
                (parent->nr_children - at - 1) * sizeof(struct resource *));
        resource_free(right);
    }
}

/* May `res` shrink to this range? Its children must stay within it. */
static bool resource_fits(const struct resource *res, uint64_t start, uint64_t end)
{
    return res->nr_children == 0 ||
           (res->child[0]->start >= start && res->child[res->nr_children - 1]->end <= end);
}

/* Take [start, end] off the busy child number `at`, which contains it. False: a child of its own is
 * in the way. */
static bool resource_cut(struct machine *m, struct resource *parent, size_t at, uint64_t start,
                         uint64_t end)
{
    struct resource *res = parent->child[at];

    if (res->start == start && res->end == end) {
        parent->nr_children--;
        memmove(parent->child + at, parent->child + at + 1,
                (parent->nr_children - at) * sizeof(struct resource *));
        resource_free(res);
    } else if (res->start == start) {
        if (!resource_fits(res, end + 1, res->end))
            return false;
        res->start = end + 1;
    } else if (res->end == end) {
        if (!resource_fits(res, res->start, start - 1))
            return false;
        res->end = start - 1;
    } else {
        if (!resource_fits(res, res->start, start - 1))
            return false;
        child_insert(m, parent, at + 1, resource_new(m, end + 1, res->end, res->name, res->flags));
        res->end = start - 1;
    }
    return true;
}

void resource_release(struct machine *m, uint64_t start, uint64_t end)
{
    for (struct resource *parent = &m->iomem;;) {
        size_t at = child_from(parent, start);
        struct resource *res = at < parent->nr_children ? parent->child[at] : NULL;
        if (res == NULL || res->start > start || res->end < end)
            break;
        if ((res->flags & RES_BUSY) != 0) {
            warn_on(m, !resource_cut(m, parent, at, start, end),
                    "a resource that is released has children of its own");
            return;
        }
        parent = res;
    }
    /* Nothing contains the range: it was claimed in pieces. The kernel says so at debug level and
     * goes on. */
}

/* In pre-order below `parent`, the first busy System RAM that ends at or after `start`. */
static const struct resource *ram_from(const struct resource *parent, uint64_t start)
{
    for (size_t i = child_from(parent, start); i < parent->nr_children; i++) {
        const struct resource *res = parent->child[i];
        if ((res->flags & (RES_BUSY | RES_SYSRAM)) == (RES_BUSY | RES_SYSRAM))
            return res;
        const struct resource *below = ram_from(res, start);
        if (below != NULL)
            return below;
    }
    return NULL;
}

uint64_t resource_ram_pages(struct machine *m, uint64_t start_pfn, uint64_t nr_pages)
{
    uint64_t page = (uint64_t)1 << m->page_shift, start = start_pfn << m->page_shift, sum = 0;

    if (nr_pages == 0)
        return 0;
    const uint64_t end = start + (nr_pages << m->page_shift) - 1;
    for (;;) {
        const struct resource *res = ram_from(&m->iomem, start);
        if (res == NULL || res->start > end)
            return sum;
        uint64_t first = res->start > start ? res->start : start,
                 last = res->end < end ? res->end : end;
        uint64_t first_pfn = (first >> m->page_shift) + ((first & (page - 1)) != 0 ? 1 : 0);
        uint64_t end_pfn = (last >> m->page_shift) + ((last & (page - 1)) == page - 1 ? 1 : 0);
        sum += end_pfn > first_pfn ? end_pfn - first_pfn : 0;
        if (last == end)
            return sum;
        start = last + 1;
    }
}

static void print_level(const struct resource *parent, unsigned depth, int width, struct text *out)
{
    for (size_t i = 0; i < parent->nr_children; i++) {
        const struct resource *res = parent->child[i];
        unsigned indent = depth < MAX_PRINTED_DEPTH ? depth : MAX_PRINTED_DEPTH;
        text_printf(out, "%*s%0*llx-%0*llx : %s\n", (int)(indent * 2), "", width,
                    (unsigned long long)res->start, width, (unsigned long long)res->end, res->name);
        print_level(res, depth + 1, width, out);
    }
}

void resource_print(struct machine *m, struct text *out)
{
    print_level(&m->iomem, 0, root_end(m) < 0x10000 ? 4 : 8, out);
}

void resource_destroy(struct machine *m)
{
    for (size_t i = 0; i < m->iomem.nr_children; i++)
        resource_free(m->iomem.child[i]);
    free(m->iomem.child);
    m->iomem.child = NULL;
    m->iomem.nr_children = m->iomem.cap_children = 0;
    free(m->iomem.name);
    m->iomem.name = NULL;
}

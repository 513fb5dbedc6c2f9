/*
 * node_attributes.c - what chmod, chown, utimensat and power/control have set of a node.
 *
 * Owns: the table by inode number, modes and times. Does not own: the node.
 *
 * Nothing is stored for a file until somebody changes it. What was set is kept with the ties by
 * which it can be seen that its device is gone.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sysfs/sysfs_tree.h"

static struct node_attrs *attrs_slot(struct node_attrs *table, size_t cap, uint64_t ino)
{
    size_t i = (size_t)ino & (cap - 1);

    while (table[i].ino != 0 && table[i].ino != ino)
        i = (i + 1) & (cap - 1);
    return &table[i];
}

const struct node_attrs *attrs_get(const struct machine *m, uint64_t ino)
{
    static const struct node_attrs none;

    return m->cap_overrides != 0 ? attrs_slot(m->overrides, m->cap_overrides, ino) : &none;
}

/* Make room; entries of devices that are gone are dropped on the way. */
static void attrs_grow(struct machine *m)
{
    size_t live = 0, cap = 64;
    struct node_attrs *old = m->overrides;

    for (size_t i = 0; i < m->cap_overrides; i++)
        if (old[i].ino != 0 && !ties_alive(m, old[i].ties, old[i].nr_ties))
            old[i].set = 0;
        else if (old[i].ino != 0)
            live++;
    while (cap < live * 2)
        cap *= 2;
    struct node_attrs *table = xcalloc(m, cap, sizeof *table);
    for (size_t i = 0; i < m->cap_overrides; i++)
        if (old[i].ino != 0 && old[i].set != 0)
            *attrs_slot(table, cap, old[i].ino) = old[i];
    free(old);
    m->overrides = table;
    m->nr_overrides = live;
    m->cap_overrides = cap;
}

struct node_attrs *attrs_make(struct machine *m, const struct place *place)
{
    if (m->nr_overrides * 4 >= m->cap_overrides * 3)
        attrs_grow(m);
    struct node_attrs *attrs = attrs_slot(m->overrides, m->cap_overrides, place->node.ino);
    if (attrs->ino == 0) {
        *attrs = (struct node_attrs){.ino = place->node.ino, .nr_ties = place->nr_ties};
        memcpy(attrs->ties, place->ties, sizeof attrs->ties);
        m->nr_overrides++;
    }
    return attrs;
}

uint64_t changed_us(struct machine *m, const struct sysfs_node *node)
{
    bool can = node->type == SYSFS_DIR && node->cls != NULL && node->cls->changed_us != NULL;

    return can ? node->cls->changed_us(m, node->id) : 0;
}

void mtime_set(struct machine *m, const struct place *place, int64_t mtime_ns)
{
    struct node_attrs *attrs = attrs_make(m, place);

    attrs->set |= SET_MTIME;
    attrs->mtime_ns = mtime_ns;
    attrs->changed_us = changed_us(m, &place->node);
}

void mtime_touch(struct machine *m, const struct place *place)
{
    mtime_set(m, place, now_ns());
}

uint32_t node_mode(struct machine *m, const struct sysfs_node *node)
{
    static const uint32_t type[] = {
        [SYSFS_DIR] = S_IFDIR, [SYSFS_FILE] = S_IFREG, [SYSFS_LINK] = S_IFLNK};
    const struct node_attrs *attrs = attrs_get(m, node->ino);
    const struct user_file *user = user_of(m, node);
    uint32_t mode = node->type == SYSFS_DIR    ? 0755
                    : node->type == SYSFS_LINK ? 0777
                    : user != NULL             ? user->mode
                                               : node->attr->mode;

    return type[node->type] | ((attrs->set & SET_MODE) != 0 ? attrs->mode : mode);
}

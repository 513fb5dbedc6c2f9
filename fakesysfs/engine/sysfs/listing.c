/*
 * listing.c - what a directory names, in the kernel's order.
 *
 * Owns: readdir, the number of directories in one. Does not own: which devices there are (the
 * list() of a class).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sysfs/sysfs_tree.h"

struct item {
    uint32_t hash;
    struct dirent_out out;
};

struct listing {
    struct machine *m;
    const struct sysfs_node *dir;
    const char *path;   /* of dir */
    struct item *items; /* NULL while only counting */
    size_t nr, cap;
    uint64_t nr_dirs;
    bool count_only, hidden; /* hidden: a user's file may stand before others of its name */
    bool lost;               /* there was no memory for an item */
};

/* Do fault rules have it that the directory does not name it? */
static bool listing_hidden(const struct listing *list, const char *name, bool link)
{
    char path[PATH_BYTES];
    int len = snprintf(path, sizeof path, "%s/%s", list->path, name);

    return (size_t)len < sizeof path && file_hidden(list->m, path, link, true);
}

static void listing_add(void *ctx, const char *name, const struct sysfs_node *found)
{
    struct listing *list = ctx;
    struct sysfs_node node = *found, user;

    if (list->count_only) {
        list->nr_dirs += node.type == SYSFS_DIR ? 1 : 0;
        return;
    }
    if (list->hidden && node.cls != &user_class && user_find(list->m, list->dir->ino, name, &user))
        return;
    if (list->m->nr_hiding != 0 && listing_hidden(list, name, node.type == SYSFS_LINK))
        return;
    if (list->nr == list->cap) {
        size_t cap = list->cap != 0 ? list->cap * 2 : 32;
        struct item *items = reallocarray(list->items, cap, sizeof *items);
        if (items == NULL) {
            list->lost = true;
            return;
        }
        list->items = items;
        list->cap = cap;
    }
    child_number(list->dir, name, &node);
    struct item *item = &list->items[list->nr++];
    item->hash = sysfs_name_hash(name);
    item->out = (struct dirent_out){.ino = node.ino, .mode = node_mode(list->m, &node)};
    snprintf(item->out.name, sizeof item->out.name, "%s", name);
}

static void listing_attrs(struct listing *list, const struct sysfs_class *cls)
{
    if (cls == NULL || cls->attrs == NULL)
        return;
    for (const struct sysfs_attr *attr = cls->attrs; attr->name != NULL; attr++) {
        struct sysfs_node node = attr_node(cls, attr, list->dir);
        if (attr_visible(list->m, &node))
            listing_add(list, attr->name, &node);
    }
}

static void listing_fill(struct listing *list)
{
    struct machine *m = list->m;
    const struct static_dir *fixed = static_of(m, list->dir);
    const struct sysfs_class *cls = list->dir->cls;

    for (size_t i = 0; i < m->nr_user_files; i++)
        if (m->user_files[i].dir_ino == list->dir->ino) {
            struct sysfs_node node = {
                .type = SYSFS_FILE, .cls = &user_class, .attr = &user_attr, .aux = i};
            list->hidden = true;
            listing_add(list, m->user_files[i].name, &node);
        }
    if (fixed != NULL) {
        for (size_t child = fixed->first_child; child != 0; child = m->dirs[child].next_sibling) {
            struct sysfs_node node = static_node(m, child);
            listing_add(list, m->dirs[child].name, &node);
        }
        for (size_t i = 0; i < fixed->nr_more; i++)
            listing_attrs(list, fixed->more[i]);
    }
    listing_attrs(list, cls);
    if (cls != NULL && cls->list != NULL)
        cls->list(m, list->dir->id, listing_add, list);
}

static int item_order(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return strcmp(x->out.name, y->out.name);
}

uint64_t count_dirs(struct machine *m, const struct sysfs_node *dir)
{
    const struct static_dir *fixed = static_of(m, dir);
    uint64_t nr = fixed != NULL ? fixed->nr_children : 0;

    if (dir->cls == NULL || dir->cls->list == NULL)
        return nr;
    if (dir->cls->nr_dirs != NULL)
        return nr + dir->cls->nr_dirs(m, dir->id);
    struct listing list = {.m = m, .dir = dir, .count_only = true};
    dir->cls->list(m, dir->id, listing_add, &list);
    return nr + list.nr_dirs;
}

int64_t file_readdir(struct machine *m, struct task *task, const char *path,
                     struct dirent_out **entries)
{
    struct walk w;

    machine_lock(m, task);
    int64_t ret = walk_path(m, path, true, &w);
    const struct sysfs_node *dir = &w.stack[w.depth].node;
    if (ret == 0 && dir->type != SYSFS_DIR)
        ret = fail(m, -ENOTDIR, "not a directory");
    if (ret == 0)
        ret = file_fault(m, RULE_LIST, w.path);
    if (ret == 0) {
        struct listing list = {.m = m, .dir = dir, .path = w.path};
        listing_fill(&list);
        if (list.nr != 0)
            qsort(list.items, list.nr, sizeof *list.items, item_order);
        *entries = !list.lost ? calloc(list.nr + 1, sizeof **entries) : NULL;
        for (size_t i = 0; *entries != NULL && i < list.nr; i++)
            (*entries)[i] = list.items[i].out;
        free(list.items);
        ret = *entries != NULL ? (int64_t)list.nr : no_host_memory(m);
    }
    machine_unlock(m);
    return ret;
}

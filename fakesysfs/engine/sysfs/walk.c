/*
 * walk.c - from a path to a node.
 *
 * Owns: the walk, links on the way, what is hidden on it, inode numbers, the ties of a node to its
 * devices. Does not own: which blocks or nodes exist (the lookup() of a class), the fixed
 * directories (tree_store.c).
 *
 * A node is found by walking from the root. Its inode number is made of its directory's, its name
 * and its serial: the same each time, and another one when a block comes back under its old number.
 */
#include <errno.h>
#include <string.h>

#include "sysfs/sysfs_tree.h"

enum { MAX_LINKS = 40 }; /* links followed in one walk, as the kernel */

uint32_t sysfs_name_hash(const char *name)
{
    uint64_t v = 0;

    for (; *name != '\0'; name++) {
        uint64_t c = (unsigned char)*name;
        v = (v + (c << 4) + (c >> 4)) * 11;
    }
    uint32_t hash = (uint32_t)((v * 0x61C8864680B583EBu) >> 32) & 0x7fffffffu;
    if (hash < 2) /* 0 and 1 are the offsets of . and .. */
        hash += 2;
    return hash >= INT32_MAX ? INT32_MAX - 1 : hash;
}

/* 63 bits of a hash: unique for all that could ever be opened, and positive where it is read as
 * signed. */
static uint64_t child_ino(uint64_t dir_ino, const char *name, uint64_t serial)
{
    uint64_t h = dir_ino ^ (serial * 0x9e3779b97f4a7c15u);

    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    h = (h ^ (h >> 31)) & INT64_MAX;
    return h > 1 ? h : 2;
}

static bool tie_add(struct place *place, const struct sysfs_class *cls, uint64_t id,
                    uint64_t serial)
{
    if (cls == NULL || cls->alive == NULL)
        return true;
    if (place->nr_ties == MAX_TIES)
        return false;
    place->ties[place->nr_ties++] = (struct tie){.cls = cls, .id = id, .serial = serial};
    return true;
}

bool ties_alive(struct machine *m, const struct tie *ties, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        if (!ties[i].cls->alive(m, ties[i].id, ties[i].serial))
            return false;
    return true;
}

bool place_alive(struct machine *m, const struct place *place)
{
    return ties_alive(m, place->ties, place->nr_ties);
}

bool attr_visible(struct machine *m, const struct sysfs_node *file)
{
    return file->attr->visible == NULL || file->attr->visible(m, file);
}

/* The attribute at `attr` as a file of `dir`. */
struct sysfs_node attr_node(const struct sysfs_class *cls, const struct sysfs_attr *attr,
                            const struct sysfs_node *dir)
{
    return (struct sysfs_node){
        .type = SYSFS_FILE, .cls = cls, .attr = attr, .id = dir->id, .serial = dir->serial};
}

static bool attr_find(struct machine *m, const struct sysfs_class *cls,
                      const struct sysfs_node *dir, const char *name, struct sysfs_node *out)
{
    if (cls == NULL || cls->attrs == NULL)
        return false;
    for (const struct sysfs_attr *attr = cls->attrs; attr->name != NULL; attr++)
        if (strcmp(attr->name, name) == 0) {
            *out = attr_node(cls, attr, dir);
            return attr_visible(m, out);
        }
    return false;
}

/* A file the user added hides what the kernel has under its name: that is how a test replaces one.
 */
bool child_find(struct machine *m, const struct sysfs_node *dir, const char *name,
                struct sysfs_node *out)
{
    struct static_dir *fixed = static_of(m, dir);

    if (m->nr_user_files != 0 && user_find(m, dir->ino, name, out))
        return true;
    if (fixed != NULL) {
        size_t child = dir_child(m, dir->aux - 1, name, strlen(name));
        if (child != 0) {
            *out = static_node(m, child);
            return true;
        }
        for (size_t i = 0; i < fixed->nr_more; i++)
            if (attr_find(m, fixed->more[i], dir, name, out))
                return true;
    }
    if (attr_find(m, dir->cls, dir, name, out))
        return true;
    memset(out, 0, sizeof *out);
    return dir->cls != NULL && dir->cls->lookup != NULL &&
           dir->cls->lookup(m, dir->id, name, out) == 0;
}

void child_number(const struct sysfs_node *dir, const char *name, struct sysfs_node *node)
{
    if (node->ino == 0)
        node->ino = child_ino(dir->ino, name, node->serial);
}

static int child_place(struct machine *m, const struct place *dir, const char *name,
                       struct place *out)
{
    *out = *dir;
    if (!child_find(m, &dir->node, name, &out->node))
        return fail(m, -ENOENT, "there is no %.100s here", name);
    child_number(&dir->node, name, &out->node);
    bool fixed = static_of(m, &out->node) != NULL;
    if (out->node.type == SYSFS_DIR && !fixed &&
        !tie_add(out, out->node.cls, out->node.id, out->node.serial))
        return fail(m, -ELOOP, "too many devices within one another");
    return 0;
}

int link_target(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    out->limit = PATH_BYTES - 1;
    if (node->cls != NULL && node->cls->target != NULL)
        node->cls->target(m, node, out);
    return out->len != 0 ? 0 : fail(m, -ENOENT, "the link leads nowhere");
}

static int walk_push(struct machine *m, struct walk *w, const struct place *child, const char *name)
{
    size_t end = w->end[w->depth], len = strlen(name);

    if (w->depth + 1 == MAX_DEPTH || end + len + 2 > sizeof w->path)
        return fail(m, -ENAMETOOLONG, "the path is too long");
    w->path[end] = '/';
    memcpy(w->path + end + 1, name, len + 1);
    w->depth++;
    w->end[w->depth] = end + 1 + len;
    w->stack[w->depth] = *child;
    return 0;
}

/* Do fault rules have it that there is nothing of this name in the directory reached? */
static bool walk_hidden(struct machine *m, struct walk *w, const char *name, bool link)
{
    size_t end = w->end[w->depth], len = strlen(name);

    if (m->nr_hiding == 0 || end + len + 2 > sizeof w->path)
        return false;
    w->path[end] = '/';
    memcpy(w->path + end + 1, name, len + 1);
    bool hidden = file_hidden(m, w->path, link, false);
    w->path[end] = '\0';
    return hidden;
}

/* Put the target of a link before the rest of the path. */
static int walk_link(struct machine *m, struct walk *w, const struct sysfs_node *link, char *rest,
                     const char *after)
{
    struct text target = {.m = m};
    int err = link_target(m, link, &target);

    if (err == 0 && target.len + strlen(after) + 2 > PATH_BYTES)
        err = fail(m, -ENAMETOOLONG, "the path is too long");
    if (err == 0) {
        if (target.data[0] == '/')
            w->depth = 0;
        text_append(&target, "/", *after != '\0' ? 1 : 0);
        target.limit = 0;
        text_append(&target, after, strlen(after));
        memcpy(rest, target.data, target.len + 1);
    }
    text_free(&target);
    return err;
}

int walk_path(struct machine *m, const char *path, bool follow, struct walk *w)
{
    char rest[PATH_BYTES];
    char *at = rest;
    unsigned links = 0;
    bool must_be_dir = false;
    int err;

    w->depth = 0;
    w->end[0] = 0;
    w->only_last_missing = false;
    root_place(m, &w->stack[0]);
    if (path[0] != '/')
        return fail(m, -ENOENT, "a path of the tree begins with /");
    if (strlen(path) >= sizeof rest)
        return fail(m, -ENAMETOOLONG, "the path is too long");
    memcpy(rest, path, strlen(path) + 1);
    for (;;) {
        at += strspn(at, "/");
        if (*at == '\0')
            break;
        char *name = at, *end = at + strcspn(at, "/");
        must_be_dir = *end == '/';
        at = end + strspn(end, "/");
        *end = '\0';
        bool last = *at == '\0';
        const struct place *dir = &w->stack[w->depth];
        if (dir->node.type != SYSFS_DIR)
            return fail(m, -ENOTDIR, "%.100s lies in something that is no directory", name);
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            must_be_dir = true;
            w->depth -= name[1] == '.' && w->depth > 0 ? 1 : 0;
            continue;
        }
        struct place child;
        err = child_place(m, dir, name, &child);
        if (err == 0 && walk_hidden(m, w, name, child.node.type == SYSFS_LINK))
            err = fail(m, -ENOENT, "a fault rule hides %.100s", name);
        if (err != 0) {
            w->only_last_missing = last && !must_be_dir;
            return err;
        }
        if (child.node.type == SYSFS_LINK && (!last || must_be_dir || follow)) {
            if (++links > MAX_LINKS)
                return fail(m, -ELOOP, "too many links");
            char after[PATH_BYTES];
            memcpy(after, at, strlen(at) + 1);
            err = walk_link(m, w, &child.node, rest, after);
            if (err != 0)
                return err;
            at = rest;
            continue;
        }
        err = walk_push(m, w, &child, name);
        if (err != 0)
            return err;
    }
    w->path[w->end[w->depth]] = '\0';
    if (must_be_dir && w->stack[w->depth].node.type != SYSFS_DIR)
        return fail(m, -ENOTDIR, "not a directory");
    return 0;
}

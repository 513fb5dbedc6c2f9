/*
 * sysfs_tree.c - the tree of files: what is where, and what stat, readdir and attempts to change it
 * say.
 *
 * Owns: the fixed directories, the walk from a path to a node, names, inode numbers, modes and what
 * chmod, chown and utimensat changed of them, listings, files a user added. Does not own: open
 * files (sysfs.c), which blocks or nodes exist (the lookup() and list() of a class), what a file
 * says.
 *
 * Nothing is stored for a file until somebody opens or changes it. A node is found by walking from
 * the root. Its inode number is made of its directory's, its name and its serial: the same each
 * time, and another one when a block comes back under its old number. What hangs on a node (a
 * changed mode) is kept under that number, with the ties by which it can be seen that its device is
 * gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "sysfs/sysfs_tree.h"

enum { MAX_LINKS = 40 }; /* links followed in one walk, as the kernel */

struct static_dir {
    char *name;
    size_t first_child,
        next_sibling; /* numbers in m->dirs; 0: none, as the root is nobody's child */
    uint64_t nr_children;
    const struct sysfs_class *cls; /* may be NULL */
    uint64_t id;
    const struct sysfs_class **more; /* classes whose attributes are files here too */
    size_t nr_more;
    int64_t born_ns; /* of the root: when the machine was made */
};

static const struct sysfs_class user_class = {.name = "user"};
static const struct sysfs_attr user_attr = {.name = "user"};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t page_size(const struct machine *m)
{
    return m->page_bytes != 0 ? m->page_bytes : 4096;
}

/* ---- names, numbers ---- */

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

struct sysfs_node sysfs_dir_node(const struct sysfs_class *cls, uint64_t id, uint64_t serial)
{
    return (struct sysfs_node){.type = SYSFS_DIR, .cls = cls, .id = id, .serial = serial};
}

struct sysfs_node sysfs_link_node(const struct sysfs_class *cls, uint64_t id, uint64_t aux,
                                  uint64_t serial)
{
    return (struct sysfs_node){
        .type = SYSFS_LINK, .cls = cls, .id = id, .aux = aux, .serial = serial};
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

static bool ties_alive(struct machine *m, const struct tie *ties, unsigned nr)
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

/* ---- the fixed directories ---- */

static size_t dir_new(struct machine *m, size_t parent, const char *name, size_t len)
{
    m->dirs = xrealloc(m->dirs, m->nr_dirs + 1, sizeof *m->dirs);
    struct static_dir *dir = &m->dirs[m->nr_dirs];
    *dir = (struct static_dir){.name = xcalloc(len + 1, 1)};
    memcpy(dir->name, name, len);
    if (m->nr_dirs != 0) {
        dir->next_sibling = m->dirs[parent].first_child;
        m->dirs[parent].first_child = m->nr_dirs;
        m->dirs[parent].nr_children++;
    } else {
        dir->born_ns = now_ns();
    }
    return m->nr_dirs++;
}

static size_t dir_child(const struct machine *m, size_t parent, const char *name, size_t len)
{
    size_t child = m->dirs[parent].first_child;

    while (child != 0 &&
           (strncmp(m->dirs[child].name, name, len) != 0 || m->dirs[child].name[len] != '\0'))
        child = m->dirs[child].next_sibling;
    return child;
}

static size_t dir_make(struct machine *m, const char *path)
{
    size_t dir = 0;

    if (m->nr_dirs == 0)
        dir_new(m, 0, "", 0);
    for (path += strspn(path, "/"); *path != '\0'; path += strspn(path, "/")) {
        size_t len = strcspn(path, "/"), child = dir_child(m, dir, path, len);
        dir = child != 0 ? child : dir_new(m, dir, path, len);
        path += len;
    }
    return dir;
}

void sysfs_dir_add(struct machine *m, const char *path, const struct sysfs_class *cls, uint64_t id)
{
    size_t dir = dir_make(m, path);

    m->dirs[dir].cls = cls;
    m->dirs[dir].id = id;
}

void sysfs_file_add(struct machine *m, const char *dir, const struct sysfs_class *cls)
{
    size_t number = dir_make(m, dir); /* may move m->dirs */
    struct static_dir *d = &m->dirs[number];

    d->more = xrealloc(d->more, d->nr_more + 1, sizeof *d->more);
    d->more[d->nr_more++] = cls;
}

static void root_place(struct machine *m, struct place *place)
{
    if (m->nr_dirs == 0)
        dir_new(m, 0, "", 0);
    *place = (struct place){
        .node = {.type = SYSFS_DIR, .cls = m->dirs[0].cls, .id = m->dirs[0].id, .aux = 1, .ino = 1},
    };
}

/* The fixed directory that a node is, or NULL. Its `aux` is its number plus one, 0 where lookup()
 * made it. */
static struct static_dir *static_of(struct machine *m, const struct sysfs_node *node)
{
    return node->type == SYSFS_DIR && node->aux != 0 ? &m->dirs[node->aux - 1] : NULL;
}

static struct sysfs_node static_node(const struct machine *m, size_t dir)
{
    struct sysfs_node node = sysfs_dir_node(m->dirs[dir].cls, m->dirs[dir].id, 0);

    node.aux = dir + 1;
    return node;
}

/* ---- files of users ---- */

struct user_file *user_of(struct machine *m, const struct sysfs_node *node)
{
    return node->cls == &user_class ? &m->user_files[node->aux] : NULL;
}

static bool user_find(struct machine *m, uint64_t dir_ino, const char *name, struct sysfs_node *out)
{
    for (size_t i = 0; i < m->nr_user_files; i++)
        if (m->user_files[i].dir_ino == dir_ino && strcmp(m->user_files[i].name, name) == 0) {
            *out = (struct sysfs_node){
                .type = SYSFS_FILE, .cls = &user_class, .attr = &user_attr, .aux = i};
            return true;
        }
    return false;
}

/* ---- the walk ---- */

static bool attr_visible(struct machine *m, const struct sysfs_node *file)
{
    return file->attr->visible == NULL || file->attr->visible(m, file);
}

/* The attribute at `attr` as a file of `dir`. */
static struct sysfs_node attr_node(const struct sysfs_class *cls, const struct sysfs_attr *attr,
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
static bool child_find(struct machine *m, const struct sysfs_node *dir, const char *name,
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

static void child_number(const struct sysfs_node *dir, const char *name, struct sysfs_node *node)
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

static int link_target(struct machine *m, const struct sysfs_node *node, struct text *out)
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
    struct text target = {0};
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

/* ---- what chmod, chown and utimensat have set ---- */

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
    struct node_attrs *table = xcalloc(cap, sizeof *table);
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

static uint64_t changed_us(struct machine *m, const struct sysfs_node *node)
{
    bool can = node->type == SYSFS_DIR && node->cls != NULL && node->cls->changed_us != NULL;

    return can ? node->cls->changed_us(m, node->id) : 0;
}

static void mtime_set(struct machine *m, const struct place *place, int64_t mtime_ns)
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

/* ---- listing ---- */

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
};

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
        list->cap = list->cap != 0 ? list->cap * 2 : 32;
        list->items = xrealloc(list->items, list->cap, sizeof *list->items);
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

static uint64_t count_dirs(struct machine *m, const struct sysfs_node *dir)
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
        *entries = xcalloc(list.nr + 1, sizeof **entries);
        for (size_t i = 0; i < list.nr; i++)
            (*entries)[i] = list.items[i].out;
        free(list.items);
        ret = (int64_t)list.nr;
    }
    machine_unlock(m);
    return ret;
}

/* ---- metadata ---- */

static uint64_t node_size(struct machine *m, const struct sysfs_node *node)
{
    const struct user_file *user = user_of(m, node);

    if (node->type != SYSFS_FILE || (node->attr->flags & ATTR_PROC) != 0)
        return 0;
    if (user != NULL)
        return user->proc ? 0 : user->size > page_size(m) ? user->size : page_size(m);
    return node->attr->size != NULL ? node->attr->size(m, node) : page_size(m);
}

void place_stat(struct machine *m, const struct place *place, struct file_stat *st)
{
    const struct sysfs_node *node = &place->node;
    const struct node_attrs *attrs = attrs_get(m, node->ino);
    bool alive = place_alive(m, place);
    uint64_t changed = alive ? changed_us(m, node) : 0;

    *st = (struct file_stat){.mode = node_mode(m, node), .ino = node->ino, .nlink = 1};
    if (node->type == SYSFS_DIR)
        st->nlink = 2 + (alive ? count_dirs(m, node) : 0);
    if (alive)
        st->size = node_size(m, node);
    else if (node->type == SYSFS_FILE)
        st->size = page_size(m);
    if ((attrs->set & SET_OWNER) != 0) {
        st->uid = attrs->uid;
        st->gid = attrs->gid;
    }
    if ((attrs->set & SET_MTIME) != 0 && changed <= attrs->changed_us)
        st->mtime_ns = attrs->mtime_ns;
    else
        st->mtime_ns = m->dirs[0].born_ns + (int64_t)changed * 1000;
}

int file_stat(struct machine *m, struct task *task, const char *path, struct file_stat *st)
{
    struct walk w;

    machine_lock(m, task);
    int err = walk_path(m, path, false, &w);
    if (err == 0)
        place_stat(m, &w.stack[w.depth], st);
    machine_unlock(m);
    return err;
}

int file_readlink(struct machine *m, struct task *task, const char *path, char *buf, size_t size)
{
    struct walk w;
    struct text target = {0};

    machine_lock(m, task);
    int err = walk_path(m, path, false, &w);
    if (err == 0 && (w.stack[w.depth].node.type != SYSFS_LINK || size == 0))
        err = fail(m, -EINVAL, "not a link");
    if (err == 0)
        err = link_target(m, &w.stack[w.depth].node, &target);
    if (err == 0) {
        size_t len = target.len < size ? target.len : size - 1;
        memcpy(buf, target.data, len);
        buf[len] = '\0';
    }
    text_free(&target);
    machine_unlock(m);
    return err;
}

int file_chmod(struct machine *m, struct task *task, const char *path, uint32_t mode)
{
    struct walk w;

    machine_lock(m, task);
    int err = walk_path(m, path, true, &w);
    if (err == 0) {
        struct node_attrs *attrs = attrs_make(m, &w.stack[w.depth]);
        attrs->set |= SET_MODE;
        attrs->mode = mode & 07777;
    }
    machine_unlock(m);
    return err;
}

int file_chown(struct machine *m, struct task *task, const char *path, uint32_t uid, uint32_t gid)
{
    struct walk w;

    machine_lock(m, task);
    int err = walk_path(m, path, false, &w);
    if (err == 0) {
        struct node_attrs *attrs = attrs_make(m, &w.stack[w.depth]);
        attrs->set |= SET_OWNER;
        attrs->uid = uid != UINT32_MAX ? uid : attrs->uid; /* -1 leaves it as it is */
        attrs->gid = gid != UINT32_MAX ? gid : attrs->gid;
    }
    machine_unlock(m);
    return err;
}

int file_utimens(struct machine *m, struct task *task, const char *path, int64_t mtime_ns)
{
    struct walk w;

    machine_lock(m, task);
    int err = walk_path(m, path, false, &w);
    if (err == 0)
        mtime_set(m, &w.stack[w.depth], mtime_ns);
    machine_unlock(m);
    return err;
}

int file_truncate(struct machine *m, struct task *task, const char *path, uint64_t size)
{
    struct walk w;

    machine_lock(m, task);
    int err = walk_path(m, path, true, &w);
    if (err == 0 && w.stack[w.depth].node.type == SYSFS_DIR)
        err = fail(m, -EISDIR, "a directory has no length to change");
    if (err == 0 && size > INT32_MAX)
        err = fail(m, -EFBIG, "no file of this tree is longer than 2^31 - 1 bytes");
    if (err == 0)
        mtime_touch(m, &w.stack[w.depth]); /* all that truncating does here */
    machine_unlock(m);
    return err;
}

/* ---- making and deleting: nobody may, and the errno says who refused ---- */

static int change_existing(struct machine *m, const char *op, enum sysfs_type type)
{
    if (strcmp(op, "unlink") == 0)
        return type == SYSFS_DIR ? fail(m, -EISDIR, "a directory")
                                 : fail(m, -EPERM, "files of this tree cannot be deleted");
    if (strcmp(op, "rmdir") == 0)
        return type == SYSFS_DIR ? fail(m, -EPERM, "directories of this tree cannot be deleted")
                                 : fail(m, -ENOTDIR, "not a directory");
    if (strcmp(op, "rename") == 0)
        return fail(m, -EPERM, "files of this tree cannot be renamed");
    return fail(m, -EEXIST, "there is one already");
}

static int change_new(struct machine *m, const char *op)
{
    if (strcmp(op, "create") == 0)
        return fail(m, -EACCES, "files cannot be created in this tree");
    if (strcmp(op, "unlink") == 0 || strcmp(op, "rmdir") == 0 || strcmp(op, "rename") == 0)
        return fail(m, -ENOENT, "no such file");
    return fail(m, -EPERM, "nothing can be made in this tree");
}

int file_change(struct machine *m, struct task *task, const char *op, const char *path)
{
    static const char *const ops[] = {"mkdir",   "unlink", "rmdir",  "rename",
                                      "symlink", "link",   "create", "mknod"};
    struct walk w;
    bool known = false;

    machine_lock(m, task);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        known |= strcmp(op, ops[i]) == 0;
    int err = known ? walk_path(m, path, false, &w)
                    : fail(m, -EINVAL, "no operation is called %.40s", op);
    if (known && err == 0)
        err = change_existing(m, op, w.stack[w.depth].node.type);
    else if (known && err == -ENOENT && w.only_last_missing)
        err = change_new(m, op);
    machine_unlock(m);
    return err;
}

/* ---- files of users, continued ---- */

/* The directory for a new file; made, with its parents, unless that would be within a device. */
static int user_dir(struct machine *m, char *dir, struct walk *w)
{
    int err = walk_path(m, *dir != '\0' ? dir : "/", true, w);

    if (err == -ENOENT && static_of(m, &w->stack[w->depth].node) != NULL &&
        strstr(dir, "/..") == NULL) {
        dir_make(m, dir);
        err = walk_path(m, dir, true, w);
    }
    if (err == 0 && w->stack[w->depth].node.type != SYSFS_DIR)
        err = fail(m, -ENOTDIR, "the file would lie in something that is no directory");
    return err;
}

static int user_add(struct machine *m, const char *path, const char *data, size_t size,
                    uint32_t mode)
{
    struct walk w;
    struct sysfs_node found;
    char dir[PATH_BYTES];
    const char *slash = strrchr(path, '/');

    if (path[0] != '/' || slash[1] == '\0' || strcmp(slash, "/.") == 0 || strcmp(slash, "/..") == 0)
        return fail(m, -EINVAL, "the path of a file begins with / and ends with its name");
    if (strlen(path) >= sizeof dir || strlen(slash + 1) >= sizeof((struct dirent_out *)0)->name)
        return fail(m, -ENAMETOOLONG, "the name is too long");
    memcpy(dir, path, (size_t)(slash - path));
    dir[slash - path] = '\0';
    int err = user_dir(m, dir, &w);
    if (err != 0)
        return err;
    const struct sysfs_node *parent = &w.stack[w.depth].node;
    bool exists = child_find(m, parent, slash + 1, &found);
    if (exists && found.type != SYSFS_FILE)
        return fail(m, -EEXIST, "there is a directory or a link of this name");
    struct user_file *file = exists ? user_of(m, &found) : NULL;
    if (file == NULL) {
        m->user_files = xrealloc(m->user_files, m->nr_user_files + 1, sizeof *m->user_files);
        file = &m->user_files[m->nr_user_files++];
        *file = (struct user_file){.dir_ino = parent->ino, .name = xstrdup(slash + 1)};
        file->proc = strncmp(w.path, "/proc", 5) == 0 && (w.path[5] == '/' || w.path[5] == '\0');
    }
    file->data = xrealloc(file->data, size + 1, 1);
    memcpy(file->data, data, size);
    file->size = size;
    file->mode = mode & 07777;
    return 0;
}

int file_add(struct machine *m, struct task *task, const char *path, const char *data, size_t size,
             uint32_t mode)
{
    machine_lock(m, task);
    int err = user_add(m, path, data, size, mode);
    machine_unlock(m);
    return err;
}

void tree_destroy(struct machine *m)
{
    for (size_t i = 0; i < m->nr_dirs; i++) {
        free(m->dirs[i].name);
        free(m->dirs[i].more);
    }
    free(m->dirs);
    free(m->overrides);
    for (size_t i = 0; i < m->nr_user_files; i++) {
        free(m->user_files[i].name);
        free(m->user_files[i].data);
    }
    free(m->user_files);
}

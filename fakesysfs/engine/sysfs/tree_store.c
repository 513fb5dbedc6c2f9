/*
 * tree_store.c - what is stored of the tree: the fixed directories, and the files that users added.
 *
 * Owns: their places and names. Does not own: directories of devices, which lookup() and list() of
 * a class make up (sysfs.h), the walk (walk.c), how a user's file comes to be (user_files.c).
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sysfs/sysfs_tree.h"

const struct sysfs_class user_class = {.name = "user"};
const struct sysfs_attr user_attr = {.name = "user"};

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t page_size(const struct machine *m)
{
    return m->page_bytes != 0 ? m->page_bytes : 4096;
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

/* ---- the fixed directories ---- */

static size_t dir_new(struct machine *m, size_t parent, const char *name, size_t len)
{
    m->dirs = xrealloc(m, m->dirs, m->nr_dirs + 1, sizeof *m->dirs);
    struct static_dir *dir = &m->dirs[m->nr_dirs];
    *dir = (struct static_dir){.name = xcalloc(m, len + 1, 1)};
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

size_t dir_child(const struct machine *m, size_t parent, const char *name, size_t len)
{
    size_t child = m->dirs[parent].first_child;

    while (child != 0 &&
           (strncmp(m->dirs[child].name, name, len) != 0 || m->dirs[child].name[len] != '\0'))
        child = m->dirs[child].next_sibling;
    return child;
}

size_t dir_make(struct machine *m, const char *path)
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

    d->more = xrealloc(m, d->more, d->nr_more + 1, sizeof *d->more);
    d->more[d->nr_more++] = cls;
}

void root_place(struct machine *m, struct place *place)
{
    if (m->nr_dirs == 0)
        dir_new(m, 0, "", 0);
    *place = (struct place){
        .node = {.type = SYSFS_DIR, .cls = m->dirs[0].cls, .id = m->dirs[0].id, .aux = 1, .ino = 1},
    };
}

/* The fixed directory that a node is, or NULL. Its `aux` is its number plus one, 0 where lookup()
 * made it. */
struct static_dir *static_of(struct machine *m, const struct sysfs_node *node)
{
    return node->type == SYSFS_DIR && node->aux != 0 ? &m->dirs[node->aux - 1] : NULL;
}

struct sysfs_node static_node(const struct machine *m, size_t dir)
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

bool user_find(struct machine *m, uint64_t dir_ino, const char *name, struct sysfs_node *out)
{
    for (size_t i = 0; i < m->nr_user_files; i++)
        if (m->user_files[i].dir_ino == dir_ino && strcmp(m->user_files[i].name, name) == 0) {
            *out = (struct sysfs_node){
                .type = SYSFS_FILE, .cls = &user_class, .attr = &user_attr, .aux = i};
            return true;
        }
    return false;
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

/*
 * user_files.c - files that a user of the engine adds to the tree.
 *
 * Owns: where such a file may lie, and what becomes of one that is there. Does not own: the list of
 * them (tree_store.c).
 *
 * A file the user added hides what the kernel has under its name: that is how a test replaces one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sysfs/sysfs_tree.h"

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
        m->user_files = xrealloc(m, m->user_files, m->nr_user_files + 1, sizeof *m->user_files);
        file = &m->user_files[m->nr_user_files++];
        *file = (struct user_file){.dir_ino = parent->ino, .name = xstrdup(m, slash + 1)};
        file->proc = strncmp(w.path, "/proc", 5) == 0 && (w.path[5] == '/' || w.path[5] == '\0');
    }
    file->data = xrealloc(m, file->data, size + 1, 1);
    memcpy(file->data, data, size);
    file->size = size;
    file->mode = mode & 07777;
    return 0;
}

int file_add(struct machine *m, struct task *task, const char *path, const char *data, size_t size,
             uint32_t mode)
{
    machine_lock(m, task);
    int err = host_memory_ready(m, size);
    if (err == 0)
        err = user_add(m, path, data, size, mode);
    machine_unlock(m);
    return err;
}

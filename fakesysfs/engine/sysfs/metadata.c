/*
 * metadata.c - what stat and readlink say of a node, and what becomes of attempts to change it.
 *
 * Owns: sizes, link counts, times; chmod, chown, utimensat, truncate; the errno with which the tree
 * refuses to be changed. Does not own: what was set (node_attributes.c), open files (sysfs.c).
 */
#include <errno.h>
#include <string.h>

#include "sysfs/sysfs_tree.h"

static uint64_t node_size(struct machine *m, const struct sysfs_node *node)
{
    const struct user_file *user = user_of(m, node);

    if (node->type != SYSFS_FILE || (node->attr->flags & (ATTR_PROC | ATTR_SYSCTL)) != 0)
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
    struct text target = {.m = m};

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
    if (err == 0)
        err = host_memory_ready(m, 0);
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
    if (err == 0)
        err = host_memory_ready(m, 0);
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
        err = host_memory_ready(m, 0);
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
        err = host_memory_ready(m, 0);
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

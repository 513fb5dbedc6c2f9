/*
 * sysfs.c - open files, and the rules by which kernfs reads and writes them.
 *
 * Owns: handles and their buffers, sysfs_show() and sysfs_store(), and the files of power/. Does
 * not own: the tree (walk.c), what a file says (show) and what a write does (store).
 *
 * show() and store() may give the mutex up. So an open file is counted while it is in use, lives in
 * memory of its own, and carries all it needs: its node by value, and the ties that tell when its
 * device is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sysfs/sysfs_tree.h"

enum { EVENT_BYTES = 64 }; /* of what was written, shown in an event */

struct open_file {
    struct place place;
    int flags;
    unsigned users; /* calls in it, and the table */
    char *path;     /* without links */
    char *data;     /* what show() printed; NULL: nothing */
    size_t len, from;
    uint64_t read_pos; /* the offset at which a read continues with `from` */
    bool shown;        /* show() has run for it */
    unsigned stores;   /* under way, or held up by a fault rule */
};

static bool wants_read(int flags)
{
    return (flags & O_ACCMODE) != O_WRONLY;
}

static bool wants_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

/* What VFS and kernfs check. kernfs looks at the mode bits even for root, procfs and debugfs do
 * not. */
static int open_check(struct machine *m, const struct place *place, int flags)
{
    const struct sysfs_node *node = &place->node;
    uint32_t mode = node_mode(m, node);

    if (node->type == SYSFS_LINK)
        return fail(m, -ELOOP, "a link, and links were not to be followed");
    if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
        return fail(m, -EEXIST, "there is one already");
    if (node->type == SYSFS_DIR && (flags & O_TMPFILE) == O_TMPFILE)
        return fail(m, -EOPNOTSUPP, "files cannot be created in this tree");
    if (node->type == SYSFS_DIR)
        return wants_write(flags) || (flags & O_CREAT) != 0 ? fail(m, -EISDIR, "a directory") : 0;
    if ((flags & O_DIRECTORY) != 0)
        return fail(m, -ENOTDIR, "not a directory");
    if ((node->attr->flags & (ATTR_PROC | ATTR_EMPTY_STORE)) == 0) {
        if (wants_write(flags) && (mode & 0222) == 0)
            return fail(m, -EACCES, "the file is read-only, for root too");
        if (wants_read(flags) && (mode & 0444) == 0)
            return fail(m, -EACCES, "the file is write-only, for root too");
    }
    return (flags & O_DIRECT) != 0 ? fail(m, -EINVAL, "O_DIRECT is not for files of the kernel")
                                   : 0;
}

static int64_t file_install(struct machine *m, struct open_file *file)
{
    size_t slot = m->lowest_free_file;

    while (slot < m->nr_files && m->files[slot] != NULL)
        slot++;
    if (slot == m->nr_files) {
        size_t nr = m->nr_files != 0 ? m->nr_files * 2 : 16;
        m->files = xrealloc(m, m->files, nr, sizeof(struct open_file *));
        memset(m->files + m->nr_files, 0, (nr - m->nr_files) * sizeof(struct open_file *));
        m->nr_files = nr;
    }
    m->files[slot] = file;
    m->lowest_free_file = slot + 1;
    return m->handles_before + (int64_t)slot + 1;
}

static int open_walk(struct machine *m, const char *path, int flags, struct walk *w)
{
    int err = walk_path(m, path, (flags & O_NOFOLLOW) == 0, w);

    if (err == -ENOENT && w->only_last_missing && (flags & O_CREAT) != 0)
        return fail(m, -EACCES, "files cannot be created in this tree");
    return err != 0 ? err : open_check(m, &w->stack[w->depth], flags);
}

int64_t file_open(struct machine *m, struct task *task, const char *path, int flags)
{
    struct walk w;

    machine_lock(m, task);
    int64_t ret = open_walk(m, path, flags, &w);
    if (ret == 0 && m->nr_rules != 0) {
        ret = file_fault(m, RULE_OPEN, w.path);
        if (ret == 0)
            ret = open_walk(m, path, flags, &w); /* what was there may have gone meanwhile */
    }
    if (ret == 0)
        ret = host_memory_ready(m, 0);
    if (ret == 0) {
        struct open_file *file = xcalloc(m, 1, sizeof *file);
        file->place = w.stack[w.depth];
        file->flags = flags;
        file->users = 1;
        file->path = xstrdup(m, w.depth != 0 ? w.path : "/");
        if ((flags & O_TRUNC) != 0 && wants_write(flags))
            mtime_touch(m, &file->place);
        ret = file_install(m, file);
    }
    machine_unlock(m);
    return ret;
}

static struct open_file *file_find(struct machine *m, int64_t handle)
{
    int64_t slot = handle - m->handles_before - 1;

    if (slot >= 0 && (uint64_t)slot < m->nr_files && m->files[slot] != NULL)
        return m->files[slot];
    return NULL;
}

/* Why no open file has this handle. */
static int no_file(struct machine *m, int64_t handle)
{
    return handle >= 1 && handle <= m->handles_before
               ? fail(m, -ENODEV, "the machine was reset since this file was opened")
               : fail(m, -EBADF, "no open file has this number");
}

static struct open_file *file_get(struct machine *m, int64_t handle)
{
    struct open_file *file = file_find(m, handle);

    if (file != NULL)
        file->users++;
    return file;
}

static void file_put(struct open_file *file)
{
    if (--file->users != 0)
        return;
    free(file->path);
    free(file->data);
    free(file);
}

int file_release(struct machine *m, int64_t handle)
{
    machine_lock(m, NULL);
    struct open_file *file = file_find(m, handle);
    int err = file != NULL ? 0 : no_file(m, handle);
    if (file != NULL) {
        size_t slot = (size_t)(handle - m->handles_before) - 1;
        m->files[slot] = NULL;
        if (slot < m->lowest_free_file)
            m->lowest_free_file = slot;
        file_put(file); /* the table's; a read under way has one of its own */
    }
    machine_unlock(m);
    return err;
}

int file_fstat(struct machine *m, struct task *task, int64_t handle, struct file_stat *st)
{
    machine_lock(m, task);
    struct open_file *file = file_get(m, handle);
    int err = file != NULL ? 0 : no_file(m, handle);
    if (file != NULL) {
        place_stat(m, &file->place, st);
        file_put(file);
    }
    machine_unlock(m);
    return err;
}

/* Run show() for a node. It may give the mutex up: nothing of the open file is touched before it is
 * back. */
static int sysfs_show(struct machine *m, struct open_file *file, struct text *out)
{
    const struct place *place = &file->place;
    const struct sysfs_attr *attr = place->node.attr;
    int err = place_alive(m, place) ? file_fault(m, RULE_READ, file->path) : 0;

    if (err != 0)
        return err;
    if (!place_alive(m, place))
        return fail(m, -ENODEV, "the device is gone");
    file->shown = true;
    const struct user_file *user = user_of(m, &place->node);
    if (user != NULL) {
        text_append(out, user->data, user->size);
        return out->lost ? no_host_memory(m) : 0;
    }
    if (attr->show == NULL)
        return fail(m, -EIO, "nothing can be read from %s", attr->name);
    /* a page, and sysfs_emit() keeps its last byte for a NUL */
    out->limit = (attr->flags & (ATTR_LARGE | ATTR_PROC)) != 0 ? 0 : page_size(m) - 1;
    err = attr->show(m, &place->node, out);
    m->nr_accesses += 1 + out->len / 1024; /* each takes memory, long ones more */
    if (err >= 0 && out->lost)
        return no_host_memory(m);
    return err < 0 ? err : 0;
}

/*
 * As seq_file reads a file of one record: at offset 0 and wherever the last read did not end,
 * show() runs again and what lies before the offset is skipped; else the buffer continues. It
 * outlives the device.
 */
static int64_t sysfs_read(struct machine *m, struct open_file *file, char *buf, size_t size,
                          uint64_t offset)
{
    if (file->place.node.type == SYSFS_DIR)
        return fail(m, -EISDIR, "a directory cannot be read as a file");
    if (!wants_read(file->flags))
        return fail(m, -EBADF, "the file is open for writing only");
    if (size == 0)
        return 0;
    if (offset == 0 || offset != file->read_pos) {
        struct text out = {0};
        int err = sysfs_show(m, file, &out);
        free(file->data);
        file->data = err == 0 ? out.data : NULL;
        file->len = err == 0 ? out.len : 0;
        file->from = offset < file->len ? (size_t)offset : file->len;
        file->read_pos = err == 0 ? offset : 0;
        if (err != 0) {
            text_free(&out);
            return err;
        }
    } else if (file->from == file->len && !place_alive(m, &file->place)) {
        return fail(m, -ENODEV, "the device is gone");
    }
    size_t n = file->len - file->from;
    if (n > size)
        n = size;
    if (n != 0)
        memcpy(buf, file->data + file->from, n);
    file->from += n;
    file->read_pos += n;
    return (int64_t)n;
}

int64_t file_read(struct machine *m, struct task *task, int64_t handle, char *buf, size_t size,
                  uint64_t offset)
{
    machine_lock(m, task);
    struct open_file *file = file_get(m, handle);
    int64_t ret = file != NULL ? sysfs_read(m, file, buf, size, offset) : no_file(m, handle);
    if (file != NULL)
        file_put(file);
    machine_unlock(m);
    return ret;
}

/*
 * As kernfs_fop_poll(): there is always something to read and to write. What was not read since it
 * changed is urgent, too: an attribute that was never read, and one whose device is gone. No
 * attribute here tells that it changed, so nobody who waits for that is woken. Files of /proc and
 * debugfs do not know of urgency.
 */
int file_poll(struct machine *m, int64_t handle)
{
    int events = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;

    machine_lock(m, NULL);
    struct open_file *file = file_find(m, handle);
    const struct sysfs_attr *attr = file != NULL ? file->place.node.attr : NULL;
    if (attr != NULL && (attr->flags & (ATTR_PROC | ATTR_SYSCTL | ATTR_EMPTY_STORE)) == 0)
        events |= file->shown && place_alive(m, &file->place) ? 0 : POLLERR | POLLPRI;
    machine_unlock(m);
    return file != NULL ? events : no_file(m, handle);
}

/* Tell who wrote what. What would not survive as text is written as C would write it. */
static void store_event(struct machine *m, const char *path, const char *buf, size_t count,
                        int64_t ret)
{
    struct text data = {.m = m};

    for (size_t i = 0; i < count && i < EVENT_BYTES; i++) {
        unsigned char c = (unsigned char)buf[i];
        if ((c >= ' ' && c < 0x7f) || c == '\n' || c == '\t')
            text_append(&data, buf + i, 1);
        else
            text_printf(&data, c == 0 ? "\\%u" : "\\x%02x", c);
    }
    event_add(m, EVENT_STORE, ret < 0 ? (int)ret : 0, path, data.data != NULL ? data.data : "");
    text_free(&data);
}

static int64_t user_store(struct machine *m, struct user_file *user, const char *buf, size_t count)
{
    user->data = xrealloc(m, user->data, count + 1, 1);
    memcpy(user->data, buf, count);
    user->size = count;
    return (int64_t)count;
}

/* One write(2) is one store(): at most a page, a NUL behind it, the offset forgotten. */
static int64_t sysfs_store(struct machine *m, struct open_file *file, const char *data, size_t size)
{
    const struct sysfs_node *node = &file->place.node;
    size_t count = size < page_size(m) ? size : (size_t)page_size(m);

    if (node->type == SYSFS_DIR || !wants_write(file->flags))
        return fail(m, -EBADF, "the file is open for reading only");
    if (!place_alive(m, &file->place))
        return fail(m, -ENODEV, "the device is gone");
    if ((node->attr->flags & ATTR_PROC) != 0)
        return fail(m, -EIO, "nothing can be written to %s", node->attr->name);
    if (count == 0 && (node->attr->flags & ATTR_EMPTY_STORE) == 0)
        return 0;
    int err = sections_ready(m, 0);
    if (err != 0)
        return err;
    char *buf = xcalloc(m, count + 1, 1);
    memcpy(buf, data, count);
    file->stores++;
    trace_begin(m);
    int64_t ret = file_fault(m, RULE_WRITE, file->path);
    if (ret == 0 && !place_alive(m, &file->place))
        ret = fail(m, -ENODEV, "the device is gone");
    struct user_file *user = user_of(m, node);
    if (ret != 0)
        ; /* it does not come to a store */
    else if (user != NULL)
        ret = user_store(m, user, buf, count);
    else if (node->attr->store != NULL) {
        m->nr_accesses++;
        ret = node->attr->store(m, node, buf, count);
    } else
        ret = fail(m, -EIO, "nothing can be written to %s", node->attr->name);
    trace_finish_write(m, file->path, buf, count, ret);
    store_event(m, file->path, buf, count, ret);
    free(buf);
    file->stores--;
    if (m->awaiting_stores != 0)
        pthread_cond_broadcast(&m->changed);
    return ret;
}

static bool others_store(const struct machine *m, const struct open_file *file)
{
    for (size_t i = 0; i < m->nr_files; i++)
        if (m->files[i] != NULL && m->files[i] != file && m->files[i]->stores != 0 &&
            strcmp(m->files[i]->path, file->path) == 0)
            return true;
    return false;
}

int file_await_stores(struct machine *m, struct task *task, int64_t handle)
{
    int err = 0;

    machine_lock(m, task);
    struct open_file *file = file_get(m, handle);
    if (file == NULL)
        err = no_file(m, handle);
    m->awaiting_stores++;
    while (err == 0 && (file->flags & (O_ACCMODE | O_NONBLOCK)) == O_WRONLY &&
           others_store(m, file)) {
        if (atomic_load(&m->ending))
            err = fail(m, -ENODEV, "the machine ended");
        else
            err = wait_changed(m);
    }
    m->awaiting_stores--;
    if (file != NULL)
        file_put(file);
    machine_unlock(m);
    return err;
}

int64_t file_write(struct machine *m, struct task *task, int64_t handle, const char *buf,
                   size_t size)
{
    machine_lock(m, task);
    struct open_file *file = file_get(m, handle);
    int64_t ret = file != NULL ? sysfs_store(m, file, buf, size) : no_file(m, handle);
    if (file != NULL)
        file_put(file);
    machine_unlock(m);
    return ret;
}

/* ---- power/: runtime power management, which these devices do not have ---- */

static int control_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    text_printf(out, "%s\n", (attrs_get(m, node->ino)->set & SET_POWER_ON) != 0 ? "on" : "auto");
    return 0;
}

/* The node of a store is always that of an open file's place, of which it is the first member. */
static int64_t control_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                             size_t count)
{
    const struct place *place = (const struct place *)node;

    if (sysfs_streq(buf, "on"))
        attrs_make(m, place)->set |= SET_POWER_ON;
    else if (sysfs_streq(buf, "auto"))
        attrs_make(m, place)->set &= ~(unsigned)SET_POWER_ON;
    else
        return fail(m, -EINVAL, "power/control knows `auto` and `on`");
    return (int64_t)count;
}

static int runtime_status_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m, (void)node;
    text_printf(out, "unsupported\n");
    return 0;
}

static int runtime_time_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m, (void)node;
    text_printf(out, "0\n");
    return 0;
}

static const struct sysfs_attr power_attrs[] = {
    {.name = "autosuspend_delay_ms",
     .mode = 0644}, /* EIO both ways: the device does not use autosuspend */
    {.name = "control", .mode = 0644, .show = control_show, .store = control_store},
    {.name = "runtime_active_time", .mode = 0444, .show = runtime_time_show},
    {.name = "runtime_status", .mode = 0444, .show = runtime_status_show},
    {.name = "runtime_suspended_time", .mode = 0444, .show = runtime_time_show},
    {0},
};

const struct sysfs_class sysfs_power_class = {.name = "power", .attrs = power_attrs};

void sysfs_destroy(struct machine *m)
{
    for (size_t i = 0; i < m->nr_files; i++)
        if (m->files[i] != NULL)
            file_put(m->files[i]);
    free(m->files);
    tree_destroy(m);
}

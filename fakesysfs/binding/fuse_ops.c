/*
 * fuse_ops.c - file operations as libfuse 2 calls them: lookups, reads, listings without an
 * interpreter.
 *
 * Owns: the translation between libfuse's signatures and engine.h, and the only globals of the
 * engine: which machine of this process is mounted, because these callbacks get no context without
 * linking libfuse, and how many of them are under way. Does not own: any rule of a file (sysfs.c,
 * walk.c), writes (they deliver events, so they go through the binding), libfuse's headers:
 * its version 2 ABI is frozen, and what is needed of it is declared here.
 *
 * Thread-safe: every function of engine.h locks the machine. fi->fh is the handle of file_open(),
 * whoever called it.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

struct fuse_file_info { /* of <fuse/fuse_common.h>, API 26 */
    int flags;
    unsigned long fh_old;
    int writepage;
    unsigned int direct_io : 1;
    unsigned int keep_cache : 1;
    unsigned int flush : 1;
    unsigned int nonseekable : 1;
    unsigned int flock_release : 1;
    unsigned int padding : 27;
    uint64_t fh;
    uint64_t lock_owner;
};
typedef int (*fuse_fill_dir_t)(void *buf, const char *name, const struct stat *st, off_t offset);

_Static_assert(sizeof(void *) != 8 || offsetof(struct fuse_file_info, fh) == 24, "as in libfuse 2");

static _Atomic(struct machine *) mounted;
static _Atomic(int (*)(void)) request_interrupted;
static _Atomic(void (*)(void *)) poll_forgotten;
static atomic_uint under_way;

void fuse_ops_mount(struct machine *m, uintptr_t interrupted, uintptr_t forget_poll)
{
    struct timespec moment = {.tv_nsec = 1000000};

    atomic_store(&request_interrupted, (int (*)(void))interrupted);
    atomic_store(&poll_forgotten, (void (*)(void *))forget_poll);
    atomic_store(&mounted, m);
    while (m == NULL && atomic_load(&under_way) != 0)
        nanosleep(&moment, NULL);
}

bool fuse_ops_replace(struct machine *before, struct machine *m)
{
    struct timespec moment = {.tv_nsec = 1000000};

    atomic_compare_exchange_strong(&mounted, &(struct machine *){before}, m);
    for (int i = 0; i < 100 && atomic_load(&under_way) != 0; i++)
        nanosleep(&moment, NULL);
    return atomic_load(&under_way) == 0;
}

/* The machine to ask; NULL: none is mounted. Then the operation is over, else op_end() ends it. */
static struct machine *op_begin(struct task *task)
{
    *task = (struct task){.interrupted = atomic_load(&request_interrupted), .capable = true};
    atomic_fetch_add(&under_way, 1);
    struct machine *m = atomic_load(&mounted);
    if (m == NULL)
        atomic_fetch_sub(&under_way, 1);
    return m;
}

static int op_end(int result)
{
    atomic_fetch_sub(&under_way, 1);
    return result;
}

/*
 * Root's files show as those of whoever mounts. For root and in a user namespace that is 0. A plain
 * user who mounts without a namespace could not write them otherwise: the kernel compares before
 * the engine is asked.
 */
static void stat_fill(struct stat *st, const struct file_stat *from)
{
    memset(st, 0, sizeof *st);
    st->st_mode = from->mode;
    st->st_ino = from->ino;
    st->st_nlink = (nlink_t)from->nlink;
    st->st_uid = from->uid != 0 ? from->uid : geteuid();
    st->st_gid = from->gid != 0 ? from->gid : getegid();
    st->st_size = (off_t)from->size;
    st->st_blksize = 4096;
    st->st_mtim.tv_sec = (time_t)(from->mtime_ns / 1000000000);
    st->st_mtim.tv_nsec = (long)(from->mtime_ns % 1000000000);
    if (st->st_mtim.tv_nsec < 0) {
        st->st_mtim.tv_nsec += 1000000000;
        st->st_mtim.tv_sec--;
    }
    st->st_ctim = st->st_atim = st->st_mtim;
}

static int op_getattr(const char *path, struct stat *st)
{
    struct task task;
    struct machine *m = op_begin(&task);
    struct file_stat from;

    if (m == NULL)
        return -ENODEV;
    int err = file_stat(m, &task, path, &from);
    if (err == 0)
        stat_fill(st, &from);
    return op_end(err);
}

static int op_fgetattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    struct task task;
    struct machine *m = op_begin(&task);
    struct file_stat from;

    if (m == NULL)
        return -ENODEV;
    int err = file_fstat(m, &task, (int64_t)fi->fh, &from);
    if (err == -EBADF) /* of a directory, say: those are opened without a handle */
        return op_end(op_getattr(path, st));
    if (err == 0)
        stat_fill(st, &from);
    return op_end(err);
}

static int op_readlink(const char *path, char *buf, size_t size)
{
    struct task task;
    struct machine *m = op_begin(&task);

    return m != NULL ? op_end(file_readlink(m, &task, path, buf, size)) : -ENODEV;
}

/*
 * FUSE lets one write(2) to a file go on at a time; the next waits in the kernel, and no signal
 * ends that. So who opens a file to write to it waits here for the write under way, where a signal
 * does.
 */
static int op_open(const char *path, struct fuse_file_info *fi)
{
    struct task task;
    struct machine *m = op_begin(&task);

    if (m == NULL)
        return -ENODEV;
    int64_t handle = file_open(m, &task, path, fi->flags);
    if (handle < 0)
        return op_end((int)handle);
    int err = file_await_stores(m, &task, handle);
    if (err != 0) {
        file_release(m, handle);
        return op_end(err);
    }
    fi->fh = (uint64_t)handle;
    fi->direct_io = 1; /* st_size is not the length of the text */
    return op_end(0);
}

static int op_read(const char *path, char *buf, size_t size, off_t offset,
                   struct fuse_file_info *fi)
{
    struct task task;
    struct machine *m = op_begin(&task);

    (void)path;
    if (m == NULL)
        return -ENODEV;
    if (offset < 0)
        return op_end(-EINVAL);
    return op_end((int)file_read(m, &task, (int64_t)fi->fh, buf, size, (uint64_t)offset));
}

/* Nobody is told later that a file changed, so the handle by which one could be is given back at
 * once. */
static int op_poll(const char *path, struct fuse_file_info *fi, void *handle, unsigned *events)
{
    struct task task;
    struct machine *m = op_begin(&task);
    void (*forget)(void *) = atomic_load(&poll_forgotten);

    (void)path;
    if (handle != NULL && forget != NULL)
        forget(handle);
    if (m == NULL)
        return -ENODEV;
    int ret = file_poll(m, (int64_t)fi->fh);
    *events = ret >= 0 ? (unsigned)ret : 0;
    return op_end(ret >= 0 ? 0 : ret);
}

static int op_release(const char *path, struct fuse_file_info *fi)
{
    struct task task;
    struct machine *m = op_begin(&task);

    (void)path;
    return m != NULL ? op_end(file_release(m, (int64_t)fi->fh)) : 0;
}

static int op_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
                      struct fuse_file_info *fi)
{
    struct task task;
    struct machine *m = op_begin(&task);
    struct dirent_out *entries = NULL;
    int full;

    (void)offset,
        (void)fi; /* offset 0 for all: libfuse keeps the listing, and one opendir sees one state */
    if (m == NULL)
        return -ENODEV;
    int64_t nr = file_readdir(m, &task, path, &entries);
    if (nr < 0 && nr != -ENOENT)
        return op_end((int)nr);
    full = fill(buf, ".", NULL, 0) != 0 || fill(buf, "..", NULL, 0) != 0;
    /* -ENOENT: the directory went away after it was opened, and lists as empty */
    for (int64_t i = 0; i < nr && !full; i++) {
        struct stat st = {.st_ino = entries[i].ino, .st_mode = entries[i].mode};
        full = fill(buf, entries[i].name, &st, 0);
    }
    free(entries);
    return op_end(full ? -ENOMEM : 0);
}

static const struct {
    const char *name;
    void (*function)(void); /* of another type; the caller knows which by the name */
} ops[] = {
    {"getattr", (void (*)(void))op_getattr},   {"fgetattr", (void (*)(void))op_fgetattr},
    {"readlink", (void (*)(void))op_readlink}, {"open", (void (*)(void))op_open},
    {"read", (void (*)(void))op_read},         {"readdir", (void (*)(void))op_readdir},
    {"release", (void (*)(void))op_release},   {"poll", (void (*)(void))op_poll},
};
enum { NR_OPS = sizeof ops / sizeof *ops };

const char *fuse_op_name(size_t i)
{
    return i < NR_OPS ? ops[i].name : NULL;
}

const void *fuse_op_address(const char *name)
{
    const void *address = NULL;

    for (size_t i = 0; i < NR_OPS; i++)
        if (strcmp(name, ops[i].name) == 0)
            memcpy(&address, &ops[i].function, sizeof address); /* a cast would not be C */
    return address;
}

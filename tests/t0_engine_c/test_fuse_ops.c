/*
 * test_fuse_ops.c - the callbacks of libfuse over a small tree: what they fill in, and what they
 * refuse.
 *
 *   /sys/toy/version (0444, "7\n")  state (0644)  power/   /sys/bus/
 */
#include "binding/fuse_ops.c"

#include <fcntl.h>
#include <poll.h>

#include "machine.h"
#include "testhelper.h"

static struct machine *M;
static struct task task;

static unsigned forgotten;

static void forget(void *handle)
{
    CHECK(handle == &forgotten);
    forgotten++;
}

static void begin(void)
{
    M = calloc(1, sizeof *M);
    pthread_mutex_init(&M->mutex, NULL);
    pthread_cond_init(&M->changed, NULL);
    M->page_bytes = 4096;
    sysfs_dir_add(M, "/sys/toy/power", &sysfs_power_class, 0);
    sysfs_dir_add(M, "/sys/bus", NULL, 0);
    CHECK_EQ(file_add(M, &task, "/sys/toy/version", "7\n", 2, 0444), 0);
    CHECK_EQ(file_add(M, &task, "/sys/toy/state", "offline\n", 8, 0644), 0);
    fuse_ops_mount(M, 0, (uintptr_t)forget);
}

static void end(void)
{
    fuse_ops_mount(NULL, 0, 0);
    sysfs_destroy(M);
    events_destroy(M);
    klog_destroy(M);
    trace_destroy(M);
    host_memory_destroy(M);
    pthread_cond_destroy(&M->changed);
    pthread_mutex_destroy(&M->mutex);
    free(M);
}

TEST(attributes)
{
    struct stat st;

    begin();
    CHECK_EQ(op_getattr("/sys/toy/version", &st), 0);
    CHECK_EQ(st.st_mode, S_IFREG | 0444);
    CHECK_EQ(st.st_size, 4096);
    CHECK_EQ(st.st_blocks, 0);
    CHECK_EQ(st.st_nlink, 1);
    CHECK_EQ(st.st_uid, geteuid()); /* root's files are those of whoever mounts */
    CHECK_EQ(st.st_gid, getegid());
    CHECK_EQ(op_getattr("/sys/toy", &st), 0);
    CHECK_EQ(st.st_mode, S_IFDIR | 0755);
    CHECK_EQ(st.st_nlink, 3);
    CHECK_EQ(file_utimens(M, &task, "/sys/toy/version", -1), 0);
    CHECK_EQ(file_chown(M, &task, "/sys/toy/version", 77, 78), 0);
    CHECK_EQ(op_getattr("/sys/toy/version", &st), 0);
    CHECK_EQ(st.st_uid, 77);
    CHECK_EQ(st.st_gid, 78);
    CHECK_EQ(st.st_mtim.tv_sec, -1);
    CHECK_EQ(st.st_mtim.tv_nsec, 999999999);
    CHECK_EQ(op_getattr("/sys/nosuch", &st), -ENOENT);
    end();
}

TEST(open_read_release)
{
    struct fuse_file_info fi = {.flags = O_RDONLY}, none = {0};
    struct stat st;
    char buf[64];

    begin();
    CHECK_EQ(op_open("/sys/toy/state", &fi), 0);
    CHECK_EQ(fi.direct_io, 1);
    CHECK_EQ(op_read("/sys/toy/state", buf, 3, 0, &fi), 3);
    CHECK_EQ(op_read("/sys/toy/state", buf + 3, sizeof buf - 3, 3, &fi), 5);
    CHECK(memcmp(buf, "offline\n", 8) == 0);
    CHECK_EQ(op_read("/sys/toy/state", buf, sizeof buf, 8, &fi), 0);
    CHECK_EQ(op_read("/sys/toy/state", buf, sizeof buf, -1, &fi), -EINVAL);
    CHECK_EQ(op_fgetattr("/sys/toy/state", &st, &fi), 0);
    CHECK_EQ(op_fgetattr("/sys/toy", &st, &none), 0); /* without a handle, by the path */
    CHECK_EQ(st.st_mode, S_IFDIR | 0755);
    CHECK_EQ(op_release("/sys/toy/state", &fi), 0);
    CHECK_EQ(op_read("/sys/toy/state", buf, sizeof buf, 0, &fi), -EBADF);
    fi.flags = O_RDONLY | O_DIRECT;
    CHECK_EQ(op_open("/sys/toy/state", &fi), -EINVAL);
    fi.flags = O_WRONLY;
    CHECK_EQ(op_open("/sys/toy/version", &fi), -EACCES);
    CHECK_EQ(op_readlink("/sys/toy", buf, sizeof buf), -EINVAL);
    end();
}

TEST(poll_of_what_was_read_and_what_was_not)
{
    enum { READY = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM };
    struct fuse_file_info fi = {.flags = O_RDWR}, writer = {.flags = O_WRONLY};
    unsigned events = 0;
    char buf[64];

    begin();
    forgotten = 0;
    CHECK_EQ(op_open("/sys/toy/state", &fi), 0);
    CHECK_EQ(op_open("/sys/toy/state", &writer), 0);
    CHECK_EQ(op_poll("/sys/toy/state", &fi, NULL, &events), 0);
    CHECK_EQ(events, READY | POLLERR | POLLPRI); /* new: not read yet */
    CHECK_EQ(forgotten, 0);
    CHECK_EQ(op_read("/sys/toy/state", buf, sizeof buf, 0, &fi), 8);
    CHECK_EQ(op_poll("/sys/toy/state", &fi, &forgotten, &events), 0);
    CHECK_EQ(events, READY);
    CHECK_EQ(forgotten, 1); /* what could tell of a change is given back */
    CHECK_EQ(op_poll("/sys/toy/state", &writer, NULL, &events), 0);
    CHECK_EQ(events, READY | POLLERR | POLLPRI); /* a descriptor of its own, and never read */
    CHECK_EQ(op_release("/sys/toy/state", &fi), 0);
    CHECK_EQ(op_release("/sys/toy/state", &writer), 0);
    CHECK_EQ(op_poll("/sys/toy/state", &fi, NULL, &events), -EBADF);
    end();
}

static int fill_names(void *buf, const char *name, const struct stat *st, off_t offset)
{
    char *names = buf;

    CHECK_EQ(offset, 0);
    CHECK((st == NULL) == (name[0] == '.'));
    if (st != NULL) /* d_type comes from the mode */
        CHECK(st->st_mode != 0 && st->st_ino != 0);
    snprintf(names + strlen(names), 256 - strlen(names), "%s ", name);
    return 0;
}

static int fill_nothing(void *buf, const char *name, const struct stat *st, off_t offset)
{
    (void)buf, (void)name, (void)st, (void)offset;
    return 1;
}

TEST(listings)
{
    struct fuse_file_info none = {0};
    char names[256] = "";

    begin();
    CHECK_EQ(op_readdir("/sys", names, fill_names, 0, &none), 0);
    CHECK(strcmp(names, ". .. toy bus ") == 0 || strcmp(names, ". .. bus toy ") == 0);
    names[0] = '\0';
    CHECK_EQ(op_readdir("/sys/gone", names, fill_names, 0, &none), 0); /* went away after opendir */
    CHECK_STR(names, ". .. ");
    CHECK_EQ(op_readdir("/sys/toy/version", names, fill_names, 0, &none), -ENOTDIR);
    CHECK_EQ(op_readdir("/sys", names, fill_nothing, 0, &none), -ENOMEM);
    end();
}

TEST(addresses)
{
    size_t nr = 0;

    for (; fuse_op_name(nr) != NULL; nr++)
        CHECK(fuse_op_address(fuse_op_name(nr)) != NULL);
    CHECK_EQ(nr, 8);
    CHECK(fuse_op_address("poll") != NULL);
    CHECK(fuse_op_address("write") == NULL);
}

TEST(nothing_is_mounted)
{
    unsigned events;
    struct fuse_file_info fi = {0};
    struct stat st;
    char buf[8];

    fuse_ops_mount(NULL, 0, 0);
    CHECK_EQ(op_getattr("/", &st), -ENODEV);
    CHECK_EQ(op_fgetattr("/", &st, &fi), -ENODEV);
    CHECK_EQ(op_open("/", &fi), -ENODEV);
    CHECK_EQ(op_read("/", buf, sizeof buf, 0, &fi), -ENODEV);
    CHECK_EQ(op_readdir("/", NULL, fill_nothing, 0, &fi), -ENODEV);
    CHECK_EQ(op_readlink("/", buf, sizeof buf), -ENODEV);
    CHECK_EQ(op_release("/", &fi), 0);
    CHECK_EQ(op_poll("/", &fi, NULL, &events), -ENODEV);
}

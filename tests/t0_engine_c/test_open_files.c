/*
 * test_open_files.c - what kernfs does to opens, reads and writes, also while a device goes away.
 * Expected values are those of recordings of real kernels.
 */
#include "sysfs/sysfs.c"

#include "toy_tree.h"

/* ---- open ---- */

TEST(open_rules)
{
    static const struct {
        const char *path;
        int flags;
        int err; /* 0: opens */
    } cases[] = {
        {TOY "/dev0/label", O_WRONLY, -EACCES},
        {TOY "/dev0/label", O_RDWR, -EACCES},
        {TOY "/dev0/label", O_RDONLY, 0},
        {TOY "/dev0/secret", O_RDONLY, -EACCES},
        {TOY "/dev0/secret", O_WRONLY, 0},
        {TOY "/dev0/state", O_RDWR | O_APPEND, 0},
        {TOY "/dev0/state", O_WRONLY | O_TRUNC | O_CREAT, 0},
        {TOY "/dev0/state", O_WRONLY | O_CREAT | O_EXCL, -EEXIST},
        {TOY "/dev0/state", O_RDONLY | O_DIRECT, -EINVAL},
        {TOY "/dev0/state", O_RDONLY | O_DIRECTORY, -ENOTDIR},
        {TOY "/dev0", O_RDONLY | O_DIRECTORY, 0},
        {TOY "/dev0", O_WRONLY, -EISDIR},
        {TOY "/dev0", O_RDONLY | O_CREAT, -EISDIR},
        {TOY "/dev0", O_TMPFILE | O_RDWR, -EOPNOTSUPP},
        {TOY "/new", O_WRONLY | O_CREAT, -EACCES},
        {TOY "/new", O_WRONLY, -ENOENT},
        {TOY "/nodir/new", O_WRONLY | O_CREAT, -ENOENT},
        {"/proc/hidden", O_RDONLY, 0},
        {"/proc/toy", O_RDWR, 0}, /* procfs does not look at the bits */
    };

    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t handle = file_open(M, &task, cases[i].path, cases[i].flags);
        if (handle > 0 ? cases[i].err != 0 : handle != cases[i].err)
            TEST_FAIL("open %s %o: %lld", cases[i].path, (unsigned)cases[i].flags,
                      (long long)handle);
        if (handle > 0)
            CHECK_EQ(file_release(M, handle), 0);
    }
    end();
}

TEST(chmod_opens_a_file_that_has_nothing_to_say)
{
    begin();
    CHECK_EQ(file_chmod(M, &task, TOY "/dev0/label", 0644), 0);
    CHECK_EQ(echo(TOY "/dev0/label", "x"), -EIO);
    CHECK_EQ(file_chmod(M, &task, TOY "/dev0/secret", 0644), 0);
    CHECK_STR(cat(TOY "/dev0/secret"), "read: -5");
    CHECK_STR(cat(TOY "/dev0/poke"), "read: -5");
    CHECK_EQ(file_chmod(M, &task, TOY "/dev0/state", 0000), 0);
    CHECK_STR(cat(TOY "/dev0/state"), "open: -13");
    CHECK_EQ(echo(TOY "/dev0/state", "x"), -EACCES);
    end();
}

TEST(handles)
{
    char buf[8];
    int64_t handle[100];

    begin();
    for (int i = 0; i < 100; i++)
        CHECK((handle[i] = file_open(M, &task, TOY "/version", O_RDONLY)) > 0);
    CHECK_EQ(file_release(M, handle[7]), 0);
    CHECK_EQ(file_release(M, handle[7]), -EBADF);
    CHECK_EQ(file_read(M, &task, handle[7], buf, sizeof buf, 0), -EBADF);
    CHECK_EQ(file_write(M, &task, 0, "x", 1), -EBADF);
    CHECK_EQ(file_write(M, &task, -1, "x", 1), -EBADF);
    CHECK_EQ(file_write(M, &task, INT64_MAX, "x", 1), -EBADF);
    CHECK_EQ(file_open(M, &task, TOY "/dev0/secret", O_WRONLY), handle[7]);
    CHECK_EQ(file_read(M, &task, handle[7], buf, sizeof buf, 0), -EBADF);
    CHECK_EQ(file_write(M, &task, handle[8], "x", 1), -EBADF);
    int64_t dir = file_open(M, &task, TOY, O_RDONLY);
    CHECK_EQ(file_read(M, &task, dir, buf, sizeof buf, 0), -EISDIR);
    end(); /* and the machine frees what is still open */
}

/* ---- read ---- */

TEST(reads_continue_from_a_snapshot)
{
    char buf[64] = "";

    begin();
    int64_t h = file_open(M, &task, TOY "/dev0/state", O_RDWR);
    CHECK_EQ(file_read(M, &task, h, buf, 3, 0), 3);
    strcpy(toy.state[0], "changed");
    CHECK_EQ(file_read(M, &task, h, buf + 3, 60, 3), 5);
    CHECK_STR(buf, "offline\n");
    CHECK_EQ(file_read(M, &task, h, buf, 60, 8), 0);
    CHECK_EQ(toy.shows, 1);
    CHECK_EQ(file_read(M, &task, h, buf, 60, 0), 8); /* offset 0 asks again */
    CHECK(memcmp(buf, "changed\n", 8) == 0);
    CHECK_EQ(file_read(M, &task, h, buf, 60, 3),
             5); /* so does any offset where the last read did not end */
    CHECK(memcmp(buf, "nged\n", 5) == 0);
    CHECK_EQ(toy.shows, 3);
    CHECK_EQ(file_read(M, &task, h, buf, 60, 4092), 0); /* tail -c 4 */
    CHECK_EQ(file_read(M, &task, h, buf, 0, 0), 0);
    CHECK_EQ(toy.shows, 4);
    file_release(M, h);
    h = file_open(M, &task, TOY "/dev1/state", O_RDONLY);
    CHECK_EQ(file_read(M, &task, h, buf, 60, 3), 5); /* a fresh handle skips */
    CHECK(memcmp(buf, "line\n", 5) == 0);
    end();
}

/* Measured on 6.1: after a read and a write the end gives nothing; a fresh handle reads on after a
 * write. */
TEST(reads_after_writes_on_one_handle)
{
    char buf[64];

    begin();
    int64_t h = file_open(M, &task, TOY "/dev0/state", O_RDWR);
    CHECK_EQ(file_read(M, &task, h, buf, 60, 0), 8);
    CHECK_EQ(file_write(M, &task, h, "online", 6), 6);
    CHECK_EQ(file_read(M, &task, h, buf, 60, 14), 0);
    CHECK_EQ(file_read(M, &task, h, buf, 60, 0), 7);
    CHECK(memcmp(buf, "online\n", 7) == 0);
    h = file_open(M, &task, TOY "/dev0/state", O_RDWR);
    CHECK_EQ(file_write(M, &task, h, "offline", 7), 7);
    CHECK_EQ(file_read(M, &task, h, buf, 60, 7), 1);
    CHECK_EQ(buf[0], '\n');
    end();
}

TEST(length_of_what_show_prints)
{
    begin();
    CHECK_EQ(strlen(cat(TOY "/dev0/long")), 4095); /* sysfs_emit() keeps a byte of the page */
    CHECK_EQ(strlen(cat(TOY "/dev0/large")), 5000);
    CHECK_EQ(strlen(cat("/proc/toy")), 5000);
    CHECK_STR(cat(TOY "/dev0/broken"), "read: -5");
    CHECK_STR(task.reason, "broken");
    end();
}

/* ---- write ---- */

TEST(one_write_is_one_store)
{
    static char big[6000];

    begin();
    CHECK_EQ(echo(TOY "/dev0/state", "online\n"), 7);
    CHECK_STR(cat(TOY "/dev0/state"), "online\n");
    CHECK_EQ(toy.stores, 1);
    CHECK_EQ(echo(TOY "/dev0/state", ""), 0);
    CHECK_EQ(toy.stores, 1);
    CHECK_EQ(echo(TOY "/dev0/state", "xyz"), -EINVAL);
    CHECK_STR(task.reason, "no such state");
    CHECK_EQ(echo_n(TOY "/dev0/state", "off\0x", 5), 5);
    CHECK_EQ(toy.last_count, 5);
    memset(big, 'b', sizeof big);
    CHECK_EQ(echo_n(TOY "/dev0/secret", big, sizeof big), 4096);
    CHECK_EQ(toy.last_count, 4096);
    CHECK_EQ(strlen(toy.last), 4096);
    CHECK_EQ(echo("/proc/toy", "x"), -EIO);
    end();
}

TEST(stores_of_nothing_reach_debugfs)
{
    begin();
    CHECK_EQ(echo("/debug/toy/error", "-12"), 3);
    CHECK_STR(cat("/debug/toy/error"), "-12\n");
    CHECK_EQ(echo("/debug/toy/error", ""), -EINVAL);
    end();
}

TEST(stores_are_events)
{
    char big[200];

    begin();
    memset(big, 'b', sizeof big);
    echo("/sys/bus/toy/devices/dev0/state", "online\n");
    echo_n(TOY "/dev0/state", "x\0\x01\xff", 4);
    echo_n(TOY "/dev0/state", big, sizeof big);
    echo(TOY "/dev0/state", "");
    CHECK_EQ(M->nr_events, 3);
    CHECK_EQ(M->events[0].kind, EVENT_STORE);
    CHECK_STR(M->events[0].path, TOY "/dev0/state"); /* the file itself, whatever link led to it */
    CHECK_STR(M->events[0].data, "online\n");
    CHECK_EQ(M->events[0].err, 0);
    CHECK_STR(M->events[1].data, "x\\0\\x01\\xff");
    CHECK_EQ(M->events[1].err, -EINVAL);
    CHECK_EQ(strlen(M->events[2].data), 64);
    end();
}

/* ---- devices that go away ---- */

TEST(open_files_of_a_device_that_is_gone)
{
    char buf[64];
    struct file_stat st;

    begin();
    int64_t fresh = file_open(M, &task, TOY "/dev0/state", O_RDWR);
    int64_t used = file_open(M, &task, TOY "/dev0/state", O_RDONLY);
    int64_t half = file_open(M, &task, TOY "/dev0/state", O_RDONLY);
    int64_t power = file_open(M, &task, TOY "/dev0/power/control", O_RDWR);
    int64_t dir = file_open(M, &task, TOY "/dev0", O_RDONLY);
    CHECK_EQ(file_read(M, &task, used, buf, 60, 0), 8);
    CHECK_EQ(file_read(M, &task, half, buf, 3, 0), 3);
    dev_remove(0);
    for (int again = 0; again < 2; again++) {
        CHECK_EQ(file_read(M, &task, fresh, buf, 60, 0), -ENODEV);
        CHECK_EQ(file_write(M, &task, fresh, "online", 6), -ENODEV);
        CHECK_EQ(file_write(M, &task, fresh, "", 0), -ENODEV);
        CHECK_EQ(file_read(M, &task, used, buf, 60, 8), -ENODEV); /* at the end too */
        CHECK_EQ(file_read(M, &task, power, buf, 60, 0), -ENODEV);
        CHECK_EQ(file_fstat(M, &task, fresh, &st), 0);
        CHECK_EQ(st.nlink, 1);
        CHECK_EQ(st.size, 4096);
        CHECK_EQ(file_fstat(M, &task, dir, &st), 0);
        CHECK_EQ(stat_err(TOY "/dev0/state"), -2 * (again == 0));
        dev_add(0); /* another device of the same number is not the one that was opened */
    }
    CHECK_EQ(file_read(M, &task, half, buf, 60, 3), 5); /* what was read already is in the buffer */
    CHECK_EQ(file_read(M, &task, half, buf, 60, 8), -ENODEV);
    CHECK_EQ(toy.stores, 0);
    end();
}

TEST(a_store_may_remove_its_own_device)
{
    begin();
    CHECK_EQ(file_chmod(M, &task, TOY "/dev0/state", 0666), 0);
    CHECK_EQ(echo(TOY "/dev0/state", "remove"), 6);
    CHECK_EQ(stat_err(TOY "/dev0"), -ENOENT);
    CHECK_STR(M->events[0].path, TOY "/dev0/state");
    end();
}

static void *cat_slow(void *unused)
{
    char buf[64];
    struct task mine = {0};

    (void)unused;
    int64_t h = file_open(M, &mine, TOY "/dev0/slow", O_RDONLY);
    int64_t n = file_read(M, &mine, h, buf, sizeof buf, 0);
    file_release(M, h);
    return (void *)(intptr_t)n;
}

TEST(the_tree_works_while_a_show_waits)
{
    pthread_t thread;
    void *n;

    begin();
    toy.slow_waits = true;
    CHECK_EQ(pthread_create(&thread, NULL, cat_slow, NULL), 0);
    for (bool reading = false; !reading;) {
        machine_lock(M, NULL);
        reading = M->nr_files != 0 && M->files[0] != NULL && M->files[0]->users == 2;
        machine_unlock(M);
    }
    for (int i = 0; i < 100; i++) /* the table of open files moves meanwhile */
        file_open(M, &task, TOY "/version", O_RDONLY);
    CHECK_EQ(file_release(M, 1), 0); /* close while a read is under way */
    machine_lock(M, NULL);
    dev_remove(0);
    toy.slow_waits = false;
    pthread_cond_broadcast(&M->changed);
    machine_unlock(M);
    pthread_join(thread, &n);
    CHECK_EQ((intptr_t)n, 8);
    end();
}

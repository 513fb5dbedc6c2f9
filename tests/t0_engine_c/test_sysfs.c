/*
 * test_sysfs.c - the tree of files: how a path is walked, what stat and readdir say, what becomes
 * of attempts to change it. Expected values are those of recordings of real kernels.
 */
#include "toy_tree.h"

/* ---- the tree ---- */

TEST(kernfs_hash_order)
{
    begin();
    /* the order in which a real kernel lists a memory block */
    static const char *const names[] = {"uevent",      "node0",      "power",       "online",
                                        "phys_device", "phys_index", "valid_zones", "subsystem",
                                        "state",       "removable"};
    for (size_t i = 1; i < sizeof names / sizeof *names; i++)
        CHECK(sysfs_name_hash(names[i - 1]) < sysfs_name_hash(names[i]));
    CHECK(sysfs_name_hash("memory32") < sysfs_name_hash("memory3"));
    bool drivers_first = sysfs_name_hash("drivers") < sysfs_name_hash("devices");
    CHECK_STR(ls("/sys/bus/toy"), drivers_first ? "drivers devices" : "devices drivers");
    end();
}

TEST(listing_holds_each_child_once)
{
    struct dirent_out *entries = NULL;

    begin();
    int64_t nr = file_readdir(M, &task, TOY, &entries);
    CHECK_EQ(nr, 5); /* version, power, three devices */
    for (int64_t i = 0; i < nr; i++) {
        char path[128];
        snprintf(path, sizeof path, TOY "/%s", entries[i].name);
        struct file_stat st = stat_of(path);
        CHECK_EQ(entries[i].ino, st.ino);
        CHECK_EQ(entries[i].mode, st.mode);
        if (i != 0)
            CHECK(sysfs_name_hash(entries[i - 1].name) < sysfs_name_hash(entries[i].name));
    }
    free(entries);
    CHECK_EQ(file_readdir(M, &task, TOY "/version", &entries), -ENOTDIR);
    CHECK_EQ(file_readdir(M, &task, TOY "/dev5", &entries), -ENOENT);
    CHECK_EQ(file_readdir(M, &task, "/sys/bus/toy/drivers", &entries), 0);
    free(entries);
    CHECK(strstr(ls(TOY "/dev0"), "even") != NULL);
    CHECK(strstr(ls(TOY "/dev1"), "even") == NULL);
    end();
}

TEST(metadata)
{
    begin();
    CHECK_EQ(stat_of("/").mode, S_IFDIR | 0755);
    CHECK_EQ(stat_of("/").ino, 1);
    CHECK_EQ(stat_of("/").nlink, 2 + 3); /* sys debug proc */
    CHECK_EQ(stat_of(TOY).nlink, 2 + 4); /* power dev0 dev1 dev32 */
    CHECK_EQ(stat_of(TOY).size, 0);
    CHECK_EQ(stat_of(TOY "/dev0").nlink, 3);
    CHECK_EQ(stat_of(TOY "/dev0").mode, S_IFDIR | 0755);
    CHECK_EQ(stat_of(TOY "/dev0/power").nlink, 2);
    CHECK_EQ(stat_of(TOY "/dev0/state").mode, S_IFREG | 0644);
    CHECK_EQ(stat_of(TOY "/dev0/state").size, 4096);
    CHECK_EQ(stat_of(TOY "/dev0/state").nlink, 1);
    CHECK_EQ(stat_of(TOY "/dev0/secret").mode, S_IFREG | 0200);
    CHECK_EQ(stat_of(TOY "/dev0/large").size, 123);
    CHECK_EQ(stat_of(TOY "/dev0/subsystem").mode, S_IFLNK | 0777);
    CHECK_EQ(stat_of(TOY "/dev0/subsystem").size, 0);
    CHECK_EQ(stat_of("/proc/toy").size, 0);
    CHECK_EQ(stat_of("/debug/toy/error").size, 0);
    CHECK(stat_of(TOY "/dev0").mtime_ns >= stat_of("/").mtime_ns);
    M->page_bytes = 65536;
    CHECK_EQ(stat_of(TOY "/dev0/state").size, 65536);
    end();
}

TEST(inode_numbers_are_stable_and_change_with_the_device)
{
    begin();
    uint64_t dev = stat_of(TOY "/dev0").ino, state = stat_of(TOY "/dev0/state").ino;
    CHECK_EQ(stat_of(TOY "/dev0/state").ino, state);
    CHECK(stat_of(TOY "/dev1/state").ino != state);
    CHECK(stat_of(TOY "/dev0/label").ino != state);
    CHECK(stat_of(TOY "/dev0/power").ino != stat_of(TOY "/power").ino);
    CHECK(stat_of(TOY "/dev0/power/control").ino != stat_of(TOY "/dev1/power/control").ino);
    dev_remove(0);
    dev_add(0);
    CHECK(stat_of(TOY "/dev0").ino != dev);
    CHECK(stat_of(TOY "/dev0/state").ino != state);
    end();
}

TEST(errors_of_lookup)
{
    char path[300] = TOY "/";

    begin();
    CHECK_EQ(stat_err(TOY "/nosuch"), -ENOENT);
    CHECK_EQ(stat_err(TOY "/dev99"), -ENOENT);
    CHECK_EQ(stat_err(TOY "/dev99/state"), -ENOENT);
    CHECK_EQ(stat_err(TOY "/version/x"), -ENOTDIR);
    CHECK_EQ(stat_err(TOY "/version/"), -ENOTDIR);
    CHECK_EQ(stat_err(TOY "/version/."), -ENOTDIR);
    CHECK_EQ(stat_err(""), -ENOENT);
    CHECK_EQ(stat_err("sys"), -ENOENT);
    memset(path + strlen(path), 'x', 256);
    CHECK_EQ(stat_err(path), -ENOENT);
    CHECK(task.reason[0] != '\0');
    CHECK_EQ(stat_err("//sys/./devices//system/toy/../toy/dev0/"), 0);
    CHECK_EQ(task.reason[0], '\0');
    CHECK_EQ(stat_err("/../.."), 0);
    end();
}

TEST(links)
{
    char target[64];

    begin();
    CHECK_EQ(file_readlink(M, &task, "/sys/bus/toy/devices/dev32", target, sizeof target), 0);
    CHECK_STR(target, "../../../devices/system/toy/dev32");
    CHECK_EQ(file_readlink(M, &task, TOY "/dev0/subsystem", target, 6), 0);
    CHECK_STR(target, "../..");
    CHECK_EQ(file_readlink(M, &task, TOY, target, sizeof target), -EINVAL);
    CHECK_EQ(file_readlink(M, &task, TOY "/nosuch", target, sizeof target), -ENOENT);
    CHECK_STR(cat("/sys/bus/toy/devices/dev32/label"), "dev32\n");
    CHECK_STR(cat("/sys/bus/toy/devices/dev32/subsystem/devices/dev1/label"), "dev1\n");
    CHECK_STR(cat("/sys/bus/toy/devices/dev32/../version"), "7\n"); /* .. of where the link leads */
    CHECK_EQ(stat_of("/sys/bus/toy/devices/dev32").mode, S_IFLNK | 0777);
    CHECK_EQ(stat_of("/sys/bus/toy/devices/dev32/").mode, S_IFDIR | 0755);
    CHECK_EQ(stat_of(TOY "/dev0/subsystem/devices").ino, stat_of("/sys/bus/toy/devices").ino);
    CHECK_EQ(stat_err("/sys/bus/toy/devices/dev0/self/x"), -ELOOP);
    CHECK_EQ(file_open(M, &task, TOY "/dev0/self", O_RDONLY), -ELOOP);
    CHECK_EQ(file_open(M, &task, TOY "/dev0/subsystem", O_RDONLY | O_NOFOLLOW), -ELOOP);
    end();
}

/* ---- changing what stat says ---- */

TEST(chmod_chown_utimens_stick_until_the_device_goes)
{
    begin();
    CHECK_EQ(file_chmod(M, &task, TOY "/dev0/state", S_IFREG | 0600), 0);
    CHECK_EQ(stat_of(TOY "/dev0/state").mode, S_IFREG | 0600);
    CHECK_EQ(stat_of(TOY "/dev1/state").mode, S_IFREG | 0644);
    CHECK_EQ(file_chown(M, &task, TOY "/dev0/state", 1000, UINT32_MAX), 0);
    CHECK_EQ(file_chown(M, &task, TOY "/dev0/state", UINT32_MAX, 100), 0);
    CHECK_EQ(stat_of(TOY "/dev0/state").uid, 1000);
    CHECK_EQ(stat_of(TOY "/dev0/state").gid, 100);
    CHECK_EQ(file_utimens(M, &task, TOY "/dev0/state", 5), 0);
    CHECK_EQ(stat_of(TOY "/dev0/state").mtime_ns, 5);
    CHECK_EQ(file_chmod(M, &task, TOY "/dev9/state", 0600), -ENOENT);
    dev_remove(0);
    dev_add(0);
    CHECK_EQ(stat_of(TOY "/dev0/state").mode, S_IFREG | 0644);
    CHECK_EQ(stat_of(TOY "/dev0/state").uid, 0);
    end();
}

TEST(directory_mtime_follows_its_children)
{
    begin();
    int64_t before = stat_of(TOY).mtime_ns;
    dev_add(5);
    CHECK_EQ(stat_of(TOY).mtime_ns, before + 1000000);
    CHECK_EQ(file_utimens(M, &task, TOY, 42), 0);
    CHECK_EQ(stat_of(TOY).mtime_ns, 42);
    dev_add(6);
    CHECK_EQ(stat_of(TOY).mtime_ns, before + 2000000);
    end();
}

TEST(what_hung_on_lost_devices_is_dropped)
{
    begin();
    for (int i = 0; i < 5000; i++) {
        dev_add(3);
        CHECK_EQ(file_chmod(M, &task, TOY "/dev3/state", 0400), 0);
        dev_remove(3);
    }
    CHECK(M->cap_overrides <= 256);
    CHECK_EQ(file_chmod(M, &task, TOY "/version", 0400), 0);
    for (int i = 0; i < 1000; i++) {
        dev_add(3);
        CHECK_EQ(file_chmod(M, &task, TOY "/dev3/state", 0400), 0);
        dev_remove(3);
    }
    CHECK_EQ(stat_of(TOY "/version").mode, S_IFREG | 0400);
    end();
}

TEST(truncating_does_nothing)
{
    begin();
    CHECK_EQ(file_truncate(M, &task, TOY "/dev0/state", 0), 0);
    CHECK_EQ(file_truncate(M, &task, TOY "/dev0/label", 100), 0);
    CHECK_EQ(file_truncate(M, &task, TOY "/dev0/state", INT32_MAX), 0);
    CHECK_EQ(file_truncate(M, &task, TOY "/dev0/state", 1u << 31), -EFBIG);
    CHECK_EQ(file_truncate(M, &task, TOY "/dev0", 0), -EISDIR);
    CHECK_EQ(stat_of(TOY "/dev0/state").size, 4096);
    CHECK_STR(cat(TOY "/dev0/state"), "offline\n");
    end();
}

TEST(nothing_can_be_made_or_deleted)
{
    static const struct {
        const char *op, *path;
        int err;
    } cases[] = {
        {"create", TOY "/newfile", -EACCES},
        {"create", TOY "/dev0/newfile", -EACCES},
        {"create", TOY "/version", -EEXIST},
        {"mkdir", TOY "/dev77", -EPERM},
        {"mkdir", TOY "/dev0", -EEXIST},
        {"unlink", TOY "/dev0/state", -EPERM},
        {"unlink", TOY "/dev0", -EISDIR},
        {"unlink", TOY "/x", -ENOENT},
        {"unlink", TOY "/dev0/subsystem", -EPERM},
        {"rmdir", TOY "/dev0", -EPERM},
        {"rmdir", TOY "/version", -ENOTDIR},
        {"rmdir", TOY "/x", -ENOENT},
        {"rename", TOY "/dev0/state", -EPERM},
        {"rename", TOY "/x", -ENOENT},
        {"symlink", TOY "/x", -EPERM},
        {"symlink", TOY "/dev0", -EEXIST},
        {"link", TOY "/x", -EPERM},
        {"mknod", TOY "/x", -EPERM},
        {"mkdir", TOY "/x/y", -ENOENT},
        {"mkdir", TOY "/version/y", -ENOTDIR},
        {"bogus", TOY "/x", -EINVAL},
    };

    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int err = file_change(M, &task, cases[i].op, cases[i].path);
        if (err != cases[i].err)
            TEST_FAIL("%s %s: %d", cases[i].op, cases[i].path, err);
    }
    end();
}

/* ---- power/ ---- */

TEST(power_directories)
{
    begin();
    CHECK_STR(ls(TOY "/dev0/power"), "runtime_active_time runtime_status autosuspend_delay_ms "
                                     "runtime_suspended_time control");
    CHECK_STR(cat(TOY "/dev0/power/control"), "auto\n");
    CHECK_EQ(echo(TOY "/dev0/power/control", "on\n"), 3);
    CHECK_STR(cat(TOY "/dev0/power/control"), "on\n");
    CHECK_STR(cat(TOY "/dev1/power/control"), "auto\n");
    CHECK_STR(cat(TOY "/power/control"), "auto\n");
    CHECK_EQ(echo(TOY "/dev0/power/control", "auto"), 4);
    CHECK_STR(cat(TOY "/dev0/power/control"), "auto\n");
    CHECK_EQ(echo(TOY "/dev0/power/control", "off"), -EINVAL);
    CHECK_STR(cat(TOY "/dev0/power/runtime_status"), "unsupported\n");
    CHECK_STR(cat(TOY "/dev0/power/runtime_active_time"), "0\n");
    CHECK_STR(cat(TOY "/dev0/power/autosuspend_delay_ms"), "read: -5");
    CHECK_EQ(echo(TOY "/dev0/power/autosuspend_delay_ms", "1"), -EIO);
    CHECK_EQ(echo(TOY "/power/control", "on"), 2);
    CHECK_STR(cat(TOY "/power/control"), "on\n");
    end();
}

/* ---- files of users ---- */

TEST(files_of_users)
{
    begin();
    CHECK_EQ(file_add(M, &task, "/sys/kernel/mm/my", "one\n", 4, 0644), 0);
    CHECK_STR(cat("/sys/kernel/mm/my"), "one\n");
    CHECK_EQ(stat_of("/sys/kernel/mm/my").mode, S_IFREG | 0644);
    CHECK_EQ(stat_of("/sys/kernel/mm/my").size, 4096);
    CHECK_EQ(stat_of("/sys/kernel/mm").nlink, 2);
    CHECK_EQ(echo("/sys/kernel/mm/my", "second\n"), 7);
    CHECK_STR(cat("/sys/kernel/mm/my"), "second\n");
    CHECK_EQ(file_add(M, &task, "/sys/kernel/mm/my", "again", 5, 0444), 0);
    CHECK_STR(cat("/sys/kernel/mm/my"), "again");
    CHECK_EQ(echo("/sys/kernel/mm/my", "x"), -EACCES);
    CHECK_STR(ls("/sys/kernel/mm"), "my");
    CHECK_EQ(file_add(M, &task, "/proc/cpuinfo", "cpu\n", 4, 0444), 0);
    CHECK_EQ(stat_of("/proc/cpuinfo").size, 0);
    CHECK_STR(cat("/proc/cpuinfo"), "cpu\n");
    CHECK_EQ(file_add(M, &task, "/top", "", 0, 0600), 0);
    CHECK_STR(cat("/top"), "");
    end();
}

TEST(a_file_of_a_user_hides_the_kernels)
{
    begin();
    const size_t before = strlen(ls(TOY "/dev0"));
    CHECK_EQ(file_add(M, &task, TOY "/dev0/label", "mine\n", 5, 0644), 0);
    CHECK_STR(cat(TOY "/dev0/label"), "mine\n");
    CHECK_STR(cat(TOY "/dev1/label"), "dev1\n");
    CHECK_EQ(strlen(ls(TOY "/dev0")), before);
    int64_t h = file_open(M, &task, TOY "/dev0/label", O_RDWR);
    dev_remove(0);
    CHECK_EQ(file_write(M, &task, h, "x", 1), -ENODEV);
    dev_add(0);
    CHECK_STR(cat(TOY "/dev0/label"), "dev0\n"); /* it went with its device */
    end();
}

TEST(files_of_users_that_cannot_be)
{
    char name[200] = TOY "/";

    begin();
    memset(name + strlen(name), 'n', 100);
    CHECK_EQ(file_add(M, &task, "relative", "", 0, 0644), -EINVAL);
    CHECK_EQ(file_add(M, &task, "/sys/", "", 0, 0644), -EINVAL);
    CHECK_EQ(file_add(M, &task, "/sys/..", "", 0, 0644), -EINVAL);
    CHECK_EQ(file_add(M, &task, name, "", 0, 0644), -ENAMETOOLONG);
    CHECK_EQ(file_add(M, &task, TOY "/dev0", "", 0, 0644), -EEXIST);
    CHECK_EQ(file_add(M, &task, TOY "/dev0/subsystem", "", 0, 0644), -EEXIST);
    CHECK_EQ(file_add(M, &task, TOY "/version/x", "", 0, 0644), -ENOTDIR);
    CHECK_EQ(file_add(M, &task, TOY "/dev0/dir/x", "", 0, 0644), -ENOENT);
    CHECK_EQ(stat_err(TOY "/dev0/dir"), -ENOENT);
    end();
}

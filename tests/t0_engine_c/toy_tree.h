/*
 * toy_tree.h - a tree of files for the tests of sysfs/.
 *
 * devN come and go with the bits of `present`, each time with a new serial:
 *
 *     /sys/devices/system/toy/        version   dev0/ dev1/ ...
 *                              devN/  state label secret poke slow ... power/
 *                                     subsystem -> /sys/bus/toy
 *     /sys/bus/toy/devices/devN -> ../../../devices/system/toy/devN
 *     /proc/toy   /debug/toy/error
 */
#ifndef FAKESYSFS_TOY_TREE_H
#define FAKESYSFS_TOY_TREE_H

#include "sysfs/sysfs_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "testhelper.h"

enum { MAX_DEV = 64 };

static struct {
    uint64_t present, serial[MAX_DEV], next_serial;
    char state[MAX_DEV][16];
    int shows, stores;
    size_t last_count;
    char last[8192];
    int64_t error;
    bool slow_waits;
} toy;

static bool dev_here(uint64_t id)
{
    return id < MAX_DEV && (toy.present >> id & 1) != 0;
}

static void dev_add(uint64_t id)
{
    toy.present |= (uint64_t)1 << id;
    toy.serial[id] = ++toy.next_serial;
    strcpy(toy.state[id], "offline");
}

static void dev_remove(uint64_t id)
{
    toy.present &= ~((uint64_t)1 << id);
}

static int state_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    toy.shows++;
    text_printf(out, "%s\n", toy.state[node->id]);
    return 0;
}

static int64_t state_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    toy.stores++;
    toy.last_count = count;
    memcpy(toy.last, buf, count + 1);
    if (sysfs_streq(buf, "remove"))
        dev_remove(node->id);
    else if (sysfs_streq(buf, "online") || sysfs_streq(buf, "offline"))
        snprintf(toy.state[node->id], sizeof toy.state[0], "%.*s", (int)strcspn(buf, "\n"), buf);
    else if (buf[0] == 'x')
        return fail(m, -EINVAL, "no such state");
    return (int64_t)count;
}

static int label_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    text_printf(out, "dev%llu\n", (unsigned long long)node->id);
    return 0;
}

static int long_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m, (void)node;
    for (int i = 0; i < 5000; i++)
        text_append(out, "l", 1);
    return 0;
}

static int broken_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node, (void)out;
    return fail(m, -EIO, "broken");
}

static int slow_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    while (toy.slow_waits)
        wait_changed(m);
    text_printf(out, "at last\n");
    return 0;
}

static bool even(struct machine *m, const struct sysfs_node *node)
{
    (void)m;
    return node->id % 2 == 0;
}

static uint64_t size_123(struct machine *m, const struct sysfs_node *node)
{
    (void)m, (void)node;
    return 123;
}

static const struct sysfs_attr dev_attrs[] = {
    {.name = "state", .mode = 0644, .show = state_show, .store = state_store},
    {.name = "label", .mode = 0444, .show = label_show},
    {.name = "secret", .mode = 0200, .store = state_store},
    {.name = "poke", .mode = 0644, .store = state_store},
    {.name = "slow", .mode = 0444, .show = slow_show, .flags = ATTR_DEVICE_LOCK},
    {.name = "long", .mode = 0444, .show = long_show},
    {.name = "large", .mode = 0444, .show = long_show, .size = size_123, .flags = ATTR_LARGE},
    {.name = "broken", .mode = 0444, .show = broken_show},
    {.name = "even", .mode = 0444, .show = label_show, .visible = even},
    {0},
};

static void toy_link_target(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    switch (node->aux) {
    case 0:
        text_printf(out, "../../../devices/system/toy/dev%llu", (unsigned long long)node->id);
        break;
    case 1:
        text_printf(out, "../../../../bus/toy");
        break;
    default:
        text_printf(out, "self");
    }
}

static const struct sysfs_class link_class = {.name = "link", .target = toy_link_target};

static int dev_lookup(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out)
{
    (void)m;
    if (strcmp(name, "power") == 0)
        *out = sysfs_dir_node(&sysfs_power_class, id, toy.serial[id]);
    else if (strcmp(name, "subsystem") == 0)
        *out = sysfs_link_node(&link_class, id, 1, toy.serial[id]);
    else if (strcmp(name, "self") == 0)
        *out = sysfs_link_node(&link_class, id, 2, toy.serial[id]);
    else
        return -ENOENT;
    return 0;
}

static void dev_list(struct machine *m, uint64_t id,
                     void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                     void *ctx)
{
    static const char *const names[] = {"power", "subsystem", "self"};
    struct sysfs_node node;

    for (size_t i = 0; i < 3; i++)
        if (dev_lookup(m, id, names[i], &node) == 0)
            add(ctx, names[i], &node);
}

static bool dev_alive(struct machine *m, uint64_t id, uint64_t serial)
{
    (void)m;
    return dev_here(id) && toy.serial[id] == serial;
}

static const struct sysfs_class dev_class = {
    .name = "dev", .attrs = dev_attrs, .lookup = dev_lookup, .list = dev_list, .alive = dev_alive};

static bool dev_number(const char *name, uint64_t *id)
{
    return name_number(name, "dev", id) && dev_here(*id);
}

static int toy_lookup(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out)
{
    uint64_t nr;

    (void)m, (void)id;
    if (!dev_number(name, &nr))
        return -ENOENT;
    *out = sysfs_dir_node(&dev_class, nr, toy.serial[nr]);
    return 0;
}

static void toy_list(struct machine *m, uint64_t id,
                     void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                     void *ctx)
{
    char name[16];

    for (uint64_t nr = 0; nr < MAX_DEV; nr++) {
        struct sysfs_node node;
        snprintf(name, sizeof name, "dev%llu", (unsigned long long)nr);
        if (toy_lookup(m, id, name, &node) == 0)
            add(ctx, name, &node);
    }
}

static int version_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    text_printf(out, "%llu\n", (unsigned long long)node->id);
    return 0;
}

static uint64_t toy_changed_us(struct machine *m, uint64_t id)
{
    (void)m, (void)id;
    return toy.next_serial * 1000;
}

static const struct sysfs_attr toy_attrs[] = {
    {.name = "version", .mode = 0444, .show = version_show}, {0}};
static const struct sysfs_class toy_class = {.name = "toy",
                                             .attrs = toy_attrs,
                                             .lookup = toy_lookup,
                                             .list = toy_list,
                                             .changed_us = toy_changed_us};

static int links_lookup(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out)
{
    uint64_t nr;

    (void)m, (void)id;
    if (!dev_number(name, &nr))
        return -ENOENT;
    *out = sysfs_link_node(&link_class, nr, 0, toy.serial[nr]);
    return 0;
}

static const struct sysfs_class links_class = {.name = "devices", .lookup = links_lookup};

static const struct sysfs_attr proc_attrs[] = {
    {.name = "toy", .mode = 0444, .show = long_show, .flags = ATTR_PROC},
    {.name = "hidden", .mode = 0400, .show = long_show, .flags = ATTR_PROC},
    {0},
};
static const struct sysfs_class proc_class = {.name = "proc", .attrs = proc_attrs};

static uint64_t size_0(struct machine *m, const struct sysfs_node *node)
{
    (void)m, (void)node;
    return 0;
}

static int error_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m, (void)node;
    text_printf(out, "%lld\n", (long long)toy.error);
    return 0;
}

static int64_t error_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    (void)node;
    int err = parse_s64(buf, &toy.error);
    return err != 0 ? fail(m, err, "not a number") : (int64_t)count;
}

static const struct sysfs_attr debug_attrs[] = {
    {.name = "error",
     .mode = 0600,
     .show = error_show,
     .store = error_store,
     .size = size_0,
     .flags = ATTR_EMPTY_STORE},
    {0},
};
static const struct sysfs_class debug_class = {.name = "debug", .attrs = debug_attrs};

#define TOY "/sys/devices/system/toy"

static struct machine *M;
static struct task task;

static void begin(void)
{
    memset(&toy, 0, sizeof toy);
    M = calloc(1, sizeof *M);
    pthread_mutex_init(&M->mutex, NULL);
    pthread_cond_init(&M->changed, NULL);
    M->page_bytes = 4096;
    M->feature[F_kstrtobool_true_false] = M->feature[F_uevent_store_status] = true;
    sysfs_dir_add(M, TOY, &toy_class, 7);
    sysfs_dir_add(M, TOY "/power", &sysfs_power_class, 0);
    sysfs_dir_add(M, "/sys/bus/toy/drivers", NULL, 0);
    sysfs_dir_add(M, "/sys/bus/toy/devices", &links_class, 0);
    sysfs_dir_add(M, "/debug/toy", &debug_class, 0);
    sysfs_file_add(M, "/proc", &proc_class);
    dev_add(0);
    dev_add(1);
    dev_add(32);
}

static void end(void)
{
    sysfs_destroy(M);
    events_destroy(M);
    klog_destroy(M);
    trace_destroy(M);
    host_memory_destroy(M);
    pthread_cond_destroy(&M->changed);
    pthread_mutex_destroy(&M->mutex);
    free(M);
    M = NULL;
}

/* As read(2) till the end from a fresh handle; an errno as text when it fails. */
static const char *cat(const char *path)
{
    static char text[8192];
    size_t len = 0;

    int64_t handle = file_open(M, &task, path, O_RDONLY), n = 1;
    if (handle < 0) {
        snprintf(text, sizeof text, "open: %lld", (long long)handle);
        return text;
    }
    while (n > 0 && len + 1 < sizeof text) {
        n = file_read(M, &task, handle, text + len, sizeof text - 1 - len, len);
        len += n > 0 ? (size_t)n : 0;
    }
    text[len] = '\0';
    if (n < 0)
        snprintf(text, sizeof text, "read: %lld", (long long)n);
    file_release(M, handle);
    return text;
}

static int64_t echo_n(const char *path, const char *data, size_t size)
{
    int64_t handle = file_open(M, &task, path, O_WRONLY | O_TRUNC | O_CREAT);
    int64_t ret = handle < 0 ? handle : file_write(M, &task, handle, data, size);

    if (handle > 0)
        file_release(M, handle);
    return ret;
}

static int64_t echo(const char *path, const char *data)
{
    return echo_n(path, data, strlen(data));
}

static struct file_stat stat_of(const char *path)
{
    struct file_stat st = {0};

    CHECK_EQ(file_stat(M, &task, path, &st), 0);
    return st;
}

static int stat_err(const char *path)
{
    struct file_stat st;

    return file_stat(M, &task, path, &st);
}

/* Names of a directory with blanks between. */
static const char *ls(const char *path)
{
    static char names[1024];
    struct dirent_out *entries = NULL;

    int64_t nr = file_readdir(M, &task, path, &entries);
    snprintf(names, sizeof names, "%s", nr < 0 ? "error" : "");
    for (int64_t i = 0; i < nr; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i != 0 ? " " : "",
                 entries[i].name);
    free(entries);
    return names;
}

#endif

/*
 * module_parameters.c - /sys/module/memory_hotplug: the parameters that a user reads and sets.
 *
 * Owns: those files. Does not own: what a policy does (zone.c).
 * Linux: mm/memory_hotplug.c.
 */
#include <errno.h>

#include "machine.h"

static const char *const policy_words[] = {"contig-zones", "auto-movable"};

static int online_policy_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%s\n", policy_words[m->auto_movable]);
    return 0;
}

static int64_t online_policy_store(struct machine *m, const struct sysfs_node *node,
                                   const char *buf, size_t count)
{
    (void)node;
    for (unsigned i = 0; i < 2; i++)
        if (sysfs_streq(buf, policy_words[i])) {
            m->auto_movable = i == 1;
            return (int64_t)count;
        }
    return fail(m, -EINVAL, "`online_policy` takes contig-zones or auto-movable");
}

static int auto_movable_ratio_show(struct machine *m, const struct sysfs_node *node,
                                   struct text *out)
{
    (void)node;
    text_printf(out, "%u\n", m->auto_movable_ratio);
    return 0;
}

static int64_t auto_movable_ratio_store(struct machine *m, const struct sysfs_node *node,
                                        const char *buf, size_t count)
{
    uint64_t value;
    int err = parse_u64(buf, &value);

    (void)node;
    if (err == 0 && value > UINT32_MAX)
        err = -ERANGE;
    if (err != 0)
        return fail(m, err, "`auto_movable_ratio` takes a number below 2^32");
    m->auto_movable_ratio = (unsigned)value;
    return (int64_t)count;
}

static int auto_movable_numa_aware_show(struct machine *m, const struct sysfs_node *node,
                                        struct text *out)
{
    (void)node;
    text_printf(out, "%c\n", m->auto_movable_numa_aware ? 'Y' : 'N');
    return 0;
}

static int64_t auto_movable_numa_aware_store(struct machine *m, const struct sysfs_node *node,
                                             const char *buf, size_t count)
{
    bool value;

    (void)node;
    if (parse_bool(m, buf, &value) != 0)
        return fail(m, -EINVAL, "`auto_movable_numa_aware` takes a truth value");
    m->auto_movable_numa_aware = value;
    return (int64_t)count;
}

static int memmap_on_memory_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    static const char *const words[] = {"N", "Y", "force"};

    (void)node;
    text_printf(out, "%s\n", words[m->memmap_on_memory]);
    return 0;
}

static bool memmap_on_memory_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_memmap_on_memory);
}

static bool policy_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_online_policy);
}

static bool numa_policy_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return has(m, F_online_policy) && configured(m, CONFIG_NUMA);
}

static const struct sysfs_attr parameter_attrs[] = {
    {.name = "memmap_on_memory",
     .mode = 0444,
     .show = memmap_on_memory_show,
     .visible = memmap_on_memory_visible},
    {.name = "online_policy",
     .mode = 0644,
     .show = online_policy_show,
     .store = online_policy_store,
     .visible = policy_visible},
    {.name = "auto_movable_ratio",
     .mode = 0644,
     .show = auto_movable_ratio_show,
     .store = auto_movable_ratio_store,
     .visible = policy_visible},
    {.name = "auto_movable_numa_aware",
     .mode = 0644,
     .show = auto_movable_numa_aware_show,
     .store = auto_movable_numa_aware_store,
     .visible = numa_policy_visible},
    {0},
};
static const struct sysfs_class parameters_class = {.name = "module parameters",
                                                    .attrs = parameter_attrs};

static int64_t module_uevent_store(struct machine *m, const struct sysfs_node *node,
                                   const char *buf, size_t count)
{
    (void)node;
    return uevent_synthesize(m, buf, count, "/module/memory_hotplug", "module", NULL, true);
}

static bool modules_configured(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return configured(m, CONFIG_MODULES);
}

static const struct sysfs_attr module_attrs[] = {
    {.name = "uevent", .mode = 0200, .store = module_uevent_store, .visible = modules_configured},
    {0},
};
static const struct sysfs_class module_class = {.name = "module", .attrs = module_attrs};

void module_parameters_register(struct machine *m)
{
    if (!has(m, F_memmap_on_memory) && !has(m, F_online_policy))
        return;
    sysfs_dir_add(m, "/sys/module/memory_hotplug", &module_class, 0);
    sysfs_dir_add(m, "/sys/module/memory_hotplug/parameters", &parameters_class, 0);
}

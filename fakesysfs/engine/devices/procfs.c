/*
 * procfs.c - the files of /proc that tell about memory, hung into the tree.
 *
 * Owns: which files there are, their modes. Does not own: what they say (meminfo.c, zoneinfo.c,
 * vmstat.c, resource.c).
 */
#include "proc/proc.h"

static int iomem_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    resource_print(m, out);
    return 0;
}

static int cmdline_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%s\n", m->cmdline);
    return 0;
}

static const struct sysfs_attr proc_attrs[] = {
    {.name = "meminfo", .mode = 0444, .show = meminfo_show, .flags = ATTR_PROC | ATTR_LARGE},
    {.name = "zoneinfo", .mode = 0444, .show = zoneinfo_show, .flags = ATTR_PROC | ATTR_LARGE},
    {.name = "buddyinfo", .mode = 0444, .show = buddyinfo_show, .flags = ATTR_PROC | ATTR_LARGE},
    {.name = "pagetypeinfo",
     .mode = 0400,
     .show = pagetypeinfo_show,
     .flags = ATTR_PROC | ATTR_LARGE},
    {.name = "vmstat", .mode = 0444, .show = vmstat_show, .flags = ATTR_PROC | ATTR_LARGE},
    {.name = "iomem", .mode = 0444, .show = iomem_show, .flags = ATTR_PROC | ATTR_LARGE},
    {.name = "cmdline", .mode = 0444, .show = cmdline_show, .flags = ATTR_PROC | ATTR_LARGE},
    {.name = NULL},
};

static const struct sysfs_class proc_class = {.name = "proc", .attrs = proc_attrs};

void procfs_register(struct machine *m)
{
    sysfs_file_add(m, "/proc", &proc_class);
}

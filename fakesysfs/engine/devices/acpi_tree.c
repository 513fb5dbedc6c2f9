/*
 * acpi_tree.c - what sysfs shows of the DIMM slots: the devices PNP0C80:NN, and their links in
 * /sys/bus/acpi.
 *
 * Owns: their files and links, and what a write to `eject` asks for. Does not own: what the guest
 * does with a DIMM (acpi.c), the other end of the links (memory_block.c). There is a device for
 * each slot of the machine from boot on, as firmware describes all of them, and NN is the number of
 * the slot. Linux: drivers/acpi/device_sysfs.c, drivers/acpi/glue.c acpi_bind_one(); QEMU:
 * hw/acpi/memory_hotplug.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#define MODALIAS "acpi:PNP0C80:"
#define CONTAINER "/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A06:04"

enum { NAME_BYTES = 96, OST_OSPM_EJECT = 0x103, STATUS_THERE = 0xf };

static const struct acpi_dimm *dimm_in(const struct machine *m, uint64_t slot)
{
    return slot < m->nr_dimms && m->dimms[slot].present ? &m->dimms[slot] : NULL;
}

static void device_name(char name[NAME_BYTES], const char *before, uint64_t slot)
{
    snprintf(name, NAME_BYTES, "%sPNP0C80:%02x", before, (unsigned)slot);
}

/* "PNP0C80:1f" of a slot that there is. */
static bool device_slot(const struct machine *m, const char *name, uint64_t *slot)
{
    static const char prefix[] = "PNP0C80:", digits[] = "0123456789abcdef";
    size_t len = sizeof prefix - 1;

    if (strncmp(name, prefix, len) != 0 || strlen(name) != len + 2)
        return false;
    const char *high = strchr(digits, name[len]), *low = strchr(digits, name[len + 1]);
    if (high == NULL || low == NULL)
        return false;
    *slot = (uint64_t)((high - digits) * 16 + (low - digits));
    return *slot < m->nr_acpi_slots;
}

/* ---- files ---- */

static int path_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    text_printf(out, "\\_SB_.MHPC.MP%02X\n", (unsigned)node->id);
    return 0;
}

/* _STA asks the board: is there anything in the slot, whatever the guest made of it? */
static int status_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    text_printf(out, "%d\n", dimm_in(m, node->id) != NULL ? STATUS_THERE : 0);
    return 0;
}

static int hid_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m, (void)node;
    text_printf(out, "PNP0C80\n");
    return 0;
}

static int uid_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    text_printf(out, "0x%02X\n", (unsigned)node->id);
    return 0;
}

static int modalias_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m, (void)node;
    text_printf(out, MODALIAS "\n");
    return 0;
}

static int uevent_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m, (void)node;
    text_printf(out, "MODALIAS=" MODALIAS "\n");
    return 0;
}

static int64_t uevent_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                            size_t count)
{
    char path[NAME_BYTES], name[NAME_BYTES];

    device_name(path, CONTAINER "/", node->id);
    device_name(name, "acpi ", node->id);
    return uevent_synthesize_alias(m, buf, count, path, "acpi", name, true, MODALIAS);
}

/* Only asks: the guest's kacpi_hotplug does it some time later, and reports to the board alone how
 * it went. */
static int64_t eject_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count)
{
    const struct acpi_dimm *dimm = dimm_in(m, node->id);
    char path[NAME_BYTES], data[NAME_BYTES];

    if (buf[0] != '1')
        return fail(m, -EINVAL, "`eject` takes 1");
    if (dimm == NULL || !dimm->attached)
        return fail(m, -ENODEV, "slot %u has no memory that the driver has taken",
                    (unsigned)node->id);
    device_name(path, CONTAINER "/", node->id);
    snprintf(data, sizeof data, "%u 0x%x", (unsigned)node->id, (unsigned)OST_OSPM_EJECT);
    event_add(m, EVENT_OST, 0, path, data);
    return (int64_t)count;
}

static const struct sysfs_attr device_attrs[] = {
    {.name = "uevent", .mode = 0644, .show = uevent_show, .store = uevent_store},
    {.name = "path", .mode = 0444, .show = path_show},
    {.name = "hid", .mode = 0444, .show = hid_show},
    {.name = "modalias", .mode = 0444, .show = modalias_show},
    {.name = "uid", .mode = 0444, .show = uid_show},
    {.name = "status", .mode = 0444, .show = status_show},
    {.name = "eject", .mode = 0200, .store = eject_store},
    {0},
};

/* ---- links ---- */

enum { LINK_BUS, LINK_BLOCK };

/* aux: which of the two it is. */
static void link_target(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)m;
    if (node->aux == LINK_BUS)
        text_printf(out, "../../../../../bus/acpi");
    else
        text_printf(out, "../../../../system/memory/memory%llu", (unsigned long long)node->id);
}

static const struct sysfs_class bus_link_class = {.name = "bus of an ACPI device",
                                                  .target = link_target};

static bool bound_alive(struct machine *m, uint64_t id, uint64_t serial)
{
    const struct memory_block *b = block_get(m, id);

    return b != NULL && b->serial == serial;
}

static const struct sysfs_class block_link_class = {
    .name = "memory of an ACPI device", .target = link_target, .alive = bound_alive};

/* Number of the next block bound to this slot, from `id` on, that has the physical node number
 * `want`; -1: any. */
static struct memory_block *bound_next(struct machine *m, uint64_t slot, uint64_t id, int64_t want)
{
    const struct acpi_dimm *dimm = dimm_in(m, slot);
    void *value;

    if (dimm == NULL || !dimm->attached)
        return NULL;
    for (; id * m->block_bytes < dimm->start + dimm->size_bytes &&
           radix_next(&m->blocks, id, &id, &value);
         id++) {
        struct memory_block *b = value;
        if (b->acpi_slot == (int64_t)slot && (want < 0 || b->physical_node == (uint64_t)want))
            return b;
    }
    return NULL;
}

static struct sysfs_node bound_link(const struct memory_block *b)
{
    return sysfs_link_node(&block_link_class, b->id, LINK_BLOCK, b->serial);
}

static int device_lookup(struct machine *m, uint64_t slot, const char *name, struct sysfs_node *out)
{
    uint64_t number = 0;

    if (strcmp(name, "power") == 0 && !has(m, F_acpi_device_no_power)) {
        *out = sysfs_dir_node(&sysfs_power_class, slot, 0);
        return 0;
    }
    if (strcmp(name, "subsystem") == 0) {
        *out = sysfs_link_node(&bus_link_class, slot, LINK_BUS, 0);
        return 0;
    }
    if (strcmp(name, "physical_node") != 0 &&
        (!name_number(name, "physical_node", &number) || number == 0))
        return -ENOENT;
    const struct acpi_dimm *dimm = dimm_in(m, slot);
    const struct memory_block *b = NULL;
    if (dimm != NULL &&
        number <= dimm->size_bytes /
                      m->block_bytes) /* as many are before it, or more that were not bound */
        b = bound_next(m, slot, dimm->start / m->block_bytes + number, (int64_t)number);
    if (b == NULL)
        return -ENOENT;
    *out = bound_link(b);
    return 0;
}

static void device_list(struct machine *m, uint64_t slot,
                        void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                        void *ctx)
{
    const struct acpi_dimm *dimm = dimm_in(m, slot);
    const struct memory_block *b;
    struct sysfs_node node;
    char name[NAME_BYTES] = "physical_node";

    if (device_lookup(m, slot, "power", &node) == 0)
        add(ctx, "power", &node);
    device_lookup(m, slot, "subsystem", &node);
    add(ctx, "subsystem", &node);
    for (uint64_t id = dimm != NULL ? dimm->start / m->block_bytes : 0;
         (b = bound_next(m, slot, id, -1)) != NULL; id = b->id + 1) {
        if (b->physical_node != 0)
            snprintf(name, sizeof name, "physical_node%u", (unsigned)b->physical_node);
        node = bound_link(b);
        add(ctx, name, &node);
    }
}

static uint64_t device_nr_dirs(struct machine *m, uint64_t slot)
{
    (void)slot;
    return !has(m, F_acpi_device_no_power);
}

static const struct sysfs_class device_class = {
    .name = "ACPI memory device",
    .attrs = device_attrs,
    .lookup = device_lookup,
    .list = device_list,
    .nr_dirs = device_nr_dirs,
};

/* ---- the directories they are in ---- */

static int container_lookup(struct machine *m, uint64_t unused, const char *name,
                            struct sysfs_node *out)
{
    uint64_t slot;

    (void)unused;
    if (!device_slot(m, name, &slot))
        return -ENOENT;
    *out = sysfs_dir_node(&device_class, slot, 0);
    return 0;
}

static void slots_list(struct machine *m,
                       int (*lookup)(struct machine *, uint64_t, const char *, struct sysfs_node *),
                       void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                       void *ctx)
{
    for (uint64_t slot = 0; slot < m->nr_acpi_slots; slot++) {
        char name[NAME_BYTES];
        struct sysfs_node node;
        device_name(name, "", slot);
        if (lookup(m, 0, name, &node) == 0)
            add(ctx, name, &node);
    }
}

static void container_list(struct machine *m, uint64_t unused,
                           void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                           void *ctx)
{
    (void)unused;
    slots_list(m, container_lookup, add, ctx);
}

static uint64_t container_nr_dirs(struct machine *m, uint64_t unused)
{
    (void)unused;
    return m->nr_acpi_slots;
}

static const struct sysfs_class container_class = {.name = "ACPI container",
                                                   .lookup = container_lookup,
                                                   .list = container_list,
                                                   .nr_dirs = container_nr_dirs};

static void device_target(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    char path[NAME_BYTES];

    (void)m;
    device_name(path, "../../.." CONTAINER "/", node->id);
    text_printf(out, "%s", path);
}

static const struct sysfs_class device_link_class = {.name = "device of bus/acpi",
                                                     .target = device_target};

static int bus_lookup(struct machine *m, uint64_t unused, const char *name, struct sysfs_node *out)
{
    uint64_t slot;

    (void)unused;
    if (!device_slot(m, name, &slot))
        return -ENOENT;
    *out = sysfs_link_node(&device_link_class, slot, 0, 0);
    return 0;
}

static void bus_list(struct machine *m, uint64_t unused,
                     void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                     void *ctx)
{
    (void)unused;
    slots_list(m, bus_lookup, add, ctx);
}

static const struct sysfs_class bus_class = {
    .name = "bus/acpi/devices", .lookup = bus_lookup, .list = bus_list};

void acpi_register(struct machine *m)
{
    if (m->nr_acpi_slots == 0)
        return;
    sysfs_dir_add(m, "/sys" CONTAINER, &container_class, 0);
    sysfs_dir_add(m, "/sys/bus/acpi/devices", &bus_class, 0);
}

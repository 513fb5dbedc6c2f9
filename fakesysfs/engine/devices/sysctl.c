/*
 * sysctl.c - files of /proc/sys/vm: what can be set of memory while the machine runs.
 *
 * Owns: those files, how a sysctl is parsed. Does not own: what a setting does (zone.c,
 * hugepages.c). Linux: kernel/sysctl.c, mm/page_alloc.c, mm/hugetlb.c, fs/drop_caches.c.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "devices/node_files.h"

/* proc_dointvec_minmax(), proc_doulongvec_minmax(): the first number of what is written, in any of
 * C's bases, with blanks around it. */
static int parse_sysctl(struct machine *m, const char *s, int64_t least, int64_t most,
                        int64_t *value)
{
    char *end;

    while (isspace((unsigned char)*s))
        s++;
    if (!isdigit((unsigned char)s[*s == '-']))
        return fail(m, -EINVAL, "not a number");
    errno = 0;
    *value = strtoll(s, &end, 0);
    if (*end != '\0' && *end != ' ' && *end != '\t' && *end != '\n')
        return fail(m, -EINVAL, "something stands behind the number");
    if (errno != 0 || *value < least || *value > most)
        return fail(m, -EINVAL, "the number is not from %lld to %lld", (long long)least,
                    (long long)most);
    return 0;
}

/* ---- huge pages ---- */

static int nr_hugepages_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%llu\n", (unsigned long long)m->hugetlb_total);
    return 0;
}

static int64_t nr_hugepages_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                  size_t count)
{
    int64_t wanted;
    int err = parse_sysctl(m, buf, 0, INT64_MAX, &wanted);

    (void)node;
    if (err != 0)
        return err;
    hugepages_set(m, (uint64_t)wanted);
    return (int64_t)count;
}

static int overcommit_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%llu\n", (unsigned long long)m->hugetlb_overcommit);
    return 0;
}

static int64_t overcommit_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                size_t count)
{
    int64_t number;
    int err = parse_sysctl(m, buf, 0, INT64_MAX, &number);

    (void)node;
    if (err != 0)
        return err;
    m->hugetlb_overcommit = (uint64_t)number;
    return (int64_t)count;
}

static bool hugetlb_visible(struct machine *m, const struct sysfs_node *node)
{
    (void)node;
    return configured(m, CONFIG_HUGETLB_PAGE);
}

static bool hugetlb_numa_visible(struct machine *m, const struct sysfs_node *node)
{
    return hugetlb_visible(m, node) && configured(m, CONFIG_NUMA);
}

/* ---- free memory, page cache ---- */

static int min_free_show(struct machine *m, const struct sysfs_node *node, struct text *out)
{
    (void)node;
    text_printf(out, "%llu\n", (unsigned long long)m->min_free_kbytes);
    return 0;
}

static int64_t min_free_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                              size_t count)
{
    int64_t kbytes;
    int err = parse_sysctl(m, buf, 0, INT32_MAX, &kbytes);

    (void)node;
    if (err != 0)
        return err;
    zone_set_min_free(m, (uint64_t)kbytes);
    return (int64_t)count;
}

static void drop(struct machine *m, unsigned kind)
{
    for (unsigned nid = 0; nid < m->possible_nodes; nid++)
        for (unsigned type = 0; type < NR_ZONES; type++)
            (void)zone_reclaim(m, &m->nodes[nid].zones[type], kind, UINT64_MAX);
}

/* 1: the page cache; 2: dentries and inodes; 4: the kernel says nothing of it from now on. */
static int64_t drop_caches_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                                 size_t count)
{
    int64_t what;
    int err = parse_sysctl(m, buf, 1, 4, &what);

    (void)node;
    if (err != 0)
        return err;
    if ((what & 1) != 0)
        drop(m, KIND_FILE);
    if ((what & 2) != 0)
        drop(m, KIND_SLAB_RECLAIMABLE);
    return (int64_t)count;
}

#define SYSCTL(name_, mode_, show_, store_, visible_) \
    {.name = name_,                                   \
     .mode = mode_,                                   \
     .show = show_,                                   \
     .store = store_,                                 \
     .visible = visible_,                             \
     .flags = ATTR_SYSCTL}

static const struct sysfs_attr vm_attrs[] = {
    SYSCTL("nr_hugepages", 0644, nr_hugepages_show, nr_hugepages_store, hugetlb_visible),
    /* nobody who writes has a memory policy */
    SYSCTL("nr_hugepages_mempolicy", 0644, nr_hugepages_show, nr_hugepages_store,
           hugetlb_numa_visible),
    SYSCTL("nr_overcommit_hugepages", 0644, overcommit_show, overcommit_store, hugetlb_visible),
    SYSCTL("min_free_kbytes", 0644, min_free_show, min_free_store, NULL),
    SYSCTL("drop_caches", 0200, NULL, drop_caches_store, NULL),
    {.name = NULL},
};

static const struct sysfs_class vm_class = {.name = "vm", .attrs = vm_attrs};

void sysctl_register(struct machine *m)
{
    sysfs_dir_add(m, "/proc/sys/vm", &vm_class, 0);
}

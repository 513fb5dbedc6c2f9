/*
 * proc.h - private to vmstat.c, zoneinfo.c, meminfo.c, procfs.c, node_files.c: sums of counters.
 *
 * Owns: struct tally and the prototypes between these files. Does not own: any counter. Every
 * number printed is read from the model at the moment of the read.
 */
#ifndef FAKESYSFS_PROCFS_H
#define FAKESYSFS_PROCFS_H

#include "machine.h"

struct tally { /* counters of one zone, one node, or all of them; pages, unless said */
    uint64_t kind[NR_KINDS];
    uint64_t free, free_large, managed; /* free_large: in chunks of a pageblock or more */
    uint64_t numa_hit, numa_miss, numa_foreign, numa_local, numa_other; /* events */
    uint64_t allocated[NR_ZONES];                                       /* by type of zone */
    uint64_t memmap_boot;                                               /* of nodes only */
};

/* vmstat.c */
void tally_zone(const struct machine *m, struct tally *t, const struct zone *z); /* adds to *t */
void tally_node(const struct machine *m, struct tally *t, const struct node *node);
void tally_machine(const struct machine *m, struct tally *t);
unsigned machine_nr_cpus(const struct machine *m); /* of all nodes; at least 1 */
uint64_t tally_kb(const struct machine *m, uint64_t pages);
bool has_direct_map_counters(const struct machine *m); /* x86 tells how its direct map is made */
/* These two in zoneinfo's form. */
void vmstat_print_zone(const struct machine *m, const struct tally *t, struct text *out);
void vmstat_print_node(const struct machine *m, const struct tally *t, struct text *out);
int vmstat_show(struct machine *m, const struct sysfs_node *node,
                struct text *out); /* /proc/vmstat */

/* zoneinfo.c */
int zoneinfo_show(struct machine *m, const struct sysfs_node *node, struct text *out);
int buddyinfo_show(struct machine *m, const struct sysfs_node *node, struct text *out);
int pagetypeinfo_show(struct machine *m, const struct sysfs_node *node, struct text *out);

/* meminfo.c */
int meminfo_show(struct machine *m, const struct sysfs_node *node, struct text *out);
struct hugetlb_count { /* huge pages of the default size */
    uint64_t total, free;
};
struct hugetlb_count hugetlb_of_node(struct machine *m, int nid);

#endif

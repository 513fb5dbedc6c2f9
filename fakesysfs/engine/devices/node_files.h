/*
 * node_files.h - private to the files of nodes, huge pages and sysctls: what they share.
 *
 * Owns: prototypes. Does not own: the list of attributes (node.c).
 */
#ifndef FAKESYSFS_NODE_FILES_H
#define FAKESYSFS_NODE_FILES_H

#include "machine.h"

extern const struct sysfs_class node_hugepages_class; /* hugepages.c: id is the node */

/* Drops pages of a kind of a zone, youngest first. Returns the pages freed, `wanted` if it can. */
uint64_t zone_reclaim(struct machine *m, const struct zone *z, unsigned kind, uint64_t wanted);

/* hugepages.c: the pool of huge pages of the default size, of the whole machine. */
void hugepages_set(struct machine *m, uint64_t wanted); /* as close to it as memory allows */

typedef void (*add_fn)(void *ctx, const char *name, const struct sysfs_node *node); /* of list() */

int node_cpumap_show(struct machine *m, const struct sysfs_node *node, struct text *out);
int node_cpulist_show(struct machine *m, const struct sysfs_node *node, struct text *out);
uint64_t node_cpumap_size(struct machine *m, const struct sysfs_node *node);
uint64_t node_cpulist_size(struct machine *m, const struct sysfs_node *node);
int node_meminfo_show(struct machine *m, const struct sysfs_node *node, struct text *out);
int node_vmstat_show(struct machine *m, const struct sysfs_node *node, struct text *out);
int node_numastat_show(struct machine *m, const struct sysfs_node *node, struct text *out);
int node_distance_show(struct machine *m, const struct sysfs_node *node, struct text *out);
bool node_compact_visible(struct machine *m, const struct sysfs_node *node);
int64_t node_compact_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count);
bool node_reclaim_visible(struct machine *m, const struct sysfs_node *node);
int64_t node_reclaim_store(struct machine *m, const struct sysfs_node *node, const char *buf,
                           size_t count);

/* The sub-directories hugepages/, memory_failure/, x86/, as lookup() and list() of a class. */
int node_files_lookup(struct machine *m, uint64_t nid, const char *name, struct sysfs_node *out);
void node_files_list(struct machine *m, uint64_t nid, add_fn add, void *ctx);

#endif

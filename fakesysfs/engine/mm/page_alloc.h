/*
 * page_alloc.h - requests for pages, for the files that take some: page_alloc.c, load.c,
 * boot_load.c.
 *
 * Owns: what a request is, and the list of what several of them have got. Does not own: single
 * allocations of the rest of the engine, which go by pages_alloc() (mm.h).
 */
#ifndef FAKESYSFS_PAGE_ALLOC_H
#define FAKESYSFS_PAGE_ALLOC_H

#include "machine.h"

struct page_request {
    unsigned kind, order;
    enum zone_type highest;
    int nid;
    uint64_t nodemask; /* 0: all */
};

struct taken { /* what an allocation has got so far, so that it can be given back */
    uint64_t *got;
    size_t nr, cap;
};

int page_request(struct machine *m, const struct page_request *r, uint64_t *pfn);
/* nr_pages of one kind, in folios of one order; -ENOMEM and nothing taken when they are not to be
 * had. */
int page_request_many(struct machine *m, struct page_request *r, uint64_t nr_pages, bool pinned,
                      struct taken *taken);
/* The same out of one range of pages, lowest first; zone_type: of this zone only, -1: any. */
int page_request_in_range(struct machine *m, const struct page_request *r, uint64_t start_pfn,
                          uint64_t end_pfn, int zone_type, uint64_t nr_pages, bool pinned,
                          struct taken *taken);
/* The same out of the zones of one type, wherever the watermarks are. */
int page_request_in_zones(struct machine *m, const struct page_request *r, int zone_type,
                          uint64_t nr_pages, bool pinned, struct taken *taken);
bool taken_room(struct taken *taken); /* for one more; ask before there is one to add */
void taken_add(struct taken *taken, uint64_t pfn);
/* Give back what was got after the first `keep`, youngest first. */
void taken_give_back(struct machine *m, struct taken *taken, size_t keep);
/* What CPUs keep to themselves goes back. Did they have any? */
bool drain_all_zones(struct machine *m);
int first_node_with_memory(struct machine *m);

/* load.c: pages of a kind, by name; the number taken, or -errno. order, nid, block_id: -1: any. */
int64_t load_take(struct machine *m, const char *kind_word, uint64_t nr_pages, int order,
                  const char *zone, int nid, int64_t block_id);

#endif

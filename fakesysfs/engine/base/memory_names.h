/*
 * memory_names.h - the names that the kernel prints of zones and migratetypes, each in one table.
 *
 * Owns: those names and their order, which is the order of the enums in mm.h. Does not own: which
 * of them a machine has (machine->zone_exists, CONFIG_CMA); kinds of pages (mm/page_kind.c).
 */
#ifndef FAKESYSFS_MEMORY_NAMES_H
#define FAKESYSFS_MEMORY_NAMES_H

/* (enumerator without its prefix, name): from the lowest zone up */
#define FAKESYSFS_ZONES(X) \
    X(DMA, "DMA")          \
    X(DMA32, "DMA32")      \
    X(NORMAL, "Normal")    \
    X(MOVABLE, "Movable")  \
    X(DEVICE, "Device")

/* Isolate is last: it is none of the lists that allocations look at. */
#define FAKESYSFS_MIGRATETYPES(X) \
    X(UNMOVABLE, "Unmovable")     \
    X(MOVABLE, "Movable")         \
    X(RECLAIMABLE, "Reclaimable") \
    X(HIGHATOMIC, "HighAtomic")   \
    X(CMA, "CMA")                 \
    X(ISOLATE, "Isolate")

#endif

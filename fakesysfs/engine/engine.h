/*
 * engine.h - the engine as everyone outside it sees it: an opaque machine and plain values.
 *
 * Owns: the public prototypes. Contract of every function: 0 or a positive value is success, a
 * negative number is a negative errno, and then task->reason says why. Every function locks the
 * machine itself and may be called from any thread; none calls back. Long work (going offline)
 * gives the lock up now and then and asks task->interrupted. Does not own: anything of Python or of
 * FUSE's library.
 */
#ifndef FAKESYSFS_ENGINE_H
#define FAKESYSFS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/kernel_features.h"
#include "base/memory_names.h"

struct machine;

/* Who asks: carries the reason of a failure out, and the question "has a signal arrived?" in. One
 * per call. */
struct task {
    int (*interrupted)(void); /* polled during long work and waits; NULL: never */
    bool capable;             /* has CAP_SYS_ADMIN; false only in tests */
    uint64_t caller;     /* a number of the caller's own, which the events of the call repeat */
    bool no_host_memory; /* -ENOMEM because this process has none, not the simulated machine */
    char reason[224];    /* why the call failed; empty on success */
};

struct boot_range { /* memory the kernel uses, or keeps to itself; bytes, end exclusive */
    uint64_t start, end;
    int nid;
};

struct boot_resource { /* one line of /proc/iomem at boot, pre-order; bytes, end inclusive */
    uint64_t start, end;
    const char *name;
    unsigned flags; /* RES_* */
    unsigned depth;
};
#define RES_BUSY 1u
#define RES_SYSRAM 2u
#define RES_IDLE 4u /* to resource_request(): others may claim what is within it */

struct boot_firmware { /* one entry of the firmware's map; end inclusive */
    uint64_t start, end;
    const char *type;
};

struct boot_node {
    int nid;
    const int *cpus;
    unsigned nr_cpus;
};

struct boot_use { /* what is held of one kind of page: pages, or KiB */
    const char *kind;
    uint64_t amount;
};
struct boot_load { /* who uses memory after boot */
    const char *kind;
    uint64_t bytes;
    int nid; /* -1: anywhere */
};

struct boot_block { /* a block that is listed: the state in which it is found; see boot.c. Ascending
                       by id */
    uint64_t id;
    const char *state, *zone; /* zone of an online one: its name, "none" where it lies in several */
    int nid, phys_device;
    int removable; /* what its file says until its state changes; -1: what there is to see */
    int linked;    /* has a link to its node */
};

struct boot_span { /* a zone of a machine with listed blocks spans this, too; bytes, end exclusive
                    */
    uint64_t start, end;
    int nid;
    const char *zone;
};

/* Everything a machine is made from. Arrays are read during machine_create() only. */
struct machine_config {
    const char *release;
    const char *callgraphs; /* which functions the kernel calls, see trace_graph.c */
    const char *cmdline;    /* the kernel command line, as it was given */
    uint64_t seed;
    bool features[NR_FEATURES];
    int64_t config[NR_CONFIGS];
    unsigned page_shift, section_shift, max_order, pageblock_order, struct_page_bytes;
    uint64_t block_bytes;
    bool zone_dma, zone_dma32;
    uint64_t dma_end, dma32_end; /* byte addresses, exclusive; of zones that exist */
    unsigned max_phys_bits, iomem_bits;
    const struct boot_resource *resources;
    size_t nr_resources;
    const struct boot_range *memory, *reserved, *hotplug_nids,
        *standby; /* standby: added offline (s390x) */
    size_t nr_memory, nr_reserved, nr_hotplug_nids, nr_standby;
    const struct boot_firmware *firmware;
    size_t nr_firmware;
    const struct boot_node *nodes;
    size_t nr_nodes;
    unsigned possible_nodes;
    const int *distances; /* possible_nodes x possible_nodes */
    bool movable_node;
    uint64_t mem_limit;               /* of mem= where that is an address, in bytes; 0: not given */
    uint64_t kernelcore, movablecore; /* bytes; 0: not given */
    unsigned kernelcore_percent, movablecore_percent;
    const char *memhp_default_state, *online_policy;
    unsigned auto_movable_ratio;
    bool auto_movable_numa_aware;
    unsigned memmap_on_memory; /* 0 no, 1 yes, 2 force */
    const struct boot_load *load;
    size_t nr_load;
    const struct boot_block *blocks;
    size_t nr_blocks;
    const struct boot_span *zone_spans;
    size_t nr_zone_spans;
    const struct boot_use *first_use; /* pages the kernel takes first of a zone that was empty */
    const struct boot_use *idle;      /* KiB that are held after boot where no load is given */
    size_t nr_first_use, nr_idle;
    uint64_t percpu_kb, vmalloc_kb,
        direct_map_4k_kb; /* each CPU's; beside kernel stacks; beside the edges of RAM */
    unsigned aged;
    uint64_t swap_bytes;
    uint64_t increment_bytes; /* of storage, which phys_device counts; 0: it counts nothing */
    unsigned acpi_slots;      /* DIMM slots that ACPI describes, 256 at most */
    bool not_x86; /* nothing tells how the direct map is made, there are no huge pages of 1 GiB */
};

/* machine.c */
struct machine *machine_create(const struct machine_config *config,
                               struct task *task); /* NULL: task->reason */
/*
 * A machine that has booted after a reset of `before`, where all that waits ends with EINTR.
 * Numbers of events, open files and fault rules go on; files opened before answer ENODEV. `before`
 * is destroyed with the new machine, or earlier by machine_forget_before(). NULL: task->reason, and
 * `before` is as it was.
 */
struct machine *machine_reboot(struct machine *before, const struct machine_config *config,
                               struct task *task);
void machine_forget_before(struct machine *m); /* once no call is in a machine before the reset */
void machine_destroy(struct machine *m);
int machine_check(struct machine *m,
                  struct task *task); /* -EIO and the first violated invariant in reason */

/* sysfs.c: files. Paths are absolute in the served tree. */
struct file_stat {
    uint32_t mode, uid, gid;
    uint64_t ino, nlink, size;
    int64_t mtime_ns;
};
struct dirent_out { /* one directory entry; name is NUL-terminated */
    char name[72];
    uint64_t ino;
    uint32_t mode;
};
int file_stat(struct machine *m, struct task *task, const char *path, struct file_stat *st);
int file_readlink(struct machine *m, struct task *task, const char *path, char *buf, size_t size);
/* Entries in kernfs order, in an array from malloc() that the caller frees. Returns their number.
 */
int64_t file_readdir(struct machine *m, struct task *task, const char *path,
                     struct dirent_out **entries);
int64_t file_open(struct machine *m, struct task *task, const char *path,
                  int flags); /* a handle > 0 */
int64_t file_read(struct machine *m, struct task *task, int64_t handle, char *buf, size_t size,
                  uint64_t offset);
int64_t file_write(struct machine *m, struct task *task, int64_t handle, const char *buf,
                   size_t size);
/* Wait until no other open file stores to this one, if it is for writing only: see fuse_ops.c. */
int file_await_stores(struct machine *m, struct task *task, int64_t handle);
int file_poll(struct machine *m, int64_t handle); /* POLL* bits that hold now */
int file_release(struct machine *m, int64_t handle);
int file_fstat(struct machine *m, struct task *task, int64_t handle, struct file_stat *st);
int file_truncate(struct machine *m, struct task *task, const char *path, uint64_t size);
int file_chmod(struct machine *m, struct task *task, const char *path, uint32_t mode);
int file_chown(struct machine *m, struct task *task, const char *path, uint32_t uid, uint32_t gid);
int file_utimens(struct machine *m, struct task *task, const char *path, int64_t mtime_ns);
int file_change(struct machine *m, struct task *task, const char *op,
                const char *path); /* mkdir ...: always < 0 */
int file_add(struct machine *m, struct task *task, const char *path, const char *data, size_t size,
             uint32_t mode);

/* memory_block.c and acpi.c: memory comes and goes */
int memory_add(struct machine *m, struct task *task, int nid, uint64_t start, uint64_t size_bytes);
int memory_remove(struct machine *m, struct task *task, uint64_t start, uint64_t size_bytes);
/* nid: -1 for a node that Linux does not know; the address decides then */
int acpi_device_check(struct machine *m, struct task *task, unsigned slot, int nid, uint64_t start,
                      uint64_t size_bytes);
int acpi_eject_request(struct machine *m, struct task *task, unsigned slot);

/* virtio_mem.c: a device with memory that is plugged in part, and the guest's driver of it */
/* The driver finds the device; returns its number, or -ENODEV, -EINVAL, -EBUSY. nid: -1 for a node
 * that Linux does not know; the address decides then. device_block_bytes: of the host's device, a
 * power of two */
int virtio_mem_probe(struct machine *m, struct task *task, int nid, uint64_t addr,
                     uint64_t region_bytes, uint64_t device_block_bytes);
/* The host wants another size, and lets only the first bytes of the region be used; nothing is done
 * yet. */
int virtio_mem_request(struct machine *m, struct task *task, unsigned number, uint64_t requested,
                       uint64_t usable_bytes);
/* Let the driver do what it can. 0, or why there is work left: -EBUSY, -ENOMEM: try again later;
 * -ENOSPC: no more goes. */
int virtio_mem_work(struct machine *m, struct task *task, unsigned number);
int64_t virtio_mem_size(struct machine *m, struct task *task, unsigned number); /* bytes plugged */

/* load.c: who holds pages */
struct page_info {
    uint64_t pfn, head_pfn;
    const char *kind, *zone, *migratetype, *section_state;
    int nid;
    unsigned order, pins;
    bool online, poisoned;
    uint64_t block_id;
};
int64_t load_allocate(struct machine *m, struct task *task, const char *kind, uint64_t nr_pages,
                      int order, const char *zone, int nid,
                      int64_t block_id); /* pages got, or -errno and none taken */
int64_t load_free(struct machine *m, struct task *task, const char *kind, uint64_t nr_pages,
                  int nid);
int page_pin(struct machine *m, struct task *task, uint64_t pfn, int delta);
int page_free_at(struct machine *m, struct task *task, uint64_t pfn);
int page_describe(struct machine *m, struct task *task, uint64_t pfn, struct page_info *info);

/* What a fault rule does to a uevent, or to a request to unplug, which may also be delayed. */
enum rule_effect {
    EFFECT_NONE,
    EFFECT_DROP,
    EFFECT_DUPLICATE,
    EFFECT_REORDER,
    EFFECT_DELAY,
    EFFECT_EARLY,
    EFFECT_NEVER,
    EFFECT_REFUSE,
    EFFECT_STAY,
    EFFECT_TWICE,
    NR_RULE_EFFECTS
};
struct fault_verdict {
    enum rule_effect effect;
    uint64_t delay_us;
};

/* events.c, uevent.c: what happened */
enum event_kind {
    EVENT_UEVENT,
    EVENT_STORE,
    EVENT_STATE,
    EVENT_OST,
    EVENT_PAGE,
    EVENT_FAULT,
    EVENT_VIRTIO_MEM
};
struct event {
    uint64_t seq, time_us;
    uint64_t caller; /* task->caller of the call in which it happened; 0: of none */
    enum event_kind kind;
    int err;
    char *path;    /* from malloc() */
    char *data;    /* from malloc() */
    char *payload; /* uevent: strings behind one another, each with its NUL, an empty one ends it;
                      else NULL */
    struct fault_verdict verdict; /* what is to happen to a uevent on its way to the listeners */
};
/* All events not yet taken, oldest first, in an array from malloc(); event_free() each, free() the
 * array. */
size_t events_take(struct machine *m, struct event **events);
void event_free(struct event *event);
/* klog.c, trace.c */
/* Lines of the kernel log from number `from` on (the first is 0): "time_us\ttext\n" each, in memory
 * from malloc(). */
char *klog_text(struct machine *m, uint64_t from, size_t *size);
/* Operations `from` to `to` of the trace, as the function_graph tracer prints it, from 0 on with
 * its heading. own: only the functions that the engine ran, not those that a kernel calls beside.
 */
char *trace_text(struct machine *m, uint64_t from, uint64_t to, bool own, size_t *size);
uint64_t trace_end(struct machine *m); /* the number behind the last operation that is over */
/* An operation that is over and has no name yet: its number and the thread that caused it. False:
 * all have one. */
bool trace_unnamed(struct machine *m, uint64_t *number, uint64_t *caller);
void trace_name(struct machine *m, uint64_t number, const char *what);
void trace_clear(struct machine *m);

/* memory_block.c: a picture of the blocks, for people */
struct block_info {
    uint64_t id, start, free_pages, present_pages, movable_pages, unmovable_pages;
    const char *state, *zone;
    int nid;
};
/* Returns their number; *blocks: from malloc() */
int64_t blocks_snapshot(struct machine *m, struct task *task, struct block_info **blocks);
uint64_t machine_block_bytes(const struct machine *m);

/* fault.c: make the N-th pass of a named point fail. */
int fault_set(struct machine *m, struct task *task, const char *point, int err, uint64_t nth,
              uint64_t times);
void fault_clear(struct machine *m);
size_t fault_points(const char *const **names); /* all names, static */
uint64_t fault_hits(struct machine *m, const char *point);

/* rules.c: faults on purpose for any access to any file, for uevents, and for requests to unplug */
enum rule_op {
    RULE_OPEN,
    RULE_READ,
    RULE_WRITE,
    RULE_LIST,
    RULE_HIDE,   /* there is no such file */
    RULE_VANISH, /* its directory still names it, but it is gone when somebody looks */
    RULE_UEVENT,
    RULE_UNPLUG,
    NR_RULE_OPS
};
extern const char *const rule_op_names[NR_RULE_OPS];
extern const char *const rule_effect_names[NR_RULE_EFFECTS];
#define RULE_ALWAYS UINT64_MAX
#define RULE_CERTAIN 1000000000u
struct fault_rule {
    enum rule_op op;
    enum rule_effect effect; /* of RULE_UEVENT and RULE_UNPLUG */
    const char *text;        /* as it was asked for: its name in lists, events and reasons */
    const char *pattern;     /* of absolute paths; of RULE_UNPLUG: of names the host has given */
    const char *action;      /* of RULE_UEVENT; NULL: any */
    int err;                 /* negative errno; 0: none */
    bool hang;               /* wait until the rule is cleared */
    uint64_t wait_us;
    uint64_t nth, times; /* fires from the nth pass on, so many times or RULE_ALWAYS */
    uint32_t chance;     /* of RULE_CERTAIN, on each of these passes */
};
/* Returns its number, 1 for the first. The strings are copied. */
int64_t rule_add(struct machine *m, struct task *task, const struct fault_rule *asked);
/* Forget a rule, and end its waits; 0: all rules. */
int rule_clear(struct machine *m, struct task *task, uint64_t number);
/* Oldest first, "number\tmatched\tfired\twaiting\ttext\n" each: the passes it has seen, those on
 * which something happened, the accesses it holds up now. From malloc(). */
char *rules_text(struct machine *m, size_t *size);
void rules_end(struct machine *m); /* what waits by a rule fails with ENODEV, now and from now on */
/* How the guest is to answer a request to give a device back. It counts as a pass. */
struct fault_verdict unplug_fault(struct machine *m, const char *device);

/* fuse_ops.c: file operations with the signatures of libfuse 2, for the one machine of this process
 * that is mounted. */
/* The machine they serve, and the addresses of libfuse's functions that say whether a request was
 * interrupted, int (void), and that take back the handle of a poll, void (void *); or 0. m NULL:
 * none any more; then waits for the operations under way, which rules_end() makes short. */
void fuse_ops_mount(struct machine *m, uintptr_t interrupted, uintptr_t forget_poll);
/* Serve m where `before` was served. Returns whether, after that, no operation was in `before`. */
bool fuse_ops_replace(struct machine *before, struct machine *m);
const char *fuse_op_name(size_t i); /* "getattr" ...; NULL after the last one */
const void *fuse_op_address(
    const char *name); /* of "getattr" ...; NULL: there is no such function */

#endif

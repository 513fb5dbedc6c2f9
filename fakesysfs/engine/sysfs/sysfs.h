/*
 * sysfs.h - files: attributes, directories, links, and the prototypes of sysfs/.
 *
 * Owns: what a file of sysfs, proc or debugfs is to the engine. Does not own: any file.
 */
#ifndef FAKESYSFS_SYSFS_H
#define FAKESYSFS_SYSFS_H

#include "base/base.h"

struct sysfs_node;
typedef int (*show_fn)(struct machine *m, const struct sysfs_node *node, struct text *out);
typedef int64_t (*store_fn)(struct machine *m, const struct sysfs_node *node, const char *buf,
                            size_t count);

struct sysfs_attr {
    const char *name;
    uint32_t mode; /* permission bits */
    show_fn show;
    store_fn store;
    /* st_size; NULL: 4096 */
    uint64_t (*size)(struct machine *m, const struct sysfs_node *node);
    /* is the file there on this machine? NULL: always */
    bool (*visible)(struct machine *m, const struct sysfs_node *node);
    unsigned flags; /* ATTR_* */
};
#define ATTR_LARGE \
    1u /* show may exceed a page: files of /proc and node files with a size of their own */
#define ATTR_EMPTY_STORE 2u /* store is called for a write of no bytes (debugfs) */
#define ATTR_DEVICE_LOCK 4u /* show waits until the block is neither going online nor offline */
#define ATTR_PROC 8u        /* a file of /proc: size 0, one read gives it all, writes are EIO */
#define ATTR_SYSCTL 16u     /* a file of /proc/sys: size 0, and always ready */

/* A kind of directory. `id` tells which of its kind: block id, node id, slot; 0 for those that
 * exist once. */
struct sysfs_class {
    const char *name;
    const struct sysfs_attr *attrs; /* ends with name == NULL; may be NULL */
    /* Find a child that is no attribute. 0 and *out, or -ENOENT. May be NULL. */
    int (*lookup)(struct machine *m, uint64_t id, const char *name, struct sysfs_node *out);
    /* Call add() for every child that is no attribute. May be NULL. */
    void (*list)(struct machine *m, uint64_t id,
                 void (*add)(void *ctx, const char *name, const struct sysfs_node *node),
                 void *ctx);
    /* Target of a link with this class (type SYSFS_LINK): print it. */
    void (*target)(struct machine *m, const struct sysfs_node *node, struct text *out);
    /* Does `id` with this serial still exist? NULL: always. */
    bool (*alive)(struct machine *m, uint64_t id, uint64_t serial);
    /* How many directories list() would name. NULL: list() is asked, which costs a walk for each
     * stat of the directory. */
    uint64_t (*nr_dirs)(struct machine *m, uint64_t id);
    /* Virtual time in us at which a child last came or went: the directory's mtime. NULL: it never
     * changed since boot. */
    uint64_t (*changed_us)(struct machine *m, uint64_t id);
};

enum sysfs_type { SYSFS_DIR, SYSFS_FILE, SYSFS_LINK };

struct sysfs_node { /* a value: nothing is stored for the hundred thousand files that could be
                       opened */
    enum sysfs_type type;
    const struct sysfs_class *
        cls; /* of a dir: its class; of a file: its directory's; of a link: who prints its target */
    const struct sysfs_attr *attr; /* of a file */
    uint64_t id;                   /* which directory of the class */
    uint64_t
        aux; /* of a link: what it points to; of a user's file, a fixed directory: its number */
    uint64_t serial; /* of what `id` names, checked by alive() */
    uint64_t ino;    /* 0: computed */
};

/* ---- tree_store.c, walk.c, sysfs_parse.c, sysfs.c ---- */
/* Hang a directory into the tree. Parents are made as needed. Returns nothing: paths are ours. */
void sysfs_dir_add(struct machine *m, const char *path, const struct sysfs_class *cls, uint64_t id);
void sysfs_file_add(struct machine *m, const char *dir,
                    const struct sysfs_class *cls); /* its attrs become files of dir */
void sysfs_destroy(struct machine *m);
/* Values that lookup() and list() hand out. A power/ directory is
 * sysfs_dir_node(&sysfs_power_class, id, serial). */
struct sysfs_node sysfs_dir_node(const struct sysfs_class *cls, uint64_t id, uint64_t serial);
struct sysfs_node sysfs_link_node(const struct sysfs_class *cls, uint64_t id, uint64_t aux,
                                  uint64_t serial);
/* "memory32" with prefix "memory" is 32; no leading zeros: there is one name for each. */
bool name_number(const char *name, const char *prefix, uint64_t *number);
/* Parsers of stored text, as the kernel's of the same purpose. */
bool sysfs_streq(const char *stored, const char *word);
int parse_u64(const char *s, uint64_t *value); /* kstrtoull base 0: -EINVAL -ERANGE */
int parse_bool(struct machine *m, const char *s, bool *value); /* kstrtobool: -EINVAL */
int parse_s64(const char *s,
              int64_t *value); /* simple_strtoll as debugfs uses it: kstrtoll base 0 */
/* memparse(): a number with an optional K, M, G, T, P or E behind it; *end is what follows. */
bool parse_size(const char *s, const char **end, uint64_t *bytes);
/* lib/kobject_uevent.c kobject_synth_uevent(): parse `buf`, send; devname: "memory memory32" for
 * the second log line or NULL; send: false for devices whose events are filtered. Returns count or
 * -EINVAL. */
int64_t uevent_synthesize(struct machine *m, const char *buf, size_t count, const char *devpath,
                          const char *subsystem, const char *devname, bool send);
/* The same for a device that adds its MODALIAS. */
int64_t uevent_synthesize_alias(struct machine *m, const char *buf, size_t count,
                                const char *devpath, const char *subsystem, const char *devname,
                                bool send, const char *modalias);
extern const struct sysfs_class
    sysfs_power_class; /* power/ with its five files; dies with the directory it is in */
uint32_t sysfs_name_hash(const char *name); /* kernfs_name_hash(): the order of readdir */

#endif

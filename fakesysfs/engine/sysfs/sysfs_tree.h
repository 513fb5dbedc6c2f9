/*
 * sysfs_tree.h - what sysfs_tree.c offers to sysfs.c (open files). Nobody else includes it.
 *
 * Owns: the place of a node, the walk to it, what was changed of its attributes, files of users.
 */
#ifndef FAKESYSFS_SYSFS_TREE_H
#define FAKESYSFS_SYSFS_TREE_H

#include "machine.h"

enum {
    PATH_BYTES = 4096,
    MAX_DEPTH = 32, /* directories below one another */
    MAX_TIES = 3,   /* devices within devices */
};

struct tie { /* a device on which a node depends */
    const struct sysfs_class *cls;
    uint64_t id, serial;
};

struct place {              /* a node where it was found. `node` comes first: see control_store() */
    struct sysfs_node node; /* ino is set */
    struct tie ties[MAX_TIES];
    unsigned nr_ties;
};

struct walk {
    struct place stack[MAX_DEPTH]; /* the root, and the directories on the way */
    size_t end[MAX_DEPTH];         /* length of `path` at each depth */
    unsigned depth;
    bool only_last_missing; /* after -ENOENT: stack[depth] is the directory that lacks the last name
                             */
    char path[PATH_BYTES];  /* of stack[depth], without links; "" for the root */
};

struct node_attrs { /* what chmod, chown, utimensat and power/control have set */
    uint64_t ino;   /* 0: a free entry of the hash table */
    unsigned set;   /* SET_* */
    uint32_t mode, uid, gid;
    int64_t mtime_ns;
    uint64_t
        changed_us; /* changed_us() of the directory when its mtime was set: a later change wins */
    struct tie ties[MAX_TIES];
    unsigned nr_ties;
};
enum { SET_MODE = 1, SET_OWNER = 2, SET_MTIME = 4, SET_POWER_ON = 8 };

struct user_file {
    uint64_t dir_ino;
    char *name, *data;
    size_t size;
    uint32_t mode;
    bool proc; /* lies below /proc: its size shows as 0 */
};

uint64_t page_size(const struct machine *m);
/* follow: the last link too */
int walk_path(struct machine *m, const char *path, bool follow, struct walk *w);
bool place_alive(struct machine *m, const struct place *place);
void place_stat(struct machine *m, const struct place *place, struct file_stat *st);
uint32_t node_mode(struct machine *m, const struct sysfs_node *node); /* with its type */
struct user_file *user_of(struct machine *m,
                          const struct sysfs_node *node); /* NULL: no file of a user */
const struct node_attrs *attrs_get(const struct machine *m, uint64_t ino); /* never NULL */
struct node_attrs *attrs_make(struct machine *m, const struct place *place);
void mtime_touch(struct machine *m, const struct place *place); /* now */
void tree_destroy(struct machine *m);

/* ---- file_faults.c ---- */
/* A pass: 0, or the negative errno to return instead. May give the mutex up. */
int file_fault(struct machine *m, enum rule_op op, const char *path);
/* Is there to be nothing at `path`? listing: its directory is about to name it. Ask when nr_hiding
 * != 0. */
bool file_hidden(struct machine *m, const char *path, bool link, bool listing);

#endif

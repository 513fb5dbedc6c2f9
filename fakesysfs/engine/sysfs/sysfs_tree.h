/*
 * sysfs_tree.h - the tree of files, between the files of sysfs/. Nobody else includes it.
 *
 * Owns: the place of a node, the walk to it, what was changed of its attributes, files of users.
 * Does not own: what the rest of the engine may ask of it (sysfs.h).
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

struct static_dir {
    char *name;
    size_t first_child,
        next_sibling; /* numbers in m->dirs; 0: none, as the root is nobody's child */
    uint64_t nr_children;
    const struct sysfs_class *cls; /* may be NULL */
    uint64_t id;
    const struct sysfs_class **more; /* classes whose attributes are files here too */
    size_t nr_more;
    int64_t born_ns; /* of the root: when the machine was made */
};

/* ---- tree_store.c ---- */
extern const struct sysfs_class user_class;
extern const struct sysfs_attr user_attr;
int64_t now_ns(void); /* of the clock on the wall */
uint64_t page_size(const struct machine *m);
size_t dir_make(struct machine *m, const char *path); /* with its parents; its number */
size_t dir_child(const struct machine *m, size_t parent, const char *name,
                 size_t len); /* 0: none */
void root_place(struct machine *m, struct place *place);
/* The fixed directory that a node is, or NULL. */
struct static_dir *static_of(struct machine *m, const struct sysfs_node *node);
struct sysfs_node static_node(const struct machine *m, size_t dir);
struct user_file *user_of(struct machine *m,
                          const struct sysfs_node *node); /* NULL: no file of a user */
bool user_find(struct machine *m, uint64_t dir_ino, const char *name, struct sysfs_node *out);
void tree_destroy(struct machine *m);

/* ---- walk.c ---- */
/* follow: the last link too */
int walk_path(struct machine *m, const char *path, bool follow, struct walk *w);
bool ties_alive(struct machine *m, const struct tie *ties, unsigned nr);
bool place_alive(struct machine *m, const struct place *place);
bool attr_visible(struct machine *m, const struct sysfs_node *file);
/* The attribute at `attr` as a file of `dir`. */
struct sysfs_node attr_node(const struct sysfs_class *cls, const struct sysfs_attr *attr,
                            const struct sysfs_node *dir);
bool child_find(struct machine *m, const struct sysfs_node *dir, const char *name,
                struct sysfs_node *out);
void child_number(const struct sysfs_node *dir, const char *name, struct sysfs_node *node);
int link_target(struct machine *m, const struct sysfs_node *node, struct text *out);

/* ---- node_attributes.c ---- */
uint32_t node_mode(struct machine *m, const struct sysfs_node *node);      /* with its type */
const struct node_attrs *attrs_get(const struct machine *m, uint64_t ino); /* never NULL */
struct node_attrs *attrs_make(struct machine *m, const struct place *place);
uint64_t changed_us(struct machine *m, const struct sysfs_node *node);
void mtime_set(struct machine *m, const struct place *place, int64_t mtime_ns);
void mtime_touch(struct machine *m, const struct place *place); /* now */

/* ---- listing.c ---- */
uint64_t count_dirs(struct machine *m, const struct sysfs_node *dir);

/* ---- metadata.c ---- */
void place_stat(struct machine *m, const struct place *place, struct file_stat *st);

/* ---- file_faults.c ---- */
/* A pass: 0, or the negative errno to return instead. May give the mutex up. */
int file_fault(struct machine *m, enum rule_op op, const char *path);
/* Is there to be nothing at `path`? listing: its directory is about to name it. Ask when nr_hiding
 * != 0. */
bool file_hidden(struct machine *m, const char *path, bool link, bool listing);

#endif

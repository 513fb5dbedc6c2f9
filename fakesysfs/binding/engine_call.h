/*
 * engine_call.h - one call of the engine from Python, between engine_module.c and the files with
 * the methods.
 *
 * Owns: the object behind an Engine, struct call, the tables of methods. Does not own: what a
 * method does. Only binding/ includes it.
 */
#ifndef FAKESYSFS_ENGINE_CALL_H
#define FAKESYSFS_ENGINE_CALL_H

#include "binding/machine_spec.h"

#include <stdatomic.h>

typedef struct {
    PyObject_HEAD struct machine *machine;
    atomic_uint users;  /* calls under way, plus 1 until close(); 0: there is no machine */
    atomic_bool made;   /* __init__() has begun: a second one is refused */
    atomic_bool closed; /* no call may begin any more */
    unsigned forks;     /* of this process and its ancestors, when the machine was made */
} EngineObject;

struct path {
    PyObject *bytes;
    const char *name; /* points into bytes */
};

struct call {
    EngineObject *engine;
    struct machine *machine;
    struct task task;
    PyThreadState *thread;
    struct path *path;  /* of the file in question; NULL: none */
    struct call *outer; /* a call of this thread whose signal handler makes this one */
    int64_t next_look_ms;
    bool raised; /* a signal handler raised: its exception is set in `thread` */
};

/*
 * Give the GIL up for one engine call; path, that of the file in question, may be NULL and belongs
 * to the call from now on. false: an exception is set, and the call must not be made.
 */
bool call_begin(struct call *call, PyObject *engine, struct path *path);
/* Let a function of the caller's say whether to stop: its address, or 0 for signals of Python. */
struct task *call_asks(struct call *call, uint64_t address);
/*
 * Take the GIL back. A negative result becomes OSError with the engine's reason, or strerror() when
 * it gave none. false: an exception is set.
 */
bool call_end(struct call *call, int64_t result);
void raise_no_memory(void);
/* The same, and what the method returns. */
PyObject *end_none(struct call *call, int64_t result);
PyObject *end_integer(struct call *call, int64_t result);
/* text: from malloc(); NULL: there was no memory for it */
PyObject *end_text(struct call *call, char *text, size_t size);

/* Let the native FUSE operations serve the machine of a call, until it ends. */
void serve_fuse(struct call *call, uint64_t interrupted, uint64_t forget_poll);

/* Count the forks of this process from now on. */
void watch_forks(void);
unsigned forks_seen(void);
/* Was the machine made by this process, and not by one of which it is a copy? */
bool engine_is_ours(const EngineObject *self);
void engine_drop(EngineObject *self); /* the machine ends with its last user */
/* Call m from now on, which is the machine of this call after a reset. */
void engine_replace(struct call *call, struct machine *m);

/* A converter of arguments, for "O&". */
int to_path(PyObject *value, void *out);
/* Text of the engine for people: whatever bytes a store carried, it can be printed. */
PyObject *text_object(const char *text, size_t size);
/* Put a new item into a list of known length. item NULL: something failed, the list is given up. */
void list_put(PyObject **list, size_t i, PyObject *item);
PyObject *list_of_names(const char *const *names, size_t nr);

#define BIG(value) ((unsigned long long)(value)) /* for Py_BuildValue() */

extern PyMethodDef file_methods[], memory_methods[], record_methods[];

#endif

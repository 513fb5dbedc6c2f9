/*
 * base.h - what every file of the engine needs and what is no memory: text, log, events, locks,
 * chance, trace, fault points.
 *
 * Owns: the prototypes of base/, and of what they are called with. Does not own: memory, files,
 * devices. Everything here runs with the machine's mutex held, except where a function takes it.
 */
#ifndef FAKESYSFS_BASE_H
#define FAKESYSFS_BASE_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

#include "engine.h"

#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* ---- host_memory.c ---- */
/*
 * Is there memory for an operation, and `bytes` beside the reserve for a large one? 0, or -ENOMEM
 * with a reason: then nothing may be changed. Ask at the beginning of every operation that
 * allocates.
 */
int host_memory_ready(struct machine *m, uint64_t bytes);
int no_host_memory(struct machine *m); /* -ENOMEM that is no answer of the simulated kernel */
void host_memory_destroy(struct machine *m);
void *xcalloc(struct machine *m, size_t n, size_t size); /* never NULL, nor are the next two */
void *xrealloc(struct machine *m, void *p, size_t n, size_t size);
char *xstrdup(struct machine *m, const char *s);
/* Address space, or NULL; *size shrinks where the process may not have it. */
void *reserve_space(size_t *size);
/* Reserved space becomes zeroed memory, used as it is touched. */
bool commit_space(void *start, size_t size);
/* Committed memory is zeroed, and the host has it back where it can. */
void discard_space(void *start, size_t size);
void release_space(void *start, size_t size);

/* ---- text.c ---- */
struct text { /* grows up to limit, and drops what is beyond */
    struct machine
        *m; /* in the middle of whose operation it is printed, and must be whole; or NULL */
    char *data;
    size_t len, cap, limit;
    bool lost; /* there was no memory for something */
};
void text_printf(struct text *out, const char *format, ...) PRINTF(2, 3);
void text_append(struct text *out, const char *data, size_t len);
void text_free(struct text *out);
/* What was printed, from malloc(), for a caller outside; NULL: something was lost. */
char *text_take(struct text *out, size_t *size);

/* ---- random.c ---- */
uint64_t random_next(struct machine *m);
uint64_t random_step(uint64_t *state); /* a generator of one's own */
uint64_t random_below(struct machine *m, uint64_t limit);

/* ---- reason.c ---- */
/* Stores the reason, returns err. */
int fail(struct machine *m, int err, const char *format, ...) PRINTF(3, 4);

/* ---- klog.c ---- */
void klog(struct machine *m, const char *format, ...) PRINTF(2, 3); /* one line of the kernel log */
void warn_on(struct machine *m, bool bad, const char *what);        /* taints and logs */
void klog_destroy(struct machine *m);

/* ---- lock.c ---- */
uint64_t monotonic_us(void); /* what waits are measured by */
void lock_init(struct machine *m);
void lock_destroy(struct machine *m);
void machine_lock(struct machine *m, struct task *task);
void machine_unlock(struct machine *m);
bool task_interrupted(struct machine *m);
/* Give the mutex up for a moment (and sleep for CONFIG_STEP_DELAY_US); everything must be
 * consistent. */
void cond_resched(struct machine *m);
/* Wait for `changed`, with the mutex given up; us < 1 s. */
void wait_slice(struct machine *m, uint64_t us);
int wait_changed(struct machine *m); /* wait for `changed` or a while; -EINTR when interrupted,
                                        -ENODEV at the end */
int hotplug_lock(struct machine *m); /* 0, -EINTR; -ENOMEM as host_memory_ready() */
void hotplug_unlock(struct machine *m);

/* ---- events.c ---- */
void event_add(struct machine *m, enum event_kind kind, int err, const char *path,
               const char *data);
void events_drop(struct machine *m); /* those not taken yet */
void events_destroy(struct machine *m);
/* What was not taken yet, and the numbers, go on in the machine after a reset. */
void events_take_over(struct machine *m, struct machine *before);

/* ---- uevent.c ---- */
/* The kernel's uevent; env: extra "KEY=VALUE" strings, NULL-terminated, or NULL. devpath as
 * "/devices/...". */
void uevent_add(struct machine *m, const char *action, const char *devpath, const char *subsystem,
                const char *const *env);

/* ---- trace.c ---- */
struct trace_scope {
    struct machine *m; /* NULL: this call is not recorded */
};
struct trace_place { /* where the running operation is; zeros: no operation runs */
    uint64_t op;     /* number of the operation + 1 */
    uint32_t call;   /* index + 1 of the call that is open */
    bool held;       /* the operation ends with trace_finish() only */
};
struct trace_scope trace_enter(struct machine *m, const char *name);
struct trace_scope trace_enter_within(struct machine *m, const char *name);
void trace_leave(struct trace_scope *scope);
/* All that runs until trace_finish() is one operation, with this result. */
void trace_begin(struct machine *m);
void trace_finish(struct machine *m, int64_t result);
/* The same for a write; it names the operation. */
void trace_finish_write(struct machine *m, const char *path, const char *buf, size_t count,
                        int64_t result);
/* The mutex is about to be given up: others' operations are not part of this one. The caller puts
 * the place back into m->trace_at. */
struct trace_place trace_pause(struct machine *m);
void trace_destroy(struct machine *m);
#define TRACE_JOIN_(a, b) a##b
#define TRACE_NAME_(prefix, line) TRACE_JOIN_(prefix, line)
/* The section has the names of all functions that the engine simulates. */
#define TRACE_SCOPE_(m, name, enter)                                              \
    static const char *const TRACE_NAME_(trace_site_, __LINE__)                   \
        __attribute__((section("trace_sites"), used)) = (name);                   \
    __attribute__((cleanup(trace_leave))) struct trace_scope TRACE_NAME_(         \
        trace_scope_, __LINE__) = enter((m), TRACE_NAME_(trace_site_, __LINE__)); \
    (void)TRACE_NAME_(trace_scope_, __LINE__)
/* Record that this scope is the kernel function `name`. */
#define TRACE(m, name) TRACE_SCOPE_(m, name, trace_enter)
/* The same within an operation only. */
#define TRACE_WITHIN(m, name) TRACE_SCOPE_(m, name, trace_enter_within)

/* ---- trace_read.c ---- */
/* See trace_text(). */
void trace_print(struct machine *m, uint64_t from, uint64_t to, bool own, struct text *out);

/* ---- trace_graph.c ---- */
struct trace_op;
void trace_graph_load(struct machine *m, const char *text);
void trace_graph_print(struct machine *m, const struct trace_op *op, bool own, struct text *out);
void trace_graph_destroy(struct machine *m);

/* ---- fault.c ---- */
int fault_at(struct machine *m, const char *point); /* 0, or the negative errno to fail with */
void fault_destroy(struct machine *m);

/* ---- rules.c ---- */
/* What fault rules have for a uevent that was recorded. appears: its device has just come. */
struct fault_verdict rules_uevent(struct machine *m, const char *action, const char *devpath,
                                  bool appears);
void rules_taken(struct machine *m); /* the events recorded so far are about to be delivered */
void rules_destroy(struct machine *m);
void rules_take_over(struct machine *m, struct machine *before); /* they outlive a reset */

#endif

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

struct text { /* bounded printer: grows up to limit, drops what is beyond and remembers it in `full`
               */
    char *data;
    size_t len, cap, limit;
    bool full;
};

/* ---- record.c ---- */
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
int fail(struct machine *m, int err, const char *format, ...)
    PRINTF(3, 4);                                            /* stores the reason, returns err */
void warn_on(struct machine *m, bool bad, const char *what); /* taints and logs; never aborts */
void klog(struct machine *m, const char *format, ...) PRINTF(2, 3); /* one line of the kernel log */
void event_add(struct machine *m, enum event_kind kind, int err, const char *path,
               const char *data);
/* The kernel's uevent; env: extra "KEY=VALUE" strings, NULL-terminated, or NULL. devpath as
 * "/devices/...". */
void uevent_add(struct machine *m, const char *action, const char *devpath, const char *subsystem,
                const char *const *env);
void record_destroy(struct machine *m);
void machine_lock(struct machine *m, struct task *task);
void machine_unlock(struct machine *m);
bool task_interrupted(struct machine *m);
/* Give the mutex up for a moment (and sleep for CONFIG_STEP_DELAY_US); everything must be
 * consistent. */
void cond_resched(struct machine *m);
void wait_slice(struct machine *m,
                uint64_t us);        /* wait for `changed`, with the mutex given up; us < 1 s */
int wait_changed(struct machine *m); /* wait for `changed` or a while; -EINTR when interrupted */
int hotplug_lock(struct machine *m); /* 0 or -EINTR */
void hotplug_unlock(struct machine *m);
void text_printf(struct text *out, const char *format, ...) PRINTF(2, 3);
void text_append(struct text *out, const char *data, size_t len);
void text_free(struct text *out);
uint64_t random_next(struct machine *m);
uint64_t random_step(uint64_t *state); /* a generator of one's own */
uint64_t random_below(struct machine *m, uint64_t limit);
void *xcalloc(size_t n, size_t size); /* never NULL: a process without memory ends with a message */
void *xrealloc(void *p, size_t n, size_t size);
char *xstrdup(const char *s);
void *xreserve(size_t *size); /* address space; *size shrinks where the process may not have it */
void xcommit(void *start,
             size_t size); /* reserved space becomes zeroed memory, used as it is touched */
void xdiscard(void *start,
              size_t size); /* committed memory is zeroed, and the host has it back where it can */
void xunreserve(void *start, size_t size);
struct trace_scope {
    struct machine *m;
};
void trace_print(struct machine *m, uint64_t from, uint64_t to,
                 struct text *out); /* see trace_text() */
void trace_enter(struct machine *m, const char *name);
void trace_leave(struct trace_scope *scope);
void trace_leaf(struct machine *m, const char *name); /* enter and leave */
#define TRACE_JOIN_(a, b) a##b
#define TRACE_NAME_(line) TRACE_JOIN_(trace_scope_, line)
#define TRACE(m, name)                                                                      \
    trace_enter((m), (name));                                                               \
    __attribute__((cleanup(trace_leave))) struct trace_scope TRACE_NAME_(__LINE__) = {(m)}; \
    (void)TRACE_NAME_(__LINE__)
#define TRACE_LEAF(m, name) trace_leaf((m), (name))

/* ---- fault.c ---- */
int fault_at(struct machine *m, const char *point); /* 0, or the negative errno to fail with */
void fault_destroy(struct machine *m);

/* ---- rules.c ---- */
enum rule_op {
    RULE_OPEN,
    RULE_READ,
    RULE_WRITE,
    RULE_LIST,
    RULE_HIDE,
    RULE_VANISH,
    RULE_UEVENT,
    RULE_UNPLUG
};
enum uevent_effect { /* of rules for uevents, and then of rules for unplugging, which may also delay
                      */
                     UEVENT_PASS,
                     UEVENT_DROP,
                     UEVENT_DUPLICATE,
                     UEVENT_REORDER,
                     UEVENT_DELAY,
                     UEVENT_EARLY,
                     UNPLUG_NEVER,
                     UNPLUG_REFUSE,
                     UNPLUG_STAY,
                     UNPLUG_TWICE
};
/* A pass: 0, or the negative errno to return instead. May give the mutex up. */
int rules_apply(struct machine *m, enum rule_op op, const char *path);
/* Is there to be nothing at `path`? listing: its directory is about to name it. Ask when nr_hiding
 * != 0. */
bool rules_hidden(struct machine *m, const char *path, bool link, bool listing);
void rules_uevent(struct machine *m, const char *action,
                  const char *devpath); /* it was recorded: is it early? */
void rules_taken(struct machine *m);    /* the events recorded so far are about to be delivered */
void rules_destroy(struct machine *m);

#endif

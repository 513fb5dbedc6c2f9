/*
 * record.c - what happened, for whoever asks: reasons, the kernel log, events, the trace; and the
 * locks and small tools every other file needs.
 *
 * Owns: the rings and queues (they are read, nothing is called out), the virtual clock, the random
 * generator, the mutex and the hotplug flag, the bounded printer. Does not own: any memory, any
 * file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

enum { TRACE_RING = 1 << 15, TRACE_DEPTH = 100, KLOG_LIMIT = 1 << 16, NAP_US = 2000 };

struct trace_entry {
    const char *name; /* NULL: a leave */
    uint32_t depth;
    uint32_t ticks; /* entries written before this one: the trace's clock */
};

/* ---- memory of our own ---- */

static void *or_die(void *p, size_t size)
{
    if (p == NULL && size != 0) {
        fprintf(stderr, "fakesysfs: no memory for %zu bytes\n", size);
        abort(); /* nothing sensible is left: the process itself has no memory */
    }
    return p;
}

void *xcalloc(size_t n, size_t size)
{
    return or_die(calloc(n, size), n * size);
}

void *xrealloc(void *p, size_t n, size_t size)
{
    if (size != 0 && n > SIZE_MAX / size)
        return or_die(NULL, SIZE_MAX);
    return or_die(realloc(p, n * size), n * size);
}

char *xstrdup(const char *s)
{
    return or_die(strdup(s), strlen(s) + 1);
}

static void *map_nothing(size_t size)
{
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p != MAP_FAILED ? p : NULL;
}

void *xreserve(size_t *size)
{
    size_t possible = *size;
    void *p = map_nothing(*size);

    while (p == NULL && possible != 0 && (p = map_nothing(possible)) == NULL)
        possible /= 2;
    if (p == NULL || possible == *size)
        return or_die(p, *size);
    /* The process may not have as much address space: most of what there is left is for others. */
    munmap(p, possible);
    *size = possible / 4;
    return or_die(map_nothing(*size), *size);
}

void xcommit(void *start, size_t size)
{
    size_t before = (uintptr_t)start %
                    (size_t)sysconf(_SC_PAGESIZE); /* of a page that is committed already */

    if (mprotect((char *)start - before, before + size, PROT_READ | PROT_WRITE) != 0)
        or_die(NULL, size);
}

void xdiscard(void *start, size_t size)
{
    size_t host_page = (size_t)sysconf(_SC_PAGESIZE);

    if (((uintptr_t)start | size) % host_page != 0 || madvise(start, size, MADV_DONTNEED) != 0)
        memset(start, 0, size);
}

void xunreserve(void *start, size_t size)
{
    if (start != NULL)
        munmap(start, size);
}

/* ---- the bounded printer ---- */

void text_append(struct text *out, const char *data, size_t len)
{
    if (out->limit != 0 && out->len + len > out->limit) {
        len = out->limit - out->len;
        out->full = true;
    }
    if (out->len + len + 1 > out->cap) {
        size_t cap = out->cap != 0 ? out->cap : 64;
        while (cap < out->len + len + 1)
            cap *= 2;
        out->data = xrealloc(out->data, cap, 1);
        out->cap = cap;
    }
    memcpy(out->data + out->len, data, len);
    out->len += len;
    out->data[out->len] = '\0';
}

void text_printf(struct text *out, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len < 0)
        return;
    if ((size_t)len < sizeof line) {
        text_append(out, line, (size_t)len);
        return;
    }
    char *big = xcalloc((size_t)len + 1, 1);
    va_start(args, format);
    vsnprintf(big, (size_t)len + 1, format, args);
    va_end(args);
    text_append(out, big, (size_t)len);
    free(big);
}

void text_free(struct text *out)
{
    free(out->data);
    memset(out, 0, sizeof *out);
}

/* ---- chance: splitmix64, one generator for the machine, and one for each fault rule ---- */

uint64_t random_step(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t random_next(struct machine *m)
{
    return random_step(&m->random_state);
}

uint64_t random_below(struct machine *m, uint64_t limit)
{
    return limit == 0 ? 0 : random_next(m) % limit;
}

/* ---- reasons and the log ---- */

int fail(struct machine *m, int err, const char *format, ...)
{
    if (m->task != NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(m->task->reason, sizeof m->task->reason, format, args);
        va_end(args);
    }
    return err;
}

void klog(struct machine *m, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* Like the kernel's ring, the log forgets its oldest half when it is full; numbers of lines go
     * on. */
    if (m->nr_klog - m->klog_dropped >= KLOG_LIMIT) {
        size_t drop = KLOG_LIMIT / 2;
        for (size_t i = 0; i < drop; i++)
            free(m->klog_line[i]);
        size_t keep = m->nr_klog - m->klog_dropped - drop;
        memmove(m->klog_line, m->klog_line + drop, keep * sizeof *m->klog_line);
        memmove(m->klog_time, m->klog_time + drop, keep * sizeof *m->klog_time);
        m->klog_dropped += drop;
    }
    if (m->nr_klog - m->klog_dropped == m->cap_klog) {
        m->cap_klog = m->cap_klog != 0 ? m->cap_klog * 2 : 64;
        m->klog_line = xrealloc(m->klog_line, m->cap_klog, sizeof *m->klog_line);
        m->klog_time = xrealloc(m->klog_time, m->cap_klog, sizeof *m->klog_time);
    }
    m->klog_line[m->nr_klog - m->klog_dropped] = xstrdup(line);
    m->klog_time[m->nr_klog - m->klog_dropped] = ++m->clock_us;
    m->nr_klog++;
}

char *klog_text(struct machine *m, uint64_t from, size_t *size)
{
    struct text out = {0};

    machine_lock(m, NULL);
    for (uint64_t i = from > m->klog_dropped ? from : m->klog_dropped; i < m->nr_klog; i++)
        text_printf(&out, "%llu\t%s\n", (unsigned long long)m->klog_time[i - m->klog_dropped],
                    m->klog_line[i - m->klog_dropped]);
    machine_unlock(m);
    text_append(&out, "", 0);
    *size = out.len;
    return out.data;
}

void warn_on(struct machine *m, bool bad, const char *what)
{
    if (!bad)
        return;
    if (!m->tainted)
        klog(m, "WARNING: %s", what);
    m->tainted = true;
}

/* ---- events ---- */

static struct event *event_new(struct machine *m, enum event_kind kind, int err, const char *path,
                               const char *data)
{
    if (m->nr_events == m->cap_events) {
        m->cap_events = m->cap_events != 0 ? m->cap_events * 2 : 64;
        m->events = xrealloc(m->events, m->cap_events, sizeof *m->events);
    }
    struct event *event = &m->events[m->nr_events++];
    *event = (struct event){
        .seq = ++m->event_seq,
        .time_us = ++m->clock_us,
        .caller = m->task != NULL ? m->task->caller : 0,
        .kind = kind,
        .err = err,
        .path = xstrdup(path),
        .data = xstrdup(data),
    };
    return event;
}

void event_add(struct machine *m, enum event_kind kind, int err, const char *path, const char *data)
{
    event_new(m, kind, err, path, data);
}

void uevent_add(struct machine *m, const char *action, const char *devpath, const char *subsystem,
                const char *const *env)
{
    struct text out = {0};

    text_printf(&out, "%s@%s", action, devpath);
    text_append(&out, "", 1);
    text_printf(&out, "ACTION=%s", action);
    text_append(&out, "", 1);
    text_printf(&out, "DEVPATH=%s", devpath);
    text_append(&out, "", 1);
    text_printf(&out, "SUBSYSTEM=%s", subsystem);
    text_append(&out, "", 1);
    for (; env != NULL && *env != NULL; env++)
        text_append(&out, *env, strlen(*env) + 1);
    text_append(&out, "", 1);
    event_new(m, EVENT_UEVENT, 0, devpath, action)->payload = out.data;
    if (m->nr_rules != 0 &&
        env == NULL) /* with more to say it is somebody's echo, of a device that has been there */
        rules_uevent(m, action, devpath);
}

size_t events_take(struct machine *m, struct event **events)
{
    machine_lock(m, NULL);
    size_t nr = m->nr_events;
    *events = m->events;
    m->events = NULL;
    m->nr_events = m->cap_events = 0;
    rules_taken(m);
    machine_unlock(m);
    return nr;
}

void event_free(struct event *event)
{
    free(event->path);
    free(event->data);
    free(event->payload);
}

/* ---- the trace ---- */

static void trace_record(struct machine *m, const char *name)
{
    if (m->trace == NULL)
        m->trace = xcalloc(TRACE_RING, sizeof *m->trace);
    m->trace[m->nr_trace % TRACE_RING] = (struct trace_entry){
        .name = name, .depth = m->trace_depth, .ticks = (uint32_t)m->nr_trace};
    m->nr_trace++;
}

void trace_enter(struct machine *m, const char *name)
{
    if (!m->trace_on)
        return;
    trace_record(m, name);
    m->trace_depth++;
}

void trace_leave(struct trace_scope *scope)
{
    struct machine *m = scope->m;

    if (!m->trace_on || m->trace_depth == 0)
        return;
    m->trace_depth--;
    trace_record(m, NULL);
}

void trace_leaf(struct machine *m, const char *name)
{
    if (!m->trace_on)
        return;
    trace_record(m, name);
    trace_record(m, NULL);
}

/* A tick of the trace's clock stands for 0.1 us: the trace tells order and weight, not time. */
static void trace_duration(struct text *out, uint32_t ticks)
{
    text_printf(out, " 0) %3u.%03u us    |  ", ticks / 10, ticks % 10 * 100);
}

/* The first entry that is not forgotten. */
static uint64_t trace_first(const struct machine *m)
{
    uint64_t oldest = m->nr_trace > TRACE_RING ? m->nr_trace - TRACE_RING : 0;

    return oldest > m->trace_from ? oldest : m->trace_from;
}

void trace_print(struct machine *m, uint64_t from, uint64_t to, struct text *out)
{
    uint32_t start[TRACE_DEPTH + 1] = {0};

    if (from == 0)
        text_printf(out,
                    "# tracer: function_graph\n#\n# CPU  DURATION                  FUNCTION CALLS\n"
                    "# |     |   |                     |   |   |   |\n");
    if (from < trace_first(m))
        from = trace_first(m);
    if (to > m->nr_trace)
        to = m->nr_trace;
    while (from < to &&
           (m->trace[from % TRACE_RING].depth != 0 || m->trace[from % TRACE_RING].name == NULL))
        from++; /* the ring may begin in the middle of an operation: start with the next one */
    for (uint64_t i = from; i < to; i++) {
        const struct trace_entry *entry = &m->trace[i % TRACE_RING];
        uint32_t depth = entry->depth < TRACE_DEPTH ? entry->depth : TRACE_DEPTH;
        bool leaf = entry->name != NULL && i + 1 < to &&
                    m->trace[(i + 1) % TRACE_RING].name == NULL;
        if (leaf) {
            trace_duration(out, 1);
            text_printf(out, "%*s%s();\n", (int)(2 * depth), "", entry->name);
            i++;
        } else if (entry->name != NULL) {
            start[depth] = entry->ticks;
            text_printf(out, " 0)               |  %*s%s() {\n", (int)(2 * depth), "", entry->name);
        } else {
            trace_duration(out, entry->ticks - start[depth]);
            text_printf(out, "%*s}\n", (int)(2 * depth), "");
        }
    }
}

uint64_t trace_end(struct machine *m)
{
    machine_lock(m, NULL);
    uint64_t end = m->nr_trace, first = trace_first(m);
    while (end > first && (m->trace[(end - 1) % TRACE_RING].depth != 0 ||
                           m->trace[(end - 1) % TRACE_RING].name != NULL))
        end--;
    machine_unlock(m);
    return end;
}

char *trace_text(struct machine *m, uint64_t from, uint64_t to, size_t *size)
{
    struct text out = {0};

    machine_lock(m, NULL);
    trace_print(m, from, to, &out);
    machine_unlock(m);
    *size = out.len;
    return out.data;
}

void trace_clear(struct machine *m)
{
    machine_lock(m, NULL);
    m->trace_from = m->nr_trace;
    machine_unlock(m);
}

/* ---- locks ---- */

void machine_lock(struct machine *m, struct task *task)
{
    pthread_mutex_lock(&m->mutex);
    if (task != NULL)
        task->reason[0] = '\0';
    m->task = task;
}

void machine_unlock(struct machine *m)
{
    m->task = NULL;
    pthread_mutex_unlock(&m->mutex);
}

/* The question is asked with the mutex given up: it may take a lock of its own (an interpreter's,
 * for instance). */
static bool ask_interrupted(struct task *task)
{
    return task != NULL && task->interrupted != NULL && task->interrupted() != 0;
}

bool task_interrupted(struct machine *m)
{
    struct task *task = m->task;

    if (task == NULL || task->interrupted == NULL)
        return false;
    m->task = NULL;
    pthread_mutex_unlock(&m->mutex);
    bool yes = ask_interrupted(task);
    pthread_mutex_lock(&m->mutex);
    m->task = task;
    return yes;
}

static void nap(uint64_t us)
{
    struct timespec pause = {.tv_sec = (time_t)(us / 1000000),
                             .tv_nsec = (long)(us % 1000000) * 1000};

    nanosleep(&pause, NULL);
}

void cond_resched(struct machine *m)
{
    struct task *task = m->task;
    uint64_t delay = (uint64_t)m->config[CONFIG_STEP_DELAY_US];
    uint32_t depth = m->trace_depth;

    m->task = NULL;
    pthread_mutex_unlock(&m->mutex);
    while (delay != 0 && !ask_interrupted(task)) {
        uint64_t slice = delay < NAP_US ? delay : NAP_US;
        nap(slice);
        delay -= slice;
    }
    pthread_mutex_lock(&m->mutex);
    m->task = task;
    m->trace_depth = depth;
}

void wait_slice(struct machine *m, uint64_t us)
{
    struct task *task = m->task;
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)us * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    m->task = NULL;
    pthread_cond_timedwait(&m->changed, &m->mutex, &until);
    m->task = task;
}

int wait_changed(struct machine *m)
{
    wait_slice(m, 5000); /* an interrupt does not wake the condition: look for one every 5 ms, as
                            the kernel does */
    return task_interrupted(m)
               ? fail(m, -EINTR, "interrupted by a signal while waiting for another operation")
               : 0;
}

int hotplug_lock(struct machine *m)
{
    while (m->hotplug_held) {
        int err = wait_changed(m);
        if (err != 0)
            return err;
    }
    m->hotplug_held = true;
    return 0;
}

void hotplug_unlock(struct machine *m)
{
    m->hotplug_held = false;
    pthread_cond_broadcast(&m->changed);
}

void record_destroy(struct machine *m)
{
    for (size_t i = 0; i < m->nr_events; i++)
        event_free(&m->events[i]);
    free(m->events);
    for (size_t i = 0; i < m->nr_klog - m->klog_dropped; i++)
        free(m->klog_line[i]);
    free(m->klog_line);
    free(m->klog_time);
    free(m->trace);
}

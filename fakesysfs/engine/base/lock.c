/*
 * lock.c - the two locks of a machine, and every wait.
 *
 * Owns: the mutex over all data, the hotplug flag under it, the condition `changed`, the clock that
 * waits are measured by, the question whether a signal ends them. Does not own: what is waited for.
 */
#include <errno.h>
#include <time.h>

#include "machine.h"

enum { NAP_US = 2000 };

uint64_t monotonic_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void lock_init(struct machine *m)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&m->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void lock_destroy(struct machine *m)
{
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->mutex);
}

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

    if (atomic_load(&m->ending))
        return true;
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
    struct trace_place place = trace_pause(m);

    m->task = NULL;
    pthread_mutex_unlock(&m->mutex);
    while (delay != 0 && !ask_interrupted(task)) {
        uint64_t slice = delay < NAP_US ? delay : NAP_US;
        nap(slice);
        delay -= slice;
    }
    pthread_mutex_lock(&m->mutex);
    m->task = task;
    m->trace_at = place;
}

void wait_slice(struct machine *m, uint64_t us)
{
    struct task *task = m->task;
    struct trace_place place = trace_pause(m);
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)us * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    m->task = NULL;
    pthread_cond_timedwait(&m->changed, &m->mutex, &until);
    m->task = task;
    m->trace_at = place;
}

int wait_changed(struct machine *m)
{
    wait_slice(m, 5000); /* an interrupt does not wake the condition: look for one every 5 ms, as
                            the kernel does */
    if (atomic_load(&m->ending))
        return fail(m, -ENODEV, "the machine ended");
    return task_interrupted(m)
               ? fail(m, -EINTR, "interrupted by a signal while waiting for another operation")
               : 0;
}

int hotplug_lock(struct machine *m)
{
    int ready = host_memory_ready(m, 0);

    if (ready != 0)
        return ready;
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
    TRACE_WITHIN(m, "unlock_device_hotplug");
    m->hotplug_held = false;
    pthread_cond_broadcast(&m->changed);
}

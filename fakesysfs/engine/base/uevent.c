/*
 * uevent.c - uevents: their strings, and what fault rules have for each on its way to the
 * listeners.
 *
 * Owns: the payload of a uevent, and events_take(), from which on a device whose event came early
 * begins to appear. Does not own: which devices there are, the rules (rules.c), the queue
 * (events.c).
 */
#include <string.h>

#include "machine.h"

void uevent_add(struct machine *m, const char *action, const char *devpath, const char *subsystem,
                const char *const *env)
{
    struct text out = {.m = m};
    size_t number = m->nr_events;

    text_printf(&out, "%s@%s", action, devpath);
    text_append(&out, "", 1);
    text_printf(&out, "ACTION=%s", action);
    text_append(&out, "", 1);
    text_printf(&out, "DEVPATH=%s", devpath);
    text_append(&out, "", 1);
    text_printf(&out, "SUBSYSTEM=%s", subsystem);
    text_append(&out, "", 1);
    /* With more to say it was asked for by a write to `uevent`, of a device that has been there. */
    bool synthetic = env != NULL;
    for (; env != NULL && *env != NULL; env++)
        text_append(&out, *env, strlen(*env) + 1);
    text_append(&out, "", 1);
    event_add(m, EVENT_UEVENT, 0, devpath, action);
    m->events[number].payload = out.data;
    if (m->nr_rules == 0)
        return;
    struct fault_verdict verdict = rules_uevent(m, action, devpath, !synthetic);
    m->events[number].verdict = verdict; /* not before: a rule that fires adds an event */
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

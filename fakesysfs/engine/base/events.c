/*
 * events.c - the queue of events: what happened, until the caller takes it.
 *
 * Owns: the queue, the numbers and times of events. Does not own: uevents (uevent.c), delivery (the
 * caller: nothing is called out from here).
 */
#include <stdlib.h>

#include "machine.h"

void event_add(struct machine *m, enum event_kind kind, int err, const char *path, const char *data)
{
    if (m->nr_events == m->cap_events) {
        m->cap_events = m->cap_events != 0 ? m->cap_events * 2 : 64;
        m->events = xrealloc(m, m->events, m->cap_events, sizeof *m->events);
    }
    m->events[m->nr_events++] = (struct event){
        .seq = ++m->event_seq,
        .time_us = ++m->clock_us,
        .caller = m->task != NULL ? m->task->caller : 0,
        .kind = kind,
        .err = err,
        .path = xstrdup(m, path),
        .data = xstrdup(m, data),
    };
}

void event_free(struct event *event)
{
    free(event->path);
    free(event->data);
    free(event->payload);
}

void events_drop(struct machine *m)
{
    for (size_t i = 0; i < m->nr_events; i++)
        event_free(&m->events[i]);
    m->nr_events = 0;
}

void events_destroy(struct machine *m)
{
    events_drop(m);
    free(m->events);
}

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

void events_take_over(struct machine *m, struct machine *before)
{
    struct event *later = m->events;
    size_t nr_later = m->nr_events;

    m->events = before->events;
    m->nr_events = before->nr_events;
    m->cap_events = before->cap_events;
    before->events = NULL;
    before->nr_events = before->cap_events = 0;
    m->event_seq = before->event_seq;
    for (size_t i = 0; i < nr_later; i++) {
        event_add(m, later[i].kind, later[i].err, later[i].path, later[i].data);
        event_free(&later[i]);
    }
    free(later);
}

void events_destroy(struct machine *m)
{
    events_drop(m);
    free(m->events);
}

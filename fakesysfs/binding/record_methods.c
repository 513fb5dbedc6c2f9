/*
 * record_methods.c - the methods of Engine that are about what happened, and about faults on
 * purpose.
 *
 * Owns: arguments and results of these methods. Does not own: what they do and raise (_engine.pyi
 * says it, the engine does it).
 */
#include "binding/engine_call.h"

#include <stdlib.h>

static PyObject *verdict_object(const struct fault_verdict *verdict)
{
    return Py_BuildValue("(sK)", rule_effect_names[verdict->effect], BIG(verdict->delay_us));
}

static PyObject *payload_object(const char *payload)
{
    PyObject *list = PyList_New(0);

    for (const char *s = payload; list != NULL && s != NULL && *s != '\0'; s += strlen(s) + 1) {
        PyObject *string = text_object(s, strlen(s));
        if (string == NULL || PyList_Append(list, string) != 0)
            Py_CLEAR(list);
        Py_XDECREF(string);
    }
    PyObject *strings = list != NULL ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return strings;
}

static PyObject *events_object(struct event *events, size_t nr)
{
    static const char *const kinds[] = {[EVENT_UEVENT] = "uevent",
                                        [EVENT_STORE] = "store",
                                        [EVENT_STATE] = "state",
                                        [EVENT_OST] = "ost",
                                        [EVENT_PAGE] = "page",
                                        [EVENT_FAULT] = "fault",
                                        [EVENT_VIRTIO_MEM] = "virtio-mem"};
    PyObject *list = PyList_New((Py_ssize_t)nr);

    for (size_t i = 0; i < nr; i++) {
        const struct event *e = &events[i];
        if (list != NULL)
            list_put(&list, i,
                     Py_BuildValue("(KKsNNiNNK)", BIG(e->seq), BIG(e->time_us), kinds[e->kind],
                                   text_object(e->path, strlen(e->path)),
                                   text_object(e->data, strlen(e->data)), -e->err,
                                   payload_object(e->payload), verdict_object(&e->verdict),
                                   BIG(e->caller)));
        event_free(&events[i]);
    }
    free(events);
    return list;
}

static PyObject *engine_take_events(PyObject *op, PyObject *args)
{
    struct event *events = NULL;
    struct call call;

    if (!PyArg_ParseTuple(args, ":take_events") || !call_begin(&call, op, NULL))
        return NULL;
    int64_t result = (int64_t)events_take(call.machine, &events);
    return call_end(&call, result) ? events_object(events, (size_t)result) : NULL;
}

static PyObject *engine_klog(PyObject *op, PyObject *args)
{
    uint64_t start = 0;
    size_t size;
    struct call call;

    if (!PyArg_ParseTuple(args, "|O&:klog", to_u64, &start) || !call_begin(&call, op, NULL))
        return NULL;
    char *text = klog_text(call.machine, start, &size);
    return end_text(&call, text, size);
}

static PyObject *engine_trace(PyObject *op, PyObject *args)
{
    uint64_t from = 0;
    uint64_t to = UINT64_MAX;
    int own = 0;
    size_t size;
    struct call call;

    if (!PyArg_ParseTuple(args, "|O&O&p:trace", to_u64, &from, to_u64, &to, &own) ||
        !call_begin(&call, op, NULL))
        return NULL;
    char *text = trace_text(call.machine, from, to, own != 0, &size);
    return end_text(&call, text, size);
}

static PyObject *engine_trace_end(PyObject *op, PyObject *args)
{
    struct call call;

    if (!PyArg_ParseTuple(args, ":trace_end") || !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, (int64_t)trace_end(call.machine));
}

static PyObject *engine_trace_unnamed(PyObject *op, PyObject *args)
{
    uint64_t number, caller;
    struct call call;

    if (!PyArg_ParseTuple(args, ":trace_unnamed") || !call_begin(&call, op, NULL))
        return NULL;
    bool found = trace_unnamed(call.machine, &number, &caller);
    if (!call_end(&call, 0))
        return NULL;
    if (!found)
        Py_RETURN_NONE;
    return Py_BuildValue("KK", (unsigned long long)number, (unsigned long long)caller);
}

static PyObject *engine_trace_name(PyObject *op, PyObject *args)
{
    uint64_t number;
    const char *what;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&s:trace_name", to_u64, &number, &what) ||
        !call_begin(&call, op, NULL))
        return NULL;
    trace_name(call.machine, number, what);
    return end_none(&call, 0);
}

static PyObject *engine_trace_clear(PyObject *op, PyObject *args)
{
    struct call call;

    if (!PyArg_ParseTuple(args, ":trace_clear") || !call_begin(&call, op, NULL))
        return NULL;
    trace_clear(call.machine);
    return end_none(&call, 0);
}

static PyObject *engine_fault_set(PyObject *op, PyObject *args)
{
    const char *point;
    int err;
    uint64_t nth = 1;
    uint64_t times = 1;
    struct call call;

    if (!PyArg_ParseTuple(args, "sO&|O&O&:fault_set", &point, to_errno, &err, to_u64, &nth, to_u64,
                          &times) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, fault_set(call.machine, &call.task, point, -err, nth, times));
}

static PyObject *engine_fault_hits(PyObject *op, PyObject *args)
{
    const char *name;
    struct call call;

    if (!PyArg_ParseTuple(args, "s:fault_hits", &name) || !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, (int64_t)fault_hits(call.machine, name));
}

static PyObject *engine_fault_clear(PyObject *op, PyObject *args)
{
    struct call call;

    if (!PyArg_ParseTuple(args, ":fault_clear") || !call_begin(&call, op, NULL))
        return NULL;
    fault_clear(call.machine);
    return end_none(&call, 0);
}

static PyObject *engine_fault_points(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(args))
{
    const char *const *names;
    size_t nr = fault_points(&names);

    return list_of_names(names, nr);
}

/* The number of a name, for "O&" of enumerations. -1: an exception is set. */
static int name_index(const char *name, const char *const *names, int nr)
{
    for (int i = 0; i < nr; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    PyErr_Format(PyExc_ValueError, "a fault rule knows no `%s`", name);
    return -1;
}

/* A converter: config.fault_rules.FaultRuleSpec. Its strings live as long as the tuple does. */
static int to_fault_rule(PyObject *value, void *out)
{
    struct fault_rule *rule = out;
    const char *op, *effect;
    int err, hang;

    if (!PyTuple_Check(value))
        return PyErr_Format(PyExc_TypeError, "a FaultRuleSpec is needed") != NULL;
    *rule = (struct fault_rule){.op = RULE_OPEN};
    if (!PyArg_ParseTuple(value, "ssssziiO&O&O&O&:FaultRuleSpec", &op, &effect, &rule->text,
                          &rule->pattern, &rule->action, &err, &hang, to_u64, &rule->wait_us,
                          to_u64, &rule->nth, to_u64, &rule->times, to_u32, &rule->chance))
        return 0;
    int op_index = name_index(op, rule_op_names, NR_RULE_OPS);
    int effect_index = name_index(effect, rule_effect_names, NR_RULE_EFFECTS);
    if (op_index < 0 || effect_index < 0)
        return 0;
    rule->op = (enum rule_op)op_index;
    rule->effect = (enum rule_effect)effect_index;
    rule->err = -err;
    rule->hang = hang != 0;
    return 1;
}

static PyObject *engine_rule_add(PyObject *op, PyObject *args)
{
    struct fault_rule rule;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&:rule_add", to_fault_rule, &rule) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, rule_add(call.machine, &call.task, &rule));
}

static PyObject *engine_fault_rule_clear(PyObject *op, PyObject *args)
{
    uint64_t number = 0;
    struct call call;

    if (!PyArg_ParseTuple(args, "|O&:fault_rule_clear", to_u64, &number) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, rule_clear(call.machine, &call.task, number));
}

static PyObject *engine_rules_text(PyObject *op, PyObject *args)
{
    size_t size;
    struct call call;

    if (!PyArg_ParseTuple(args, ":rules_text") || !call_begin(&call, op, NULL))
        return NULL;
    char *text = rules_text(call.machine, &size);
    return end_text(&call, text, size);
}

static PyObject *engine_unplug_fault(PyObject *op, PyObject *args)
{
    const char *device;
    struct call call;

    if (!PyArg_ParseTuple(args, "s:unplug_fault", &device) || !call_begin(&call, op, NULL))
        return NULL;
    struct fault_verdict verdict = unplug_fault(call.machine, device);
    return call_end(&call, 0) ? verdict_object(&verdict) : NULL;
}

PyMethodDef record_methods[] = {
    {"take_events", engine_take_events, METH_VARARGS,
     "take_events($self, /)\n--\n\n"
     "Return the events recorded since the last call, as a list of tuples."},
    {"klog", engine_klog, METH_VARARGS,
     "klog($self, start=0, /)\n--\n\n"
     "Return the kernel log from line `start` on: time in us, tab, text."},
    {"trace", engine_trace, METH_VARARGS,
     "trace($self, start=0, end=18446744073709551615, own=False, /)\n--\n\n"
     "Return the call graph, as the function_graph tracer prints it."},
    {"trace_unnamed", engine_trace_unnamed, METH_VARARGS,
     "trace_unnamed($self, /)\n--\n\n"
     "Return number and thread of an operation that has no name yet, or None."},
    {"trace_name", engine_trace_name, METH_VARARGS,
     "trace_name($self, number, what, /)\n--\n\n"
     "Name an operation of the trace."},
    {"trace_end", engine_trace_end, METH_VARARGS,
     "trace_end($self, /)\n--\n\n"
     "Return the number behind the last operation of the trace that is over."},
    {"trace_clear", engine_trace_clear, METH_VARARGS,
     "trace_clear($self, /)\n--\n\n"
     "Forget the trace."},
    {"fault_set", engine_fault_set, METH_VARARGS,
     "fault_set($self, point, errno, nth=1, times=1, /)\n--\n\n"
     "Let a named point fail."},
    {"fault_hits", engine_fault_hits, METH_VARARGS,
     "fault_hits($self, point, /)\n--\n\n"
     "Return how often a point was passed."},
    {"fault_clear", engine_fault_clear, METH_VARARGS,
     "fault_clear($self, /)\n--\n\n"
     "Disarm every point."},
    {"fault_points", engine_fault_points, METH_NOARGS | METH_STATIC,
     "fault_points()\n--\n\n"
     "Return the names of all points that can fail."},
    {"rule_add", engine_rule_add, METH_VARARGS,
     "rule_add($self, rule, /)\n--\n\n"
     "Let accesses to files fail or take long, or uevents be lost; return its number."},
    {"fault_rule_clear", engine_fault_rule_clear, METH_VARARGS,
     "fault_rule_clear($self, number=0, /)\n--\n\n"
     "Forget a fault rule, or all, and end the waits by it."},
    {"rules_text", engine_rules_text, METH_VARARGS,
     "rules_text($self, /)\n--\n\n"
     "Return all fault rules: per line number, matched, fired, waiting, text."},
    {"unplug_fault", engine_unplug_fault, METH_VARARGS,
     "unplug_fault($self, device, /)\n--\n\n"
     "Say how the guest is to answer a request to eject a DIMM."},
    {0},
};

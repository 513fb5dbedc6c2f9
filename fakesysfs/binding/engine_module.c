/*
 * engine_module.c - the engine as a Python type: fakesysfs._engine.Engine.
 *
 * Owns: turning Python values into plain C ones and back, giving the interpreter's lock (GIL) up
 * around every call, errno -> OSError(errno, reason, path), and how long a machine lives while
 * several threads call it. Only it and machine_spec.c, which reads the machine spec, include
 * Python.h. Does not own: anything of memory, files or policy (engine/), nor the delivery of events
 * (machine.py). Threads: every method may be called from any thread. No Python object is touched
 * between call_begin() and call_end(). The machine is destroyed by whoever leaves last after
 * close().
 */
#include "binding/machine_spec.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_FOR_SIGNALS_MS = 50, PATH_BYTES = 4096 };

struct module_state {
    PyTypeObject *engine_type;
};

typedef struct {
    PyObject_HEAD struct machine *machine;
    atomic_uint users;  /* calls under way, plus 1 until close(); 0: there is no machine */
    atomic_bool made;   /* __init__() has begun: a second one is refused */
    atomic_bool closed; /* no call may begin any more */
} EngineObject;

/* ---- one call: begin, work without the GIL, end ---- */

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

/* task.interrupted has no argument, so the question finds its call here. */
static _Thread_local struct call *running;

/*
 * Has a signal handler of Python raised? As in os.write() (PEP 475) a handler that returns does not
 * disturb the work. Only the main thread runs handlers, and taking the GIL costs, so it is taken
 * now and then only.
 */
static int signal_raised(void)
{
    struct call *call = running;
    struct timespec clock;

    if (call == NULL)
        return 0;
    if (call->raised)
        return 1;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &clock);
    int64_t now_ms = (int64_t)clock.tv_sec * 1000 + clock.tv_nsec / 1000000;
    bool look = call->next_look_ms != 0 && now_ms >= call->next_look_ms;
    if (look && getpid() == (pid_t)syscall(SYS_gettid)) { /* on the main thread */
        PyEval_RestoreThread(call->thread);
        call->raised = PyErr_CheckSignals() != 0;
        call->thread = PyEval_SaveThread();
    }
    if (look || call->next_look_ms == 0)
        call->next_look_ms = now_ms + LOOK_FOR_SIGNALS_MS;
    return call->raised;
}

/* The machine that fuse_ops_mount() was told last: it must not be served after its end. */
static _Atomic(struct machine *) mounted;

static void engine_drop(EngineObject *self)
{
    struct machine *machine = self->machine;

    if (atomic_fetch_sub(&self->users, 1) != 1)
        return;
    self->machine = NULL;
    if (atomic_compare_exchange_strong(&mounted, &(struct machine *){machine}, NULL))
        fuse_ops_mount(NULL, 0, 0);
    machine_destroy(machine);
}

static bool engine_hold(EngineObject *self)
{
    unsigned users = atomic_load(&self->users);

    do {
        if (users == 0 || atomic_load(&self->closed))
            return false;
    } while (!atomic_compare_exchange_weak(&self->users, &users, users + 1));
    return true;
}

/*
 * Give the GIL up for one engine call; path, that of the file in question, may be NULL and belongs
 * to the call from now on. false: an exception is set, and the call must not be made.
 */
static bool call_begin(struct call *call, PyObject *engine, struct path *path)
{
    EngineObject *self = (EngineObject *)engine;

    if (!engine_hold(self)) {
        PyErr_SetString(PyExc_ValueError, "the machine is closed");
        Py_XDECREF(path != NULL ? path->bytes : NULL);
        return false;
    }
    *call = (struct call){
        .engine = self,
        .machine = self->machine,
        .task = {.interrupted = signal_raised,
                 .capable = true,
                 .caller = PyThread_get_thread_ident()},
        .path = path,
        .outer = running,
    };
    running = call;
    call->thread = PyEval_SaveThread();
    return true;
}

static void raise_os_error(int err, const char *reason, const char *path)
{
    PyObject *why = PyUnicode_DecodeUTF8(reason, (Py_ssize_t)strlen(reason), "replace");
    PyObject *file = path != NULL ? PyUnicode_DecodeFSDefault(path) : Py_NewRef(Py_None);
    PyObject *error = PyObject_CallFunction(PyExc_OSError, "iNN", err, why,
                                            file); /* its subclass by errno */

    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
}

/*
 * Take the GIL back. A negative result becomes OSError with the engine's reason, or strerror() when
 * it gave none. false: an exception is set.
 */
static bool call_end(struct call *call, int64_t result)
{
    PyEval_RestoreThread(call->thread);
    running = call->outer;
    engine_drop(call->engine);
    if (result < 0 && !call->raised) {
        int err = (int)-result;
        const char *reason = call->task.reason[0] != '\0' ? call->task.reason : strerror(err);
        raise_os_error(err, reason, call->path != NULL ? call->path->name : NULL);
    }
    Py_XDECREF(call->path != NULL ? call->path->bytes : NULL);
    return result >= 0 && !call->raised;
}

/* Text of the engine for people: whatever bytes a store carried, it can be printed. */
static PyObject *text_object(const char *text, size_t size)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)size, "backslashreplace");
}

/* A converter of arguments, for "O&". */
static int to_path(PyObject *value, void *out)
{
    struct path *path = out;

    if (!PyUnicode_FSConverter(
            value, &path->bytes)) /* value == NULL: gives up what an earlier call made */
        return 0;
    path->name = path->bytes != NULL ? PyBytes_AS_STRING(path->bytes) : NULL;
    return Py_CLEANUP_SUPPORTED;
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

/* ---- life and death ---- */

static int engine_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    EngineObject *self = (EngineObject *)op;
    static char *keywords[] = {"spec", NULL};
    struct task task = {.capable = true};
    struct spec spec;
    PyObject *dict;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Engine", keywords, &dict))
        return -1;
    if (!spec_take(&spec, dict)) {
        ; /* an exception is set */
    } else if (atomic_exchange(&self->made, true)) {
        PyErr_SetString(PyExc_RuntimeError, "the machine was made already");
    } else {
        Py_BEGIN_ALLOW_THREADS self->machine = machine_create(&spec.config, &task);
        Py_END_ALLOW_THREADS atomic_store(&self->users, self->machine != NULL);
        if (self->machine == NULL)
            PyErr_Format(PyExc_ValueError, "machine spec: %s", task.reason);
    }
    spec_free(&spec);
    return PyErr_Occurred() ? -1 : 0;
}

static void engine_end(EngineObject *self)
{
    if (!atomic_exchange(&self->closed, true) && atomic_load(&self->users) != 0) {
        rules_end(self->machine); /* or who waits by a fault rule would wait for ever */
        engine_drop(self);
    }
}

static void engine_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    engine_end((EngineObject *)op); /* no call is under way: each holds a reference to the object */
    type->tp_free(op);
    Py_DECREF(type);
}

static int engine_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    return 0;
}

/* ---- what the engine gives, as Python objects; memory from malloc() is taken over ---- */

#define BIG(value) ((unsigned long long)(value)) /* for Py_BuildValue() */

/* Put a new item into a list of known length. item NULL: something failed, the list is given up. */
static void list_put(PyObject **list, size_t i, PyObject *item)
{
    if (item == NULL || *list == NULL) {
        Py_XDECREF(item);
        Py_CLEAR(*list);
    } else {
        PyList_SET_ITEM(*list, (Py_ssize_t)i, item);
    }
}

static PyObject *list_of_names(const char *const *names, size_t nr)
{
    PyObject *list = PyList_New((Py_ssize_t)nr);

    for (size_t i = 0; list != NULL && i < nr; i++)
        list_put(&list, i, PyUnicode_FromString(names[i]));
    return list;
}

static PyObject *stat_object(const struct file_stat *st)
{
    return Py_BuildValue("(IKKIIKL)", st->mode, BIG(st->ino), BIG(st->nlink), st->uid, st->gid,
                         BIG(st->size), (long long)st->mtime_ns);
}

static PyObject *entries_object(struct dirent_out *entries, size_t nr)
{
    PyObject *list = PyList_New((Py_ssize_t)nr);

    for (size_t i = 0; list != NULL && i < nr; i++) {
        PyObject *name = PyUnicode_DecodeFSDefault(entries[i].name);
        list_put(&list, i, Py_BuildValue("(NKI)", name, BIG(entries[i].ino), entries[i].mode));
    }
    free(entries);
    return list;
}

static PyObject *blocks_object(struct block_info *blocks, size_t nr)
{
    PyObject *list = PyList_New((Py_ssize_t)nr);

    for (size_t i = 0; list != NULL && i < nr; i++) {
        const struct block_info *b = &blocks[i];
        list_put(&list, i,
                 Py_BuildValue("(KKzziKKKK)", BIG(b->id), BIG(b->start), b->state, b->zone, b->nid,
                               BIG(b->free_pages), BIG(b->present_pages), BIG(b->movable_pages),
                               BIG(b->unmovable_pages)));
    }
    free(blocks);
    return list;
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
                     Py_BuildValue("(KKsNNiN(sK)K)", BIG(e->seq), BIG(e->time_us), kinds[e->kind],
                                   text_object(e->path, strlen(e->path)),
                                   text_object(e->data, strlen(e->data)), -e->err,
                                   payload_object(e->payload), rule_effect_names[e->verdict.effect],
                                   BIG(e->verdict.delay_us), BIG(e->caller)));
        event_free(&events[i]);
    }
    free(events);
    return list;
}

static PyObject *long_text_object(char *text, size_t size)
{
    PyObject *object = text_object(text, size);

    free(text);
    return object;
}

static PyObject *page_object(const struct page_info *page)
{
    return Py_BuildValue("{sK sK sI sz sz si sz sz sI sN sN sK}", "pfn", BIG(page->pfn), "head_pfn",
                         BIG(page->head_pfn), "order", page->order, "kind", page->kind, "zone",
                         page->zone, "nid", page->nid, "migratetype", page->migratetype,
                         "section_state", page->section_state, "pins", page->pins, "online",
                         PyBool_FromLong(page->online), "poisoned", PyBool_FromLong(page->poisoned),
                         "block_id", BIG(page->block_id));
}

static PyObject *fuse_ops_object(void)
{
    PyObject *dict = PyDict_New();

    for (size_t i = 0; dict != NULL && fuse_op_name(i) != NULL; i++) {
        PyObject *address = PyLong_FromVoidPtr((void *)(uintptr_t)fuse_op_address(fuse_op_name(i)));
        if (address == NULL || PyDict_SetItemString(dict, fuse_op_name(i), address) != 0)
            Py_CLEAR(dict);
        Py_XDECREF(address);
    }
    return dict;
}

/* ---- methods ---- */

/* Let a function of the caller's say whether to stop: its address, or 0 for signals of Python. */
static struct task *ask(struct task *task, uint64_t address)
{
    if (address != 0)
        task->interrupted = (int (*)(void))(uintptr_t)address;
    return task;
}

/*
 * METHOD(name, variables, how arguments are read into them, path or NULL, the call, what to
 * return). In the call, M is the machine and T the task; `result` is what it gave. What each does
 * and raises: _engine.pyi.
 */
#define ARGS(...) __VA_ARGS__
#define METHOD(name, variables, arguments, path_, expression, object)            \
    static PyObject *engine_##name(PyObject *op, PyObject *args)                 \
    {                                                                            \
        struct call call;                                                        \
        variables;                                                               \
        if (!PyArg_ParseTuple(args, arguments) || !call_begin(&call, op, path_)) \
            return NULL;                                                         \
        int64_t result = expression;                                             \
        return call_end(&call, result) ? object : NULL;                          \
    }

#define M call.machine
#define T &call.task
#define NONE Py_NewRef(Py_None)
#define INTEGER PyLong_FromLongLong(result)

METHOD(stat, struct path path; struct file_stat st, ARGS("O&:stat", to_path, &path), &path,
                               file_stat(M, T, path.name, &st), stat_object(&st))
METHOD(fstat, long long handle; struct file_stat st, ARGS("L:fstat", &handle), NULL,
                                file_fstat(M, T, handle, &st), stat_object(&st))
METHOD(readlink, struct path path;
       char target[PATH_BYTES] = "", ARGS("O&:readlink", to_path, &path), &path,
       file_readlink(M, T, path.name, target, sizeof target), PyUnicode_DecodeFSDefault(target))
METHOD(readdir, struct path path; struct dirent_out *list = NULL;
       uint64_t interrupted = 0, ARGS("O&|O&:readdir", to_path, &path, to_u64, &interrupted), &path,
       file_readdir(M, ask(T, interrupted), path.name, &list), entries_object(list, (size_t)result))
METHOD(open, struct path path; int flags;
       uint64_t interrupted = 0, ARGS("O&i|O&:open", to_path, &path, &flags, to_u64, &interrupted),
       &path, file_open(M, ask(T, interrupted), path.name, flags), INTEGER)
METHOD(write, long long handle; const char *data; Py_ssize_t size;
       uint64_t interrupted = 0, ARGS("Ly#|O&:write", &handle, &data, &size, to_u64, &interrupted),
       NULL, file_write(M, ask(T, interrupted), handle, data, (size_t)size), INTEGER)
METHOD(release, long long handle, ARGS("L:release", &handle), NULL, file_release(M, handle), NONE)
METHOD(truncate, struct path path; uint64_t size,
                                   ARGS("O&O&:truncate", to_path, &path, to_u64, &size), &path,
                                   file_truncate(M, T, path.name, size), NONE)
METHOD(chmod, struct path path; uint32_t mode, ARGS("O&O&:chmod", to_path, &path, to_u32, &mode),
                                &path, file_chmod(M, T, path.name, mode), NONE)
METHOD(chown, struct path path; uint32_t uid;
       uint32_t gid, ARGS("O&O&O&:chown", to_path, &path, to_id, &uid, to_id, &gid), &path,
       file_chown(M, T, path.name, uid, gid), NONE)
METHOD(utimens, struct path path; long long mtime_ns,
                                  ARGS("O&L:utimens", to_path, &path, &mtime_ns), &path,
                                  file_utimens(M, T, path.name, mtime_ns), NONE)
METHOD(change, const char *what; struct path path, ARGS("sO&:change", &what, to_path, &path), &path,
                                 file_change(M, T, what, path.name), NONE)
METHOD(add_file, struct path path; const char *data; Py_ssize_t size;
       uint32_t mode = 0444, ARGS("O&y#|O&:add_file", to_path, &path, &data, &size, to_u32, &mode),
       &path, file_add(M, T, path.name, data, (size_t)size, mode), NONE)

METHOD(add_memory, int nid; uint64_t start;
       uint64_t size, ARGS("iO&O&:add_memory", &nid, to_u64, &start, to_u64, &size), NULL,
       memory_add(M, T, nid, start, size), NONE)
METHOD(remove_memory, uint64_t start; uint64_t size,
                                      ARGS("O&O&:remove_memory", to_u64, &start, to_u64, &size),
                                      NULL, memory_remove(M, T, start, size), NONE)
METHOD(acpi_device_check, uint32_t slot; int nid; uint64_t start;
       uint64_t size,
       ARGS("O&iO&O&:acpi_device_check", to_u32, &slot, &nid, to_u64, &start, to_u64, &size), NULL,
       acpi_device_check(M, T, slot, nid, start, size), INTEGER)
METHOD(acpi_eject_request, uint32_t slot, ARGS("O&:acpi_eject_request", to_u32, &slot), NULL,
       acpi_eject_request(M, T, slot), INTEGER)
METHOD(virtio_mem_probe, int nid; uint64_t addr; uint64_t size;
       uint64_t block,
       ARGS("iO&O&O&:virtio_mem_probe", &nid, to_u64, &addr, to_u64, &size, to_u64, &block), NULL,
       virtio_mem_probe(M, T, nid, addr, size, block), INTEGER)
METHOD(virtio_mem_request, uint32_t number; uint64_t requested;
       uint64_t usable,
       ARGS("O&O&O&:virtio_mem_request", to_u32, &number, to_u64, &requested, to_u64, &usable),
       NULL, virtio_mem_request(M, T, number, requested, usable), NONE)
METHOD(virtio_mem_work, uint32_t number, ARGS("O&:virtio_mem_work", to_u32, &number), NULL,
       virtio_mem_work(M, T, number), NONE)
METHOD(virtio_mem_size, uint32_t number, ARGS("O&:virtio_mem_size", to_u32, &number), NULL,
       virtio_mem_size(M, T, number), INTEGER)
METHOD(allocate_pages, const char *kind; uint64_t nr_pages; int order = -1; const char *zone = NULL;
       int nid = -1;
       long long block = -1,
       ARGS("sO&|iziL:allocate_pages", &kind, to_u64, &nr_pages, &order, &zone, &nid, &block), NULL,
       load_allocate(M, T, kind, nr_pages, order, zone, nid, block), INTEGER)
METHOD(free_pages, const char *kind; uint64_t nr_pages;
       int nid = -1, ARGS("sO&|i:free_pages", &kind, to_u64, &nr_pages, &nid), NULL,
       load_free(M, T, kind, nr_pages, nid), INTEGER)
METHOD(pin, uint64_t pfn; int delta = 1, ARGS("O&|i:pin", to_u64, &pfn, &delta), NULL,
                          page_pin(M, T, pfn, delta), NONE)
METHOD(free_page, uint64_t pfn, ARGS("O&:free_page", to_u64, &pfn), NULL, page_free_at(M, T, pfn),
       NONE)
METHOD(page, uint64_t pfn; struct page_info page = {0}, ARGS("O&:page", to_u64, &pfn), NULL,
                           page_describe(M, T, pfn, &page), page_object(&page))
METHOD(blocks, struct block_info *blocks = NULL, ":blocks", NULL,
       (int64_t)blocks_snapshot(M, &blocks), blocks_object(blocks, (size_t)result))

METHOD(take_events, struct event *events = NULL, ":take_events", NULL,
       (int64_t)events_take(M, &events), events_object(events, (size_t)result))
METHOD(klog, uint64_t start = 0; char *text = NULL;
       size_t size = 0, ARGS("|O&:klog", to_u64, &start), NULL,
       (text = klog_text(M, start, &size), 0), long_text_object(text, size))
METHOD(trace, uint64_t from = 0; uint64_t to = UINT64_MAX; char *text = NULL;
       size_t size = 0, ARGS("|O&O&:trace", to_u64, &from, to_u64, &to), NULL,
       (text = trace_text(M, from, to, &size), 0), long_text_object(text, size))
METHOD(trace_end, , ":trace_end", NULL, (int64_t)trace_end(M), INTEGER)
METHOD(trace_clear, , ":trace_clear", NULL, (trace_clear(M), 0), NONE)
METHOD(check, int broken = 0, ":check", NULL, (broken = machine_check(M, T), 0),
       broken < 0 ? PyErr_Format(PyExc_AssertionError, "%s", call.task.reason) : NONE)
METHOD(fault_set, const char *point; int err; uint64_t nth = 1;
       uint64_t times = 1,
       ARGS("sO&|O&O&:fault_set", &point, to_errno, &err, to_u64, &nth, to_u64, &times), NULL,
       fault_set(M, T, point, -err, nth, times), NONE)
METHOD(fault_hits, const char *name, ARGS("s:fault_hits", &name), NULL,
       (int64_t)fault_hits(M, name), INTEGER)
METHOD(fault_clear, , ":fault_clear", NULL, (fault_clear(M), 0), NONE)
METHOD(rule_add, struct fault_rule rule, ARGS("O&:rule_add", to_fault_rule, &rule), NULL,
       rule_add(M, T, &rule), INTEGER)
METHOD(fault_rule_clear, uint64_t n = 0, ARGS("|O&:fault_rule_clear", to_u64, &n), NULL,
       rule_clear(M, T, n), NONE)
METHOD(rules_text, char *text = NULL; size_t size = 0, ":rules_text", NULL,
                                      (text = rules_text(M, &size), 0),
                                      long_text_object(text, size))
METHOD(unplug_fault, const char *device;
       struct fault_verdict verdict, ARGS("s:unplug_fault", &device), NULL,
       (verdict = unplug_fault(M, device), 0),
       Py_BuildValue("(sK)", rule_effect_names[verdict.effect], BIG(verdict.delay_us)))
METHOD(await_stores, long long handle;
       uint64_t interrupted = 0, ARGS("L|O&:await_stores", &handle, to_u64, &interrupted), NULL,
       file_await_stores(M, ask(T, interrupted), handle), NONE)
METHOD(poll, long long handle, ARGS("L:poll", &handle), NULL, file_poll(M, handle), INTEGER)
METHOD(fuse_ops, uint64_t interrupted = 0;
       uint64_t forget = 0, ARGS("|O&O&:fuse_ops", to_u64, &interrupted, to_u64, &forget), NULL,
       (atomic_store(&mounted, M), fuse_ops_mount(M, interrupted, forget), 0), fuse_ops_object())

static PyObject *engine_read(PyObject *op, PyObject *args)
{
    long long handle;
    Py_ssize_t size;
    uint64_t offset, interrupted = 0;
    struct call call;

    if (!PyArg_ParseTuple(args, "LnO&|O&:read", &handle, &size, to_u64, &offset, to_u64,
                          &interrupted))
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size > 0 ? size : 0);
    char *buf = bytes != NULL ? PyBytes_AS_STRING(bytes) : NULL;
    if (bytes == NULL || !call_begin(&call, op, NULL)) {
        Py_XDECREF(bytes);
        return NULL;
    }
    int64_t got = file_read(M, ask(T, interrupted), handle, buf, (size_t)(size > 0 ? size : 0),
                            offset);
    if (!call_end(&call, got))
        Py_CLEAR(bytes);
    else
        _PyBytes_Resize(&bytes, (Py_ssize_t)got);
    return bytes;
}

static PyObject *engine_fault_points(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(args))
{
    const char *const *names;
    size_t nr = fault_points(&names);

    return list_of_names(names, nr);
}

static PyObject *engine_close(PyObject *op, PyObject *Py_UNUSED(args))
{
    engine_end((EngineObject *)op);
    return NONE;
}

static PyObject *engine_block_bytes(PyObject *op, void *Py_UNUSED(closure))
{
    struct call call;

    if (!call_begin(&call, op, NULL))
        return NULL;
    int64_t result = (int64_t)machine_block_bytes(M);
    return call_end(&call, result) ? INTEGER : NULL;
}

/* ---- the type and the module ---- */

/* name, arguments as inspect.signature() reads them, one line for help() */
#define ENTRY(name, flags, signature, summary) \
    {#name, engine_##name, flags, #name "(" signature ")\n--\n\n" summary}
#define NIL(name, summary) ENTRY(name, METH_VARARGS, "$self, /", summary)
#define ANY(name, signature, summary) ENTRY(name, METH_VARARGS, "$self, " signature ", /", summary)

static PyMethodDef engine_methods[] = {
    ANY(stat, "path",
        "Return (st_mode, st_ino, st_nlink, st_uid, st_gid, st_size, mtime_ns) of a file."),
    ANY(fstat, "handle", "Return what stat() does, of an open file."),
    ANY(readlink, "path", "Return the target of a link."),
    ANY(readdir, "path, interrupted=0",
        "Return a list of (name, st_ino, st_mode) in the kernel's order."),
    ANY(open, "path, flags, interrupted=0", "Open a file and return its handle, for release()."),
    ANY(read, "handle, size, offset, interrupted=0",
        "Return up to size bytes of an open file from offset on."),
    ANY(write, "handle, data, interrupted=0",
        "Store data with one write(2); return how much was taken."),
    ANY(release, "handle", "Close an open file."),
    ANY(truncate, "path, size", "Do what truncate(2) does to an attribute: nothing."),
    ANY(chmod, "path, mode", "Set the permission bits of a file."),
    ANY(chown, "path, uid, gid", "Set owner and group of a file; -1 leaves one as it is."),
    ANY(utimens, "path, mtime_ns", "Set the time of the last change, in nanoseconds since 1970."),
    ANY(change, "op, path", "Raise the OSError with which sysfs refuses to change its tree."),
    ANY(add_file, "path, data, mode=0o444", "Put a file of your own into the tree."),
    ANY(add_memory, "nid, start, size", "Hot-add memory, as the kernel's __add_memory() does."),
    ANY(remove_memory, "start, size", "Remove memory whose blocks are offline."),
    ANY(acpi_device_check, "slot, nid, start, size",
        "Let the guest handle a device check; return its _OST."),
    ANY(virtio_mem_probe, "nid, addr, size, block",
        "Let the guest find a virtio-mem device; return its number."),
    ANY(virtio_mem_request, "number, requested, usable",
        "Tell a virtio-mem device the size that is wanted."),
    ANY(virtio_mem_work, "number", "Let the driver of a virtio-mem device plug or unplug."),
    ANY(virtio_mem_size, "number", "Return how many bytes of a virtio-mem device are plugged."),
    ANY(acpi_eject_request, "slot", "Let the guest handle an eject request; return its _OST."),
    ANY(allocate_pages, "kind, nr_pages, order=-1, zone=None, nid=-1, block=-1",
        "Let something use memory; return how many pages it got."),
    ANY(free_pages, "kind, nr_pages, nid=-1", "Give back pages of a kind; return how many."),
    ANY(pin, "pfn, delta=1",
        "Add references to the folio of a page: while it has any, it cannot migrate."),
    ANY(free_page, "pfn", "Give back the folio that holds a page."),
    ANY(page, "pfn", "Describe a page, as a dict."),
    NIL(blocks, "Describe all memory blocks, as a list of tuples."),
    NIL(take_events, "Return the events recorded since the last call, as a list of tuples."),
    ANY(klog, "start=0", "Return the kernel log from line `start` on: time in us, tab, text."),
    ANY(trace, "start=0, end=18446744073709551615",
        "Return the call graph, as the function_graph tracer prints it."),
    NIL(trace_end,
        "Return the number behind the last entry of the trace that belongs to an operation that is over."),
    NIL(trace_clear, "Forget the trace."),
    NIL(check,
        "Count everything again; raise AssertionError naming the first invariant that does not hold."),
    ANY(fault_set, "point, errno, nth=1, times=1", "Let a named point fail."),
    NIL(fault_clear, "Disarm every point."),
    ANY(fault_hits, "point", "Return how often a point was passed."),
    ENTRY(fault_points, METH_NOARGS | METH_STATIC, "",
          "Return the names of all points that can fail."),
    ANY(rule_add, "rule",
        "Let accesses to files fail or take long, or uevents go astray; return its number."),
    ANY(fault_rule_clear, "number=0", "Forget a fault rule, or all, and end the waits by it."),
    NIL(rules_text, "Return all fault rules: per line number, matched, fired, waiting, text."),
    ANY(unplug_fault, "device", "Say how the guest is to answer a request to eject a DIMM."),
    ANY(await_stores, "handle, interrupted=0",
        "Wait until nobody else stores to a file that is open for writing only."),
    ANY(poll, "handle", "Return the POLL* bits that hold for an open file."),
    ANY(fuse_ops, "interrupted=0, forget_poll=0",
        "Serve this machine to the native FUSE operations; return their addresses."),
    ENTRY(close, METH_NOARGS, "$self, /", "End the machine: every later call raises ValueError."),
    {0},
};

static PyGetSetDef engine_getset[] = {
    {"block_bytes", engine_block_bytes, NULL, "Size of a memory block, in bytes.", NULL},
    {0},
};

PyDoc_STRVAR(engine_doc,
             "Engine(spec)\n--\n\nA machine as config.MachineConfig.spec() describes it.");

static PyType_Slot engine_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)engine_doc},
    {Py_tp_init, (void *)(uintptr_t)engine_init},
    {Py_tp_dealloc, (void *)(uintptr_t)engine_dealloc},
    {Py_tp_traverse, (void *)(uintptr_t)engine_traverse},
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, engine_getset},
    {0, NULL},
};

static PyType_Spec engine_spec = {
    .name = "fakesysfs._engine.Engine",
    .basicsize = sizeof(EngineObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = engine_slots,
};

static PyObject *module_features(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return list_of_names(feature_names, NR_FEATURES);
}

static PyObject *module_configs(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return list_of_names(config_names, NR_CONFIGS);
}

static PyMethodDef module_methods[] = {
    {"features", module_features, METH_NOARGS,
     "features()\n--\n\nReturn the names in which kernels differ."},
    {"configs", module_configs, METH_NOARGS,
     "configs()\n--\n\nReturn the names of kernel configuration."},
    {0},
};

static int module_exec(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);

    state->engine_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &engine_spec, NULL);
    return state->engine_type != NULL ? PyModule_AddType(module, state->engine_type) : -1;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = PyModule_GetState(module);

    Py_VISIT(state->engine_type);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);

    Py_CLEAR(state->engine_type);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "fakesysfs._engine",
    .m_doc = "The engine of fakesysfs: a machine whose memory comes and goes.",
    .m_size = sizeof(struct module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__engine(void);

PyMODINIT_FUNC PyInit__engine(void)
{
    return PyModuleDef_Init(&module_def);
}

/*
 * engine_call.c - one call of the engine from Python: begin, work without the GIL, end.
 *
 * Owns: giving the interpreter's lock (GIL) up around every call, errno -> OSError(errno, reason,
 * path), signals while a call lasts, and how long a machine lives while several threads call it.
 * Does not own: which calls there are. No Python object is touched between call_begin() and
 * call_end(). The machine is destroyed by the last user after close().
 *
 * A process that fork() made has a copy of the machine, perhaps one that another thread was
 * changing, under a lock that nobody will release. So a call in such a process is an error, and
 * nothing of the copy is destroyed.
 */
#include "binding/engine_call.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_FOR_SIGNALS_MS = 50 };

/* task.interrupted has no argument, so the question finds its call here. */
static _Thread_local struct call *running;

/* The machine that fuse_ops_mount() was told last: it must not be served after its end. */
static _Atomic(struct machine *) mounted;

/* ---- processes ---- */

static atomic_uint forks;

static void forked(void)
{
    atomic_fetch_add(&forks, 1);
}

static void start_watching(void)
{
    pthread_atfork(NULL, NULL, forked);
}

void watch_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, start_watching);
}

unsigned forks_seen(void)
{
    return atomic_load(&forks);
}

bool engine_is_ours(const EngineObject *self)
{
    return self->forks == atomic_load(&forks);
}

/* ---- signals ---- */

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

/* ---- the life of a machine ---- */

void engine_drop(EngineObject *self)
{
    struct machine *machine = self->machine;

    if (atomic_fetch_sub(&self->users, 1) != 1)
        return;
    self->machine = NULL;
    if (atomic_compare_exchange_strong(&mounted, &(struct machine *){machine}, NULL))
        fuse_ops_mount(NULL, 0, 0);
    machine_destroy(machine);
}

void engine_replace(struct call *call, struct machine *m)
{
    EngineObject *self = call->engine;
    struct timespec moment = {.tv_nsec = 1000000};

    PyEval_RestoreThread(call->thread);
    self->machine = m; /* with the GIL, as whoever begins a call reads it */
    call->thread = PyEval_SaveThread();
    atomic_compare_exchange_strong(&mounted, &(struct machine *){call->machine}, m);
    bool left = fuse_ops_replace(call->machine, m);
    /* two users: the object, and this call */
    for (int i = 0; i < 100 && atomic_load(&self->users) > 2; i++)
        nanosleep(&moment, NULL);
    if (left && atomic_load(&self->users) <= 2)
        machine_forget_before(m);
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

/* ---- one call ---- */

bool call_begin(struct call *call, PyObject *engine, struct path *path)
{
    EngineObject *self = (EngineObject *)engine;

    if (!engine_is_ours(self))
        PyErr_SetString(PyExc_RuntimeError, "this machine belongs to the process that made it; "
                                            "after fork() make another one");
    else if (!engine_hold(self))
        PyErr_SetString(PyExc_ValueError, "the machine is closed");
    if (PyErr_Occurred() != NULL) {
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

void raise_no_memory(void)
{
    PyErr_SetString(PyExc_MemoryError, "this process can get no more memory from its host");
}

bool call_end(struct call *call, int64_t result)
{
    PyEval_RestoreThread(call->thread);
    running = call->outer;
    engine_drop(call->engine);
    if (result == -ENOMEM && call->task.no_host_memory && !call->raised) {
        raise_no_memory();
    } else if (result < 0 && !call->raised) {
        int err = (int)-result;
        const char *reason = call->task.reason[0] != '\0' ? call->task.reason : strerror(err);
        raise_os_error(err, reason, call->path != NULL ? call->path->name : NULL);
    }
    Py_XDECREF(call->path != NULL ? call->path->bytes : NULL);
    return result >= 0 && !call->raised;
}

struct task *call_asks(struct call *call, uint64_t address)
{
    if (address != 0)
        call->task.interrupted = (int (*)(void))(uintptr_t)address;
    return &call->task;
}

void serve_fuse(struct call *call, uint64_t interrupted, uint64_t forget_poll)
{
    atomic_store(&mounted, call->machine);
    fuse_ops_mount(call->machine, interrupted, forget_poll);
}

PyObject *end_none(struct call *call, int64_t result)
{
    return call_end(call, result) ? Py_NewRef(Py_None) : NULL;
}

PyObject *end_integer(struct call *call, int64_t result)
{
    return call_end(call, result) ? PyLong_FromLongLong(result) : NULL;
}

PyObject *end_text(struct call *call, char *text, size_t size)
{
    PyObject *object = NULL;

    if (call_end(call, 0)) {
        if (text != NULL)
            object = text_object(text, size);
        else
            raise_no_memory();
    }
    free(text);
    return object;
}

/* ---- arguments and results ---- */

PyObject *text_object(const char *text, size_t size)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)size, "backslashreplace");
}

int to_path(PyObject *value, void *out)
{
    struct path *path = out;

    if (!PyUnicode_FSConverter(
            value, &path->bytes)) /* value == NULL: gives up what an earlier call made */
        return 0;
    path->name = path->bytes != NULL ? PyBytes_AS_STRING(path->bytes) : NULL;
    return Py_CLEANUP_SUPPORTED;
}

void list_put(PyObject **list, size_t i, PyObject *item)
{
    if (item == NULL || *list == NULL) {
        Py_XDECREF(item);
        Py_CLEAR(*list);
    } else {
        PyList_SET_ITEM(*list, (Py_ssize_t)i, item);
    }
}

PyObject *list_of_names(const char *const *names, size_t nr)
{
    PyObject *list = PyList_New((Py_ssize_t)nr);

    for (size_t i = 0; list != NULL && i < nr; i++)
        list_put(&list, i, PyUnicode_FromString(names[i]));
    return list;
}

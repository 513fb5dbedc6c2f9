/*
 * engine_module.c - the engine as a Python type: fakesysfs.binding._engine.Engine.
 *
 * Owns: the type, the life of its objects, and the module. Does not own: a call (engine_call.c),
 * the methods (file_methods.c, memory_methods.c, record_methods.c), what the machine is made from
 * (machine_spec.c), delivery of events (machine.py). Only binding/ includes Python.h. Every method
 * may be called from any thread.
 */
#include "binding/engine_call.h"

#include <errno.h>
#include <pthread.h>

struct module_state {
    PyTypeObject *engine_type;
};

/* ---- life and death ---- */

static int engine_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    EngineObject *self = (EngineObject *)op;
    static char *keywords[] = {"spec", NULL};
    struct task task = {.capable = true};
    struct spec spec;
    PyObject *dict;

    self->forks = forks_seen();
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Engine", keywords, &dict))
        return -1;
    if (!spec_take(&spec, dict)) {
        ; /* an exception is set */
    } else if (atomic_exchange(&self->made, true)) {
        PyErr_SetString(PyExc_RuntimeError, "the machine was made already");
    } else {
        Py_BEGIN_ALLOW_THREADS self->machine = machine_create(&spec.config, &task);
        Py_END_ALLOW_THREADS atomic_store(&self->users, self->machine != NULL);
        if (self->machine == NULL && task.no_host_memory)
            raise_no_memory();
        else if (self->machine == NULL)
            PyErr_Format(PyExc_ValueError, "machine spec: %s", task.reason);
    }
    spec_free(&spec);
    return PyErr_Occurred() ? -1 : 0;
}

static void engine_end(EngineObject *self)
{
    if (!engine_is_ours(self))
        return; /* a copy, of which nothing can be used */
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

static PyObject *engine_close(PyObject *op, PyObject *Py_UNUSED(args))
{
    engine_end((EngineObject *)op);
    return Py_NewRef(Py_None);
}

static PyObject *engine_reboot(PyObject *op, PyObject *dict)
{
    struct machine *m;
    struct spec spec;
    struct call call;

    if (!spec_take(&spec, dict) || !call_begin(&call, op, NULL)) {
        spec_free(&spec);
        return NULL;
    }
    m = machine_reboot(call.machine, &spec.config, &call.task);
    if (m != NULL)
        engine_replace(&call, m);
    PyObject *result = end_none(&call, m != NULL ? 0 : -EINVAL);
    spec_free(&spec);
    return result;
}

static PyObject *engine_check(PyObject *op, PyObject *Py_UNUSED(args))
{
    struct call call;

    if (!call_begin(&call, op, NULL))
        return NULL;
    int broken = machine_check(call.machine, &call.task);
    if (!call_end(&call, 0))
        return NULL;
    return broken < 0 ? PyErr_Format(PyExc_AssertionError, "%s", call.task.reason)
                      : Py_NewRef(Py_None);
}

static PyObject *engine_block_bytes(PyObject *op, void *Py_UNUSED(closure))
{
    struct call call;

    if (!call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, (int64_t)machine_block_bytes(call.machine));
}

/* ---- the type and the module ---- */

static PyMethodDef life_methods[] = {
    {"reboot", engine_reboot, METH_O,
     "reboot($self, spec, /)\n--\n\n"
     "Reset the machine: it boots again. What waits ends with EINTR, and files that are open answer "
     "ENODEV. One call at a time."},
    {"check", engine_check, METH_NOARGS,
     "check($self, /)\n--\n\n"
     "Count everything again; raise AssertionError naming the first invariant that does not hold."},
    {"close", engine_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "End the machine: every later call raises ValueError."},
    {0},
};

enum { MAX_METHODS = 64 };
static PyMethodDef engine_methods[MAX_METHODS]; /* those of all files; {0} ends them */

static void collect_methods(void)
{
    const PyMethodDef *const tables[] = {file_methods, memory_methods, record_methods,
                                         life_methods};
    size_t nr = 0;

    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const PyMethodDef *method = tables[i]; method->ml_name != NULL; method++)
            if (nr + 1 < MAX_METHODS)
                engine_methods[nr++] = *method;
}

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

    watch_forks();
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
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, collect_methods);
    return PyModuleDef_Init(&module_def);
}

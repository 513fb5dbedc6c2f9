/*
 * _enginemodule.c - the engine as a Python type: fakesysfs._engine.Engine.
 *
 * Owns: turning Python values into plain C ones and back, giving the interpreter's lock (GIL) up around every call,
 * errno -> OSError(errno, reason, path), and how long a machine lives while several threads call it. It is the only file
 * that includes Python.h. Does not own: anything of memory, files or policy (engine/), nor the delivery of events
 * (machine.py). Threads: every method may be called from any thread. No Python object is touched between call_begin()
 * and call_end(). The machine is destroyed by whoever leaves last after close().
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"

enum { LOOK_FOR_SIGNALS_MS = 50, PATH_BYTES = 4096 };

struct module_state {
    PyTypeObject *engine_type;
};

typedef struct {
    PyObject_HEAD
    struct machine *machine;
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
 * Has a signal handler of Python raised? As in os.write() (PEP 475) a handler that returns does not disturb
 * the work. Only the main thread runs handlers, and taking the GIL costs, so it is taken now and then only.
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
 * Give the GIL up for one engine call; path, that of the file in question, may be NULL and belongs to the
 * call from now on. false: an exception is set, and the call must not be made.
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
        .task = {.interrupted = signal_raised, .capable = true, .caller = PyThread_get_thread_ident()},
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
    PyObject *error = PyObject_CallFunction(PyExc_OSError, "iNN", err, why, file); /* its subclass by errno */

    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
}

/*
 * Take the GIL back. A negative result becomes OSError with the engine's reason, or strerror() when it gave
 * none. false: an exception is set.
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

/* ---- converters of arguments, for "O&" ---- */

/* An integer from min to max; negative ones as in two's complement. */
static bool read_number(PyObject *value, int64_t min, uint64_t max, uint64_t *out)
{
    int overflow;

    if (!PyLong_Check(value))
        return PyErr_Format(PyExc_TypeError, "an integer is needed, not %R", value) != NULL;
    int64_t low = PyLong_AsLongLongAndOverflow(value, &overflow);
    bool negative = overflow < 0 || (overflow == 0 && low < 0);
    *out = negative ? (uint64_t)low : PyLong_AsUnsignedLongLong(value);
    bool fits = PyErr_Occurred() == NULL && overflow >= 0 && (negative || *out <= max);
    if (fits && (overflow > 0 || low >= min))
        return true;
    PyErr_Clear();
    return PyErr_Format(PyExc_ValueError, "a number from %lld to %llu is needed, not %R", (long long)min,
                        (unsigned long long)max, value) != NULL;
}

#define CONVERTER(name, type, min, max)                                                                      \
    static int name(PyObject *value, void *out)                                                              \
    {                                                                                                        \
        uint64_t number;                                                                                     \
        if (!read_number(value, min, max, &number))                                                          \
            return 0;                                                                                        \
        *(type *)out = (type)number;                                                                         \
        return 1;                                                                                            \
    }
CONVERTER(to_u64, uint64_t, 0, UINT64_MAX)
CONVERTER(to_u32, uint32_t, 0, UINT32_MAX)
CONVERTER(to_id, uint32_t, -1, UINT32_MAX) /* a uid or gid; -1 leaves it as it is */
CONVERTER(to_int, int, -1, INT32_MAX)      /* a node ...; -1: any, or not known */
CONVERTER(to_errno, int, 0, 4095)

static int to_path(PyObject *value, void *out)
{
    struct path *path = out;

    if (!PyUnicode_FSConverter(value, &path->bytes)) /* value == NULL: gives up what an earlier call made */
        return 0;
    path->name = path->bytes != NULL ? PyBytes_AS_STRING(path->bytes) : NULL;
    return Py_CLEANUP_SUPPORTED;
}

/* ---- the machine spec, a dict: config.MachineConfig.spec() ---- */

enum { SPEC_DMA, SPEC_DMA32, NR_LIMITED_ZONES, NR_SPEC_ZONES = 5 };

struct spec {
    struct machine_config config;
    bool zones[NR_SPEC_ZONES];
    uint64_t zone_limits[NR_LIMITED_ZONES];
    unsigned nr_distances;
    PyObject *keep;   /* list of the objects whose text config points to */
    void *arrays[80]; /* from PyMem_Calloc(): the arrays of config, and the CPUs of each node */
    size_t nr_arrays;
};

#define X(name, ...) #name,
static const char *const feature_names[] = {FAKESYSFS_FEATURES(X)};
static const char *const config_names[] = {FAKESYSFS_CONFIGS(X)};
#undef X
#define X(name, value) value,
static const int64_t config_defaults[] = {FAKESYSFS_CONFIGS(X)};
#undef X
static const char *const zone_names[NR_SPEC_ZONES] = {"DMA", "DMA32", "Normal", "Movable", "Device"};

/* How a value becomes a field of struct spec, or of a struct of which config has an array. */
struct field {
    const char *name;
    enum {
        NUMBER,  /* of `size` bytes, from min to max */
        STRING,
        UNREAD,  /* a string for people */
        NUMBERS, /* a list: pointer to int, and an unsigned, their number */
        ROWS,    /* a list of tuples like `row`: pointer to structs of `size` bytes, a size_t, their number */
        SQUARE,  /* a list of n lists of n numbers: pointer to int, and an unsigned, n */
        NAMED,   /* a list of names: an array of bool */
        VALUES,  /* a dict of names and numbers: an array of 64 bits each */
    } type;
    size_t offset, count, size;
    int64_t min;
    uint64_t max;
    const struct field *row;
    const char *const *names;
    size_t nr_names;
};
#define PLACE(base, member) .name = #member, .offset = offsetof(struct base, member)
#define WHOLE(base, member, low, high)                                                                       \
    {PLACE(base, member), .type = NUMBER, .size = sizeof ((struct base *)0)->member, .min = low, .max = high}
#define U64(base, member) WHOLE(base, member, 0, UINT64_MAX)
#define U32(base, member) WHOLE(base, member, 0, UINT32_MAX)
#define INT(base, member) WHOLE(base, member, -1, INT32_MAX)
#define NID(base, least) WHOLE(base, nid, least, 63)
#define TEXT(base, member) {PLACE(base, member), .type = STRING}
#define END {.name = NULL}

static const struct field memory_row[] = {U64(boot_range, start), U64(boot_range, end), NID(boot_range, 0), END};
static const struct field reserved_row[] = {
    U64(boot_range, start), U64(boot_range, end), {.name = "what", .type = UNREAD}, END};
static const struct field resource_row[] = {
    U64(boot_resource, start), U64(boot_resource, end), TEXT(boot_resource, name), U32(boot_resource, flags),
    U32(boot_resource, depth), END};
static const struct field firmware_row[] = {
    U64(boot_firmware, start), U64(boot_firmware, end), TEXT(boot_firmware, type), END};
static const struct field node_row[] = {
    NID(boot_node, 0), {PLACE(boot_node, cpus), .type = NUMBERS, .count = offsetof(struct boot_node, nr_cpus)}, END};
static const struct field load_row[] = {TEXT(boot_load, kind), U64(boot_load, bytes), NID(boot_load, -1), END};
static const struct field block_row[] = {
    U64(boot_block, id), TEXT(boot_block, state), TEXT(boot_block, zone), NID(boot_block, -1),
    INT(boot_block, phys_device), INT(boot_block, removable), INT(boot_block, linked), END};
static const struct field span_row[] = {
    U64(boot_span, start), U64(boot_span, end), NID(boot_span, 0), TEXT(boot_span, zone), END};

#define OFFSET(member) offsetof(struct spec, config.member)
#define SIZE(member) sizeof ((struct machine_config *)0)->member
#define RANGE(member, low, high)                                                                             \
    {.name = #member, .type = NUMBER, .offset = OFFSET(member), .size = SIZE(member), .min = low, .max = high}
#define WORD(member) {.name = #member, .type = STRING, .offset = OFFSET(member)}
#define TABLE(key, member, row_)                                                                             \
    {.name = key, .type = ROWS, .offset = OFFSET(member), .count = OFFSET(nr_##member), .row = row_,         \
     .size = sizeof *((struct machine_config *)0)->member}
#define SET(key, type_, place, names_)                                                                       \
    {.name = key, .type = type_, .offset = offsetof(struct spec, place), .names = names_,                    \
     .nr_names = Py_ARRAY_LENGTH(((struct spec *)0)->place)}

static const struct field spec_fields[] = {
    SET("features", NAMED, config.features, feature_names), SET("zones", NAMED, zones, zone_names),
    SET("config", VALUES, config.config, config_names), SET("zone_limits", VALUES, zone_limits, zone_names),
    RANGE(page_shift, 12, 16), RANGE(section_shift, 20, 40), RANGE(max_order, 1, 13), RANGE(pageblock_order, 1, 13),
    RANGE(max_phys_bits, 32, 63), RANGE(iomem_bits, 32, 63), RANGE(block_bytes, 1 << 20, UINT64_C(1) << 46),
    {.name = "distances", .type = SQUARE, .offset = OFFSET(distances), .count = offsetof(struct spec, nr_distances)},
    TABLE("resources", resources, resource_row), TABLE("memory", memory, memory_row),
    TABLE("reserved", reserved, reserved_row), TABLE("firmware_memmap", firmware, firmware_row),
    TABLE("nodes", nodes, node_row), TABLE("hotplug_nids", hotplug_nids, memory_row),
    TABLE("standby", standby, memory_row), TABLE("workload", load, load_row),
    TABLE("blocks", blocks, block_row), TABLE("zone_spans", zone_spans, span_row),
    RANGE(possible_nodes, 1, 64), WORD(release), WORD(memhp_default_state), WORD(online_policy),
    RANGE(seed, 0, UINT64_MAX), RANGE(kernelcore, 0, UINT64_MAX), RANGE(movablecore, 0, UINT64_MAX),
    RANGE(mem_limit, 0, UINT64_MAX),
    {.name = "swap", .type = NUMBER, .offset = OFFSET(swap_bytes), .size = 8, .max = UINT64_MAX},
    RANGE(kernelcore_percent, 0, 100), RANGE(movablecore_percent, 0, 100), RANGE(memmap_on_memory, 0, 2),
    RANGE(struct_page_bytes, 1, 4096), RANGE(auto_movable_ratio, 0, UINT32_MAX), RANGE(aged, 0, UINT32_MAX),
    RANGE(acpi_slots, 0, 256),
    RANGE(has_phys_device, 0, 1), RANGE(not_x86, 0, 1), RANGE(movable_node, 0, 1), RANGE(auto_movable_numa_aware, 0, 1),
};
enum { NR_SPEC_FIELDS = Py_ARRAY_LENGTH(spec_fields) };

/* Say of the exception that is set where in the spec it arose; outer places are put before inner ones. */
static bool spec_error(const char *format, ...)
{
    PyObject *type, *value, *traceback;
    va_list args;

    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError))
        return false; /* no memory */
    bool wrong_type = PyErr_ExceptionMatches(PyExc_TypeError);
    PyErr_Fetch(&type, &value, &traceback);
    va_start(args, format);
    PyObject *where = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (where != NULL)
        PyErr_Format(wrong_type ? PyExc_TypeError : PyExc_ValueError, "%U%S", where, value);
    Py_XDECREF(where);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return false;
}

/* A list, tuple or dict (its items) as a tuple of our own that nobody changes; lives as long as the spec. */
static PyObject *spec_tuple(struct spec *spec, PyObject *value, bool dict)
{
    if (dict ? !PyDict_Check(value) : !PyList_Check(value) && !PyTuple_Check(value))
        return PyErr_Format(PyExc_TypeError, "a %s is needed, not %R", dict ? "dict" : "list", value);
    PyObject *list = dict ? PyDict_Items(value) : Py_NewRef(value);
    PyObject *tuple = list != NULL ? PySequence_Tuple(list) : NULL;
    if (tuple != NULL && PyList_Append(spec->keep, tuple) != 0)
        Py_CLEAR(tuple);
    Py_XDECREF(list);
    Py_XDECREF(tuple); /* `keep` has a reference */
    return tuple;
}

static void *spec_array(struct spec *spec, size_t nr, size_t size)
{
    if (spec->nr_arrays == Py_ARRAY_LENGTH(spec->arrays))
        return PyErr_Format(PyExc_ValueError, "there are too many");
    void *array = PyMem_Calloc(nr != 0 ? nr : 1, size);
    return array != NULL ? spec->arrays[spec->nr_arrays++] = array : PyErr_NoMemory();
}

/* Index of a str object in a list of names, or -1 with an exception. */
static int name_index(PyObject *name, const char *const *names, size_t nr)
{
    for (size_t i = 0; PyUnicode_Check(name) && i < nr; i++)
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return (int)i;
    PyErr_Format(PyUnicode_Check(name) ? PyExc_ValueError : PyExc_TypeError, "there is no %R", name);
    return -1;
}

static bool read_field(struct spec *spec, const struct field *field, PyObject *value, char *base);

static bool read_row(struct spec *spec, const struct field *row, PyObject *value, char *base)
{
    PyObject *items = spec_tuple(spec, value, false);
    Py_ssize_t nr = 0;

    while (row[nr].name != NULL)
        nr++;
    if (items != NULL && PyTuple_GET_SIZE(items) != nr)
        items = PyErr_Format(PyExc_ValueError, "%zd values are needed, not %R", nr, value);
    if (items == NULL)
        return spec_error(": ");
    for (Py_ssize_t i = 0; i < nr; i++)
        if (!read_field(spec, &row[i], PyTuple_GET_ITEM(items, i), base))
            return spec_error(".");
    return true;
}

/* Element i of an array of nr: a row, a number, or nr numbers of the square. */
static bool read_element(struct spec *spec, const struct field *field, PyObject *item, void *array, size_t i,
                         size_t nr)
{
    if (field->type == ROWS)
        return read_row(spec, field->row, item, (char *)array + i * field->size);
    if (field->type == NUMBERS)
        return to_int(item, (int *)array + i) || spec_error(": ");
    PyObject *line = spec_tuple(spec, item, false);
    if (line != NULL && (size_t)PyTuple_GET_SIZE(line) != nr)
        line = PyErr_Format(PyExc_ValueError, "%zu numbers are needed, not %R", nr, item);
    for (size_t j = 0; line != NULL && j < nr; j++)
        if (!to_int(PyTuple_GET_ITEM(line, (Py_ssize_t)j), (int *)array + i * nr + j))
            line = NULL;
    return line != NULL || spec_error(": ");
}

static bool read_array(struct spec *spec, const struct field *field, PyObject *value, char *base)
{
    PyObject *items = spec_tuple(spec, value, false);
    size_t nr = items != NULL ? (size_t)PyTuple_GET_SIZE(items) : 0;
    size_t size = field->type == ROWS ? field->size : field->type == SQUARE ? nr * sizeof(int) : sizeof(int);
    void *array = items != NULL ? spec_array(spec, nr, size) : NULL;

    if (array == NULL)
        return spec_error(": ");
    for (size_t i = 0; i < nr; i++)
        if (!read_element(spec, field, PyTuple_GET_ITEM(items, (Py_ssize_t)i), array, i, nr))
            return spec_error("[%zu]", i);
    memcpy(base + field->offset, &array, sizeof array); /* into a pointer of another type */
    if (field->type == ROWS)
        memcpy(base + field->count, &nr, sizeof nr);
    else
        *(unsigned *)(void *)(base + field->count) = (unsigned)nr;
    return true;
}

/* A list of names, or a dict of names and numbers. */
static bool read_names(struct spec *spec, const struct field *field, PyObject *value, char *base)
{
    bool dict = field->type == VALUES;
    PyObject *items = spec_tuple(spec, value, dict);

    for (Py_ssize_t i = 0; items != NULL && i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        int index = name_index(dict ? PyTuple_GET_ITEM(item, 0) : item, field->names, field->nr_names);
        if (index < 0)
            return spec_error(": ");
        if (!dict)
            ((bool *)(void *)(base + field->offset))[index] = true;
        else if (!to_u64(PyTuple_GET_ITEM(item, 1), (uint64_t *)(void *)(base + field->offset) + index))
            return spec_error("[%s]: ", field->names[index]);
    }
    return items != NULL || spec_error(": ");
}

static bool read_scalar(struct spec *spec, const struct field *field, PyObject *value, void *out)
{
    const char *unread;
    uint64_t number;

    if (field->type != NUMBER)
        return PyArg_Parse(value, "s", field->type == UNREAD ? &unread : out) &&
               PyList_Append(spec->keep, value) == 0;
    if (!read_number(value, field->min, field->max, &number))
        return false;
    if (field->size == sizeof(uint64_t))
        *(uint64_t *)out = number;
    else if (field->size == sizeof(uint32_t))
        *(uint32_t *)out = (uint32_t)number;
    else
        *(bool *)out = number != 0;
    return true;
}

static bool read_field(struct spec *spec, const struct field *field, PyObject *value, char *base)
{
    bool ok;

    if (field->type == ROWS || field->type == NUMBERS || field->type == SQUARE)
        ok = read_array(spec, field, value, base);
    else if (field->type == NAMED || field->type == VALUES)
        ok = read_names(spec, field, value, base);
    else
        ok = read_scalar(spec, field, value, base + field->offset) || spec_error(": ");
    return ok || spec_error("%s", field->name);
}

static bool spec_read(struct spec *spec, PyObject *dict)
{
    const char *names[NR_SPEC_FIELDS];
    bool seen[NR_SPEC_FIELDS] = {false};

    for (size_t i = 0; i < NR_SPEC_FIELDS; i++)
        names[i] = spec_fields[i].name;
    PyObject *items = spec_tuple(spec, dict, true);
    if (items == NULL)
        return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        int key = name_index(PyTuple_GET_ITEM(item, 0), names, NR_SPEC_FIELDS);
        if (key < 0 || !read_field(spec, &spec_fields[key], PyTuple_GET_ITEM(item, 1), (char *)spec))
            return false;
        seen[key] = true;
    }
    for (size_t i = 0; i < NR_SPEC_FIELDS; i++)
        if (!seen[i])
            return PyErr_Format(PyExc_ValueError, "%s is missing", names[i]) != NULL;
    spec->config.zone_dma = spec->zones[SPEC_DMA];
    spec->config.zone_dma32 = spec->zones[SPEC_DMA32];
    spec->config.dma_end = spec->zone_limits[SPEC_DMA];
    spec->config.dma32_end = spec->zone_limits[SPEC_DMA32];
    return true;
}

/* What no single key can tell: the engine divides by these and indexes with them. */
static bool spec_fits(const struct spec *spec)
{
    const struct machine_config *config = &spec->config;
    const char *wrong = NULL;

    if (config->section_shift < config->page_shift + config->max_order)
        wrong = "section_shift: a section is smaller than the largest chunk of the buddy";
    if (config->pageblock_order > config->max_order)
        wrong = "pageblock_order: a pageblock is larger than the largest chunk of the buddy";
    if (config->block_bytes % (UINT64_C(1) << config->section_shift) != 0)
        wrong = "block_bytes: not whole sections";
    if (spec->nr_distances != config->possible_nodes)
        wrong = "distances: not a table of possible_nodes x possible_nodes";
    return wrong == NULL || PyErr_Format(PyExc_ValueError, "%s", wrong) != NULL;
}

/* ---- life and death ---- */

static int engine_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    EngineObject *self = (EngineObject *)op;
    static char *keywords[] = {"spec", NULL};
    struct task task = {.capable = true};
    struct spec spec = {.keep = PyList_New(0)};
    PyObject *dict;

    if (spec.keep == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:Engine", keywords, &dict)) {
        Py_XDECREF(spec.keep);
        return -1;
    }
    memcpy(spec.config.config, config_defaults, sizeof config_defaults);
    if (!spec_read(&spec, dict) || !spec_fits(&spec)) {
        spec_error("machine spec: ");
    } else if (atomic_exchange(&self->made, true)) {
        PyErr_SetString(PyExc_RuntimeError, "the machine was made already");
    } else {
        Py_BEGIN_ALLOW_THREADS
        self->machine = machine_create(&spec.config, &task);
        Py_END_ALLOW_THREADS
        atomic_store(&self->users, self->machine != NULL);
        if (self->machine == NULL)
            PyErr_Format(PyExc_ValueError, "machine spec: %s", task.reason);
    }
    for (size_t i = 0; i < spec.nr_arrays; i++)
        PyMem_Free(spec.arrays[i]);
    Py_DECREF(spec.keep);
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
    return Py_BuildValue("(IKKIIKL)", st->mode, BIG(st->ino), BIG(st->nlink), st->uid, st->gid, BIG(st->size),
                         (long long)st->mtime_ns);
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
        list_put(&list, i, Py_BuildValue("(KKzziKKKK)", BIG(b->id), BIG(b->start), b->state, b->zone, b->nid, BIG(b->free_pages),
                                         BIG(b->present_pages), BIG(b->movable_pages), BIG(b->unmovable_pages)));
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
    static const char *const kinds[] = {[EVENT_UEVENT] = "uevent", [EVENT_STORE] = "store", [EVENT_STATE] = "state",
                                        [EVENT_OST] = "ost", [EVENT_PAGE] = "page", [EVENT_FAULT] = "fault"};
    PyObject *list = PyList_New((Py_ssize_t)nr);

    for (size_t i = 0; i < nr; i++) {
        const struct event *e = &events[i];
        if (list != NULL)
            list_put(&list, i, Py_BuildValue("(KKsNNiNK)", BIG(e->seq), BIG(e->time_us), kinds[e->kind],
                                             text_object(e->path, strlen(e->path)), text_object(e->data, strlen(e->data)),
                                             -e->err, payload_object(e->payload), BIG(e->caller)));
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
    return Py_BuildValue("{sK sK sI sz sz si sz sz sI sN sN sK}", "pfn", BIG(page->pfn), "head_pfn", BIG(page->head_pfn),
                         "order", page->order, "kind", page->kind, "zone", page->zone, "nid", page->nid, "migratetype",
                         page->migratetype, "section_state", page->section_state, "pins", page->pins, "online",
                         PyBool_FromLong(page->online), "poisoned", PyBool_FromLong(page->poisoned), "block_id",
                         BIG(page->block_id));
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
 * METHOD(name, variables, how arguments are read into them, path or NULL, the call, what to return). In the
 * call, M is the machine and T the task; `result` is what it gave. What each does and raises: _engine.pyi.
 */
#define ARGS(...) __VA_ARGS__
#define METHOD(name, variables, arguments, path_, expression, object)                                        \
    static PyObject *engine_##name(PyObject *op, PyObject *args)                                             \
    {                                                                                                        \
        struct call call;                                                                                    \
        variables;                                                                                           \
        if (!PyArg_ParseTuple(args, arguments) || !call_begin(&call, op, path_))                             \
            return NULL;                                                                                     \
        int64_t result = expression;                                                                         \
        return call_end(&call, result) ? object : NULL;                                                      \
    }

#define M call.machine
#define T &call.task
#define NONE Py_NewRef(Py_None)
#define INTEGER PyLong_FromLongLong(result)

METHOD(stat, struct path path; struct file_stat st, ARGS("O&:stat", to_path, &path), &path,
       file_stat(M, T, path.name, &st), stat_object(&st))
METHOD(fstat, long long handle; struct file_stat st, ARGS("L:fstat", &handle), NULL,
       file_fstat(M, T, handle, &st), stat_object(&st))
METHOD(readlink, struct path path; char target[PATH_BYTES] = "", ARGS("O&:readlink", to_path, &path), &path,
       file_readlink(M, T, path.name, target, sizeof target), PyUnicode_DecodeFSDefault(target))
METHOD(readdir, struct path path; struct dirent_out *list = NULL; uint64_t interrupted = 0,
       ARGS("O&|O&:readdir", to_path, &path, to_u64, &interrupted), &path,
       file_readdir(M, ask(T, interrupted), path.name, &list), entries_object(list, (size_t)result))
METHOD(open, struct path path; int flags; uint64_t interrupted = 0,
       ARGS("O&i|O&:open", to_path, &path, &flags, to_u64, &interrupted), &path,
       file_open(M, ask(T, interrupted), path.name, flags), INTEGER)
METHOD(write, long long handle; const char *data; Py_ssize_t size; uint64_t interrupted = 0,
       ARGS("Ly#|O&:write", &handle, &data, &size, to_u64, &interrupted), NULL,
       file_write(M, ask(T, interrupted), handle, data, (size_t)size), INTEGER)
METHOD(release, long long handle, ARGS("L:release", &handle), NULL, file_release(M, handle), NONE)
METHOD(truncate, struct path path; uint64_t size, ARGS("O&O&:truncate", to_path, &path, to_u64, &size), &path,
       file_truncate(M, T, path.name, size), NONE)
METHOD(chmod, struct path path; uint32_t mode, ARGS("O&O&:chmod", to_path, &path, to_u32, &mode), &path,
       file_chmod(M, T, path.name, mode), NONE)
METHOD(chown, struct path path; uint32_t uid; uint32_t gid,
       ARGS("O&O&O&:chown", to_path, &path, to_id, &uid, to_id, &gid), &path,
       file_chown(M, T, path.name, uid, gid), NONE)
METHOD(utimens, struct path path; long long mtime_ns, ARGS("O&L:utimens", to_path, &path, &mtime_ns), &path,
       file_utimens(M, T, path.name, mtime_ns), NONE)
METHOD(change, const char *what; struct path path, ARGS("sO&:change", &what, to_path, &path), &path,
       file_change(M, T, what, path.name), NONE)
METHOD(add_file, struct path path; const char *data; Py_ssize_t size; uint32_t mode = 0444,
       ARGS("O&y#|O&:add_file", to_path, &path, &data, &size, to_u32, &mode), &path,
       file_add(M, T, path.name, data, (size_t)size, mode), NONE)

METHOD(add_memory, int nid; uint64_t start; uint64_t size,
       ARGS("iO&O&:add_memory", &nid, to_u64, &start, to_u64, &size), NULL, memory_add(M, T, nid, start, size), NONE)
METHOD(remove_memory, uint64_t start; uint64_t size, ARGS("O&O&:remove_memory", to_u64, &start, to_u64, &size), NULL,
       memory_remove(M, T, start, size), NONE)
METHOD(acpi_device_check, uint32_t slot; int nid; uint64_t start; uint64_t size,
       ARGS("O&iO&O&:acpi_device_check", to_u32, &slot, &nid, to_u64, &start, to_u64, &size), NULL,
       acpi_device_check(M, T, slot, nid, start, size), INTEGER)
METHOD(acpi_eject_request, uint32_t slot, ARGS("O&:acpi_eject_request", to_u32, &slot), NULL,
       acpi_eject_request(M, T, slot), INTEGER)
METHOD(allocate_pages, const char *kind; uint64_t nr_pages; int order = -1; const char *zone = NULL;
       int nid = -1; long long block = -1,
       ARGS("sO&|iziL:allocate_pages", &kind, to_u64, &nr_pages, &order, &zone, &nid, &block), NULL,
       load_allocate(M, T, kind, nr_pages, order, zone, nid, block), INTEGER)
METHOD(free_pages, const char *kind; uint64_t nr_pages; int nid = -1,
       ARGS("sO&|i:free_pages", &kind, to_u64, &nr_pages, &nid), NULL, load_free(M, T, kind, nr_pages, nid), INTEGER)
METHOD(pin, uint64_t pfn; int delta = 1, ARGS("O&|i:pin", to_u64, &pfn, &delta), NULL,
       page_pin(M, T, pfn, delta), NONE)
METHOD(free_page, uint64_t pfn, ARGS("O&:free_page", to_u64, &pfn), NULL, page_free_at(M, T, pfn), NONE)
METHOD(page, uint64_t pfn; struct page_info page = {0}, ARGS("O&:page", to_u64, &pfn), NULL,
       page_describe(M, T, pfn, &page), page_object(&page))
METHOD(blocks, struct block_info *blocks = NULL, ":blocks", NULL, (int64_t)blocks_snapshot(M, &blocks),
       blocks_object(blocks, (size_t)result))

METHOD(take_events, struct event *events = NULL, ":take_events", NULL, (int64_t)events_take(M, &events),
       events_object(events, (size_t)result))
METHOD(klog, uint64_t start = 0; char *text = NULL; size_t size = 0, ARGS("|O&:klog", to_u64, &start), NULL,
       (text = klog_text(M, start, &size), 0), long_text_object(text, size))
METHOD(trace, char *text = NULL; size_t size = 0, ":trace", NULL, (text = trace_text(M, &size), 0),
       long_text_object(text, size))
METHOD(trace_clear, , ":trace_clear", NULL, (trace_clear(M), 0), NONE)
METHOD(check, int broken = 0, ":check", NULL, (broken = machine_check(M, T), 0),
       broken < 0 ? PyErr_Format(PyExc_AssertionError, "%s", call.task.reason) : NONE)
METHOD(fault_set, const char *point; int err; uint64_t nth = 1; uint64_t times = 1,
       ARGS("sO&|O&O&:fault_set", &point, to_errno, &err, to_u64, &nth, to_u64, &times), NULL,
       fault_set(M, T, point, -err, nth, times), NONE)
METHOD(fault_hits, const char *name, ARGS("s:fault_hits", &name), NULL, (int64_t)fault_hits(M, name), INTEGER)
METHOD(fault_clear, , ":fault_clear", NULL, (fault_clear(M), 0), NONE)
METHOD(fault_rule_add, const char *text, ARGS("s:fault_rule_add", &text), NULL, rule_add(M, T, text), INTEGER)
METHOD(fault_rule_clear, uint64_t n = 0, ARGS("|O&:fault_rule_clear", to_u64, &n), NULL, rule_clear(M, T, n), NONE)
METHOD(rules_text, char *text = NULL; size_t size = 0, ":rules_text", NULL, (text = rules_text(M, &size), 0),
       long_text_object(text, size))
METHOD(uevent_fault, const char *action; const char *devpath; const char *effect = NULL; uint64_t delay_us,
       ARGS("ss:uevent_fault", &action, &devpath), NULL,
       (effect = uevent_fault(M, action, devpath, &delay_us), 0), Py_BuildValue("(sK)", effect, BIG(delay_us)))
METHOD(poll, long long handle, ARGS("L:poll", &handle), NULL, file_poll(M, handle), INTEGER)
METHOD(fuse_ops, uint64_t interrupted = 0; uint64_t forget = 0,
       ARGS("|O&O&:fuse_ops", to_u64, &interrupted, to_u64, &forget), NULL,
       (atomic_store(&mounted, M), fuse_ops_mount(M, interrupted, forget), 0), fuse_ops_object())

static PyObject *engine_read(PyObject *op, PyObject *args)
{
    long long handle;
    Py_ssize_t size;
    uint64_t offset, interrupted = 0;
    struct call call;

    if (!PyArg_ParseTuple(args, "LnO&|O&:read", &handle, &size, to_u64, &offset, to_u64, &interrupted))
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size > 0 ? size : 0);
    char *buf = bytes != NULL ? PyBytes_AS_STRING(bytes) : NULL;
    if (bytes == NULL || !call_begin(&call, op, NULL)) {
        Py_XDECREF(bytes);
        return NULL;
    }
    int64_t got = file_read(M, ask(T, interrupted), handle, buf, (size_t)(size > 0 ? size : 0), offset);
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
#define ENTRY(name, flags, signature, summary)                                                               \
    {#name, engine_##name, flags, #name "(" signature ")\n--\n\n" summary}
#define NIL(name, summary) ENTRY(name, METH_VARARGS, "$self, /", summary)
#define ANY(name, signature, summary) ENTRY(name, METH_VARARGS, "$self, " signature ", /", summary)

static PyMethodDef engine_methods[] = {
    ANY(stat, "path", "Return (st_mode, st_ino, st_nlink, st_uid, st_gid, st_size, mtime_ns) of a file."),
    ANY(fstat, "handle", "Return what stat() does, of an open file."),
    ANY(readlink, "path", "Return the target of a link."),
    ANY(readdir, "path, interrupted=0", "Return a list of (name, st_ino, st_mode) in the kernel's order."),
    ANY(open, "path, flags, interrupted=0", "Open a file and return its handle, for release()."),
    ANY(read, "handle, size, offset, interrupted=0", "Return up to size bytes of an open file from offset on."),
    ANY(write, "handle, data, interrupted=0", "Store data with one write(2); return how much was taken."),
    ANY(release, "handle", "Close an open file."),
    ANY(truncate, "path, size", "Do what truncate(2) does to an attribute: nothing."),
    ANY(chmod, "path, mode", "Set the permission bits of a file."),
    ANY(chown, "path, uid, gid", "Set owner and group of a file; -1 leaves one as it is."),
    ANY(utimens, "path, mtime_ns", "Set the time of the last change, in nanoseconds since 1970."),
    ANY(change, "op, path", "Raise the OSError with which sysfs refuses to change its tree."),
    ANY(add_file, "path, data, mode=0o444", "Put a file of your own into the tree."),
    ANY(add_memory, "nid, start, size", "Hot-add memory, as the kernel's __add_memory() does."),
    ANY(remove_memory, "start, size", "Remove memory whose blocks are offline."),
    ANY(acpi_device_check, "slot, nid, start, size", "Let the guest handle a device check; return its _OST."),
    ANY(acpi_eject_request, "slot", "Let the guest handle an eject request; return its _OST."),
    ANY(allocate_pages, "kind, nr_pages, order=-1, zone=None, nid=-1, block=-1",
        "Let something use memory; return how many pages it got."),
    ANY(free_pages, "kind, nr_pages, nid=-1", "Give back pages of a kind; return how many."),
    ANY(pin, "pfn, delta=1", "Add references to the folio of a page: while it has any, it cannot migrate."),
    ANY(free_page, "pfn", "Give back the folio that holds a page."),
    ANY(page, "pfn", "Describe a page, as a dict."),
    NIL(blocks, "Describe all memory blocks, as a list of tuples."),
    NIL(take_events, "Return the events recorded since the last call, as a list of tuples."),
    ANY(klog, "start=0", "Return the kernel log from line `start` on: time in us, tab, text."),
    NIL(trace, "Return the call graph of the last operations, as the function_graph tracer prints it."),
    NIL(trace_clear, "Forget the trace."),
    NIL(check, "Count everything again; raise AssertionError naming the first invariant that does not hold."),
    ANY(fault_set, "point, errno, nth=1, times=1", "Let a named point fail."),
    NIL(fault_clear, "Disarm every point."),
    ANY(fault_hits, "point", "Return how often a point was passed."),
    ENTRY(fault_points, METH_NOARGS | METH_STATIC, "", "Return the names of all points that can fail."),
    ANY(fault_rule_add, "rule", "Let accesses to files fail or take long, or uevents go astray; return its number."),
    ANY(fault_rule_clear, "number=0", "Forget a fault rule, or all, and end the waits by it."),
    NIL(rules_text, "Return all fault rules: per line number, matched, fired, waiting, text."),
    ANY(uevent_fault, "action, devpath", "Say what is to happen to a uevent on its way."),
    ANY(poll, "handle", "Return the POLL* bits that hold for an open file."),
    ANY(fuse_ops, "interrupted=0, forget_poll=0", "Serve this machine to the native FUSE operations; return their addresses."),
    ENTRY(close, METH_NOARGS, "$self, /", "End the machine: every later call raises ValueError."),
    {0},
};

static PyGetSetDef engine_getset[] = {
    {"block_bytes", engine_block_bytes, NULL, "Size of a memory block, in bytes.", NULL},
    {0},
};

PyDoc_STRVAR(engine_doc, "Engine(spec)\n--\n\nA machine as config.MachineConfig.spec() describes it.");

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
    {"features", module_features, METH_NOARGS, "features()\n--\n\nReturn the names in which kernels differ."},
    {"configs", module_configs, METH_NOARGS, "configs()\n--\n\nReturn the names of kernel configuration."},
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

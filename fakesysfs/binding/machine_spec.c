/*
 * machine_spec.c - what a machine is made from, as the engine's module takes it from Python:
 * numbers, and the machine spec.
 *
 * Owns: how a dict, which config.MachineConfig.spec() made, becomes a struct machine_config, and
 * what is said of a key that is missing, unknown or has a wrong value. Does not own: which machines
 * people may ask for (machine_config.py), the type Engine (engine_module.c). All of it is called
 * with the GIL.
 */
#include "binding/machine_spec.h"

/* ---- numbers ---- */

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
    return PyErr_Format(PyExc_ValueError, "a number from %lld to %llu is needed, not %R",
                        (long long)min, (unsigned long long)max, value) != NULL;
}

#define CONVERTER(name, type, min, max)             \
    int name(PyObject *value, void *out)            \
    {                                               \
        uint64_t number;                            \
        if (!read_number(value, min, max, &number)) \
            return 0;                               \
        *(type *)out = (type)number;                \
        return 1;                                   \
    }
CONVERTER(to_u64, uint64_t, 0, UINT64_MAX)
CONVERTER(to_u32, uint32_t, 0, UINT32_MAX)
CONVERTER(to_id, uint32_t, -1, UINT32_MAX) /* a uid or gid; -1 leaves it as it is */
CONVERTER(to_int, int, -1, INT32_MAX)      /* a node ...; -1: any, or not known */
CONVERTER(to_errno, int, 0, 4095)

/* ---- the machine spec, a dict: config.MachineConfig.spec() ---- */

#define X(name, ...) #name,
const char *const feature_names[] = {FAKESYSFS_FEATURES(X)};
const char *const config_names[] = {FAKESYSFS_CONFIGS(X)};
#undef X
#define X(name, value) value,
static const int64_t config_defaults[] = {FAKESYSFS_CONFIGS(X)};
#undef X
#define X(name, word) word,
static const char *const zone_names[NR_SPEC_ZONES] = {FAKESYSFS_ZONES(X)};
#undef X

/* How a value becomes a field of struct spec, or of a struct of which config has an array. */
struct field {
    const char *name;
    enum {
        NUMBER, /* of `size` bytes, from min to max */
        STRING,
        UNREAD,  /* a string for people */
        NUMBERS, /* a list: pointer to int, and an unsigned, their number */
        ROWS,    /* a list of tuples like `row`: pointer to structs of `size` bytes, a size_t, their
                    number */
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
#define WHOLE(base, member, low, high)                                                          \
    {PLACE(base, member), .type = NUMBER, .size = sizeof((struct base *)0)->member, .min = low, \
     .max = high}
#define U64(base, member) WHOLE(base, member, 0, UINT64_MAX)
#define U32(base, member) WHOLE(base, member, 0, UINT32_MAX)
#define INT(base, member) WHOLE(base, member, -1, INT32_MAX)
#define NID(base, least) WHOLE(base, nid, least, 63)
#define TEXT(base, member) {PLACE(base, member), .type = STRING}
#define END {.name = NULL}

static const struct field memory_row[] = {U64(boot_range, start), U64(boot_range, end),
                                          NID(boot_range, 0), END};
static const struct field reserved_row[] = {
    U64(boot_range, start), U64(boot_range, end), {.name = "what", .type = UNREAD}, END};
static const struct field resource_row[] = {U64(boot_resource, start), U64(boot_resource, end),
                                            TEXT(boot_resource, name), U32(boot_resource, flags),
                                            U32(boot_resource, depth), END};
static const struct field firmware_row[] = {U64(boot_firmware, start), U64(boot_firmware, end),
                                            TEXT(boot_firmware, type), END};
static const struct field node_row[] = {
    NID(boot_node, 0),
    {PLACE(boot_node, cpus), .type = NUMBERS, .count = offsetof(struct boot_node, nr_cpus)},
    END};
static const struct field load_row[] = {TEXT(boot_load, kind), U64(boot_load, bytes),
                                        NID(boot_load, -1), END};
static const struct field use_row[] = {TEXT(boot_use, kind), U64(boot_use, amount), END};
static const struct field block_row[] = {U64(boot_block, id),          TEXT(boot_block, state),
                                         TEXT(boot_block, zone),       NID(boot_block, -1),
                                         INT(boot_block, phys_device), INT(boot_block, removable),
                                         INT(boot_block, linked),      END};
static const struct field span_row[] = {U64(boot_span, start), U64(boot_span, end),
                                        NID(boot_span, 0), TEXT(boot_span, zone), END};

#define OFFSET(member) offsetof(struct spec, config.member)
#define SIZE(member) sizeof((struct machine_config *)0)->member
#define RANGE(member, low, high) \
    {.name = #member,            \
     .type = NUMBER,             \
     .offset = OFFSET(member),   \
     .size = SIZE(member),       \
     .min = low,                 \
     .max = high}
#define WORD(member) {.name = #member, .type = STRING, .offset = OFFSET(member)}
#define TABLE(key, member, row_)   \
    {.name = key,                  \
     .type = ROWS,                 \
     .offset = OFFSET(member),     \
     .count = OFFSET(nr_##member), \
     .row = row_,                  \
     .size = sizeof *((struct machine_config *)0)->member}
#define SET(key, type_, place, names_)       \
    {.name = key,                            \
     .type = type_,                          \
     .offset = offsetof(struct spec, place), \
     .names = names_,                        \
     .nr_names = Py_ARRAY_LENGTH(((struct spec *)0)->place)}

static const struct field spec_fields[] = {
    SET("features", NAMED, config.features, feature_names),
    SET("zones", NAMED, zones, zone_names),
    SET("config", VALUES, config.config, config_names),
    SET("zone_limits", VALUES, zone_limits, zone_names),
    RANGE(page_shift, 12, 16),
    RANGE(section_shift, 20, 40),
    RANGE(max_order, 1, 13),
    RANGE(pageblock_order, 1, 13),
    RANGE(max_phys_bits, 32, 63),
    RANGE(iomem_bits, 32, 63),
    RANGE(block_bytes, 1 << 20, UINT64_C(1) << 46),
    {.name = "distances",
     .type = SQUARE,
     .offset = OFFSET(distances),
     .count = offsetof(struct spec, nr_distances)},
    TABLE("resources", resources, resource_row),
    TABLE("memory", memory, memory_row),
    TABLE("reserved", reserved, reserved_row),
    TABLE("firmware_memmap", firmware, firmware_row),
    TABLE("nodes", nodes, node_row),
    TABLE("hotplug_nids", hotplug_nids, memory_row),
    TABLE("standby", standby, memory_row),
    TABLE("workload", load, load_row),
    TABLE("first_use", first_use, use_row),
    TABLE("idle", idle, use_row),
    TABLE("blocks", blocks, block_row),
    TABLE("zone_spans", zone_spans, span_row),
    RANGE(possible_nodes, 1, 64),
    WORD(release),
    WORD(cmdline),
    WORD(callgraphs),
    WORD(memhp_default_state),
    WORD(online_policy),
    RANGE(seed, 0, UINT64_MAX),
    RANGE(kernelcore, 0, UINT64_MAX),
    RANGE(movablecore, 0, UINT64_MAX),
    RANGE(mem_limit, 0, UINT64_MAX),
    {.name = "swap", .type = NUMBER, .offset = OFFSET(swap_bytes), .size = 8, .max = UINT64_MAX},
    RANGE(kernelcore_percent, 0, 100),
    RANGE(movablecore_percent, 0, 100),
    RANGE(memmap_on_memory, 0, 2),
    RANGE(struct_page_bytes, 1, 4096),
    RANGE(auto_movable_ratio, 0, UINT32_MAX),
    RANGE(aged, 0, UINT32_MAX),
    RANGE(percpu_kb, 0, UINT32_MAX),
    RANGE(vmalloc_kb, 0, UINT32_MAX),
    RANGE(direct_map_4k_kb, 0, UINT32_MAX),
    RANGE(acpi_slots, 0, 256),
    RANGE(increment_bytes, 0, UINT64_C(1) << 46),
    RANGE(not_x86, 0, 1),
    RANGE(movable_node, 0, 1),
    RANGE(auto_movable_numa_aware, 0, 1),
};
enum { NR_SPEC_FIELDS = Py_ARRAY_LENGTH(spec_fields) };

/* Say of the exception that is set where in the spec it arose; outer places are put before inner
 * ones. */
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

/* A list, tuple or dict (its items) as a tuple of our own that nobody changes; lives as long as the
 * spec. */
static PyObject *spec_tuple(struct spec *spec, PyObject *value, bool dict)
{
    if (dict ? !PyDict_Check(value) : !PyList_Check(value) && !PyTuple_Check(value))
        return PyErr_Format(PyExc_TypeError, "a %s is needed, not %R", dict ? "dict" : "list",
                            value);
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
    PyErr_Format(PyUnicode_Check(name) ? PyExc_ValueError : PyExc_TypeError, "there is no %R",
                 name);
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
static bool read_element(struct spec *spec, const struct field *field, PyObject *item, void *array,
                         size_t i, size_t nr)
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
    size_t size = field->type == ROWS     ? field->size
                  : field->type == SQUARE ? nr * sizeof(int)
                                          : sizeof(int);
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
        int index = name_index(dict ? PyTuple_GET_ITEM(item, 0) : item, field->names,
                               field->nr_names);
        if (index < 0)
            return spec_error(": ");
        if (!dict)
            ((bool *)(void *)(base + field->offset))[index] = true;
        else if (!to_u64(PyTuple_GET_ITEM(item, 1),
                         (uint64_t *)(void *)(base + field->offset) + index))
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
        if (key < 0 ||
            !read_field(spec, &spec_fields[key], PyTuple_GET_ITEM(item, 1), (char *)spec))
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

bool spec_take(struct spec *spec, PyObject *dict)
{
    *spec = (struct spec){.keep = PyList_New(0)};
    memcpy(spec->config.config, config_defaults, sizeof config_defaults);
    return spec->keep != NULL &&
           ((spec_read(spec, dict) && spec_fits(spec)) || spec_error("machine spec: "));
}

void spec_free(struct spec *spec)
{
    for (size_t i = 0; i < spec->nr_arrays; i++)
        PyMem_Free(spec->arrays[i]);
    Py_XDECREF(spec->keep);
}

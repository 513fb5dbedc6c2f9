/*
 * memory_methods.c - the methods of Engine that are about memory, its devices and its pages.
 *
 * Owns: arguments and results of these methods. Does not own: what they do and raise (_engine.pyi
 * says it, the engine does it).
 */
#include "binding/engine_call.h"

#include <stdlib.h>

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

static PyObject *page_object(const struct page_info *page)
{
    return Py_BuildValue("{sK sK sI sz sz si sz sz sI sN sN sK}", "pfn", BIG(page->pfn), "head_pfn",
                         BIG(page->head_pfn), "order", page->order, "kind", page->kind, "zone",
                         page->zone, "nid", page->nid, "migratetype", page->migratetype,
                         "section_state", page->section_state, "pins", page->pins, "online",
                         PyBool_FromLong(page->online), "poisoned", PyBool_FromLong(page->poisoned),
                         "block_id", BIG(page->block_id));
}

static PyObject *engine_add_memory(PyObject *op, PyObject *args)
{
    int nid;
    uint64_t start;
    uint64_t size;
    struct call call;

    if (!PyArg_ParseTuple(args, "iO&O&:add_memory", &nid, to_u64, &start, to_u64, &size) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, memory_add(call.machine, &call.task, nid, start, size));
}

static PyObject *engine_remove_memory(PyObject *op, PyObject *args)
{
    uint64_t start;
    uint64_t size;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&O&:remove_memory", to_u64, &start, to_u64, &size) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, memory_remove(call.machine, &call.task, start, size));
}

static PyObject *engine_acpi_device_check(PyObject *op, PyObject *args)
{
    uint32_t slot;
    int nid;
    uint64_t start;
    uint64_t size;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&iO&O&:acpi_device_check", to_u32, &slot, &nid, to_u64, &start,
                          to_u64, &size) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, acpi_device_check(call.machine, &call.task, slot, nid, start, size));
}

static PyObject *engine_acpi_eject_request(PyObject *op, PyObject *args)
{
    uint32_t slot;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&:acpi_eject_request", to_u32, &slot) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, acpi_eject_request(call.machine, &call.task, slot));
}

static PyObject *engine_virtio_mem_probe(PyObject *op, PyObject *args)
{
    int nid;
    uint64_t addr;
    uint64_t size;
    uint64_t block;
    struct call call;

    if (!PyArg_ParseTuple(args, "iO&O&O&:virtio_mem_probe", &nid, to_u64, &addr, to_u64, &size,
                          to_u64, &block) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, virtio_mem_probe(call.machine, &call.task, nid, addr, size, block));
}

static PyObject *engine_virtio_mem_request(PyObject *op, PyObject *args)
{
    uint32_t number;
    uint64_t requested;
    uint64_t usable;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&O&O&:virtio_mem_request", to_u32, &number, to_u64, &requested,
                          to_u64, &usable) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, virtio_mem_request(call.machine, &call.task, number, requested, usable));
}

static PyObject *engine_virtio_mem_work(PyObject *op, PyObject *args)
{
    uint32_t number;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&:virtio_mem_work", to_u32, &number) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, virtio_mem_work(call.machine, &call.task, number));
}

static PyObject *engine_virtio_mem_size(PyObject *op, PyObject *args)
{
    uint32_t number;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&:virtio_mem_size", to_u32, &number) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, virtio_mem_size(call.machine, &call.task, number));
}

static PyObject *engine_allocate_pages(PyObject *op, PyObject *args)
{
    const char *kind;
    uint64_t nr_pages;
    int order = -1;
    const char *zone = NULL;
    int nid = -1;
    long long block = -1;
    struct call call;

    if (!PyArg_ParseTuple(args, "sO&|iziL:allocate_pages", &kind, to_u64, &nr_pages, &order, &zone,
                          &nid, &block) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(
        &call, load_allocate(call.machine, &call.task, kind, nr_pages, order, zone, nid, block));
}

static PyObject *engine_free_pages(PyObject *op, PyObject *args)
{
    const char *kind;
    uint64_t nr_pages;
    int nid = -1;
    struct call call;

    if (!PyArg_ParseTuple(args, "sO&|i:free_pages", &kind, to_u64, &nr_pages, &nid) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, load_free(call.machine, &call.task, kind, nr_pages, nid));
}

static PyObject *engine_pin(PyObject *op, PyObject *args)
{
    uint64_t pfn;
    int delta = 1;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&|i:pin", to_u64, &pfn, &delta) || !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, page_pin(call.machine, &call.task, pfn, delta));
}

static PyObject *engine_free_page(PyObject *op, PyObject *args)
{
    uint64_t pfn;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&:free_page", to_u64, &pfn) || !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, page_free_at(call.machine, &call.task, pfn));
}

static PyObject *engine_page(PyObject *op, PyObject *args)
{
    uint64_t pfn;
    struct page_info page = {0};
    struct call call;

    if (!PyArg_ParseTuple(args, "O&:page", to_u64, &pfn) || !call_begin(&call, op, NULL))
        return NULL;
    int64_t result = page_describe(call.machine, &call.task, pfn, &page);
    return call_end(&call, result) ? page_object(&page) : NULL;
}

static PyObject *engine_blocks(PyObject *op, PyObject *args)
{
    struct block_info *blocks = NULL;
    struct call call;

    if (!PyArg_ParseTuple(args, ":blocks") || !call_begin(&call, op, NULL))
        return NULL;
    int64_t result = blocks_snapshot(call.machine, &call.task, &blocks);
    return call_end(&call, result) ? blocks_object(blocks, (size_t)result) : NULL;
}

PyMethodDef memory_methods[] = {
    {"add_memory", engine_add_memory, METH_VARARGS,
     "add_memory($self, nid, start, size, /)\n--\n\n"
     "Hot-add memory, as the kernel's __add_memory() does."},
    {"remove_memory", engine_remove_memory, METH_VARARGS,
     "remove_memory($self, start, size, /)\n--\n\n"
     "Remove memory whose blocks are offline."},
    {"acpi_device_check", engine_acpi_device_check, METH_VARARGS,
     "acpi_device_check($self, slot, nid, start, size, /)\n--\n\n"
     "Let the guest handle a device check; return its _OST."},
    {"acpi_eject_request", engine_acpi_eject_request, METH_VARARGS,
     "acpi_eject_request($self, slot, /)\n--\n\n"
     "Let the guest handle an eject request; return its _OST."},
    {"virtio_mem_probe", engine_virtio_mem_probe, METH_VARARGS,
     "virtio_mem_probe($self, nid, addr, size, block, /)\n--\n\n"
     "Let the guest find a virtio-mem device; return its number."},
    {"virtio_mem_request", engine_virtio_mem_request, METH_VARARGS,
     "virtio_mem_request($self, number, requested, usable, /)\n--\n\n"
     "Tell a virtio-mem device the size that is wanted."},
    {"virtio_mem_work", engine_virtio_mem_work, METH_VARARGS,
     "virtio_mem_work($self, number, /)\n--\n\n"
     "Let the driver of a virtio-mem device plug or unplug."},
    {"virtio_mem_size", engine_virtio_mem_size, METH_VARARGS,
     "virtio_mem_size($self, number, /)\n--\n\n"
     "Return how many bytes of a virtio-mem device are plugged."},
    {"allocate_pages", engine_allocate_pages, METH_VARARGS,
     "allocate_pages($self, kind, nr_pages, order=-1, zone=None, nid=-1, block=-1, /)\n--\n\n"
     "Let something use memory; return how many pages it got."},
    {"free_pages", engine_free_pages, METH_VARARGS,
     "free_pages($self, kind, nr_pages, nid=-1, /)\n--\n\n"
     "Give back pages of a kind; return how many."},
    {"pin", engine_pin, METH_VARARGS,
     "pin($self, pfn, delta=1, /)\n--\n\n"
     "Add references to the folio of a page: while it has any, it cannot migrate."},
    {"free_page", engine_free_page, METH_VARARGS,
     "free_page($self, pfn, /)\n--\n\n"
     "Give back the folio that holds a page."},
    {"page", engine_page, METH_VARARGS,
     "page($self, pfn, /)\n--\n\n"
     "Describe a page, as a dict."},
    {"blocks", engine_blocks, METH_VARARGS,
     "blocks($self, /)\n--\n\n"
     "Describe all memory blocks, as a list of tuples."},
    {0},
};

/*
 * file_methods.c - the methods of Engine that are about files, and the native operations of FUSE.
 *
 * Owns: arguments and results of these methods. Does not own: what they do and raise (_engine.pyi
 * says it, the engine does it).
 */
#include "binding/engine_call.h"

#include <stdlib.h>

enum { PATH_BYTES = 4096 };

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

static PyObject *engine_stat(PyObject *op, PyObject *args)
{
    struct path path;
    struct file_stat st;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&:stat", to_path, &path) || !call_begin(&call, op, &path))
        return NULL;
    int64_t result = file_stat(call.machine, &call.task, path.name, &st);
    return call_end(&call, result) ? stat_object(&st) : NULL;
}

static PyObject *engine_fstat(PyObject *op, PyObject *args)
{
    long long handle;
    struct file_stat st;
    struct call call;

    if (!PyArg_ParseTuple(args, "L:fstat", &handle) || !call_begin(&call, op, NULL))
        return NULL;
    int64_t result = file_fstat(call.machine, &call.task, handle, &st);
    return call_end(&call, result) ? stat_object(&st) : NULL;
}

static PyObject *engine_readlink(PyObject *op, PyObject *args)
{
    struct path path;
    char target[PATH_BYTES] = "";
    struct call call;

    if (!PyArg_ParseTuple(args, "O&:readlink", to_path, &path) || !call_begin(&call, op, &path))
        return NULL;
    int64_t result = file_readlink(call.machine, &call.task, path.name, target, sizeof target);
    return call_end(&call, result) ? PyUnicode_DecodeFSDefault(target) : NULL;
}

static PyObject *engine_readdir(PyObject *op, PyObject *args)
{
    struct path path;
    struct dirent_out *list = NULL;
    uint64_t interrupted = 0;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&|O&:readdir", to_path, &path, to_u64, &interrupted) ||
        !call_begin(&call, op, &path))
        return NULL;
    int64_t result = file_readdir(call.machine, call_asks(&call, interrupted), path.name, &list);
    return call_end(&call, result) ? entries_object(list, (size_t)result) : NULL;
}

static PyObject *engine_open(PyObject *op, PyObject *args)
{
    struct path path;
    int flags;
    uint64_t interrupted = 0;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&i|O&:open", to_path, &path, &flags, to_u64, &interrupted) ||
        !call_begin(&call, op, &path))
        return NULL;
    return end_integer(&call,
                       file_open(call.machine, call_asks(&call, interrupted), path.name, flags));
}

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
    int64_t got = file_read(call.machine, call_asks(&call, interrupted), handle, buf,
                            (size_t)(size > 0 ? size : 0), offset);
    if (!call_end(&call, got))
        Py_CLEAR(bytes);
    else
        _PyBytes_Resize(&bytes, (Py_ssize_t)got);
    return bytes;
}

static PyObject *engine_write(PyObject *op, PyObject *args)
{
    long long handle;
    const char *data;
    Py_ssize_t size;
    uint64_t interrupted = 0;
    struct call call;

    if (!PyArg_ParseTuple(args, "Ly#|O&:write", &handle, &data, &size, to_u64, &interrupted) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(
        &call, file_write(call.machine, call_asks(&call, interrupted), handle, data, (size_t)size));
}

static PyObject *engine_release(PyObject *op, PyObject *args)
{
    long long handle;
    struct call call;

    if (!PyArg_ParseTuple(args, "L:release", &handle) || !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, file_release(call.machine, handle));
}

static PyObject *engine_await_stores(PyObject *op, PyObject *args)
{
    long long handle;
    uint64_t interrupted = 0;
    struct call call;

    if (!PyArg_ParseTuple(args, "L|O&:await_stores", &handle, to_u64, &interrupted) ||
        !call_begin(&call, op, NULL))
        return NULL;
    return end_none(&call, file_await_stores(call.machine, call_asks(&call, interrupted), handle));
}

static PyObject *engine_poll(PyObject *op, PyObject *args)
{
    long long handle;
    struct call call;

    if (!PyArg_ParseTuple(args, "L:poll", &handle) || !call_begin(&call, op, NULL))
        return NULL;
    return end_integer(&call, file_poll(call.machine, handle));
}

static PyObject *engine_truncate(PyObject *op, PyObject *args)
{
    struct path path;
    uint64_t size;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&O&:truncate", to_path, &path, to_u64, &size) ||
        !call_begin(&call, op, &path))
        return NULL;
    return end_none(&call, file_truncate(call.machine, &call.task, path.name, size));
}

static PyObject *engine_chmod(PyObject *op, PyObject *args)
{
    struct path path;
    uint32_t mode;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&O&:chmod", to_path, &path, to_u32, &mode) ||
        !call_begin(&call, op, &path))
        return NULL;
    return end_none(&call, file_chmod(call.machine, &call.task, path.name, mode));
}

static PyObject *engine_chown(PyObject *op, PyObject *args)
{
    struct path path;
    uint32_t uid;
    uint32_t gid;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&O&O&:chown", to_path, &path, to_id, &uid, to_id, &gid) ||
        !call_begin(&call, op, &path))
        return NULL;
    return end_none(&call, file_chown(call.machine, &call.task, path.name, uid, gid));
}

static PyObject *engine_utimens(PyObject *op, PyObject *args)
{
    struct path path;
    long long mtime_ns;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&L:utimens", to_path, &path, &mtime_ns) ||
        !call_begin(&call, op, &path))
        return NULL;
    return end_none(&call, file_utimens(call.machine, &call.task, path.name, mtime_ns));
}

static PyObject *engine_change(PyObject *op, PyObject *args)
{
    const char *what;
    struct path path;
    struct call call;

    if (!PyArg_ParseTuple(args, "sO&:change", &what, to_path, &path) ||
        !call_begin(&call, op, &path))
        return NULL;
    return end_none(&call, file_change(call.machine, &call.task, what, path.name));
}

static PyObject *engine_add_file(PyObject *op, PyObject *args)
{
    struct path path;
    const char *data;
    Py_ssize_t size;
    uint32_t mode = 0444;
    struct call call;

    if (!PyArg_ParseTuple(args, "O&y#|O&:add_file", to_path, &path, &data, &size, to_u32, &mode) ||
        !call_begin(&call, op, &path))
        return NULL;
    return end_none(&call, file_add(call.machine, &call.task, path.name, data, (size_t)size, mode));
}

static PyObject *engine_fuse_ops(PyObject *op, PyObject *args)
{
    uint64_t interrupted = 0;
    uint64_t forget = 0;
    struct call call;

    if (!PyArg_ParseTuple(args, "|O&O&:fuse_ops", to_u64, &interrupted, to_u64, &forget) ||
        !call_begin(&call, op, NULL))
        return NULL;
    serve_fuse(&call, interrupted, forget);
    return call_end(&call, 0) ? fuse_ops_object() : NULL;
}

PyMethodDef file_methods[] = {
    {"stat", engine_stat, METH_VARARGS,
     "stat($self, path, /)\n--\n\n"
     "Return (st_mode, st_ino, st_nlink, st_uid, st_gid, st_size, mtime_ns) of a file."},
    {"fstat", engine_fstat, METH_VARARGS,
     "fstat($self, handle, /)\n--\n\n"
     "Return what stat() does, of an open file."},
    {"readlink", engine_readlink, METH_VARARGS,
     "readlink($self, path, /)\n--\n\n"
     "Return the target of a link."},
    {"readdir", engine_readdir, METH_VARARGS,
     "readdir($self, path, interrupted=0, /)\n--\n\n"
     "Return a list of (name, st_ino, st_mode) in the kernel's order."},
    {"open", engine_open, METH_VARARGS,
     "open($self, path, flags, interrupted=0, /)\n--\n\n"
     "Open a file and return its handle, for release()."},
    {"read", engine_read, METH_VARARGS,
     "read($self, handle, size, offset, interrupted=0, /)\n--\n\n"
     "Return up to size bytes of an open file from offset on."},
    {"write", engine_write, METH_VARARGS,
     "write($self, handle, data, interrupted=0, /)\n--\n\n"
     "Store data with one write(2); return how much was taken."},
    {"release", engine_release, METH_VARARGS,
     "release($self, handle, /)\n--\n\n"
     "Close an open file."},
    {"await_stores", engine_await_stores, METH_VARARGS,
     "await_stores($self, handle, interrupted=0, /)\n--\n\n"
     "Wait until nobody else stores to a file that is open for writing only."},
    {"poll", engine_poll, METH_VARARGS,
     "poll($self, handle, /)\n--\n\n"
     "Return the POLL* bits that hold for an open file."},
    {"truncate", engine_truncate, METH_VARARGS,
     "truncate($self, path, size, /)\n--\n\n"
     "Do what truncate(2) does to an attribute: nothing."},
    {"chmod", engine_chmod, METH_VARARGS,
     "chmod($self, path, mode, /)\n--\n\n"
     "Set the permission bits of a file."},
    {"chown", engine_chown, METH_VARARGS,
     "chown($self, path, uid, gid, /)\n--\n\n"
     "Set owner and group of a file; -1 leaves one as it is."},
    {"utimens", engine_utimens, METH_VARARGS,
     "utimens($self, path, mtime_ns, /)\n--\n\n"
     "Set the time of the last change, in nanoseconds since 1970."},
    {"change", engine_change, METH_VARARGS,
     "change($self, op, path, /)\n--\n\n"
     "Raise the OSError with which sysfs refuses to change its tree."},
    {"add_file", engine_add_file, METH_VARARGS,
     "add_file($self, path, data, mode=0o444, /)\n--\n\n"
     "Put a file of your own into the tree."},
    {"fuse_ops", engine_fuse_ops, METH_VARARGS,
     "fuse_ops($self, interrupted=0, forget_poll=0, /)\n--\n\n"
     "Serve this machine to the native FUSE operations; return their addresses."},
    {0},
};

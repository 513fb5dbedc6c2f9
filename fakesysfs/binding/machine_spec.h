/*
 * machine_spec.h - the machine spec, and numbers as arguments: what machine_spec.c offers to
 * engine_module.c.
 *
 * Owns: struct spec. Does not own: what its keys mean (machine_config.py, engine/engine.h).
 */
#ifndef FAKESYSFS_ENGINESPEC_H
#define FAKESYSFS_ENGINESPEC_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <string.h>

#include "engine.h"

extern const char *const feature_names[], *const config_names[];

/* Converters of arguments, for "O&": 0 and an exception when it is none. */
int to_u64(PyObject *value, void *out);
int to_u32(PyObject *value, void *out);
int to_id(PyObject *value, void *out);    /* a uid or gid; -1 leaves it as it is */
int to_int(PyObject *value, void *out);   /* a node ...; -1: any, or not known */
int to_errno(PyObject *value, void *out); /* 0 to 4095 */

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

/* Read a spec; false: an exception is set that names the key. In both cases spec_free() is due,
 * after config was used. */
bool spec_take(struct spec *spec, PyObject *dict);
void spec_free(struct spec *spec);

#endif

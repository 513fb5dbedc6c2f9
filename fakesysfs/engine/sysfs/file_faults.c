/*
 * file_faults.c - what fault rules do to files: an access fails, or waits; a file is not there.
 *
 * Owns: the waits, and which name is hidden. Does not own: which rules there are and when one fires
 * (rules.c).
 *
 * A listing does not wait, because a mount would make everybody wait who looks a name up in that
 * directory. A wait gives the mutex up; it ends in time, or when the rule is cleared, with EINTR by
 * a signal, with ENODEV when the machine ends.
 */
#include <errno.h>
#include <string.h>

#include "base/rules.h"
#include "sysfs/sysfs_tree.h"

enum {
    LEAST_SLICE_US = 5000,
    MOST_SLICE_US = 50000, /* of a wait; between two, it is asked for a signal */
};

/* Slices of a wait grow with it, because a hundred processes may hang for an hour. */
static uint64_t slice_us(uint64_t waited_us, uint64_t left_us)
{
    uint64_t us = waited_us / 16;

    us = us < LEAST_SLICE_US ? LEAST_SLICE_US : us > MOST_SLICE_US ? MOST_SLICE_US : us;
    return us < left_us ? us : left_us;
}

/* Wait as the rule says, but no longer than there is such a rule. */
static int rule_wait(struct machine *m, struct rule *rule)
{
    uint64_t number = rule->number, start_us = monotonic_us(), at_us = start_us;
    uint64_t end_us = rule->asked.hang ? UINT64_MAX : start_us + rule->asked.wait_us;
    int err = 0;

    rule->waiting++;
    for (; err == 0 && rule != NULL && at_us < end_us; at_us = monotonic_us()) {
        wait_slice(m, slice_us(at_us - start_us, end_us - at_us));
        if (atomic_load(&m->ending))
            err = fail(m, -ENODEV, "the machine ended");
        else if (task_interrupted(m))
            err = fail(m, -EINTR, "interrupted by a signal while a fault rule held it up");
        rule = rule_find(m, number); /* the mutex was given up: it has moved, or is gone */
    }
    if (rule != NULL)
        rule->waiting--;
    return err;
}

int file_fault(struct machine *m, enum rule_op op, const char *path)
{
    for (size_t i = 0; i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        uint64_t number = rule->number;
        if (rule->asked.op != op || !rule_matches(rule, path) || !rule_fires(m, rule, path))
            continue;
        int err = rule_wait(m, rule);
        rule = rule_find(m, number);
        if (err == 0 && rule != NULL && rule->asked.err != 0)
            err = fail(m, rule->asked.err, "fault rule '%.200s'", rule->asked.text);
        if (err != 0)
            return err;
        i = rules_after(m, number) - 1; /* others came and went, too; -1 is undone by ++ */
    }
    return 0;
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* Links to a device are made together with it. */
static bool late_device_is(const struct late_device *device, const char *path, bool link)
{
    return strcmp(device->path, path) == 0 ||
           (link && strcmp(last_name(device->path), last_name(path)) == 0);
}

bool file_hidden(struct machine *m, const char *path, bool link, bool listing)
{
    for (size_t i = m->nr_late_devices; i-- != 0;) {
        uint64_t appears_us = m->late_devices[i].appears_us;
        if (appears_us != 0 && monotonic_us() >= appears_us)
            late_device_appear(m, i);
    }
    for (size_t i = 0; i < m->nr_late_devices; i++)
        if (late_device_is(&m->late_devices[i], path, link))
            return true;
    for (size_t i = 0; i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        bool hides = rule->asked.op == RULE_HIDE || (rule->asked.op == RULE_VANISH && !listing);
        if (hides && rule_matches(rule, path)) {
            rule->matched++;
            rule->fired++;
            return true;
        }
    }
    return false;
}

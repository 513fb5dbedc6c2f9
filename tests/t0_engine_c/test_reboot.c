/*
 * test_reboot.c - a machine that boots again after a reset: what goes on, what ends, and that
 * nothing of the machine before is left.
 *
 *     before   [boot]   [added]       file 1 open    rule 1     events 1 2 3 ..
 *     after    [boot]                 file 17 ..     rule 1     .. and on
 */
#include "machines.h"
#include "sysfs/sysfs_tree.h"
#include "testhelper.h"

#define STATE "/sys/devices/system/memory/memory1/state"

static struct machine *create(const struct machine_config *config)
{
    struct machine *m = machine_create(config, &test_task);

    CHECK(m != NULL);
    return m;
}

static void with_memory_files_and_rules(struct machine_config *config)
{
    struct machine *before = create(config);
    struct fault_rule rule = {.text = "read memory1/state EIO x1",
                              .op = RULE_READ,
                              .pattern = STATE,
                              .err = -EIO,
                              .nth = 1,
                              .times = RULE_ALWAYS,
                              .chance = RULE_CERTAIN};
    char buf[64];

    CHECK_EQ(memory_add(before, &test_task, 0, toy.hotplug_base, before->block_bytes), 0);
    uint64_t nr_events = before->event_seq;
    int64_t old = file_open(before, &test_task, STATE, O_RDONLY);
    CHECK(old > 0);
    CHECK_EQ(rule_add(before, &test_task, &rule), 1);

    struct machine *m = machine_reboot(before, config, &test_task);
    CHECK(m != NULL);
    CHECK(m->event_seq >= nr_events);
    CHECK_EQ(file_fstat(m, &test_task, old, &(struct file_stat){0}), -ENODEV);
    CHECK_EQ(file_release(m, old), -ENODEV);
    CHECK_EQ(file_release(m, old + 1000), -EBADF);
    int64_t now = file_open(m, &test_task, STATE, O_RDONLY);
    CHECK(now > old);
    CHECK_EQ(file_read(m, &test_task, now, buf, sizeof buf, 0), -EIO);
    CHECK_EQ(file_release(m, now), 0);
    CHECK_EQ(memory_add(m, &test_task, 0, toy.hotplug_base, m->block_bytes), 0);
    CHECK(machine_sound(m));

    machine_lock(before, &test_task);
    CHECK(task_interrupted(before)); /* whoever is still in it ends */
    machine_unlock(before);
    machine_forget_before(m);
    struct machine *third = machine_reboot(m, config, &test_task);
    CHECK(machine_sound(third));
    machine_destroy(third); /* and the second one with it */
}

TEST(a_machine_boots_again)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), with_memory_files_and_rules);

    machine_finish(m);
}

/*
 * test_rules.c - fault rules: which accesses they catch and when, what they do to them, and what is
 * no rule.
 *
 * Accesses are drawn one letter each:   . as always   E failed by a rule   ? failed otherwise
 *
 *     read memory3/state EIO nth=3 x2        ..EE....
 */
#include "base/rules.c"

#include "machines.h"
#include "sysfs/sysfs_tree.h"
#include "testhelper.h"

#define MEMORY "/sys/devices/system/memory"

static struct machine *begin(void)
{
    struct machine *m = machine_make(&toy, KERNEL(6_1), NULL);
    struct event *events;

    size_t nr = events_take(m, &events);
    for (size_t i = 0; i < nr; i++)
        event_free(&events[i]);
    free(events);
    return m;
}

/* What is not said of a rule is as usual. */
static int64_t add(struct machine *m, const char *text, struct fault_rule rule)
{
    rule.text = text;
    rule.nth = rule.nth != 0 ? rule.nth : 1;
    rule.times = rule.times != 0 ? rule.times : RULE_ALWAYS;
    rule.chance = rule.chance != 0 ? rule.chance : RULE_CERTAIN;
    return rule_add(m, &test_task, &rule);
}
#define ADD(m, text, ...) add(m, text, (struct fault_rule){__VA_ARGS__})

/* Opens, reads a page at most from the start, closes. */
static int64_t read_once(struct machine *m, struct task *task, const char *path)
{
    char whole[128], buf[4096];

    snprintf(whole, sizeof whole, "%s%s", path[0] == '/' ? "" : MEMORY "/", path);
    int64_t handle = file_open(m, task, whole, O_RDONLY);
    if (handle < 0)
        return handle;
    struct task opened = *task;
    int64_t ret = file_read(m, &opened, handle, buf, sizeof buf, 0);
    file_release(m, handle);
    *task = opened;
    return ret;
}

static char letter(const struct task *task, int64_t ret)
{
    return ret >= 0 ? '.' : strncmp(task->reason, "fault rule '", 12) == 0 ? 'E' : '?';
}

static const char *reads(struct machine *m, const char *path, unsigned nr)
{
    static char picture_of[128];
    unsigned i;

    for (i = 0; i < nr; i++) {
        struct task task = {.capable = true};
        int64_t ret = read_once(m, &task, path);
        picture_of[i] = letter(&task, ret);
    }
    picture_of[i] = '\0';
    return picture_of;
}

static const char *listed_rules(struct machine *m)
{
    static char copy[1024];
    size_t size;
    char *text = rules_text(m, &size);

    snprintf(copy, sizeof copy, "%s", text);
    free(text);
    return copy;
}

/* The youngest event, "kind path data errno", and all are taken. */
static const char *last_event(struct machine *m)
{
    static const char *const kinds[] = {"uevent", "store", "state",     "ost",
                                        "page",   "fault", "virtio-mem"};
    static char copy[512];
    struct event *events;
    size_t nr = events_take(m, &events);

    copy[0] = '\0';
    for (size_t i = 0; i < nr; i++) {
        const struct event *e = &events[i];
        snprintf(copy, sizeof copy, "%s %s '%s' %d", kinds[e->kind], e->path, e->data, e->err);
        event_free(&events[i]);
    }
    free(events);
    return copy;
}

/* ---- when a rule fires ---- */

TEST(which_passes)
{
    static const struct {
        uint64_t nth, times;
        uint32_t chance;
        const char *passes;
    } cases[] = {
        {1, RULE_ALWAYS, RULE_CERTAIN, "EEEEEEEEEE"}, {1, 3, RULE_CERTAIN, "EEE......."},
        {1, 1, RULE_CERTAIN, "E........."},           {5, 1, RULE_CERTAIN, "....E....."},
        {5, 2, RULE_CERTAIN, "....EE...."},           {5, RULE_ALWAYS, RULE_CERTAIN, "....EEEEEE"},
        {11, 1, RULE_CERTAIN, ".........."},          {1, RULE_ALWAYS, 1, ".........."},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct machine *m = begin();
        CHECK_EQ(ADD(m, "a rule", .op = RULE_READ, .pattern = MEMORY "/memory3/state", .err = -EIO,
                     .nth = cases[i].nth, .times = cases[i].times, .chance = cases[i].chance),
                 1);
        CHECK_STR(reads(m, "memory3/state", 10), cases[i].passes);
        CHECK_STR(reads(m, "memory4/state", 3), "...");
        machine_finish(m);
    }
}

static uint64_t seed;

static void with_seed(struct machine_config *config)
{
    config->seed = seed;
}

TEST(chance_comes_from_the_seed_and_is_each_rules_own)
{
    char first[128] = "", second[128];
    unsigned fired = 0;

    for (seed = 1; seed <= 2; seed++)
        for (int again = 0; again < 2; again++) {
            struct machine *m = machine_make(&toy, KERNEL(6_1), with_seed);
            uint64_t before = m->random_state;
            CHECK_EQ(ADD(m, "read memory3/state EIO p=0.25", .op = RULE_READ,
                         .pattern = MEMORY "/memory3/state", .err = -EIO, .chance = 250000000),
                     1);
            CHECK_EQ(ADD(m, "read memory4/state EIO p=0.25", .op = RULE_READ,
                         .pattern = MEMORY "/memory4/state", .err = -EIO, .chance = 250000000),
                     2);
            snprintf(second, sizeof second, "%s", reads(m, "memory3/state", 100));
            if (seed == 1 && again == 0)
                memcpy(first, second, sizeof first);
            CHECK_EQ(strcmp(first, second) == 0,
                     seed == 1); /* the same again, another for another seed */
            CHECK(strcmp(second, reads(m, "memory4/state", 100)) != 0);
            CHECK_EQ(m->random_state, before); /* no page is placed elsewhere because of it */
            machine_finish(m);
        }
    for (const char *c = first; *c != '\0'; c++)
        fired += *c == 'E';
    CHECK(fired >= 15 && fired <= 35);
}

TEST(which_files)
{
    static const struct {
        const char *pattern, *path;
        bool caught;
    } cases[] = {
        {"memory3/state", "memory3/state", true},
        {"memory3/state", "memory3/online", false},
        {"memory3/state", "memory13/state", false},
        {"memory3", "memory3/state", false},
        {"memory?/state", "memory3/state", true},
        {"memory?/state", "memory13/state", false},
        {"memory*/state", "memory13/state", true},
        {"memory1[0-3]/state", "memory13/state", true},
        {"memory1[!0-3]/state", "memory13/state", false},
        {"*", "memory3/state", true},
        {"*", "block_size_bytes", true},
        {"*", "/proc/meminfo", false},
        {"*/power/control", "memory3/power/control", true},
        {"/proc/meminfo", "/proc/meminfo", true},
        {"/proc/*", "/proc/vmstat", true},
        {"/*", "memory3/state", true},
        {"/sys/devices/system/memory/memory3/state", "memory3/state", true},
        {"memory3/state", "/sys/bus/memory/devices/memory3/state",
         true}, /* by its name without links */
        {"/sys/bus/memory/devices/memory3/state", "memory3/state", false},
        {"/sys/bus/memory/devices/memory3/state", "/sys/bus/memory/devices/memory3/state", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct machine *m = begin();
        char pattern[128];
        snprintf(pattern, sizeof pattern, "%s%s", cases[i].pattern[0] == '/' ? "" : MEMORY "/",
                 cases[i].pattern);
        CHECK_EQ(ADD(m, "a rule", .op = RULE_READ, .pattern = pattern, .err = -EIO), 1);
        const char *got = reads(m, cases[i].path, 1);
        if (strcmp(got, cases[i].caught ? "E" : ".") != 0)
            TEST_FAIL("%s: read %s: %s", pattern, cases[i].path, got);
        machine_finish(m);
    }
}

TEST(which_accesses)
{
    struct machine *m = begin();
    struct dirent_out *entries = NULL;
    struct task task = {.capable = true};

    CHECK_EQ(ADD(m, "open memory3/state ENFILE", .op = RULE_OPEN,
                 .pattern = MEMORY "/memory3/state", .err = -ENFILE),
             1);
    CHECK_EQ(store(m, "memory3/state", "offline"), -ENFILE);
    CHECK_STR(reads(m, "memory3/state", 1), "E");
    CHECK_EQ(rule_clear(m, &test_task, 1), 0);
    CHECK_EQ(
        ADD(m, "read memory3/* EIO", .op = RULE_READ, .pattern = MEMORY "/memory3/*", .err = -EIO),
        2); /* rules are never numbered twice */
    CHECK_EQ(store(m, "memory3/state", "bogus"), -EINVAL);
    CHECK_EQ(file_readdir(m, &task, MEMORY "/memory3", &entries) > 0, 1);
    free(entries);
    CHECK_EQ(rule_clear(m, &test_task, 0), 0);
    CHECK_EQ(ADD(m, "write memory3/* EBUSY", .op = RULE_WRITE, .pattern = MEMORY "/memory3/*",
                 .err = -EBUSY),
             3);
    CHECK_STR(reads(m, "memory3/state", 1), ".");
    CHECK_EQ(store(m, "memory3/state", "offline"), -EBUSY);
    CHECK_EQ(store(m, "memory3/phys_index", "1"), -EACCES); /* cannot be opened: no pass */
    CHECK_EQ(store(m, "memory3/state", ""), 0);             /* no bytes: no store, no pass */
    CHECK_STR(listed_rules(m), "3\t1\t1\t0\twrite memory3/* EBUSY\n");
    CHECK_EQ(rule_clear(m, &test_task, 0), 0);
    CHECK_EQ(
        ADD(m, "list . ENOENT x1", .op = RULE_LIST, .pattern = MEMORY, .err = -ENOENT, .times = 1),
        4);
    CHECK_EQ(file_readdir(m, &task, MEMORY, &entries), -ENOENT);
    CHECK_STR(task.reason, "fault rule 'list . ENOENT x1'");
    CHECK_EQ(file_readdir(m, &task, MEMORY, &entries) > 0, 1);
    CHECK_STR(task.reason, "");
    free(entries);
    machine_finish(m);
}

/* A file read in pieces is made once: one pass. From the start again: another one. */
TEST(a_read_is_a_show)
{
    struct machine *m = begin();
    struct task task = {.capable = true};
    char buf[16];

    CHECK_EQ(ADD(m, "read memory3/state EIO nth=2", .op = RULE_READ,
                 .pattern = MEMORY "/memory3/state", .err = -EIO, .nth = 2, .times = 1),
             1);
    int64_t handle = file_open(m, &task, MEMORY "/memory3/state", O_RDONLY);
    for (uint64_t offset = 0; offset < 7; offset++)
        CHECK_EQ(file_read(m, &task, handle, buf, 1, offset), 1);
    CHECK_EQ(file_read(m, &task, handle, buf, 1, 7), 0);
    CHECK_EQ(file_read(m, &task, handle, buf, 0, 0), 0);
    CHECK_EQ(file_read(m, &task, handle, buf, 16, 0), -EIO);
    CHECK_EQ(file_read(m, &task, handle, buf, 16, 0), 7);
    CHECK_EQ(file_release(m, handle), 0);
    machine_finish(m);
}

TEST(rules_see_a_pass_in_turn_until_one_fails_it)
{
    struct machine *m = begin();

    CHECK_EQ(
        ADD(m, "read memory3/state delay 0s", .op = RULE_READ, .pattern = MEMORY "/memory3/state"),
        1);
    CHECK_EQ(ADD(m, "read memory3/state EIO nth=2 x2", .op = RULE_READ,
                 .pattern = MEMORY "/memory3/state", .err = -EIO, .nth = 2, .times = 2),
             2);
    CHECK_EQ(ADD(m, "read memory3/* EBUSY nth=3", .op = RULE_READ, .pattern = MEMORY "/memory3/*",
                 .err = -EBUSY, .nth = 3, .times = 1),
             3);
    CHECK_STR(reads(m, "memory3/state", 6), ".EE.E.");
    CHECK_STR(listed_rules(m), "1\t6\t6\t0\tread memory3/state delay 0s\n"
                               "2\t6\t2\t0\tread memory3/state EIO nth=2 x2\n"
                               "3\t4\t1\t0\tread memory3/* EBUSY nth=3\n");
    machine_finish(m);
}

/* ---- what it does ---- */

TEST(a_failed_write_changes_nothing_and_is_told)
{
    struct machine *m = begin();
    char *before = snapshot(m);
    struct task task = {.capable = true};

    CHECK_EQ(ADD(m, "write memory3/state EAGAIN x1", .op = RULE_WRITE,
                 .pattern = MEMORY "/memory3/state", .err = -EAGAIN, .times = 1),
             1);
    CHECK_EQ(store_as(m, &task, "memory3/state", "offline"), -EAGAIN);
    CHECK_STR(task.reason, "fault rule 'write memory3/state EAGAIN x1'");
    CHECK_EQ(m->nr_events, 2);
    CHECK_EQ(m->events[0].kind, EVENT_FAULT);
    CHECK_STR(m->events[0].data, "write memory3/state EAGAIN x1");
    CHECK_EQ(m->events[0].err, -EAGAIN);
    CHECK_STR(last_event(m), "store " MEMORY "/memory3/state 'offline' -11");
    char *after = snapshot(m);
    CHECK(same_text(before, after));
    free(before);
    free(after);
    CHECK_EQ(store_as(m, &task, "memory3/state", "offline"), 0);
    CHECK_STR(task.reason, "");
    machine_finish(m);
}

TEST(reads_that_nobody_is_told_of_do_not_fill_the_memory)
{
    struct machine *m = begin();

    CHECK_EQ(ADD(m, "read memory3/state EIO", .op = RULE_READ, .pattern = MEMORY "/memory3/state",
                 .err = -EIO),
             1);
    m->nr_events = 0;
    for (int i = 0; i < UNTOLD_EVENTS + 10; i++)
        file_fault(m, RULE_READ, MEMORY "/memory3/state");
    CHECK_EQ(m->nr_events, UNTOLD_EVENTS);
    CHECK_STR(listed_rules(m), "1\t100010\t100010\t0\tread memory3/state EIO\n");
    machine_finish(m);
}

/* ---- waits ---- */

struct reader { /* a thread that reads a file once, or writes to it */
    struct machine *m;
    const char *path, *word;
    struct task task;
    int64_t ret;
    pthread_t thread;
    atomic_bool done;
};

static void *reader_run(void *arg)
{
    struct reader *r = arg;

    r->ret = r->word != NULL ? store_as(r->m, &r->task, r->path, r->word)
                             : read_once(r->m, &r->task, r->path);
    atomic_store(&r->done, true);
    return NULL;
}

static void nap_us(long us)
{
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

/* Until so many accesses are held up by all rules together. */
static void await_waiting(struct machine *m, uint64_t nr)
{
    for (uint64_t waiting = nr + 1; waiting != nr; nap_us(1000)) {
        machine_lock(m, NULL);
        waiting = 0;
        for (size_t i = 0; i < m->nr_rules; i++)
            waiting += m->rules[i].waiting;
        machine_unlock(m);
    }
}

static void reader_start(struct reader *r, struct machine *m, const char *path, const char *word)
{
    r->m = m;
    r->path = path;
    r->word = word;
    r->task.capable = true;
    pthread_create(&r->thread, NULL, reader_run, r);
}

static int64_t reader_join(struct reader *r)
{
    pthread_join(r->thread, NULL);
    return r->ret;
}

static atomic_bool signalled;

static int is_signalled(void)
{
    return atomic_load(&signalled);
}

TEST(a_delay_takes_its_time_and_holds_nobody_else_up)
{
    struct machine *m = begin();
    struct reader slow = {0};

    CHECK_EQ(ADD(m, "read memory3/state delay 120ms", .op = RULE_READ,
                 .pattern = MEMORY "/memory3/state", .wait_us = 120000),
             1);
    uint64_t start_us = monotonic_us();
    reader_start(&slow, m, "memory3/state", NULL);
    await_waiting(m, 1);
    CHECK_STR(reads(m, "memory3/online", 20), "....................");
    CHECK_EQ(store(m, "memory4/state", "offline"), 0);
    CHECK(!atomic_load(&slow.done));
    CHECK_EQ(reader_join(&slow), 7);
    CHECK(monotonic_us() - start_us >= 120000);
    await_waiting(m, 0);
    CHECK_STR(reads(m, "memory3/state", 1), ".");
    machine_finish(m);
}

TEST(a_delay_can_end_in_an_errno)
{
    struct machine *m = begin();

    CHECK_EQ(ADD(m, "write memory3/state EBUSY delay 30ms x1", .op = RULE_WRITE,
                 .pattern = MEMORY "/memory3/state", .err = -EBUSY, .wait_us = 30000, .times = 1),
             1);
    uint64_t start_us = monotonic_us();
    CHECK_EQ(store(m, "memory3/state", "offline"), -EBUSY);
    CHECK(monotonic_us() - start_us >= 30000);
    CHECK_EQ(store(m, "memory3/state", "offline"), 0);
    machine_finish(m);
}

TEST(a_hang_ends_when_its_rule_is_cleared)
{
    struct machine *m = begin();
    struct reader readers[3] = {0};

    CHECK_EQ(
        ADD(m, "read memory1/state delay 0s", .op = RULE_READ, .pattern = MEMORY "/memory1/state"),
        1);
    CHECK_EQ(ADD(m, "read memory3/state hang EIO", .op = RULE_READ,
                 .pattern = MEMORY "/memory3/state", .err = -EIO, .hang = true),
             2); /* what else it says goes with it */
    CHECK_EQ(ADD(m, "write memory3/state hang x1", .op = RULE_WRITE,
                 .pattern = MEMORY "/memory3/state", .hang = true, .times = 1),
             3);
    reader_start(&readers[0], m, "memory3/state", NULL);
    reader_start(&readers[1], m, "memory3/state", NULL);
    reader_start(&readers[2], m, "memory3/state", "offline");
    await_waiting(m, 3);
    CHECK_STR(
        strchr(listed_rules(m), '\n'),
        "\n2\t2\t2\t2\tread memory3/state hang EIO\n3\t1\t1\t1\twrite memory3/state hang x1\n");
    CHECK_EQ(rule_clear(m, &test_task, 1), 0); /* the others move, and wait on */
    nap_us(20000);
    await_waiting(m, 3);
    CHECK_EQ(rule_clear(m, &test_task, 2), 0);
    CHECK_EQ(reader_join(&readers[0]), 7);
    CHECK_EQ(reader_join(&readers[1]), 7);
    await_waiting(m, 1);
    CHECK_EQ(rule_clear(m, &test_task, 0), 0);
    CHECK_EQ(reader_join(&readers[2]), 0);
    char *text = fetch(m, "memory3/state");
    CHECK_STR(text, "offline\n");
    free(text);
    machine_finish(m);
}

TEST(a_wait_ends_by_a_signal)
{
    struct machine *m = begin();
    struct reader readers[2] = {{.task.interrupted = is_signalled},
                                {.task.interrupted = is_signalled}};

    CHECK_EQ(ADD(m, "read memory3/state hang", .op = RULE_READ, .pattern = MEMORY "/memory3/state",
                 .hang = true),
             1);
    CHECK_EQ(ADD(m, "write memory3/state delay 1h", .op = RULE_WRITE,
                 .pattern = MEMORY "/memory3/state", .wait_us = 3600000000u),
             2);
    atomic_store(&signalled, false);
    reader_start(&readers[0], m, "memory3/state", NULL);
    reader_start(&readers[1], m, "memory3/state", "offline");
    await_waiting(m, 2);
    atomic_store(&signalled, true);
    CHECK_EQ(reader_join(&readers[0]), -EINTR);
    CHECK_EQ(reader_join(&readers[1]), -EINTR);
    CHECK_STR(readers[0].task.reason, "interrupted by a signal while a fault rule held it up");
    CHECK_STR(last_event(m), "store " MEMORY "/memory3/state 'offline' -4");
    await_waiting(m, 0);
    machine_finish(m);
}

TEST(a_wait_ends_with_the_machine)
{
    struct machine *m = begin();
    struct reader reader = {0};

    CHECK_EQ(ADD(m, "read memory3/state hang", .op = RULE_READ, .pattern = MEMORY "/memory3/state",
                 .hang = true),
             1);
    reader_start(&reader, m, "memory3/state", NULL);
    await_waiting(m, 1);
    rules_end(m);
    CHECK_EQ(reader_join(&reader), -ENODEV);
    CHECK_STR(reads(m, "memory3/state", 2), "??"); /* and none begins */
    machine_finish(m);
}

TEST(the_device_may_go_meanwhile)
{
    struct machine *m = begin();
    struct reader readers[2] = {0};
    uint64_t base = toy.hotplug_base, size = 1 << 20;

    CHECK_EQ(memory_add(m, &test_task, 0, base, size), 0);
    CHECK_EQ(ADD(m, "read memory32/state hang", .op = RULE_READ,
                 .pattern = MEMORY "/memory32/state", .hang = true),
             1);
    CHECK_EQ(ADD(m, "write memory32/state hang", .op = RULE_WRITE,
                 .pattern = MEMORY "/memory32/state", .hang = true),
             2);
    reader_start(&readers[0], m, "memory32/state", NULL);
    reader_start(&readers[1], m, "memory32/state", "online");
    await_waiting(m, 2);
    CHECK_EQ(memory_remove(m, &test_task, base, size), 0);
    CHECK_EQ(memory_add(m, &test_task, 0, base, size), 0); /* another one of its name */
    CHECK_EQ(rule_clear(m, &test_task, 0), 0);
    CHECK_EQ(reader_join(&readers[0]), -ENODEV);
    CHECK_EQ(reader_join(&readers[1]), -ENODEV);
    CHECK_EQ(ADD(m, "open memory32/state delay 50ms", .op = RULE_OPEN,
                 .pattern = MEMORY "/memory32/state", .wait_us = 50000),
             3);
    reader_start(&readers[0], m, "memory32/state", NULL);
    await_waiting(m, 1);
    CHECK_EQ(memory_remove(m, &test_task, base, size), 0);
    CHECK_EQ(reader_join(&readers[0]), -ENOENT);
    machine_finish(m);
}

/* ---- what is not there ---- */

static bool is_listed(struct machine *m, const char *dir, const char *name)
{
    struct dirent_out *entries = NULL;
    bool found = false;

    int64_t nr = file_readdir(m, &test_task, dir, &entries);
    for (int64_t i = 0; i < nr; i++)
        found |= strcmp(entries[i].name, name) == 0;
    free(entries);
    return found;
}

static int stat_err(struct machine *m, const char *path)
{
    struct file_stat st;

    return file_stat(m, &test_task, path, &st);
}

TEST(hidden_files)
{
    struct machine *m = begin();

    CHECK_EQ(ADD(m, "hide memory3", .op = RULE_HIDE, .pattern = MEMORY "/memory3"), 1);
    CHECK(!is_listed(m, MEMORY, "memory3"));
    CHECK(is_listed(m, MEMORY, "memory4"));
    CHECK_EQ(stat_err(m, MEMORY "/memory3"), -ENOENT);
    CHECK_STR(test_task.reason, "a fault rule hides memory3");
    CHECK_EQ(stat_err(m, MEMORY "/memory3/state"), -ENOENT);
    CHECK_EQ(stat_err(m, MEMORY "/memory13/state"), 0);
    CHECK_EQ(stat_err(m, "/sys/bus/memory/devices/memory3"), 0); /* a link that leads nowhere */
    CHECK_EQ(stat_err(m, "/sys/bus/memory/devices/memory3/state"), -ENOENT);
    CHECK_STR(reads(m, "memory3/state", 1), "?");
    CHECK_EQ(ADD(m, "hide memory4/node*", .op = RULE_HIDE, .pattern = MEMORY "/memory4/node*"),
             2); /* a link, not what it leads to */
    CHECK(!is_listed(m, MEMORY "/memory4", "node0"));
    CHECK(is_listed(m, MEMORY "/memory4", "state"));
    CHECK_EQ(stat_err(m, MEMORY "/memory4/node0"), -ENOENT);
    CHECK_EQ(stat_err(m, "/sys/devices/system/node/node0"), 0);
    CHECK_EQ(rule_clear(m, &test_task, 0), 0);
    CHECK(is_listed(m, MEMORY, "memory3"));
    CHECK_EQ(stat_err(m, MEMORY "/memory3/state"), 0);
    CHECK_EQ(m->nr_hiding, 0);
    machine_finish(m);
}

TEST(vanished_files_are_still_named)
{
    struct machine *m = begin();

    CHECK_EQ(ADD(m, "vanish memory3", .op = RULE_VANISH, .pattern = MEMORY "/memory3"), 1);
    CHECK(is_listed(m, MEMORY, "memory3"));
    CHECK_EQ(stat_err(m, MEMORY "/memory3"), -ENOENT);
    CHECK_EQ(stat_err(m, MEMORY "/memory3/state"), -ENOENT);
    CHECK_EQ(rule_clear(m, &test_task, 1), 0);
    CHECK_EQ(stat_err(m, MEMORY "/memory3"), 0);
    machine_finish(m);
}

/* ---- uevents ---- */

static const char *fate(struct machine *m, const char *action, const char *devpath)
{
    static char text[64];

    machine_lock(m, NULL);
    size_t number = m->nr_events;
    uevent_add(m, action, devpath, "memory", NULL);
    struct fault_verdict verdict = m->events[number].verdict;
    machine_unlock(m);
    snprintf(text, sizeof text, "%s%s%.0llu", rule_effect_names[verdict.effect],
             verdict.delay_us != 0 ? " " : "", (unsigned long long)verdict.delay_us);
    return text;
}

TEST(fates_of_uevents)
{
    struct machine *m = begin();
    const char *block3 = "/devices/system/memory/memory3",
               *block4 = "/devices/system/memory/memory4", *node0 = "/devices/system/node/node0";

    CHECK_STR(fate(m, "add", block3), "");
    CHECK_EQ(ADD(m, "uevent add memory3 drop x1", .op = RULE_UEVENT, .pattern = MEMORY "/memory3",
                 .action = "add", .effect = EFFECT_DROP, .times = 1),
             1);
    CHECK_EQ(ADD(m, "uevent online memory* delay 1.5s", .op = RULE_UEVENT,
                 .pattern = MEMORY "/memory*", .action = "online", .effect = EFFECT_DELAY,
                 .wait_us = 1500000),
             2);
    CHECK_EQ(ADD(m, "uevent * duplicate", .op = RULE_UEVENT, .pattern = MEMORY "/*",
                 .effect = EFFECT_DUPLICATE),
             3);
    CHECK_EQ(ADD(m, "uevent remove /devices/system/node/* reorder nth=2", .op = RULE_UEVENT,
                 .pattern = "/sys/devices/system/node/*", .action = "remove",
                 .effect = EFFECT_REORDER, .nth = 2, .times = 1),
             4);
    CHECK_STR(fate(m, "add", block4), "duplicate");
    CHECK_STR(fate(m, "add", block3), "drop");
    CHECK_STR(last_event(m), "fault /devices/system/memory/memory3 'uevent add memory3 drop x1' 0");
    CHECK_STR(fate(m, "add", block3), "duplicate");
    CHECK_STR(fate(m, "online", block4), "delay 1500000");
    CHECK_STR(fate(m, "add", node0), ""); /* * is relative to the memory blocks */
    CHECK_STR(fate(m, "remove", node0), "");
    CHECK_STR(fate(m, "remove", node0), "reorder");
    CHECK_STR(fate(m, "remove", node0), "");
    machine_finish(m);
}

/* add:  event recorded, files veiled -- taken for delivery -- 40 ms -- files there */
TEST(an_event_before_its_files)
{
    struct machine *m = begin();
    const char *path = MEMORY "/memory32", *link = "/sys/bus/memory/devices/memory32";

    CHECK_EQ(ADD(m, "uevent add memory32 early 40ms", .op = RULE_UEVENT,
                 .pattern = MEMORY "/memory32", .action = "add", .effect = EFFECT_EARLY,
                 .wait_us = 40000),
             1);
    CHECK_EQ(memory_add(m, &test_task, 0, toy.hotplug_base, 2 << 20), 0);
    nap_us(60000);
    CHECK_EQ(stat_err(m, path), -ENOENT); /* nobody has been told */
    CHECK_EQ(stat_err(m, MEMORY "/memory33"), 0);
    CHECK_EQ(stat_err(m, link), -ENOENT);
    CHECK_EQ(stat_err(m, "/sys/devices/system/node/node0/memory32"), -ENOENT);
    CHECK(!is_listed(m, MEMORY, "memory32"));
    CHECK(!is_listed(m, "/sys/bus/memory/devices", "memory32"));
    last_event(m);
    CHECK_EQ(stat_err(m, path), -ENOENT);
    nap_us(60000);
    CHECK_EQ(stat_err(m, path), 0);
    CHECK_EQ(stat_err(m, link), 0);
    CHECK(is_listed(m, MEMORY, "memory32"));
    CHECK_EQ(m->nr_hiding, 0);
    CHECK_EQ(store(m, "memory32/uevent", "add"),
             0); /* the device has been there: nothing is early */
    CHECK_EQ(stat_err(m, path), 0);
    machine_finish(m);
}

TEST(files_of_an_early_event_come_with_the_end_of_its_rule)
{
    struct machine *m = begin();

    CHECK_EQ(ADD(m, "uevent add * early 1h", .op = RULE_UEVENT, .pattern = MEMORY "/*",
                 .action = "add", .effect = EFFECT_EARLY, .wait_us = 3600000000u),
             1);
    CHECK_EQ(memory_add(m, &test_task, 0, toy.hotplug_base, 2 << 20), 0);
    last_event(m);
    CHECK_EQ(stat_err(m, MEMORY "/memory33"), -ENOENT);
    CHECK_EQ(memory_remove(m, &test_task, toy.hotplug_base, 2 << 20), 0);
    CHECK_EQ(memory_add(m, &test_task, 0, toy.hotplug_base, 2 << 20), 0);
    CHECK_EQ(m->nr_late_devices, 2);
    CHECK_EQ(rule_clear(m, &test_task, 1), 0);
    CHECK_EQ(stat_err(m, MEMORY "/memory33"), 0);
    CHECK_EQ(m->nr_hiding, 0);
    machine_finish(m);
}

/* ---- what is no rule ---- */

TEST(numbers_out_of_range)
{
    struct machine *m = begin();

    CHECK_EQ(ADD(m, "a rule", .op = NR_RULE_OPS, .pattern = "/x", .err = -EIO), -EINVAL);
    CHECK_EQ(ADD(m, "a rule", .op = RULE_UEVENT, .pattern = "/x", .effect = NR_RULE_EFFECTS),
             -EINVAL);
    CHECK_EQ(ADD(m, "a rule", .op = RULE_READ, .pattern = "/x", .err = EIO), -EINVAL);
    CHECK_EQ(ADD(m, "a rule", .op = RULE_READ, .pattern = "/x", .err = -4096), -EINVAL);
    CHECK_EQ(ADD(m, "a rule", .op = RULE_READ, .pattern = "/x", .chance = RULE_CERTAIN + 1),
             -EINVAL);
    CHECK_STR(listed_rules(m), "");
    CHECK_EQ(m->nr_hiding, 0);
    CHECK_EQ(rule_clear(m, &test_task, 1), -ENOENT);
    CHECK_STR(test_task.reason, "there is no fault rule number 1");
    CHECK_EQ(rule_clear(m, &test_task, 0), 0);
    /* The root is never looked up, so this hides nothing. */
    CHECK_EQ(ADD(m, "hide /", .op = RULE_HIDE, .pattern = "/"), 1);
    CHECK_EQ(stat_err(m, "/"), 0);
    machine_finish(m);
}

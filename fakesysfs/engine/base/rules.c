/*
 * rules.c - faults on purpose: which rules there are, and on which pass one fires.
 *
 *     open|read|write FILE [delay TIME | hang] [ERRNO] ...    list DIRECTORY ERRNO ...
 *     hide|vanish FILE                                        uevent [ACTION] DEVICE EFFECT ...
 *     unplug DIMM EFFECT ...
 *
 * Owns: the list of rules, counting, chance; the verdicts on uevents and on requests to unplug, and
 * the devices that appear late. Does not own: the words of a rule (config/fault_rules.py), what a
 * rule does to a file (sysfs/file_faults.c), delivery of uevents, the points inside the engine that
 * can fail (fault.c).
 *
 * Patterns are as of a shell, except that * and ? also stand for a slash. They are compared with
 * the name that no link is part of. A pass is an access that would otherwise be carried out: for
 * `read` one show(), which is what a program that reads the whole file causes, however many read(2)
 * it takes. All rules see a pass, oldest first, until one gives an errno. A rule fires from its nth
 * pass on, on each with its probability, as often as it may. Chance is each rule's own and comes
 * from the machine's seed, so that accesses move no page elsewhere.
 */
#include "base/rules.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* of accesses that nobody takes: reads make events, but do not deliver them */
    UNTOLD_EVENTS = 100000,
};

const char *const rule_op_names[NR_RULE_OPS] = {
    [RULE_OPEN] = "open",     [RULE_READ] = "read",     [RULE_WRITE] = "write",
    [RULE_LIST] = "list",     [RULE_HIDE] = "hide",     [RULE_VANISH] = "vanish",
    [RULE_UEVENT] = "uevent", [RULE_UNPLUG] = "unplug",
};
const char *const rule_effect_names[NR_RULE_EFFECTS] = {
    [EFFECT_NONE] = "",           [EFFECT_DROP] = "drop",     [EFFECT_DUPLICATE] = "duplicate",
    [EFFECT_REORDER] = "reorder", [EFFECT_DELAY] = "delay",   [EFFECT_EARLY] = "early",
    [EFFECT_NEVER] = "never",     [EFFECT_REFUSE] = "refuse", [EFFECT_STAY] = "stay",
    [EFFECT_TWICE] = "twice",
};

/* ---- rules come and go ---- */

static bool rule_hides(const struct rule *rule)
{
    return rule->asked.op == RULE_HIDE || rule->asked.op == RULE_VANISH;
}

void late_device_appear(struct machine *m, size_t i)
{
    free(m->late_devices[i].path);
    m->late_devices[i] = m->late_devices[--m->nr_late_devices];
    m->nr_hiding--;
}

static bool rule_can_be(const struct fault_rule *asked)
{
    return asked->op < NR_RULE_OPS && asked->effect < NR_RULE_EFFECTS && asked->err <= 0 &&
           asked->err >= -4095 && asked->nth != 0 && asked->times != 0 && asked->chance != 0 &&
           asked->chance <= RULE_CERTAIN;
}

int64_t rule_add(struct machine *m, struct task *task, const struct fault_rule *asked)
{
    int64_t ret;

    machine_lock(m, task);
    if ((ret = host_memory_ready(m, 0)) != 0) {
        ; /* with its reason */
    } else if (!rule_can_be(asked)) {
        ret = fail(m, -EINVAL, "a fault rule with a number that is out of range");
    } else {
        struct rule rule = {.number = ++m->rule_number, .asked = *asked, .left = asked->times};
        ret = (int64_t)rule.number;
        rule.asked.text = xstrdup(m, asked->text);
        rule.asked.pattern = xstrdup(m, asked->pattern);
        rule.asked.action = asked->action != NULL ? xstrdup(m, asked->action) : NULL;
        rule.random_state = m->seed ^ (rule.number * 0x9e3779b97f4a7c15u);
        m->rules = xrealloc(m, m->rules, m->nr_rules + 1, sizeof *m->rules);
        m->rules[m->nr_rules++] = rule;
        m->nr_hiding += rule_hides(&rule) ? 1 : 0;
    }
    machine_unlock(m);
    return ret;
}

static void rule_remove(struct machine *m, size_t i)
{
    struct rule *rule = &m->rules[i];

    m->nr_hiding -= rule_hides(rule) ? 1 : 0;
    for (size_t late = m->nr_late_devices; late-- != 0;)
        if (m->late_devices[late].rule == rule->number)
            late_device_appear(m, late);
    free((char *)(uintptr_t)rule->asked.text);
    free((char *)(uintptr_t)rule->asked.pattern);
    free((char *)(uintptr_t)rule->asked.action);
    m->nr_rules--;
    memmove(m->rules + i, m->rules + i + 1, (m->nr_rules - i) * sizeof *m->rules);
}

int rule_clear(struct machine *m, struct task *task, uint64_t number)
{
    int err = 0;

    machine_lock(m, task);
    size_t before = m->nr_rules;
    for (size_t i = m->nr_rules; i-- != 0;)
        if (number == 0 || m->rules[i].number == number)
            rule_remove(m, i);
    if (number != 0 && m->nr_rules == before)
        err = fail(m, -ENOENT, "there is no fault rule number %llu", (unsigned long long)number);
    pthread_cond_broadcast(&m->changed); /* who waits by a rule that is gone */
    machine_unlock(m);
    return err;
}

char *rules_text(struct machine *m, size_t *size)
{
    struct text out = {0};

    machine_lock(m, NULL);
    for (size_t i = 0; i < m->nr_rules; i++) {
        const struct rule *rule = &m->rules[i];
        text_printf(&out, "%llu\t%llu\t%llu\t%llu\t%s\n", (unsigned long long)rule->number,
                    (unsigned long long)rule->matched, (unsigned long long)rule->fired,
                    (unsigned long long)rule->waiting, rule->asked.text);
    }
    machine_unlock(m);
    return text_take(&out, size);
}

void rules_end(struct machine *m)
{
    atomic_store(&m->ending, true);
    /* without the mutex: who misses it looks after a slice of time */
    pthread_cond_broadcast(&m->changed);
}

void rules_take_over(struct machine *m, struct machine *before)
{
    m->rules = before->rules;
    m->nr_rules = before->nr_rules;
    m->rule_number = before->rule_number;
    for (size_t i = 0; i < m->nr_rules; i++) {
        m->rules[i].waiting = 0; /* those who waited are in `before`, which ends */
        m->nr_hiding += rule_hides(&m->rules[i]) ? 1 : 0;
    }
    before->rules = NULL;
    before->nr_rules = 0;
    before->nr_hiding = before->nr_late_devices;
}

void rules_destroy(struct machine *m)
{
    while (m->nr_rules != 0)
        rule_remove(m, m->nr_rules - 1);
    free(m->rules);
    free(m->late_devices);
}

/* ---- passes ---- */

size_t rules_after(const struct machine *m, uint64_t number)
{
    size_t i = 0;

    while (i < m->nr_rules && m->rules[i].number <= number)
        i++;
    return i;
}

struct rule *rule_find(struct machine *m, uint64_t number)
{
    size_t i = rules_after(m, number - 1);

    return i < m->nr_rules && m->rules[i].number == number ? &m->rules[i] : NULL;
}

bool rule_matches(const struct rule *rule, const char *path)
{
    return fnmatch(rule->asked.pattern, path, 0) == 0;
}

bool rule_fires(struct machine *m, struct rule *rule, const char *path)
{
    const struct fault_rule *asked = &rule->asked;

    rule->matched++;
    if (rule->left == 0 || rule->matched < asked->nth)
        return false;
    if (asked->chance != RULE_CERTAIN &&
        random_step(&rule->random_state) % RULE_CERTAIN >= asked->chance)
        return false;
    rule->left -= rule->left != RULE_ALWAYS ? 1 : 0;
    rule->fired++;
    if (m->nr_events < UNTOLD_EVENTS)
        event_add(m, EVENT_FAULT, asked->err, path, asked->text);
    return true;
}

/* ---- verdicts ---- */

static bool uevent_matches(const struct rule *rule, const char *action, const char *path)
{
    return rule->asked.op == RULE_UEVENT &&
           (rule->asked.action == NULL || fnmatch(rule->asked.action, action, 0) == 0) &&
           rule_matches(rule, path);
}

/* Hide the device until a while after its event was taken. */
static void late_device_add(struct machine *m, const struct rule *rule, const char *path)
{
    size_t i = 0;

    while (i < m->nr_late_devices && strcmp(m->late_devices[i].path, path) != 0)
        i++;
    if (i < m->nr_late_devices)
        late_device_appear(m, i); /* it went and came again */
    m->late_devices = xrealloc(m, m->late_devices, m->nr_late_devices + 1, sizeof *m->late_devices);
    m->late_devices[m->nr_late_devices++] = (struct late_device){
        .rule = rule->number, .path = xstrdup(m, path), .hold_us = rule->asked.wait_us};
    m->nr_hiding++;
}

struct fault_verdict rules_uevent(struct machine *m, const char *action, const char *devpath,
                                  bool appears)
{
    struct fault_verdict verdict = {.effect = EFFECT_NONE};
    struct text path = {.m = m};
    bool early = false;

    text_printf(&path, "/sys%s", devpath);
    for (size_t i = 0; i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        bool is_early = rule->asked.effect == EFFECT_EARLY;
        bool settled = is_early ? early || !appears : verdict.effect != EFFECT_NONE;
        if (settled || !uevent_matches(rule, action, path.data) || !rule_fires(m, rule, devpath))
            continue;
        if (is_early) {
            early = true;
            late_device_add(m, rule, path.data);
        } else {
            verdict = (struct fault_verdict){rule->asked.effect, rule->asked.wait_us};
        }
    }
    text_free(&path);
    return verdict;
}

void rules_taken(struct machine *m)
{
    for (size_t i = 0; i < m->nr_late_devices; i++)
        if (m->late_devices[i].appears_us == 0)
            m->late_devices[i].appears_us = monotonic_us() + m->late_devices[i].hold_us;
}

struct fault_verdict unplug_fault(struct machine *m, const char *device)
{
    struct fault_verdict verdict = {.effect = EFFECT_NONE};

    machine_lock(m, NULL);
    for (size_t i = 0; verdict.effect == EFFECT_NONE && i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        if (rule->asked.op == RULE_UNPLUG && rule_matches(rule, device) &&
            rule_fires(m, rule, device))
            verdict = (struct fault_verdict){rule->asked.effect, rule->asked.wait_us};
    }
    machine_unlock(m);
    return verdict;
}

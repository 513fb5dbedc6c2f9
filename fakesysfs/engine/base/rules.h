/*
 * rules.h - a fault rule as it is kept: between rules.c, which says when one fires, and who carries
 * out what it says.
 *
 * Owns: struct rule, struct late_device. Does not own: what a rule may say (engine.h).
 */
#ifndef FAKESYSFS_RULES_H
#define FAKESYSFS_RULES_H

#include "machine.h"

struct rule {
    uint64_t number;
    struct fault_rule asked; /* its strings belong to the rule */
    uint64_t left;           /* so often it may still fire */
    uint64_t matched, fired; /* passes it has seen, and those on which it fired */
    uint64_t waiting;        /* accesses it holds up now */
    uint64_t random_state;
};

struct late_device { /* its event is told before its files are there */
    uint64_t rule;
    char *path;
    uint64_t hold_us;
    uint64_t appears_us; /* by monotonic_us(); 0: the event has not been taken yet */
};

struct rule *rule_find(struct machine *m, uint64_t number); /* NULL: it was cleared */
/* Number of the first rule younger than this one: its place in m->rules. */
size_t rules_after(const struct machine *m, uint64_t number);
bool rule_matches(const struct rule *rule, const char *path);
/* Count a pass of what the rule matches. Does it fire this time? Then that is an event. */
bool rule_fires(struct machine *m, struct rule *rule, const char *path);
void late_device_appear(struct machine *m, size_t i);

#endif

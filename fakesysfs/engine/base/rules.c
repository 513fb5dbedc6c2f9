/*
 * rules.c - faults on purpose: rules by which opening, reading, writing or listing a file of the
 * tree fails, or takes long, or by which files are missing; what is to happen to uevents on their
 * way to the listeners; and how the guest answers when the host wants a DIMM back.
 *
 * Owns: the words of a rule, which rule fires on which pass, the waits, the veils over devices
 * whose event comes early. Does not own: the points inside the engine that can fail (fault.c), what
 * a file says or does, delivery of uevents.
 *
 *     open|read|write FILE [delay TIME | hang] [ERRNO] [nth=N] [xN | always] [p=P]
 *     list DIRECTORY ERRNO [nth=N] [xN | always] [p=P]
 *     hide|vanish FILE
 *     uevent [ACTION] DEVICE (drop | duplicate | reorder | delay TIME | early [TIME]) [nth=N] [xN |
 * always] [p=P] unplug DIMM (never | refuse | stay | twice | delay TIME) [nth=N] [xN | always]
 * [p=P]
 *
 * FILE and DEVICE are patterns as of a shell, except that * and ? also stand for a slash: relative
 * to /sys/devices/system/memory, or from / on. They are compared with the name that no link is part
 * of. DIMM is a pattern of names that the host has given.
 *
 * A pass is an access that would otherwise be carried out: for `read` one show(), which is what a
 * program that reads the whole file causes, however many read(2) it takes. All rules see a pass,
 * oldest first, until one gives an errno. A rule fires from its nth pass on, on each with
 * probability p, xN times; without xN once if nth is given, else always.
 *
 * `hide`: there is no such file. `vanish`: its directory still names it, but it is gone when
 * somebody looks. A listing does not wait, because a mount would make everybody wait who looks a
 * name up in that directory. `unplug`: of a request to eject a DIMM, by whomever. The guest does
 * not answer; it refuses without having tried; it says that it has let go and has not; it says
 * everything it has to say in the end twice; it answers late. Of a request to make a virtio-mem
 * device smaller: it stays as it is, or shrinks late. A wait gives the mutex up; it ends in time,
 * or when the rule is cleared, with EINTR by a signal, with ENODEV when the machine ends. Chance is
 * each rule's own and comes from the machine's seed, so that accesses move no page elsewhere.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine.h"

#define BASE "/sys/devices/system/memory"

enum {
    TEXT_BYTES = 512, /* of a rule */
    MAX_WORDS = 16,
    MAX_ERRNO = 511, /* what the kernel takes from a FUSE server */
    NANO = 1000000000,
    LEAST_SLICE_US = 5000,
    MOST_SLICE_US = 50000, /* of a wait; between two, it is asked for a signal */
    EARLY_US = 100000,
    UNTOLD_EVENTS =
        100000, /* of accesses that nobody takes: reads make events, but do not deliver them */
};
#define DAY_US 86400000000u
#define ALWAYS UINT64_MAX

struct rule {
    uint64_t number;
    char *text, *pattern, *action; /* action: of uevent; NULL: any */
    enum rule_op op;
    enum uevent_effect effect;
    int err; /* 0: none */
    bool delayed, hang;
    uint64_t wait_us, nth, left, matched, fired;
    uint64_t waiting; /* accesses it holds up now */
    uint32_t chance;  /* of NANO */
    uint64_t random_state;
};

struct veil { /* over a device whose event is told before its files are there */
    uint64_t rule;
    char *path;
    uint64_t hold_us, lift_us; /* lift_us: by now_us(); 0: the event has not been taken yet */
};

/* ---- words ---- */

#define E(name) {#name, E##name}
static const struct errno_name {
    const char *name; /* without its E */
    int number;
} errno_names[] = {
    E(PERM),        E(NOENT),     E(SRCH),           E(INTR),       E(IO),        E(NXIO),
    E(2BIG),        E(NOEXEC),    E(BADF),           E(CHILD),      E(AGAIN),     E(WOULDBLOCK),
    E(NOMEM),       E(ACCES),     E(FAULT),          E(NOTBLK),     E(BUSY),      E(EXIST),
    E(XDEV),        E(NODEV),     E(NOTDIR),         E(ISDIR),      E(INVAL),     E(NFILE),
    E(MFILE),       E(NOTTY),     E(TXTBSY),         E(FBIG),       E(NOSPC),     E(SPIPE),
    E(ROFS),        E(MLINK),     E(PIPE),           E(DOM),        E(RANGE),     E(DEADLK),
    E(NAMETOOLONG), E(NOLCK),     E(NOSYS),          E(NOTEMPTY),   E(LOOP),      E(NOMSG),
    E(IDRM),        E(NODATA),    E(TIME),           E(NOLINK),     E(PROTO),     E(BADMSG),
    E(OVERFLOW),    E(ILSEQ),     E(USERS),          E(NOTSUP),     E(OPNOTSUPP), E(TIMEDOUT),
    E(CONNREFUSED), E(HOSTDOWN),  E(ALREADY),        E(INPROGRESS), E(STALE),     E(DQUOT),
    E(CANCELED),    E(HWPOISON),  E(NOTCONN),        E(SHUTDOWN),   E(CONNRESET), E(CONNABORTED),
    E(NOBUFS),      E(REMOTEIO),  E(UCLEAN),         E(ISNAM),      E(NOMEDIUM),  E(MEDIUMTYPE),
    E(NOKEY),       E(OWNERDEAD), E(NOTRECOVERABLE),
};
#undef E

static const char *const op_words[] = {
    [RULE_OPEN] = "open",     [RULE_READ] = "read",     [RULE_WRITE] = "write",
    [RULE_LIST] = "list",     [RULE_HIDE] = "hide",     [RULE_VANISH] = "vanish",
    [RULE_UEVENT] = "uevent", [RULE_UNPLUG] = "unplug",
};
static const char *const effect_words[] = {
    [UEVENT_PASS] = "",           [UEVENT_DROP] = "drop",     [UEVENT_DUPLICATE] = "duplicate",
    [UEVENT_REORDER] = "reorder", [UEVENT_DELAY] = "delay",   [UEVENT_EARLY] = "early",
    [UNPLUG_NEVER] = "never",     [UNPLUG_REFUSE] = "refuse", [UNPLUG_STAY] = "stay",
    [UNPLUG_TWICE] = "twice",
};
static const char *const actions[] = {"add",    "remove",  "change", "move",
                                      "online", "offline", "bind",   "unbind"};
#define COUNT_OF(list) (sizeof(list) / sizeof *(list))

static int word_index(const char *word, const char *const *words, size_t nr)
{
    for (size_t i = 0; i < nr; i++)
        if (strcmp(word, words[i]) == 0)
            return (int)i;
    return -1;
}

static bool all_digits(const char *s)
{
    return *s != '\0' && s[strspn(s, "0123456789")] == '\0';
}

/* A decimal number of at most 18 digits. */
static bool parse_count(const char *s, uint64_t *value)
{
    if (!all_digits(s) || strlen(s) > 18)
        return false;
    *value = 0;
    for (; *s != '\0'; s++)
        *value = *value * 10 + (uint64_t)(*s - '0');
    return true;
}

/* "0.25" in units of 1/NANO; what follows the number. NULL: there is none, or it is too large. */
static const char *parse_decimal(const char *s, uint64_t *nano)
{
    size_t whole = strspn(s, "0123456789");
    uint64_t unit = NANO;

    *nano = 0;
    if (whole > 9)
        return NULL;
    for (size_t i = 0; i < whole; i++)
        *nano = *nano * 10 + (uint64_t)(s[i] - '0') * NANO;
    s += whole;
    if (*s != '.')
        return whole != 0 ? s : NULL;
    size_t digits = strspn(++s, "0123456789");
    for (size_t i = 0; i < digits; i++)
        *nano += (uint64_t)(s[i] - '0') * (unit /= 10);
    return whole + digits != 0 ? s + digits : NULL;
}

static bool parse_time(const char *word, uint64_t *us)
{
    static const struct {
        const char *unit;
        uint64_t us;
    } units[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {"min", 60000000}, {"h", 3600000000u}};
    uint64_t nano;
    const char *unit = parse_decimal(word, &nano);

    for (size_t i = 0; unit != NULL && i < COUNT_OF(units); i++)
        if (strcmp(unit, units[i].unit) == 0) {
            uint64_t whole = nano / NANO, part = nano % NANO;
            *us = whole <= DAY_US / units[i].us ? whole * units[i].us + part * units[i].us / NANO
                                                : UINT64_MAX;
            return *us <= DAY_US;
        }
    return false;
}

/* 0: it is no errno. */
static int parse_errno(const char *word)
{
    uint64_t number;

    if (parse_count(word, &number))
        return number >= 1 && number <= MAX_ERRNO ? (int)number : 0;
    for (size_t i = 0; word[0] == 'E' && i < COUNT_OF(errno_names); i++)
        if (strcmp(word + 1, errno_names[i].name) == 0)
            return errno_names[i].number;
    return 0;
}

/* Does the word say what happens or when, so that it can be no name of a file? */
static bool is_keyword(const char *word)
{
    return strcmp(word, "hang") == 0 || strcmp(word, "always") == 0 ||
           word_index(word, effect_words, COUNT_OF(effect_words)) >= 0 || parse_errno(word) != 0 ||
           all_digits(word) || (word[0] == 'x' && all_digits(word + 1)) ||
           strncmp(word, "nth=", 4) == 0 || strncmp(word, "p=", 2) == 0;
}

/* ---- a rule from its words ---- */

struct words {
    char text[TEXT_BYTES]; /* the words, one blank between them */
    char split[TEXT_BYTES];
    const char *word[MAX_WORDS];
    unsigned nr, next;
};

static int words_read(struct machine *m, struct words *w, const char *text)
{
    size_t len = 0;

    memset(w, 0, sizeof *w);
    for (;;) {
        text += strspn(text, " \t\r\n");
        size_t size = strcspn(text, " \t\r\n");
        if (size == 0)
            break;
        if (w->nr == MAX_WORDS || len + size + 2 > sizeof w->text)
            return fail(m, -EINVAL, "this is too long for a rule");
        if (w->nr != 0)
            w->text[len++] = ' ';
        w->word[w->nr++] = w->split + len;
        memcpy(w->text + len, text, size);
        memcpy(w->split + len, text, size);
        len += size;
        text += size;
    }
    for (unsigned i = 0; i < w->nr; i++)
        for (const char *c = w->word[i]; *c != '\0'; c++)
            if ((unsigned char)*c < ' ' || *c == 0x7f)
                return fail(m, -EINVAL, "this is not text");
    return w->nr != 0
               ? 0
               : fail(m, -EINVAL, "it is empty; write for instance `write memory40/state EBUSY`");
}

static const char *word_next(struct words *w)
{
    return w->next < w->nr ? w->word[w->next++] : NULL;
}

/* The pattern as an absolute one. */
static int rule_pattern(struct machine *m, struct rule *rule, const char *word)
{
    struct text out = {0};
    bool whole = strcmp(word, ".") == 0, absolute = word[0] == '/';

    if (!whole)
        for (const char *s = word; *s != '\0'; s += strspn(s, "/")) {
            size_t len = strcspn(s, "/");
            if ((len == 1 || len == 2) && strncmp(s, "..", len) == 0)
                return fail(m, -EINVAL, "`%.60s`: no name has . or .. in it; write it from / on",
                            word);
            s += len;
        }
    if (!absolute)
        text_printf(&out, "%s/", BASE);
    else if (rule->op == RULE_UEVENT && strncmp(word, "/devices/", 9) == 0)
        text_printf(&out, "/sys");
    if (!whole)
        text_printf(&out, "%s", word);
    while (out.len > 1 && out.data[out.len - 1] == '/')
        out.data[--out.len] = '\0';
    rule->pattern = out.data;
    return 0;
}

/* Read ACTION DEVICE, or DEVICE alone, which may not be the name of an action: then *device stays
 * NULL. */
static int rule_device(struct machine *m, struct rule *rule, struct words *w, const char **device)
{
    const char *first = word_next(w), *second = w->next < w->nr ? w->word[w->next] : NULL;
    bool action = first != NULL && word_index(first, actions, COUNT_OF(actions)) >= 0;

    *device = NULL;
    if (first == NULL || second == NULL || is_keyword(second)) {
        *device = action ? NULL : first;
        return 0;
    }
    if (!action && strcmp(first, "*") != 0)
        return fail(
            m, -EINVAL,
            "`%.60s` is no action of a uevent; write add, remove, change, online, offline, move, "
            "bind, unbind or *",
            first);
    rule->action = action ? xstrdup(first) : NULL;
    *device = word_next(w);
    return 0;
}

static int rule_said_twice(struct machine *m, const char *word)
{
    return fail(m, -EINVAL, "`%.60s`: this has been said already, or the contrary", word);
}

static int rule_time(struct machine *m, struct rule *rule, const char *word)
{
    if (word == NULL || !parse_time(word, &rule->wait_us))
        return fail(m, -EINVAL,
                    "how long? `%.60s` is no time of a day at most; write 2s, 250ms or 1500us",
                    word != NULL ? word : "delay");
    return 0;
}

/* nth=N, xN, always, p=P. 1: it is none of them. */
static int rule_option(struct machine *m, struct rule *rule, const char *word)
{
    bool counted = rule->left != 0;
    uint64_t nano;

    if (strcmp(word, "always") == 0 || (word[0] == 'x' && all_digits(word + 1))) {
        if (counted)
            return rule_said_twice(m, word);
        rule->left = ALWAYS;
        if (word[0] == 'x' && (!parse_count(word + 1, &rule->left) || rule->left == 0))
            return fail(m, -EINVAL, "`%.60s`: how often? write x1 or more, or `always`", word);
    } else if (strncmp(word, "nth=", 4) == 0) {
        if (rule->nth != 0)
            return rule_said_twice(m, word);
        if (!parse_count(word + 4, &rule->nth) || rule->nth == 0)
            return fail(m, -EINVAL, "`%.60s`: the first pass is nth=1", word);
    } else if (strncmp(word, "p=", 2) == 0) {
        if (rule->chance != NANO)
            return rule_said_twice(m, word);
        const char *end = parse_decimal(word + 2, &nano);
        if (end == NULL || *end != '\0' || nano == 0 || nano > NANO)
            return fail(m, -EINVAL, "`%.60s`: a probability is more than 0 and at most 1, as p=0.1",
                        word);
        rule->chance = (uint32_t)nano;
    } else {
        return 1;
    }
    return 0;
}

/* What happens to an access: ERRNO, delay TIME, hang. */
static int rule_fault(struct machine *m, struct rule *rule, struct words *w, const char *word)
{
    int err = parse_errno(word);

    if (err != 0) {
        if (rule->err != 0)
            return rule_said_twice(m, word);
        rule->err = -err;
        return 0;
    }
    if (strcmp(word, "delay") != 0 && strcmp(word, "hang") != 0)
        return fail(m, -EINVAL,
                    "`%.60s` is neither an errno, nor delay TIME, hang, xN, always, nth=N or p=P",
                    word);
    if (rule->op == RULE_LIST)
        return fail(m, -EINVAL,
                    "`%s`: a listing cannot wait, because all who look into the directory would; "
                    "it can only fail",
                    word);
    if (rule->delayed || rule->hang)
        return rule_said_twice(m, word);
    rule->hang = word[0] == 'h';
    rule->delayed = word[0] == 'd';
    return rule->delayed ? rule_time(m, rule, word_next(w)) : 0;
}

/* What happens to a uevent, or a request to unplug. */
static int rule_effect(struct machine *m, struct rule *rule, struct words *w, const char *word)
{
    int effect = word_index(word, effect_words, COUNT_OF(effect_words));
    bool unplug = rule->op == RULE_UNPLUG;

    if (effect != UEVENT_DELAY && unplug != (effect > UEVENT_EARLY))
        effect = -1; /* a word of the other's */
    if (effect < 0 && unplug)
        return fail(
            m, -EINVAL,
            "`%.60s` is neither never, refuse, stay, twice nor delay TIME; nor xN, always, nth=N or "
            "p=P",
            word);
    if (effect < 0)
        return fail(
            m, -EINVAL,
            "`%.60s` is neither drop, duplicate, reorder, early nor delay TIME; nor xN, always, "
            "nth=N or p=P",
            word);
    if (rule->effect != UEVENT_PASS)
        return rule_said_twice(m, word);
    rule->effect = (enum uevent_effect)effect;
    if (effect == UEVENT_DELAY)
        return rule_time(m, rule, word_next(w));
    if (effect != UEVENT_EARLY)
        return 0;
    if (rule->action == NULL || strcmp(rule->action, "add") != 0)
        return fail(m, -EINVAL, "only `uevent add` can be early: before its files are there");
    rule->wait_us = EARLY_US;
    const char *time = w->next < w->nr ? w->word[w->next] : "";
    return *time >= '0' && *time <= '9' ? rule_time(m, rule, word_next(w)) : 0;
}

static int rule_parse(struct machine *m, struct rule *rule, struct words *w)
{
    const char *word = word_next(w);
    int op = word_index(word, op_words, COUNT_OF(op_words)), err = 0;

    if (op < 0)
        return fail(
            m, -EINVAL,
            "`%.60s`: a rule begins with open, read, write, list, hide, vanish, uevent or unplug",
            word);
    rule->op = (enum rule_op)op;
    rule->chance = NANO;
    if (op != RULE_UEVENT)
        word = word_next(w);
    else if ((err = rule_device(m, rule, w, &word)) != 0)
        return err;
    if (word == NULL || is_keyword(word))
        return fail(
            m, -EINVAL,
            op == RULE_UEVENT   ? "of which device? write for instance `uevent add memory33 drop`"
            : op == RULE_UNPLUG ? "which DIMM? write for instance `unplug d0 refuse`"
                                : "which file? write for instance `write memory40/state EBUSY`");
    if (op == RULE_UNPLUG)
        rule->pattern = xstrdup(word);
    else
        err = rule_pattern(m, rule, word);
    while (err == 0 && (word = word_next(w)) != NULL) {
        if (op == RULE_HIDE || op == RULE_VANISH)
            return fail(m, -EINVAL,
                        "`%.60s`: `%s` takes a file and no more; it holds until it is cleared",
                        word, op_words[op]);
        err = rule_option(m, rule, word);
        if (err == 1)
            err = op >= RULE_UEVENT ? rule_effect(m, rule, w, word) : rule_fault(m, rule, w, word);
    }
    if (err == 0 && op <= RULE_LIST && rule->err == 0 && !rule->delayed && !rule->hang)
        return fail(m, -EINVAL, "what is to happen? an errno such as EBUSY%s",
                    op != RULE_LIST ? ", delay TIME, or hang" : "");
    if (err == 0 && op == RULE_UEVENT && rule->effect == UEVENT_PASS)
        return fail(m, -EINVAL, "what is to happen? drop, duplicate, reorder, early or delay TIME");
    if (err == 0 && op == RULE_UNPLUG && rule->effect == UEVENT_PASS)
        return fail(m, -EINVAL, "how is it to answer? never, refuse, stay, twice or delay TIME");
    if (rule->left == 0)
        rule->left = rule->nth != 0 ? 1 : ALWAYS;
    return err;
}

/* ---- rules come and go ---- */

static void rule_free(struct rule *rule)
{
    free(rule->text);
    free(rule->pattern);
    free(rule->action);
}

static bool rule_hides(const struct rule *rule)
{
    return rule->op == RULE_HIDE || rule->op == RULE_VANISH;
}

static void veil_lift(struct machine *m, size_t i)
{
    free(m->veils[i].path);
    m->veils[i] = m->veils[--m->nr_veils];
    m->nr_hiding--;
}

int64_t rule_add(struct machine *m, struct task *task, const char *text)
{
    struct rule rule = {0};
    struct words words;

    machine_lock(m, task);
    int64_t ret = words_read(m, &words, text);
    if (ret == 0)
        ret = rule_parse(m, &rule, &words);
    if (ret == 0) {
        ret = (int64_t)(rule.number = ++m->rule_number);
        rule.text = xstrdup(words.text);
        rule.random_state = m->seed ^ (rule.number * 0x9e3779b97f4a7c15u);
        m->rules = xrealloc(m->rules, m->nr_rules + 1, sizeof *m->rules);
        m->rules[m->nr_rules++] = rule;
        m->nr_hiding += rule_hides(&rule) ? 1 : 0;
    } else {
        rule_free(&rule);
    }
    machine_unlock(m);
    return ret;
}

static void rule_remove(struct machine *m, size_t i)
{
    m->nr_hiding -= rule_hides(&m->rules[i]) ? 1 : 0;
    for (size_t veil = m->nr_veils; veil-- != 0;)
        if (m->veils[veil].rule == m->rules[i].number)
            veil_lift(m, veil);
    rule_free(&m->rules[i]);
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
                    (unsigned long long)rule->waiting, rule->text);
    }
    machine_unlock(m);
    text_append(&out, "", 0);
    *size = out.len;
    return out.data;
}

void rules_end(struct machine *m)
{
    atomic_store(&m->ending, true);
    pthread_cond_broadcast(
        &m->changed); /* without the mutex: who misses it looks after a slice of time */
}

void rules_destroy(struct machine *m)
{
    while (m->nr_rules != 0)
        rule_remove(m, m->nr_rules - 1);
    free(m->rules);
    free(m->veils);
}

/* ---- passes ---- */

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Number of the first rule younger than this one: its place in m->rules. */
static size_t rules_after(const struct machine *m, uint64_t number)
{
    size_t i = 0;

    while (i < m->nr_rules && m->rules[i].number <= number)
        i++;
    return i;
}

static struct rule *rule_find(struct machine *m, uint64_t number)
{
    size_t i = rules_after(m, number - 1);

    return i < m->nr_rules && m->rules[i].number == number ? &m->rules[i] : NULL;
}

static bool pattern_matches(const struct rule *rule, const char *path)
{
    return fnmatch(rule->pattern, path, 0) == 0;
}

/* Count a pass of what the rule matches. Does it fire this time? Then that is an event. */
static bool rule_fires(struct machine *m, struct rule *rule, const char *path)
{
    rule->matched++;
    if (rule->left == 0 || rule->matched < rule->nth)
        return false;
    if (rule->chance != NANO && random_step(&rule->random_state) % NANO >= rule->chance)
        return false;
    rule->left -= rule->left != ALWAYS ? 1 : 0;
    rule->fired++;
    if (m->nr_events < UNTOLD_EVENTS)
        event_add(m, EVENT_FAULT, rule->err, path, rule->text);
    return true;
}

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
    uint64_t number = rule->number, start_us = now_us(), at_us = start_us;
    uint64_t end_us = rule->hang ? UINT64_MAX : start_us + rule->wait_us;
    int err = 0;

    rule->waiting++;
    for (; err == 0 && rule != NULL && at_us < end_us; at_us = now_us()) {
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

int rules_apply(struct machine *m, enum rule_op op, const char *path)
{
    for (size_t i = 0; i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        uint64_t number = rule->number;
        if (rule->op != op || !pattern_matches(rule, path) || !rule_fires(m, rule, path))
            continue;
        int err = rule_wait(m, rule);
        rule = rule_find(m, number);
        if (err == 0 && rule != NULL && rule->err != 0)
            err = fail(m, rule->err, "fault rule '%.200s'", rule->text);
        if (err != 0)
            return err;
        i = rules_after(m, number) - 1; /* others came and went, too; -1 is undone by ++ */
    }
    return 0;
}

/* ---- what is not there ---- */

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* Links to a device are made together with it. */
static bool veil_covers(const struct veil *veil, const char *path, bool link)
{
    return strcmp(veil->path, path) == 0 ||
           (link && strcmp(last_name(veil->path), last_name(path)) == 0);
}

bool rules_hidden(struct machine *m, const char *path, bool link, bool listing)
{
    for (size_t i = m->nr_veils; i-- != 0;)
        if (m->veils[i].lift_us != 0 && now_us() >= m->veils[i].lift_us)
            veil_lift(m, i);
    for (size_t i = 0; i < m->nr_veils; i++)
        if (veil_covers(&m->veils[i], path, link))
            return true;
    for (size_t i = 0; i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        bool hides = rule->op == RULE_HIDE || (rule->op == RULE_VANISH && !listing);
        if (hides && pattern_matches(rule, path)) {
            rule->matched++;
            rule->fired++;
            return true;
        }
    }
    return false;
}

/* ---- uevents ---- */

static bool uevent_matches(const struct rule *rule, const char *action, const char *path)
{
    return rule->op == RULE_UEVENT &&
           (rule->action == NULL || fnmatch(rule->action, action, 0) == 0) &&
           pattern_matches(rule, path);
}

/* Of a device, as /sys has it. */
static char *sys_path(const char *devpath)
{
    struct text out = {0};

    text_printf(&out, "/sys%s", devpath);
    return out.data;
}

void rules_uevent(struct machine *m, const char *action, const char *devpath)
{
    char *path = sys_path(devpath);
    const struct rule *early = NULL;
    size_t i;

    for (i = 0; early == NULL && i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        if (rule->effect == UEVENT_EARLY && uevent_matches(rule, action, path) &&
            rule_fires(m, rule, devpath))
            early = rule;
    }
    if (early == NULL) {
        free(path);
        return;
    }
    for (i = 0; i < m->nr_veils && strcmp(m->veils[i].path, path) != 0; i++)
        ;
    if (i < m->nr_veils)
        veil_lift(m, i); /* it went and came again */
    m->veils = xrealloc(m->veils, m->nr_veils + 1, sizeof *m->veils);
    m->veils[m->nr_veils++] = (struct veil){
        .rule = early->number, .path = path, .hold_us = early->wait_us};
    m->nr_hiding++;
}

const char *uevent_fault(struct machine *m, const char *action, const char *devpath,
                         uint64_t *delay_us)
{
    enum uevent_effect effect = UEVENT_PASS;

    machine_lock(m, NULL);
    *delay_us = 0;
    char *path = m->nr_rules != 0 ? sys_path(devpath) : NULL;
    for (size_t i = 0; effect == UEVENT_PASS && i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        if (rule->effect == UEVENT_EARLY || !uevent_matches(rule, action, path) ||
            !rule_fires(m, rule, devpath))
            continue;
        effect = rule->effect;
        *delay_us = rule->wait_us;
    }
    free(path);
    machine_unlock(m);
    return effect_words[effect];
}

const char *unplug_fault(struct machine *m, const char *device, uint64_t *delay_us)
{
    enum uevent_effect effect = UEVENT_PASS;

    machine_lock(m, NULL);
    *delay_us = 0;
    for (size_t i = 0; effect == UEVENT_PASS && i < m->nr_rules; i++) {
        struct rule *rule = &m->rules[i];
        if (rule->op != RULE_UNPLUG || !pattern_matches(rule, device) ||
            !rule_fires(m, rule, device))
            continue;
        effect = rule->effect;
        *delay_us = rule->wait_us;
    }
    machine_unlock(m);
    return effect_words[effect];
}

void rules_taken(struct machine *m)
{
    for (size_t i = 0; i < m->nr_veils; i++)
        if (m->veils[i].lift_us == 0)
            m->veils[i].lift_us = now_us() + m->veils[i].hold_us;
}

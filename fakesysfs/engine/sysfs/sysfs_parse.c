/*
 * sysfs_parse.c - what a store function does with its text: numbers, booleans, words, synthetic
 * uevents.
 *
 * Owns: the grammar of stored text, exactly as lenient and as strict as the kernel's helpers of the
 * same purpose. Stored text always ends with a NUL; what is behind an earlier NUL is not seen by
 * parsers of strings, but counts as bytes in a synthetic uevent. Does not own: what a value means,
 * nor any file.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

bool sysfs_streq(const char *stored, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(stored, word, len) != 0)
        return false;
    /* one newline at the end is what `echo` adds; a second one is an error */
    return stored[len] == '\0' || (stored[len] == '\n' && stored[len + 1] == '\0');
}

/* An unsigned number without a sign; the base is in its prefix. */
static int parse_digits(const char *s, uint64_t *value)
{
    unsigned base = 10;
    uint64_t sum = 0;
    bool any = false, overflow = false;

    if (s[0] == '0') {
        base = 8;
        if ((s[1] == 'x' || s[1] == 'X') && isxdigit((unsigned char)s[2])) {
            base = 16;
            s += 2;
        }
    }
    for (; isxdigit((unsigned char)*s); s++) {
        unsigned digit = (unsigned)(isdigit((unsigned char)*s) ? *s - '0' : (*s | 0x20) - 'a' + 10);
        if (digit >= base)
            break;
        any = true;
        if (sum > (UINT64_MAX - digit) / base)
            overflow = true;
        sum = sum * base + digit;
    }
    if (overflow)
        return -ERANGE; /* is noticed before what follows the number is */
    if (!any)
        return -EINVAL;
    if (*s == '\n')
        s++;
    if (*s != '\0')
        return -EINVAL;
    *value = sum;
    return 0;
}

int parse_u64(const char *s, uint64_t *value)
{
    return parse_digits(*s == '+' ? s + 1 : s, value);
}

int parse_s64(const char *s, int64_t *value)
{
    uint64_t magnitude;
    bool negative = *s == '-';
    int err = negative ? parse_digits(s + 1, &magnitude) : parse_u64(s, &magnitude);

    if (err != 0)
        return err;
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return -ERANGE;
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return 0;
}

bool parse_size(const char *s, const char **end, uint64_t *bytes)
{
    static const char suffixes[] = "KMGTPE";
    char *after;
    if (*s < '0' || *s > '9')
        return false;
    *bytes = strtoull(s, &after, 0);
    for (unsigned i = 0; *after != '\0' && i < sizeof suffixes - 1; i++) {
        if (*after != suffixes[i] && *after != suffixes[i] + ('a' - 'A'))
            continue;
        *bytes <<= 10 * (i + 1);
        after++;
        break;
    }
    *end = after;
    return true;
}

int parse_bool(struct machine *m, const char *s, bool *value)
{
    char letter = s[0] == '1' || s[0] == '0' ? s[0] : (char)tolower((unsigned char)s[0]);

    if (letter == 'o') { /* "on" and "off" need their second letter */
        letter = (char)tolower((unsigned char)s[1]);
        letter = letter == 'n' ? 'y' : letter == 'f' ? 'n' : '\0';
    }
    switch (letter) {
    case 't':
    case 'f':
        if (!has(m, F_kstrtobool_true_false))
            return -EINVAL;
        break;
    case 'e':
    case 'd':
        if (!has(m, F_kstrtobool_enable_disable))
            return -EINVAL;
        break;
    case 'y':
    case 'n':
    case '1':
    case '0':
        break;
    default:
        return -EINVAL;
    }
    *value = letter == 'y' || letter == 't' || letter == '1' || letter == 'e';
    return 0;
}

/* ---- synthetic uevents ---- */

enum { UUID_LEN = 36, ENV_MAX = 60, ENV_BYTES = 2048 };

struct synthetic {
    const char *action; /* one of the kernel's words */
    char *env[ENV_MAX + 1];
    unsigned nr_env;
    size_t env_bytes;
};

static const char *synthetic_action(const char *word, size_t len)
{
    static const char *const actions[] = {"add",    "remove",  "change", "move",
                                          "online", "offline", "bind",   "unbind"};

    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strlen(actions[i]) == len && memcmp(actions[i], word, len) == 0)
            return actions[i];
    return NULL;
}

static bool uuid_valid(const char *s, size_t len)
{
    if (len < UUID_LEN)
        return false;
    for (size_t i = 0; i < UUID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
            return false;
    }
    return true;
}

static bool env_add(struct machine *m, struct synthetic *event, const char *key, size_t key_len,
                    const char *value, size_t value_len)
{
    size_t size = key_len + 1 + value_len + 1;

    if (event->nr_env == ENV_MAX || event->env_bytes + size > ENV_BYTES)
        return false;
    struct text line = {.m = m};
    text_append(&line, key, key_len);
    text_append(&line, "=", 1);
    text_append(&line, value, value_len);
    event->env[event->nr_env++] = line.data;
    event->env_bytes += size;
    return true;
}

static size_t alnum_len(const char *s, const char *end)
{
    size_t len = 0;

    while (s + len < end && isalnum((unsigned char)s[len]))
        len++;
    return len;
}

/* UUID, then any number of " KEY=VALUE"; no blank at the end. */
static bool synthetic_args(struct machine *m, struct synthetic *event, const char *s,
                           const char *end)
{
    if (!uuid_valid(s, (size_t)(end - s)) || !env_add(m, event, "SYNTH_UUID", 10, s, UUID_LEN))
        return false;
    for (s += UUID_LEN; s < end;) {
        char key[ENV_BYTES + 16] = "SYNTH_ARG_";
        if (*s++ != ' ')
            return false;
        size_t key_len = alnum_len(s, end);
        if (key_len == 0 || key_len > ENV_BYTES || s + key_len == end || s[key_len] != '=')
            return false;
        memcpy(key + 10, s, key_len);
        s += key_len + 1;
        size_t value_len = alnum_len(s, end);
        if (value_len == 0 || !env_add(m, event, key, key_len + 10, s, value_len))
            return false;
        s += value_len;
    }
    return true;
}

/* What is wrong with the text, or NULL. */
static const char *synthetic_parse(struct machine *m, struct synthetic *event, const char *buf,
                                   size_t count)
{
    if (count != 0 && (buf[count - 1] == '\n' || buf[count - 1] == '\0'))
        count--;
    const char *end = buf + count, *blank = count != 0 ? memchr(buf, ' ', count) : NULL;
    event->action = synthetic_action(buf, (size_t)((blank != NULL ? blank : end) - buf));
    if (event->action == NULL)
        return "unknown uevent action string";
    if (blank == NULL)
        return env_add(m, event, "SYNTH_UUID", 10, "0", 1) ? NULL : "failed to send uevent";
    return synthetic_args(m, event, blank + 1, end) ? NULL : "incorrect uevent action arguments";
}

int64_t uevent_synthesize(struct machine *m, const char *buf, size_t count, const char *devpath,
                          const char *subsystem, const char *devname, bool send)
{
    return uevent_synthesize_alias(m, buf, count, devpath, subsystem, devname, send, NULL);
}

int64_t uevent_synthesize_alias(struct machine *m, const char *buf, size_t count,
                                const char *devpath, const char *subsystem, const char *devname,
                                bool send, const char *modalias)
{
    struct synthetic event = {0};
    int64_t ret = (int64_t)count;
    const char *wrong = synthetic_parse(m, &event, buf, count);

    if (wrong == NULL && modalias != NULL &&
        !env_add(m, &event, "MODALIAS", 8, modalias, strlen(modalias)))
        wrong = "failed to send uevent";
    if (wrong != NULL) {
        klog(m, "synth uevent: %s: %s", devpath, wrong);
        if (devname != NULL)
            klog(m, "%s: uevent: failed to send synthetic uevent%s", devname,
                 has(m, F_uevent_store_status) ? ": -22" : "");
        ret = fail(m, -EINVAL, "%s", wrong);
    } else if (send) {
        uevent_add(m, event.action, devpath, subsystem, (const char *const *)event.env);
    }
    for (unsigned i = 0; i < event.nr_env; i++)
        free(event.env[i]);
    return ret;
}

bool name_number(const char *name, const char *prefix, uint64_t *number)
{
    size_t len = strlen(prefix);

    if (strncmp(name, prefix, len) != 0)
        return false;
    const char *digits = name + len;
    if (digits[0] == '\0' || (digits[0] == '0' && digits[1] != '\0') || strlen(digits) > 15)
        return false;
    *number = 0;
    for (; *digits != '\0'; digits++) {
        if (*digits < '0' || *digits > '9')
            return false;
        *number = *number * 10 + (uint64_t)(*digits - '0');
    }
    return true;
}

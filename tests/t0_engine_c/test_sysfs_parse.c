/*
 * test_sysfs_parse.c - how stored text is parsed: numbers, booleans, words, synthetic uevents.
 * Expected values are those of recordings of real kernels.
 */
#include "sysfs/sysfs_parse.c"

#include "testhelper.h"

static struct machine *M;

static void begin(void)
{
    M = calloc(1, sizeof *M);
    M->feature[F_kstrtobool_true_false] = M->feature[F_uevent_store_status] = true;
}

static void end(void)
{
    events_destroy(M);
    klog_destroy(M);
    trace_destroy(M);
    host_memory_destroy(M);
    free(M);
}

/* ---- parsers ---- */

TEST(numbers)
{
    static const struct {
        const char *text;
        int err;
        uint64_t value;
    } cases[] = {
        {"0", 0, 0},
        {"10", 0, 10},
        {"10\n", 0, 10},
        {"0x10", 0, 16},
        {"0X1f", 0, 31},
        {"010", 0, 8},
        {"+0x0118000000", 0, 0x118000000},
        {"042000000000", 0, 0x110000000},
        {"18446744073709551615", 0, UINT64_MAX},
        {"0xffffffffffffffff", 0, UINT64_MAX},
        {"", -EINVAL, 0},
        {"\n", -EINVAL, 0},
        {"10\n\n", -EINVAL, 0},
        {" 10", -EINVAL, 0},
        {"10 ", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"++1", -EINVAL, 0},
        {"+", -EINVAL, 0},
        {"0x", -EINVAL, 0},
        {"0xg", -EINVAL, 0},
        {"abc", -EINVAL, 0},
        {"08", -EINVAL, 0},
        {"1a", -EINVAL, 0},
        {"18446744073709551616", -ERANGE, 0},
        {"0x18446744073709551616", -ERANGE, 0},
        {"99999999999999999999999x", -ERANGE, 0},
        {"0x100000000 ", -EINVAL, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t value = 0;
        int err = parse_u64(cases[i].text, &value);
        if (err != cases[i].err || value != cases[i].value)
            TEST_FAIL("parse_u64(\"%s\"): %d %llu", cases[i].text, err, (unsigned long long)value);
    }
}

TEST(signed_numbers)
{
    int64_t value = 0;

    CHECK_EQ(parse_s64("-12", &value), 0);
    CHECK_EQ(value, -12);
    CHECK_EQ(parse_s64("-12\n", &value), 0);
    CHECK_EQ(value, -12);
    CHECK_EQ(parse_s64("-0x10", &value), 0);
    CHECK_EQ(value, -16);
    CHECK_EQ(parse_s64("+5", &value), 0);
    CHECK_EQ(value, 5);
    CHECK_EQ(parse_s64("-9223372036854775808", &value), 0);
    CHECK_EQ(value, INT64_MIN);
    CHECK_EQ(parse_s64("9223372036854775808", &value), -ERANGE);
    CHECK_EQ(parse_s64("-9223372036854775809", &value), -ERANGE);
    CHECK_EQ(parse_s64("", &value), -EINVAL);
    CHECK_EQ(parse_s64("-", &value), -EINVAL);
    CHECK_EQ(parse_s64("--1", &value), -EINVAL);
    CHECK_EQ(parse_s64("-+1", &value), -EINVAL);
}

TEST(booleans)
{
    static const char *const yes[] = {"1",  "10", "1 junk", "y",    "Yes", "on",
                                      "ON", "oN", "on1",    "true", "T",   "online"};
    static const char *const no[] = {"0", "n", "No", "off", "of", "oFfwhatever", "false", "F"};
    static const char *const bad[] = {"", "\n", "x", "2", "o", "oX", " 1", "e", "d", "enable"};
    bool value;

    begin();
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        CHECK(parse_bool(M, yes[i], &value) == 0 && value);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        CHECK(parse_bool(M, no[i], &value) == 0 && !value);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(parse_bool(M, bad[i], &value), -EINVAL);
    M->feature[F_kstrtobool_true_false] = false;
    M->feature[F_kstrtobool_enable_disable] = true;
    CHECK_EQ(parse_bool(M, "true", &value), -EINVAL);
    CHECK_EQ(parse_bool(M, "F", &value), -EINVAL);
    CHECK(parse_bool(M, "enable", &value) == 0 && value);
    CHECK(parse_bool(M, "D", &value) == 0 && !value);
    end();
}

TEST(words)
{
    CHECK(sysfs_streq("online", "online"));
    CHECK(sysfs_streq("online\n", "online"));
    CHECK(!sysfs_streq("online\n\n", "online"));
    CHECK(!sysfs_streq("online ", "online"));
    CHECK(!sysfs_streq("onlin", "online"));
    CHECK(!sysfs_streq("online_movable", "online"));
    CHECK(!sysfs_streq("Online", "online"));
    CHECK(!sysfs_streq("", "online"));
}

TEST(numbers_in_names)
{
    uint64_t number;

    CHECK(name_number("memory32", "memory", &number));
    CHECK_EQ(number, 32);
    CHECK(name_number("memory0", "memory", &number));
    CHECK(!name_number("memory", "memory", &number));
    CHECK(!name_number("memory032", "memory", &number));
    CHECK(!name_number("memory0x1", "memory", &number));
    CHECK(!name_number("memory3 ", "memory", &number));
    CHECK(!name_number("node3", "memory", &number));
    CHECK(!name_number("memory99999999999999999999", "memory", &number));
}

/* ---- synthetic uevents ---- */

#define UUID "550e8400-e29b-41d4-a716-446655440000"

/* The event made of `text`, its strings joined by blanks; "" for none. */
static const char *synth(const char *text, size_t size, int64_t ret)
{
    static char got[512];
    size_t before = M->nr_events;

    got[0] = '\0';
    CHECK_EQ(uevent_synthesize(M, text, size, "/devices/d", "toy", "toy d", true), ret);
    if (M->nr_events == before)
        return got;
    for (const char *s = M->events[before].payload; *s != '\0'; s += strlen(s) + 1)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", *got != '\0' ? " " : "", s);
    return got;
}
#define SYNTH(text, ret) synth(text, sizeof(text) - 1, ret)

TEST(synthetic_uevents)
{
    begin();
    CHECK_STR(SYNTH("add", 3),
              "add@/devices/d ACTION=add DEVPATH=/devices/d SUBSYSTEM=toy SYNTH_UUID=0");
    CHECK_STR(SYNTH("unbind\n", 7),
              "unbind@/devices/d ACTION=unbind DEVPATH=/devices/d SUBSYSTEM=toy SYNTH_UUID=0");
    CHECK_STR(SYNTH("move\0", 5),
              "move@/devices/d ACTION=move DEVPATH=/devices/d SUBSYSTEM=toy SYNTH_UUID=0");
    CHECK_STR(SYNTH("change " UUID, 43),
              "change@/devices/d ACTION=change DEVPATH=/devices/d SUBSYSTEM=toy SYNTH_UUID=" UUID);
    CHECK_STR(SYNTH("change " UUID " A=1 B=abc\n", 54),
              "change@/devices/d ACTION=change DEVPATH=/devices/d SUBSYSTEM=toy SYNTH_UUID=" UUID
              " SYNTH_ARG_A=1 SYNTH_ARG_B=abc");
    CHECK_EQ(M->nr_klog, 0);
    CHECK_STR(SYNTH("bogus", -EINVAL), "");
    CHECK_STR(M->klog_line[0], "synth uevent: /devices/d: unknown uevent action string");
    CHECK_STR(M->klog_line[1], "toy d: uevent: failed to send synthetic uevent: -22");
    CHECK_STR(SYNTH("add ", -EINVAL), "");
    CHECK_STR(M->klog_line[2], "synth uevent: /devices/d: incorrect uevent action arguments");
    M->feature[F_uevent_store_status] = false;
    SYNTH("ADD", -EINVAL);
    CHECK_STR(M->klog_line[5], "toy d: uevent: failed to send synthetic uevent");
    SYNTH("\n", -EINVAL);
    SYNTH(" add", -EINVAL);
    SYNTH("add\n\n", -EINVAL);
    SYNTH("add\0x", -EINVAL);
    SYNTH("ad", -EINVAL);
    SYNTH("add notauuid", -EINVAL);
    SYNTH("change  x", -EINVAL);
    SYNTH("change " UUID " A", -EINVAL);
    SYNTH("change " UUID " A=", -EINVAL);
    SYNTH("change " UUID " =1", -EINVAL);
    SYNTH("change " UUID " A=b c", -EINVAL);
    SYNTH("change " UUID " A=b ", -EINVAL);
    SYNTH("change " UUID " A_=b", -EINVAL);
    SYNTH("change " UUID "x", -EINVAL);
    SYNTH("change 550e8400xe29b-41d4-a716-446655440000", -EINVAL);
    end();
}

TEST(uevents_of_filtered_devices_are_not_sent)
{
    begin();
    CHECK_EQ(uevent_synthesize(M, "add", 3, "/devices/d", "toy", " d", false), 3);
    CHECK_EQ(M->nr_events, 0);
    CHECK_EQ(uevent_synthesize(M, "bad", 3, "/bus/d", "bus", NULL, true), -EINVAL);
    CHECK_EQ(M->nr_klog, 1); /* a bus says only what was wrong */
    end();
}

TEST(more_variables_than_an_event_holds)
{
    char text[4096] = "add " UUID;

    begin();
    for (int i = 0; i < 100; i++)
        strcat(text, " A=1");
    CHECK_STR(synth(text, strlen(text), -EINVAL), "");
    end();
}

/*
 * testhelper.h - what a C test needs: TEST, CHECK, CHECK_EQ, CHECK_STR and a main(). Include it
 * once, after the engine .c files under test.
 *
 *     #include "mm/buddy.c"        (the whole file, so that its static functions can be called)
 *     #include "testhelper.h"
 *
 *     // MMMM....  ->  MM..MM..     M movable, . free
 *     TEST(two_halves_merge)
 *     {
 *         CHECK_EQ(buddy_order(page), 1);
 *     }
 *
 * Each TEST registers itself. The first failed check of a test prints where and what, and ends that
 * test; the others still run. Owns no engine state: a test makes its machine and destroys it, or
 * the leak check fails the program. What else of the engine is called is linked in, so include only
 * files whose insides are looked at.
 */
#ifndef FAKESYSFS_TESTHELPER_H
#define FAKESYSFS_TESTHELPER_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

typedef void test_function(void);

static struct {
    struct {
        const char *name;
        test_function *run;
    } tests[512];
    size_t nr_tests;
    jmp_buf end_of_test;
} test_runner;

__attribute__((unused)) static void test_register(const char *name, test_function *run)
{
    if (test_runner.nr_tests == sizeof(test_runner.tests) / sizeof(test_runner.tests[0])) {
        fprintf(stderr, "%s: too many tests in one file\n", name);
        __builtin_trap();
    }
    test_runner.tests[test_runner.nr_tests].name = name;
    test_runner.tests[test_runner.nr_tests].run = run;
    test_runner.nr_tests++;
}

#define TEST(name)                                                      \
    static void test_##name(void);                                      \
    __attribute__((constructor)) static void test_register_##name(void) \
    {                                                                   \
        test_register(#name, test_##name);                              \
    }                                                                   \
    static void test_##name(void)

#define TEST_FAIL(...)                                  \
    do {                                                \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__);                   \
        fputc('\n', stderr);                            \
        longjmp(test_runner.end_of_test, 1);            \
    } while (0)

#define CHECK(condition)                        \
    do {                                        \
        if (!(condition))                       \
            TEST_FAIL("CHECK(%s)", #condition); \
    } while (0)

/* Integers of any type; a negative errno reads best as decimal, an address as hexadecimal. */
#define CHECK_EQ(actual, expected)                                                               \
    do {                                                                                         \
        const int64_t actual_ = (int64_t)(actual), expected_ = (int64_t)(expected);              \
        if (actual_ != expected_)                                                                \
            TEST_FAIL("%s is %" PRId64 " (0x%" PRIx64 "), not %s = %" PRId64 " (0x%" PRIx64 ")", \
                      #actual, actual_, (uint64_t)actual_, #expected, expected_,                 \
                      (uint64_t)expected_);                                                      \
    } while (0)

#define CHECK_STR(actual, expected)                                             \
    do {                                                                        \
        const char *actual_ = (actual), *expected_ = (expected);                \
        if (strcmp(actual_, expected_) != 0)                                    \
            TEST_FAIL("%s is \"%s\", not \"%s\"", #actual, actual_, expected_); \
    } while (0)

static int test_passes(test_function *run)
{
    if (setjmp(test_runner.end_of_test) != 0)
        return 0;
    run();
    return 1;
}

/* Without arguments runs every test, with arguments those of these names. Prints failures and a
 * summary. */
int main(int argc, char **argv)
{
    unsigned nr_passed = 0, nr_failed = 0;

    for (size_t i = 0; i < test_runner.nr_tests; i++) {
        int wanted = argc == 1;

        for (int arg = 1; arg < argc; arg++)
            wanted |= strcmp(argv[arg], test_runner.tests[i].name) == 0;
        if (!wanted)
            continue;
        if (test_passes(test_runner.tests[i].run)) {
            nr_passed++;
        } else {
            fprintf(stderr, "FAILED %s\n", test_runner.tests[i].name);
            nr_failed++;
        }
    }
    printf("%u passed, %u failed\n", nr_passed, nr_failed);
    return nr_passed == 0 || nr_failed != 0;
}

#endif

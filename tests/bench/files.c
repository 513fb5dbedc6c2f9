/*
 * files.c - how long it takes a program to read files: one line `PATH NANOSECONDS` per path given.
 *
 * Owns: open, read, read to the end, close of each file in turn, many times; the median of each.
 * Does not own: which files, and what the figures should be (bench.py). With `-w PATH WORD WORD` it
 * stores the two words in turn instead and prints one line per word: `WORD NANOSECONDS`.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 2001, STORES = 101, MAX_FILES = 16 };

static double ns[MAX_FILES][ROUNDS];

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    const double *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static void report(const char *name, double *samples, size_t nr)
{
    qsort(samples, nr, sizeof *samples, by_size);
    printf("%s %.0f\n", name, samples[nr / 2]);
}

static void need(int good, const char *path)
{
    if (good)
        return;
    perror(path);
    exit(1);
}

static double read_once(const char *path)
{
    char text[4096];
    double start = now_ns();
    int fd = open(path, O_RDONLY);

    need(fd >= 0, path);
    while (read(fd, text, sizeof text) > 0)
        ;
    close(fd);
    return now_ns() - start;
}

static double store_once(const char *path, const char *word)
{
    double start = now_ns();
    int fd = open(path, O_WRONLY);

    need(fd >= 0, path);
    need(write(fd, word, strlen(word)) == (ssize_t)strlen(word), word);
    close(fd);
    return now_ns() - start;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "-w") == 0) {
        for (int i = 0; i < STORES; i++)
            for (int word = 0; word < 2; word++)
                ns[word][i] = store_once(argv[2], argv[3 + word]);
        report(argv[3], ns[0], STORES);
        report(argv[4], ns[1], STORES);
        return 0;
    }
    int nr = argc - 1 < MAX_FILES ? argc - 1 : MAX_FILES;
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < nr; k++)
            ns[k][i] = read_once(argv[k + 1]);
    for (int k = 0; k < nr; k++)
        report(argv[k + 1], ns[k], ROUNDS);
    return 0;
}

/* Bring new memory blocks online. Prints "ready" when it listens. */
#include <errno.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ATTEMPTS = 5, WAIT_US = 10000 };

static int store(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return errno;
    int error = fputs(text, file) < 0 ? errno : 0;
    if (fclose(file) != 0 && error == 0)
        error = errno;
    return error;
}

static void bring_online(const char *device)
{
    char path[512];
    int error = 0;

    snprintf(path, sizeof(path), "/sys%s/state", device);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        error = store(path, "online_movable");
        if (error != EBUSY && error != EAGAIN)
            break;
        usleep(WAIT_US);
    }
    printf("%s: %s\n", device, error == 0 ? "online" : strerror(error));
    fflush(stdout);
}

/* A uevent is "add@/devices/...", then KEY=value strings, each with its NUL. */
static bool is_new_memory(const char *message, size_t size)
{
    bool memory = false;

    for (const char *at = message; at < message + size; at += strlen(at) + 1)
        memory |= strcmp(at, "SUBSYSTEM=memory") == 0;
    return memory && strncmp(message, "add@", 4) == 0;
}

int main(void)
{
    char message[8192];
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int uevents = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT);

    if (uevents < 0 || bind(uevents, (struct sockaddr *)&address, sizeof(address)) != 0) {
        perror("uevents");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        ssize_t size = recv(uevents, message, sizeof(message) - 1, 0);
        if (size < 0) {
            perror("uevents");
            return 1;
        }
        message[size] = '\0';
        if (is_new_memory(message, (size_t)size))
            bring_online(strchr(message, '@') + 1);
    }
}

/* machine.c: what this process may use of the machine it runs on. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/setting.h"

#include "base/banned.h"

static size_t read_small(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, out, size - 1);
    (void)close(fd);
    out[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

/* A number, or UINT64_MAX for "max" and for what is not there. */
static uint64_t read_limit(const char *path)
{
    char text[64];
    uint64_t n;
    size_t len = read_small(path, text, sizeof(text));
    return len && slice_u64(slice_trim(slice_of(text, len)), &n) ? n : UINT64_MAX;
}

/* Every level of a path of control groups may set a limit: the smallest counts. */
static uint64_t group_limit(const char *root, slice path, const char *file)
{
    uint64_t least = UINT64_MAX;

    for (;;) {
        char name[1024];
        (void)snprintf(name, sizeof(name), "%s" SLICE_FMT "/%s", root, SLICE_ARG(path), file);
        least = MIN(least, read_limit(name));
        const uint8_t *slash = path.len ? memrchr(path.ptr, '/', path.len) : NULL;
        if (!slash)
            return least;
        path = slice_head(path, (size_t)(slash - path.ptr));
    }
}

/* /proc/self/cgroup: "0::/path" (version 2), "9:memory:/path" (version 1). */
static uint64_t cgroup_memory(void)
{
    char text[4096];
    uint64_t least = UINT64_MAX;
    slice rest = slice_of(text, read_small("/proc/self/cgroup", text, sizeof(text)));

    while (rest.len) {
        const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
        slice line = slice_head(rest, end ? (size_t)(end - rest.ptr) : rest.len);
        rest = slice_from(rest, line.len + 1);
        const uint8_t *path = line.len ? memchr(line.ptr, '/', line.len) : NULL;
        if (!path)
            continue;
        slice group = slice_from(line, (size_t)(path - line.ptr));
        if (slice_starts(line, slice_lit("0::")))
            least = MIN(least, group_limit("/sys/fs/cgroup", group, "memory.max"));
        else if (memmem(line.ptr, line.len, ":memory:", 8))
            least = MIN(least, group_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
    }
    return least;
}

uint64_t machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t machine = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_C(2) << 30;
    return MIN(machine, cgroup_memory());
}

unsigned machine_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

uint64_t machine_disk_free(const char *path)
{
    char at[4096];
    struct statvfs v;

    if ((size_t)snprintf(at, sizeof(at), "%s", path) >= sizeof(at))
        return 0;
    for (;;) { /* the folder may not exist yet: its nearest parent does */
        if (statvfs(at, &v) == 0)
            return (uint64_t)v.f_bavail * v.f_frsize;
        char *slash = strrchr(at, '/');
        if (!slash)
            return statvfs(".", &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;
        if (slash == at)
            return statvfs("/", &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;
        *slash = 0;
    }
}

bool host_is_loopback(const char *address)
{
    slice s = slice_str(address);
    const uint8_t *colon = s.len ? memrchr(s.ptr, ':', s.len) : NULL;
    char host[64];
    struct in_addr a4;
    struct in6_addr a6;

    s = slice_head(s, colon ? (size_t)(colon - s.ptr) : s.len);
    if (s.len > 1 && s.ptr[0] == '[')
        s = slice_of(s.ptr + 1, s.len - 2);
    if (slice_eq(s, slice_lit("localhost")))
        return true;
    if (s.len == 0 || s.len >= sizeof(host))
        return false;
    (void)snprintf(host, sizeof(host), SLICE_FMT, SLICE_ARG(s));
    if (inet_pton(AF_INET, host, &a4) == 1)
        return (ntohl(a4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &a6) == 1 && IN6_IS_ADDR_LOOPBACK(&a6);
}

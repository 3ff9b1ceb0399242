/*
 * Loaded into the gateway (LD_PRELOAD): counts every call that changes what lies on its disk, says
 * each in a log, and lets one of them fail. What it knows:
 *
 *   FAULT_ROOT   only paths under it that have /disk/ or /data in them count
 *   FAULT_LOG    a line for each call: its number, its name, "FAILS" if it was made to, the path
 *   FAULT_NAME, FAULT_PART, FAULT_AT
 *                which call fails: the so many-th of this name on a path with this text in it
 *   FAULT_ERRNO  with what
 *   FAULT_LIES   nothing is synced, and nobody is told
 *   FAULT_ABORT  opening a path with this text in it for reading aborts the process
 *
 * The calls are those that Rust's standard library makes through libc; what would go past it (memory
 * maps, the kernel's own writing back) is for the power cuts to show.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *root, *abort_at, *fail_name, *fail_part;
static long fail_at, fail_with;
static int lies;
static int log_fd = -1;
static long counted, matched;

__attribute__((constructor)) static void begin(void)
{
    const char *log = getenv("FAULT_LOG"), *at = getenv("FAULT_AT"), *with = getenv("FAULT_ERRNO");
    root = getenv("FAULT_ROOT");
    abort_at = getenv("FAULT_ABORT");
    fail_name = getenv("FAULT_NAME");
    fail_part = getenv("FAULT_PART");
    lies = getenv("FAULT_LIES") != NULL;
    fail_at = at ? atol(at) : 0;
    fail_with = with ? atol(with) : EIO;
    if (root && log)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Whether this call is the one to fail. */
static int fails(const char *name, const char *path)
{
    if (!root || !path || strncmp(path, root, strlen(root)) != 0)
        return 0;
    if (!strstr(path, "/disk/") && !strstr(path, "/data"))
        return 0;
    long number = __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
    int failing = fail_name && fail_part && strcmp(name, fail_name) == 0 && strstr(path, fail_part) &&
                  __atomic_add_fetch(&matched, 1, __ATOMIC_SEQ_CST) == fail_at;
    char line[4400];
    int length = snprintf(line, sizeof line, "%ld %s %s%s\n", number, name, failing ? "FAILS " : "",
                          path + strlen(root));
    if (log_fd >= 0 && length > 0)
        syscall(SYS_write, log_fd, line, (size_t)length);
    if (failing)
        errno = (int)fail_with;
    return failing;
}

static int fails_fd(const char *name, int fd)
{
    char link[40], path[4096];
    if (!root)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return fails(name, path);
}

#define ON_FD(type, name, arguments, fd, call) \
    type name arguments { return fails_fd(#name, fd) ? -1 : (type)(call); }
#define ON_PATH(name, arguments, path, call) \
    int name arguments { return fails(#name, path) ? -1 : (int)(call); }

ON_FD(ssize_t, write, (int fd, const void *b, size_t n), fd, syscall(SYS_write, fd, b, n))
ON_FD(ssize_t, writev, (int fd, const struct iovec *v, int n), fd, syscall(SYS_writev, fd, v, n))
ON_FD(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), fd,
      syscall(SYS_pwrite64, fd, b, n, o))
ON_FD(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), fd,
      syscall(SYS_pwrite64, fd, b, n, o))
ON_FD(int, fsync, (int fd), fd, lies ? 0 : syscall(SYS_fsync, fd))
ON_FD(int, fdatasync, (int fd), fd, lies ? 0 : syscall(SYS_fdatasync, fd))
ON_FD(int, ftruncate, (int fd, off_t n), fd, syscall(SYS_ftruncate, fd, n))
ON_FD(int, ftruncate64, (int fd, off64_t n), fd, syscall(SYS_ftruncate, fd, n))
ON_FD(int, fallocate, (int fd, int m, off_t o, off_t n), fd, syscall(SYS_fallocate, fd, m, o, n))
ON_FD(int, fallocate64, (int fd, int m, off64_t o, off64_t n), fd,
      syscall(SYS_fallocate, fd, m, o, n))
ON_PATH(rename, (const char *from, const char *to), to,
        syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0))
ON_PATH(unlink, (const char *path), path, syscall(SYS_unlinkat, AT_FDCWD, path, 0))
ON_PATH(mkdir, (const char *path, mode_t mode), path, syscall(SYS_mkdirat, AT_FDCWD, path, mode))
ON_PATH(chmod, (const char *path, mode_t mode), path, syscall(SYS_fchmodat, AT_FDCWD, path, mode))

static int opens(const char *path, int flags, mode_t mode)
{
    if ((flags & O_CREAT) && fails("create", path))
        return -1;
    if (abort_at && (flags & O_ACCMODE) == O_RDONLY && !(flags & O_DIRECTORY) &&
        strstr(path, abort_at)) {
        struct stat it;
        if (stat(path, &it) == 0 && S_ISREG(it.st_mode))
            abort();
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return opens(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

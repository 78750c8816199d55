/*
 * failing_calls.c - a library to preload: system calls on chosen files fail on demand.
 *
 * shim_arm() chooses call, errno, a part of the file's path, and how many calls fail; shim_calls()
 * tells how many such calls there were since, failed or not.  The tests call both through ctypes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char call_name[32], path_part[256];
static int call_errno, failures_left, calls;

void shim_arm(const char *call, int sys_errno, const char *part, int failures);
int shim_calls(void);

void shim_arm(const char *call, int sys_errno, const char *part, int failures) {
    pthread_mutex_lock(&lock);
    snprintf(call_name, sizeof call_name, "%s", call);
    snprintf(path_part, sizeof path_part, "%s", part);
    call_errno = sys_errno;
    failures_left = failures;
    calls = 0;
    pthread_mutex_unlock(&lock);
}

int shim_calls(void) {
    pthread_mutex_lock(&lock);
    int n = calls;
    pthread_mutex_unlock(&lock);
    return n;
}

/* Is it the turn of this call on this file to fail?  Sets errno. */
static int fails(const char *call, int fd) {
    char link[64], path[4096];
    int now = 0;
    pthread_mutex_lock(&lock);
    if (strcmp(call, call_name) == 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, path, sizeof path - 1);
        path[len > 0 ? len : 0] = '\0';
        if (strstr(path, path_part) != NULL) {
            calls++;
            now = failures_left > 0;
            failures_left -= now;
        }
    }
    pthread_mutex_unlock(&lock);
    if (now) {
        errno = call_errno;
    }
    return now;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) {
    return fails("sync", fd) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd) {
    return fails("sync", fd) ? -1 : REAL(fdatasync)(fd);
}

ssize_t pread(int fd, void *to, size_t len, off_t at) {
    return fails("read", fd) ? -1 : REAL(pread)(fd, to, len, at);
}

ssize_t pread64(int fd, void *to, size_t len, off64_t at) {
    return fails("read", fd) ? -1 : REAL(pread64)(fd, to, len, at);
}

void *mmap(void *address, size_t len, int protection, int flags, int fd, off_t at) {
    return fd >= 0 && fails("map", fd) ? MAP_FAILED
                                       : REAL(mmap)(address, len, protection, flags, fd, at);
}

void *mmap64(void *address, size_t len, int protection, int flags, int fd, off64_t at) {
    return fd >= 0 && fails("map", fd) ? MAP_FAILED
                                       : REAL(mmap64)(address, len, protection, flags, fd, at);
}

/*
 * system.c - clock, sleep, randomness and boot id of this machine, for every implementation of the
 * seam.
 */
#include "base/hash.h"
#include "io/vfs_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/random.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

/* Repeat a call that returns -1 and EINTR. */
#define RETRY(result, call)                                                                        \
    do {                                                                                           \
        (result) = (call);                                                                         \
    } while ((result) < 0 && errno == EINTR)

uint64_t vex_system_clock_ms(vex_vfs *vfs) {
    (void)vfs;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void vex_system_sleep_ms(vex_vfs *vfs, uint32_t ms) {
    (void)vfs;
    struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* Whole small file, up to `len` bytes; the number read, or -1 and errno. */
static ssize_t read_small_file(const char *path, void *dst, size_t len) {
    int fd;
    RETRY(fd, open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0) {
        return -1;
    }
    size_t done = 0;
    ssize_t n = 0;
    while (done < len) {
        RETRY(n, read(fd, (char *)dst + done, len - done));
        if (n <= 0) {
            break;
        }
        done += (size_t)n;
    }
    int sys_errno = errno;
    close(fd);
    errno = sys_errno;
    return n < 0 ? -1 : (ssize_t)done;
}

vex_status vex_system_random_bytes(vex_vfs *vfs, void *dst, size_t len) {
    (void)vfs;
#if defined(__APPLE__)
    arc4random_buf(dst, len);
    return VEX_OK;
#else
    size_t done = 0;
#if defined(__linux__)
    while (done < len) {
        ssize_t n;
        RETRY(n, getrandom((char *)dst + done, len - done, 0));
        if (n <= 0) {
            break; /* an old kernel or a sandbox: the device may still work */
        }
        done += (size_t)n;
    }
#endif
    if (done < len) {
        ssize_t n = read_small_file("/dev/urandom", (char *)dst + done, len - done);
        if (n < 0 || (size_t)n < len - done) {
            return vex_vfs_fail("/dev/urandom", n < 0 ? errno : EIO, "cannot get random bytes");
        }
    }
    return VEX_OK;
#endif
}

static uint64_t boot_id;
static pthread_once_t boot_id_once = PTHREAD_ONCE_INIT;

/* No process outlives a boot, and every read of a collection asks: once is enough. */
static void read_boot_id(void) {
    char id[64];
    size_t len = 0;
#if defined(__APPLE__)
    size_t size = sizeof id;
    if (sysctlbyname("kern.bootsessionuuid", id, &size, NULL, 0) == 0) {
        len = strnlen(id, size);
    }
#else
    ssize_t n = read_small_file("/proc/sys/kernel/random/boot_id", id, sizeof id);
    len = n > 0 ? (size_t)n : 0;
#endif
    boot_id = len > 0 ? vex_hash64(id, len) | 1 : 0; /* never 0 when known */
}

uint64_t vex_system_boot_id(vex_vfs *vfs) {
    (void)vfs;
    pthread_once(&boot_id_once, read_boot_id);
    return boot_id;
}

const char *vex_environment(const char *name) {
    return getenv(name);
}

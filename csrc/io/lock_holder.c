/*
 * lock_holder.c - which process has a lock on a file, for messages.
 *
 * Linux lists all locks in /proc/locks, a line each:
 *
 *   1: FLOCK  ADVISORY  WRITE 4711 fe:00:2146963 0 EOF
 *
 * with the pid, the device (major:minor, hexadecimal) and the inode.  In lines of those who wait, "->"
 * comes first.  The pid is 0 or -1 when the process is not visible from here (another container).
 * Systems without /proc tell nothing, nor do file systems whose device there is not that of stat().
 */
#include "base/mem.h"
#include "io/vfs_internal.h"

#ifdef __linux__
#include <sys/sysmacros.h>
#endif

#include "base/poison.h"

#ifdef __linux__

#define LOCKS_MAX ((size_t)1 << 20) /* of text; beyond it nothing is known */

/* A file of /proc as text; "" when it cannot be read. */
static void read_text(const char *path, char *text, size_t size) {
    vex_vfs *vfs = vex_vfs_posix();
    vex_file *file = NULL;
    size_t got = 0;
    if (vfs->file_open(vfs, path, VEX_FILE_READ, &file) == VEX_OK) {
        if (vfs->file_read(vfs, file, text, size - 1, 0, &got) != VEX_OK) {
            got = 0;
        }
        vfs->file_close(vfs, file);
    }
    text[got] = '\0';
}

/* Does this line tell of a lock that another process has on the file? */
static bool is_lock_on(const char *line, const vex_file_stat *file, int64_t *pid, bool *writes) {
    char kind[16], access[16];
    unsigned major_no, minor_no;
    unsigned long long inode;
    long long owner;
    if (sscanf(line, "%*u: %15s %*15s %15s %lld %x:%x:%llu", kind, access, &owner, &major_no,
               &minor_no, &inode) != 6) {
        return false;
    }
    *pid = owner;
    *writes = strcmp(access, "WRITE") == 0;
    return (strcmp(kind, "FLOCK") == 0 || strcmp(kind, "POSIX") == 0) && owner > 0 &&
           owner != getpid() && inode == file->inode && major_no == major(file->device) &&
           minor_no == minor(file->device);
}

static void name_process(vex_lock_holder *holder) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%lld/comm", (long long)holder->pid);
    read_text(path, holder->name, sizeof holder->name);
    holder->name[strcspn(holder->name, "\n")] = '\0';
}

void vex_system_lock_holder(vex_vfs *vfs, const char *path, vex_lock_holder *out) {
    vex_file_stat file;
    *out = (vex_lock_holder){0};
    char *text = vex_malloc(LOCKS_MAX);
    if (text == NULL || vfs->path_stat(vfs, path, &file) != VEX_OK) {
        vex_free(text);
        return;
    }
    read_text("/proc/locks", text, LOCKS_MAX);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        int64_t pid;
        bool writes;
        line += *line == '\n';
        if (is_lock_on(line, &file, &pid, &writes) && (writes || out->pid == 0)) {
            out->pid = pid; /* who writes is waited for, rather than who reads */
        }
    }
    vex_free(text);
    if (out->pid != 0) {
        name_process(out);
    }
}

#else

void vex_system_lock_holder(vex_vfs *vfs, const char *path, vex_lock_holder *out) {
    (void)vfs;
    (void)path;
    *out = (vex_lock_holder){0};
}

#endif

void vex_find_lock_holder(const char *path, vex_lock_holder *out) {
    vex_vfs *vfs = vex_vfs_posix();
    vfs->path_lock_holder(vfs, path, out);
}

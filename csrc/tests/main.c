/*
 * main.c - runs the registered tests (see harness.h).
 */
#include "tests/harness.h"

#include <dirent.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct test_case {
    const char *file, *name;
    test_function function;
} test_case;

#define TESTS_MAX 2000
static test_case cases[TESTS_MAX];
static size_t n_cases;
static jmp_buf failure_exit;
static uint64_t seed = 20261121, random_state;
static char scratch[256];

void test_register(const char *file, const char *name, test_function function) {
    if (n_cases < TESTS_MAX) {
        cases[n_cases++] = (test_case){file, name, function};
    }
}

void test_failed(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (--seed %llu)\n", (unsigned long long)seed);
    va_end(arguments);
    longjmp(failure_exit, 1);
}

uint64_t test_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545F4914F6CDD1DULL;
}

float test_random_float(void) {
    return (float)((double)(test_random() >> 11) / 4503599627370496.0 - 1.0);
}

static void remove_tree(const char *path) {
    DIR *directory = opendir(path);
    if (directory == NULL) {
        unlink(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            char child[1024];
            snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
            remove_tree(child);
        }
    }
    closedir(directory);
    rmdir(path);
}

const char *test_directory(void) {
    if (scratch[0] == '\0') {
        const char *base = getenv("TMPDIR");
        snprintf(scratch, sizeof scratch, "%s/vexfs-test-XXXXXX", base ? base : "/tmp");
        if (mkdtemp(scratch) == NULL) {
            test_failed(__FILE__, __LINE__, "cannot make a scratch directory %s", scratch);
        }
    }
    return scratch;
}

static bool run(const test_case *test) {
    random_state = seed * 0x9E3779B97F4A7C15ULL + 1;
    scratch[0] = '\0';
    if (setjmp(failure_exit) != 0) {
        fprintf(stderr, "FAILED %s (%s)%s%s\n", test->name, test->file,
                scratch[0] ? ", files are in " : "", scratch);
        return false;
    }
    test->function();
    if (scratch[0] != '\0') {
        remove_tree(scratch);
    }
    return true;
}

/* In a process of its own: ThreadSanitizer loses count of the threads of children in a process that
 * has had many. */
static bool run_apart(const char *program, const test_case *test) {
    extern char **environ;
    char number[32];
    snprintf(number, sizeof number, "%llu", (unsigned long long)seed);
    const char *arguments[] = {program, "--only", test->name, "--seed", number, "--quiet", NULL};
    pid_t child = 0;
    int status = 1;
    return posix_spawn(&child, program, NULL, NULL, (char **)(uintptr_t)arguments, environ) == 0 &&
           waitpid(child, &status, 0) == child && status == 0;
}

static struct {
    const char *filter, *only;
    bool verbose, quiet, apart, list;
} options;

static bool read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc) {
            options.filter = argv[++i];
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            options.only = argv[++i];
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--verbose") == 0) {
            options.verbose = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            options.quiet = true;
        } else if (strcmp(argv[i], "--apart") == 0) {
            options.apart = true;
        } else if (strcmp(argv[i], "--list") == 0) {
            options.list = true;
        } else {
            fprintf(stderr,
                    "usage: %s [--filter text] [--only name] [--seed n] [--apart] [--verbose] "
                    "[--quiet] [--list]\n",
                    argv[0]);
            return false;
        }
    }
    return true;
}

static bool is_wanted(const test_case *test) {
    return (options.only == NULL || strcmp(test->name, options.only) == 0) &&
           (options.filter == NULL || strstr(test->name, options.filter) != NULL ||
            strstr(test->file, options.filter) != NULL);
}

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) {
        return 2;
    }
    size_t n_passed = 0, n_failed = 0;
    for (size_t t = 0; t < n_cases; t++) {
        if (!is_wanted(&cases[t])) {
            continue;
        }
        if (options.list) {
            printf("%s %s\n", cases[t].file, cases[t].name);
            continue;
        }
        if (options.verbose) {
            fprintf(stderr, "%s\n", cases[t].name); /* the last one shown is where it crashed */
        }
        if (options.apart ? run_apart(argv[0], &cases[t]) : run(&cases[t])) {
            n_passed++;
        } else {
            n_failed++;
        }
    }
    if (!options.list && !options.quiet) {
        printf("%zu passed, %zu failed\n", n_passed, n_failed);
    }
    return options.list || (n_failed == 0 && n_passed > 0) ? 0 : 1;
}

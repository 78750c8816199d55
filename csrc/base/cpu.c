/*
 * cpu.c - processor features.  An x86 feature counts only when the operating system saves its
 * registers, which __builtin_cpu_supports() checks for the AVX family.
 */
#include "base/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#if defined(__linux__)
#include <sys/resource.h>
#elif defined(__APPLE__)
#include <pthread/qos.h>
#endif

#include "base/poison.h"

static vex_cpu_features features;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)

static bool has_f16c(void) {
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1u);
}

static void detect(void) {
    __builtin_cpu_init();
    features.sse42 = __builtin_cpu_supports("sse4.2");
    features.avx2_fma =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    features.avx512 = features.avx2_fma && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
    features.few_far_requests = __builtin_cpu_is("intel");
    features.avx512_vnni = features.avx512 && __builtin_cpu_supports("avx512vnni");
}

#elif defined(__aarch64__) && defined(__linux__)

/* Bits of AT_HWCAP, part of the kernel's interface (asm/hwcap.h). */
#define HWCAP_BIT_CRC32 (1UL << 7)
#define HWCAP_BIT_DOTPROD (1UL << 20)

static void detect(void) {
    unsigned long bits = getauxval(AT_HWCAP);
    features.neon = true;
    features.arm_crc32 = (bits & HWCAP_BIT_CRC32) != 0;
    features.arm_dotprod = (bits & HWCAP_BIT_DOTPROD) != 0;
}

#elif defined(__aarch64__) && defined(__APPLE__)

static bool has(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}

static void detect(void) {
    features.neon = true;
    features.arm_crc32 = has("hw.optional.armv8_crc32");
    features.arm_dotprod = has("hw.optional.arm.FEAT_DotProd");
}

#else

static void detect(void) {
#if defined(__aarch64__)
    features.neon = true;
#endif
}

#endif

const vex_cpu_features *vex_cpu(void) {
    pthread_once(&once, detect);
    return &features;
}

static uint32_t cpu_count;
static pthread_once_t count_once = PTHREAD_ONCE_INIT;

/* The C library opens a file of the system for this. */
static void count_cpus(void) {
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_count = n > 0 ? (uint32_t)n : 1;
}

uint32_t vex_cpu_count(void) {
    pthread_once(&count_once, count_cpus);
    return cpu_count;
}

#define NICENESS 10

void vex_thread_give_way(void) {
#if defined(__linux__)
    (void)setpriority(PRIO_PROCESS, 0, NICENESS); /* of this thread alone, on Linux */
#elif defined(__APPLE__)
    (void)pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0);
#endif
}

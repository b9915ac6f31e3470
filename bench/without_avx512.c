// Hides AVX-512, AMX and AVX-VNNI from a process, so that a runtime without a switch for it runs its AVX2 code:
//
//     gcc -O2 -shared -fPIC bench/without_avx512.c -o target/without_avx512.so
//     LD_PRELOAD=$PWD/target/without_avx512.so cargo xtask rivals ...
//
// Linux on x86-64 can make CPUID fault (arch_prctl(2), ARCH_SET_CPUID), if the CPU has `cpuid_fault` in
// /proc/cpuinfo. The handler runs the real instruction and clears the bits. Threads inherit the setting, and
// processes that are started load this library again.

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (UINT32_C(1) << (n))

// Whether CPUID works (1) or faults (0) in this thread.
static long set_cpuid(int works) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, works); }

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)r[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) {
        // A real fault: it happens again, and ends the process.
        signal(SIGSEGV, SIG_DFL);
        return;
    }
    uint32_t leaf = (uint32_t)r[REG_RAX], subleaf = (uint32_t)r[REG_RCX], a, b, c, d;
    set_cpuid(1);
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(subleaf));
    set_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        // AVX512F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS,
        // VP2INTERSECT, AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8.
        b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
        c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
        d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
    } else if (leaf == 7 && subleaf == 1) {
        // AVX-VNNI, AVX512-BF16, AMX-FP16.
        a &= ~(BIT(4) | BIT(5) | BIT(21));
    }
    r[REG_RAX] = a;
    r[REG_RBX] = b;
    r[REG_RCX] = c;
    r[REG_RDX] = d;
    r[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    if (set_cpuid(0) != 0) {
        // Without it the figures would be another CPU's.
        perror("arch_prctl(ARCH_SET_CPUID)");
        _exit(1);
    }
}

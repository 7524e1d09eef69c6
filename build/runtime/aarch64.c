/*
 * AArch64: AAPCS64, 6.2 "Universal stack constraints"; system calls as in syscall(2), "arm64".
 */

/* On entry sp points at argc, 16-byte aligned; a frame record (x29, x30) of zero marks the outermost frame. */
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, %function\n"
    "_start:\n"
    "    mov x29, #0\n"
    "    mov x30, #0\n"
    "    mov x0, sp\n"
    "    bl start\n");

static long system_call(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a; /* also the result, or -errno */
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3)
                     : "memory"); /* the kernel preserves all registers except x0, and the flags */
    return x0;
}

#include "libc.c"

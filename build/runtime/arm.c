/*
 * 32-bit ARM, EABI: AAPCS32, 6.2.1 "The Stack"; system calls as in syscall(2), "arm/EABI".
 */

/* On entry sp points at argc, 8-byte aligned as at a call (AAPCS32); fp and lr of zero mark the outermost frame. */
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, %function\n"
    "_start:\n"
    "    mov r11, #0\n"
    "    mov lr, #0\n"
    "    mov r0, sp\n"
    "    bl start\n");

static long system_call(long number, long a, long b, long c, long d) {
    register long r7 __asm__("r7") = number;
    register long r0 __asm__("r0") = a; /* also the result, or -errno */
    register long r1 __asm__("r1") = b;
    register long r2 __asm__("r2") = c;
    register long r3 __asm__("r3") = d;
    __asm__ volatile("svc #0"
                     : "+r"(r0)
                     : "r"(r7), "r"(r1), "r"(r2), "r"(r3)
                     : "memory"); /* the kernel preserves all registers except r0, and the flags */
    return r0;
}

#include "libc.c"

/*
 * RISC-V, 64-bit: RISC-V psABI, "Integer Calling Convention" and "Global pointer"; system calls as in syscall(2),
 * "riscv".
 */

/* On entry sp points at argc, 16-byte aligned. The linker may relax addresses to gp plus an offset, so gp is set first,
 * by code that must not be relaxed itself. */
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    ".option push\n"
    ".option norelax\n"
    "    lla gp, __global_pointer$\n"
    ".option pop\n"
    "    mv a0, sp\n"
    "    call start\n");

static long system_call(long number, long a, long b, long c, long d) {
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a; /* also the result, or -errno */
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3)
                     : "memory"); /* the kernel preserves all registers except a0 */
    return a0;
}

#include "libc.c"

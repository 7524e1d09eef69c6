/*
 * x86-64: System V psABI for AMD64, 3.4.1 "Initial Stack and Register State" and A.2.1 "Calling Conventions" (Linux).
 */

/* On entry rsp points at argc, 16-byte aligned as for `call`; rbp of zero marks the outermost frame. */
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    "    xorl %ebp, %ebp\n"
    "    movq %rsp, %rdi\n"
    "    call start\n");

static long system_call(long number, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d; /* the fourth argument; functions use rcx, but `syscall` overwrites it */
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)                                  /* rax: the result, or -errno */
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) /* rax: the number; rdi, rsi, rdx, r10 */
                     : "rcx", "r11",                                 /* `syscall` saves rip and rflags here */
                       "memory");                                    /* the kernel reads and writes our buffers */
    return result;
}

#include "libc.c"

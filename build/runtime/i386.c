/*
 * i386: System V psABI for i386, 2.3.1 "Initial Stack and Register State"; system calls as in syscall(2).
 */

/* On entry esp points at argc, 16-byte aligned; arguments are on the stack, which has to be aligned at each call. */
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    "    xorl %ebp, %ebp\n"
    "    movl %esp, %eax\n"
    "    subl $12, %esp\n"
    "    pushl %eax\n"
    "    call start\n");

static long system_call(long number, long a, long b, long c, long d) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)                                  /* eax: the result, or -errno */
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d)   /* eax: the number; ebx, ecx, edx, esi */
                     : "memory");                                    /* the kernel preserves all other registers */
    return result;
}

#include "libc.c"

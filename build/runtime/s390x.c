/*
 * z/Architecture, 64-bit: s390x ELF ABI Supplement, 1.2.2 "The Stack Frame" and 2.3 "Process Initialization"; system
 * calls as in syscall(2), "s390x".
 */

/* On entry r15 points at argc. A callee may save registers in the 160 bytes above its stack pointer on entry;
 * the back chain in the first eight of them is zero in the outermost frame. */
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    "    lgr %r2, %r15\n"
    "    aghi %r15, -160\n"
    "    xc 0(8, %r15), 0(%r15)\n"
    "    brasl %r14, start\n");

static long system_call(long number, long a, long b, long c, long d) {
    register long r1 __asm__("r1") = number;
    register long r2 __asm__("r2") = a; /* also the result, or -errno */
    register long r3 __asm__("r3") = b;
    register long r4 __asm__("r4") = c;
    register long r5 __asm__("r5") = d;
    __asm__ volatile("svc 0"
                     : "+d"(r2)
                     : "d"(r1), "d"(r3), "d"(r4), "d"(r5) /* "d": a general register */
                     : "memory"); /* the kernel preserves all registers except r2, and the condition code */
    return r2;
}

#include "libc.c"

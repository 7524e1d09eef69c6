/*
 * 64-bit little-endian POWER: OpenPOWER ELFv2 ABI, 2.2.1 "General Stack Frame Requirements", 2.3.1 "Function Prologue"
 * and 4.1.2.1 "Registers" (at process start); system calls: the kernel's Documentation/arch/powerpc/syscall64-abi.rst.
 */

/*
 * On entry r12 is the address of _start, from which the TOC pointer r2 is computed; r1 points at argc. A frame of the
 * minimum size, 32 bytes, is pushed. Its back chain of zero marks the outermost frame, and `start` saves lr in it.
 */
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    "    addis 2, 12, .TOC.-_start@ha\n"
    "    addi 2, 2, .TOC.-_start@l\n"
    "    mr 3, 1\n"
    "    li 0, 0\n"
    "    stdu 0, -32(1)\n"
    "    bl start\n"
    "    nop\n");

static long system_call(long number, long a, long b, long c, long d) {
    register long r0 __asm__("r0") = number;
    register long r3 __asm__("r3") = a; /* also the result, or errno */
    register long r4 __asm__("r4") = b;
    register long r5 __asm__("r5") = c;
    register long r6 __asm__("r6") = d;
    __asm__ volatile("sc\n\t"
                     "bns+ 0f\n\t" /* CR0.SO is set on failure: return -errno, as other CPUs do */
                     "neg 3, 3\n"
                     "0:"
                     : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6) /* r0, r3 to r8 are volatile, and ... */
                     :
                     : "r7", "r8", "r9", "r10", "r11", "r12", /* ... r9 to r12, ctr and xer as at a call */
                       "ctr", "xer", "cr0",                   /* cr0 is volatile; cr1, cr5 to cr7 and lr are not */
                       "memory");                             /* the kernel reads and writes our buffers */
    return r3;
}

#include "libc.c"

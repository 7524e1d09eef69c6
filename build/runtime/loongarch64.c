/*
 * LoongArch, 64-bit: LoongArch ELF psABI, "Procedure Calling Convention"; system calls as in syscall(2), "loongarch".
 */

/* On entry sp points at argc, 16-byte aligned; fp and ra of zero mark the outermost frame. */
__asm__(
    ".text\n"
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    "    move $fp, $zero\n"
    "    move $ra, $zero\n"
    "    move $a0, $sp\n"
    "    bl start\n");

static long system_call(long number, long a, long b, long c, long d) {
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a; /* also the result, or -errno */
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    __asm__ volatile("syscall 0"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3)
                     : "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8", /* the kernel may change these */
                       "memory"); /* the kernel reads and writes our buffers */
    return a0;
}

#include "libc.c"

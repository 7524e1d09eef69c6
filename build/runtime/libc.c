/*
 * The functions of POSIX that the programs use, on top of the one function that each CPU's file defines:
 *
 *     static long system_call(long number, long a, long b, long c, long d);
 *
 * Where POSIX functions return -1 and set errno, these return the kernel's negative error number, because errno would
 * be the only writable variable of the program. Callers test for `< 0`, which works with any libc.
 */
#include <asm/unistd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#define EINTR 4

/* include/uapi/linux/sched.h: clone() with only the child's exit signal is fork(). */
#ifdef __NR_fork
#define FORK system_call(__NR_fork, 0, 0, 0, 0)
#else
#define FORK system_call(__NR_clone, SIGCHLD, 0, 0, 0)
#endif

/* `stack` is the initial stack (System V ABI, "Process Initialization"): argc, then argv. */
__attribute__((noreturn, used)) void start(long *stack);

/* `main` under another name, because programs may declare it with or without parameters. */
int run(int argc, char **argv) __asm__("main");

void start(long *stack) {
    _exit(run((int)stack[0], (char **)(stack + 1)));
}

RUNTIME void _exit(int status) {
    for (;;)
        system_call(__NR_exit_group, status, 0, 0, 0);
}

RUNTIME ssize_t write(int fd, const void *bytes, size_t length) {
    return system_call(__NR_write, fd, (long)bytes, (long)length, 0);
}

RUNTIME pid_t fork(void) {
    return (pid_t)FORK;
}

RUNTIME pid_t getpid(void) {
    return (pid_t)system_call(__NR_getpid, 0, 0, 0, 0);
}

RUNTIME pid_t getppid(void) {
    return (pid_t)system_call(__NR_getppid, 0, 0, 0, 0);
}

RUNTIME pid_t waitpid(pid_t pid, int *status, int options) {
    return (pid_t)system_call(__NR_wait4, pid, (long)status, options, 0);
}

RUNTIME int sched_yield(void) {
    return (int)system_call(__NR_sched_yield, 0, 0, 0, 0);
}

RUNTIME int sigemptyset(sigset_t *set) {
    for (size_t i = 0; i < sizeof set->words / sizeof set->words[0]; i++)
        set->words[i] = 0;
    return 0;
}

RUNTIME int sigaddset(sigset_t *set, int number) {
    const int bits = 8 * sizeof set->words[0];
    set->words[(number - 1) / bits] |= 1UL << (number - 1) % bits;
    return 0;
}

RUNTIME int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    return (int)system_call(__NR_rt_sigprocmask, how, (long)set, (long)old, sizeof *set);
}

/* SIGSTOP with SIGCONT interrupts the wait (signal(7), "Interruption of system calls ... by stop signals"). */
RUNTIME int sigwait(const sigset_t *set, int *number) {
    long result;
    do
        result = system_call(__NR_rt_sigtimedwait, (long)set, 0, 0, sizeof *set);
    while (result == -EINTR);
    *number = (int)result;
    return result < 0 ? (int)-result : 0;
}

/*
 * The kernel's struct sigaction (include/linux/signal_types.h): action, flags, on some CPUs a restorer, mask. All but
 * the action is zero, so the same struct works for every CPU. Its fields are assigned one by one, because gcc may call
 * memset for an initializer.
 */
RUNTIME void (*signal(int number, void (*action)(int)))(int) {
    struct {
        void (*action)(int);
        unsigned long flags;
        void (*restorer)(void);
        sigset_t mask;
    } change, old;
    change.action = action;
    change.flags = 0;
    change.restorer = NULL;
    sigemptyset(&change.mask);
    /* Two structs, because qemu-user writes the old action before it reads the new one. */
    if (system_call(__NR_rt_sigaction, number, (long)&change, (long)&old, sizeof change.mask) < 0)
        return SIG_ERR;
    return old.action;
}

RUNTIME size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

static int lower(char letter) {
    return letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : (unsigned char)letter;
}

RUNTIME int strcasecmp(const char *left, const char *right) {
    while (*left && lower(*left) == lower(*right)) {
        left++;
        right++;
    }
    return lower(*left) - lower(*right);
}

/* number / 10, exactly. On 32-bit ARM a division would call libgcc, which is not linked. */
static unsigned divide_by_10(unsigned number) {
    return (unsigned)(number * 0xCCCCCCCDULL >> 35);
}

static char *format_number(char *end, unsigned number) {
    char digits[10];
    size_t length = 0;
    do {
        digits[length++] = (char)('0' + (number - 10 * divide_by_10(number)));
        number = divide_by_10(number);
    } while (number);
    while (length)
        *end++ = digits[--length];
    return end;
}

RUNTIME int dprintf(int fd, const char *format, ...) {
    char line[128], *end = line;
    va_list values;
    va_start(values, format);
    for (; *format; format++) {
        if (format[0] == '%' && format[1] == 'd') {
            end = format_number(end, va_arg(values, unsigned));
            format++;
        } else {
            *end++ = *format;
        }
    }
    va_end(values);
    return (int)write(fd, line, (size_t)(end - line));
}

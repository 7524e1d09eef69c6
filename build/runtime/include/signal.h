#ifndef RUNTIME_SIGNAL_H
#define RUNTIME_SIGNAL_H

#include <sys/types.h>

/*
 * The kernel's numbers (include/uapi/asm-generic/signal.h and signal-defs.h). Only alpha, mips, parisc and sparc have
 * others (signal(7), "Signal numbering for standard signals"), and there is no runtime for them.
 */
#define SIGHUP 1
#define SIGINT 2
#define SIGUSR1 10
#define SIGUSR2 12
#define SIGALRM 14
#define SIGTERM 15
#define SIGCHLD 17
#define SIGCONT 18

#define SIG_BLOCK 0
#define SIG_UNBLOCK 1
#define SIG_SETMASK 2

#define SIG_DFL ((void (*)(int))0)
#define SIG_IGN ((void (*)(int))1)
#define SIG_ERR ((void (*)(int)) - 1)

/* The kernel's signal set has 64 bits; a libc's has 128 bytes. */
typedef struct {
    unsigned long words[8 / sizeof(unsigned long)];
} sigset_t;

RUNTIME int sigemptyset(sigset_t *set);
RUNTIME int sigaddset(sigset_t *set, int number);
RUNTIME int sigprocmask(int how, const sigset_t *set, sigset_t *old);
RUNTIME int sigwait(const sigset_t *set, int *number);

/* Only for SIG_IGN and SIG_DFL: a handler would need a restorer, which depends on the CPU. */
RUNTIME void (*signal(int number, void (*action)(int)))(int);

#endif

/*
 * The first process of a pod: it keeps the pod's namespaces open, reaps orphaned processes, and exits on SIGINT or
 * SIGTERM.
 */
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "HEAD"
#endif

static int wants_version(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcasecmp(argv[i], "-v") == 0)
            return 1;
    return 0;
}

static int print(int fd, const char *text) {
    size_t length = strlen(text);
    return write(fd, text, length) == (ssize_t)length;
}

/* A blocked signal stays pending until sigwait(), so none is lost, and no async-signal-safe handler is needed. */
static void block_termination(sigset_t *signals) {
    sigemptyset(signals);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGTERM);
    sigprocmask(SIG_BLOCK, signals, NULL);
}

/*
 * While SIGCHLD is ignored the kernel reaps children itself, without waking pause. It does not reap children that
 * were zombies before, for example those of a shell that exec'd pause.
 */
static void reap_children(void) {
    signal(SIGCHLD, SIG_IGN);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
}

static int wait_for_termination(const sigset_t *signals) {
    int number;
    if (sigwait(signals, &number) != 0)
        return 1;
    if (number == SIGINT)
        print(STDERR_FILENO, "Shutting down, got signal: Interrupt\n");
    else
        print(STDERR_FILENO, "Shutting down, got signal: Terminated\n");
    return 0;
}

int main(int argc, char **argv) {
    if (wants_version(argc, argv))
        return !print(STDOUT_FILENO, "pause.c " VERSION "\n");

    sigset_t signals;
    block_termination(&signals);
    reap_children();
    if (getpid() != 1)
        print(STDERR_FILENO, "Warning: pause should be the first process\n");
    return wait_for_termination(&signals);
}

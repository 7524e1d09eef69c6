/*
 * The first process of a pod: it holds the pod's namespaces open, adopts the processes that lose their parent,
 * and ends when it is asked to.
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

static int say(int out, const char *text) {
    size_t length = strlen(text);
    return write(out, text, length) == (ssize_t)length;
}

/* A blocked signal stays pending until it is waited for: none is lost, and no handler has to be async-signal-safe. */
static void block_endings(sigset_t *endings) {
    sigemptyset(endings);
    sigaddset(endings, SIGINT);
    sigaddset(endings, SIGTERM);
    sigprocmask(SIG_BLOCK, endings, NULL);
}

/*
 * With SIGCHLD ignored the kernel itself buries the children, and pause sleeps on. It does not bury those that were
 * dead before: a shell that exec'd pause may have left some.
 */
static void bury_children(void) {
    signal(SIGCHLD, SIG_IGN);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
}

static int await_ending(const sigset_t *endings) {
    int ending;
    if (sigwait(endings, &ending) != 0)
        return 1;
    if (ending == SIGINT)
        say(STDERR_FILENO, "Shutting down, got signal: Interrupt\n");
    else
        say(STDERR_FILENO, "Shutting down, got signal: Terminated\n");
    return 0;
}

int main(int argc, char **argv) {
    if (wants_version(argc, argv))
        return !say(STDOUT_FILENO, "pause.c " VERSION "\n");

    sigset_t endings;
    block_endings(&endings);
    bury_children();
    if (getpid() != 1)
        say(STDERR_FILENO, "Warning: pause should be the first process\n");
    return await_ending(&endings);
}

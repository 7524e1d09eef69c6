/* What pause 3.1 did, to be compared with: signals are handled as they come, a child's end too, and each wakes it. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number) {
    (void)number;
    _exit(0);
}

static void bury(int number) {
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
}

int main(void) {
    const struct sigaction ending = {.sa_handler = end};
    const struct sigaction burial = {.sa_handler = bury, .sa_flags = SA_NOCLDSTOP};
    if (sigaction(SIGINT, &ending, NULL) || sigaction(SIGTERM, &ending, NULL) || sigaction(SIGCHLD, &burial, NULL))
        return 1;
    for (;;)
        pause();
}

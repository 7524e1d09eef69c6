/* Leaves an orphan behind, for the first process to adopt and to bury. */
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

static int leave(void) {
    dprintf(STDOUT_FILENO, "Parent exiting: pid=%d ppid=%d\n", (int)getpid(), (int)getppid());
    return 0;
}

/* Who adopts the orphan need not be process 1: a subreaper does so too. So it looks for its own parent's end. */
static int outlive(pid_t parent) {
    while (getppid() == parent)
        sched_yield();
    dprintf(STDOUT_FILENO, "Child exiting: pid=%d ppid=%d\n", (int)getpid(), (int)getppid());
    return 0;
}

int main(void) {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        dprintf(STDERR_FILENO, "orphan: cannot fork\n");
        return 1;
    }
    return child > 0 ? leave() : outlive(parent);
}

/* Leaves an orphan behind, or as many as its argument says, for the first process to adopt and to bury. */
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
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

static int leave_orphan(void) {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        dprintf(STDERR_FILENO, "orphan: cannot fork\n");
        return 1;
    }
    return child > 0 ? leave() : outlive(parent);
}

static int leave_orphans(int count) {
    while (--count > 0) {
        pid_t parent = fork();
        if (parent == 0)
            return leave_orphan();
        if (parent > 0)
            waitpid(parent, NULL, 0);
    }
    return leave_orphan();
}

static int number(const char *digits) {
    int value = 0;
    for (; *digits >= '0' && *digits <= '9'; digits++)
        value = 10 * value + (*digits - '0');
    return value;
}

int main(int argc, char **argv) {
    return leave_orphans(argc > 1 ? number(argv[1]) : 1);
}

/* Creates one orphaned process, or as many as its argument says, for PID 1 to reap. */
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int run_parent(void) {
    dprintf(STDOUT_FILENO, "Parent exiting: pid=%d ppid=%d\n", (int)getpid(), (int)getppid());
    return 0;
}

/* The new parent may be a subreaper instead of PID 1, so the child waits until its parent is no longer `parent`. */
static int run_child(pid_t parent) {
    while (getppid() == parent)
        sched_yield();
    dprintf(STDOUT_FILENO, "Child exiting: pid=%d ppid=%d\n", (int)getpid(), (int)getppid());
    return 0;
}

static int create_orphan(void) {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        dprintf(STDERR_FILENO, "orphan: cannot fork\n");
        return 1;
    }
    return child > 0 ? run_parent() : run_child(parent);
}

static int create_orphans(int count) {
    while (--count > 0) {
        pid_t parent = fork();
        if (parent == 0)
            return create_orphan();
        if (parent > 0)
            waitpid(parent, NULL, 0);
    }
    return create_orphan();
}

static int parse_number(const char *digits) {
    int value = 0;
    for (; *digits >= '0' && *digits <= '9'; digits++)
        value = 10 * value + (*digits - '0');
    return value;
}

int main(int argc, char **argv) {
    return create_orphans(argc > 1 ? parse_number(argv[1]) : 1);
}

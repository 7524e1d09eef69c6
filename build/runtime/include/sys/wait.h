#ifndef RUNTIME_SYS_WAIT_H
#define RUNTIME_SYS_WAIT_H

#include <sys/types.h>

/* include/uapi/linux/wait.h */
#define WNOHANG 1

RUNTIME pid_t waitpid(pid_t pid, int *status, int options);

#endif

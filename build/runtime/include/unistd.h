#ifndef RUNTIME_UNISTD_H
#define RUNTIME_UNISTD_H

#include <sys/types.h>

#define STDIN_FILENO 0
#define STDOUT_FILENO 1
#define STDERR_FILENO 2

RUNTIME ssize_t write(int fd, const void *bytes, size_t length);
RUNTIME pid_t fork(void);
RUNTIME pid_t getpid(void);
RUNTIME pid_t getppid(void);
__attribute__((noreturn)) RUNTIME void _exit(int status);

#endif

#ifndef RUNTIME_UNISTD_H
#define RUNTIME_UNISTD_H

#include <sys/types.h>

#define STDIN_FILENO 0
#define STDOUT_FILENO 1
#define STDERR_FILENO 2

ssize_t write(int out, const void *bytes, size_t length);
pid_t fork(void);
pid_t getpid(void);
pid_t getppid(void);
__attribute__((noreturn)) void _exit(int status);

#endif

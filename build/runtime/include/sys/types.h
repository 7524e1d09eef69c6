#ifndef RUNTIME_SYS_TYPES_H
#define RUNTIME_SYS_TYPES_H

#define NULL ((void *)0)

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ssize_t;
typedef int pid_t;

#endif

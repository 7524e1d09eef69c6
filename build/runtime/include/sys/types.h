#ifndef RUNTIME_SYS_TYPES_H
#define RUNTIME_SYS_TYPES_H

#define NULL ((void *)0)

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ssize_t;
typedef int pid_t;

/* In the program's translation unit (`-include`) unused functions are not compiled, which saves a third of the time. */
#ifdef RUNTIME_INCLUDED
#define RUNTIME static inline
#else
#define RUNTIME
#endif

#endif

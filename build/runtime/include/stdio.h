#ifndef RUNTIME_STDIO_H
#define RUNTIME_STDIO_H

#include <sys/types.h>

/* Supports only %d, without negative numbers, and at most 128 bytes of output. Each call is a single write(). */
__attribute__((format(printf, 2, 3))) RUNTIME int dprintf(int fd, const char *format, ...);

#endif

#ifndef RUNTIME_STDIO_H
#define RUNTIME_STDIO_H

#include <sys/types.h>

/* Knows %d alone, of no negative number, and lines of at most 128 bytes. One call is one write. */
__attribute__((format(printf, 2, 3))) RUNTIME int dprintf(int out, const char *format, ...);

#endif

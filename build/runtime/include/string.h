#ifndef RUNTIME_STRING_H
#define RUNTIME_STRING_H

#include <sys/types.h>

RUNTIME size_t strlen(const char *text);

#endif

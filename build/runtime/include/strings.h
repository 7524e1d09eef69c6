#ifndef RUNTIME_STRINGS_H
#define RUNTIME_STRINGS_H

#include <sys/types.h>

RUNTIME int strcasecmp(const char *left, const char *right);

#endif

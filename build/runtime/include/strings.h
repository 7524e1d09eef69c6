#ifndef RUNTIME_STRINGS_H
#define RUNTIME_STRINGS_H

int strcasecmp(const char *left, const char *right);

#endif

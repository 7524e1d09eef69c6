#ifndef RUNTIME_SCHED_H
#define RUNTIME_SCHED_H

#include <sys/types.h>

RUNTIME int sched_yield(void);

#endif

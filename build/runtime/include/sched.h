#ifndef RUNTIME_SCHED_H
#define RUNTIME_SCHED_H

int sched_yield(void);

#endif

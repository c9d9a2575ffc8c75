/* parallel.h - one loop over items on several threads.
 *
 * For all kernels and what calls them.  Threads are made for one loop and joined before it returns:
 * measured, 25 microseconds for a second thread, which a loop of a millisecond does not notice, and nothing
 * is left behind for fork() or for the end of the process to trip over.  The calling thread takes part.
 * No thread but the calling one may be needed for the loop to finish: where a thread cannot be had, the
 * others do its work.
 */
#ifndef ST_KERNELS_PARALLEL_H
#define ST_KERNELS_PARALLEL_H

#include "stratum/base.h"

/* Compute item `i`; `worker` is below the number of threads that was asked for, one thread each. */
typedef void (*st_item_fn)(void *ud, size_t i, unsigned worker);

#define ST_MAX_THREADS 64

/* Call `fn` once for each item below `n`, on at most `threads` threads (0 and 1: on this one).  Items are
 * taken in order by whichever thread is free: no result may depend on who took one. */
void st_parallel(unsigned threads, size_t n, st_item_fn fn, void *ud);

/* The same for work that is cut into as many parts as there are threads: fn(ud, 0..n-1, n), each once.  An
 * `n` below 1 is 1, one above ST_MAX_THREADS is that.  What is asked of a part does not depend on who does
 * it. */
typedef void (*st_part_fn)(void *ud, int part, int n_parts);
void st_fork(int n, st_part_fn fn, void *ud);

#endif

/* parallel.h - one loop over items on several threads.
 *
 * For numeric kernels and what calls them.  Threads are made for one loop and joined before it returns:
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

#endif

/* store_fork.c - what happens to the stores of a process that forks.
 *
 * SQLite remembers for each file which locks the *process* holds.  A child inherits that memory, but not the
 * locks: a connection that it opens beside an inherited one believes to be protected and is not (its
 * write-ahead log can be taken away under it).  So connections are closed before the fork, and each side
 * opens its own when it needs one.  The stores' locks are taken as well, or the child might find one locked
 * by a thread that it does not have.  Claims stay with the parent: the child closes its copies, which would
 * keep a claim of a parent that died.
 *
 * pthread_atfork's functions have no argument: hence the one list of all stores, the only global thing here.
 * A child made without them (_Fork, clone) finds another process's number in the store and leaves the
 * connection alone (store_sync.c).
 */
#include "store_impl.h"

#include <unistd.h>

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static st_store *stores;
static bool guarded;

static void before_fork(void)
{
    pthread_mutex_lock(&registry);
    for (st_store *s = stores; s; s = s->next) {
        pthread_mutex_lock(&s->db);
        st_sync_close(s, false);
        pthread_mutex_lock(&s->mem);
    }
}

static void after_fork(void)
{
    for (st_store *s = stores; s; s = s->next) {
        pthread_mutex_unlock(&s->mem);
        pthread_mutex_unlock(&s->db);
    }
    pthread_mutex_unlock(&registry);
}

static void in_child(void)
{
    for (st_store *s = stores; s; s = s->next) {
        s->pid = getpid();
        st_sync_leave(s);
        for (st_claim *c = s->claims; c; c = c->next) {
            st_lock_leave(c->fd);
            c->fd = -1;
        }
    }
    after_fork();
}

int st_fork_add(st_store *s, st_error *err)
{
    pthread_mutex_lock(&registry);
    if (!guarded && pthread_atfork(before_fork, after_fork, in_child) == 0) guarded = true;
    bool good = guarded;
    if (good) {
        s->prev = NULL;
        s->next = stores;
        if (stores) stores->prev = s;
        stores = s;
    }
    pthread_mutex_unlock(&registry);
    return good ? ST_OK : st_fail(err, ST_ENOMEM, "no memory to watch for forks");
}

void st_fork_remove(st_store *s)
{
    pthread_mutex_lock(&registry);
    if (s->prev)
        s->prev->next = s->next;
    else
        stores = s->next;
    if (s->next) s->next->prev = s->prev;
    pthread_mutex_unlock(&registry);
}

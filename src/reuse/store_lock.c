/* store_lock.c - locks among all threads of all processes that use a folder.
 *
 * One empty file, one byte of it a lock (bytes need not exist to be locked).  They are locks of open file
 * descriptions (F_OFD_SETLK): the system takes them back from a process that dies, and, other than the
 * older ones of POSIX, two threads of one process exclude each other and closing another descriptor of
 * the file gives nothing away.  Each lock has its own descriptor for that.  A descriptor that a forked
 * process inherits would keep the lock: store_fork.c closes it there.
 *
 * The system's own waiting (F_OFD_SETLKW) cannot end after a time; this looks again after 0.2 ms, and then
 * ever later, up to 20 ms.
 */
#include "store_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#ifdef F_OFD_SETLK
static int try_lock(int fd, uint64_t place)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)place, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &l);
}
#else
static int try_lock(int fd, uint64_t place)
{
    (void)fd, (void)place;
    errno = ENOLCK;
    return -1;
}
#endif

int st_lock_take(const char *path, uint64_t place, int wait_ms, int *fd, st_error *err)
{
    *fd = -1;
    int f = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (f < 0)
        return st_fail(err,
                       errno == EACCES || errno == EROFS || errno == ENOENT ? ST_EUNSUPPORTED : ST_ESYSTEM,
                       "opening the lock file: %m");
    int64_t until = wait_ms < 0 ? INT64_MAX : now_ns() + (int64_t)wait_ms * 1000000, nap = 200000;
    while (try_lock(f, place) != 0) {
        int why = errno;
        int64_t left = why == EINTR ? 1 : until - now_ns();
        if ((why != EAGAIN && why != EACCES && why != EINTR) || left <= 0) {
            close(f);
            errno = why;
            if (why == EAGAIN || why == EACCES)
                return st_fail(err, ST_ELIMIT, "somebody else holds the lock");
            bool none = why == ENOLCK || why == EINVAL || why == EOPNOTSUPP || why == ENOSYS;
            return st_fail(err, none ? ST_EUNSUPPORTED : ST_ESYSTEM, "locking: %m");
        }
        if (why == EINTR) continue;
        if (nap > left) nap = left;
        nanosleep(&(struct timespec){0, (long)nap}, NULL);
        nap = nap * 2 > 20000000 ? 20000000 : nap * 2;
    }
    *fd = f;
    return ST_OK;
}

void st_lock_release(int fd)
{
    if (fd < 0) return;
#ifdef F_OFD_SETLK
    /* Said aloud: a child that is just being forked still has a copy. */
    struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    fcntl(fd, F_OFD_SETLK, &l);
#endif
    close(fd);
}

void st_lock_leave(int fd)
{
    if (fd >= 0) close(fd);
}

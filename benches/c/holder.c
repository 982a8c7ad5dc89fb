/*
 * Holds a lock: a process apart, as in life. Who waits for one of its own ancestors is looked at for deadlocks.
 *
 *   holder FILE    opens FILE, and does for each byte on stdin what it says: `l` takes the lock, which must be free, and `u`
 *                  releases it; writes the time when it began to (CLOCK_MONOTONIC, nanoseconds, 64 bits) when that is done
 *
 * Ends with stdin; with 1 if another has the lock.
 */
#include "bare.h"
#include <fcntl.h>
#include <linux/time_types.h>
#include <sys/file.h>

static int run(int argc, char **argv, char **envp)
{
	struct __kernel_timespec time;
	char byte;
	long fd, nanoseconds;

	(void)envp;
	fd = argc == 2 ? call4(SYS_openat, AT_FDCWD, (long)argv[1], O_RDONLY, 0) : -1;
	if (fd < 0)
		return 125;
	while (call3(SYS_read, 0, &byte, 1) == 1) {
		call3(SYS_clock_gettime, 1 /* CLOCK_MONOTONIC */, &time, 0);
		if (call3(SYS_flock, fd, byte == 'l' ? LOCK_EX | LOCK_NB : LOCK_UN, 0) != 0)
			return 1;
		nanoseconds = time.tv_sec * 1000000000L + time.tv_nsec;
		if (call3(SYS_write, 1, &nanoseconds, sizeof nanoseconds) != sizeof nanoseconds)
			return 1;
	}
	return 0;
}

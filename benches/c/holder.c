/*
 * Holds a lock as a script does: runs a program that acquires the lock on an inherited descriptor.
 *
 *   holder FILE FD CMD [ARG...]   opens FILE on descriptor FD, and obeys each byte on stdin: after `l`, runs CMD, which
 *                                 acquires the lock on FD; after `u`, releases it. Then writes the time at which it began
 *                                 (CLOCK_MONOTONIC, nanoseconds, 64 bits)
 *
 * Exits at the end of stdin, or with 1 if CMD fails.
 */
#include "bare.h"
#include <fcntl.h>
#include <linux/time_types.h>
#include <signal.h>
#include <sys/file.h>

static int run_command(char **argv, char **envp)
{
	int status = 0;
	long pid = call4(SYS_clone, SIGCHLD, 0, 0, 0);

	if (pid == 0) {
		call3(SYS_execve, (long)argv[0], (long)argv, (long)envp);
		call3(SYS_exit, 127, 0, 0);
	}
	return pid > 0 && call4(SYS_wait4, pid, (long)&status, 0, 0) == pid && status == 0;
}

static int run(int argc, char **argv, char **envp)
{
	struct __kernel_timespec time;
	char byte;
	long file, fd, nanoseconds;

	if (argc < 4)
		return 125;
	fd = parse_number(argv[2]);
	file = call4(SYS_openat, AT_FDCWD, (long)argv[1], O_RDWR, 0);
	if (file < 0 || call3(SYS_dup3, file, fd, 0) != fd || call3(SYS_close, file, 0, 0) != 0)
		return 125;
	while (call3(SYS_read, 0, (long)&byte, 1) == 1) {
		call3(SYS_clock_gettime, 1 /* CLOCK_MONOTONIC */, (long)&time, 0);
		if (byte == 'l' ? !run_command(argv + 3, envp) : call3(SYS_flock, fd, LOCK_UN, 0) != 0)
			return 1;
		nanoseconds = time.tv_sec * 1000000000L + time.tv_nsec;
		if (call3(SYS_write, 1, (long)&nanoseconds, sizeof nanoseconds) != sizeof nanoseconds)
			return 1;
	}
	return 0;
}

/*
 * The lower limit for every program: makes the system calls of the work, and no other.
 *
 *   floor                        does nothing; it is the command that runs under locks
 *   floor [-w] FD                acquires the lock on a descriptor if it is free (-w: waits for it)
 *   floor -u FD                  releases the lock
 *   floor -r FD FILE             acquires the lock if it is free, verifies that FILE is this file, and writes a record into it
 *   floor [-w] FILE CMD [ARG...] opens FILE, acquires its lock if it is free (-w: waits for it), and becomes CMD
 *
 * Exits with 1 if another process holds the lock.
 */
#define _GNU_SOURCE
#include "bare.h"
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

static int record(long fd, const char *path)
{
	static const char text[200] = "pid=";
	struct stat held, named;

	if (call3(SYS_flock, fd, LOCK_EX | LOCK_NB, 0) != 0)
		return 1;
	if (call4(SYS_newfstatat, fd, (long)"", (long)&held, AT_EMPTY_PATH) != 0 ||
	    call4(SYS_newfstatat, AT_FDCWD, (long)path, (long)&named, AT_SYMLINK_NOFOLLOW) != 0)
		return 125;
	if (held.st_ino != named.st_ino || held.st_dev != named.st_dev)
		return 76;
	return call4(SYS_pwrite64, fd, (long)text, sizeof(text), 0) != sizeof(text);
}

static int run(int argc, char **argv, char **envp)
{
	int how = LOCK_EX | LOCK_NB;
	long fd;

	if (argc == 1)
		return 0;
	if (argc == 3 && argv[1][0] == '-' && argv[1][1] == 'u')
		return call3(SYS_flock, parse_number(argv[2]), LOCK_UN, 0) != 0;
	if (argc == 4 && argv[1][0] == '-' && argv[1][1] == 'r')
		return record(parse_number(argv[2]), argv[3]);
	if (argv[1][0] == '-' && argv[1][1] == 'w') {
		how = LOCK_EX;
		argv++;
		argc--;
	}
	if (argc == 2)
		return call3(SYS_flock, parse_number(argv[1]), how, 0) != 0;
	fd = call4(SYS_openat, AT_FDCWD, (long)argv[1], O_RDONLY, 0);
	if (fd < 0)
		return 125;
	if (call3(SYS_flock, fd, how, 0) != 0)
		return 1;
	call3(SYS_execve, argv[2], argv + 2, envp);
	return 127;
}

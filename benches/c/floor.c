/*
 * What no program can be faster than: it makes the system calls that the work is, and no other.
 *
 *   floor                        does nothing, and is the command that runs under locks
 *   floor [-w] FD                takes the lock on a descriptor if it is free (-w: waits for it)
 *   floor -u FD                  releases it
 *   floor [-w] FILE CMD [ARG...] opens FILE, takes its lock if it is free (or waits), and becomes CMD
 *
 * Ends with 1 if another has the lock.
 */
#include "bare.h"
#include <fcntl.h>
#include <sys/file.h>

static int run(int argc, char **argv, char **envp)
{
	int how = LOCK_EX | LOCK_NB;
	long fd;

	if (argc == 1)
		return 0;
	if (argc == 3 && argv[1][0] == '-' && argv[1][1] == 'u')
		return call3(SYS_flock, number_of(argv[2]), LOCK_UN, 0) != 0;
	if (argv[1][0] == '-' && argv[1][1] == 'w') {
		how = LOCK_EX;
		argv++;
		argc--;
	}
	if (argc == 2)
		return call3(SYS_flock, number_of(argv[1]), how, 0) != 0;
	fd = call4(SYS_openat, AT_FDCWD, (long)argv[1], O_RDONLY, 0);
	if (fd < 0)
		return 125;
	if (call3(SYS_flock, fd, how, 0) != 0)
		return 1;
	call3(SYS_execve, argv[2], argv + 2, envp);
	return 127;
}

/*
 * A lock helper as one would write it in C, with the C library: the least work of a static program that locks a descriptor of a
 * script, verifies the lock file, and notes the holder.
 *
 *   locker FD FILE   acquires the lock on a descriptor if it is free, verifies that FILE is the file that this program has opened,
 *                    and writes a record into it
 *   locker -u FD     releases the lock
 *
 * Exits with 1 if another process holds the lock.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static const char text[200] = "pid=";
	struct stat opened, named;
	int file;

	if (argc != 3)
		return 125;
	if (strcmp(argv[1], "-u") == 0)
		return flock(atoi(argv[2]), LOCK_UN) != 0;
	file = open(argv[2], O_RDWR | O_CLOEXEC);
	if (file < 0)
		return 125;
	if (flock(atoi(argv[1]), LOCK_EX | LOCK_NB) != 0)
		return 1;
	if (fstat(file, &opened) != 0 || stat(argv[2], &named) != 0)
		return 125;
	if (opened.st_ino != named.st_ino || opened.st_dev != named.st_dev)
		return 76;
	return write(file, text, sizeof text) != sizeof text;
}

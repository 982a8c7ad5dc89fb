/*
 * Starts a program, and measures its time and its memory.
 *
 * This program is small, because a start from a large program takes longer, and because the kernel counts the memory of the
 * starting program to the peak of the started one, so that a large starter would hide a smaller program.
 *
 *   launch CMD [ARG...]       runs CMD, with its output going to stderr, and writes a report to stdout
 *   launch -N CMD [ARG...]    waits for the end of stdin, and then runs CMD N times, one after the other
 *   launch                    writes the time to stdout
 *
 * A report is six numbers of 64 bits: the times of the start and the end of CMD (CLOCK_MONOTONIC, nanoseconds), its processor
 * time in user and system mode (microseconds), its peak memory (KiB), and its status in the form of wait(2). If this program is
 * killed, the kernel also kills CMD.
 */
#include "bare.h"
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/time_types.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static long now(void)
{
	struct __kernel_timespec time;

	call3(SYS_clock_gettime, 1 /* CLOCK_MONOTONIC */, &time, 0);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

/*
 * vfork, prctl and execve, in one piece of assembly: the child uses the stack of this process until its execve, and a compiler that
 * does not know that may let the child overwrite values that this process still needs.
 */
static long start(char **argv, char **envp)
{
#ifdef LIBC
	long pid = vfork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execve(argv[0], argv, envp);
		_exit(127);
	}
	return pid;
#elif defined(__x86_64__)
	long pid;
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "mov %[prctl], %%eax\n\t"
			 "mov %[deathsig], %%edi\n\t"
			 "mov %[kill], %%esi\n\t"
			 "syscall\n\t"
			 "mov %[execve], %%eax\n\t"
			 "mov %[path], %%rdi\n\t"
			 "mov %[argv], %%rsi\n\t"
			 "mov %[envp], %%rdx\n\t"
			 "syscall\n\t"
			 "mov %[exit], %%eax\n\t"
			 "mov $127, %%edi\n\t"
			 "syscall\n"
			 "1:"
			 : "=a"(pid)
			 : "a"((long)SYS_clone), "D"((long)(CLONE_VM | CLONE_VFORK | SIGCHLD)), "S"(0L), "d"(0L), "r"(r10),
			   "r"(r8), [path] "r"(argv[0]), [argv] "r"(argv), [envp] "r"(envp), [prctl] "i"(SYS_prctl),
			   [deathsig] "i"(PR_SET_PDEATHSIG), [kill] "i"(SIGKILL), [execve] "i"(SYS_execve), [exit] "i"(SYS_exit)
			 : "rcx", "r11", "memory", "cc");
	return pid;
#else
	register long x8 __asm__("x8") = SYS_clone;
	register long x0 __asm__("x0") = CLONE_VM | CLONE_VFORK | SIGCHLD;
	register long x1 __asm__("x1") = 0;
	register long x2 __asm__("x2") = 0;
	register long x3 __asm__("x3") = 0;
	register long x4 __asm__("x4") = 0;

	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x8, %[prctl]\n\t"
			 "mov x0, %[deathsig]\n\t"
			 "mov x1, %[kill]\n\t"
			 "svc #0\n\t"
			 "mov x8, %[execve]\n\t"
			 "mov x0, %[path]\n\t"
			 "mov x1, %[argv]\n\t"
			 "mov x2, %[envp]\n\t"
			 "svc #0\n\t"
			 "mov x8, %[exit]\n\t"
			 "mov x0, #127\n\t"
			 "svc #0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [path] "r"(argv[0]), [argv] "r"(argv), [envp] "r"(envp),
			   [prctl] "i"(SYS_prctl), [deathsig] "i"(PR_SET_PDEATHSIG), [kill] "i"(SIGKILL), [execve] "i"(SYS_execve),
			   [exit] "i"(SYS_exit)
			 : "memory", "cc");
	return x0;
#endif
}

static long wait_for(long pid, int *status, struct rusage *used)
{
	return call4(SYS_wait4, pid, (long)status, 0, (long)used);
}

static int report(char **argv, char **envp)
{
	struct rusage used;
	long line[6], pid;
	int status;
	long out = call3(SYS_fcntl, 1, F_DUPFD_CLOEXEC, 3);

	call3(SYS_dup3, 2, 1, 0);
	line[0] = now();
	pid = start(argv, envp);
	if (pid < 0 || wait_for(pid, &status, &used) != pid)
		return 125;
	line[1] = now();
	line[2] = used.ru_utime.tv_sec * 1000000L + used.ru_utime.tv_usec;
	line[3] = used.ru_stime.tv_sec * 1000000L + used.ru_stime.tv_usec;
	line[4] = used.ru_maxrss;
	line[5] = status;
	return call3(SYS_write, out, line, sizeof line) != sizeof line;
}

static int repeat(long times, char **argv, char **envp)
{
	struct rusage used;
	char byte;
	int status;

	while (call3(SYS_read, 0, &byte, 1) > 0)
		;
	while (times-- > 0) {
		long pid = start(argv, envp);

		if (pid < 0 || wait_for(pid, &status, &used) != pid || status != 0)
			return 1;
	}
	return 0;
}

static int run(int argc, char **argv, char **envp)
{
	long time;

	if (argc == 1) {
		time = now();
		return call3(SYS_write, 1, &time, sizeof time) != sizeof time;
	}
	call3(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
	if (argv[1][0] == '-')
		return repeat(parse_number(argv[1] + 1), argv + 2, envp);
	return report(argv + 1, envp);
}

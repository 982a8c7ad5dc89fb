/*
 * The start of programs without a C library, which have no start-up cost but that of the kernel, and a page or two of memory. With
 * -DLIBC, the same programs use the C library; other processors than those below need it.
 *
 * The including file defines static int run(int argc, char **argv, char **envp), which returns the exit status.
 */
#include <sys/syscall.h>

static int run(int argc, char **argv, char **envp);

#ifdef LIBC

#include <unistd.h>

#define call4(number, a, b, c, d) syscall((number), (a), (b), (c), (d))

int main(int argc, char **argv, char **envp)
{
	return run(argc, argv, envp);
}

#else

#if defined(__x86_64__)

static inline long call4(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");

#elif defined(__aarch64__)

static inline long call4(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl begin\n");

#else
#error "no bare start for this processor: build with -DLIBC"
#endif

__attribute__((noreturn, used)) void begin(long *stack)
{
	int argc = (int)stack[0];
	char **argv = (char **)(stack + 1);

	for (;;)
		call4(SYS_exit_group, run(argc, argv, argv + argc + 1), 0, 0, 0);
}

#endif

#define call3(number, a, b, c) call4((number), (long)(a), (long)(b), (long)(c), 0)

/* Parses a decimal number. */
static inline long parse_number(const char *text)
{
	long number = 0;

	while (*text >= '0' && *text <= '9')
		number = number * 10 + (*text++ - '0');
	return number;
}

/*
 * A disk that takes its time: preloaded into PostgreSQL (LD_PRELOAD), it makes each flush take at least two milliseconds
 * while the file named by BENCH_SLOW_DISK exists. Nothing else changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void take_time(void)
{
	static const char *flag;

	if (!flag)
		flag = getenv("BENCH_SLOW_DISK");
	if (flag && access(flag, F_OK) == 0)
	{
		struct timespec left = {0, 2000000};

		/* A signal (and PostgreSQL sends them freely) must not make the disk faster. */
		while (nanosleep(&left, &left) != 0)
			;
	}
}

int fsync(int file)
{
	static int (*real)(int);

	if (!real)
		real = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");
	take_time();
	return real(file);
}

int fdatasync(int file)
{
	static int (*real)(int);

	if (!real)
		real = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
	take_time();
	return real(file);
}

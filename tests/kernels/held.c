/*
 * Makes page faults of known length, or without an end, by userfaultfd and signals: held WAIT - MODE COUNT. If WAIT is
 * 1, it first waits for a line on stdin. MODE is
 *
 *   held    a thread faults, and its page arrives after COUNT ms      a fault of at least that length
 *   begun   the same, but the fault begins before the line            a fault without a begin
 *   killed  COUNT threads fault, and are killed in the fault          no end
 *   fail    accesses COUNT pages beyond the end of a file (SIGBUS)    no end
 *   rename  a fault fails; the thread takes the name "renamed", and
 *           faults at the same address after COUNT ms                 two faults, one of them without an end
 *
 * Prints MODE LEAST MOST PID FIRST-ADDRESS: bounds for the length of the fault of `held`, in microseconds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static char *area;
static long count;
static sigjmp_buf back;
static volatile long long touched;

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static void *touch(void *page)
{
	long long begin = now();

	*(volatile char *)page = 1;
	touched = now() - begin;
	return NULL;
}

static pthread_t start(long page)
{
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	if (pthread_create(&thread, &small, touch, area + page * PAGE))
		exit(3);
	return thread;
}

static int watch(void)
{
	struct uffdio_register range = { .range = { (unsigned long)area, count * PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &range))
		exit(4);
	return uffd;
}

/* Waits for this many faults to begin. */
static void wait_for(int uffd, long faults)
{
	struct uffd_msg message;

	while (faults--)
		if (read(uffd, &message, sizeof(message)) != sizeof(message))
			exit(5);
}

static void leave(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

static void rename_and_allow(int signal)
{
	(void)signal;
	prctl(PR_SET_NAME, "renamed");
	usleep(count * 1000);
	mprotect(area, PAGE, PROT_READ | PROT_WRITE);
}

int main(int argc, char **argv)
{
	long long least = 0, most = 0;
	const char *mode = argv[3];
	char line[16], out[128];
	pthread_t thread = 0;
	int uffd = -1, length;
	long i;

	if (argc != 5)
		return 2;
	count = atol(argv[4]);
	if (!strcmp(mode, "fail"))
		area = mmap(NULL, count * PAGE, PROT_READ, MAP_SHARED, memfd_create("empty", 0), 0);
	else
		area = mmap(NULL, count * PAGE, strcmp(mode, "rename") ? PROT_READ | PROT_WRITE : PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return 6;
	signal(SIGBUS, leave);
	signal(SIGSEGV, rename_and_allow);
	if (strcmp(mode, "fail") && strcmp(mode, "rename"))
		uffd = watch();
	if (!strcmp(mode, "begun")) {
		thread = start(0);
		wait_for(uffd, 1);
	}
	if (atoi(argv[1]) && read(0, line, 1) < 0)
		return 7;

	if (!strcmp(mode, "held")) {
		thread = start(0);
		wait_for(uffd, 1);
	}
	if (!strcmp(mode, "killed")) {
		for (i = 0; i < count; i++)
			start(i);
		wait_for(uffd, count);
	} else if (!strcmp(mode, "fail")) {
		for (i = 0; i < count; i++)
			if (!sigsetjmp(back, 1))
				(void)*(volatile char *)(area + i * PAGE);
	} else if (!strcmp(mode, "rename")) {
		*(volatile char *)area = 1;
	} else {
		struct uffdio_zeropage zero = { .range = { (unsigned long)area, PAGE } };

		least = now();
		usleep(count * 1000);
		least = now() - least;
		if (ioctl(uffd, UFFDIO_ZEROPAGE, &zero))
			return 8;
		pthread_join(thread, NULL);
		most = touched;
	}
	length = sprintf(out, "%s %lld %lld %d %p\n", mode, least, most, getpid(), (void *)area);
	/* Ends all threads, even those that wait for a page. */
	_exit(write(1, out, length) != length);
}

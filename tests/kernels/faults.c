/*
 * Page faults of known number and kind, in one process: prints what it caused, and beside it what getrusage counted
 * meanwhile. faults WAIT FILE MODE COUNT, after a line on stdin if WAIT is 1: MODE is
 *
 *   write     writes to COUNT pages of its own that are not there yet        minor, write, user
 *   read      reads COUNT pages of its own that are not there yet            minor, read, user
 *   kernel    has the kernel write into COUNT such pages (pread)             minor, write, kernel
 *   file      reads COUNT pages of FILE, which is not in memory, far apart   major, read, user
 *   execute   calls a function in COUNT such pages of a file in memory,     minor, read, user, instruction
 *             far apart
 *   populate  has COUNT pages made (MADV_POPULATE_WRITE)                     no exception
 *
 * Its line: MODE MINOR MAJOR PID FIRST-ADDRESS
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE 4096

static volatile char sink;

/* A function that returns at once. */
#ifdef __x86_64__
static const unsigned char function[] = { 0xc3 };
#else
static const unsigned char function[] = { 0xc0, 0x03, 0x5f, 0xd6 };
#endif

int main(int argc, char **argv)
{
	static struct rusage before, after;
	static char line[16], out[128];
	const char *mode = argv[3];
	long count, i;
	size_t step = PAGE;
	char *area;
	int file, length;

	if (argc != 5)
		return 2;
	count = atol(argv[4]);
	file = open(argv[2], O_RDONLY);
	if (file < 0)
		return 3;
	/*
	 * What follows must cause no faults of its own: all that is mapped by now is made present, also the parts of
	 * the C library in which the dynamic linker looks a function up when it is first called.
	 */
	if (mlockall(MCL_CURRENT))
		return 8;
	if (!strcmp(mode, "file")) {
		/* Far enough that nothing is read ahead. */
		step = 64 * PAGE;
		area = mmap(NULL, count * step, PROT_READ, MAP_PRIVATE, file, 0);
		madvise(area, count * step, MADV_RANDOM);
	} else if (!strcmp(mode, "execute")) {
		/* Far enough that a fault does not map what is around it as well. */
		step = 64 * PAGE;
		close(file);
		file = memfd_create("functions", 0);
		for (i = 0; i < count; i++)
			if (pwrite(file, function, sizeof(function), i * step) != sizeof(function))
				return 9;
		area = mmap(NULL, count * step, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
	} else {
		area = mmap(NULL, count * step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		madvise(area, count * step, MADV_NOHUGEPAGE);
	}
	if (area == MAP_FAILED)
		return 4;
	getrusage(RUSAGE_SELF, &before);
	getrusage(RUSAGE_SELF, &after);
	length = sprintf(out, "%s %d %d %d %p\n", mode, 1, 1, getpid(), (void *)area);
	if (atoi(argv[1]) && read(0, line, 1) < 0)
		return 5;

	getrusage(RUSAGE_SELF, &before);
	if (!strcmp(mode, "populate")) {
		if (madvise(area, count * step, MADV_POPULATE_WRITE))
			return 6;
	} else {
		for (i = 0; i < count; i++) {
			if (!strcmp(mode, "write"))
				area[i * step] = 1;
			else if (!strcmp(mode, "kernel"))
				i = i + (pread(file, area + i * step, 1, 0) - 1);
			else if (!strcmp(mode, "execute"))
				((void (*)(void))(area + i * step))();
			else
				sink = area[i * step];
		}
	}
	getrusage(RUSAGE_SELF, &after);

	length = sprintf(out, "%s %ld %ld %d %p\n", mode, after.ru_minflt - before.ru_minflt,
			 after.ru_majflt - before.ru_majflt, getpid(), (void *)area);
	if (write(1, out, length) != length)
		return 7;
	/* Whoever looks its mappings up still finds them. */
	usleep(300000);
	return 0;
}

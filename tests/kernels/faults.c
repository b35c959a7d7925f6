/*
 * faults WAIT FILE MODE COUNT: causes a known number of page faults of a known kind, for the tests of
 * pagefault-trace. If WAIT is 1, waits for a line on stdin first. MODE is
 *
 *   write     writes to COUNT pages that are not present                    minor, write, user
 *   read      reads COUNT pages that are not present                        minor, read, user
 *   kernel    lets the kernel write to COUNT such pages (pread)             minor, write, kernel
 *   file      reads COUNT pages of FILE, far apart and not in memory        major, read, user
 *   execute   calls a function in COUNT pages, far apart, of a file in      minor, read, user, instruction
 *             memory
 *   populate  makes COUNT pages present (mlock)                             no exception
 *
 * Prints what getrusage counted: MODE MINOR MAJOR PID FIRST-ADDRESS
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE 4096

static volatile char sink;

/* A function that only returns. */
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
	 * Make present all that is mapped, also what the dynamic linker reads at the first call of a function:
	 * there must be no other faults while getrusage counts.
	 */
	if (mlockall(MCL_CURRENT))
		return 8;
	if (!strcmp(mode, "file")) {
		/* Too far apart to be read ahead. */
		step = 64 * PAGE;
		area = mmap(NULL, count * step, PROT_READ, MAP_PRIVATE, file, 0);
		madvise(area, count * step, MADV_RANDOM);
	} else if (!strcmp(mode, "execute")) {
		/* Too far apart to be mapped around another fault. */
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
		if (mlock(area, count * step))
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
	/* So that --resolve still finds the mappings. */
	usleep(300000);
	return 0;
}

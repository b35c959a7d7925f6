/* The least that any program spends that wakes and reads files of the kernel. `wake COUNT NANOSECONDS [FILE ...]` wakes
   COUNT times, NANOSECONDS apart, and reads each file to its end. Built by power.py. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16, SIZE = 1 << 16 };

int main(int argc, char **argv)
{
	static char buffer[SIZE];
	int files[MOST], given = argc - 3;
	if (given < 0 || given > MOST)
		return 2;
	long count = atol(argv[1]), step = atol(argv[2]);
	for (int at = 0; at < given; at++)
		if ((files[at] = open(argv[at + 3], O_RDONLY)) < 0) {
			perror(argv[at + 3]);
			return 1;
		}
	struct timespec due;
	clock_gettime(CLOCK_MONOTONIC, &due);
	for (long done = 0; done < count; done++) {
		for (int at = 0; at < given; at++) {
			off_t length = 0;
			for (ssize_t got; (got = pread(files[at], buffer, SIZE, length)) > 0;)
				length += got;
		}
		due.tv_nsec += step;
		due.tv_sec += due.tv_nsec / 1000000000;
		due.tv_nsec %= 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
	}
	return 0;
}

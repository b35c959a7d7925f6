// direct DEVICE read|write COUNT BYTES: makes direct I/O requests of that size, one at a time.
// Prints the times that they took in user space, in microseconds: "COUNT MIN P50 MAX SUM". The block latencies are
// compared with these: a request cannot take longer in the kernel than its caller waited.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: direct DEVICE read|write COUNT BYTES\n");
        return 2;
    }
    int writing = strcmp(argv[2], "write") == 0;
    int count = atoi(argv[3]);
    size_t bytes = strtoul(argv[4], NULL, 10);
    int fd = open(argv[1], (writing ? O_WRONLY : O_RDONLY) | O_DIRECT);
    double *took = calloc(count, sizeof *took), sum = 0;
    void *buffer;
    if (fd < 0 || count < 1 || !took || posix_memalign(&buffer, 4096, bytes)) {
        perror(argv[1]);
        return 1;
    }
    memset(buffer, 'x', bytes);
    for (int i = 0; i < count; i++) {
        double start = now_us();
        ssize_t done = writing ? pwrite(fd, buffer, bytes, (off_t)i * bytes) : pread(fd, buffer, bytes, (off_t)i * bytes);
        took[i] = now_us() - start;
        sum += took[i];
        if (done != (ssize_t)bytes) {
            perror(argv[2]);
            return 1;
        }
    }
    qsort(took, count, sizeof *took, by_value);
    printf("%d %.1f %.1f %.1f %.1f\n", count, took[0], took[(count - 1) / 2], took[count - 1], sum);
    return 0;
}

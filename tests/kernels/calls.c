// calls WHAT …: makes system calls with a known number, time and result, for the tests of syscall-trace.
//
//   sleep MS…       nanosleep, once for each time; prints "nanosleep MICROSECONDS TID" for each, as measured here
//   pipe MS…        read from a pipe that another process writes to after that time; prints the same for read
//   read WHAT MS    read from a socket, tty, eventfd, timerfd or kmsg that has data after that time; prints the same
//   compat MS…      nanosleep as a 32-bit call (x86-64 only); prints the same
//   recv32 MS       recv as a 32-bit call, which is socketcall; prints the same for socketcall
//   semop32 MS      semop as a 32-bit call, which is ipc; prints the same for ipc
//   count N         N times getppid, prints "getppid N"; then N times close of an invalid descriptor, which fails
//   fifo PATH       opens a FIFO that has no writer: the call does not return
//   exec MS…        a thread that is not the leader runs this program again, with sleep, while the leader sleeps
//   leave MS        exits after that time, while another thread is in a sleep of 100 s
//   interrupt MS    a sleep of 100 s that a signal interrupts after that time; prints the same
//   loop SECONDS    getppid as fast as possible; prints the calls per second
//   pingpong SECONDS  sends a byte to another process and back through two pipes; prints the round trips per second
//   rate N SECONDS  getppid N times per second; prints the number of calls and the calls per second
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void print_time(const char *name, double begin) {
    double end = now_us();
    printf("%s %.3f %ld\n", name, end - begin, syscall(SYS_gettid));
    fflush(stdout);
}

static void sleep_ms(double ms) {
    struct timespec t = {.tv_sec = (time_t)(ms / 1e3), .tv_nsec = (long)(ms * 1e6) % 1000000000};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL);
}

static void timed_nanosleep(double ms) {
    struct timespec t = {.tv_sec = (time_t)(ms / 1e3), .tv_nsec = (long)(ms * 1e6) % 1000000000};
    double begin = now_us();
#ifdef SYS_nanosleep
    syscall(SYS_nanosleep, &t, NULL);
#endif
    print_time("nanosleep", begin);
}

// Waits until the parent sleeps, which it does in the call that is measured, and then for that time.
static void sleep_after_parent(double ms) {
    char path[64], state = 'R';
    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)getppid());
    while (state != 'S') {
        FILE *file = fopen(path, "r");
        if (file == NULL || fscanf(file, "%*d (%*[^)]) %c", &state) != 1) exit(1);
        fclose(file);
        if (state != 'S') sleep_ms(0.1);
    }
    sleep_ms(ms);
}

static void timed_pipe(double ms) {
    int ends[2];
    char byte;
    if (pipe(ends) != 0) exit(1);
    pid_t child = fork();
    if (child == 0) {
        sleep_after_parent(ms);
        if (write(ends[1], "x", 1) != 1) _exit(1);
        _exit(0);
    }
    double begin = now_us();
    if (read(ends[0], &byte, 1) != 1) exit(1);
    print_time("read", begin);
    close(ends[0]);
    close(ends[1]);
}

// Writes to a descriptor from another process, after that time.
static void write_after(double ms, int fd, const char *bytes, size_t length) {
    if (fork() != 0) return;
    sleep_after_parent(ms);
    _exit(write(fd, bytes, length) != (ssize_t)length);
}

static void timed_read(const char *what, double ms) {
    static char bytes[8192];
    int ends[2];
    if (!strcmp(what, "socket")) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) exit(1);
        write_after(ms, ends[1], "x", 1);
    } else if (!strcmp(what, "tty")) {
        ends[0] = posix_openpt(O_RDWR | O_NOCTTY);
        if (grantpt(ends[0]) != 0 || unlockpt(ends[0]) != 0) exit(1);
        ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY);
        write_after(ms, ends[1], "x", 1);
    } else if (!strcmp(what, "eventfd")) {
        ends[0] = eventfd(0, 0);
        write_after(ms, ends[0], "\1\0\0\0\0\0\0\0", 8);
    } else if (!strcmp(what, "timerfd")) {
        struct itimerspec due = {.it_value = {.tv_sec = 0, .tv_nsec = (long)(ms * 1e6)}};
        ends[0] = timerfd_create(CLOCK_MONOTONIC, 0);
        if (timerfd_settime(ends[0], 0, &due, NULL) != 0) exit(1);
    } else if (!strcmp(what, "kmsg")) {
        ends[0] = open("/dev/kmsg", O_RDONLY);
        if (lseek(ends[0], 0, SEEK_END) != 0) exit(3);
        write_after(ms, open("/dev/kmsg", O_WRONLY), "calls: something to read\n", 25);
    } else {
        exit(2);
    }
    double begin = now_us();
    if (read(ends[0], bytes, sizeof(bytes)) < 1) exit(1);
    print_time("read", begin);
}

#ifdef __x86_64__
// A 32-bit call can pass only addresses below 4 GiB.
static void *low_memory(void) {
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
}

static void call32(const char *name, long nr, long first, long second, long third, void *fifth, long wanted) {
    long ret;
    double begin = now_us();
    __asm__ volatile("int $0x80"
                     : "=a"(ret)
                     : "a"(nr), "b"(first), "c"(second), "d"(third), "S"(0L), "D"(fifth)
                     : "memory", "r8", "r9", "r10", "r11");
    if (ret != wanted) exit(1);
    print_time(name, begin);
}

static void timed_compat(double ms) {
    int32_t *t = low_memory();
    t[0] = (int32_t)(ms / 1e3);
    t[1] = (int32_t)((long)(ms * 1e6) % 1000000000);
    call32("nanosleep", 162, (long)t, 0, 0, NULL, 0);
}

static void timed_recv32(double ms) {
    int32_t *args = low_memory();
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) exit(1);
    write_after(ms, ends[1], "x", 1);
    args[0] = ends[0];
    args[1] = (int32_t)(intptr_t)(args + 8); // buffer
    args[2] = 1;                             // length
    call32("socketcall", 102, 10 /* SYS_RECV */, (long)args, 0, NULL, 1);
}

static void timed_semop32(double ms) {
    struct sembuf *take = low_memory(), give = {.sem_op = 1};
    int id = semget(IPC_PRIVATE, 1, 0600);
    if (id < 0) exit(3);
    if (fork() == 0) {
        sleep_ms(ms);
        _exit(semop(id, &give, 1) != 0);
    }
    take->sem_op = -1;
    call32("ipc", 117, 1 /* SEMOP */, id, 1, take, 0);
    semctl(id, 0, IPC_RMID);
}
#else
static void timed_compat(double ms) {
    (void)ms;
    exit(3);
}
#define timed_recv32 timed_compat
#define timed_semop32 timed_compat
#endif

static char **to_run;

static void *run_again(void *unused) {
    (void)unused;
    sleep_ms(20); // until the leader sleeps
    execv("/proc/self/exe", to_run);
    exit(1);
}

static void *long_sleep(void *unused) {
    sleep_ms(100e3);
    return unused;
}

static void nothing(int signal) { (void)signal; }

static void in_a_thread(void *(*what)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, what, NULL) != 0) exit(1);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    double first = argc > 2 ? atof(argv[2]) : 0;
    void (*each)(double) = !strcmp(what, "sleep") ? timed_nanosleep : !strcmp(what, "pipe") ? timed_pipe
                         : !strcmp(what, "compat") ? timed_compat : !strcmp(what, "recv32") ? timed_recv32
                         : !strcmp(what, "semop32") ? timed_semop32 : NULL;
    if (each) {
        for (int i = 2; i < argc; i++) each(atof(argv[i]));
    } else if (!strcmp(what, "read") && argc > 3) {
        timed_read(argv[2], atof(argv[3]));
    } else if (!strcmp(what, "count")) {
        for (long i = 0; i < (long)first; i++) syscall(SYS_getppid);
        for (long i = 0; i < (long)first; i++) syscall(SYS_close, -1);
        printf("getppid %ld\n", (long)first);
    } else if (!strcmp(what, "fifo")) {
        return open(argv[2], O_RDONLY) < 0;
    } else if (!strcmp(what, "exec")) {
        argv[1] = "sleep";
        to_run = argv;
        in_a_thread(run_again);
        sleep_ms(100e3);
    } else if (!strcmp(what, "leave")) {
        in_a_thread(long_sleep);
        sleep_ms(first);
    } else if (!strcmp(what, "interrupt")) {
        struct sigaction action = {.sa_handler = nothing};
        sigaction(SIGALRM, &action, NULL);
        struct itimerspec due = {.it_value = {.tv_sec = 0, .tv_nsec = (long)(first * 1e6)}};
        timer_t timer;
        timer_create(CLOCK_MONOTONIC, NULL, &timer);
        timer_settime(timer, 0, &due, NULL);
        timed_nanosleep(100e3);
    } else if (!strcmp(what, "loop")) {
        long count = 0;
        double begin = now_us();
        while (now_us() < begin + first * 1e6)
            for (int i = 0; i < 1000; i++, count++) syscall(SYS_getppid);
        printf("%.0f\n", count / (now_us() - begin) * 1e6);
    } else if (!strcmp(what, "pingpong")) {
        int there[2], back[2];
        char byte = 0;
        if (pipe(there) != 0 || pipe(back) != 0) return 1;
        pid_t child = fork();
        if (child == 0) {
            close(there[1]);
            while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {}
            _exit(0);
        }
        long count = 0;
        double begin = now_us();
        for (; now_us() < begin + first * 1e6; count++)
            if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return 1;
        printf("%.0f\n", count / (now_us() - begin) * 1e6);
        close(there[1]);
        waitpid(child, NULL, 0);
    } else if (!strcmp(what, "rate") && argc > 3) {
        double begin = now_us(), seconds = atof(argv[3]);
        long count = 0, all = (long)(first * seconds);
        // In short bursts. Reading the clock is not a system call (vDSO).
        while (count < all) {
            long due = (long)((now_us() - begin) / 1e6 * first);
            for (; count < due && count < all; count++) syscall(SYS_getppid);
        }
        printf("%ld %.0f\n", count, count / (now_us() - begin) * 1e6);
    } else {
        fprintf(stderr, "usage: see the top of tests/kernels/calls.c\n");
        return 2;
    }
    return 0;
}

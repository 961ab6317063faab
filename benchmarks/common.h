/* What both programs need: the clock, the limit of open files, and a way to give up. */
#ifndef COMMON_H
#define COMMON_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* Ends the program, telling what failed and errno's reason. */
static inline _Noreturn void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(2);
}

/* Ends the program with a message. */
static inline _Noreturn void quit(const char *message) {
    fprintf(stderr, "%s\n", message);
    exit(2);
}

/* Returns CLOCK_MONOTONIC in nanoseconds. */
static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Returns a decimal argument between low and high, or ends the program. */
static inline long number(const char *text, long low, long high) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high) {
        fprintf(stderr, "not a number from %ld to %ld: %s\n", low, high, text);
        exit(2);
    }
    return value;
}

/* Allocates zeroed memory, or ends the program. */
static inline void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) die("calloc");
    return memory;
}

/* Raises the limit of open files as far as it goes; ends the program if that is below `files`. */
static inline void need_files(long files) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit)) die("setrlimit");
    if ((rlim_t)files > limit.rlim_max) quit("the hard limit of open files is too low");
}

#endif

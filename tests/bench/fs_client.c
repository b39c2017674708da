/* What programs do to files, timed. Prints how often it was done, and when it began and ended
 * (nanoseconds of CLOCK_MONOTONIC).
 *
 * usage: client stat|open|create|unlink|mkdir|rmdir|rename REPEATS < PATHS   (one path a line)
 *        client read|write BLOCK_BYTES sequential|random|mapped COUNT keep|drop|sync FILE
 *
 * It begins when standard input has ended. What is done once, such as reading the paths, is not timed. "drop": the file's pages are dropped before, by way of
 * FILE; "sync": fsync is timed, too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char small[4096];

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int print(double since, long count) {
    printf("%ld %.0f %.0f\n", count, since, now_ns());
    return 0;
}

static void one(const char *mode, const char *path) {
    struct stat status;
    char other[4096];
    int fd, result = 0;
    if (!strcmp(mode, "stat"))
        result = lstat(path, &status);
    else if (!strcmp(mode, "open")) {
        if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0 || read(fd, small, sizeof small) < 0)
            fail(path);
        result = close(fd);
    } else if (!strcmp(mode, "create")) {
        if ((fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) < 0)
            fail(path);
        result = close(fd);
    } else if (!strcmp(mode, "unlink"))
        result = unlink(path);
    else if (!strcmp(mode, "mkdir"))
        result = mkdir(path, 0755);
    else if (!strcmp(mode, "rmdir"))
        result = rmdir(path);
    else if (!strcmp(mode, "rename")) {
        snprintf(other, sizeof other, "%s.renamed", path);
        result = rename(path, other);
    } else
        exit(2);
    if (result < 0)
        fail(path);
}

static int names(const char *mode, long repeats) {
    char *line = NULL, **paths = NULL;
    size_t room = 0, count = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) > 0) {
        line[length - 1] = 0;
        if (count % 1024 == 0)
            paths = realloc(paths, (count + 1024) * sizeof *paths);
        paths[count++] = strdup(line);
    }
    double since = now_ns();
    for (long turn = 0; turn < repeats; turn++)
        for (size_t i = 0; i < count; i++)
            one(mode, paths[i]);
    return print(since, repeats * (long)count);
}

static uint64_t scattered(uint64_t number) { /* splitmix64 */
    uint64_t z = (number + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

int main(int argc, char **argv) {
    if (argc == 3)
        return names(argv[1], atol(argv[2]));
    if (argc != 7)
        return 2;
    int writes = !strcmp(argv[1], "write"), drop = !strcmp(argv[5], "drop"), sync = !strcmp(argv[5], "sync");
    int random = !strcmp(argv[3], "random"), mapped = !strcmp(argv[3], "mapped");
    size_t block = strtoul(argv[2], NULL, 10);
    long count = atol(argv[4]);
    int fd = open(argv[6], writes ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY, 0644);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        fail(argv[6]);
    if (drop && (errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)))
        fail("posix_fadvise");
    char *data = aligned_alloc(4096, block);
    memset(data, 7, block);
    while (getchar() != EOF)
        continue;
    double since = now_ns();
    if (mapped) {
        volatile uint64_t sum = 0;
        uint64_t *words = mmap(NULL, block * count, PROT_READ, MAP_SHARED, fd, 0);
        if (words == MAP_FAILED)
            fail("mmap");
        for (size_t i = 0; i < block * count / 512; i++)
            sum += words[i * 64];
        munmap(words, block * count);
    } else
        for (long i = 0; i < count; i++) {
            off_t at = (random ? scattered(i) % (status.st_size / block) : (uint64_t)i) * block;
            ssize_t done = writes ? pwrite(fd, data, block, at) : pread(fd, data, block, at);
            if (done != (ssize_t)block)
                fail(argv[6]);
        }
    if (sync && fsync(fd) < 0)
        fail("fsync");
    return print(since, count);
}

/* The floor: what the system calls alone cost. Prints jobs, microseconds of wall and of processor time a job.
 *
 * usage: floor read|read-both|stat|stat-both WORKSPACE
 *
 * The listing of the workspace is not timed. Names are taken in the order of the disk.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 16];

static double wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec * 1e-3;
}

static double processor_us(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static void read_file(int workspace, const char *id, const char *file, int required) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s", id, file);
    int fd = openat(workspace, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        if (required) {
            perror(path);
            exit(1);
        }
        return;
    }
    if (read(fd, buffer, sizeof buffer) < 0) {
        perror(path);
        exit(1);
    }
    close(fd);
}

static void stat_file(int workspace, const char *id, const char *file, int required) {
    char path[96];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", id, file);
    if (fstatat(workspace, path, &status, AT_SYMLINK_NOFOLLOW) < 0 && required) {
        perror(path);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int reads = strncmp(argv[1], "read", 4) == 0, both = strstr(argv[1], "-both") != NULL;
    DIR *directory = opendir(argv[2]);
    if (directory == NULL) {
        perror(argv[2]);
        return 1;
    }
    size_t jobs = 0, room = 1 << 12;
    char(*ids)[33] = malloc(room * sizeof *ids);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strlen(entry->d_name) != 32)
            continue;
        if (jobs == room)
            ids = realloc(ids, (room *= 2) * sizeof *ids);
        memcpy(ids[jobs++], entry->d_name, 33);
    }
    int workspace = dirfd(directory);
    void (*look)(int, const char *, const char *, int) = reads ? read_file : stat_file;
    double wall = wall_us(), processor = processor_us();
    for (size_t i = 0; i < jobs; i++) {
        look(workspace, ids[i], "signac_statepoint.json", 1);
        if (both)
            look(workspace, ids[i], "signac_job_document.json", 0);
    }
    wall = wall_us() - wall, processor = processor_us() - processor;
    printf("%zu %.4f %.4f\n", jobs, wall / jobs, processor / jobs);
    return 0;
}

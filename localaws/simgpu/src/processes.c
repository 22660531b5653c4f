#include "processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define READ_ATTEMPTS 1000

static pthread_mutex_t empty_lock = PTHREAD_MUTEX_INITIALIZER;
static struct simgpu_stamp empty_stamp; /* of the directory when it was last seen without records */

static void before_fork(void)
{
    pthread_mutex_lock(&empty_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&empty_lock);
}

/* Registered before the handlers of the callers, hence locked after theirs: the order in which calls lock. */
__attribute__((constructor(101))) static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

void simgpu_format_record(char text[SIMGPU_RECORD_SIZE + 1], const struct simgpu_process *process)
{
    size_t length = (size_t)snprintf(text, 16, "pid=%010u\n", process->pid);

    for (unsigned int i = 0; i < SIMGPU_MAX_GPUS; i++)
        length += (size_t)snprintf(text + length, 34, "gpu%02u=%05u %020llu\n", i, process->gpu[i].contexts % 100000,
                                   (unsigned long long)process->gpu[i].bytes);
}

static bool parse_record(const char *text, struct simgpu_process *process)
{
    uint64_t number;
    const char *rest;

    memset(process, 0, sizeof *process);
    if (strncmp(text, "pid=", 4) != 0 || !simgpu_parse_number(text + 4, &number, &rest))
        return false;
    process->pid = (unsigned int)number;
    for (unsigned int i = 0; i < SIMGPU_MAX_GPUS; i++) {
        const char *line = text + 15 + i * 33;
        if (strncmp(line, "gpu", 3) != 0 || !simgpu_parse_number(line + 6, &number, &rest) || *rest != ' ' ||
            !simgpu_parse_number(rest + 1, &process->gpu[i].bytes, &rest))
            return false;
        process->gpu[i].contexts = (unsigned int)number;
    }
    return true;
}

bool simgpu_record_is_abandoned(int fd)
{
    return flock(fd, LOCK_SH | LOCK_NB) == 0; /* closing fd releases it again */
}

/* The owner may be writing: what two reads in a row agree on is whole. */
static bool read_record(int fd, struct simgpu_process *process)
{
    char text[2][SIMGPU_RECORD_SIZE + 1] = {{0}, {0}};

    for (unsigned int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
        char *now = text[attempt % 2];
        if (pread(fd, now, SIMGPU_RECORD_SIZE, 0) != SIMGPU_RECORD_SIZE)
            return false;
        if (memcmp(text[0], text[1], SIMGPU_RECORD_SIZE) == 0)
            return parse_record(now, process);
        if (attempt > 2)
            sched_yield();
    }
    return false;
}

static void visit_record(int directory, const char *name, simgpu_visit *visit, void *argument)
{
    struct simgpu_process process;
    struct stat file;
    /* any user may put files here: never follow a link, never wait for a pipe */
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return;
    if (fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && !simgpu_record_is_abandoned(fd) && read_record(fd, &process))
        visit(&process, argument);
    close(fd);
}

static bool known_empty(const char *path)
{
    struct stat file;
    bool empty;

    pthread_mutex_lock(&empty_lock);
    empty = stat(path, &file) != 0 || simgpu_stamp_matches(&empty_stamp, &file);
    pthread_mutex_unlock(&empty_lock);
    return empty;
}

void simgpu_each_process(simgpu_visit *visit, void *argument)
{
    char path[SIMGPU_PATH_SIZE];
    struct dirent *entry;
    struct stat before;
    bool any = false;
    DIR *directory;

    simgpu_path(path, SIMGPU_PROCESS_DIRECTORY);
    if (known_empty(path) || !(directory = opendir(path)))
        return;
    if (fstat(dirfd(directory), &before) != 0)
        any = true; /* no stamp, so nothing to remember */
    while ((entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        any = true;
        if (entry->d_name[0] != '.') /* a name with a dot is a record in the making */
            visit_record(dirfd(directory), entry->d_name, visit, argument);
    }
    closedir(directory);
    if (!any) {
        pthread_mutex_lock(&empty_lock);
        simgpu_stamp_take(&empty_stamp, &before);
        pthread_mutex_unlock(&empty_lock);
    }
}

struct sum {
    unsigned int gpu_index;
    uint64_t bytes;
};

static void add(const struct simgpu_process *process, void *argument)
{
    struct sum *sum = argument;

    sum->bytes += process->gpu[sum->gpu_index].bytes;
}

uint64_t simgpu_cuda_bytes(unsigned int gpu_index)
{
    struct sum sum = {gpu_index, 0};

    simgpu_each_process(add, &sum);
    return sum.bytes;
}

void simgpu_memory(unsigned int gpu_index, const struct simgpu_gpu *gpu, uint64_t *allocated, uint64_t *free_bytes)
{
    uint64_t usable = gpu->number[SIMGPU_memory_total_bytes] - gpu->number[SIMGPU_memory_reserved_bytes];

    *allocated = gpu->number[SIMGPU_memory_used_bytes] + simgpu_cuda_bytes(gpu_index);
    for (unsigned int i = 0; i < SIMGPU_MAX_INSTANCES; i++)
        *allocated += gpu->number[SIMGPU_mig_mode] && gpu->instances[i].present ? gpu->instances[i].is.used_bytes : 0;
    if (*allocated > usable) /* more was scripted than processes had left */
        *allocated = usable;
    *free_bytes = usable - *allocated;
}

#include "state.h"

#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_DIRECTORY "/run/simgpu"
#define FILE_SIZE_MAX 16384
/* Time stamps of files advance in steps of a scheduler tick (at most 10 ms): younger ones prove nothing. */
#define STAMP_AGE_MIN_NANOSECONDS 20000000LL

typedef void line_reader(void *target, const char *key, const char *value);

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    struct simgpu_stamp stamp;
    struct simgpu_driver driver;
} cached_driver;
static struct {
    struct simgpu_stamp stamp;
    struct simgpu_gpu gpu;
} cached_gpus[SIMGPU_MAX_GPUS];

static pthread_once_t directory_once = PTHREAD_ONCE_INIT;
static char directory[SIMGPU_PATH_SIZE / 2];

static void find_directory(void)
{
    const char *wanted = secure_getenv("SIMGPU_STATE");

    snprintf(directory, sizeof directory, "%s", wanted && *wanted ? wanted : DEFAULT_DIRECTORY);
}

void simgpu_path(char path[SIMGPU_PATH_SIZE], const char *name)
{
    pthread_once(&directory_once, find_directory);
    snprintf(path, SIMGPU_PATH_SIZE, "%s/%s", directory, name);
}

/* A child forked by another thread must not inherit a cache lock that nobody will ever release. */
static void before_fork(void)
{
    pthread_mutex_lock(&cache_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&cache_lock);
}

/* Registered before the handlers of the callers, hence locked after theirs: the order in which calls lock. */
__attribute__((constructor(101))) static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

void simgpu_stamp_take(struct simgpu_stamp *stamp, const struct stat *file)
{
    struct timespec now;
    long long age;

    clock_gettime(CLOCK_REALTIME, &now);
    age = (now.tv_sec - file->st_mtim.tv_sec) * 1000000000LL + (now.tv_nsec - file->st_mtim.tv_nsec);
    stamp->file = *file;
    stamp->trusted = age > STAMP_AGE_MIN_NANOSECONDS;
}

bool simgpu_stamp_matches(const struct simgpu_stamp *stamp, const struct stat *file)
{
    return stamp->trusted && stamp->file.st_ino == file->st_ino && stamp->file.st_dev == file->st_dev &&
           stamp->file.st_size == file->st_size && stamp->file.st_mtim.tv_sec == file->st_mtim.tv_sec &&
           stamp->file.st_mtim.tv_nsec == file->st_mtim.tv_nsec;
}

static void read_lines(char *text, line_reader *reader, void *target)
{
    char *position, *line = strtok_r(text, "\n", &position);

    for (; line; line = strtok_r(NULL, "\n", &position)) {
        char *equals = strchr(line, '=');
        if (*line == '#' || !equals)
            continue;
        *equals = '\0';
        reader(target, line, equals + 1);
    }
}

static bool read_file(const char *path, struct simgpu_stamp *stamp, line_reader *reader, void *target)
{
    char text[FILE_SIZE_MAX];
    struct stat file;
    ssize_t length = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    stamp->trusted = false;
    if (fd < 0)
        return false;
    if (fstat(fd, &file) == 0)
        length = read(fd, text, sizeof text - 1); /* replaced by rename, never rewritten: one read sees it whole */
    close(fd);
    if (length < 0)
        return false;
    text[length] = '\0';
    read_lines(text, reader, target);
    simgpu_stamp_take(stamp, &file);
    return true;
}

static bool read_fault(struct simgpu_faults *faults, const char *key, const char *value)
{
    uint64_t code;
    const char *rest;

    if (strncmp(key, "fail.", 5) != 0)
        return false;
    if (faults->count < SIMGPU_MAX_FAULTS && simgpu_parse_number(value, &code, &rest)) {
        snprintf(faults->list[faults->count].function, sizeof faults->list[0].function, "%s", key + 5);
        faults->list[faults->count++].code = (int)code;
    }
    return true;
}

static void read_driver_line(void *target, const char *key, const char *value)
{
    struct simgpu_driver *driver = target;
    uint64_t number = 0;
    const char *rest;

    if (read_fault(&driver->faults, key, value))
        return;
    simgpu_parse_number(value, &number, &rest);
    if (strcmp(key, "driver_version") == 0)
        snprintf(driver->driver_version, sizeof driver->driver_version, "%s", value);
    else if (strcmp(key, "nvml_version") == 0)
        snprintf(driver->nvml_version, sizeof driver->nvml_version, "%s", value);
    else if (strcmp(key, "loaded") == 0)
        driver->loaded = number != 0;
    else if (strcmp(key, "cuda_version") == 0)
        driver->cuda_version = (int)number;
    else if (strcmp(key, "gpu_count") == 0)
        driver->gpu_count = number < SIMGPU_MAX_GPUS ? (unsigned int)number : SIMGPU_MAX_GPUS;
}

static void read_gpu_line(void *target, const char *key, const char *value)
{
#define SIMGPU_NAME(key) #key,
    static const char *const names[] = {SIMGPU_NUMBERS(SIMGPU_NAME)};
#undef SIMGPU_NAME
    struct simgpu_gpu *gpu = target;
    const char *rest;

    if (read_fault(&gpu->faults, key, value))
        return;
    for (unsigned int i = 0; i < SIMGPU_NUMBER_COUNT; i++)
        if (strcmp(key, names[i]) == 0)
            gpu->present[i] = simgpu_parse_number(value, &gpu->number[i], &rest);
    if (strcmp(key, "name") == 0)
        snprintf(gpu->name, sizeof gpu->name, "%s", value);
    else if (strcmp(key, "uuid") == 0)
        snprintf(gpu->uuid, sizeof gpu->uuid, "%s", value);
    else if (strcmp(key, "serial") == 0)
        snprintf(gpu->serial, sizeof gpu->serial, "%s", value);
    else if (strcmp(key, "pci_bus_id") == 0)
        simgpu_parse_pci(value, &gpu->pci_domain, &gpu->pci_bus, &gpu->pci_device);
}

static size_t faults_size(const struct simgpu_faults *faults)
{
    return offsetof(struct simgpu_faults, list) + faults->count * sizeof faults->list[0];
}

bool simgpu_read_driver(struct simgpu_driver *driver)
{
    struct simgpu_driver *cache = &cached_driver.driver;
    char path[SIMGPU_PATH_SIZE];
    struct stat file;
    bool found;

    simgpu_path(path, "driver");
    pthread_mutex_lock(&cache_lock);
    found = stat(path, &file) == 0;
    if (found && !simgpu_stamp_matches(&cached_driver.stamp, &file)) {
        memset(cache, 0, sizeof *cache);
        found = read_file(path, &cached_driver.stamp, read_driver_line, cache);
    }
    if (found)
        memcpy(driver, cache, offsetof(struct simgpu_driver, faults) + faults_size(&cache->faults));
    pthread_mutex_unlock(&cache_lock);
    return found && driver->loaded;
}

bool simgpu_read_gpu(unsigned int index, struct simgpu_gpu *gpu)
{
    char name[16], path[SIMGPU_PATH_SIZE];
    struct simgpu_gpu *cache;
    struct stat file;
    bool found;

    if (index >= SIMGPU_MAX_GPUS)
        return false;
    cache = &cached_gpus[index].gpu;
    snprintf(name, sizeof name, "gpu%u", index);
    simgpu_path(path, name);
    pthread_mutex_lock(&cache_lock);
    found = stat(path, &file) == 0;
    if (found && !simgpu_stamp_matches(&cached_gpus[index].stamp, &file)) {
        memset(cache, 0, sizeof *cache);
        found = read_file(path, &cached_gpus[index].stamp, read_gpu_line, cache);
    }
    if (found)
        memcpy(gpu, cache, offsetof(struct simgpu_gpu, faults) + faults_size(&cache->faults));
    pthread_mutex_unlock(&cache_lock);
    return found;
}

int simgpu_fault(const struct simgpu_faults *faults, const char *function)
{
    for (unsigned int i = 0; i < faults->count; i++)
        if (strcmp(faults->list[i].function, function) == 0)
            return faults->list[i].code;
    return 0;
}

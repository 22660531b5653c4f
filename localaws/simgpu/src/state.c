/* The state directory: one stat() tells whether anything in it changed, as every file in it is replaced by rename. */
#include "state.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_DIRECTORY "/run/simgpu"
#define FILE_SIZE_MAX 32768
/* Time stamps of files advance in steps of a scheduler tick (at most 10 ms): younger ones prove nothing. */
#define STAMP_AGE_MIN_NANOSECONDS 20000000LL

struct cached_file {
    struct simgpu_stamp stamp;
    unsigned long looked; /* the look at the directory that found it as it is here */
    bool found;
};

struct cached_gpu {
    struct cached_file file;
    struct simgpu_gpu gpu;
};

/* One per thread: nothing to lock, nothing to copy. */
struct cache {
    struct simgpu_stamp directory;
    unsigned long look;
    struct cached_file driver_file;
    struct simgpu_driver driver;
    struct cached_gpu *gpus[SIMGPU_MAX_GPUS];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char directory[SIMGPU_PATH_SIZE / 2];
static pthread_key_t cache_key;
static bool has_cache_key;

static void free_cache(void *argument)
{
    struct cache *cache = argument;

    for (unsigned int i = 0; i < SIMGPU_MAX_GPUS; i++)
        free(cache->gpus[i]);
    free(cache);
}

static void prepare(void)
{
    const char *wanted = secure_getenv("SIMGPU_STATE");

    snprintf(directory, sizeof directory, "%s", wanted && *wanted ? wanted : DEFAULT_DIRECTORY);
    has_cache_key = pthread_key_create(&cache_key, free_cache) == 0;
}

void simgpu_path(char path[SIMGPU_PATH_SIZE], const char *name)
{
    pthread_once(&once, prepare);
    snprintf(path, SIMGPU_PATH_SIZE, "%s/%s", directory, name);
}

static struct cache *thread_cache(void)
{
    static _Thread_local struct cache *cache;

    if (cache)
        return cache;
    pthread_once(&once, prepare);
    if (has_cache_key && (cache = calloc(1, sizeof *cache)))
        pthread_setspecific(cache_key, cache);
    return cache;
}

/* A library that is unloaded must not be called at the end of a thread. */
__attribute__((destructor)) static void forget_key(void)
{
    if (has_cache_key)
        pthread_key_delete(cache_key);
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

static bool read_file(const char *path, struct simgpu_stamp *stamp, char text[FILE_SIZE_MAX])
{
    struct stat file;
    ssize_t length = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return false;
    if (fstat(fd, &file) == 0)
        length = read(fd, text, FILE_SIZE_MAX - 1); /* replaced by rename, never rewritten: one read sees it whole */
    close(fd);
    if (length < 0)
        return false;
    text[length] = '\0';
    simgpu_stamp_take(stamp, &file);
    return true;
}

/* Bring a cached file up to date. True: `text` holds what must be parsed anew. */
static bool has_changed(struct cache *cache, struct cached_file *cached, const char *name, char text[FILE_SIZE_MAX])
{
    char path[SIMGPU_PATH_SIZE];
    struct stat file;

    if (cached->looked == cache->look)
        return false;
    cached->looked = cache->look;
    simgpu_path(path, name);
    if (cached->found && stat(path, &file) == 0 && simgpu_stamp_matches(&cached->stamp, &file))
        return false;
    cached->stamp.trusted = false;
    cached->found = read_file(path, &cached->stamp, text);
    return cached->found;
}

const struct simgpu_driver *simgpu_driver_state(void)
{
    struct cache *cache = thread_cache();
    char text[FILE_SIZE_MAX];
    struct stat file;

    if (!cache || stat(directory, &file) != 0)
        return NULL;
    if (!simgpu_stamp_matches(&cache->directory, &file)) {
        simgpu_stamp_take(&cache->directory, &file); /* before the files: a later change shows at the next look */
        cache->look++;
    }
    if (has_changed(cache, &cache->driver_file, "driver", text)) {
        memset(&cache->driver, 0, sizeof cache->driver);
        simgpu_parse_driver(text, &cache->driver);
    }
    return cache->driver_file.found ? &cache->driver : NULL;
}

const struct simgpu_gpu *simgpu_gpu_state(unsigned int index)
{
    struct cache *cache = thread_cache();
    char name[16], text[FILE_SIZE_MAX];
    struct cached_gpu *cached;

    if (!cache || index >= SIMGPU_MAX_GPUS)
        return NULL;
    if (!cache->gpus[index])
        cache->gpus[index] = calloc(1, sizeof *cache->gpus[index]);
    cached = cache->gpus[index];
    if (!cached)
        return NULL;
    snprintf(name, sizeof name, "gpu%u", index);
    if (has_changed(cache, &cached->file, name, text)) {
        memset(&cached->gpu, 0, sizeof cached->gpu);
        simgpu_parse_gpu(text, &cached->gpu);
    }
    return cached->file.found ? &cached->gpu : NULL;
}

int simgpu_fault(const struct simgpu_faults *faults, const char *function)
{
    for (unsigned int i = 0; i < faults->count; i++)
        if (strcmp(faults->list[i].function, function) == 0)
            return faults->list[i].code;
    return 0;
}

int simgpu_field_fault(const struct simgpu_faults *faults, unsigned int field_id)
{
    for (unsigned int i = 0; i < faults->field_count; i++)
        if (faults->fields[i].id == field_id)
            return faults->fields[i].code;
    return 0;
}

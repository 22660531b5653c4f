/* Events: lines that the outside appends to `<state>/events`; whoever waits is woken by inotify, never by polling. */
#include "nvml_internal.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define LINE_SIZE 96
#define MAGIC 0x6576656e74736574ULL
#define KNOWN_TYPES 0xffffULL
#define WITHOUT_INOTIFY_MILLISECONDS 100 /* the user has used up what the kernel allows */

struct nvmlEventSet_st {
    uint64_t magic;
    int watch;
    off_t position; /* in the events file; what comes after it was not looked at */
    struct {
        unsigned long long types;
        off_t since; /* events before registration are not seen */
    } gpu[SIMGPU_MAX_GPUS];
};

static off_t end_of_events(void)
{
    char path[SIMGPU_PATH_SIZE];
    struct stat file;

    simgpu_path(path, "events");
    return stat(path, &file) == 0 ? file.st_size : 0;
}

static int watch_state(void)
{
    char path[SIMGPU_PATH_SIZE];
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

    simgpu_path(path, "");
    if (watch >= 0 && inotify_add_watch(watch, path, IN_MODIFY | IN_MOVED_TO) < 0) {
        close(watch);
        watch = -1;
    }
    return watch;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
    const struct simgpu_driver *driver;
    nvmlReturn_t result = simgpu_enter(__func__, &driver);

    if (result == NVML_SUCCESS && !set)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    *set = calloc(1, sizeof **set);
    if (!*set)
        return NVML_ERROR_MEMORY;
    (*set)->magic = MAGIC;
    (*set)->position = end_of_events();
    (*set)->watch = watch_state();
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    const struct simgpu_driver *driver;
    nvmlReturn_t result = simgpu_enter(__func__, &driver);

    if (result == NVML_SUCCESS && (!set || set->magic != MAGIC))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    if (set->watch >= 0)
        close(set->watch);
    set->magic = 0;
    free(set);
    return NVML_SUCCESS;
}

static unsigned long long supported_types(const struct simgpu_gpu *gpu)
{
    unsigned long long types = gpu->number[SIMGPU_supported_event_types];

    if (!gpu->number[SIMGPU_ecc_mode])
        types &= ~(nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError);
    return types;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *eventTypes)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !eventTypes)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *eventTypes = supported_types(gpu);
    return result;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long eventTypes, nvmlEventSet_t set)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && (!set || set->magic != MAGIC || eventTypes & ~KNOWN_TYPES))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && eventTypes & ~supported_types(gpu))
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result != NVML_SUCCESS)
        return result;
    if (!set->gpu[device->index].types)
        set->gpu[device->index].since = end_of_events();
    set->gpu[device->index].types |= eventTypes;
    return NVML_SUCCESS;
}

/* "gpu type data gpu_instance_id compute_instance_id", all numbers. */
static bool parse_event(const char *line, uint64_t number[5])
{
    for (unsigned int i = 0; i < 5; i++) {
        if (!simgpu_parse_number(line, &number[i], &line))
            return false;
        if (*line == ' ')
            line++;
    }
    return *line == '\n' && number[0] < SIMGPU_MAX_GPUS;
}

/* New GPUs were installed, with an events file of their own. */
static void begin_anew(nvmlEventSet_t set)
{
    set->position = 0;
    for (unsigned int i = 0; i < SIMGPU_MAX_GPUS; i++)
        set->gpu[i].since = 0;
}

/* The next event that the set asked for. */
static bool next_event(nvmlEventSet_t set, nvmlEventData_t *data)
{
    char path[SIMGPU_PATH_SIZE], line[LINE_SIZE], *end;
    uint64_t number[5];
    ssize_t size;
    bool found = false;
    int fd;

    simgpu_path(path, "events");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (end_of_events() < set->position)
        begin_anew(set);
    while (fd >= 0 && !found && (size = pread(fd, line, sizeof line - 1, set->position)) > 0) {
        off_t began = set->position;
        line[size] = '\0';
        end = strchr(line, '\n');
        if (!end)
            break; /* the rest of it is still to come */
        set->position += end + 1 - line;
        if (!parse_event(line, number) || began < set->gpu[number[0]].since || !(set->gpu[number[0]].types & number[1]))
            continue;
        data->device = simgpu_handle((unsigned int)number[0]);
        data->eventType = number[1];
        data->eventData = number[2];
        data->gpuInstanceId = (unsigned int)number[3];
        data->computeInstanceId = (unsigned int)number[4];
        found = true;
    }
    if (fd >= 0)
        close(fd);
    return found;
}

static bool lost_one(const struct nvmlEventSet_st *set)
{
    for (unsigned int i = 0; i < SIMGPU_MAX_GPUS; i++) {
        const struct simgpu_gpu *gpu = set->gpu[i].types ? simgpu_gpu_state(i) : NULL;
        if (gpu && gpu->number[SIMGPU_lost] != SIMGPU_PRESENT)
            return true;
    }
    return false;
}

static void sleep_until_change(const struct nvmlEventSet_st *set, uint64_t milliseconds)
{
    struct pollfd watched = {set->watch, POLLIN, 0};
    char changes[4096];

    if (set->watch < 0 && milliseconds > WITHOUT_INOTIFY_MILLISECONDS)
        milliseconds = WITHOUT_INOTIFY_MILLISECONDS;
    if (milliseconds > 1000000)
        milliseconds = 1000000;
    if (poll(&watched, 1, (int)milliseconds) > 0)
        while (read(set->watch, changes, sizeof changes) > 0)
            continue; /* what changed is looked up in the files */
}

static nvmlReturn_t wait_for_event(const char *function, nvmlEventSet_t set, nvmlEventData_t *data,
                                   unsigned int milliseconds)
{
    uint64_t now, deadline = simgpu_monotonic_nanoseconds() + milliseconds * 1000000ULL;
    const struct simgpu_driver *driver;

    for (;;) {
        nvmlReturn_t result = simgpu_enter(function, &driver);
        if (result == NVML_SUCCESS && (!set || set->magic != MAGIC || !data))
            result = NVML_ERROR_INVALID_ARGUMENT;
        if (result != NVML_SUCCESS || next_event(set, data))
            return result;
        if (lost_one(set))
            return NVML_ERROR_GPU_IS_LOST;
        now = simgpu_monotonic_nanoseconds();
        if (now >= deadline)
            return NVML_ERROR_TIMEOUT;
        sleep_until_change(set, (deadline - now + 999999) / 1000000);
    }
}

/* Callers of version 1 have a shorter struct. */
nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeoutms)
{
    nvmlEventData_t event = {0};
    nvmlReturn_t result = wait_for_event(__func__, set, data ? &event : NULL, timeoutms);

    if (result == NVML_SUCCESS)
        memcpy(data, &event, offsetof(nvmlEventData_t, gpuInstanceId));
    return result;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeoutms)
{
    return wait_for_event(__func__, set, data, timeoutms);
}

/* Running processes: those that hold a CUDA context on the GPU. Nothing here draws, so no process is a graphics one. */
#include "nvml_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "processes.h"

#define NOT_A_MIG_INSTANCE 0xFFFFFFFFU
#define PROCESSES_MAX 512

struct process_list {
    unsigned int gpu_index, count;
    struct {
        unsigned int pid;
        unsigned long long bytes;
    } entry[PROCESSES_MAX];
};

static void collect(const struct simgpu_process *process, void *argument)
{
    struct process_list *list = argument;

    if (process->gpu[list->gpu_index].contexts == 0 || list->count == PROCESSES_MAX)
        return;
    list->entry[list->count].pid = process->pid;
    list->entry[list->count++].bytes = process->gpu[list->gpu_index].bytes;
}

static int by_pid(const void *left, const void *right)
{
    unsigned int a = *(const unsigned int *)left, b = *(const unsigned int *)right;

    return (a > b) - (a < b);
}

/* Fill `list`, then `*count` as NVML does: how many there are if they do not fit, else how many were returned. */
static nvmlReturn_t running(const char *function, nvmlDevice_t device, bool compute, unsigned int *count,
                            const void *infos, struct process_list *list)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    unsigned int room;
    nvmlReturn_t result = simgpu_enter_any(function, device, &gpu, &instance);

    if (result == NVML_SUCCESS && (!count || (*count > 0 && !infos)))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    list->gpu_index = device->index;
    list->count = 0;
    if (compute && !instance) /* no process of libcuda runs on a MIG device */
        simgpu_each_process(collect, list);
    qsort(list->entry, list->count, sizeof list->entry[0], by_pid);
    room = *count;
    *count = list->count;
    return room < list->count ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static nvmlReturn_t running_v1(const char *function, nvmlDevice_t device, bool compute, unsigned int *count,
                               nvmlProcessInfo_v1_t *infos)
{
    struct process_list list;
    nvmlReturn_t result = running(function, device, compute, count, infos, &list);

    for (unsigned int i = 0; result == NVML_SUCCESS && i < list.count; i++) {
        infos[i].pid = list.entry[i].pid;
        infos[i].usedGpuMemory = list.entry[i].bytes;
    }
    return result;
}

static nvmlReturn_t running_v2(const char *function, nvmlDevice_t device, bool compute, unsigned int *count,
                               nvmlProcessInfo_v2_t *infos)
{
    struct process_list list;
    nvmlReturn_t result = running(function, device, compute, count, infos, &list);

    for (unsigned int i = 0; result == NVML_SUCCESS && i < list.count; i++) {
        infos[i].pid = list.entry[i].pid;
        infos[i].usedGpuMemory = list.entry[i].bytes;
        infos[i].gpuInstanceId = NOT_A_MIG_INSTANCE;
        infos[i].computeInstanceId = NOT_A_MIG_INSTANCE;
    }
    return result;
}

#define PROCESS_QUERY(function, type, fill, compute)                                                                   \
    nvmlReturn_t function(nvmlDevice_t device, unsigned int *infoCount, type *infos)                                   \
    {                                                                                                                  \
        return fill(__func__, device, compute, infoCount, infos);                                                      \
    }

PROCESS_QUERY(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, running_v1, true)
PROCESS_QUERY(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, running_v2, true)
PROCESS_QUERY(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, running_v2, true)
PROCESS_QUERY(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t, running_v1, false)
PROCESS_QUERY(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t, running_v2, false)
PROCESS_QUERY(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t, running_v2, false)

/* The GPU's load, shared out among the processes that have a context on it. */
nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *utilization,
                                             unsigned int *processSamplesCount, unsigned long long lastSeenTimeStamp)
{
    const struct simgpu_gpu *gpu;
    struct process_list list = {.count = 0};
    uint64_t busy = 0, bus_busy, now = simgpu_realtime_microseconds();
    unsigned int room;
    nvmlReturn_t result = simgpu_enter_without_mig(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !processSamplesCount)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, SIMGPU_utilization_gpu_percent, &busy);
    if (result != NVML_SUCCESS)
        return result;
    bus_busy = gpu->number[SIMGPU_utilization_memory_percent];
    list.gpu_index = device->index;
    if (busy > 0 && lastSeenTimeStamp < now)
        simgpu_each_process(collect, &list);
    if (list.count == 0)
        return NVML_ERROR_NOT_FOUND;
    qsort(list.entry, list.count, sizeof list.entry[0], by_pid);
    room = utilization ? *processSamplesCount : 0;
    *processSamplesCount = list.count;
    if (room < list.count)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < list.count; i++)
        utilization[i] = (nvmlProcessUtilizationSample_t){.pid = list.entry[i].pid,
                                                          .timeStamp = now,
                                                          .smUtil = (unsigned int)busy / list.count,
                                                          .memUtil = (unsigned int)bus_busy / list.count};
    return NVML_SUCCESS;
}

/* The command line's first word, cut to fit. */
nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
    const struct simgpu_driver *driver;
    char path[32];
    ssize_t size;
    int fd;
    nvmlReturn_t result = simgpu_enter(__func__, &driver);

    if (result == NVML_SUCCESS && (!name || length == 0))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NVML_ERROR_NOT_FOUND;
    size = read(fd, name, length - 1);
    close(fd);
    name[size > 0 ? size : 0] = '\0'; /* the words of a command line end with \0 themselves */
    return NVML_SUCCESS;
}

/* Memory: allocated is what was scripted plus what living processes hold through libcuda. */
#include "nvml_internal.h"

#include <stddef.h>

#include "processes.h"

struct memory {
    uint64_t total, reserved, allocated, free;
};

static nvmlReturn_t memory_of(const char *function, nvmlDevice_t device, const void *out, struct memory *memory)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = simgpu_enter_any(function, device, &gpu, &instance);

    if (result == NVML_SUCCESS && !out)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    if (instance) { /* CUDA knows no MIG devices here: what they hold is what was scripted */
        memory->total = gpu->profiles[instance->is.profile].is.memory_bytes;
        memory->reserved = 0;
        memory->allocated = instance->is.used_bytes;
        memory->free = memory->total - memory->allocated;
        return NVML_SUCCESS;
    }
    memory->total = gpu->number[SIMGPU_memory_total_bytes];
    memory->reserved = gpu->number[SIMGPU_memory_reserved_bytes];
    simgpu_memory(device->index, gpu, &memory->allocated, &memory->free);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    struct memory is;
    nvmlReturn_t result = memory_of(__func__, device, memory, &is);

    if (result != NVML_SUCCESS)
        return result;
    memory->total = is.total;
    memory->free = is.free;
    memory->used = is.reserved + is.allocated; /* version 1 does not tell them apart */
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    struct memory is;
    nvmlReturn_t result = memory_of(__func__, device, memory, &is);

    if (result == NVML_SUCCESS && memory->version != nvmlMemory_v2)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result != NVML_SUCCESS)
        return result;
    memory->total = is.total;
    memory->reserved = is.reserved;
    memory->free = is.free;
    memory->used = is.allocated;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *bar1Memory)
{
    const struct simgpu_gpu *gpu;
    uint64_t total = 0, used = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !bar1Memory)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, SIMGPU_bar1_total_bytes, &total);
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, SIMGPU_bar1_used_bytes, &used);
    if (result != NVML_SUCCESS)
        return result;
    bar1Memory->bar1Total = total;
    bar1Memory->bar1Used = used;
    bar1Memory->bar1Free = total - used;
    return NVML_SUCCESS;
}

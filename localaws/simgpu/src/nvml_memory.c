/* Memory: allocated is what was scripted plus what living processes hold through libcuda. */
#include "nvml_internal.h"

#include <stddef.h>

#include "processes.h"

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    struct simgpu_gpu gpu;
    uint64_t allocated, free_bytes;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !memory)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    simgpu_memory(device->index, &gpu, &allocated, &free_bytes);
    memory->total = gpu.number[SIMGPU_memory_total_bytes];
    memory->free = free_bytes;
    memory->used = gpu.number[SIMGPU_memory_reserved_bytes] + allocated; /* version 1 does not tell them apart */
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    struct simgpu_gpu gpu;
    uint64_t allocated, free_bytes;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !memory)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && memory->version != nvmlMemory_v2)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result != NVML_SUCCESS)
        return result;
    simgpu_memory(device->index, &gpu, &allocated, &free_bytes);
    memory->total = gpu.number[SIMGPU_memory_total_bytes];
    memory->reserved = gpu.number[SIMGPU_memory_reserved_bytes];
    memory->free = free_bytes;
    memory->used = allocated;
    return NVML_SUCCESS;
}

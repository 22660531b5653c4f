/* What every source needs: handles, numbers of the state, clocks. */
#include "nvml_internal.h"

#include <string.h>
#include <time.h>

#define ROW (1 + SIMGPU_MAX_INSTANCES)

/* Per GPU its own handle, then one per slot for a MIG device. */
static struct nvmlDevice_st handles[SIMGPU_MAX_GPUS * ROW];

__attribute__((constructor)) static void number_handles(void)
{
    for (unsigned int i = 0; i < SIMGPU_MAX_GPUS * ROW; i++) {
        handles[i].index = i / ROW;
        handles[i].slot = (int)(i % ROW) - 1; /* the first is SIMGPU_NO_SLOT */
    }
}

nvmlDevice_t simgpu_handle(unsigned int index)
{
    return &handles[index * ROW];
}

nvmlDevice_t simgpu_mig_handle(unsigned int index, unsigned int slot)
{
    return &handles[index * ROW + 1 + slot];
}

bool simgpu_is_handle(nvmlDevice_t device)
{
    uintptr_t offset = (uintptr_t)device - (uintptr_t)handles;

    return offset < sizeof handles && offset % sizeof handles[0] == 0;
}

nvmlReturn_t simgpu_enter_without_mig(const char *function, nvmlDevice_t device, const struct simgpu_gpu **gpu)
{
    nvmlReturn_t result = simgpu_enter_device(function, device, gpu);

    return result == NVML_SUCCESS && (*gpu)->number[SIMGPU_mig_mode] ? NVML_ERROR_NOT_SUPPORTED : result;
}

bool simgpu_has_instances(const struct simgpu_gpu *gpu)
{
    for (unsigned int i = 0; gpu->number[SIMGPU_mig_mode] && i < SIMGPU_MAX_INSTANCES; i++)
        if (gpu->instances[i].present)
            return true;
    return false;
}

nvmlReturn_t simgpu_copy_text(char *out, unsigned int size, const char *text)
{
    if (strlen(text) >= size)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    memcpy(out, text, strlen(text) + 1);
    return NVML_SUCCESS;
}

nvmlReturn_t simgpu_number(const struct simgpu_gpu *gpu, enum simgpu_number key, uint64_t *value)
{
    if (!gpu->present[key])
        return NVML_ERROR_NOT_SUPPORTED;
    *value = gpu->number[key];
    return NVML_SUCCESS;
}

nvmlReturn_t simgpu_ecc_count(const struct simgpu_gpu *gpu, enum simgpu_number key, uint64_t *count)
{
    return gpu->number[SIMGPU_ecc_mode] ? simgpu_number(gpu, key, count) : NVML_ERROR_NOT_SUPPORTED;
}

/* The state holds the energy at one moment; since then the GPU drew the power it draws now. */
nvmlReturn_t simgpu_energy(const struct simgpu_gpu *gpu, uint64_t *millijoules)
{
    uint64_t now, elapsed_microseconds, since = gpu->number[SIMGPU_energy_since_nanoseconds];
    nvmlReturn_t result = simgpu_number(gpu, SIMGPU_energy_millijoules, millijoules);

    if (result != NVML_SUCCESS)
        return result;
    now = simgpu_monotonic_nanoseconds();
    elapsed_microseconds = now > since ? (now - since) / 1000 : 0;
    *millijoules += gpu->number[SIMGPU_power_milliwatts] * elapsed_microseconds / 1000000;
    return NVML_SUCCESS;
}

uint64_t simgpu_realtime_microseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000ULL + (uint64_t)now.tv_nsec / 1000;
}

uint64_t simgpu_monotonic_nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void simgpu_sleep_milliseconds(unsigned int milliseconds)
{
    struct timespec left = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000L};

    while (nanosleep(&left, &left) != 0)
        continue;
}

/* MIG devices: a GPU instance with one compute instance each, in the slots of a GPU. */
#include "nvml_internal.h"

#include <stdio.h>
#include <string.h>

#define MIB (1024 * 1024)

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
    const struct simgpu_gpu *gpu;
    uint64_t mode = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !count)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    (void)simgpu_number(gpu, SIMGPU_mig_mode, &mode);
    *count = mode ? 7 : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *migDevice)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !migDevice)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && !gpu->present[SIMGPU_mig_mode])
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result != NVML_SUCCESS)
        return result;
    if (!gpu->number[SIMGPU_mig_mode] || index >= SIMGPU_MAX_INSTANCES || !gpu->instances[index].present)
        return NVML_ERROR_NOT_FOUND;
    *migDevice = simgpu_mig_handle(device->index, index);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *isMigDevice)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = simgpu_enter_any(__func__, device, &gpu, &instance);

    if (result == NVML_SUCCESS && !isMigDevice)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *isMigDevice = instance != NULL;
    return result;
}

/* The way into a call that takes MIG devices only. */
static nvmlReturn_t enter_mig(const char *function, nvmlDevice_t device, const void *out, const struct simgpu_gpu **gpu,
                              const struct simgpu_instance **instance)
{
    nvmlReturn_t result = simgpu_enter_any(function, device, gpu, instance);

    if (result == NVML_SUCCESS && (!out || !*instance))
        return NVML_ERROR_INVALID_ARGUMENT;
    return result;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t migDevice, nvmlDevice_t *device)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = enter_mig(__func__, migDevice, device, &gpu, &instance);

    if (result == NVML_SUCCESS)
        *device = simgpu_handle(migDevice->index);
    return result;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = enter_mig(__func__, device, id, &gpu, &instance);

    if (result == NVML_SUCCESS)
        *id = (unsigned int)instance->is.gpu_instance_id;
    return result;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = enter_mig(__func__, device, id, &gpu, &instance);

    if (result == NVML_SUCCESS)
        *id = (unsigned int)instance->is.compute_instance_id;
    return result;
}

static nvmlReturn_t attributes_of(const char *function, nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    const struct simgpu_profile *profile;
    nvmlReturn_t result = enter_mig(function, device, attributes, &gpu, &instance);

    if (result != NVML_SUCCESS)
        return result;
    profile = &gpu->profiles[instance->is.profile];
    *attributes = (nvmlDeviceAttributes_t){
        .multiprocessorCount = (unsigned int)profile->is.multiprocessors,
        .sharedCopyEngineCount = (unsigned int)profile->is.copy_engines,
        .sharedDecoderCount = (unsigned int)profile->is.decoders,
        .sharedEncoderCount = (unsigned int)profile->is.encoders,
        .sharedJpegCount = (unsigned int)profile->is.jpegs,
        .sharedOfaCount = (unsigned int)profile->is.ofas,
        .gpuInstanceSliceCount = (unsigned int)profile->is.slices,
        .computeInstanceSliceCount = (unsigned int)profile->is.slices,
        .memorySizeMB = profile->is.memory_bytes / MIB,
    };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    return attributes_of(__func__, device, attributes);
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    return attributes_of(__func__, device, attributes);
}

/* A GPU instance's handle is that of its only MIG device. */
nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *gpuInstance)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !gpuInstance)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && !gpu->number[SIMGPU_mig_mode])
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result != NVML_SUCCESS)
        return result;
    for (unsigned int slot = 0; slot < SIMGPU_MAX_INSTANCES; slot++)
        if (gpu->instances[slot].present && gpu->instances[slot].is.gpu_instance_id == id) {
            *gpuInstance = (nvmlGpuInstance_t)simgpu_mig_handle(device->index, slot);
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t gpuInstance, nvmlGpuInstanceInfo_t *info)
{
    nvmlDevice_t device = (nvmlDevice_t)gpuInstance;
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    const struct simgpu_profile *profile;
    nvmlReturn_t result = enter_mig(__func__, device, info, &gpu, &instance);

    if (result != NVML_SUCCESS)
        return result;
    profile = &gpu->profiles[instance->is.profile];
    *info = (nvmlGpuInstanceInfo_t){
        .device = simgpu_handle(device->index),
        .id = (unsigned int)instance->is.gpu_instance_id,
        .profileId = (unsigned int)profile->is.id,
        .placement = {(unsigned int)instance->is.start, (unsigned int)profile->is.slices},
    };
    return NVML_SUCCESS;
}

static nvmlReturn_t profile_of(const char *function, nvmlDevice_t device, unsigned int number, const void *info,
                               const struct simgpu_profile **profile)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(function, device, &gpu);

    if (result == NVML_SUCCESS && (!info || number >= NVML_GPU_INSTANCE_PROFILE_COUNT))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && !gpu->profiles[number].name[0])
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result == NVML_SUCCESS)
        *profile = &gpu->profiles[number];
    return result;
}

#define COPY_PROFILE(to, from)                                                                                         \
    do {                                                                                                               \
        (to)->id = (unsigned int)(from)->is.id;                                                                        \
        (to)->isP2pSupported = 0;                                                                                      \
        (to)->sliceCount = (unsigned int)(from)->is.slices;                                                            \
        (to)->instanceCount = (unsigned int)(from)->is.instances;                                                      \
        (to)->multiprocessorCount = (unsigned int)(from)->is.multiprocessors;                                          \
        (to)->copyEngineCount = (unsigned int)(from)->is.copy_engines;                                                 \
        (to)->decoderCount = (unsigned int)(from)->is.decoders;                                                        \
        (to)->encoderCount = (unsigned int)(from)->is.encoders;                                                        \
        (to)->jpegCount = (unsigned int)(from)->is.jpegs;                                                              \
        (to)->ofaCount = (unsigned int)(from)->is.ofas;                                                                \
        (to)->memorySizeMB = (from)->is.memory_bytes / MIB;                                                            \
    } while (0)

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int profile,
                                                 nvmlGpuInstanceProfileInfo_t *info)
{
    const struct simgpu_profile *is;
    nvmlReturn_t result = profile_of(__func__, device, profile, info, &is);

    if (result == NVML_SUCCESS)
        COPY_PROFILE(info, is);
    return result;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned int profile,
                                                  nvmlGpuInstanceProfileInfo_v2_t *info)
{
    const struct simgpu_profile *is;
    nvmlReturn_t result = profile_of(__func__, device, profile, info, &is);

    if (result == NVML_SUCCESS && info->version != nvmlGpuInstanceProfileInfo_v2)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result != NVML_SUCCESS)
        return result;
    COPY_PROFILE(info, is);
    snprintf(info->name, sizeof info->name, "MIG %s", is->name);
    return NVML_SUCCESS;
}

/* How many GPUs there are, and how to get at one. */
#include "nvml_internal.h"

#include <string.h>

typedef bool gpu_test(const struct simgpu_gpu *gpu, const void *wanted);

static bool is_enumerated(unsigned int index)
{
    const struct simgpu_gpu *gpu = simgpu_gpu_state(index);

    return !gpu || gpu->number[SIMGPU_lost] != SIMGPU_VANISHED;
}

/* How many of the first `indexes` state files are GPUs that NVML enumerates. */
static unsigned int enumerated(unsigned int indexes)
{
    unsigned int count = 0;

    for (unsigned int i = 0; i < indexes; i++)
        count += is_enumerated(i);
    return count;
}

static nvmlReturn_t device_count(const char *function, unsigned int *count)
{
    const struct simgpu_driver *driver;
    nvmlReturn_t result = simgpu_enter(function, &driver);

    if (result != NVML_SUCCESS)
        return result;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = enumerated(driver->gpu_count);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *deviceCount)
{
    return device_count(__func__, deviceCount);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount)
{
    return device_count(__func__, deviceCount);
}

static nvmlReturn_t open_device(const char *function, nvmlDevice_t wanted, nvmlDevice_t *device)
{
    const struct simgpu_gpu *gpu = NULL;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = simgpu_enter_any(function, wanted, &gpu, &instance);

    if (result == NVML_SUCCESS)
        *device = wanted;
    if (result == NVML_ERROR_GPU_IS_LOST && gpu && gpu->number[SIMGPU_lost] == SIMGPU_LOST_UNKNOWN)
        return NVML_ERROR_UNKNOWN;
    return result;
}

static nvmlReturn_t handle_by_index(const char *function, unsigned int index, nvmlDevice_t *device)
{
    const struct simgpu_driver *driver;
    nvmlReturn_t result = simgpu_enter(function, &driver);

    if (result != NVML_SUCCESS)
        return result;
    for (unsigned int i = 0; device && i < driver->gpu_count; i++)
        if (is_enumerated(i) && index-- == 0)
            return open_device(function, simgpu_handle(i), device);
    return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
    return handle_by_index(__func__, index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    return handle_by_index(__func__, index, device);
}

static nvmlReturn_t handle_by(const char *function, gpu_test *test, const void *wanted, nvmlDevice_t *device)
{
    const struct simgpu_driver *driver;
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter(function, &driver);

    if (result != NVML_SUCCESS)
        return result;
    if (!wanted || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned int i = 0; i < driver->gpu_count; i++)
        if (is_enumerated(i) && (gpu = simgpu_gpu_state(i)) && test(gpu, wanted))
            return open_device(function, simgpu_handle(i), device);
    return NVML_ERROR_NOT_FOUND;
}

static bool has_uuid(const struct simgpu_gpu *gpu, const void *wanted)
{
    return strcmp(gpu->uuid, wanted) == 0;
}

static nvmlReturn_t mig_handle_by_uuid(const char *function, const char *uuid, nvmlDevice_t *device)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_driver *driver;
    nvmlReturn_t result = simgpu_enter(function, &driver);

    for (unsigned int i = 0; result == NVML_SUCCESS && i < driver->gpu_count * SIMGPU_MAX_INSTANCES; i++) {
        unsigned int slot = i % SIMGPU_MAX_INSTANCES;
        gpu = simgpu_gpu_state(i / SIMGPU_MAX_INSTANCES);
        if (gpu && gpu->instances[slot].present && strcmp(gpu->instances[slot].uuid, uuid) == 0)
            return open_device(function, simgpu_mig_handle(i / SIMGPU_MAX_INSTANCES, slot), device);
    }
    return result == NVML_SUCCESS ? NVML_ERROR_NOT_FOUND : result;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    if (uuid && device && strncmp(uuid, "MIG-", 4) == 0)
        return mig_handle_by_uuid(__func__, uuid, device);
    return handle_by(__func__, has_uuid, uuid, device);
}

static bool has_serial(const struct simgpu_gpu *gpu, const void *wanted)
{
    return strcmp(gpu->serial, wanted) == 0;
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device)
{
    return handle_by(__func__, has_serial, serial, device);
}

static bool has_pci_bus_id(const struct simgpu_gpu *gpu, const void *wanted)
{
    unsigned int domain, bus, device;

    return simgpu_parse_pci(wanted, &domain, &bus, &device) && gpu->pci_domain == domain && gpu->pci_bus == bus &&
           gpu->pci_device == device;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *pciBusId, nvmlDevice_t *device)
{
    return handle_by(__func__, has_pci_bus_id, pciBusId, device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pciBusId, nvmlDevice_t *device)
{
    return handle_by(__func__, has_pci_bus_id, pciBusId, device);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = simgpu_enter_any(__func__, device, &gpu, &instance);

    if (result != NVML_SUCCESS)
        return result;
    if (!index)
        return NVML_ERROR_INVALID_ARGUMENT;
    *index = instance ? (unsigned int)device->slot : enumerated(device->index);
    return NVML_SUCCESS;
}

/* How many GPUs there are, how to get at one, and which one it is. */
#include "nvml_internal.h"

#include <stdio.h>
#include <string.h>

typedef bool gpu_test(const struct simgpu_gpu *gpu, const void *wanted);

static nvmlReturn_t device_count(const char *function, unsigned int *count)
{
    struct simgpu_driver driver;
    nvmlReturn_t result = simgpu_enter(function, &driver);

    if (result != NVML_SUCCESS)
        return result;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = driver.gpu_count;
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

static nvmlReturn_t handle_by_index(const char *function, unsigned int index, nvmlDevice_t *device)
{
    struct simgpu_driver driver;
    struct simgpu_gpu gpu;
    nvmlReturn_t result = simgpu_enter(function, &driver);

    if (result != NVML_SUCCESS)
        return result;
    if (!device || index >= driver.gpu_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = simgpu_enter_device(function, simgpu_handle(index), &gpu);
    if (result == NVML_SUCCESS)
        *device = simgpu_handle(index);
    return result;
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
    struct simgpu_driver driver;
    struct simgpu_gpu gpu;
    nvmlReturn_t result = simgpu_enter(function, &driver);

    if (result != NVML_SUCCESS)
        return result;
    if (!wanted || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned int i = 0; i < driver.gpu_count; i++)
        if (simgpu_read_gpu(i, &gpu) && test(&gpu, wanted))
            return handle_by_index(function, i, device);
    return NVML_ERROR_NOT_FOUND;
}

static bool has_uuid(const struct simgpu_gpu *gpu, const void *wanted)
{
    return strcmp(gpu->uuid, wanted) == 0;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
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
    struct simgpu_gpu gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result != NVML_SUCCESS)
        return result;
    if (!index)
        return NVML_ERROR_INVALID_ARGUMENT;
    *index = device->index;
    return NVML_SUCCESS;
}

#define TEXT_QUERY(function, member)                                                                                   \
    nvmlReturn_t function(nvmlDevice_t device, char *text, unsigned int length)                                        \
    {                                                                                                                  \
        struct simgpu_gpu gpu;                                                                                         \
        nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);                                             \
                                                                                                                       \
        if (result != NVML_SUCCESS)                                                                                    \
            return result;                                                                                             \
        return text ? simgpu_copy_text(text, length, gpu.member) : NVML_ERROR_INVALID_ARGUMENT;                        \
    }

TEXT_QUERY(nvmlDeviceGetName, name)
TEXT_QUERY(nvmlDeviceGetUUID, uuid)
TEXT_QUERY(nvmlDeviceGetSerial, serial)

static nvmlReturn_t pci_info(const char *function, nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    struct simgpu_gpu gpu;
    nvmlReturn_t result = simgpu_enter_device(function, device, &gpu);

    if (result != NVML_SUCCESS)
        return result;
    if (!pci)
        return NVML_ERROR_INVALID_ARGUMENT;
    memset(pci, 0, sizeof *pci);
    pci->domain = gpu.pci_domain;
    pci->bus = gpu.pci_bus;
    pci->device = gpu.pci_device;
    pci->pciDeviceId = (unsigned int)gpu.number[SIMGPU_pci_device_id];
    pci->pciSubSystemId = (unsigned int)gpu.number[SIMGPU_pci_subsystem_id];
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, NVML_DEVICE_PCI_BUS_ID_LEGACY_FMT,
             pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0xff);
    snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, NVML_DEVICE_PCI_BUS_ID_FMT_ARGS(pci));
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    return pci_info(__func__, device, pci);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    return pci_info(__func__, device, pci);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    return pci_info(__func__, device, pci);
}

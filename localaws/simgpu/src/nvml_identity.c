/* Which GPU it is: names, numbers on stickers, the place on the PCI bus. */
#include "nvml_internal.h"

#include <stdio.h>
#include <string.h>

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    char full[sizeof gpu->name + sizeof gpu->profiles[0].name + sizeof " MIG "];
    nvmlReturn_t result = simgpu_enter_any(__func__, device, &gpu, &instance);

    if (result == NVML_SUCCESS && !name)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    if (!instance)
        return simgpu_copy_text(name, length, gpu->name);
    snprintf(full, sizeof full, "%s MIG %s", gpu->name, gpu->profiles[instance->is.profile].name);
    return simgpu_copy_text(name, length, full);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = simgpu_enter_any(__func__, device, &gpu, &instance);

    if (result == NVML_SUCCESS && !uuid)
        result = NVML_ERROR_INVALID_ARGUMENT;
    return result == NVML_SUCCESS ? simgpu_copy_text(uuid, length, instance ? instance->uuid : gpu->uuid) : result;
}

/* A text that a GPU has or has not; MIG devices have none. */
#define TEXT_QUERY(function, member)                                                                                   \
    nvmlReturn_t function(nvmlDevice_t device, char *text, unsigned int length)                                        \
    {                                                                                                                  \
        const struct simgpu_gpu *gpu;                                                                                  \
        nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);                                             \
                                                                                                                       \
        if (result == NVML_SUCCESS && !text)                                                                           \
            result = NVML_ERROR_INVALID_ARGUMENT;                                                                      \
        if (result == NVML_SUCCESS && !gpu->member[0])                                                                 \
            result = NVML_ERROR_NOT_SUPPORTED;                                                                         \
        return result == NVML_SUCCESS ? simgpu_copy_text(text, length, gpu->member) : result;                          \
    }

TEXT_QUERY(nvmlDeviceGetSerial, serial)
TEXT_QUERY(nvmlDeviceGetVbiosVersion, vbios_version)

nvmlReturn_t nvmlDeviceGetBoardId(nvmlDevice_t device, unsigned int *boardId)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !boardId)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *boardId = gpu->pci_domain << 16 | gpu->pci_bus << 8 | gpu->pci_device; /* one GPU per board */
    return result;
}

/* Only Windows has driver models. */
static nvmlReturn_t driver_model(const char *function, nvmlDevice_t device, const void *current, const void *pending)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(function, device, &gpu);

    if (result == NVML_SUCCESS && (!current || !pending))
        return NVML_ERROR_INVALID_ARGUMENT;
    return result == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : result;
}

nvmlReturn_t nvmlDeviceGetDriverModel(nvmlDevice_t device, nvmlDriverModel_t *current, nvmlDriverModel_t *pending)
{
    return driver_model(__func__, device, current, pending);
}

nvmlReturn_t nvmlDeviceGetDriverModel_v2(nvmlDevice_t device, nvmlDriverModel_t *current, nvmlDriverModel_t *pending)
{
    return driver_model(__func__, device, current, pending);
}

static nvmlReturn_t pci_info(const char *function, nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(function, device, &gpu);

    if (result != NVML_SUCCESS)
        return result;
    if (!pci)
        return NVML_ERROR_INVALID_ARGUMENT;
    memset(pci, 0, sizeof *pci);
    pci->domain = gpu->pci_domain;
    pci->bus = gpu->pci_bus;
    pci->device = gpu->pci_device;
    pci->pciDeviceId = (unsigned int)gpu->number[SIMGPU_pci_device_id];
    pci->pciSubSystemId = (unsigned int)gpu->number[SIMGPU_pci_subsystem_id];
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

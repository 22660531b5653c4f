/* What CUDA says about the GPUs. */
#include <stdio.h>
#include <string.h>

#include "cuda_internal.h"

CUresult cuda_read_device(CUdevice device, const struct simgpu_gpu **gpu)
{
    const struct simgpu_driver *driver = simgpu_driver_state();

    if (!driver || !driver->loaded)
        return CUDA_ERROR_UNKNOWN;
    if (device < 0 || (unsigned int)device >= driver->gpu_count)
        return CUDA_ERROR_INVALID_DEVICE;
    *gpu = simgpu_gpu_state((unsigned int)device);
    return *gpu && !(*gpu)->number[SIMGPU_lost] ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

/* Enter, check the arguments, read the device; the caller unlocks with cuda_leave. */
static CUresult enter_device(const void *out, CUdevice device, const struct simgpu_gpu **gpu)
{
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS && !out)
        result = CUDA_ERROR_INVALID_VALUE;
    return result == CUDA_SUCCESS ? cuda_read_device(device, gpu) : result;
}

CUresult cuDeviceGetCount(int *count)
{
    const struct simgpu_driver *driver = simgpu_driver_state();
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS && !count)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && (!driver || !driver->loaded))
        result = CUDA_ERROR_UNKNOWN;
    if (result == CUDA_SUCCESS)
        *count = (int)driver->gpu_count;
    return cuda_leave(result);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    const struct simgpu_gpu *gpu;
    CUresult result = enter_device(device, ordinal, &gpu);

    if (result == CUDA_SUCCESS)
        *device = ordinal;
    return cuda_leave(result);
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    const struct simgpu_gpu *gpu;
    CUresult result = enter_device(name, device, &gpu);

    if (result == CUDA_SUCCESS && length <= 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        snprintf(name, (size_t)length, "%s", gpu->name); /* CUDA cuts a name that does not fit */
    return cuda_leave(result);
}

static int hexadecimal(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static void uuid_bytes(const char *text, CUuuid *uuid)
{
    unsigned int nibble = 0;

    memset(uuid, 0, sizeof *uuid);
    for (text += strlen("GPU-"); *text && nibble < 32; text++) {
        if (*text == '-')
            continue;
        uuid->bytes[nibble / 2] = (char)(uuid->bytes[nibble / 2] << 4 | hexadecimal(*text));
        nibble++;
    }
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    const struct simgpu_gpu *gpu;
    CUresult result = enter_device(uuid, device, &gpu);

    if (result == CUDA_SUCCESS && strncmp(gpu->uuid, "GPU-", 4) != 0)
        result = CUDA_ERROR_UNKNOWN;
    if (result == CUDA_SUCCESS)
        uuid_bytes(gpu->uuid, uuid);
    return cuda_leave(result);
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    return cuDeviceGetUuid(uuid, device);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    const struct simgpu_gpu *gpu;
    CUresult result = enter_device(bytes, device, &gpu);

    if (result == CUDA_SUCCESS)
        *bytes = gpu->number[SIMGPU_memory_total_bytes] - gpu->number[SIMGPU_memory_reserved_bytes];
    return cuda_leave(result);
}

CUresult cuDeviceGetPCIBusId(char *bus_id, int length, CUdevice device)
{
    const struct simgpu_gpu *gpu;
    CUresult result = enter_device(bus_id, device, &gpu);

    if (result == CUDA_SUCCESS && length < (int)sizeof "0000:00:00.0")
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        snprintf(bus_id, (size_t)length, "%04X:%02X:%02X.0", gpu->pci_domain, gpu->pci_bus, gpu->pci_device);
    return cuda_leave(result);
}

static CUresult attribute_of(const struct simgpu_gpu *gpu, CUdevice_attribute attribute, uint64_t *value)
{
    const uint64_t *number = gpu->number;

    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *value = number[SIMGPU_clock_sm_max_mhz] * 1000; break; /* kHz */
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = number[SIMGPU_multiprocessor_count]; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = 0; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE: *value = 0; break;
    case CU_DEVICE_ATTRIBUTE_ECC_ENABLED: *value = number[SIMGPU_ecc_mode]; break;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: *value = gpu->pci_bus; break;
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID: *value = gpu->pci_device; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *value = number[SIMGPU_clock_memory_max_mhz] * 1000; break; /* kHz */
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *value = 1; break;
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID: *value = gpu->pci_domain; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = number[SIMGPU_compute_capability_major]; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = number[SIMGPU_compute_capability_minor]; break;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    const struct simgpu_gpu *gpu;
    uint64_t number = 0;
    CUresult result = enter_device(value, device, &gpu);

    if (result == CUDA_SUCCESS)
        result = attribute_of(gpu, attribute, &number);
    if (result == CUDA_SUCCESS)
        *value = (int)number;
    return cuda_leave(result);
}

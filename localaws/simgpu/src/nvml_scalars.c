/* Queries that hand out numbers of the GPU's state as they are. A new one is a line in the right table. */
#include "nvml_internal.h"

#include <stddef.h>

/* One number. */
#define SCALAR(function, type, key)                                                                                    \
    nvmlReturn_t function(nvmlDevice_t device, type *value)                                                            \
    {                                                                                                                  \
        const struct simgpu_gpu *gpu;                                                                                  \
        uint64_t number = 0;                                                                                           \
        nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);                                             \
                                                                                                                       \
        if (result == NVML_SUCCESS && !value)                                                                          \
            result = NVML_ERROR_INVALID_ARGUMENT;                                                                      \
        if (result == NVML_SUCCESS)                                                                                    \
            result = simgpu_number(gpu, SIMGPU_##key, &number);                                                        \
        if (result == NVML_SUCCESS)                                                                                    \
            *value = (type)number;                                                                                     \
        return result;                                                                                                 \
    }

/* Two numbers, both or none. */
#define PAIR(function, type, first_key, second_key)                                                                    \
    nvmlReturn_t function(nvmlDevice_t device, type *first, type *second)                                              \
    {                                                                                                                  \
        const struct simgpu_gpu *gpu;                                                                                  \
        uint64_t numbers[2] = {0, 0};                                                                                  \
        nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);                                             \
                                                                                                                       \
        if (result == NVML_SUCCESS && (!first || !second))                                                             \
            result = NVML_ERROR_INVALID_ARGUMENT;                                                                      \
        if (result == NVML_SUCCESS)                                                                                    \
            result = simgpu_number(gpu, SIMGPU_##first_key, &numbers[0]);                                              \
        if (result == NVML_SUCCESS)                                                                                    \
            result = simgpu_number(gpu, SIMGPU_##second_key, &numbers[1]);                                             \
        if (result == NVML_SUCCESS) {                                                                                  \
            *first = (type)numbers[0];                                                                                 \
            *second = (type)numbers[1];                                                                                \
        }                                                                                                              \
        return result;                                                                                                 \
    }

SCALAR(nvmlDeviceGetMinorNumber, unsigned int, minor_number)
SCALAR(nvmlDeviceGetArchitecture, nvmlDeviceArchitecture_t, architecture)
SCALAR(nvmlDeviceGetPowerUsage, unsigned int, power_milliwatts)
SCALAR(nvmlDeviceGetEnforcedPowerLimit, unsigned int, power_limit_enforced_milliwatts)
SCALAR(nvmlDeviceGetPowerManagementLimit, unsigned int, power_limit_milliwatts)
SCALAR(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, power_limit_default_milliwatts)
SCALAR(nvmlDeviceGetPerformanceState, nvmlPstates_t, performance_state)
SCALAR(nvmlDeviceGetPowerState, nvmlPstates_t, performance_state)
SCALAR(nvmlDeviceGetFanSpeed, unsigned int, fan_speed_percent)
SCALAR(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, persistence_mode)
SCALAR(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, clocks_event_reasons)
SCALAR(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, clocks_event_reasons)
SCALAR(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, pcie_generation)
SCALAR(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, pcie_generation_max)
SCALAR(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, pcie_width)
SCALAR(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, pcie_width_max)
SCALAR(nvmlDeviceGetPcieReplayCounter, unsigned int, pcie_replay_count)
SCALAR(nvmlDeviceGetRetiredPagesPendingStatus, nvmlEnableState_t, retired_pages_pending)
SCALAR(nvmlDeviceGetNumGpuCores, unsigned int, gpu_cores)
SCALAR(nvmlDeviceGetMemoryBusWidth, unsigned int, memory_bus_width_bits)
SCALAR(nvmlDeviceGetBrand, nvmlBrandType_t, brand)
SCALAR(nvmlDeviceGetComputeMode, nvmlComputeMode_t, compute_mode)
SCALAR(nvmlDeviceGetDisplayMode, nvmlEnableState_t, display_mode)
SCALAR(nvmlDeviceGetDisplayActive, nvmlEnableState_t, display_active)

PAIR(nvmlDeviceGetCudaComputeCapability, int, compute_capability_major, compute_capability_minor)
PAIR(nvmlDeviceGetPowerManagementLimitConstraints, unsigned int, power_limit_min_milliwatts, power_limit_max_milliwatts)
PAIR(nvmlDeviceGetEccMode, nvmlEnableState_t, ecc_mode, ecc_mode_pending)
PAIR(nvmlDeviceGetMigMode, unsigned int, mig_mode, mig_mode_pending)

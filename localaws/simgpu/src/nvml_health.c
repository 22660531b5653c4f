/* Signs of wear and trouble: retired pages, remapped rows, time spent throttled, margin to the thermal limit. */
#include "nvml_internal.h"

#include <stddef.h>

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrRows, unsigned int *uncRows,
                                       unsigned int *isPending, unsigned int *failureOccurred)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && (!corrRows || !uncRows || !isPending || !failureOccurred))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && (!gpu->present[SIMGPU_remapped_rows_correctable] || simgpu_has_instances(gpu)))
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result != NVML_SUCCESS)
        return result;
    *corrRows = (unsigned int)gpu->number[SIMGPU_remapped_rows_correctable];
    *uncRows = (unsigned int)gpu->number[SIMGPU_remapped_rows_uncorrectable];
    *isPending = (unsigned int)gpu->number[SIMGPU_remapped_rows_pending];
    *failureOccurred = (unsigned int)gpu->number[SIMGPU_remapped_rows_failure];
    return NVML_SUCCESS;
}

/* Addresses and times are made up: page N of a cause is the Nth 4 KiB page, retired N seconds after 1970. */
static nvmlReturn_t retired_pages(const char *function, nvmlDevice_t device, nvmlPageRetirementCause_t cause,
                                  unsigned int *count, unsigned long long *addresses, unsigned long long *timestamps)
{
    static const enum simgpu_number keys[NVML_PAGE_RETIREMENT_CAUSE_COUNT] = {
        SIMGPU_retired_pages_sbe,
        SIMGPU_retired_pages_dbe,
    };
    const struct simgpu_gpu *gpu;
    uint64_t pages = 0;
    unsigned int room;
    nvmlReturn_t result = simgpu_enter_device(function, device, &gpu);

    if (result == NVML_SUCCESS &&
        (!count || (*count > 0 && !addresses) || (unsigned int)cause >= NVML_PAGE_RETIREMENT_CAUSE_COUNT))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, keys[cause], &pages);
    if (result != NVML_SUCCESS)
        return result;
    room = *count;
    *count = (unsigned int)pages;
    if (room < pages)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < pages; i++) {
        addresses[i] = (i + 1) * 4096ULL;
        if (timestamps)
            timestamps[i] = i + 1;
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *pageCount,
                                       unsigned long long *addresses)
{
    return retired_pages(__func__, device, cause, pageCount, addresses, NULL);
}

nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *pageCount,
                                          unsigned long long *addresses, unsigned long long *timestamps)
{
    return retired_pages(__func__, device, cause, pageCount, addresses, timestamps);
}

nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t perfPolicyType,
                                          nvmlViolationTime_t *violTime)
{
    static const enum simgpu_number keys[] = {
        [NVML_PERF_POLICY_POWER] = SIMGPU_violation_power_nanoseconds,
        [NVML_PERF_POLICY_THERMAL] = SIMGPU_violation_thermal_nanoseconds,
        [NVML_PERF_POLICY_SYNC_BOOST] = SIMGPU_violation_sync_boost_nanoseconds,
        [NVML_PERF_POLICY_BOARD_LIMIT] = SIMGPU_violation_board_limit_nanoseconds,
        [NVML_PERF_POLICY_LOW_UTILIZATION] = SIMGPU_violation_low_utilization_nanoseconds,
        [NVML_PERF_POLICY_RELIABILITY] = SIMGPU_violation_reliability_nanoseconds,
    };
    const struct simgpu_gpu *gpu;
    uint64_t nanoseconds = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && (!violTime || (unsigned int)perfPolicyType >= NVML_PERF_POLICY_COUNT))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && (size_t)perfPolicyType >= sizeof keys / sizeof keys[0])
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, keys[perfPolicyType], &nanoseconds);
    if (result != NVML_SUCCESS)
        return result;
    violTime->referenceTime = simgpu_realtime_microseconds();
    violTime->violationTime = nanoseconds;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_t *marginTempInfo)
{
    const struct simgpu_gpu *gpu;
    uint64_t celsius = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !marginTempInfo)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && marginTempInfo->version != nvmlMarginTemperature_v1)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, SIMGPU_margin_temperature_celsius, &celsius);
    if (result == NVML_SUCCESS)
        marginTempInfo->marginTemperature = (int)celsius;
    return result;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t *isActive)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && (!isActive || link >= NVML_NVLINK_MAX_LINKS))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && gpu->number[SIMGPU_nvlink_count] == 0)
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result == NVML_SUCCESS && link >= gpu->number[SIMGPU_nvlink_count])
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *isActive = gpu->number[SIMGPU_nvlink_down_mask] >> link & 1 ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
    return result;
}

/* Measures for 20 ms, as the real one does. */
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter, unsigned int *value)
{
    const struct simgpu_gpu *gpu;
    uint64_t kib = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && (!value || (unsigned int)counter >= NVML_PCIE_UTIL_COUNT))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, counter == NVML_PCIE_UTIL_TX_BYTES ? SIMGPU_pcie_tx_kib_per_second
                                                                       : SIMGPU_pcie_rx_kib_per_second, &kib);
    if (result != NVML_SUCCESS)
        return result;
    simgpu_sleep_milliseconds(20);
    *value = (unsigned int)kib;
    return NVML_SUCCESS;
}

/* nvmlDeviceGetFieldValues: many numbers of one GPU in one call, each with a code of its own. */
#include "nvml_internal.h"

#include <limits.h>
#include <stddef.h>

#define ALL_LINKS UINT_MAX

/* What a field needs besides its number. */
enum kind { PLAIN, ECC, ENERGY, POWER, REMAP, LINK, LINK_OR_ALL, LINKS_TOTAL };

struct field {
    unsigned int id;
    enum kind kind;
    enum simgpu_number key;
    nvmlValueType_t type;
};

#define UINT NVML_VALUE_TYPE_UNSIGNED_INT
#define ULONG NVML_VALUE_TYPE_UNSIGNED_LONG_LONG

/* In ascending order of their ids. */
static const struct field fields[] = {
    {NVML_FI_DEV_ECC_CURRENT, PLAIN, SIMGPU_ecc_mode, UINT},
    {NVML_FI_DEV_ECC_PENDING, PLAIN, SIMGPU_ecc_mode_pending, UINT},
    {NVML_FI_DEV_ECC_SBE_VOL_TOTAL, ECC, SIMGPU_ecc_corrected_volatile, ULONG},
    {NVML_FI_DEV_ECC_DBE_VOL_TOTAL, ECC, SIMGPU_ecc_uncorrected_volatile, ULONG},
    {NVML_FI_DEV_ECC_SBE_AGG_TOTAL, ECC, SIMGPU_ecc_corrected_aggregate, ULONG},
    {NVML_FI_DEV_ECC_DBE_AGG_TOTAL, ECC, SIMGPU_ecc_uncorrected_aggregate, ULONG},
    {NVML_FI_DEV_RETIRED_SBE, PLAIN, SIMGPU_retired_pages_sbe, UINT},
    {NVML_FI_DEV_RETIRED_DBE, PLAIN, SIMGPU_retired_pages_dbe, UINT},
    {NVML_FI_DEV_RETIRED_PENDING, PLAIN, SIMGPU_retired_pages_pending, UINT},
    {NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, LINKS_TOTAL, SIMGPU_nvlink_crc_flit_errors, ULONG},
    {NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, LINKS_TOTAL, SIMGPU_nvlink_crc_data_errors, ULONG},
    {NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, LINKS_TOTAL, SIMGPU_nvlink_replay_errors, ULONG},
    {NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, LINKS_TOTAL, SIMGPU_nvlink_recovery_errors, ULONG},
    {NVML_FI_DEV_PERF_POLICY_POWER, PLAIN, SIMGPU_violation_power_nanoseconds, ULONG},
    {NVML_FI_DEV_PERF_POLICY_THERMAL, PLAIN, SIMGPU_violation_thermal_nanoseconds, ULONG},
    {NVML_FI_DEV_PERF_POLICY_SYNC_BOOST, PLAIN, SIMGPU_violation_sync_boost_nanoseconds, ULONG},
    {NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT, PLAIN, SIMGPU_violation_board_limit_nanoseconds, ULONG},
    {NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION, PLAIN, SIMGPU_violation_low_utilization_nanoseconds, ULONG},
    {NVML_FI_DEV_PERF_POLICY_RELIABILITY, PLAIN, SIMGPU_violation_reliability_nanoseconds, ULONG},
    {NVML_FI_DEV_MEMORY_TEMP, PLAIN, SIMGPU_memory_temperature_celsius, UINT},
    {NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, ENERGY, SIMGPU_energy_millijoules, ULONG},
    {NVML_FI_DEV_NVLINK_LINK_COUNT, PLAIN, SIMGPU_nvlink_count, UINT},
    {NVML_FI_DEV_PCIE_REPLAY_COUNTER, PLAIN, SIMGPU_pcie_replay_count, UINT},
    {NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, LINK_OR_ALL, SIMGPU_nvlink_data_tx_kib, ULONG},
    {NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, LINK_OR_ALL, SIMGPU_nvlink_data_rx_kib, ULONG},
    {NVML_FI_DEV_NVLINK_THROUGHPUT_RAW_TX, LINK_OR_ALL, SIMGPU_nvlink_raw_tx_kib, ULONG},
    {NVML_FI_DEV_NVLINK_THROUGHPUT_RAW_RX, LINK_OR_ALL, SIMGPU_nvlink_raw_rx_kib, ULONG},
    {NVML_FI_DEV_REMAPPED_COR, REMAP, SIMGPU_remapped_rows_correctable, UINT},
    {NVML_FI_DEV_REMAPPED_UNC, REMAP, SIMGPU_remapped_rows_uncorrectable, UINT},
    {NVML_FI_DEV_REMAPPED_PENDING, REMAP, SIMGPU_remapped_rows_pending, UINT},
    {NVML_FI_DEV_REMAPPED_FAILURE, REMAP, SIMGPU_remapped_rows_failure, UINT},
    {NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, LINK, SIMGPU_nvlink_replay_errors, ULONG},
    {NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY, LINK, SIMGPU_nvlink_recovery_errors, ULONG},
    {NVML_FI_DEV_NVLINK_ERROR_DL_CRC, LINK, SIMGPU_nvlink_crc_flit_errors, ULONG},
    {NVML_FI_DEV_POWER_AVERAGE, POWER, SIMGPU_power_average_milliwatts, UINT},
    {NVML_FI_DEV_POWER_INSTANT, POWER, SIMGPU_power_instant_milliwatts, UINT},
    {NVML_FI_DEV_POWER_MIN_LIMIT, POWER, SIMGPU_power_limit_min_milliwatts, UINT},
    {NVML_FI_DEV_POWER_MAX_LIMIT, POWER, SIMGPU_power_limit_max_milliwatts, UINT},
    {NVML_FI_DEV_POWER_DEFAULT_LIMIT, POWER, SIMGPU_power_limit_default_milliwatts, UINT},
    {NVML_FI_DEV_POWER_CURRENT_LIMIT, POWER, SIMGPU_power_limit_enforced_milliwatts, UINT},
    {NVML_FI_DEV_PCIE_COUNT_TX_BYTES, PLAIN, SIMGPU_pcie_tx_bytes, ULONG},
    {NVML_FI_DEV_PCIE_COUNT_RX_BYTES, PLAIN, SIMGPU_pcie_rx_bytes, ULONG},
    {NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES, LINK, SIMGPU_nvlink_xmit_bytes, ULONG},
    {NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES, LINK, SIMGPU_nvlink_rcv_bytes, ULONG},
    {NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS, LINK, SIMGPU_nvlink_rcv_errors, ULONG},
    {NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, PLAIN, SIMGPU_recovery_action, UINT},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, PLAIN, SIMGPU_slowdown_sw_thermal_nanoseconds, ULONG},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, PLAIN, SIMGPU_slowdown_hw_thermal_nanoseconds, ULONG},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN, PLAIN, SIMGPU_slowdown_power_brake_nanoseconds, ULONG},
};

static const struct field *find(unsigned int id)
{
    size_t low = 0, high = sizeof fields / sizeof fields[0];

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (fields[middle].id == id)
            return &fields[middle];
        if (fields[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* A link's even share of what all links counted; the first links take what is left over. */
static nvmlReturn_t share_of_link(const struct simgpu_gpu *gpu, unsigned int link, uint64_t *value)
{
    uint64_t links = gpu->number[SIMGPU_nvlink_count];

    if (link >= links)
        return NVML_ERROR_INVALID_ARGUMENT;
    *value = *value / links + (link < *value % links);
    return NVML_SUCCESS;
}

static nvmlReturn_t read_field(const struct simgpu_gpu *gpu, const struct field *field, unsigned int scope,
                               uint64_t *value)
{
    bool of_links = field->kind == LINK || field->kind == LINK_OR_ALL || field->kind == LINKS_TOTAL;
    nvmlReturn_t result;

    if (of_links && gpu->number[SIMGPU_nvlink_count] == 0)
        return NVML_ERROR_NOT_SUPPORTED;
    if (field->kind == ECC)
        return simgpu_ecc_count(gpu, field->key, value);
    if (field->kind == ENERGY)
        return simgpu_energy(gpu, value);
    if (field->kind == POWER && scope != NVML_POWER_SCOPE_GPU)
        return NVML_ERROR_NOT_SUPPORTED; /* no module around these GPUs */
    if (field->kind == REMAP && simgpu_has_instances(gpu))
        return NVML_ERROR_NOT_SUPPORTED;
    result = simgpu_number(gpu, field->key, value);
    if (result == NVML_SUCCESS && (field->kind == LINK || (field->kind == LINK_OR_ALL && scope != ALL_LINKS)))
        return share_of_link(gpu, scope, value);
    return result;
}

static void fill(const struct simgpu_gpu *gpu, nvmlFieldValue_t *entry)
{
    const struct field *field = find(entry->fieldId);
    uint64_t value = 0;
    nvmlReturn_t result = NVML_ERROR_NOT_SUPPORTED;

    if (gpu->faults.field_count > 0 && simgpu_field_fault(&gpu->faults, entry->fieldId))
        result = (nvmlReturn_t)simgpu_field_fault(&gpu->faults, entry->fieldId);
    else if (field)
        result = read_field(gpu, field, entry->scopeId, &value);
    else if (entry->fieldId == 0 || entry->fieldId >= NVML_FI_MAX)
        result = NVML_ERROR_INVALID_ARGUMENT;
    entry->nvmlReturn = result;
    if (result != NVML_SUCCESS)
        return;
    entry->valueType = field->type;
    entry->value.ullVal = value; /* little-endian: the smaller members see the lower bytes */
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int valuesCount, nvmlFieldValue_t *values)
{
    const struct simgpu_gpu *gpu;
    uint64_t now;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && (!values || valuesCount <= 0))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    now = simgpu_realtime_microseconds();
    for (int i = 0; i < valuesCount; i++) {
        values[i].timestamp = (long long)now;
        values[i].latencyUsec = 0;
        fill(gpu, &values[i]);
    }
    return NVML_SUCCESS;
}

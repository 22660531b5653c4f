/* Queries that choose, combine or compute: utilization, temperature, clocks, energy, ECC counts. */
#include "nvml_internal.h"

#include <stddef.h>

#define CODEC_SAMPLING_MICROSECONDS 167000 /* what drivers report for a sampling period of 1/6 s */

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
    const struct simgpu_gpu *gpu;
    uint64_t busy = 0, bus_busy = 0;
    nvmlReturn_t result = simgpu_enter_without_mig(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !utilization)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, SIMGPU_utilization_gpu_percent, &busy);
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, SIMGPU_utilization_memory_percent, &bus_busy);
    if (result == NVML_SUCCESS) {
        utilization->gpu = (unsigned int)busy;
        utilization->memory = (unsigned int)bus_busy;
    }
    return result;
}

static nvmlReturn_t codec_utilization(const char *function, nvmlDevice_t device, enum simgpu_number key,
                                      unsigned int *utilization, unsigned int *period)
{
    const struct simgpu_gpu *gpu;
    uint64_t number = 0;
    nvmlReturn_t result = simgpu_enter_without_mig(function, device, &gpu);

    if (result == NVML_SUCCESS && (!utilization || !period))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, key, &number);
    if (result == NVML_SUCCESS) {
        *utilization = (unsigned int)number;
        *period = CODEC_SAMPLING_MICROSECONDS;
    }
    return result;
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int *utilization,
                                             unsigned int *samplingPeriodUs)
{
    return codec_utilization(__func__, device, SIMGPU_utilization_encoder_percent, utilization, samplingPeriodUs);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int *utilization,
                                             unsigned int *samplingPeriodUs)
{
    return codec_utilization(__func__, device, SIMGPU_utilization_decoder_percent, utilization, samplingPeriodUs);
}

static nvmlReturn_t temperature(const struct simgpu_gpu *gpu, nvmlTemperatureSensors_t sensor, uint64_t *celsius)
{
    if ((unsigned int)sensor >= NVML_TEMPERATURE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (sensor != NVML_TEMPERATURE_GPU)
        return NVML_ERROR_NOT_SUPPORTED;
    return simgpu_number(gpu, SIMGPU_temperature_celsius, celsius);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensorType, unsigned int *temp)
{
    const struct simgpu_gpu *gpu;
    uint64_t celsius = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS)
        result = temp ? temperature(gpu, sensorType, &celsius) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *temp = (unsigned int)celsius;
    return result;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temp)
{
    const struct simgpu_gpu *gpu;
    uint64_t celsius = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !temp)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && temp->version != nvmlTemperature_v1)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result == NVML_SUCCESS)
        result = temperature(gpu, temp->sensorType, &celsius);
    if (result == NVML_SUCCESS)
        temp->temperature = (int)celsius;
    return result;
}

static nvmlReturn_t clock_of(const char *function, nvmlDevice_t device, const enum simgpu_number keys[NVML_CLOCK_COUNT],
                             nvmlClockType_t type, unsigned int *clock)
{
    const struct simgpu_gpu *gpu;
    uint64_t mhz = 0;
    nvmlReturn_t result = simgpu_enter_device(function, device, &gpu);

    if (result == NVML_SUCCESS && (!clock || (unsigned int)type >= NVML_CLOCK_COUNT))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_number(gpu, keys[type], &mhz);
    if (result == NVML_SUCCESS)
        *clock = (unsigned int)mhz;
    return result;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock)
{
    static const enum simgpu_number keys[NVML_CLOCK_COUNT] = {
        [NVML_CLOCK_GRAPHICS] = SIMGPU_clock_graphics_mhz,
        [NVML_CLOCK_SM] = SIMGPU_clock_sm_mhz,
        [NVML_CLOCK_MEM] = SIMGPU_clock_memory_mhz,
        [NVML_CLOCK_VIDEO] = SIMGPU_clock_video_mhz,
    };
    return clock_of(__func__, device, keys, type, clock);
}

static const enum simgpu_number largest[NVML_CLOCK_COUNT] = {
    [NVML_CLOCK_GRAPHICS] = SIMGPU_clock_graphics_max_mhz,
    [NVML_CLOCK_SM] = SIMGPU_clock_sm_max_mhz,
    [NVML_CLOCK_MEM] = SIMGPU_clock_memory_max_mhz,
    [NVML_CLOCK_VIDEO] = SIMGPU_clock_video_max_mhz,
};

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock)
{
    return clock_of(__func__, device, largest, type, clock);
}

/* Nobody has asked applications to go slower. */
nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t clockType, unsigned int *clockMHz)
{
    return clock_of(__func__, device, largest, clockType, clockMHz);
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy)
{
    const struct simgpu_gpu *gpu;
    uint64_t millijoules = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !energy)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_energy(gpu, &millijoules);
    if (result == NVML_SUCCESS)
        *energy = millijoules;
    return result;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t errorType,
                                         nvmlEccCounterType_t counterType, unsigned long long *eccCounts)
{
    static const enum simgpu_number keys[NVML_MEMORY_ERROR_TYPE_COUNT][NVML_ECC_COUNTER_TYPE_COUNT] = {
        {SIMGPU_ecc_corrected_volatile, SIMGPU_ecc_corrected_aggregate},
        {SIMGPU_ecc_uncorrected_volatile, SIMGPU_ecc_uncorrected_aggregate},
    };
    const struct simgpu_gpu *gpu;
    uint64_t count = 0;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && (!eccCounts || (unsigned int)errorType >= NVML_MEMORY_ERROR_TYPE_COUNT ||
                                   (unsigned int)counterType >= NVML_ECC_COUNTER_TYPE_COUNT))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = simgpu_ecc_count(gpu, keys[errorType][counterType], &count);
    if (result == NVML_SUCCESS)
        *eccCounts = count;
    return result;
}

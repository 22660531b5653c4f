/* nvmlDeviceGetSamples: what the driver sampled since the last call. Made up on demand, six a second of the clock. */
#include "nvml_internal.h"

#include <stddef.h>

#define SAMPLES_PER_SECOND 6
#define BUFFERED 120

static uint64_t time_of(uint64_t sample)
{
    return sample * 1000000 / SAMPLES_PER_SECOND;
}

/* The first sample later than a time. */
static uint64_t first_after(uint64_t microseconds)
{
    uint64_t sample = microseconds / 1000000 * SAMPLES_PER_SECOND;

    while (time_of(sample) <= microseconds)
        sample++;
    return sample;
}

struct series {
    const struct simgpu_pattern *pattern; /* takes the place of the value if it is not empty */
    uint64_t value;
};

static nvmlReturn_t series_of(const struct simgpu_gpu *gpu, nvmlSamplingType_t type, struct series *series)
{
    static const struct simgpu_pattern none;
    bool mig = gpu->number[SIMGPU_mig_mode] != 0;

    series->pattern = &none;
    switch (type) {
    case NVML_TOTAL_POWER_SAMPLES:
        return simgpu_number(gpu, SIMGPU_power_milliwatts, &series->value);
    case NVML_GPU_UTILIZATION_SAMPLES:
        series->pattern = &gpu->gpu_pattern;
        return mig ? NVML_ERROR_NOT_SUPPORTED : simgpu_number(gpu, SIMGPU_utilization_gpu_percent, &series->value);
    case NVML_MEMORY_UTILIZATION_SAMPLES:
        series->pattern = &gpu->memory_pattern;
        return mig ? NVML_ERROR_NOT_SUPPORTED : simgpu_number(gpu, SIMGPU_utilization_memory_percent, &series->value);
    default:
        return (unsigned int)type < NVML_SAMPLINGTYPE_COUNT ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
    }
}

static nvmlReturn_t copy(const struct series *series, uint64_t last_seen, unsigned int *count, nvmlSample_t *samples)
{
    uint64_t end = first_after(simgpu_realtime_microseconds()), first = end - BUFFERED;
    unsigned int available;

    if (last_seen >= time_of(end - 1))
        return NVML_ERROR_NOT_FOUND;
    if (last_seen >= time_of(first))
        first = first_after(last_seen);
    available = (unsigned int)(end - first);
    if (samples && *count < available)
        available = *count; /* the oldest, so that the caller can go on from them */
    *count = available;
    for (unsigned int i = 0; samples && i < available; i++) {
        const struct simgpu_pattern *pattern = series->pattern;
        samples[i].timeStamp = time_of(first + i);
        samples[i].sampleValue.ullVal = pattern->count ? pattern->percent[(first + i) % pattern->count] : series->value;
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, unsigned long long lastSeenTimeStamp,
                                  nvmlValueType_t *sampleValType, unsigned int *sampleCount, nvmlSample_t *samples)
{
    const struct simgpu_gpu *gpu;
    struct series series;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && (!sampleValType || !sampleCount || (samples && *sampleCount == 0)))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = series_of(gpu, type, &series);
    if (result != NVML_SUCCESS)
        return result;
    *sampleValType = NVML_VALUE_TYPE_UNSIGNED_INT;
    return copy(&series, lastSeenTimeStamp, sampleCount, samples);
}

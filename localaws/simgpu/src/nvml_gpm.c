/* GPU performance monitoring: metrics from two samples of one GPU or MIG device. */
#include "nvml_internal.h"

#include <stdlib.h>

#define INTERVAL_MIN_NANOSECONDS 100000000ULL
#define NEVER_TAKEN 0

static struct {
    unsigned int id;
    enum simgpu_number key;
    char *short_name, *long_name;
} metrics[] = {
    {NVML_GPM_METRIC_GRAPHICS_UTIL, SIMGPU_gpm_graphics_engine_percent, "Graphics Util", "Graphics utilization"},
    {NVML_GPM_METRIC_SM_UTIL, SIMGPU_gpm_sm_active_percent, "SM Util", "SM utilization"},
    {NVML_GPM_METRIC_SM_OCCUPANCY, SIMGPU_gpm_sm_occupancy_percent, "SM Occupancy", "SM occupancy"},
    {NVML_GPM_METRIC_ANY_TENSOR_UTIL, SIMGPU_gpm_tensor_active_percent, "Tensor Util", "Any tensor utilization"},
    {NVML_GPM_METRIC_DRAM_BW_UTIL, SIMGPU_gpm_dram_active_percent, "DRAM BW Util", "DRAM bandwidth utilization"},
    {NVML_GPM_METRIC_FP64_UTIL, SIMGPU_gpm_fp64_active_percent, "FP64 Util", "FP64 utilization"},
    {NVML_GPM_METRIC_FP32_UTIL, SIMGPU_gpm_fp32_active_percent, "FP32 Util", "FP32 utilization"},
    {NVML_GPM_METRIC_FP16_UTIL, SIMGPU_gpm_fp16_active_percent, "FP16 Util", "FP16 utilization"},
};
#define METRIC_COUNT (sizeof metrics / sizeof metrics[0])

struct nvmlGpmSample_st {
    nvmlDevice_t device;
    uint64_t taken_nanoseconds;
    bool present[METRIC_COUNT];
    uint64_t percent[METRIC_COUNT];
};

static bool is_supported(const struct simgpu_gpu *gpu)
{
    return gpu->number[SIMGPU_architecture] >= NVML_DEVICE_ARCH_HOPPER;
}

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *gpmSupport)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = simgpu_enter_any(__func__, device, &gpu, &instance);

    if (result == NVML_SUCCESS && !gpmSupport)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && gpmSupport->version != NVML_GPM_SUPPORT_VERSION)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result == NVML_SUCCESS)
        gpmSupport->isSupportedDevice = is_supported(gpu);
    return result;
}

nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *gpmSample)
{
    const struct simgpu_driver *driver;
    nvmlReturn_t result = simgpu_enter(__func__, &driver);

    if (result == NVML_SUCCESS && !gpmSample)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    *gpmSample = calloc(1, sizeof **gpmSample);
    return *gpmSample ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t gpmSample)
{
    const struct simgpu_driver *driver;
    nvmlReturn_t result = simgpu_enter(__func__, &driver);

    if (result == NVML_SUCCESS && !gpmSample)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        free(gpmSample);
    return result;
}

static nvmlReturn_t take(const struct simgpu_gpu *gpu, nvmlDevice_t device, nvmlGpmSample_t sample)
{
    if (!is_supported(gpu))
        return NVML_ERROR_NOT_SUPPORTED;
    sample->device = device;
    sample->taken_nanoseconds = simgpu_monotonic_nanoseconds();
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        sample->present[i] = gpu->present[metrics[i].key];
        sample->percent[i] = gpu->number[metrics[i].key];
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t gpmSample)
{
    const struct simgpu_gpu *gpu;
    const struct simgpu_instance *instance;
    nvmlReturn_t result = simgpu_enter_any(__func__, device, &gpu, &instance);

    if (result == NVML_SUCCESS && !gpmSample)
        result = NVML_ERROR_INVALID_ARGUMENT;
    return result == NVML_SUCCESS ? take(gpu, device, gpmSample) : result;
}

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned int gpuInstanceId, nvmlGpmSample_t gpmSample)
{
    const struct simgpu_gpu *gpu;
    nvmlReturn_t result = simgpu_enter_device(__func__, device, &gpu);

    if (result == NVML_SUCCESS && !gpmSample)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && !gpu->number[SIMGPU_mig_mode])
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result != NVML_SUCCESS)
        return result;
    for (unsigned int slot = 0; slot < SIMGPU_MAX_INSTANCES; slot++)
        if (gpu->instances[slot].present && gpu->instances[slot].is.gpu_instance_id == gpuInstanceId)
            return take(gpu, simgpu_mig_handle(device->index, slot), gpmSample);
    return NVML_ERROR_INVALID_ARGUMENT;
}

static void fill(const struct nvmlGpmSample_st *sample, nvmlGpmMetric_t *metric)
{
    metric->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        if (metrics[i].id != metric->metricId || !sample->present[i])
            continue;
        metric->nvmlReturn = NVML_SUCCESS;
        metric->value = (double)sample->percent[i];
        metric->metricInfo.shortName = metrics[i].short_name;
        metric->metricInfo.longName = metrics[i].long_name;
        metric->metricInfo.unit = "%";
    }
}

nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *metricsGet)
{
    const struct simgpu_driver *driver;
    const struct nvmlGpmSample_st *first, *second;
    nvmlReturn_t result = simgpu_enter(__func__, &driver);

    if (result == NVML_SUCCESS && (!metricsGet || !metricsGet->sample1 || !metricsGet->sample2))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS && metricsGet->version != NVML_GPM_METRICS_GET_VERSION)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result != NVML_SUCCESS)
        return result;
    first = metricsGet->sample1;
    second = metricsGet->sample2;
    if (first->taken_nanoseconds == NEVER_TAKEN || first->device != second->device ||
        second->taken_nanoseconds < first->taken_nanoseconds + INTERVAL_MIN_NANOSECONDS ||
        metricsGet->numMetrics > NVML_GPM_METRIC_MAX)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned int i = 0; i < metricsGet->numMetrics; i++)
        fill(second, &metricsGet->metrics[i]);
    return NVML_SUCCESS;
}

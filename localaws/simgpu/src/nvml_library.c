/* The library itself: initialisation, versions, error texts, and the way into every other call. */
#include "nvml_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int init_count;
static struct nvmlDevice_st devices[SIMGPU_MAX_GPUS];

static void before_fork(void)
{
    pthread_mutex_lock(&init_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&init_lock);
}

__attribute__((constructor)) static void prepare(void)
{
    for (unsigned int i = 0; i < SIMGPU_MAX_GPUS; i++)
        devices[i].index = i;
    pthread_atfork(before_fork, after_fork, after_fork);
}

nvmlDevice_t simgpu_handle(unsigned int index)
{
    return &devices[index];
}

static bool is_initialised(void)
{
    bool initialised;

    pthread_mutex_lock(&init_lock);
    initialised = init_count > 0;
    pthread_mutex_unlock(&init_lock);
    return initialised;
}

nvmlReturn_t simgpu_enter(const char *function, struct simgpu_driver *driver)
{
    if (!is_initialised())
        return NVML_ERROR_UNINITIALIZED;
    if (!simgpu_read_driver(driver)) /* it went away under a running client */
        return NVML_ERROR_UNKNOWN;
    return (nvmlReturn_t)simgpu_fault(&driver->faults, function);
}

nvmlReturn_t simgpu_enter_device(const char *function, nvmlDevice_t device, struct simgpu_gpu *gpu)
{
    struct simgpu_driver driver;
    nvmlReturn_t result = simgpu_enter(function, &driver);

    if (result != NVML_SUCCESS)
        return result;
    if (device < devices || device >= devices + driver.gpu_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!simgpu_read_gpu(device->index, gpu))
        return NVML_ERROR_GPU_IS_LOST;
    result = (nvmlReturn_t)simgpu_fault(&gpu->faults, function);
    if (result == NVML_SUCCESS && gpu->number[SIMGPU_lost])
        result = NVML_ERROR_GPU_IS_LOST;
    return result;
}

nvmlReturn_t simgpu_copy_text(char *out, unsigned int size, const char *text)
{
    if (strlen(text) >= size)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    memcpy(out, text, strlen(text) + 1);
    return NVML_SUCCESS;
}

nvmlReturn_t simgpu_number(const struct simgpu_gpu *gpu, enum simgpu_number key, uint64_t *value)
{
    if (!gpu->present[key])
        return NVML_ERROR_NOT_SUPPORTED;
    *value = gpu->number[key];
    return NVML_SUCCESS;
}

static nvmlReturn_t initialise(const char *function)
{
    struct simgpu_driver driver;
    nvmlReturn_t result = NVML_ERROR_DRIVER_NOT_LOADED;

    if (simgpu_read_driver(&driver))
        result = (nvmlReturn_t)simgpu_fault(&driver.faults, function);
    if (result != NVML_SUCCESS)
        return result;
    pthread_mutex_lock(&init_lock);
    init_count++;
    pthread_mutex_unlock(&init_lock);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit(void)
{
    return initialise(__func__);
}

nvmlReturn_t nvmlInit_v2(void)
{
    return initialise(__func__);
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    (void)flags; /* they ask for less than there is to do here */
    return initialise(__func__);
}

nvmlReturn_t nvmlShutdown(void)
{
    nvmlReturn_t result = NVML_ERROR_UNINITIALIZED;

    pthread_mutex_lock(&init_lock);
    if (init_count > 0) {
        init_count--;
        result = NVML_SUCCESS;
    }
    pthread_mutex_unlock(&init_lock);
    return result;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    struct simgpu_driver driver;
    nvmlReturn_t result = simgpu_enter(__func__, &driver);

    if (result != NVML_SUCCESS)
        return result;
    return version ? simgpu_copy_text(version, length, driver.driver_version) : NVML_ERROR_INVALID_ARGUMENT;
}

/* The real library answers the next three without nvmlInit; so does this one. */
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    struct simgpu_driver driver;

    if (!version)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!simgpu_read_driver(&driver))
        return simgpu_copy_text(version, length, NVML_API_VERSION_STR);
    if (simgpu_fault(&driver.faults, __func__))
        return (nvmlReturn_t)simgpu_fault(&driver.faults, __func__);
    return simgpu_copy_text(version, length, driver.nvml_version);
}

static nvmlReturn_t cuda_version(const char *function, int *version)
{
    struct simgpu_driver driver;

    if (!version)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!simgpu_read_driver(&driver))
        return NVML_ERROR_LIBRARY_NOT_FOUND;
    *version = driver.cuda_version;
    return (nvmlReturn_t)simgpu_fault(&driver.faults, function);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *cudaDriverVersion)
{
    return cuda_version(__func__, cudaDriverVersion);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *cudaDriverVersion)
{
    return cuda_version(__func__, cudaDriverVersion);
}

const char *nvmlErrorString(nvmlReturn_t result)
{
    static const char *const texts[] = {
        [NVML_SUCCESS] = "Success",
        [NVML_ERROR_UNINITIALIZED] = "Uninitialized",
        [NVML_ERROR_INVALID_ARGUMENT] = "Invalid Argument",
        [NVML_ERROR_NOT_SUPPORTED] = "Not Supported",
        [NVML_ERROR_NO_PERMISSION] = "Insufficient Permissions",
        [NVML_ERROR_ALREADY_INITIALIZED] = "Already Initialized",
        [NVML_ERROR_NOT_FOUND] = "Not Found",
        [NVML_ERROR_INSUFFICIENT_SIZE] = "Insufficient Size",
        [NVML_ERROR_INSUFFICIENT_POWER] = "Insufficient External Power",
        [NVML_ERROR_DRIVER_NOT_LOADED] = "Driver Not Loaded",
        [NVML_ERROR_TIMEOUT] = "Timeout",
        [NVML_ERROR_IRQ_ISSUE] = "Interrupt Request Issue",
        [NVML_ERROR_LIBRARY_NOT_FOUND] = "NVML Shared Library Not Found",
        [NVML_ERROR_FUNCTION_NOT_FOUND] = "Function Not Found",
        [NVML_ERROR_CORRUPTED_INFOROM] = "Corrupted infoROM",
        [NVML_ERROR_GPU_IS_LOST] = "GPU is lost",
        [NVML_ERROR_RESET_REQUIRED] = "GPU requires reset",
        [NVML_ERROR_OPERATING_SYSTEM] = "The operating system has blocked the request.",
        [NVML_ERROR_LIB_RM_VERSION_MISMATCH] = "RM has detected an NVML/RM version mismatch.",
        [NVML_ERROR_IN_USE] = "In Use",
        [NVML_ERROR_MEMORY] = "Insufficient Memory",
        [NVML_ERROR_NO_DATA] = "No data",
        [NVML_ERROR_VGPU_ECC_NOT_SUPPORTED] = "vGPU ECC Not Supported",
        [NVML_ERROR_INSUFFICIENT_RESOURCES] = "Insufficient Resources",
        [NVML_ERROR_FREQ_NOT_SUPPORTED] = "Frequency Not Supported",
        [NVML_ERROR_ARGUMENT_VERSION_MISMATCH] = "Argument Version Mismatch",
        [NVML_ERROR_DEPRECATED] = "Deprecated",
        [NVML_ERROR_NOT_READY] = "Not Ready",
        [NVML_ERROR_GPU_NOT_FOUND] = "GPU Not Found",
        [NVML_ERROR_INVALID_STATE] = "Invalid State",
        [NVML_ERROR_RESET_TYPE_NOT_SUPPORTED] = "Reset Type Not Supported",
    };

    if ((unsigned int)result < sizeof texts / sizeof texts[0] && texts[result])
        return texts[result];
    return "Unknown Error";
}

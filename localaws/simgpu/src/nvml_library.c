/* The library itself: initialisation, versions, error texts, and the way into every other call. */
#include "nvml_internal.h"

#include <pthread.h>
#include <string.h>

#define LOOK_AGAIN_MILLISECONDS 50

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int init_count;
static char own_version[80]; /* of the driver that this library came with: the one there was when it was loaded */

static void before_fork(void)
{
    pthread_mutex_lock(&init_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&init_lock);
}

static void remember_version(const struct simgpu_driver *driver)
{
    if (driver && !own_version[0])
        memcpy(own_version, driver->driver_version, sizeof own_version);
}

__attribute__((constructor)) static void prepare(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
    remember_version(simgpu_driver_state());
}

/* Is the driver there, and the one that this library belongs to? */
static nvmlReturn_t check_driver(const struct simgpu_driver *driver, nvmlReturn_t absent)
{
    if (!driver || !driver->loaded)
        return absent;
    if (own_version[0] && strcmp(own_version, driver->driver_version) != 0)
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    return NVML_SUCCESS;
}

nvmlReturn_t simgpu_enter(const char *function, const struct simgpu_driver **driver)
{
    for (;; simgpu_sleep_milliseconds(LOOK_AGAIN_MILLISECONDS)) {
        nvmlReturn_t result;
        int fault;
        if (__atomic_load_n(&init_count, __ATOMIC_ACQUIRE) == 0)
            return NVML_ERROR_UNINITIALIZED;
        *driver = simgpu_driver_state();
        /* it went away under a running client */
        result = check_driver(*driver, *driver ? (nvmlReturn_t)(*driver)->unloaded_code : NVML_ERROR_UNKNOWN);
        fault = result == NVML_SUCCESS ? simgpu_fault(&(*driver)->faults, function) : 0;
        if (fault != SIMGPU_HANGS)
            return result == NVML_SUCCESS ? (nvmlReturn_t)fault : result;
    }
}

nvmlReturn_t simgpu_enter_any(const char *function, nvmlDevice_t device, const struct simgpu_gpu **gpu,
                              const struct simgpu_instance **instance)
{
    const struct simgpu_driver *driver;

    for (;; simgpu_sleep_milliseconds(LOOK_AGAIN_MILLISECONDS)) {
        nvmlReturn_t result = simgpu_enter(function, &driver);
        int fault;
        if (result != NVML_SUCCESS)
            return result;
        if (!simgpu_is_handle(device) || device->index >= driver->gpu_count)
            return NVML_ERROR_INVALID_ARGUMENT;
        *gpu = simgpu_gpu_state(device->index);
        if (!*gpu)
            return NVML_ERROR_GPU_IS_LOST;
        fault = simgpu_fault(&(*gpu)->faults, function);
        if (fault == SIMGPU_HANGS)
            continue;
        if (fault == 0 && (*gpu)->number[SIMGPU_lost] != SIMGPU_PRESENT)
            return NVML_ERROR_GPU_IS_LOST;
        *instance = device->slot == SIMGPU_NO_SLOT ? NULL : &(*gpu)->instances[device->slot];
        if (fault == 0 && *instance && !((*instance)->present && (*gpu)->number[SIMGPU_mig_mode]))
            return NVML_ERROR_INVALID_ARGUMENT; /* a MIG device that was destroyed */
        return (nvmlReturn_t)fault;
    }
}

nvmlReturn_t simgpu_enter_device(const char *function, nvmlDevice_t device, const struct simgpu_gpu **gpu)
{
    const struct simgpu_instance *instance;
    nvmlReturn_t result = simgpu_enter_any(function, device, gpu, &instance);

    return result == NVML_SUCCESS && instance ? NVML_ERROR_INVALID_ARGUMENT : result;
}

static nvmlReturn_t initialise(const char *function)
{
    for (;; simgpu_sleep_milliseconds(LOOK_AGAIN_MILLISECONDS)) {
        const struct simgpu_driver *driver = simgpu_driver_state();
        nvmlReturn_t result = check_driver(driver, NVML_ERROR_DRIVER_NOT_LOADED);
        int fault = result == NVML_SUCCESS ? simgpu_fault(&driver->faults, function) : (int)result;
        if (fault == SIMGPU_HANGS)
            continue;
        if (fault != 0)
            return (nvmlReturn_t)fault;
        pthread_mutex_lock(&init_lock);
        remember_version(driver);
        __atomic_add_fetch(&init_count, 1, __ATOMIC_RELEASE);
        pthread_mutex_unlock(&init_lock);
        return NVML_SUCCESS;
    }
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
        __atomic_sub_fetch(&init_count, 1, __ATOMIC_RELEASE);
        result = NVML_SUCCESS;
    }
    pthread_mutex_unlock(&init_lock);
    return result;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    const struct simgpu_driver *driver;
    nvmlReturn_t result = simgpu_enter(__func__, &driver);

    if (result != NVML_SUCCESS)
        return result;
    return version ? simgpu_copy_text(version, length, driver->driver_version) : NVML_ERROR_INVALID_ARGUMENT;
}

/* The fault of a call that the real library answers without nvmlInit, as the next three. */
static nvmlReturn_t scripted(const char *function)
{
    const struct simgpu_driver *driver;
    int fault = SIMGPU_HANGS;

    while (fault == SIMGPU_HANGS) {
        driver = simgpu_driver_state();
        fault = driver ? simgpu_fault(&driver->faults, function) : 0;
        if (fault == SIMGPU_HANGS)
            simgpu_sleep_milliseconds(LOOK_AGAIN_MILLISECONDS);
    }
    return (nvmlReturn_t)fault;
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    const struct simgpu_driver *driver = simgpu_driver_state();
    nvmlReturn_t result;

    if (!version)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!driver || !driver->loaded)
        return simgpu_copy_text(version, length, NVML_API_VERSION_STR);
    result = scripted(__func__);
    return result == NVML_SUCCESS ? simgpu_copy_text(version, length, driver->nvml_version) : result;
}

static nvmlReturn_t cuda_version(const char *function, int *version)
{
    const struct simgpu_driver *driver = simgpu_driver_state();

    if (!version)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!driver || !driver->loaded)
        return NVML_ERROR_LIBRARY_NOT_FOUND;
    *version = driver->cuda_version;
    return scripted(function);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *cudaDriverVersion)
{
    return cuda_version(__func__, cudaDriverVersion);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *cudaDriverVersion)
{
    return cuda_version(__func__, cudaDriverVersion);
}

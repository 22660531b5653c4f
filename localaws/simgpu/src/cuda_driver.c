/* The driver API itself: initialisation, locking, what happens at fork, and the names of errors. */
#include <pthread.h>
#include <stdbool.h>

#include "cuda_internal.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool initialised;
static bool forked; /* CUDA cannot be used in the child of a process that used it; the child must exec first */

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

static void after_fork_in_child(void)
{
    forked = forked || initialised;
    initialised = false;
    record_forget();
    cuda_forget_contexts();
    cuda_forget_allocations();
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static CUresult initialise(void)
{
    const struct simgpu_driver *driver = simgpu_driver_state();

    if (forked)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!driver || !driver->loaded || driver->gpu_count == 0)
        return CUDA_ERROR_NO_DEVICE;
    initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuInit(unsigned int flags)
{
    CUresult result;

    if (flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    result = initialise();
    pthread_mutex_unlock(&lock);
    return result;
}

CUresult cuda_enter(void)
{
    pthread_mutex_lock(&lock);
    return initialised ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuda_leave(CUresult result)
{
    pthread_mutex_unlock(&lock);
    return result;
}

CUresult cuDriverGetVersion(int *version)
{
    const struct simgpu_driver *driver = simgpu_driver_state();

    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    *version = driver && driver->loaded ? driver->cuda_version : 0;
    return CUDA_SUCCESS;
}

static const struct {
    CUresult code;
    const char *name, *text;
} errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_OPERATING_SYSTEM, "CUDA_ERROR_OPERATING_SYSTEM",
     "OS call failed or operation not supported on this OS"},
    {CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static CUresult describe(CUresult error, bool by_name, const char **out)
{
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    *out = NULL;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].code == error)
            *out = by_name ? errors[i].name : errors[i].text;
    return *out ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult error, const char **name)
{
    return describe(error, true, name);
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    return describe(error, false, text);
}

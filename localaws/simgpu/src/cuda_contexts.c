/* Contexts: made, current per thread, destroyed. A process with a context on a GPU is one of its compute processes. */
#include <stdlib.h>

#include "cuda_internal.h"

#define STACK_DEPTH 64

/* Never freed: a handle that outlives its context must be recognised, not followed into freed memory. */
static CUcontext contexts;
static CUcontext primary[SIMGPU_MAX_GPUS];
static _Thread_local CUcontext stack[STACK_DEPTH];
static _Thread_local unsigned int depth;

static bool is_alive(CUcontext context)
{
    for (CUcontext known = contexts; known; known = known->next)
        if (known == context)
            return known->alive;
    return false;
}

CUcontext cuda_current_context(void)
{
    return depth > 0 && is_alive(stack[depth - 1]) ? stack[depth - 1] : NULL;
}

void cuda_forget_contexts(void)
{
    for (CUcontext context = contexts; context; context = context->next)
        context->alive = false;
    for (unsigned int i = 0; i < SIMGPU_MAX_GPUS; i++)
        primary[i] = NULL;
    depth = 0;
}

static CUresult make(CUdevice device, CUcontext *made)
{
    const struct simgpu_gpu *gpu;
    CUcontext context;
    CUresult result = cuda_read_device(device, &gpu);

    if (result != CUDA_SUCCESS)
        return result;
    context = calloc(1, sizeof *context);
    if (!context)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = record_change((unsigned int)device, 1, 0, 0);
    if (result != CUDA_SUCCESS) {
        free(context);
        return result;
    }
    context->device = (unsigned int)device;
    context->alive = true;
    context->references = 1;
    context->next = contexts;
    contexts = context;
    *made = context;
    return CUDA_SUCCESS;
}

static CUresult destroy(CUcontext context)
{
    uint64_t dropped = 0;

    cuda_drop_allocations(context, &dropped);
    context->alive = false;
    return record_change(context->device, -1, 0, dropped);
}

static CUresult push(CUcontext context)
{
    if (depth == STACK_DEPTH)
        return CUDA_ERROR_INVALID_VALUE;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
    CUresult result = cuda_enter();

    (void)flags; /* they choose how a real context schedules */
    if (result == CUDA_SUCCESS && (!context || depth == STACK_DEPTH))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = make(device, context);
    if (result == CUDA_SUCCESS)
        result = push(*context);
    return cuda_leave(result);
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS && (!is_alive(context) || context == primary[context->device]))
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS) {
        if (depth > 0 && stack[depth - 1] == context)
            depth--;
        result = destroy(context);
    }
    return cuda_leave(result);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    CUresult result = cuda_enter();
    const struct simgpu_gpu *gpu;

    if (result == CUDA_SUCCESS && !context)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = cuda_read_device(device, &gpu);
    if (result == CUDA_SUCCESS && primary[device])
        primary[device]->references++;
    else if (result == CUDA_SUCCESS)
        result = make(device, &primary[device]);
    if (result == CUDA_SUCCESS)
        *context = primary[device];
    return cuda_leave(result);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS && (device < 0 || device >= SIMGPU_MAX_GPUS))
        result = CUDA_ERROR_INVALID_DEVICE;
    if (result == CUDA_SUCCESS && !primary[device])
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS && --primary[device]->references == 0) {
        result = destroy(primary[device]);
        primary[device] = NULL;
    }
    return cuda_leave(result);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    return cuDevicePrimaryCtxRelease_v2(device);
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS && context && !is_alive(context))
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS) {
        if (depth > 0)
            depth--;
        if (context)
            result = push(context);
    }
    return cuda_leave(result);
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS && !context)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *context = cuda_current_context();
    return cuda_leave(result);
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS)
        result = is_alive(context) ? push(context) : CUDA_ERROR_INVALID_CONTEXT;
    return cuda_leave(result);
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS && depth == 0)
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS) {
        depth--;
        if (context)
            *context = stack[depth];
    }
    return cuda_leave(result);
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    CUresult result = cuda_enter();

    if (result == CUDA_SUCCESS && !device)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && !cuda_current_context())
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS)
        *device = (CUdevice)cuda_current_context()->device;
    return cuda_leave(result);
}

CUresult cuCtxSynchronize(void)
{
    CUresult result = cuda_enter();
    const struct simgpu_gpu *gpu;

    if (result == CUDA_SUCCESS && !cuda_current_context())
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS)
        result = cuda_read_device((CUdevice)cuda_current_context()->device, &gpu);
    return cuda_leave(result);
}

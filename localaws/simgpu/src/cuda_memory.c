/* Device memory: bookkeeping only, nothing stands behind the addresses. */
#include <stdlib.h>

#include "cuda_internal.h"

#define FIRST_ADDRESS 0x7f0000000000ULL
#define ALIGNMENT 0x200000ULL /* addresses only; the bytes counted are the bytes asked for */

struct allocation {
    CUdeviceptr address;
    uint64_t bytes;
    CUcontext context;
    struct allocation *next;
};

static struct allocation *allocations;
static CUdeviceptr next_address = FIRST_ADDRESS;

void cuda_forget_allocations(void)
{
    while (allocations) {
        struct allocation *next = allocations->next;
        free(allocations);
        allocations = next;
    }
}

void cuda_drop_allocations(CUcontext context, uint64_t *dropped_bytes)
{
    struct allocation **link = &allocations;

    while (*link) {
        struct allocation *allocation = *link;
        if (allocation->context != context) {
            link = &allocation->next;
            continue;
        }
        *dropped_bytes += allocation->bytes;
        *link = allocation->next;
        free(allocation);
    }
}

/* Enter and find the current context's GPU; the caller unlocks with cuda_leave. */
static CUresult enter_context(CUcontext *context, const struct simgpu_gpu **gpu)
{
    CUresult result = cuda_enter();

    if (result != CUDA_SUCCESS)
        return result;
    *context = cuda_current_context();
    return *context ? cuda_read_device((CUdevice)(*context)->device, gpu) : CUDA_ERROR_INVALID_CONTEXT;
}

static CUresult allocate(CUcontext context, size_t bytes, CUdeviceptr *address)
{
    CUresult result;
    struct allocation *allocation = malloc(sizeof *allocation);

    if (!allocation)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = record_change(context->device, 0, bytes, 0);
    if (result != CUDA_SUCCESS) {
        free(allocation);
        return result;
    }
    *allocation = (struct allocation){next_address, bytes, context, allocations};
    allocations = allocation;
    next_address += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *address = allocation->address;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
    CUcontext context;
    const struct simgpu_gpu *gpu;
    CUresult result = enter_context(&context, &gpu);

    if (result == CUDA_SUCCESS && (!address || bytes == 0))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = allocate(context, bytes, address);
    return cuda_leave(result);
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
    CUresult result = cuda_enter();
    struct allocation **link = &allocations;

    while (*link && (*link)->address != address)
        link = &(*link)->next;
    if (result == CUDA_SUCCESS && !*link)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS) {
        struct allocation *allocation = *link;
        result = record_change(allocation->context->device, 0, 0, allocation->bytes);
        if (result == CUDA_SUCCESS) {
            *link = allocation->next;
            free(allocation);
        }
    }
    return cuda_leave(result);
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    CUcontext context;
    const struct simgpu_gpu *gpu;
    uint64_t allocated, available;
    CUresult result = enter_context(&context, &gpu);

    if (result == CUDA_SUCCESS && (!free_bytes || !total_bytes))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS) {
        simgpu_memory(context->device, gpu, &allocated, &available);
        *free_bytes = available;
        *total_bytes = allocated + available;
    }
    return cuda_leave(result);
}

CUresult cuMemsetD8_v2(CUdeviceptr address, unsigned char value, size_t count)
{
    CUcontext context;
    const struct simgpu_gpu *gpu;
    CUresult result = enter_context(&context, &gpu);

    (void)value;
    if (result == CUDA_SUCCESS && count > 0) {
        result = CUDA_ERROR_INVALID_VALUE;
        for (struct allocation *known = allocations; known; known = known->next)
            if (address >= known->address && address - known->address < known->bytes &&
                count <= known->bytes - (address - known->address))
                result = CUDA_SUCCESS;
    }
    return cuda_leave(result);
}

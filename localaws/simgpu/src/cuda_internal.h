/* What the CUDA sources share: this process's contexts and allocations, and its record in `<state>/processes/`. */
#ifndef SIMGPU_CUDA_INTERNAL_H
#define SIMGPU_CUDA_INTERNAL_H

#include <stdbool.h>

#include "cuda_abi.h"
#include "processes.h"

struct CUctx_st {
    unsigned int device;
    bool alive;
    unsigned int references; /* of a primary context; 1 otherwise */
    struct CUctx_st *next;
};

/* Every call but cuInit begins and ends with these: enter locks and checks for cuInit, leave unlocks. */
CUresult cuda_enter(void);
CUresult cuda_leave(CUresult result);

/* Read a GPU; CUDA_ERROR_INVALID_DEVICE if there is no such device, CUDA_ERROR_UNKNOWN if it or the driver is gone. */
CUresult cuda_read_device(CUdevice device, const struct simgpu_gpu **gpu);

/* The calling thread's current context; NULL if none or destroyed. */
CUcontext cuda_current_context(void);

/* Free what a context holds, without changing the record. */
void cuda_drop_allocations(CUcontext context, uint64_t *dropped_bytes);

/* In a forked child: contexts and allocations belong to the parent. */
void cuda_forget_contexts(void);
void cuda_forget_allocations(void);

/*
 * Change what this process holds on a GPU, in one step for all processes of the machine.
 * CUDA_ERROR_OUT_OF_MEMORY if the bytes to add are not free.
 */
CUresult record_change(unsigned int gpu_index, int contexts, uint64_t add_bytes, uint64_t drop_bytes);

/* In a forked child: let go of the parent's record, which stays the parent's. */
void record_forget(void);

#endif

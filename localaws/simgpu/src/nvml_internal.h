/* What the NVML sources share. Only what nvml.h declares is exported, and only if its signature is the one there. */
#ifndef SIMGPU_NVML_INTERNAL_H
#define SIMGPU_NVML_INTERNAL_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS /* the old names are functions of their own here, as in the real library */

#pragma GCC visibility push(default)
#include <nvml.h>
#pragma GCC visibility pop

#include <stdbool.h>
#include <stdint.h>

#include "state.h"

struct nvmlDevice_st {
    unsigned int index;
};

/* The handle of a GPU: one for the life of the process, whatever happens to the GPU. */
nvmlDevice_t simgpu_handle(unsigned int index);

/* Every call that is not about one GPU begins here: is NVML initialised, the driver there, this call to fail? */
nvmlReturn_t simgpu_enter(const char *function, struct simgpu_driver *driver);

/* Every call about one GPU begins here; fills `gpu` if it returns NVML_SUCCESS. */
nvmlReturn_t simgpu_enter_device(const char *function, nvmlDevice_t device, struct simgpu_gpu *gpu);

/* Copy text out; NVML_ERROR_INSUFFICIENT_SIZE if it does not fit. */
nvmlReturn_t simgpu_copy_text(char *out, unsigned int size, const char *text);

/* A number of the GPU; NVML_ERROR_NOT_SUPPORTED if it has none. */
nvmlReturn_t simgpu_number(const struct simgpu_gpu *gpu, enum simgpu_number key, uint64_t *value);

#endif

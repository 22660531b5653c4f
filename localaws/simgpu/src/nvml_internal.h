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

#define SIMGPU_NO_SLOT (-1)

/* A GPU, or the MIG device in one of its slots. */
struct nvmlDevice_st {
    unsigned int index;
    int slot;
};

/* The handle of a GPU: one for the life of the process, whatever happens to the GPU. */
nvmlDevice_t simgpu_handle(unsigned int index);

/* The handle of the MIG device in a slot of a GPU. */
nvmlDevice_t simgpu_mig_handle(unsigned int index, unsigned int slot);

/* True for what the two above return, whether or not there is such a GPU. */
bool simgpu_is_handle(nvmlDevice_t device);

/* Every call that is not about one GPU begins here: is NVML initialised, the driver there, this call to fail? */
nvmlReturn_t simgpu_enter(const char *function, const struct simgpu_driver **driver);

/* Every call about one GPU begins here; sets `gpu` if it returns NVML_SUCCESS. Refuses MIG devices. */
nvmlReturn_t simgpu_enter_device(const char *function, nvmlDevice_t device, const struct simgpu_gpu **gpu);

/* The same for calls that take MIG devices as well; `instance` is NULL for a GPU. */
nvmlReturn_t simgpu_enter_any(const char *function, nvmlDevice_t device, const struct simgpu_gpu **gpu,
                              const struct simgpu_instance **instance);

/* The same for calls that MIG mode takes away from a GPU. */
nvmlReturn_t simgpu_enter_without_mig(const char *function, nvmlDevice_t device, const struct simgpu_gpu **gpu);

/* Copy text out; NVML_ERROR_INSUFFICIENT_SIZE if it does not fit. */
nvmlReturn_t simgpu_copy_text(char *out, unsigned int size, const char *text);

/* A number of the GPU; NVML_ERROR_NOT_SUPPORTED if it has none. */
nvmlReturn_t simgpu_number(const struct simgpu_gpu *gpu, enum simgpu_number key, uint64_t *value);

/* An ECC counter; NVML_ERROR_NOT_SUPPORTED while ECC is off. */
nvmlReturn_t simgpu_ecc_count(const struct simgpu_gpu *gpu, enum simgpu_number key, uint64_t *count);

/* Energy drawn since the driver was loaded, in millijoules. */
nvmlReturn_t simgpu_energy(const struct simgpu_gpu *gpu, uint64_t *millijoules);

/* True if MIG mode is on and the GPU has instances. */
bool simgpu_has_instances(const struct simgpu_gpu *gpu);

uint64_t simgpu_realtime_microseconds(void);
uint64_t simgpu_monotonic_nanoseconds(void);
void simgpu_sleep_milliseconds(unsigned int milliseconds);

#endif

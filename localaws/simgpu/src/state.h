/* What the machine's driver and GPUs look like right now: the files that ../gpus.py writes, parsed and cached. */
#ifndef SIMGPU_STATE_H
#define SIMGPU_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "gpu_numbers.h"

#define SIMGPU_MAX_GPUS 16
#define SIMGPU_MAX_FAULTS 64
#define SIMGPU_MAX_INSTANCES 8
#define SIMGPU_MAX_PROFILES 32 /* by their NVML_GPU_INSTANCE_PROFILE_* number */
#define SIMGPU_MAX_PATTERN 64
#define SIMGPU_PATH_SIZE 512

#define SIMGPU_ENUM(key) SIMGPU_##key,
enum simgpu_number { SIMGPU_NUMBERS(SIMGPU_ENUM) SIMGPU_NUMBER_COUNT };
#undef SIMGPU_ENUM

/* Values of `lost`: how a GPU is gone. */
enum simgpu_loss { SIMGPU_PRESENT, SIMGPU_LOST, SIMGPU_LOST_UNKNOWN, SIMGPU_VANISHED };

/* Instead of a code: the call does not return until it is healed. */
#define SIMGPU_HANGS (-1)

/* Calls that were told to fail or hang, by function name; entries of nvmlDeviceGetFieldValues, by field id. */
struct simgpu_faults {
    unsigned int count, field_count;
    struct {
        char function[64];
        int code;
    } list[SIMGPU_MAX_FAULTS];
    struct {
        unsigned int id;
        int code;
    } fields[SIMGPU_MAX_FAULTS];
};

struct simgpu_driver {
    bool loaded;
    int unloaded_code; /* what calls return that find the driver gone */
    unsigned int gpu_count;
    int cuda_version;
    char driver_version[80];
    char nvml_version[80];
    struct simgpu_faults faults;
};

/* Percentages that take turns, one per sampling period. */
struct simgpu_pattern {
    unsigned int count;
    uint8_t percent[SIMGPU_MAX_PATTERN];
};

struct simgpu_profile {
    char name[32];
    /* in this order in the state file */
    struct {
        uint64_t id, slices, instances, multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, memory_bytes;
    } is;
};

/* A MIG device: a GPU instance with one compute instance that fills it. */
struct simgpu_instance {
    bool present;
    char uuid[80];
    struct {
        uint64_t gpu_instance_id, compute_instance_id, profile, start, used_bytes;
    } is;
};

struct simgpu_gpu {
    char name[96];
    char uuid[80];
    char serial[30];
    char vbios_version[32];
    unsigned int pci_domain, pci_bus, pci_device;
    bool present[SIMGPU_NUMBER_COUNT];
    uint64_t number[SIMGPU_NUMBER_COUNT];
    struct simgpu_pattern gpu_pattern, memory_pattern;
    struct simgpu_profile profiles[SIMGPU_MAX_PROFILES];
    struct simgpu_instance instances[SIMGPU_MAX_INSTANCES];
    struct simgpu_faults faults;
};

/* A file's identity; trustworthy only if it was old enough for a later write to show in its time stamp. */
struct simgpu_stamp {
    bool trusted;
    struct stat file;
};

void simgpu_stamp_take(struct simgpu_stamp *stamp, const struct stat *file);
bool simgpu_stamp_matches(const struct simgpu_stamp *stamp, const struct stat *file);

/* Write `<state directory>/<name>`, or with "" the directory itself, into `path`. */
void simgpu_path(char path[SIMGPU_PATH_SIZE], const char *name);

/*
 * Look at the state directory: the driver as it is now, or NULL if this machine has none. Costs one stat() while
 * nothing changes. What this and simgpu_gpu_state() return belongs to the calling thread and follows its next look.
 */
const struct simgpu_driver *simgpu_driver_state(void);

/* A GPU as it was at the calling thread's latest simgpu_driver_state(); NULL if there is none. */
const struct simgpu_gpu *simgpu_gpu_state(unsigned int index);

/* The code `function` must fail with, SIMGPU_HANGS, or 0. */
int simgpu_fault(const struct simgpu_faults *faults, const char *function);

/* The code a field must fail with, or 0. */
int simgpu_field_fault(const struct simgpu_faults *faults, unsigned int field_id);

/* Fill a zeroed struct from the text of its state file, which is cut up on the way. */
void simgpu_parse_driver(char *text, struct simgpu_driver *driver);
void simgpu_parse_gpu(char *text, struct simgpu_gpu *gpu);

/* Read the decimal or 0x number at `text`; stop at the first other character. False: not one digit. */
bool simgpu_parse_number(const char *text, uint64_t *value, const char **rest);

/* Read "domain:bus:device.function" or "bus:device.function", all hexadecimal. */
bool simgpu_parse_pci(const char *text, unsigned int *domain, unsigned int *bus, unsigned int *device);

#endif

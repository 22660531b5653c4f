/* What the machine's driver and GPUs look like right now: the files that ../gpus.py writes, parsed and cached. */
#ifndef SIMGPU_STATE_H
#define SIMGPU_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "gpu_numbers.h"

#define SIMGPU_MAX_GPUS 16
#define SIMGPU_MAX_FAULTS 64
#define SIMGPU_PATH_SIZE 512

#define SIMGPU_ENUM(key) SIMGPU_##key,
enum simgpu_number { SIMGPU_NUMBERS(SIMGPU_ENUM) SIMGPU_NUMBER_COUNT };
#undef SIMGPU_ENUM

/* Calls that were told to fail, by function name. Last in its struct, so that only the used part is copied. */
struct simgpu_faults {
    unsigned int count;
    struct {
        char function[64];
        int code;
    } list[SIMGPU_MAX_FAULTS];
};

struct simgpu_driver {
    bool loaded;
    unsigned int gpu_count;
    int cuda_version;
    char driver_version[80];
    char nvml_version[80];
    struct simgpu_faults faults;
};

struct simgpu_gpu {
    char name[96];
    char uuid[80];
    char serial[30];
    unsigned int pci_domain, pci_bus, pci_device;
    bool present[SIMGPU_NUMBER_COUNT];
    uint64_t number[SIMGPU_NUMBER_COUNT];
    struct simgpu_faults faults;
};

/* A file's identity; trustworthy only if it was old enough for a later write to show in its time stamp. */
struct simgpu_stamp {
    bool trusted;
    struct stat file;
};

void simgpu_stamp_take(struct simgpu_stamp *stamp, const struct stat *file);
bool simgpu_stamp_matches(const struct simgpu_stamp *stamp, const struct stat *file);

/* Write `<state directory>/<name>` into `path`. */
void simgpu_path(char path[SIMGPU_PATH_SIZE], const char *name);

/* False: there is no driver on this machine, or it is unloaded. */
bool simgpu_read_driver(struct simgpu_driver *driver);

/* False: there is no such GPU. */
bool simgpu_read_gpu(unsigned int index, struct simgpu_gpu *gpu);

/* The code `function` must fail with, or 0. */
int simgpu_fault(const struct simgpu_faults *faults, const char *function);

/* Read the decimal or 0x number at `text`; stop at the first other character. False: not one digit. */
bool simgpu_parse_number(const char *text, uint64_t *value, const char **rest);

/* Read "domain:bus:device.function" or "bus:device.function", all hexadecimal. */
bool simgpu_parse_pci(const char *text, unsigned int *domain, unsigned int *bus, unsigned int *device);

#endif

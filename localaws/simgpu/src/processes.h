/*
 * Which processes hold memory or contexts on which GPU: one record per process in `<state>/processes/`.
 *
 * The owner holds an flock on its record for as long as it lives. The kernel releases it at exit, at kill -9 as well,
 * and in every PID namespace: a record that can be locked has no owner any more and counts for nothing.
 */
#ifndef SIMGPU_PROCESSES_H
#define SIMGPU_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state.h"

#define SIMGPU_PROCESS_DIRECTORY "processes"

struct simgpu_process {
    unsigned int pid; /* as the process itself sees it */
    struct {
        unsigned int contexts;
        uint64_t bytes;
    } gpu[SIMGPU_MAX_GPUS];
};

/* "pid=%010u\n", then SIMGPU_MAX_GPUS times "gpu%02u=%05u %020llu\n": of one size, so that one write replaces it. */
#define SIMGPU_RECORD_SIZE (15 + SIMGPU_MAX_GPUS * 33)

void simgpu_format_record(char text[SIMGPU_RECORD_SIZE + 1], const struct simgpu_process *process);

typedef void simgpu_visit(const struct simgpu_process *process, void *argument);

/* Visit the record of every living process. Needs read permission only. */
void simgpu_each_process(simgpu_visit *visit, void *argument);

/* Bytes that living processes hold on a GPU through CUDA. */
uint64_t simgpu_cuda_bytes(unsigned int gpu_index);

/* True if no process holds the record open in `fd`. */
bool simgpu_record_is_abandoned(int fd);

/* Allocated memory of a GPU, MIG devices included, and what is left of it: total = reserved + allocated + free. */
void simgpu_memory(unsigned int gpu_index, const struct simgpu_gpu *gpu, uint64_t *allocated, uint64_t *free_bytes);

#endif

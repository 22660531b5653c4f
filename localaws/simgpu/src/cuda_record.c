/* This process's record: made with the first context, changed under the machine-wide lock, removed at exit. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>
#include <dirent.h>
#include <errno.h>

#include "cuda_internal.h"

static int record_fd = -1; /* its flock is this process's sign of life */
static char record_name[48];
static struct simgpu_process self;

/* One lock for all processes of the machine: an flock on the directory of the records. */
static int lock_machine(void)
{
    char path[SIMGPU_PATH_SIZE];
    int directory, locked;

    simgpu_path(path, SIMGPU_PROCESS_DIRECTORY);
    directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return -1;
    do
        locked = flock(directory, LOCK_EX);
    while (locked != 0 && errno == EINTR);
    if (locked != 0) {
        close(directory);
        return -1;
    }
    return directory;
}

/* Records are made under the machine's lock, so one without an owner is left over from a dead process. */
static void remove_abandoned(int directory)
{
    struct dirent *entry;
    DIR *listing = fdopendir(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

    if (!listing)
        return;
    while ((entry = readdir(listing))) {
        int fd = openat(directory, entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat file;
        if (fd < 0)
            continue;
        if (fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && simgpu_record_is_abandoned(fd))
            unlinkat(directory, entry->d_name, 0); /* another user's stays: the directory is sticky */
        close(fd);
    }
    closedir(listing);
}

static bool write_record(const struct simgpu_process *process)
{
    char text[SIMGPU_RECORD_SIZE + 1];

    simgpu_format_record(text, process);
    return pwrite(record_fd, text, SIMGPU_RECORD_SIZE, 0) == SIMGPU_RECORD_SIZE;
}

/* Visible under its final name only once it is locked and whole. */
static bool make_record(int directory)
{
    char draft[64];
    unsigned long long salt;

    remove_abandoned(directory);
    if (getrandom(&salt, sizeof salt, 0) != sizeof salt)
        return false;
    memset(&self, 0, sizeof self);
    self.pid = (unsigned int)getpid();
    snprintf(record_name, sizeof record_name, "%u-%016llx", self.pid, salt);
    snprintf(draft, sizeof draft, ".%s", record_name);
    record_fd = openat(directory, draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (record_fd < 0)
        return false;
    /* monitors of other users must be able to read it, whatever the umask */
    if (fchmod(record_fd, 0644) == 0 && flock(record_fd, LOCK_EX | LOCK_NB) == 0 && write_record(&self) &&
        renameat(directory, draft, directory, record_name) == 0)
        return true;
    unlinkat(directory, draft, 0);
    close(record_fd);
    record_fd = -1;
    return false;
}

static CUresult change_locked(unsigned int gpu_index, int contexts, uint64_t add_bytes, uint64_t drop_bytes)
{
    struct simgpu_process changed = self;
    const struct simgpu_gpu *gpu;
    uint64_t allocated, free_bytes;

    if (add_bytes > 0) {
        simgpu_driver_state(); /* what is free now that no other process can take it */
        gpu = simgpu_gpu_state(gpu_index);
        if (!gpu)
            return CUDA_ERROR_UNKNOWN;
        simgpu_memory(gpu_index, gpu, &allocated, &free_bytes);
        if (add_bytes > free_bytes)
            return CUDA_ERROR_OUT_OF_MEMORY;
    }
    changed.gpu[gpu_index].contexts = (unsigned int)((int)changed.gpu[gpu_index].contexts + contexts);
    changed.gpu[gpu_index].bytes += add_bytes - drop_bytes;
    if (!write_record(&changed))
        return CUDA_ERROR_OPERATING_SYSTEM;
    self = changed;
    return CUDA_SUCCESS;
}

CUresult record_change(unsigned int gpu_index, int contexts, uint64_t add_bytes, uint64_t drop_bytes)
{
    int directory = lock_machine();
    CUresult result = CUDA_ERROR_OPERATING_SYSTEM;

    if (directory < 0)
        return result;
    if (record_fd >= 0 || make_record(directory))
        result = change_locked(gpu_index, contexts, add_bytes, drop_bytes);
    close(directory);
    return result;
}

void record_forget(void)
{
    if (record_fd >= 0)
        close(record_fd); /* the lock belongs to the open file, which the parent still holds */
    record_fd = -1;
    memset(&self, 0, sizeof self);
}

__attribute__((destructor)) static void remove_record(void)
{
    char path[SIMGPU_PATH_SIZE], name[80];

    if (record_fd < 0)
        return;
    snprintf(name, sizeof name, "%s/%s", SIMGPU_PROCESS_DIRECTORY, record_name);
    simgpu_path(path, name);
    unlink(path);
    close(record_fd);
    record_fd = -1;
}

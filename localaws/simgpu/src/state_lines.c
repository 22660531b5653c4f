/* The lines of the state files, `key=value`, and what each of them sets. */
#include "state.h"

#include <stdio.h>
#include <string.h>

#define COPY_TEXT(member, value) snprintf(member, sizeof member, "%s", value)

typedef void line_reader(void *target, const char *key, const char *value);

static void read_lines(char *text, line_reader *reader, void *target)
{
    char *position, *line = strtok_r(text, "\n", &position);

    for (; line; line = strtok_r(NULL, "\n", &position)) {
        char *equals = strchr(line, '=');
        if (*line == '#' || !equals)
            continue;
        *equals = '\0';
        reader(target, line, equals + 1);
    }
}

/* If `key` is "<prefix><number>", read the number. */
static bool numbered(const char *key, const char *prefix, uint64_t *number)
{
    const char *rest;

    return strncmp(key, prefix, strlen(prefix)) == 0 && simgpu_parse_number(key + strlen(prefix), number, &rest);
}

/* Read "number,number,...,text". */
static bool read_row(const char *text, uint64_t *numbers, unsigned int count, char *last, size_t last_size)
{
    for (unsigned int i = 0; i < count; i++) {
        if (!simgpu_parse_number(text, &numbers[i], &text) || *text != ',')
            return false;
        text++;
    }
    snprintf(last, last_size, "%s", text);
    return true;
}

static void add_fault(struct simgpu_faults *faults, const char *function, int code)
{
    if (faults->count == SIMGPU_MAX_FAULTS)
        return;
    COPY_TEXT(faults->list[faults->count].function, function);
    faults->list[faults->count++].code = code;
}

static bool read_fault(struct simgpu_faults *faults, const char *key, const char *value)
{
    uint64_t code = 0, field_id;
    const char *rest;

    simgpu_parse_number(value, &code, &rest);
    if (strncmp(key, "hang.", 5) == 0) {
        add_fault(faults, key + 5, SIMGPU_HANGS);
    } else if (strncmp(key, "fail.", 5) == 0) {
        add_fault(faults, key + 5, (int)code);
    } else if (numbered(key, "fail_field.", &field_id)) {
        if (faults->field_count == SIMGPU_MAX_FAULTS)
            return true;
        faults->fields[faults->field_count].id = (unsigned int)field_id;
        faults->fields[faults->field_count++].code = (int)code;
    } else {
        return false;
    }
    return true;
}

static void read_driver_line(void *target, const char *key, const char *value)
{
    struct simgpu_driver *driver = target;
    uint64_t number = 0;
    const char *rest;

    if (read_fault(&driver->faults, key, value))
        return;
    simgpu_parse_number(value, &number, &rest);
    if (strcmp(key, "driver_version") == 0)
        COPY_TEXT(driver->driver_version, value);
    else if (strcmp(key, "nvml_version") == 0)
        COPY_TEXT(driver->nvml_version, value);
    else if (strcmp(key, "loaded") == 0)
        driver->loaded = number != 0;
    else if (strcmp(key, "unloaded_code") == 0)
        driver->unloaded_code = (int)number;
    else if (strcmp(key, "cuda_version") == 0)
        driver->cuda_version = (int)number;
    else if (strcmp(key, "gpu_count") == 0)
        driver->gpu_count = number < SIMGPU_MAX_GPUS ? (unsigned int)number : SIMGPU_MAX_GPUS;
}

static void read_pattern(struct simgpu_pattern *pattern, const char *text)
{
    uint64_t percent;

    while (pattern->count < SIMGPU_MAX_PATTERN && simgpu_parse_number(text, &percent, &text)) {
        pattern->percent[pattern->count++] = (uint8_t)percent;
        if (*text == ',')
            text++;
    }
}

static bool read_mig(struct simgpu_gpu *gpu, const char *key, const char *value)
{
    uint64_t number;

    if (numbered(key, "mig_profile.", &number)) {
        struct simgpu_profile *profile = &gpu->profiles[number % SIMGPU_MAX_PROFILES];
        read_row(value, &profile->is.id, sizeof profile->is / sizeof(uint64_t), profile->name, sizeof profile->name);
    } else if (numbered(key, "mig_instance.", &number)) {
        struct simgpu_instance *instance = &gpu->instances[number % SIMGPU_MAX_INSTANCES];
        instance->present = read_row(value, &instance->is.gpu_instance_id, sizeof instance->is / sizeof(uint64_t),
                                     instance->uuid, sizeof instance->uuid) &&
                            instance->is.profile < SIMGPU_MAX_PROFILES;
    } else {
        return false;
    }
    return true;
}

static void read_gpu_line(void *target, const char *key, const char *value)
{
#define SIMGPU_NAME(key) #key,
    static const char *const names[] = {SIMGPU_NUMBERS(SIMGPU_NAME)};
#undef SIMGPU_NAME
    struct simgpu_gpu *gpu = target;
    const char *rest;

    if (read_fault(&gpu->faults, key, value) || read_mig(gpu, key, value))
        return;
    for (unsigned int i = 0; i < SIMGPU_NUMBER_COUNT; i++)
        if (strcmp(key, names[i]) == 0)
            gpu->present[i] = simgpu_parse_number(value, &gpu->number[i], &rest);
    if (strcmp(key, "name") == 0)
        COPY_TEXT(gpu->name, value);
    else if (strcmp(key, "uuid") == 0)
        COPY_TEXT(gpu->uuid, value);
    else if (strcmp(key, "serial") == 0)
        COPY_TEXT(gpu->serial, value);
    else if (strcmp(key, "vbios_version") == 0)
        COPY_TEXT(gpu->vbios_version, value);
    else if (strcmp(key, "pci_bus_id") == 0)
        simgpu_parse_pci(value, &gpu->pci_domain, &gpu->pci_bus, &gpu->pci_device);
    else if (strcmp(key, "utilization_gpu_pattern") == 0)
        read_pattern(&gpu->gpu_pattern, value);
    else if (strcmp(key, "utilization_memory_pattern") == 0)
        read_pattern(&gpu->memory_pattern, value);
}

void simgpu_parse_driver(char *text, struct simgpu_driver *driver)
{
    driver->unloaded_code = 999; /* NVML_ERROR_UNKNOWN */
    read_lines(text, read_driver_line, driver);
}

void simgpu_parse_gpu(char *text, struct simgpu_gpu *gpu)
{
    read_lines(text, read_gpu_line, gpu);
}

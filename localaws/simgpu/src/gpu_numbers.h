/*
 * The whole numbers a GPU's state file may hold, one per line: `key=value`.
 *
 * A key that is absent from the file is something this GPU cannot report: the NVML calls that need it answer
 * NVML_ERROR_NOT_SUPPORTED. A new scalar is one line here and one in nvml_scalars.c.
 */
#define SIMGPU_NUMBERS(X)                                                                                              \
    X(lost)                                                                                                            \
    X(minor_number)                                                                                                    \
    X(architecture)                                                                                                    \
    X(compute_capability_major)                                                                                        \
    X(compute_capability_minor)                                                                                        \
    X(multiprocessor_count)                                                                                            \
    X(pci_device_id)                                                                                                   \
    X(pci_subsystem_id)                                                                                                \
    X(memory_total_bytes)                                                                                              \
    X(memory_reserved_bytes)                                                                                           \
    X(memory_used_bytes)                                                                                               \
    X(utilization_gpu_percent)                                                                                         \
    X(utilization_memory_percent)                                                                                      \
    X(utilization_encoder_percent)                                                                                     \
    X(utilization_decoder_percent)                                                                                     \
    X(temperature_celsius)                                                                                             \
    X(power_milliwatts)                                                                                                \
    X(power_limit_milliwatts)                                                                                          \
    X(power_limit_enforced_milliwatts)                                                                                 \
    X(power_limit_default_milliwatts)                                                                                  \
    X(power_limit_min_milliwatts)                                                                                      \
    X(power_limit_max_milliwatts)                                                                                      \
    X(energy_millijoules)                                                                                              \
    X(energy_since_nanoseconds)                                                                                        \
    X(clock_graphics_mhz)                                                                                              \
    X(clock_sm_mhz)                                                                                                    \
    X(clock_memory_mhz)                                                                                                \
    X(clock_video_mhz)                                                                                                 \
    X(clock_graphics_max_mhz)                                                                                          \
    X(clock_sm_max_mhz)                                                                                                \
    X(clock_memory_max_mhz)                                                                                            \
    X(clock_video_max_mhz)                                                                                             \
    X(clocks_event_reasons)                                                                                            \
    X(performance_state)                                                                                               \
    X(fan_speed_percent)                                                                                               \
    X(persistence_mode)                                                                                                \
    X(ecc_mode)                                                                                                        \
    X(ecc_mode_pending)                                                                                                \
    X(ecc_corrected_volatile)                                                                                          \
    X(ecc_corrected_aggregate)                                                                                         \
    X(ecc_uncorrected_volatile)                                                                                        \
    X(ecc_uncorrected_aggregate)                                                                                       \
    X(pcie_generation)                                                                                                 \
    X(pcie_generation_max)                                                                                             \
    X(pcie_width)                                                                                                      \
    X(pcie_width_max)                                                                                                  \
    X(pcie_replay_count)                                                                                               \
    X(mig_mode)                                                                                                        \
    X(mig_mode_pending)

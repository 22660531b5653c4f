"""gpumon reads the GPUs of one host through NVML and publishes what they really do."""

__version__ = "0.1.0"

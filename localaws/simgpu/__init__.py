"""A simulated NVIDIA driver: libnvidia-ml and libcuda that read their GPUs from files which the outside can script."""

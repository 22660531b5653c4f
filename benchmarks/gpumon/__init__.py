"""What gpumon costs, beside its peers and beside the same calls in C: `python -m benchmarks.gpumon`."""

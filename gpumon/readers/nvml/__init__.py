"""Reads GPUs through NVML. Nothing outside of this package knows pynvml.

One session for the life of the process, because opening one may re-initialise every GPU. Each call stands alone: what
it cannot give is None, and whatever else works is still read. What a GPU does not have is remembered and asked for
again only rarely. A GPU that is lost keeps its identity, and is looked for.
"""

from gpumon.readers.nvml.open_gpu import REPROBE_SECONDS
from gpumon.readers.nvml.reader import RESCAN_SECONDS, NvmlReader

__all__ = ["REPROBE_SECONDS", "RESCAN_SECONDS", "NvmlReader"]

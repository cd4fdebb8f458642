"""What the machine cannot exceed, measured in the same run as the stages: each rate is also told as a fraction of one.

GB/s of a copy count each byte once, though it is read and written; of bzip2, the unpacked bytes; GFLOP/s count a
multiplication and an addition as two.
"""

from .measure import doubled, measure
from .names import BZIP2, DEVICE_COPY, DISK, HOST_TO_DEVICE, bzip2, matrix, memory_copy, threads_text

__all__ = [
    "BZIP2", "DEVICE_COPY", "DISK", "HOST_TO_DEVICE", "bzip2", "doubled", "matrix", "measure", "memory_copy",
    "threads_text",
]  # fmt: skip

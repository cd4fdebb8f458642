"""How much is moved and computed for each limit."""

from dataclasses import dataclass

IMAGE_BYTES = 5 * 107 * 107 * 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """Enough that no cache of a processor holds it, and that a step can be timed."""

    image_bytes: int = IMAGE_BYTES
    batch: int = 256  # images: 59 MB
    batches: int = 16  # that are copied in memory from one array: 938 MB
    passes: int = 2  # over that array for each thread
    disk_bytes: int = 2**28  # or twice that, and so on, until a step of the fastest way takes ``step_s``
    disk_most_bytes: int = 2**30  # of a step; the file has twice as many
    frames: int = 2  # that each process unpacks
    side: int = 2048  # of a square matrix
    device_side: int = 8192
    device_bytes: int = 2**28  # in a copy to or on the device
    step_s: float = 0.2  # that a step takes at least, where the number of repetitions is found by trying

"""How the results of reading are called."""

from ..limits.names import threads_text

PLAIN, FRESH, TO_GPU = ", plain reads", ", first pass over a fresh mapping", ", into the GPU"
UNCHECKED, CHECKED_BY_GOOGLE, CHECKED_BY_OURS = CHECKS = ("", " and google_crc32c", " and our CRC32C")
WEBDATASET = "read: webdataset library, decoding"
ZARR = "read: zarr-python, random batches"
HDF5 = "read: h5py contiguous, random batches"
TENSORSTORE = "read: TensorStore, random batches"
DECODE_ON_HOST, DECODE_BY_TORCH = "read: decode int16, on the host", "read: decode int16, by torch on the CPU"
DD, IN_SEQUENCE, IN_RANDOM_ORDER = COLD = tuple(
    f"read: from the disk, {how}" for how in ("dd", "skymill in sequence", "skymill in random order")
)
FEW, MANY, MOST = OF_SAMPLES = tuple(
    f"read: skymill tar, some of {how} samples" for how in ("few", "many", "very many")
)


def ours(container: str = "tar", threads: int = 1, *, check: bool = True, how: str = "") -> str:
    """Name of one of our results."""
    return f"read: skymill {container}, {threads_text(threads)}{how}{'' if check else ', no checksums'}"


def at_url(threads: int) -> str:
    """Our reader of a dataset at a URL."""
    return f"read: skymill from a URL, {threads_text(threads)}"


def encoded(encoding: str, threads: int = 1, *, decoded: bool = False) -> str:
    """Our reader of pixels that are stored in another way than as float32; they stay so, or are decoded too."""
    return ours(f"tar of {encoding}", threads, how=", decoded on the host" if decoded else "")


def batched(container: str, batch: int) -> str:
    """Our reader with batches of another size."""
    return ours(container, how=f", batch {batch}")


def sized(side_px: int) -> str:
    """Our reader of images of another size."""
    return ours(how=f", {side_px} px")


def copying(check: str, threads: int) -> str:
    """Copying the same bytes; ``check`` is one of `CHECKS`."""
    return f"read: copy in memory{check}, {threads_text(threads)}"


def dali(threads: int) -> str:
    """DALI's reader of tar files."""
    return f"read: DALI, raw bytes, {threads_text(threads)}"

"""How the limits are called, so that stages can refer to them."""

DISK = "limit: disk, read in sequence"
HOST_TO_DEVICE = "limit: copy from pinned memory to the device"
DEVICE_COPY = "limit: copy in the device's memory"
_MATRIX = "limit: matrix product"


def threads_text(count: int) -> str:
    """As names of results say it: "1 thread", "2 threads"."""
    return f"{count} thread{'s' if count > 1 else ''}"


def memory_copy(threads: int = 1) -> str:
    """Copying large blocks in the host's memory, the fastest way that was found [GB/s]."""
    return f"limit: memory copy, {threads_text(threads)}"


def bzip2(processes: int = 1) -> str:
    """Unpacking frames with indexed_bzip2, each process on one core [GB/s of unpacked bytes]."""
    return f"limit: bzip2, {processes} process{'es' if processes > 1 else ''}"


BZIP2 = bzip2()


def matrix(precision: str = "fp32", where: str = "1 thread") -> str:
    """Products of large matrices [GFLOP/s]; ``where`` is "1 thread", "2 threads", ... or "cuda"."""
    return f"{_MATRIX}, {precision}, {where}"


def unit(name: str) -> str:
    """In which a limit is told."""
    return "GFLOP/s" if name.startswith(_MATRIX) else "GB/s"

"""Map a file into memory without keeping it open.

Python's `mmap` holds a descriptor for each mapping, and a dataset of a million galaxies has more shards than a process
may have files open (1,024 where nobody raised the limit). The mapping itself needs none.
"""

import ctypes
import mmap
import os
import weakref
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import DatasetError

Bytes = npt.NDArray[np.uint8]

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def map_file(path: Path, expected_bytes: int) -> Bytes:
    """The bytes of a file, read only: (byte,). DatasetError where it is missing or of another size.

    The size is checked first: reading past the end of a mapped file kills the process without an exception. One page
    behind the end is mapped too, which can never be in memory: see `gather.tells_residence`.
    """
    try:
        with open(path, "rb", opener=_opened) as file:
            actual = os.fstat(file.fileno()).st_size
            if actual != expected_bytes:
                raise DatasetError(
                    f"{path}: expected {expected_bytes} bytes, got {actual}; verify it, then ingest again"
                )
            return _map(file.fileno(), actual)
    except OSError as err:
        raise DatasetError(f"{path}: cannot be read ({err.strerror}); is the dataset whole?") from err


def _opened(path: str, flags: int) -> int:
    """Without waiting: a pipe under a shard's name would wait for who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _map(descriptor: int, size: int) -> Bytes:
    mapped = size + mmap.PAGESIZE
    address = _LIBC.mmap(None, mapped, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    memory = (ctypes.c_ubyte * size).from_address(address)
    # The array keeps ``memory`` alive. Not at exit: a thread may still be reading, and the system unmaps all anyway.
    weakref.finalize(memory, _LIBC.munmap, address, mapped).atexit = False
    array = np.frombuffer(memoryview(memory), np.uint8)
    array.flags.writeable = False
    return array

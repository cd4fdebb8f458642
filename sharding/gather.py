"""Copy records from mapped files into a batch, compiled, without the interpreter lock.

A batch is written past the caches (non-temporal stores): it is larger than they are, and a plain store would first read
what it overwrites. Checksums are taken from the source, a block at a time behind the copy, which left it in the cache.

The kernel is asked about each record before it is touched: what cannot be read, of a file cut short or on a failing
disk, then is an error and not the signal SIGBUS, which ends the process. Where all of it is in memory it can be read;
that question (mincore) takes a tenth of the time of mapping it (MADV_POPULATE_READ, Linux 5.14), which is done for the
others, and always where the kernel does not say what is in memory: it tells only who owns a file or may write it. What
is left is a file that is cut in the very moment in which one of its records is copied.
"""

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiled import compiled
from .crc32c import BLOCK, START, add_bytes
from .mapping import Bytes

UInt64 = npt.NDArray[np.uint64]

PAGE = mmap.PAGESIZE
WILL_NEED = 3
POPULATE_READ = 22

_LINE = np.uint64(64)  # bytes of a cache line
_I8P, _I64, _I32 = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_I64, 8)  # a cache line


@intrinsic
def _copy_bytes(typing: Any, target: Any, source: Any, count: Any) -> Any:
    """memcpy of the C library; gives ``count``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_I8P, [_I8P, _I8P, _I64])
        target, source, count = arguments
        memcpy = cgutils.get_or_insert_function(builder.module, kind, "memcpy")
        builder.call(memcpy, [builder.inttoptr(target, _I8P), builder.inttoptr(source, _I8P), count])
        return count

    return types.uint64(types.uint64, types.uint64, types.uint64), generate


@intrinsic
def _copy_line(typing: Any, target: Any, source: Any) -> Any:
    """A cache line to an address that is a multiple of its size, past the caches; gives the address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = builder.load(builder.inttoptr(arguments[1], _VECTOR.as_pointer()))
        line.align = 1
        store = builder.store(line, builder.inttoptr(arguments[0], _VECTOR.as_pointer()), align=64)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        return arguments[0]

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def _madvise(typing: Any, address: Any, count: Any, advice: Any) -> Any:
    """madvise of the C library: 0 where all is well."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        madvise = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, [_I8P, _I64, _I32]), "madvise")
        address, count, advice = arguments
        return builder.call(madvise, [builder.inttoptr(address, _I8P), count, builder.trunc(advice, _I32)])

    return types.int32(types.uint64, types.uint64, types.int64), generate


@intrinsic
def _mincore(typing: Any, address: Any, count: Any, pages: Any) -> Any:
    """mincore of the C library: 0 where all is well."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mincore = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, [_I8P, _I64, _I8P]), "mincore")
        address, count, pages = arguments
        return builder.call(mincore, [builder.inttoptr(address, _I8P), count, builder.inttoptr(pages, _I8P)])

    return types.int32(types.uint64, types.uint64, types.uint64), generate


@compiled
def advise(address: np.uint64, count: np.uint64, advice: int) -> bool:
    """Tell the kernel about ``count`` mapped bytes; whether it could do what was asked."""
    first = address & ~np.uint64(PAGE - 1)
    return bool(_madvise(first, address + count - first, advice) == 0)


@compiled
def is_resident(address: np.uint64, count: np.uint64, pages: npt.NDArray[np.uint8]) -> bool:
    """Whether ``count`` mapped bytes are all in memory; ``pages`` is room for a byte of each page that they touch."""
    first = address & ~np.uint64(PAGE - 1)
    touched = (address + count - first + np.uint64(PAGE - 1)) // np.uint64(PAGE)
    if _mincore(first, address + count - first, np.uint64(pages.ctypes.data)):
        return False
    return bool((pages[:touched] & 1).all())


def tells_residence(mapped: Bytes) -> bool:
    """Whether the kernel says which pages of a file of `map_file` are in memory; if not, it says that all are."""
    behind = -(-(mapped.ctypes.data + len(mapped)) // PAGE) * PAGE
    return not is_resident(np.uint64(behind), np.uint64(PAGE), np.empty(1, dtype=np.uint8))


@compiled
def _copy_past_caches(target: np.uint64, source: np.uint64, count: np.uint64) -> None:
    done = _copy_bytes(target, source, min(count, (_LINE - target) & (_LINE - np.uint64(1))))
    while done + _LINE <= count:
        _copy_line(target + done, source + done)
        done += _LINE
    _copy_bytes(target + done, source + done, count - done)


@compiled
def _copy_and_sum(target: np.uint64, source: np.uint64, count: np.uint64) -> np.uint64:
    """Copy past the caches; gives the CRC32C."""
    crc, done = START, np.uint64(0)
    while done < count:
        part = min(BLOCK, count - done)
        _copy_past_caches(target + done, source + done, part)
        crc = add_bytes(crc, source + done, part)
        done += part
    return crc ^ START


@compiled
def gather(
    sources: UInt64,
    target: np.uint64,
    count: np.uint64,
    sums: npt.NDArray[np.uint32],
    unreadable: npt.NDArray[np.bool_],
    pages: npt.NDArray[np.uint8],
    cold: bool,
) -> None:
    """Copy ``count`` bytes from each of the addresses ``sources`` to ``target`` and on, side by side.

    ``sums`` gets their CRC32C, or is empty. A record that the kernel cannot read is left out and marked in
    ``unreadable``. ``pages`` is that of `is_resident`, or empty where the kernel does not tell. ``cold`` has the kernel
    fetch all records at once before the first is waited for.
    """
    if cold:
        for source in sources:
            advise(source, count, WILL_NEED)
    for row, source in enumerate(sources):
        place = target + np.uint64(row) * count
        if not (len(pages) and is_resident(source, count, pages)):
            unreadable[row] = not advise(source, count, POPULATE_READ)
            if unreadable[row]:
                continue
        if len(sums):
            sums[row] = _copy_and_sum(place, source, count)
        else:
            _copy_past_caches(place, source, count)

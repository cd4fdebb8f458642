"""CRC32C (Castagnoli, RFC 3720 appendix B.4) of bytes in memory, compiled, without the interpreter lock.

google_crc32c is as fast but holds the lock, so that two threads gain nothing from it. Here three parts of a block are
summed side by side, which hides the latency of the processor's instruction, and put together by linear algebra over
GF(2), as in Gopal et al. 2011, "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction" (Intel 323405).
Addresses are plain integers: who calls a kernel here answers for the memory.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from .compiled import compiled

UInt64 = npt.NDArray[np.uint64]

_REVERSED = 0x82F63B78  # the polynomial, bits reversed
_LONG, _SHORT = 4096, 256  # bytes of each of the three parts, while there are as many left
BLOCK = np.uint64(3 * _LONG)  # a sum of many bytes is fastest in parts of this size; two fit into a first-level cache
START = np.uint64(0xFFFFFFFF)  # what a sum begins with; its end is XORed with the same
_WORD = np.uint64(8)

_I64, _I32 = ir.IntType(64), ir.IntType(32)


def _instruction() -> str | None:
    """The LLVM name of the processor's instruction for eight bytes, or None where it has none."""
    features = config.CPU_FEATURES if config.CPU_FEATURES is not None else get_host_cpu_features()
    if "+sse4.2" in features.split(","):
        return "llvm.x86.sse42.crc32.64.64"
    return "llvm.aarch64.crc32cx" if "+crc" in features.split(",") else None


_NAME = _instruction()


@intrinsic
def load_word(typing: Any, address: Any) -> Any:
    """Eight bytes at an address, which need not be aligned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.load(builder.inttoptr(arguments[0], _I64.as_pointer()))
        word.align = 1
        return word

    return types.uint64(types.uint64), generate


@intrinsic
def load_byte(typing: Any, address: Any) -> Any:
    """The byte at an address, as a word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = builder.load(builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return builder.zext(byte, _I64)

    return types.uint64(types.uint64), generate


@intrinsic
def _add_by_instruction(typing: Any, crc: Any, word: Any) -> Any:
    """The sum after eight more bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        crc, word = arguments
        wide = _I64 if "x86" in str(_NAME) else _I32  # how the instruction takes the sum
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(wide, [wide, _I64]), _NAME)
        if wide is _I64:
            return builder.call(function, [crc, word])
        return builder.zext(builder.call(function, [builder.trunc(crc, _I32), word]), _I64)

    return types.uint64(types.uint64, types.uint64), generate


def _after_zeros(crc: int, count: int) -> int:
    """The sum after ``count`` zero bytes; linear in ``crc``."""
    for _ in range(8 * count):
        crc = (crc >> 1) ^ (_REVERSED if crc & 1 else 0)
    return crc


def _table(count: int) -> UInt64:
    """`_after_zeros` of each of a sum's four bytes: (4, 256), so that four look-ups are enough."""
    of_bit = [_after_zeros(1 << bit, count) for bit in range(32)]
    table = np.zeros((4, 256), dtype=np.uint64)
    for bit, value in enumerate(of_bit):
        has_bit = (np.arange(256) >> (bit % 8) & 1).astype(bool)
        table[bit // 8, has_bit] ^= np.uint64(value)
    return table


_AFTER_LONG, _AFTER_SHORT, _AFTER_BYTE = _table(_LONG), _table(_SHORT), _table(1)


@njit(nogil=True, inline="always")
def _moved(crc: np.uint64, table: UInt64) -> np.uint64:
    """The sum after the zero bytes of a `_table`."""
    low = np.uint64(255)
    return np.uint64(
        table[0, crc & low]
        ^ table[1, (crc >> np.uint64(8)) & low]
        ^ table[2, (crc >> np.uint64(16)) & low]
        ^ table[3, (crc >> np.uint64(24)) & low]
    )


@njit(nogil=True, inline="always")
def _add_byte(crc: np.uint64, byte: np.uint64) -> np.uint64:
    return (crc >> _WORD) ^ np.uint64(_AFTER_BYTE[0, (crc ^ byte) & np.uint64(255)])


@compiled
def _add_by_table(crc: np.uint64, word: np.uint64) -> np.uint64:
    for _ in range(8):
        crc = _add_byte(crc, word & np.uint64(255))
        word >>= _WORD
    return crc


_add_word = _add_by_table if _NAME is None else _add_by_instruction


@compiled
def add_bytes(crc: np.uint64, address: np.uint64, count: np.uint64) -> np.uint64:
    """The sum after ``count`` more bytes, which lie at an address."""
    end = address + count
    for part, table in ((np.uint64(_LONG), _AFTER_LONG), (np.uint64(_SHORT), _AFTER_SHORT)):
        while address + np.uint64(3) * part <= end:
            second, third = np.uint64(0), np.uint64(0)
            stop = address + part
            while address < stop:
                crc = _add_word(crc, load_word(address))
                second = _add_word(second, load_word(address + part))
                third = _add_word(third, load_word(address + part + part))
                address += _WORD
            crc = _moved(_moved(crc, table) ^ second, table) ^ third
            address += part + part
    while address + _WORD <= end:
        crc = _add_word(crc, load_word(address))
        address += _WORD
    while address < end:
        crc = _add_byte(crc, load_byte(address))
        address += np.uint64(1)
    return crc


@compiled
def _rows(address: np.uint64, stride: np.uint64, count: np.uint64, sums: npt.NDArray[np.uint32]) -> None:
    for row in range(len(sums)):
        sums[row] = add_bytes(START, address + np.uint64(row) * stride, count) ^ START


def crc32c_rows(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """CRC32C of each row: (n,), of bytes (n, byte). The rows may lie apart, the bytes of a row may not."""
    is_plain = rows.ndim == 2 and rows.dtype == np.uint8 and rows.strides[0] >= 0
    if not is_plain or (rows.size > 0 and rows.shape[1] > 1 and rows.strides[1] != 1):
        raise ValueError(f"expected rows of bytes that lie side by side, got {rows.dtype} with strides {rows.strides}")
    sums = np.empty(len(rows), dtype=np.uint32)
    _rows(np.uint64(rows.ctypes.data), np.uint64(rows.strides[0]), np.uint64(rows.shape[1]), sums)
    return sums

"""Unpack bzip2: all of a file, or only its first or last bytes.

A bzip2 stream is a row of blocks of up to 900,000 bytes, each with a checksum of its own and each to be unpacked
without the others. So the few rows of a frame that a neighbour's stamps need cost a block or two instead of fourteen.
Blocks begin at any bit; the format: https://github.com/dsnet/compress/blob/master/doc/bzip2-format.pdf.
"""

import io

BLOCK_BYTES = 900_000  # of a file packed with level 9, as frames are
BLOCK_MAGIC = 0x314159265359
END_MAGIC = 0x177245385090
_MAGIC_BITS = 48
_CRC_BITS = 32
_HEADER_BYTES = 4  # "BZh" and the block size


def unpack(content: bytes, size: int = -1) -> bytes:
    """The first ``size`` bytes of a bzip2 file (default: all); ValueError where it is damaged or cut short."""
    import indexed_bzip2

    if not content:
        raise ValueError("an empty file")
    try:
        # Its object aborts the interpreter at the end if it is left open, and never lets go of the stream it was given.
        with io.BytesIO(content) as stream, indexed_bzip2.open(stream, parallelization=1) as file:
            return bytes(file.read(size))
    except (RuntimeError, EOFError, OSError, ValueError) as err:
        raise ValueError(" ".join(str(err).split())) from err


def unpack_end(content: bytes, size: int) -> bytes:
    """At least the last ``size`` bytes that a one-stream bzip2 file holds: its last blocks, each checked.

    ValueError where these are damaged, or where the file is cut short or lacks a block.
    """
    blocks = 1 + size // BLOCK_BYTES
    starts, ends = _find(content, BLOCK_MAGIC), _find(content, END_MAGIC)
    if not starts or not ends or starts[-1] > ends[-1]:
        raise ValueError("no bzip2 block with an end")
    if _bits(content, ends[-1] + _MAGIC_BITS, _CRC_BITS) != _combined_crc(content, starts):
        raise ValueError("the checksum of its blocks' checksums is another")
    while True:
        unpacked = unpack(_stream(content, starts[-blocks:], ends[-1]))
        if len(unpacked) >= size or blocks >= len(starts):
            return unpacked
        blocks += 1


def _find(content: bytes, magic: int) -> list[int]:
    """Ascending bit offsets of a 48-bit pattern; where chance made it, in one frame of ten million, a CRC will fail."""
    found = []
    for shift in range(8):
        length = 7 if shift else 6
        pattern = (magic << (8 * length - _MAGIC_BITS - shift)).to_bytes(length, "big")
        inner = slice(1, -1) if shift else slice(None)
        at = content.find(pattern[inner])
        while at >= 0:
            first = 8 * (at - (inner.start or 0)) + shift
            if 0 <= first <= 8 * len(content) - _MAGIC_BITS and _bits(content, first, _MAGIC_BITS) == magic:
                found.append(first)
            at = content.find(pattern[inner], at + 1)
    return sorted(found)


def _bits(content: bytes, first: int, count: int) -> int:
    """``count`` bits from bit offset ``first``, as a number."""
    last = first + count
    if last > 8 * len(content):
        raise ValueError("it ends too early")
    window = int.from_bytes(content[first // 8 : -(-last // 8)], "big")
    return (window >> (-last % 8)) & ((1 << count) - 1)


def _stream(content: bytes, starts: list[int], end: int) -> bytes:
    """A bzip2 file of its own from neighbouring blocks: header, blocks, end mark, checksum of their checksums."""
    count = end - starts[0]
    body = _bits(content, starts[0], count)
    body = (body << _MAGIC_BITS | END_MAGIC) << _CRC_BITS | _combined_crc(content, starts)
    bits = count + _MAGIC_BITS + _CRC_BITS
    padding = -bits % 8
    return content[:_HEADER_BYTES] + (body << padding).to_bytes((bits + padding) // 8, "big")


def _combined_crc(content: bytes, starts: list[int]) -> int:
    """The checksum that stands behind the last of these blocks when they are all of a file."""
    combined = 0
    for start in starts:
        combined = ((combined << 1 | combined >> 31) & 0xFFFFFFFF) ^ _bits(content, start + _MAGIC_BITS, _CRC_BITS)
    return combined

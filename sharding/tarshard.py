"""One shard: a plain WebDataset tar whose samples all take the same number of bytes.

A record is ``{objid}.image.npy`` and ``{objid}.json``, each a 512-byte ustar header and its padded data. The JSON text
is filled up with blanks to one length a shard, so the pixels of row r lie at ``pixel_offset + r * record_bytes`` and
the mapped file is a strided array. Times, owners and modes are constants: the bytes depend on the samples alone.
"""

import io
import mmap
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
import numpy.typing as npt

from .errors import DatasetError

BLOCK = 512
END_OF_TAR = bytes(2 * BLOCK)
PIXEL_DTYPE = np.dtype("<f4")

Images = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in every record of a shard, in bytes."""

    image_shape: tuple[int, int, int]  # band, y, x
    json_bytes: int  # length of the JSON member, blanks included

    @property
    def npy_header(self) -> bytes:
        """The .npy preamble that stands before the pixels."""
        header = io.BytesIO()
        description = {"descr": PIXEL_DTYPE.str, "fortran_order": False, "shape": self.image_shape}
        np.lib.format.write_array_header_1_0(header, description)
        return header.getvalue()

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one image's pixels."""
        return int(np.prod(self.image_shape)) * PIXEL_DTYPE.itemsize

    @property
    def pixel_offset(self) -> int:
        """From the start of a record to its first pixel."""
        return BLOCK + len(self.npy_header)

    @property
    def record_bytes(self) -> int:
        """From one sample to the next."""
        npy = len(self.npy_header) + self.pixel_bytes
        return 2 * BLOCK + _padded(npy) + _padded(self.json_bytes)

    def preamble(self, key: str) -> bytes:
        """What stands before the pixels of a record: the tar header of its image and the .npy header."""
        return member_header(f"{key}.image.npy", len(self.npy_header) + self.pixel_bytes) + self.npy_header

    @property
    def image_bytes(self) -> int:
        """From the start of a record to the end of its image, padding included."""
        return BLOCK + _padded(len(self.npy_header) + self.pixel_bytes)

    def file_bytes(self, samples: int) -> int:
        """Size of a whole shard."""
        return samples * self.record_bytes + len(END_OF_TAR)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def member_header(name: str, size: int) -> bytes:
    """The ustar header of a member; nothing in it depends on when, where or by whom it is made."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def pixel_checksum(image: Images) -> int:
    """CRC32C of one image's little-endian float32 bytes."""
    return int(google_crc32c.value(np.ascontiguousarray(image, dtype=PIXEL_DTYPE).tobytes()))


class ShardWriter:
    """Append records to an open file; ``close`` writes the end of the archive.

    The caller gives the file (see `atomic.atomic_file`), so a shard is published whole or not at all.
    """

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        self._file = file
        self.layout = layout
        self.samples = 0

    def add(self, key: str, image: Images, label: bytes) -> tuple[int, int]:
        """Write one sample; returns the byte offset of its pixels and their CRC32C.

        ``key`` holds digits, letters, ``_`` and ``-`` only: a dot in it makes DALI return empty samples silently.
        """
        if image.shape != self.layout.image_shape:
            raise ValueError(f"sample {key}: image has shape {image.shape}, the shard {self.layout.image_shape}")
        if not key.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"sample key {key!r}: digits, letters, '_' and '-' only")
        pixels = np.ascontiguousarray(image, dtype=PIXEL_DTYPE).tobytes()
        offset = self.samples * self.layout.record_bytes + self.layout.pixel_offset
        self._member(f"{key}.image.npy", self.layout.npy_header + pixels)
        self._member(f"{key}.json", label.ljust(self.layout.json_bytes))
        self.samples += 1
        return offset, int(google_crc32c.value(pixels))

    def _member(self, name: str, data: bytes) -> None:
        self._file.write(member_header(name, len(data)))
        self._file.write(data.ljust(_padded(len(data)), b"\0"))

    def close(self) -> None:
        """End the archive."""
        self._file.write(END_OF_TAR)


def map_pixels(path: Path, layout: Layout, samples: int) -> Images:
    """The pixels of a shard as a read-only strided view of the mapped file: (sample, band, y, x).

    The size is checked first: reading past the end of a mapped file kills the process without an exception.
    """
    expected = layout.file_bytes(samples)
    try:
        actual = path.stat().st_size
        if actual != expected:
            raise DatasetError(f"{path}: expected {expected} bytes, got {actual}; verify it, then ingest again")
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as err:
        raise DatasetError(f"{path}: cannot be read ({err.strerror}); is the dataset whole?") from err
    _, height, width = layout.image_shape
    item = PIXEL_DTYPE.itemsize
    strides = (layout.record_bytes, height * width * item, width * item, item)
    shape = (samples, *layout.image_shape)
    return np.ndarray(shape, PIXEL_DTYPE, buffer=mapped, offset=layout.pixel_offset, strides=strides)


def json_length(labels: Sequence[bytes]) -> int:
    """The one length that the JSON members of a shard get: the longest text, in whole blocks."""
    return _padded(max((len(label) for label in labels), default=1))

"""How a shard is laid out in its file: records of one size, one after another, one a sample, then an end.

Two containers have one face, `Records`, so that one writer and one reader serve both. Here are bytes and places only;
files are opened elsewhere. The bytes depend on the samples alone: no time, no owner, no mode.
"""

import io
import re
import struct
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import google_crc32c
import numpy as np
import numpy.typing as npt

PIXEL_DTYPE = np.dtype("<f4")  # of pixels as measured; see `encoding` for the others

_BLOCK = 512
_NO_CHUNK = 2**64 - 1  # what the index of a Zarr shard says, twice, of an inner chunk that was not written
_NUMBER = re.compile(r"\d+")

ImageShape = tuple[int, int, int]  # band, y, x


class Records(Protocol):
    """The layout of every record of a shard, in bytes, and how one is made."""

    container: ClassVar[str]

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one image's pixels: little-endian, C order."""

    @property
    def pixel_offset(self) -> int:
        """From the start of a record to its first pixel."""

    @property
    def record_bytes(self) -> int:
        """From one sample to the next."""

    @property
    def trailer_bytes(self) -> int:
        """Length of what `trailer` gives."""

    def frame(self, key: str, pixels: bytes) -> tuple[bytes, bytes]:
        """What stands before and behind the pixels of a record, its label left out."""

    def encode(self, key: str, pixels: bytes, label: bytes) -> bytes:
        """One record. ``pixels`` has `pixel_bytes` bytes; a container without room for the label drops it."""

    def trailer(self, slots: Sequence[int]) -> bytes:
        """What ends the file; ``slots`` holds the place in the shard, from 0, of each record in file order."""

    def shard_name(self, number: int) -> str:
        """The shard's name in the dataset's folder, "/" between parts."""


@dataclass(frozen=True, slots=True)
class TarRecords:
    """Plain WebDataset: `{objid}.image.npy` and `{objid}.json`, each a 512-byte ustar header and its padded data.

    The JSON text is filled up with blanks to one length a shard: that is what makes the records equally long.
    """

    container: ClassVar[str] = "webdataset"

    image_shape: ImageShape
    json_bytes: int  # length of the JSON member, blanks included; see `json_length`
    dtype: np.dtype[Any] = PIXEL_DTYPE  # of the stored pixels

    @property
    def pixel_bytes(self) -> int:
        """See `Records`."""
        return _pixel_bytes(self.image_shape, self.dtype)

    @property
    def pixel_offset(self) -> int:
        """See `Records`."""
        return _BLOCK + len(self._npy_header)

    @property
    def record_bytes(self) -> int:
        """See `Records`."""
        npy = len(self._npy_header) + self.pixel_bytes
        return 2 * _BLOCK + _padded(npy) + _padded(self.json_bytes)

    @property
    def trailer_bytes(self) -> int:
        """See `Records`."""
        return 2 * _BLOCK

    @property
    def _npy_header(self) -> bytes:
        header = io.BytesIO()
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": self.image_shape}
        np.lib.format.write_array_header_1_0(header, description)
        return header.getvalue()

    def frame(self, key: str, pixels: bytes) -> tuple[bytes, bytes]:
        """The tar header of the image and its .npy header; the padding of its last block."""
        npy_header = self._npy_header
        size = len(npy_header) + len(pixels)
        return _member_header(f"{key}.image.npy", size) + npy_header, bytes(_padded(size) - size)

    def encode(self, key: str, pixels: bytes, label: bytes) -> bytes:
        """See `Records`. ValueError for a key that readers misread or a label that is too long.

        ``key`` holds digits, letters, ``_`` and ``-`` only: a dot in it makes DALI return empty samples silently.
        """
        if not key.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"sample key {key!r}: digits, letters, '_' and '-' only")
        if len(label) > self.json_bytes:
            raise ValueError(
                f"sample {key}: its label has {len(label)} bytes, the shard has room for {self.json_bytes}"
            )
        _check_pixels(self, key, pixels)
        before, behind = self.frame(key, pixels)
        text = label.ljust(self.json_bytes).ljust(_padded(self.json_bytes), b"\0")
        return b"".join((before, pixels, behind, _member_header(f"{key}.json", self.json_bytes), text))

    def trailer(self, slots: Sequence[int]) -> bytes:
        """The end of an archive, whatever it holds."""
        return bytes(self.trailer_bytes)

    def shard_name(self, number: int) -> str:
        """See `Records`."""
        return f"shards/{number:05d}.tar"


@dataclass(frozen=True, slots=True)
class ZarrRecords:
    """A shard of the Zarr v3 array `images`: one image an inner chunk with its CRC32C, then the index of the chunks.

    The codec is `sharding_indexed` (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed): the index
    holds offset and length of every slot, both 2**64 - 1 where there is none, and ends with its own CRC32C.
    """

    container: ClassVar[str] = "zarr"

    image_shape: ImageShape
    slots: int  # places of the shard, whether or not they hold a sample
    dtype: np.dtype[Any] = PIXEL_DTYPE  # of the stored pixels

    @property
    def pixel_bytes(self) -> int:
        """See `Records`."""
        return _pixel_bytes(self.image_shape, self.dtype)

    @property
    def pixel_offset(self) -> int:
        """See `Records`."""
        return 0

    @property
    def record_bytes(self) -> int:
        """See `Records`."""
        return self.pixel_bytes + 4

    @property
    def trailer_bytes(self) -> int:
        """See `Records`."""
        return 16 * self.slots + 4

    def frame(self, key: str, pixels: bytes) -> tuple[bytes, bytes]:
        """Nothing; the checksum of the inner chunk."""
        return b"", _crc32c_word(pixels)

    def encode(self, key: str, pixels: bytes, label: bytes) -> bytes:
        """See `Records`: the pixels and their checksum, neither key nor label."""
        _check_pixels(self, key, pixels)
        return pixels + _crc32c_word(pixels)

    def trailer(self, slots: Sequence[int]) -> bytes:
        """The index of the inner chunks and its checksum. ValueError for a slot outside the shard or used twice."""
        if len(set(slots)) != len(slots) or not all(0 <= slot < self.slots for slot in slots):
            raise ValueError(f"slots must be distinct and lie in [0, {self.slots}), got {list(slots)}")
        index = np.full((self.slots, 2), _NO_CHUNK, dtype="<u8")
        index[list(slots), 0] = np.arange(len(slots)) * self.record_bytes
        index[list(slots), 1] = self.record_bytes
        return with_crc32c(index.tobytes())

    def shard_name(self, number: int) -> str:
        """See `Records`."""
        return f"images.zarr/images/c/{number}/0/0/0"


def shard_number(name: str) -> int:
    """The number that `shard_name` put into a name."""
    found = _NUMBER.search(name)
    if found is None:
        raise ValueError(f"{name!r} is not the name of a shard")
    return int(found.group())


def file_bytes(records: Records, samples: int) -> int:
    """Size of the file of a shard that holds this many samples."""
    return samples * records.record_bytes + records.trailer_bytes


def json_length(labels: Sequence[bytes]) -> int:
    """The one length that the JSON members of a shard get: the longest text, in whole blocks."""
    return _padded(max((len(label) for label in labels), default=1))


def pixel_checksum(pixels: bytes | npt.NDArray[np.generic]) -> int:
    """CRC32C of one image's stored bytes; an array must be contiguous."""
    return int(google_crc32c.value(pixels))


def with_crc32c(content: bytes) -> bytes:
    """As Zarr's `crc32c` codec leaves a chunk: the checksum behind it, four bytes, little-endian."""
    return content + _crc32c_word(content)


def _crc32c_word(content: bytes) -> bytes:
    return struct.pack("<I", pixel_checksum(content))


def _pixel_bytes(shape: ImageShape, dtype: np.dtype[Any]) -> int:
    return shape[0] * shape[1] * shape[2] * dtype.itemsize


def _check_pixels(records: Records, key: str, pixels: bytes) -> None:
    if len(pixels) != records.pixel_bytes:
        raise ValueError(f"sample {key}: its pixels have {len(pixels)} bytes, those of the shard {records.pixel_bytes}")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _member_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)

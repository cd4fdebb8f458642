"""The same images in the containers that other people's loaders read: one HDF5 file, and tars as webdataset has them.

With each image comes its dust: as the published HDF5 files have it, five extinctions called `e_bv`, or E(B-V) itself.
"""

import io
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from augment.extinction import R_BAND
from ingest.extinction import LAWS

Images = npt.NDArray[np.float32]

IMAGE, EBV = "image.npy", "ebv.npy"  # endings of the names in a tar


def r_dr12(bands: tuple[str, ...]) -> Images:
    """A / E(B-V) of each band, as the extinctions of the published files have it: (band,)."""
    law = LAWS["Schlegel-Finkbeiner-Davis 1998"]
    return np.array([law[band] for band in bands], dtype=np.float32)


def r_band(bands: tuple[str, ...]) -> Images:
    """A / E(B-V) of each band that dust is taken away and put on with: (band,)."""
    return np.array([R_BAND[band] for band in bands], dtype=np.float32)


def write_hdf5(path: Path, images: Images, ebv: Images, bands: tuple[str, ...]) -> None:
    """`images` (n, band, y, x) and `e_bv` (n, band) [mag], each contiguous."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images)
        file.create_dataset("e_bv", data=ebv[:, None] * r_dr12(bands))


def write_tars(folder: Path, images: Images, ebv: Images, number: int) -> list[Path]:
    """Tars, ``number`` of them with as many samples each, of `IMAGE` and `EBV`; beside each DALI's index of it."""
    folder.mkdir()
    paths = [folder / f"{place:05d}.tar" for place in range(number)]
    for path, rows in zip(paths, np.array_split(np.arange(len(images)), number), strict=True):
        with tarfile.open(path, "w") as file:
            for row in rows.tolist():
                _add(file, f"{row:08d}.{IMAGE}", images[row])
                _add(file, f"{row:08d}.{EBV}", ebv[row : row + 1])
        _write_index(path)
    return paths


def index_of(tar: Path) -> Path:
    """Where DALI's index of a tar lies."""
    return tar.with_suffix(".idx")


def _write_index(tar: Path) -> None:
    """As DALI's wds2idx does it (v1.2): of each sample, extension, offset, size and name of its members."""
    with tarfile.open(tar) as file:
        words = [
            f"{member.name.partition('.')[2]} {member.offset_data} {member.size} {member.name}"
            for member in file.getmembers()
        ]
    samples = [f"{image} {ebv}\n" for image, ebv in zip(words[::2], words[1::2], strict=True)]
    index_of(tar).write_text(f"v1.2 {len(samples)}\n{''.join(samples)}")


def header_bytes(array: Images) -> int:
    """What stands before the numbers in the .npy file of such an array."""
    return len(_npy(array)) - array.nbytes


def _add(file: tarfile.TarFile, name: str, array: Images) -> None:
    content = _npy(array)
    info = tarfile.TarInfo(name)
    info.size = len(content)
    file.addfile(info, io.BytesIO(content))


def _npy(array: Images) -> bytes:
    memory = io.BytesIO()
    np.save(memory, array)
    return memory.getvalue()

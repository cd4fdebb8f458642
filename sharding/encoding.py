"""How pixels become stored numbers and pixels again: float32 as measured, float16, or int16 with dither.

What an encoding loses is measured elsewhere (`loss`), and where the bytes lie is the business of `records`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from .errors import DatasetError

Name = Literal["float32", "float16", "int16"]
NAMES: tuple[str, ...] = get_args(Name)

Images = npt.NDArray[np.float32]
Stored = npt.NDArray[np.generic]
Steps = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_DTYPE: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "int16": np.dtype("<i2")}
_BRIGHTEST = 1e38  # nanomaggy / pixel; near the end of float32 a decoded pixel could be infinite
_SMALLEST_STEP = float(np.finfo(np.float32).smallest_normal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """What the stored pixels of a dataset are."""

    name: Name = "float32"
    fraction: float = 0.0  # int16: smallest step / median stamp_sigma, the same for all bands; else 0
    step: dict[str, float] = field(default_factory=dict)  # int16: band -> smallest step [nanomaggy / pixel]
    loss: dict[str, Any] = field(default_factory=dict)  # as `loss.Loss.summary` measured it; {}: nothing was lost

    @classmethod
    def of(cls, name: Name, fraction: float, sigma: Mapping[str, float]) -> Self:
        """An encoding; int16 has the step ``fraction`` times the band's ``sigma``, rounded to float32.

        ``sigma`` [nanomaggy / pixel] is the median stamp_sigma of each band. DatasetError where that gives no step.
        """
        if name != "int16":
            return cls(name=name)
        step = {band: float(np.float32(fraction * value)) for band, value in sigma.items()}
        if bad := [band for band, value in step.items() if not _is_step(value)]:
            raise DatasetError(
                f"encoding int16: {fraction:g} of the noise {sigma[bad[0]]:g} of band {bad[0]} is no step; "
                "give another fraction or encoding"
            )
        return cls(name=name, fraction=fraction, step=step)

    @classmethod
    def check(cls, content: Mapping[str, Any], bands: Sequence[str]) -> Self:
        """The encoding that `dataset.json` holds; DatasetError where it makes no sense. {} is float32, as before it."""
        if content == {}:
            return cls()
        if not isinstance(content, Mapping) or set(content) != {entry.name for entry in fields(cls)}:
            raise DatasetError(f"encoding: expected name, fraction, step and loss, got {content!r:.80}")
        name, fraction, step, loss = (content[key] for key in ("name", "fraction", "step", "loss"))
        if name not in NAMES or not isinstance(step, dict) or not isinstance(loss, dict):
            raise DatasetError(f"encoding: expected {', '.join(NAMES)} with its steps and loss, got {name!r:.80}")
        is_int16 = name == "int16"
        if not isinstance(fraction, int | float) or not math.isfinite(fraction) or (fraction > 0) != is_int16:
            raise DatasetError(f"encoding {name}: the fraction {fraction!r} does not fit it")
        if set(step) != set(bands if is_int16 else ()) or not all(map(_is_step, step.values())):
            raise DatasetError(f"encoding {name}: the steps {step!r:.80} do not fit the bands {', '.join(bands)}")
        return cls(name=name, fraction=fraction, step=step, loss=loss)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of a stored pixel, little-endian."""
        return _DTYPE[self.name]

    @property
    def is_lossy(self) -> bool:
        """Whether decoding gives other pixels than were encoded."""
        return self.name != "float32"


def step_columns(bands: Sequence[str]) -> tuple[str, ...]:
    """The columns of `samples.parquet` that hold each sample's steps of int16, float32 [nanomaggy / pixel]."""
    return tuple(f"step_{band}" for band in bands)


def encode(images: Images, objid: Indices, encoding: Encoding, bands: Sequence[str]) -> tuple[Stored, Steps | None]:
    """What is stored for finite ``images`` (n, band, y, x) [nanomaggy / pixel], and int16's steps (n, band).

    The step of a sample and band is the band's smallest one times 2**k, with the least k for which all pixels fit.
    DatasetError, with the sample's name, where a pixel is not finite or does not fit into float16.
    """
    _refuse(~np.isfinite(images), objid, "a pixel is not finite: it cannot be encoded")
    if encoding.name == "int16":
        _refuse(np.abs(images) > _BRIGHTEST, objid, "a pixel is no flux (above 1e38): it cannot be encoded as int16")
        from .dither import dither_key, put_on  # numba: not where pixels are only looked up

        stored = np.empty(images.shape, dtype=encoding.dtype)
        step = np.tile(np.array([encoding.step[band] for band in bands], dtype=np.float32), (len(images), 1))
        put_on(_flat(images), dither_key(objid), step, _flat(stored))
        return stored, step
    with np.errstate(over="ignore"):  # refused below
        stored = images.astype(encoding.dtype)
    _refuse(np.isinf(stored), objid, "a pixel is brighter than float16 can hold (65504): take int16 or float32")
    return stored, None


def decode(stored: Stored, objid: Indices, step: Steps | None) -> Images:
    """Pixels (n, band, y, x) [nanomaggy / pixel] of what `encode` gave; float32 is given back as it is, not copied.

    The interpreter's lock is not held meanwhile, so threads may decode side by side.
    """
    if step is None:
        return np.asarray(stored, dtype=np.float32)
    from .dither import dither_key, take_off

    out = np.empty(stored.shape, dtype=np.float32)
    take_off(_flat(stored), dither_key(objid), np.ascontiguousarray(step), _flat(out))
    return out


def _flat(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view of (n, band, y, x) as (n, band, pixel)."""
    return np.ascontiguousarray(images).reshape(*images.shape[:2], math.prod(images.shape[2:]))


def _refuse(bad: npt.NDArray[np.bool_], objid: Indices, why: str) -> None:
    if bad.any():
        first = int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])
        raise DatasetError(f"sample {objid[first]}: {why}")


def _is_step(value: object) -> bool:
    """Whether it is a normal float32 number > 0, with room for doubling."""
    return isinstance(value, int | float) and _SMALLEST_STEP <= value < math.inf and float(np.float32(value)) == value

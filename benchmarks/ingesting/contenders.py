"""What races on one core: unpacking, a strip of ours by density and container, and others' ways to the same stamps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ingest.prepare import Format

from ..fields import DENSE, SPARSE, Fields
from ..installed import is_installed
from ..limits import BZIP2
from ..practice import Practice
from ..results import Limit, Param, Result
from ..timing import Contender
from ..unpacking import unpack
from .cutouts import reprojected_stamps
from .jobs import IMAGE_BYTES, Strip
from .swarp import program, swarp_of

UNPACKING = "ingest: unpacking"
ASTROPY, SWARP = (f"ingest: {peer}, {DENSE} a field" for peer in ("astropy and reproject", "SWarp"))
_CALLS = 10  # of SWarp in a step


def ours(density: int, container: Format = "webdataset") -> str:
    """Skymill's way, as results call it."""
    return f"ingest: skymill{' zarr' if container == 'zarr' else ''}, {density} a field"


def galaxies(name: str) -> str:
    """The same, told in galaxies."""
    return f"{name}, galaxies"


def missing_peers() -> dict[str, str]:
    """Peers that cannot be measured here, and why."""
    why = {}
    if not is_installed("reproject"):
        why["astropy and reproject"] = "reproject cannot be imported"
    if program() is None:
        why["SWarp"] = "no program SWarp or swarp is on the PATH"
    return why


@dataclass(frozen=True, slots=True)
class OneCore:
    """Contenders over the first fields. SWarp's counts stamps of one band: see `whole_frames`."""

    data: Practice
    fields: Fields

    def unpacking(self, number: int) -> Contender:
        """Unpack the frames of ``number`` fields."""
        paths = self._strip(SPARSE, number).paths()
        return Contender(
            name=UNPACKING,
            unit="frames/s",
            step=lambda: len([unpack(path) for path in paths]),
            warm_up=lambda: unpack(paths[0]),
            bytes_per_image=file_bytes(paths),
            params={"frames": len(paths), "threads": 1, "page_cache": "warm"},
            limit=Limit(BZIP2, frame_gb(paths[0])),
        )

    def ours(self, density: int, number: int, container: Format = "webdataset") -> Contender:
        """Cut and join a strip of ``number`` fields."""
        unpacking, strip = self.unpacking(number), self._strip(density, number, container)
        params = {**unpacking.params, "galaxies_per_field": density, "container": container}
        return replace(unpacking, name=ours(density, container), step=strip.cut, warm_up=None, params=params)

    def astropy(self, bands: int, objects: int = DENSE) -> Contender:
        """Make the stamps of a field's first objects from its frames of the first bands."""
        paths, ra, dec = self._strip(DENSE, 1).first_field()

        def step() -> int:
            reprojected_stamps(paths[:bands], ra[:objects], dec[:objects])
            return bands

        return replace(
            self.unpacking(1),
            name=ASTROPY,
            step=step,
            warm_up=lambda: reprojected_stamps(paths[:1], ra[:1], dec[:1]),
            params={"frames": bands, "galaxies_per_field": objects, "threads": 1, "page_cache": "warm"},
        )

    def swarp(self, calls: int = _CALLS) -> Contender:
        """Make the stamps of some objects from a frame that is unpacked already."""
        command = program()
        if command is None:
            raise FileNotFoundError("SWarp")
        (path, *_), ra, dec = self._strip(DENSE, 1).first_field()
        swarp = self.data.opened.enter_context(swarp_of(command, path, self.fields.frames.parent))
        params: dict[str, Param] = {"galaxies_per_field": DENSE, "calls": calls, "threads": 1, "page_cache": "warm"}
        return Contender(
            name=SWARP,
            unit="stamps/s",
            step=lambda: len([swarp.stamp(*place) for place in zip(ra[:calls], dec[:calls], strict=True)]),
            bytes_per_image=0,
            params=params,
        )

    def peers(self, bands: int) -> Iterator[Contender]:
        """Those that can be measured here."""
        missing = missing_peers()
        if "astropy and reproject" not in missing:
            yield self.astropy(bands)
        if "SWarp" not in missing:
            yield self.swarp()

    def _strip(self, density: int, number: int, container: Format = "webdataset") -> Strip:
        return Strip(self.fields, density, number, container)


def whole_frames(stamps: Result, unpacking: Result) -> Result:
    """SWarp's rate in frames: unpacking one, then a call for each object of the dense catalogue."""
    seconds = {name: DENSE / getattr(stamps, name) + 1 / unpacking.median for name in ("q25", "median", "q75")}
    return replace(
        unpacking,
        name=stamps.name,
        params=stamps.params,
        runs=stamps.runs,
        **{name: 1 / value for name, value in seconds.items()},
    )


def with_galaxies(result: Result, galaxies_per_frame: float) -> tuple[Result, Result]:
    """The same runs told in frames and in galaxies."""
    told = result.converted(galaxies(result.name), "images/s", galaxies_per_frame, bytes_per_image=IMAGE_BYTES)
    return result, told


def footing() -> Mapping[str, str]:
    """How the peers' work differs from ours."""
    return {
        "astropy and reproject": (
            "the same frames, objects and grids; an object at a time, bilinear where ours is Lanczos-3, with the full "
            "projection of every pixel; makes no noise estimate, no checksum and no dataset, and completes no stamp "
            "from the neighbouring field; quick runs take one of the five bands"
        ),
        "SWarp": (
            "the same frames, objects and grids, and Lanczos-3; one call for each object and band, as scripts use it, "
            f"its start included; {_CALLS} calls are timed and count with the time to unpack one frame, by "
            f"indexed_bzip2 since it reads no bz2, as one frame's {DENSE} calls; writes a FITS file and a weight map "
            "for each stamp, and no dataset"
        ),
    }


def file_bytes(paths: list[Path]) -> int:
    """Of a frame's file, on average."""
    return sum(path.stat().st_size for path in paths) // len(paths)


@cache
def frame_gb(path: Path) -> float:
    """Of a frame once it is unpacked: all have one size."""
    return unpack(path) / 1e9

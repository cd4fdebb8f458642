"""The peer of ingest that astronomers know best: stamps as SWarp makes them, one call for an object and band.

As ours: gnomonic projection about the object, Lanczos-3, flux conserved, no background taken off. It reads no bz2, so
frames are unpacked for it with indexed_bzip2.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ingest.register import SCALE_ARCSEC, SIZE

_OPTIONS = {
    "CENTER_TYPE": "MANUAL",
    "PIXELSCALE_TYPE": "MANUAL",
    "PIXEL_SCALE": f"{SCALE_ARCSEC:g}",
    "IMAGE_SIZE": f"{SIZE}",
    "RESAMPLING_TYPE": "LANCZOS3",
    "SUBTRACT_BACK": "N",
    "WRITE_XML": "N",
    "VERBOSE_TYPE": "QUIET",
    "NTHREADS": "1",
}


def program() -> str | None:
    """The command, where it is installed: Debian calls it SWarp, its makers swarp."""
    return shutil.which("SWarp") or shutil.which("swarp")


@dataclass(frozen=True, slots=True)
class Swarp:
    """Makes stamps of one frame. Made by `swarp_of`."""

    program: str
    frame: Path  # unpacked
    scratch: Path

    def stamp(self, ra_deg: float, dec_deg: float) -> Path:
        """The FITS file of an object's stamp, which the next one replaces; CalledProcessError where SWarp fails."""
        out, config = self.scratch / "stamp.fits", self.scratch / "empty.swarp"
        config.touch()  # else it says that it takes its defaults
        options = _OPTIONS | {
            "CENTER": f"{ra_deg:.10f},{dec_deg:.10f}",
            "IMAGEOUT_NAME": str(out),
            "WEIGHTOUT_NAME": str(self.scratch / "weight.fits"),
            "RESAMPLE_DIR": str(self.scratch),
        }
        arguments = [part for name, value in options.items() for part in (f"-{name}", value)]
        image = f"{self.frame}[0]"  # else it takes the frame's tables for images, too
        subprocess.run([self.program, image, "-c", str(config), *arguments], check=True, capture_output=True)
        return out


@contextmanager
def swarp_of(program: str, packed: Path, folder: Path) -> Iterator[Swarp]:
    """Unpack a frame, below ``folder`` and until the block ends, for SWarp."""
    import indexed_bzip2

    with TemporaryDirectory(dir=folder) as name:
        frame = Path(name) / "frame.fits"
        with indexed_bzip2.open(str(packed), parallelization=1) as file:
            frame.write_bytes(file.read())
        yield Swarp(program, frame, Path(name))

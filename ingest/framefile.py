"""Which frame of the survey, and its file as it came: what those who fetch and those who read agree on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Field:
    """One field of the survey."""

    run: int
    camcol: int
    field: int
    rerun: str

    def file_name(self, band: str) -> str:
        """Name of the frame without its suffix."""
        return f"frame-{band}-{self.run:06d}-{self.camcol}-{self.field:04d}"

    def beside(self, step: int) -> "Field":
        """The field ``step`` further along its run."""
        return Field(self.run, self.camcol, self.field + step, self.rerun)


@dataclass(frozen=True, slots=True)
class FrameFile:
    """A frame's file, as it came."""

    name: str  # without folder, such as frame-r-000094-1-0012.fits.bz2
    where: str  # path or URL, for messages
    content: bytes
    cached: bool  # it comes from the cache

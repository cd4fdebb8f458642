"""The frames of a strip, in the order in which the work goes along it: a field's own, and what its stamps need of the
fields before and after. Each is unpacked once; at a strip's ends, only the rows that are needed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt

from .errors import FrameError
from .framefile import Field, FrameFile
from .frames import Frame, read_frame
from .neighbours import read_rows, rows_touched
from .sources import Source
from .tables import SDSS_BANDS

Float64s = npt.NDArray[np.float64]
Parsed = TypeVar("Parsed")
Frames = dict[str, Frame]  # band -> frame; of a neighbour, those that there are

NO_FRAME = "no such frame"


@dataclass(slots=True)
class Tally:
    """What was read for a strip."""

    inputs: dict[str, tuple[int, int]] = field(default_factory=dict)  # frame's file name -> bytes, CRC32C
    frames: int = 0  # unpacked whole
    unpacked_bytes: int = 0  # for these
    again_frames: int = 0  # rows of them, for stamps that cross the strip's ends
    again_bytes: int = 0


class Window:
    """Frames of the fields ``order`` of one strip, which are asked for in that order.

    With ``go_on`` a damaged neighbour counts as one that is not there, and `damaged` says so.
    """

    def __init__(self, source: Source, order: Sequence[Field], *, go_on: bool = False) -> None:
        self.tally = Tally()
        self.survey = ""  # who made the frames
        self.damaged: dict[Field, str] = {}  # what is wrong with one of its frames
        self._go_on = go_on
        self._source = source
        self._next = dict(pairwise(order))
        self._order = frozenset(order)
        self._held: dict[Field, Frames | FrameError] = {}
        self._prefetch(order[:1])

    def own(self, field: Field) -> Frames:
        """All five frames of a field; FrameError where one is missing or damaged."""
        if field in self._next:
            self._prefetch([self._next[field]])
        try:
            return self._complete(field)
        except FrameError as err:
            self.damaged[field] = err.reason
            raise

    def beside(self, field: Field, ra_deg: Float64s, dec_deg: Float64s) -> Frames:
        """What there is of a neighbouring field, at least the rows that the stamps of these objects touch."""
        try:
            return self._whole(field) if field in self._order else self._ends(field, ra_deg, dec_deg)
        except FrameError as err:
            if not self._go_on:
                raise
            self.damaged[field] = err.reason
            return {}

    def done_with(self, field: Field, ra_deg: Float64s, dec_deg: Float64s) -> None:
        """Let go of a field and those before it, but for the rows that these objects of the next one touch."""
        held = self._held.get(field)
        ahead = field.beside(1)
        self._held = {ahead: self._held[ahead]} if ahead in self._held else {}
        if isinstance(held, dict) and ahead in self._order:
            self._held[field] = {band: _rows(frame, ra_deg, dec_deg) for band, frame in held.items()}

    def _complete(self, field: Field) -> Frames:
        frames = self._whole(field)
        for band in SDSS_BANDS:
            if band not in frames:
                name = field.file_name(band)
                archive = f"{field.rerun}/{field.run}/{field.camcol}/"
                places = f"flat, in {archive} or in boss/photoObj/frames/{archive}"
                detail = f"expected {name}.fits or .fits.bz2, {places}, found neither"
                todo = "check --frames, fetch it, or take the field out of the catalogue"
                raise FrameError(self._source.where, name, NO_FRAME, detail, todo)
        return frames

    def _ends(self, field: Field, ra_deg: Float64s, dec_deg: Float64s) -> Frames:
        frames = {}
        for band in SDSS_BANDS:
            found = self._parsed(field, band, partial(read_rows, ra_deg=ra_deg, dec_deg=dec_deg))
            if found is not None:
                frames[band], unpacked = found
                self.tally.again_frames += 1
                self.tally.again_bytes += unpacked
        return frames

    def _whole(self, field: Field) -> Frames:
        if field not in self._held:
            try:
                self._held[field] = dict(self._read(field))
            except FrameError as err:
                self._held[field] = err
        held = self._held[field]
        if isinstance(held, FrameError):
            raise held
        return held

    def _read(self, field: Field) -> Iterable[tuple[str, Frame]]:
        for band in SDSS_BANDS:
            frame = self._parsed(field, band, read_frame)
            if frame is not None:
                self.survey = frame.origin
                self.tally.frames += 1
                self.tally.unpacked_bytes += frame.image.nbytes
                yield band, frame

    def _parsed(self, field: Field, band: str, parse: Callable[[FrameFile, Field, str], Parsed]) -> Parsed | None:
        """A frame's file through ``parse``, fetched anew where it came over a network and is damaged; None: no file."""
        file = self._file(field, band)
        try:
            return parse(file, field, band) if file is not None else None
        except FrameError:
            if not self._source.fetches:
                raise
        self._source.forget(field, band)
        file = self._file(field, band)
        return parse(file, field, band) if file is not None else None

    def _file(self, field: Field, band: str) -> FrameFile | None:
        file = self._source.read(field, band)
        if file is not None:
            self.tally.inputs[file.name] = len(file.content), int(google_crc32c.value(file.content))
        return file

    def _prefetch(self, fields: Sequence[Field]) -> None:
        self._source.prefetch([(field, band) for field in fields for band in SDSS_BANDS])


def _rows(frame: Frame, ra_deg: Float64s, dec_deg: Float64s) -> Frame:
    low, _ = rows_touched(frame.wcs, frame.first_row + len(frame.image), ra_deg, dec_deg)
    low = max(low, frame.first_row)
    return Frame(frame.image[low - frame.first_row :].copy(), frame.wcs, frame.origin, low)

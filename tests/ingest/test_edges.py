"""The edge of a field: a run cut into fields gives the stamps of the uncut run."""

import bz2
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from ingest.errors import FrameError
from ingest.framefile import Field
from ingest.sources import SourceConfig, open_source
from ingest.stamps import Stamps, cut_stamps
from ingest.window import Window

WIDTH, ROWS, OVERLAP, FIELDS = 330, 430, 128, 4  # of a field; frames have 0.6 MB: six small bzip2 blocks
STEP = ROWS - OVERLAP
LENGTH = STEP * (FIELDS - 1) + ROWS
SHIFT = {"u": (7.3, -2.1), "g": (13.9, 1.4), "r": (0.0, 0.0), "i": (-3.6, -0.7), "z": (9.4, 2.2)}  # y, x
UNCUT = Field(78, 3, 1, "301")


def field_of_run(number: int) -> Field:
    """Field 11 is the first."""
    return Field(77, 3, 11 + number, "301")


def make_wcs(angle_deg: float, band: str, first_row: int) -> WCS:
    """One tangent plane for the whole run: what is cut off only moves its reference pixel."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [201.3, 41.7]
    shift_y, shift_x = SHIFT[band]
    wcs.wcs.crpix = [WIDTH / 2 + shift_x, LENGTH / 2 + shift_y - first_row]
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * 0.396 / 3600
    return wcs


def write_frame(folder: Path, field: Field, band: str, image: np.ndarray, wcs: WCS) -> None:
    """A frame with nothing but an image, packed."""
    header = wcs.to_header()
    header.update({"RUN": field.run, "CAMCOL": field.camcol, "FILTER": band, "ORIGIN": "CUT RUN"})
    path = folder / f"{field.file_name(band)}.fits"
    fits.PrimaryHDU(image.astype(np.float32), header=header).writeto(path)
    path.with_name(path.name + ".bz2").write_bytes(bz2.compress(path.read_bytes(), 1))
    path.unlink()


@dataclass(frozen=True)
class Run:
    """A run in fields and uncut, and objects all over it."""

    folder: Path
    ra: np.ndarray
    dec: np.ndarray
    number: np.ndarray  # of the field that each object belongs to, as SDSS assigns it: 64 rows from the ends

    def source(self) -> SourceConfig:
        return SourceConfig(root=str(self.folder))

    def stamps(self, order: Sequence[int]) -> dict[int, Stamps]:
        """The stamps of each field's objects, from a strip of the fields ``order``."""
        window = Window(open_source(self.source()), [field_of_run(n) for n in order])
        found = {}
        for n in order:
            here, ahead = self.number == n, self.number == n + 1
            (found[n],) = cut_stamps(window, field_of_run(n), self.ra[here], self.dec[here])
            assert len(found[n].images) == here.sum()
            window.done_with(field_of_run(n), self.ra[ahead], self.dec[ahead])
        return found

    def uncut(self) -> dict[int, Stamps]:
        """The same from the run in one piece."""
        window = Window(open_source(self.source()), [UNCUT])
        found = {}
        for n in range(FIELDS):
            here = self.number == n
            (found[n],) = cut_stamps(window, UNCUT, self.ra[here], self.dec[here])
        return found


@pytest.fixture(scope="module", params=[30.0, 45.0])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Noise and sources; 40 objects a field, so that dozens of stamps cross its ends."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(7)
    y, x = rng.uniform(64, LENGTH - 64, 160), rng.uniform(60, WIDTH - 60, 160)
    ra, dec = make_wcs(request.param, "r", 0).wcs_pix2world(x, y, 0)
    for band in "ugriz":
        image = rng.normal(0, 0.02, (LENGTH, WIDTH)).astype(np.float32)
        write_frame(folder, UNCUT, band, image, make_wcs(request.param, band, 0))
        for number in range(FIELDS):
            rows = slice(number * STEP, number * STEP + ROWS)
            wcs = make_wcs(request.param, band, number * STEP)
            write_frame(folder, field_of_run(number), band, image[rows], wcs)
    return Run(folder, ra, dec, np.clip((y - OVERLAP / 2) // STEP, 0, FIELDS - 1).astype(int))


@pytest.fixture(scope="module")
def strip(run: Run) -> dict[int, Stamps]:
    """The stamps of the whole run as one strip; read only."""
    return run.stamps(range(FIELDS))


@pytest.fixture(scope="module")
def of_uncut(run: Run) -> dict[int, Stamps]:
    return run.uncut()


@pytest.mark.parametrize("number", range(FIELDS))
def test_a_cut_run_gives_the_stamps_of_the_uncut_one(
    strip: dict[int, Stamps], of_uncut: dict[int, Stamps], number: int
) -> None:
    ours, uncut = strip[number], of_uncut[number]
    np.testing.assert_array_equal(ours.covered, uncut.covered)
    # Reference pixels that differ by whole rows: positions agree to 1e-9 px, pixels to single precision's rounding.
    np.testing.assert_allclose(ours.images, uncut.images, atol=1e-7)
    inner = number in range(1, FIELDS - 1)
    assert not inner or ours.crosses.any(axis=1).all()  # both ends are crossed, so the test can fail


def test_without_neighbours_stamps_at_the_ends_are_not_whole(run: Run, tmp_path: Path) -> None:
    for path in run.folder.glob(f"{field_of_run(1).file_name('?')}*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    here = run.number == 1
    window = Window(open_source(SourceConfig(root=str(tmp_path))), [field_of_run(1)])
    (alone,) = cut_stamps(window, field_of_run(1), run.ra[here], run.dec[here])
    whole = run.stamps([0, 1, 2])[1]
    lacking = alone.covered.min(axis=1) < 1
    assert (lacking & (whole.covered.min(axis=1) == 1)).sum() >= 3
    np.testing.assert_array_equal(alone.images[~lacking], whole.images[~lacking])


@pytest.mark.parametrize("order", [[1], [1, 2], [0, 1]])
def test_where_a_strip_ends_makes_no_difference(run: Run, strip: dict[int, Stamps], order: list[int]) -> None:
    whole, part = strip[1], run.stamps(order)[1]
    for name in ("images", "covered", "sky_sigma", "crosses"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))


def test_an_object_whole_in_a_neighbour_is_taken_from_there(run: Run) -> None:
    """Objects of field 2 that are listed under field 1, in whose frame they are not whole."""
    here = np.flatnonzero(run.number == 2)
    window = Window(open_source(run.source()), [field_of_run(1)])
    (ours,) = cut_stamps(window, field_of_run(1), run.ra[here], run.dec[here])
    (own,) = cut_stamps(
        Window(open_source(run.source()), [field_of_run(2)]), field_of_run(2), run.ra[here], run.dec[here]
    )
    whole = (own.covered == 1).all(axis=1) & ~own.crosses.any(axis=0) & ours.crosses[1]
    assert whole.sum() >= 5
    np.testing.assert_array_equal(ours.images[whole], own.images[whole])


def test_a_damaged_neighbour_stops_or_counts_as_absent(run: Run, tmp_path: Path) -> None:
    for number in (0, 1):
        for path in run.folder.glob(f"{field_of_run(number).file_name('?')}*"):
            content = path.read_bytes()
            cut = len(content) // 2 if path.name.startswith("frame-i") and number == 0 else None
            (tmp_path / path.name).write_bytes(content[:cut])
    here = run.number == 1
    source, order = open_source(SourceConfig(root=str(tmp_path))), [field_of_run(1)]
    with pytest.raises(FrameError, match=r"frame-i-000077-3-0011\.fits\.bz2: not a whole bzip2 file"):
        list(cut_stamps(Window(source, order), field_of_run(1), run.ra[here], run.dec[here]))
    window = Window(source, order, go_on=True)
    list(cut_stamps(window, field_of_run(1), run.ra[here], run.dec[here]))
    assert window.damaged == {field_of_run(0): "frame-i-000077-3-0011.fits.bz2: not a whole bzip2 file"}


def test_only_the_rows_that_are_needed_are_unpacked_again(run: Run) -> None:
    here = run.number == 1
    window = Window(open_source(run.source()), [field_of_run(1)])
    list(cut_stamps(window, field_of_run(1), run.ra[here], run.dec[here]))
    assert (window.tally.frames, window.tally.again_frames) == (5, 10)
    assert {name.split("-")[-1] for name in window.tally.inputs} == {f"00{n}.fits.bz2" for n in (11, 12, 13)}

"""The ingest benchmark: its frames are what ingest takes, what it times is the whole work, its peers do the same."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmarks import Contender, Result, jobs
from benchmarks.cutouts import reprojected_stamps
from benchmarks.fields import DENSE, SPARSE, Fields, make_fields
from benchmarks.jobs import JobRun, Strip, run_job
from benchmarks.stages import ingest
from benchmarks.timing import summary
from benchmarks.unpacking import unpack, unpackers
from ingest.framefile import Field
from ingest.frames import read_frame
from ingest.register import affine_fits, resample
from ingest.simulate.conditions import sky_noise
from ingest.simulate.geometry import STRIPS
from ingest.sources import SourceConfig, open_source
from ingest.tables import SDSS_BANDS

IMAGE_BYTES = 4 * 1489 * 2048  # of one frame
MADE = Field(run=STRIPS[1].run, camcol=STRIPS[1].camcol, field=STRIPS[1].first_field, rerun="301")


@pytest.fixture(scope="module")
def one_field(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    """As the benchmark makes its eight."""
    return make_fields(tmp_path_factory.mktemp("fields"), number=1)


@pytest.fixture(scope="module")
def few(one_field: Fields, tmp_path_factory: pytest.TempPathFactory) -> Fields:
    """The same with a dense catalogue of six galaxies only."""
    catalog = tmp_path_factory.mktemp("few") / "catalog.parquet"
    pa.parquet.write_table(pa.parquet.read_table(one_field.catalogs[DENSE]).slice(0, 6), catalog)
    return Fields(one_field.frames, {**one_field.catalogs, DENSE: catalog})


@pytest.fixture
def data(few: Fields) -> SimpleNamespace:
    return SimpleNamespace(fields=few, say=lambda text: None)


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> list[Contender]:
    """Nothing is run: contenders make 2 frames/s, jobs 2.5; returns the contenders, once the stage has run."""
    contenders: list[Contender] = []

    def race(some: Sequence[Contender], *, rounds: int) -> tuple[Result, ...]:
        contenders.extend(some)
        return tuple(summary(each.name, each.unit, [2.0], each.bytes_per_image, each.params) for each in some)

    job = JobRun(frames=10, galaxies=600, again_bytes=1, unpacked_bytes=20, seconds=4.0, worker_peak_mb=400.4,
                 worker_growth=1.01)  # fmt: skip
    monkeypatch.setattr(ingest, "race", race)
    monkeypatch.setattr(ingest, "run_job", lambda *_: job)
    idle = SimpleNamespace(seconds=lambda paths: 4.0)
    monkeypatch.setattr(ingest, "unpackers", lambda *_, **__: nullcontext(idle))
    return contenders


def test_ingest_reads_its_frames_and_finds_the_sky_and_the_sources(one_field: Fields):
    source = open_source(SourceConfig(root=str(one_field.frames)))
    frames = {}
    for band in SDSS_BANDS:
        file = source.read(MADE, band)
        assert file is not None
        frames[band] = read_frame(file, MADE, band)
    catalog = pa.parquet.read_table(one_field.catalogs[DENSE])
    for band, frame in frames.items():
        assert frame.image.shape == (1489, 2048)
        # Cut at 3 sigma, where a normal's deviation is 0.987 of itself; sources on 1 % of the pixels add some.
        expected = sky_noise(STRIPS[1], band)
        noise = frame.image[np.abs(frame.image) < 3 * expected]
        assert noise.std() == pytest.approx(0.987 * expected, rel=0.03)
        x, y = frame.wcs.wcs_world2pix(catalog["ra"][-1:].to_numpy(), catalog["dec"][-1:].to_numpy(), 0)
        patch = frame.image[round(y[0]) - 6 : round(y[0]) + 7, round(x[0]) - 6 : round(x[0]) + 7]
        # The brightest, 100 nanomaggies: noise of 13 x 13 pixels is 2.6 at most (z), the wings left out 0.2.
        assert patch.sum() == pytest.approx(100, abs=5 * 2.6 + 5)


def test_the_sparse_catalogue_is_the_beginning_of_the_dense_one(one_field: Fields):
    sparse, dense = (pa.parquet.read_table(one_field.catalogs[density]) for density in (SPARSE, DENSE))
    assert (sparse.num_rows, dense.num_rows) == (2, 300)
    assert dense.slice(0, 2).equals(sparse)
    assert len(set(dense["objid"].to_pylist())) == 300


def test_a_strip_is_cut_and_joined_whole(few: Fields, monkeypatch: pytest.MonkeyPatch):
    join, shards = jobs.join_shard, []
    monkeypatch.setattr(jobs, "join_shard", lambda *arguments: shards.append(join(*arguments)))
    strip = Strip(few, DENSE)
    assert strip.cut() == len(strip.paths()) == 5
    assert [entry.samples for entry in shards] == [6]
    assert {path.name for path in few.frames.parent.iterdir()} == {"frames", "catalog-2.parquet", "catalog-300.parquet"}


def test_unpacking_gives_whole_files(few: Fields):
    """A frame's tables add 240 kB to its image of 12.2 MB."""
    paths = Strip(few, SPARSE).paths()
    assert all(IMAGE_BYTES < unpack(path) < 1.05 * IMAGE_BYTES for path in paths)
    with unpackers(1, warm_up=paths[:1]) as processes:
        assert processes.seconds(paths[:1]) > 0


def test_every_rate_is_told_in_frames_and_in_galaxies(data: SimpleNamespace, untimed: list[Contender]):
    report = ingest.run(data)
    found = {result.name: result for result in report.results}
    ours, told = found["ingest: skymill, 300 a field"], found["ingest: skymill, 300 a field, galaxies"]
    assert (ours.unit, told.unit, report.own) == ("frames/s", "images/s", told.name)
    assert told.median == pytest.approx(2.0 * 6 / 5)  # six galaxies on five frames
    assert found["ingest: skymill, 2 a field, galaxies"].median == pytest.approx(2.0 * 2 / 5)
    assert (ours.bytes_per_image, told.bytes_per_image) == (found["ingest: unpacking"].bytes_per_image, 5 * 107**2 * 4)
    of_job = found["ingest: skymill, 300 a field, 2 workers"]
    assert (of_job.median, of_job.params["worker_peak_mb"], of_job.params["unpacked_again"]) == (2.5, 400, 0.05)
    assert found["ingest: skymill, 300 a field, 2 workers, galaxies"].median == 2.5 * 600 / 10
    assert {
        "ingest: unpacking / ingest: skymill, 2 a field",
        "ingest: unpacking / ingest: skymill, 300 a field",
        "ingest: skymill, 300 a field, 2 workers / ingest: skymill, 300 a field, 1 worker",
    } <= set(report.ratios())


def test_the_peer_gets_the_frames_and_objects_of_one_field(
    data: SimpleNamespace, untimed: list[Contender], monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr(ingest.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(ingest, "reprojected_stamps", lambda *arguments: asked.append(arguments))
    report = ingest.run(data)
    assert untimed[-1].step() == 5
    (paths, ra, dec), strip = asked[0], Strip(data.fields, DENSE)
    assert paths == strip.paths()
    assert (ra.tolist(), dec.tolist()) == (strip.objects.ra_deg.tolist(), strip.objects.dec_deg.tolist())
    assert f"{ingest.OURS[DENSE]} / {ingest.ASTROPY}" in report.ratios()


def test_a_peer_that_is_not_installed_is_left_out(
    data: SimpleNamespace, untimed: list[Contender], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest.importlib.util, "find_spec", lambda name: None)
    report = ingest.run(data)
    assert report.left_out == ("reproject",)
    assert not any("astropy" in name for name in report.ratios())


@pytest.mark.slow
def test_a_whole_job_is_counted(few: Fields):
    job = run_job(few, DENSE, 1)
    assert (job.frames, job.galaxies, job.again_bytes) == (5, 6, 0)
    assert job.unpacked_bytes == 5 * IMAGE_BYTES
    assert 0 < job.seconds < 60
    assert 100 < job.worker_peak_mb < 2000  # Python, NumPy, Arrow, numba, astropy and Ray alone take 187


def test_the_peer_makes_the_same_stamps(survey_data: Path):
    """Two bright isolated galaxies in r: fluxes within 8 px of linear and Lanczos-3 interpolation agree to 1 %."""
    pytest.importorskip("reproject")
    folder = survey_data / "sdss" / "000094-1-0012"
    catalog = np.genfromtxt(folder / "galaxies.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    names = {name.lower(): name for name in catalog.dtype.names}
    bright = np.isin(catalog[names["objid"]], [1237645876861337788, 1237645876861337742])
    ra, dec = (np.asarray(catalog[names[name]][bright], dtype=np.float64) for name in ("ra", "dec"))
    assert len(ra) == 2
    field = Field(94, 1, 12, "301")
    file = open_source(SourceConfig(root=str(folder))).read(field, "r")
    assert file is not None
    theirs = reprojected_stamps([Path(file.where)], ra, dec)[:, 0]
    frame = read_frame(file, field, "r")
    ours = np.empty_like(theirs)
    resample(frame.image, 0, *affine_fits(frame.wcs, ra, dec), ours, np.empty(2))
    y, x = np.mgrid[:107, :107] - 53
    flux, expected = (images[:, np.hypot(y, x) < 8].sum(axis=-1) for images in (theirs, ours))
    np.testing.assert_allclose(flux, expected, rtol=0.01)

"""Fields for the ingest benchmark: frames that ingest takes, objects in their own fields, two densities of one sky."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmarks import fields as made
from ingest.framefile import Field
from ingest.frames import read_frame
from ingest.simulate.conditions import sky_noise
from ingest.simulate.geometry import STRIPS
from ingest.sources import SourceConfig, open_source
from ingest.tables import SDSS_BANDS

FIELD = Field(run=STRIPS[1].run, camcol=STRIPS[1].camcol, field=STRIPS[1].first_field, rerun="301")


@pytest.fixture(scope="module")
def one_field(tmp_path_factory: pytest.TempPathFactory) -> made.Fields:
    return made.make_fields(tmp_path_factory.mktemp("fields"), number=1)


def test_ingest_reads_its_frames_and_finds_the_sky_and_the_sources(one_field: made.Fields):
    source = open_source(SourceConfig(root=str(one_field.frames)))
    frames = {}
    for band in SDSS_BANDS:
        file = source.read(FIELD, band)
        assert file is not None
        frames[band] = read_frame(file, FIELD, band)
    catalog = pa.parquet.read_table(one_field.catalogs[made.DENSE])
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


def test_the_sparse_catalogue_is_the_beginning_of_the_dense_one(one_field: made.Fields):
    sparse, dense = (pa.parquet.read_table(one_field.catalogs[density]) for density in (made.SPARSE, made.DENSE))
    assert (sparse.num_rows, dense.num_rows) == (2, 300)
    assert dense.slice(0, 2).equals(sparse)
    assert len(set(dense["objid"].to_pylist())) == 300

"""Catalogues of every format, their selection, and the extinction law they follow."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy.table import Table

from ingest.catalog import Catalog, read_catalog
from ingest.errors import IngestError
from ingest.extinction import LAWS, recognise_law, reddening
from ingest.selection import SelectionConfig, select

COLUMNS = {
    "objID": [1237645876861337613, 1237645876861338292],
    "ra": [10.5, 11.5],
    "dec": [-1.0, 1.0],
    "run": [94, 94],
    "camcol": [1, 1],
    "field": [12, 13],
    "psfFWHM_u": [1.5, 1.6],
    "Redshift": [0.1, 0.2],
    "z": [17.0, 18.0],
}


def _write(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    else:
        Table(table.to_pydict()).write(path)
    return path


@pytest.mark.parametrize("name", ["c.csv", "c.parquet", "c.fits"])
def test_every_format_gives_the_same_catalogue(tmp_path: Path, name: str) -> None:
    catalog = read_catalog(_write(pa.table(COLUMNS), tmp_path / name))
    assert catalog.table["objid"].to_pylist() == COLUMNS["objID"]  # beyond 2**53: a float would round it
    assert catalog.table["objid"].type == pa.int64()
    assert catalog.table["psf_fwhm_u"].to_pylist() == [1.5, 1.6]
    assert catalog.table["specz"].to_pylist() == [0.1, 0.2]
    assert catalog.table["z"].to_pylist() == [17.0, 18.0]  # a band, not a redshift
    assert catalog.table["rerun"].to_pylist() == ["301", "301"]


@pytest.mark.parametrize("column", ["objID", "ra", "dec", "run", "camcol", "field"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    table = pa.table(COLUMNS).drop_columns([column])
    with pytest.raises(IngestError, match=f"expected a column {column.lower()}"):
        read_catalog(_write(table, tmp_path / "c.csv"))


def test_an_objid_that_was_a_float_is_refused(tmp_path: Path) -> None:
    table = pa.table(COLUMNS | {"objID": [1.2376458768613376e18, 1.2376458768613382e18]})
    with pytest.raises(IngestError, match="objid holds floats"):
        read_catalog(_write(table, tmp_path / "c.parquet"))


def test_two_columns_of_one_meaning_are_refused(tmp_path: Path) -> None:
    table = pa.table(COLUMNS | {"specz": [0.1, 0.2], "spec_z": [0.1, 0.3]})
    with pytest.raises(IngestError, match="specz and spec_z both mean specz"):
        read_catalog(_write(table, tmp_path / "c.csv"))


def test_an_empty_catalogue_and_junk_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="no rows"):
        read_catalog(_write(pa.table(COLUMNS).slice(0, 0), tmp_path / "c.csv"))
    (tmp_path / "junk.parquet").write_bytes(b"junk" * 100)
    with pytest.raises(IngestError, match=r"not a readable \.parquet table") as caught:
        read_catalog(tmp_path / "junk.parquet")
    assert "\n" not in str(caught.value)
    with pytest.raises(IngestError, match=r"is \.csv, \.parquet or \.fits"):
        read_catalog(tmp_path / "c.txt")


def test_photoobj_gives_its_327_galaxies(survey_data: Path) -> None:
    catalog = read_catalog(survey_data / "sdss/000094-1-0012/photoObj-000094-1-0012.fits")
    assert catalog.is_photoobj
    selected, steps = select(catalog, SelectionConfig())
    expected = pa.csv.read_csv(survey_data / "sdss/000094-1-0012/galaxies.csv")["objid"].to_pylist()
    assert sorted(selected.table["objid"].to_pylist()) == sorted(expected)
    assert len(catalog) - sum(step.removed for step in steps) == 327
    # Medians of PSF_FWHM by data/README.md, for the primary and secondary galaxies' neighbourhood.
    np.testing.assert_allclose(
        np.median(selected.per_band("psf_fwhm"), axis=0), [1.66, 1.61, 1.47, 1.53, 1.64], atol=0.03
    )


@pytest.mark.parametrize(("dereddened", "count"), [(False, 56), (True, 64)])
def test_the_magnitude_cut(survey_data: Path, dereddened: bool, count: int) -> None:
    catalog = read_catalog(survey_data / "sdss/000094-1-0012/photoObj-000094-1-0012.fits")
    selected, _ = select(catalog, SelectionConfig(max_petro_r=20, dereddened=dereddened))
    assert len(selected) == count


def _photoobj(thing: list[int], mode: list[int], objid: list[int], magnitude: list[float]) -> Catalog:
    n = len(thing)
    columns = {"objid": objid, "thing_id": thing, "mode": mode, "objc_type": [3] * n, "petromag_r": magnitude}
    return Catalog(Path("p.fits"), pa.table(columns), is_photoobj=True)


def test_one_observation_a_thing_id_primary_first() -> None:
    catalog = _photoobj([7, 7, 7, -1, -1, 8], [2, 1, 2, 1, 1, 2], [1, 2, 3, 4, 5, 6], [17.0] * 6)
    selected, steps = select(catalog, SelectionConfig())
    assert selected.table["objid"].to_pylist() == [2, 4, 5, 6]  # THING_ID -1 identifies nothing
    assert steps[-1].removed == 2
    everything, _ = select(catalog, SelectionConfig(keep_repeats=True))
    assert len(everything) == 6


def test_a_missing_magnitude_never_passes_the_cut() -> None:
    catalog = _photoobj([1, 2, 3], [1, 1, 1], [1, 2, 3], [-9999.0, 17.0, float("nan")])
    selected, _ = select(catalog, SelectionConfig(max_petro_r=17.8))
    assert selected.table["objid"].to_pylist() == [2]


def test_a_selection_that_leaves_nothing_says_why() -> None:
    catalog = _photoobj([1], [1], [1], [19.0])
    with pytest.raises(IngestError, match=r"none of its 1 rows is left \(.*petroMag_r missing or above 17 removed 1"):
        select(catalog, SelectionConfig(max_petro_r=17))


@pytest.mark.parametrize("law", LAWS)
def test_either_law_gives_back_its_ebv(law: str) -> None:
    ebv = np.array([0.02, 0.05, 0.3])
    extinction = ebv[:, None] * np.array([LAWS[law][band] for band in "ugriz"])
    found = reddening(None, extinction, "c.csv")
    assert found.law == law
    np.testing.assert_allclose(found.ebv_sfd, ebv, rtol=1e-12)


def test_the_real_catalogue_follows_the_law_of_dr12(survey_data: Path) -> None:
    catalog = read_catalog(survey_data / "sdss/000094-1-0012/galaxies.csv")
    found = reddening(catalog.array("ebv_sfd"), catalog.per_band("extinction"), "galaxies.csv")
    assert found.law == "Schlegel-Finkbeiner-Davis 1998"
    # A_r spans 0.148 to 0.177 mag (data/README.md) and R_r is 2.751.
    assert 0.148 / 2.751 - 1e-3 < found.ebv_sfd.min() < found.ebv_sfd.max() < 0.177 / 2.751 + 1e-3


def test_extinctions_of_no_law_or_of_two_are_refused() -> None:
    with pytest.raises(IngestError, match=r"A_g / A_r is 1.200"):
        recognise_law(np.array([[0.0, 0.12, 0.1, 0.0, 0.0]]), "c.csv")
    mixed = np.array(
        [0.1 * np.array(list(r.values())) for r in LAWS.values()] + [[0.5155, 0.3793, 0.2751, 0.2, 0.1]] * 8
    )
    with pytest.raises(IngestError, match="1 of 10 rows follow another extinction law"):
        recognise_law(mixed, "c.csv")


def test_ebv_of_the_catalogue_wins_and_its_absence_is_an_error() -> None:
    r = np.array(list(LAWS["Schlafly-Finkbeiner 2011"].values()))
    given = reddening(np.array([0.1, np.nan]), np.array([0.3 * r, 0.2 * r]), "c.csv")
    np.testing.assert_allclose(given.ebv_sfd, [0.1, 0.2])  # the second row has none of its own
    assert given.law == "Schlafly-Finkbeiner 2011"
    np.testing.assert_array_equal(reddening(np.array([0.1, np.nan]), None, "c.csv").ebv_sfd, [0.1, np.nan])
    with pytest.raises(IngestError, match="no column ebv_sfd and no extinction"):
        reddening(None, None, "c.csv")


def test_one_band_that_contradicts_the_others_is_refused_and_a_missing_one_is_missing() -> None:
    extinction = 0.05 * np.array([list(LAWS["Schlegel-Finkbeiner-Davis 1998"].values())] * 3)
    extinction[1, 4] = -9999
    np.testing.assert_allclose(reddening(None, extinction, "c.csv").ebv_sfd, [0.05, np.nan, 0.05])
    extinction[2, 0] = 9.0
    with pytest.raises(IngestError, match=r"extinction_. is .* in row 2"):
        reddening(None, extinction, "c.csv")


def test_whole_numbers_that_became_floats_are_taken_where_that_is_exact(tmp_path: Path) -> None:
    table = pa.table(COLUMNS | {"run": [94.0, 94.0], "thing_id": [7.0, None]})
    catalog = read_catalog(_write(table, tmp_path / "c.parquet"))
    assert (catalog.table["run"].to_pylist(), catalog.table["thing_id"].to_pylist()) == ([94, 94], [7, None])
    with pytest.raises(IngestError, match="run holds floats"):
        read_catalog(_write(pa.table(COLUMNS | {"run": [94.0, 94.5]}), tmp_path / "c.parquet"))

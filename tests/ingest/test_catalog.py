"""Catalogues of every format, their selection, and the extinction law they follow."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy.table import Table

import ingest.catalog
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


@pytest.mark.parametrize("name", ["c.csv", "c.parquet"])
def test_a_column_given_twice_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    table = pa.table(COLUMNS)
    twice = pa.Table.from_arrays([*table.columns, table["ra"]], names=[*table.column_names, "ra"])
    with pytest.raises(IngestError, match=r"\bra\b") as caught:
        read_catalog(_write(twice, tmp_path / name))
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("name", ["c.csv", "c.parquet", "c.fits"])
def test_minus_9999_is_missing_in_floats_and_in_two_integers(tmp_path: Path, name: str) -> None:
    columns = {
        "petroMag_r": [-9999.0, 17.5],
        "ebv_sfd": [0.1, -9999.0],
        "thing_id": [-9999, 7],
        "Redshift": [-9999, 1],  # whole numbers
        "height_m": [-9999, 3],  # an integer of somebody's own: it may mean what it says
    }
    table = read_catalog(_write(pa.table(COLUMNS | columns), tmp_path / name)).table
    assert table["petroMag_r"].to_pylist() == [None, 17.5]
    assert table["ebv_sfd"].to_pylist() == [0.1, None]
    assert table["thing_id"].to_pylist() == [None, 7]
    assert table["specz"].to_pylist() == [None, 1.0]
    assert table["height_m"].to_pylist() == [-9999, 3]


def test_float32_keeps_its_type_and_loses_minus_9999(tmp_path: Path) -> None:
    table = pa.table(COLUMNS | {"sersic": pa.array([-9999.0, 2.5], pa.float32())})
    column = read_catalog(_write(table, tmp_path / "c.parquet")).table["sersic"]
    assert (column.type, column.to_pylist()) == (pa.float32(), [None, 2.5])


def test_photoobj_flags_and_history_pass_through_and_nothing_is_minus_9999(survey_data: Path) -> None:
    from astropy.io import fits

    path = survey_data / "sdss/000094-1-0012/photoObj-000094-1-0012.fits"
    selected, _ = select(read_catalog(path), SelectionConfig())
    data = fits.getdata(path, 1)
    raw = {int(objid): row for objid, row in zip(data["OBJID"], data, strict=True)}
    rows = [raw[objid] for objid in selected.table["objid"].to_pylist()]
    for name in ("OBJC_FLAGS", "OBJC_FLAGS2", "RESOLVE_STATUS", "THING_ID", "NOBSERVE", "PARENT", "NCHILD"):
        column = selected.table[name.lower()]
        assert pa.types.is_integer(column.type)
        assert column.to_pylist() == [int(row[name]) for row in rows]
    for number, band in enumerate("ugriz"):
        assert selected.table[f"calib_status_{band}"].to_pylist() == [int(row["CALIB_STATUS"][number]) for row in rows]
    assert any(-9999 in np.asarray(row["PETROTH50"]) for row in rows)
    for name in selected.table.column_names:
        if pa.types.is_floating(selected.table[name].type):
            assert not (selected.table[name].drop_null().to_numpy() == -9999).any(), name


def _selected_columns() -> list[str]:
    """What the columns of the query's result are called: the outer SELECT list of casjobs.sql."""
    text = (Path(ingest.catalog.__file__).parent / "casjobs.sql").read_text()
    query = re.sub(r"--.*", "", text)
    found = re.search(r"SELECT(.*?)INTO", query, re.DOTALL)
    assert found is not None
    items = [item.split() for item in found[1].split(",")]
    assert all(len(item) == 1 or (len(item) == 3 and item[1] == "AS") for item in items)
    return [item[-1].split(".")[-1] for item in items]


def test_the_casjobs_query_gives_what_a_catalogue_needs(tmp_path: Path) -> None:
    rows: dict[str, list[Any]] = {name: [1, 2] for name in _selected_columns()}
    rows |= {name: [1.0, -9999.0] for name in rows if re.match("psffwhm|petro|spec|z|e_bv", name)}
    rows |= {f"extinction_{band}": [a, a] for band, a in LAWS["Schlegel-Finkbeiner-Davis 1998"].items()}
    rows |= {
        "objID": COLUMNS["objID"],
        "rerun": [301, 301],
        "specObjID": [75094092974915584] * 2,
        "flags": [1 << 18, 0],
    }
    catalog = read_catalog(_write(pa.table(rows), tmp_path / "skymill_spectroscopic.csv"))
    assert not catalog.is_photoobj
    known = ingest.catalog.REQUIRED | ingest.catalog.OPTIONAL
    assert [name for name in known if name not in catalog.table.column_names] == []
    assert "z" not in catalog.table.column_names  # SpecObjAll.z under its own name would be taken for a band
    assert catalog.table["rerun"].to_pylist() == ["301", "301"]
    assert catalog.table["specz"].to_pylist() == [1.0, None]
    assert catalog.table["specObjID"].to_pylist() == rows["specObjID"]
    cut = SelectionConfig(max_petro_r=17.8, dereddened=True, reject_flags=("EDGE",))
    selected, _ = select(catalog, cut)
    assert selected.table["objid"].to_pylist() == COLUMNS["objID"][:1]
    with pytest.raises(IngestError, match="flag SATUR set removed 1"):
        select(selected, SelectionConfig(reject_flags=("SATUR",)))
    assert reddening(None, catalog.per_band("extinction"), "c.csv").law == "Schlegel-Finkbeiner-Davis 1998"


def test_the_casjobs_query_has_the_paper_s_conditions_and_one_row_a_galaxy() -> None:
    text = (Path(ingest.catalog.__file__).parent / "casjobs.sql").read_text()
    query = " ".join(re.sub(r"--.*", "", text).split())
    for condition in (
        "za.z > 0 AND za.z <= 0.4 AND za.zWarning = 0",
        "za.targetType = 'SCIENCE' AND za.survey = 'sdss' AND za.class = 'GALAXY'",
        "zi.primtarget >= 64",
        "po.clean = 1 AND po.insideMask = 0",
        "po.petroMag_r - po.extinction_r <= 17.8",
        "ROW_NUMBER() OVER (PARTITION BY za.bestObjID ORDER BY za.specObjID) AS spectrum",
        "sp.spectrum = 1",
    ):
        assert query.count(condition) == 1, condition


def test_a_spectrum_s_number_beyond_int64_is_not_rounded(tmp_path: Path) -> None:
    path = tmp_path / "catalog.csv"
    rows = [f"{n},10.0,0.0,94,1,12,{spectrum}" for n, spectrum in ((1, 299489952322840576), (2, 2**63 + 5))]
    path.write_text("\n".join(["objid,ra,dec,run,camcol,field,specObjID", *rows]) + "\n")
    assert read_catalog(path).table["specObjID"].to_pylist() == ["299489952322840576", str(2**63 + 5)]

"""Label tables joined by objid and by position, against brute force and against an independent join of real data."""

import json
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy.coordinates import SkyCoord

from ingest import labels as labels_module
from ingest.catalog import Catalog, read_catalog
from ingest.errors import IngestError
from ingest.labels import join_labels

BIG = 1237645876861337613  # beyond 2**53: a float would round it


def _catalog(**columns: Any) -> Catalog:
    n = len(next(iter(columns.values())))
    filler = {"objid": pa.array(range(1, n + 1), pa.int64()), "ra": [10.0] * n, "dec": [0.0] * n}
    return Catalog(Path("c.csv"), pa.table(filler | columns), is_photoobj=False)


def _write(folder: Path, **columns: Any) -> Path:
    path = folder / "labels.parquet"
    pa.parquet.write_table(pa.table(columns), path)
    return path


def test_by_objid_neighbouring_integers_are_told_apart(tmp_path: Path) -> None:
    catalog = _catalog(objid=[BIG, BIG + 1, BIG + 2, BIG + 3])
    path = _write(tmp_path, objID=[BIG + 3, BIG + 1, BIG + 5], vote=[0.3, 0.1, 0.5])
    joined, how = join_labels(catalog, path, None)
    assert joined.table["vote"].to_pylist() == [None, 0.1, None, 0.3]
    assert joined.table["objid"].equals(catalog.table["objid"])
    assert (how.objects_matched, how.rows, how.objects) == (2, 3, 4)


def test_by_objid_the_first_row_counts_and_many_to_one_is_counted_both_ways(tmp_path: Path) -> None:
    catalog = _catalog(objid=[7, 8, 7, 9])  # 7 was observed twice
    path = _write(tmp_path, objid=[None, 8, 7, 8, 11], name=["a", "b", "c", "d", "e"])
    joined, how = join_labels(catalog, path, None)
    assert joined.table["name"].to_pylist() == ["c", "b", "c", None]
    assert (how.objects_ambiguous, how.rows_shared, how.rows_unusable) == (1, 1, 1)
    assert "1 had several candidates and took the first; 1 of 5 rows serve several objects" in str(how)


def test_by_objid_a_float_none_at_all_and_no_match_are_one_line(tmp_path: Path) -> None:
    catalog = _catalog(objid=[BIG, 2])
    with pytest.raises(IngestError, match="objid holds floats"):
        join_labels(catalog, _write(tmp_path, objid=[float(BIG)], vote=[1.0]), None)
    with pytest.raises(IngestError, match="expected a column objid, found none; give --match-radius"):
        join_labels(catalog, _write(tmp_path, ra=[10.0], dec=[0.0]), None)
    for objid in ([3, 4], pa.array([None], pa.int64())):
        with pytest.raises(IngestError, match=r"none of its . rows has an objid of the catalogue.*give --match-radius"):
            join_labels(catalog, _write(tmp_path, objid=objid), None)


@pytest.mark.parametrize("centre", [(180.0, 20.0), (0.0, -5.0), (77.0, 89.9999), (10.0, -90.0)])
def test_by_position_is_brute_force_on_the_sphere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, centre: tuple[float, float]
) -> None:
    monkeypatch.setattr(labels_module, "_BLOCK", 16)  # several blocks, the last one short
    rng = np.random.default_rng(5)
    middle = SkyCoord(*centre, unit="deg")

    def scatter(n: int) -> SkyCoord:  # within 20 arcsec: across RA 0 and the poles
        return middle.directional_offset_by(rng.uniform(0, 360, n) * u.deg, 20 * rng.random(n) * u.arcsec)

    objects, rows = scatter(50), scatter(60)
    catalog = _catalog(ra=objects.ra.deg, dec=objects.dec.deg)
    joined, how = join_labels(catalog, _write(tmp_path, RA=rows.ra.deg, Dec=rows.dec.deg, row=np.arange(60)), 2.5)
    distance = objects[:, None].separation(rows[None, :]).arcsec
    inside, nearest = distance <= 2.5, distance.argmin(axis=1)
    expected = [int(nearest[i]) if inside[i].any() else None for i in range(50)]
    assert joined.table["row"].to_pylist() == expected
    assert None in expected
    assert how.objects_ambiguous == (inside.sum(axis=1) > 1).sum() > 0
    taken = [row for row in expected if row is not None]
    assert how.rows_shared == sum(taken.count(row) > 1 for row in set(taken)) > 0
    # An ulp of 360 degrees in radians is 2e-10 arcsec; unit vectors and their difference add a few of these.
    found = joined.table["label_separation_arcsec"]
    np.testing.assert_allclose(found.drop_null().to_numpy(), distance.min(axis=1)[inside.any(axis=1)], atol=1e-9)
    assert found.null_count == expected.count(None)


def test_bad_positions_never_match_and_are_counted(tmp_path: Path) -> None:
    nan = float("nan")
    catalog = _catalog(ra=[10.0, nan, -99.0, None], dec=[0.0, 0.0, -99.0, 0.0])
    path = _write(tmp_path, ra=[-99.0, nan, None, -9999.0, 10.0, 10.0], dec=[-99.0, 0, 0, -9999.0, 91.0, 0], n=range(6))
    joined, how = join_labels(catalog, path, 2)
    assert joined.table["n"].to_pylist() == [5, None, None, None]
    assert (how.rows_unusable, how.objects_unusable, how.objects_matched) == (5, 3, 1)


def test_of_rows_at_one_place_the_first_of_the_file_is_taken(tmp_path: Path) -> None:
    # Many, so that the tree splits and reorders them.
    path = _write(tmp_path, ra=[11.0] * 3 + [10.0] * 50, dec=[0.0] * 53, n=range(53))
    joined, how = join_labels(_catalog(ra=[10.0, 11.0]), path, 1)
    assert joined.table["n"].to_pylist() == [3, 0]
    assert how.objects_ambiguous == 2


def test_by_position_no_columns_or_no_match_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="expected columns ra and dec in degrees, found no dec"):
        join_labels(_catalog(ra=[10.0]), _write(tmp_path, ra=[10.0], objid=[1]), 2)
    for ra in ([200.0], [-99.0]):
        with pytest.raises(IngestError, match="no object lies within 2 arcsec"):
            join_labels(_catalog(ra=[10.0]), _write(tmp_path, ra=ra, dec=[0.0]), 2)
    for radius in (0.0, -1.0, float("nan"), 3601.0):
        with pytest.raises(IngestError, match=r"--match-radius: expected arcsec above 0"):
            join_labels(_catalog(ra=[10.0]), _write(tmp_path, ra=[10.0], dec=[0.0]), radius)


def test_a_column_of_both_fills_only_what_is_missing(tmp_path: Path) -> None:
    catalog = _catalog(
        objid=[1, 2, 3, 4],
        specz=[0.1, None, float("nan"), None],
        petroMag_r=[17.0, None, 18.0, None],
        note=["a", None] * 2,
    )
    path = _write(
        tmp_path, objid=[1, 2, 3], Redshift=[0.9, 0.2, 0.3], petromag_R=[1, 16, 1], Note=["x", "y", "z"], ra=["1h"] * 3
    )
    joined, _ = join_labels(catalog, path, None)
    assert joined.table["specz"].to_pylist() == [0.1, 0.2, 0.3, None]
    assert joined.table["petroMag_r"].to_pylist() == [17.0, 16.0, 18.0, None]
    assert joined.table["note"].to_pylist() == ["a", "y", "a", None]
    assert joined.table["ra"].to_pylist() == [10.0] * 4  # its own, whatever a label table calls ra
    assert joined.table.column_names == catalog.table.column_names


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [
        ([1.0, None], ["a", "b"], "column vote holds string, the catalogue's holds double"),
        ([1, None], [0.5, 0.5], "vote holds floats, expected integers"),
        (["a", None], [1, 2], "column vote holds int64, the catalogue's holds string"),
    ],
)
def test_a_column_of_another_type_is_refused(tmp_path: Path, mine: list[Any], theirs: list[Any], told: str) -> None:
    with pytest.raises(IngestError, match=told) as caught:
        join_labels(_catalog(objid=[1, 2], vote=mine), _write(tmp_path, objid=[1, 2], vote=theirs), None)
    assert "\n" not in str(caught.value)


def test_missing_stays_missing_and_empty_columns_fit_any_type(tmp_path: Path) -> None:
    empty = pa.nulls(2)
    path = _write(tmp_path, objid=[1, 2], specz=[-9999, 1], vote=[-9999.0, 0.5], a=empty, b=["x", "y"])
    joined, _ = join_labels(_catalog(objid=[1, 2], a=["p", None], b=empty), path, None)
    assert joined.table["specz"].to_pylist() == [None, 1.0]
    assert joined.table["vote"].to_pylist() == [None, 0.5]
    assert joined.table["a"].to_pylist() == ["p", None]
    assert joined.table["b"].to_pylist() == ["x", "y"]


def test_a_second_separation_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, ra=[10.0], dec=[0.0], vote=[1.0])
    once, _ = join_labels(_catalog(ra=[10.0]), path, 2)
    with pytest.raises(IngestError, match="label_separation_arcsec is there already"):
        join_labels(once, path, 2)


def test_no_file_and_no_rows_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="there is no such file; check --labels"):
        join_labels(_catalog(ra=[10.0]), tmp_path / "none.csv", None)
    with pytest.raises(IngestError, match="the label table has no rows"):
        join_labels(_catalog(ra=[10.0]), _write(tmp_path, objid=pa.array([], pa.int64())), None)


def test_the_record_of_a_join_holds_a_name_but_no_path(tmp_path: Path) -> None:
    _, how = join_labels(_catalog(ra=[10.0]), _write(tmp_path, ra=[10.0], dec=[0.0]), 2.0)
    record = json.dumps(how.as_dict())
    assert json.loads(record)["file"] == "labels.parquet"
    assert str(tmp_path) not in record + str(how)
    assert str(how) == (
        "labels of labels.parquet by position within 2 arcsec: 1 of 1 objects have one; 0 had several candidates and "
        "took the nearest; 0 of 1 rows serve several objects; without a position: 0 rows, 0 objects"
    )


ZOO = "catalogs/galaxyzoo2-stripe82-table5.csv.gz"
SMOOTH = "t01_smooth_or_features_a01_smooth_debiased"
FEATURES = "t01_smooth_or_features_a02_features_or_disk_debiased"


def test_galaxy_zoo_votes_are_those_of_an_independent_join(survey_data: Path) -> None:
    catalog = read_catalog(survey_data / "sdss/000094-1-0012/galaxies.csv")
    joined, how = join_labels(catalog, survey_data / ZOO, 2)
    assert how.objects_matched == 7
    for ours, theirs in ((SMOOTH, "gz2_p_smooth"), (FEATURES, "gz2_p_features")):
        assert joined.table[ours].to_pylist() == catalog.table[theirs].to_pylist()  # null for the others
    # gz2_objid of galaxies.csv is the label table's objid, which is of another release: it matches nothing.
    with pytest.raises(IngestError, match="other releases number anew"):
        join_labels(catalog, survey_data / ZOO, None)


def test_between_2_and_5_arcsec_there_is_nothing_and_beyond_begin_false_matches(survey_data: Path) -> None:
    catalog = read_catalog(survey_data / "sdss/000094-1-0012/galaxies.csv")
    right = set(pc.filter(catalog.table["objid"], catalog.table["gz2_objid"].is_valid()).to_pylist())
    joined, how = join_labels(catalog, survey_data / ZOO, 20)
    separation = dict(
        zip(joined.table["objid"].to_pylist(), joined.table["label_separation_arcsec"].to_pylist(), strict=True)
    )
    matched = {objid: value for objid, value in separation.items() if value is not None}
    assert {objid for objid, value in matched.items() if value <= 2} == right
    assert not [value for value in matched.values() if 2 < value < 5]
    beyond = set(matched) - right
    assert beyond
    assert how.rows_shared > 0  # the false ones took rows that are others' own


def test_photoobj_takes_the_same_votes(survey_data: Path) -> None:
    catalog = read_catalog(survey_data / "sdss/000094-1-0012/photoObj-000094-1-0012.fits")
    joined, how = join_labels(catalog, survey_data / ZOO, 2)
    votes = dict(zip(joined.table["objid"].to_pylist(), joined.table[SMOOTH].to_pylist(), strict=True))
    selected = read_catalog(survey_data / "sdss/000094-1-0012/galaxies.csv").table
    for objid, vote in zip(selected["objid"].to_pylist(), selected["gz2_p_smooth"].to_pylist(), strict=True):
        assert votes[objid] == vote
    assert how.rows_shared > 0  # family members share a position: select before you join


def test_redshifts_by_position_and_a_redshift_called_z(survey_data: Path, tmp_path: Path) -> None:
    source = survey_data / "catalogs/sdss-gl_ra_dec_z.csv"
    given = read_catalog(survey_data / "sdss/000094-1-0012/galaxies.csv")
    known = given.table["specz"]
    bare = Catalog(given.path, given.table.drop_columns(["specz"]), is_photoobj=False)
    joined, _ = join_labels(bare, source, 2)
    assert sorted(known.drop_null().to_pylist()) == sorted(joined.table["specz"].drop_null().to_pylist())
    assert joined.table["specz"].to_pylist() == known.to_pylist()
    # The five of data/README.md, which gives four decimals.
    np.testing.assert_allclose(sorted(known.drop_null().to_pylist()), [0.059, 0.059, 0.0959, 0.2461, 0.2484], atol=5e-5)
    # Many tables call a redshift z. Here that is a band: it arrives as one, and specz is unknown until it is renamed.
    table = pa.csv.read_csv(source)
    called_z = table.rename_columns(["ra", "dec", "z"])
    pa.parquet.write_table(called_z, tmp_path / "z.parquet")
    as_band, _ = join_labels(bare, tmp_path / "z.parquet", 2)
    assert "specz" not in as_band.table.column_names
    assert as_band.table["z"].to_pylist() == known.to_pylist()
    pa.parquet.write_table(called_z.rename_columns(["ra", "dec", "specz"]), tmp_path / "renamed.parquet")
    renamed, _ = join_labels(bare, tmp_path / "renamed.parquet", 2)
    assert renamed.table["specz"].equals(joined.table["specz"])

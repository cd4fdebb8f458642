"""Photometric flags: the bits against what real photoObj files say elsewhere, and the cut by them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ingest.catalog import Catalog, read_catalog
from ingest.errors import IngestError
from ingest.flags import BITS, OBJC_FLAGS, OBJC_FLAGS2, check_names, is_set
from ingest.selection import SelectionConfig, Step, select

PHOTOOBJ = ("000094-1-0012/photoObj-000094-1-0012.fits", "photoObj-003900-6-0269.fits")
# What the survey's bit mask tables say in words: the first is never set without the second.
IMPLIED = [
    ("SATUR", "INTERP"),
    ("CR", "INTERP"),
    ("SATUR_CENTER", "SATUR"),
    ("INTERP_CENTER", "INTERP"),
    ("PSF_FLUX_INTERP", "INTERP"),
    ("NODEBLEND_MOVING", "MOVED"),
    ("TOO_FEW_DETECTIONS", "MOVED"),
    ("NODEBLEND", "BLENDED"),
    ("DEBLENDED_AS_PSF", "CHILD"),
    ("DEBLEND_NOPEAK", "CHILD"),
]


@pytest.fixture(params=PHOTOOBJ)
def photoobj(request: pytest.FixtureRequest, survey_data: Path) -> Catalog:
    return read_catalog(survey_data / "sdss" / request.param)


def _catalog(**columns: object) -> Catalog:
    return Catalog(Path("c.csv"), pa.table(columns), is_photoobj=False)


def test_names_and_bits_are_the_survey_s() -> None:
    # Values of the survey's own tables (photo flags in hexadecimal, as CasJobs lists them).
    published = {
        "CANONICAL_CENTER": 0x1,
        "EDGE": 0x4,
        "CR": 0x1000,
        "SATUR": 0x40000,
        "BINNED1": 0x10000000,
        "MOVED": 0x80000000,
        "DEBLENDED_AS_MOVING": 0x100000000,
        "SATUR_CENTER": 0x80000000000,
        "CANONICAL_BAND": 0x10000000000000,
        "DEBLEND_PEEPHOLE": 0x1000000000000000,
    }
    assert {name: 1 << BITS[name] for name in published} == published
    assert len(BITS) == len(OBJC_FLAGS) + len(OBJC_FLAGS2) == 32 + 29  # no name twice


@pytest.mark.parametrize(("flag", "implied"), IMPLIED)
def test_real_flags_imply_what_they_say(photoobj: Catalog, flag: str, implied: str) -> None:
    assert is_set(photoobj, flag).any()
    assert not (is_set(photoobj, flag) & ~is_set(photoobj, implied)).any()


def test_child_blended_and_bright_agree_with_parent_and_nchild(photoobj: Catalog) -> None:
    parent, children = photoobj.need("parent"), photoobj.need("nchild")
    bright, blended = is_set(photoobj, "BRIGHT"), is_set(photoobj, "BLENDED")
    of_bright = np.isin(parent, photoobj.need("id")[bright])  # most are the same source, measured again as a faint one
    child = is_set(photoobj, "CHILD")
    assert (parent[child] >= 0).all()
    assert child[(parent >= 0) & ~of_bright].all()
    assert 200 < child.sum() < (parent >= 0).sum()
    assert (blended | bright)[children > 0].all()
    assert is_set(photoobj, "NODEBLEND")[blended & (children == 0)].all()


def test_edge_bright_and_moved_agree_with_positions_fluxes_and_signs(photoobj: Catalog) -> None:
    rows, columns = photoobj.per_band("rowc"), photoobj.per_band("colc")
    assert rows is not None
    assert columns is not None
    margin = np.minimum(np.minimum(rows, 1489 - rows), np.minimum(columns, 2048 - columns)).min(axis=1)  # [px]
    edge, bright = is_set(photoobj, "EDGE"), is_set(photoobj, "BRIGHT")
    # Of objects spread evenly over a frame half lie more than 251 px from its edge; those that touch it lie within
    # their own size.
    assert np.median(margin[edge]) < 30
    assert np.median(margin[~edge]) > 200
    flux = photoobj.need("petroflux_r")
    assert np.nanmedian(flux[bright]) > 20 * np.nanmedian(flux[~bright])  # BRIGHT means r < 17.5
    # Bit 31 is the sign of an int32.
    np.testing.assert_array_equal(is_set(photoobj, "MOVED"), photoobj.need("objc_flags") < 0)


def test_casjobs_one_word_says_the_same_as_the_two(photoobj: Catalog) -> None:
    low, high = (photoobj.need(name).astype(np.int64) for name in ("objc_flags", "objc_flags2"))
    assert (low < 0).any()
    joined = replace(photoobj, table=pa.table({"flags": (low & 0xFFFFFFFF) | (high << 32)}))
    for name in BITS:
        np.testing.assert_array_equal(is_set(joined, name), is_set(photoobj, name), err_msg=name)


def test_every_bit_of_a_signed_word_is_its_own() -> None:
    words = (np.uint32(1) << np.arange(32, dtype=np.uint32)).view(np.int32)  # the last is negative
    catalog = _catalog(objc_flags=words, OBJC_FLAGS2=words)
    for names in (OBJC_FLAGS, OBJC_FLAGS2):
        for bit, name in enumerate(names):
            np.testing.assert_array_equal(np.flatnonzero(is_set(catalog, name)), [bit])


def test_rejected_flags_are_dropped_and_counted_in_turn() -> None:
    saturated, at_edge, moved = (1 << BITS[name] for name in ("SATUR", "EDGE", "MOVED"))
    catalog = _catalog(objid=[1, 2, 3, 4, 5], flags=[0, saturated, saturated | at_edge, at_edge, moved])
    left, steps = select(catalog, SelectionConfig(reject_flags=("SATUR", "EDGE")))
    assert left.table["objid"].to_pylist() == [1, 5]
    assert steps == [Step("flag SATUR set", 2), Step("flag EDGE set", 1)]


def test_26_percent_of_the_real_galaxies_are_children(survey_data: Path) -> None:
    catalog = read_catalog(survey_data / "sdss" / PHOTOOBJ[0])
    _, steps = select(catalog, SelectionConfig(reject_flags=("CHILD",)))
    assert Step("flag CHILD set", 86) in steps  # of 327, as another reader of this file counted


def test_a_clean_observation_stands_in_for_a_rejected_one() -> None:
    n, columns = 2, {"objid": [1, 2], "thing_id": [7, 7], "mode": [1, 2], "objc_type": [3, 3]}
    table = pa.table(columns | {"objc_flags": np.array([1 << 18, 0], dtype=np.int32), "petromag_r": [17.0] * n})
    left, _ = select(Catalog(Path("p.fits"), table, is_photoobj=True), SelectionConfig(reject_flags=("SATUR",)))
    assert left.table["objid"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("name", "told"),
    [("SATURATED", "SATUR"), ("edge", "did you mean EDGE"), ("", "SDSS's FLAGS1"), ("x\ny", "SDSS's FLAGS1")],
)
def test_an_unknown_flag_is_one_line_with_close_names(name: str, told: str) -> None:
    with pytest.raises(IngestError, match=told) as caught:
        SelectionConfig(reject_flags=("SATUR", name))
    assert "\n" not in str(caught.value)
    check_names(BITS)


def test_a_catalogue_without_whole_flags_is_refused() -> None:
    with pytest.raises(IngestError, match=r"c\.csv: --reject-flags SATUR needs objc_flags"):
        is_set(_catalog(objid=[1]), "SATUR")
    with pytest.raises(IngestError, match="--reject-flags MAYBE_CR needs objc_flags and objc_flags2"):
        is_set(_catalog(objc_flags=[1]), "MAYBE_CR")  # its second word is missing
    with pytest.raises(IngestError, match="column flags has 1 missing values"):
        is_set(_catalog(flags=[1, None]), "SATUR")
    with pytest.raises(IngestError, match="flags holds floats"):
        is_set(_catalog(flags=[2.0**60]), "SATUR")
    for one_word in (np.array([8], dtype=np.int32), [-8]):
        with pytest.raises(IngestError, match="flags is one 32-bit word, expected CasJobs' 64 bits"):
            is_set(_catalog(flags=one_word), "SATUR")

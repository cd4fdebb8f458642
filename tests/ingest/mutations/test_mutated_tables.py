"""Catalogues and label tables damaged in every way that we could think of.

A position that still lies in its frames, but on another piece of sky, cannot be found: the catalogue is what says where
an object is. Nor can a digit that changed in a label.
"""

import datetime
import gzip
import io
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from ingest.errors import IngestError

Changed = (
    pa.Table | bytes | tuple[str, bytes]
)  # a table, what is in the .parquet file, or another file and what is in it
Change = Callable[[random.Random, pa.Table], Changed]
CHANGES: dict[str, Change] = {}  # of a catalogue of one group
LABEL_CHANGES: dict[str, Change] = {}  # of a table with objid, ra, dec and two columns
HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n<body>\n<h1>Not Found</h1></body></html>\n"


def _set(table: pa.Table, name: str, values: Any, kind: pa.DataType | None = None) -> pa.Table:
    column = values if isinstance(values, pa.Array) else pa.array(values, kind)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def _one(name: str, value: Any) -> Change:
    """Another value in a random row; a callable makes it from the old one."""

    def change(rng: random.Random, table: pa.Table) -> pa.Table:
        values, row = table[name].to_pylist(), rng.randrange(table.num_rows)
        values[row] = value(values[row]) if callable(value) else value
        return _set(table, name, values)

    return change


def _all(name: str, value: Callable[[Any], Any], kind: pa.DataType | None = None) -> Change:
    return lambda rng, table: _set(table, name, [value(old) for old in table[name].to_pylist()], kind)


def _new(name: str, value: Any, kind: pa.DataType | None = None) -> Change:
    return lambda rng, table: _set(table, name, [value] * table.num_rows, kind)


def _renamed(**names: str) -> Change:
    return lambda rng, table: table.rename_columns([names.get(name, name) for name in table.column_names])


def _exchanged(one: str, other: str) -> Change:
    return _renamed(**{one: other, other: one})


def _repeated(times: int) -> Change:
    def change(rng: random.Random, table: pa.Table) -> pa.Table:
        row = rng.randrange(table.num_rows)
        return table.take([*range(table.num_rows), *[row] * times])

    return change


def _same_objid(rng: random.Random, table: pa.Table) -> pa.Table:
    values = table["objid"].to_pylist()
    values[rng.randrange(3)] = values[3 + rng.randrange(3)]
    return _set(table, "objid", values)


CHANGES |= {
    f"{name} is {value}": _one(name, value) for name in ("ra", "dec") for value in (np.nan, np.inf, None, -9999.0)
}
CHANGES |= {
    "dec is 95": _one("dec", 95.0),
    "dec is -90.1": _one("dec", -90.1),
    "ra is 400": _one("ra", 400.0),
    "ra is -10": _one("ra", -10.0),
    "ra is 1e300": _one("ra", 1e300),
    "a degree east": _one("ra", lambda ra: ra + 1),
    "a degree north": _one("dec", lambda dec: dec + 1),
    "on the other side of the sky": _one("ra", lambda ra: (ra + 180) % 360),
    "at the pole": _one("dec", 90.0),
    "mirrored": _all("dec", lambda dec: -dec),
    "ra and dec exchanged": _exchanged("ra", "dec"),
    "ra in hours": _all("ra", lambda ra: ra / 15),
    "radians": lambda rng, t: _all("dec", np.deg2rad)(rng, _all("ra", np.deg2rad)(rng, t)),
    "sexagesimal": _all("ra", lambda ra: "12:34:56.7"),
    "ra as text": _all("ra", repr),
    "ra is true": _all("ra", lambda ra: True),
    "no position at all": _all("ra", lambda ra: None, pa.float64()),
    "objid of another": _same_objid,
    "a row twice": _repeated(1),
    "a row four times": _repeated(3),
    "objid as float": _all("objid", float),
    "objid as float32": _all("objid", float, pa.float32()),
    "objid as small floats": _all("objid", lambda objid: float(objid % 1000)),
    "objid with a fraction": _all("objid", lambda objid: objid % 1000 + 0.5),
    "objid is NaN": _all("objid", lambda objid: np.nan),
    "objid is infinite": _all("objid", lambda objid: np.inf),
    "objid as text": _all("objid", lambda objid: f" {objid} "),
    "objid as rounded text": _all("objid", lambda objid: f"{objid:.6e}"),
    "objid is a name": _all("objid", lambda objid: f"SDSS J{objid}"),
    "objid missing": _one("objid", None),
    "objid above 2^63": _all("objid", lambda objid: objid + 2**63, pa.uint64()),
    "objid negative": _all("objid", lambda objid: -objid),
    "objid 0": _one("objid", 0),
    "objid is true": _all("objid", lambda objid: True),
    "objid in a list": _all("objid", lambda objid: [objid]),
    "objid is a day": _all("objid", lambda objid: datetime.date(2012, 1, 1)),
    "objid as decimal": _all("objid", lambda objid: objid, pa.decimal128(25, 2)),
    "run as text": _all("run", str),
    "run as floats": _all("run", float),
    "run with a fraction": _all("run", lambda run: run + 0.5),
    "run of no frames": _one("run", 4242),
    "run missing": _one("run", None),
    "run beyond int32": _all("run", lambda run: run + 2**40),
    "run negative": _one("run", -5),
    "camcol 0": _one("camcol", 0),
    "camcol is a letter": _all("camcol", lambda camcol: "a"),
    "no field has frames": _all("field", lambda field: 500),
    "field of no frames": _one("field", 77),
    "field of five digits": _one("field", 12345),
    "field is the next": _one("field", lambda field: field + 1),
    "field is the one before": _one("field", lambda field: field - 1),
    "rerun leads elsewhere": _one("rerun", "../../etc"),
    "rerun missing": _one("rerun", None),
    "rerun never given": _new("rerun", None),
    "rerun empty": _one("rerun", ""),
    "rerun a number": _all("rerun", int),
    "rerun of two lines": _one("rerun", "3\n01"),
    "another rerun": _all("rerun", lambda rerun: "302"),
    "E(B-V) NaN": _one("ebv_sfd", np.nan),
    "E(B-V) infinite": _one("ebv_sfd", np.inf),
    "E(B-V) -9999": _one("ebv_sfd", -9999.0),
    "E(B-V) never known": _all("ebv_sfd", lambda ebv: None, pa.float64()),
    "E(B-V) as words": _all("ebv_sfd", lambda ebv: "little"),
    "redshift as words": _all("specz", lambda z: "n/a"),
    "redshift in lists": _all("specz", lambda z: [z]),
    "thing_id with a fraction": _all("thing_id", lambda thing: thing + 0.5),
    "two columns mean ra": _new("RA_", 1.0),
    "two columns mean specz": _new("SpecZ", 0.1),
    "no columns": lambda rng, t: t.select([]),
    "no rows": lambda rng, t: t.slice(0, 0),
    "one row": lambda rng, t: t.slice(2, 1),
}
CHANGES |= {
    f"no column {name}": lambda rng, t, name=name: t.drop_columns([name])
    for name in ("objid", "ra", "run", "field", "ebv_sfd")
}  # type: ignore[misc]
CHANGES |= {
    f"a column called {name!r}": _new(name, 1.0)
    for name in ("shard", "reason", "sky_sigma_r", "a/b", "", "kept", "x" * 999, "ΔE")
}
CHANGES["names of two lines"] = lambda rng, t: t.rename_columns([f"{name}\nof it" for name in t.column_names])
CHANGES["a name of two lines"] = _new("shard\nof mine", 1)
ODD: dict[str, tuple[Any, pa.DataType | None]] = {
    "lists": ([1.0, None], None),
    "fixed lists": ([1.0, 2.0], pa.list_(pa.float64(), 2)),
    "structures": ({"a": 1, "b": None}, None),
    "bytes": (b"\x00\xff", None),
    "truth values": (True, None),
    "a dictionary": ("E", pa.dictionary(pa.int8(), pa.string())),
    "times": (datetime.datetime(2012, 1, 1, tzinfo=datetime.UTC), None),
    "days": (datetime.date(2012, 1, 1), None),
    "durations": (datetime.timedelta(seconds=1), None),
    "decimals": (1, pa.decimal128(10, 3)),
    "nothing": (None, None),
    "large text": ("E", pa.large_string()),
    "half floats": (np.float16(1.5), pa.float16()),
    "big integers": (2**64 - 1, pa.uint64()),
    "a map": ([("a", 1)], pa.map_(pa.string(), pa.int64())),
    "infinity": (np.inf, None),
    "text of two lines": ("a\nb\x00", None),
}
CHANGES |= {f"a label of {name}": _new("label", *odd) for name, odd in ODD.items()}


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _csv(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pa.csv.write_csv(table, file)
    return file.getvalue()


def _fits(table: pa.Table, **more: fits.Column) -> bytes:
    kinds = {"int64": "K", "double": "D", "string": "20A"}
    columns = [
        fits.Column(name, kinds[str(table[name].type)], array=np.array(table[name].to_pylist()))
        for name in table.column_names
        if name not in more
    ]
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([*columns, *more.values()])]).writeto(file)
    return file.getvalue()


def _photoobj(table: pa.Table, kind: int = 3, mode: int = 1) -> bytes:
    count = table.num_rows
    for name, value in {"objc_type": kind, "mode": mode, "petroMag_r": 17.0}.items():
        table = _set(table, name, [value] * count, pa.float64() if name == "petroMag_r" else pa.int64())
    texts = np.array([f"{objid:>19}" for objid in table["objid"].to_pylist()], dtype="S19")
    return _fits(table, objid=fits.Column("OBJID", "19A", array=texts))


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) // 10, len(content) * 9 // 10)]


CHANGES |= {
    "empty file": lambda rng, t: b"",
    "HTML": lambda rng, t: HTML,
    "HTML as CSV": lambda rng, t: ("c.csv", HTML),
    "HTML as FITS": lambda rng, t: ("c.fits", HTML),
    "HTML as .csv.gz": lambda rng, t: ("c.csv.gz", HTML),
    "noise": lambda rng, t: rng.randbytes(3000),
    "noise as CSV": lambda rng, t: ("c.csv", rng.randbytes(3000)),
    "noise as FITS": lambda rng, t: ("c.fits", rng.randbytes(3000)),
    "zeros": lambda rng, t: bytes(3000),
    "zeros as CSV": lambda rng, t: ("c.csv", bytes(3000)),
    "cut short": lambda rng, t: _cut(rng, _parquet(t)),
    "footer damaged": lambda rng, t: _parquet(t)[:-60] + rng.randbytes(52) + _parquet(t)[-8:],
    "FITS cut short in its header": lambda rng, t: ("c.fits", _fits(t)[: rng.randrange(2900, 5000)]),
    "FITS cut short in its rows": lambda rng, t: ("c.fits", _fits(t)[: len(_fits(t)) - 2880 + rng.randrange(50, 400)]),
    "CSV packed and cut short": lambda rng, t: ("c.csv.gz", _cut(rng, gzip.compress(_csv(t)))),
    "CSV with a row too long": lambda rng, t: ("c.csv", _csv(t) + b"1,2,3,4,5,6,7,8,9,10,11,12,13,14\n"),
    "CSV with a row too short": lambda rng, t: ("c.csv", _csv(t) + b"1,2\n"),
    "CSV of a header": lambda rng, t: ("c.csv", _csv(t.slice(0, 0))),
    "CSV with semicolons": lambda rng, t: ("c.csv", _csv(t).replace(b",", b";")),
    "CSV whose objid has a point": lambda rng, t: (
        "c.csv",
        _csv(_set(t, "objid", [f"{o}.0" for o in t["objid"].to_pylist()])).replace(b'"', b""),
    ),
    "CSV": lambda rng, t: ("c.csv", _csv(t)),
    "FITS": lambda rng, t: ("c.fits", _fits(t)),
    "FITS of an image": lambda rng, t: ("c.fits", _fits(t)[:2880]),
    "FITS with complex numbers": lambda rng, t: ("c.fits", _fits(t, w=fits.Column("w", "C", array=[1j] * t.num_rows))),
    "FITS with truth values": lambda rng, t: ("c.fits", _fits(t, w=fits.Column("w", "L", array=[True] * t.num_rows))),
    "FITS with rows of any length": lambda rng, t: (
        "c.fits",
        _fits(t, w=fits.Column("w", "PD()", array=np.array([np.arange(n) for n in range(t.num_rows)], dtype=object))),
    ),
    "FITS with no ASCII": lambda rng, t: ("c.fits", _fits(t).replace(b"object 3", b"objet \xe9\xff")),
    "photoObj": lambda rng, t: ("c.fits", _photoobj(t)),
    "photoObj without rows": lambda rng, t: ("c.fits", _photoobj(t.slice(0, 0))),
    "photoObj of stars": lambda rng, t: ("c.fits", _photoobj(t, kind=6)),
    "photoObj of family members": lambda rng, t: ("c.fits", _photoobj(t, mode=3)),
    "no suffix": lambda rng, t: ("catalog", _parquet(t)),
    "another suffix": lambda rng, t: ("c.xlsx", b"PK" + rng.randbytes(300)),
}


def _label_table(table: pa.Table) -> pa.Table:
    labels = table.select(["objid", "ra", "dec"])
    return _set(_set(labels, "votes", np.arange(table.num_rows) / 10), "kind", [f"k{n}" for n in range(table.num_rows)])


LABEL_CHANGES |= {
    "objid as float": CHANGES["objid as float"],
    "objid as text": CHANGES["objid as text"],
    "objid as names": CHANGES["objid is a name"],
    "objid missing": CHANGES["objid missing"],
    "rows repeated": _repeated(3),
    "other objids": _all("objid", lambda objid: objid + 10**6),
    "no columns to match": lambda rng, t: t.select(["votes"]),
    "only columns to match": lambda rng, t: t.select(["objid", "ra", "dec"]),
    "no rows": CHANGES["no rows"],
    "empty file": CHANGES["empty file"],
    "HTML": CHANGES["HTML"],
    "HTML as CSV": CHANGES["HTML as CSV"],
    "noise": CHANGES["noise"],
    "cut short": CHANGES["cut short"],
    "ra NaN": CHANGES["ra is nan"],
    "dec is 95": CHANGES["dec is 95"],
    "no position at all": CHANGES["no position at all"],
    "far away": _all("ra", lambda ra: ra + 5),
    "positions as text": CHANGES["sexagesimal"],
    "a column called shard": _new("shard", 1),
    "a column of two lines": _new("shard\nof mine", 1),
    "redshift as words": _new("specz", "n/a"),
    "note as numbers": _new("note", 3.0),
    "E(B-V) as words": _new("ebv_sfd", "little"),
    "E(B-V) of lists": _new("ebv_sfd", [1.0]),
}
LABEL_CHANGES |= {f"a label of {name}": _new("label", *odd) for name, odd in ODD.items()}


def _file(changed: Changed, folder: Path, stem: str) -> tuple[Path, pa.Table | None]:
    """Write it; the table where it is one."""
    folder.mkdir(exist_ok=True)
    name, content = changed if isinstance(changed, tuple) else (f"{stem}.parquet", changed)
    path = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
        return path, content
    path.write_bytes(content)
    return path, None


def _check_line(err: IngestError, *named: str) -> None:
    text = str(err)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) <= 400, text
    assert any(name in text for name in named), text


def _check(found: Any, truth: Any, given: pa.Table, changed: pa.Table | None) -> None:
    """Samples are the truth's, and what the change left alone is none the worse for it."""
    old = {(row["ra"], row["dec"]): row for row in given.to_pylist()}
    assert found.objects == (changed if changed is not None else given).num_rows
    for row in found.rejects:
        assert row["reason"].isprintable()
        assert 0 < len(row["reason"]) < 200
        assert "/" not in row["reason"]
    for place, row in found.samples.items():
        assert place in truth.samples
        assert found.pixels[place].tobytes() == truth.pixels[place].tobytes()
        assert row["crc32c"] == truth.samples[place]["crc32c"]
        for name in given.column_names:
            alike = changed is None or (name in changed.column_names and changed[name].equals(given[name]))
            assert not alike or row[name] == old[place][name], name
    if changed is not None:
        rows = changed.to_pylist()
        times = Counter(row.get("objid") for row in rows)  # of rows with one objid, only the first can be a sample
        left_alone = {repr(row) for row in rows if times[row.get("objid")] == 1} & {
            repr(row) for row in given.to_pylist()
        }
        missed = [
            p for p, row in old.items() if repr(row) in left_alone and p in truth.samples and p not in found.samples
        ]
        assert missed == []


@pytest.mark.parametrize("name", CHANGES, ids=lambda name: name[:40])
def test_a_mutated_catalogue_is_one_line_or_counted_rejects(survey: Any, truth: Any, tmp_path: Path, name: str) -> None:
    given = survey.table.slice(14, 7)
    path, changed = _file(CHANGES[name](random.Random(name), given), tmp_path / "in", "catalog")
    for on_error in ("stop", "reject"):  # what does not stop for a frame is the same with both
        try:
            found = survey.outcome(survey.ingest(tmp_path / on_error, on_error=on_error, catalog=path))
        except IngestError as err:
            _check_line(err, path.name, "frame-u-")
            assert not (tmp_path / on_error).exists()
            if path.name in str(err):
                break
        else:
            _check(found, truth, given, changed)
            break


@pytest.mark.parametrize("radius", [None, 2.0], ids=["by objid", "by position"])
@pytest.mark.parametrize("name", LABEL_CHANGES)
def test_a_mutated_label_table_is_one_line_or_labels_of_the_right_objects(
    survey: Any, truth: Any, tmp_path: Path, name: str, radius: float | None
) -> None:
    given = survey.table.slice(14, 7)
    catalog, _ = _file(given, tmp_path / "in", "catalog")
    labels = _label_table(given)
    path, _ = _file(LABEL_CHANGES[name](random.Random(name), labels), tmp_path / "in", "labels")
    votes = dict(zip(given["objid"].to_pylist(), labels["votes"].to_pylist(), strict=True))
    try:
        joined = {"catalog": catalog, "labels": path, "match_radius_arcsec": radius}
        found = survey.outcome(survey.ingest(tmp_path / "out", on_error="stop", **joined))
    except IngestError as err:
        _check_line(err, path.name, catalog.name)
        assert not (tmp_path / "out").exists()
    else:
        _check(found, truth, given, given)
        for row in found.samples.values():
            assert row.get("votes") in (None, votes[row["objid"]])

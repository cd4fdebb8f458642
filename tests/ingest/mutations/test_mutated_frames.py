"""Frames damaged in every way that we could think of: none becomes a wrong sample, none costs another field anything.

Two things cannot be found and are left out. A frame that is not packed has no checksum, so other finite pixels in place
of its own look as good. And a header's WCS is checked against the asTrans table to 2 pixels only, as the two of real
frames differ by 0.4: digits that move a corner by less are taken as they are.
"""

import bz2
import gzip
import io
import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from ingest.errors import IngestError

EACH = 4  # mutations of a kind: one of each field of a group, in turn
TOLERANCE_PX = 2.5  # what the check of the WCS must find, with a margin

Key = tuple[int, int, str]  # group, field number, band
Files = dict[str, bytes | None]  # file name -> its content, None to remove it


@dataclass(frozen=True)
class Kind:
    """A way to damage a frame."""

    name: str
    make: Callable[[random.Random, Any, Key], Files]
    refused: bool  # whoever reads the whole frame has to refuse it
    resampled: bool = False  # pixels may come from a neighbour instead, through another fit of the same WCS


KINDS: list[Kind] = []


def _kind(name: str, *, refused: bool = True, resampled: bool = False) -> Callable[[Any], Any]:
    def add(make: Callable[[random.Random, Any, Key], Files]) -> Callable[[random.Random, Any, Key], Files]:
        KINDS.append(Kind(name, make, refused, resampled))
        return make

    return add


def _bytes_of_file(name: str, change: Callable[[random.Random, bytes], bytes], *, refused: bool = True) -> None:
    """A change of the packed file."""
    KINDS.append(Kind(name, lambda rng, s, key: {s.name(*key): change(rng, s.packed[key])}, refused))


def _before_packing(
    name: str, change: Callable[[random.Random, bytes], bytes], *, refused: bool = True, resampled: bool = False
) -> None:
    """A change of the FITS file, which is packed afterwards, or lies there unpacked."""

    def make(rng: random.Random, survey: Any, key: Key) -> Files:
        changed, file = change(rng, survey.unpacked[key]), survey.name(*key)
        if rng.random() < 0.3:
            return {file: None, file.removesuffix(".bz2"): changed}
        return {file: survey.pack(changed)}

    KINDS.append(Kind(name, make, refused, resampled))


def _flip(content: bytes, bits: list[int]) -> bytes:
    out = bytearray(content)
    for bit in bits:
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def _cut(rng: random.Random, content: bytes) -> int:
    return rng.randrange(len(content) // 20, len(content) * 19 // 20)


def _hole(rng: random.Random, content: bytes) -> bytes:
    at = _cut(rng, content)
    return content[:at] + bytes(min(512, len(content) - at)) + content[at + 512 :]


def _left_out(rng: random.Random, content: bytes) -> bytes:
    at = _cut(rng, content)
    return content[:at] + content[at + 100 :]


HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n<body>\n<h1>Not Found</h1></body></html>\n"
_bytes_of_file("cut short", lambda rng, b: b[: _cut(rng, b)])
_bytes_of_file("last bytes missing", lambda rng, b: b[: -rng.randint(1, 9)])
_bytes_of_file("bit flipped", lambda rng, b: _flip(b, [rng.randrange(32, 8 * len(b))]), refused=False)
_bytes_of_file("bit in the image flipped", lambda rng, b: _flip(b, [rng.randrange(80 * 8, 4 * len(b))]))
_bytes_of_file("many bits flipped", lambda rng, b: _flip(b, [rng.randrange(8 * len(b)) for _ in range(50)]))
_bytes_of_file("zeros in the middle", _hole)
_bytes_of_file("bytes left out", _left_out)
_bytes_of_file("first bytes missing", lambda rng, b: b[rng.randint(1, 9) :])
_bytes_of_file("empty file", lambda rng, b: b"")
_bytes_of_file("only a signature", lambda rng, b: b[:4])
_bytes_of_file("all zeros", lambda rng, b: bytes(len(b)))
_bytes_of_file("noise", lambda rng, b: rng.randbytes(len(b)))
_bytes_of_file("noise with a signature", lambda rng, b: b[:10] + rng.randbytes(len(b)))
_bytes_of_file("HTML page", lambda rng, b: HTML)
_bytes_of_file("FITS not packed", lambda rng, b: bz2.decompress(b))
_bytes_of_file("packed by gzip", lambda rng, b: gzip.compress(bz2.decompress(b), 1))
_bytes_of_file("packed twice", lambda rng, b: bz2.compress(b))
_bytes_of_file("something after its end", lambda rng, b: b + rng.randbytes(40), refused=False)


def _header(unpacked: bytes) -> list[bytes]:
    end = unpacked.index(b"END" + b" " * 77)
    return [unpacked[at : at + 80] for at in range(0, end, 80)]


def _with_header(unpacked: bytes, cards: list[bytes]) -> bytes:
    """Other cards in the place of the primary header's."""
    old = unpacked.index(b"END" + b" " * 77) + 80
    text = b"".join(cards) + b"END" + b" " * 77
    return text + b" " * (-len(text) % 2880) + unpacked[old + -old % 2880 :]


def _set(unpacked: bytes, **values: Any) -> bytes:
    """Other values on cards that are there; None takes a card out; further ones come last."""
    cards = [card for card in _header(unpacked) if card[:8].strip().decode() not in values]
    named = {card[:8].strip().decode(): place for place, card in enumerate(_header(unpacked))}
    for name, value in values.items():
        if value is not None:
            card = fits.Card(name, value).image.encode()
            cards.insert(min(named.get(name, len(cards)), len(cards)), card)
    return _with_header(unpacked, cards)


def _parts(unpacked: bytes) -> tuple[fits.Header, Any, bytes]:
    """Header, image and what follows it."""
    with fits.open(io.BytesIO(unpacked), memmap=False) as hdus:
        header, image = hdus[0].header.copy(), np.array(hdus[0].data)
        return header, image, unpacked[hdus[1].fileinfo()["hdrLoc"] :]


def _with_image(unpacked: bytes, image: Any, **values: Any) -> bytes:
    """Another image in the place of the primary HDU's; its header says what it is."""
    header, _, rest = _parts(unpacked)
    file = io.BytesIO()
    fits.PrimaryHDU(image, header=header).writeto(file)
    return (_set(file.getvalue(), **values) if values else file.getvalue()) + rest


def _moved_px(unpacked: bytes, changed: bytes) -> float:
    """How far a changed header moves a corner of the image: infinite where that cannot be told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old, new = (WCS(fits.Header.fromstring(b"".join(_header(part)))) for part in (unpacked, changed))
            corners = np.array([(0.0, 0.0), (149.0, 0.0), (0.0, 189.0), (149.0, 189.0)])
            seen = new.wcs_world2pix(old.wcs_pix2world(corners, 0), 0)
        return float(np.nan_to_num(np.abs(seen - corners).max(), nan=np.inf))
    except Exception:  # astropy says in many ways that a header is damaged
        return np.inf


def _header_bit(rng: random.Random, unpacked: bytes) -> bytes:
    while True:
        changed = _flip(unpacked, [rng.randrange(8 * 80 * len(_header(unpacked)))])
        if not 0 < _moved_px(unpacked, changed) < TOLERANCE_PX:
            return changed


def _digit(rng: random.Random, unpacked: bytes, names: str) -> bytes:
    """Another digit in the value of one of some cards; of a WCS, one that matters."""
    while True:
        cards = _header(unpacked)
        place = rng.choice([n for n, card in enumerate(cards) if re.match(names.encode(), card[:8].strip())])
        at = rng.choice([m.start() for m in re.finditer(rb"[0-9]", cards[place][:30]) if m.start() > 9])
        digit = rng.choice([d for d in b"0123456789" if d != cards[place][at]])
        cards[place] = cards[place][:at] + bytes([digit]) + cards[place][at + 1 :]
        changed = _with_header(unpacked, cards)
        if not names.startswith("C[DR]") or _moved_px(unpacked, changed) > TOLERANCE_PX:
            return changed


def _image_bytes(unpacked: bytes) -> tuple[int, int]:
    """Where the image begins and ends."""
    header, image, _ = _parts(unpacked)
    begin = len(header.tostring())
    return begin, begin + image.nbytes


def _zero_tail(rng: random.Random, unpacked: bytes) -> bytes:
    at = rng.randrange(*_image_bytes(unpacked))
    return unpacked[:at] + bytes(len(unpacked) - at)


def _without_hdu(rng: random.Random, unpacked: bytes) -> bytes:
    with fits.open(io.BytesIO(unpacked), memmap=False) as hdus:
        gone = hdus[rng.randint(1, 3)].fileinfo()
        return unpacked[: gone["hdrLoc"]] + unpacked[gone["datLoc"] + gone["datSpan"] :]


def _astrans_bit(rng: random.Random, unpacked: bytes) -> bytes:
    with fits.open(io.BytesIO(unpacked), memmap=False) as hdus:
        begin = hdus[3].fileinfo()["datLoc"]
        return _flip(unpacked, [8 * begin + rng.randrange(8 * hdus[3].header["NAXIS1"])])


def _other_hdu_bit(rng: random.Random, unpacked: bytes) -> bytes:
    return _flip(unpacked, [rng.randrange(8 * _image_bytes(unpacked)[1], 8 * len(unpacked))])


def _some_nan(rng: random.Random, unpacked: bytes, where: str) -> bytes:
    image = _parts(unpacked)[1]
    value = rng.choice([np.nan, np.inf, -np.inf])
    low, left = rng.randrange(150), rng.randrange(100)
    places: dict[str, Any] = {
        "rows": np.s_[low : low + rng.randint(1, 40)],
        "columns": np.s_[:, left : left + 3],
        "block": np.s_[low : low + 30, left : left + 30],
        "pixel": np.s_[low, left],
        "all": np.s_[:],
    }
    image[places[where]] = value
    return _with_image(unpacked, image)


_before_packing("bit of the header flipped", _header_bit, refused=False)
_before_packing("another bit of the header flipped", _header_bit, refused=False)
_before_packing("digit of the WCS", lambda rng, b: _digit(rng, b, "C[DR].*[12]$"))
_before_packing("another digit of the WCS", lambda rng, b: _digit(rng, b, "C[DR].*[12]$"))
_before_packing("digit of NAXISn", lambda rng, b: _digit(rng, b, "NAXIS[12]"))
_before_packing("digit of RUN or CAMCOL", lambda rng, b: _digit(rng, b, "RUN|CAMCOL"))
_before_packing("WCS of zeros", lambda rng, b: _set(b, CD1_1=0.0, CD1_2=0.0, CD2_1=0.0, CD2_2=0.0))
_before_packing("CRVAL of zeros", lambda rng, b: _set(b, CRVAL1=0.0, CRVAL2=0.0))
_before_packing("NaN in the WCS", lambda rng, b: _with_header(b, _nan_card(rng, b)))
_before_packing("RA and Dec exchanged", lambda rng, b: _set(b, CTYPE1="DEC--TAN", CTYPE2="RA---TAN"))
_before_packing("another projection", lambda rng, b: _set(b, CTYPE1="RA---SIN", CTYPE2="DEC--SIN"))
_before_packing("mirrored", lambda rng, b: _set(b, CD1_1=-_value(b, "CD1_1"), CD2_1=-_value(b, "CD2_1")))
_before_packing("no WCS", lambda rng, b: _set(b, **dict.fromkeys(("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1"))))
_before_packing(
    "a card of the WCS missing", lambda rng, b: _set(b, **{rng.choice(("CRVAL1", "CRPIX2", "CTYPE2")): None})
)
_before_packing("no END", lambda rng, b: b.replace(b"END" + b" " * 77, b" " * 80, 1))
_before_packing("not FITS", lambda rng, b: rng.choice([HTML, b"run,camcol,field\n94,1,12\n" * 99, b"\x89PNG" + b[4:]]))
_before_packing("image cut short", lambda rng, b: b[: rng.randrange(*_image_bytes(b))])
_before_packing("tables cut short", lambda rng, b: b[: rng.randrange(_image_bytes(b)[1] + 9000, len(b))], refused=False)
_before_packing("zeros from within the image on", _zero_tail)
_before_packing("axes exchanged", lambda rng, b: _set(b, NAXIS1=190, NAXIS2=150))
_before_packing("transposed", lambda rng, b: _with_image(b, _parts(b)[1].T.copy()))
_before_packing("fewer rows", lambda rng, b: _with_image(b, _parts(b)[1][rng.randint(1, 30) :]))
_before_packing("fewer columns", lambda rng, b: _with_image(b, _parts(b)[1][:, rng.randint(1, 30) :].copy()))
_before_packing("more rows", lambda rng, b: _with_image(b, np.pad(_parts(b)[1], ((rng.randint(1, 30), 0), (0, 0)))))
_before_packing("16-bit integers", lambda rng, b: _with_image(b, (100 * _parts(b)[1]).astype(np.int16)))
_before_packing("32-bit integers", lambda rng, b: _with_image(b, (100 * _parts(b)[1]).astype(np.int32)))
_before_packing("float64", lambda rng, b: _with_image(b, _parts(b)[1].astype(np.float64)), refused=False)
_before_packing("BITPIX alone", lambda rng, b: _set(b, BITPIX=rng.choice([8, 16, 32, -64])))
_before_packing("scaled", lambda rng, b: _with_header(b, [*_header(b), fits.Card("BSCALE", 2.0).image.encode()]))
_before_packing("offset", lambda rng, b: _with_header(b, [*_header(b), fits.Card("BZERO", 5.0).image.encode()]))
_before_packing("a cube", lambda rng, b: _with_image(b, np.stack([_parts(b)[1]] * 2)))
_before_packing("no image", lambda rng, b: _with_image(b, None))
_before_packing("an HDU missing", _without_hdu, refused=False)
_before_packing("bit of asTrans flipped", _astrans_bit, refused=False)
_before_packing("bit of another HDU flipped", _other_hdu_bit, refused=False)
for _where in ("rows", "columns", "block", "pixel", "all"):
    _before_packing(
        f"NaN or infinite: {_where}",
        lambda rng, b, where=_where: _some_nan(rng, b, where),  # type: ignore[misc]
        refused=False,
        resampled=True,
    )


def _value(unpacked: bytes, name: str) -> float:
    return float(fits.Header.fromstring(b"".join(_header(unpacked)))[name])


def _nan_card(rng: random.Random, unpacked: bytes) -> list[bytes]:
    name = rng.choice(("CRVAL1", "CD1_2", "CRPIX2"))
    card = f"{name:8}= {'NaN':>20}".ljust(80).encode()
    return [card if old[:8].strip().decode() == name else old for old in _header(unpacked)]


@_kind("another band's frame")
def _other_band(rng: random.Random, survey: Any, key: Key) -> Files:
    other = rng.choice([band for band in survey.bands if band != key[2]])
    return {survey.name(*key): survey.packed[(*key[:2], other)]}


@_kind("two bands exchanged")
def _exchanged(rng: random.Random, survey: Any, key: Key) -> Files:
    other = (*key[:2], rng.choice([band for band in survey.bands if band != key[2]]))
    return {survey.name(*key): survey.packed[other], survey.name(*other): survey.packed[key]}


@_kind("another field's frame")
def _other_field(rng: random.Random, survey: Any, key: Key) -> Files:
    other = rng.choice([number for number in survey.fields if number != key[1]])
    return {survey.name(*key): survey.packed[key[0], other, key[2]]}


@_kind("another run's frame")
def _other_run(rng: random.Random, survey: Any, key: Key) -> Files:
    return {survey.name(*key): survey.packed[(key[0] + rng.randrange(1, survey.groups)) % survey.groups, *key[1:]]}


@_kind("no such file")
def _absent(rng: random.Random, survey: Any, key: Key) -> Files:
    return {survey.name(*key): None}


@_kind("packed, but called .fits")
def _wrong_suffix(rng: random.Random, survey: Any, key: Key) -> Files:
    file = survey.name(*key)
    return {file: None, file.removesuffix(".bz2"): survey.packed[key]}


@dataclass(frozen=True)
class Mutation:
    """One damaged frame."""

    kind: Kind
    key: Key
    files: Files

    def __str__(self) -> str:
        return f"{self.kind.name}: {', '.join(self.files)}"


def _mutations(survey: Any, batch: int) -> list[Mutation]:
    """One mutation a group."""
    made = []
    for number in range(batch * survey.groups, min((batch + 1) * survey.groups, EACH * len(KINDS))):
        kind, turn = KINDS[number // EACH], number % EACH
        rng = random.Random(f"{kind.name} {turn}")
        key = number % survey.groups, survey.fields[turn], rng.choice(survey.bands)
        made.append(Mutation(kind, key, kind.make(rng, survey, key)))
    return made


def _put(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)


def _mend(survey: Any, folder: Path, mutation: Mutation) -> None:
    whole = {
        path.name: path.read_bytes() for name in mutation.files if (path := survey.folder / "frames" / name).exists()
    }
    _put(folder, dict.fromkeys(mutation.files) | whole)


def _faults(survey: Any, mutation: Mutation, found: Any, truth: Any, folder: Path) -> list[str]:
    """What is wrong with what became of the objects of the mutation's group."""
    group, number, _ = mutation.key
    field = survey.field_of(group, number)
    faults = []
    for row in survey.table.to_pylist():
        if (row["run"], row["camcol"]) != (field.run, field.camcol):
            continue
        place, name = (row["ra"], row["dec"]), row["note"]
        touched = field.field in survey.touches(row)
        if place in found.samples:
            if place not in truth.samples:
                faults.append(f"{name} is a sample, but was none")
            elif not _same(found, truth, place, resampled=touched and mutation.kind.resampled):
                faults.append(f"{name} is another sample")
            elif mutation.kind.refused and row["field"] == field.field:
                faults.append(f"{name} is a sample of a damaged field")
        elif place in truth.samples and not touched:
            faults.append(f"{name} is lost, which has nothing to do with it")
    for row in found.rejects:
        reason = row["reason"]
        if not reason or "\n" in reason or str(folder.parent) in reason or "/" in reason or len(reason) > 200:
            faults.append(f"reason {reason!r}")
    return faults


def _same(found: Any, truth: Any, place: tuple[float, float], *, resampled: bool) -> bool:
    if not resampled:
        same_row = repr(found.samples[place]) == repr(truth.samples[place])
        return same_row and found.pixels[place].tobytes() == truth.pixels[place].tobytes()
    # Of the two frames' fits, positions differ by up to 3e-6 px. No image here changes by more than 2 nanomaggies in a
    # pixel, so values may differ by 6e-6, and by what float32 rounds off sums of 36 pixels up to 2: 36 x 1.2e-7.
    return bool(np.abs(found.pixels[place] - truth.pixels[place]).max() < 1.1e-5)


BATCHES = range(-(-EACH * len(KINDS) // 8))


def test_there_are_two_hundred() -> None:
    assert EACH * len(KINDS) >= 200


@pytest.mark.parametrize("batch", BATCHES)
def test_with_reject_the_damaged_frame_costs_its_own_stamps_and_nothing_else(
    survey: Any, truth: Any, tmp_path: Path, batch: int
) -> None:
    frames = survey.copy(tmp_path / "frames")
    mutations = _mutations(survey, batch)
    for mutation in mutations:
        _put(frames, mutation.files)
    found = survey.outcome(survey.ingest(tmp_path / "out", on_error="reject", frames=frames))
    assert found.objects == survey.table.num_rows
    assert {str(m): faults for m in mutations if (faults := _faults(survey, m, found, truth, frames))} == {}


@pytest.mark.parametrize("batch", BATCHES)
def test_with_stop_it_is_one_line_and_the_mended_job_ends_as_if_nothing_had_been(
    survey: Any, whole: Path, truth: Any, tmp_path: Path, batch: int
) -> None:
    frames = survey.copy(tmp_path / "frames")
    waiting = _mutations(survey, batch)
    for mutation in waiting:
        _put(frames, mutation.files)
    while True:
        try:
            survey.ingest(tmp_path / "out", on_error="stop", frames=frames)
            break
        except IngestError as err:
            text = str(err)
            assert "\n" not in text
            assert len(text) <= 400 + len(str(frames))
            told = [m for m in waiting if any(name.removesuffix(".bz2") in text for name in m.files)]
            assert len(told) == 1, f"{text}: one of {list(map(str, waiting))}"
            _mend(survey, frames, told[0])
            waiting.remove(told[0])
    unnoticed = [str(m) for m in waiting if m.kind.refused and m.key[1] in (11, 12)]
    assert unnoticed == []
    found = survey.outcome(tmp_path / "out")
    assert found.objects == survey.table.num_rows
    assert {str(m): faults for m in waiting if (faults := _faults(survey, m, found, truth, frames))} == {}
    if not waiting:
        assert survey.content(tmp_path / "out") == survey.content(whole)
    damaged = {(field.run, field.camcol) for field in (survey.field_of(*m.key[:2]) for m in waiting)}
    for place, row in truth.samples.items():
        assert (row["run"], row["camcol"]) in damaged or _same(found, truth, place, resampled=False)

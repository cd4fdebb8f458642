"""Which samples show the same galaxy: one name for all observations of it, whatever the order of the rows.

A survey that looked many times at a galaxy has as many objids for it. What tells that they are one is the survey's own
thing_id; where that is unknown, a spectrum that they share (specObjID), or that they lie within 1 arcsec. Splits and
shares of labels are drawn by this name, so one galaxy is never on two sides.
"""

import numpy as np
import numpy.typing as npt

from .hashing import key, mix

Indices = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.floating]

SAME_ARCSEC = 1.0

_SPECTRUM, _OBJECT = 1, 2  # kinds of names; a thing_id is its own name
_NONE = np.uint64(2**64 - 1)
_NO_SPECTRUM = (0, -1, -9999)  # no value of a real specObjID: its plate, the upper 14 bits, is neither 0 nor the last


def galaxy_identity(
    objid: Indices,
    thing_id: Indices | None = None,
    specobjid: Indices | None = None,
    ra: Floats | None = None,
    dec: Floats | None = None,
) -> Indices:
    """The galaxy of each row: int64 (n,), equal where two rows show the same one.

    Rows are one galaxy if they share a thing_id (known: positive), share a specObjID (known: not 0, -1 or -9999; uint64
    as such or as the int64 of the same bits), or lie within 1 arcsec of each other where one of them has no thing_id;
    and, in turn, by way of a third row. ``ra`` and ``dec`` [deg] are not looked at where they are no place on the sky.

    A galaxy is named by the smallest thing_id of its rows as it is, else the smallest specObjID (unsigned), else the
    smallest objid. The latter two are hashed with their kind into negative numbers, so no name is of two kinds but by
    a collision of 63-bit hashes: 1 in 200,000 for 10 million galaxies.
    """
    rows = len(objid)
    thing = np.zeros(rows, np.int64) if thing_id is None else np.asarray(thing_id).astype(np.int64)
    named = thing > 0
    if specobjid is None and named.all():
        return thing
    spectrum = np.zeros(rows, np.int64) if specobjid is None else np.asarray(specobjid).astype(np.int64)
    seen = ~np.isin(spectrum, _NO_SPECTRUM)
    forest = _first_alike(thing, named)
    _unite(forest, _first_alike(spectrum, seen))
    if ra is not None and dec is not None and not named.all():
        _unite_by_place(forest, named, ra, dec)
    return _names(forest, np.where(named, thing, -1), np.where(seen, spectrum, -1), objid)


def _first_alike(values: npt.NDArray[np.generic], known: npt.NDArray[np.bool_]) -> Indices:
    """The first row with the same value, for rows whose value is known; for others the row itself."""
    first = np.arange(len(values))
    rows = np.flatnonzero(known)
    _, where, place = np.unique(values[rows], return_index=True, return_inverse=True)
    first[rows] = rows[where][place]
    return first


def _unite(forest: Indices, first: Indices) -> None:
    rows = np.flatnonzero(forest != forest[first])
    if len(rows):
        from .nearby import unite_pairs  # compiled code, which most catalogues have no need of

        unite_pairs(forest, rows, first[rows])


def _unite_by_place(forest: Indices, named: npt.NDArray[np.bool_], ra: Floats, dec: Floats) -> None:
    from .nearby import unite_close

    position = np.stack([ra, dec], axis=1).astype(np.float64)
    placed = (np.abs(position) <= (360.0, 90.0)).all(axis=1)
    # Of a thousand rows at one place, as a catalogue without positions may have, one is compared with its neighbours.
    first = _first_alike(position.view(np.complex128)[:, 0], placed & ~named)
    _unite(forest, first)
    lone = placed & ~named & (first == np.arange(len(first)))
    unite_close(forest, np.flatnonzero(lone), np.flatnonzero(placed & named), position, SAME_ARCSEC)


def _names(forest: Indices, thing: Indices, spectrum: Indices, objid: Indices) -> Indices:
    """The name of each row's galaxy; unknown numbers are -1."""
    while not np.array_equal(root := forest[forest], forest):
        forest = root
    thing_id, specobjid, least_objid = (_least(values, forest) for values in (thing, spectrum, np.asarray(objid)))
    hashed = np.where(specobjid != _NONE, _hashed(specobjid, _SPECTRUM), _hashed(least_objid, _OBJECT))
    return np.where(thing_id != _NONE, thing_id, hashed).astype(np.int64)


def _least(values: Indices, group: Indices) -> UInt64s:
    """The smallest value, as an unsigned number, of each row's group."""
    least = np.full(len(values), _NONE)
    np.minimum.at(least, group, values.astype(np.uint64))
    return least[group]


def _hashed(names: UInt64s, kind: int) -> UInt64s:
    return mix(names ^ key(kind)) | np.uint64(1 << 63)

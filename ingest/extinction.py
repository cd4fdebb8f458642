"""E(B-V) of each object: from the catalogue, else from its five extinctions by the law that they follow.

Two laws are in circulation for SDSS. DR12 and earlier files give A = R E with the R of Schlegel, Finkbeiner and Davis
(1998, ApJ 500, 525; Stoughton et al. 2002 for the SDSS bands); later releases use those of Schlafly and Finkbeiner
(2011, ApJ 737, 103, table 6, R_V = 3.1). Dividing one by the other's R makes E(B-V) wrong by a factor of 0.84, so the
law is recognised from A_g / A_r, within 1 %.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import IngestError

#: A_band / E(B-V) for u, g, r, i, z.
LAWS: dict[str, dict[str, float]] = {
    "Schlegel-Finkbeiner-Davis 1998": dict(zip("ugriz", (5.155, 3.793, 2.751, 2.086, 1.479), strict=True)),
    "Schlafly-Finkbeiner 2011": dict(zip("ugriz", (4.239, 3.303, 2.285, 1.698, 1.263), strict=True)),
}
_TOLERANCE = 0.01  # of A_g / A_r; the two laws differ by 5 %
_MEASURABLE_MAG = 0.02  # below this, rounding alone can move a ratio by 1 %
_BAND_TOLERANCE, _ROUNDING_MAG = 0.03, 0.005  # of one band beside the mean of all


@dataclass(frozen=True, slots=True)
class Reddening:
    """E(B-V) in the SFD scale for each object, and how it came about."""

    ebv_sfd: npt.NDArray[np.float64]  # (object,) [mag], NaN where nothing is known
    source: str
    law: str


def recognise_law(extinction: npt.NDArray[np.float64], where: str) -> str:
    """Name the law that extinctions (object, ugriz) [mag] follow; IngestError where they follow none, or two."""
    a_g, a_r = extinction[:, 1], extinction[:, 2]
    usable = np.isfinite(a_g) & np.isfinite(a_r) & (a_r > 0)
    if not usable.any():
        raise IngestError(f"{where}: extinction_g and extinction_r are all missing or 0; give a column ebv_sfd")
    ratio = float(a_g[usable].sum() / a_r[usable].sum())
    found = _closest(ratio)
    if found is None:
        known = ", ".join(f"{r['g'] / r['r']:.3f} ({name})" for name, r in LAWS.items())
        raise IngestError(f"{where}: A_g / A_r is {ratio:.3f}, expected {known} within 1 %; give a column ebv_sfd")
    measurable = usable & (a_r > _MEASURABLE_MAG)
    others = [_closest(value) not in (found, None) for value in a_g[measurable] / a_r[measurable]]
    if any(others):
        raise IngestError(
            f"{where}: {sum(others)} of {len(others)} rows follow another extinction law than {found}; split it"
        )
    return found


def _closest(ratio: float) -> str | None:
    for name, r in LAWS.items():
        expected = r["g"] / r["r"]
        if abs(ratio / expected - 1) <= _TOLERANCE:
            return name
    return None


def reddening(
    ebv_sfd: npt.NDArray[np.float64] | None, extinction: npt.NDArray[np.float64] | None, where: str
) -> Reddening:
    """E(B-V) of each object: ``ebv_sfd`` (object,) where given, else from ``extinction`` (object, ugriz) [mag]."""
    if ebv_sfd is None:
        if extinction is None:
            raise IngestError(f"{where}: no column ebv_sfd and no extinction_u..z to derive it from; add one of them")
        return _from_extinction(extinction, where)
    known = ebv_sfd[np.isfinite(ebv_sfd)]
    if ((known < 0) | (known > 30)).any():
        raise IngestError(
            f"{where}: ebv_sfd lies between {known.min()} and {known.max()}, expected 0 to 30 mag; mend it"
        )
    if extinction is None or len(known) == len(ebv_sfd):
        return Reddening(ebv_sfd, source="catalogue column ebv_sfd", law="as given")
    derived = _from_extinction(extinction, where)
    filled = np.where(np.isfinite(ebv_sfd), ebv_sfd, derived.ebv_sfd)
    return Reddening(filled, source=f"catalogue column ebv_sfd, where missing {derived.source}", law=derived.law)


def _from_extinction(extinction: npt.NDArray[np.float64], where: str) -> Reddening:
    law = recognise_law(extinction, where)
    r = np.array([LAWS[law][band] for band in "ugriz"])
    with np.errstate(invalid="ignore"):
        valid = np.where(extinction > -1, extinction, np.nan)  # -9999 means missing
    ebv = (valid / r).mean(axis=1)
    off = np.abs(valid - ebv[:, None] * r) > _BAND_TOLERANCE * ebv[:, None] * r + _ROUNDING_MAG  # false for NaN
    if off.any():
        row, band = np.argwhere(off)[0]
        raise IngestError(
            f"{where}: extinction_{'ugriz'[band]} is {valid[row, band]:.4g} in row {row}, expected about "
            f"{ebv[row] * r[band]:.4g} beside its other bands ({off.any(axis=1).sum()} such rows); give ebv_sfd"
        )
    return Reddening(ebv, source="mean of extinction_u..z / R", law=law)

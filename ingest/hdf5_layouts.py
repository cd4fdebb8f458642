"""The two HDF5 layouts that published self-supervised sky survey codes use: what each key means. Opens no file.

Both hold `images` (row, band, y, x), linear flux in nanomaggies per pixel, and one dataset a label, one row a galaxy.

- Hayat et al. 2021 (arXiv:2012.13083, github MustafaMustafa/ssl-sky-surveys): SDSS DR12, ugriz, 107 px of 0.396 arcsec;
  ``ObjID``, ``specObjID``, ``ra``, ``dec``, ``specz_redshift``, ``specz_redshift_err``, and ``e_bv`` (row, 5), which is
  misnamed: it holds the extinctions A_u..z in magnitudes.
- Stein et al. 2021 (arXiv:2110.13151, github georgestein/ssl-legacysurvey): Legacy Surveys DR9, grz, 152 px of 0.262
  arcsec, and columns of the DR9 sweep catalogues (https://www.legacysurvey.org/dr9/catalogs), those with one value a
  band as (row, 3). ``ebv`` is E(B-V) of SFD 1998, ``psfsize`` the PSF's FWHM [arcsec] (0: not observed), ``z_spec`` is
  -99 where unknown. ``objid`` counts within a brick: see `Layout.identifier`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .errors import IngestError


@dataclass(frozen=True, slots=True)
class Meaning:
    """What becomes of a key that has a meaning to Skymill."""

    name: str  # of the column in samples.parquet; a key with one value a band gets ``{name}_{band}``
    per_band: bool = False
    above: float | None = None  # values that are not above this are missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One published layout."""

    name: str
    bands: str
    pixel_scale_arcsec: float
    survey: str
    projection: str
    identifier: tuple[str, ...]  # keys that name an object, in canonical form; see `SHIFTS`
    identifier_text: str
    meanings: Mapping[str, Meaning]  # by canonical key: case and underscores do not count


#: Bits by which release, brickid and objid are shifted in DESI's 64-bit TARGETID, which is unique over DR9.
SHIFTS = MappingProxyType({"release": 42, "brickid": 22, "objid": 0})

ROW_NUMBER_TEXT = "the row's number, from 0, over all files in the order given: the files name no object"

HAYAT_2021 = Layout(
    name="Hayat et al. 2021",
    bands="ugriz",
    pixel_scale_arcsec=0.396,
    survey="SDSS DR12 (Hayat et al. 2021)",
    projection="as published, not stated: the object at the stamp's centre",
    identifier=("objid",),
    identifier_text="ObjID of SDSS DR12",
    meanings=MappingProxyType(
        {
            "objid": Meaning("objid"),
            "ebv": Meaning("extinction", per_band=True, above=-1.0),
            "speczredshift": Meaning("specz"),
            "speczredshifterr": Meaning("specz_err"),
        }
    ),
)

STEIN_2021 = Layout(
    name="Stein et al. 2021",
    bands="grz",
    pixel_scale_arcsec=0.262,
    survey="DESI Legacy Imaging Surveys DR9 (Stein et al. 2021)",
    projection="as published, not stated: the object near the stamp's centre",
    identifier=("release", "brickid", "objid"),
    identifier_text="DESI's TARGETID: release x 2**42 + brickid x 2**22 + objid, whose objid counts within a brick",
    meanings=MappingProxyType(
        {
            "objid": Meaning("brick_objid"),
            "ebv": Meaning("ebv_sfd", above=-1.0),
            "psfsize": Meaning("psf_fwhm", per_band=True, above=0.0),
            "zspec": Meaning("specz", above=-1.0),
        }
    ),
)


def recognise(image_shape: tuple[int, ...], where: str) -> Layout:
    """The layout whose bands the images have: shape (row, band, y, x)."""
    for layout in (HAYAT_2021, STEIN_2021):
        if len(image_shape) == 4 and image_shape[1] == len(layout.bands) and image_shape[2] == image_shape[3] > 0:
            return layout
    raise IngestError(
        f"{where}: expected images of shape (N, 5, y, y) as Hayat et al. 2021 or (N, 3, y, y) as Stein et al. 2021, "
        f"got {image_shape}; transpose or convert it first"
    )

"""The catalogue that goes with the practice survey, as its galaxies were measured; and a table of what they really are.

Columns have the names that `ingest.catalog` knows; all others are labels.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .conditions import CATALOGUE_LAW, Conditions, photoobj_psf_fwhm
from .geometry import RERUN, Field, lay_out
from .population import Galaxies
from .scene import GALAXIES_PER_FIELD, Stream, Targets, conditions_of, draw_targets, stream
from .spectra import BANDS, Array

SKY_VERSION = 2
SPECZ_ERROR = 1e-4  # of 1 + z: 30 km/s
SMOOTH_BULGE_FRACTION = 0.5
ROUND_AXIS_RATIO, CIGAR_AXIS_RATIO, EDGE_ON_AXIS_RATIO = 0.8, 0.5, 0.3


def plan(number: int) -> list[tuple[Field, int]]:
    """The survey's fields and how many of the `number` galaxies each has: 170, and the last one what is left."""
    fields = lay_out(-(-number // GALAXIES_PER_FIELD))
    return [(field, min(GALAXIES_PER_FIELD, number - GALAXIES_PER_FIELD * i)) for i, field in enumerate(fields)]


def draw_catalog(number: int, seed: int) -> pa.Table:
    """The catalogue of a survey of `number` galaxies, without painting it; `simulate` writes the same rows."""
    tables = []
    for place, (field, count) in enumerate(plan(number)):
        targets = draw_targets(seed, place, field, count)
        tables.append(catalog_table(seed, place, field, targets))
    return pa.concat_tables(tables)


def catalog_table(seed: int, place: int, field: Field, targets: Targets) -> pa.Table:
    """One row for each galaxy of a field, ordered as `targets`."""
    galaxies, number = targets.galaxies, len(targets.galaxies)
    errors = stream(seed, Stream.SPECTRA, place).normal(0.0, SPECZ_ERROR, number)
    columns: dict[str, NDArray[Any] | list[str]] = {
        "objid": object_ids(field, number),
        "run": np.full(number, field.strip.run, np.int32),
        "camcol": np.full(number, field.strip.camcol, np.int32),
        "field": np.full(number, field.number, np.int32),
        "rerun": [RERUN] * number,
        "thing_id": 1 + place * GALAXIES_PER_FIELD + np.arange(number),
        "ra": targets.ra_deg,
        "dec": targets.dec_deg,
        "ebv_sfd": targets.ebv_mag,
        **_per_band("extinction", targets.ebv_mag[:, None] * CATALOGUE_LAW),
        **_per_band("psf_fwhm", _psf_fwhm(conditions_of(seed, place, field), number)),
        **_per_band("petroMag", targets.photometry.petro_mag),
        **_per_band("modelMag", targets.photometry.model_mag),
        "petroR50_r": targets.photometry.petro_r50_arcsec,
        "petroR90_r": targets.photometry.petro_r90_arcsec,
        "expAB_r": targets.photometry.exp_axis_ratio,
        "specz": galaxies.redshift + errors * (1 + galaxies.redshift),
        "morphology": morphology(galaxies),
    }
    return pa.table(columns)


def truth_table(field: Field, targets: Targets) -> pa.Table:
    """What the galaxies of `catalog_table` really are; `flux_{band}` is the total painted, nanomaggies."""
    galaxies = targets.galaxies
    scalars = {name: getattr(galaxies, name) for name in galaxies.__slots__ if name != "mag"}
    identity = {"objid": object_ids(field, len(galaxies))}
    return pa.table(identity | scalars | _per_band("mag", galaxies.mag) | _per_band("flux", targets.flux))


def object_ids(field: Field, number: int) -> NDArray[np.int64]:
    """SDSS's 64-bit identifiers: sky version, rerun, run, camcol, field, number in the field, from bit 59 down."""
    place = SKY_VERSION << 59 | int(RERUN) << 48 | field.strip.run << 32 | field.strip.camcol << 29 | field.number << 16
    return np.int64(place) + np.arange(1, number + 1, dtype=np.int64)


def morphology(galaxies: Galaxies) -> list[str]:
    """The class of each galaxy, named as Galaxy Zoo 2's five are, from the bulge fraction and axis ratio painted."""
    share = galaxies.bulge_fraction
    axis_ratio = share * galaxies.bulge_axis_ratio + (1 - share) * galaxies.disc_axis_ratio
    smooth = share >= SMOOTH_BULGE_FRACTION
    conditions = {
        "completely round": smooth & (axis_ratio >= ROUND_AXIS_RATIO),
        "cigar-shaped": smooth & (axis_ratio < CIGAR_AXIS_RATIO),
        "in-between": smooth,
        "edge-on": galaxies.disc_axis_ratio < EDGE_ON_AXIS_RATIO,
    }
    return [str(name) for name in np.select(list(conditions.values()), list(conditions), default="disc")]


def _per_band(prefix: str, values: Array) -> dict[str, Array]:
    return {f"{prefix}_{band}": np.ascontiguousarray(values[:, number]) for number, band in enumerate(BANDS)}


def _psf_fwhm(conditions: Conditions, number: int) -> Array:
    widths = [photoobj_psf_fwhm(float(width)) for width in conditions.psf_fwhm_arcsec]
    return np.tile(widths, (number, 1))

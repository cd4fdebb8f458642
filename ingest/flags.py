"""SDSS's photometric flags by name: which bit of which column each one is.

The photometric pipeline keeps two words of 32 bits an object. photoObj files hold them as OBJC_FLAGS and OBJC_FLAGS2,
signed, so that the last flag of a word (MOVED) makes it negative. CasJobs holds one 64-bit column `flags`, whose low
half is the first word and whose high half is the second. The names are those of the survey's bit mask tables FLAGS1 and
FLAGS2; CasJobs calls a few otherwise: SATURATED is SATUR, COSMIC_RAY is CR, MEDIAN_CENTER is BINNED_CENTER.

These words speak of the whole object: most flags are set where they are set in any band. NOPETRO, say, is set in 70
to 80 % of a field's objects, because u and z are noisy. The words of single bands (FLAGS_r, FLAGS2_r) are not read.
"""

from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding.tables import find_column

from .catalog import Catalog, cast_column
from .errors import IngestError

#: Names by bit, 0 first.
OBJC_FLAGS = (
    *("CANONICAL_CENTER", "BRIGHT", "EDGE", "BLENDED", "CHILD", "PEAKCENTER", "NODEBLEND", "NOPROFILE"),
    *("NOPETRO", "MANYPETRO", "NOPETRO_BIG", "DEBLEND_TOO_MANY_PEAKS", "CR", "MANYR50", "MANYR90", "BAD_RADIAL"),
    *("INCOMPLETE_PROFILE", "INTERP", "SATUR", "NOTCHECKED", "SUBTRACTED", "NOSTOKES", "BADSKY", "PETROFAINT"),
    *("TOO_LARGE", "DEBLENDED_AS_PSF", "DEBLEND_PRUNED", "ELLIPFAINT", "BINNED1", "BINNED2", "BINNED4", "MOVED"),
)
#: Names by bit, 0 first. Bits 29 to 31 are spare.
OBJC_FLAGS2 = (
    *("DEBLENDED_AS_MOVING", "NODEBLEND_MOVING", "TOO_FEW_DETECTIONS", "BAD_MOVING_FIT", "STATIONARY"),
    *("PEAKS_TOO_CLOSE", "BINNED_CENTER", "LOCAL_EDGE", "BAD_COUNTS_ERROR", "BAD_MOVING_FIT_CHILD"),
    *("DEBLEND_UNASSIGNED_FLUX", "SATUR_CENTER", "INTERP_CENTER", "DEBLENDED_AT_EDGE", "DEBLEND_NOPEAK"),
    *("PSF_FLUX_INTERP", "TOO_FEW_GOOD_DETECTIONS", "CENTER_OFF_AIMAGE", "DEBLEND_DEGENERATE"),
    *("BRIGHTEST_GALAXY_CHILD", "CANONICAL_BAND", "AMOMENT_UNWEIGHTED", "AMOMENT_SHIFT", "AMOMENT_MAXITER"),
    *("MAYBE_CR", "MAYBE_EGHOST", "NOTCHECKED_CENTER", "HAS_SATUR_DN", "DEBLEND_PEEPHOLE"),
)
_WORD = 32
#: Bit of each flag in CasJobs' 64-bit word.
BITS = {name: bit for bit, name in enumerate(OBJC_FLAGS)} | {name: _WORD + bit for bit, name in enumerate(OBJC_FLAGS2)}


def check_names(names: Iterable[str]) -> None:
    """IngestError for a name that is no flag; it lists those that look alike."""
    for name in names:
        if name not in BITS:
            close = get_close_matches(name.upper(), BITS, cutoff=0.5)
            told = f"did you mean {' or '.join(close)}?" if close else "names are as in SDSS's FLAGS1 and FLAGS2"
            raise IngestError(f"--reject-flags: expected photometric flags such as SATUR or EDGE, got {name!r}; {told}")


def is_set(catalog: Catalog, name: str) -> npt.NDArray[np.bool_]:
    """Which objects have the flag: (object,). IngestError where the catalogue has no flags, or not for every object."""
    bit = BITS[name]
    split = find_column(catalog.table, "objc_flags" if bit < _WORD else "objc_flags2")
    if split is not None:
        word, shift = _words(catalog, split), bit % _WORD
    else:
        word, shift = _casjobs_words(catalog, name), bit
    # A shift keeps the sign, so bit 31 of a negative 32-bit word is 1, as it should be.
    return np.asarray((word >> shift) & 1 == 1)


def _casjobs_words(catalog: Catalog, name: str) -> npt.NDArray[np.int64]:
    found = find_column(catalog.table, "flags")
    if found is None:
        raise IngestError(
            f"{catalog.path}: --reject-flags {name} needs objc_flags and objc_flags2 (photoObj) or flags (CasJobs), "
            "found none; add them or drop the flag"
        )
    words = _words(catalog, found)
    kind = catalog.table[found].type
    if (words < 0).any() or (pa.types.is_integer(kind) and kind.bit_width < 2 * _WORD):
        raise IngestError(
            f"{catalog.path}: column {found} is one 32-bit word, expected CasJobs' 64 bits; call it objc_flags"
        )
    return words


def _words(catalog: Catalog, found: str) -> npt.NDArray[np.int64]:
    column = cast_column(catalog.table[found], pa.int64(), found, catalog.path)
    if column.null_count:
        raise IngestError(f"{catalog.path}: column {found} has {column.null_count} missing values; drop those rows")
    return np.asarray(column.to_numpy())

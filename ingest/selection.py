"""Which rows of a catalogue are asked for. Each condition says how many rows it removed.

photoObj files list every detection: stars, family members, and the same galaxy once for each observation. Other
catalogues are taken as they are, but for the magnitude cut and the flags.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .catalog import Catalog
from .errors import IngestError
from .flags import check_names, is_set

GALAXY = 3  # OBJC_TYPE
PRIMARY, SECONDARY = 1, 2  # MODE

Mask = npt.NDArray[np.bool_]
Condition = Callable[[Catalog], Mask]  # True: keep the row


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionConfig:
    """What to ask of a catalogue."""

    max_petro_r: float | None = None  # keep petroMag_r up to this [mag]
    dereddened: bool = False  # apply the cut to petroMag_r - extinction_r
    keep_repeats: bool = False  # keep every observation of a THING_ID
    reject_flags: tuple[str, ...] = ()  # drop objects with any of these photometric flags (ingest.flags)

    def __post_init__(self) -> None:
        check_names(self.reject_flags)
        if self.dereddened and self.max_petro_r is None:
            raise IngestError("--dereddened: it changes the cut of --max-petro-r, which was not given; give both")


@dataclass(frozen=True, slots=True)
class Step:
    """One condition and the rows that it removed from those that the earlier ones left."""

    condition: str
    removed: int


def select(catalog: Catalog, config: SelectionConfig) -> tuple[Catalog, list[Step]]:
    """Apply the conditions in turn; IngestError where no row is left."""
    left = catalog
    steps: list[Step] = []
    for condition, keep in _conditions(catalog, config):
        mask = keep(left)
        steps.append(Step(condition, int((~mask).sum())))
        if not mask.all():  # a filter copies the table
            left = replace(left, table=left.table.filter(pa.array(mask)))
    if len(left) == 0:
        told = "; ".join(f"{step.condition} removed {step.removed}" for step in steps)
        raise IngestError(f"{catalog.path}: none of its {len(catalog)} rows is left ({told}); widen the selection")
    return left, steps


def _conditions(catalog: Catalog, config: SelectionConfig) -> Iterator[tuple[str, Condition]]:
    if catalog.is_photoobj:
        yield "not a galaxy (OBJC_TYPE 3)", lambda left: left.need("objc_type") == GALAXY
        yield (
            "neither primary nor secondary (MODE 1 or 2)",
            lambda left: np.isin(left.need("mode"), (PRIMARY, SECONDARY)),
        )
    if config.max_petro_r is not None:
        limit = config.max_petro_r
        if config.dereddened:
            yield (
                f"petroMag_r - extinction_r missing or above {limit}",
                lambda left: left.need("petroMag_r") - left.need("extinction_r") <= limit,
            )
        else:
            yield f"petroMag_r missing or above {limit}", lambda left: left.need("petroMag_r") <= limit
    for flag in config.reject_flags:
        yield f"flag {flag} set", partial(_without, flag=flag)
    if catalog.is_photoobj and not config.keep_repeats:  # last: a clean observation may stand in for a rejected one
        yield "another observation of the same THING_ID", _first_observation


def _without(left: Catalog, flag: str) -> Mask:
    return ~is_set(left, flag)


def _first_observation(left: Catalog) -> Mask:
    """One row a THING_ID: MODE 1 before 2, then the smallest objid. A THING_ID below 1 identifies nothing."""
    thing, mode = left.need("thing_id"), left.need("mode")
    objid = np.asarray(left.table["objid"].to_numpy())
    rows = np.flatnonzero(thing > 0)
    ranked = rows[np.lexsort((objid[rows], mode[rows], thing[rows]))]
    repeated = ranked[1:][thing[ranked[1:]] == thing[ranked[:-1]]]
    keep = np.ones(len(left), dtype=bool)
    keep[repeated] = False
    return keep

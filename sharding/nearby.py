"""Union-find over rows of a table, and the union of rows that are close on the sky. Knows positions, not catalogues.

A forest is an array that gives each row another row of its group, or itself where it is the group's root. numba is
imported here: import this module where it is needed.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .compiled import compiled

Indices = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

_X, _Y = 1 << 40, 1 << 20  # a cell's number is ix * _X + iy * _Y + iz: three cells along z are three numbers in a row


@compiled
def _root(forest: Any, row: Any) -> Any:
    while forest[row] != row:
        forest[row] = forest[forest[row]]  # halves the path for those who come after
        row = forest[row]
    return row


@compiled
def _unite(forest: Any, a: Any, b: Any) -> None:
    a, b = _root(forest, a), _root(forest, b)
    forest[max(a, b)] = min(a, b)


@compiled
def unite_pairs(forest: Indices, left: Indices, right: Indices) -> None:
    """Make one group, in ``forest``, of left[i] and right[i] for each i."""
    for pair in range(len(left)):
        _unite(forest, left[pair], right[pair])


def unite_close(forest: Indices, lone: Indices, others: Indices, position: Float64s, angle_arcsec: float) -> None:
    """Make one group, in ``forest``, of each row of ``lone`` and all rows of both lists within this angle of it.

    ``position``: (row, (ra, dec)) [deg], needed for those rows alone. Two ``others`` are not compared.

    The sky is cut into cubes whose side is the chord of the angle, so what is close to a point lies in the 27 cubes
    around it: right ascension has no end to wrap at there, and there are no poles.
    """
    chord = 2 * np.sin(np.deg2rad(angle_arcsec / 3600) / 2)
    lone, lone_unit, lone_cell = _by_cell(lone, position, chord)
    every, unit, cell = _by_cell(np.concatenate([lone, others]), position, chord)
    _unite_neighbours(forest, lone, lone_unit, lone_cell, every, unit, cell, chord**2)


def _by_cell(rows: Indices, position: Float64s, chord: float) -> tuple[Indices, Float64s, Indices]:
    """The rows in the order of their cells, their unit vectors (n, 3) and their cells (n,)."""
    ra, dec = np.deg2rad(position[rows]).T
    unit = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    # A hair wider than the chord, so that rounding takes no neighbour two cells away.
    along = np.floor((unit + 1.0) / (chord * (1 + 1e-9))).astype(np.int64)
    cell = along @ np.array([_X, _Y, 1])
    order = np.argsort(cell, kind="stable")
    return rows[order], unit[order], cell[order]


@compiled
def _unite_neighbours(
    forest: Any, lone: Any, lone_unit: Any, lone_cell: Any, every: Any, unit: Any, cell: Any, chord_squared: Any
) -> None:
    for column in range(9):  # of three cells, around the row's own; both lists ascend, so `low` only ever grows
        middle = (column // 3 - 1) * _X + (column % 3 - 1) * _Y
        low = 0
        for here in range(len(lone)):
            first = lone_cell[here] + middle - 1
            while low < len(cell) and cell[low] < first:
                low += 1
            there = low
            while there < len(cell) and cell[there] <= first + 2:
                squared = 0.0
                for axis in range(3):
                    squared += (unit[there, axis] - lone_unit[here, axis]) ** 2
                if squared <= chord_squared:
                    _unite(forest, lone[here], every[there])
                there += 1

"""What changed: noise is no change, a change is found, and a faster machine is not taken for a faster program."""

import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from benchmarks.compare import Change, compare, show
from benchmarks.noise import error, sigma, typical_sigma
from benchmarks.results import Report, Result
from benchmarks.timing import summary

from .made_up import OURS, SINGLE, STEP, THEIRS, measured, report, result


def _changed(changes: tuple[Change, ...]) -> set[str]:
    return {change.name for change in changes if change.direction}


def test_the_noise_of_runs_from_their_quartiles():
    random = np.random.default_rng(0)
    for runs in (2, 3, 5, 9, 40):
        rates = 100 * np.exp(0.03 * random.standard_normal((4000, runs)))
        found = np.mean([sigma(summary("a", "images/s", each, 1, {})) for each in rates])
        # Blom's scores are within 7 % for three values and better beyond.
        assert found == pytest.approx(0.03, rel=0.08)


def test_the_error_of_a_change_in_closed_form():
    """Of 40 runs about a quarter of the variance of 10; of a quotient the sum of both parts'."""
    few, many = (_with_sigma(0.04, runs) for runs in (10, 40))
    one = error([(few, many)], least=0.0)
    assert one == pytest.approx(0.04 * math.sqrt(math.pi / 2 * (1 / 10 + 1 / 40)))
    assert error([(few, many), (few, many)], least=0.0) == pytest.approx(math.sqrt(2) * one)


def test_no_noise_is_taken_to_be_smaller_than_typical():
    """Quartiles that are close by chance."""
    lucky = _with_sigma(1e-6, 5)
    assert error([(lucky, lucky)], least=0.03) == pytest.approx(0.03 * math.sqrt(math.pi / 2 * 2 / 5))
    assert typical_sigma([_with_sigma(each, 5) for each in (0.01, 0.03, 0.9)]) == pytest.approx(0.03)
    assert typical_sigma([_with_sigma(0.5, 1)]) == 0.0


def _with_sigma(wanted: float, runs: int) -> Result:
    """Whose quartiles lie as they should of runs that scatter by so much."""
    rates = result("read: some", 100.0, runs=runs)
    times = wanted / sigma(rates) if runs > 1 else 1.0
    return replace(rates, median=1.0, q25=(rates.q25 / 100) ** times, q75=(rates.q75 / 100) ** times)


def test_noise_alone_is_a_change_in_at_most_one_comparison_of_twenty():
    wrong = {"rates": 0, "of_limits": 0, "ratios": 0}
    for seed in range(100):
        found = compare(measured(0.03, 2 * seed), measured(0.03, 2 * seed + 1))
        for kind in wrong:
            wrong[kind] += bool(_changed(getattr(found, kind)))
    assert all(count <= 5 for count in wrong.values()), wrong


def test_a_change_of_a_fifth_is_found_in_noise_of_three_percent():
    found = compare(measured(0.03, 0), measured(0.03, 1, train=1.2))
    (step,) = (change for change in found.rates if change.name == STEP)
    assert step.direction == 1
    assert step.factor == pytest.approx(1.2, rel=0.1)
    assert {name.partition(":")[0] for name in _changed(found.rates)} == {"train"}


def test_a_slower_machine_is_not_a_slower_program():
    found = compare(measured(0.02, 0), measured(0.02, 1, drift=1 / 1.5))
    assert found.drift == pytest.approx(1 / 1.5, rel=0.05)
    assert all(change.direction == -1 for change in found.rates if change.noise is not None)
    assert _changed(found.of_limits) == _changed(found.ratios) == set()


def test_what_no_quartile_has_seen_widens_the_noise():
    """All rates scatter between two calls by much more than within each."""
    random = np.random.default_rng(0)

    def moved(report: Report) -> Report:
        factors = np.exp(0.05 * random.standard_normal(len(report.results)))
        return replace(report, results=tuple(map(_times, report.results, factors.tolist())))

    pairs = [(measured(0.002, 2 * seed), moved(measured(0.002, 2 * seed + 1))) for seed in range(40)]
    directions = [change.direction for pair in pairs for change in compare(*pair).rates if change.noise is not None]
    assert np.mean(np.abs(directions)) < 0.01


def _times(result: Result, factor: float) -> Result:
    return result.converted(result.name, result.unit, factor, bytes_per_image=result.bytes_per_image)


def test_a_single_run_does_not_tell_its_noise():
    found = compare(measured(0.03, 0), measured(0.03, 1, ingest=3.0))
    (job,) = (change for change in found.rates if change.name == SINGLE)
    assert job.noise is None
    assert job.direction is None
    assert next(change for change in found.of_limits if change.name == SINGLE).direction is None
    assert next(change for change in found.ratios if "astropy" in change.name).direction is None


def _only(old: Report, without: str) -> Report:
    return replace(old, results=tuple(each for each in old.results if each.name != without))


def test_what_is_in_one_of_them_only():
    found = compare(_only(report(), OURS), _only(report(), THEIRS))
    assert (found.gone, found.added) == ((THEIRS,), (OURS,))
    assert not {OURS, THEIRS} & {change.name for change in found.rates}
    assert all(change.noise is None for change in found.ratios if THEIRS in change.name)


def test_another_unit_is_another_result():
    frames = tuple(replace(each, unit="frames/s") if each.name == OURS else each for each in report().results)
    found = compare(report(), replace(report(), results=frames))
    assert (found.gone, found.added) == ((OURS,), (OURS,))


def test_other_machines_versions_and_amounts_are_told():
    other = replace(report(), full=True, stage="read", machine={"cpu": "slide rule", "versions": {"torch": "3.0"}})
    warnings = "\n".join(compare(report(), other).warnings)
    for text in ("one is quick, the other full", "one is of all, the other of read", "cpu was abacus, is slide rule",
                 "cores was 2, is None", "torch was 2.13.0, is 3.0"):  # fmt: skip
        assert text in warnings
    assert compare(report(), report()).warnings == ()


def test_reports_without_anything_in_common():
    found = compare(replace(report(), results=(), ratios={}), report())
    assert found.rates == found.of_limits == found.ratios == ()
    assert found.drift is None


def test_what_people_see():
    console = Console(width=100, record=True)
    show(measured(0.03, 0), _only(measured(0.03, 1, train=1.3), OURS), console)
    shown = console.export_text()
    for text in ("MoCo step", "faster", "within noise", "noise unknown", "one run", f"in the old one only: {OURS}",
                 "the machine itself, by its limits: ", "higher"):  # fmt: skip
        assert text in shown
    assert max(map(len, shown.splitlines())) <= 100

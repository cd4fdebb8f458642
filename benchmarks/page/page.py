"""One self-contained HTML page of a report: what binds and what to do first, then promises, figures, every result."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainer.page import Picture, Section, Table
from trainer.page import write_page as write_html

from ..results import Report
from ..table import of_stage
from ..wording import bound, megabytes, outcome, quartiles, rate, ratio, share
from . import figures
from .figures import Panel

_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z])")
_ORDER = {False: 0, None: 1, True: 2}  # of promises: what falls short first


def write_page(report: Report, path: Path) -> None:
    """Write the page, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="skymill-page-") as name:
        write_html(
            path,
            title=f"Skymill benchmarks: {report.stage}",
            lead=_lead(report),
            sections=list(_sections(report, _Gallery(Path(name)))),
            credit=f"Commit {report.commit or 'unknown'}. Medians; whiskers and ranges are quartiles.",
        )


class _Gallery:
    """Draws panels into a folder, and numbers the files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._drawn = folder, 0

    def pictures(self, panels: Sequence[Panel | None], text: str = "") -> list[Picture]:
        """Those that there are."""
        return [self._picture(panel, text) for panel in panels if panel is not None]

    def _picture(self, panel: Panel, text: str) -> Picture:
        path = self._folder / f"{self._drawn}.png"
        self._drawn += 1
        panel.write(path)
        return Picture(path, text)


def _lead(report: Report) -> str:
    cpu, cores, accelerator = (report.machine.get(key) for key in ("cpu", "cores", "accelerator"))
    where = f"{cpu}, {cores} cores, {accelerator or 'no accelerator'}"
    return f"Measured on {report.date}, {'for publication' if report.full else 'quickly'}: {where}."


def _sections(report: Report, gallery: _Gallery) -> Iterator[Section]:
    yield Section(title="What binds, and what to change", text=_SENTENCE.split(report.verdict))
    if gpus := report.analysis.get("gpus"):
        pictures = gallery.pictures([figures.idle(report)], "share of their time for which GPUs would wait for data")
        yield Section(title="GPUs on this host", table=_gpus(gpus), pictures=pictures)
    if report.promises:
        yield Section(title="What was promised", table=_promises(report))
    if pictures := gallery.pictures(figures.bars(report)):
        yield Section(title="Beside others", text=["Ours in colour, on the same data."], pictures=pictures)
    if pictures := gallery.pictures([figures.shares(report)], "the rate of ours as a share of what the machine allows"):
        pictures += gallery.pictures([figures.roofline(report)], _ROOFLINE)
        yield Section(title="Beside the machine's limits", pictures=pictures)
    if pictures := gallery.pictures(figures.curves(report)):
        yield Section(title="Scaling", pictures=pictures)
    yield Section(title="Every result", table=_results(report))
    promised = {promise.what for promise in report.promises}
    if others := {name: value for name, value in report.ratios.items() if name not in promised}:
        rows = [(of_stage(name), ratio(value)) for name, value in others.items()]
        yield Section(title="Other ratios", table=Table(("", "ratio"), rows))
    if report.footing:
        yield Section(title="Equal footing", table=_sentences(report.footing, "what it does beside ours"))
    if report.left_out:
        yield Section(title="Left out", table=_sentences(report.left_out, "why"))
    yield Section(title="The machine", table=_machine(report))


_ROOFLINE = (
    "sloped: memory (a copy reads and writes each byte); level: arithmetic; bytes are those of images or views alone, "
    "not of weights and activations"
)


def _gpus(gpus: Sequence[Mapping[str, object]]) -> Table:
    rows = [
        (
            str(each["gpus"]),
            rate(float(str(each["images_per_s"]))),
            share(float(str(each["idle"]))),
            str(each["binding"]),
        )
        for each in gpus
    ]
    return Table(("GPUs", "images/s", "idle", "binding"), rows)


def _promises(report: Report) -> Table:
    promises = sorted(report.promises, key=lambda promise: _ORDER[promise.kept])
    return Table(
        ("", "measured", "promised", ""),
        [
            (of_stage(each.what), "" if each.measured is None else ratio(each.measured), bound(each), outcome(each))
            for each in promises
        ],
    )


def _results(report: Report) -> Table:
    return Table(
        ("", "rate", "", "quartiles", "runs", "MB/s", "of limit", "limit"),
        [
            (each.name, rate(each.median), each.unit, quartiles(each), str(each.runs), megabytes(each),
             share(report.of_limit(each)), each.limit.name.removeprefix("limit: ") if each.limit else "")
            for each in report.results
        ],
    )  # fmt: skip


def _sentences(said: Mapping[str, str], head: str) -> Table:
    return Table(("", head), list(said.items()))


def _machine(report: Report) -> Table:
    versions = report.machine.get("versions")
    rows = {key.replace("_", " "): value for key, value in report.machine.items() if key != "versions"}
    rows |= versions if isinstance(versions, Mapping) else {}
    text = {key: "none" if value is None else str(value) for key, value in rows.items()}
    return Table(("", ""), [*text.items(), ("commit", report.commit or "unknown"), ("measured on", report.date)])

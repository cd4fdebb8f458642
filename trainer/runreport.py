"""The page of one run, RUN/report.html: what it is, how its training goes or went, how it was judged, what is kept.

It is made from the files of the RUN folder alone, at any time: while the run is under way, after a kill, or of a run
that has logged nothing yet. What the scores in `metrics.json` are is the judges' affair; here any are shown.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from .checkpoint import BEST, Checkpoints
from .collapse import warnings
from .config import EncoderConfig, FinetuneConfig, PretrainConfig, option
from .curves import draw_curves
from .errors import TrainerError
from .page import Picture, Section, Table, write_page
from .quantities import RUNNING, in_order, quantity
from .runfolder import RunInfo
from .trace import METRICS, Trace, checkpoint_files, read_trace
from .version import VERSION

CURVES, COURSE = "curves.png", "running.png"
CAPTIONS = {  # of the figures that judging draws, in the order of the page; others follow by their name
    "redshift": "estimates against spectroscopic redshifts",
    "residuals": "residuals against redshift",
    "bins": "the scores in bins of redshift and magnitude",
    "pit": "probability integral transform: flat where the densities are calibrated",
    "confusion": "which class is taken for which",
    "roc": "true positives against false positives",
    "densities": "probability densities of some galaxies",
}
WIDE = ("densities", "bins")


def write_run_report(run: Path) -> Path:
    """Write RUN/report.html and the figures of the training; TrainerError where the folder holds no run."""
    info = RunInfo.read(run)
    trace = read_trace(run / METRICS)
    sections = [
        *_scores(run),
        _training(run, info, trace),
        *_figures(run),
        *_settings(info.config),
        _kept(run),
    ]
    path = run / "report.html"
    title = f"Run {run.resolve().name}"
    write_page(path, title=title, lead=lead(info, trace), sections=sections, credit=f"Written by Skymill {VERSION}.")
    return path


def lead(info: RunInfo, trace: Trace) -> str:
    """What the run is and how far, in two sentences."""
    config = info.config
    what = "Pre-training without labels (MoCo v2)"
    if isinstance(config, FinetuneConfig):
        begun = f"begun with {info.init}" if info.init else "from scratch"
        what = f"Training on labels ({config.task}, {'the head alone, ' if config.freeze else ''}{begun})"
    place = "It has logged nothing yet."
    if trace.records:
        last = trace.records[-1]
        place = f"Last logged: step {last['step']:,}, epoch {last.get('epoch', 0) + 1:,} of {config.epochs:,}."
    encoder = config.encoder
    return (
        f"{what} of a ResNet-{encoder.depth} of width {encoder.width}, bands {', '.join(info.bands)}, "
        f"dataset {info.dataset[:12]}. {place}"
    )


def _training(run: Path, info: RunInfo, trace: Trace) -> Section:
    """What was noticed, the last value of each quantity, and the curves."""
    text = [_damage(trace)] if trace.damaged else []
    if isinstance(info.config, PretrainConfig):
        text += warnings(trace.records, queue=info.config.queue, batch=info.config.batch)
    if not trace.records:
        return Section(title="Training", text=[*text, "Nothing is logged yet."])
    pictures = []
    if draw_curves(run, run / "figures" / CURVES, title="training"):
        pictures.append(Picture(run / "figures" / CURVES, "what was learnt"))
    if draw_curves(run, run / "figures" / COURSE, title="how it ran", shown=RUNNING):
        pictures.append(Picture(run / "figures" / COURSE, "how it ran"))
    return Section(title="Training", text=text, table=_last_values(trace), pictures=pictures)


def _damage(trace: Trace) -> str:
    lines = ", ".join(map(str, trace.damaged))
    return f"Damaged lines of {METRICS} are left out (number {lines}); the others are shown."


def _last_values(trace: Trace) -> Table:
    """Each quantity as it was logged last: not all are in every record."""
    last = {name: (record["step"], value) for record in trace.records for name, value in record.items()}
    rows = [
        (quantity(name).label, quantity(name).text(last[name][1]), f"{last[name][0]:,}") for name in in_order({*last})
    ]
    return Table(("quantity", "last value", "at step"), rows)


def _figures(run: Path) -> list[Section]:
    """Every other picture in figures/."""
    found = {path.stem: path for path in sorted((run / "figures").glob("*.png")) if path.name not in (CURVES, COURSE)}
    names = [name for name in CAPTIONS if name in found] + [name for name in found if name not in CAPTIONS]
    pictures = [Picture(found[name], CAPTIONS.get(name, name.replace("_", " ")), name in WIDE) for name in names]
    return [Section(title="Figures", pictures=pictures)] if pictures else []


def _scores(run: Path) -> list[Section]:
    """What `metrics.json` says: single numbers with their errors, then every table in it."""
    path = run / "metrics.json"
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return [Section(title="Judged", text=[f"{path.name} is damaged: run evaluate again."])]
    text = ["On the test split. An error is one standard deviation over bootstrap samples of the galaxies."]
    text += [str(note) for note in content.get("notes", [])]
    tables = [Section(title=f"Judged: {name}", table=_as_table(rows)) for name, rows in _tables(content)]
    return [Section(title="Judged", text=text, table=_numbers(content)), *tables]


def _numbers(content: Mapping[str, Any]) -> Table:
    flat = dict(_flat(content))
    rows = [
        (name, _text(value), _text(flat.get(f"{name}_error", "")))
        for name, value in flat.items()
        if not name.endswith("_error")
    ]
    return Table(("score", "value", "error"), rows)


def _flat(content: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Single values by their name, those of an inner table by ``outer: name``."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}: ")
        elif not isinstance(value, list):
            yield f"{within}{name}", value


def _tables(content: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Lists of rows, by the names that lead to them."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _tables(value, f"{within}{name}, ")
        elif isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
            yield f"{within}{name}", value


def _as_table(rows: list[dict[str, Any]]) -> Table:
    """One column for each name; an error stands behind its value."""
    names = [name for name in rows[0] if not name.endswith("_error")]
    return Table(names, [[_with_error(row, name) for name in names] for row in rows])


def _with_error(row: Mapping[str, Any], name: str) -> str:
    error = row.get(f"{name}_error")
    return _text(row.get(name, "")) + ("" if error is None else f" ± {_text(error)}")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def _settings(config: PretrainConfig | FinetuneConfig) -> list[Section]:
    """What was chosen first, then what is as by default."""
    rows = list(_options(config))
    chosen = [row for row in rows if row[1] != row[2]]
    default = [(name, value) for name, value, usual in rows if value == usual]
    head = Section(title="Settings that were chosen", text=["None: all are the defaults."])
    if chosen:
        head = Section(title="Settings that were chosen", table=Table(("setting", "value", "default"), chosen))
    return [head, Section(title="Settings at their defaults", table=Table(("setting", "value"), default))]


def _options(config: PretrainConfig | FinetuneConfig | EncoderConfig) -> Iterator[tuple[str, str, str]]:
    """Each setting as an option, with its value and its default."""
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, EncoderConfig):
            yield from _options(value)
        else:
            yield option(item.name), _setting(value), _setting(item.default)


def _setting(value: object) -> str:
    return "not set" if value is None else str(value)


def _kept(run: Path) -> Section:
    """The checkpoints held, and what wrote the newest."""
    files = [*checkpoint_files(run).values(), run / "checkpoints" / BEST]
    rows = [(path.name, f"{path.stat().st_size / 1e6:,.1f} MB") for path in files if path.is_file()]
    if not rows:
        return Section(title="Checkpoints", text=["None is held yet."])
    return Section(title="Checkpoints", text=[_versions(run)], table=Table(("file", "size"), rows))


def _versions(run: Path) -> str:
    try:
        newest = Checkpoints(run / "checkpoints").newest() or {}
    except TrainerError as err:
        return str(err)
    by = ", ".join(f"{name} {version}" for name, version in newest.get("versions", {}).items())
    return f"Written with {by}." if by else "What wrote them is not known."

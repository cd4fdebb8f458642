"""The page holds everything that the report has, and nothing from elsewhere; figures are drawn of whatever is there."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks.page import figure, write_page
from benchmarks.page.panels import draw_bars, draw_curve, draw_idle, draw_shares, labels
from benchmarks.page.roofline import ceilings, draw_roofline, has_roofline, points
from benchmarks.results import Bars, Curve, Report
from benchmarks.wording import short

from .made_up import COPY, OURS, PRODUCT, STEP, THEIRS, report, result

EMPTY = replace(
    report(), results=(), ratios={}, promises=(), left_out={}, footing={}, bars=(), curves=(), verdict="", analysis={}
)
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "bench.html"
    write_page(report(), path)
    assert [*path.parent.iterdir()] == [path]
    return path.read_text()


def test_the_page_says_all(page: str):
    made = report()
    said = [
        made.verdict, made.date, str(made.commit), *(result.name for result in made.results), *made.footing.values(),
        "augment: kornia", "not installed", "falls short", "kept", "not measured: needs a GPU", "at least 10",
        "99 %", "one run", "abacus", "2.13.0",
    ]  # fmt: skip
    missing = [text for text in said if text not in page]
    assert not missing


def test_the_page_needs_no_network(page: str):
    """Every picture lies in it, and nothing is asked for."""
    sources = re.findall(r'(?:src|href)="([^"]{22})', page)
    assert set(sources) == {"data:image/png;base64,"}
    made = report()
    assert len(sources) == len(made.bars) + len(made.curves) + 3  # shares of limits, roofline, idle GPUs
    assert "http" not in page


def test_what_falls_short_comes_first(page: str):
    promises = page[page.index("What was promised") : page.index("Beside others")]
    assert promises.index("falls short") < promises.index("not measured") < promises.index("kept")


def test_names_are_text(tmp_path: Path):
    name = "read: <b>$x_$ & $y"
    made = replace(
        report(), results=(result(name, 1.0, limit=None),), bars=(Bars(title=name, results=(name,)),), curves=()
    )
    write_page(made, tmp_path / "bench.html")
    assert "<b>$" not in (tmp_path / "bench.html").read_text()


def test_a_report_of_nothing_has_a_page(tmp_path: Path):
    write_page(EMPTY, tmp_path / "bench.html")
    text = (tmp_path / "bench.html").read_text()
    assert "<img" not in text
    assert "What was promised" not in text


@pytest.mark.parametrize("made", [report(), EMPTY, replace(report(), bars=()), replace(report(), curves=())])
def test_one_figure_sums_it_up(tmp_path: Path, made: Report):
    figure(made, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(PNG)


def test_bars_are_as_long_as_the_rates():
    axes = Figure().add_subplot()
    draw_bars(axes, report(), Bars(title="two", results=(OURS, THEIRS)))
    assert [bar.get_width() for bar in axes.patches] == [66_959.0, 22_755.0]
    assert [text.get_text() for text in axes.texts] == ["66,959", "22,755"]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()
    assert axes.get_xlabel() == "images/s"


def test_shares_are_those_of_the_limits():
    axes, made = Figure().add_subplot(), report()
    draw_shares(axes, made, [each for each in made.results if each.name in (OURS, STEP)])
    read, train = (bar.get_width() for bar in axes.patches)
    assert read == pytest.approx(100 * 66_959 * 228_980e-9 / 15.5)
    assert train == pytest.approx(100 * 67 * 0.62 / 115)
    assert f"of {short(PRODUCT)}" in {text.get_text() for text in axes.texts}


def test_an_ideal_is_drawn_where_more_should_do_more():
    made = report()
    drawn = {}
    for chart in made.curves:
        axes = Figure().add_subplot()
        draw_curve(axes, made, chart)
        drawn[chart.axis] = {line.get_label(): line for line in axes.get_lines()}
    ideal = drawn["threads"]["ideal"]
    assert list(ideal.get_xdata()) == [1, 8]
    assert list(ideal.get_ydata()) == pytest.approx([33_168, 8 * 33_168])
    assert "ideal" in drawn["ranks"]
    assert "ideal" not in drawn["batch"]


def test_what_is_no_number_is_drawn_in_groups():
    axes, made = Figure().add_subplot(), report()
    (chart,) = (chart for chart in made.curves if chart.axis == "encoding")
    draw_curve(axes, made, chart)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["float32", "float16", "int16"]
    assert [bar.get_height() for bar in axes.patches] == [66_959.0, 110_000.0, 119_720.0]


def test_a_curve_that_begins_at_nothing():
    """Zero workers have no place on a logarithmic axis."""
    results = tuple(result(f"read: {n}", 1.0 + n, params={"samples": n}) for n in (0, 4))
    axes = Figure().add_subplot()
    chart = Curve(title="from 0", axis="samples", lines={"ours": ("read: 0", "read: 4"), "theirs": ()})
    draw_curve(axes, replace(report(), results=results), chart)
    assert axes.get_xscale() == "linear"


def test_idle_gpus():
    axes = Figure().add_subplot()
    draw_idle(axes, report().analysis["gpus"])
    assert [bar.get_height() for bar in axes.patches][:3] == [0, 0, 0]
    assert axes.patches[6].get_height() == pytest.approx(100 * (1 - 11_000 / (2600 * 64)))
    assert axes.texts[6].get_text() == "93 %\naugment"


def test_the_roofline_in_closed_form():
    """A step of 0.62 GFLOP for 915,920 bytes, 67 times a second; the ridge is where 115 GFLOP/s need 31 GB/s."""
    made = report()
    (step,) = (point for point in points(made) if point.result.name == STEP)
    assert step.intensity == pytest.approx(0.62e9 / 915_920)
    assert step.rate == pytest.approx(67 * 0.62)
    arithmetic, memory = ceilings(made)
    assert ([each.name for each in arithmetic], [each.name for each in memory]) == ([PRODUCT], [COPY])
    axes = Figure().add_subplot()
    draw_roofline(axes, made)
    roof = next(line for line in axes.get_lines() if len(line.get_xdata()) > 2)
    for intensity, height in zip(roof.get_xdata(), roof.get_ydata(), strict=True):
        assert height == pytest.approx(min(115.0, 31.0 * intensity))


def test_no_roofline_without_ceilings_or_points():
    made = report()
    assert has_roofline(made)
    for without in (PRODUCT.rpartition(", fp32")[0], COPY.rpartition(",")[0], "augment"):
        left = tuple(each for each in made.results if not each.name.startswith((without, "train")))
        assert not has_roofline(replace(made, results=left))


def test_labels_lose_what_all_have_in_common():
    names = ["skymill op, stein2021, 2 threads", "DALI, raw, stein2021, 2 threads"]
    assert labels(names) == ["skymill op", "DALI, raw"]
    assert labels(["only one, 1 thread"]) == ["only one, 1 thread"]
    assert labels(["same, 1 thread", "same, 1 thread"]) == ["same", "same"]
    assert labels(["a name of more than thirty characters costs $5 and $6", "b"])[0] == (
        "a name of more than thirty\ncharacters costs \\$5 and \\$6"
    )

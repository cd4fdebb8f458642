"""A report such as `python -m benchmarks all` writes, with made-up rates."""

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.limits import matrix, memory_copy, threads_text
from benchmarks.results import Bars, Curve, Limit, Promise, Ratio, Report, Result, StageReport
from benchmarks.timing import summary

IMAGE_BYTES, VIEW_BYTES = 228_980, 310_900
COPY, PRODUCT, BZIP2 = memory_copy(2), matrix("fp32", "2 threads"), "limit: bzip2, 1 process"
PER_IMAGE, PER_VIEW, PER_STEP, PER_FRAME = (
    Limit(COPY, IMAGE_BYTES / 1e9), Limit(COPY, VIEW_BYTES / 2e9), Limit(PRODUCT, 0.62), Limit(BZIP2, 0.0124),
)  # fmt: skip
OURS, THEIRS, SINGLE = "read: skymill tar, 2 threads", "read: h5py contiguous, random batches", "ingest: a whole job"
STEP = "train: MoCo step, views in memory"
MACHINE: dict[str, Any] = {
    "cpu": "abacus", "cores": 2, "memory_gib": 23.5, "accelerator": None,
    "versions": {"torch": "2.13.0", "kornia": None},
}  # fmt: skip


def result(name: str, rate: float, unit: str = "images/s", limit: Limit | None = PER_IMAGE, **other: Any) -> Result:
    """With five runs whose quartiles lie 3 % from the median."""
    given: dict[str, Any] = {
        "q25": 0.97 * rate, "q75": 1.03 * rate, "runs": 5, "bytes_per_image": IMAGE_BYTES, "params": {"threads": 2},
    }  # fmt: skip
    return Result(name=name, median=rate, unit=unit, limit=limit, **given | other)


def report() -> Report:
    """Of all stages."""
    stages = (_ingest(), _read(), _augment(), _train(), _limits())
    gpus = [2**power for power in range(7)]
    return Report(
        stage="all",
        machine=MACHINE,
        commit="0123456789abcdef0123456789abcdef01234567",
        date="2026-11-27",
        full=False,
        results=tuple(each for stage in stages for each in stage.results),
        ratios={name: value for stage in stages for name, value in stage.measured_ratios().items()},
        promises=tuple(promise for stage in stages for promise in stage.kept()),
        left_out={"augment: kornia": "not installed"},
        footing={"read: h5py": "reads the same rows, verifies nothing", "ingest: astropy": "one field, one run"},
        bars=tuple(each for stage in stages for each in stage.bars),
        curves=tuple(each for stage in stages for each in stage.curves),
        verdict="train binds the whole at 67 images/s; the others could do more: augment 110 times, read 990 times",
        analysis={
            "alone": "train",
            "overlapped": "train",
            "headroom": {"augment": 110.0, "read": 990.0},
            "advice": ["train: use a GPU; two of these cores make 67 images/s", "read: nothing to do"],
            "gpus": [
                {"gpus": n, "images_per_s": min(2600.0 * n, 11_000.0), "idle": max(0.0, 1 - 11_000 / (2600 * n)),
                 "binding": "train" if n < 5 else "augment"}
                for n in gpus
            ],
        },
    )  # fmt: skip


def measured(spread: float, seed: int, *, drift: float = 1.0, **times: float) -> Report:
    """The same, measured with runs that scatter by so much on a machine so many times as fast.

    ``times`` are the rates' factors beyond it: read=1.2.
    """
    random = np.random.default_rng(seed)
    made = report()

    def run(each: Result) -> Result:
        rate = each.median * drift * times.get(each.name.partition(":")[0], 1.0)
        rates = rate * np.exp(spread * random.standard_normal(each.runs))
        return summary(each.name, each.unit, rates.tolist(), each.bytes_per_image, each.params, each.limit)

    results = tuple(run(each) for each in made.results)
    rates = {each.name: each.median for each in results}
    ratios = {name: rates[name.split(" / ")[0]] / rates[name.split(" / ")[1]] for name in made.ratios}
    return replace(made, results=results, ratios=ratios)


def _ingest() -> StageReport:
    ours, astropy = "ingest: skymill, 300 a field, galaxies", "ingest: astropy and reproject, 300 a field, galaxies"
    limit = Limit(BZIP2, 0.0124 / 60)
    results = (
        result("ingest: skymill, 300 a field", 2.2, "frames/s", PER_FRAME),
        result(ours, 129.0, limit=limit),
        result(astropy, 18.0, limit=limit, runs=1, q25=18.0, q75=18.0),
        result(SINGLE, 106.0, limit=limit, runs=1, q25=106.0, q75=106.0),
    )
    return StageReport(
        stage="ingest",
        results=results,
        ratios=(Ratio(first=ours, second=astropy, at_least=10.0),),
        promises=(Promise(what="ingest: a worker's peak memory, MB", measured=548.0, at_most=600.0),),
        bars=(Bars(title="Ingest, 300 galaxies a field", results=(ours, astropy)),),
    )


def _read() -> StageReport:
    peers = {
        "read: copy in memory, 2 threads": 65_608.0, "read: DALI, raw bytes, 2 threads": 55_988.0, THEIRS: 22_755.0,
        "read: TensorStore, random batches": 6_359.0, "read: webdataset library, decoding": 3_625.0,
        "read: zarr-python, random batches": 484.0,
    }  # fmt: skip
    sweeps = {
        f"read: skymill {kind}, {threads_text(n)}": (float(rate), {"threads": n})
        for kind, rates in {"tar": (33_168, 66_959, 90_000, 96_000), "zarr": (34_000, 68_000, 92_000, 94_000)}.items()
        for n, rate in zip((1, 2, 4, 8), rates, strict=True)
    }
    kinds = {f"read: skymill tar of {kind}": (rate, {"encoding": kind})
             for kind, rate in {"float32": 66_959.0, "float16": 110_000.0, "int16": 119_720.0}.items()}  # fmt: skip
    results = [result(name, rate, params=params) for name, (rate, params) in (sweeps | kinds).items()]
    results += [result(name, rate) for name, rate in peers.items()]
    lines = {kind: tuple(name for name in sweeps if f" {kind}," in name) for kind in ("tar", "zarr")}
    return StageReport(
        stage="read",
        results=tuple(results),
        own=OURS,
        ratios=(
            Ratio(first=OURS, second=THEIRS, at_least=1.0),
            Ratio(first=OURS, second="read: zarr-python, random batches", at_least=50.0),
            Ratio(first=OURS, second="read: TensorStore, random batches"),
        ),
        bars=(Bars(title="Reading, random batches of 256", results=(OURS, *peers)),),
        curves=(
            Curve(title="Reading over threads", axis="threads", lines=lines),
            Curve(title="Reading over encodings", axis="encoding", lines={"tar": tuple(kinds)}),
        ),
    )


def _augment() -> StageReport:
    rates = {"skymill op": 29_947.0, "plain torch": 2_500.0, "scikit-image, turned and cropped": 673.0}
    presets = {"stein2021": 1.0, "hayat2021": 1.2}
    names = {f"augment: {who}, {preset}, 2 threads": rate * factor
             for preset, factor in presets.items() for who, rate in rates.items()}  # fmt: skip
    params = {"threads": 2, "flop_per_view": 1.6e6}
    results = [result(name, rate, "views/s", PER_VIEW, params=params, bytes_per_image=VIEW_BYTES)
               for name, rate in names.items()]  # fmt: skip
    batches = {f"augment: skymill op, batches of {n}": 2_000.0 * n**0.5 for n in (16, 64, 256)}
    results += [result(name, rate, "views/s", PER_VIEW, params={"batch": int(name.rpartition(" ")[2])})
                for name, rate in batches.items()]  # fmt: skip
    ours, _, theirs = list(names)[:3]
    return StageReport(
        stage="augment",
        results=tuple(results),
        ratios=(Ratio(first=ours, second=theirs, at_least=10.0),),
        promises=(Promise(what="augment: views/s on a GPU", measured=None, at_least=300_000, missing="needs a GPU"),),
        bars=(Bars(title="Views, stein2021", results=tuple(list(names)[:3])),
              Bars(title="Views, hayat2021", results=tuple(list(names)[3:]))),
        curves=(Curve(title="Views over the batch", axis="batch", lines={"skymill": tuple(batches)}),),
    )  # fmt: skip


def _train() -> StageReport:
    params = {"threads": 2, "flop_per_image": 0.62e9}
    step = result(STEP, 67.0, limit=PER_STEP, params=params, bytes_per_image=4 * IMAGE_BYTES)
    whole = replace(step, name="train: read, augment and MoCo step", median=66.4, q25=65.0, q75=67.0)
    ranks = {
        f"train: DDP, {n} rank{'s' * (n > 1)} together": rate for n, rate in {1: 900.0, 2: 1_700.0, 4: 2_900.0}.items()
    }
    results = (step, whole, *(result(name, rate, limit=PER_STEP, params={"ranks": int(name.split()[2])})
                              for name, rate in ranks.items()))  # fmt: skip
    return StageReport(
        stage="train",
        results=results,
        own=STEP,
        ratios=(Ratio(first=whole.name, second=STEP, at_least=0.97),),
        bars=(Bars(title="A MoCo step", results=(STEP, whole.name)),),
        curves=(Curve(title="Training over ranks", axis="ranks", lines={"together": tuple(ranks)}),),
    )


def _limits() -> StageReport:
    results = (
        result(memory_copy(1), 11.0, "GB/s", None, params={"threads": 1}),
        result(COPY, 15.5, "GB/s", None),
        result(BZIP2, 0.045, "GB/s", None),
        result(matrix("fp32", "1 thread"), 60.0, "GFLOP/s", None, bytes_per_image=0, params={"threads": 1}),
        result(PRODUCT, 115.0, "GFLOP/s", None, bytes_per_image=0),
    )
    return StageReport(stage="limits", results=results)

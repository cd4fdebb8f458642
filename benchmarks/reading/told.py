"""What is told of reading: ratios and what was promised of them, charts, and what each peer leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..results import Bars, Curve, Ratio, Result, known
from . import names
from .names import copying, dali, ours

_NOT_CHECKED = "A flipped bit goes unseen"
FOOTING: Mapping[str, str] = {
    "webdataset library": "One process and one thread reads the shards in their order, which is less work than ours, "
    f"decodes each .npy and stacks a batch. {_NOT_CHECKED}: it verifies no pixel.",
    "DALI's tar reader": "Maps the shards and reads them in their order with its index files, which is less work than "
    f"ours, and leaves raw bytes of .npy files on the host, not decoded. {_NOT_CHECKED}: it verifies no pixel.",
    "zarr-python": "Random batches from the same Zarr array, sorted within a batch; it verifies each image's CRC32C, "
    "and its concurrency is its own default.",
    "h5py": f"Random batches of a contiguous HDF5 copy, one read a batch, sorted within it. {_NOT_CHECKED}: it "
    "verifies nothing.",
    "TensorStore": "Random batches from the same Zarr array on as many threads as it likes; it verifies each image's "
    "CRC32C.",
}


def ratios(container: str, threads: Sequence[int], results: Sequence[Result]) -> tuple[Ratio, ...]:
    """Those of which both results were measured; ``container`` is the one that stands for the whole."""
    found = []
    for kind in ("tar", "zarr"):
        found += [Ratio(first=ours(kind, n, check=False), second=copying("", n), at_least=0.8) for n in threads]
        found += [Ratio(first=ours(kind, n), second=copying(names.CHECKED_BY_OURS, n), at_least=0.8) for n in threads]
        found += [Ratio(first=ours(kind), second=copying(names.CHECKED_BY_GOOGLE, 1), at_least=0.8)]
    found += [
        Ratio(first=ours(), second=names.WEBDATASET, at_least=8.0),
        Ratio(first=ours("zarr"), second=names.ZARR, at_least=50.0),
    ]
    found += [Ratio(first=ours(check=check), second=names.HDF5, at_least=1.0) for check in (False, True)]
    found += [
        Ratio(first=ours(threads=n, check=check), second=dali(n), at_least=1.3)
        for n in threads
        for check in (False, True)
    ]
    found += [
        Ratio(first=ours("zarr", max(threads)), second=names.TENSORSTORE),
        Ratio(first=ours(container, how=names.FRESH), second=ours(container)),
        Ratio(first=names.IN_SEQUENCE, second=names.DD),
        Ratio(first=names.IN_RANDOM_ORDER, second=names.DD),
        Ratio(first=names.encoded("int16"), second=ours()),
        Ratio(first=names.encoded("int16", decoded=True), second=ours()),
        Ratio(first=names.MANY, second=names.FEW, at_least=0.9),
        Ratio(first=names.MOST, second=names.FEW),
    ]
    found += [Ratio(first=ours(container, n), second=ours(container, 1)) for n in threads if n > 1]
    return known(found, results)


def bars(container: str, threads: int, results: Sequence[Result]) -> tuple[Bars, ...]:
    """Ours beside peers: with one thread, with ``threads``, and from the disk."""
    one = (
        ours(), ours("zarr"), ours(check=False), ours(container, how=names.PLAIN), ours(container, how=names.FRESH),
        copying("", 1), copying(names.CHECKED_BY_GOOGLE, 1), dali(1), names.HDF5, names.WEBDATASET, names.ZARR,
    )  # fmt: skip
    most = (
        ours("tar", threads), ours("zarr", threads), ours("tar", threads, check=False), copying("", threads),
        copying(names.CHECKED_BY_OURS, threads), dali(threads), names.TENSORSTORE,
        ours(container, threads, how=names.TO_GPU),
    )  # fmt: skip
    charts = [
        Bars(title="Reading from the page cache, 1 thread", results=one),
        Bars(title=f"Reading from the page cache, {threads} threads", results=most),
        Bars(title="Reading from the disk", results=(names.IN_SEQUENCE, names.IN_RANDOM_ORDER, names.DD)),
    ]
    kept = ((chart, _measured(chart.results, results)) for chart in (charts if threads > 1 else charts[::2]))
    return tuple(Bars(title=chart.title, results=found) for chart, found in kept if found)


def curves(container: str, threads: Sequence[int], results: Sequence[Result]) -> tuple[Curve, ...]:
    """Rates over threads, batch, size of an image, encoding and number of samples; each with two points at least."""
    base = next(result for result in results if result.name == ours(container))
    by_batch = [r for r in results if r.name == names.batched(container, _of(r, "batch"))]
    by_side = [r for r in results if r.name == names.sized(_of(r, "side_px"))]
    encodings = [name for name in ("float16", "int16") if name != base.params["encoding"]]
    stored = [names.encoded(encoding) for encoding in encodings]
    decoded = [names.encoded(encoding, decoded=True) for encoding in encodings]
    charts = [
        Curve(
            title="Reading over threads",
            axis="threads",
            lines={
                "Skymill, tar": tuple(ours("tar", n) for n in threads),
                "Skymill, Zarr": tuple(ours("zarr", n) for n in threads),
                "copy in memory": tuple(copying("", n) for n in threads),
                "copy and CRC32C": tuple(copying(names.CHECKED_BY_OURS, n) for n in threads),
                "DALI, raw bytes": tuple(map(dali, threads)),
            },
        ),
        Curve(
            title="Reading over the size of a batch",
            axis="batch",
            lines={f"Skymill, {container}": _sorted((base, *by_batch), "batch")},
        ),
        Curve(
            title="Reading over the side of an image",
            axis="side_px",
            lines={"Skymill, tar": _sorted((base, *by_side), "side_px")},
        ),
        Curve(
            title="Reading over the encoding of pixels",
            axis="encoding",
            lines={"as stored": (ours(), *stored), "decoded on the host": (ours(), *decoded)},
        ),
        Curve(title="Reading over the number of samples", axis="samples", lines={"Skymill, tar": names.OF_SAMPLES}),
    ]
    return tuple(drawn for chart in charts if (drawn := _drawn(chart, results)).lines)


def _drawn(chart: Curve, results: Sequence[Result]) -> Curve:
    lines = {label: _measured(line, results) for label, line in chart.lines.items()}
    return replace(chart, lines={label: line for label, line in lines.items() if len(line) > 1})


def _measured(wanted: Sequence[str], results: Sequence[Result]) -> tuple[str, ...]:
    found = {result.name for result in results}
    return tuple(name for name in wanted if name in found)


def _sorted(results: Sequence[Result], axis: str) -> tuple[str, ...]:
    return tuple(result.name for result in sorted(results, key=lambda result: _of(result, axis)))


def _of(result: Result, axis: str) -> int:
    """A whole number among the parameters; 0 of a result that has no such."""
    return int(result.params.get(axis, 0))

"""What README.md says of measurements, each block as Markdown from one report; of a peer left out a cell is empty."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .augmenting import contenders as ways
from .augmenting.told import PRESETS
from .chain import feeding
from .chain import measure as chain
from .errors import BenchmarkError
from .fields import DENSE, SPARSE
from .ingesting import contenders as ingesting
from .limits import threads_text
from .reading import names as reading
from .results import Param, Promise, Report, Result
from .table import of_stage
from .training import losses, points
from .wording import bound, outcome, rate, ratio, share, short


@dataclass(frozen=True, slots=True)
class Source:
    """A report, and its file as the README links to it."""

    report: Report
    path: str

    def of(self, name: str) -> Result:
        """A result that must be there."""
        result = self.report.result(name)
        if result is None:
            raise BenchmarkError(f"{self.path}: no result is called {name!r}; run python -m benchmarks all again")
        return result

    def param(self, name: str, key: str) -> Param:
        """One of its params."""
        params = self.of(name).params
        if key not in params:
            raise BenchmarkError(f"{self.path}: {name!r} has no param {key!r}; run python -m benchmarks all again")
        return params[key]

    def times(self, first: str, second: str) -> float | None:
        """How many times faster the first is; None where either was left out."""
        one, other = self.report.result(first), self.report.result(second)
        return one.median / other.median if one and other else None

    def cell(self, name: str) -> str:
        """A rate; empty where it was left out."""
        result = self.report.result(name)
        return rate(result.median) if result else ""

    def threads(self) -> list[int]:
        """With how many reading was measured."""
        counts = range(1, 1025)
        return [count for count in counts if self.report.result(reading.ours("tar", count))]

    @property
    def link(self) -> str:
        """Where the figures come from."""
        return f"([measured]({self.path}), medians)"

    @property
    def machine(self) -> str:
        """On what."""
        cores, accelerator = (self.report.machine.get(key) for key in ("cores", "accelerator"))
        return f"On {cores} cores{f' and an {accelerator}' if accelerator else ''}"


Block = Callable[[Source], Iterable[str]]


def _table(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Rows without any figure are left out."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for label, cells in rows.items():
        if any(cells):
            yield f"| {' | '.join([label, *cells])} |"


def _list(parts: Iterable[str | None]) -> str:
    """What there is of them: a, b and c."""
    *most, last = [part for part in parts if part] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def ingest(source: Source) -> Iterator[str]:
    """A sentence: beside unpacking, and beside peers."""
    dense, sparse = source.of(ingesting.ours(DENSE)).name, ingesting.ours(SPARSE)
    over = {n: source.times(ingesting.UNPACKING, name) for n, name in ((SPARSE, sparse), (DENSE, dense))}
    long = _list(f"{ratio(times)} times ({n} galaxies a field)" for n, times in over.items() if times)
    peers = {"astropy and reproject make": ingesting.ASTROPY, "SWarp makes": ingesting.SWARP}
    more = _list(f"{ratio(times)} times the galaxies that {peer}"
                 for peer, name in peers.items() if (times := source.times(dense, name)))  # fmt: skip
    made = f", and makes {more}" if more else ""
    yield f"On one core, cutting a strip takes {long} as long as unpacking its frames alone{made} {source.link}."


def read(source: Source) -> Iterator[str]:
    """The table by threads, and what it does not show."""
    threads = source.threads()
    batch = source.param(reading.ours(), "batch")
    yield f"{source.machine}, hot page cache, random batches of {batch} of the same images, images/s {source.link}:"
    yield ""
    rows: dict[str, Callable[[int], str]] = {
        "Skymill, tar, every checksum verified": lambda n: reading.ours("tar", n),
        "Skymill, tar, without checksums": lambda n: reading.ours("tar", n, check=False),
        "Skymill, Zarr, every checksum verified": lambda n: reading.ours("zarr", n),
        "Skymill, tar of int16, every checksum verified": lambda n: reading.encoded("int16", n),
        "copying the same bytes in memory": lambda n: reading.copying(reading.UNCHECKED, n),
        "copying, then CRC32C (google_crc32c)": lambda n: reading.copying(reading.CHECKED_BY_GOOGLE, n),
        "copying, then our CRC32C": lambda n: reading.copying(reading.CHECKED_BY_OURS, n),
        "DALI's tar reader, raw bytes, checks nothing": reading.dali,
    }
    alone = {
        "h5py, contiguous, checks nothing": reading.HDF5,
        "TensorStore, Zarr": reading.TENSORSTORE,
        "webdataset library, decoding, in sequence, checks nothing": reading.WEBDATASET,
        "zarr-python, Zarr": reading.ZARR,
    }
    cells = {label: [source.cell(name(n)) for n in threads] for label, name in rows.items()}
    cells |= {label: [source.cell(name), *[""] * (len(threads) - 1)] for label, name in alone.items()}
    yield from _table(["", *map(threads_text, threads)], cells)
    yield ""
    yield from _beyond_the_cache(source)


def _beyond_the_cache(source: Source) -> Iterator[str]:
    fresh = source.times(reading.ours(how=reading.FRESH), reading.ours())
    cold = [source.times(name, reading.DD) for name in (reading.IN_SEQUENCE, reading.IN_RANDOM_ORDER)]
    many, few = (source.report.result(name) for name in (reading.MANY, reading.FEW))
    clauses = [
        f"the first pass over a fresh mapping runs at {ratio(fresh)} of that" if fresh else None,
        f"a cold disk at {ratio(cold[0])} of `dd` in sequence and {ratio(cold[1])} in random order"
        if cold[0] and cold[1] else None,
        f"of {many.params['samples']:,} samples the rate is {ratio(many.median / few.median)} of that of "
        f"{few.params['samples']:,}" if many and few else None,
    ]  # fmt: skip
    told = "; ".join(clause for clause in clauses if clause)
    dali = {n: source.times(reading.ours("tar", n), reading.dali(n)) for n in source.threads()}
    beside = _list(f"{_faster(1 / times)} with {threads_text(n)}" for n, times in dali.items() if times)
    sentences = [
        f"With checksums, {told}." if told else "",
        f"DALI, which checks nothing, is {beside}." if beside else "",
    ]
    yield " ".join(sentence for sentence in sentences if sentence)


def _faster(times: float) -> str:
    return f"{ratio(times)} times as fast" if times >= 1 else f"{ratio(1 / times)} times as slow"


_SIZES = ("batch", "stamp_px", "view_px")


def augment(source: Source) -> Iterator[str]:
    """The table by preset."""
    most = max(source.threads())
    batch, stamp_px, view_px = (source.param(ways.named(ways.OP, PRESETS[0]), key) for key in _SIZES)
    yield (
        f"{source.machine}, one thread unless said, two views of {view_px} pixels of each of {batch} stamps of "
        f"{stamp_px}, views/s {source.link}:"
    )
    yield ""
    one, all_threads, gpu = "1 thread", threads_text(most), "cuda"
    rows = {
        "Skymill's operator": (ways.OP, one),
        "the same, from int16": (ways.FROM_INT16, one),
        "the same, parameters drawn too": (ways.DRAWN, one),
        f"Skymill's operator, {all_threads}": (ways.OP, all_threads),
        f"the same, parameters drawn too, {all_threads}": (ways.DRAWN, all_threads),
        "plain torch (the reference)": (ways.TORCH, one),
        "kornia": (ways.KORNIA, one),
        "scikit-image, one warp to the view": (ways.WARPED, one),
        "scikit-image, turned whole and cropped, as released": (ways.TURNED, one),
        "Skymill with DALI, CPU mode": (ways.DALI_AND_OURS, one),
        "DALI alone, CPU mode": (ways.DALI, one),
        "Skymill's operator, GPU": (ways.OP, gpu),
        "the same, parameters drawn too, GPU": (ways.DRAWN, gpu),
        "kornia, GPU": (ways.KORNIA, gpu),
        "Skymill with DALI, GPU": (ways.DALI_AND_OURS, gpu),
        "DALI alone, GPU": (ways.DALI, gpu),
        "copying as many bytes, GPU": (ways.COPY, gpu),
    }
    cells = {
        label: [source.cell(ways.named(who, each, where)) for each in PRESETS] for label, (who, where) in rows.items()
    }
    yield from _table(["", *(f"`{each}`" for each in PRESETS)], cells)


def train(source: Source) -> Iterator[str]:
    """A sentence of the step and of the data's share, and a table of what feeds a network."""
    step, whole = source.of(chain.STEP), source.of(chain.WHOLE)
    depth, width = (source.param(points.IN_MEMORY, key) for key in ("depth", "width"))
    yield (
        f"{source.machine}, a ResNet-{depth} of width {width} takes {rate(step.median)} images/s (pairs of views, "
        f"batch {source.param(chain.STEP, 'batch')}) of views that lie in memory, "
        f"{share(source.report.of_limit(step))} of what the machine's arithmetic allows, and {rate(whole.median)} as a "
        f"run does, which reads and makes views ahead {source.link}. Ways to feed it, from files to pairs of views, "
        "images/s:"
    )
    yield ""
    rows = {
        "Skymill": feeding.OURS,
        "torch DataLoader, h5py and scikit-image, as released": feeding.HDF5,
        "torch DataLoader, webdataset and torch": feeding.WEBDATASET,
        "DALI alone": feeding.DALI,
    }
    yield from _table(["", "images/s"], {label: [source.cell(name)] for label, name in rows.items()})


def negatives(source: Source) -> Iterator[str]:
    """The streaming InfoNCE beside the usual form."""
    queues = [queue for queue in losses.QUEUES if source.report.result(losses.named(queue, "streaming"))]
    cells = {}
    for queue in queues:
        ours, usual = losses.named(queue, "streaming"), losses.named(queue, "plain")
        times = source.times(ours, usual)
        cells[f"{queue:,}"] = [source.cell(ours), source.cell(usual), ratio(times) if times else ""]
    yield f"{source.machine}, batch {losses.BATCH}, losses and their gradients a second {source.link}:"
    yield ""
    yield from _table(["negatives", "streaming", "the usual form", "times"], cells)


def promises(source: Source) -> Iterator[str]:
    """What was promised, and what was measured."""
    yield f"{source.machine} {source.link}:"
    yield ""
    yield from _table(["", "promised", "measured", ""], {_cell(p.what): _kept(p) for p in source.report.promises})


def _kept(promise: Promise) -> list[str]:
    return [bound(promise), "" if promise.measured is None else ratio(promise.measured), outcome(promise)]


def _cell(name: str) -> str:
    return of_stage(name).replace("|", r"\|")


def verdict(source: Source) -> Iterator[str]:
    """What binds, in words."""
    yield f"{source.machine} {source.link}: {source.report.verdict}"


def limits(source: Source) -> Iterator[str]:
    """The machine itself."""
    yield f"{source.machine} {source.link}:"
    yield ""
    found = [result for result in source.report.results if result.limit is None]
    yield from _table(["", ""], {short(each.name): [f"{rate(each.median)} {each.unit}"] for each in found})


BLOCKS: Mapping[str, Block] = {
    block.__name__: block for block in (ingest, read, augment, train, negatives, promises, verdict, limits)
}

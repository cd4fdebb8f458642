"""Which stage the whole waits for, what the others could do beyond it, what to change, and how many GPUs can be fed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

EPOCHS = 100  # in which the paper's pre-training reads what is ingested once
H100 = 2600.0  # pairs of views a second, assumed of one with the paper's network: 109 TFLOP/s sustained; not measured
GPUS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """Reading, making views and training as a run does them: each alone, and all at once."""

    batch: int
    alone: Mapping[str, float]  # read, augment, train -> images/s with all that the machine has
    overlapped: float  # images/s of all at once
    busy: Mapping[str, float]  # read, augment, train -> share of the time of the whole that it is at work
    waiting: float  # share of that time that the training step waits for data
    device: str = "cpu"  # what trains: "cpu" or "cuda"
    cores: int = 1
    read_threads: int = 1
    encoding: str = "float32"  # of the stored pixels
    pixels: int = 5 * 107 * 107  # of an image, all bands
    disk_gb_per_s: float | None = None  # that the disk gives; None where that was not measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Idle:
    """What is to be expected of so many GPUs on this host, from the measured rates."""

    gpus: int
    images_per_s: float  # that all of them would take
    idle: float  # share of the time that they wait for data which the page cache holds
    idle_from_disk: float | None  # the same for float32 data that come from the disk
    binding: str  # the stage
    float32_gb_per_s: float  # that a disk or a network has to give if they are never to wait
    int16_gb_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The text, and the same as numbers."""

    text: str
    alone: str  # the stage that binds, by the rates of each alone
    over_epochs: str  # the same where what is ingested once is read `EPOCHS` times
    overlapped: str | None  # the one that binds while all are at work; None where that was not measured
    headroom: Mapping[str, float]  # of the other stages: how many times faster than the whole
    advice: Sequence[str]
    gpus: Sequence[Idle]


def verdict(rates: Mapping[str, float], chain: Chain | None = None) -> Verdict:
    """From each stage's rate [image / s]: the slowest one binds; of equals, the first.

    Where the chain was measured, its stages' rates take the place of those of the stages' own benchmarks: they are of
    one dataset and one batch, with all that the machine has.
    """
    rates = {**rates, **chain.alone} if chain else rates
    alone, over_epochs = _slowest(rates), _slowest(_over_epochs(rates))
    overlapped = max(chain.busy, key=chain.busy.__getitem__) if chain else None
    others = sorted((stage for stage in rates if stage != alone), key=rates.__getitem__)
    headroom = {stage: rates[stage] / rates[alone] for stage in others}
    advice = tuple(_advice(dict.fromkeys((overlapped or over_epochs, over_epochs, alone)), chain)) if others else ()
    gpus = idle_gpus(chain) if chain else ()
    sentences = [_alone(alone, rates[alone], headroom)]
    if "ingest" in rates and others:
        sentences.append(_once(rates, over_epochs))
    if chain and overlapped:
        sentences.append(_at_once(chain, overlapped))
    if advice:
        sentences.append(f"To change that: {'; '.join(advice)}")
    if chain:
        sentences.append(_fed(chain, gpus))
    return Verdict(
        text=". ".join(sentences) + ".",
        alone=alone,
        over_epochs=over_epochs,
        overlapped=overlapped,
        headroom=headroom,
        advice=advice,
        gpus=gpus,
    )


def idle_gpus(chain: Chain, gpus: Sequence[int] = GPUS) -> tuple[Idle, ...]:
    """How long that many GPUs would wait for this host, which reads no faster than was measured.

    A GPU takes what was measured where one trained, its views made by itself, else what `H100` says.
    """
    supply = chain.alone["read"]
    float32_gb = chain.pixels * 4 / 1e9
    from_disk = None if chain.disk_gb_per_s is None else min(supply, chain.disk_gb_per_s / float32_gb)
    found = []
    for number in gpus:
        demand = number * _taken_by_a_gpu(chain)
        waits = idle(supply, demand)
        found.append(
            Idle(
                gpus=number,
                images_per_s=demand,
                idle=waits,
                idle_from_disk=None if from_disk is None else idle(from_disk, demand),
                binding="read" if waits else "train",
                float32_gb_per_s=demand * float32_gb,
                int16_gb_per_s=demand * float32_gb / 2,
            )
        )
    return tuple(found)


def idle(supply: float, demand: float) -> float:
    """Share of the time that those who could take ``demand`` wait for ``supply``, both in image / s."""
    return max(0.0, 1.0 - supply / demand)


def rate_of_a_gpu(train: float, augment: float) -> float:
    """Of one that was measured: its step and its views, one after the other [image / s]."""
    return 1.0 / (1.0 / train + 1.0 / augment)


def _taken_by_a_gpu(chain: Chain) -> float:
    return rate_of_a_gpu(chain.alone["train"], chain.alone["augment"]) if chain.device == "cuda" else H100


def _slowest(rates: Mapping[str, float]) -> str:
    return min(rates, key=rates.__getitem__)


def _over_epochs(rates: Mapping[str, float]) -> dict[str, float]:
    """Images that are trained on, a second of each stage: one that was ingested is trained on in every epoch."""
    return {stage: rate * (EPOCHS if stage == "ingest" else 1) for stage, rate in rates.items()}


def _alone(binding: str, rate: float, headroom: Mapping[str, float]) -> str:
    if not headroom:
        return f"{binding} alone was measured: {_rate(rate)}; run all to see which stage binds"
    more = ", ".join(f"{stage} {_digits(times)} times" for stage, times in headroom.items())
    return f"{binding} binds the whole at {_rate(rate)}; the others could do more: {more}"


def _once(rates: Mapping[str, float], over_epochs: str) -> str:
    spread = _over_epochs(rates)
    rest = {stage: rate for stage, rate in rates.items() if stage != "ingest"}
    binding = _slowest(rest)
    share = (1 / spread["ingest"]) / (1 / spread["ingest"] + 1 / rest[binding])
    said = (
        f"Ingest is done once: over {EPOCHS} epochs it keeps up with {_rate(spread['ingest'])} and takes "
        f"{_percent(share)} of all the time, and {over_epochs} binds"
    )
    if len(rest) == 1 or binding == _slowest(rates):
        return said
    more = ", ".join(
        f"{stage} {_digits(rate / rest[binding])} times" for stage, rate in rest.items() if stage != binding
    )
    return f"{said}. In every epoch {binding} binds at {_rate(rest[binding])}; the others could do more: {more}"


def _at_once(chain: Chain, binding: str) -> str:
    slowest = _slowest(chain.alone)
    busy = ", ".join(f"{stage} {_percent(share)}" for stage, share in chain.busy.items())
    return (
        f"All at once, as a run has them (batch {chain.batch}), make {_rate(chain.overlapped)}, "
        f"{chain.overlapped / chain.alone[slowest]:.2f} of {slowest} alone; of the time {busy} is at work and training "
        f"waits {_percent(chain.waiting)} for data: {binding} binds"
    )


def _advice(binding: Mapping[str, None], chain: Chain | None) -> Iterator[str]:
    """What there is to be done about each stage that binds, first of all while all are at work."""
    on_gpu = chain is not None and chain.device == "cuda"
    for stage in binding:
        if stage == "ingest":
            yield "ingest: more cores (`--workers`) or more nodes (`--address` of a Ray cluster), once for each dataset"
        elif stage == "read":
            yield from _about_reading(chain)
        elif stage == "augment" and on_gpu:
            yield "augment: `--pipeline dali`, which makes the views ahead of the step"
        elif stage == "augment":
            yield (
                "augment: more cores, or a GPU, which makes the views itself; another pipeline (`--pipeline dali` or "
                "`torch`) only where `python -m benchmarks augment` shows it to be faster here"
            )
        elif on_gpu:
            yield (
                "train: more GPUs (`torchrun --nproc-per-node`); `--precision bf16 --compile`; a larger `--batch` if "
                "the memory allows it"
            )
        else:
            yield f"train: a GPU (of an H100 {_rate(H100)} are assumed), or a smaller network (`--depth`, `--width`)"


def _about_reading(chain: Chain | None) -> Iterator[str]:
    if chain is None or chain.read_threads < chain.cores:
        more = f" (now {chain.read_threads}, of {_cores(chain)})" if chain else ""
        yield f"read: more threads, `--read-threads`{more}"
    yield "read: `--stage DIR --stage-gb N` where the dataset does not lie on this machine's own disk"
    if chain is None or chain.encoding == "float32":
        yield "read: half the bytes, `python -m sharding convert DATASET --out NEW --encoding int16`"


def _fed(chain: Chain, gpus: Sequence[Idle]) -> str:
    each, supply = _taken_by_a_gpu(chain), chain.alone["read"]
    measured = "as measured" if chain.device == "cuda" else "assumed of an H100, for none was measured"
    waiting = ", ".join(f"{each.gpus} for {_percent(each.idle)}" for each in gpus if each.idle > 0)
    most = gpus[-1]
    waits = f"of the time {waiting} would wait" if waiting else f"{most.gpus} would never wait"
    disk = "" if chain.disk_gb_per_s is None else _from_disk(chain.disk_gb_per_s, chain, gpus)
    how = f"{chain.read_threads} threads, batches of {chain.batch}"
    return (
        f"This host reads {_rate(supply)} from the page cache ({how}), enough for {_digits(supply / each)} GPUs of "
        f"{_rate(each)} each ({measured}; views made by the GPU): {waits}{disk}; {most.gpus} take "
        f"{_digits(most.float32_gb_per_s)} GB/s of float32 or {_digits(most.int16_gb_per_s)} of int16"
    )


def _from_disk(gb_per_s: float, chain: Chain, gpus: Sequence[Idle]) -> str:
    first = next((each for each in gpus if each.idle_from_disk), None)
    rate = _rate(gb_per_s * 1e9 / (4 * chain.pixels))
    waits = f": {first.gpus} would wait {_percent(first.idle_from_disk or 0.0)}" if first else ""
    return f"; its disk gives {_digits(gb_per_s)} GB/s, {rate} of float32{waits}"


def _cores(chain: Chain) -> str:
    return f"{chain.cores} core{'s' if chain.cores > 1 else ''}"


def _rate(value: float) -> str:
    return f"{_digits(value)} images/s"


def _percent(share: float) -> str:
    return f"{100 * share:.{1 if share < 0.0995 else 0}f} %"


def _digits(value: float) -> str:
    """Two digits that mean something: 0.42, 3.1, 57, 12,000."""
    return f"{float(f'{value:.2g}'):,.{2 if value < 0.995 else 1 if value < 9.95 else 0}f}"

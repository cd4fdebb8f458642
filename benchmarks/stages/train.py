"""Views to a better encoder: one MoCo step on data in memory, and the same with reading and augmenting before it.

The difference between the two is what the data cost. On an accelerator it is the paper's network, on a CPU the demo's.
"""

import torch
from torch import Tensor

from sharding import Dataset
from trainer.config import EncoderConfig, PretrainConfig
from trainer.data import Batch, Indices, global_batches
from trainer.distributed import joined
from trainer.meter import Meter
from trainer.pretrain import Pretraining

from ..practice import PracticeData
from ..results import Param, StageReport
from ..timing import Contender, race

IN_MEMORY = "train: MoCo step, views in memory"
WHOLE = "train: read, augment and MoCo step"


def run(data: PracticeData, rounds: int = 5) -> StageReport:
    """On the practice dataset, in one process."""
    return measure(data.dataset, config(), rounds)


def config() -> PretrainConfig:
    """The paper's batch and network where there is an accelerator."""
    if torch.cuda.is_available():
        return PretrainConfig(precision="bf16", epochs=1000)
    return PretrainConfig(encoder=EncoderConfig(depth=10, width=16, stretch="asinh"), batch=64, queue=4096, epochs=1000)


def measure(dataset: Dataset, settings: PretrainConfig, rounds: int) -> StageReport:
    """Both ways in turns, with one network."""
    with joined() as ranks:
        training = Pretraining(settings, dataset, ranks)
        meter = Meter(ranks)
        batches = global_batches(training.order, training.state, settings.batch)
        ready = _read_and_augment(training, next(batches))

        def in_memory() -> int:
            training.learn(meter, *ready)
            return settings.batch

        def whole() -> int:
            training.learn(meter, *_read_and_augment(training, next(batches)))
            return settings.batch

        params: dict[str, Param] = {
            "batch": settings.batch, "depth": settings.encoder.depth, "width": settings.encoder.width,
            "queue": settings.queue, "precision": settings.precision, "preset": settings.preset,
            "device": ranks.device.type, "threads": torch.get_num_threads(),
        }  # fmt: skip
        contenders = [
            Contender(name=name, step=step, bytes_per_image=dataset.pixel_bytes, params=params)
            for name, step in {IN_MEMORY: in_memory, WHOLE: whole}.items()
        ]
        sync = torch.cuda.synchronize if ranks.device.type == "cuda" else lambda: None
        results = race(contenders, rounds=rounds, sync=sync)
    return StageReport(stage="train", results=results, own=IN_MEMORY, pairs=((IN_MEMORY, WHOLE),))


def _read_and_augment(training: Pretraining, batch: Batch) -> tuple[Tensor, Tensor, Indices]:
    """Query views, key views, and the order of the keys; nothing runs ahead, so that all of the cost is seen."""
    pair = training.pair(batch)
    queries, keys = training.stamps.render(training.stamps.read(pair.unique), training.plan(pair)).chunk(2)
    return queries, keys, pair.order

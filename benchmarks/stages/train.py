"""Views to a better encoder: one MoCo step on data in memory, and the same as a run does it, reading ahead.

The difference between the two is what the data cost. On an accelerator it is the paper's network, on a CPU the demo's.
"""

from collections.abc import Iterator
from contextlib import closing

import torch
from torch import Tensor

from sharding import Dataset
from trainer.config import EncoderConfig, PretrainConfig
from trainer.data import Indices, global_batches
from trainer.distributed import joined
from trainer.pipelines import Views, views_ahead
from trainer.pretrain import Pair, Pretraining

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
        training.engine.start()
        pairs = map(training.pair, global_batches(training.order, training.state, settings.batch))
        fed = views_ahead(
            settings.pipeline, training.stamps, pairs, wanted=lambda pair: pair.unique, plan=training.plan
        )
        ready = _made(fed)

        def in_memory() -> int:
            training.learn(*ready)
            return settings.batch

        def whole() -> int:
            training.learn(*_made(fed))
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
        with closing(fed):
            results = race(contenders, rounds=rounds, sync=sync)
    return StageReport(stage="train", results=results, own=IN_MEMORY, pairs=((IN_MEMORY, WHOLE),))


def _made(fed: Iterator[tuple[Pair, Views]]) -> tuple[Tensor, Tensor, Indices]:
    """Query views, key views, and the order of the keys, of the next global batch."""
    pair, views = next(fed)
    queries, keys = views().chunk(2)
    return queries, keys, pair.order

"""Dataset to batches in memory, from files that the system already holds in its page cache.

Equal footing: the same shards, every image copied once into a batch. Ours takes images in random order and verifies
each checksum; the webdataset library reads the shards in sequence and decodes, and verifies nothing.
"""

import importlib.util
from collections.abc import Iterator

import numpy as np

from sharding import Dataset

from ..practice import PracticeData
from ..results import Param, StageReport
from ..timing import Contender, race

OURS = "read: skymill"
WEBDATASET = "read: webdataset library"
BATCH = 128


def run(data: PracticeData, rounds: int = 7) -> StageReport:
    """One pass over the practice dataset, on one thread."""
    dataset = data.dataset
    order = np.random.default_rng(0).permutation(len(dataset))

    def ours() -> int:
        return sum(len(dataset.images(order[first : first + BATCH])) for first in range(0, len(order), BATCH))

    def webdataset() -> int:
        return sum(len(batch) for batch in webdataset_batches(dataset))

    installed = importlib.util.find_spec("webdataset") is not None
    steps = {OURS: ours} | ({WEBDATASET: webdataset} if installed else {})
    size = 4 * int(np.prod(dataset.image_shape))
    params: dict[str, Param] = {"batch": BATCH, "samples": len(dataset), "threads": 1, "page_cache": "warm"}
    contenders = [Contender(name=name, step=step, bytes_per_image=size, params=params) for name, step in steps.items()]
    return StageReport(
        stage="read",
        results=race(contenders, rounds=rounds),
        own=OURS,
        pairs=((OURS, WEBDATASET),) if installed else (),
        left_out=() if installed else ("webdataset",),
    )


def webdataset_batches(dataset: Dataset) -> Iterator[np.ndarray]:
    """The images of a dataset as the webdataset library reads them, in batches."""
    import webdataset

    shards = [str(dataset.path / entry.name) for entry in dataset.manifest.shards]
    samples = webdataset.WebDataset(shards, shardshuffle=False).decode().to_tuple("image.npy")
    waiting = []
    for (image,) in samples:
        waiting.append(image)
        if len(waiting) == BATCH:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)

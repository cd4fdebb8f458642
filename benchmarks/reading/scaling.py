"""Our reader over the size of a batch, the size of an image, the encoding of pixels and the number of samples."""

from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, replace
from functools import partial

from sharding import Dataset
from sharding.encoding import decode

from ..timing import Contender
from . import names
from .contender import copied_to_decode, image_bytes, own_reading, passes, reading
from .images import read_stored
from .material import Amount, Material, random_batches

_FEWEST_BATCHES = 8  # of a pass, however large they are


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """The contenders beside those of the main material."""

    material: Material
    amount: Amount
    threads: tuple[int, ...]

    def sizes(self) -> Iterator[Contender]:
        """Batches and images of other sizes."""
        material, amount = self.material, self.amount
        for batch in amount.batches:
            batches = passes(amount.samples, max(amount.images, _FEWEST_BATCHES * batch), batch, 1)
            name = names.batched(material.container, batch)
            yield own_reading(name, material.local, batches, container=material.container)
        for side, dataset in material.sized.items():
            batches = passes(len(dataset), amount.scaled(amount.images, side), amount.batch, 1)
            yield own_reading(names.sized(side), dataset, batches)

    def encodings(self) -> Iterator[Contender]:
        """Pixels that are not float32: as they are stored, decoded too, and decoding alone."""
        for encoding, dataset in self.material.encoded.items():
            count = min(len(dataset), self.amount.samples)
            for threads in sorted({min(self.threads), max(self.threads)}):
                batches = passes(count, self.amount.images, self.amount.batch, threads)
                yield own_reading(names.encoded(encoding, threads), dataset, batches, threads)
            decoded = passes(count, self.amount.by_slow, self.amount.batch, 1)
            yield own_reading(names.encoded(encoding, decoded=True), dataset, decoded, decoded=True)
            if encoding == "int16":
                yield from self._decoding(dataset, count)

    def _decoding(self, dataset: Dataset, count: int) -> Iterator[Contender]:
        import torch

        from sharding.decode import decode_on_device

        indices = passes(count, self.amount.batch, self.amount.batch, 1)[0]
        objid, steps = dataset.dither(indices) or (indices, None)
        arrays = read_stored(dataset, indices), objid, steps
        tensors = [torch.from_numpy(values) for values in arrays]
        for name, by, given, images in (
            (names.DECODE_ON_HOST, decode, arrays, self.amount.by_slow),
            (names.DECODE_BY_TORCH, decode_on_device, tensors, self.amount.by_slowest),
        ):
            step = partial(_repeated, partial(by, *given), max(1, images // self.amount.batch))
            copied = copied_to_decode(dataset) - dataset.pixel_bytes
            contender = reading(name, step, dataset, batch=len(indices), copied_bytes=copied)
            yield replace(contender, bytes_per_image=image_bytes(dataset))

    def numbers(self) -> Iterator[Contender]:
        """As many images of datasets of few and of many samples, which are sparse files."""
        material, amount = self.material, self.amount
        for name, dataset in zip(names.OF_SAMPLES, material.sparse, strict=False):
            batches = 2 * random_batches(len(dataset), amount.of_sparse, amount.batch)
            contender = own_reading(name, dataset, batches)
            size = sum(shard.bytes for shard in dataset.manifest.shards)
            params = {**contender.params, "images": amount.of_sparse, "dataset_gb": round(size / 1e9, 3)}
            yield replace(contender, params=params)


def _repeated(does: Callable[[], Sized], times: int) -> int:
    return sum(len(does()) for _ in range(times))

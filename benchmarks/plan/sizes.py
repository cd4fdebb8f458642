"""What is to be fetched and stored: in closed form, from the geometry of SDSS's fields and the layout of a dataset."""

import math
from dataclasses import dataclass

import torch

from ingest.prepare import IMAGE_SHAPE
from ingest.simulate.geometry import COLUMNS, FIELD_STEP_ROWS
from ingest.tables import SDSS_BANDS
from sharding.encoding import Encoding, Name
from sharding.records import TarRecords
from trainer.config import PretrainConfig
from trainer.moco import MoCo

from ..fields import DENSE
from .figures import Figure, size

PAPER_GALAXIES, PAPER_LABELLED = 1_200_000, 516_525  # of Hayat et al. 2021: pre-trained on, with a redshift
FOOTPRINT_DEG2 = 14_555  # SDSS's imaging (Aihara et al. 2011)
PIXEL_ARCSEC = 0.396
FRAME_BYTES = 3_360_000  # mean of the ten frames of SDSS fields 94-1-12 and 4510-4-30, as the archive has them
ROW_BYTES = 310  # of the table that ingest/casjobs.sql asks for, as CSV
JSON_BYTES: dict[Name, int] = {"float32": 500, "int16": 630}  # of a sample: its columns; int16 has its steps too
LINK_BYTES_PER_S = 1e9 / 8

_BANDS = len(SDSS_BANDS)
_FIELD_DEG2 = COLUMNS * FIELD_STEP_ROWS * (PIXEL_ARCSEC / 3600) ** 2  # of sky that the field before has not


@dataclass(frozen=True, slots=True)
class Survey:
    """How galaxies lie on the sky, at the density of the paper's sample."""

    galaxies: int

    @property
    def per_field(self) -> float:
        """Mean over all fields of the footprint."""
        return PAPER_GALAXIES / FOOTPRINT_DEG2 * _FIELD_DEG2

    @property
    def occupied(self) -> float:
        """Share of the fields that have a galaxy, if they are spread at random."""
        return -math.expm1(-self.per_field)

    @property
    def fields(self) -> float:
        """Fields that have a galaxy."""
        return self.galaxies / self.per_field * self.occupied

    @property
    def dense_fields(self) -> float:
        """The same in a survey so deep that the benchmark's dense catalogue is its own."""
        return self.galaxies / DENSE

    @property
    def labelled(self) -> float:
        """Galaxies with a redshift, in the paper's proportion."""
        return self.galaxies * PAPER_LABELLED / PAPER_GALAXIES

    @property
    def frame_bytes(self) -> float:
        """Of all frames to fetch."""
        return _BANDS * self.fields * FRAME_BYTES

    @property
    def fetching_s(self) -> float:
        """By an assumed link."""
        return self.frame_bytes / LINK_BYTES_PER_S

    def figures(self) -> list[Figure]:
        """What is to be fetched."""
        real = f"computed: {FRAME_BYTES / 1e6:.2f} MB each, the mean of ten SDSS frames"
        return [
            Figure(name="galaxies", value=self.galaxies, unit="galaxies", source="given: --galaxies"),
            Figure(
                name="galaxies with a redshift",
                value=self.labelled,
                unit="galaxies",
                source=f"assumed: {PAPER_LABELLED:,} of {PAPER_GALAXIES:,}, as in the paper",
            ),
            Figure(
                name="galaxies a field",
                value=self.per_field,
                unit="galaxies/field",
                source=f"assumed: {PAPER_GALAXIES:,} on {FOOTPRINT_DEG2:,} deg2; a field adds {_FIELD_DEG2:.4f} deg2",
            ),
            Figure(
                name="fields that have one",
                value=self.fields,
                unit="fields",
                source=f"computed: {100 * self.occupied:.0f} % of all, of galaxies spread at random",
            ),
            Figure(name="catalogue", value=ROW_BYTES * self.galaxies, unit="bytes",
                   source=f"assumed: {ROW_BYTES} bytes a row, ingest/casjobs.sql as CSV"),
            Figure(name="frames", value=_BANDS * self.fields, unit="frames", source=f"computed: {_BANDS} a field"),
            Figure(name="frames to fetch", value=self.frame_bytes, unit="bytes", source=real),
            Figure(name="fetching them", value=self.fetching_s, unit="s",
                   source="computed: at an assumed 1 Gbit/s"),
            Figure(name=f"frames to fetch, {DENSE} a field", value=_BANDS * self.dense_fields * FRAME_BYTES,
                   unit="bytes", source=real),
        ]  # fmt: skip

    def stored(self) -> list[Figure]:
        """The dataset as ingest writes it, and with half the bytes; and what a node needs for it never to wait."""
        half = size(self.dataset_bytes("int16"))
        return [
            self._stored("float32"),
            self._stored("int16"),
            Figure(name="page cache or --stage, on each node", value=self.dataset_bytes("float32"), unit="bytes",
                   source=f"computed: the dataset, for any sample may come to any rank; {half} as int16"),
        ]  # fmt: skip

    def _stored(self, encoding: Name) -> Figure:
        record = _record(encoding)
        shape, more = " x ".join(map(str, IMAGE_SHAPE)), record.record_bytes - record.pixel_bytes
        return Figure(
            name=f"dataset, {encoding}",
            value=self.dataset_bytes(encoding),
            unit="bytes",
            source=f"computed: {shape} x {record.dtype.itemsize} bytes an image and {more:,} of tar headers and JSON",
        )

    def dataset_bytes(self, encoding: Name) -> int:
        """All records, as tar shards."""
        return self.galaxies * _record(encoding).record_bytes


def _record(encoding: Name) -> TarRecords:
    return TarRecords(IMAGE_SHAPE, JSON_BYTES[encoding], Encoding(name=encoding).dtype)


def network_figures(config: PretrainConfig, galaxies: int) -> list[Figure]:
    """What pre-training holds on a GPU and writes, and the embeddings of all; counted from the network itself."""
    with torch.device("meta"):
        moco = MoCo(config, _BANDS)
    learnt = sum(each.numel() * each.element_size() for each in moco.encoder_q.parameters())
    state = sum(each.numel() * each.element_size() for each in moco.state_dict().values())
    queue = moco.queue.numel() * moco.queue.element_size()
    saved, features = state + learnt, moco.encoder_q.num_features  # with the momentum
    return [
        Figure(name="queue, on each GPU", value=queue, unit="bytes",
               source=f"computed: {config.queue:,} keys x {config.embedding} x 4 bytes"),
        Figure(name="weights and optimiser, on each GPU", value=state - queue + 2 * learnt, unit="bytes",
               source="computed: both encoders, gradients and momentum; activations, which take more, are not told"),
        Figure(name="checkpoints of pre-training", value=saved * (config.keep + 1), unit="bytes",
               source=f"computed: {saved / 1e6:,.0f} MB each (encoders, queue, momentum), the newest {config.keep} and "
                      "the best"),
        Figure(name="embeddings", value=galaxies * (4 * features + 8), unit="bytes",
               source=f"computed: {features} x 4 + 8 bytes a galaxy"),
    ]  # fmt: skip

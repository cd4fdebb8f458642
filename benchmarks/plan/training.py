"""Pre-training, fine-tuning for photo-z, evaluation, embedding: the trainer's own settings and counts of FLOP."""

from ingest.tables import SDSS_BANDS
from sharding.splits import BOUNDS
from trainer.config import FinetuneConfig, PretrainConfig, TrainingConfig
from trainer.flops import finetune_step_flops, forward_flops, pretrain_step_flops

from ..wording import share as told_share
from .figures import Figure
from .gpus import Gpus, Place
from .stage import Stage

PAPER_LABELLED = 516_525  # galaxies with a redshift in Hayat et al. 2021

_BANDS = len(SDSS_BANDS)
_SHARES = {split: high - low for split, (low, high) in BOUNDS.items()}


class Training:
    """Of so many galaxies. Other work than pre-training is as many FLOP/s."""

    def __init__(self, gpus: Gpus, galaxies: int) -> None:
        self.pretrain, self.finetune = PretrainConfig(), FinetuneConfig()
        self.galaxies, self.labelled = galaxies, min(galaxies, PAPER_LABELLED)
        self._gpus = gpus
        self._flops = pretrain_step_flops(self.pretrain, _BANDS)
        self._forward = forward_flops(self.pretrain.encoder, _BANDS, self.pretrain.view_px)

    def labelled_figure(self) -> Figure:
        """How many the stages with redshifts take."""
        return Figure(name="galaxies with a redshift", value=self.labelled, unit="galaxies",
                      source=f"assumed: the paper's {PAPER_LABELLED:,}, or all if they are fewer")  # fmt: skip

    def pretraining(self, gpus: int, place: Place | None = None) -> Stage:
        """All epochs, on all but the test split."""
        share = _SHARES["train"] + _SHARES["validation"]
        scaling, told = self._scaling(gpus, self.pretrain)
        fed = self._gpus.fed(scaling * self._gpus.rate, gpus, place)
        return Stage(
            name="pre-training",
            seconds=self.pretrain.epochs * share * self.galaxies / fed.images_per_s,
            images_per_s=fed.images_per_s,
            gpus=gpus,
            waits=fed.waits,
            binds=fed.binds,
            source=f"computed: {self.pretrain.epochs} epochs of the {told_share(share)} outside the test split{told}",
        )

    def finetuning(self, gpus: int) -> Stage:
        """All epochs of photo-z, each with its validation."""
        flops = finetune_step_flops(self.finetune, _BANDS, self.finetune.bins)
        scaling, told = self._scaling(gpus, self.finetune)
        learning = self._gpus.fed(scaling * self._rate(flops), gpus)
        judging = self._gpus.fed(scaling * self._rate(self._forward), gpus)
        epoch = _SHARES["train"] / learning.images_per_s + _SHARES["validation"] / judging.images_per_s
        return Stage(
            name="fine-tuning",
            seconds=self.finetune.epochs * self.labelled * epoch,
            images_per_s=learning.images_per_s,
            gpus=gpus,
            waits=learning.waits,
            binds=learning.binds,
            source=f"computed: {self.finetune.epochs} epochs of {told_share(_SHARES['train'])} of those with a "
            f"redshift, validation on {told_share(_SHARES['validation'])}; {self._counted(flops)}{told}",
        )

    def evaluation(self) -> Stage:
        """One pass over the test split."""
        share = _SHARES["test"]
        return self._pass("evaluation", share * self.labelled, f"{told_share(share)} of those with a redshift")

    def embedding(self) -> Stage:
        """One pass over all galaxies."""
        return self._pass("embedding", self.galaxies, "all galaxies")

    def limit(self, gpus: int) -> str:
        """On how many GPUs the default settings run, and what others need: ``gpus``, or twice the most."""
        batch, groups = self.pretrain.batch, self.pretrain.batch_norm_groups
        numbers = ", ".join(str(number) for number in range(1, groups + 1) if groups % number == 0)
        other = gpus if groups % gpus else 2 * groups
        return (
            f"The defaults, --batch {batch} --batch-norm-groups {groups}, run on {numbers} GPUs; on {other} give "
            f"--batch {batch // groups * other} --batch-norm-groups {other}, which is another training."
        )

    def _pass(self, name: str, galaxies: float, told: str) -> Stage:
        fed = self._gpus.fed(self._rate(self._forward), 1)
        return Stage(
            name=name,
            seconds=galaxies / fed.images_per_s,
            images_per_s=fed.images_per_s,
            gpus=1,
            waits=fed.waits,
            binds=fed.binds,
            source=f"computed: {told}, once; {self._counted(self._forward)}, though in fp32",
        )

    def _rate(self, flops: float) -> float:
        return self._gpus.rate * self._flops / flops

    def _counted(self, flops: float) -> str:
        return f"{flops / 1e9:.1f} GFLOP each, at pre-training's FLOP/s ({self._flops / 1e9:.1f} each)"

    def _scaling(self, gpus: int, config: TrainingConfig) -> tuple[float, str]:
        """Of GPUs that share the batch; no GPU's part is below one group, for more GPUs need a larger batch."""
        share, told = self._gpus.scaling(gpus, config.batch // min(gpus, config.batch_norm_groups))
        return share, f"; {told}" if told else ""

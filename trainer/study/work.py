"""What one run of a study has to do: its steps, its images and its operations, from its settings and its galaxies."""

from dataclasses import dataclass

from ..config import FinetuneConfig, PretrainConfig
from ..errors import TrainerError
from ..flops import finetune_step_flops, forward_flops, pretrain_step_flops
from .recipe import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Of one run."""

    steps: int
    images: int  # galaxies in all its steps together
    learning: float  # FLOP of its steps
    looking: float = 0.0  # FLOP of forward passes beside them

    def seconds(self, speed: Speed, step_ms: float, ranks: int = 1) -> float:
        """On so many devices that share each step."""
        rate = 1e12 * speed.tflops
        return speed.start_s + max(self.learning / (ranks * rate), self.steps * step_ms / 1e3) + self.looking / rate


def ranks_for(config: PretrainConfig, devices: int) -> int:
    """The most ranks, up to one a device, that the batch and its groups of batch statistics can be shared over."""
    parts = config.batch_norm_groups if config.batch_norm == "groups" else config.batch
    units = parts // config.accumulate
    return max(ranks for ranks in range(1, devices + 1) if units % ranks == 0)


def pretrain_work(config: PretrainConfig, bands: int, *, galaxies: int) -> Work:
    """Of a pre-training on so many galaxies; TrainerError where they do not fill a batch."""
    if galaxies < config.batch:
        raise TrainerError(
            f"pretrain: expected a batch of at most the {galaxies} galaxies outside the test split, got "
            f"{config.batch}; lower it"
        )
    steps = config.epochs * (galaxies // config.batch)
    steps = min(steps, config.max_steps or steps)
    images = steps * config.batch
    return Work(steps=steps, images=images, learning=images * pretrain_step_flops(config, bands))


def training_work(config: FinetuneConfig, bands: int, outputs: int, *, labels: int, judged: int) -> Work:
    """Of a training on so many labels, with ``judged`` galaxies to validate on; a probe meets each image once."""
    steps = config.epochs * (labels // config.batch)
    images = steps * config.batch
    looks = -(-config.epochs // config.judge_every_epochs)
    met = labels + judged if config.freeze else looks * judged
    return Work(
        steps=steps,
        images=images,
        learning=images * finetune_step_flops(config, bands, outputs),
        looking=met * forward_flops(config.encoder, bands, config.view_px),
    )

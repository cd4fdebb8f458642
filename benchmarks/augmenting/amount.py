"""How much of the work is measured."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """How many stamps are made views of, and how often; steps take a tenth of a second at least."""

    rounds: int = 5
    batch: int = 256  # the trainer's own
    batch_on_accelerator: int = 1024
    by_scikit_image: int = 64  # it works stamp by stamp, so that its batch says nothing
    views_a_step: int = 2048  # of ours, of 64 px, for each thread: a batch is made again until there are as many
    views_a_step_of_peers: int = 512  # the same
    views_a_step_on_accelerator: int = 65_536
    dali_batches: int = 4  # that a step takes from our pipeline, which goes on meanwhile
    dali_batches_on_accelerator: int = 64
    batches: tuple[int, ...] = (16, 64)  # beside ``batch``
    batches_on_accelerator: tuple[int, ...] = (256, 4096)  # beside ``batch_on_accelerator``
    stamps_px: tuple[int, ...] = (81, 161)  # beside 107
    views_px: tuple[int, ...] = (32, 96)  # beside 64
    peers_on_all_threads: bool = False

    def doubled(self) -> "Amount":
        """Steps of twice as many stamps; as often."""
        return replace(
            self,
            batch=2 * self.batch,
            batch_on_accelerator=2 * self.batch_on_accelerator,
            by_scikit_image=2 * self.by_scikit_image,
            views_a_step=2 * self.views_a_step,
            views_a_step_of_peers=2 * self.views_a_step_of_peers,
            views_a_step_on_accelerator=2 * self.views_a_step_on_accelerator,
        )


QUICK = Amount()
FULL = Amount(
    rounds=9,
    batches=(16, 64, 1024, 4096),
    stamps_px=(81, 128, 161, 255),
    views_px=(32, 48, 96),
    peers_on_all_threads=True,
)

"""A stage of the plan."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What one command takes. It holds its GPUs and cores all the time, also while they wait."""

    name: str
    seconds: float
    images_per_s: float
    gpus: int = 0
    cores: int = 0  # 0 of a stage on GPUs, whose hosts' cores come with them
    waits: float = 0.0  # share of the time for which GPUs wait for data
    binds: str  # "the cores", "the GPUs", "the disk" or "reading from memory"
    source: str

    @property
    def gpu_hours(self) -> float:
        """0 of a stage without GPUs."""
        return self.gpus * self.seconds / 3600

    @property
    def core_hours(self) -> float:
        """0 of a stage on GPUs."""
        return self.cores * self.seconds / 3600

"""What a study's trainings can run on at the same time: each GPU there is or, without one, each core."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU or a core, for one process at a time."""

    number: int  # among those of this study
    gpu: str | None = None  # as CUDA_VISIBLE_DEVICES names it, by its number or its UUID; None for a core


def devices() -> list[Device]:
    """The GPUs that this process sees, else the cores that it may use. CUDA is not initialised for it."""
    count = torch.cuda.device_count()
    if not count:
        return [Device(number) for number in range(len(os.sched_getaffinity(0)))]
    visible = os.environ.get(VISIBLE)
    names = [str(number) for number in range(count)] if visible is None else visible.split(",")
    return [Device(number, name.strip()) for number, name in enumerate(names[:count])]  # CUDA stops at a bad name


def described(used: Sequence[Device]) -> str:
    """How many they are, and of which kind. Initialises CUDA, where there is one."""
    kind = "CPU core" if used[0].gpu is None else torch.cuda.get_device_name(0)
    return f"{len(used)} x {kind}"


def environment(used: Sequence[Device]) -> dict[str, str]:
    """What keeps a process, or the ranks that it starts, to its own devices."""
    if gpus := [device.gpu for device in used if device.gpu is not None]:
        return {VISIBLE: ",".join(gpus)}
    return {"OMP_NUM_THREADS": "1"}

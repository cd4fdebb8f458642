"""What makes the views that a network learns from: the fused op, when they are asked for, or DALI, ahead of that.

Both get the stamps that the loader reads, in its order, and the same plans, so they make the same views within
float32's rounding. Neither has a state of its own: a run may go on with the other one.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial

from jaxtyping import Float
from torch import Tensor

from augment import Plan

from .config import Pipeline
from .data import Indices, Job, Stack, Stamps

Views = Callable[[], Float[Tensor, "row C y x"]]  # gives the rows of a plan; to be called before the next job
Read = Generator[tuple[Job, Stack], None, None]
Made = Generator[tuple[Job, Views], None, None]


def views_ahead(
    pipeline: Pipeline,
    stamps: Stamps,
    jobs: Iterable[Job],
    *,
    wanted: Callable[[Job], Indices],
    plan: Callable[[Job], Plan],
) -> Made[Job]:
    """Each job with its views: the rows that its plan makes of the stamps that it wants.

    Stamps are read while earlier jobs are done; errors are raised at their job. Closing it ends all that runs ahead.
    """
    make = _by_dali if pipeline == "dali" else _by_torch
    with closing(stamps.ahead(jobs, wanted)) as read, closing(make(stamps, read, plan)) as made:
        yield from made


def _by_torch(stamps: Stamps, read: Read[Job], plan: Callable[[Job], Plan]) -> Made[Job]:
    def render(stack: Stack, job: Job) -> Tensor:
        return stamps.render(stack, plan(job))

    for job, stack in read:
        yield job, partial(render, stack, job)


def _by_dali(stamps: Stamps, read: Read[Job], plan: Callable[[Job], Plan]) -> Made[Job]:
    from augment.dali import DaliPipeline

    begun: deque[Job] = deque()

    def next_batch() -> tuple[Tensor, Plan]:
        job, stack = next(read)
        begun.append(job)
        return stack.pixels(), plan(job)

    with closing(iter(DaliPipeline(next_batch, device=stamps.device))) as made:
        for views in made:
            yield begun.popleft(), _ready(views)


def _ready(views: Tensor) -> Views:
    return lambda: views


def check_pipeline(pipeline: Pipeline) -> None:
    """AugmentError where what makes the views is not installed; to be asked before a run leaves anything behind."""
    if pipeline == "dali":
        from augment import dali

        dali.require()

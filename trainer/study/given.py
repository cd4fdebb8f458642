"""A pre-training that a study is given, a RUN or a file of weights, to judge in place of the recipe's own."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..config import PretrainConfig
from ..embedder import weights_digest
from ..errors import TrainerError
from ..trained import load_trained
from .recipe import REFERENCE, Recipe


@dataclass(frozen=True, slots=True)
class Given:
    """What must be known of it."""

    source: Path
    config: PretrainConfig  # of a file that says nothing of itself the encoder and the views; the rest are defaults
    digest: str  # of its weights


def read_given(source: Path) -> Given:
    """Load it; TrainerError where it is none, or where the network has learnt labels: maybe those of test galaxies."""
    network, info = load_trained(source)
    if not isinstance(info.config, PretrainConfig):
        raise TrainerError(
            f"{source}: expected a pre-training, got a network that has learnt labels, which may be those of test "
            f"galaxies; give {info.init or 'the pre-training that it began with'}"
        )
    return Given(source, info.config, weights_digest(network))


def judging(recipe: Recipe, given: Given) -> tuple[Recipe, list[str]]:
    """The recipe with this pre-training alone, and what is to be said of what that changes.

    All methods take its encoder and its views: those that begin from scratch too, or the comparison would be another.
    """
    config = replace(given.config, compile=False)  # it is made: no speed need be known
    views = replace(recipe.finetune, view_px=config.view_px)
    notes = []
    if (config.encoder, config.view_px) != (recipe.pretrain.encoder, recipe.finetune.view_px):
        notes.append(
            f"All networks have the encoder of the pre-training that was given, not the recipe's: a ResNet-"
            f"{config.encoder.depth} of width {config.encoder.width}, stretch {config.encoder.stretch}, views of "
            f"{config.view_px} pixels."
        )
    if others := [name for name in recipe.variants if name != REFERENCE]:
        notes.append(f"Left out, because a pre-training was given: {', '.join(others)}.")
    return replace(recipe, pretrain=config, variants={REFERENCE: config}, finetune=views), notes

"""The command line of a study: what is compared, on which dataset, where the result goes; or what it would cost."""

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sharding import Dataset

from ..errors import TrainerError
from .recipe import Recipe, read_recipe

DEFAULT_RECIPE = "paper"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--data", metavar="DATASET", help="dataset with labels: a folder or a URL")
    parser.add_argument("--out", type=Path, metavar="STUDY", help="folder of the study; goes on where it stands")
    parser.add_argument(
        "--recipe",
        default=DEFAULT_RECIPE,
        metavar="NAME",
        help="what is compared: one that is shipped, or a TOML file (default: %(default)s)",
    )
    parser.add_argument(
        "--init", type=Path, metavar="RUN", help="a pre-training to judge (default: the study makes the recipe's)"
    )
    parser.add_argument(
        "--fractions", type=float, nargs="+", metavar="F", help="shares of the labels, instead of the recipe's"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="repetitions, instead of the recipe's")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what it would take; without --data, of the recipe's number of galaxies",
    )
    parser.add_argument(
        "--tflops", type=float, metavar="X", help="with --dry-run: TFLOP/s of a device (default: the recipe's)"
    )
    parser.add_argument("--devices", type=int, metavar="N", help="with --dry-run: so many (default: the recipe's)")


def run(args: argparse.Namespace) -> int:
    """Run what is not done; print the sentences, the table and where the page is. Or print the cost."""
    recipe = recipe_of(args)
    if args.dry_run:
        from .forecast import told

        print(told(recipe, Dataset.open(args.data) if args.data else None, devices=args.devices, tflops=args.tflops))
        return 0
    for name in ("data", "out"):
        if getattr(args, name) is None:
            raise TrainerError(f"study: expected --{name}, got none; give it, or --dry-run to see the cost")
    for name in ("tflops", "devices"):
        if getattr(args, name) is not None:
            raise TrainerError(f"study: --{name} goes with --dry-run alone; leave it out")
    from .study import conduct

    dataset = Dataset.open(args.data)
    try:
        text, page = conduct(recipe, dataset, args.out, init=args.init, console=Console())
    except OSError as err:
        what = f"{err.strerror or err}: {err.filename}" if err.filename else str(err.strerror or err)
        raise TrainerError(
            f"{args.out}: expected a folder that can be written, got an error ({what}); make room or give another "
            "--out, and start again: what is done stays"
        ) from err
    print(f"{text}\n{page}")
    return 0


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe with what the command line changes of it."""
    recipe = read_recipe(args.recipe)
    given = {"fractions": None if args.fractions is None else tuple(args.fractions), "seeds": args.seeds}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})
